//! The notes that overlayfs leaves in extended attributes.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::beneath::Beneath;
use crate::compare::is_overlay_note;
use crate::error::{Context, Result};
use crate::meta::stat_at;
use crate::plan::Base;
use crate::record::Mounter;
use crate::step::Step;
use crate::strategy::Placement;
use crate::walk::{names, open_beneath, open_directory, split};
use crate::xattr::Inode;

/// Notes that nothing below shows through a directory of the upper layer.
pub(super) fn make_opaque(dir: &OwnedFd, placement: &Placement) -> io::Result<()> {
    let name: &[u8] = match placement.mounter {
        Some(Mounter::Privileged) => b"trusted.overlay.opaque",
        _ => b"user.overlay.opaque",
    };
    Ok(Inode::Open(dir).set(name, b"y")?)
}

/// Takes them off what is now in the directory.
pub(super) fn strip_notes(base: &Base, steps: &[Step]) -> Result<()> {
    for step in steps {
        let place = match step {
            Step::Exchange { a, .. } => a,
            Step::Move { to, .. } if base.path_of(to).is_some() => to,
            _ => continue,
        };
        let full = place.full();
        match open_beneath(&open_directory(&place.base)?, split(&place.path).0) {
            // Withdrawn, and this runs again: the directory has its former name, and no notes.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            parent => {
                let parent = parent.context("open the directory of", &full)?;
                strip(parent, split(&place.path).1, &full)?;
            }
        }
    }
    Ok(())
}

fn strip(parent: OwnedFd, name: &OsStr, full: &Path) -> Result<()> {
    // Not by recursion: how deep a tree is, is up to the agent.
    let mut pending = Vec::new();
    if clean(&parent, name, full)? {
        pending.push(PathBuf::from(name));
    }
    let (around, parent) = (split(full).0, Beneath::new(parent));
    while let Some(path) = pending.pop() {
        let shown = || around.join(&path);
        let dir = parent.anew(&path).with_context("open the directory", shown)?;
        for name in names(&dir, shown)? {
            if clean(&dir, &name, &shown().join(&name))? {
                pending.push(path.join(name));
            }
        }
    }
    Ok(())
}

/// Returns whether it is a directory.
fn clean(parent: &OwnedFd, name: &OsStr, full: &Path) -> Result<bool> {
    let entry = Inode::Named(parent, name);
    let noted = entry.read().context("read the attributes of", full)?;
    for name in noted.keys().filter(|name| is_overlay_note(name)) {
        entry.remove(name).context("clean the attributes of", full)?;
    }
    Ok(stat_at(parent, name).context("examine", full)?.meta.is_dir())
}

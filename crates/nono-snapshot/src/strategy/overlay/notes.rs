//! The notes that overlayfs leaves in extended attributes.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};

use crate::compare::is_overlay_note;
use crate::error::{Context, Result};
use crate::meta::stat_at;
use crate::plan::Base;
use crate::step::Step;
use crate::walk::{names, open_beneath, open_directory, split};
use crate::xattr::Inode;

/// Takes them off what is now in the directory.
pub(super) fn strip_notes(base: &Base, steps: &[Step]) -> Result<()> {
    for step in steps {
        let place = match step {
            Step::Exchange { a, .. } => a,
            Step::Move { to, .. } if base.path_of(to).is_some() => to,
            _ => continue,
        };
        let full = place.full();
        let parent = open_beneath(&open_directory(&place.base)?, split(&place.path).0);
        strip(parent.context("open the directory of", &full)?, split(&place.path).1, &full)?;
    }
    Ok(())
}

fn strip(parent: impl AsFd, name: &OsStr, full: &Path) -> Result<()> {
    let entry = Inode::Named(&parent, name);
    let noted = entry.read().context("read the attributes of", full)?;
    for name in noted.keys().filter(|name| is_overlay_note(name)) {
        entry.remove(name).context("clean the attributes of", full)?;
    }
    if stat_at(&parent, name).context("examine", full)?.meta.is_dir() {
        let dir = openat(
            &parent,
            name,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .context("open the directory", full)?;
        for name in names(&dir, || full.to_owned())? {
            strip(&dir, &name, &full.join(&name))?;
        }
    }
    Ok(())
}

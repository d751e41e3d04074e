use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;

use crate::attributes::set_mode_of_named;
use crate::error::{Context, Error, Result};
use crate::flags::Flags;
use crate::meta::stat_fd;
use crate::strategy::btrfs;
use crate::walk::{names, open_directory, split};

/// Deletes what is at `path`, if anything is, with everything below it. Symbolic links are deleted,
/// never followed, and what is mounted somewhere below is left alone, as an error.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    let (parent, name) = split(path);
    match open_directory(parent) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        parent => remove(&parent?, name, path),
    }
}

fn remove(parent: &OwnedFd, name: &OsStr, path: &Path) -> Result<()> {
    let Some(root) = to_be_emptied(parent, name, path)? else { return Ok(()) };
    let mut removal =
        Removal { root: &root, pending: names(&root, || path.to_owned())?, hoisted: 0 };
    while let Some(entry) = removal.pending.pop() {
        removal.entry(&root, &entry, &path.join(&entry), 0)?;
    }
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        // Another process has done it.
        Err(Errno::NOENT) => Ok(()),
        removed => removed.context("delete", path),
    }
}

/// Deletes anything but a directory, and opens a directory.
fn to_be_emptied(parent: &OwnedFd, name: &OsStr, path: &Path) -> Result<Option<OwnedFd>> {
    match unlink(parent, name) {
        Ok(()) | Err(Errno::NOENT) => return Ok(None),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error).context("delete", path),
    }
    // A subvolume goes at once where that is permitted, and otherwise like any directory.
    if btrfs::destroy_subvolume(parent, name).is_ok() {
        return Ok(None);
    }
    open_for_removal(parent, name).context("open the directory", path).map(Some)
}

/// Takes off the flags that forbid it, where that is permitted. Other names of the file keep them.
fn unlink(parent: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    let refused = match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::PERM) => Errno::PERM,
        unlinked => return unlinked,
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(entry) = openat(parent, name, flags, Mode::empty()) else { return Err(refused) };
    let had = match Flags::loosen(&entry) {
        Ok(had) if had.are_fixed() => had,
        _ => return Err(refused),
    };
    let unlinked = unlinkat(parent, name, AtFlags::empty());
    if unlinked != Err(Errno::ISDIR) && rustix::fs::fstat(&entry)?.st_nlink > 0 {
        had.give(&entry).map_err(|_| refused)?;
    }
    unlinked
}

/// Each level takes a descriptor and room on the stack, and how deep a tree is, is up to the agent.
const DEEPEST: u32 = 32;

struct Removal<'a> {
    root: &'a OwnedFd,
    /// Names in the root.
    pending: Vec<OsString>,
    hoisted: u64,
}

impl Removal<'_> {
    fn entry(&mut self, parent: &OwnedFd, name: &OsStr, path: &Path, depth: u32) -> Result<()> {
        let Some(dir) = to_be_emptied(parent, name, path)? else { return Ok(()) };
        if depth == DEEPEST {
            return self.hoist(parent, name).context("delete", path);
        }
        for entry in names(&dir, || path.to_owned())? {
            self.entry(&dir, &entry, &path.join(&entry), depth + 1)?;
        }
        unlinkat(parent, name, AtFlags::REMOVEDIR).context("delete", path)
    }

    /// Moves a directory to the root, where it is deleted later.
    fn hoist(&mut self, parent: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
        loop {
            let new = OsString::from(format!(".nono-deep-{}", self.hoisted));
            self.hoisted += 1;
            match renameat(parent, name, self.root, &new) {
                // Something of the tree has that name.
                Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                moved => return moved.map(|()| self.pending.push(new)),
            }
        }
    }
}

/// A directory without write permission keeps its entries even from its owner (overlayfs's own work
/// directory is such a one): the permission is given first.
fn open_for_removal(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            set_mode_of_named(parent, name, FileType::Directory, Mode::RWXU)?;
            openat(parent, name, flags, Mode::empty())?
        }
        dir => dir?,
    };
    let stat = stat_fd(&dir)?;
    if stat.mount_root {
        // What is mounted there is not ours, whoever mounted it, and whenever.
        return Err(Errno::BUSY.into());
    }
    Flags::loosen(&dir)?;
    if stat.meta.mode & 0o700 != 0o700 {
        rustix::fs::fchmod(&dir, Mode::RWXU)?;
    }
    Ok(dir)
}

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

use crate::error::{Context, Error, Result};
use crate::strategy::btrfs;
use crate::walk::{names, open_directory, split};

/// Deletes what is at `path`, if anything is, with everything below it. Symbolic links are deleted,
/// never followed.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    let (parent, name) = split(path);
    match open_directory(parent) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        parent => remove(&parent?, name, path),
    }
}

fn remove(parent: &OwnedFd, name: &OsStr, path: &Path) -> Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error).context("delete", path),
    }
    // A subvolume goes at once where that is permitted, and otherwise like any directory.
    if btrfs::destroy_subvolume(parent, name).is_ok() {
        return Ok(());
    }
    let dir = open_for_removal(parent, name).context("open the directory", path)?;
    for entry in names(&dir, || path.to_owned())? {
        remove(&dir, &entry, &path.join(&entry))?;
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR).context("delete", path)
}

/// A directory without write permission keeps its entries even from its owner (overlayfs's own work
/// directory is such a one): the permission is given first.
fn open_for_removal(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            openat(parent, name, flags, Mode::empty())?
        }
        dir => dir?,
    };
    if rustix::fs::fstat(&dir)?.st_mode & 0o700 != 0o700 {
        rustix::fs::fchmod(&dir, Mode::RWXU)?;
    }
    Ok(dir)
}

//! Telling which of two trees is which, across crashes and reboots.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use crate::meta::{Meta, stat_at};
use crate::strategy::btrfs;

/// What is at `name` in `dir`, in a form that stays the same when it is renamed and after a reboot:
/// its inode number; for the root of a btrfs subvolume, which always is inode 256, the subvolume's
/// UUID. `None`: nothing is there.
pub(crate) fn identity(dir: &OwnedFd, name: &OsStr) -> io::Result<Option<(String, Meta)>> {
    let stat = match stat_at(dir, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        stat => stat?,
    };
    if stat.meta.is_dir() && stat.meta.ino == btrfs::SUBVOLUME_ROOT {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(dir, name, flags, Mode::empty()) {
            Ok(subvolume) => {
                if let Some(uuid) = btrfs::subvolume_uuid(&subvolume)? {
                    return Ok(Some((format!("subvolume {uuid}"), stat.meta)));
                }
            }
            Err(Errno::ACCESS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some((format!("inode {}", stat.meta.ino), stat.meta)))
}

//! Owner, extended attributes, mode, times and flags of an entry, set in the one order that works:
//! changing the owner clears set-uid, an ACL changes the mode, everything moves the times, and after some
//! flags nothing can be changed.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid, openat,
};
use rustix::io::Errno;

use crate::flags::Flags;
use crate::meta::{Meta, Time, stat_at, stat_fd};
use crate::xattr::{Inode, Xattrs};

/// Gives `target` the attributes of `source`, whose condition is `meta`.
pub(crate) fn attributes<F: AsFd, G: AsFd>(
    source: &Inode<'_, F>,
    target: &Inode<'_, G>,
    meta: &Meta,
) -> io::Result<()> {
    let flags = match source {
        Inode::Open(fd) => Flags::of(fd)?,
        Inode::Named(..) => Flags::default(),
    };
    set_attributes(target, &source.read()?, flags, meta)
}

/// The same for a regular file just made with the permissions of `meta`, in a directory without a
/// default ACL: what it has by then already is not set again. That is most of it, for most files.
/// `flags`: those it does not have yet.
pub(crate) fn attributes_of_new(
    source: &File,
    target: &File,
    flags: Option<Flags>,
    meta: &Meta,
) -> io::Result<()> {
    let (source, target) = (Inode::Open(source), Inode::Open(target));
    let xattrs = source.read()?;
    if !xattrs.is_empty() {
        set_all_but_flags(&target, &xattrs, meta)?;
    } else {
        set_what_differs(&target, meta)?;
    }
    match (flags, target) {
        (Some(flags), Inode::Open(file)) => flags.give(file),
        _ => Ok(()),
    }
}

fn set_what_differs<F: AsFd>(target: &Inode<'_, F>, meta: &Meta) -> io::Result<()> {
    let (made, is_given) = set_owner(target, meta)?;
    // The umask, or a change of owner, took some of them away.
    if made.permissions() != meta.permissions() || made.uid != meta.uid || made.gid != meta.gid {
        set_mode(target, meta, is_given)?;
    }
    set_times(target, meta.mtime)
}

/// Owner, mode and times of `meta`, and what `meta` doesn't tell.
pub(crate) fn set_attributes<F: AsFd>(
    target: &Inode<'_, F>,
    xattrs: &Xattrs,
    flags: Flags,
    meta: &Meta,
) -> io::Result<()> {
    let Inode::Open(open) = target else { return set_all_but_flags(target, xattrs, meta) };
    Flags::loosen(open)?;
    set_all_but_flags(target, xattrs, meta)?;
    flags.give(open)
}

fn set_all_but_flags<F: AsFd>(
    target: &Inode<'_, F>,
    xattrs: &Xattrs,
    meta: &Meta,
) -> io::Result<()> {
    let (_, is_given) = set_owner(target, meta)?;
    target.write(xattrs)?;
    set_mode(target, meta, is_given)?;
    set_times(target, meta.mtime)
}

/// Returns the condition before, and whether it belongs to whom it should.
fn set_owner<F: AsFd>(target: &Inode<'_, F>, meta: &Meta) -> io::Result<(Meta, bool)> {
    let present = match target {
        Inode::Open(fd) => stat_fd(fd)?.meta,
        Inode::Named(dir, name) => stat_at(dir, name)?.meta,
    };
    if (present.uid, present.gid) == (meta.uid, meta.gid) {
        return Ok((present, true));
    }
    let (uid, gid) = (Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)));
    let changed = match target {
        Inode::Open(fd) => rustix::fs::fchown(fd, uid, gid),
        Inode::Named(dir, name) => {
            rustix::fs::chownat(dir, *name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
        }
    };
    match changed {
        // Owners come back where that is permitted: not for an ordinary user.
        Err(Errno::PERM | Errno::INVAL) => Ok((present, false)),
        changed => Ok(changed.map(|()| (present, true))?),
    }
}

fn set_mode<F: AsFd>(target: &Inode<'_, F>, meta: &Meta, is_owned: bool) -> io::Result<()> {
    // A program that runs as its owner must not run as another one: so does cp(1).
    let special = if is_owned || meta.is_dir() { 0 } else { 0o6000 };
    let mode = Mode::from_raw_mode(meta.permissions() & !special);
    match target {
        Inode::Open(fd) => rustix::fs::fchmod(fd, mode)?,
        // A symbolic link has no mode of its own on Linux.
        Inode::Named(..) if meta.file_type() == FileType::Symlink => {}
        Inode::Named(dir, name) => set_mode_of_named(dir, name, meta.file_type(), mode)?,
    }
    Ok(())
}

/// Sets the mode of what is of that kind. Anything else has come to the name meanwhile: a link, which chmod(2)
/// would follow (fchmodat2(2) is of Linux 6.6), or a program to become set-uid in the place of a directory.
pub(crate) fn set_mode_of_named(
    dir: impl AsFd,
    name: &OsStr,
    kind: FileType,
    mode: Mode,
) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = openat(dir, name, flags, Mode::empty())?;
    if stat_fd(&open)?.meta.file_type() != kind {
        return Err(Errno::NOENT.into());
    }
    // procfs leads to what is open.
    Ok(rustix::fs::chmod(format!("/proc/self/fd/{}", open.as_raw_fd()), mode)?)
}

/// Sets the modification time, and no other.
pub(crate) fn set_times<F: AsFd>(target: &Inode<'_, F>, time: Time) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() },
    };
    match target {
        Inode::Open(fd) => rustix::fs::futimens(fd, &times)?,
        Inode::Named(dir, name) => {
            rustix::fs::utimensat(dir, *name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_mode_is_never_that_of_what_a_link_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        std::fs::set_permissions(dir.path().join("file"), PermissionsExt::from_mode(0o600))
            .unwrap();
        symlink("file", dir.path().join("link")).unwrap();
        let open = File::open(dir.path()).unwrap();
        let set = |name: &str, kind: FileType| {
            set_mode_of_named(&open, name.as_ref(), kind, Mode::from_raw_mode(0o4751))
        };
        let is = || dir.path().join("file").metadata().unwrap().permissions().mode() & 0o7777;
        for (name, kind) in [
            ("link", FileType::RegularFile),
            ("link", FileType::Directory),
            ("file", FileType::Directory),
        ] {
            assert_eq!(set(name, kind).unwrap_err().raw_os_error(), Some(libc::ENOENT));
            assert_eq!(is(), 0o600);
        }
        set("file", FileType::RegularFile).unwrap();
        assert_eq!(is(), 0o4751);
    }
}

//! Moving a directory in an overlay that was mounted without privilege.
//!
//! There overlayfs can't note where a directory of its lower layer has gone, and answers EXDEV
//! (`redirect_dir`, Documentation/filesystems/overlayfs.rst); it does move files. So a new directory
//! is filled with the entries of the old one, which is deleted, and takes the new name last. It is
//! another inode: who works in the old one is left in a deleted directory.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::place::{Entry, errno};
use super::caller::check;
use super::open::open_at;

/// Moves a directory that the kernel has refused to move. EXDEV: it is not such an overlay, or not a
/// directory that the mover could have made.
pub(super) fn carry(source: &Entry, target: &Entry) -> io::Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let (from, into) = (&source.directory, &target.directory);
    if !is_overlay(from)? || from.metadata()?.dev() != into.metadata()?.dev() {
        return Err(errno(libc::EXDEV));
    }
    let old = open(from, &source.name)?;
    if let Ok(there) = open(into, &target.name)
        && !names(&there)?.is_empty()
    {
        return Err(errno(libc::ENOTEMPTY));
    }
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let aside = CString::new(format!(".nono.moving.{}.{number}", std::process::id()))?;
    let new = make(into, &aside)?;
    let times = old.metadata()?;
    let moved = fill(&old, &new, DEEPEST)
        .and_then(|()| rename(into, &aside, into, &target.name, 0))
        .and_then(|()| remove(from, &source.name));
    moved.inspect_err(|_| {
        // Nothing more can be done about a second failure.
        let _ = give_back(&new, &old).and_then(|()| remove(into, &aside));
        let _ = date(&old, &times);
    })
}

/// Directories of the lower layer below one another that are moved: each takes descriptors, and room
/// on the thread's stack, and commands say how deep they are.
const DEEPEST: u32 = 64;

/// Moves every entry of one directory to another, which then gets its attributes.
fn fill(old: &File, new: &File, deepest: u32) -> io::Result<()> {
    let deeper = deepest.checked_sub(1).ok_or(errno(libc::EXDEV))?;
    let meta = old.metadata()?;
    let made = new.metadata()?;
    if (meta.uid(), meta.gid()) != (made.uid(), made.gid()) {
        return Err(errno(libc::EXDEV));
    }
    for name in names(old)? {
        match rename(old, &name, new, &name, libc::RENAME_NOREPLACE) {
            Err(error) if error.raw_os_error() == Some(libc::EXDEV) => {
                fill(&open(old, &name)?, &make(new, &name)?, deeper)?;
                remove(old, &name)?;
            }
            moved => moved?,
        }
    }
    copy_attributes(old, new)?;
    new.set_permissions(PermissionsExt::from_mode(meta.mode() & 0o7777))?;
    date(new, &meta)
}

/// The way back, from wherever [`fill`] has got to.
fn give_back(new: &File, old: &File) -> io::Result<()> {
    for name in names(new)? {
        match rename(new, &name, old, &name, libc::RENAME_NOREPLACE) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                give_back(&open(new, &name)?, &open(old, &name)?)?;
                remove(new, &name)?;
            }
            moved => moved?,
        }
    }
    Ok(())
}

fn is_overlay(directory: &File) -> io::Result<bool> {
    // SAFETY: all-zero is a valid statfs.
    let mut told: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the structure.
    check(unsafe { libc::fstatfs(directory.as_raw_fd(), &raw mut told) })?;
    Ok(told.f_type == libc::OVERLAYFS_SUPER_MAGIC as _)
}

fn open(directory: &File, name: &CStr) -> io::Result<File> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    open_at(directory, name, flags, 0)
}

fn make(directory: &File, name: &CStr) -> io::Result<File> {
    // SAFETY: a C string.
    check(unsafe { libc::mkdirat(directory.as_raw_fd(), name.as_ptr(), 0o700) })?;
    open(directory, name)
}

fn remove(directory: &File, name: &CStr) -> io::Result<()> {
    // SAFETY: a C string.
    check(unsafe { libc::unlinkat(directory.as_raw_fd(), name.as_ptr(), libc::AT_REMOVEDIR) })
}

fn rename(from: &File, old: &CStr, into: &File, new: &CStr, flags: u32) -> io::Result<()> {
    let (from, into) = (from.as_raw_fd(), into.as_raw_fd());
    // SAFETY: C strings.
    check(unsafe { libc::renameat2(from, old.as_ptr(), into, new.as_ptr(), flags) })
}

/// The names in an open directory.
fn names(directory: &File) -> io::Result<Vec<CString>> {
    let own = format!("/proc/thread-self/fd/{}", directory.as_raw_fd());
    let entries = std::fs::read_dir(own)?;
    entries.map(|entry| Ok(CString::new(entry?.file_name().into_encoded_bytes())?)).collect()
}

fn date(directory: &File, meta: &std::fs::Metadata) -> io::Result<()> {
    let time = |seconds, nanoseconds| libc::timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = [time(meta.atime(), meta.atime_nsec()), time(meta.mtime(), meta.mtime_nsec())];
    // SAFETY: an array of two.
    check(unsafe { libc::futimens(directory.as_raw_fd(), times.as_ptr()) })
}

/// Extended attributes that belong to the owner: `user.*` and ACLs.
fn copy_attributes(old: &File, new: &File) -> io::Result<()> {
    let mut list = vec![0u8; 65536]; // XATTR_LIST_MAX
    // SAFETY: the kernel writes no more than the buffer holds.
    let length = unsafe { libc::flistxattr(old.as_raw_fd(), list.as_mut_ptr().cast(), list.len()) };
    check(length as i64)?;
    list.truncate(length as usize);
    for name in list.split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name).map_err(io::Error::other)?;
        if !name.to_bytes().starts_with(b"user.")
            && !name.to_bytes().starts_with(b"system.posix_acl")
        {
            continue;
        }
        let mut value = vec![0u8; 65536]; // XATTR_SIZE_MAX
        let (from, into) = (old.as_raw_fd(), new.as_raw_fd());
        // SAFETY: C strings, and buffers as long as is said.
        let copied = unsafe {
            let length =
                libc::fgetxattr(from, name.as_ptr(), value.as_mut_ptr().cast(), value.len());
            check(length as i64)?;
            libc::fsetxattr(into, name.as_ptr(), value.as_ptr().cast(), length as usize, 0)
        };
        check(copied)?;
    }
    Ok(())
}

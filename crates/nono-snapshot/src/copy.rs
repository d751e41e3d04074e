//! Copies a tree with everything that makes it up: contents and holes, types, modes, owners, times,
//! hard links, extended attributes, ACLs and flags.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, SeekFrom, linkat, makedev, mkdirat, mknodat, openat,
    readlinkat, symlinkat,
};
use rustix::io::Errno;

use crate::attributes::{attributes, attributes_of_new};
use crate::error::{Context, Error, Result};
use crate::exclude::Exclude;
use crate::fault;
use crate::flags::{Asking, Flags};
use crate::manifest::Manifest;
use crate::meta::{Meta, stat_fd};
use crate::select::Selection;
use crate::strategy::file_system_of;
use crate::walk::{Dir, Visitor, open_beneath, open_directory, split, walk, walk_open};
use crate::xattr::Inode;

/// How file contents get into the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Share the blocks (FICLONE); a file for which the file system refuses is read and written.
    Shared,
    /// Read and write. For small files this beats `copy_file_range`, which costs a journal
    /// transaction of its own per file on ext4.
    Bytes,
}

/// Copies what is in `source` into the existing empty directory `target`, with the attributes of
/// `source` itself, and returns the list of `source` as it was copied.
pub(crate) fn copy_tree(
    source: &Path,
    target: &Path,
    contents: Contents,
    exclude: &Exclude,
) -> Result<Manifest> {
    let copier = Copier::new(source, target, contents)?;
    walk(source, exclude, &Selection::All, &copier)
}

/// The same for all of an open directory, into another open one. A name on the way to either could by now
/// be a link that leads elsewhere; the paths are for messages.
pub(crate) fn copy_open(
    (directory, source): (OwnedFd, &Path),
    (root, target): (OwnedFd, &Path),
    contents: Contents,
) -> Result<()> {
    let copier = Copier::into_open(source, (root, target), contents);
    walk_open(directory, source, &Exclude::none(), &Selection::All, &copier).map(drop)
}

/// A directory of the copy.
pub(crate) struct Target {
    pub(crate) fd: OwnedFd,
    /// What a file has that was just made in it.
    newborn: OnceLock<Flags>,
}

impl Target {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd, newborn: OnceLock::new() }
    }
}

/// Copies single entries from one tree into a flat directory; keeps hard links among them.
pub(crate) struct Copier {
    source: PathBuf,
    target: PathBuf,
    root: OwnedFd,
    contents: Contents,
    flags: Asking,
    /// First name in the copy of each inode that has several; the inner lock is held while it is copied.
    links: Mutex<HashMap<u64, Arc<Mutex<Option<PathBuf>>>>>,
}

impl Copier {
    /// Both are on one file system, as what is kept has to be renamed into the place of the original.
    pub(crate) fn new(source: &Path, target: &Path, contents: Contents) -> Result<Self> {
        Ok(Self::into_open(source, (open_directory(target)?, target), contents))
    }

    fn into_open(source: &Path, (root, target): (OwnedFd, &Path), contents: Contents) -> Self {
        Self {
            source: source.to_owned(),
            target: target.to_owned(),
            flags: Asking::on(file_system_of(&root)),
            root,
            contents,
            links: Mutex::default(),
        }
    }

    /// Makes `path` in the copy a further name of the inode, or copies it when this is its first.
    fn linked(
        &self,
        from: &OwnedFd,
        name: &OsStr,
        to: &Target,
        path: &Path,
        meta: &mut Meta,
    ) -> Result<()> {
        let slot = {
            let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(links.entry(meta.ino).or_default())
        };
        let mut first = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = &*first {
            // By its directory: the whole path may be longer than a system call takes.
            let linked = open_beneath(&self.root, split(first).0).and_then(|dir| {
                Ok(linkat(dir, split(first).1, &to.fd, split(path).1, AtFlags::empty())?)
            });
            return linked.with_context("link", || self.target.join(path));
        }
        self.file(from, name, to, split(path).1, meta)?;
        *first = Some(path.to_owned());
        Ok(())
    }

    /// Names an already existing file of the copy as the inode's first name.
    pub(crate) fn known_link(&self, ino: u64, path: PathBuf) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.insert(ino, Arc::new(Mutex::new(Some(path))));
    }

    /// The first name in the copy of the inode, if it has one.
    pub(crate) fn first_link(&self, ino: u64) -> Option<PathBuf> {
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let first = links.get(&ino)?.lock().unwrap_or_else(PoisonError::into_inner);
        first.clone()
    }

    /// Copies `name` in `from`, anything but a directory, to `path` below the copy's root, which is
    /// in the open directory `to`.
    pub(crate) fn entry_to(
        &self,
        from: &OwnedFd,
        name: &OsStr,
        to: &Target,
        path: &Path,
        meta: &mut Meta,
    ) -> Result<()> {
        fault::point("copy an entry").with_context("copy", || self.source.join(path))?;
        if meta.nlink > 1 {
            self.linked(from, name, to, path, meta)
        } else {
            self.file(from, name, to, split(path).1, meta)
        }
    }

    fn file(
        &self,
        from: &OwnedFd,
        name: &OsStr,
        to: &Target,
        new: &OsStr,
        meta: &mut Meta,
    ) -> Result<()> {
        let shown = || path_of(from).join(name);
        match meta.file_type() {
            FileType::RegularFile => return self.regular_file(from, name, to, new, meta),
            FileType::Symlink => {
                let text =
                    readlinkat(from, name, Vec::new()).with_context("read the link", shown)?;
                symlinkat(text, &to.fd, new).with_context("copy the link", shown)?;
            }
            kind => {
                let device = makedev((meta.rdev >> 32) as u32, meta.rdev as u32);
                mknodat(&to.fd, new, kind, Mode::from_raw_mode(0o600), device)
                    .with_context("copy the special file", shown)?;
            }
        }
        attributes(&Inode::Named(from, name), &Inode::Named(&to.fd, new), meta)
            .with_context("copy the attributes of", shown)
    }

    fn regular_file(
        &self,
        from: &OwnedFd,
        name: &OsStr,
        to: &Target,
        new: &OsStr,
        meta: &mut Meta,
    ) -> Result<()> {
        let shown = || path_of(from).join(name);
        // NONBLOCK: the name may have become a FIFO since it was examined.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let source =
            File::from(openat(from, name, flags, Mode::empty()).with_context("read", shown)?);
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Nobody but the caller can reach it yet: its own mode right away saves a change later.
        let mode = Mode::from_raw_mode(meta.permissions() & 0o777);
        let target =
            File::from(openat(&to.fd, new, flags, mode).with_context("create the copy of", shown)?);
        // The list must describe the bytes that were copied; otherwise a change during the copy
        // would be restored as half of it. Three attempts outlast any single save.
        for attempt in 0..3 {
            let before = *meta;
            let flags = self.flags.of(&source).with_context("read the flags of", shown)?;
            // Those of an earlier attempt are not what it was born with.
            let has_all = match attempt {
                0 => self.flags.give_at_birth(flags, &target, &to.newborn),
                _ => flags.give_at_birth(&target),
            };
            let has_all = has_all.with_context("copy the flags of", shown)?;
            self.bytes(&source, &target, &before).with_context("copy", shown)?;
            *meta = stat_fd(&source).with_context("examine", shown)?.meta;
            if !meta.is_file() {
                break; // Its name is something else's by now.
            }
            if meta.same_condition(&before) {
                return attributes_of_new(&source, &target, (!has_all).then_some(flags), meta)
                    .with_context("copy the attributes of", shown);
            }
            target.set_len(0).with_context("copy", shown)?;
        }
        Err(Error::Changing(shown()))
    }

    /// Makes the copy's directory for `path`, or opens its root.
    fn directory(
        &self,
        parent: Option<&Dir<Target>>,
        name: &OsStr,
        path: &Path,
    ) -> Result<OwnedFd> {
        let shown = || self.target.join(path);
        let Some(parent) = parent else {
            return open_beneath(&self.root, path).with_context("open the directory", shown);
        };
        let parent = &parent.data.fd;
        mkdirat(parent, name, Mode::RWXU).with_context("create the directory", shown)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(parent, name, flags, Mode::empty()).with_context("open the directory", shown)
    }

    fn bytes(&self, source: &File, target: &File, meta: &Meta) -> io::Result<()> {
        if meta.size == 0 {
            return Ok(());
        }
        if self.contents == Contents::Shared {
            match rustix::fs::ioctl_ficlone(target, source) {
                // Not for this file: an inode without checksums on btrfs, a swap file, an old kernel.
                Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::XDEV | Errno::TXTBSY) => {}
                cloned => return Ok(cloned?),
            }
        }
        if meta.blocks < meta.size.div_ceil(512) {
            copy_segments(source, target, meta.size)
        } else {
            copy_range(source, target, 0, meta.size)
        }
    }
}

/// The path of an open directory, for messages.
fn path_of(dir: &OwnedFd) -> PathBuf {
    std::fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd())).unwrap_or_default()
}

/// Copies what lies between the holes.
fn copy_segments(source: &File, target: &File, size: u64) -> io::Result<()> {
    let mut position = 0;
    while position < size {
        let start = match rustix::fs::seek(source, SeekFrom::Data(position)) {
            Ok(start) => start,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = match rustix::fs::seek(source, SeekFrom::Hole(start)) {
            Ok(end) => end.min(size),
            // Truncated meanwhile; the caller compares the conditions.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        copy_range(source, target, start, end)?;
        position = end;
    }
    target.set_len(size)
}

fn copy_range(source: &File, target: &File, start: u64, end: u64) -> io::Result<()> {
    thread_local! {
        static BUFFER: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; 256 * 1024]);
    }
    BUFFER.with_borrow_mut(|buffer| {
        let mut position = start;
        while position < end {
            let wanted = (end - position).min(buffer.len() as u64) as usize;
            let read = source.read_at(&mut buffer[..wanted], position)?;
            if read == 0 {
                break; // Truncated meanwhile; the caller compares the conditions.
            }
            target.write_all_at(&buffer[..read], position)?;
            position += read as u64;
        }
        Ok(())
    })
}

impl Visitor for Copier {
    type Dir = Target;

    fn enter(
        &self,
        source: &OwnedFd,
        parent: Option<&Dir<Target>>,
        name: &OsStr,
        path: &Path,
    ) -> Result<Target> {
        let made = self.directory(parent, name, path)?;
        Flags::of(source)
            .and_then(|flags| flags.give_at_birth(&made))
            .with_context("copy the flags of", || self.source.join(path))?;
        Ok(Target::new(made))
    }

    fn entry(&self, dir: &Dir<Target>, name: &OsStr, meta: &mut Meta) -> Result<()> {
        self.entry_to(&dir.fd, name, &dir.data, &dir.path.join(name), meta)
    }

    fn leave(&self, dir: &Dir<Target>) -> Result<()> {
        attributes(&Inode::Open(&dir.fd), &Inode::Open(&dir.data.fd), &dir.meta)
            .with_context("copy the attributes of", || self.source.join(&dir.path))
    }
}

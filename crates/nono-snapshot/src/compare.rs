//! Whether two entries differ, and in what.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{FileType, Mode, OFlags, SeekFrom, openat, readlinkat};
use rustix::io::Errno;

use crate::beneath::Beneath;
use crate::flags::Flags;
use crate::meta::Meta;
use crate::walk::{open_directory, split};
use crate::xattr::{Inode, Xattrs};

/// In what an entry differs from what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It wasn't there.
    Added,
    /// Other contents, or another type of file.
    Modified,
    /// It is no longer there.
    Deleted,
    /// It was there under another name.
    Renamed,
    /// Other permission bits.
    Mode,
    /// Another owner or group.
    Owner,
    /// Other extended attributes, another ACL, or other flags (chattr(1)).
    Xattr,
    /// The same in all but its modification time.
    Times,
}

/// One side of a comparison: a tree on disk.
pub(crate) struct Side {
    pub(crate) path: PathBuf,
    root: Beneath,
}

impl Side {
    pub(crate) fn open(path: &Path) -> crate::Result<Self> {
        Ok(Self::of(path, open_directory(path)?))
    }

    /// The path is for messages, and for those who look at a change later.
    pub(crate) fn of(path: &Path, root: OwnedFd) -> Self {
        Self { path: path.to_owned(), root: Beneath::new(root) }
    }

    /// The directory at `path`.
    pub(crate) fn directory(&self, path: &Path) -> io::Result<OwnedFd> {
        self.root.anew(path)
    }

    /// The directory that holds the entry.
    pub(crate) fn parent_of(&self, path: &Path) -> io::Result<Rc<OwnedFd>> {
        self.root.open(split(path).0)
    }
}

/// Compares the entry at `old.1` in tree `old.0` with the one at `new.1` in `new.0`. The conditions
/// given are those the entries are known to be in, which for a copy are those of its original.
/// Modification times of directories follow from what is in them and are not compared.
pub(crate) fn compare(
    (old, old_path, before): (&Side, &Path, &Meta),
    (new, new_path, after): (&Side, &Path, &Meta),
) -> io::Result<Option<ChangeKind>> {
    if before.file_type() != after.file_type() || before.rdev != after.rdev {
        return Ok(Some(ChangeKind::Modified));
    }
    let is_dir = before.is_dir();
    if !is_dir && before.size != after.size {
        return Ok(Some(ChangeKind::Modified));
    }
    let (old_dir, new_dir) = (old.parent_of(old_path)?, new.parent_of(new_path)?);
    let (old_name, new_name) = (split(old_path).1, split(new_path).1);
    let mut same_flags = true;
    let old_xattrs;
    let new_xattrs;
    match before.file_type() {
        FileType::RegularFile | FileType::Directory => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let name =
                |name: &std::ffi::OsStr| if name.is_empty() { ".".into() } else { name.to_owned() };
            let old_file = File::from(openat(&old_dir, name(old_name), flags, Mode::empty())?);
            let new_file = match openat(&new_dir, name(new_name), flags, Mode::empty()) {
                // The permission to read it was taken away since, and what it holds may be anything.
                Err(Errno::ACCESS) if !is_dir => return Ok(Some(ChangeKind::Modified)),
                opened => File::from(opened?),
            };
            if !is_dir && !same_bytes(&old_file, &new_file)? {
                return Ok(Some(ChangeKind::Modified));
            }
            same_flags = Flags::of(&old_file)? == Flags::of(&new_file)?;
            old_xattrs = Inode::Open(&old_file).read()?;
            new_xattrs = Inode::Open(&new_file).read()?;
        }
        kind => {
            if kind == FileType::Symlink
                && readlinkat(&old_dir, old_name, Vec::new())?
                    != readlinkat(&new_dir, new_name, Vec::new())?
            {
                return Ok(Some(ChangeKind::Modified));
            }
            old_xattrs = Inode::Named(&*old_dir, old_name).read()?;
            new_xattrs = Inode::Named(&*new_dir, new_name).read()?;
        }
    }
    Ok(if before.permissions() != after.permissions() && before.file_type() != FileType::Symlink {
        Some(ChangeKind::Mode)
    } else if (before.uid, before.gid) != (after.uid, after.gid) {
        Some(ChangeKind::Owner)
    } else if !same_flags || ours(old_xattrs) != ours(new_xattrs) {
        Some(ChangeKind::Xattr)
    } else if !is_dir && before.mtime != after.mtime {
        Some(ChangeKind::Times)
    } else {
        None
    })
}

/// Leaves out what an ordinary user can't set and so can't restore, and overlayfs's own notes.
fn ours(mut xattrs: Xattrs) -> Xattrs {
    let root = rustix::process::geteuid().is_root();
    xattrs.retain(|name, _| {
        let privileged = name.starts_with(b"security.") || name.starts_with(b"trusted.");
        !is_overlay_note(name) && (root || !privileged)
    });
    xattrs
}

/// Whether overlayfs keeps its own state in this attribute.
pub(crate) fn is_overlay_note(name: &[u8]) -> bool {
    name.starts_with(b"user.overlay.") || name.starts_with(b"trusted.overlay.")
}

fn same_bytes(a: &File, b: &File) -> io::Result<bool> {
    let (one, other) = (a.metadata()?, b.metadata()?);
    let size = one.len();
    if size != other.len() {
        return Ok(false);
    }
    // What is a hole in both is not read: of a disk image that is most of it.
    let has_holes = [one, other].iter().any(|meta| meta.blocks() * 512 < size);
    let (mut left, mut right) = (vec![0; 128 * 1024], vec![0; 128 * 1024]);
    let mut position = 0;
    while position < size {
        if has_holes {
            position = data_after(a, position, size)?.min(data_after(b, position, size)?);
        }
        let read = a.read_at(&mut left, position)?;
        if read == 0 {
            return Ok(b.read_at(&mut right[..1], position)? == 0);
        }
        match b.read_exact_at(&mut right[..read], position) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            outcome => outcome?,
        }
        if left[..read] != right[..read] {
            return Ok(false);
        }
        position += read as u64;
    }
    Ok(true)
}

/// Where the next data is; `size`, when there is only a hole.
fn data_after(file: &File, position: u64, size: u64) -> io::Result<u64> {
    match rustix::fs::seek(file, SeekFrom::Data(position)) {
        Err(Errno::NXIO) => Ok(size),
        // It knows no holes.
        Err(Errno::INVAL) => Ok(position),
        found => Ok(found?),
    }
}

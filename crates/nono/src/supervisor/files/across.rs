//! Moving and linking between places that are granted separately.
//!
//! In the tier `namespaces` each of them is a mount of its own, and the kernel moves nothing from one
//! mount to another (EXDEV), though they are one file system outside. There the operation is made once
//! more, on the same directories in the owner's own view. It is still the thread in the sandbox's
//! Landlock domain that makes it.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::super::place::{Entry, Place, errno};
use crate::descriptor;

/// Something in the sandbox's view that is known by a path, and what of it must not be read-only.
pub(super) trait Seen: Sized {
    /// The same as the owner sees it. EXDEV: that is something else, or may not be written to inside.
    fn outside(&self) -> io::Result<Self>;
}

impl Seen for Entry {
    fn outside(&self) -> io::Result<Self> {
        let above = self.path.parent().ok_or(errno(libc::EXDEV))?;
        let directory = same(&self.directory, above, libc::O_DIRECTORY)?;
        Ok(Entry { directory, ..self.reference()? })
    }
}

impl Seen for Place {
    fn outside(&self) -> io::Result<Self> {
        let file = same(&self.file, &self.path, libc::O_NOFOLLOW)?;
        Ok(Place { file, path: self.path.clone(), own_process: self.own_process.clone() })
    }
}

/// Makes an operation on two things, in the sandbox's view or else in the owner's.
pub(super) fn between<A: Seen, B: Seen>(
    from: &A,
    to: &B,
    operation: impl Fn(&A, &B) -> io::Result<()>,
) -> io::Result<()> {
    let is_across = |error: &io::Error| error.raw_os_error() == Some(libc::EXDEV);
    match operation(from, to) {
        Err(error) if is_across(&error) => match (from.outside(), to.outside()) {
            (Ok(from), Ok(to)) => operation(&from, &to),
            _ => Err(error),
        },
        made => made,
    }
}

/// What has this path outside, if it is what `inside` is. Its mount inside lets it be written to: a
/// mount's flags are not those of the file system.
fn same(inside: &File, path: &Path, flags: i32) -> io::Result<File> {
    // SAFETY: all-zero is a valid statvfs.
    let mut mount: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the structure.
    let told = unsafe { libc::fstatvfs(inside.as_raw_fd(), &raw mut mount) };
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = libc::O_PATH | flags;
    let outside = descriptor::openat2(libc::AT_FDCWD, &path, flags, libc::RESOLVE_NO_SYMLINKS)?;
    let outside = File::from(outside);
    let (a, b) = (inside.metadata()?, outside.metadata()?);
    let is_same = (a.dev(), a.ino()) == (b.dev(), b.ino());
    match told == 0 && mount.f_flag & libc::ST_RDONLY == 0 && is_same {
        true => Ok(outside),
        false => Err(errno(libc::EXDEV)),
    }
}

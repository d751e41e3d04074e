//! Descriptors that calls have made.

use std::ffi::{CStr, CString, c_int, c_long};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// The result of a call that makes a descriptor, or fails with a negative number and an errno.
///
/// # Safety
/// `fd` is a new descriptor that nobody else owns, or negative.
pub(crate) unsafe fn owned(fd: impl Into<c_long>) -> io::Result<OwnedFd> {
    match fd.into() {
        // SAFETY: the caller's promise; a descriptor is an int.
        fd @ 0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd as c_int) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Opens what `path` names as a place only (`O_PATH`).
///
/// Not by `OpenOptions::custom_flags`, which leaves out what belongs to `O_ACCMODE`: for musl that
/// includes `O_PATH`, so the file itself would be opened.
pub(crate) fn open_place(path: impl AsRef<Path>, flags: c_int) -> io::Result<File> {
    let path = CString::new(path.as_ref().as_os_str().as_bytes())?;
    loop {
        // SAFETY: a C string, and a new descriptor is made.
        let place =
            unsafe { owned(libc::open(path.as_ptr(), flags | libc::O_PATH | libc::O_CLOEXEC)) };
        match place {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            place => return place.map(File::from),
        }
    }
}

/// The same of a path that was found to be free of symbolic links: should one have taken the place of
/// anything on it meanwhile, it is not followed (ELOOP).
pub(crate) fn open_resolved_place(path: &Path) -> io::Result<File> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    match openat2(libc::AT_FDCWD, &name, libc::O_PATH, libc::RESOLVE_NO_SYMLINKS) {
        // Refused to this process, as it is in a sandbox: the kernel then says where it has arrived.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
            let place = open_place(path, libc::O_NOFOLLOW)?;
            let arrived = std::fs::read_link(format!("/proc/self/fd/{}", place.as_raw_fd()))?;
            let is_same = arrived == path;
            is_same.then_some(place).ok_or_else(|| io::Error::from_raw_os_error(libc::ELOOP))
        }
        opened => opened.map(File::from),
    }
}

/// Opens `path` as `openat2(2)` does, again where that gives up for the moment: a scoped lookup that
/// meets `..` fails with EAGAIN whenever anything on the machine is being renamed or mounted, also
/// for as long as another processor is at it and not running (a virtual one).
pub(crate) fn openat2(base: RawFd, path: &CStr, flags: i32, resolve: u64) -> io::Result<OwnedFd> {
    const TRIES: u32 = 500;
    const AT_ONCE: u32 = 16;
    const PAUSE: Duration = Duration::from_micros(50);
    // SAFETY: all-zero is a valid open_how.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = resolve;
    for attempt in 0..TRIES {
        if attempt >= AT_ONCE {
            std::thread::sleep(PAUSE);
        }
        let (path, how, size) = (path.as_ptr(), &raw const how, size_of_val(&how));
        // SAFETY: a C string and a structure of the size that is told; a new descriptor is made.
        let opened = unsafe { owned(libc::syscall(libc::SYS_openat2, base, path, how, size)) };
        match opened {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            other => return other,
        }
    }
    Err(io::Error::from_raw_os_error(libc::EAGAIN))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_place_is_named_and_not_opened() {
        let path = std::env::temp_dir().join(format!("nono-place-{}", std::process::id()));
        let _socket = UnixListener::bind(&path).unwrap(); // open(2) of one fails with ENXIO
        let place = open_place(&path, 0);
        std::fs::remove_file(&path).unwrap();
        assert!(place.unwrap().metadata().unwrap().file_type().is_socket());
    }
}

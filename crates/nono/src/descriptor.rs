//! Descriptors that calls have made.

use std::ffi::{c_int, c_long};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

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

//! memfd_create() by programs that do not say whether the file may be executed.
//!
//! It could be, and it is on no path, so Landlock would not be asked. Instead of refusing the call,
//! which programs take badly, the supervisor makes the same file sealed against execution.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::notif::{Listener, Notification};
use super::process;

/// The longest name (`memfd_create(2)`), and its end.
const MAX_NAME: usize = 249 + 1;

/// Makes the file for the caller. The flags are in a register and the name is copied once: neither
/// can change meanwhile.
pub(super) fn create(listener: &Listener, call: &Notification) {
    let flags = call.arguments[1] as u32;
    let close_on_exec = flags & libc::MFD_CLOEXEC != 0;
    match name(call).and_then(|name| create_sealed(&name, flags)) {
        Ok(file) => listener.hand_over(call, file, close_on_exec),
        Err(error) => listener.finish(call, Err(error.raw_os_error().unwrap_or(libc::EINVAL))),
    }
}

fn name(call: &Notification) -> io::Result<CString> {
    let bytes = process::read_string(call.thread, call.arguments[0], MAX_NAME)?;
    CString::new(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

fn create_sealed(name: &CString, flags: u32) -> io::Result<OwnedFd> {
    let file = sealed(name, flags | libc::MFD_CLOEXEC).map_err(|error| {
        match error.raw_os_error() {
            // Where none can be sealed, none is made: programs take a file, as on a kernel without them.
            Some(libc::EINVAL) if sealed(c"", libc::MFD_CLOEXEC).is_err() => {
                io::Error::from_raw_os_error(libc::ENOSYS)
            }
            _ => error,
        }
    })?;
    if flags & libc::MFD_ALLOW_SEALING == 0 {
        // The seal against execution made it sealable, which the caller did not ask for.
        // SAFETY: no memory is involved.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_SEAL) };
    }
    Ok(file)
}

/// A file that holds `bytes` and never anything else.
pub(super) fn of(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(sealed(c"", libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)?);
    file.write_all(bytes)?;
    file.rewind()?;
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
    // SAFETY: no memory is involved.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(file),
    }
}

/// A memory file that can never be executed: Linux 6.3; EINVAL before.
fn sealed(name: &CStr, flags: u32) -> io::Result<OwnedFd> {
    const MFD_NOEXEC_SEAL: u32 = 8;
    // SAFETY: a C string.
    match unsafe { libc::memfd_create(name.as_ptr(), flags | MFD_NOEXEC_SEAL) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: a new descriptor that nobody else owns.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

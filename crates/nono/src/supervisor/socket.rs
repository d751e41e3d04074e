//! Calls on a duplicate of a caller's socket, as safe functions that return an errno.

use std::ffi::c_int;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use super::address;

/// An errno.
pub(super) type Errno = i32;

/// The state of a TCP socket that is neither connected, nor on the way, nor listening (`TCP_CLOSE`).
pub(super) const CLOSED: u8 = 7;
/// The state of a TCP connection that stands.
pub(super) const ESTABLISHED: u8 = 1;

pub(super) fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().unwrap_or(libc::EACCES)
}

fn check(result: c_int) -> Result<(), Errno> {
    if result == 0 { Ok(()) } else { Err(errno(&io::Error::last_os_error())) }
}

pub(super) fn connect(socket: &OwnedFd, address: &[u8]) -> Result<(), Errno> {
    let length = address.len() as libc::socklen_t;
    // SAFETY: the kernel copies `length` bytes of any content and judges them itself.
    check(unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr().cast(), length) })
}

pub(super) fn bind(socket: &OwnedFd, address: &[u8]) -> Result<(), Errno> {
    let length = address.len() as libc::socklen_t;
    // SAFETY: the kernel copies `length` bytes of any content and judges them itself.
    check(unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr().cast(), length) })
}

pub(super) fn listen(socket: &OwnedFd, backlog: c_int) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::listen(socket.as_raw_fd(), backlog) })
}

/// The address that an internet socket is bound to; the port is 0 if it is not.
pub(super) fn local_address(socket: &OwnedFd) -> Result<SocketAddr, Errno> {
    let mut bytes = [0u8; size_of::<libc::sockaddr_storage>()];
    let mut length = bytes.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes.
    check(unsafe {
        libc::getsockname(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), &raw mut length)
    })?;
    address::parse(&bytes[..length as usize]).ok_or(libc::EAFNOSUPPORT)
}

/// A socket's option, of `T`'s size.
fn option<T: Copy + Default>(socket: &OwnedFd, level: c_int, name: c_int) -> Option<T> {
    let mut value = T::default();
    let mut length = size_of::<T>() as libc::socklen_t;
    let pointer = (&raw mut value).cast();
    // SAFETY: the kernel writes at most `length` bytes, and the callers pass integers.
    let got =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, pointer, &raw mut length) };
    (got == 0).then_some(value)
}

pub(super) fn set_option(
    socket: &OwnedFd,
    level: c_int,
    name: c_int,
    value: c_int,
) -> Result<(), Errno> {
    let length = size_of_val(&value) as libc::socklen_t;
    let pointer = (&raw const value).cast();
    // SAFETY: the kernel reads `length` bytes.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, pointer, length) })
}

/// The family of a socket (`AF_`).
pub(super) fn family(socket: &OwnedFd) -> Option<c_int> {
    option(socket, libc::SOL_SOCKET, libc::SO_DOMAIN)
}

pub(super) fn is_datagram(socket: &OwnedFd) -> bool {
    option(socket, libc::SOL_SOCKET, libc::SO_TYPE) == Some(libc::SOCK_DGRAM)
}

/// The family of a TCP socket; `None`: it is none.
pub(super) fn tcp_family(socket: &OwnedFd) -> Option<c_int> {
    let family = family(socket)?;
    let is_tcp = matches!(family, libc::AF_INET | libc::AF_INET6)
        && option(socket, libc::SOL_SOCKET, libc::SO_TYPE) == Some(libc::SOCK_STREAM)
        && option(socket, libc::SOL_SOCKET, libc::SO_PROTOCOL) == Some(libc::IPPROTO_TCP);
    is_tcp.then_some(family)
}

/// The state of a TCP socket: the first byte of `struct tcp_info` (`tcp(7)`).
pub(super) fn tcp_state(socket: &OwnedFd) -> Option<u8> {
    option(socket, libc::IPPROTO_TCP, libc::TCP_INFO)
}

/// A number that names the socket and no other one, ever.
pub(super) fn cookie(socket: &OwnedFd) -> Result<u64, Errno> {
    option(socket, libc::SOL_SOCKET, libc::SO_COOKIE).ok_or(libc::EACCES)
}

/// Whether calls on it return at once.
pub(super) fn is_nonblocking(socket: &OwnedFd) -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFL) & libc::O_NONBLOCK != 0 }
}

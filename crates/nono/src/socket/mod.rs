//! Calls on sockets, as safe functions.

pub(crate) mod address;

use std::ffi::c_int;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// An errno.
pub(crate) type Errno = i32;

/// The state of a TCP socket that is neither connected, nor on the way, nor listening (`TCP_CLOSE`).
pub(crate) const CLOSED: u8 = 7;
/// The state of a TCP socket that is being connected (`TCP_SYN_SENT`).
pub(crate) const CONNECTING: u8 = 2;
/// The state of a TCP connection that stands.
pub(crate) const ESTABLISHED: u8 = 1;

pub(crate) fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().unwrap_or(libc::EACCES)
}

fn check(result: c_int) -> Result<(), Errno> {
    if result == 0 { Ok(()) } else { Err(errno(&io::Error::last_os_error())) }
}

pub(crate) fn connect(socket: &OwnedFd, address: &[u8]) -> Result<(), Errno> {
    let length = address.len() as libc::socklen_t;
    // SAFETY: the kernel copies `length` bytes of any content and judges them itself.
    check(unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr().cast(), length) })
}

pub(crate) fn bind(socket: &OwnedFd, address: &[u8]) -> Result<(), Errno> {
    let length = address.len() as libc::socklen_t;
    // SAFETY: the kernel copies `length` bytes of any content and judges them itself.
    check(unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr().cast(), length) })
}

pub(crate) fn listen(socket: &OwnedFd, backlog: c_int) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::listen(socket.as_raw_fd(), backlog) })
}

/// The address that an internet socket is bound to; the port is 0 if it is not.
pub(crate) fn local_address(socket: &OwnedFd) -> Result<SocketAddr, Errno> {
    address::parse(&local_name(socket)?).ok_or(libc::EAFNOSUPPORT)
}

/// The address that a socket of any family is bound to, as the kernel has it.
pub(crate) fn local_name(socket: &OwnedFd) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0u8; size_of::<libc::sockaddr_storage>()];
    let mut length = bytes.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes.
    check(unsafe {
        libc::getsockname(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), &raw mut length)
    })?;
    bytes.truncate(length as usize);
    Ok(bytes)
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

pub(crate) fn set_option(
    socket: &OwnedFd,
    level: c_int,
    name: c_int,
    value: c_int,
) -> Result<(), Errno> {
    set(socket, level, name, &value)
}

fn set<T: Copy>(socket: &OwnedFd, level: c_int, name: c_int, value: &T) -> Result<(), Errno> {
    let length = size_of::<T>() as libc::socklen_t;
    let pointer = std::ptr::from_ref(value).cast();
    // SAFETY: the kernel reads `length` bytes.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, pointer, length) })
}

/// The family of a socket (`AF_`).
pub(crate) fn family(socket: &OwnedFd) -> Option<c_int> {
    option(socket, libc::SOL_SOCKET, libc::SO_DOMAIN)
}

pub(crate) fn is_datagram(socket: &OwnedFd) -> bool {
    option(socket, libc::SOL_SOCKET, libc::SO_TYPE) == Some(libc::SOCK_DGRAM)
}

/// The family of a TCP socket; `None`: it is none.
pub(crate) fn tcp_family(socket: &OwnedFd) -> Option<c_int> {
    let family = family(socket)?;
    let is_tcp = matches!(family, libc::AF_INET | libc::AF_INET6)
        && option(socket, libc::SOL_SOCKET, libc::SO_TYPE) == Some(libc::SOCK_STREAM)
        && option(socket, libc::SOL_SOCKET, libc::SO_PROTOCOL) == Some(libc::IPPROTO_TCP);
    is_tcp.then_some(family)
}

/// The state of a TCP socket: the first byte of `struct tcp_info` (`tcp(7)`).
pub(crate) fn tcp_state(socket: &OwnedFd) -> Option<u8> {
    option(socket, libc::IPPROTO_TCP, libc::TCP_INFO)
}

/// A number that names the socket and no other one, ever.
pub(crate) fn cookie(socket: &OwnedFd) -> Result<u64, Errno> {
    option(socket, libc::SOL_SOCKET, libc::SO_COOKIE).ok_or(libc::EACCES)
}

/// A number that names the network namespace which the socket is of (Linux 5.14).
pub(crate) fn namespace(socket: &OwnedFd) -> Option<u64> {
    const SO_NETNS_COOKIE: c_int = 71;
    option(socket, libc::SOL_SOCKET, SO_NETNS_COOKIE)
}

/// Connects a socket if that takes no longer than a tick of the kernel's clock; else EINPROGRESS or
/// EAGAIN, and connecting it again goes on with it. The caller's own bound (SO_SNDTIMEO) is put back.
pub(crate) fn connect_at_once(socket: &OwnedFd, address: &[u8]) -> Result<(), Errno> {
    const MICROSECOND: [i64; 2] = [0, 1]; // struct timeval
    let bound: [i64; 2] =
        option(socket, libc::SOL_SOCKET, libc::SO_SNDTIMEO).ok_or(libc::ENOTSOCK)?;
    set(socket, libc::SOL_SOCKET, libc::SO_SNDTIMEO, &MICROSECOND)?;
    let connected = connect(socket, address);
    set(socket, libc::SOL_SOCKET, libc::SO_SNDTIMEO, &bound)?;
    connected
}

/// Whether calls on it return at once.
pub(crate) fn is_nonblocking(socket: &OwnedFd) -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFL) & libc::O_NONBLOCK != 0 }
}

pub(crate) fn set_nonblocking(socket: &OwnedFd) -> io::Result<()> {
    let fd = socket.as_raw_fd();
    // SAFETY: no memory is involved.
    match unsafe {
        libc::fcntl(fd, libc::F_SETFL, libc::fcntl(fd, libc::F_GETFL) | libc::O_NONBLOCK)
    } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A TCP socket for a connection to this address, which does not block.
pub(crate) fn stream(address: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no memory is involved.
    match unsafe { libc::socket(family, kind, 0) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: a new descriptor that nobody else owns.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// The next connection of a listener, which does not block.
pub(crate) fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let nowhere = std::ptr::null_mut();
    // SAFETY: the peer's address is not asked for.
    match unsafe { libc::accept4(listener.as_raw_fd(), nowhere, std::ptr::null_mut(), flags) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: a new descriptor that nobody else owns.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// The errno of what went wrong with a socket meanwhile, which is forgotten then; 0: nothing.
pub(crate) fn error(socket: &OwnedFd) -> Errno {
    option(socket, libc::SOL_SOCKET, libc::SO_ERROR).unwrap_or(libc::EBADF)
}

/// Makes the peer see a reset, not an end, when the socket is closed.
pub(crate) fn reset_on_close(socket: &OwnedFd) {
    let now = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = size_of_val(&now) as libc::socklen_t;
    let (fd, pointer) = (socket.as_raw_fd(), (&raw const now).cast());
    // SAFETY: the kernel reads `length` bytes.
    unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, pointer, length) };
}

/// Closes a connection so that the peer sees a reset.
pub(crate) fn reset(socket: OwnedFd) {
    reset_on_close(&socket);
}

/// The number of a socket's inode.
pub(crate) fn inode(socket: &OwnedFd) -> io::Result<u64> {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd()))?;
    inode_of_link(&link).ok_or(io::ErrorKind::InvalidData.into())
}

/// The number in `socket:[123]`, what a descriptor's link in `/proc` says of a socket.
pub(crate) fn inode_of_link(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

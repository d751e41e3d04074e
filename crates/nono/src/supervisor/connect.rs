//! connect() and bind() of sockets, carried out on the caller's behalf where a decision is made.
//!
//! Landlock does not judge the path of a unix socket, and a filter cannot read an address. So every
//! connect() is parked, its address copied once, its socket duplicated, and the call is then made
//! here, on the duplicate, with the copy: nothing that the caller changes meanwhile, neither memory
//! nor what a descriptor's number stands for, has any part in it. That holds for internet sockets
//! too, although nothing is decided about them: letting such a call carry on would let another
//! thread put a unix socket under the same number in between.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::notif::{Listener, Notification};
use super::process;
use super::unix::UnixSockets;

/// An errno.
type Errno = i32;

/// `struct sockaddr_storage`, the longest address that there is.
const MAX_ADDRESS: usize = 128;

/// Carries a connect() out, if it may be.
pub(super) fn connect(listener: &Arc<Listener>, call: &Notification, sockets: &UnixSockets) {
    match prepare(listener, call, sockets) {
        Ok(connection) if connection.may_wait() => wait_elsewhere(listener, call, connection),
        Ok(connection) => listener.finish(call, connection.make()),
        Err(errno) => listener.finish(call, Err(errno)),
    }
}

/// Lets a bind() carry on: Landlock and the mounts judge where a socket's file is made. What is
/// learnt is only that the socket is one of the sandbox's.
pub(super) fn note_bind(listener: &Listener, call: &Notification, sockets: &mut UnixSockets) {
    if !sockets.has_own_namespace()
        && let Ok(socket) = process::take_descriptor(call.thread, call.arguments[0] as RawFd)
        && listener.is_parked(call)
        && option(&socket, libc::SO_DOMAIN) == Some(libc::AF_UNIX)
        && let Ok(found) = File::from(socket).metadata()
    {
        sockets.note(found.ino() as u32);
    }
    listener.carry_on(call);
}

/// A connect() that may be made.
struct Connection {
    socket: OwnedFd,
    address: Vec<u8>,
    /// The socket's file, which `address` names by this descriptor.
    _place: Option<OwnedFd>,
}

fn prepare(
    listener: &Listener,
    call: &Notification,
    sockets: &UnixSockets,
) -> Result<Connection, Errno> {
    let [fd, pointer, length, ..] = call.arguments;
    let length = length as i32; // an int to the kernel
    if !(0..=MAX_ADDRESS as i32).contains(&length) {
        return Err(libc::EINVAL);
    }
    let socket = process::take_descriptor(call.thread, fd as RawFd).map_err(errno)?;
    let address = process::read_memory(call.thread, pointer, length as usize).map_err(errno)?;
    match option(&socket, libc::SO_DOMAIN).ok_or(libc::ENOTSOCK)? {
        libc::AF_UNIX => connect_unix(call, sockets, socket, address),
        // With no network allowed there is no such socket but one that was handed in, which Landlock
        // would refuse to connect; here it would not be asked.
        libc::AF_INET | libc::AF_INET6 if sockets.internet => {
            Ok(Connection { socket, address, _place: None })
        }
        _ => Err(libc::EACCES),
    }
    .and_then(|connection| {
        // Only now is it certain that all of the above was about the caller.
        if listener.is_parked(call) { Ok(connection) } else { Err(libc::EINTR) }
    })
}

fn connect_unix(
    call: &Notification,
    sockets: &UnixSockets,
    socket: OwnedFd,
    address: Vec<u8>,
) -> Result<Connection, Errno> {
    let family = address.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes));
    if is_datagram(&socket) {
        return Err(libc::EACCES);
    }
    if family != Some(libc::AF_UNIX as u16) || address.len() > size_of::<libc::sockaddr_un>() {
        return Err(libc::EINVAL);
    }
    let Some(path) = process::socket_path(&address) else {
        // An abstract name. It means something in the socket's own network namespace only.
        return if sockets.has_own_namespace() {
            Ok(Connection { socket, address, _place: None })
        } else {
            Err(libc::EPERM)
        };
    };
    let place = process::open_place(call.thread, path).map_err(errno)?;
    let place = File::from(place);
    let file = place.metadata().map_err(errno)?;
    if !file.file_type().is_socket() {
        return Err(libc::ECONNREFUSED);
    }
    if !sockets.allows(&file) {
        return Err(libc::EACCES);
    }
    // By descriptor: the very file that was looked at, wherever its path leads by now.
    let mut address = (libc::AF_UNIX as u16).to_ne_bytes().to_vec();
    address.extend(format!("/proc/self/fd/{}\0", place.as_raw_fd()).bytes());
    Ok(Connection { socket, address, _place: Some(place.into()) })
}

impl Connection {
    /// Whether making it can take long. The flag is the caller's to change: then it stops its own
    /// supervisor, which nobody outside waits for.
    fn may_wait(&self) -> bool {
        // SAFETY: no memory is involved.
        let flags = unsafe { libc::fcntl(self.socket.as_raw_fd(), libc::F_GETFL) };
        flags & libc::O_NONBLOCK == 0 && !is_datagram(&self.socket)
    }

    fn make(&self) -> Result<(), Errno> {
        let length = self.address.len() as libc::socklen_t;
        // SAFETY: the kernel copies `length` bytes of any content and judges them itself.
        let made =
            unsafe { libc::connect(self.socket.as_raw_fd(), self.address.as_ptr().cast(), length) };
        if made == 0 { Ok(()) } else { Err(errno(io::Error::last_os_error())) }
    }
}

/// Makes a connection that may take long on a thread of its own, so that no other command waits for
/// it. The caller is parked meanwhile: there are no more such threads than threads inside.
fn wait_elsewhere(listener: &Arc<Listener>, call: &Notification, connection: Connection) {
    /// The most threads that sandboxes can occupy in their owner.
    const MAX_WAITING: usize = 2048;
    static WAITING: AtomicUsize = AtomicUsize::new(0);
    struct Seat;
    impl Drop for Seat {
        fn drop(&mut self) {
            WAITING.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let seat = Seat;
    if WAITING.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
        return listener.finish(call, Err(libc::EAGAIN));
    }
    let (theirs, parked) = (listener.clone(), *call);
    let started = std::thread::Builder::new()
        .name("nono-connect".into())
        .stack_size(64 * 1024)
        .spawn(move || {
            let _seat = seat;
            theirs.finish(&parked, connection.make());
        });
    if started.is_err() {
        listener.finish(call, Err(libc::EAGAIN));
    }
}

/// Connecting a datagram socket only notes the address.
fn is_datagram(socket: &OwnedFd) -> bool {
    option(socket, libc::SO_TYPE) == Some(libc::SOCK_DGRAM)
}

/// A socket's option that is an int.
fn option(socket: &OwnedFd, name: i32) -> Option<i32> {
    let mut value = 0i32;
    let mut length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    (got == 0).then_some(value)
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().unwrap_or(libc::EACCES)
}

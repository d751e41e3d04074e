//! DNS over UDP, for programs whose resolver is their own, where a datagram socket could not be
//! confined: each message can name another address, in memory.
//!
//! Instead of one they get a socket that knows one peer only, a resolver here, which asks the gate
//! over TCP. It is a unix socket of whole messages (SOCK_SEQPACKET), on which the kernel ignores the
//! address that a message names (`unix_seqpacket_sendmsg`, net/unix/af_unix.c). Its getsockname()
//! and the source of its answers are no internet addresses: a resolver that compares those finds no
//! answer.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::internet::Led;
use super::notif::{Listener, Notification};
use crate::gate::Destinations;
use crate::socket::{self, Errno, address};

/// The sockets of one sandbox, by the number of their inode; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queries(Arc<Mutex<HashSet<u64>>>);

/// The most sockets, and threads that serve them, of a sandbox.
const MANY: usize = 256;
/// The longest message over UDP is that of the largest packet.
const MAX_MESSAGE: usize = 65_535;

impl Queries {
    /// Carries out a socket() for datagrams.
    pub(super) fn make(&self, listener: &Listener, call: &Notification, led: &Led) {
        let kind = call.arguments[1] as i32;
        match self.try_make(kind, led) {
            Ok(socket) => listener.hand_over(call, socket, kind & libc::SOCK_CLOEXEC != 0),
            Err(errno) => listener.finish(call, Err(errno)),
        }
    }

    fn try_make(&self, kind: i32, led: &Led) -> Result<OwnedFd, Errno> {
        let Some(gate) = &led.gate else { return Err(libc::EACCES) };
        if self.lock().len() >= MANY {
            return Err(libc::ENFILE);
        }
        let failed = |error: io::Error| socket::errno(&error);
        let (theirs, ours) = pair().map_err(failed)?;
        if kind & libc::SOCK_NONBLOCK != 0 {
            socket::set_nonblocking(&theirs).map_err(failed)?;
        }
        let inode = socket::inode(&theirs).map_err(failed)?;
        let resolver = Resolver {
            home: led.servers.home,
            gate: gate.dns,
            destinations: gate.destinations.clone(),
            connection: None,
        };
        self.lock().insert(inode);
        let all = self.clone();
        let started = std::thread::Builder::new()
            .name("nono-resolver".into())
            .stack_size(128 * 1024)
            .spawn(move || {
                resolver.serve(&ours);
                all.lock().remove(&inode);
            });
        if let Err(error) = started {
            self.lock().remove(&inode);
            return Err(failed(error));
        }
        Ok(theirs)
    }

    /// Whether there is none of them, as most often.
    pub(super) fn are_none(&self) -> bool {
        self.lock().is_empty()
    }

    /// Answers a connect() or bind() of one of these sockets; `None`: the call is about another.
    pub(super) fn answer(&self, call: &Notification, asked: &[u8]) -> Option<Result<(), Errno>> {
        let fd = call.arguments[0] as i32;
        let link = fs::read_link(format!("/proc/{}/fd/{fd}", call.thread)).ok()?;
        let inode = socket::inode_of_link(&link)?;
        if !self.lock().contains(&inode) {
            return None;
        }
        let port = address::parse(asked).map(|address| address.port());
        Some(match (call.number, address::family(asked), port) {
            (libc::SYS_bind, _, Some(0 | 1024..)) | (_, Some(libc::AF_UNSPEC), _) => Ok(()),
            (libc::SYS_bind, _, Some(_)) => Err(libc::EACCES),
            // C libraries connect a blocking socket only to learn by which address they would reach
            // another (RFC 6724), which this one does not know.
            (libc::SYS_connect, _, Some(53)) if is_nonblocking(call.thread, fd) => Ok(()),
            (_, _, Some(_)) => Err(libc::ECONNREFUSED),
            (_, _, None) => Err(libc::EINVAL),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel writes two descriptors.
    if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: two new descriptors that nobody else owns.
    let [theirs, ours] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    Ok((theirs, ours))
}

/// Whether a thread's descriptor is: its flags are octal (`proc_pid_fdinfo(5)`).
fn is_nonblocking(thread: i32, fd: i32) -> bool {
    let info = fs::read_to_string(format!("/proc/{thread}/fdinfo/{fd}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & libc::O_NONBLOCK != 0)
}

/// The peer of one of these sockets.
struct Resolver {
    home: Ipv4Addr,
    gate: SocketAddr,
    destinations: Arc<Destinations>,
    /// To the gate; made with the first query.
    connection: Option<TcpStream>,
}

impl Resolver {
    /// Answers until the other end is closed.
    fn serve(mut self, socket: &OwnedFd) {
        let mut query = vec![0; MAX_MESSAGE];
        loop {
            let fd = socket.as_raw_fd();
            // SAFETY: the buffer lives across the call and is as long as told.
            let length = unsafe { libc::recv(fd, query.as_mut_ptr().cast(), query.len(), 0) };
            let Ok(length @ 1..) = usize::try_from(length) else { return };
            // A resolver whose query is lost asks again.
            let Ok(answer) = self.ask(&query[..length]).or_else(|_| self.ask(&query[..length]))
            else {
                continue;
            };
            let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
            // SAFETY: as above.
            unsafe { libc::send(fd, answer.as_ptr().cast(), answer.len(), flags) };
        }
    }

    /// One query and its answer over TCP (RFC 1035, 4.2.2).
    fn ask(&mut self, query: &[u8]) -> io::Result<Vec<u8>> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let mut message = (query.len() as u16).to_be_bytes().to_vec();
        message.extend(query);
        connection.write_all(&message)?;
        let mut length = [0; 2];
        connection.read_exact(&mut length)?;
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        connection.read_exact(&mut answer)?;
        self.connection = Some(connection);
        Ok(answer)
    }

    fn connect(&self) -> io::Result<TcpStream> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let failed = io::Error::from_raw_os_error;
        let socket = socket::stream(&self.gate)?;
        let home = address::to_bytes((self.home, 0).into(), libc::AF_INET);
        socket::bind(&socket, &home).map_err(failed)?;
        let port = socket::local_address(&socket).map_err(failed)?.port();
        let entry = self.destinations.put(port, (Ipv4Addr::UNSPECIFIED, 53).into());
        let connection = TcpStream::from(socket);
        connection.set_nonblocking(false)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        let socket = OwnedFd::from(connection);
        let connected = socket::connect(&socket, &address::to_bytes(self.gate, libc::AF_INET));
        if let Err(errno) = connected {
            self.destinations.take_back(entry);
            return Err(failed(errno));
        }
        Ok(socket.into())
    }
}

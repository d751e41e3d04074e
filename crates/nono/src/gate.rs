//! What the gate of a sandbox is given: sockets to serve, and where each connection was meant to go.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A socket at which connections or DNS queries of a sandbox arrive, to be served from outside.
///
/// In the namespaces tier it was born in the sandbox's private network, where every address is
/// local. In the flat tier it is one of the host's loopback, and any process of the host can connect
/// to it: what [`crate::Sandbox::destination`] does not know is to be refused.
#[derive(Debug)]
pub struct GateListener {
    /// The port on which it listens. Flat tier: any; a connection to each allowed port arrives.
    pub port: u16,
    /// 4 or 6.
    pub family: u8,
    /// A listening TCP socket, or else a UDP socket.
    pub stream: bool,
    /// It expects DNS queries.
    pub dns: bool,
    /// The socket.
    pub fd: OwnedFd,
}

/// Where connections that are on their way to the gate were meant to go, by the port of their
/// connecting end, which has the sandbox's own loopback address.
#[derive(Debug)]
pub(crate) struct Destinations {
    home: Ipv4Addr,
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    by_port: HashMap<u16, (u64, SocketAddr)>,
    last: u64,
}

/// An entry, so that it and no later one can be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    port: u16,
    number: u64,
}

impl Destinations {
    pub(crate) fn new(home: Ipv4Addr) -> Self {
        Destinations { home, pending: Mutex::default() }
    }

    /// Notes where the connection from `port` is meant to go, before it is made.
    pub(crate) fn put(&self, port: u16, meant: SocketAddr) -> Entry {
        let mut pending = self.lock();
        pending.last += 1;
        let number = pending.last;
        pending.by_port.insert(port, (number, meant));
        Entry { port, number }
    }

    /// Forgets a connection that was not made.
    pub(crate) fn take_back(&self, entry: Entry) {
        let mut pending = self.lock();
        if pending.by_port.get(&entry.port).is_some_and(|(number, _)| *number == entry.number) {
            pending.by_port.remove(&entry.port);
        }
    }

    /// Where the connection from `remote` was meant to go: told once.
    pub(crate) fn take(&self, remote: SocketAddr) -> Option<SocketAddr> {
        if remote.ip().to_canonical() != IpAddr::V4(self.home) {
            return None;
        }
        self.lock().by_port.remove(&remote.port()).map(|(_, meant)| meant)
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listener on a free port of the host's loopback.
pub(crate) fn listen_on_loopback() -> io::Result<TcpListener> {
    const BACKLOG: i32 = 4096;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    // Listening again only changes the length of the queue.
    // SAFETY: no memory is involved.
    match unsafe { libc::listen(listener.as_raw_fd(), BACKLOG) } {
        0 => Ok(listener),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_told_once_and_to_its_own_connection() {
        let table = Destinations::new(Ipv4Addr::new(127, 200, 0, 1));
        let meant: SocketAddr = "192.0.2.1:443".parse().unwrap();
        let first = table.put(40_000, "192.0.2.9:80".parse().unwrap());
        table.put(40_000, meant);
        table.take_back(first); // the port is another connection's by now
        for stranger in ["127.0.0.1:40000", "127.200.0.1:40001", "[::1]:40000"] {
            assert_eq!(table.take(stranger.parse().unwrap()), None);
        }
        let client = "[::ffff:127.200.0.1]:40000".parse().unwrap();
        assert_eq!(table.take(client), Some(meant));
        assert_eq!(table.take(client), None);
        let failed = table.put(40_000, meant);
        table.take_back(failed);
        assert_eq!(table.take(client), None);
    }
}

//! Two connected sockets: what arrives at one goes out of the other, each direction at its own pace,
//! with its own end. A connection that breaks on one side is broken on the other.

use std::ffi::c_int;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use super::watch;
use crate::socket;

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Who came to the door.
    Client = 0,
    /// Who it is led to.
    Server = 1,
}

/// Whether there is more to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    GoesOn,
    Over,
}

/// A socket and where it is to be connected to. Each is tried once: a socket of IPv6 that was refused
/// at an IPv4 address does not become one of IPv6 again.
pub(super) type Attempt = (OwnedFd, SocketAddr);

/// Who came to a door and who it is led to.
pub(super) struct Link {
    ends: [OwnedFd; 2],
    /// Attempts that are left, the next one last; `None`: the server is connected.
    untried: Option<Vec<Attempt>>,
    /// One that was refused, and is still watched.
    refused: Option<OwnedFd>,
    /// From the client, and to it.
    flows: [Flow; 2],
    /// The events that are watched, by side; `None`: not watched.
    watched: [Option<u32>; 2],
    /// Both directions of a side have ended. The kernel tells that whatever is waited for, and again and
    /// again (EPOLLHUP).
    hung_up: [bool; 2],
}

/// One direction.
#[derive(Default)]
struct Flow {
    /// Read, and not yet written.
    pending: Vec<u8>,
    /// The source has ended.
    ended: bool,
}

impl Flow {
    fn is_over(&self) -> bool {
        self.ended && self.pending.is_empty()
    }
}

impl Link {
    /// Begins to connect; `None`: nobody is there, and the client was told.
    pub(super) fn connect(client: OwnedFd, mut attempts: Vec<Attempt>) -> Option<Self> {
        attempts.reverse();
        let Some(server) = next_connecting(&mut attempts) else {
            socket::reset(client);
            return None;
        };
        Some(Link {
            ends: [client, server],
            untried: Some(attempts),
            refused: None,
            flows: Default::default(),
            watched: [None; 2],
            hung_up: [false; 2],
        })
    }

    /// Watches for what can go on.
    pub(super) fn watch(&mut self, epoll: &OwnedFd, client: u64, server: u64) -> io::Result<()> {
        if let Some(refused) = self.refused.take() {
            // Closing it would not do: a child of ours on its way to execve has it still.
            watch(epoll, &refused, libc::EPOLL_CTL_DEL, 0, 0)?;
        }
        for (side, about) in [(0, client), (1, server)] {
            let wanted = self.wanted(side);
            let how = match (self.watched[side], wanted) {
                (None, None) => continue,
                (None, Some(_)) => libc::EPOLL_CTL_ADD,
                (Some(events), Some(wanted)) if events == wanted => continue,
                (Some(_), Some(_)) => libc::EPOLL_CTL_MOD,
                (Some(_), None) => libc::EPOLL_CTL_DEL,
            };
            watch(epoll, &self.ends[side], how, wanted.unwrap_or(0), about)?;
            self.watched[side] = wanted;
        }
        Ok(())
    }

    /// What is to be waited for at one side; `None`: nothing, for now or any more.
    fn wanted(&self, side: usize) -> Option<u32> {
        if self.untried.is_some() {
            return Some(if side == 1 { libc::EPOLLOUT as u32 } else { 0 });
        }
        let (from, to) = (&self.flows[side], &self.flows[1 - side]);
        if from.ended && to.is_over() {
            return None;
        }
        let reads = !from.ended && from.pending.is_empty();
        let writes = !to.pending.is_empty();
        let events =
            if reads { libc::EPOLLIN } else { 0 } | if writes { libc::EPOLLOUT } else { 0 };
        (events != 0 || !self.hung_up[side]).then_some(events as u32)
    }

    /// Goes on after an event.
    pub(super) fn advance(&mut self, side: Side, events: u32, buffer: &mut [u8]) -> Progress {
        if self.untried.is_some() {
            return self.finish_connecting(side);
        }
        let is = |event: c_int| events & event as u32 != 0;
        for direction in [0, 1] {
            if self.pump(direction, buffer).is_err() {
                return self.break_off();
            }
        }
        if self.flows.iter().all(Flow::is_over) {
            return Progress::Over;
        }
        let side = side as usize;
        self.hung_up[side] |= is(libc::EPOLLHUP);
        // Closed in both directions, with nothing left to read: what is still to be written to it
        // has nobody to go to.
        let is_deaf = self.hung_up[side] && self.flows[side].ended;
        if is(libc::EPOLLERR) || is_deaf && !self.flows[1 - side].is_over() {
            return self.break_off();
        }
        Progress::GoesOn
    }

    fn finish_connecting(&mut self, side: Side) -> Progress {
        if side == Side::Client {
            return self.break_off(); // it has gone meanwhile
        }
        match (socket::error(&self.ends[1]), socket::tcp_state(&self.ends[1])) {
            (0, Some(socket::CONNECTING)) => {}
            (0, Some(socket::CLOSED)) | (1.., _) => {
                match self.untried.as_mut().and_then(next_connecting) {
                    Some(server) => {
                        self.refused = Some(std::mem::replace(&mut self.ends[1], server));
                        self.watched[1] = None;
                    }
                    None => return self.break_off(),
                }
            }
            _ => {
                self.untried = None;
                let _ = socket::set_option(&self.ends[1], libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
            }
        }
        Progress::GoesOn
    }

    /// Moves what can be moved in one direction; a bounded amount, so that others have their turn.
    fn pump(&mut self, direction: usize, buffer: &mut [u8]) -> io::Result<()> {
        const ROUNDS: usize = 16;
        let (from, to) = (&self.ends[direction], &self.ends[1 - direction]);
        let flow = &mut self.flows[direction];
        for _ in 0..ROUNDS {
            if !flow.pending.is_empty() {
                let Some(written) = would_block(send(to, &flow.pending))? else { return Ok(()) };
                flow.pending.drain(..written);
                if flow.is_over() {
                    end_of(to);
                }
                continue;
            }
            if flow.ended {
                return Ok(());
            }
            let Some(read) = would_block(receive(from, buffer))? else { return Ok(()) };
            if read == 0 {
                flow.ended = true;
                end_of(to);
                return Ok(());
            }
            let written = would_block(send(to, &buffer[..read]))?.unwrap_or(0);
            flow.pending.extend_from_slice(&buffer[written..read]);
        }
        Ok(())
    }

    fn break_off(&mut self) -> Progress {
        for end in &self.ends {
            socket::reset_on_close(end);
        }
        Progress::Over
    }
}

/// The first socket whose connection is on its way.
fn next_connecting(attempts: &mut Vec<Attempt>) -> Option<OwnedFd> {
    while let Some((socket, address)) = attempts.pop() {
        let family = socket::family(&socket)?;
        let begun = socket::connect(&socket, &socket::address::to_bytes(address, family));
        if matches!(begun, Ok(()) | Err(libc::EINPROGRESS)) {
            return Some(socket);
        }
    }
    None
}

/// Tells a side that nothing more will come.
fn end_of(socket: &OwnedFd) {
    // SAFETY: no memory is involved.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_WR) };
}

fn would_block(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(length) => Ok(Some(length)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the buffer lives across the call and is as long as told.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    let (start, length) = (buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: the buffer lives across the call and is as long as told.
    let got = unsafe { libc::recv(socket.as_raw_fd(), start, length, libc::MSG_DONTWAIT) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};

    use super::*;
    use crate::descriptor::owned;

    const CLIENT: u64 = 0;
    const SERVER: u64 = 1;

    /// A link between two peers, which are returned: a client and a server.
    fn link(epoll: &OwnedFd) -> (Link, TcpStream, TcpStream) {
        let [door, service] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let client = TcpStream::connect(door.local_addr().unwrap()).unwrap();
        let (accepted, _) = door.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let address = service.local_addr().unwrap();
        let attempts = vec![(socket::stream(&address).unwrap(), address)];
        let mut link = Link::connect(accepted.into(), attempts).unwrap();
        let (server, _) = service.accept().unwrap();
        link.watch(epoll, CLIENT, SERVER).unwrap();
        (link, client, server)
    }

    /// Lets it go on until there is nothing to be done; `Over`: it ended.
    fn settle(link: &mut Link, epoll: &OwnedFd) -> Progress {
        let mut buffer = vec![0; 256 * 1024];
        for _ in 0..10_000 {
            let mut event = libc::epoll_event { events: 0, u64: 0 };
            // SAFETY: the kernel writes one event at most.
            let count = unsafe { libc::epoll_wait(epoll.as_raw_fd(), &raw mut event, 1, 20) };
            if count == 0 {
                return Progress::GoesOn;
            }
            let side = if event.u64 == CLIENT { Side::Client } else { Side::Server };
            if link.advance(side, event.events, &mut buffer) == Progress::Over {
                return Progress::Over;
            }
            link.watch(epoll, CLIENT, SERVER).unwrap();
        }
        panic!("it does not come to rest");
    }

    fn new_epoll() -> OwnedFd {
        // SAFETY: a new descriptor.
        unsafe { owned(libc::epoll_create1(libc::EPOLL_CLOEXEC)).unwrap() }
    }

    /// Sends until nobody takes any more.
    fn fill(link: &mut Link, epoll: &OwnedFd, mut client: &TcpStream) {
        client.set_nonblocking(true).unwrap();
        let block = [0; 64 * 1024];
        loop {
            while client.write(&block).is_ok() {}
            settle(link, epoll);
            if client.write(&block).is_err() {
                return;
            }
        }
    }

    #[test]
    fn a_client_that_breaks_off_while_nobody_reads_is_the_end() {
        let epoll = new_epoll();
        let (mut link, client, _server) = link(&epoll);
        fill(&mut link, &epoll, &client);
        let client = OwnedFd::from(client);
        socket::reset(client);
        assert_eq!(settle(&mut link, &epoll), Progress::Over);
    }

    #[test]
    fn what_was_sent_arrives_though_both_sides_have_said_that_nothing_more_will_come() {
        let epoll = new_epoll();
        let (mut link, mut client, mut server) = link(&epoll);
        server.shutdown(Shutdown::Write).unwrap();
        for (end, buffer) in [
            (&link.ends[1], libc::SO_SNDBUF),
            (&server.try_clone().unwrap().into(), libc::SO_RCVBUF),
        ] {
            socket::set_option(end, libc::SOL_SOCKET, buffer, 32 * 1024).unwrap();
        }
        settle(&mut link, &epoll);
        let sent = vec![1; 200 * 1024];
        client.write_all(&sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        settle(&mut link, &epoll);
        assert!(!link.flows[0].pending.is_empty());
        let reader = std::thread::spawn(move || {
            let mut received = Vec::new();
            server.read_to_end(&mut received).map(|_| received)
        });
        while settle(&mut link, &epoll) == Progress::GoesOn {}
        drop(link);
        assert!(reader.join().unwrap().unwrap() == sent);
    }
}

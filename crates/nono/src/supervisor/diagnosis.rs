//! What the kernel says about the sockets of a network namespace (`sock_diag(7)`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::socket;

/// A `NETLINK_SOCK_DIAG` socket: it answers about the namespace that it was born in.
#[derive(Debug)]
pub(crate) struct Diagnosis(OwnedFd);

/// A listening unix socket and the file that it is bound to.
pub(super) struct UnixListening {
    /// Names it, and no other socket ever (`SO_COOKIE` in `socket(7)`).
    pub(super) cookie: u64,
    pub(super) inode: u32,
    pub(super) device: u32,
}

/// A listening TCP socket.
#[derive(Debug)]
pub(super) struct TcpListening {
    pub(super) address: IpAddr,
    /// Names it, and no other socket ever (`SO_COOKIE` in `socket(7)`).
    pub(super) cookie: u64,
}

const TCP_LISTEN: u32 = 10; // a state of unix sockets too

impl From<OwnedFd> for Diagnosis {
    fn from(socket: OwnedFd) -> Self {
        Diagnosis(socket)
    }
}

impl Diagnosis {
    /// One for this process's own network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        const NETLINK_SOCK_DIAG: i32 = 4;
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: no memory is involved.
        match unsafe { libc::socket(libc::AF_NETLINK, kind, NETLINK_SOCK_DIAG) } {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: a new descriptor that nobody else owns.
            fd => Ok(Diagnosis(unsafe { OwnedFd::from_raw_fd(fd) })),
        }
    }

    /// Whether a socket is of this network namespace. One that was handed in from elsewhere may not
    /// be, and would reach what is there. Kernels before 5.14 cannot tell.
    pub(super) fn is_beside(&self, socket: &OwnedFd) -> bool {
        socket::namespace(socket) == socket::namespace(&self.0)
    }

    /// All unix sockets that listen and have a file.
    pub(super) fn unix_listening(&self) -> io::Result<Vec<UnixListening>> {
        const UDIAG_SHOW_VFS: u32 = 2;
        let mut request = vec![libc::AF_UNIX as u8, 0, 0, 0]; // struct unix_diag_req
        for word in [1 << TCP_LISTEN, 0, UDIAG_SHOW_VFS, 0, 0] {
            request.extend(word.to_ne_bytes());
        }
        self.ask(&request, UnixListening::parse)
    }

    /// All TCP sockets that listen on `port`.
    pub(super) fn tcp_listening(&self, port: u16) -> io::Result<Vec<TcpListening>> {
        let mut all = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            // struct inet_diag_req_v2 with a struct inet_diag_sockid
            let mut request = vec![family as u8, libc::IPPROTO_TCP as u8, 0, 0];
            request.extend((1u32 << TCP_LISTEN).to_ne_bytes());
            request.extend(port.to_be_bytes());
            request.resize(56, 0);
            all.extend(self.ask(&request, |message| TcpListening::parse(message, family, port))?);
        }
        Ok(all)
    }

    fn ask<T>(&self, request: &[u8], parse: impl Fn(&[u8]) -> Option<T>) -> io::Result<Vec<T>> {
        self.send(request)?;
        let mut found = Vec::new();
        let mut buffer = vec![0u8; 64 * 1024];
        loop {
            let fd = self.0.as_raw_fd();
            // SAFETY: the buffer lives across the call and is as long as told.
            let length = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            if length < 0 {
                return Err(io::Error::last_os_error());
            }
            let mut messages = &buffer[..length as usize];
            while let Some((kind, message)) = next_message(&mut messages) {
                match kind {
                    NLMSG_DONE => return Ok(found),
                    NLMSG_ERROR => return Err(io::ErrorKind::Unsupported.into()),
                    _ => found.extend(parse(message)),
                }
            }
        }
    }

    fn send(&self, request: &[u8]) -> io::Result<()> {
        const SOCK_DIAG_BY_FAMILY: u16 = 20;
        const NLM_F_REQUEST_DUMP: u16 = 0x301;
        let length = 16 + request.len() as u32;
        let mut message = length.to_ne_bytes().to_vec(); // struct nlmsghdr
        message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        message.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(request);
        let fd = self.0.as_raw_fd();
        // SAFETY: the buffer lives across the call and is as long as told.
        match unsafe { libc::send(fd, message.as_ptr().cast(), message.len(), 0) } {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

impl UnixListening {
    /// `struct unix_diag_msg`, then attributes.
    fn parse(message: &[u8]) -> Option<Self> {
        const UNIX_DIAG_VFS: u16 = 1;
        let cookie = u64::from(word(message, 8)?) | u64::from(word(message, 12)?) << 32;
        let mut attributes = message.get(16..)?;
        while let Some(length) = half(attributes, 0).map(usize::from).filter(|length| *length >= 4)
        {
            if half(attributes, 2)? == UNIX_DIAG_VFS {
                return Some(UnixListening {
                    cookie,
                    inode: word(attributes, 4)?,
                    device: word(attributes, 8)?,
                });
            }
            attributes = attributes.get(length.next_multiple_of(4)..)?;
        }
        None
    }
}

impl TcpListening {
    /// `struct inet_diag_msg`. The kernel was asked for one port and family; that is checked again.
    fn parse(message: &[u8], family: i32, port: u16) -> Option<Self> {
        let [is_family, state] = *message.first_chunk()?;
        let is_port = u16::from_be_bytes(*message.get(4..)?.first_chunk()?);
        let matches = i32::from(is_family) == family && u32::from(state) == TCP_LISTEN;
        if !matches || is_port != port {
            return None;
        }
        let source = message.get(8..)?;
        let address = match family {
            libc::AF_INET => IpAddr::from(Ipv4Addr::from_octets(*source.first_chunk()?)),
            _ => IpAddr::from(Ipv6Addr::from_octets(*source.first_chunk()?)),
        };
        let cookie = u64::from(word(message, 44)?) | u64::from(word(message, 48)?) << 32;
        Some(TcpListening { address, cookie })
    }
}

/// The kind and the contents of the first message, which is taken off.
fn next_message<'a>(messages: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let length = word(messages, 0)? as usize;
    let kind = half(messages, 4)?;
    let message = messages.get(16..length)?;
    *messages = messages.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, message))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn finds_who_listens_on_a_port() {
        let diagnosis = Diagnosis::open().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = diagnosis.tcp_listening(port).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].address, Ipv4Addr::LOCALHOST);
        assert_ne!(found[0].cookie, 0);
        drop(listener);
        assert!(diagnosis.tcp_listening(port).unwrap().is_empty());
    }
}

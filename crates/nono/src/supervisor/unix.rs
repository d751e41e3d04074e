//! Which unix sockets may be connected to: those that the policy lists, and those that were bound
//! inside the sandbox.
//!
//! A socket is known by the inode of its file. An inode belongs to one socket for as long as it
//! exists, since bind(2) always makes a new one; so what is checked is what is connected to.

use std::collections::HashSet;
use std::fs::Metadata;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use crate::policy::ListedSocket;

/// The sockets of a sandbox.
pub(crate) struct UnixSockets {
    /// From the policy; each is held open, so that its inode cannot become another file.
    pub(crate) listed: Vec<ListedSocket>,
    /// A `NETLINK_SOCK_DIAG` socket that was born in the sandbox's network namespace.
    pub(crate) diagnosis: OwnedFd,
    /// Sockets that were bound inside, by their numbers; `None`: the network namespace is the
    /// sandbox's own, so that every socket in it is.
    pub(crate) bound: Option<HashSet<u32>>,
    /// Whether the policy has internet sockets.
    pub(crate) internet: bool,
}

impl UnixSockets {
    /// Whether the network namespace, and with it the abstract names, is the sandbox's own.
    pub(super) fn has_own_namespace(&self) -> bool {
        self.bound.is_none()
    }

    /// Whether a socket with this file may be connected to.
    pub(super) fn allows(&self, file: &Metadata) -> bool {
        self.listed.iter().any(|listed| listed.is(file)) || self.is_bound_inside(file)
    }

    /// Takes note of a socket that is being bound inside. One that listens already under the same
    /// number is another one: the kernel's counter has 32 bits and comes round.
    pub(super) fn note(&mut self, number: u32) {
        const MANY: usize = 4096;
        let Ok(listening) = self.listening() else { return };
        let listens = |number: u32| listening.iter().any(|socket| socket.number == number);
        let Some(bound) = &mut self.bound else { return };
        if listens(number) {
            return;
        }
        if bound.len() >= MANY {
            bound.retain(|number| listens(*number));
        }
        bound.insert(number);
    }

    /// The kernel tells 32 bits of an inode's number. Where a file system has more of them (XFS,
    /// btrfs), two sockets may look like one: then both must have been bound inside.
    fn is_bound_inside(&self, file: &Metadata) -> bool {
        let inode = file.ino() as u32;
        let device = libc::major(file.dev()) << 20 | libc::minor(file.dev());
        let is_inside = |number| self.bound.as_ref().is_none_or(|bound| bound.contains(&number));
        let listening = self.listening().unwrap_or_default();
        let mut same =
            listening.iter().filter(|socket| (socket.device, socket.inode) == (device, inode));
        same.clone().next().is_some() && same.all(|socket| is_inside(socket.number))
    }

    /// All sockets of the network namespace that listen and have a file (`sock_diag(7)`).
    fn listening(&self) -> io::Result<Vec<Socket>> {
        self.ask()?;
        let mut found = Vec::new();
        let mut buffer = vec![0u8; 64 * 1024];
        loop {
            let fd = self.diagnosis.as_raw_fd();
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
                    _ => found.extend(Socket::parse(message)),
                }
            }
        }
    }

    fn ask(&self) -> io::Result<()> {
        const SOCK_DIAG_BY_FAMILY: u16 = 20;
        const NLM_F_REQUEST_DUMP: u16 = 0x301;
        const LISTENING: u32 = 1 << 10; // TCP_LISTEN, for unix sockets too
        const UDIAG_SHOW_VFS: u32 = 2;
        let mut request = Vec::with_capacity(40);
        request.extend(40u32.to_ne_bytes()); // struct nlmsghdr
        request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        request.extend(NLM_F_REQUEST_DUMP.to_ne_bytes());
        request.extend([0; 8]);
        request.extend([libc::AF_UNIX as u8, 0, 0, 0]); // struct unix_diag_req
        for word in [LISTENING, 0, UDIAG_SHOW_VFS, 0, 0] {
            request.extend(word.to_ne_bytes());
        }
        let fd = self.diagnosis.as_raw_fd();
        // SAFETY: the buffer lives across the call and is as long as told.
        match unsafe { libc::send(fd, request.as_ptr().cast(), request.len(), 0) } {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Whether the kernel can be asked about sockets at all.
pub(super) fn can_ask() -> bool {
    const NETLINK_SOCK_DIAG: i32 = 4;
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: no memory is involved.
    match unsafe { libc::socket(libc::AF_NETLINK, kind, NETLINK_SOCK_DIAG) } {
        -1 => false,
        fd => {
            // SAFETY: a new descriptor that nobody else owns.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
            true
        }
    }
}

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// A listening socket and the file that it is bound to.
struct Socket {
    number: u32,
    inode: u32,
    device: u32,
}

impl Socket {
    /// `struct unix_diag_msg`, then attributes.
    fn parse(message: &[u8]) -> Option<Self> {
        const UNIX_DIAG_VFS: u16 = 1;
        let number = word(message, 4)?;
        let mut attributes = message.get(16..)?;
        while let Some(length) = half(attributes, 0).map(usize::from).filter(|length| *length >= 4)
        {
            if half(attributes, 2)? == UNIX_DIAG_VFS {
                return Some(Socket {
                    number,
                    inode: word(attributes, 4)?,
                    device: word(attributes, 8)?,
                });
            }
            attributes = attributes.get(length.next_multiple_of(4)..)?;
        }
        None
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

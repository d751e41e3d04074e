//! The owner's end of the control socket.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use nono_init::protocol::{MAX_FDS, Report, Request};

use crate::held::Held;
use crate::limits;

/// The owner's end. Closing it ends the sandbox.
#[derive(Debug)]
pub(crate) struct Channel(Held);

/// A `SCM_RIGHTS` buffer for up to [`MAX_FDS`] descriptors.
#[repr(C, align(8))]
struct Rights([u8; 16 + 4 * MAX_FDS]);

impl Channel {
    /// Both ends; the second is for `nono-init`.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let mut ends = [-1; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        // SAFETY: the kernel writes two descriptors.
        if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: two new descriptors that nobody else owns.
        let [owner, init] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        Ok((Channel(Held::new(owner)), init))
    }

    /// Sends a request with its descriptors, which stay ours too.
    pub(crate) fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_with(request, fds, 0)
    }

    /// Sends a request, unless so many wait already that there is no room for it (`WouldBlock`).
    pub(crate) fn send_at_once(&self, request: &Request) -> io::Result<()> {
        self.send_with(request, &[], libc::MSG_DONTWAIT)
    }

    fn send_with(&self, request: &Request, fds: &[BorrowedFd<'_>], flags: i32) -> io::Result<()> {
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let mut vector = libc::iovec {
            iov_base: std::ptr::from_ref(request).cast_mut().cast(),
            iov_len: size_of::<Request>(),
        };
        let mut rights = Rights([0; _]);
        // SAFETY: all-zero is a valid msghdr.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        if !raw.is_empty() {
            let length = size_of_val(raw.as_slice());
            message.msg_control = rights.0.as_mut_ptr().cast();
            // SAFETY: the buffer has room for MAX_FDS descriptors behind one header, and no caller
            // sends more; CMSG_FIRSTHDR is inside it.
            unsafe {
                message.msg_controllen = libc::CMSG_SPACE(length as u32) as _;
                let header = libc::CMSG_FIRSTHDR(&raw const message);
                (*header).cmsg_level = libc::SOL_SOCKET;
                (*header).cmsg_type = libc::SCM_RIGHTS;
                (*header).cmsg_len = libc::CMSG_LEN(length as u32) as _;
                std::ptr::copy_nonoverlapping(
                    raw.as_ptr().cast::<u8>(),
                    libc::CMSG_DATA(header),
                    length,
                );
            }
        }
        let socket = self.0.get()?;
        match send(&socket, &message, flags) {
            // Commands of the same user have as many descriptors on their way as our limit says.
            Err(error) if error.raw_os_error() == Some(libc::ETOOMANYREFS) => {
                limits::with_raised_open_files(|| send(&socket, &message, flags))
            }
            sent => sent,
        }
    }

    /// The next report; `None`: the other end is closed. `WouldBlock` with `MSG_DONTWAIT`.
    pub(crate) fn receive(&self, flags: i32) -> io::Result<Option<(Report, Vec<OwnedFd>)>> {
        let socket = self.0.get()?;
        let mut report = Report::default();
        let mut vector =
            libc::iovec { iov_base: (&raw mut report).cast(), iov_len: size_of::<Report>() };
        let mut rights = Rights([0; _]);
        // SAFETY: all-zero is a valid msghdr.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = rights.0.as_mut_ptr().cast();
        message.msg_controllen = rights.0.len() as _;
        // SAFETY: `message` describes buffers that live across the call.
        let received = unsafe {
            libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags | libc::MSG_CMSG_CLOEXEC)
        };
        match received {
            0 => return Ok(None),
            length if length < 0 => {
                let error = io::Error::last_os_error();
                let reset = error.raw_os_error() == Some(libc::ECONNRESET);
                return if reset { Ok(None) } else { Err(error) };
            }
            _ => {}
        }
        let mut fds = Vec::new();
        // SAFETY: the kernel filled the control buffer; the macros stay inside what it wrote, and
        // each descriptor in it is new and ours.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            if !header.is_null() && (*header).cmsg_type == libc::SCM_RIGHTS {
                let length = (*header).cmsg_len as u64 - u64::from(libc::CMSG_LEN(0));
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                for index in 0..length as usize / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                }
            }
        }
        Ok(Some((report, fds)))
    }

    /// Tells the other end that we are done, for all who hold this end.
    pub(crate) fn shut_down(&self) {
        if let Ok(socket) = self.0.get() {
            // SAFETY: no memory is involved.
            unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
        }
    }

    /// The socket, to wait for.
    pub(crate) fn socket(&self) -> io::Result<Arc<OwnedFd>> {
        self.0.get()
    }

    /// Closes this end; nothing can be sent or received any more.
    pub(crate) fn release(&self) {
        self.0.release();
    }
}

/// Sends a message, whose buffers live across the call.
fn send(socket: &OwnedFd, message: &libc::msghdr, flags: i32) -> io::Result<()> {
    let flags = flags | libc::MSG_NOSIGNAL;
    loop {
        // SAFETY: the caller's promise.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), message, flags) };
        if sent >= 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

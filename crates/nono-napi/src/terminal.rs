//! A command's terminal as a socket, which is what Node can make a stream of.
//!
//! Node's own terminal handle blocks the main thread when what it writes to is full and cannot be
//! reopened without blocking (`uv_tty_init`), as is the case for this end of a pair. So a thread
//! stands between the two and holds at most one buffer in each direction: whoever does not read
//! makes the other wait.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use nono::{Terminal, TerminalSize};

/// A terminal whose bytes a thread passes on, until the command's side or the socket is closed.
pub(crate) struct Relay {
    /// Gone when the thread is.
    terminal: Weak<Terminal>,
    /// Whether the thread holds something that was shown.
    holding: Arc<AtomicBool>,
}

impl Relay {
    /// Starts the thread; returns the socket's other end. Closing that hangs up; shutting down its
    /// writing side types the end of input.
    pub(crate) fn start(terminal: Terminal) -> io::Result<(OwnedFd, Self)> {
        let (socket, theirs) = UnixStream::pair()?;
        socket.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        // SAFETY: no memory is involved; the terminal is open.
        if unsafe { libc::fcntl(terminal.as_fd().as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } < 0
        {
            return Err(io::Error::last_os_error());
        }
        let terminal = Arc::new(terminal);
        let holding = Arc::new(AtomicBool::new(false));
        let relay = Relay { terminal: Arc::downgrade(&terminal), holding: holding.clone() };
        let desk = Desk { terminal, socket, holding, shown: Buffer::new(), typed: Buffer::new() };
        std::thread::Builder::new().name("nono-terminal".into()).spawn(move || desk.run())?;
        Ok((theirs.into(), relay))
    }

    /// Changes the size; nothing happens when the terminal is closed.
    pub(crate) fn resize(&self, size: TerminalSize) -> io::Result<()> {
        self.terminal.upgrade().map_or(Ok(()), |terminal| terminal.resize(size))
    }

    /// Whether something that was shown has not arrived at the socket yet.
    pub(crate) fn has_pending_output(&self) -> bool {
        let Some(terminal) = self.terminal.upgrade() else { return false };
        let mut watched = [watch(terminal.as_fd().as_raw_fd(), libc::POLLIN)];
        // In this order: what the thread takes, it says first that it holds.
        poll(&mut watched, 0);
        watched[0].revents & libc::POLLIN != 0 || self.holding.load(Ordering::SeqCst)
    }
}

/// What the thread works with.
struct Desk {
    terminal: Arc<Terminal>,
    socket: UnixStream,
    holding: Arc<AtomicBool>,
    shown: Buffer,
    typed: Buffer,
}

impl Desk {
    /// Passes on until one side is closed. An error on either side is the end of it.
    fn run(mut self) {
        let mut input_ended = false;
        let mut hung_up = false;
        loop {
            if hung_up {
                self.typed.clear();
            }
            let mut watched = [
                watch(
                    self.terminal.as_fd().as_raw_fd(),
                    when(self.shown.is_empty(), libc::POLLIN)
                        | when(!self.typed.is_empty(), libc::POLLOUT),
                ),
                watch(
                    self.socket.as_raw_fd(),
                    when(self.typed.is_empty() && !input_ended, libc::POLLIN)
                        | when(!self.shown.is_empty(), libc::POLLOUT),
                ),
            ];
            if watched[0].events == 0 {
                watched[0].fd = -1; // its end would be reported although nothing is asked for
            }
            poll(&mut watched, -1);
            let [terminal, socket] = watched.map(|watched| watched.revents);
            if socket & (libc::POLLHUP | libc::POLLERR) != 0 {
                return; // closed: the last of us hangs up
            }
            hung_up |= terminal & libc::POLLHUP != 0;
            if socket & libc::POLLIN != 0 && !matches!(self.typed.fill(&self.socket), Ok(true)) {
                input_ended = true;
                self.type_end();
            }
            if terminal & libc::POLLOUT != 0 && self.typed.drain(&*self.terminal).is_err() {
                return;
            }
            if terminal & (libc::POLLIN | libc::POLLHUP | libc::POLLERR) != 0
                && self.shown.is_empty()
            {
                self.holding.store(true, Ordering::SeqCst);
                if !matches!(self.shown.fill(&*self.terminal), Ok(true)) {
                    return self.finish();
                }
            }
            if !self.shown.is_empty() && self.shown.drain(&self.socket).is_err() {
                return;
            }
            self.holding.store(!self.shown.is_empty(), Ordering::SeqCst);
        }
    }

    /// Types the end of input: once at the beginning of a line, twice within one, where the first
    /// only hands over what there is of the line (`termios(3)`, VEOF).
    fn type_end(&mut self) {
        const CTRL_D: u8 = 4;
        let end = self.terminal.end_of_input().unwrap_or(CTRL_D);
        let within_line = !matches!(self.typed.last, None | Some(b'\n' | b'\r'));
        self.typed.set(&[end, end][..if within_line { 2 } else { 1 }]);
    }

    /// Says that no more will be shown, and waits for the socket to be closed: what is typed in the
    /// meantime goes nowhere, and unread it would become an error to who types.
    fn finish(self) {
        let Desk { terminal, mut socket, .. } = self;
        drop(terminal);
        let _ = socket.shutdown(Shutdown::Write);
        let _ = socket.set_nonblocking(false);
        let mut ignored = [0; 1024];
        while socket.read(&mut ignored).is_ok_and(|length| length > 0) {}
    }
}

/// Bytes on their way in one direction.
struct Buffer {
    bytes: Box<[u8; 16 * 1024]>,
    begin: usize,
    end: usize,
    /// The last one that ever was in it.
    last: Option<u8>,
}

impl Buffer {
    fn new() -> Self {
        Buffer { bytes: Box::new([0; _]), begin: 0, end: 0, last: None }
    }

    fn is_empty(&self) -> bool {
        self.begin == self.end
    }

    fn clear(&mut self) {
        self.begin = self.end;
    }

    /// Holds just these.
    fn set(&mut self, bytes: &[u8]) {
        self.bytes[..bytes.len()].copy_from_slice(bytes);
        (self.begin, self.end) = (0, bytes.len());
    }

    /// Reads into the empty buffer; false: there will be no more.
    fn fill(&mut self, mut source: impl Read) -> io::Result<bool> {
        match source.read(&mut *self.bytes) {
            Ok(length) => {
                (self.begin, self.end) = (0, length);
                self.last = self.bytes[..length].last().copied().or(self.last);
                Ok(length > 0)
            }
            Err(error) if is_temporary(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Writes as much as the target takes.
    fn drain(&mut self, mut target: impl Write) -> io::Result<()> {
        match target.write(&self.bytes[self.begin..self.end]) {
            Ok(length) => self.begin += length,
            Err(error) if is_temporary(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn when(wanted: bool, events: i16) -> i16 {
    if wanted { events } else { 0 }
}

fn watch(fd: RawFd, events: i16) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

fn poll(watched: &mut [libc::pollfd], timeout: i32) {
    // SAFETY: the kernel fills `revents` of so many elements.
    unsafe { libc::poll(watched.as_mut_ptr(), watched.len() as libc::nfds_t, timeout) };
}

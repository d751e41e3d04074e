//! The supervisor of a sandbox: it answers the few system calls that neither Landlock nor a filter
//! of numbers can judge.
//!
//! One thread a sandbox, which sleeps until a call is parked. It is never the thread that waits for
//! `nono-init`, and `nono-init` itself makes none of the calls that are parked, so neither can wait
//! for the other.

mod connect;
mod diagnosis;
mod exec;
mod internet;
mod made;
mod memory_file;
mod notif;
mod process;
mod sockets;
mod unix;

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

pub(crate) use diagnosis::Diagnosis;
pub(crate) use exec::Loaders;
pub(crate) use internet::{Gate, Internet, Led, Servers};
pub(crate) use made::MadeSockets;
pub(crate) use notif::Listener;
use notif::Notification;
pub(crate) use sockets::Sockets;
pub(crate) use unix::UnixSockets;

use crate::seccomp::SocketAccess;

/// A running supervisor. Dropped, it ends, by itself: it is not waited for, since a command may have
/// brought it to wait for something.
#[derive(Debug)]
pub(crate) struct Supervisor {
    stop: OwnedFd,
}

impl Supervisor {
    /// Answers the calls that arrive at `listener` until nobody is left to make any.
    pub(crate) fn start(
        listener: Listener,
        loaders: Loaders,
        sockets: Option<Sockets>,
    ) -> io::Result<Self> {
        // SAFETY: no memory is involved.
        let stop = match unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) } {
            -1 => return Err(io::Error::last_os_error()),
            // SAFETY: a new descriptor that nobody else owns.
            fd => unsafe { OwnedFd::from_raw_fd(fd) },
        };
        let stopped = stop.try_clone()?;
        let mut desk = Desk { listener: Arc::new(listener), loaders, sockets };
        std::thread::Builder::new()
            .name("nono-supervisor".into())
            .spawn(move || while desk.wait(&stopped) && desk.serve() {})?;
        Ok(Supervisor { stop })
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // SAFETY: an eventfd takes eight bytes (`eventfd(2)`).
        unsafe { libc::write(self.stop.as_raw_fd(), (&raw const ONE).cast(), size_of_val(&ONE)) };
    }
}

static ONE: u64 = 1;

/// How this process can carry out calls of others on their sockets; `own_network`: in a network
/// namespace of their own, where it cannot make sockets for them.
pub(crate) fn socket_access(own_network: bool) -> SocketAccess {
    if Diagnosis::open().is_err() {
        SocketAccess::None
    } else if process::can_take_descriptors() {
        SocketAccess::Taken
    } else if own_network {
        SocketAccess::None
    } else {
        SocketAccess::Made
    }
}

/// What the thread works with.
struct Desk {
    listener: Arc<Listener>,
    loaders: Loaders,
    /// Unless calls on sockets are not parked.
    sockets: Option<Sockets>,
}

impl Desk {
    /// Sleeps until a call is parked; false: there will be none any more.
    fn wait(&self, stop: &OwnedFd) -> bool {
        let watch = |fd, events| libc::pollfd { fd, events, revents: 0 };
        let mut fds = [
            watch(self.listener.as_fd().as_raw_fd(), libc::POLLIN),
            watch(stop.as_raw_fd(), libc::POLLIN),
        ];
        loop {
            // SAFETY: the kernel fills `revents` of two elements.
            let ready = unsafe { libc::poll(fds.as_mut_ptr(), 2, -1) };
            if ready > 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                // POLLHUP alone: the last process that could make a call is gone.
                return ready > 0 && fds[1].revents == 0 && fds[0].revents & libc::POLLIN != 0;
            }
        }
    }

    /// Answers one call; false: the listener is of no use any more.
    fn serve(&mut self) -> bool {
        match self.listener.receive() {
            Ok(Some(call)) => {
                self.answer(&call);
                true
            }
            Ok(None) => true,
            Err(_) => false,
        }
    }

    fn answer(&mut self, call: &Notification) {
        match (call.number, &mut self.sockets) {
            (libc::SYS_connect, Some(sockets)) => connect::connect(&self.listener, call, sockets),
            (libc::SYS_bind, Some(sockets)) => connect::bind(&self.listener, call, sockets),
            (libc::SYS_listen, Some(sockets)) => connect::listen(&self.listener, call, sockets),
            (libc::SYS_socket, Some(Sockets { made: Some(made), .. })) => {
                made.make(&self.listener, call);
            }
            (libc::SYS_memfd_create, _) => memory_file::create(&self.listener, call),
            // Every other call that the filter parks is one that a program makes as it starts.
            _ => exec::certify(&self.listener, call, &mut self.loaders),
        }
    }
}

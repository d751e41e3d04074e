//! Sockets that the supervisor makes for commands, where it cannot take their descriptors.
//!
//! Default containers refuse pidfd_getfd(2). So the supervisor makes each socket itself, gives it to
//! the caller, and keeps a duplicate for the calls on it that it will have to carry out. Which socket
//! a descriptor means is what the kernel says of it, `/proc/TID/fd/N`. Whatever that is meanwhile,
//! the duplicate found is of a socket that was made here for this sandbox.
//!
//! A duplicate keeps its socket open: it is dropped as soon as the socket is connected or listens,
//! and those of sockets that nobody else has any more are found from time to time.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::notif::{Listener, Notification};
use super::process;
use crate::limits;
use crate::socket::{self, Errno};

/// The sockets of one sandbox; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct MadeSockets(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// By the number of the socket's inode.
    by_inode: HashMap<u64, OwnedFd>,
    /// When there are so many, those that nobody else has are looked for.
    sweep_at: usize,
}

/// So few are never swept.
const FEW: usize = 256;

impl MadeSockets {
    /// Carries out a socket(), whose arguments the filter has judged.
    pub(super) fn make(&self, listener: &Listener, call: &Notification) {
        let [domain, kind, protocol, ..] = call.arguments.map(|argument| argument as i32);
        match self.try_make(domain, kind, protocol) {
            Ok(socket) => listener.hand_over(call, socket, kind & libc::SOCK_CLOEXEC != 0),
            Err(error) => listener.finish(call, Err(socket::errno(&error))),
        }
    }

    fn try_make(&self, domain: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
        let make = || {
            // SAFETY: no memory is involved.
            match unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) } {
                -1 => Err(io::Error::last_os_error()),
                // SAFETY: a new descriptor that nobody else owns.
                fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            }
        };
        let mut kept = self.lock();
        let most = limits::share_of_descriptors();
        if kept.by_inode.len() >= kept.sweep_at.max(FEW).min(most) {
            kept.sweep();
        }
        if kept.by_inode.len() >= most {
            return Err(io::Error::from_raw_os_error(libc::ENFILE));
        }
        let socket = make().or_else(|error| match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => {
                kept.sweep();
                make()
            }
            _ => Err(error),
        })?;
        kept.by_inode.insert(socket::inode(&socket)?, socket.try_clone()?);
        Ok(socket)
    }

    /// The socket that a thread's descriptor is.
    pub(super) fn find(&self, thread: i32, fd: RawFd) -> Result<OwnedFd, Errno> {
        let link = fs::read_link(format!("/proc/{thread}/fd/{fd}")).map_err(|_| libc::EBADF)?;
        let inode = socket::inode_of_link(&link).ok_or(libc::ENOTSOCK)?;
        match self.lock().by_inode.get(&inode) {
            Some(socket) => socket.try_clone().map_err(|error| socket::errno(&error)),
            // It was given up, having been connected or made to listen, or it came from elsewhere.
            None => Err(libc::EISCONN),
        }
    }

    /// Gives a socket up: it needs us no more.
    pub(super) fn give_up(&self, socket: &OwnedFd) {
        if let Ok(inode) = socket::inode(socket) {
            self.lock().by_inode.remove(&inode);
        }
    }

    /// Closes what nobody else has any more; true: there was some.
    pub(super) fn sweep(&self) -> bool {
        self.lock().sweep()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Looks for the sockets in all processes that this user can look into, which includes those of
    /// the sandbox. One that is on its way through a unix socket at this moment is not found: it can
    /// not be connected any more.
    fn sweep(&mut self) -> bool {
        let before = self.by_inode.len();
        let mut orphans: HashMap<u64, OwnedFd> = std::mem::take(&mut self.by_inode);
        let own = std::process::id().to_string();
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = process.file_name();
            let is_process = name.as_bytes().iter().all(u8::is_ascii_digit);
            if orphans.is_empty() || !is_process || name == own.as_str() {
                continue;
            }
            // A child of ours on its way to execve has all of our descriptors still.
            if parent(&process.path()).as_deref() == Some(&own) {
                continue;
            }
            let descriptors = fs::read_dir(process.path().join("fd"));
            for descriptor in descriptors.into_iter().flatten().flatten() {
                let link = fs::read_link(descriptor.path()).unwrap_or_default();
                if let Some(inode) = socket::inode_of_link(&link)
                    && let Some(socket) = orphans.remove(&inode)
                {
                    self.by_inode.insert(inode, socket);
                }
            }
        }
        self.sweep_at = self.by_inode.len() * 2;
        self.by_inode.len() < before
    }
}

/// The parent's number: the second field after the name (`proc_pid_stat(5)`).
fn parent(process: &Path) -> Option<String> {
    let stat = process::read_text(process.join("stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1).map(str::to_owned)
}

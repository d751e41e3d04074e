//! The kernel's end of supervision: system calls that are parked until somebody answers
//! (`seccomp_unotify(2)`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::processor::Stay;

/// The descriptor at which parked calls of one sandbox arrive.
#[derive(Debug)]
pub(crate) struct Listener(OwnedFd);

/// A parked call. Its process does not run on until the call is answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Notification {
    /// Names the parked call, and no later one.
    pub(super) id: u64,
    /// The calling thread, as this process numbers it.
    pub(super) thread: i32,
    /// Which call.
    pub(super) number: i64,
    /// As passed: pointers are into the memory of its process.
    pub(super) arguments: [u64; 6],
}

impl Listener {
    pub(crate) fn new(listener: OwnedFd) -> Self {
        let listener = Listener(listener);
        listener.wake_here(true);
        listener
    }

    /// Whether the kernel switches to the supervisor and back on one processor: an order of magnitude
    /// less where processors are woken by interrupts. But whoever came from another processor while
    /// the supervisor was busy is then called away from it. Before Linux 6.6 EINVAL, and slower.
    pub(super) fn wake_here(&self, here: bool) {
        const SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP: u64 = 1;
        let flags = if here { SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP } else { 0 };
        let listener = self.0.as_raw_fd();
        // SAFETY: this argument is a value, not a pointer.
        let _ = uninterrupted(|| unsafe {
            libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, flags)
        });
    }

    /// The next parked call; `None` if the one that was announced has died meanwhile.
    pub(super) fn receive(&self) -> io::Result<Option<Notification>> {
        // SAFETY: all-zero is a valid seccomp_notif, and what the kernel demands.
        let mut parked: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // Not insisted on: where there is nothing any more, it would wait for the next.
        match self.call_once(libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut parked) {
            Ok(_) => Ok(Some(Notification {
                id: parked.id,
                thread: parked.pid as i32,
                number: parked.data.nr.into(),
                arguments: parked.data.args,
            })),
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT | libc::EINTR) => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Whether the call is still parked: then its process has not changed since it was received,
    /// and its number still names it.
    pub(super) fn is_parked(&self, call: &Notification) -> bool {
        let mut id = call.id;
        self.call(libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw mut id).is_ok()
    }

    /// Lets the kernel make the call as if nobody had looked. Never the answer to a question about
    /// memory that the process can change: the kernel reads it again (`seccomp_unotify(2)`).
    pub(super) fn carry_on(&self, call: &Notification) {
        self.answer(call, 0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32);
    }

    /// Says how the call ended, which was made by somebody else: with 0, or with an errno.
    pub(super) fn finish(&self, call: &Notification, result: Result<(), i32>) {
        self.answer(call, 0, result.err().map_or(0, |errno| -errno), 0);
    }

    /// Says that the call has ended well, with this result.
    pub(super) fn finish_with(&self, call: &Notification, result: i32) {
        self.answer(call, result.into(), 0, 0);
    }

    /// Ends the call with a descriptor: `file` becomes one of the caller's, and its number the result.
    ///
    /// The kernel would do both at once (SECCOMP_ADDFD_FLAG_SEND). But if it is interrupted in between,
    /// as it is when this process is stopped or frozen, it forgets the descriptor and ends the call with
    /// 0, which is a descriptor as well (`seccomp_notify_addfd` in kernel/seccomp.c, Linux 6.18).
    pub(super) fn hand_over(&self, call: &Notification, file: OwnedFd, close_on_exec: bool) {
        let mut given = libc::seccomp_notif_addfd {
            id: call.id,
            flags: 0,
            srcfd: file.as_raw_fd() as u32,
            newfd: 0,
            newfd_flags: if close_on_exec { libc::O_CLOEXEC as u32 } else { 0 },
        };
        let stay = Stay::here(call.thread);
        let taken_over = self.call(libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw mut given);
        drop(stay);
        match taken_over {
            Ok(number) => self.answer(call, number.into(), 0, 0),
            Err(error) => self.finish(call, Err(error.raw_os_error().unwrap_or(libc::ENOSYS))),
        }
    }

    fn answer(&self, call: &Notification, val: i64, error: i32, flags: u32) {
        let mut response = libc::seccomp_notif_resp { id: call.id, val, error, flags };
        // A failure means that the process is gone.
        let _ = self.call(libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response);
    }

    /// Every one of these can be interrupted while it waits for a lock (`mutex_lock_interruptible` in
    /// kernel/seccomp.c), as it is when this process is stopped or frozen, and has then done nothing.
    fn call<T>(&self, request: libc::Ioctl, argument: *mut T) -> io::Result<i32> {
        // SAFETY: as below.
        uninterrupted(|| unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument) })
    }

    fn call_once<T>(&self, request: libc::Ioctl, argument: *mut T) -> io::Result<i32> {
        // SAFETY: the request's number holds the size of `T`, which the kernel compares; the
        // callers pass locals.
        result(unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument) })
    }
}

fn uninterrupted(call: impl Fn() -> i32) -> io::Result<i32> {
    loop {
        match result(call()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn result(value: i32) -> io::Result<i32> {
    if value >= 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

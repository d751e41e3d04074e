//! Commands on their way to their programs.
//!
//! Nobody waits for them. Whatever runs in the sandbox already can stop a process before it has executed
//! anything (SIGSTOP cannot be blocked), and execve() may be parked until somebody has been asked. Until
//! then the owner must be able to signal others and to end, and time must run out.

use crate::payload::Payload;
use crate::protocol as p;
use crate::sys::{self, PollFd, call};

/// The most at a time. As long as there are so many, no request is taken.
pub const MAX_BIRTHS: usize = 32;

/// Those that have not executed their program yet.
pub struct Births {
    births: [Option<Birth>; MAX_BIRTHS],
    count: usize,
    /// How many files each may have open: what is enforced, and what that can be raised to.
    pub open_files: [u64; 2],
}

/// One of them.
pub struct Birth {
    pub pid: i32,
    /// Of the request.
    pub id: u32,
    /// The reading end of a pipe whose other end the child alone has, until it executes its program: the
    /// kernel closes that only after the child has left our memory, at execve (`begin_new_exec`, fs/exec.c)
    /// as at its end (`do_exit`, kernel/exit.c).
    pub pipe: i32,
    /// What it reads meanwhile.
    pub _payload: Payload,
    /// Signals for it, by bits, which are its program's.
    pub signals: u64,
    /// It was stopped, and killed for that.
    pub stopped: bool,
}

impl Drop for Birth {
    fn drop(&mut self) {
        sys::close(self.pipe);
    }
}

impl Births {
    pub const fn none(open_files: [u64; 2]) -> Self {
        Births { births: [const { None }; MAX_BIRTHS], count: 0, open_files }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// A place that is free.
    pub fn place(&self) -> Option<usize> {
        self.births.iter().position(Option::is_none)
    }

    pub fn put(&mut self, place: usize, birth: Birth) {
        self.births[place] = Some(birth);
        self.count += 1;
    }

    /// It has left our memory.
    pub fn take(&mut self, place: usize) -> Option<Birth> {
        let birth = self.births[place].take();
        self.count -= usize::from(birth.is_some());
        birth
    }

    /// What to wait for.
    pub fn watch(&self, ready: &mut [PollFd]) {
        for (birth, ready) in self.births.iter().flatten().zip(ready) {
            *ready = PollFd { fd: birth.pipe, events: 0, revents: 0 };
        }
    }

    /// Where the child is whose pipe this is.
    pub fn with(&self, pipe: i32) -> Option<usize> {
        self.births.iter().position(|birth| birth.as_ref().is_some_and(|birth| birth.pipe == pipe))
    }

    /// Where the child with this number is.
    pub fn of(&self, pid: i32) -> Option<usize> {
        self.births.iter().position(|birth| birth.as_ref().is_some_and(|birth| birth.pid == pid))
    }

    /// Ends a child that was stopped: nobody has a reason to stop what is no program yet, and it would keep
    /// its place.
    pub fn end_stopped(&mut self, place: usize) {
        if let Some(birth) = &mut self.births[place]
            && !is_over(birth.pipe)
        {
            birth.stopped = true;
            let _ = sys::kill(birth.pid, sys::SIGKILL);
        }
    }

    /// Keeps a signal for a command that is on its way. Only SIGKILL means the process.
    pub fn signal(&mut self, id: u32, signal: i32) {
        let mut births = self.births.iter_mut().flatten();
        let Some(birth) = births.find(|birth| birth.id == id) else { return };
        let bit = |signal: i32| 1u64 << (signal - 1);
        match signal {
            sys::SIGKILL => _ = sys::kill(birth.pid, signal),
            // Those that stop and the one that continues take each other back (`signal(7)`).
            sys::SIGCONT => birth.signals = birth.signals & !sys::STOPPING | bit(signal),
            1..=64 if sys::STOPPING & bit(signal) != 0 => {
                birth.signals = birth.signals & !bit(sys::SIGCONT) | bit(signal);
            }
            1..=64 => birth.signals |= bit(signal),
            _ => {}
        }
    }
}

/// Whether the other end of a pipe is closed.
fn is_over(pipe: i32) -> bool {
    let mut ready = [PollFd { fd: pipe, events: 0, revents: 0 }];
    sys::poll_for(&mut ready, 0);
    ready[0].revents != 0
}

/// A pipe whose ends are closed at execve: the one to read from, and the other. Made before any other
/// descriptor is closed, so that it is above all that were received.
pub fn pipe() -> sys::Result<(i32, i32)> {
    let mut ends = [-1i32; 2];
    call!(PIPE2, ends.as_mut_ptr(), sys::O_CLOEXEC)?;
    Ok((ends[0], ends[1]))
}

impl Birth {
    /// Sends what came meanwhile to the program.
    pub fn send_signals(&self) {
        for signal in 1..=64 {
            if self.signals & 1 << (signal - 1) != 0 {
                let _ = sys::kill(-self.pid, signal);
            }
        }
    }

    /// Why it did not get to its program, by what it left in our memory.
    pub fn failure(&self, left: (u32, i32)) -> Option<(u32, i32)> {
        match left {
            _ if self.stopped => Some((p::STAGE_STOPPED, sys::EINTR)),
            (_, 0) => None,
            failed => Some(failed),
        }
    }
}

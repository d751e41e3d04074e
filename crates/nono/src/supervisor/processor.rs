//! Which processor threads run on.
//!
//! A caller, the supervisor and the hands take turns, so one processor is enough for them, and another
//! one would have to be woken by an interrupt each time, which takes longer than most operations.

use std::ffi::c_int;

/// The processor that this thread runs on, if a set can hold it.
pub(super) fn current() -> Option<c_int> {
    // SAFETY: no memory is involved.
    let here = unsafe { libc::sched_getcpu() };
    (0..libc::CPU_SETSIZE).contains(&here).then_some(here)
}

/// Binds a thread to one processor. Where the kernel refuses, it is only slower.
pub(super) fn bind(thread: libc::pid_t, processor: c_int) -> bool {
    let mut only = empty();
    // SAFETY: `processor` comes from `current`, so it is within the set, which the kernel reads.
    unsafe {
        libc::CPU_SET(processor as usize, &mut only);
        libc::sched_setaffinity(thread, size_of_val(&only), &raw const only) == 0
    }
}

/// Keeps a parked thread on this processor; dropped, it may run where it might before.
///
/// To take a descriptor over, the thread is woken and goes back to sleep. For the kernel that is no
/// synchronous wake-up, whatever the listener's flags say: it looks for an idle processor
/// (`seccomp_notify_addfd` in kernel/seccomp.c, Linux 6.18). The thread itself never sees the
/// difference, since its call does not end meanwhile. A processor that is plugged in later is not among
/// those that it may then use.
pub(super) struct Stay {
    thread: libc::pid_t,
    before: libc::cpu_set_t,
}

impl Stay {
    pub(super) fn here(thread: libc::pid_t) -> Option<Self> {
        let mut before = empty();
        // SAFETY: the kernel fills the set.
        let told =
            unsafe { libc::sched_getaffinity(thread, size_of_val(&before), &raw mut before) == 0 };
        let here = current()?;
        // SAFETY: `here` is within the set.
        let may_run_here = told && unsafe { libc::CPU_ISSET(here as usize, &before) };
        (may_run_here && bind(thread, here)).then_some(Stay { thread, before })
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let before = &raw const self.before;
        // SAFETY: the kernel reads the set.
        unsafe { libc::sched_setaffinity(self.thread, size_of_val(&self.before), before) };
    }
}

fn empty() -> libc::cpu_set_t {
    // SAFETY: all-zero is a valid set.
    unsafe { std::mem::zeroed() }
}

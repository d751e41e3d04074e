//! System calls, as thin as they can be: numbers, one `asm!`, and safe wrappers for the ones whose
//! arguments cannot break memory.

#[cfg(target_arch = "x86_64")]
#[path = "sys/x86_64.rs"]
mod arch;
#[cfg(target_arch = "aarch64")]
#[path = "sys/aarch64.rs"]
mod arch;

pub use arch::{nr, syscall};

/// The result of a call: a value, or `errno`.
pub type Result<T = usize> = core::result::Result<T, i32>;

pub const EINVAL: i32 = 22;
pub const EINTR: i32 = 4;
pub const EEXIST: i32 = 17;
pub const E2BIG: i32 = 7;
pub const EAGAIN: i32 = 11;

pub const AT_FDCWD: i32 = -100;
pub const RLIMIT_NOFILE: u32 = 7;
pub const AT_EMPTY_PATH: u64 = 0x1000;
pub const AT_RECURSIVE: u64 = 0x8000;

pub const O_WRONLY: u64 = 0o1;
pub const O_CREAT: u64 = 0o100;
pub const O_NOCTTY: u64 = 0o400;
pub const O_PATH: u64 = 0o10_000_000;
pub const O_CLOEXEC: u64 = 0o2_000_000;

pub const PR_SET_DUMPABLE: i32 = 4;
pub const PR_CAPBSET_DROP: i32 = 24;
pub const PR_SET_SECUREBITS: i32 = 28;
pub const PR_SET_CHILD_SUBREAPER: i32 = 36;
pub const PR_SET_NO_NEW_PRIVS: i32 = 38;
pub const PR_CAP_AMBIENT: i32 = 47;

pub const SIGCHLD: u64 = 17;
pub const SIGKILL: i32 = 9;
pub const SIGTERM: i32 = 15;
pub const SIGCONT: i32 = 18;
/// SIGSTOP, SIGTSTP, SIGTTIN and SIGTTOU (19 to 22), by bits.
pub const STOPPING: u64 = 0b1111 << 18;
pub const CLONE_VM: u64 = 0x100;
pub const WNOHANG: u64 = 1;
pub const WUNTRACED: u64 = 2;

/// Turns the kernel's return value into a [`Result`].
pub fn check(value: isize) -> Result {
    if (-4095..0).contains(&value) { Err(-value as i32) } else { Ok(value as usize) }
}

/// A call by number. Memory-safe only for calls whose pointer arguments are valid: that is the
/// promise of each caller in this program.
macro_rules! call {
    ($nr:ident $(, $arg:expr)*) => {{
        // SAFETY: every pointer handed over comes from a reference or a mapped payload that lives
        // across the call, with the length that the kernel is told.
        $crate::sys::check(unsafe {
            $crate::sys::syscall($crate::sys::nr::$nr, $crate::sys::arguments(&[$($arg as u64),*]))
        })
    }};
}
pub(crate) use call;

/// Pads a call's arguments to six.
pub fn arguments(given: &[u64]) -> [u64; 6] {
    let mut all = [0; 6];
    let mut at = 0;
    while at < given.len() {
        all[at] = given[at];
        at += 1;
    }
    all
}

/// Ends this process, which has one thread: by the call that no filter of ours parks.
pub fn exit(status: i32) -> ! {
    loop {
        let _ = call!(EXIT, status);
    }
}

pub fn close(fd: i32) {
    let _ = call!(CLOSE, fd);
}

pub fn prctl(option: i32, a: u64, b: u64, c: u64, d: u64) -> isize {
    match call!(PRCTL, option, a, b, c, d) {
        Ok(value) => value as isize,
        Err(errno) => -(errno as isize),
    }
}

pub fn kill(pid: i32, signal: i32) -> Result {
    call!(KILL, pid, signal)
}

/// What the owner ignored or blocked must not be ignored or blocked in here: dispositions of
/// `SIG_IGN` and the mask survive execve (`signal(7)`), and Node ignores SIGPIPE. This process
/// itself then blocks everything; commands get an empty mask.
pub fn reset_signals() {
    let default = [0u64; 4]; // struct kernel_sigaction with SIG_DFL
    let mut signal = 1;
    while signal <= 64 {
        let _ = call!(RT_SIGACTION, signal, default.as_ptr(), 0, 8);
        signal += 1;
    }
    set_signal_mask(!0);
}

pub fn set_signal_mask(mask: u64) {
    const SIG_SETMASK: u64 = 2;
    let _ = call!(RT_SIGPROCMASK, SIG_SETMASK, &raw const mask, 0, 8);
}

/// A descriptor that becomes readable when a child has ended or was stopped.
pub fn signal_fd() -> i32 {
    const SFD_CLOEXEC: u64 = O_CLOEXEC;
    const SFD_NONBLOCK: u64 = 0o4000;
    let mask: u64 = 1 << (SIGCHLD - 1);
    match call!(SIGNALFD4, -1i64, &raw const mask, 8, SFD_CLOEXEC | SFD_NONBLOCK) {
        Ok(fd) => move_high(fd as i32),
        Err(_) => exit(1),
    }
}

/// Moves one of our own descriptors out of the range that commands use.
pub fn move_high(fd: i32) -> i32 {
    const F_DUPFD_CLOEXEC: u64 = 1030;
    const ABOVE_COMMANDS: u64 = 100;
    match call!(FCNTL, fd, F_DUPFD_CLOEXEC, ABOVE_COMMANDS) {
        Ok(high) => {
            close(fd);
            high as i32
        }
        Err(_) => fd,
    }
}

/// Empties a signal descriptor: several SIGCHLD may have become one, so its contents say nothing.
pub fn drain(signals: i32) {
    let mut buffer = [0u8; 128 * 8];
    while matches!(call!(READ, signals, buffer.as_mut_ptr(), buffer.len()), Ok(n) if n > 0) {}
}

/// Milliseconds since the machine was started, of which the upper half is lost.
pub fn now_ms() -> u32 {
    const CLOCK_MONOTONIC: u64 = 1;
    let mut time = [0u64; 2];
    let _ = call!(CLOCK_GETTIME, CLOCK_MONOTONIC, time.as_mut_ptr());
    (time[0] * 1000 + time[1] / 1_000_000) as u32
}

#[repr(C)]
pub struct PollFd {
    pub fd: i32,
    pub events: i16,
    pub revents: i16,
}

pub const POLLIN: i16 = 1;
pub const POLLERR: i16 = 8;
pub const POLLHUP: i16 = 16;

pub fn poll(fds: &mut [PollFd]) {
    wait(fds, core::ptr::null());
}

/// [`poll`] for at most so many milliseconds.
pub fn poll_for(fds: &mut [PollFd], milliseconds: u32) {
    let timeout = [u64::from(milliseconds / 1000), u64::from(milliseconds % 1000) * 1_000_000];
    wait(fds, timeout.as_ptr());
}

/// Whoever cannot wait would not see the owner go, and ends.
fn wait(fds: &mut [PollFd], timeout: *const u64) {
    match call!(PPOLL, fds.as_mut_ptr(), fds.len(), timeout, 0, 0) {
        Ok(_) | Err(EINTR | EAGAIN) => {}
        Err(_) => exit(1),
    }
}

/// A child that has ended or was stopped: its pid, wait status and resource usage.
pub struct Changed {
    pub pid: i32,
    pub status: i32,
    pub usage: Usage,
}

impl Changed {
    /// Whether it was stopped (`WIFSTOPPED` in `wait(2)`).
    pub fn is_stopped(&self) -> bool {
        self.status & 0xff == 0x7f
    }
}

/// The head of `struct rusage` (`getrusage(2)`).
#[repr(C)]
#[derive(Default)]
pub struct Usage {
    pub user: [i64; 2],
    pub system: [i64; 2],
    pub max_rss_kib: i64,
    pub rest: [i64; 13],
}

/// Reaps one child that has ended, or tells of one that was stopped, if there is one.
pub fn reap() -> Result<Option<Changed>> {
    let mut status = 0i32;
    let mut usage = Usage::default();
    match call!(WAIT4, -1i64, &raw mut status, WNOHANG | WUNTRACED, &raw mut usage)? {
        0 => Ok(None),
        pid => Ok(Some(Changed { pid: pid as i32, status, usage })),
    }
}

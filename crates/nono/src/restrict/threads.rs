//! Making every thread of this process do what the kernel lets each do only for itself.
//!
//! The way of glibc's `setuid(2)` (nptl/nptl_setxid.c) and of libpsx: a signal makes each thread run
//! a handler. The signal is glibc's own for that purpose, because its `sigprocmask` never blocks it,
//! not even in a thread that blocks all signals, such as Node's inspector thread; and because glibc
//! also keeps it from programs, the handler is installed by system call and hands on what it does
//! not know.

use std::collections::HashSet;
use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::seccomp::Instruction;

/// Where a step failed, and why.
type Failure = (&'static str, io::Error);

/// `SIGSETXID` of glibc, `SIGSYNCCALL` of musl.
const SIGNAL: c_int = if cfg!(target_env = "musl") { 34 } else { 33 };

/// What the handler reads, and where it leaves its errno; `PENDING` until then.
static RULESET: AtomicI32 = AtomicI32::new(-1);
static OUTCOME: AtomicI32 = AtomicI32::new(0);
/// The handler that was there before, if it was a function.
static PREVIOUS: AtomicUsize = AtomicUsize::new(0);
const PENDING: i32 = -1;

/// One caller at a time.
pub(super) struct Turn(#[allow(dead_code)] MutexGuard<'static, ()>);

/// Refuses a process with a thread that the signal would not reach, before anything has changed.
/// glibc blocks every signal in threads that begin or end, for a moment: that is waited for.
pub(super) fn check() -> Result<(), Failure> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let stage = "asking its threads";
    let deadline = Instant::now() + PATIENCE;
    for thread in threads().map_err(|error| (stage, error))? {
        while blocks_the_signal(thread) {
            if Instant::now() > deadline {
                let message =
                    format!("thread {thread} blocks every signal, and could not be restricted");
                return Err((stage, io::Error::other(message)));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

fn blocks_the_signal(thread: i32) -> bool {
    let blocked = status(thread, "SigBlk:").and_then(|set| u64::from_str_radix(&set, 16).ok());
    blocked.is_some_and(|set| set & 1 << (SIGNAL - 1) != 0)
}

/// Installs the filter in all threads, or in none (`SECCOMP_FILTER_FLAG_TSYNC`).
pub(super) fn install(filter: &[Instruction]) -> Result<(), Failure> {
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_ptr().cast_mut().cast(), // the same layout; the kernel only reads
    };
    // SAFETY: the program lives across the calls.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const program,
        )
    };
    let stage = "installing the system call filter";
    match installed {
        0 => Ok(()),
        -1 => Err((stage, io::Error::last_os_error())),
        thread => {
            let message = format!("thread {thread} has a filter that the others do not have");
            Err((stage, io::Error::other(message)))
        }
    }
}

impl Turn {
    pub(super) fn take() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        Turn(TURN.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Enters the Landlock domain on every thread, and gives up all capabilities there.
    pub(super) fn restrict(&self, ruleset: BorrowedFd<'_>) -> Result<(), Failure> {
        let stage = "restricting each thread";
        let failed = |error| (stage, error);
        RULESET.store(ruleset.as_raw_fd(), Ordering::SeqCst);
        let before = exchange_action(Some(&Action::ours())).map_err(failed)?;
        PREVIOUS.store(if before.handler > 1 { before.handler } else { 0 }, Ordering::SeqCst);
        // SAFETY: cannot fail.
        let own = unsafe { libc::gettid() };
        let mut restricted = HashSet::new();
        // A new thread has the restrictions of the one that made it. So those that are missed were
        // made by one that was not restricted then, and are there in the next pass; two passes in
        // which nobody was new leave none.
        let mut passes_without_new = 0;
        while passes_without_new < 2 {
            passes_without_new += 1;
            for thread in threads().map_err(failed)? {
                if thread != own && restricted.insert(thread) {
                    passes_without_new = 0;
                    // The handler stays where it is then: a thread may yet run it.
                    restrict_other(thread).map_err(failed)?;
                }
            }
        }
        exchange_action(Some(&before)).map_err(failed)?;
        // Last, since it may not signal threads of another domain afterwards (before Linux 6.15).
        match restrict_this_thread() {
            0 => verify(),
            errno => Err(failed(io::Error::from_raw_os_error(errno))),
        }
    }
}

/// Finds each thread restricted, as far as the kernel tells.
fn verify() -> Result<(), Failure> {
    let stage = "verifying each thread";
    for thread in threads().map_err(|error| (stage, error))? {
        let is = |name, value: &str| status(thread, name).is_none_or(|text| text == value);
        if !(is("NoNewPrivs:", "1") && is("Seccomp:", "2") && is("CapEff:", "0000000000000000")) {
            return Err((stage, io::Error::other(format!("thread {thread} is not restricted"))));
        }
    }
    Ok(())
}

/// Waits until the thread has restricted itself, or is gone.
fn restrict_other(thread: i32) -> io::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(10);
    OUTCOME.store(PENDING, Ordering::SeqCst);
    if !signal(thread)? {
        return Ok(());
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        match OUTCOME.load(Ordering::SeqCst) {
            PENDING if !Path::new(&format!("/proc/self/task/{thread}")).exists() => return Ok(()),
            PENDING if Instant::now() > deadline => {
                let message = format!("thread {thread} does not take signals");
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            PENDING => std::thread::sleep(Duration::from_micros(20)),
            0 => return Ok(()),
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// Sends the signal with our mark; false: the thread is gone.
fn signal(thread: i32) -> io::Result<bool> {
    /// `siginfo_t` as `rt_tgsigqueueinfo(2)` takes it from a program: number, errno, code, padding,
    /// then pid, uid and value.
    #[repr(C)]
    struct Info {
        signal: c_int,
        errno: c_int,
        code: c_int,
        padding: c_int,
        pid: c_int,
        uid: u32,
        value: usize,
        rest: [u64; 12],
    }
    let mut info = Info {
        signal: SIGNAL,
        errno: 0,
        code: libc::SI_QUEUE,
        padding: 0,
        pid: std::process::id() as c_int,
        uid: 0,
        value: mark(),
        rest: [0; 12],
    };
    let number = libc::SYS_rt_tgsigqueueinfo;
    // SAFETY: `info` has the size of a siginfo_t and lives across the call.
    match unsafe { libc::syscall(number, info.pid, thread, SIGNAL, &raw mut info) } {
        0 => Ok(true),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            error => Err(error),
        },
    }
}

/// What tells our signal from glibc's own.
fn mark() -> usize {
    (&raw const OUTCOME).addr()
}

extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo_t, which has a value when its code is SI_QUEUE.
    let ours = unsafe {
        (*info).si_code == libc::SI_QUEUE && (*info).si_value().sival_ptr.addr() == mark()
    };
    if ours {
        // SAFETY: always valid on the calling thread; what it interrupted may be about to read it.
        let errno = unsafe { *libc::__errno_location() };
        OUTCOME.store(restrict_this_thread(), Ordering::SeqCst);
        // SAFETY: as above.
        unsafe { *libc::__errno_location() = errno };
        return;
    }
    let previous = PREVIOUS.load(Ordering::SeqCst);
    if previous != 0 {
        type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
        // SAFETY: the handler that was installed for this signal, called as the kernel would.
        let previous: Handler = unsafe { std::mem::transmute(previous) };
        previous(signal, info, context);
    }
}

/// System calls only: it runs in a signal handler. Returns an errno, or 0.
fn restrict_this_thread() -> i32 {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let none = [0u32; 6];
    // SAFETY: the arrays have the layout of `struct __user_cap_header_struct` and of two `struct
    // __user_cap_data_struct`; the other calls take no memory.
    unsafe {
        let done = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::syscall(
                libc::SYS_landlock_restrict_self,
                RULESET.load(Ordering::SeqCst),
                0u32,
            ) == 0
            && libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) == 0;
        if done { 0 } else { *libc::__errno_location() }
    }
}

/// `struct kernel_sigaction` of 64-bit Linux, which is not the C library's.
#[repr(C)]
#[derive(Clone, Copy)]
struct Action {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

impl Action {
    fn ours() -> Self {
        #[cfg(target_arch = "x86_64")]
        const SA_RESTORER: u64 = 0x0400_0000;
        #[cfg(target_arch = "x86_64")]
        let (flag, restorer) = (SA_RESTORER, (nono_signal_return as *const ()).addr());
        // Elsewhere the kernel has a trampoline of its own.
        #[cfg(not(target_arch = "x86_64"))]
        let (flag, restorer) = (0, 0);
        let flags = (libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK) as u64 | flag;
        Action { handler: (handle as *const ()).addr(), flags, restorer, mask: !0 }
    }
}

/// Installs an action by system call; returns the one before.
fn exchange_action(new: Option<&Action>) -> io::Result<Action> {
    let new = new.map_or(std::ptr::null(), std::ptr::from_ref);
    let mut old = Action { handler: 0, flags: 0, restorer: 0, mask: 0 };
    // SAFETY: both have the kernel's layout, whose mask is 8 bytes.
    match unsafe { libc::syscall(libc::SYS_rt_sigaction, SIGNAL, new, &raw mut old, 8usize) } {
        0 => Ok(old),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(target_arch = "x86_64")]
unsafe extern "C" {
    /// Ends a handler (`sigreturn(2)`). Never called from Rust.
    fn nono_signal_return();
}

#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .text",
    ".global nono_signal_return",
    ".hidden nono_signal_return",
    "nono_signal_return:",
    "mov eax, 15", // rt_sigreturn
    "syscall",
    ".popsection",
);

fn threads() -> io::Result<Vec<i32>> {
    let names = std::fs::read_dir("/proc/self/task")?;
    let number =
        |entry: io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    Ok(names.filter_map(number).collect())
}

/// A line of a thread's `/proc/PID/status`; none if the thread is gone.
fn status(thread: i32, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
}

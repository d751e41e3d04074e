//! Starting `nono-init`: a clone that shares our memory until execve, so that its cost does not
//! depend on how large this process is.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use nono_init::protocol::CONTROL_FD;

use crate::held::Held;
use crate::payload::memory_file;
use crate::user_namespace;

/// A started `nono-init`.
#[derive(Debug)]
pub(crate) struct Init {
    pub(crate) pid: i32,
    pidfd: Held,
}

impl Init {
    /// Starts the program with `control` as its end of the socket, in new namespaces or none.
    pub(crate) fn start(control: OwnedFd, namespaces: i32) -> io::Result<Self> {
        // SAFETY: these calls cannot fail.
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        let mut child = Child {
            program: program()?,
            control: control.as_raw_fd(),
            null: open_null()?,
            in_user_namespace: namespaces & libc::CLONE_NEWUSER != 0,
            uid_map: format!("{uid} {uid} 1"),
            gid_map: format!("{gid} {gid} 1"),
            errno: 0,
        };
        let cloned = clone_sharing_memory(run, (&raw mut child).cast(), namespaces);
        // SAFETY: opened by `open_null`, used by nobody else.
        unsafe { libc::close(child.null) };
        let (pid, pidfd) = cloned?;
        let init = Init { pid, pidfd: Held::new(pidfd) };
        match child.errno {
            0 => Ok(init),
            errno => {
                init.reap();
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }

    /// Waits until it has ended, and with it, in both tiers, every process of the sandbox.
    pub(crate) fn reap(&self) {
        // SAFETY: all-zero is a valid siginfo_t, and the kernel fills it.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let Ok(pidfd) = self.pidfd.get() else { return };
        let id = pidfd.as_raw_fd() as libc::id_t;
        // SAFETY: `info` lives across the call.
        while unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, libc::WEXITED) } == -1
            && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
        {}
        self.pidfd.release();
    }
}

/// Whether a process can be made in new namespaces of these kinds: one is, and ends at once.
pub(crate) fn can_make(namespaces: i32) -> bool {
    extern "C" fn end(_: *mut c_void) -> c_int {
        0
    }
    run_apart(end, std::ptr::null_mut(), namespaces).is_ok()
}

/// Runs `work(argument)` to its end in a process of its own that shares our memory, with `flags` for
/// `clone(2)`. It must only make system calls.
pub(crate) fn run_apart(
    work: extern "C" fn(*mut c_void) -> c_int,
    argument: *mut c_void,
    flags: i32,
) -> io::Result<()> {
    let (pid, pidfd) = clone_sharing_memory(work, argument, flags)?;
    Init { pid, pidfd: Held::new(pidfd) }.reap();
    Ok(())
}

/// Runs `child(argument)` in a new process that shares our memory, and returns when it has replaced
/// or ended itself: its number, and a descriptor for it.
fn clone_sharing_memory(
    child: extern "C" fn(*mut c_void) -> c_int,
    argument: *mut c_void,
    flags: i32,
) -> io::Result<(i32, OwnedFd)> {
    let mut stack = vec![0u128; 4096]; // 64 KiB, aligned as the ABI wants it
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD | flags;
    let blocked = BlockedSignals::all();
    // SAFETY: CLONE_VFORK suspends this thread until the child is done with our memory, so `stack`,
    // `pidfd` and what `argument` points to outlive its use of them. The functions given here only
    // make system calls, and with all signals blocked no handler runs on the shared memory.
    let pid = unsafe {
        let top = stack.as_mut_ptr_range().end.cast();
        libc::clone(child, top, flags, argument, &raw mut pidfd)
    };
    let failed = io::Error::last_os_error();
    drop(blocked);
    if pid < 0 {
        return Err(failed);
    }
    // SAFETY: the kernel stored a new descriptor there.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// What the child reads, and where it leaves its errno.
struct Child {
    program: RawFd,
    control: RawFd,
    null: RawFd,
    in_user_namespace: bool,
    uid_map: String,
    gid_map: String,
    errno: c_int,
}

/// The child, in our memory: system calls only.
extern "C" fn run(child: *mut c_void) -> c_int {
    // SAFETY: the `Child` of `Init::start`, which waits for us.
    let child = unsafe { &mut *child.cast::<Child>() };
    let argv = [c"nono-init".as_ptr(), std::ptr::null()];
    let envp = [std::ptr::null::<libc::c_char>()];
    if child.in_user_namespace
        && let Err(errno) = user_namespace::settle(&child.uid_map, &child.gid_map)
    {
        child.errno = errno;
        return 127;
    }
    // SAFETY: this process's own descriptor table (no CLONE_FILES); all pointers are to locals.
    unsafe {
        // Moved up first: a target below must not be a source still needed.
        let lift = |fd| libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 10);
        let (program, control, null) = (lift(child.program), lift(child.control), lift(child.null));
        for (source, target) in [(null, 0), (null, 1), (null, 2), (control, CONTROL_FD)] {
            if libc::dup2(source, target) < 0 {
                child.errno = *libc::__errno_location();
                return 127;
            }
        }
        libc::syscall(libc::SYS_close_range, CONTROL_FD + 1, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        libc::syscall(
            libc::SYS_execveat,
            program,
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
        child.errno = *libc::__errno_location();
    }
    127
}

/// `nono-init` as a sealed memory file, written once: no file that anybody could replace.
fn program() -> io::Result<RawFd> {
    static PROGRAM: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(program) = PROGRAM.get() {
        return Ok(program.as_raw_fd());
    }
    let mut file = File::from(memory_file(c"nono-init", true)?);
    file.write_all(nono_init::PROGRAM)?;
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: no memory is involved.
    if unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(PROGRAM.get_or_init(|| file.into()).as_raw_fd())
}

fn open_null() -> io::Result<RawFd> {
    // SAFETY: a constant C string.
    match unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        fd => Ok(fd),
    }
}

/// All signals blocked on this thread, until dropped.
struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    fn all() -> Self {
        // SAFETY: both sets live across the calls, which fill them.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut previous: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut previous);
            BlockedSignals(previous)
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the set that `all` saved.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut());
        }
    }
}

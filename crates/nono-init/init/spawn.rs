//! Starting a command: vfork, a few calls on the way, execve.

use crate::commands::Commands;
use crate::control::{self, Fds};
use crate::entry::nono_clone;
use crate::payload::Payload;
use crate::protocol::{self as p, Report, Request, START_FAILED, STARTED, Spawn};
use crate::sys::{self, call};

/// Everything the child needs, and where it leaves what went wrong: it shares our memory until
/// execve, and we sleep until then.
struct Birth {
    program: *const u8,
    argv: *const *const u8,
    envp: *const *const u8,
    cwd: *const u8,
    stdio: [i32; p::MAX_FDS],
    stdio_count: usize,
    flags: u32,
    stage: u32,
    errno: i32,
}

#[repr(C, align(16))]
struct Stack([u8; 32 * 1024]);
static mut CHILD_STACK: Stack = Stack([0; 32 * 1024]);

/// Starts a command and reports how that went.
pub fn spawn(control: i32, request: &Request, fds: &mut Fds, commands: &mut Commands) {
    let mut report = Report { kind: START_FAILED, id: request.id, ..Report::default() };
    match try_spawn(fds, commands) {
        Ok(pid) => {
            report.kind = STARTED;
            report.pid = pid;
            commands.add(pid, request.id);
        }
        Err((stage, errno)) => {
            report.stage = stage;
            report.status = errno;
        }
    }
    control::send(control, &report, &[]);
}

fn try_spawn(fds: &mut Fds, commands: &Commands) -> Result<i32, (u32, i32)> {
    if commands.is_full() {
        return Err((p::STAGE_REQUEST, sys::EAGAIN));
    }
    let mut payload = Payload::map(fds.take(0)).map_err(|errno| (p::STAGE_REQUEST, errno))?;
    let header: Spawn = payload.read(0);
    let mut birth = Birth {
        program: payload.string(header.program),
        argv: payload.pointers(header.argv, header.argc),
        envp: payload.pointers(header.envp, header.envc),
        cwd: payload.string(header.cwd),
        stdio: [-1; p::MAX_FDS],
        stdio_count: header.stdio_count as usize,
        flags: header.flags,
        stage: 0,
        errno: 0,
    };
    let received = fds.as_slice();
    if birth.stdio_count == 0 || birth.stdio_count + 1 != received.len() {
        return Err((p::STAGE_REQUEST, sys::EINVAL));
    }
    birth.stdio[..birth.stdio_count].copy_from_slice(&received[1..]);

    // SAFETY: CLONE_VFORK stops us until the child has left our memory by execve or exit, so it
    // alone uses the stack, `birth` and the payload; it makes system calls only.
    let pid = sys::check(unsafe {
        nono_clone(
            sys::CLONE_VM | sys::CLONE_VFORK | sys::SIGCHLD,
            (&raw mut CHILD_STACK).add(1).cast(),
            be_born,
            &raw mut birth as usize,
        )
    })
    .map_err(|errno| (p::STAGE_CLONE, errno))?;

    // SAFETY: `birth` is ours again; the child wrote through the pointer, so read it as memory.
    let (stage, errno) = unsafe {
        ((&raw const birth.stage).read_volatile(), (&raw const birth.errno).read_volatile())
    };
    if errno == 0 {
        return Ok(pid as i32);
    }
    let mut status = 0i32;
    while call!(WAIT4, pid, &raw mut status, 0, 0) == Err(sys::EINTR) {}
    Err((stage, errno))
}

extern "C" fn be_born(birth: usize) -> ! {
    // SAFETY: the address of the parent's `Birth`, which outlives this function (see above).
    let birth = unsafe { &mut *(birth as *mut Birth) };
    let (stage, errno) = replace_self(birth);
    birth.stage = stage;
    birth.errno = errno;
    sys::exit(127)
}

/// Returns only if something failed: where, and why.
fn replace_self(birth: &Birth) -> (u32, i32) {
    const TIOCSCTTY: u64 = 0x540E;
    let _ = call!(SETSID);
    if let Err(errno) = call!(CHDIR, birth.cwd) {
        return (p::STAGE_CWD, errno);
    }
    if birth.flags & p::SPAWN_TERMINAL != 0
        && let Err(errno) = call!(IOCTL, birth.stdio[0], TIOCSCTTY, 0)
    {
        return (p::STAGE_TERMINAL, errno);
    }
    // The kernel numbers received descriptors upwards from the lowest free one, after 0, 1 and 2
    // and the payload: descriptor `at` is above `at`, so none is overwritten before its turn.
    let mut at = 0;
    while at < birth.stdio_count {
        if let Err(errno) = call!(DUP3, birth.stdio[at], at, 0) {
            return (p::STAGE_STDIO, errno);
        }
        at += 1;
    }
    sys::set_signal_mask(0);
    match call!(EXECVE, birth.program, birth.argv, birth.envp) {
        Err(errno) => (p::STAGE_EXEC, errno),
        Ok(_) => (p::STAGE_EXEC, 0),
    }
}

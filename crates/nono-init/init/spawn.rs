//! Starting a command: a child in our memory, a few calls on the way, execve.

use crate::births::{self, Birth, Births, MAX_BIRTHS};
use crate::commands::Commands;
use crate::control::{self, Fds};
use crate::entry::nono_clone;
use crate::payload::Payload;
use crate::protocol::{self as p, Report, Request, START_FAILED, STARTED, Spawn};
use crate::sys::{self, call};

/// Everything the child needs, and where it leaves what went wrong: it shares our memory until
/// execve.
struct Errand {
    program: *const u8,
    argv: *const *const u8,
    envp: *const *const u8,
    cwd: *const u8,
    stdio: [i32; p::MAX_FDS],
    stdio_count: usize,
    open_files: [u64; 2],
    flags: u32,
    stage: u32,
    errno: i32,
}

/// What a child uses until it executes its program, and nobody else but it.
#[repr(C, align(16))]
struct Cradle {
    stack: [u8; 32 * 1024],
    errand: Errand,
}

const EMPTY: Cradle = Cradle {
    stack: [0; 32 * 1024],
    errand: Errand {
        program: core::ptr::null(),
        argv: core::ptr::null(),
        envp: core::ptr::null(),
        cwd: core::ptr::null(),
        stdio: [0; p::MAX_FDS],
        stdio_count: 0,
        open_files: [0; 2],
        flags: 0,
        stage: 0,
        errno: 0,
    },
};
/// By the place of the child among the births.
static mut CRADLES: [Cradle; MAX_BIRTHS] = [EMPTY; MAX_BIRTHS];

/// Begins to start a command. How that went is reported by [`conclude`], or here if it failed already.
pub fn spawn(
    control: i32,
    request: &Request,
    fds: &mut Fds,
    births: &mut Births,
    commands: &Commands,
) {
    if let Err((stage, status)) = try_spawn(request.id, fds, births, commands) {
        let report =
            Report { kind: START_FAILED, id: request.id, stage, status, ..Report::default() };
        control::send(control, &report, &[]);
    }
}

fn try_spawn(
    id: u32,
    fds: &mut Fds,
    births: &mut Births,
    commands: &Commands,
) -> Result<(), (u32, i32)> {
    let place = births.place().filter(|_| commands.have_room_for(births.count() + 1));
    let Some(place) = place else { return Err((p::STAGE_REQUEST, sys::EAGAIN)) };
    let (pipe, theirs) = births::pipe().map_err(|errno| (p::STAGE_REQUEST, errno))?;
    let born = bear(place, fds, pipe, births.open_files);
    sys::close(theirs);
    match born {
        Ok((pid, payload)) => {
            births
                .put(place, Birth { pid, id, pipe, _payload: payload, signals: 0, stopped: false });
            Ok(())
        }
        Err(failed) => {
            sys::close(pipe);
            Err(failed)
        }
    }
}

/// Makes the child, which uses the payload from then on.
fn bear(
    place: usize,
    fds: &mut Fds,
    pipe: i32,
    open_files: [u64; 2],
) -> Result<(i32, Payload), (u32, i32)> {
    let mut payload = Payload::map(fds.take(0)).map_err(|errno| (p::STAGE_REQUEST, errno))?;
    let header: Spawn = payload.read(0);
    let received = fds.as_slice();
    let stdio_count = header.stdio_count as usize;
    if stdio_count == 0 || stdio_count + 1 != received.len() || (pipe as usize) < stdio_count {
        return Err((p::STAGE_REQUEST, sys::EINVAL));
    }
    // SAFETY: a place that is free, so nobody else uses it.
    let cradle = unsafe { &raw mut CRADLES[place] };
    // SAFETY: as above.
    let errand = unsafe { &mut (*cradle).errand };
    *errand = Errand {
        program: payload.string(header.program),
        argv: payload.pointers(header.argv, header.argc),
        envp: payload.pointers(header.envp, header.envc),
        cwd: payload.string(header.cwd),
        stdio: [-1; p::MAX_FDS],
        stdio_count,
        open_files,
        flags: header.flags,
        stage: 0,
        errno: 0,
    };
    errand.stdio[..stdio_count].copy_from_slice(&received[1..]);
    let errand = core::ptr::from_mut(errand) as usize;

    // SAFETY: until its pipe is closed the child alone uses the cradle, and nothing changes the payload;
    // it makes system calls only.
    let pid = sys::check(unsafe {
        let top = (&raw mut (*cradle).stack).add(1).cast();
        nono_clone(sys::CLONE_VM | sys::SIGCHLD, top, be_born, errand)
    });
    pid.map(|pid| (pid as i32, payload)).map_err(|errno| (p::STAGE_CLONE, errno))
}

/// Reports how a start went, when the child has left our memory.
pub fn conclude(control: i32, place: usize, births: &mut Births, commands: &mut Commands) {
    // SAFETY: the child has written what it had to; nobody writes any more.
    let left = unsafe {
        let errand = &raw const CRADLES[place].errand;
        ((&raw const (*errand).stage).read_volatile(), (&raw const (*errand).errno).read_volatile())
    };
    let Some(birth) = births.take(place) else { return };
    let mut report = Report { kind: STARTED, id: birth.id, pid: birth.pid, ..Report::default() };
    match birth.failure(left) {
        None => {
            commands.add(birth.pid, birth.id);
            birth.send_signals();
        }
        Some((stage, status)) => {
            report = Report { kind: START_FAILED, pid: 0, stage, status, ..report };
        }
    }
    control::send(control, &report, &[]);
}

extern "C" fn be_born(errand: usize) -> ! {
    // SAFETY: the address of the child's errand, which nobody else uses until the child is gone (see above).
    let errand = unsafe { &mut *(errand as *mut Errand) };
    let (stage, errno) = replace_self(errand);
    errand.stage = stage;
    errand.errno = errno;
    sys::exit(127)
}

/// Returns only if something failed: where, and why.
fn replace_self(errand: &Errand) -> (u32, i32) {
    const TIOCSCTTY: u64 = 0x540E;
    let _ = call!(SETSID);
    if let Err(errno) = call!(CHDIR, errand.cwd) {
        return (p::STAGE_CWD, errno);
    }
    if errand.flags & p::SPAWN_TERMINAL != 0
        && let Err(errno) = call!(IOCTL, errand.stdio[0], TIOCSCTTY, 0)
    {
        return (p::STAGE_TERMINAL, errno);
    }
    // The kernel numbers received descriptors upwards from the lowest free one, after 0, 1 and 2
    // and the payload: descriptor `at` is above `at`, so none is overwritten before its turn.
    let mut at = 0;
    while at < errand.stdio_count {
        if let Err(errno) = call!(DUP3, errand.stdio[at], at, 0) {
            return (p::STAGE_STDIO, errno);
        }
        at += 1;
    }
    let limit = errand.open_files.as_ptr();
    if let Err(errno) = call!(PRLIMIT64, 0, sys::RLIMIT_NOFILE, limit, 0) {
        return (p::STAGE_OPEN_FILES, errno);
    }
    sys::set_signal_mask(0);
    match call!(EXECVE, errand.program, errand.argv, errand.envp) {
        Err(errno) => (p::STAGE_EXEC, errno),
        Ok(_) => (p::STAGE_EXEC, 0),
    }
}

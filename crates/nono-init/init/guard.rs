//! The guard of a flat sandbox.
//!
//! Without a pid namespace nothing ends a process's descendants with it. So `nono-init` splits in
//! two: the guard, which every orphan of the sandbox is handed to (child subreaper) and which no
//! command can signal, and the serving half inside the full sandbox. When the owner or the serving
//! half goes, the guard kills all that is left and ends.

use crate::mounts;
use crate::protocol::PLAN_SCOPES;
use crate::sys::{self, PollFd, Result, call};

/// How often the serving half is helped up. Whatever runs in the sandbox can stop it, as it can kill it, and
/// could do so again faster than we help.
const MAX_STOPS: u32 = 16;

/// Returns in the serving half only.
pub fn split(control: i32, signals: i32, plan_flags: u32) -> Result<()> {
    if sys::prctl(sys::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0 {
        return Err(sys::EINVAL);
    }
    let scoped = plan_flags & PLAN_SCOPES != 0;
    if scoped {
        enter_signal_scope()?;
    }
    match fork()? {
        0 => {
            // Orphans stay with the serving half while it lives, so that it reaps them.
            sys::prctl(sys::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
            Ok(())
        }
        serving => keep_together(control, signals, serving as i32, scoped),
    }
}

/// A Landlock domain that confines signals and nothing else (`landlock(7)`, ABI 6). The serving half
/// and all commands live in a domain nested in this one: they cannot signal the guard, and the
/// guard's `kill(-1)` reaches them and nobody else.
///
/// Every domain denies linking and renaming between directories unless it allows it, whether it
/// handles that right or not (LANDLOCK_ACCESS_FS_REFER); so this one allows it everywhere.
fn enter_signal_scope() -> Result<()> {
    const LANDLOCK_ACCESS_FS_REFER: u64 = 1 << 13;
    const LANDLOCK_SCOPE_SIGNAL: u64 = 2;
    let attributes = [LANDLOCK_ACCESS_FS_REFER, 0, LANDLOCK_SCOPE_SIGNAL];
    sys::prctl(sys::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    let ruleset = call!(LANDLOCK_CREATE_RULESET, attributes.as_ptr(), size_of_val(&attributes), 0)?;
    let entered =
        mounts::add_rule(ruleset as i32, c"/".as_ptr().cast(), false, LANDLOCK_ACCESS_FS_REFER)
            .and_then(|()| call!(LANDLOCK_RESTRICT_SELF, ruleset, 0));
    sys::close(ruleset as i32);
    entered.map(|_| ())
}

fn fork() -> Result {
    // SAFETY: without CLONE_VM the child runs on its own copy of this stack.
    sys::check(unsafe { sys::syscall(sys::nr::CLONE, sys::arguments(&[sys::SIGCHLD])) })
}

fn keep_together(control: i32, signals: i32, serving: i32, scoped: bool) -> ! {
    let mut stops = 0;
    loop {
        let mut fds = [
            PollFd { fd: control, events: 0, revents: 0 },
            PollFd { fd: signals, events: sys::POLLIN, revents: 0 },
        ];
        sys::poll(&mut fds);
        let owner_gone = fds[0].revents & (sys::POLLHUP | sys::POLLERR) != 0;
        sys::drain(signals);
        let mut serving_gone = false;
        while let Ok(Some(changed)) = sys::reap() {
            if changed.pid != serving {
                continue;
            }
            if changed.is_stopped() && stops < MAX_STOPS {
                stops += 1;
                let _ = sys::kill(serving, sys::SIGCONT);
            } else {
                serving_gone = true;
            }
        }
        if owner_gone || serving_gone {
            kill_everything(signals, scoped);
        }
    }
}

/// Ends every process of the sandbox, then this one.
fn kill_everything(signals: i32, scoped: bool) -> ! {
    loop {
        if scoped {
            // One pass under the kernel's task list lock: a fork in progress sees the pending
            // SIGKILL and fails, so even a fork bomb ends here (kernel/signal.c, kernel/fork.c).
            let _ = sys::kill(-1, sys::SIGKILL);
        } else {
            kill_children();
        }
        loop {
            match sys::reap() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => sys::exit(0), // ECHILD: nobody is left
            }
        }
        // Orphans arrive here as their parents die; each arrival or death is a SIGCHLD at latest.
        sys::poll_for(&mut [PollFd { fd: signals, events: sys::POLLIN, revents: 0 }], 10);
        sys::drain(signals);
    }
}

/// Kernels before Landlock ABI 6: only direct children can be named safely; their own children
/// become ours as they die, and are killed in the next round.
fn kill_children() {
    let path = c"/proc/thread-self/children";
    let Ok(file) = call!(OPENAT, sys::AT_FDCWD, path.as_ptr(), sys::O_CLOEXEC, 0) else { return };
    let mut buffer = [0u8; 4096];
    let length = call!(READ, file, buffer.as_mut_ptr(), buffer.len()).unwrap_or(0);
    sys::close(file as i32);
    let mut pid = 0i32;
    for byte in &buffer[..length] {
        if byte.is_ascii_digit() {
            pid = pid.wrapping_mul(10).wrapping_add(i32::from(byte - b'0'));
        } else {
            if pid > 1 {
                let _ = sys::kill(pid, sys::SIGKILL);
            }
            pid = 0;
        }
    }
}

//! Who made a parked call.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::frames;
use crate::event::Process;
use crate::tier::TierName;

/// The longest chain of parents that is followed.
const MAX_CHAIN: usize = 32;
/// The most bytes of paths that are told of it.
const LONGEST_CHAIN: usize = 16 * 1024;

/// A process's entry in the kernel's tables (`proc_pid_status(5)`).
pub(super) struct Status {
    group: i32,
    parent: i32,
    /// As commands see it: in the innermost pid namespace.
    pub(super) inner: i32,
    pub(super) inner_thread: i32,
    inner_session: i32,
}

impl Status {
    pub(super) fn of(thread: i32) -> Option<Self> {
        let text = super::process::read_text(format!("/proc/{thread}/status")).ok()?;
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let number = |name| field(name)?.split_whitespace().last()?.parse().ok();
        Some(Status {
            group: number("Tgid:")?,
            parent: number("PPid:")?,
            inner: number("NStgid:")?,
            inner_thread: number("NSpid:")?,
            inner_session: number("NSsid:")?,
        })
    }
}

/// Whether a process or thread is one of the sandbox's in the tier `flat`: neither its guard, which has
/// the number `init`, nor the guard's child, but below them.
pub(super) fn is_inside(process: i32, init: i32) -> bool {
    const DEEPEST: usize = 1024;
    let parent = |process: i32| Status::of(process).map(|status| status.parent);
    let mut above = parent(process);
    for _ in 0..DEEPEST {
        let Some(two_above) = above.filter(|above| *above > 1 && *above != init).and_then(parent)
        else {
            return false;
        };
        if two_above == init {
            return true;
        }
        above = Some(two_above);
    }
    false
}

/// The caller in short: enough to say which process and program it was.
fn briefly(thread: i32) -> Process {
    let executable = link(thread, "exe");
    let pid = super::process::leader(thread).unwrap_or(thread);
    Process { pid, executable, ..Process::default() }
}

/// Callers in short, remembered from their last attempt. A thread's number is given out again only when
/// all have been used; the program is looked at anew whenever one starts.
#[derive(Debug, Default)]
pub(crate) struct Callers(RefCell<HashMap<i32, Arc<Process>>>);

impl Callers {
    pub(super) fn briefly(&self, thread: i32) -> Arc<Process> {
        const MANY: usize = 1024;
        let mut known = self.0.borrow_mut();
        if known.len() >= MANY {
            known.clear();
        }
        known.entry(thread).or_insert_with(|| Arc::new(briefly(thread))).clone()
    }

    /// Forgets a thread that has just become another program.
    pub(super) fn forget(&self, thread: i32) {
        self.0.borrow_mut().remove(&thread);
    }
}

/// The caller in full. Chains of parents end at the sandbox's first process.
pub(super) fn in_full(thread: i32, init: i32, tier: TierName) -> Process {
    let Some(status) = Status::of(thread) else { return briefly(thread) };
    let mut process = Process {
        pid: status.group,
        session: status.inner_session,
        executable: link(thread, "exe"),
        arguments: arguments(thread),
        cwd: link(thread, "cwd"),
        frames: frames::of(thread),
        ..Process::default()
    };
    let (mut command, mut parent) = (status.inner, status.parent);
    let mut chain_length = 0;
    for _ in 0..MAX_CHAIN {
        let Some(above) = Status::of(parent) else { break };
        // In the tier `flat` it is the child of its guard, whom the owner knows by number.
        let is_first = match tier {
            TierName::Namespaces => parent == init,
            TierName::Flat => above.parent == init,
        };
        if is_first {
            break;
        }
        let program = link(parent, "exe");
        chain_length += program.as_os_str().len();
        if chain_length <= LONGEST_CHAIN {
            process.chain.push(program);
        }
        (command, parent) = (above.inner, above.parent);
    }
    process.command = command;
    process
}

fn link(thread: i32, name: &str) -> PathBuf {
    fs::read_link(format!("/proc/{thread}/{name}")).unwrap_or_default()
}

/// The first of them. A process can have megabytes of arguments, and events wait for somebody to read them.
fn arguments(thread: i32) -> Vec<OsString> {
    const MOST: usize = 64;
    const LONGEST: u64 = 16 * 1024;
    let mut line = Vec::new();
    let read = File::open(format!("/proc/{thread}/cmdline"))
        .and_then(|file| file.take(LONGEST).read_to_end(&mut line));
    if read.is_err() {
        return Vec::new();
    }
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    line.split(|byte| *byte == 0)
        .take(MOST)
        .map(|word| OsStr::from_bytes(word).to_owned())
        .collect()
}

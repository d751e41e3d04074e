//! Commands as they run: what is told about them, and what can be done to them.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use nono_init::protocol as p;

use crate::cgroup::Cgroup;
use crate::error::Result;
use crate::sandbox::Inner;
use crate::terminal::Terminal;

/// How a command ended.
#[derive(Clone, Copy, Debug)]
pub struct Exit {
    /// Its exit code or the signal that ended it.
    pub status: ExitStatus,
    /// What it used, with the children that it waited for.
    pub usage: Usage,
    /// The limit that ended it, as far as that can be told.
    pub exceeded: Option<Limit>,
}

/// A limit that can end a command ([`crate::Limits`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// The sandbox's memory was used up while it ran, and a process was killed for it. Only a
    /// control group tells.
    Memory,
    /// It went on for longer than its processor time (SIGXCPU).
    CpuSeconds,
    /// It wrote beyond the size of a file, and did not handle that (SIGXFSZ).
    FileSize,
    /// Its time was over.
    WallSeconds,
}

impl Limit {
    /// `memory`, `cpuSeconds`, `fileSize` or `wallSeconds`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Limit::Memory => "memory",
            Limit::CpuSeconds => "cpuSeconds",
            Limit::FileSize => "fileSize",
            Limit::WallSeconds => "wallSeconds",
        }
    }
}

/// Resources that a command used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in user mode.
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
    /// The largest resident set of any one process, in bytes.
    pub max_rss: u64,
    /// The most memory, in bytes, that the sandbox as a whole has used until then, if a control group
    /// keeps its limit.
    pub peak_memory: Option<u64>,
    /// The most processes and threads of the sandbox at a time until then, if a control group keeps
    /// their limit and tells.
    pub peak_processes: Option<u64>,
}

/// What is told about a command as it happens; both run on nono's own thread and must not block.
pub struct Callbacks {
    /// The command runs (with this process number, as seen inside), or could not be started.
    pub started: Box<dyn FnOnce(Result<i32>) + Send>,
    /// It has ended. Not called when it was never started.
    pub exited: Box<dyn FnOnce(Exit) + Send>,
}

/// A running command.
#[derive(Debug)]
pub struct Child {
    pub(crate) handle: CommandHandle,
    pub(crate) exit: mpsc::Receiver<Exit>,
}

/// A command that was asked for, to send signals to.
#[derive(Debug)]
pub struct CommandHandle {
    pub(crate) inner: Arc<Inner>,
    pub(crate) id: u32,
    pub(crate) terminal: Option<Terminal>,
}

impl Exit {
    /// What `nono-init` reported, with what the control group tells. `memory_kills` is how many it
    /// told when the command was started.
    pub(crate) fn of(report: &p::Report, cgroup: &Cgroup, memory_kills: u64) -> Self {
        let status = ExitStatus::from_raw(report.status);
        let peaks = cgroup.peaks();
        let usage = Usage {
            user: Duration::from_micros(report.user_us),
            system: Duration::from_micros(report.system_us),
            max_rss: report.max_rss_kib * 1024,
            peak_memory: peaks.memory,
            peak_processes: peaks.processes,
        };
        let exceeded = match status.signal() {
            _ if report.flags & p::REPORT_OVERTIME != 0 => Some(Limit::WallSeconds),
            Some(libc::SIGXCPU) => Some(Limit::CpuSeconds),
            Some(libc::SIGXFSZ) => Some(Limit::FileSize),
            _ if cgroup.memory_kills() > memory_kills => Some(Limit::Memory),
            _ => None,
        };
        Exit { status, usage, exceeded }
    }

    /// Of a command whose sandbox is gone.
    pub(crate) fn gone() -> Self {
        let status = ExitStatus::from_raw(libc::SIGKILL);
        Exit { status, usage: Usage::default(), exceeded: None }
    }
}

impl CommandHandle {
    /// The owner's end of its terminal, once, if it was asked for ([`crate::Command::terminal`]).
    pub fn take_terminal(&mut self) -> Option<Terminal> {
        self.terminal.take()
    }

    /// Sends a signal to the command's process group. Nothing happens when it has ended.
    pub fn kill(&self, signal: i32) {
        self.inner.signal(self.id, signal);
    }
}

impl Child {
    /// The owner's end of its terminal, once, if it was asked for ([`crate::Command::terminal`]).
    pub fn take_terminal(&mut self) -> Option<Terminal> {
        self.handle.take_terminal()
    }

    /// Waits until the command has ended. A terminal that was not taken stays open meanwhile, unread:
    /// a command that shows much waits for it to be read.
    #[must_use]
    pub fn wait(self) -> Exit {
        self.exit.recv().unwrap_or(Exit::gone())
    }

    /// Ends the command: SIGTERM, and SIGKILL if it has not ended after the grace period.
    #[must_use]
    pub fn terminate(self, grace: Duration) -> Exit {
        self.kill(libc::SIGTERM);
        match self.exit.recv_timeout(grace) {
            Err(mpsc::RecvTimeoutError::Timeout) => {
                self.kill(libc::SIGKILL);
                self.wait()
            }
            ended => ended.unwrap_or(Exit::gone()),
        }
    }

    /// Sends a signal to the command's process group. Nothing happens when it has ended.
    pub fn kill(&self, signal: i32) {
        self.handle.kill(signal);
    }
}

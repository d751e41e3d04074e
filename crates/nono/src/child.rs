//! Commands as they run: what is told about them, and what can be done to them.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Arc, mpsc};
use std::time::Duration;

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
        let gone = Exit { status: ExitStatus::from_raw(libc::SIGKILL), usage: Usage::default() };
        self.exit.recv().unwrap_or(gone)
    }

    /// Sends a signal to the command's process group. Nothing happens when it has ended.
    pub fn kill(&self, signal: i32) {
        self.handle.kill(signal);
    }
}

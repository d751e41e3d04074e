//! What commands attempted, and what became of it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::judge::{Reason, Right};
use crate::suggestion::{self, Suggestion};

/// How much of what commands do is told about, as [`Event`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Observe {
    /// Nothing beyond what has to be decided anyway.
    Off,
    /// What changes files or attributes, every program that starts, every process that ends, the network,
    /// and refused system calls.
    #[default]
    Changes,
    /// Reading, too.
    All,
}

/// One attempt of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What was attempted.
    pub operation: Operation,
    /// On what.
    pub target: Target,
    /// How the kernel answered: 0, or an errno. `None`: it went on unseen, since no rule refuses it:
    /// reading, giving a socket an address, or a connection that takes its time. A connection that is
    /// under way (`EINPROGRESS`) is told as made.
    pub errno: Option<i32>,
    /// Set if a rule of the sandbox refused it.
    pub refused: Option<Refusal>,
    /// Whether it was let through on somebody's word ([`crate::Approver`]).
    pub approved: bool,
    /// Who attempted it; shared by the events of one program in a row.
    pub process: Arc<Process>,
    /// How many attempts this stands for: more than one when they came faster than they were read.
    pub count: u64,
    /// When the first of them was made, by the clock on the wall.
    pub time: SystemTime,
    /// The same, since the machine started (`CLOCK_MONOTONIC`).
    pub monotonic: Duration,
}

impl Event {
    /// The narrowest grant that would let it pass, if it was refused and there is one to advise.
    #[must_use]
    pub fn suggestion(&self) -> Option<Suggestion> {
        suggestion::for_event(self)
    }
}

/// What can be attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Opening to read.
    Read,
    /// Opening to write, or truncating.
    Write,
    /// Making a file.
    Create,
    /// Making a directory.
    MakeDirectory,
    /// Making a symbolic link.
    Symlink,
    /// Giving a file another name.
    Link,
    /// Moving a file or directory.
    Rename,
    /// Deleting a file or directory.
    Delete,
    /// Changing mode, owner, times or extended attributes.
    Attributes,
    /// Starting a program.
    Execute,
    /// Connecting a socket.
    Connect,
    /// Giving a socket an address.
    Bind,
    /// Waiting for connections to a socket.
    Listen,
    /// A system call that the sandbox refuses whatever it is about.
    SystemCall,
    /// Ending by itself. What a signal ends does not attempt it.
    Exit,
}

impl Operation {
    /// A stable name, such as `create`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Read => "read",
            Operation::Write => "write",
            Operation::Create => "create",
            Operation::MakeDirectory => "make-directory",
            Operation::Symlink => "symlink",
            Operation::Link => "link",
            Operation::Rename => "rename",
            Operation::Delete => "delete",
            Operation::Attributes => "attributes",
            Operation::Execute => "execute",
            Operation::Connect => "connect",
            Operation::Bind => "bind",
            Operation::Listen => "listen",
            Operation::SystemCall => "system-call",
            Operation::Exit => "exit",
        }
    }

    /// The right that it takes to a path.
    #[must_use]
    pub fn right(self) -> Right {
        match self {
            Operation::Read => Right::Read,
            Operation::Execute => Right::Execute,
            _ => Right::Write,
        }
    }
}

/// What an attempt is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A path.
    Path {
        /// As the kernel names it, without symbolic links. Of a script that was executed, its
        /// interpreter.
        path: PathBuf,
        /// As the command named it; of a script that was executed, the script.
        asked: PathBuf,
        /// The second path of a rename or link.
        to: Option<PathBuf>,
    },
    /// A socket's address, such as `127.0.0.1:80`, `[::1]:80` or the path of a unix socket.
    Address(String),
    /// A system call, by name; of a socket with its kind: `socket(AF_INET, SOCK_RAW)`.
    SystemCall(String),
    /// The code that a process ends with.
    ExitCode(u8),
}

/// Which rule refused an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What did: `landlock`, `mounts`, `supervisor` or `seccomp`.
    pub layer: &'static str,
    /// Why.
    pub reason: Reason,
}

/// A process inside, as it was when it attempted something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its number, as this process sees it.
    pub pid: i32,
    /// The command that it descends from, by the number that the command was started with. Only of
    /// refused attempts, as is all below but the program.
    pub command: i32,
    /// The leader of its session, by the same numbers: its command too, if neither that nor a parent
    /// has ended or made a session of its own.
    pub session: i32,
    /// Its program.
    pub executable: PathBuf,
    /// Its arguments.
    pub arguments: Vec<std::ffi::OsString>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// The programs of its parents, up to the command.
    pub chain: Vec<PathBuf>,
    /// Where in its code: `module+offset` of the return addresses on its stack, innermost first.
    pub frames: Vec<String>,
}

/// Events in between: the supervisor puts them in and never waits, whoever reads takes them out.
#[derive(Clone)]
pub struct Events(Arc<Mutex<Queue>>);

struct Queue {
    waiting: VecDeque<Event>,
    refused: u64,
    lost: Lost,
    /// Called when the first event arrives in an empty queue.
    wake: Option<Box<dyn Fn() + Send>>,
}

/// Events that did not fit: nobody read them in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Attempts that were not refused.
    pub allowed: u64,
    /// Attempts that were.
    pub refused: u64,
}

/// Above this many waiting events, like ones become one with a count.
const CROWDED: usize = 4096;
/// No more than these wait.
const FULL: usize = 16_384;

impl Default for Events {
    fn default() -> Self {
        let (waiting, lost) = (VecDeque::new(), Lost::default());
        Events(Arc::new(Mutex::new(Queue { waiting, refused: 0, lost, wake: None })))
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Events").field("waiting", &self.lock().waiting.len()).finish()
    }
}

impl Events {
    /// Has `wake` called, on a thread of nono's that it must not hold up, whenever an event arrives
    /// where none was waiting.
    pub fn on_arrival(&self, wake: impl Fn() + Send + 'static) {
        let mut queue = self.lock();
        if !queue.waiting.is_empty() {
            wake();
        }
        queue.wake = Some(Box::new(wake));
    }

    /// Calls nobody any more. What waits can still be taken.
    pub fn forget_arrival(&self) {
        let wake = self.lock().wake.take();
        drop(wake); // not under the lock: it may own what owns us
    }

    /// Takes the oldest events out, at most so many, and what was lost since the last time.
    #[must_use]
    pub fn take(&self, most: usize) -> (Vec<Event>, Lost) {
        let mut queue = self.lock();
        let count = most.min(queue.waiting.len());
        let taken = queue.waiting.drain(..count).collect();
        (taken, std::mem::take(&mut queue.lost))
    }

    /// How many attempts have been refused so far, whether their events were read or lost.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.lock().refused
    }

    /// Whether more wait than will be told one by one: then details are not worth their cost.
    pub(crate) fn is_crowded(&self) -> bool {
        self.lock().waiting.len() >= CROWDED
    }

    pub(crate) fn put(&self, event: Event) {
        let mut queue = self.lock();
        queue.refused += u64::from(event.refused.is_some());
        if queue.waiting.len() >= CROWDED
            && let Some(like) = queue.waiting.iter_mut().rev().take(64).find(|waiting| {
                (waiting.operation, &waiting.target, waiting.errno, &waiting.refused)
                    == (event.operation, &event.target, event.errno, &event.refused)
                    && waiting.process.pid == event.process.pid
            })
        {
            like.count += 1;
            return;
        }
        if queue.waiting.len() >= FULL {
            // A refusal takes the place of something that was allowed, if there is any.
            let allowed = queue.waiting.iter().position(|waiting| waiting.refused.is_none());
            match (event.refused.is_some(), allowed) {
                (true, Some(at)) => {
                    let gone = queue.waiting.remove(at).map_or(0, |gone| gone.count);
                    queue.lost.allowed += gone;
                }
                (true, None) => return queue.lost.refused += 1,
                (false, _) => return queue.lost.allowed += 1,
            }
        }
        queue.waiting.push_back(event);
        if queue.waiting.len() == 1
            && let Some(wake) = &queue.wake
        {
            wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

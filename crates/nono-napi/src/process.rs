//! Commands: their descriptors, how they start, how they end.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;

use napi::bindgen_prelude::{Either, Object, Uint8Array};
use napi::{Env, Result};
use napi_derive::napi;
use nono::{Callbacks, Command, CommandHandle, Error, Exit, Sandbox, TerminalSize};

use crate::convert::os_string;
use crate::error;
use crate::promise::Eventual;
use crate::terminal::Relay;

/// A command to start.
#[napi(object)]
pub struct NativeCommand {
    /// The program and its arguments.
    pub argv: Vec<Either<String, Uint8Array>>,
    /// The working directory.
    pub cwd: Option<Either<String, Uint8Array>>,
    /// Variables over the sandbox's own.
    pub env: Option<HashMap<String, String>>,
    /// By descriptor of the command: `pipe`, `ignore`, or one of ours to duplicate.
    pub stdio: Vec<Either<String, i32>>,
    /// A new terminal, instead of `stdio`.
    pub terminal: Option<NativeTerminalSize>,
}

/// The size of a terminal, in characters.
#[napi(object)]
pub struct NativeTerminalSize {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

impl From<NativeTerminalSize> for TerminalSize {
    fn from(given: NativeTerminalSize) -> Self {
        TerminalSize { columns: given.columns, rows: given.rows }
    }
}

/// What a command used.
#[napi(object)]
#[derive(Clone)]
pub struct NativeUsage {
    /// Milliseconds in user mode.
    pub user_ms: f64,
    /// Milliseconds in the kernel.
    pub system_ms: f64,
    /// Largest resident set in bytes.
    pub max_rss_bytes: f64,
    /// Most memory of the sandbox as a whole, in bytes, if that is known.
    pub peak_memory_bytes: Option<f64>,
    /// Most processes and threads of the sandbox, if that is known.
    pub peak_processes: Option<f64>,
}

/// How a command ended.
#[napi(object, use_nullable = true)]
#[derive(Clone)]
pub struct NativeExit {
    /// Its exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it, by number.
    pub signal: Option<i32>,
    /// What it used.
    pub usage: NativeUsage,
    /// The limit that ended it, by its name among the limits.
    #[napi(ts_type = "\"memory\" | \"cpuSeconds\" | \"fileSize\" | \"wallSeconds\" | null")]
    pub exceeded: Option<String>,
}

/// A command that was asked for.
#[napi]
pub struct NativeChild {
    stdio: Vec<Option<RawFd>>,
    terminal: Option<(RawFd, Relay)>,
    handle: CommandHandle,
    started: Eventual<i32>,
    exited: Eventual<NativeExit>,
}

#[napi]
impl NativeChild {
    /// Our ends of the pipes, by descriptor of the command; the caller closes them.
    #[napi(getter, ts_return_type = "Array<number | null>")]
    pub fn stdio(&self) -> Vec<Option<i32>> {
        self.stdio.clone()
    }

    /// A socket that leads to its terminal, if it has one; the caller closes it.
    #[napi(getter, ts_return_type = "number | null")]
    pub fn terminal(&self) -> Option<i32> {
        self.terminal.as_ref().map(|(socket, _)| *socket)
    }

    /// Changes the size of its terminal.
    #[napi]
    pub fn resize(&self, size: NativeTerminalSize) -> Result<()> {
        match &self.terminal {
            Some((_, relay)) => Ok(relay.resize(size.into())?),
            None => Ok(()),
        }
    }

    /// Whether it has shown something that has not arrived at the socket yet.
    #[napi]
    pub fn has_pending_output(&self) -> bool {
        self.terminal.as_ref().is_some_and(|(_, relay)| relay.has_pending_output())
    }

    /// The process number, once the program runs.
    #[napi(ts_return_type = "Promise<number>")]
    pub fn started<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        self.started.promise(env)
    }

    /// How it ended. Never settles if it was not started.
    #[napi(ts_return_type = "Promise<NativeExit>")]
    pub fn exited<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        self.exited.promise(env)
    }

    /// Sends a signal to the command's process group.
    #[napi]
    pub fn kill(&self, signal: i32) {
        self.handle.kill(signal);
    }
}

/// Starts a command.
pub(crate) fn spawn(sandbox: &Sandbox, given: NativeCommand) -> Result<NativeChild> {
    let mut command = Command::new(given.argv.into_iter().map(os_string));
    if let Some(cwd) = given.cwd {
        command = command.cwd(os_string(cwd));
    }
    for (name, value) in given.env.unwrap_or_default() {
        command = command.env(name, value);
    }
    let (theirs, ours) = match given.terminal {
        Some(size) => {
            command = command.terminal(size.into());
            (Vec::new(), Vec::new())
        }
        None => open_stdio(&given.stdio).map_err(cannot("opening its descriptors"))?,
    };
    let (started, exited) = (Eventual::new(), Eventual::new());
    let callbacks = Callbacks {
        started: Box::new({
            let started = started.clone();
            move |result: nono::Result<i32>| {
                started.set(result.map_err(|failure| error::to_napi(&failure).reason.to_string()));
            }
        }),
        exited: Box::new({
            let exited = exited.clone();
            move |exit| exited.set(Ok(native_exit(&exit)))
        }),
    };
    let mut handle = sandbox
        .spawn_with(command.stdio(theirs), callbacks)
        .map_err(|failure| error::to_napi(&failure))?;
    let stdio = ours.into_iter().map(|end| end.map(IntoRawFd::into_raw_fd)).collect();
    let terminal = match handle.take_terminal() {
        Some(terminal) => Some(Relay::start(terminal).map_err(cannot("relaying its terminal"))?),
        None => None,
    };
    let terminal = terminal.map(|(socket, relay)| (socket.into_raw_fd(), relay));
    Ok(NativeChild { stdio, terminal, handle, started, exited })
}

/// For `map_err`: the command could not be started.
fn cannot(stage: &'static str) -> impl Fn(io::Error) -> napi::Error {
    move |source| {
        error::to_napi(&Error::SpawnFailed { program: "the command".into(), stage, source })
    }
}

fn native_exit(exit: &Exit) -> NativeExit {
    NativeExit {
        code: exit.status.code(),
        signal: exit.status.signal(),
        usage: NativeUsage {
            user_ms: exit.usage.user.as_secs_f64() * 1e3,
            system_ms: exit.usage.system.as_secs_f64() * 1e3,
            max_rss_bytes: exit.usage.max_rss as f64,
            peak_memory_bytes: exit.usage.peak_memory.map(|bytes| bytes as f64),
            peak_processes: exit.usage.peak_processes.map(|count| count as f64),
        },
        exceeded: exit.exceeded.map(|limit| limit.as_str().into()),
    }
}

/// The command's ends in order, and ours where there is a pipe.
type Stdio = (Vec<OwnedFd>, Vec<Option<OwnedFd>>);

fn open_stdio(given: &[Either<String, i32>]) -> io::Result<Stdio> {
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for (index, choice) in given.iter().enumerate() {
        let (their, our) = match choice {
            Either::A(word) if word == "pipe" => {
                let (their, our) = pipe(index == 0)?;
                (their, Some(our))
            }
            Either::A(_) => {
                (File::options().read(true).write(true).open("/dev/null")?.into(), None)
            }
            Either::B(fd) if *fd >= 0 => {
                // SAFETY: borrowed only for the duplication, which fails for a number that is not
                // an open descriptor.
                let shared = unsafe { BorrowedFd::borrow_raw(*fd) }.try_clone_to_owned()?;
                if index <= 2 {
                    make_blocking(&shared)?;
                }
                (shared, None)
            }
            Either::B(_) => return Err(io::Error::from_raw_os_error(libc::EBADF)),
        };
        theirs.push(their);
        ours.push(our);
    }
    Ok((theirs, ours))
}

/// As programs expect their first three. Importing `node:process` is enough for libuv to make pipes
/// there non-blocking, for all who share them; it does the same as this for its own children
/// (`uv__process_child_init` in src/unix/process.c).
fn make_blocking(shared: &OwnedFd) -> io::Result<()> {
    let fd = shared.as_raw_fd();
    // SAFETY: no memory is involved; `shared` is open.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & libc::O_NONBLOCK == 0 {
        return Ok(());
    }
    // SAFETY: as above.
    match unsafe { libc::fcntl(fd, libc::F_SETFL, flags & !libc::O_NONBLOCK) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A pipe: their end blocks as programs expect, ours does not.
fn pipe(they_read: bool) -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: the kernel writes two descriptors.
    if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: two new descriptors that nobody else owns.
    let [reader, writer] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    let (their, our, raw) =
        if they_read { (reader, writer, ends[1]) } else { (writer, reader, ends[0]) };
    // SAFETY: no memory is involved; `our` is open.
    if unsafe { libc::fcntl(raw, libc::F_SETFL, libc::O_NONBLOCK) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((their, our))
}

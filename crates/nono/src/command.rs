//! A command to run in a sandbox.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nono_init::protocol::MAX_FDS;

use crate::error::{Error, Result};
use crate::policy::{self, Policy};
use crate::terminal::TerminalSize;
use crate::{executable, payload::PayloadBuilder};

/// What to run: a program with its arguments, where, with which variables and descriptors.
///
/// ```
/// use nono::Command;
///
/// let command = Command::new(["git", "status"]).cwd("/tmp").env("GIT_PAGER", "cat");
/// # let _ = command;
/// ```
#[derive(Debug, Default)]
pub struct Command {
    argv: Vec<OsString>,
    cwd: Option<PathBuf>,
    environment: BTreeMap<OsString, OsString>,
    stdio: Vec<OwnedFd>,
    terminal: Option<TerminalSize>,
}

impl Command {
    /// A program and its arguments. The program is an absolute path, or a name that is looked up in
    /// the sandbox's `PATH`.
    #[must_use]
    pub fn new(argv: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Command { argv: argv.into_iter().map(Into::into).collect(), ..Command::default() }
    }

    /// The working directory: absolute. By default the first writable directory of the
    /// capabilities, else the first readable one, else `/`.
    #[must_use]
    pub fn cwd(mut self, path: impl Into<PathBuf>) -> Self {
        self.cwd = Some(path.into());
        self
    }

    /// Sets a variable for this command, over the sandbox's own.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// The descriptors that become 0, 1, 2, … of the command. None: all three are `/dev/null`.
    #[must_use]
    pub fn stdio(mut self, fds: Vec<OwnedFd>) -> Self {
        self.stdio = fds;
        self
    }

    /// Runs it on a new terminal of this size, which becomes its controlling terminal and its
    /// descriptors 0, 1 and 2; [`Command::stdio`] is not used then. The owner's end is
    /// [`crate::Child::take_terminal`]. `TERM` is `xterm-256color` unless it is set.
    #[must_use]
    pub fn terminal(mut self, size: TerminalSize) -> Self {
        self.terminal = Some(size);
        self
    }

    /// Checks everything that can be checked before anything starts, and packs the rest.
    pub(crate) fn prepare(self, policy: &Policy) -> Result<Prepared> {
        let [program, ..] = self.argv.as_slice() else {
            return Err(Error::InvalidArgv { reason: "it is empty" });
        };
        if program.is_empty() {
            return Err(Error::InvalidArgv { reason: "the program's name is empty" });
        }
        if self.argv.iter().any(|argument| argument.as_bytes().contains(&0)) {
            return Err(Error::InvalidArgv { reason: "an argument contains a NUL byte" });
        }
        if self.stdio.len() >= MAX_FDS {
            return Err(Error::InvalidArgv { reason: "more than 63 descriptors" });
        }
        let mut environment = policy.environment.clone();
        environment.set(&self.environment)?;
        if self.terminal.is_some() {
            environment.set_default("TERM", "xterm-256color");
        }
        let allowed = |path: &Path| check_program(path, policy).is_ok();
        let program = executable::look_up_allowed(program, environment.search_path(), allowed)?;
        check_program(&program, policy)?;
        let cwd = match self.cwd {
            Some(cwd) => {
                policy::working_directory(&cwd)?;
                cwd
            }
            None => policy.default_cwd.clone(),
        };
        let argv = self.argv.into_iter().map(c_string).collect();
        Ok(Prepared {
            program,
            cwd,
            argv,
            environment: environment.entries(),
            stdio: self.stdio,
            terminal: self.terminal,
        })
    }
}

/// A checked command.
pub(crate) struct Prepared {
    pub(crate) program: PathBuf,
    pub(crate) stdio: Vec<OwnedFd>,
    cwd: PathBuf,
    argv: Vec<CString>,
    environment: Vec<CString>,
    pub(crate) terminal: Option<TerminalSize>,
}

impl Prepared {
    /// The request's payload for `nono-init`.
    pub(crate) fn payload(&self) -> std::io::Result<OwnedFd> {
        use nono_init::protocol::{SPAWN_TERMINAL, Spawn};
        let mut builder = PayloadBuilder::new::<Spawn>();
        let header = Spawn {
            program: builder.string(&c_string(self.program.clone().into_os_string())),
            cwd: builder.string(&c_string(self.cwd.clone().into_os_string())),
            argv: builder.strings(&self.argv),
            argc: self.argv.len() as u32,
            envp: builder.strings(&self.environment),
            envc: self.environment.len() as u32,
            stdio_count: self.stdio.len() as u32,
            flags: if self.terminal.is_some() { SPAWN_TERMINAL } else { 0 },
        };
        builder.finish(&header)
    }
}

/// The kernel would refuse it too; but only here it can be said which capability is missing.
fn check_program(program: &Path, policy: &Policy) -> Result<()> {
    let path = policy::canonical(program)?;
    if !executable::is_executable(&path) {
        return Err(Error::ExecNotFound {
            name: program.as_os_str().to_owned(),
            search_path: "that place (it is not an executable file)".into(),
        });
    }
    if !policy.access_to(&path).execute {
        return Err(Error::ExecNotAllowed { path: program.to_owned() });
    }
    Ok(())
}

/// For strings that were checked for NUL.
fn c_string(string: OsString) -> CString {
    CString::new(string.into_vec()).unwrap_or_default()
}

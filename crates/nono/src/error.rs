//! What can go wrong, each with a stable code and a remedy.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// The result of this crate's operations.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a sandbox or a command was refused or failed.
///
/// Every error is raised before anything has started, but [`Error::SpawnFailed`],
/// [`Error::SandboxFailed`] and [`Error::Closed`], which say at which stage it stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A path that no rule can be made of.
    #[error("{}: {reason}", path.display())]
    InvalidPath {
        /// The path as given.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A granted path that does not exist or cannot be reached.
    #[error("{}: {source}", path.display())]
    PathNotFound {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A command line that cannot be passed to a program.
    #[error("invalid command line: {reason}")]
    InvalidArgv {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An environment variable that cannot be set.
    #[error("invalid environment variable {name:?}: {reason}")]
    InvalidEnv {
        /// The variable.
        name: OsString,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A working directory that a command cannot enter.
    #[error("cannot work in {}: {source}", path.display())]
    InvalidCwd {
        /// The directory as given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Capabilities that contradict each other or make no sense.
    #[error("{field}: {reason}")]
    InvalidCapabilities {
        /// Which capability.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A program that is nowhere on the search path.
    #[error("no program {name:?} in {search_path}")]
    ExecNotFound {
        /// The name as given.
        name: OsString,
        /// The directories that were searched.
        search_path: String,
    },
    /// A program that the capabilities do not allow to be executed.
    #[error("{} is not allowed to be executed", path.display())]
    ExecNotAllowed {
        /// The program.
        path: PathBuf,
    },
    /// Promises that the policy needs and that this machine cannot keep.
    #[error("this machine cannot enforce: {}", guarantees.join(", "))]
    UnsupportedPolicy {
        /// Names of the guarantees, as in [`crate::Guarantee::name`]; and, of what would not work at all
        /// here and so cannot be accepted, `net-gate`, `net-ports`, `unix-sockets` and `fs-overlay`.
        guarantees: Vec<String>,
    },
    /// No sandbox of any kind is possible here.
    #[error("no sandbox is possible here: {reason}")]
    UnsupportedPlatform {
        /// What is missing.
        reason: String,
    },
    /// A command that could not be started.
    #[error("could not start {program}: {stage}: {source}", program = program.display())]
    SpawnFailed {
        /// The program.
        program: PathBuf,
        /// What was being done.
        stage: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A sandbox that could not be built.
    #[error("could not build the sandbox: {stage}: {source}")]
    SandboxFailed {
        /// What was being done.
        stage: String,
        /// What the system said.
        source: io::Error,
    },
    /// This process could not be restricted.
    #[error("could not restrict this process: {stage}: {source}")]
    RestrictFailed {
        /// What was being done.
        stage: &'static str,
        /// What the system said.
        source: io::Error,
        /// Whether some of its threads are restricted now, and others not.
        partial: bool,
    },
    /// The sandbox was closed, or its init died.
    #[error("the sandbox is closed")]
    Closed,
}

impl Error {
    /// A stable identifier for programs, such as `ERR_NONO_PATH_NOT_FOUND`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Error::InvalidPath { .. } => "ERR_NONO_INVALID_PATH",
            Error::PathNotFound { .. } => "ERR_NONO_PATH_NOT_FOUND",
            Error::InvalidArgv { .. } => "ERR_NONO_INVALID_ARGV",
            Error::InvalidEnv { .. } => "ERR_NONO_INVALID_ENV",
            Error::InvalidCwd { .. } => "ERR_NONO_INVALID_CWD",
            Error::InvalidCapabilities { .. } => "ERR_NONO_INVALID_CAPABILITIES",
            Error::ExecNotFound { .. } => "ERR_NONO_EXEC_NOT_FOUND",
            Error::ExecNotAllowed { .. } => "ERR_NONO_EXEC_NOT_ALLOWED",
            Error::UnsupportedPolicy { .. } => "ERR_NONO_UNSUPPORTED_POLICY",
            Error::UnsupportedPlatform { .. } => "ERR_NONO_UNSUPPORTED_PLATFORM",
            Error::SpawnFailed { .. } => "ERR_NONO_SPAWN_FAILED",
            Error::SandboxFailed { .. } => "ERR_NONO_SANDBOX_FAILED",
            Error::RestrictFailed { .. } => "ERR_NONO_RESTRICT_FAILED",
            Error::Closed => "ERR_NONO_SANDBOX_CLOSED",
        }
    }

    /// What the caller can do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Error::InvalidPath { .. } => {
                "give an absolute path without NUL bytes and without symbolic link loops, and what a link \
                 leads to by its own path"
                    .into()
            }
            Error::PathNotFound { .. } => {
                "create the path first, or leave it out of the capabilities".into()
            }
            Error::InvalidArgv { .. } => "give at least a program, and no NUL bytes".into(),
            Error::InvalidEnv { .. } => {
                "use a name without `=` and NUL, and a value without NUL".into()
            }
            Error::InvalidCwd { .. } => {
                "give an absolute path of a directory that the user may enter".into()
            }
            Error::InvalidCapabilities { field, .. } => format!("correct `{field}`"),
            Error::ExecNotFound { .. } => {
                "install the program, give its absolute path, or extend PATH".into()
            }
            Error::ExecNotAllowed { path } => {
                format!("allow it: allowExec({:?})", path.display().to_string())
            }
            Error::UnsupportedPolicy { guarantees } => remedy_of_gaps(guarantees),
            Error::UnsupportedPlatform { .. } => {
                "use Linux 5.13 or newer with Landlock enabled (CONFIG_SECURITY_LANDLOCK, and \
                 `landlock` among the `lsm=` boot parameter's values)"
                    .into()
            }
            Error::SpawnFailed { .. } => {
                "check that the program runs outside the sandbox and that its files are granted"
                    .into()
            }
            Error::SandboxFailed { .. } => {
                "run `nono doctor` to see what this machine supports".into()
            }
            Error::RestrictFailed { partial: true, .. } => {
                "end this process: some of its threads are restricted, others are not".into()
            }
            Error::RestrictFailed { .. } => {
                "restrict the process earlier, or run the code in a sandbox instead".into()
            }
            Error::Closed => "create a new sandbox".into(),
        }
    }

    /// The value at fault, as text, if there is one.
    #[must_use]
    pub fn value(&self) -> Option<String> {
        let shown = |path: &Path| Some(path.display().to_string());
        match self {
            Error::InvalidPath { path, .. }
            | Error::PathNotFound { path, .. }
            | Error::InvalidCwd { path, .. }
            | Error::ExecNotAllowed { path } => shown(path),
            Error::SpawnFailed { program, .. } => shown(program),
            Error::InvalidEnv { name, .. } | Error::ExecNotFound { name, .. } => {
                Some(name.to_string_lossy().into_owned())
            }
            Error::UnsupportedPolicy { guarantees } => Some(guarantees.join(", ")),
            Error::InvalidCapabilities { field, .. } => Some((*field).into()),
            _ => None,
        }
    }
}

/// Parts of a policy without which nothing that they are for would work, by the names of what is missing.
const NOT_TO_BE_ACCEPTED: [(&str, &str); 4] = [
    ("net-gate", "network \"gate\""),
    ("net-ports", "localhostPorts and publish"),
    ("unix-sockets", "unixSockets"),
    ("fs-overlay", "overlay mounts"),
];

fn remedy_of_gaps(guarantees: &[String]) -> String {
    let part = |name: &String| NOT_TO_BE_ACCEPTED.iter().find(|(known, _)| known == name);
    let needed: Vec<&str> = guarantees.iter().filter_map(part).map(|(_, part)| *part).collect();
    let gaps: Vec<&String> = guarantees.iter().filter(|name| part(name).is_none()).collect();
    let mut remedies = Vec::new();
    if !needed.is_empty() {
        remedies.push(format!("leave out {}, which cannot work here", needed.join(", ")));
    }
    if !gaps.is_empty() {
        let accepted = format!("accept the gap by name (allowDegraded: {gaps:?})");
        remedies.push(accepted);
    }
    format!(
        "{}, or run where all of it is kept (`nono doctor` says what this machine lacks)",
        remedies.join("; ")
    )
}

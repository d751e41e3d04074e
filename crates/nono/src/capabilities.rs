//! What a sandbox's commands may do, as declared by its user.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Everything that commands of one sandbox may do. What is not granted is refused.
///
/// ```
/// use nono::{Capabilities, Network};
///
/// let capabilities = Capabilities::new()
///     .allow_read("/usr/share/dict")
///     .allow_write("/tmp")
///     .allow_exec("cat")
///     .network(Network::Blocked);
/// # let _ = capabilities;
/// ```
#[derive(Clone, Debug)]
pub struct Capabilities {
    pub(crate) read: Vec<PathBuf>,
    pub(crate) write: Vec<PathBuf>,
    pub(crate) scratch: Vec<PathBuf>,
    pub(crate) exec: Vec<PathBuf>,
    pub(crate) deny: Vec<PathBuf>,
    pub(crate) protect: bool,
    pub(crate) network: Network,
    pub(crate) localhost_ports: Vec<u16>,
    pub(crate) publish: Vec<u16>,
    pub(crate) unix_sockets: Vec<PathBuf>,
    pub(crate) environment: EnvironmentGrant,
    pub(crate) limits: Limits,
    pub(crate) private_tmp: bool,
    pub(crate) base_profile: bool,
}

/// What commands can reach over the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Nothing: no internet socket can be made, unless for ports of [`Capabilities::allow_localhost`]
    /// and [`Capabilities::publish`].
    #[default]
    Blocked,
    /// Whatever a program connects to, on one of these ports, arrives at a listener that is served
    /// from outside ([`crate::GateListener`]), and so do its DNS queries; all else is refused.
    /// Loopback is private: servers of the sandbox are reached there, and none of the host's.
    ///
    /// In the namespaces tier that is a private network in which every address is local. In the flat
    /// tier the supervisor makes each connection to the gate instead: the program's
    /// `getpeername(2)` names the gate, and DNS goes over TCP, which C libraries are told by
    /// `RES_OPTIONS`.
    Gate {
        /// TCP ports that programs may connect to; 53 always leads to DNS.
        ports: Vec<u16>,
    },
    /// Everything the host reaches, over TCP and UDP.
    Open,
}

/// Which variables of the owner's environment commands see, and which are set for them.
#[derive(Clone, Debug, Default)]
pub(crate) struct EnvironmentGrant {
    pub(crate) allow: Vec<String>,
    pub(crate) set: BTreeMap<OsString, OsString>,
}

/// Bounds on what commands may use. `None`: the owner's own bound.
///
/// The first three are kept by a control group for the sandbox as a whole, where this process may
/// make one; [`crate::Sandbox::guarantees`] says what keeps each of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Memory, in bytes. Without a control group: of each process, for its data (`RLIMIT_DATA`).
    /// The private `/tmp` then holds half of it, and `/dev/shm` a fifth; otherwise a quarter and a
    /// tenth of the machine's memory.
    pub memory: Option<u64>,
    /// Processes and threads. Without a control group `RLIMIT_NPROC` keeps it, which counts all of
    /// the user's in the flat tier, and which does not bind root: then it is refused
    /// (`limit-processes`).
    pub processes: Option<u64>,
    /// Processors, such as 0.5. Needs a control group, and is refused without (`limit-cpus`).
    pub cpus: Option<f64>,
    /// Open files of a process (`RLIMIT_NOFILE`); in any case no more than three quarters of what this
    /// process could raise its own limit to.
    pub open_files: Option<u64>,
    /// Size of a file written, in bytes (`RLIMIT_FSIZE`).
    pub file_size: Option<u64>,
    /// Processor time of a process, in seconds (`RLIMIT_CPU`): SIGXCPU when they are over, SIGKILL
    /// a second later.
    pub cpu_seconds: Option<u64>,
    /// Time that a command may run, in seconds, at most 2,000,000: SIGTERM to its process group when
    /// they are over, SIGKILL two seconds later. Kept by `nono-init`, whatever its owner does.
    pub wall_seconds: Option<u32>,
}

impl Default for Capabilities {
    fn default() -> Self {
        Capabilities {
            read: Vec::new(),
            write: Vec::new(),
            scratch: Vec::new(),
            exec: Vec::new(),
            deny: Vec::new(),
            protect: true,
            network: Network::Blocked,
            localhost_ports: Vec::new(),
            publish: Vec::new(),
            unix_sockets: Vec::new(),
            environment: EnvironmentGrant::default(),
            limits: Limits::default(),
            private_tmp: true,
            base_profile: true,
        }
    }
}

impl Capabilities {
    /// No capability but the base system profile, which lets ordinary programs start: system
    /// libraries, locale data, certificates, `/dev/null` and its like.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Grants reading a file, or a directory with all below it. It does not grant executing.
    ///
    /// A path means what it leads to when the sandbox is made. One that leads through a symbolic link that
    /// commands may replace by another grant is refused, unless that grants what it leads to, too.
    #[must_use]
    pub fn allow_read(mut self, path: impl Into<PathBuf>) -> Self {
        self.read.push(path.into());
        self
    }

    /// Grants reading and modifying a file; or, for a directory, also creating, renaming and
    /// deleting whatever is below it.
    ///
    /// Moving or linking a file to where more may be done with it, such as executing, is answered as
    /// between two file systems (EXDEV), upon which programs copy; so it is, in the namespaces tier,
    /// between directories that were granted separately.
    #[must_use]
    pub fn allow_write(mut self, path: impl Into<PathBuf>) -> Self {
        self.write.push(path.into());
        self
    }

    /// Grants writing a directory of the sandbox's own, which nobody outside uses and which its owner
    /// deletes afterwards: no name in it is protected ([`Capabilities::protect`]).
    #[must_use]
    pub fn allow_scratch(mut self, directory: impl Into<PathBuf>) -> Self {
        self.scratch.push(directory.into());
        self
    }

    /// Grants executing a program: an absolute path, a bare name looked up in the sandbox's `PATH`,
    /// or a directory of programs. What it needs to start comes along: its loader, or a script's
    /// interpreter.
    ///
    /// An interpreter that is allowed runs any script that it can read.
    #[must_use]
    pub fn allow_exec(mut self, program: impl Into<PathBuf>) -> Self {
        self.exec.push(program.into());
        self
    }

    /// Refuses a path inside what is granted: a file, or a directory with all below it, whether it
    /// exists or comes to exist later. With `*`, `?`, `[…]`, `{…}` or `**` in it, it is a pattern,
    /// which begins with `/` or with `**/`: every path of that form, judged at each access. Case does
    /// not count.
    ///
    /// Renaming, linking or mounting something does not lead around it. A command may still see that
    /// it exists (`stat(2)`).
    #[must_use]
    pub fn deny(mut self, path: impl Into<PathBuf>) -> Self {
        self.deny.push(path.into());
        self
    }

    /// Whether names that programs outside take orders from (git hooks, executable keys of git's
    /// configuration, `.vscode`, `.claude`, `.mcp.json`, `.envrc`, `.bashrc` …) stay as they are in
    /// writable directories; they do unless this is called with `false`. A write grant for such a
    /// path itself makes an exception, and so does a directory of [`Capabilities::allow_scratch`].
    #[must_use]
    pub fn protect(mut self, protected: bool) -> Self {
        self.protect = protected;
        self
    }

    /// Passes a variable of the owner's environment on; `PREFIX_*` passes all that begin so.
    #[must_use]
    pub fn allow_env(mut self, name: impl Into<String>) -> Self {
        self.environment.allow.push(name.into());
        self
    }

    /// Sets a variable for all commands of the sandbox.
    #[must_use]
    pub fn set_env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.set.insert(name.into(), value.into());
        self
    }

    /// What the network offers; [`Network::Blocked`] unless said otherwise.
    #[must_use]
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Grants connecting to the host's service on this port of its loopback: commands reach it on the
    /// same port of theirs, and nothing else of the host's loopback.
    #[must_use]
    pub fn allow_localhost(mut self, port: u16) -> Self {
        self.localhost_ports.push(port);
        self
    }

    /// Lets processes of the host reach a server that commands run on this port of their loopback.
    /// [`crate::Sandbox::published`] says on which port of the host's; the same if it is free.
    #[must_use]
    pub fn publish(mut self, port: u16) -> Self {
        self.publish.push(port);
        self
    }

    /// Grants connecting to a unix socket of the host, which must exist: this very socket, not a
    /// later one at the same path. Sockets that commands bind themselves need no grant.
    ///
    /// The service sees the sandbox's owner as its peer (`SO_PEERCRED` in `unix(7)`), and whatever
    /// it does for its clients it does for the commands.
    #[must_use]
    pub fn allow_unix_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.unix_sockets.push(path.into());
        self
    }

    /// Bounds on what commands may use.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Whether commands have a place of their own for temporary files; they have unless this is called
    /// with `false`. In the namespaces tier that is `/tmp`, in memory. In the flat tier it is a new
    /// directory of the machine's that ends with the sandbox, named by `TMPDIR`; `/tmp` is the
    /// machine's there, and what of it may be used has to be granted.
    #[must_use]
    pub fn private_tmp(mut self, private: bool) -> Self {
        self.private_tmp = private;
        self
    }

    /// Whether the base system profile is granted; it is unless this is called with `false`.
    #[must_use]
    pub fn base_profile(mut self, granted: bool) -> Self {
        self.base_profile = granted;
        self
    }
}

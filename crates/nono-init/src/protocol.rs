//! What a sandbox's owner and its `nono-init` say to each other.
//!
//! Both ends are built from this one file, and always travel together: the layout is not versioned.
//! Every message is one packet. A request that carries data carries it as a memory file, whose
//! first bytes are a header from this file and whose strings are named by offsets.

/// The number under which `nono-init` finds its end of the control socket when it starts.
pub const CONTROL_FD: i32 = 3;

/// The most file descriptors that one message can carry. The kernel's own bound is 253
/// (`SCM_MAX_FD`).
pub const MAX_FDS: usize = 64;

/// The most commands that can run in one sandbox at the same time.
pub const MAX_COMMANDS: usize = 4096;

/// The most trees or sockets that a plan can hold open at once.
pub const MAX_REGISTERS: usize = 512;

/// An offset that means "no string" (a null pointer in the system call it ends up in).
pub const NONE: u32 = 0;

/// What the owner asks. `kind` is one of the constants below.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    /// [`SETUP`], [`SPAWN`], [`SIGNAL`] or [`MAKE_SOCKETS`].
    pub kind: u32,
    /// Chosen by the owner, repeated in the answer. [`SIGNAL`]: that of the command.
    pub id: u32,
    /// [`SIGNAL`]: which one.
    pub signal: i32,
}

/// Build the sandbox. Fds: the plan ([`Plan`]), the Landlock ruleset if the plan has one, then trees.
pub const SETUP: u32 = 1;
/// Start a command. Fds: the command ([`Spawn`]), then its 0, 1, 2, …
pub const SPAWN: u32 = 2;
/// Send a signal to a command's process group.
pub const SIGNAL: u32 = 3;

/// Make TCP sockets that do not block in the sandbox's network namespace. Answered by
/// [`SOCKETS_MADE`].
pub const MAKE_SOCKETS: u32 = 4;

/// What `nono-init` reports. `kind` is one of the constants below.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// [`READY`], [`SETUP_FAILED`], [`STARTED`], [`START_FAILED`] or [`EXITED`].
    pub kind: u32,
    /// The id of the request that this answers.
    pub id: u32,
    /// The process, as `nono-init` numbers it.
    pub pid: i32,
    /// Where it failed: the index of a plan's step, or one of the `STAGE_` constants.
    pub stage: u32,
    /// Why it failed, or the wait status of an [`EXITED`] command.
    pub status: i32,
    /// `REPORT_` bits.
    pub flags: u32,
    /// Time spent in user mode by the command and its reaped children, in microseconds.
    pub user_us: u64,
    /// Time spent in the kernel, in microseconds.
    pub system_us: u64,
    /// The largest resident set of any one of them, in KiB.
    pub max_rss_kib: u64,
}

/// The sandbox stands. Fds: the plan's sockets in order, then the seccomp listener if asked for.
pub const READY: u32 = 1;
/// It could not be built; `nono-init` ends.
pub const SETUP_FAILED: u32 = 2;
/// A command's program has replaced its starter: execve succeeded.
pub const STARTED: u32 = 3;
/// It could not be started.
pub const START_FAILED: u32 = 4;
/// A command has ended and was reaped.
pub const EXITED: u32 = 5;

/// The sockets that were asked for. Fds: one of IPv4, then one of IPv6 if the kernel has it.
pub const SOCKETS_MADE: u32 = 6;
/// [`EXITED`]: its time was over.
pub const REPORT_OVERTIME: u32 = 1;

/// Stages of [`SETUP_FAILED`] beyond the plan's own steps.
pub const STAGE_PLAN: u32 = 0x1_0000;
/// Becoming a child subreaper, or starting the guarded half.
pub const STAGE_GUARD: u32 = 0x1_0001;
/// Setting a resource limit.
pub const STAGE_LIMITS: u32 = 0x1_0002;
/// Dropping capabilities.
pub const STAGE_CAPABILITIES: u32 = 0x1_0003;
/// `no_new_privs`.
pub const STAGE_NO_NEW_PRIVS: u32 = 0x1_0004;
/// `landlock_restrict_self`.
pub const STAGE_LANDLOCK: u32 = 0x1_0005;
/// Installing the seccomp filter.
pub const STAGE_SECCOMP: u32 = 0x1_0006;

/// Stages of [`START_FAILED`].
pub const STAGE_REQUEST: u32 = 1;
/// Entering the working directory.
pub const STAGE_CWD: u32 = 2;
/// Making fd 0 the controlling terminal.
pub const STAGE_TERMINAL: u32 = 3;
/// Putting the command's file descriptors in place.
pub const STAGE_STDIO: u32 = 4;
/// Making the new process.
pub const STAGE_CLONE: u32 = 5;
/// `execve` of the program.
pub const STAGE_EXEC: u32 = 6;
/// Setting the limit of open files.
pub const STAGE_OPEN_FILES: u32 = 8;
/// Something in the sandbox stopped the new process before it had executed its program.
pub const STAGE_STOPPED: u32 = 7;

/// First bytes of a [`SETUP`] payload.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    /// `PLAN_` bits.
    pub flags: u32,
    /// Offset and number of [`Step`]s.
    pub steps: u32,
    /// How many.
    pub step_count: u32,
    /// Offset and number of `struct sock_filter`s.
    pub filter: u32,
    /// How many; 0: no filter.
    pub filter_count: u32,
    /// Offset and number of [`Limit`]s.
    pub limits: u32,
    /// How many.
    pub limit_count: u32,
    /// The limit of open files, of commands alone: what can be raised to.
    pub open_files_hard: u32,
    /// What is enforced.
    pub open_files_soft: u32,
    /// Seconds after which a command is ended: SIGTERM to its process group, and SIGKILL
    /// [`GRACE_MS`] later. 0: never.
    pub wall_seconds: u32,
}

/// Stay outside a pid namespace: a guard process keeps everything together.
pub const PLAN_FLAT: u32 = 1;
/// The second fd is a Landlock ruleset to enter.
pub const PLAN_LANDLOCK: u32 = 2;
/// Send the seccomp listener with [`READY`].
pub const PLAN_LISTENER: u32 = 4;
/// The kernel can confine signals to a Landlock domain (ABI 6).
pub const PLAN_SCOPES: u32 = 8;

/// One `setrlimit`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Limit {
    /// `RLIMIT_`.
    pub resource: u32,
    /// Explicit padding.
    pub reserved: u32,
    /// What is enforced, by a signal where there is one.
    pub soft: u64,
    /// What the soft limit can be raised to.
    pub hard: u64,
}

/// Milliseconds between the two signals that end a command whose time is over.
pub const GRACE_MS: u32 = 2000;

/// The most seconds that a plan can give to commands: `nono-init` counts milliseconds in 32 bits,
/// and half of them are the past.
pub const MAX_WALL_SECONDS: u32 = 2_000_000;

/// One step of a plan: an operation and its operands. Strings are offsets into the payload.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Step {
    /// `STEP_`, perhaps with [`OPTIONAL`].
    pub op: u32,
    /// The path (or target) that the step acts on.
    pub path: u32,
    /// A second string: a mount's source, a link's target, a file's contents.
    pub source: u32,
    /// A mount's file system type.
    pub kind: u32,
    /// A mount's options.
    pub data: u32,
    /// A register: a tree or socket that a later step uses.
    pub register: u32,
    /// Flags, mode, port or access rights.
    pub flags: u64,
    /// The length of contents; a socket's options.
    pub extra: u64,
}

/// Added to an operation: carry on when it fails, because less then exists inside, not more.
pub const OPTIONAL: u32 = 0x8000_0000;
/// Added to an operation: its path had no symbolic links when it was planned, and none is followed.
pub const RESOLVED: u32 = 0x4000_0000;

/// `mount(source, path, kind, flags, data)`; [`RESOLVED`]: with `path` as the working directory.
pub const STEP_MOUNT: u32 = 1;
/// `register = open_tree(path, flags)`.
pub const STEP_OPEN_TREE: u32 = 2;
/// `move_mount(register -> path)`.
pub const STEP_MOVE_TREE: u32 = 3;
/// `mount_setattr(path, AT_RECURSIVE, set flags)`.
pub const STEP_MOUNT_ATTRIBUTES: u32 = 4;
/// `mkdir(path, flags)`; an existing directory is fine.
pub const STEP_MKDIR: u32 = 5;
/// Create the file `path` with mode `flags`; an existing one is fine.
pub const STEP_CREATE: u32 = 6;
/// `symlink(source, path)`.
pub const STEP_SYMLINK: u32 = 7;
/// Write `extra` bytes at `source` to the file `path`.
pub const STEP_WRITE: u32 = 8;
/// Add a Landlock rule for `path` with the access rights `flags`.
pub const STEP_LANDLOCK_RULE: u32 = 9;
/// Bring the loopback interface up.
pub const STEP_LOOPBACK_UP: u32 = 10;
/// Make every address of a family local (`flags`: 4 or 6): an AnyIP route.
pub const STEP_LOCAL_ROUTE: u32 = 11;
/// Give the loopback device the IPv4 address `flags`, its bytes in network order.
pub const STEP_ADDRESS: u32 = 16;
/// Open a socket on port `flags`, any address, family `kind` (4 or 6), `data` 1: stream (listening),
/// 2: datagram, with the options `extra`; it is sent with [`READY`] in the order of the steps.
pub const STEP_LISTEN: u32 = 12;
/// Option of [`STEP_LISTEN`]: on the loopback address only.
pub const LISTEN_ON_LOOPBACK: u64 = 1;
/// Option of [`STEP_LISTEN`]: another step listens on the same port of other addresses.
pub const LISTEN_SHARED: u64 = 2;
/// Open a socket that answers about this network namespace's sockets (`sock_diag(7)`); it is sent
/// with [`READY`] in the order of the steps.
pub const STEP_SOCKET_DIAGNOSIS: u32 = 13;
/// Open `path` as a place (`O_PATH`); it is sent with [`READY`] in the order of the steps.
pub const STEP_OPEN_PLACE: u32 = 14;
/// `register = ` the tree that came with the plan as number `flags`, counted from 0.
pub const STEP_GIVEN_TREE: u32 = 15;

/// First bytes of a [`SPAWN`] payload.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Spawn {
    /// The program's path.
    pub program: u32,
    /// The working directory.
    pub cwd: u32,
    /// Offset of a table of 64-bit offsets to the arguments, ended by 0.
    pub argv: u32,
    /// Number of arguments.
    pub argc: u32,
    /// Offset of a table of 64-bit offsets to `NAME=value` strings, ended by 0.
    pub envp: u32,
    /// Number of variables.
    pub envc: u32,
    /// How many fds follow the payload: they become 0, 1, 2, … of the command.
    pub stdio_count: u32,
    /// `SPAWN_` bits.
    pub flags: u32,
}

/// Fd 0 is a terminal: make it the controlling one.
pub const SPAWN_TERMINAL: u32 = 1;

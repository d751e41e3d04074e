//! How each limit is kept, and what the report says of it.

use std::sync::{Mutex, PoisonError};

use nono_init::protocol::{Limit, MAX_WALL_SECONDS};

use crate::capabilities::Limits;
use crate::cgroup::{Cgroup, Controller};
use crate::error::{Error, Result};
use crate::guarantees::{Guarantee, Status};
use crate::seccomp;
use crate::tier::TierName;

/// Refuses limits that cannot be meant.
pub(crate) fn check(limits: &Limits) -> Result<()> {
    let refuse = |reason: String| Err(Error::InvalidCapabilities { field: "limits", reason });
    let whole = [
        ("memory", limits.memory),
        ("processes", limits.processes),
        ("open files", limits.open_files),
        ("processor seconds", limits.cpu_seconds),
        ("seconds", limits.wall_seconds.map(u64::from)),
    ];
    if let Some((name, _)) = whole.into_iter().find(|(_, value)| *value == Some(0)) {
        return refuse(format!("with no {name} nothing can run"));
    }
    if limits.wall_seconds.is_some_and(|seconds| seconds > MAX_WALL_SECONDS) {
        return refuse(format!("a command can be given {MAX_WALL_SECONDS} seconds at most"));
    }
    match limits.cpus {
        // Less is too little for the kernel, which counts in periods of 100 ms (CONFIG_CFS_BANDWIDTH).
        Some(cpus) if !(0.01..=1e6).contains(&cpus) => {
            refuse(format!("{cpus} is not a number of processors from 0.01 to 1,000,000"))
        }
        _ => Ok(()),
    }
}

/// `RLIMIT_` as the C library has it.
#[cfg(target_env = "musl")]
type Resource = libc::c_int;
#[cfg(not(target_env = "musl"))]
type Resource = libc::__rlimit_resource_t;

/// The limits that each process has for itself (`setrlimit(2)`), where no control group keeps them
/// for the sandbox as a whole.
pub(crate) fn of_each_process(limits: &Limits, cgroup: &Cgroup) -> Vec<Limit> {
    let memory = limits.memory.filter(|_| !cgroup.keeps(Controller::Memory));
    // nono-init is one of those that the kernel counts.
    let processes = limits.processes.filter(|_| !cgroup.keeps(Controller::Processes));
    let processes = processes.map(|count| count.saturating_add(1));
    let limit = |resource: Resource, soft: Option<u64>, slack: u64| {
        let resource = resource as _;
        soft.map(|soft| Limit { resource, reserved: 0, soft, hard: soft.saturating_add(slack) })
    };
    [
        // Not RLIMIT_AS: V8, Go and others reserve address space by the gigabyte that they never
        // use, and do not start without it.
        limit(libc::RLIMIT_DATA, memory, 0),
        limit(libc::RLIMIT_NPROC, processes, 0),
        limit(libc::RLIMIT_NOFILE, limits.open_files, 0),
        limit(libc::RLIMIT_FSIZE, limits.file_size, 0),
        // SIGXCPU at the first, SIGKILL at the second.
        limit(libc::RLIMIT_CPU, limits.cpu_seconds, 1),
        // An owner whose own limit is 0 cannot give more.
        limit(libc::RLIMIT_CORE, Some(seccomp::CORE_LIMIT.min(limit_of(libc::RLIMIT_CORE).1)), 0),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// How many descriptors of this process one sandbox may take up by what it does, of a kind: a small share of
/// all, so that a sandbox can't bring its owner, and the owner's other sandboxes, to have none left.
pub(crate) fn share_of_descriptors() -> usize {
    let (soft, _) = limit_of(libc::RLIMIT_NOFILE);
    usize::try_from(soft / 8).unwrap_or(usize::MAX).clamp(64, 8192)
}

/// How many files each command may have open, and what it can raise that to: the owner's, or what was asked
/// for. In messages between processes there may be as many descriptors of a user, in all, as this limit of
/// the one that sends says; so that owners can still send some, commands have no more than three quarters of
/// what an owner can raise its own to.
pub(crate) fn of_open_files(limits: &Limits) -> (u32, u32) {
    let (soft, hard) = limit_of(libc::RLIMIT_NOFILE);
    let most = hard.saturating_sub(hard / 4).min(limits.open_files.unwrap_or(u64::MAX));
    let soft = soft.min(most);
    [soft, most].map(|number| u32::try_from(number).unwrap_or(u32::MAX)).into()
}

/// Does something while this process may have as many files open as it can allow itself.
pub(crate) fn with_raised_open_files<T>(work: impl FnOnce() -> T) -> T {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (soft, hard) = limit_of(libc::RLIMIT_NOFILE);
    let set = |soft| {
        let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
        // SAFETY: `limit` lives across the call. Within the hard limit nothing is refused.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    };
    set(hard);
    let done = work();
    set(soft);
    done
}

/// A limit of this process, and what it may raise that to.
pub(crate) fn limit_of(resource: Resource) -> (u64, u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel fills the structure.
    unsafe { libc::getrlimit(resource, &raw mut limit) };
    (limit.rlim_cur, limit.rlim_max)
}

/// What is promised of the limits that were asked for.
pub(crate) fn report(
    limits: &Limits,
    tier: TierName,
    landlock_abi: i32,
    cgroup: &Cgroup,
) -> Vec<Guarantee> {
    const CGROUP: &str = "control group of the sandbox";
    let memory = || {
        if cgroup.keeps(Controller::Memory) {
            return Guarantee::enforced("limit-memory", CGROUP);
        }
        Guarantee::weaker(
            "limit-memory",
            Status::Partial,
            "RLIMIT_DATA",
            "there is no control group to divide here: each process may use so much for itself, and \
             memory that is shared between processes is not counted",
        )
    };
    let processes = || {
        // SAFETY: cannot fail.
        let is_root = unsafe { libc::geteuid() } == 0;
        if cgroup.keeps(Controller::Processes) {
            Guarantee::enforced("limit-processes", CGROUP)
        } else if is_root {
            Guarantee::weaker(
                "limit-processes",
                Status::Absent,
                "none",
                "there is no control group to divide here, and RLIMIT_NPROC does not bind root",
            )
        } else if tier == TierName::Namespaces && counts_by_namespace(landlock_abi) {
            Guarantee::enforced("limit-processes", "RLIMIT_NPROC in the user namespace")
        } else {
            Guarantee::weaker(
                "limit-processes",
                Status::Partial,
                "RLIMIT_NPROC",
                "there is no control group to divide here: the kernel counts all processes of the \
                 user, also those outside",
            )
        }
    };
    let cpus = || {
        Guarantee::when(
            cgroup.keeps(Controller::Cpus),
            "limit-cpus",
            CGROUP,
            "there is no control group to divide here",
        )
    };
    [
        limits.memory.map(|_| memory()),
        limits.processes.map(|_| processes()),
        limits.cpus.map(|_| cpus()),
        limits.open_files.map(|_| Guarantee::enforced("limit-open-files", "RLIMIT_NOFILE")),
        limits.file_size.map(|_| Guarantee::enforced("limit-file-size", "RLIMIT_FSIZE")),
        limits.cpu_seconds.map(|_| Guarantee::enforced("limit-cpu-seconds", "RLIMIT_CPU")),
        limits.wall_seconds.map(|_| Guarantee::enforced("limit-wall-seconds", "nono-init")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Whether RLIMIT_NPROC counts the processes of a user namespace for themselves: since Linux 5.14
/// (kernel/ucount.c, UCOUNT_RLIMIT_NPROC), which came before this Landlock ABI (5.19).
fn counts_by_namespace(landlock_abi: i32) -> bool {
    landlock_abi >= 2
}

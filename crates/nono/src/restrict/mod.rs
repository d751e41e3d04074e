//! Restricting this very process, for good.

mod threads;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use nono_init::protocol::Limit;

use crate::capabilities::{Capabilities, Network};
use crate::cgroup::Cgroup;
use crate::error::{Error, Result};
use crate::guarantees::{self, Guarantee, Status};
use crate::policy::{Access, Policy};
use crate::seccomp::{self, Supervised};
use crate::tier::TierName;
use crate::{limits, ruleset, support};

/// Restricts this process to the capabilities: all its threads, and whatever they start from now on.
/// Nothing can take that back. Calling it again restricts further.
///
/// No supervisor can stand beside a process that restricts itself, so what only a supervisor keeps
/// is refused as a policy: a gate, ports, unix sockets, `deny`, and protected names in writable
/// directories unless [`Capabilities::protect`] is `false`. Neither can it take back what the process
/// has: descriptors that are open stay open, what is in its memory and environment stays there, and
/// children that run already are not touched. Root loses its capabilities (`capabilities(7)`).
/// Sandboxes that this process owns should be closed before. Limits, priorities and processors are
/// those of the calling process only: calls that name one by its number, even its own, are refused
/// (EPERM). There is no inotify, since nobody would ask what may be watched.
///
/// Landlock restricts one thread at a time (`landlock_restrict_self(2)`): each other thread is made
/// to restrict itself by a signal that the C library keeps for just that, for its `setuid(2)`, and
/// which no thread of its making blocks.
///
/// # Errors
/// Those of [`crate::Sandbox::create`]; [`Error::RestrictFailed`] if the kernel refused a step. When
/// that says `partial`, some threads are restricted and others are not: end the process.
///
/// ```no_run
/// use nono::{Capabilities, restrict_self};
///
/// # fn main() -> nono::Result<()> {
/// restrict_self(&Capabilities::new().allow_read("/workspace"), &[])?;
/// assert!(std::fs::read("/etc/shadow").is_err());
/// # Ok(())
/// # }
/// ```
pub fn restrict_self(
    capabilities: &Capabilities,
    allow_degraded: &[String],
) -> Result<Vec<Guarantee>> {
    if let Some(reason) = support::missing_basics() {
        return Err(Error::UnsupportedPlatform { reason });
    }
    let abi = support::landlock_abi();
    let mut policy = Policy::resolve(capabilities, std::env::vars_os())?;
    // What it is told about itself: its memory and descriptors are its own anyway.
    let own = PathBuf::from(format!("/proc/{}", std::process::id()));
    policy.rules.entry(own).or_insert(Access::READ);
    let has_rings = has_rings();
    let guarantees = report(&policy, abi, has_rings);
    let missing = missing(&policy, &guarantees, allow_degraded);
    if !missing.is_empty() {
        return Err(Error::UnsupportedPolicy { guarantees: missing });
    }
    let ruleset = ruleset::build(&policy, TierName::Flat, abi)?;
    let filter = seccomp::own_filter(policy.internet_sockets(TierName::Flat), has_rings);

    let failed = |partial: bool| {
        move |(stage, source): (&'static str, io::Error)| Error::RestrictFailed {
            stage,
            source,
            partial,
        }
    };
    let turn = threads::Turn::take();
    threads::check().map_err(failed(false))?;
    threads::install(filter.instructions()).map_err(failed(false))?;
    let (cores, limits): (Vec<_>, Vec<_>) =
        limits::of_each_process(&policy.limits, &Cgroup::default())
            .into_iter()
            .partition(|limit| limit.resource == libc::RLIMIT_CORE as _);
    // Afterwards this one would only seem to be set.
    set_limits(&cores).map_err(|source| failed(true)(("setting resource limits", source)))?;
    turn.restrict(ruleset.as_fd()).map_err(failed(true))?;
    set_limits(&limits).map_err(|source| failed(true)(("setting resource limits", source)))?;
    Ok(guarantees)
}

/// Whether this process has made rings of `io_uring(7)`, as libuv does in Node 24 and later to watch
/// descriptors. It ends itself when it can use them no longer.
fn has_rings() -> bool {
    let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") else { return true };
    descriptors.flatten().any(|entry| {
        std::fs::read_link(entry.path())
            .is_ok_and(|target| target.as_os_str() == "anon_inode:[io_uring]")
    })
}

fn report(policy: &Policy, abi: i32, has_rings: bool) -> Vec<Guarantee> {
    let nobody = Cgroup::default();
    let mut report = guarantees::report(policy, TierName::Flat, abi, Supervised::default());
    report.extend(limits::report(&policy.limits, TierName::Flat, abi, &nobody));
    let rings = |name| {
        let reason = "this process has io_uring rings from before, whose operations no filter sees: native code in it can use them";
        Guarantee::weaker(name, Status::Partial, "seccomp", reason)
    };
    let gone = |name, reason| Guarantee::weaker(name, Status::Absent, "none", reason);
    let mut weaker: BTreeMap<_, _> = [
        gone("inherited-fds", "descriptors that are open stay open"),
        gone("environment", "the process has its environment already"),
        gone("process-tree", "what it starts can outlive it"),
        gone("limit-wall-seconds", "nobody stands beside the process to end it"),
    ]
    .map(|guarantee| (guarantee.name, guarantee))
    .into();
    if has_rings {
        for name in ["net-udp", "net-raw", "net-unix", "kernel-surface"] {
            weaker.insert(name, rings(name));
        }
    }
    for guarantee in &mut report {
        if let Some(weaker) = weaker.remove(guarantee.name) {
            *guarantee = weaker;
        }
    }
    report
}

/// Names of what only a supervisor could keep, besides the usual.
fn missing(policy: &Policy, report: &[Guarantee], accepted: &[String]) -> Vec<String> {
    let mut missing = guarantees::missing(report, accepted);
    let mut need = |needed: bool, name: &str| {
        if needed && !missing.iter().chain(accepted).any(|known| known == name) {
            missing.push(name.to_owned());
        }
    };
    need(policy.limits.wall_seconds.is_some(), "limit-wall-seconds");
    // Not to be accepted: without them nothing of it would work.
    if policy.mediates_network() {
        let gate = matches!(policy.network, Network::Gate { .. });
        missing.push(if gate { "net-gate" } else { "net-ports" }.into());
    }
    if !policy.unix_sockets.is_empty() {
        missing.push("unix-sockets".into());
    }
    missing
}

fn set_limits(limits: &[Limit]) -> io::Result<()> {
    for limit in limits {
        let pair = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
        // SAFETY: `pair` lives across the call.
        if unsafe { libc::setrlimit(limit.resource as _, &raw const pair) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

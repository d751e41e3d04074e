//! The plan by which `nono-init` builds the sandbox.

use std::io;
use std::os::fd::OwnedFd;

use nono_init::protocol::{self as p, Limit, Plan};

use crate::capabilities::Limits;
use crate::payload::PayloadBuilder;
use crate::policy::Policy;
use crate::seccomp;

/// The plan of a sandbox without namespaces.
pub(crate) fn flat(policy: &Policy, landlock_abi: i32) -> io::Result<OwnedFd> {
    let mut builder = PayloadBuilder::new::<Plan>();
    let filter = seccomp::filter(policy.network);
    let limits = limits(&policy.limits);
    let scopes = if landlock_abi >= 6 { p::PLAN_SCOPES } else { 0 };
    let header = Plan {
        flags: p::PLAN_FLAT | p::PLAN_LANDLOCK | scopes,
        filter: builder.records(filter.instructions()),
        filter_count: filter.instructions().len() as u32,
        limits: builder.records(&limits),
        limit_count: limits.len() as u32,
        ..Plan::default()
    };
    builder.finish(&header)
}

fn limits(limits: &Limits) -> Vec<Limit> {
    [
        (libc::RLIMIT_AS, limits.memory),
        (libc::RLIMIT_NPROC, limits.processes),
        (libc::RLIMIT_NOFILE, limits.open_files),
        (libc::RLIMIT_FSIZE, limits.file_size),
        (libc::RLIMIT_CPU, limits.cpu_seconds),
        (libc::RLIMIT_CORE, Some(0)), // a core file would hold whatever the agent held
    ]
    .into_iter()
    .filter_map(|(resource, value)| Some(Limit { resource, reserved: 0, value: value? }))
    .collect()
}

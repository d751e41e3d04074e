//! The plan by which `nono-init` builds the sandbox: steps, then the lock-down.

mod mounts;
mod names;
mod network;
mod programs;

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nono_init::protocol::{self as p, Step};

pub(crate) use network::{Listener, Purpose};
pub(crate) use programs::PLACES as PROGRAM_PLACES;

use crate::cgroup::Cgroup;
use crate::limits;
use crate::overlay::Overlays;
use crate::payload::PayloadBuilder;
use crate::policy::Policy;
use crate::seccomp::{self, SocketAccess, Supervised};
use crate::tier::TierName;

/// A plan, packed, with what the owner needs to understand the answer.
pub(crate) struct Plan {
    pub(crate) payload: OwnedFd,
    /// What each step does, for the error that names it.
    pub(crate) steps: Vec<String>,
    /// What each socket in the answer is, after the places for programs and the mount namespace if
    /// programs can be granted.
    pub(crate) listeners: Vec<Listener>,
    /// The multiplexer of the sandbox's terminals follows them in the namespaces tier. Then, whether a
    /// socket to ask about unix sockets follows, and the supervisor's listener.
    pub(crate) supervised: Supervised,
}

impl Plan {
    /// The plan of a sandbox of this tier.
    pub(crate) fn new(
        policy: &Policy,
        tier: TierName,
        landlock_abi: i32,
        supervised: Supervised,
        cgroup: &Cgroup,
        overlays: &Overlays,
    ) -> io::Result<Self> {
        let mut builder = PlanBuilder::new(landlock_abi);
        let mut listeners = Vec::new();
        let mut flags = p::PLAN_LANDLOCK;
        match tier {
            TierName::Flat => flags |= p::PLAN_FLAT,
            TierName::Namespaces => {
                mounts::plan(&mut builder, policy, overlays, supervised.programs);
                listeners = network::plan(&mut builder, policy);
                mounts::hand_out_terminals(&mut builder);
            }
        }
        if landlock_abi >= 6 {
            flags |= p::PLAN_SCOPES;
        }
        if supervised.sockets != SocketAccess::None {
            let step = Step { op: p::STEP_SOCKET_DIAGNOSIS, ..Step::default() };
            builder.step("making a socket to ask about unix sockets", step);
        }
        if supervised.starts {
            flags |= p::PLAN_LISTENER;
        }
        builder.finish(policy, tier, flags, listeners, supervised, cgroup)
    }
}

/// Steps under construction.
struct PlanBuilder {
    payload: PayloadBuilder,
    steps: Vec<Step>,
    descriptions: Vec<String>,
    registers: u32,
    /// The Landlock rights that this kernel knows: a rule with others would be refused.
    landlock_rights: u64,
}

impl PlanBuilder {
    fn new(landlock_abi: i32) -> Self {
        PlanBuilder {
            landlock_rights: landlock_rights(landlock_abi),
            payload: PayloadBuilder::new::<p::Plan>(),
            steps: Vec::new(),
            descriptions: Vec::new(),
            registers: 0,
        }
    }

    /// Adds a step; `description` completes "could not build the sandbox: …".
    fn step(&mut self, description: impl Into<String>, step: Step) {
        self.steps.push(step);
        self.descriptions.push(description.into());
    }

    /// A path's offset in the payload.
    fn path(&mut self, path: &Path) -> u32 {
        self.bytes(path.as_os_str().as_bytes())
    }

    /// A string's offset in the payload. Paths of a policy were checked for NUL.
    fn bytes(&mut self, bytes: &[u8]) -> u32 {
        self.payload.string(&CString::new(bytes).unwrap_or_default())
    }

    fn register(&mut self) -> u32 {
        self.registers += 1;
        self.registers - 1
    }

    fn finish(
        mut self,
        policy: &Policy,
        tier: TierName,
        flags: u32,
        listeners: Vec<Listener>,
        supervised: Supervised,
        cgroup: &Cgroup,
    ) -> io::Result<Plan> {
        if self.registers as usize > p::MAX_REGISTERS {
            let message = format!("more than {} separate writable places", p::MAX_REGISTERS);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let filter = seccomp::filter(tier, policy.internet_sockets(tier), supervised);
        let mut limits = limits::of_each_process(&policy.limits, cgroup);
        limits.retain(|limit| limit.resource != libc::RLIMIT_NOFILE as _); // of commands alone
        let (open_files_soft, open_files_hard) = limits::of_open_files(&policy.limits);
        let header = p::Plan {
            flags,
            steps: self.payload.records(&self.steps),
            step_count: self.steps.len() as u32,
            filter: self.payload.records(filter.instructions()),
            filter_count: filter.instructions().len() as u32,
            limits: self.payload.records(&limits),
            limit_count: limits.len() as u32,
            open_files_hard,
            open_files_soft,
            wall_seconds: policy.limits.wall_seconds.unwrap_or_default(),
        };
        let payload = self.payload.finish(&header)?;
        Ok(Plan { payload, steps: self.descriptions, listeners, supervised })
    }
}

/// The file system rights of an ABI are its first so many bits (`linux/landlock.h`).
fn landlock_rights(abi: i32) -> u64 {
    let count = match abi {
        ..=1 => 13,
        2 => 14,
        3 | 4 => 15,
        _ => 16,
    };
    (1 << count) - 1
}

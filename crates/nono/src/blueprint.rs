//! From capabilities to a sandbox that stands.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nono_init::protocol as p;

use crate::capabilities::{Capabilities, Network};
use crate::channel::Channel;
use crate::error::{Error, Result};
use crate::guarantees;
use crate::launch::Init;
use crate::plan::{Listener, Plan};
use crate::policy::Policy;
use crate::sandbox::{GateListener, Options, Ready, Sandbox};
use crate::seccomp::Supervised;
use crate::supervisor::{Loaders, Supervisor, UnixSockets};
use crate::tier::TierName;
use crate::{ruleset, stage, supervisor, support};

/// Capabilities that were checked against this machine, ready to be built.
///
/// Drawing one reads this process's environment; building it can then be done by another thread.
#[derive(Debug)]
pub struct Blueprint {
    policy: Policy,
    options: Options,
    landlock_abi: i32,
}

impl Blueprint {
    /// Checks capabilities; nothing is started.
    ///
    /// # Errors
    /// [`Error::UnsupportedPlatform`] if no sandbox is possible here, or an error about a path,
    /// program or variable that is wrong.
    pub fn draw(capabilities: &Capabilities, options: &Options) -> Result<Self> {
        if let Some(reason) = support::missing_basics() {
            return Err(Error::UnsupportedPlatform { reason });
        }
        let policy = Policy::resolve(capabilities, std::env::vars_os())?;
        let landlock_abi = support::landlock_abi();
        Ok(Blueprint { policy, options: options.clone(), landlock_abi })
    }

    /// Builds the sandbox, in the strongest tier that works here unless one was asked for.
    ///
    /// # Errors
    /// [`Error::UnsupportedPolicy`] if a guarantee that the capabilities need cannot be given;
    /// [`Error::SandboxFailed`] if the kernel refused a step. Nothing is left running then.
    pub fn build(self) -> Result<Sandbox> {
        match self.options.tier {
            Some(tier) => self.build_tier(tier),
            None => match self.build_tier(TierName::Namespaces) {
                // Whatever refused them (a container, AppArmor, a limit), the other tier may do.
                Err(Error::SandboxFailed { .. }) => self.build_tier(TierName::Flat),
                other => other,
            },
        }
    }

    fn build_tier(&self, tier: TierName) -> Result<Sandbox> {
        if support::can_notify() {
            let sockets = supervisor::can_supervise_sockets();
            match self.build_with(tier, Supervised { starts: true, sockets }) {
                // One of our ancestors is supervised: a chain of filters has one listener at most
                // (`seccomp(2)`, EBUSY).
                Err(Error::SandboxFailed { source, .. })
                    if source.raw_os_error() == Some(libc::EBUSY) => {}
                other => return other,
            }
        }
        self.build_with(tier, Supervised::default())
    }

    fn build_with(&self, tier: TierName, supervised: Supervised) -> Result<Sandbox> {
        let network = &self.policy.network;
        let guarantees = guarantees::report(network, tier, self.landlock_abi, supervised);
        let mut missing = guarantees::missing(&guarantees, &self.options.allow_degraded);
        if tier == TierName::Flat && matches!(self.policy.network, Network::Gate { .. }) {
            missing.push("net-gate".into());
        }
        if !self.policy.unix_sockets.is_empty() && !supervised.sockets {
            missing.push("unix-sockets".into());
        }
        if !missing.is_empty() {
            return Err(Error::UnsupportedPolicy { guarantees: missing });
        }
        let ready = self.start(tier, supervised)?;
        Sandbox::of(ready, self.policy.clone(), tier, guarantees)
    }

    fn start(&self, tier: TierName, supervised: Supervised) -> Result<Ready> {
        let failed = |stage: &str| {
            let stage = stage.to_owned();
            move |source| Error::SandboxFailed { stage, source }
        };
        let ruleset = ruleset::build(&self.policy, self.landlock_abi)?;
        let plan = Plan::new(&self.policy, tier, self.landlock_abi, supervised)
            .map_err(failed("writing the plan"))?;
        let (channel, theirs) = Channel::pair().map_err(failed("making the control socket"))?;
        let init = Init::start(theirs, tier.namespaces(&self.policy.network))
            .map_err(failed("starting nono-init in its namespaces"))?;

        let setup = p::Request { kind: p::SETUP, ..p::Request::default() };
        let answer = channel
            .send(&setup, &[plan.payload.as_fd(), ruleset.as_fd()])
            .and_then(|()| channel.receive(0));
        let error = match answer {
            Ok(Some((report, mut sockets))) if report.kind == p::READY => {
                match self.supervise(tier, plan.supervised, &mut sockets) {
                    Ok(supervisor) => {
                        let terminals = match tier {
                            TierName::Namespaces => sockets.pop(),
                            TierName::Flat => None,
                        };
                        let listeners = plan.listeners.iter().zip(sockets).map(|(listener, fd)| {
                            let Listener { port, family, stream, dns } = *listener;
                            GateListener { port, family, stream, dns, fd }
                        });
                        let listeners = listeners.collect();
                        return Ok(Ready { channel, init, supervisor, listeners, terminals });
                    }
                    Err(source) => failed("starting the supervisor")(source),
                }
            }
            Ok(Some((report, _))) => Error::SandboxFailed {
                stage: plan
                    .steps
                    .get(report.stage as usize)
                    .cloned()
                    .unwrap_or_else(|| stage::of_setup(report.stage).into()),
                source: io::Error::from_raw_os_error(report.status),
            },
            Ok(None) => failed("waiting for nono-init")(io::ErrorKind::BrokenPipe.into()),
            Err(source) => failed("talking to nono-init")(source),
        };
        channel.shut_down();
        init.reap();
        Err(error)
    }

    /// Starts the supervisor with what arrived for it, which is taken from the end of `sockets`.
    fn supervise(
        &self,
        tier: TierName,
        supervised: Supervised,
        sockets: &mut Vec<OwnedFd>,
    ) -> io::Result<Option<Supervisor>> {
        if !supervised.starts {
            return Ok(None);
        }
        let mut arrived = || sockets.pop().ok_or(io::Error::from(io::ErrorKind::UnexpectedEof));
        let listener = supervisor::Listener::new(arrived()?);
        let programs = self.policy.rules.iter().filter(|(_, access)| access.execute);
        let loaders = Loaders::new(programs.map(|(path, _)| path.as_path()));
        let network = &self.policy.network;
        let has_own_network = tier.namespaces(network) & libc::CLONE_NEWNET != 0;
        let unix_sockets = match supervised.sockets {
            false => None,
            true => Some(UnixSockets {
                listed: self.policy.unix_sockets.clone(),
                diagnosis: arrived()?,
                bound: (!has_own_network).then(HashSet::new),
                internet: *network != Network::Blocked,
            }),
        };
        Supervisor::start(listener, loaders, unix_sockets).map(Some)
    }
}

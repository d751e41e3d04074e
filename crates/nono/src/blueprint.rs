//! From capabilities to a sandbox that stands.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nono_init::protocol as p;

use crate::approval::Remembered;
use crate::born::Born;
use crate::capabilities::{Capabilities, Network};
use crate::cgroup::Cgroup;
use crate::channel::Channel;
use crate::error::{Error, Result};
use crate::event::{Events, Observe};
use crate::guarantees;
use crate::judge::Judge;
use crate::launch::Init;
use crate::led::{self, LedNetwork};
use crate::overlay::{OverlayMount, Overlays};
use crate::plan::Plan;
use crate::policy::Policy;
use crate::private_tmp::PrivateTmp;
use crate::sandbox::{Options, Ready, Sandbox};
use crate::seccomp::{self, InternetSockets, Parked, SocketAccess, Supervised};
use crate::supervisor::{
    Callers, Desk, Diagnosis, Files, Hands, Internet, Loaders, MadeSockets, Programs, Queries,
    Recorder, Seats, Sockets, Starting, Supervisor, UnixSockets,
};
use crate::tier::TierName;
use crate::{limits, ruleset, stage, supervisor, support};

/// Capabilities that were checked against this machine, ready to be built.
///
/// Drawing one reads this process's environment; building it can then be done by another thread.
#[derive(Clone, Debug)]
pub struct Blueprint {
    policy: Arc<Policy>,
    options: Options,
    overlays: Vec<OverlayMount>,
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
        let policy = Arc::new(Policy::resolve(capabilities, std::env::vars_os())?);
        let landlock_abi = support::landlock_abi();
        let overlays =
            options.mounts.iter().map(|mount| mount.check(&policy)).collect::<Result<_>>()?;
        Ok(Blueprint { policy, options: options.clone(), overlays, landlock_abi })
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
                Err(Error::UnsupportedPolicy { guarantees }) => self
                    .build_tier(TierName::Flat)
                    .map_err(|_| Error::UnsupportedPolicy { guarantees }),
                other => other,
            },
        }
    }

    fn build_tier(&self, tier: TierName) -> Result<Sandbox> {
        if tier == TierName::Namespaces || !self.policy.private_tmp {
            return self.build_supervised(tier);
        }
        let failed = |source| Error::SandboxFailed {
            stage: "making a directory for temporary files".into(),
            source,
        };
        let tmp = PrivateTmp::create().map_err(failed)?;
        let policy = Policy::clone(&self.policy).with_private_tmp(tmp.path());
        let blueprint = Blueprint { policy: Arc::new(policy), ..self.clone() };
        let sandbox = blueprint.build_supervised(tier)?;
        sandbox.keep_until_closed(tmp);
        Ok(sandbox)
    }

    fn build_supervised(&self, tier: TierName) -> Result<Sandbox> {
        if support::can_notify() {
            let own_network = tier.has_own_network(&self.policy.network);
            let supervised = Supervised {
                starts: true,
                sockets: supervisor::socket_access(own_network),
                leads: tier == TierName::Flat && self.policy.mediates_network(),
                files: self.parked_files(tier),
                watches: supervisor::can_take_descriptors(),
                refusals: self.options.observe != Observe::Off,
                programs: tier == TierName::Namespaces && self.options.approver.is_some(),
            };
            match self.build_with(tier, supervised) {
                // One of our ancestors is supervised: a chain of filters has one listener at most
                // (`seccomp(2)`, EBUSY).
                Err(Error::SandboxFailed { source, .. })
                    if source.raw_os_error() == Some(libc::EBUSY) => {}
                other => return other,
            }
        }
        self.build_with(tier, Supervised::default())
    }

    /// The rules as the tier that was asked for would keep them, the namespaces tier if none was.
    pub(crate) fn judge(&self) -> Judge {
        Judge::new(self.policy.clone(), self.options.tier.unwrap_or(TierName::Namespaces))
    }

    /// Which file operations somebody has to judge, or wants to hear of.
    fn parked_files(&self, tier: TierName) -> Parked {
        let Blueprint { policy, options, .. } = self;
        let asks = options.approver.is_some();
        if !policy.deny.is_empty() || options.observe == Observe::All || asks {
            return Parked::All;
        }
        let protects = policy.protect && policy.has_writable_directory();
        // Nothing else judges changes of metadata in the tier `flat`, and nobody else moves anything from
        // one mount to another in the other one, nor directories in an overlay.
        let has_mounts = policy.writable_places() > 1 || !self.overlays.is_empty();
        if protects || options.observe == Observe::Changes || tier == TierName::Flat || has_mounts {
            return Parked::Changes;
        }
        Parked::None
    }

    fn build_with(&self, tier: TierName, supervised: Supervised) -> Result<Sandbox> {
        let cgroup = Cgroup::create(&self.policy.limits, tier);
        let mut guarantees = guarantees::report(&self.policy, tier, self.landlock_abi, supervised);
        guarantees.extend(limits::report(&self.policy.limits, tier, self.landlock_abi, &cgroup));
        let mut missing = guarantees::missing(&guarantees, &self.options.allow_degraded);
        if supervised.sockets == SocketAccess::None {
            if tier == TierName::Flat && self.policy.mediates_network() {
                let gate = matches!(self.policy.network, Network::Gate { .. });
                missing.push(if gate { "net-gate" } else { "net-ports" }.into());
            }
            if !self.policy.unix_sockets.is_empty() {
                missing.push("unix-sockets".into());
            }
        }
        if tier == TierName::Flat && !self.overlays.is_empty() {
            missing.push("fs-overlay".into());
        }
        if !missing.is_empty() {
            return Err(Error::UnsupportedPolicy { guarantees: missing });
        }
        let mut blueprint = self.clone();
        blueprint.policy.show(&cgroup);
        let ready = blueprint.start(tier, supervised, cgroup)?;
        let mut policy = blueprint.policy;
        if supervised.leads && matches!(policy.network, Network::Gate { .. }) {
            Arc::make_mut(&mut policy).environment.ask_dns_over_tcp(); // no datagram socket can be made
        }
        Sandbox::of(ready, policy, tier, guarantees)
    }

    fn start(&self, tier: TierName, supervised: Supervised, cgroup: Cgroup) -> Result<Ready> {
        let failed = |stage: &str| {
            let stage = stage.to_owned();
            move |source| Error::SandboxFailed { stage, source }
        };
        let ruleset = ruleset::build(&self.policy, tier, self.landlock_abi)?;
        let overlays = Overlays::prepare(&self.overlays);
        let plan = Plan::new(&self.policy, tier, self.landlock_abi, supervised, &cgroup, &overlays)
            .map_err(failed("writing the plan"))?;
        let (channel, theirs) = Channel::pair().map_err(failed("making the control socket"))?;
        let init = Init::start(theirs, tier.namespaces(&self.policy.network))
            .map_err(failed("starting nono-init in its namespaces"))?;

        if let Err(source) = cgroup.add(init.pid) {
            channel.shut_down();
            init.reap();
            return Err(failed("entering the control group")(source));
        }

        let setup = p::Request { kind: p::SETUP, ..p::Request::default() };
        let mut fds = vec![plan.payload.as_fd(), ruleset.as_fd()];
        fds.extend(overlays.detached.iter().map(AsFd::as_fd));
        let answer = channel.send(&setup, &fds).and_then(|()| channel.receive(0));
        let error = match answer {
            Ok(Some((report, mut sockets))) if report.kind == p::READY => {
                match self.supervise(tier, plan.supervised, &mut sockets, &ruleset, init.pid) {
                    Ok((supervisor, events, led)) => {
                        let terminals = match tier {
                            TierName::Namespaces => sockets.pop(),
                            TierName::Flat => None,
                        };
                        let born = plan.listeners.into_iter().zip(sockets).collect();
                        let network = Born::sort(born, led);
                        return Ok(Ready {
                            channel,
                            init,
                            supervisor,
                            events,
                            network,
                            terminals,
                            cgroup,
                        });
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

    /// What decides about internet sockets; with it, what led ones make for the owner.
    fn internet(
        &self,
        tier: TierName,
        supervised: Supervised,
    ) -> io::Result<(Internet, Option<LedNetwork>)> {
        if supervised.leads {
            return led::lead(&self.policy).map(|(internet, led)| (internet, Some(led)));
        }
        let absent = self.policy.internet_sockets(tier) == InternetSockets::None;
        Ok((if absent { Internet::Absent } else { Internet::AsAsked }, None))
    }

    /// Starts the supervisor with what arrived for it, which is taken from both ends of `sockets`.
    fn supervise(
        &self,
        tier: TierName,
        supervised: Supervised,
        sockets: &mut Vec<OwnedFd>,
        ruleset: &OwnedFd,
        init: i32,
    ) -> io::Result<(Option<Supervisor>, Events, Option<LedNetwork>)> {
        let events = Events::default();
        if !supervised.starts {
            return Ok((None, events, None));
        }
        let programs_granted = match supervised.programs {
            true => Some(Programs::new(sockets.remove(0), &sockets.remove(0))?),
            false => None,
        };
        let mut arrived = || sockets.pop().ok_or(io::Error::from(io::ErrorKind::UnexpectedEof));
        let listener = supervisor::Listener::new(arrived()?);
        let programs = self.policy.rules.iter().filter(|(_, access)| access.execute);
        let loaders = Loaders::new(programs.map(|(path, _)| path.as_path()));
        let seats = Seats::default();
        let (sockets, led) = match supervised.sockets {
            SocketAccess::None => (None, None),
            access => {
                let (internet, led) = self.internet(tier, supervised)?;
                let has_own_network = tier.has_own_network(&self.policy.network);
                let sockets = Sockets {
                    unix: UnixSockets {
                        listed: self.policy.unix_sockets.clone(),
                        bound: (!has_own_network).then(HashSet::new),
                    },
                    internet,
                    ports: self.policy.reachable_ports(),
                    queries: Queries::default(),
                    seats: seats.clone(),
                    diagnosis: Diagnosis::from(arrived()?),
                    made: (access == SocketAccess::Made).then(MadeSockets::default),
                };
                (Some(sockets), led)
            }
        };
        let judge = Judge::new(self.policy.clone(), tier);
        let approver =
            self.options.approver.clone().map(|approver| (approver, Remembered::default()));
        let hands = Hands::new(ruleset.try_clone()?);
        let asks = approver.is_some();
        let files = Files::new(hands, seats, judge.clone(), tier, asks, programs_granted);
        let desk = Desk {
            listener: Arc::new(listener),
            loaders,
            starting: Starting::default(),
            sockets,
            files,
            rules: seccomp::rules(tier, self.policy.internet_sockets(tier), supervised),
            judge,
            recorder: Recorder {
                observe: self.options.observe,
                events: events.clone(),
                init,
                tier,
                callers: Callers::default(),
            },
            approver,
        };
        Ok((Some(Supervisor::start(desk)?), events, led))
    }
}

//! The two ways to build a sandbox.

use crate::capabilities::Network;

/// How a sandbox is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierName {
    /// Landlock and seccomp inside namespaces of its own: user, mount, pid, network, IPC, host name.
    Namespaces,
    /// Landlock and seccomp only. Works where namespaces are refused, as in a default container.
    Flat,
}

impl TierName {
    /// `namespaces` or `flat`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TierName::Namespaces => "namespaces",
            TierName::Flat => "flat",
        }
    }

    /// Whether its network is the sandbox's own.
    pub(crate) fn has_own_network(self, network: &Network) -> bool {
        self.namespaces(network) & libc::CLONE_NEWNET != 0
    }

    /// How many processes of a sandbox are nono's own: `nono-init`, and in the flat tier its guard.
    pub(crate) fn own_processes(self) -> u64 {
        match self {
            TierName::Namespaces => 1,
            TierName::Flat => 2,
        }
    }

    /// The clone flags of its namespaces. An open network is the machine's own.
    pub(crate) fn namespaces(self, network: &Network) -> i32 {
        match self {
            TierName::Namespaces => {
                let own_network =
                    if matches!(network, Network::Open) { 0 } else { libc::CLONE_NEWNET };
                libc::CLONE_NEWUSER
                    | libc::CLONE_NEWNS
                    | libc::CLONE_NEWPID
                    | own_network
                    | libc::CLONE_NEWIPC
                    | libc::CLONE_NEWUTS
            }
            TierName::Flat => 0,
        }
    }
}

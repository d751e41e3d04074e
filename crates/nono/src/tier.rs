//! The two ways to build a sandbox.

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

    /// The clone flags of its namespaces.
    pub(crate) fn namespaces(self) -> i32 {
        match self {
            TierName::Namespaces => {
                libc::CLONE_NEWUSER
                    | libc::CLONE_NEWNS
                    | libc::CLONE_NEWPID
                    | libc::CLONE_NEWNET
                    | libc::CLONE_NEWIPC
                    | libc::CLONE_NEWUTS
            }
            TierName::Flat => 0,
        }
    }
}

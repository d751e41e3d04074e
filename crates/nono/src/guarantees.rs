//! What a sandbox promises, and how far each promise is kept.

use crate::capabilities::{Capabilities, Network};
use crate::support::Support;

/// How far a promise is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The kernel refuses every attempt.
    Enforced,
    /// It refuses some; the reason says which not.
    Partial,
    /// It refuses none.
    Absent,
}

/// One promise of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarantee {
    /// A stable name, such as `fs-write`.
    pub name: &'static str,
    /// How far it is kept.
    pub status: Status,
    /// What keeps it.
    pub mechanism: &'static str,
    /// Why it is not kept in full.
    pub reason: Option<&'static str>,
}

impl Guarantee {
    fn enforced(name: &'static str, mechanism: &'static str) -> Self {
        Guarantee { name, status: Status::Enforced, mechanism, reason: None }
    }

    fn weaker(
        name: &'static str,
        status: Status,
        mechanism: &'static str,
        reason: &'static str,
    ) -> Self {
        Guarantee { name, status, mechanism, reason: Some(reason) }
    }

    /// Enforced if `kept`, else absent because of `reason`.
    fn when(kept: bool, name: &'static str, mechanism: &'static str, reason: &'static str) -> Self {
        if kept {
            Self::enforced(name, mechanism)
        } else {
            Self::weaker(name, Status::Absent, mechanism, reason)
        }
    }
}

/// The promises of a sandbox with these capabilities on this machine.
pub(crate) fn report(capabilities: &Capabilities, support: &Support) -> Vec<Guarantee> {
    let abi = support.landlock_abi;
    let blocked = capabilities.network == Network::Blocked;
    let mut report = vec![
        Guarantee::enforced("fs-read", "Landlock"),
        Guarantee::enforced("fs-write", "Landlock"),
        Guarantee::when(
            abi >= 2,
            "fs-rename",
            "Landlock refer",
            "Landlock ABI 1 refuses every rename between directories",
        ),
        Guarantee::when(
            abi >= 3,
            "fs-truncate",
            "Landlock truncate",
            "before ABI 3 truncate(2) is not checked",
        ),
        Guarantee::weaker(
            "fs-metadata",
            Status::Absent,
            "none",
            "Landlock does not check chmod, chown, utimes and xattr calls on the user's own files",
        ),
        Guarantee::weaker(
            "fs-existence",
            Status::Absent,
            "none",
            "stat and readlink are not checked: names, sizes and times outside can be seen",
        ),
        Guarantee::weaker(
            "exec",
            Status::Partial,
            "Landlock execute, seccomp memfd_create",
            "an allowed interpreter or loader runs any code that it can read",
        ),
    ];
    if blocked {
        report.push(Guarantee::enforced("net-tcp", "seccomp socket families"));
        report.push(Guarantee::enforced("net-udp", "seccomp socket families"));
    }
    report.extend([
        Guarantee::enforced("net-raw", "seccomp socket families"),
        Guarantee::enforced("net-unix", "seccomp socket families"),
        Guarantee::when(
            abi >= 6,
            "signals",
            "Landlock signal scope",
            "before ABI 6 processes of the same user can be signalled",
        ),
        Guarantee::enforced("ptrace", "Landlock domain"),
        Guarantee::enforced("process-tree", "nono-init as child subreaper"),
        Guarantee::enforced("namespaces", "seccomp"),
        Guarantee::enforced("kernel-surface", "seccomp"),
        Guarantee::enforced("capabilities", "no_new_privs, empty capability sets"),
        Guarantee::enforced("terminal-injection", "seccomp ioctl"),
        Guarantee::enforced("inherited-fds", "close_range"),
        Guarantee::enforced("environment", "allow-list"),
    ]);
    report
}

/// Names of the promises that this policy cannot do without and this machine cannot keep.
pub(crate) fn missing(report: &[Guarantee], accepted: &[String]) -> Vec<String> {
    const NEEDED: [&str; 3] = ["fs-rename", "fs-truncate", "signals"];
    report
        .iter()
        .filter(|guarantee| guarantee.status == Status::Absent)
        .filter(|guarantee| NEEDED.contains(&guarantee.name))
        .filter(|guarantee| !accepted.iter().any(|name| name == guarantee.name))
        .map(|guarantee| guarantee.name.to_owned())
        .collect()
}

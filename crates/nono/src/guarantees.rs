//! What a sandbox promises, and how far each promise is kept.

use crate::capabilities::Network;
use crate::pattern::Pattern;
use crate::policy::Policy;
use crate::seccomp::{InternetSockets, Parked, SocketAccess, Supervised};
use crate::tier::TierName;

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
    pub(crate) fn enforced(name: &'static str, mechanism: &'static str) -> Self {
        Guarantee { name, status: Status::Enforced, mechanism, reason: None }
    }

    pub(crate) fn weaker(
        name: &'static str,
        status: Status,
        mechanism: &'static str,
        reason: &'static str,
    ) -> Self {
        Guarantee { name, status, mechanism, reason: Some(reason) }
    }

    /// Enforced if `kept`, else absent because of `reason`.
    pub(crate) fn when(
        kept: bool,
        name: &'static str,
        mechanism: &'static str,
        reason: &'static str,
    ) -> Self {
        if kept {
            Self::enforced(name, mechanism)
        } else {
            Self::weaker(name, Status::Absent, mechanism, reason)
        }
    }
}

/// The promises of a sandbox of this tier on this machine.
pub(crate) fn report(
    policy: &Policy,
    tier: TierName,
    abi: i32,
    supervised: Supervised,
) -> Vec<Guarantee> {
    let mut report = files(tier, abi, supervised.files);
    report.extend(exceptions(policy, supervised.files));
    report.push(programs(supervised.starts));
    report.extend(internet(policy, tier, abi, supervised.sockets));
    report.push(unix_sockets(supervised.sockets));
    report.extend(processes(tier, abi));
    report.extend([
        Guarantee::enforced("namespaces", "seccomp"),
        Guarantee::enforced("kernel-surface", "seccomp"),
        Guarantee::enforced("capabilities", "no_new_privs, empty capability sets"),
        Guarantee::enforced("terminal-injection", "seccomp ioctl"),
        Guarantee::enforced("inherited-fds", "close_range"),
        Guarantee::enforced("environment", "allow-list"),
    ]);
    report
}

fn files(tier: TierName, abi: i32, parked: Parked) -> Vec<Guarantee> {
    let metadata = match tier {
        TierName::Namespaces => Guarantee::enforced("fs-metadata", "read-only mounts"),
        TierName::Flat => Guarantee::when(
            parked != Parked::None,
            "fs-metadata",
            "a supervisor that makes the change on the caller's behalf",
            "Landlock does not check chmod, chown, utimes and xattr calls, and seccomp can notify nobody",
        ),
    };
    vec![
        Guarantee::enforced("fs-read", "Landlock"),
        Guarantee::enforced("fs-write", "Landlock"),
        metadata,
        Guarantee::when(
            abi >= 2,
            "fs-rename",
            "Landlock refer",
            "Landlock ABI 1 refuses every rename between directories",
        ),
        truncation(tier, abi, parked),
        Guarantee::when(
            abi >= 5,
            "fs-ioctl",
            "Landlock ioctl",
            "before ABI 5 Landlock does not check what ioctl(2) does to devices that can be opened",
        ),
        Guarantee::weaker(
            "fs-existence",
            Status::Absent,
            "none",
            "stat, readlink and getxattr are not checked: names, sizes, times and attributes outside can be seen",
        ),
    ]
}

/// Landlock checks neither truncate() nor an open() to read that truncates before ABI 3
/// (`landlock(7)`, LANDLOCK_ACCESS_FS_TRUNCATE).
fn truncation(tier: TierName, abi: i32, parked: Parked) -> Guarantee {
    let mechanism = match tier {
        _ if abi >= 3 => "Landlock truncate",
        TierName::Namespaces => "read-only mounts",
        TierName::Flat => "a supervisor that opens the file to write on the caller's behalf",
    };
    Guarantee::when(
        abi >= 3 || tier == TierName::Namespaces || parked != Parked::None,
        "fs-truncate",
        mechanism,
        "before ABI 3 Landlock does not check truncation, and seccomp can notify nobody",
    )
}

/// What is refused inside what is granted: only where the policy says so.
fn exceptions(policy: &Policy, parked: Parked) -> Vec<Guarantee> {
    const MECHANISM: &str =
        "a supervisor that opens on the caller's behalf, in the sandbox's Landlock domain";
    const NOBODY: &str =
        "seccomp can notify nobody: the kernel cannot, or this process is itself supervised";
    let mut report = Vec::new();
    if !policy.deny.is_empty() {
        let has_form = policy.deny.iter().any(Pattern::is_form);
        report.push(match parked {
            Parked::All if has_form => Guarantee::weaker(
                "fs-deny",
                Status::Partial,
                MECHANISM,
                "a file that only a pattern denies can be read by another name (a hard link) that it has already; commands can give it none",
            ),
            _ => Guarantee::when(parked == Parked::All, "fs-deny", MECHANISM, NOBODY),
        });
    }
    if policy.protect && policy.has_writable_directory() {
        report.push(match parked {
            Parked::None => {
                Guarantee::weaker("fs-protected-names", Status::Absent, "none", NOBODY)
            }
            Parked::Changes | Parked::All => Guarantee::weaker(
                "fs-protected-names",
                Status::Partial,
                MECHANISM,
                "a repository that a command makes itself below a granted directory can lead git to programs by its .git file, a worktree's by its commondir, or one by being bare; and a symbolic link that a command makes can lead to directories in which names are not protected, as those of dependencies",
            ),
        });
    }
    report
}

/// Partial at best: what an allowed program does with the files it reads is up to the program.
fn programs(supervised: bool) -> Guarantee {
    let (mechanism, reason) = if supervised {
        (
            "Landlock execute, seccomp memfd_create, a supervisor that kills loaders started as programs",
            "an allowed interpreter runs any script that it can read",
        )
    } else {
        (
            "Landlock execute, seccomp memfd_create",
            "an allowed interpreter or loader runs any code that it can read, and seccomp can notify nobody: the kernel cannot, or this process is itself supervised",
        )
    };
    Guarantee::weaker("exec", Status::Partial, mechanism, reason)
}

fn internet(policy: &Policy, tier: TierName, abi: i32, access: SocketAccess) -> Vec<Guarantee> {
    let mut report = vec![Guarantee::enforced("net-raw", "seccomp socket families")];
    if policy.network == Network::Open {
        return report;
    }
    let sockets = policy.internet_sockets(tier);
    let tcp = match (sockets, tier) {
        (InternetSockets::None, _) => "seccomp socket families",
        (_, TierName::Namespaces) => "network namespace whose only listeners are nono's",
        (_, TierName::Flat) => "a supervisor that makes every connection itself",
    };
    let udp = match sockets {
        InternetSockets::TcpAndUdp => tcp,
        InternetSockets::TcpAndQueries => {
            "seccomp socket types; instead of UDP, a socket that knows the gate's DNS only"
        }
        _ => "seccomp socket types",
    };
    report.push(if abi < 4 && tier == TierName::Flat && access == SocketAccess::None {
        Guarantee::weaker(
            "net-tcp",
            Status::Partial,
            tcp,
            "before ABI 4 Landlock does not check connections, and nobody else those of sockets made outside",
        )
    } else {
        Guarantee::enforced("net-tcp", tcp)
    });
    report.push(Guarantee::enforced("net-udp", udp));
    if sockets != InternetSockets::None {
        report.push(match tier {
            TierName::Namespaces => Guarantee::enforced("net-loopback", "network namespace"),
            TierName::Flat => Guarantee::weaker(
                "net-loopback",
                Status::Partial,
                "a supervisor that binds to a loopback address of the sandbox's own",
                "commands reach nothing of the host's loopback that is not granted, but processes of the host can connect to their servers",
            ),
        });
    }
    report
}

fn unix_sockets(access: SocketAccess) -> Guarantee {
    let mechanism = match access {
        SocketAccess::None => "seccomp socket families: no unix socket can be made",
        SocketAccess::Taken => {
            "seccomp socket types, a supervisor that connects on the caller's behalf"
        }
        SocketAccess::Made => {
            "seccomp socket types, a supervisor that makes and connects sockets on the caller's behalf"
        }
    };
    Guarantee::enforced("net-unix", mechanism)
}

fn processes(tier: TierName, abi: i32) -> Vec<Guarantee> {
    match tier {
        TierName::Namespaces => vec![
            Guarantee::enforced("signals", "pid namespace"),
            Guarantee::enforced("ptrace", "pid namespace, Landlock domain"),
            Guarantee::enforced("process-list", "private /proc"),
            Guarantee::enforced("process-tree", "nono-init as pid 1"),
        ],
        TierName::Flat => vec![
            Guarantee::when(
                abi >= 6,
                "signals",
                "Landlock signal scope",
                "before ABI 6 processes of the same user can be signalled",
            ),
            Guarantee::enforced("ptrace", "Landlock domain"),
            Guarantee::enforced(
                "process-list",
                "no access to /proc; where reads are supervised, a process is told of itself",
            ),
            Guarantee::enforced("process-tree", "nono-init as child subreaper"),
        ],
    }
}

/// Names of the promises that this policy cannot do without and this machine cannot keep.
pub(crate) fn missing(report: &[Guarantee], accepted: &[String]) -> Vec<String> {
    const NEEDED: [&str; 7] = [
        "fs-rename",
        "fs-truncate",
        "fs-deny",
        "fs-protected-names",
        "signals",
        "limit-processes",
        "limit-cpus",
    ];
    report
        .iter()
        .filter(|guarantee| guarantee.status == Status::Absent)
        .filter(|guarantee| NEEDED.contains(&guarantee.name))
        .filter(|guarantee| !accepted.iter().any(|name| name == guarantee.name))
        .map(|guarantee| guarantee.name.to_owned())
        .collect()
}

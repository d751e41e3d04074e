//! What is to be told about a system call, from the documentation of events alone.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use nono::{Event, Operation, Target};

use super::strace::{Returned, descriptor, string};

/// The calls that events are about.
pub(super) const CALLS: &[&str] = &[
    "open",
    "openat",
    "openat2",
    "creat",
    "truncate",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "symlink",
    "symlinkat",
    "link",
    "linkat",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "chmod",
    "fchmod",
    "fchmodat",
    "chown",
    "lchown",
    "fchown",
    "fchownat",
    "utime",
    "utimes",
    "futimesat",
    "utimensat",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "removexattr",
    "lremovexattr",
    "fremovexattr",
    "execve",
    "execveat",
    "connect",
    "bind",
    "listen",
    "exit_group",
    // Refused whatever they are about, or by their arguments.
    "socket",
    "socketpair",
    "setsockopt",
    "unshare",
    "mount",
    "umount2",
    "chroot",
    "keyctl",
    "add_key",
    "bpf",
    "ptrace",
    "personality",
    "userfaultfd",
    "syslog",
    "setns",
    "name_to_handle_at",
    "open_by_handle_at",
    "memfd_create",
];

/// One event that there must be.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) operations: Vec<Operation>,
    /// What the call names, in any of these ways; none: strace does not say.
    pub(super) names: Vec<String>,
    pub(super) errno: i32,
    /// The directory that the path begins in, with the path: for a look from outside.
    pub(super) path: Option<PathBuf>,
    pub(super) call: String,
}

impl Expected {
    pub(super) fn is_about(&self, event: &Event) -> bool {
        let name = match &event.target {
            Target::Path { asked, .. } => asked.display().to_string(),
            Target::Address(address) => address.clone(),
            // Of a socket with its kind behind.
            Target::SystemCall(name) => name.split('(').next().unwrap_or_default().to_owned(),
            Target::ExitCode(code) => code.to_string(),
        };
        self.operations.contains(&event.operation)
            && (self.names.is_empty() || self.names.contains(&name))
    }
}

impl Expected {
    /// The internet address that it is about.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.names.iter().find_map(|name| name.parse().ok())
    }

    /// Whether nothing but this port can be reached there.
    pub(super) fn leaves_out(&self, port: u16) -> bool {
        let is_local = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
        self.address().is_some_and(|to| to.port() != port && !is_local(to.ip()))
    }
}

/// `None`: a call of which nothing is told, whatever the kernel says to it. `place` is where the programs
/// are that connect by a relative path.
pub(super) fn event_of(call: &Returned, place: &Path) -> Option<Expected> {
    let argument = |index: usize| call.arguments.get(index).map_or("", String::as_str);
    let expected = |operations: &[Operation], names: Vec<String>, path| {
        let errno = if call.errno == libc::EINPROGRESS { 0 } else { call.errno };
        let (operations, call) = (operations.to_vec(), call.to_string());
        Some(Expected { operations, names, errno, path, call })
    };
    let at = |base: Option<usize>, path: usize, operations: &[Operation]| {
        let name = string(argument(path))?;
        let base = base.and_then(|base| descriptor(argument(base))).unwrap_or("/");
        let full = Path::new(base).join(&name);
        expected(operations, vec![name], Some(full))
    };
    // An open file, or a path that may be empty or absent to mean it.
    let object = |base: usize, path: Option<usize>| {
        let open = || {
            let path = descriptor(argument(base))?;
            let path = path.strip_suffix("(deleted)").unwrap_or(path).to_owned();
            expected(&[Operation::Attributes], vec![path], None)
        };
        match path {
            Some(path) if string(argument(path)).is_some_and(|path| !path.is_empty()) => {
                at(Some(base), path, &[Operation::Attributes])
            }
            _ => open(),
        }
    };
    let refused = || {
        let (operations, names) = (&[Operation::SystemCall], vec![call.name.clone()]);
        expected(operations, names, None)
    };
    match call.name.as_str() {
        "open" => at(None, 0, &opening(argument(1), call.errno)?),
        "openat" => at(Some(0), 1, &opening(argument(2), call.errno)?),
        "creat" => at(None, 0, &[Operation::Create, Operation::Write]),
        // Its flags are in memory: it does not exist, and what is then called instead is told of.
        "openat2" => None,
        "truncate" => at(None, 0, &[Operation::Write]),
        "mkdir" => at(None, 0, &[Operation::MakeDirectory]),
        "mkdirat" => at(Some(0), 1, &[Operation::MakeDirectory]),
        // A device is refused whatever it is called.
        "mknod" | "mknodat" if call.arguments.iter().any(|kind| is_device(kind)) => refused(),
        "mknod" => at(None, 0, &[Operation::Create]),
        "mknodat" => at(Some(0), 1, &[Operation::Create]),
        "symlink" => at(None, 1, &[Operation::Symlink]),
        "symlinkat" => at(Some(1), 2, &[Operation::Symlink]),
        "link" => at(None, 0, &[Operation::Link]),
        "linkat" => at(Some(0), 1, &[Operation::Link]),
        "rename" => at(None, 0, &[Operation::Rename]),
        "renameat" | "renameat2" => at(Some(0), 1, &[Operation::Rename]),
        "unlink" | "rmdir" => at(None, 0, &[Operation::Delete]),
        "unlinkat" => at(Some(0), 1, &[Operation::Delete]),
        "chmod" | "chown" | "lchown" | "utime" | "utimes" | "setxattr" | "lsetxattr"
        | "removexattr" | "lremovexattr" => at(None, 0, &[Operation::Attributes]),
        "fchmod" | "fchown" | "fsetxattr" | "fremovexattr" => object(0, None),
        "fchmodat" | "fchownat" | "futimesat" | "utimensat" => object(0, Some(1)),
        "execve" => at(None, 0, &[Operation::Execute]),
        "execveat" => at(Some(0), 1, &[Operation::Execute]),
        "connect" => expected(&[Operation::Connect], address(argument(1), place)?, None),
        "bind" => expected(&[Operation::Bind], address(argument(1), place)?, None),
        "listen" => expected(&[Operation::Listen], Vec::new(), None),
        "exit_group" => expected(&[Operation::Exit], vec![argument(0).to_owned()], None),
        // Told of only if it is refused, and not by the kernel itself.
        _ if matches!(call.errno, 0 | libc::ENOSYS) => None,
        "socket" | "socketpair" if matches!(call.errno, libc::EACCES | libc::EAFNOSUPPORT) => {
            refused()
        }
        "setsockopt" if call.errno == libc::EOPNOTSUPP && argument(1) == "SOL_TCP" => refused(),
        "memfd_create" if call.errno == libc::EACCES => refused(),
        "socket" | "socketpair" | "setsockopt" | "memfd_create" => None,
        _ if matches!(call.errno, libc::EPERM | libc::EACCES) => refused(),
        _ => None,
    }
}

fn is_device(mode: &str) -> bool {
    mode.starts_with("S_IFCHR") || mode.starts_with("S_IFBLK")
}

/// What opening with these flags is; `None`: nothing is opened, only named.
fn opening(flags: &str, errno: i32) -> Option<Vec<Operation>> {
    use Operation::{Create, Read, Write};
    let flags: Vec<_> = flags.split('|').collect();
    let has = |flag| flags.contains(&flag);
    if has("O_PATH") {
        return None;
    }
    Some(match (has("O_CREAT"), has("O_RDONLY") && !has("O_TRUNC")) {
        (false, true) => vec![Read],
        (false, false) => vec![Write],
        (true, _) if has("O_EXCL") && errno == 0 => vec![Create],
        (true, true) => vec![Create, Write, Read],
        (true, false) => vec![Create, Write],
    })
}

/// A socket's address as events have it; `None`: no connection and no name.
fn address(argument: &str, place: &Path) -> Option<Vec<String>> {
    let field = |name: &str| {
        let rest = &argument[argument.find(name)? + name.len()..];
        Some(&rest[..rest.find(['"', ')'])?])
    };
    let port = || field("port=htons(");
    if argument.contains("sa_family=AF_UNIX") {
        if let Some(name) = field("sun_path=@\"") {
            return Some(vec![format!("@{name}")]);
        }
        let path = field("sun_path=\"")?.to_owned();
        let directory = Path::new(&path).parent().map(|parent| place.join(parent));
        let canonical = directory.and_then(|directory| directory.canonicalize().ok());
        let name = path.rsplit('/').next().unwrap_or_default();
        let canonical = canonical.map(|directory| directory.join(name).display().to_string());
        return Some(canonical.into_iter().chain([path.clone()]).collect());
    }
    if argument.contains("sa_family=AF_INET6") {
        let address: Ipv6Addr = field("AF_INET6, \"")?.parse().ok()?;
        let address = SocketAddr::new(address.to_canonical(), port()?.parse().ok()?);
        return Some(vec![address.to_string()]);
    }
    Some(vec![format!("{}:{}", field("inet_addr(\"")?, port()?)])
}

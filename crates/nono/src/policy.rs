//! Capabilities resolved against this machine: canonical paths with access rights.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::capabilities::{Capabilities, Limits, Network};
use crate::cgroup::Cgroup;
use crate::descriptor::open_resolved_place;
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::links::{self, Given};
use crate::pattern::Pattern;
use crate::seccomp::InternetSockets;
use crate::tier::TierName;
use crate::{cgroup, executable, limits, profile, short_name};

/// Rights to a file, or to a directory and all below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) execute: bool,
    /// A device: its ioctls too.
    pub(crate) device: bool,
}

impl Access {
    pub(crate) const READ: Self =
        Access { read: true, write: false, execute: false, device: false };
    pub(crate) const WRITE: Self = Access { write: true, ..Self::READ };
    pub(crate) const EXECUTE: Self = Access { execute: true, ..Self::READ };
    pub(crate) const DEVICE: Self = Access { device: true, ..Self::WRITE };

    fn with(self, other: Self) -> Self {
        Access {
            read: self.read || other.read,
            write: self.write || other.write,
            execute: self.execute || other.execute,
            device: self.device || other.device,
        }
    }
}

/// A socket of the host. Its file is held, so that its inode cannot become another file.
#[derive(Clone, Debug)]
pub(crate) struct ListedSocket(Arc<File>);

impl ListedSocket {
    fn open(path: &Path) -> Result<Self> {
        let unreachable = |source| Error::PathNotFound { path: path.to_owned(), source };
        let place = open_resolved_place(path);
        let socket = ListedSocket(Arc::new(place.map_err(unreachable)?));
        if !socket.0.metadata().map_err(unreachable)?.file_type().is_socket() {
            let reason = "the path does not lead to a unix socket";
            return Err(Error::InvalidPath { path: path.to_owned(), reason });
        }
        Ok(socket)
    }

    /// Whether `file` is its file.
    pub(crate) fn is(&self, file: &Metadata) -> bool {
        self.0.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (file.dev(), file.ino()))
    }
}

/// A file, whatever its name. An inode's number is given out again; its time of birth is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileIdentity(u64, u64, Option<SystemTime>);

impl FileIdentity {
    pub(crate) fn of(file: &Metadata) -> Self {
        FileIdentity(file.dev(), file.ino(), file.created().ok())
    }
}

/// A resolved policy.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// What may be done where: paths that exist, without symbolic links.
    pub(crate) rules: BTreeMap<PathBuf, Access>,
    /// Files that rules name, by what they were: the kernel's rules are about the files, whatever has
    /// their names later.
    granted_files: HashMap<PathBuf, FileIdentity>,
    pub(crate) network: Network,
    /// Ports of services on the host's loopback that may be connected to.
    pub(crate) localhost_ports: BTreeSet<u16>,
    /// Ports of servers inside that the host reaches.
    pub(crate) publish: BTreeSet<u16>,
    /// Sockets of the host that may be connected to.
    pub(crate) unix_sockets: Vec<ListedSocket>,
    pub(crate) environment: Environment,
    pub(crate) limits: Limits,
    /// Whether what ordinary programs need is granted.
    base_profile: bool,
    pub(crate) private_tmp: bool,
    /// Where it is, unless it is `/tmp` itself.
    pub(crate) private_tmp_at: Option<PathBuf>,
    /// Directories that nobody outside uses.
    pub(crate) scratch: Vec<PathBuf>,
    /// Names of granted programs that are symbolic links, or lead through some, with the programs.
    pub(crate) program_links: Vec<(PathBuf, PathBuf)>,
    /// What stays refused inside what is granted.
    pub(crate) deny: Vec<Pattern>,
    /// Files that are denied by name and exist, by what they are: another name of one (a hard link)
    /// is denied too.
    pub(crate) denied_files: HashSet<FileIdentity>,
    /// Whether names that programs outside take orders from stay as they are.
    pub(crate) protect: bool,
    /// Directories that were granted to be written, and were repositories of git.
    pub(crate) repositories: HashSet<PathBuf>,
    /// Where files have short names besides.
    pub(crate) short_named: Vec<PathBuf>,
    /// Where commands start when they do not say.
    pub(crate) default_cwd: PathBuf,
}

impl Policy {
    /// Resolves capabilities; refuses what cannot be meant.
    pub(crate) fn resolve(
        capabilities: &Capabilities,
        owner_environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self> {
        check_network(capabilities)?;
        limits::check(&capabilities.limits)?;
        let environment = Environment::new(&capabilities.environment, owner_environment)?;
        let mut policy = Policy {
            rules: BTreeMap::new(),
            granted_files: HashMap::new(),
            network: capabilities.network.clone(),
            localhost_ports: capabilities.localhost_ports.iter().copied().collect(),
            publish: capabilities.publish.iter().copied().collect(),
            unix_sockets: Vec::new(),
            environment,
            limits: capabilities.limits,
            base_profile: capabilities.base_profile,
            private_tmp: capabilities.private_tmp,
            private_tmp_at: None,
            scratch: canonical_all(&capabilities.scratch)?,
            program_links: Vec::new(),
            deny: Vec::new(),
            denied_files: HashSet::new(),
            protect: capabilities.protect,
            repositories: HashSet::new(),
            short_named: short_name::places(),
            default_cwd: PathBuf::from("/"),
        };
        let read = canonical_all(&capabilities.read)?;
        let write = canonical_all(&capabilities.write)?;
        let unix_sockets = canonical_all(&capabilities.unix_sockets)?;
        links::check(
            Given { paths: &capabilities.read, targets: &read },
            Given { paths: &capabilities.write, targets: &write },
            Given { paths: &capabilities.scratch, targets: &policy.scratch },
            Given { paths: &capabilities.unix_sockets, targets: &unix_sockets },
        )?;
        if let Some(directory) = write.iter().chain(&read).find(|path| path.is_dir()) {
            policy.default_cwd.clone_from(directory);
        }
        for path in read {
            policy.grant(path, Access::READ);
        }
        let is_repository = |path: &&PathBuf| path.join(".git").symlink_metadata().is_ok();
        policy.repositories = write.iter().filter(is_repository).cloned().collect();
        for path in write.into_iter().chain(policy.scratch.clone()) {
            policy.grant(path, Access::WRITE);
        }
        for path in unix_sockets {
            policy.unix_sockets.push(ListedSocket::open(&path)?);
            policy.grant(path, Access::READ); // to be seen where its directory is private
        }
        for program in &capabilities.exec {
            policy.grant_program(program)?;
        }
        if capabilities.base_profile {
            policy.grant_base_profile();
        }
        for given in &capabilities.deny {
            policy.deny(given)?;
        }
        policy.granted_files = policy.rules.keys().filter_map(|path| identified(path)).collect();
        Ok(policy)
    }

    /// What may be done with `path`, which must be canonical.
    pub(crate) fn access_to(&self, path: &Path) -> Access {
        path.ancestors()
            .filter_map(|ancestor| self.rules.get(ancestor))
            .fold(Access::default(), |access, rule| access.with(*rule))
    }

    /// Whether a rule names this path, and it was no directory.
    pub(crate) fn names_file(&self, path: &Path) -> bool {
        self.granted_files.contains_key(path)
    }

    /// Whether a rule names this path, but this is not the file that it had then.
    pub(crate) fn is_replaced(&self, path: &Path, file: &Metadata) -> bool {
        self.granted_files.get(path).is_some_and(|granted| *granted != FileIdentity::of(file))
    }

    /// Whether commands are confined in what they reach by the internet protocols, but not without
    /// them altogether.
    pub(crate) fn mediates_network(&self) -> bool {
        match self.network {
            Network::Open => false,
            Network::Gate { .. } => true,
            Network::Blocked => !self.localhost_ports.is_empty() || !self.publish.is_empty(),
        }
    }

    /// The TCP ports on which commands reach anything but loopback; `None`: it is not confined.
    pub(crate) fn reachable_ports(&self) -> Option<BTreeSet<u16>> {
        match &self.network {
            Network::Open => None,
            Network::Gate { ports } => Some(ports.iter().copied().chain([53]).collect()),
            Network::Blocked => Some(BTreeSet::new()),
        }
    }

    /// Which internet sockets commands can make in this tier.
    pub(crate) fn internet_sockets(&self, tier: TierName) -> InternetSockets {
        match (&self.network, tier) {
            (Network::Open, _) => InternetSockets::TcpAndUdp,
            // Datagrams find nothing but the gate's DNS responder.
            (Network::Gate { .. }, TierName::Namespaces) => InternetSockets::TcpAndUdp,
            (Network::Gate { .. }, TierName::Flat) => InternetSockets::TcpAndQueries,
            _ if self.mediates_network() => InternetSockets::Tcp,
            _ => InternetSockets::None,
        }
    }

    /// Grants reading the control groups of the sandbox's own, by which programs find out their limits, as
    /// the base profile does for the owner's.
    pub(crate) fn show(self: &mut Arc<Self>, cgroup: &Cgroup) {
        for directory in cgroup.directories().filter(|_| self.base_profile).collect::<Vec<_>>() {
            Arc::make_mut(self).grant(directory.to_owned(), Access::READ);
        }
    }

    /// The same policy with a directory of its own for temporary files.
    pub(crate) fn with_private_tmp(mut self, path: &Path) -> Self {
        self.grant(path.to_owned(), Access::WRITE);
        self.environment.set_default("TMPDIR", &path.to_string_lossy());
        self.private_tmp_at = Some(path.to_owned());
        self
    }

    /// Whether anything can be written where a command might meet a protected name.
    pub(crate) fn has_writable_directory(&self) -> bool {
        let own: Vec<_> = self.scratch.iter().chain(&self.private_tmp_at).collect();
        let is_open = |path: &PathBuf| path.is_dir() && !own.contains(&path);
        self.rules.iter().any(|(path, access)| access.write && !access.device && is_open(path))
    }

    /// How many directories can be written that are not below another such one.
    pub(crate) fn writable_places(&self) -> usize {
        let is_writable = |path: &Path| self.rules.get(path).is_some_and(|access| access.write);
        let is_topmost = |path: &Path| !path.ancestors().skip(1).any(is_writable);
        self.rules
            .keys()
            .filter(|path| is_writable(path) && path.is_dir() && is_topmost(path))
            .count()
    }

    /// A denied path is denied by the name that was given, too, where that leads through links.
    fn deny(&mut self, given: &Path) -> Result<()> {
        let pattern = Pattern::new(given)?;
        if let Some(place) = pattern.as_place() {
            if place != given {
                self.deny.push(Pattern::place(given.to_owned()));
            }
            self.deny_what_links_lead_to(place);
        }
        self.deny.push(pattern);
        Ok(())
    }

    /// A key below a denied directory may be a link to where the file really is.
    fn deny_what_links_lead_to(&mut self, place: &Path) {
        const MANY: usize = 10_000;
        let mut ahead = vec![place.to_owned()];
        for _ in 0..MANY {
            let Some(path) = ahead.pop() else { return };
            let Ok(found) = path.symlink_metadata() else { continue };
            if found.is_dir() {
                let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
                ahead.extend(entries.map(|entry| entry.path()));
            } else if found.is_symlink() {
                if let Ok(target) = path.canonicalize()
                    && target.is_file()
                {
                    self.denied_files
                        .extend(target.metadata().ok().map(|file| FileIdentity::of(&file)));
                    self.deny.push(Pattern::place(target));
                }
            } else {
                self.denied_files.insert(FileIdentity::of(&found));
            }
        }
    }

    fn grant(&mut self, path: PathBuf, access: Access) {
        let rule = self.rules.entry(path).or_default();
        *rule = rule.with(access);
    }

    fn grant_program(&mut self, program: &Path) -> Result<()> {
        let search_path = self.environment.search_path().to_owned();
        let found = executable::look_up(program.as_os_str(), &search_path)?;
        let path = canonical(&found)?;
        if !path.is_dir() && !path.is_file() {
            let search_path = "that place (it is not an executable file)".into();
            return Err(Error::ExecNotFound { name: program.as_os_str().into(), search_path });
        }
        if found != path {
            self.program_links.push((found, path.clone()));
        }
        let mut needed = Vec::new();
        if path.is_dir() {
            self.grant(path, Access::EXECUTE);
            needed.extend(executable::native_loader());
        } else {
            executable::closure(&path, &search_path, &mut needed)
                .map_err(|source| Error::PathNotFound { path, source })?;
        }
        for path in needed {
            self.grant(path, Access::EXECUTE);
        }
        Ok(())
    }

    fn grant_base_profile(&mut self) {
        for (paths, access) in [
            (profile::readable().collect::<Vec<_>>(), Access::READ),
            (profile::devices().collect(), Access::DEVICE),
            (cgroup::limit_files().collect(), Access::READ),
        ] {
            for path in paths {
                if let Ok(path) = path.canonicalize() {
                    self.grant(path, access);
                }
            }
        }
    }
}

fn identified(path: &Path) -> Option<(PathBuf, FileIdentity)> {
    let file = path.metadata().ok().filter(|file| !file.is_dir())?;
    Some((path.to_owned(), FileIdentity::of(&file)))
}

fn check_network(capabilities: &Capabilities) -> Result<()> {
    /// Each port is a listening socket for IPv4 and one for IPv6, all sent in one message.
    const MAX_PORTS: usize = 24;
    let refuse =
        |field, reason: &str| Err(Error::InvalidCapabilities { field, reason: reason.into() });
    let Capabilities { network, localhost_ports, publish, .. } = capabilities;
    let no_ports = Vec::new();
    let gate_ports = if let Network::Gate { ports } = network { ports } else { &no_ports };
    let has_gate = matches!(network, Network::Gate { .. });
    for (field, ports) in
        [("network", gate_ports), ("localhostPorts", localhost_ports), ("publish", publish)]
    {
        if ports.contains(&0) {
            return refuse(field, "port 0 does not exist");
        }
        if ports.contains(&53) && has_gate {
            return refuse(field, "with a gate, port 53 is its DNS");
        }
    }
    if gate_ports.len() + localhost_ports.len() > MAX_PORTS {
        return refuse("network", "more than 24 ports");
    }
    if publish.len() > MAX_PORTS {
        return refuse("publish", "more than 24 ports");
    }
    if let Some(port) = publish.iter().find(|port| localhost_ports.contains(port)) {
        let reason = format!("port {port} cannot be the host's inside and a server's too");
        return refuse("publish", &reason);
    }
    if let Some(port) = publish.iter().find(|port| gate_ports.contains(port)) {
        let reason = format!("port {port} is the gate's inside: no server can have it");
        return refuse("publish", &reason);
    }
    Ok(())
}

fn canonical_all(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    paths.iter().map(|path| canonical(path)).collect()
}

/// Checks a path's form and resolves it.
pub(crate) fn canonical(path: &Path) -> Result<PathBuf> {
    let invalid = |reason| Err(Error::InvalidPath { path: path.to_owned(), reason });
    if path.as_os_str().is_empty() {
        return invalid("the path is empty");
    }
    if path.as_os_str().as_bytes().contains(&0) {
        return invalid("the path contains a NUL byte");
    }
    if !path.is_absolute() {
        return invalid("the path is not absolute");
    }
    match path.canonicalize() {
        Ok(canonical) => Ok(canonical),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            invalid("the path runs into a loop of symbolic links")
        }
        Err(source) => Err(Error::PathNotFound { path: path.to_owned(), source }),
    }
}

/// Resolves a path that need not exist: symbolic links as far as it does.
pub(crate) fn canonical_as_far_as_it_exists(path: &Path) -> Result<PathBuf> {
    match canonical(path) {
        Err(Error::PathNotFound { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                let reason = "a path that does not exist yet cannot end in `..`";
                return Err(Error::InvalidPath { path: path.to_owned(), reason });
            };
            Ok(canonical_as_far_as_it_exists(parent)?.join(name))
        }
        other => other,
    }
}

/// Checks a working directory.
pub(crate) fn working_directory(path: &Path) -> Result<()> {
    let refuse = |source| Err(Error::InvalidCwd { path: path.to_owned(), source });
    if !path.is_absolute() || path.as_os_str().as_bytes().contains(&0) {
        return refuse(io::Error::from_raw_os_error(libc::EINVAL));
    }
    match path.metadata() {
        Ok(found) if !found.is_dir() => refuse(io::Error::from_raw_os_error(libc::ENOTDIR)),
        Ok(_) => match path.join(".").metadata() {
            Ok(_) => Ok(()),
            Err(source) => refuse(source), // it cannot be searched
        },
        Err(source) => refuse(source),
    }
}

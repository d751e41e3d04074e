//! Limits of a sandbox as a whole: a control group of its own, where this process may make one.
//!
//! Version 2 (`cgroups(7)`, Documentation/admin-guide/cgroup-v2.rst in the kernel) is looked at
//! first; what it does not offer, on machines that still give controllers to version 1, is looked
//! for there. Which group may be divided is found by trying, from this process's own upwards: a
//! service manager delegates some subtree or none.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::capabilities::Limits;
use crate::tier::TierName;

/// What a group divides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Controller {
    Memory,
    Processes,
    Cpus,
}

impl Controller {
    const ALL: [Controller; 3] = [Controller::Memory, Controller::Processes, Controller::Cpus];

    /// As the kernel calls it.
    fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Processes => "pids",
            Controller::Cpus => "cpu",
        }
    }

    fn is_asked_for(self, limits: &Limits) -> bool {
        match self {
            Controller::Memory => limits.memory.is_some(),
            Controller::Processes => limits.processes.is_some(),
            Controller::Cpus => limits.cpus.is_some(),
        }
    }
}

/// One group, with some of the controllers.
#[derive(Debug)]
struct Group {
    directory: PathBuf,
    version: Version,
    controllers: BTreeSet<Controller>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// The groups of a sandbox. Dropped, they are removed.
#[derive(Debug, Default)]
pub(crate) struct Cgroup {
    groups: Vec<Group>,
    own_processes: u64,
}

/// The most that a sandbox as a whole has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peaks {
    pub(crate) memory: Option<u64>,
    pub(crate) processes: Option<u64>,
}

impl Cgroup {
    /// Makes groups that keep as many of the limits as this process may have kept; none if there is
    /// nothing to keep.
    pub(crate) fn create(limits: &Limits, tier: TierName) -> Self {
        // A limit for commands does not count those.
        let own_processes = tier.own_processes();
        let mut wanted: BTreeSet<_> = Controller::ALL
            .into_iter()
            .filter(|controller| controller.is_asked_for(limits))
            .collect();
        let mut groups = Vec::new();
        if wanted.is_empty() {
            return Cgroup { groups, own_processes };
        }
        let limits = Limits {
            processes: limits.processes.map(|count| count.saturating_add(own_processes)),
            ..*limits
        };
        for hierarchy in hierarchies() {
            if let Some(group) = hierarchy.divide(&wanted, &limits) {
                wanted.retain(|controller| !group.controllers.contains(controller));
                groups.push(group);
            }
        }
        Cgroup { groups, own_processes }
    }

    /// Where its groups are.
    pub(crate) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.groups.iter().map(|group| group.directory.as_path())
    }

    /// Whether it keeps this one.
    pub(crate) fn keeps(&self, controller: Controller) -> bool {
        self.groups.iter().any(|group| group.controllers.contains(&controller))
    }

    /// Puts a process in, before it has made any other.
    pub(crate) fn add(&self, pid: i32) -> io::Result<()> {
        self.groups
            .iter()
            .try_for_each(|group| fs::write(group.directory.join("cgroup.procs"), pid.to_string()))
    }

    pub(crate) fn peaks(&self) -> Peaks {
        let number = |controller, names: &[&str]| {
            let text = self.read(controller, names)?;
            text.trim_end().parse().ok()
        };
        Peaks {
            memory: number(Controller::Memory, &["memory.peak", "memory.max_usage_in_bytes"]),
            processes: number(Controller::Processes, &["pids.peak"])
                .map(|count: u64| count.saturating_sub(self.own_processes)),
        }
    }

    /// How often a process was killed because the memory was used up.
    pub(crate) fn memory_kills(&self) -> u64 {
        let text = self.read(Controller::Memory, &["memory.events", "memory.oom_control"]);
        let count = |text: String| {
            text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
        };
        text.and_then(count).unwrap_or(0)
    }

    /// The first of these files that there is.
    fn read(&self, controller: Controller, names: &[&str]) -> Option<String> {
        let group = self.groups.iter().find(|group| group.controllers.contains(&controller))?;
        names.iter().find_map(|name| fs::read_to_string(group.directory.join(name)).ok())
    }

    /// Removes the groups, whose processes have all ended.
    pub(crate) fn remove(&self) {
        for group in &self.groups {
            group.remove();
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Group {
    /// A group below `parent` with these limits in force.
    fn create(
        parent: &Path,
        version: Version,
        controllers: BTreeSet<Controller>,
        limits: &Limits,
    ) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let directory = loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let directory = parent.join(format!("{PREFIX}{}-{count}", std::process::id()));
            match fs::create_dir(&directory) {
                // Of one before us that had the same number and was killed, as in a container that was
                // started again.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => break made.map(|()| directory)?,
            }
        };
        let group = Group { directory, version, controllers };
        match group.set(limits) {
            Ok(()) => Ok(group),
            Err(error) => {
                group.remove();
                Err(error)
            }
        }
    }

    fn set(&self, limits: &Limits) -> io::Result<()> {
        let write = |file: &str, value: String| fs::write(self.directory.join(file), value);
        for controller in &self.controllers {
            match (controller, self.version) {
                (Controller::Memory, Version::V2) => {
                    write("memory.max", limits.memory.unwrap_or_default().to_string())?;
                    // Without accounting of swap there is no such file, and no swap either.
                    let _ = write("memory.swap.max", "0".into());
                    // Not memory.oom.group: it would take nono-init along, and with it the sandbox,
                    // where the kernel kills the largest process.
                }
                (Controller::Memory, Version::V1) => {
                    let bytes = limits.memory.unwrap_or_default().to_string();
                    write("memory.limit_in_bytes", bytes.clone())?;
                    let _ = write("memory.memsw.limit_in_bytes", bytes);
                }
                (Controller::Processes, _) => {
                    write("pids.max", limits.processes.unwrap_or_default().to_string())?;
                }
                (Controller::Cpus, _) => {
                    const PERIOD: u64 = 100_000; // microseconds; the kernel's default
                    let quota = (limits.cpus.unwrap_or_default() * PERIOD as f64).ceil() as u64;
                    match self.version {
                        Version::V2 => write("cpu.max", format!("{quota} {PERIOD}"))?,
                        Version::V1 => write("cpu.cfs_quota_us", quota.to_string())?,
                    }
                }
            }
        }
        Ok(())
    }

    fn remove(&self) {
        // A process that was reaped just now may still be on its way out of the group.
        const ATTEMPTS: u32 = 50;
        for _ in 0..ATTEMPTS {
            match fs::remove_dir(&self.directory) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                _ => return,
            }
        }
    }
}

/// Names of groups begin so, and go on with their owner's process number.
const PREFIX: &str = "nono-";

/// A hierarchy of groups, with the group that this process is in.
struct Hierarchy {
    version: Version,
    mount: PathBuf,
    own: PathBuf,
    /// Version 1: what it divides.
    controllers: BTreeSet<Controller>,
}

/// Files by which programs find out how much they may use: libuv, Go, Java and others size themselves so.
/// Of a group they look at all of these,
const OWN_LIMITS: [&str; 14] = [
    "cgroup.controllers",
    "cpu.weight",
    "cpu.shares",
    "cpuset.cpus",
    "cpuset.cpus.effective",
    "cpuset.effective_cpus",
    "memory.current",
    "memory.usage_in_bytes",
    "memory.soft_limit_in_bytes",
    "memory.stat",
    "memory.swap.max",
    "memory.memsw.limit_in_bytes",
    "pids.max",
    "pids.current",
];

/// and of those above, too, at what bounds all below.
const COMMON_LIMITS: [&str; 6] = [
    "cpu.max",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "memory.max",
    "memory.high",
    "memory.limit_in_bytes",
];

/// The files that say how much this process may use, and others that are not there.
pub(crate) fn limit_files() -> impl Iterator<Item = PathBuf> {
    hierarchies().into_iter().flat_map(|Hierarchy { mount, own, .. }| {
        let above = own.ancestors().take_while(|directory| directory.starts_with(&mount));
        let common = above.flat_map(|directory| COMMON_LIMITS.map(|name| directory.join(name)));
        OWN_LIMITS.map(|name| own.join(name)).into_iter().chain(common).collect::<Vec<_>>()
    })
}

impl Hierarchy {
    /// A new group for as much of `wanted` as possible; the nearest to this process's own, at best
    /// below that.
    fn divide(&self, wanted: &BTreeSet<Controller>, limits: &Limits) -> Option<Group> {
        let mut places: Vec<_> = self
            .own
            .ancestors()
            .take_while(|place| place.starts_with(&self.mount))
            .map(|place| (place, self.offers(place, wanted)))
            .filter(|(_, offered)| !offered.is_empty())
            .collect();
        places.sort_by_key(|(_, offered)| std::cmp::Reverse(offered.len()));
        places.into_iter().find_map(|(place, offered)| {
            sweep(place);
            Group::create(place, self.version, offered, limits).ok()
        })
    }

    /// What groups below `place` can limit.
    fn offers(&self, place: &Path, wanted: &BTreeSet<Controller>) -> BTreeSet<Controller> {
        if self.version == Version::V1 {
            return wanted & &self.controllers;
        }
        let control = place.join("cgroup.subtree_control");
        if place == self.own {
            // We are in it, and only the root group divides what has processes of its own ("no internal
            // processes", cgroups(7)). In others, those controllers could be enabled that count threads,
            // but make a threaded group of it, below which no process can be put.
            let is_root = !place.join("cgroup.type").exists();
            if !is_root {
                return BTreeSet::new();
            }
            for controller in wanted {
                let _ = fs::write(&control, format!("+{}", controller.name()));
            }
        }
        let names = fs::read_to_string(&control).unwrap_or_default();
        let is_on = |controller: &&Controller| {
            names.split_ascii_whitespace().any(|name| name == controller.name())
        };
        wanted.iter().filter(is_on).copied().collect()
    }
}

/// Removes groups whose owner was killed and could not.
fn sweep(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split_once('-'))
            .and_then(|(owner, _)| owner.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            let _ = fs::remove_dir(entry.path()); // fails if a process is in it
        }
    }
}

/// The hierarchies that are mounted, version 2 first.
fn hierarchies() -> Vec<Hierarchy> {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}

/// From `/proc/PID/mountinfo` (`proc_pid_mountinfo(5)`) and `/proc/PID/cgroup` (`cgroups(7)`).
fn parse(mounts: &str, own: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        let Some((place, source)) = line.split_once(" - ") else { continue };
        let mut place = place.split(' ').skip(3);
        let (Some(root), Some(mount)) = (place.next(), place.next()) else { continue };
        let source: Vec<_> = source.split(' ').collect();
        let [kind, _, options] = source[..] else { continue };
        let options: Vec<_> = options.split(',').collect();
        let version = match kind {
            "cgroup2" => Version::V2,
            "cgroup" => Version::V1,
            _ => continue,
        };
        let is_this = |names: &str| match version {
            Version::V2 => names.is_empty(),
            Version::V1 => {
                !names.is_empty() && names.split(',').all(|name| options.contains(&name))
            }
        };
        let path = own.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let names = fields.next()?;
            is_this(names).then_some(fields.next()?)
        });
        // The group that is mounted is not always the topmost one.
        let below = path.and_then(|path| Path::new(path).strip_prefix(root).ok());
        let controllers =
            Controller::ALL.into_iter().filter(|one| options.contains(&one.name())).collect();
        if let Some(below) = below.filter(|below| !below.starts_with("..")) {
            let mount = PathBuf::from(mount);
            let own = if below.as_os_str().is_empty() { mount.clone() } else { mount.join(below) };
            found.push(Hierarchy { version, mount, own, controllers });
        }
    }
    found.sort_by_key(|hierarchy| hierarchy.version == Version::V1);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_unified_hierarchy_of_a_session() {
        let mounts = "35 24 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
        let own = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/term.scope\n";
        let [found] = &parse(mounts, own)[..] else { panic!("one") };
        assert_eq!(found.version, Version::V2);
        assert!(found.own.ends_with("app.slice/term.scope"));
        assert_eq!(found.mount, Path::new("/sys/fs/cgroup"));
    }

    #[test]
    fn finds_both_versions_side_by_side() {
        let mounts = "\
            31 24 0:26 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
            32 24 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
            33 24 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own = "8:pids:/a\n3:cpu,cpuacct:/\n1:name=systemd:/b\n0::/c\n";
        let found = parse(mounts, own);
        let own: Vec<_> = found.iter().map(|hierarchy| hierarchy.own.to_str().unwrap()).collect();
        let expected = ["/sys/fs/cgroup/unified/c", "/sys/fs/cgroup/pids/a", "/sys/fs/cgroup/cpu"];
        assert_eq!(own, expected);
        assert_eq!(found[2].controllers, [Controller::Cpus].into());
    }

    #[test]
    fn a_container_sees_its_own_part() {
        let mounts = "35 24 0:30 /pod/c1 /sys/fs/cgroup ro - cgroup2 cgroup2 rw\n";
        let [found] = &parse(mounts, "0::/pod/c1/job\n")[..] else { panic!("one") };
        assert_eq!(found.own, Path::new("/sys/fs/cgroup/job"));
        assert!(parse(mounts, "0::/../other\n").is_empty());
    }

    /// On the real hierarchy, with whichever controllers it has: where version 1 has them all, a group
    /// of version 2 is still made, entered, left and removed.
    #[test]
    fn a_group_of_version_2_is_made_entered_and_removed() {
        let limits = Limits {
            memory: Some(64 << 20),
            processes: Some(7),
            cpus: Some(0.5),
            ..Limits::default()
        };
        let Some(hierarchy) = hierarchies().into_iter().find(|one| one.version == Version::V2)
        else {
            return println!("SKIPPED: control groups of version 2: none are mounted");
        };
        let all = Controller::ALL.into_iter().collect();
        let offered = hierarchy.offers(&hierarchy.own, &all);
        let of_ones_number = hierarchy.own.join(format!("{PREFIX}{}-0", std::process::id()));
        let _ = fs::create_dir(&of_ones_number); // if one can be made, the group is
        let group = match Group::create(&hierarchy.own, Version::V2, offered.clone(), &limits) {
            Ok(group) => group,
            Err(error) => {
                return println!("SKIPPED: control groups of version 2: none can be made: {error}");
            }
        };
        let directory = group.directory.clone();
        assert_ne!(directory, of_ones_number);
        fs::remove_dir(&of_ones_number).unwrap();
        let read = |file: &str| fs::read_to_string(directory.join(file)).unwrap();
        for controller in Controller::ALL {
            let (file, limit) = match controller {
                Controller::Memory => ("memory.max", "67108864\n"),
                Controller::Processes => ("pids.max", "7\n"),
                Controller::Cpus => ("cpu.max", "50000 100000\n"),
            };
            match offered.contains(&controller) {
                true => assert_eq!(read(file), limit),
                false => println!("SKIPPED: {file}: {} is not offered here", controller.name()),
            }
        }
        let left_over = hierarchy.own.join(format!("{PREFIX}{}-0", i32::MAX));
        fs::create_dir(&left_over).unwrap();
        let cgroup = Cgroup { groups: vec![group], own_processes: 0 };
        let mut sleep = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        cgroup.add(sleep.id() as i32).unwrap();
        let entered = fs::read_to_string(format!("/proc/{}/cgroup", sleep.id())).unwrap();
        let name = directory.file_name().unwrap().to_str().unwrap();
        assert!(entered.lines().any(|line| line.starts_with("0::") && line.ends_with(name)));
        sweep(&hierarchy.own);
        assert!(directory.exists() && !left_over.exists());
        sleep.kill().unwrap();
        sleep.wait().unwrap();
        drop(cgroup);
        assert!(!directory.exists());
    }
}

//! What the sandbox sees of the file system: everything read-only but what may be written, and
//! private `/dev`, `/proc`, `/run` and `/tmp`. Landlock then decides what of it may be used.
//!
//! Nothing on the host changes: all of this happens in the sandbox's own mount namespace.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use nono_init::protocol::{self as p, Step};

use super::PlanBuilder;
use crate::ancestry::upwards;
use crate::overlay::{OverlayMount, Overlays};
use crate::policy::Policy;
use crate::ruleset;

/// Directories that are replaced; grants below them are put back.
fn private_directories(policy: &Policy) -> impl Iterator<Item = &'static str> {
    ["/dev", "/proc", "/run"].into_iter().chain(policy.private_tmp.then_some("/tmp"))
}

/// How much a private directory in memory holds: so many percent of the machine's memory, or twice
/// as many of the limit. The kernel's default is half of the machine's memory, each
/// (`tmpfs(5)`), and a command could take it all. Where memory is limited, a control group counts files
/// too, and there must be some left to remove them with. A file takes about 1 KiB of the kernel's own
/// memory besides, which where the supervisor makes files is the owner's: of a limit no more than a quarter.
pub(super) fn size(policy: &Policy, percent: u32) -> String {
    match policy.limits.memory {
        Some(bytes) => {
            let files = (bytes / 4096).clamp(1024, 1 << 20);
            format!("size={},nr_inodes={files}", bytes / 50 * u64::from(percent))
        }
        None => format!("size={percent}%,nr_inodes=1m"),
    }
}

/// For what only nono puts something into.
pub(super) const SMALL: &str = "size=1m,nr_inodes=10k";

/// Rights of `linux/landlock.h` for places that only exist inside.
pub(super) mod landlock {
    pub(in crate::plan) const EXECUTE: u64 = 1;
    const WRITE_FILE: u64 = 1 << 1;
    pub(in crate::plan) const READ_FILE: u64 = 1 << 2;
    pub(super) const READ_DIR: u64 = 1 << 3;
    const REMOVE_DIR: u64 = 1 << 4;
    const REMOVE_FILE: u64 = 1 << 5;
    const MAKE_DIR: u64 = 1 << 7;
    const MAKE_REG: u64 = 1 << 8;
    const MAKE_SOCK: u64 = 1 << 9;
    const MAKE_FIFO: u64 = 1 << 10;
    const MAKE_SYM: u64 = 1 << 12;
    const REFER: u64 = 1 << 13;
    const TRUNCATE: u64 = 1 << 14;
    const IOCTL_DEV: u64 = 1 << 15;
    pub(super) const READ: u64 = READ_FILE | READ_DIR;
    pub(super) const TERMINALS: u64 = READ | WRITE_FILE | IOCTL_DEV;
    pub(super) const WRITE: u64 = READ
        | WRITE_FILE
        | REMOVE_DIR
        | REMOVE_FILE
        | MAKE_DIR
        | MAKE_REG
        | MAKE_SOCK
        | MAKE_FIFO
        | MAKE_SYM
        | REFER
        | TRUNCATE;
}

/// A tree taken aside, to be put where it was.
pub(super) struct Kept {
    pub(super) path: PathBuf,
    pub(super) register: u32,
    pub(super) is_dir: bool,
    pub(super) writable: bool,
}

pub(super) fn plan(
    builder: &mut PlanBuilder,
    policy: &Policy,
    overlays: &Overlays,
    grants_programs: bool,
) {
    builder.mount("keeping mounts to itself", "/", None, libc::MS_REC | libc::MS_PRIVATE, None);
    for (index, overlay) in overlays.mounts.iter().enumerate() {
        builder.overlay(policy, overlay, (!overlays.detached.is_empty()).then_some(index));
    }
    let kept: Vec<Kept> =
        to_keep(policy).into_iter().map(|(path, writable)| builder.keep(path, writable)).collect();
    let root = Path::new("/");
    builder.restrict(root, policy.access_to(root).write, 0);
    builder.private_dev();
    builder.private_proc();
    builder.private_directory("/dev/shm", 0o1777, landlock::WRITE, &size(policy, 10));
    if grants_programs {
        builder.program_places(policy);
    }
    let names = builder.private_names(policy);
    builder.private_directory("/run", 0o755, landlock::READ_DIR, SMALL);
    if policy.private_tmp {
        builder.private_directory("/tmp", 0o1777, landlock::WRITE, &size(policy, 25));
    }
    for tree in kept {
        builder.put_back(policy, &tree, 0);
    }
    builder.put_program_links_back(policy);
    for file in names {
        builder.show(policy, &file);
    }
}

/// Lets the owner make terminals for commands among those of the sandbox.
pub(super) fn hand_out_terminals(builder: &mut PlanBuilder) {
    builder.hand_out("handing out the private terminals", "/dev/pts/ptmx");
}

/// What must come through, and whether it may be written: the topmost writable places, and what is
/// granted below private directories. Parents come before what is below them.
fn to_keep(policy: &Policy) -> Vec<(PathBuf, bool)> {
    let mut kept: Vec<(PathBuf, bool)> = Vec::new();
    // The same by name: there can be ten thousands.
    let mut writable: HashMap<&OsStr, bool> = HashMap::new();
    for (path, access) in &policy.rules {
        let private = private_directories(policy).any(|directory| path.starts_with(directory));
        let made_anew = path.starts_with("/proc") || path == Path::new("/");
        let covered = || {
            let mut above = upwards(path).filter_map(|above| writable.get(above.as_os_str()));
            above.any(|writable| *writable || !access.write)
        };
        if (access.write || private) && !made_anew && !covered() {
            writable.insert(path.as_os_str(), access.write);
            kept.push((path.clone(), access.write));
        }
    }
    kept
}

impl PlanBuilder {
    /// Puts an overlay over a directory before anything is taken aside, so that it comes along.
    fn overlay(&mut self, policy: &Policy, overlay: &OverlayMount, given: Option<usize>) {
        let description = format!("putting an overlay over {}", overlay.target.display());
        let path = self.path(&overlay.target);
        match given {
            Some(index) => {
                let register = self.register();
                let (op, flags) = (p::STEP_GIVEN_TREE, index as u64);
                self.step(description.clone(), Step { op, register, flags, ..Step::default() });
                let op = p::STEP_MOVE_TREE | p::RESOLVED;
                self.step(description, Step { op, path, register, ..Step::default() });
            }
            None => {
                let step = Step {
                    op: p::STEP_MOUNT | p::RESOLVED,
                    path,
                    source: self.bytes(b"overlay"),
                    kind: self.bytes(b"overlay"),
                    data: self.bytes(&overlay.unprivileged_options()),
                    flags: libc::MS_NOSUID | libc::MS_NODEV,
                    ..Step::default()
                };
                self.step(description, step);
            }
        }
        // Its directories are other objects than those that the owner's rules were made for.
        let below = policy.rules.iter().filter(|(path, _)| path.starts_with(&overlay.target));
        for (path, access) in below {
            let rights = ruleset::bits(*access, path.is_dir(), self.landlock_rights);
            self.add_rule(path, rights, p::RESOLVED);
        }
    }

    pub(super) fn mount(
        &mut self,
        description: &str,
        path: &str,
        kind: Option<&str>,
        flags: u64,
        data: Option<&str>,
    ) {
        let kind = kind.map_or(p::NONE, |kind| self.bytes(kind.as_bytes()));
        let step = Step {
            op: p::STEP_MOUNT,
            path: self.bytes(path.as_bytes()),
            source: self.bytes(b"none"),
            kind,
            data: data.map_or(p::NONE, |data| self.bytes(data.as_bytes())),
            flags,
            ..Step::default()
        };
        self.step(description, step);
    }

    fn keep(&mut self, path: PathBuf, writable: bool) -> Kept {
        let register = self.take_aside(&path, p::RESOLVED);
        Kept { is_dir: path.is_dir(), path, register, writable }
    }

    /// Holds on to a tree; returns the register that has it. `options`: [`p::RESOLVED`], or nothing.
    pub(super) fn take_aside(&mut self, path: &Path, options: u32) -> u32 {
        const OPEN_TREE_CLONE: u64 = 1;
        const AT_RECURSIVE: u64 = 0x8000;
        let register = self.register();
        let step = Step {
            op: p::STEP_OPEN_TREE | options,
            path: self.path(path),
            register,
            flags: OPEN_TREE_CLONE | AT_RECURSIVE | libc::O_CLOEXEC as u64,
            ..Step::default()
        };
        self.step(format!("taking {} aside", path.display()), step);
        register
    }

    /// `options`: [`p::OPTIONAL`], or nothing.
    pub(super) fn put_back(&mut self, policy: &Policy, tree: &Kept, options: u32) {
        let below_private = private_directories(policy)
            .any(|directory| tree.path.starts_with(directory) && tree.path != Path::new(directory));
        if below_private {
            self.make_way(tree, options);
        }
        let step = Step {
            op: p::STEP_MOVE_TREE | p::RESOLVED | options,
            path: self.path(&tree.path),
            register: tree.register,
            ..Step::default()
        };
        self.step(format!("putting {} back", tree.path.display()), step);
        // Landlock looks upwards through mount points: below a private directory that may be written,
        // only this keeps a readable tree from being written too.
        self.restrict(&tree.path, tree.writable, options);
    }

    /// Makes the directories down to a tree's place, and the place itself.
    fn make_way(&mut self, tree: &Kept, options: u32) {
        let parents: Vec<_> = tree.path.ancestors().skip(1).collect();
        for parent in parents.into_iter().rev().skip(2) {
            self.make(p::STEP_MKDIR | options, parent, 0o755);
        }
        let op = if tree.is_dir { p::STEP_MKDIR } else { p::STEP_CREATE };
        self.make(op | options, &tree.path, if tree.is_dir { 0o755 } else { 0o644 });
    }

    /// A program that was granted by a link in a private directory is found there, too, as `PATH` says.
    fn put_program_links_back(&mut self, policy: &Policy) {
        for (link, program) in &policy.program_links {
            let private = private_directories(policy).any(|directory| link.starts_with(directory));
            let access = policy.access_to(link);
            if !private || access.read || access.write || access.execute {
                continue;
            }
            let parents: Vec<_> = link.ancestors().skip(1).collect();
            for parent in parents.into_iter().rev().skip(2) {
                self.make(p::STEP_MKDIR | p::OPTIONAL, parent, 0o755);
            }
            let step = Step {
                op: p::STEP_SYMLINK | p::OPTIONAL,
                path: self.path(link),
                source: self.path(program),
                ..Step::default()
            };
            self.step(format!("linking {}", link.display()), step);
        }
    }

    pub(super) fn make(&mut self, op: u32, path: &Path, mode: u64) {
        let step = Step { op, path: self.path(path), flags: mode, ..Step::default() };
        self.step(format!("making {}", path.display()), step);
    }

    /// Takes set-user-ID and devices from a place and all mounts below it, and writing unless it may be
    /// written. Devices are where they are granted, which is in `/dev`.
    fn restrict(&mut self, path: &Path, writable: bool, options: u32) {
        let (description, attributes) = match writable {
            true if path.starts_with("/dev") => return,
            true => ("taking devices out of", 0),
            false => ("write-protecting", libc::MOUNT_ATTR_RDONLY),
        };
        let step = Step {
            op: p::STEP_MOUNT_ATTRIBUTES | p::RESOLVED | options,
            path: self.path(path),
            flags: attributes | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
            ..Step::default()
        };
        self.step(format!("{description} {}", path.display()), step);
    }

    /// Links, terminals and shared memory of its own. Device nodes cannot be made in a user
    /// namespace (`mknod(2)`): those that are granted are put back with the rest.
    fn private_dev(&mut self) {
        self.private_directory("/dev", 0o755, landlock::READ_DIR, SMALL);
        for (target, link) in [
            ("/proc/self/fd", "/dev/fd"),
            ("/proc/self/fd/0", "/dev/stdin"),
            ("/proc/self/fd/1", "/dev/stdout"),
            ("/proc/self/fd/2", "/dev/stderr"),
            ("pts/ptmx", "/dev/ptmx"),
        ] {
            let step = Step {
                op: p::STEP_SYMLINK,
                path: self.bytes(link.as_bytes()),
                source: self.bytes(target.as_bytes()),
                ..Step::default()
            };
            self.step(format!("linking {link}"), step);
        }
        self.make(p::STEP_MKDIR, Path::new("/dev/shm"), 0o1777);
        self.make(p::STEP_MKDIR, Path::new("/dev/pts"), 0o755);
        let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
        let options = Some("newinstance,ptmxmode=0666,mode=620");
        self.mount("mounting private terminals", "/dev/pts", Some("devpts"), flags, options);
        self.rule(Path::new("/dev/pts"), landlock::TERMINALS & self.landlock_rights);
    }

    /// With hidepid=4 a process that may not be traced is not there either (`proc(5)`): that is
    /// nono-init, whose descriptors root could otherwise list.
    fn private_proc(&mut self) {
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC | libc::MS_RDONLY;
        self.mount("mounting a private /proc", "/proc", Some("proc"), flags, Some("hidepid=4"));
        self.rule(Path::new("/proc"), landlock::READ);
    }

    fn private_directory(&mut self, path: &str, mode: u32, access: u64, size: &str) {
        let flags = libc::MS_NOSUID | libc::MS_NODEV;
        let description = format!("mounting a private {path}");
        let options = format!("mode={mode:o},{size}");
        self.mount(&description, path, Some("tmpfs"), flags, Some(&options));
        self.rule(Path::new(path), access & self.landlock_rights);
    }

    pub(super) fn rule(&mut self, path: &Path, access: u64) {
        self.add_rule(path, access, 0);
    }

    fn add_rule(&mut self, path: &Path, access: u64, options: u32) {
        let step = Step {
            op: p::STEP_LANDLOCK_RULE | options,
            path: self.path(path),
            flags: access,
            ..Step::default()
        };
        self.step(format!("granting the private {}", path.display()), step);
    }
}

//! Random calls: as the agent makes them, and what they need of the rules.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nono::{Operation, Right};

use super::model::Rules;
use super::tree::{Random, Tree};

/// Where a path starts from: the working directory, or a slot.
type Base = Option<usize>;

#[derive(Clone, Debug)]
pub(super) struct At(Base, String);

#[derive(Clone, Debug)]
pub(super) enum Call {
    Open { at: At, flags: i32, mode: u32, slot: usize },
    List(At),
    Exec(String),
    Stat(At, bool),
    ReadLink(At),
    Times(At, bool),
    MakeDirectory(At, u32),
    MakeNode(At, u32),
    Symlink(String, At),
    Link(At, At, i32),
    Unlink(At),
    RemoveDirectory(At),
    Rename(At, At, u32),
    Mode(At, u32),
    Owner(At, bool),
    SetAttribute(String, bool),
    RemoveAttribute(String, bool),
    Truncate(String, i64),
    OfSlot { name: &'static str, slot: usize, argument: String },
    ChangeDirectory(String),
    Mask(u32),
}

/// What the rules say of a call, as far as they are asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    /// They refuse it, unless it fails anyway.
    pub(super) refused: bool,
    /// It may be answered like one between two file systems (EXDEV), so that programs copy, because
    /// more could be done with it there.
    pub(super) is_border: bool,
    /// What was asked, for `explain`.
    pub(super) asked: Vec<(PathBuf, Right, bool)>,
    /// What a grant itself is bound to would move (see [`Call::expected`]).
    pub(super) moves_grant: bool,
}

const SLOTS: usize = 4;

impl Call {
    pub(super) fn draw(random: &mut Random, tree: &Tree, root: &Path) -> Call {
        let path = |random: &mut Random| decorated(random, tree, root);
        let at = |random: &mut Random| {
            let base = random.one_in(5).then(|| random.below(SLOTS));
            let decorated = path(random);
            let relative = base.is_some() && !random.one_in(4);
            // From a directory on, short names meet something more often.
            let short =
                || tree.any_path(&mut random.clone()).rsplit('/').next().unwrap_or("x").to_owned();
            At(base, if relative { short() } else { decorated })
        };
        let mode =
            |random: &mut Random| *random.pick(&[0o644, 0o755, 0o700, 0o600, 0o777, 0o444, 0o555]);
        let slot = random.below(SLOTS);
        let of_slot = |name, argument: &str| Call::OfSlot { name, slot, argument: argument.into() };
        let follow = !random.one_in(3);
        match random.below(36) {
            0..=7 => Call::Open { at: at(random), flags: flags(random), mode: mode(random), slot },
            8 => Call::Open {
                at: At(None, format!("/proc/self/fd/{}", 100 + random.below(SLOTS))),
                flags: flags(random) & !libc::O_TMPFILE,
                mode: 0o644,
                slot,
            },
            9 => Call::Open {
                at: at(random),
                flags: libc::O_PATH | libc::O_DIRECTORY,
                mode: 0,
                slot,
            },
            10 => Call::List(at(random)),
            11 | 12 => Call::Exec(path(random)),
            13 => Call::Stat(at(random), follow),
            14 => Call::ReadLink(at(random)),
            15 => Call::Times(at(random), follow),
            16 | 17 => Call::MakeDirectory(at(random), mode(random) | 0o700),
            18 => Call::MakeNode(at(random), mode(random)),
            19 => Call::Symlink(path(random), at(random)),
            20 => {
                Call::Link(at(random), at(random), if follow { 0 } else { libc::AT_SYMLINK_FOLLOW })
            }
            21 => {
                let from = At(None, format!("/proc/self/fd/{}", 100 + slot));
                Call::Link(from, at(random), libc::AT_SYMLINK_FOLLOW)
            }
            22 => Call::Unlink(at(random)),
            23 => Call::RemoveDirectory(at(random)),
            24..=26 => {
                let flags = *random.pick(&[0, 0, 0, libc::RENAME_NOREPLACE, libc::RENAME_EXCHANGE]);
                Call::Rename(at(random), at(random), flags)
            }
            27 => Call::Mode(at(random), mode(random) | 0o500),
            28 => Call::Owner(at(random), follow),
            29 => Call::SetAttribute(path(random), follow),
            30 => Call::RemoveAttribute(path(random), follow),
            31 => Call::Truncate(path(random), random.below(20) as i64),
            32 => Call::ChangeDirectory(path(random)),
            33 => Call::Mask(*random.pick(&[0o022, 0o077, 0o002, 0])),
            34 => of_slot("read", ""),
            _ => match random.below(5) {
                0 => of_slot("fchmod", &(mode(random) | 0o500).to_string()),
                1 => of_slot("futime", ""),
                2 => of_slot("fsetxattr", ""),
                3 => of_slot("ftruncate", "3"),
                _ => of_slot("write", "written"),
            },
        }
    }

    /// The line that tells the agent, whose tree is at `root`.
    pub(super) fn line(&self, drawn_for: &Path, root: &Path) -> String {
        let words: Vec<String> = match self {
            Call::Open { at, flags, mode, slot } => {
                at.with("open", [flags.to_string(), mode.to_string(), slot.to_string()])
            }
            Call::List(at) => at.with("list", []),
            Call::Exec(path) => vec!["exec".into(), path.clone()],
            Call::Stat(at, follow) => at.with("stat", [bit(*follow)]),
            Call::ReadLink(at) => at.with("readlink", []),
            Call::Times(at, follow) => at.with("utime", [bit(*follow)]),
            Call::MakeDirectory(at, mode) => at.with("mkdir", [mode.to_string()]),
            Call::MakeNode(at, mode) => at.with("mknod", [mode.to_string()]),
            Call::Symlink(target, at) => {
                vec!["symlink".into(), target.clone(), at.base(), at.1.clone()]
            }
            Call::Link(from, to, flags) => {
                from.with("link", [to.base(), to.1.clone(), flags.to_string()])
            }
            Call::Unlink(at) => at.with("unlink", []),
            Call::RemoveDirectory(at) => at.with("rmdir", []),
            Call::Rename(from, to, flags) => {
                from.with("rename", [to.base(), to.1.clone(), flags.to_string()])
            }
            Call::Mode(at, mode) => at.with("chmod", [mode.to_string()]),
            Call::Owner(at, follow) => at.with("chown", [bit(*follow)]),
            Call::SetAttribute(path, follow) => vec!["setxattr".into(), path.clone(), bit(*follow)],
            Call::RemoveAttribute(path, follow) => {
                vec!["removexattr".into(), path.clone(), bit(*follow)]
            }
            Call::Truncate(path, length) => {
                vec!["truncate".into(), path.clone(), length.to_string()]
            }
            Call::OfSlot { name, slot, argument } => {
                let argument = (!argument.is_empty()).then(|| argument.clone());
                [(*name).into(), slot.to_string()].into_iter().chain(argument).collect()
            }
            Call::ChangeDirectory(path) => vec!["chdir".into(), path.clone()],
            Call::Mask(mask) => vec!["umask".into(), mask.to_string()],
        };
        words.join("\t").replace(drawn_for.to_str().unwrap(), root.to_str().unwrap())
    }

    /// What it is recorded as, if it is one that is parked when everything is.
    pub(super) fn recorded(&self) -> bool {
        match self {
            Call::Open { flags, .. } => flags & libc::O_PATH == 0,
            Call::Stat(..) | Call::ReadLink(_) | Call::ChangeDirectory(_) | Call::Mask(_) => false,
            Call::OfSlot { name, .. } => matches!(*name, "fchmod" | "futime" | "fsetxattr"),
            _ => true,
        }
    }

    /// Whether it only reads, unless it makes a file: `Observe::Changes` does not tell of that.
    pub(super) fn is_reading(&self) -> bool {
        match self {
            Call::Open { flags, .. } => {
                flags & (libc::O_ACCMODE | libc::O_TRUNC) == libc::O_RDONLY
                    && flags & libc::O_TMPFILE != libc::O_TMPFILE
            }
            Call::List(_) => true,
            _ => false,
        }
    }

    pub(super) fn operation(&self) -> Option<Operation> {
        matches!(self, Call::Exec(_)).then_some(Operation::Execute)
    }

    /// What the rules say, in the tree of the agent `pid` as it is now.
    ///
    /// A grant is bound to what its path led to when the sandbox was made, by Landlock; where that can
    /// be renamed inside, the name stops to say what is granted. Such moves are not made here.
    pub(super) fn expected(
        &self,
        rules: &Rules,
        pid: u32,
        drawn_for: &Path,
        root: &Path,
    ) -> Expected {
        let at = |at: &At| Resolver { pid, root, rules }.path(at, drawn_for);
        let plain = |path: &String| at(&At(None, path.clone()));
        let resolver = Resolver { pid, root, rules };
        let mut expected = Expected::default();
        match self {
            Call::Open { at: path, flags, .. } => resolver.open(&at(path), *flags, &mut expected),
            Call::List(path) => resolver.object(&at(path), true, Right::Read, &mut expected),
            Call::Exec(path) => resolver.object(&plain(path), true, Right::Execute, &mut expected),
            Call::Times(path, follow) | Call::Owner(path, follow) => {
                resolver.object(&at(path), *follow, Right::Write, &mut expected);
            }
            Call::Mode(path, _) => resolver.object(&at(path), true, Right::Write, &mut expected),
            Call::SetAttribute(path, follow) | Call::RemoveAttribute(path, follow) => {
                resolver.object(&plain(path), *follow, Right::Write, &mut expected);
            }
            Call::Truncate(path, _) => {
                resolver.object(&plain(path), true, Right::Write, &mut expected);
            }
            Call::MakeDirectory(path, _) | Call::MakeNode(path, _) => {
                resolver.name(&at(path), &mut expected);
            }
            Call::Symlink(_, path) => {
                if let Some(entry) = resolver.name(&at(path), &mut expected) {
                    expected.refused |= rules.holds(&entry);
                }
            }
            Call::Link(from, to, flags) => {
                let from = at(from);
                let follow = flags & libc::AT_SYMLINK_FOLLOW != 0;
                resolver.object(&from, follow, Right::Write, &mut expected);
                let to = resolver.name(&at(to), &mut expected);
                let found = resolver.found(&from, follow).or_else(|| resolver.entry(&from));
                if let Some((to, found)) = to.zip(found) {
                    resolver.border(&found, &to, &mut expected);
                }
            }
            Call::Unlink(path) | Call::RemoveDirectory(path) => {
                if let Some(entry) = resolver.entry(&at(path)) {
                    expected.refused = rules.refuse_removal(&entry);
                    expected.moves_grant = rules.leads_to_grant(&entry);
                    resolver.ask_name(entry, &mut expected);
                    expected.asked.clear(); // what is protected may be deleted
                }
            }
            Call::Rename(from, to, flags) => {
                let (old, new) = (resolver.entry(&at(from)), resolver.entry(&at(to)));
                if let Some((old, new)) = old.zip(new) {
                    resolver.rename(&old, &new, *flags, &mut expected);
                }
            }
            Call::OfSlot { name: "fchmod" | "futime" | "fsetxattr", slot, .. } => {
                let link = format!("/proc/{pid}/fd/{}", 100 + slot);
                resolver.object(&Some(link.into()), true, Right::Write, &mut expected);
            }
            Call::OfSlot { .. }
            | Call::Stat(..)
            | Call::ReadLink(_)
            | Call::ChangeDirectory(_)
            | Call::Mask(_) => {}
        }
        expected
    }
}

impl At {
    fn base(&self) -> String {
        self.0.map_or("-".into(), |slot| slot.to_string())
    }

    fn with<const N: usize>(&self, name: &str, rest: [String; N]) -> Vec<String> {
        [name.into(), self.base(), self.1.clone()].into_iter().chain(rest).collect()
    }
}

fn bit(value: bool) -> String {
    u8::from(value).to_string()
}

fn flags(random: &mut Random) -> i32 {
    let access = *random.pick(&[libc::O_RDONLY, libc::O_RDONLY, libc::O_WRONLY, libc::O_RDWR]);
    let more = *random.pick(&[
        0,
        0,
        0,
        libc::O_CREAT,
        libc::O_CREAT,
        libc::O_CREAT | libc::O_EXCL,
        libc::O_CREAT | libc::O_TRUNC,
        libc::O_TRUNC,
        libc::O_APPEND,
        libc::O_NOFOLLOW,
        libc::O_CREAT | libc::O_NOFOLLOW,
        libc::O_DIRECTORY,
        libc::O_TMPFILE,
        libc::O_PATH,
        libc::O_PATH | libc::O_NOFOLLOW,
    ]);
    if more & libc::O_PATH != 0 { more } else { access | more }
}

/// A path of the tree as programs write it: with dots, slashes, relative.
fn decorated(random: &mut Random, tree: &Tree, root: &Path) -> String {
    let path = tree.any_path(random);
    let path = match random.below(12) {
        0 => format!("{path}/"),
        1 => format!("{path}/."),
        2 => format!("{path}/../{}", random.pick(&["x", "y", "l", "a", ".env", "tool"])),
        3 => path.replace('/', "//"),
        4 => path.replacen('/', "/./", 1),
        5 => format!(
            "{}/../{path}",
            random.pick(&tree.directories).components().next().unwrap().as_os_str().display()
        ),
        _ => path,
    };
    match random.below(4) {
        0 => path,
        _ => format!("{}/{path}", root.display()),
    }
}

/// Paths as the agent outside means them.
struct Resolver<'a> {
    pid: u32,
    root: &'a Path,
    rules: &'a Rules,
}

impl Resolver<'_> {
    /// From the root of the file system on; not without a descriptor to start from.
    fn path(&self, At(base, path): &At, drawn_for: &Path) -> Option<PathBuf> {
        let path = path.replace(drawn_for.to_str().unwrap(), self.root.to_str().unwrap());
        let process = PathBuf::from(format!("/proc/{}", self.pid));
        if let Some(rest) = path.strip_prefix("/proc/self/") {
            return Some(process.join(rest));
        }
        let start = match base {
            None => process.join("cwd"),
            Some(slot) => process.join(format!("fd/{}", 100 + slot)),
        };
        if path.starts_with('/') {
            Some(path.into())
        } else {
            Some(start.read_link().ok()?.join(path))
        }
    }

    /// What a path leads to, below the root of the tree.
    fn found(&self, path: &Option<PathBuf>, follow: bool) -> Option<PathBuf> {
        let path = path.as_ref()?;
        if path.starts_with("/proc") {
            // Deleted, it still has a name.
            let name = path.read_link().ok()?.into_os_string().into_string().unwrap();
            let name = name.strip_suffix(" (deleted)").unwrap_or(&name);
            return Some(Path::new(name).strip_prefix(self.root).ok()?.to_owned());
        }
        let is_link = path.symlink_metadata().ok()?.is_symlink();
        if is_link && !follow {
            return self.entry(&Some(path.clone()));
        }
        Some(path.canonicalize().ok()?.strip_prefix(self.root).ok()?.to_owned())
    }

    /// The name that a path ends in, with its directory resolved.
    fn entry(&self, path: &Option<PathBuf>) -> Option<PathBuf> {
        let text = path.as_ref()?.to_str()?.trim_end_matches('/');
        let (parent, name) = text.rsplit_once('/')?;
        if matches!(name, "." | ".." | "") || text.starts_with("/proc") {
            return None;
        }
        let parent = Path::new(parent).canonicalize().ok()?;
        parent
            .is_dir()
            .then(|| parent.strip_prefix(self.root).ok().map(|parent| parent.join(name)))?
    }

    fn object(&self, path: &Option<PathBuf>, follow: bool, right: Right, expected: &mut Expected) {
        let Some(found) = self.found(path, follow) else { return };
        let path = path.as_ref().unwrap();
        let metadata = if follow { path.metadata() } else { path.symlink_metadata() };
        let Ok(metadata) = metadata else { return };
        expected.refused |= self.rules.refuse_object(&found, &metadata, right);
        let is_deleted = metadata.nlink() == 0;
        if !is_deleted && !metadata.is_symlink() {
            let refused = self.rules.refuse_object(&found, &metadata, right);
            expected.asked.push((found, right, refused));
        }
    }

    fn name(&self, path: &Option<PathBuf>, expected: &mut Expected) -> Option<PathBuf> {
        let entry = self.entry(path)?;
        expected.refused |= self.rules.refuse_name(&entry);
        self.ask_name(entry.clone(), expected);
        Some(entry)
    }

    /// `explain` is asked about what is not there yet.
    fn ask_name(&self, entry: PathBuf, expected: &mut Expected) {
        if self.root.join(&entry).symlink_metadata().is_err() {
            let refused = self.rules.refuse_name(&entry);
            expected.asked.push((entry, Right::Write, refused));
        }
    }

    fn open(&self, path: &Option<PathBuf>, flags: i32, expected: &mut Expected) {
        if flags & libc::O_PATH != 0 {
            return;
        }
        let creates = flags & libc::O_CREAT != 0;
        let exclusive = creates && flags & libc::O_EXCL != 0;
        let follow = flags & libc::O_NOFOLLOW == 0 && !exclusive;
        let mut path = path.clone();
        for _ in 0..40 {
            if self.found(&path, follow).is_some() || !creates {
                let access = flags & libc::O_ACCMODE;
                let truncates =
                    flags & libc::O_TRUNC != 0 || flags & libc::O_TMPFILE == libc::O_TMPFILE;
                if access != libc::O_RDONLY || truncates {
                    self.object(&path, follow, Right::Write, expected);
                }
                if access != libc::O_WRONLY {
                    self.object(&path, follow, Right::Read, expected);
                }
                return;
            }
            let Some(entry) = self.entry(&path) else { return };
            match self.root.join(&entry).read_link() {
                Ok(target) if follow => {
                    path = Some(self.root.join(&entry).parent().unwrap().join(target))
                }
                _ => {
                    self.name(&path, expected);
                    return;
                }
            }
        }
    }

    fn rename(&self, old: &Path, new: &Path, flags: u32, expected: &mut Expected) {
        let exchange = flags & libc::RENAME_EXCHANGE != 0;
        let is_file = |path: &Path| {
            self.root.join(path).symlink_metadata().is_ok_and(|found| found.is_file())
        };
        let moves_way = !is_file(old) || (exchange && !is_file(new));
        expected.refused = self.rules.refuse_name(old)
            || self.rules.refuse_name(new)
            || (moves_way && (self.rules.holds(old) || self.rules.holds(new)));
        self.border(old, new, expected);
        if exchange {
            self.border(new, old, expected);
        }
        expected.moves_grant = self.rules.leads_to_grant(old) || self.rules.leads_to_grant(new);
        self.ask_name(new.to_owned(), expected);
    }

    fn border(&self, from: &Path, to: &Path, expected: &mut Expected) {
        expected.is_border |= self.rules.is_a_border(from, to);
    }
}

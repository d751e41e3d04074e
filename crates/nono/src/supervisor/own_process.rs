//! Paths of `/proc` about the caller itself, which would mean the supervisor were they resolved by it.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::memory_file;
use super::place::{self, Place, View, errno};
use super::who::Status;
use crate::{descriptor, mountinfo};

/// What a path comes to once the names that stand for the caller are replaced.
pub(super) enum Expanded {
    Path(PathBuf),
    Place(Place),
}

/// Replaces `/proc/self` and its like in `path` by what they mean to `thread`.
pub(super) fn expand(view: &View, thread: i32, path: &Path) -> io::Result<Expanded> {
    let Some(named) = Named::by(thread, path)? else {
        return Ok(Expanded::Path(path.to_owned()));
    };
    let expanded = named.expand(view, thread)?;
    match &expanded {
        Expanded::Place(place)
            if place::names_directory(path) && !place.file.metadata()?.is_dir() =>
        {
            Err(errno(libc::ENOTDIR))
        }
        _ => Ok(expanded),
    }
}

/// A path about the caller, in two parts.
struct Named {
    /// The caller's directory in its own `/proc`.
    directory: PathBuf,
    rest: PathBuf,
}

impl Named {
    fn by(thread: i32, path: &Path) -> io::Result<Option<Self>> {
        let below = |above: &str| path.strip_prefix(above).ok();
        let caller = || Status::of(thread).ok_or(errno(libc::EIO));
        let of_process = |rest: PathBuf| {
            let directory = PathBuf::from(format!("/proc/{}", caller()?.inner));
            Ok(Some(Named { directory, rest }))
        };
        if let Some(rest) = below("/proc/self") {
            return of_process(rest.to_owned());
        }
        if let Some(rest) = below("/proc/thread-self") {
            let Status { inner, inner_thread, .. } = caller()?;
            let directory = PathBuf::from(format!("/proc/{inner}/task/{inner_thread}"));
            return Ok(Some(Named { directory, rest: rest.to_owned() }));
        }
        if let Some(rest) = below("/dev/fd") {
            return of_process(Path::new("fd").join(rest));
        }
        match path.to_str() {
            Some("/dev/stdin") => of_process("fd/0".into()),
            Some("/dev/stdout") => of_process("fd/1".into()),
            Some("/dev/stderr") => of_process("fd/2".into()),
            _ => Self::by_number(thread, path),
        }
    }

    /// `/proc/N`, where N is the caller's process.
    fn by_number(thread: i32, path: &Path) -> io::Result<Option<Self>> {
        let Ok(below) = path.strip_prefix("/proc") else { return Ok(None) };
        let mut names = below.components();
        let number = names.next().and_then(|name| name.as_os_str().to_str()).unwrap_or_default();
        if !number.starts_with(|digit: char| digit.is_ascii_digit())
            || number != Status::of(thread).ok_or(errno(libc::EIO))?.inner.to_string()
        {
            return Ok(None);
        }
        let directory = Path::new("/proc").join(number);
        Ok(Some(Named { directory, rest: names.as_path().to_owned() }))
    }

    fn expand(&self, view: &View, thread: i32) -> io::Result<Expanded> {
        let process = PathBuf::from(format!("/proc/{thread}"));
        let mut names = self.rest.components();
        let first = names.next().map(|name| name.as_os_str().to_owned()).unwrap_or_default();
        let link = match first.to_str() {
            Some(name @ ("cwd" | "root" | "exe")) => process.join(name),
            Some("fd") if let Some(Component::Normal(number)) = names.next() => {
                process.join("fd").join(number)
            }
            // What `..` leads to from there may not be about the caller any more.
            _ if self.rest.components().any(|name| name == Component::ParentDir) => {
                return Ok(Expanded::Path(self.directory.join(&self.rest)));
            }
            _ => return self.open(view).map(Expanded::Place),
        };
        let place = Place::of_magic_link(&link)?;
        match names.as_path() {
            rest if rest.as_os_str().is_empty() => Ok(Expanded::Place(place)),
            rest if place.has_path() => Ok(Expanded::Path(place.path.join(rest))),
            _ => Err(errno(libc::ENOTDIR)),
        }
    }

    /// The file, through no link, and never outside the caller's directory.
    fn open(&self, view: &View) -> io::Result<Place> {
        let directory = view.open(&self.directory, libc::O_PATH | libc::O_DIRECTORY)?;
        let rest = match self.rest.as_os_str().as_bytes() {
            b"" => c".".to_owned(),
            rest => CString::new(rest)?,
        };
        let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_XDEV;
        let file = descriptor::openat2(directory.as_raw_fd(), &rest, libc::O_PATH, resolve)?;
        Place::about_caller(file.into(), self.rest.clone())
    }
}

/// Whether a file of a process's directory, or of one of its threads', says something about that
/// process alone: what it is and uses, and nothing of mounts, networks or others.
pub(super) fn is_about_it_alone(name: &Path) -> bool {
    const FILES: &[&str] = &[
        "auxv",
        "cgroup",
        "cmdline",
        "comm",
        "environ",
        "io",
        "limits",
        "maps",
        "oom_score",
        "oom_score_adj",
        "sched",
        "schedstat",
        "smaps",
        "smaps_rollup",
        "stat",
        "statm",
        "status",
    ];
    let mut names = name.components().map(|name| name.as_os_str().to_str().unwrap_or_default());
    match (names.next(), names.next(), names.next(), names.next()) {
        (None | Some("task" | "fd" | "fdinfo"), None, ..) => true,
        (Some("fdinfo"), Some(_), None, _) | (Some("task"), Some(_), None, _) => true,
        (Some(file), None, ..) | (Some("task"), Some(_), Some(file), None) => FILES.contains(&file),
        _ => false,
    }
}

/// Whether a file of a process's directory says more to those who open it with capabilities
/// (`pagemap_read` in fs/proc/task_mmu.c, `proc_pid_stack` in fs/proc/base.c). The supervisor has given up
/// those that count; that it opens none such does not rest on that.
pub(super) fn says_more_to_the_privileged(name: &Path) -> bool {
    name.file_name().is_some_and(|name| name == "pagemap" || name == "stack")
}

/// Refuses a file of `/proc` that is, or may be, about this process or about nono-init. The kernel lets
/// every thread of a process look into it (`__ptrace_may_access` in kernel/ptrace.c), also the one in the
/// sandbox's domain; and nono-init is hidden from commands, but not from its owner.
pub(super) fn refuse_owners(place: &Place, view: &View) -> io::Result<()> {
    let names = place.path.components().map(|name| name.as_os_str());
    let is_number = |name: &&OsStr| name.as_bytes().iter().all(u8::is_ascii_digit);
    let mut numbers = names.filter(is_number).peekable();
    if numbers.peek().is_none() || !place::is_process_file(&place.file) {
        return Ok(());
    }
    // Numbers mean one thing in one instance of /proc: in ours, in the sandbox's own, or in any other
    // that is granted.
    let instance = place.file.metadata()?.dev();
    let is_ours = |number: &OsStr| Path::new("/proc/self/task").join(number).exists();
    if instance == std::fs::metadata("/proc")?.dev() {
        return if numbers.any(is_ours) { Err(errno(libc::EACCES)) } else { Ok(()) };
    }
    if instance != view.open(Path::new("/proc"), libc::O_PATH)?.metadata()?.dev() {
        return Err(errno(libc::EACCES));
    }
    if numbers.next() == Some(OsStr::new("1")) { Err(errno(libc::ENOENT)) } else { Ok(()) }
}

/// The one list of mounts that runtimes read as they start, to find their control group.
pub(super) const MOUNTS: &str = "mountinfo";

/// That list of a thread, with the mounts that `is_seen` says so of: a file of memory.
pub(super) fn mounts(thread: i32, is_seen: impl Fn(&Path) -> bool) -> io::Result<File> {
    let text = std::fs::read(format!("/proc/{thread}/{MOUNTS}"))?;
    let seen = mountinfo::mounts(&text).filter(|mount| is_seen(&mount.point));
    memory_file::of(&seen.map(|mount| mount.line).collect::<Vec<_>>().concat())
}

//! Which processes still use files in a directory. After an exchange they would go on in the old tree.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{CWD, Mode, OFlags, RawDir, openat, readlinkat_raw};

use crate::mapped::mapped;
use crate::walk::threads;

/// A process that holds a file or works in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// The process.
    pub pid: i32,
    /// Its name.
    pub command: String,
    /// What it holds.
    pub path: PathBuf,
    /// Whether it is its working directory (or root) rather than an open or mapped file.
    pub directory: bool,
}

/// Looks through procfs, once per process and path. Processes that this user may not look into are
/// not seen; the calling process's own open files are not listed, its working directory is.
pub(crate) fn holders(paths: &[PathBuf]) -> Vec<Holder> {
    if paths.is_empty() {
        return Vec::new();
    }
    let mut found = in_each_process(|process, pid| held_by(process, pid, paths));
    found.sort();
    found
}

/// The inode numbers of files that a process has mapped so that what it writes to memory reaches them.
pub(crate) fn mapped_inodes() -> HashSet<u64> {
    let inodes = in_each_process(|process, _| {
        mapped(process).into_iter().map(|file| file.ino).collect::<Vec<_>>()
    });
    inodes.into_iter().collect()
}

fn in_each_process<T: Send>(look: impl Fn(&OwnedFd, i32) -> Vec<T> + Sync) -> Vec<T> {
    let Some(proc) = directory(CWD, OsStr::new("/proc")) else { return Vec::new() };
    let mut pids: Vec<i32> = Vec::new();
    each_name(&proc, |name| pids.extend(name.to_str().and_then(|name| name.parse::<i32>().ok())));
    // Each look into a process costs a millisecond when it has many mappings.
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(&pid) = pids.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Some(process) = directory(&proc, OsStr::new(&pid.to_string())) else { continue };
            let seen = look(&process, pid);
            if !seen.is_empty() {
                found.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(seen);
            }
        }
    };
    let threads = threads().min(4);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn held_by(process: &OwnedFd, pid: i32, paths: &[PathBuf]) -> Vec<Holder> {
    let inside = |path: &Path| paths.iter().any(|above| path.starts_with(above));
    let mut held = Vec::<(PathBuf, bool)>::new();
    let mut buffer = [MaybeUninit::uninit(); libc::PATH_MAX as usize];
    // A kernel thread has no program, and one that may not be asked for it tells nothing else either.
    if readlinkat_raw(process, "exe", &mut buffer).is_err() {
        return Vec::new();
    }
    let mut link = |dir: &OwnedFd, name: &OsStr, is_directory: bool| {
        let Ok((path, _)) = readlinkat_raw(dir, name, &mut buffer) else { return };
        let path = Path::new(OsStr::from_bytes(path));
        if inside(path) {
            held.push((path.to_owned(), is_directory));
        }
    };
    for name in ["cwd", "root"] {
        link(process, OsStr::new(name), true);
    }
    if pid != rustix::process::getpid().as_raw_nonzero().get() {
        if let Some(files) = directory(process, OsStr::new("fd")) {
            each_name(&files, |name| link(&files, name, false));
        }
        let mapped = mapped(process).into_iter().filter(|file| inside(&file.path));
        held.extend(mapped.map(|file| (file.path, false)));
    }
    held.sort();
    held.dedup();
    if held.is_empty() {
        return Vec::new();
    }
    let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let holder =
        |(path, directory)| Holder { pid, command: command.trim().to_owned(), path, directory };
    held.into_iter().map(holder).collect()
}

/// `None`: the process has ended, or is not ours to look into.
fn directory(dir: impl std::os::fd::AsFd, name: &OsStr) -> Option<OwnedFd> {
    openat(dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
}

fn each_name(dir: &OwnedFd, mut visit: impl FnMut(&OsStr)) {
    let mut buffer = [MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        let name = entry.file_name().to_bytes();
        if !name.starts_with(b".") {
            visit(OsStr::from_bytes(name));
        }
    }
}

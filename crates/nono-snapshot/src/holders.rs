//! Which processes still use files in a directory. After an exchange they would go on in the old tree.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A process that holds a file or works in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
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
pub(crate) fn holders(dirs: &[&Path]) -> Vec<Holder> {
    let inside = |path: &Path| dirs.iter().any(|dir| path.starts_with(dir));
    let mut found = Vec::new();
    let Ok(processes) = std::fs::read_dir("/proc") else { return found };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let proc = process.path();
        let mut held = Vec::new();
        for link in ["cwd", "root"] {
            held.extend(std::fs::read_link(proc.join(link)).ok().map(|path| (path, true)));
        }
        if pid != rustix::process::getpid().as_raw_nonzero().get() {
            let links = std::fs::read_dir(proc.join("fd")).into_iter().flatten().flatten();
            held.extend(
                links.filter_map(|link| Some((std::fs::read_link(link.path()).ok()?, false))),
            );
            held.extend(mapped(&proc).into_iter().map(|path| (path, false)));
        }
        held.retain(|(path, _)| inside(path));
        held.sort();
        held.dedup();
        if held.is_empty() {
            continue;
        }
        let command =
            std::fs::read_to_string(proc.join("comm")).unwrap_or_default().trim().to_owned();
        found.extend(held.into_iter().map(|(path, directory)| Holder {
            pid,
            command: command.clone(),
            path,
            directory,
        }));
    }
    found
}

/// Files mapped shared and writable: what is written to them reaches the file.
fn mapped(proc: &Path) -> Vec<PathBuf> {
    let maps = std::fs::read(proc.join("maps")).unwrap_or_default();
    let shared = maps.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut fields = line.splitn(6, |&byte| byte == b' ');
        let permissions = fields.nth(1)?;
        let path = fields.nth(3)?.trim_ascii_start();
        (permissions.get(1) == Some(&b'w')
            && permissions.last() == Some(&b's')
            && path.starts_with(b"/"))
        .then(|| PathBuf::from(std::ffi::OsStr::from_bytes(path)))
    });
    shared.collect()
}

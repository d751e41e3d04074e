//! The birth certificate: what a process really executes, checked before any of its code runs.
//!
//! Landlock's execute right is a question about one file at execve. `ld.so PROGRAM` executes a file
//! that must be allowed, the dynamic loader, which then maps any readable program as data and jumps
//! into it. So a loader may be a program's interpreter but not a program: each start-up makes one
//! call that is parked here (`set_tid_address`, made by the loader itself of glibc and musl before
//! it maps anything), and a process whose executable is a loader is killed instead of answered.
//!
//! The executable is what the kernel says, `/proc/PID/exe`, of a process that is parked: no path and
//! no memory of the process is read, so there is nothing it could change in between.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::notif::{Listener, Notification};
use super::place::{Inode, inode};
use super::process;
use super::record::Account;
use crate::event::{Operation, Refusal, Target};
use crate::executable;
use crate::judge::{Judge, Reason, Right};

/// The dynamic loaders that are known: those that this system has, those that the policy's programs
/// name, and each one that a program was seen to be started by.
#[derive(Debug)]
pub(crate) struct Loaders {
    inodes: HashSet<Inode>,
    /// Programs whose loader is known, by the version of their contents.
    seen: HashSet<(Inode, i64, i64)>,
}

impl Loaders {
    /// The loaders of this system and of `programs`.
    pub(crate) fn new<'a>(programs: impl Iterator<Item = &'a Path>) -> Self {
        let mut loaders = Loaders { inodes: HashSet::new(), seen: HashSet::new() };
        for path in executable::installed_loaders() {
            loaders.add(path);
        }
        for program in programs {
            if let Some(loader) =
                executable::open(program).ok().and_then(|file| executable::loader(&file))
            {
                loaders.add(&loader);
            }
        }
        loaders
    }

    /// Whether it is one of them.
    pub(super) fn has(&self, file: &Metadata) -> bool {
        self.inodes.contains(&inode(file))
    }

    fn add(&mut self, path: &Path) {
        if let Ok(found) = path.metadata() {
            self.inodes.insert(inode(&found));
        }
    }

    /// Takes note of the loader that brought `program` up: it was found in the root of its process.
    fn learn(&mut self, process: &Path, program: &Metadata) {
        let version = (inode(program), program.ctime(), program.ctime_nsec());
        const MANY: usize = 4096;
        if self.seen.len() == MANY {
            self.seen.clear();
        }
        if !self.seen.insert(version) {
            return;
        }
        let loader =
            File::open(process.join("exe")).ok().and_then(|file| executable::loader(&file));
        if let Some(path) = loader.as_deref().and_then(|path| path.strip_prefix("/").ok()) {
            self.add(&process.join("root").join(path));
        }
    }
}

/// Processes that are about to become another program, and have not yet told of it.
///
/// The calls of a start alone do not tell of one: musl's loader makes them twice, and a program may make them
/// whenever it likes.
#[derive(Debug, Default)]
pub(crate) struct Starting(HashSet<i32>);

impl Starting {
    /// A thread executes something. If that succeeds, its process goes on under its own number, whichever of
    /// its threads it was (`execve(2)`).
    pub(super) fn expect(&mut self, thread: i32) {
        const MANY: usize = 1024;
        if self.0.len() >= MANY {
            self.0.retain(|process| Path::new(&format!("/proc/{process}")).exists());
        }
        self.0.insert(process::leader(thread).unwrap_or(thread));
    }

    /// Whether a call is the one by which a start that was expected is told of.
    pub(super) fn ends_with(&mut self, call: &Notification) -> bool {
        is_last_of_start(call) && self.0.remove(&call.thread)
    }
}

/// What a starting program turns out to be.
pub(super) enum Certificate {
    /// A program that may run.
    Sound,
    /// One that may not.
    Refused(Reason),
}

/// Whether a call is one that every program makes as it starts.
pub(super) fn is_start(number: i64, call: &Notification) -> bool {
    number == libc::SYS_set_tid_address || is_last_of_start(call)
}

/// Whether it is the last of them.
#[cfg(target_arch = "x86_64")]
fn is_last_of_start(call: &Notification) -> bool {
    call.number == libc::SYS_arch_prctl
}
#[cfg(not(target_arch = "x86_64"))]
fn is_last_of_start(call: &Notification) -> bool {
    call.number == libc::SYS_set_tid_address
}

/// Looks at what a process executes: a loader is no program, and neither is what the policy denies.
///
/// The answer does not depend on the call's arguments, so it is sound that the kernel reads them
/// again when it carries on.
pub(super) fn certify(call: &Notification, loaders: &mut Loaders, judge: &Judge) -> Certificate {
    let process = PathBuf::from(format!("/proc/{}", call.thread));
    match process.join("exe").metadata() {
        Ok(program) if loaders.inodes.contains(&inode(&program)) => {
            Certificate::Refused(Reason::NotGranted)
        }
        Ok(program) => {
            loaders.learn(&process, &program);
            let path = std::fs::read_link(process.join("exe")).unwrap_or_default();
            let denied = match judge.is_denied_file(&program) {
                true => Some(Reason::Denied(path.display().to_string())),
                false => judge.refusal(&path, Right::Execute),
            };
            denied.map_or(Certificate::Sound, Certificate::Refused)
        }
        // A program that nobody may read (mode 0711) hides its executable from its own user
        // (`would_dump`, fs/exec.c). It is no loader: those can be read, and a process can make
        // itself unreadable only by code of its own, which runs after this call.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Certificate::Sound,
        Err(_) => Certificate::Refused(Reason::NotGranted),
    }
}

/// An account of a program that has started, or would have.
pub(super) fn account(
    call: &Notification,
    errno: Option<i32>,
    refused: Option<Refusal>,
) -> Account {
    let path = std::fs::read_link(format!("/proc/{}/exe", call.thread)).unwrap_or_default();
    let asked = asked(call.thread).unwrap_or_else(|| path.clone());
    let target = Target::Path { asked, path, to: None };
    Account { operation: Operation::Execute, target, errno, refused }
}

/// The path that was given to execve(), of a script its own, from the copy that the kernel made of it
/// (AT_EXECFN in `getauxval(3)`). None of the program's code but its loader's has run since.
fn asked(thread: i32) -> Option<PathBuf> {
    const LONGEST: usize = libc::PATH_MAX as usize + "/dev/fd/2147483647/".len(); // of execveat()
    let vector = std::fs::read(format!("/proc/{thread}/auxv")).ok()?;
    let (words, _) = vector.as_chunks::<{ size_of::<libc::c_ulong>() }>();
    let (entries, _) = words.as_chunks::<2>();
    let word = |bytes| libc::c_ulong::from_ne_bytes(bytes);
    let [_, address] = entries.iter().find(|[kind, _]| word(*kind) == libc::AT_EXECFN)?;
    let path = process::read_string(thread, word(*address), LONGEST).ok()?;
    Some(PathBuf::from(OsString::from_vec(path)))
}

/// Ends the process of a parked call, without an answer. Its number is turned into a descriptor
/// first and found to be still its own afterwards, so that no other process can be hit.
pub(super) fn kill(listener: &Listener, call: &Notification) {
    let Some(leader) = process::leader(call.thread) else { return };
    let Ok(pidfd) = process::pidfd_open(leader, 0) else {
        return; // it stays parked, which is as good
    };
    if listener.is_parked(call) {
        let no_info: *const libc::siginfo_t = std::ptr::null();
        // SAFETY: no memory is involved: the kernel fills in what a plain kill would say.
        unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), libc::SIGKILL, no_info, 0)
        };
    }
}

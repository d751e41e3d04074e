//! Calls that make, move and delete names.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::super::place::{self, Entry, Place, errno};
use super::across::between;
use super::caller::{Caller, check, refuse, settle};
use super::carry::carry;
use super::decode;
use super::open::open_at;
use super::reply::{Answer, Attempt, Reply};
use crate::event::Operation;
use crate::git_config;
use crate::judge::{Reason, Right};

/// The largest git configuration that is judged.
const MAX_CONFIGURATION: u64 = 1 << 20;

/// How many of them are remembered as they were. In any more, nothing that runs programs is accepted.
const MAX_CONFIGURATIONS: usize = 256;

impl Caller<'_> {
    pub(super) fn make_directory(
        &self,
        at: &decode::At,
        mode: libc::mode_t,
        attempt: &mut Attempt,
    ) -> Answer {
        attempt.operation = Operation::MakeDirectory;
        let entry = self.entry(at, attempt).map_err(exists_if_dots)?;
        attempt.path.clone_from(&entry.path);
        settle(self.files.judge.judge_new_directory(&entry.path), attempt)?;
        let mode = self.mode(mode)?;
        self.last(move || {
            let name = entry.given_name()?;
            let make = |mode| {
                // SAFETY: a C string.
                check(unsafe { libc::mkdirat(entry.directory.as_raw_fd(), name.as_ptr(), mode) })
            };
            mode.make(make, |(), mode| amend(&entry, mode)).map(|()| Reply::Done)
        })
    }

    pub(super) fn make_node(
        &self,
        at: &decode::At,
        mode: libc::mode_t,
        device: u64,
        attempt: &mut Attempt,
    ) -> Answer {
        attempt.operation = Operation::Create;
        let entry = self.new_entry(at, attempt)?;
        let mode = self.mode(mode)?;
        self.last(move || {
            let name = entry.given_name()?;
            let make = |mode| {
                // SAFETY: a C string.
                check(unsafe {
                    libc::mknodat(entry.directory.as_raw_fd(), name.as_ptr(), mode, device)
                })
            };
            mode.make(make, |(), mode| amend(&entry, mode)).map(|()| Reply::Done)
        })
    }

    pub(super) fn symlink(&self, target: u64, at: &decode::At, attempt: &mut Attempt) -> Answer {
        attempt.operation = Operation::Symlink;
        let target = CString::new(self.string(target)?)?;
        let entry = self.new_entry(at, attempt)?;
        self.may_move(&entry.path, attempt)?;
        self.last(move || {
            let name = entry.given_name()?;
            // SAFETY: C strings.
            check(unsafe {
                libc::symlinkat(target.as_ptr(), entry.directory.as_raw_fd(), name.as_ptr())
            })
            .map(|()| Reply::Done)
        })
    }

    pub(super) fn link(
        &self,
        from: &decode::At,
        to: &decode::At,
        flags: i32,
        attempt: &mut Attempt,
    ) -> Answer {
        attempt.operation = Operation::Link;
        if flags & !libc::AT_SYMLINK_FOLLOW != 0 {
            return Err(errno(libc::ENOENT)); // AT_EMPTY_PATH takes a capability that nobody has
        }
        let path = self.full_path(from, attempt)?;
        let source = self.place(&path, from.follow)?;
        // A second name is a way to write, so it takes what writing takes.
        self.judge_place(&source, Right::Write, attempt)?;
        let target = self
            .view
            .entry(self.call.thread, &self.full_path(to, attempt)?)
            .map_err(exists_if_dots)?;
        attempt.to = Some(target.path.clone());
        self.judge_entry(&target, attempt)?;
        let granted = attempt.reason.is_none();
        self.last(move || {
            match granted {
                true => {
                    between(&source, &target, link).map_err(|error| no_directory(error, &source))
                }
                false => link(&source, &target),
            }
            .map(|()| Reply::Done)
        })
    }

    pub(super) fn remove(&self, at: &decode::At, directory: bool, attempt: &mut Attempt) -> Answer {
        attempt.operation = Operation::Delete;
        let entry = self.entry(at, attempt).map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY) => errno(errno_of_removing_dots(&attempt.path, directory)),
            _ => error,
        })?;
        attempt.path.clone_from(&entry.path);
        settle(self.files.judge.judge_removal(&entry.path), attempt)?;
        // A read-only mount would refuse even what fails anyway (EROFS), and call that a violation.
        let found = entry.found()?;
        if entry.is_directory && !directory {
            let is_directory = found.st_mode & libc::S_IFMT == libc::S_IFDIR;
            return Err(errno(if is_directory { libc::EISDIR } else { libc::ENOTDIR }));
        }
        self.is_not_mounted(&entry, attempt)?;
        let flags = if directory { libc::AT_REMOVEDIR } else { 0 };
        self.last(move || {
            let name = entry.given_name()?;
            // SAFETY: a C string.
            check(unsafe { libc::unlinkat(entry.directory.as_raw_fd(), name.as_ptr(), flags) })
                .map(|()| Reply::Done)
        })
    }

    pub(super) fn rename(
        &self,
        from: &decode::At,
        to: &decode::At,
        flags: u32,
        attempt: &mut Attempt,
    ) -> Answer {
        attempt.operation = Operation::Rename;
        let source = self.entry(from, attempt);
        let target =
            self.full_path(to, attempt).and_then(|to| self.view.entry(self.call.thread, &to));
        let (source, target) = both(source, target, flags)?;
        attempt.path.clone_from(&source.path);
        attempt.to = Some(target.path.clone());
        let is_file = is_file(&what_is_renamed(&source, &target, flags)?);
        self.is_not_mounted(&source, attempt)?;
        self.is_not_mounted(&target, attempt)?;
        self.judge_entry(&source, attempt)?;
        let exchange = flags & libc::RENAME_EXCHANGE != 0;
        if is_file && !exchange && self.files.judge.is_git_configuration(&target.path) {
            return self.replace_git_configuration(source, target, flags, attempt);
        }
        self.judge_entry(&target, attempt)?;
        if !is_file || exchange && !target.found().is_ok_and(|found| self::is_file(&found)) {
            self.may_move(&source.path, attempt)?;
            self.may_move(&target.path, attempt)?;
            let judge = &self.files.judge;
            let brings_names = judge.protects_more(&source.path, &target.path)
                || exchange && judge.protects_more(&target.path, &source.path);
            if brings_names {
                return Err(errno(libc::EXDEV)); // a copy then asks for each name
            }
        }
        let granted = attempt.reason.is_none();
        let rename = move |source: &Entry, target: &Entry| match rename(source, target, flags) {
            Err(error) if error.raw_os_error() == Some(libc::EXDEV) && !is_file && !exchange => {
                carry(source, target)
            }
            renamed => renamed,
        };
        self.last(move || {
            match granted {
                true => between(&source, &target, rename),
                false => rename(&source, &target),
            }
            .map(|()| Reply::Done)
        })
    }

    /// A new git configuration takes the place of the old one as a copy that nobody can write to any
    /// more, if it names no programs that the one before the sandbox's first change did not.
    fn replace_git_configuration(
        &self,
        source: Entry,
        target: Entry,
        flags: u32,
        attempt: &mut Attempt,
    ) -> Answer {
        let (new, mode) = self.carry_out({
            let source = source.reference()?;
            move || read_configuration(&source)
        })?;
        let old = self.carry_out({
            let target = target.reference()?;
            move || read_configuration(&target)
        });
        let old = old.map(|(contents, _)| contents).unwrap_or_default();
        let mut first_seen = self.files.first_seen.borrow_mut();
        let has_room = first_seen.len() < MAX_CONFIGURATIONS;
        let old = if has_room { old } else { Vec::new() };
        let trusted = first_seen.get(&target.path).unwrap_or(&old);
        if let Some(setting) = git_config::first_executable(trusted, &new) {
            let named = target.path.join(setting);
            return refuse(Reason::Protected(named), attempt).map(|()| Reply::Done);
        }
        if has_room {
            first_seen.entry(target.path.clone()).or_insert(old);
        }
        self.last(move || {
            let copy = Entry { name: c".nono.config.new".to_owned(), ..target.reference()? };
            write_configuration(&copy, &new, mode)?;
            rename(&copy, &target, flags).inspect_err(|_| _ = unlink(&copy))?;
            unlink(&source).map(|()| Reply::Done)
        })
    }

    /// The name of something that is to be made.
    fn new_entry(&self, at: &decode::At, attempt: &mut Attempt) -> io::Result<Entry> {
        let entry = self.entry(at, attempt).map_err(exists_if_dots)?;
        attempt.path.clone_from(&entry.path);
        self.judge_entry(&entry, attempt)?;
        Ok(entry)
    }

    /// Whether a directory or link may leave `path`, or come to it.
    fn may_move(&self, path: &Path, attempt: &mut Attempt) -> io::Result<()> {
        match self.files.judge.refusal_to_move(path) {
            Some(reason) => refuse(reason, attempt),
            None => Ok(()),
        }
    }
}

impl Entry {
    /// The same name in the same directory.
    pub(super) fn reference(&self) -> io::Result<Entry> {
        let Entry { directory, name, path, is_directory } = self;
        Ok(Entry {
            directory: directory.try_clone()?,
            name: name.clone(),
            path: path.clone(),
            is_directory: *is_directory,
        })
    }
}

/// What the kernel says to making `.` and `..`.
pub(super) fn exists_if_dots(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EBUSY) => errno(libc::EEXIST),
        _ => error,
    }
}

/// What the kernel says to removing `.` and `..` (`path_resolution(7)`, `do_rmdir` in fs/namei.c).
fn errno_of_removing_dots(path: &Path, directory: bool) -> i32 {
    let text = path.as_os_str().as_bytes();
    let end = text.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    match directory {
        false => libc::EISDIR,
        true if text[..end].ends_with(b"..") => libc::ENOTEMPTY,
        true if text[..end].ends_with(b".") => libc::EINVAL,
        true => libc::EBUSY,
    }
}

/// The names of a rename. Only when both directories are found it matters that a name is `.` or `..`.
fn both(
    source: io::Result<Entry>,
    target: io::Result<Entry>,
    flags: u32,
) -> io::Result<(Entry, Entry)> {
    let is_dots = |error: &io::Error| error.raw_os_error() == Some(libc::EBUSY);
    match (source, target) {
        (Err(error), _) if !is_dots(&error) => Err(error),
        (Ok(_), Err(error)) if is_dots(&error) && flags & libc::RENAME_NOREPLACE != 0 => {
            Err(errno(libc::EEXIST))
        }
        (_, Err(error)) | (Err(error), _) => Err(error),
        (Ok(source), Ok(target)) => Ok((source, target)),
    }
}

/// What has the name, unless the kernel finds something wrong with a rename before it asks whether it
/// may be (`do_renameat2` in fs/namei.c); but a read-only mount is asked first of all, and would call
/// it a violation.
fn what_is_renamed(source: &Entry, target: &Entry, flags: u32) -> io::Result<libc::stat> {
    let is_directory = |found: &libc::stat| found.st_mode & libc::S_IFMT == libc::S_IFDIR;
    let exchange = flags & libc::RENAME_EXCHANGE != 0;
    let (old, new) = (source.found()?, target.found());
    if flags & libc::RENAME_NOREPLACE != 0 && new.is_ok() {
        return Err(errno(libc::EEXIST));
    }
    if exchange {
        let new = new?;
        if target.is_directory && !is_directory(&new) {
            return Err(errno(libc::ENOTDIR));
        }
    }
    let ends_in_slash = source.is_directory || !exchange && target.is_directory;
    if ends_in_slash && !is_directory(&old) {
        return Err(errno(libc::ENOTDIR));
    }
    if target.path != source.path && target.path.starts_with(&source.path) {
        return Err(errno(libc::EINVAL));
    }
    if target.path != source.path && source.path.starts_with(&target.path) {
        return Err(errno(if exchange { libc::EINVAL } else { libc::ENOTEMPTY }));
    }
    Ok(old)
}

/// Whether it is a plain file, as opposed to a directory or a link, which lead to other names.
fn is_file(found: &libc::stat) -> bool {
    found.st_mode & libc::S_IFMT == libc::S_IFREG
}

/// Sets the mode of something that was just made.
fn amend(entry: &Entry, mode: libc::mode_t) -> io::Result<()> {
    // SAFETY: a C string.
    check(unsafe { libc::fchmodat(entry.directory.as_raw_fd(), entry.name.as_ptr(), mode, 0) })
}

/// The kernel never gives a directory a second name (EPERM), but Landlock is asked first, and may find
/// that it is granted without what it is in (EXDEV).
fn no_directory(error: io::Error, source: &Place) -> io::Error {
    let is_directory = source.file.metadata().is_ok_and(|file| file.is_dir());
    match error.raw_os_error() {
        Some(libc::EXDEV) if is_directory => errno(libc::EPERM),
        _ => error,
    }
}

fn link(source: &Place, target: &Entry) -> io::Result<()> {
    let link = place::own_link(&source.file);
    let name = target.given_name()?;
    // SAFETY: C strings.
    check(unsafe {
        libc::linkat(
            libc::AT_FDCWD,
            link.as_ptr(),
            target.directory.as_raw_fd(),
            name.as_ptr(),
            libc::AT_SYMLINK_FOLLOW,
        )
    })
}

fn rename(source: &Entry, target: &Entry, flags: u32) -> io::Result<()> {
    let (old, new) = (source.given_name()?, target.given_name()?);
    // SAFETY: C strings.
    check(unsafe {
        libc::renameat2(
            source.directory.as_raw_fd(),
            old.as_ptr(),
            target.directory.as_raw_fd(),
            new.as_ptr(),
            flags,
        )
    })
}

fn unlink(entry: &Entry) -> io::Result<()> {
    // SAFETY: a C string.
    check(unsafe { libc::unlinkat(entry.directory.as_raw_fd(), entry.name.as_ptr(), 0) })
}

fn open_entry(entry: &Entry, flags: i32, mode: libc::mode_t) -> io::Result<File> {
    let flags = flags | libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
    open_at(&entry.directory, &entry.name, flags, mode)
}

fn read_configuration(entry: &Entry) -> io::Result<(Vec<u8>, libc::mode_t)> {
    let file = open_entry(entry, libc::O_RDONLY, 0)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    let mut contents = Vec::new();
    file.take(MAX_CONFIGURATION + 1).read_to_end(&mut contents)?;
    if contents.len() as u64 > MAX_CONFIGURATION {
        return Err(errno(libc::EFBIG));
    }
    Ok((contents, mode))
}

fn write_configuration(entry: &Entry, contents: &[u8], mode: libc::mode_t) -> io::Result<()> {
    let _ = unlink(entry); // left over from an owner that died
    let mut file = open_entry(entry, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, mode)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.write_all(contents)
}

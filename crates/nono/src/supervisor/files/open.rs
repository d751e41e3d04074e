//! open(2) and truncate(2).

use std::ffi::CStr;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::super::place::{self, Entry, Place, errno};
use super::super::{own_process, process};
use super::caller::{Caller, check, refuse};
use super::entries::exists_if_dots;
use super::reply::{Answer, Attempt, Reply};
use super::{Grant, decode};
use crate::descriptor::open_place;
use crate::event::Operation;
use crate::judge::{Reason, Right};
use crate::tier::TierName;

/// `O_TMPFILE` without the `O_DIRECTORY` that is part of it.
const O_TMPFILE_ALONE: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;

/// Flags that ask for more than reading.
pub(crate) const WRITING: i32 =
    libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC | O_TMPFILE_ALONE;

impl Caller<'_> {
    pub(super) fn open(
        &self,
        at: &decode::At,
        flags: i32,
        mode: libc::mode_t,
        attempt: &mut Attempt,
    ) -> Answer {
        attempt.operation = if flags & WRITING == 0 { Operation::Read } else { Operation::Write };
        check_flags(flags)?;
        let mut path = self.full_path(at, attempt)?;
        let names_directory = path.as_os_str().as_bytes().ends_with(b"/");
        if names_directory && flags & libc::O_CREAT != 0 {
            // Nothing is made there, whatever it is: but the way to it is to be found.
            return self.view.entry(self.call.thread, &path).and(Err(errno(libc::EISDIR)));
        }
        const EXCLUSIVE: i32 = libc::O_CREAT | libc::O_EXCL;
        if flags & EXCLUSIVE == EXCLUSIVE {
            let entry = self.view.entry(self.call.thread, &path).map_err(exists_if_dots)?;
            return match entry.found() {
                Ok(_) => Err(errno(libc::EEXIST)),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    self.create(entry, flags, mode, attempt)
                }
                Err(error) => Err(error),
            };
        }
        let follow = flags & libc::O_NOFOLLOW == 0;
        for _ in 0..place::MAX_LINKS {
            match self.place(&path, follow) {
                Ok(place) => return self.open_place(place, flags, mode, attempt),
                Err(error)
                    if error.raw_os_error() != Some(libc::ENOENT) || flags & libc::O_CREAT == 0 =>
                {
                    return Err(error);
                }
                Err(_) => {}
            }
            let entry = self.view.entry(self.call.thread, &path)?;
            // A link that leads nowhere yet: the file is made where it leads.
            match place::read_link_at(&entry.directory, &entry.name) {
                Ok(target) if follow => path = entry.path.with_file_name("").join(target),
                Ok(_) => return Err(errno(libc::ELOOP)),
                Err(_) => return self.create(entry, flags, mode, attempt),
            }
        }
        Err(errno(libc::ELOOP))
    }

    fn open_place(
        &self,
        place: Place,
        flags: i32,
        mode: libc::mode_t,
        attempt: &mut Attempt,
    ) -> Answer {
        if flags & WRITING == 0 && !self.decides_reads() && place.own_process.is_none() {
            self.note_judgement(&place, Right::Read, attempt)?;
            if attempt.reason.is_none() && !attempt.is_replaced {
                return Ok(Reply::CarryOn); // Landlock alone decides, and will let it pass
            }
        }
        let found = place.file.metadata()?;
        if found.is_symlink() {
            return Err(errno(libc::ELOOP)); // O_NOFOLLOW
        }
        if flags & libc::O_CREAT != 0 && found.is_dir() {
            return Err(errno(libc::EISDIR));
        }
        let reads_only = flags & WRITING & !libc::O_CREAT == 0;
        let right = if reads_only { Right::Read } else { Right::Write };
        attempt.operation = if reads_only { Operation::Read } else { Operation::Write };
        self.note_judgement(&place, right, attempt)?;
        if flags & libc::O_ACCMODE == libc::O_RDWR && attempt.reason.is_none() {
            self.note_judgement(&place, Right::Read, attempt)?;
        }
        self.refuse_beyond_the_caller(&place, attempt)?;
        let kind = found.file_type();
        if (kind.is_block_device() || kind.is_char_device()) && !place.path.starts_with("/dev") {
            refuse(Reason::NotGranted, attempt)?; // as mounts do it (`plan/mounts.rs`)
        }
        let is_file = found.is_file() || found.is_dir();
        let grant = || {
            let (path, new) = (place.path.clone(), None);
            Ok(Grant { place: place.file.try_clone()?, path, new, flags })
        };
        // Runtimes look at their own process as they start, and do without where that is refused.
        if is_file
            && place.own_process.is_none()
            && flags & O_TMPFILE_ALONE == 0
            && let Some(answer) = self.question(attempt, grant)
        {
            return answer;
        }
        self.act_on_judgement(attempt)?;
        if place::is_controlling_terminal(&found) {
            return self.open_controlling_terminal(flags, attempt);
        }
        if let Some(name) = &place.own_process {
            return self.open_own_process(&place, name, flags, attempt);
        }
        let tmpfile = flags & O_TMPFILE_ALONE != 0;
        let made_by_name = if tmpfile { libc::O_CREAT } else { libc::O_CREAT | libc::O_EXCL };
        let flags = flags & !(made_by_name | libc::O_NOFOLLOW);
        let may_block = found.file_type().is_fifo()
            && flags & libc::O_NONBLOCK == 0
            && flags & libc::O_ACCMODE != libc::O_RDWR;
        if may_block {
            return self.open_fifo(place, flags);
        }
        let mode = if tmpfile { Some(self.mode(mode)?) } else { None };
        let truncates_to_read =
            flags & (libc::O_ACCMODE | libc::O_TRUNC) == libc::O_RDONLY | libc::O_TRUNC;
        self.last(move || {
            if truncates_to_read && found.is_file() {
                open_to_truncate(&place)?;
            }
            let file = match mode {
                Some(mode) => mode.make(|mode| reopen(&place.file, flags, mode), amend),
                None => reopen(&place.file, flags, 0),
            };
            Ok(opened(file?, flags))
        })
    }

    fn create(
        &self,
        entry: Entry,
        flags: i32,
        mode: libc::mode_t,
        attempt: &mut Attempt,
    ) -> Answer {
        attempt.operation = Operation::Create;
        attempt.path.clone_from(&entry.path);
        if entry.is_directory {
            return Err(errno(libc::EISDIR));
        }
        let mode = self.mode(mode)?;
        attempt.reason = self.files.judge.judge_name(&entry.path).err();
        let grant = || {
            let path = entry.path.parent().unwrap_or(&entry.path).to_owned();
            let (place, new) = (entry.directory.try_clone()?, Some((entry.name.clone(), mode)));
            Ok(Grant { place, path, new, flags })
        };
        if let Some(answer) = self.question(attempt, grant) {
            return answer;
        }
        self.act_on_judgement(attempt)?;
        self.last(move || {
            let wanted = flags | libc::O_NOFOLLOW | libc::O_NOCTTY | libc::O_CLOEXEC;
            let make = |mode| open_at(&entry.directory, &entry.name, wanted, mode);
            Ok(opened(mode.make(make, amend)?, flags))
        })
    }

    pub(super) fn truncate(&self, at: &decode::At, length: i64, attempt: &mut Attempt) -> Answer {
        attempt.operation = Operation::Write;
        let path = self.full_path(at, attempt)?;
        let place = self.place(&path, true)?;
        self.judge_place(&place, Right::Write, attempt)?;
        let is_file = place.file.metadata()?.is_file();
        self.last(move || {
            if is_file {
                open_to_truncate(&place)?;
            }
            let link = place::own_link(&place.file);
            // SAFETY: a C string.
            check(unsafe { libc::truncate(link.as_ptr(), length) }).map(|()| Reply::Done)
        })
    }

    /// Whether something else than Landlock and the mounts may refuse reading.
    fn decides_reads(&self) -> bool {
        !self.files.judge.policy().deny.is_empty()
    }

    /// `/dev/tty` means the terminal of whoever opens it: here, that of the caller. It is opened again
    /// from a descriptor of the caller or of its session's leader, and not by the thread in the
    /// sandbox's domain, since to the kernel, too, only `/dev/tty` counts as its path.
    fn open_controlling_terminal(&self, flags: i32, attempt: &Attempt) -> Answer {
        if attempt.reason.is_some() {
            return Err(errno(libc::EACCES));
        }
        let thread = self.call.thread;
        let (terminal, session) =
            process::controlling_terminal(thread).ok_or(errno(libc::ENXIO))?;
        let link = [thread, session]
            .iter()
            .filter_map(|process| std::fs::read_dir(format!("/proc/{process}/fd")).ok())
            .flat_map(|entries| entries.flatten().take(64))
            .map(|entry| entry.path())
            .find(|path| path.metadata().is_ok_and(|file| file.rdev() == terminal))
            .ok_or(errno(libc::ENXIO))?;
        let place = open_place(link, 0)?;
        if place.metadata()?.rdev() != terminal {
            return Err(errno(libc::ENXIO)); // closed meanwhile, and the number used again
        }
        self.check()?;
        let flags = flags & !(libc::O_CREAT | libc::O_NOFOLLOW);
        Ok(opened(reopen(&place, flags, 0)?, flags))
    }

    /// Refuses files of `/proc` that say more to the owner than they would to the caller.
    fn refuse_beyond_the_caller(&self, place: &Place, attempt: &mut Attempt) -> io::Result<()> {
        let refused = match &place.own_process {
            Some(name) if own_process::says_more_to_the_privileged(name) => {
                Err(errno(libc::EACCES))
            }
            Some(_) => Ok(()),
            None => own_process::refuse_owners(place, self.view),
        };
        refused.inspect_err(|_| attempt.reason = Some(Reason::NotGranted))
    }

    /// Files of `/proc` about a process are for those who may look into it: the caller, and the
    /// supervisor, but not the thread in the sandbox's domain.
    fn open_own_process(
        &self,
        place: &Place,
        name: &Path,
        flags: i32,
        attempt: &Attempt,
    ) -> Answer {
        if attempt.reason.is_some() {
            return Err(errno(libc::EACCES));
        }
        if flags & WRITING & !libc::O_CREAT != 0 {
            return Err(errno(libc::EROFS)); // as the sandbox's own /proc is mounted
        }
        let flags = flags & !libc::O_CREAT;
        let file = if self.files.tier == TierName::Flat && name == own_process::MOUNTS {
            let judge = &self.files.judge;
            let is_seen = |mount: &Path| judge.judge(mount, Right::Read).is_ok();
            own_process::mounts(self.call.thread, is_seen)?
        } else {
            reopen(&place.file, flags, 0)?
        };
        self.check()?;
        Ok(opened(file, flags))
    }

    /// Opening a FIFO waits for its other end: elsewhere, so that nobody else waits.
    fn open_fifo(&self, place: Place, flags: i32) -> Answer {
        let (listener, call) = (self.listener.clone(), *self.call);
        let release = place.file.try_clone()?;
        let seats = &self.files.seats;
        let (Some(seat), Some(other_seat)) = (seats.take_one(), seats.take_one()) else {
            return Err(errno(libc::ENFILE));
        };
        self.check()?;
        let (done, ended) = std::sync::mpsc::channel::<()>();
        self.files.hands.carry_out_aside(move || {
            let _seat = seat;
            match reopen(&place.file, flags, 0) {
                Ok(file) => {
                    listener.hand_over(&call, file.into(), flags & libc::O_CLOEXEC != 0);
                }
                Err(error) => {
                    listener.finish(&call, Err(error.raw_os_error().unwrap_or(libc::EIO)));
                }
            }
            drop(done);
        })?;
        // If the caller dies meanwhile, the other end is opened for a moment to let that thread go.
        let (listener, call) = (self.listener.clone(), *self.call);
        std::thread::Builder::new().name("nono-fifo".into()).stack_size(64 * 1024).spawn(
            move || {
                let _seat = other_seat;
                use std::sync::mpsc::RecvTimeoutError::Timeout;
                const LOOK: std::time::Duration = std::time::Duration::from_millis(200);
                while ended.recv_timeout(LOOK) == Err(Timeout) {
                    if !listener.is_parked(&call) {
                        let _ = reopen(&release, libc::O_RDWR | libc::O_NONBLOCK, 0);
                    }
                }
            },
        )?;
        Ok(Reply::Elsewhere)
    }
}

/// Combinations that the kernel refuses whatever is opened (`build_open_flags` in fs/open.c).
fn check_flags(flags: i32) -> io::Result<()> {
    let has = |all: i32| flags & all == all;
    let unnamed = flags & O_TMPFILE_ALONE != 0;
    let is_invalid = has(libc::O_CREAT | libc::O_DIRECTORY)
        || unnamed && (!has(libc::O_DIRECTORY) || flags & libc::O_ACCMODE == libc::O_RDONLY);
    if is_invalid { Err(errno(libc::EINVAL)) } else { Ok(()) }
}

pub(super) fn opened(file: File, flags: i32) -> Reply {
    Reply::Opened { file, close_on_exec: flags & libc::O_CLOEXEC != 0 }
}

/// Opens what a descriptor only names. It never becomes anybody's controlling terminal.
pub(in crate::supervisor) fn reopen(
    place: &File,
    flags: i32,
    mode: libc::mode_t,
) -> io::Result<File> {
    let (links, name) = (place::own_descriptors()?, place::own_name(place));
    let flags = flags | libc::O_NOCTTY | libc::O_CLOEXEC;
    open_at(links, &name, flags, mode)
}

/// Opens a file to write, since it is going to be truncated: Landlock always checks the one, and the
/// other from ABI 3 on only. Nothing is granted one without the other.
fn open_to_truncate(place: &Place) -> io::Result<File> {
    reopen(&place.file, libc::O_WRONLY, 0)
}

/// Opens a name in a directory.
pub(in crate::supervisor) fn open_at(
    directory: &File,
    name: &CStr,
    flags: i32,
    mode: libc::mode_t,
) -> io::Result<File> {
    // SAFETY: a C string.
    let fd = unsafe { libc::openat(directory.as_raw_fd(), name.as_ptr(), flags, mode) };
    check(fd)?;
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { File::from_raw_fd(fd) })
}

pub(super) fn amend(file: &File, mode: libc::mode_t) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode))
}

//! chmod, chown, utimes and extended attributes: Landlock does not look at them, so in the tier
//! `flat` nobody but the supervisor does.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;

use super::super::place::{self, Place, errno};
use super::super::process;
use super::caller::{Caller, check};
use super::decode::{Change, Object, TimeFormat};
use super::reply::{Answer, Attempt, Reply};
use crate::event::Operation;
use crate::judge::{Reason, Right};
use crate::seccomp;
use crate::tier::TierName;

/// A change with everything it needs at hand.
enum Prepared {
    Mode(libc::mode_t),
    Owner(u32, u32),
    Times(Option<[libc::timespec; 2]>),
    SetAttribute { name: CString, value: Vec<u8>, flags: i32 },
    RemoveAttribute { name: CString },
}

impl Caller<'_> {
    pub(super) fn change(&self, of: &Object, change: Change, attempt: &mut Attempt) -> Answer {
        attempt.operation = Operation::Attributes;
        let place = self.object(of, attempt)?;
        let change = self.prepare(change)?;
        self.note_judgement(&place, Right::Write, attempt)?;
        // git sets the mode of its configuration. That names no programs.
        if self.files.judge.is_git_configuration(&place.path)
            && matches!(attempt.reason, Some(Reason::Protected(_)))
        {
            attempt.reason = None;
        }
        self.act_on_judgement(attempt)?;
        let kind = place.file.metadata()?.file_type();
        if matches!(change, Prepared::Mode(mode) if kind.is_file() && seccomp::lends_group(mode)) {
            attempt.is_forbidden = true;
            return Err(errno(libc::EPERM));
        }
        if place.has_path() && (kind.is_char_device() || kind.is_block_device()) {
            attempt.reason.get_or_insert(Reason::NotGranted);
            return Err(errno(libc::EPERM));
        }
        // In the other tier it is a read-only mount that refuses.
        if attempt.reason.is_some() && self.files.tier == TierName::Flat {
            return Err(errno(libc::EPERM));
        }
        self.last(move || change.make(&place).map(|()| Reply::Done))
    }

    fn object(&self, of: &Object, attempt: &mut Attempt) -> io::Result<Place> {
        let thread = self.call.thread;
        let place = match of {
            Object::Descriptor(fd) => Place::of_open_descriptor(thread, *fd),
            Object::At(at) if at.or_descriptor && self.string(at.pointer)?.is_empty() => {
                Place::of_descriptor(thread, at.base)
            }
            Object::At(at) => {
                let path = self.full_path(at, attempt)?;
                return self.place(&path, at.follow);
            }
        };
        let place = place.map_err(|_| errno(libc::EBADF))?;
        attempt.asked.clone_from(&place.path);
        Ok(place)
    }

    /// Copies what a change is about out of the caller's memory, once.
    fn prepare(&self, change: Change) -> io::Result<Prepared> {
        let read = |pointer, length| process::read_memory(self.call.thread, pointer, length);
        let name = |pointer| {
            let name = process::read_string(self.call.thread, pointer, 256)
                .map_err(|_| errno(libc::ERANGE))?;
            CString::new(name).map_err(|_| errno(libc::EINVAL))
        };
        let prepared = match change {
            Change::Mode(mode) => Prepared::Mode(mode),
            Change::Owner(user, group) => Prepared::Owner(user, group),
            Change::Times { pointer: 0, .. } => Prepared::Times(None),
            Change::Times { pointer, format } => {
                Prepared::Times(Some(times(&read(pointer, format.length())?, format)?))
            }
            Change::SetAttribute { name: pointer, value, size, flags } => {
                const XATTR_SIZE_MAX: u64 = 65_536; // linux/limits.h
                if size > XATTR_SIZE_MAX {
                    return Err(errno(libc::E2BIG));
                }
                let value = if size == 0 { Vec::new() } else { read(value, size as usize)? };
                Prepared::SetAttribute { name: name(pointer)?, value, flags }
            }
            Change::RemoveAttribute { name: pointer } => {
                Prepared::RemoveAttribute { name: name(pointer)? }
            }
        };
        Ok(prepared)
    }
}

impl TimeFormat {
    fn length(self) -> usize {
        match self {
            TimeFormat::Nanoseconds => 32,
            #[cfg(target_arch = "x86_64")]
            TimeFormat::Microseconds => 32,
            #[cfg(target_arch = "x86_64")]
            TimeFormat::Seconds => 16,
        }
    }
}

/// Access and modification time, from whichever format.
fn times(bytes: &[u8], format: TimeFormat) -> io::Result<[libc::timespec; 2]> {
    let (words, _) = bytes.as_chunks::<8>();
    let words: Vec<i64> = words.iter().map(|word| i64::from_ne_bytes(*word)).collect();
    let time = |tv_sec, tv_nsec| libc::timespec { tv_sec, tv_nsec };
    match (format, words.as_slice()) {
        (TimeFormat::Nanoseconds, &[a, b, c, d]) => Ok([time(a, b), time(c, d)]),
        #[cfg(target_arch = "x86_64")]
        (TimeFormat::Microseconds, &[a, b, c, d]) => {
            let is_fraction = |value| (0..1_000_000).contains(&value);
            if !is_fraction(b) || !is_fraction(d) {
                return Err(errno(libc::EINVAL));
            }
            Ok([time(a, b * 1000), time(c, d * 1000)])
        }
        #[cfg(target_arch = "x86_64")]
        (TimeFormat::Seconds, &[a, b]) => Ok([time(a, 0), time(b, 0)]),
        _ => Err(errno(libc::EFAULT)),
    }
}

impl Prepared {
    fn make(&self, place: &Place) -> io::Result<()> {
        let (fd, here) = (place.file.as_raw_fd(), c"".as_ptr());
        // Through this link calls without AT_EMPTY_PATH reach the object itself, even a symbolic link.
        let link = place::own_link(&place.file);
        // SAFETY: C strings, and a value with its length.
        unsafe {
            match self {
                Prepared::Mode(mode) => check(libc::chmod(link.as_ptr(), *mode)),
                Prepared::Owner(user, group) => {
                    check(libc::fchownat(fd, here, *user, *group, libc::AT_EMPTY_PATH))
                }
                Prepared::Times(times) => {
                    let times = times.as_ref().map_or(std::ptr::null(), |times| times.as_ptr());
                    check(libc::utimensat(libc::AT_FDCWD, link.as_ptr(), times, 0))
                }
                Prepared::SetAttribute { name, value, flags } => check(libc::setxattr(
                    link.as_ptr(),
                    name.as_ptr(),
                    value.as_ptr().cast(),
                    value.len(),
                    *flags,
                )),
                Prepared::RemoveAttribute { name } => {
                    check(libc::removexattr(link.as_ptr(), name.as_ptr()))
                }
            }
        }
    }
}

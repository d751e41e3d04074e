//! inotify_add_watch(2): whoever watches a directory is told the names of what others do in it.
//!
//! Only the mode of what is watched is asked (`inotify_find_inode` in fs/notify/inotify/inotify_user.c):
//! no right of Landlock is for that, and a mount that cannot be written can be watched.

use std::os::fd::{AsRawFd, RawFd};

use super::super::{place, process};
use super::caller::{Caller, check};
use super::decode;
use super::reply::{Answer, Attempt, Reply};
use crate::event::Operation;
use crate::judge::Right;

impl Caller<'_> {
    /// Watches what may be read, on the caller's own instance.
    pub(super) fn watch(
        &self,
        instance: RawFd,
        at: &decode::At,
        mask: u32,
        attempt: &mut Attempt,
    ) -> Answer {
        attempt.operation = Operation::Read;
        let path = self.full_path(at, attempt)?;
        let place = self.place(&path, at.follow)?;
        self.note_judgement(&place, Right::Read, attempt)?;
        if attempt.reason.is_some() || attempt.is_replaced {
            return Err(place::errno(libc::EACCES));
        }
        let instance = process::take_descriptor(self.call.thread, instance)?;
        self.check()?;
        let link = place::own_link(&place.file);
        let mask = mask & !libc::IN_DONT_FOLLOW; // the link itself is to be followed
        // SAFETY: a C string.
        let watch = unsafe { libc::inotify_add_watch(instance.as_raw_fd(), link.as_ptr(), mask) };
        check(watch).map(|()| Reply::Number(watch))
    }
}

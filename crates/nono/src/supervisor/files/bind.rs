//! The file of a unix socket, which bind(2) makes.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::super::notif::{Listener, Notification};
use super::super::place::{self, errno};
use super::super::record::Account;
use super::Files;
use super::caller::Caller;
use super::reply::{Answer, Attempt, Reply, Verdict};
use crate::event::Operation;

/// Judges the path that a unix socket is to be bound to. If it may be, the kernel makes the call: the
/// path becomes the socket's address (`getsockname(2)`), so nobody else can make it for the caller.
/// Whoever changes the path after this look gets a socket under another name, where Landlock and the
/// mounts allow it; it replaces nothing, and no program takes orders from a socket's file.
pub(in crate::supervisor) fn bind(
    files: &mut Files,
    listener: &Arc<Listener>,
    call: &Notification,
    path: &Path,
) -> (Verdict, Account) {
    let mut attempt = Attempt::new(Operation::Bind);
    attempt.asked = path.to_owned();
    let answer = files.with_view(listener, call, |caller| caller.bind(path, &mut attempt));
    let errno = answer.as_ref().err().map(|error| error.raw_os_error().unwrap_or(libc::EIO));
    (Verdict(answer), attempt.account(errno))
}

impl Caller<'_> {
    fn bind(&self, path: &Path, attempt: &mut Attempt) -> Answer {
        let thread = self.call.thread;
        let path = place::full_path(thread, libc::AT_FDCWD, path.as_os_str().as_bytes())?;
        let entry = self.view.entry(thread, &path)?;
        attempt.path.clone_from(&entry.path);
        self.judge_entry(&entry, attempt)?;
        if attempt.reason.is_some() {
            return Err(errno(libc::EACCES));
        }
        Ok(Reply::CarryOn)
    }
}

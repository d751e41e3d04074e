//! What becomes of a parked call, and the account of it.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use super::super::notif::{Listener, Notification};
use super::super::record::Account;
use super::Grant;
use crate::event::{Operation, Refusal, Target};
use crate::judge::Reason;

/// How a parked call ends.
pub(super) enum Reply {
    /// With 0.
    Done,
    /// With this number.
    Number(i32),
    /// With a descriptor for this file.
    Opened { file: File, close_on_exec: bool },
    /// As if nobody had looked: nothing about it was to be decided.
    CarryOn,
    /// It was answered elsewhere, or will be.
    Elsewhere,
    /// Nothing grants it; but somebody may be asked.
    Ask(Box<Grant>),
    /// With what this comes to, which is all that is left to do, in the sandbox's domain.
    Last(Last),
}

/// The one operation that a call comes to.
pub(in crate::supervisor) struct Last(pub(super) Box<dyn FnOnce() -> Answer + Send>);

/// One call on its way through.
pub(super) struct Attempt {
    pub(super) operation: Operation,
    pub(super) asked: PathBuf,
    pub(super) path: PathBuf,
    pub(super) to: Option<PathBuf>,
    /// Why the rules refuse it, if they do: so far nobody may have acted on it.
    pub(super) reason: Option<Reason>,
    /// A rule grants what had this name when the sandbox was made, and this is something else: if the
    /// kernel refuses it, that is why.
    pub(super) is_replaced: bool,
    /// No rule could grant it: it is refused as a filter would.
    pub(super) is_forbidden: bool,
}

pub(super) type Answer = io::Result<Reply>;

/// How a call is to be answered.
pub(in crate::supervisor) struct Verdict(pub(super) Answer);

impl Verdict {
    pub(in crate::supervisor) fn send(self, listener: &Listener, call: &Notification) {
        match self.0 {
            Ok(Reply::Done) => listener.finish(call, Ok(())),
            Ok(Reply::Number(number)) => listener.finish_with(call, number),
            Ok(Reply::Opened { file, close_on_exec }) => {
                listener.hand_over(call, file.into(), close_on_exec);
            }
            Ok(Reply::CarryOn) => listener.carry_on(call),
            Ok(Reply::Elsewhere) => {}
            Ok(Reply::Ask(_) | Reply::Last(_)) => listener.finish(call, Err(libc::EACCES)),
            Err(error) => listener.finish(call, Err(error.raw_os_error().unwrap_or(libc::EIO))),
        }
    }

    /// What is to be granted if somebody says so.
    pub(in crate::supervisor) fn into_question(self) -> Result<Box<Grant>, Self> {
        match self.0 {
            Ok(Reply::Ask(grant)) => Ok(grant),
            other => Err(Verdict(other)),
        }
    }

    /// 0 or an errno; `None`: it is not known here.
    pub(super) fn errno(&self) -> Option<i32> {
        match &self.0 {
            Ok(Reply::CarryOn | Reply::Elsewhere | Reply::Last(_)) => None,
            Ok(Reply::Ask(_)) => Some(libc::EACCES),
            Ok(Reply::Done | Reply::Number(_) | Reply::Opened { .. }) => Some(0),
            Err(error) => Some(error.raw_os_error().unwrap_or(libc::EIO)),
        }
    }
}

/// What becomes of a parked call.
pub(in crate::supervisor) enum Outcome {
    /// It is decided, with an account of it.
    Decided(Verdict, Account),
    /// Nothing refuses it: [`Files::conclude`] makes it, and what it comes to completes the account.
    Open(Last, Account),
    /// No rule could grant it.
    Forbidden,
}

impl Attempt {
    pub(super) fn new(operation: Operation) -> Self {
        let path = PathBuf::new;
        Attempt {
            operation,
            asked: path(),
            path: path(),
            to: None,
            reason: None,
            is_replaced: false,
            is_forbidden: false,
        }
    }

    pub(super) fn account(self, errno: Option<i32>) -> Account {
        let Attempt { operation, asked, path, to, mut reason, is_replaced, .. } = self;
        if is_replaced && errno == Some(libc::EACCES) {
            reason.get_or_insert(Reason::NotGranted);
        }
        let refused = reason.zip(errno).and_then(|(reason, errno)| {
            let layer = match (&reason, errno) {
                (_, libc::EROFS) => "mounts",
                (Reason::NotGranted, libc::EACCES | libc::EXDEV) => "landlock",
                (_, libc::EACCES | libc::EPERM | libc::EXDEV) => "supervisor",
                _ => return None, // it would have failed anyway, or another rule let it pass
            };
            Some(Refusal { layer, reason })
        });
        Account { operation, target: Target::Path { path, asked, to }, errno, refused }
    }
}

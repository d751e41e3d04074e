//! A parked call on its way: what it means, what the rules say of it, and who carries it out.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::hands::Mode;
use super::super::notif::{Listener, Notification};
use super::super::place::{self, Entry, Place, View};
use super::super::{own_process, process};
use super::reply::{Answer, Attempt, Last, Reply};
use super::{Files, Grant, decode};
use crate::judge::{Judgement, Reason, Right};
use crate::tier::TierName;

/// A parked call together with what it takes to answer it.
pub(super) struct Caller<'a> {
    pub(super) files: &'a Files,
    pub(super) view: &'a View,
    pub(super) listener: &'a Arc<Listener>,
    pub(super) call: &'a Notification,
}

impl Caller<'_> {
    pub(super) fn serve(&self, request: decode::Request, attempt: &mut Attempt) -> Answer {
        use decode::Request;
        match request {
            Request::Open { at, flags, mode } => self.open(&at, flags, mode, attempt),
            Request::Truncate { at, length } => self.truncate(&at, length, attempt),
            Request::MakeDirectory { at, mode } => self.make_directory(&at, mode, attempt),
            Request::MakeNode { at, mode, device } => self.make_node(&at, mode, device, attempt),
            Request::Symlink { target, at } => self.symlink(target, &at, attempt),
            Request::Link { from, to, flags } => self.link(&from, &to, flags, attempt),
            Request::Rename { from, to, flags } => self.rename(&from, &to, flags, attempt),
            Request::Remove { at, directory } => self.remove(&at, directory, attempt),
            Request::Change { of, change } => self.change(&of, change, attempt),
            Request::Watch { instance, at, mask } => self.watch(instance, &at, mask, attempt),
        }
    }

    /// The path that an argument stands for, as the caller means it.
    pub(super) fn full_path(&self, at: &decode::At, attempt: &mut Attempt) -> io::Result<PathBuf> {
        let given = self.string(at.pointer)?;
        let path = place::full_path(self.call.thread, at.base, &given)?;
        if attempt.asked.as_os_str().is_empty() {
            attempt.asked = PathBuf::from(OsStr::from_bytes(&given));
            attempt.path.clone_from(&path);
        }
        Ok(path)
    }

    /// A string of the caller's memory, copied once.
    pub(super) fn string(&self, pointer: u64) -> io::Result<Vec<u8>> {
        process::read_string(self.call.thread, pointer, libc::PATH_MAX as usize).map_err(|error| {
            match error.raw_os_error() {
                Some(libc::EINVAL) => place::errno(libc::ENAMETOOLONG),
                _ => error,
            }
        })
    }

    /// Carries an operation out in the sandbox's domain, if the call is still parked: only then was
    /// everything that has been found out about the caller really about the caller.
    pub(super) fn carry_out<T: Send + 'static>(
        &self,
        operation: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.check()?;
        self.files.hands.carry_out(operation)
    }

    /// The same as the last thing that there is to do for a call.
    pub(super) fn last(&self, operation: impl FnOnce() -> Answer + Send + 'static) -> Answer {
        self.check()?;
        Ok(Reply::Last(Last(Box::new(operation))))
    }

    pub(super) fn check(&self) -> io::Result<()> {
        if self.listener.is_parked(self.call) { Ok(()) } else { Err(place::errno(libc::EINTR)) }
    }

    pub(super) fn place(&self, path: &Path, follow: bool) -> io::Result<Place> {
        self.view.place(self.call.thread, path, follow)
    }

    pub(super) fn entry(&self, at: &decode::At, attempt: &mut Attempt) -> io::Result<Entry> {
        let path = self.full_path(at, attempt)?;
        self.view.entry(self.call.thread, &path)
    }

    /// What the rules say of an object; noted if they refuse it. What only Landlock or the mounts
    /// refuse is theirs to refuse.
    pub(super) fn judge_place(
        &self,
        place: &Place,
        right: Right,
        attempt: &mut Attempt,
    ) -> io::Result<()> {
        self.note_judgement(place, right, attempt)?;
        self.act_on_judgement(attempt)
    }

    /// Refuses what only the supervisor would refuse. What Landlock or the mounts refuse is theirs.
    pub(super) fn act_on_judgement(&self, attempt: &Attempt) -> io::Result<()> {
        match attempt.reason {
            None | Some(Reason::NotGranted) => Ok(()),
            Some(_) => Err(place::errno(libc::EACCES)),
        }
    }

    pub(super) fn note_judgement(
        &self,
        place: &Place,
        right: Right,
        attempt: &mut Attempt,
    ) -> io::Result<()> {
        attempt.path.clone_from(&place.path);
        if !place.has_path() {
            return Ok(());
        }
        let judge = &self.files.judge;
        let policy = judge.policy();
        let judgement = if judge.denies_files() || policy.names_file(&place.path) {
            let file = place.file.metadata()?;
            attempt.is_replaced = policy.is_replaced(&place.path, &file);
            judge.judge_object(&place.path, &file, right)
        } else {
            judge.judge(&place.path, right)
        };
        let refused = judgement.err().filter(|reason| {
            let is_read = *reason == Reason::NotGranted && right == Right::Read;
            !is_read || !self.may_read_all_the_same(place)
        });
        attempt.reason = refused.or(attempt.reason.take());
        Ok(())
    }

    /// Whether something may be read though no rule is for it.
    fn may_read_all_the_same(&self, place: &Place) -> bool {
        if let Some(name) = &place.own_process {
            return own_process::is_about_it_alone(name) || name == own_process::MOUNTS;
        }
        // Whoever may execute a program may read it, as by a rule.
        let programs = self.files.programs.as_ref();
        programs.is_some_and(|programs| programs.have_put(&place.file))
    }

    /// The same for a name that is to be made, moved or deleted.
    pub(super) fn judge_entry(&self, entry: &Entry, attempt: &mut Attempt) -> io::Result<()> {
        settle(self.files.judge.judge_name(&entry.path), attempt)
    }

    /// Refuses to move or delete what the plan has mounted (`plan/mounts.rs`): from outside the
    /// sandbox's mount namespace the kernel would let go of the mount instead (`rmdir(2)`, EBUSY).
    /// Nothing grants it, since the directory that it is in cannot be written.
    pub(super) fn is_not_mounted(&self, entry: &Entry, attempt: &mut Attempt) -> io::Result<()> {
        let policy = self.files.judge.policy();
        let is_mounted = self.files.tier == TierName::Namespaces
            && policy.rules.contains_key(&entry.path)
            && entry.path.parent().is_none_or(|above| !policy.access_to(above).write);
        if is_mounted { refuse(Reason::NotGranted, attempt) } else { Ok(()) }
    }

    /// An open that nothing grants, as a question. `None`: it is not one, or nobody is asked, and the
    /// kernel may refuse. What is denied by name is not asked about.
    pub(super) fn question(
        &self,
        attempt: &Attempt,
        grant: impl FnOnce() -> io::Result<Grant>,
    ) -> Option<Answer> {
        let is_open = matches!(attempt.reason, Some(Reason::NotGranted | Reason::Protected(_)));
        (self.files.asks && is_open).then(|| Ok(Reply::Ask(Box::new(grant()?))))
    }

    /// A mode under the caller's mask.
    pub(super) fn mode(&self, asked: libc::mode_t) -> io::Result<Mode> {
        let mask = self.files.masks.borrow_mut().of(self.call.thread, || self.check())?;
        self.files.hands.mode(asked, mask)
    }
}

/// Acts on a judgement: what the kernel would not refuse by itself is refused here.
pub(super) fn settle(judgement: Judgement, attempt: &mut Attempt) -> io::Result<()> {
    match judgement {
        Ok(_) => Ok(()),
        Err(Reason::NotGranted) => {
            attempt.reason.get_or_insert(Reason::NotGranted);
            Ok(())
        }
        Err(reason) => refuse(reason, attempt),
    }
}

pub(super) fn refuse(reason: Reason, attempt: &mut Attempt) -> io::Result<()> {
    attempt.reason = Some(reason);
    Err(place::errno(libc::EACCES))
}

/// The result of a call that returns -1 and an errno.
pub(super) fn check(result: impl Into<i64>) -> io::Result<()> {
    if result.into() == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

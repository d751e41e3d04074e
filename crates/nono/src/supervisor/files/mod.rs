//! File operations that are parked: what they are about is found and judged here, and the operation
//! itself is then carried out by [`super::hands`], in the sandbox's own Landlock domain.

mod across;
mod attributes;
mod bind;
mod decode;
mod entries;
mod grant;
mod open;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::hands::{Hands, Mode};
use super::notif::{Listener, Notification};
use super::place::{self, Entry, Place, View};
use super::process;
use super::record::{Account, Given};
use crate::event::{Operation, Refusal, Target};
use crate::judge::{Judge, Judgement, Reason, Right};
use crate::tier::TierName;

pub(super) use bind::bind;
pub(crate) use decode::PARKED;
pub(super) use grant::Grant;
pub(crate) use open::WRITING;

/// What the supervisor needs to answer for files.
pub(crate) struct Files {
    hands: Hands,
    judge: Judge,
    tier: TierName,
    /// Whether somebody is asked before an open is refused.
    asks: bool,
    /// The file system as commands see it, from the first call on.
    view: Option<View>,
    /// Git configurations as they were before commands changed them.
    first_seen: RefCell<HashMap<PathBuf, Vec<u8>>>,
    /// `/proc/TID/status` of the last caller whose mode mask was asked for.
    status: RefCell<Option<(i32, File)>>,
}

/// How a parked call ends.
enum Reply {
    /// With 0.
    Done,
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
pub(super) struct Last(Box<dyn FnOnce() -> Answer + Send>);

/// One call on its way through.
struct Attempt {
    operation: Operation,
    asked: PathBuf,
    path: PathBuf,
    to: Option<PathBuf>,
    /// Why the rules refuse it, if they do: so far nobody may have acted on it.
    reason: Option<Reason>,
    /// A rule grants what had this name when the sandbox was made, and this is something else: if the
    /// kernel refuses it, that is why.
    is_replaced: bool,
}

type Answer = io::Result<Reply>;

/// How a call is to be answered.
pub(super) struct Verdict(Answer);

impl Verdict {
    pub(super) fn send(self, listener: &Listener, call: &Notification) {
        match self.0 {
            Ok(Reply::Done) => listener.finish(call, Ok(())),
            Ok(Reply::Opened { file, close_on_exec }) => {
                listener.hand_over(call, file.into(), close_on_exec);
            }
            Ok(Reply::CarryOn) => listener.carry_on(call),
            Ok(Reply::Elsewhere) => {}
            Ok(Reply::Ask(_) | Reply::Last(_)) => listener.finish(call, Err(libc::EACCES)),
            Err(error) => listener.finish(call, Err(error.raw_os_error().unwrap_or(libc::EIO))),
        }
    }
}

impl Verdict {
    /// What is to be granted if somebody says so.
    pub(super) fn into_question(self) -> Result<Box<Grant>, Self> {
        match self.0 {
            Ok(Reply::Ask(grant)) => Ok(grant),
            other => Err(Verdict(other)),
        }
    }

    /// 0 or an errno; `None`: it is not known here.
    fn errno(&self) -> Option<i32> {
        match &self.0 {
            Ok(Reply::CarryOn | Reply::Elsewhere | Reply::Last(_)) => None,
            Ok(Reply::Ask(_)) => Some(libc::EACCES),
            Ok(Reply::Done | Reply::Opened { .. }) => Some(0),
            Err(error) => Some(error.raw_os_error().unwrap_or(libc::EIO)),
        }
    }
}

impl Grant {
    /// Opens it on somebody's word.
    pub(super) fn give(&self) -> Given {
        let answer = self.perform();
        let failed = answer.as_ref().err().map(|error| error.raw_os_error().unwrap_or(libc::EIO));
        let verdict = Verdict(answer);
        (failed.unwrap_or(0), Box::new(move |listener, call| verdict.send(listener, call)))
    }
}

/// What becomes of a parked call.
pub(super) enum Outcome {
    /// It is decided, with an account of it.
    Decided(Verdict, Account),
    /// Nothing refuses it: [`Files::conclude`] makes it, and what it comes to completes the account.
    Open(Last, Account),
}

/// Carries out what a call asks for, if it may be. The call is still parked afterwards.
pub(super) fn attempt(files: &mut Files, listener: &Arc<Listener>, call: &Notification) -> Outcome {
    let mut attempt = Attempt::new(Operation::Write);
    let answer = decode::request(call).and_then(|request| {
        files.with_view(listener, call, |caller| caller.serve(request, &mut attempt))
    });
    let answer = match answer {
        Ok(Reply::Last(last)) if attempt.reason.is_none() && !attempt.is_replaced => {
            return Outcome::Open(last, attempt.account(None));
        }
        // Landlock or a mount may refuse it: then all there is to say about the caller is looked up.
        Ok(Reply::Last(last)) => files.hands.carry_out(last.0),
        other => other,
    };
    let verdict = Verdict(answer);
    let account = attempt.account(verdict.errno());
    Outcome::Decided(verdict, account)
}

/// Whether Landlock will refuse an execve(), as an account of it. What is foreseen decides nothing:
/// a program that may be executed is executed by the kernel, under its own rules.
pub(super) fn foresee(
    files: &mut Files,
    listener: &Arc<Listener>,
    call: &Notification,
) -> Option<Account> {
    let mut attempt = Attempt::new(Operation::Execute);
    let at = decode::executed(call);
    let is_executable = files.with_view(listener, call, |caller| {
        let path = caller.full_path(&at, &mut attempt)?;
        let place = caller.place(&path, at.follow)?;
        caller.note_judgement(&place, Right::Execute, &mut attempt)?;
        let found = place.file.metadata()?;
        let is_executable = found.is_file() && found.mode() & 0o111 != 0;
        if is_executable && attempt.is_replaced && attempt.reason.is_none() {
            attempt.reason = caller.carry_out(move || Ok(refuses_to_execute(&place.file)))?;
        }
        Ok(is_executable)
    });
    let will_be_refused = is_executable.ok()? && attempt.reason.is_some();
    will_be_refused.then(|| attempt.account(Some(libc::EACCES)))
}

/// Whether the kernel would refuse it (AT_EXECVE_CHECK in `execveat(2)`, Linux 6.14). Older ones do not
/// say, and nothing is told then.
fn refuses_to_execute(file: &File) -> Option<Reason> {
    const AT_EXECVE_CHECK: i32 = 0x10000;
    let flags = libc::AT_EMPTY_PATH | AT_EXECVE_CHECK;
    let (name, fd) = (c"".as_ptr(), file.as_raw_fd());
    let (arguments, environment) = ([name, std::ptr::null()], [std::ptr::null::<libc::c_char>()]);
    // SAFETY: C strings, and lists of them that end with null. Nothing is executed: a kernel that does
    // not know the flag refuses it (EINVAL).
    let checked = unsafe {
        libc::syscall(libc::SYS_execveat, fd, name, arguments.as_ptr(), environment.as_ptr(), flags)
    };
    let is_refused =
        checked == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EACCES);
    is_refused.then_some(Reason::NotGranted)
}

impl Files {
    pub(crate) fn new(hands: Hands, judge: Judge, tier: TierName, asks: bool) -> Self {
        Files {
            hands,
            judge,
            tier,
            asks,
            view: None,
            first_seen: RefCell::default(),
            status: RefCell::default(),
        }
    }

    /// Waits for the end of what was begun: what is judged next must not change any more.
    pub(super) fn finish(&self) {
        // If nobody is there to do it, that shows when something is to be done.
        let _ = self.hands.finish();
    }

    /// Makes a call that nothing refuses, and answers it, without waiting for that: each thread that
    /// has to be woken on the way costs more than most operations.
    pub(super) fn conclude(
        &self,
        last: Last,
        listener: &Arc<Listener>,
        call: &Notification,
        tell: impl FnOnce(Option<i32>) + Send + 'static,
    ) {
        let (answering, parked) = (listener.clone(), *call);
        let begun = self.hands.begin(move || {
            let verdict = Verdict(last.0());
            tell(verdict.errno());
            verdict.send(&answering, &parked);
        });
        if begun.is_err() {
            listener.finish(call, Err(libc::EIO));
        }
    }

    fn with_view<T>(
        &mut self,
        listener: &Arc<Listener>,
        call: &Notification,
        serve: impl FnOnce(Caller<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let view = match self.view.take() {
            Some(view) => view,
            None => {
                let view = View::of(call.thread)?;
                if !listener.is_parked(call) {
                    return Err(place::errno(libc::EINTR)); // it may be somebody else's root
                }
                view
            }
        };
        let answer = serve(Caller { files: self, view: &view, listener, call });
        self.view = Some(view);
        answer
    }
}

impl Attempt {
    fn new(operation: Operation) -> Self {
        let path = PathBuf::new;
        let (reason, is_replaced) = (None, false);
        Attempt { operation, asked: path(), path: path(), to: None, reason, is_replaced }
    }

    fn account(self, errno: Option<i32>) -> Account {
        let Attempt { operation, asked, path, to, mut reason, is_replaced } = self;
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

/// A parked call together with what it takes to answer it.
struct Caller<'a> {
    files: &'a Files,
    view: &'a View,
    listener: &'a Arc<Listener>,
    call: &'a Notification,
}

impl Caller<'_> {
    fn serve(&self, request: decode::Request, attempt: &mut Attempt) -> Answer {
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
        }
    }

    /// The path that an argument stands for, as the caller means it.
    fn full_path(&self, at: &decode::At, attempt: &mut Attempt) -> io::Result<PathBuf> {
        let given = self.string(at.pointer)?;
        let path = place::full_path(self.call.thread, at.base, &given)?;
        if attempt.asked.as_os_str().is_empty() {
            attempt.asked = PathBuf::from(OsStr::from_bytes(&given));
            attempt.path.clone_from(&path);
        }
        Ok(path)
    }

    /// A string of the caller's memory, copied once.
    fn string(&self, pointer: u64) -> io::Result<Vec<u8>> {
        process::read_string(self.call.thread, pointer, libc::PATH_MAX as usize).map_err(|error| {
            match error.raw_os_error() {
                Some(libc::EINVAL) => place::errno(libc::ENAMETOOLONG),
                _ => error,
            }
        })
    }

    /// Carries an operation out in the sandbox's domain, if the call is still parked: only then was
    /// everything that has been found out about the caller really about the caller.
    fn carry_out<T: Send + 'static>(
        &self,
        operation: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.check()?;
        self.files.hands.carry_out(operation)
    }

    /// The same as the last thing that there is to do for a call.
    fn last(&self, operation: impl FnOnce() -> Answer + Send + 'static) -> Answer {
        self.check()?;
        Ok(Reply::Last(Last(Box::new(operation))))
    }

    fn check(&self) -> io::Result<()> {
        if self.listener.is_parked(self.call) { Ok(()) } else { Err(place::errno(libc::EINTR)) }
    }

    fn place(&self, path: &Path, follow: bool) -> io::Result<Place> {
        self.view.place(self.call.thread, path, follow)
    }

    fn entry(&self, at: &decode::At, attempt: &mut Attempt) -> io::Result<Entry> {
        let path = self.full_path(at, attempt)?;
        self.view.entry(self.call.thread, &path)
    }

    /// What the rules say of an object; noted if they refuse it. What only Landlock or the mounts
    /// refuse is theirs to refuse.
    fn judge_place(&self, place: &Place, right: Right, attempt: &mut Attempt) -> io::Result<()> {
        self.note_judgement(place, right, attempt)?;
        self.act_on_judgement(attempt)
    }

    /// Refuses what only the supervisor would refuse. What Landlock or the mounts refuse is theirs.
    fn act_on_judgement(&self, attempt: &Attempt) -> io::Result<()> {
        match attempt.reason {
            None | Some(Reason::NotGranted) => Ok(()),
            Some(_) => Err(place::errno(libc::EACCES)),
        }
    }

    fn note_judgement(&self, place: &Place, right: Right, attempt: &mut Attempt) -> io::Result<()> {
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
        attempt.reason = judgement.err().or(attempt.reason.take());
        Ok(())
    }

    /// The same for a name that is to be made, moved or deleted.
    fn judge_entry(&self, entry: &Entry, attempt: &mut Attempt) -> io::Result<()> {
        settle(self.files.judge.judge_name(&entry.path), attempt)
    }

    /// Refuses to move or delete what the plan has mounted (`plan/mounts.rs`): from outside the
    /// sandbox's mount namespace the kernel would let go of the mount instead (`rmdir(2)`, EBUSY).
    /// Nothing grants it, since the directory that it is in cannot be written.
    fn is_not_mounted(&self, entry: &Entry, attempt: &mut Attempt) -> io::Result<()> {
        let policy = self.files.judge.policy();
        let is_mounted = self.files.tier == TierName::Namespaces
            && policy.rules.contains_key(&entry.path)
            && entry.path.parent().is_none_or(|above| !policy.access_to(above).write);
        if is_mounted { refuse(Reason::NotGranted, attempt) } else { Ok(()) }
    }

    /// An open that nothing grants, as a question. `None`: it is not one, or nobody is asked, and the
    /// kernel may refuse. What is denied by name is not asked about.
    fn question(
        &self,
        attempt: &Attempt,
        grant: impl FnOnce() -> io::Result<Grant>,
    ) -> Option<Answer> {
        let is_open = matches!(attempt.reason, Some(Reason::NotGranted | Reason::Protected(_)));
        (self.files.asks && is_open).then(|| Ok(Reply::Ask(Box::new(grant()?))))
    }

    /// A mode under the caller's mask.
    fn mode(&self, asked: libc::mode_t) -> io::Result<Mode> {
        Ok(self.files.hands.mode(asked, self.mask()?))
    }

    fn mask(&self) -> io::Result<libc::mode_t> {
        let mut status = self.files.status.borrow_mut();
        let status = match &*status {
            Some((thread, file)) if *thread == self.call.thread => file,
            _ => {
                let file = File::open(format!("/proc/{}/status", self.call.thread))?;
                &status.insert((self.call.thread, file)).1
            }
        };
        // The second line, after a name of at most 64 bytes; the rest is not worth reading.
        let mut head = [0; 128];
        let length = status.read_at(&mut head, 0)?;
        let head = String::from_utf8_lossy(&head[..length]);
        head.lines()
            .find_map(|line| line.strip_prefix("Umask:"))
            .and_then(|mask| libc::mode_t::from_str_radix(mask.trim(), 8).ok())
            .ok_or(place::errno(libc::EIO))
    }
}

/// Acts on a judgement: what the kernel would not refuse by itself is refused here.
fn settle(judgement: Judgement, attempt: &mut Attempt) -> io::Result<()> {
    match judgement {
        Ok(_) => Ok(()),
        Err(Reason::NotGranted) => {
            attempt.reason.get_or_insert(Reason::NotGranted);
            Ok(())
        }
        Err(reason) => refuse(reason, attempt),
    }
}

fn refuse(reason: Reason, attempt: &mut Attempt) -> io::Result<()> {
    attempt.reason = Some(reason);
    Err(place::errno(libc::EACCES))
}

/// The result of a call that returns -1 and an errno.
fn check(result: impl Into<i64>) -> io::Result<()> {
    if result.into() == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

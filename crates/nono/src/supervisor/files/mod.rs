//! File operations that are parked: what they are about is found and judged here, and the operation
//! itself is then carried out by [`super::hands`], in the sandbox's own Landlock domain.

mod across;
mod attributes;
mod bind;
mod caller;
mod carry;
mod decode;
mod entries;
mod grant;
mod mask;
mod open;
mod reply;
mod watch;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use super::hands::Hands;
use super::notif::{Listener, Notification};
use super::place::{self, View};
use super::programs::{Program, Programs};
use super::record::Account;
use super::seats::Seats;
use crate::event::Operation;
use crate::judge::{Judge, Reason, Right};
use crate::tier::TierName;

pub(super) use bind::bind;
use caller::Caller;
pub(crate) use decode::{PARKED, SYS_FCHMODAT2};
pub(super) use grant::Grant;
use mask::Masks;
pub(crate) use open::WRITING;
pub(super) use open::{open_at, reopen};
pub(super) use reply::Outcome;
use reply::{Attempt, Last, Reply, Verdict};

/// What the supervisor needs to answer for files.
pub(crate) struct Files {
    hands: Hands,
    /// Where opens wait that may take long.
    seats: Seats,
    judge: Judge,
    tier: TierName,
    /// Whether somebody is asked before an open is refused.
    asks: bool,
    /// Where programs go that somebody grants, if they can be.
    programs: Option<Programs>,
    /// The file system as commands see it, from the first call on.
    view: Option<View>,
    /// Git configurations as they were before commands changed them.
    first_seen: RefCell<HashMap<PathBuf, Vec<u8>>>,
    masks: RefCell<Masks>,
}

/// Carries out what a call asks for, if it may be. The call is still parked afterwards.
pub(super) fn attempt(files: &mut Files, listener: &Arc<Listener>, call: &Notification) -> Outcome {
    let mut attempt = Attempt::new(Operation::Write);
    let answer = decode::request(call).and_then(|request| {
        files.with_view(listener, call, |caller| caller.serve(request, &mut attempt))
    });
    if attempt.is_forbidden {
        return Outcome::Forbidden;
    }
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

/// An execve() that Landlock will refuse.
pub(super) struct Foreseen {
    pub(super) account: Account,
    /// The program and where it would go, if somebody may grant it: nothing else refuses it, and its
    /// caller could read and execute it outside.
    pub(super) program: Option<(Program, Programs)>,
}

/// Whether Landlock will refuse an execve(). What is foreseen decides nothing: a program that may be
/// executed is executed by the kernel, under its own rules.
pub(super) fn foresee(
    files: &mut Files,
    listener: &Arc<Listener>,
    call: &Notification,
) -> Option<Foreseen> {
    let mut attempt = Attempt::new(Operation::Execute);
    let at = decode::executed(call);
    let program = files.with_view(listener, call, |caller| {
        let path = caller.full_path(&at, &mut attempt)?;
        let place = caller.place(&path, at.follow)?;
        caller.note_judgement(&place, Right::Execute, &mut attempt)?;
        let found = place.file.metadata()?;
        let is_executable = found.is_file() && found.mode() & 0o111 != 0;
        if is_executable && attempt.is_replaced && attempt.reason.is_none() {
            let file = place.file.try_clone()?;
            attempt.reason = caller.carry_out(move || Ok(refuses_to_execute(&file)))?;
        }
        Ok(is_executable.then_some((place.file, found)))
    });
    let (file, found) = program.ok()??;
    let reason = attempt.reason.clone()?;
    let account = attempt.account(Some(libc::EACCES));
    let is_question = reason == Reason::NotGranted && can_read_and_execute(&file);
    let programs = files.programs.clone().filter(|_| is_question);
    let program = programs.map(|programs| (Program::new(file, found), programs));
    Some(Foreseen { account, program })
}

/// Whether this thread, which has its caller's user and no capabilities, may read and execute it: its mode
/// says so, and it is not mounted `noexec` (`do_faccessat` in fs/open.c).
fn can_read_and_execute(file: &File) -> bool {
    let (link, rights) = (place::own_link(file), libc::R_OK | libc::X_OK);
    // SAFETY: a C string.
    unsafe { libc::faccessat(libc::AT_FDCWD, link.as_ptr(), rights, libc::AT_EACCESS) == 0 }
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
    pub(crate) fn new(
        hands: Hands,
        seats: Seats,
        judge: Judge,
        tier: TierName,
        asks: bool,
        programs: Option<Programs>,
    ) -> Self {
        Files {
            hands,
            seats,
            judge,
            tier,
            asks,
            programs,
            view: None,
            first_seen: RefCell::default(),
            masks: RefCell::default(),
        }
    }

    /// Waits for the end of what was begun: what is judged next must not change any more.
    pub(super) fn finish(&self) {
        // If nobody is there to do it, that shows when something is to be done.
        let _ = self.hands.finish();
    }

    /// Lets a thread change its file mode mask, which is in a register.
    pub(super) fn let_mask_change(&mut self, listener: &Listener, call: &Notification) {
        self.masks.get_mut().forget(call.thread);
        listener.carry_on(call);
    }

    /// Takes away what was granted and is of no use any more, when there is another call.
    pub(super) fn tidy_up(&self, call: &Notification) {
        if let Some(programs) = &self.programs {
            programs.tidy_up(call);
        }
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

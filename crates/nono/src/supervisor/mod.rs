//! The supervisor of a sandbox: it answers the few system calls that neither Landlock nor a filter
//! of numbers can judge.
//!
//! One thread a sandbox, which sleeps until a call is parked. It is never the thread that waits for
//! `nono-init`, and `nono-init` itself makes none of the calls that are parked, so neither can wait
//! for the other.

mod bind;
mod connect;
mod diagnosis;
mod exec;
pub(crate) mod files;
mod frames;
mod hands;
mod internet;
mod made;
mod memory_file;
mod notif;
mod own_process;
mod place;
mod privileges;
mod process;
mod processor;
mod programs;
mod queries;
mod record;
mod seats;
mod sockets;
mod unix;
mod who;

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use diagnosis::Diagnosis;
pub(crate) use exec::{Loaders, Starting};
pub(crate) use files::Files;
use files::{Foreseen, Outcome};

pub(crate) use hands::Hands;
pub(crate) use internet::{Gate, Internet, Led, Servers};
pub(crate) use made::MadeSockets;
pub(crate) use notif::Listener;
use notif::Notification;
pub(crate) use process::can_take_descriptors;
pub(crate) use programs::Programs;
pub(crate) use queries::Queries;
pub(crate) use record::Recorder;
use record::{Account, Given};
pub(crate) use seats::Seats;
pub(crate) use sockets::Sockets;
pub(crate) use unix::UnixSockets;
pub(crate) use who::Callers;

use crate::approval::{Approver, Remembered, Request};
use crate::event::{Operation, Refusal, Target};
use crate::judge::Judge;
use crate::seccomp::{self, Action, Rules, SocketAccess};

/// A running supervisor. Dropped, it ends, by itself: it is not waited for, since a command may have
/// brought it to wait for something.
#[derive(Debug)]
pub(crate) struct Supervisor {
    stop: OwnedFd,
}

impl Supervisor {
    /// Answers the calls that arrive at the desk until nobody is left to make any.
    pub(crate) fn start(mut desk: Desk) -> io::Result<Self> {
        // SAFETY: no memory is involved.
        let stop = match unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) } {
            -1 => return Err(io::Error::last_os_error()),
            // SAFETY: a new descriptor that nobody else owns.
            fd => unsafe { OwnedFd::from_raw_fd(fd) },
        };
        let stopped = stop.try_clone()?;
        std::thread::Builder::new().name("nono-supervisor".into()).spawn(move || {
            // What it opens on a command's behalf it must not reach by a privilege of its own.
            if privileges::drop_capabilities(&[privileges::SYS_PTRACE]).is_ok() {
                let mut last = 0;
                while let Some(arrival) = desk.wait(&stopped)
                    && desk.serve(arrival, &mut last)
                {}
            }
        })?;
        Ok(Supervisor { stop })
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // SAFETY: an eventfd takes eight bytes (`eventfd(2)`).
        unsafe { libc::write(self.stop.as_raw_fd(), (&raw const ONE).cast(), size_of_val(&ONE)) };
    }
}

static ONE: u64 = 1;

/// How this process can carry out calls of others on their sockets; `own_network`: in a network
/// namespace of their own, where it cannot make sockets for them.
pub(crate) fn socket_access(own_network: bool) -> SocketAccess {
    if Diagnosis::open().is_err() {
        SocketAccess::None
    } else if can_take_descriptors() {
        SocketAccess::Taken
    } else if own_network {
        SocketAccess::None
    } else {
        SocketAccess::Made
    }
}

/// What the thread works with.
pub(crate) struct Desk {
    pub(crate) listener: Arc<Listener>,
    pub(crate) loaders: Loaders,
    pub(crate) starting: Starting,
    /// Unless calls on sockets are not parked.
    pub(crate) sockets: Option<Sockets>,
    pub(crate) files: Files,
    /// What the filter was compiled from: the answer to calls that are parked only to be told of.
    pub(crate) rules: Rules,
    pub(crate) judge: Judge,
    pub(crate) recorder: Recorder,
    /// Who is asked before something is refused, and what they granted for good.
    pub(crate) approver: Option<(Approver, Remembered)>,
}

/// When a call was parked.
enum Arrival {
    /// While nothing else was being answered.
    Awaited,
    /// Before that was done.
    Earlier,
}

impl Desk {
    /// Sleeps until a call is parked; `None`: there will be none any more.
    fn wait(&self, stop: &OwnedFd) -> Option<Arrival> {
        /// No sleep is as short as this.
        const AT_ONCE: Duration = Duration::from_micros(2);
        let watch = |fd, events| libc::pollfd { fd, events, revents: 0 };
        let mut fds = [
            watch(self.listener.as_fd().as_raw_fd(), libc::POLLIN),
            watch(stop.as_raw_fd(), libc::POLLIN),
        ];
        let began = Instant::now();
        loop {
            // SAFETY: the kernel fills `revents` of two elements.
            let ready = unsafe { libc::poll(fds.as_mut_ptr(), 2, -1) };
            match (ready, fds[0].revents, fds[1].revents) {
                (..=0, ..) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                (1.., calls, 0) if calls & libc::POLLIN != 0 => {
                    let waited = began.elapsed() >= AT_ONCE;
                    return Some(if waited { Arrival::Awaited } else { Arrival::Earlier });
                }
                // So a signal looks that came while the kernel looked (`seccomp_notify_poll` in
                // kernel/seccomp.c), as it does when this process is stopped or frozen.
                (1.., libc::POLLERR, 0) => {}
                // The last process that could make a call is gone, or we are to end.
                _ => return None,
            }
        }
    }

    /// Answers one call; false: the listener is of no use any more.
    fn serve(&mut self, arrival: Arrival, last: &mut i32) -> bool {
        let call = match self.listener.receive() {
            Ok(Some(call)) => call,
            Ok(None) => return true,
            Err(_) => return false,
        };
        // It is the call of a thread on another processor, which goes on there: else commands that
        // work side by side would all be gathered on this one.
        let is_beside = matches!(arrival, Arrival::Earlier) && call.thread != *last;
        *last = call.thread;
        if is_beside {
            self.listener.wake_here(false);
        }
        self.answer(&call);
        if is_beside {
            self.listener.wake_here(true);
        }
        true
    }

    fn answer(&mut self, call: &Notification) {
        self.files.finish();
        self.files.tidy_up(call);
        if let Action::Errno(errno) = self.rules.evaluate(call.number, call.arguments) {
            return self.refuse(call, errno);
        }
        match (call.number, &mut self.sockets) {
            (libc::SYS_connect, Some(sockets)) => {
                let (account, reply) = connect::connect(&self.listener, call, sockets);
                match (account, reply) {
                    (Some(account), connect::Reply::Refused(_, Some(exception)))
                        if self.approver.is_some() =>
                    {
                        self.ask(call, account, move || exception.give());
                    }
                    (account, reply) => {
                        if let Some(account) = account {
                            self.recorder.tell(call, account);
                        }
                        reply.send(&self.listener, call);
                    }
                }
            }
            (libc::SYS_bind, Some(sockets)) => {
                let files = &mut self.files;
                bind::bind(&self.listener, call, sockets, files, &self.recorder);
            }
            (libc::SYS_listen, Some(sockets)) => {
                connect::listen(&self.listener, call, sockets, &self.recorder);
            }
            (libc::SYS_socket, Some(sockets)) => sockets.make(&self.listener, call),
            (libc::SYS_memfd_create, _) => memory_file::create(&self.listener, call),
            (libc::SYS_execve | libc::SYS_execveat, _) => self.foresee_execution(call),
            (libc::SYS_umask, _) => self.files.let_mask_change(&self.listener, call),
            (libc::SYS_exit_group, _) => self.see_off(call),
            (number, _) if exec::is_start(number, call) => self.certify(call),
            (number, _) if let Some(process) = seccomp::target(number, call.arguments) => {
                self.answer_about(process, call);
            }
            _ => self.answer_for_files(call),
        }
    }

    /// Refuses a call by its number and what is in registers, as a filter would.
    fn refuse(&self, call: &Notification, errno: i32) {
        let target = Target::SystemCall(seccomp::name(call.number, call.arguments));
        let account = Account::refused(Operation::SystemCall, target, errno, "seccomp");
        self.recorder.tell(call, account);
        self.listener.finish(call, Err(errno));
    }

    /// Lets a call about another process be made if that is one of the sandbox's. Its number is in a
    /// register, so what was looked at is what the kernel takes.
    fn answer_about(&self, process: i32, call: &Notification) {
        match who::is_inside(process, self.recorder.init) {
            true => self.listener.carry_on(call),
            false => self.refuse(call, libc::EPERM),
        }
    }

    fn answer_for_files(&mut self, call: &Notification) {
        let files = &mut self.files;
        let (verdict, account) = match files::attempt(files, &self.listener, call) {
            Outcome::Decided(verdict, account) => (verdict, account),
            Outcome::Forbidden => return self.refuse(call, libc::EPERM),
            Outcome::Open(last, account) => {
                let tell = self.recorder.tell_later(call, account);
                return files.conclude(last, &self.listener, call, tell);
            }
        };
        match verdict.into_question() {
            Ok(grant) => self.ask(call, account, move || grant.give()),
            Err(verdict) => {
                self.recorder.tell(call, account);
                verdict.send(&self.listener, call);
            }
        }
    }

    /// Asks about an attempt that a rule refuses. Its call stays parked until there is an answer, and
    /// others go on meanwhile.
    fn ask(
        &self,
        call: &Notification,
        account: Account,
        give: impl FnOnce() -> Given + Send + 'static,
    ) {
        let errno = account.errno.unwrap_or(libc::EACCES);
        let Some((approver, remembered)) = &self.approver else {
            self.recorder.tell(call, account);
            return self.listener.finish(call, Err(errno));
        };
        let is_granted = remembered.holds(&account.target, account.operation);
        let event = self.recorder.event(call, account);
        let (listener, call, events) = (self.listener.clone(), *call, self.recorder.events.clone());
        let mut told = event.clone();
        let answer = move |allowed: bool| {
            if !allowed || !listener.is_parked(&call) {
                events.put(told);
                return listener.finish(&call, Err(errno));
            }
            let (errno, answer) = give();
            (told.errno, told.refused, told.approved) = (errno, None, true);
            events.put(told);
            answer(&listener, &call);
        };
        if is_granted {
            return answer(true);
        }
        let request = Request::new(&event, remembered.clone(), answer);
        approver.ask(event, request);
    }

    /// Lets a process end. Its code is in a register; the kernel passes on eight bits of it (`_exit(2)`).
    fn see_off(&mut self, call: &Notification) {
        let target = Target::ExitCode(call.arguments[0] as u8);
        let account = Account { operation: Operation::Exit, target, errno: Some(0), refused: None };
        self.recorder.tell(call, account);
        self.recorder.callers.forget(call.thread);
        self.listener.carry_on(call);
    }

    /// Lets a starting program run on, unless it is not to be executed after all.
    fn certify(&mut self, call: &Notification) {
        self.recorder.callers.forget(call.thread);
        match exec::certify(call, &mut self.loaders, &self.judge) {
            exec::Certificate::Sound => {
                if self.starting.ends_with(call) {
                    self.recorder.tell(call, exec::account(call, Some(0), None));
                }
                self.listener.carry_on(call);
            }
            exec::Certificate::Refused(reason) => {
                let refused = Refusal { layer: "supervisor", reason };
                self.recorder.tell(call, exec::account(call, Some(libc::EACCES), Some(refused)));
                exec::kill(&self.listener, call);
            }
        }
    }

    /// An execve() that Landlock will refuse is refused here already, so that it is on record, or somebody
    /// is asked; every other one is made as if nobody had looked, and what then starts is looked at.
    fn foresee_execution(&mut self, call: &Notification) {
        self.starting.expect(call.thread);
        let foreseen = files::foresee(&mut self.files, &self.listener, call);
        let Some(Foreseen { account, program }) = foreseen else {
            return self.listener.carry_on(call);
        };
        match program.filter(|(program, _)| !self.loaders.has(program.found())) {
            Some((program, programs)) => {
                let caller = *call;
                self.ask(call, account, move || programs.give(&program, &caller));
            }
            None => {
                let errno = account.errno.unwrap_or(libc::EACCES);
                self.recorder.tell(call, account);
                self.listener.finish(call, Err(errno));
            }
        }
    }
}

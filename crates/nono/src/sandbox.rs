//! A sandbox: built once, entered by any number of commands.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use nono_init::protocol as p;

use crate::approval::Approver;
use crate::blueprint::Blueprint;
use crate::born::Born;
use crate::capabilities::Capabilities;
use crate::cgroup::Cgroup;
use crate::channel::Channel;
use crate::child::{Callbacks, Child, CommandHandle, Exit};
use crate::command::Command;
use crate::error::{Error, Result};
use crate::event::{Events, Observe};
use crate::gate::{Destinations, GateListener};
use crate::guarantees::Guarantee;
use crate::held::Held;
use crate::judge::Judge;
use crate::launch::Init;
use crate::loopback::{self, Loopback};
use crate::overlay::OverlayMount;
use crate::policy::Policy;
use crate::private_tmp::PrivateTmp;
use crate::reactor::Reactor;
use crate::relay::{Doors, Relay};
use crate::stage;
use crate::supervisor::Supervisor;
use crate::terminal::{Terminal, TerminalSize};
use crate::tier::TierName;

/// A sandbox that stands: its rules are in force and cannot be changed.
///
/// Dropping it closes it: every process inside is killed.
///
/// ```no_run
/// use nono::{Capabilities, Command, Options, Sandbox};
///
/// # fn main() -> nono::Result<()> {
/// let capabilities = Capabilities::new().allow_read("/etc/hostname").allow_exec("cat");
/// let sandbox = Sandbox::create(&capabilities, &Options::default())?;
/// let exit = sandbox.spawn(Command::new(["cat", "/etc/hostname"]))?.wait();
/// assert!(exit.status.success());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Sandbox {
    inner: Arc<Inner>,
    tier: TierName,
    guarantees: Vec<Guarantee>,
    listeners: Mutex<Vec<GateListener>>,
    /// Unless a connection's own address says where it was meant to go.
    destinations: Option<Arc<Destinations>>,
    published: BTreeMap<u16, u16>,
    events: Events,
}

/// How a sandbox is to be built.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The tier; `None`: the strongest that works here.
    pub tier: Option<TierName>,
    /// Names of guarantees that may be missing.
    pub allow_degraded: Vec<String>,
    /// How much is told about what commands do; see [`Sandbox::events`].
    pub observe: Observe,
    /// Whoever is asked before an attempt is refused; `None`: nobody.
    pub approver: Option<Approver>,
    /// Directories that commands write to through an overlay. Only in the namespaces tier; at most 62.
    pub mounts: Vec<OverlayMount>,
}

/// What the sandbox's handles and the reactor share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) channel: Channel,
    init: Init,
    policy: Arc<Policy>,
    /// The multiplexer of the sandbox's own terminals, as a place (`O_PATH`).
    terminals: Option<Held>,
    supervisor: Mutex<Option<Supervisor>>,
    tmp: Mutex<Option<PrivateTmp>>,
    cgroup: Cgroup,
    /// Between its loopback and the host's.
    doors: Mutex<Option<Doors>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next_id: u32,
    commands: HashMap<u32, Tracked>,
    closed: bool,
}

/// A command on its way or running.
struct Tracked {
    program: PathBuf,
    memory_kills: u64,
    started: Option<Box<dyn FnOnce(Result<i32>) + Send>>,
    exited: Box<dyn FnOnce(Exit) + Send>,
}

impl std::fmt::Debug for Tracked {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tracked").field("program", &self.program).finish_non_exhaustive()
    }
}

impl Sandbox {
    /// Builds a sandbox.
    ///
    /// # Errors
    /// [`Error::UnsupportedPlatform`] and [`Error::UnsupportedPolicy`] if this machine cannot
    /// enforce the capabilities; an error about a path, program or variable if they are wrong;
    /// [`Error::SandboxFailed`] if the kernel refused a step. Nothing is left running then.
    pub fn create(capabilities: &Capabilities, options: &Options) -> Result<Self> {
        Blueprint::draw(capabilities, options)?.build()
    }

    /// The tier that was built.
    #[must_use]
    pub fn tier(&self) -> TierName {
        self.tier
    }

    /// What this sandbox promises, and how far each promise is kept.
    #[must_use]
    pub fn guarantees(&self) -> &[Guarantee] {
        &self.guarantees
    }

    /// Hands out the sockets of [`crate::Network::Gate`], once; later calls return none.
    #[must_use]
    pub fn take_listeners(&self) -> Vec<GateListener> {
        std::mem::take(&mut *self.listeners.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The ports of the host's loopback (127.0.0.1) at which servers inside are reached, by the port
    /// that was published ([`Capabilities::publish`]). It is the same port if that was free.
    #[must_use]
    pub fn published(&self) -> &BTreeMap<u16, u16> {
        &self.published
    }

    /// Where a connection that a gate's listener has accepted was meant to go, by its two ends:
    /// `local` is the accepting one, `remote` the connecting one. `None`: it is not known, since it
    /// does not come from this sandbox, and must be refused. Asked for a second time, it is not known
    /// any more.
    #[must_use]
    pub fn destination(&self, local: SocketAddr, remote: SocketAddr) -> Option<SocketAddr> {
        match (&self.destinations, self.tier) {
            (Some(destinations), _) => destinations.take(remote),
            (None, TierName::Namespaces) => Some(local),
            (None, TierName::Flat) => None,
        }
    }

    /// Deletes it when everything inside has ended.
    pub(crate) fn keep_until_closed(&self, tmp: PrivateTmp) {
        *self.inner.tmp.lock().unwrap_or_else(PoisonError::into_inner) = Some(tmp);
    }

    pub(crate) fn judge(&self) -> Judge {
        Judge::new(self.inner.policy.clone(), self.tier)
    }

    /// What commands attempt, as it happens, as far as [`Options::observe`] says.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// The process number of the sandbox's first process.
    #[must_use]
    pub fn init_pid(&self) -> i32 {
        self.inner.init.pid
    }

    /// Starts a command and waits until its program runs.
    ///
    /// # Errors
    /// An error about the command if it is wrong; [`Error::SpawnFailed`] if the kernel refused to
    /// start it; [`Error::Closed`].
    pub fn spawn(&self, command: Command) -> Result<Child> {
        let (tell_started, started) = mpsc::channel();
        let (tell_exit, exit) = mpsc::channel();
        let handle = self.spawn_with(
            command,
            Callbacks {
                started: Box::new(move |result| _ = tell_started.send(result)),
                exited: Box::new(move |exit| _ = tell_exit.send(exit)),
            },
        )?;
        started.recv().unwrap_or(Err(Error::Closed))?;
        Ok(Child { handle, exit })
    }

    /// Starts a command without waiting for anything.
    ///
    /// # Errors
    /// An error about the command if it is wrong; [`Error::Closed`]. Later ones reach
    /// [`Callbacks::started`].
    pub fn spawn_with(&self, command: Command, callbacks: Callbacks) -> Result<CommandHandle> {
        self.inner.clone().spawn_with(command, callbacks)
    }

    /// Kills every process inside and waits until they are gone. Closing twice is fine.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl Sandbox {
    /// A sandbox whose init has said that it is ready.
    pub(crate) fn of(
        ready: Ready,
        policy: Arc<Policy>,
        tier: TierName,
        guarantees: Vec<Guarantee>,
    ) -> Result<Self> {
        let Ready { channel, init, supervisor, events, network, terminals, cgroup } = ready;
        let supervisor = Mutex::new(supervisor);
        let (doors, state) = (Mutex::default(), Mutex::default());
        let tmp = Mutex::default();
        let terminals = terminals.map(Held::new);
        let inner =
            Inner { channel, init, policy, terminals, supervisor, tmp, cgroup, doors, state };
        let inner = Arc::new(inner);
        let Born { gate, destinations, localhost, servers } = network;
        let listeners = Mutex::new(gate);
        let published = BTreeMap::new();
        let mut sandbox =
            Sandbox { inner, tier, guarantees, listeners, destinations, published, events };
        Reactor::get().and_then(|reactor| reactor.add(&sandbox.inner)).map_err(|source| {
            Error::SandboxFailed { stage: "watching the control socket".into(), source }
        })?;
        let inner = &sandbox.inner;
        let Loopback { doors, published } =
            loopback::open(&inner.policy, tier, inner, localhost, servers).map_err(|source| {
                Error::SandboxFailed { stage: "opening ports of the loopback".into(), source }
            })?;
        *inner.doors.lock().unwrap_or_else(PoisonError::into_inner) = Some(doors);
        sandbox.published = published;
        Ok(sandbox)
    }
}

/// What building leaves: the socket, the process, the sockets born inside.
pub(crate) struct Ready {
    pub(crate) channel: Channel,
    pub(crate) init: Init,
    pub(crate) supervisor: Option<Supervisor>,
    pub(crate) events: Events,
    pub(crate) network: Born,
    pub(crate) terminals: Option<OwnedFd>,
    pub(crate) cgroup: Cgroup,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.inner.close();
    }
}

impl Inner {
    fn spawn_with(
        self: Arc<Self>,
        command: Command,
        callbacks: Callbacks,
    ) -> Result<CommandHandle> {
        let mut command = command.prepare(&self.policy)?;
        let failed = |source| Error::SpawnFailed {
            program: command.program.clone(),
            stage: "packing the request",
            source,
        };
        let mut terminal = None;
        if let Some(size) = command.terminal {
            let opened = self.open_terminal(size).and_then(|(own, theirs)| {
                command.stdio = vec![theirs.try_clone()?, theirs.try_clone()?, theirs];
                Ok(own)
            });
            let stage = "opening a terminal";
            let program = || command.program.clone();
            terminal = Some(opened.map_err(|source| Error::SpawnFailed {
                program: program(),
                stage,
                source,
            })?);
        } else if command.stdio.is_empty() {
            let null = || -> io::Result<OwnedFd> {
                Ok(std::fs::File::options().read(true).write(true).open("/dev/null")?.into())
            };
            command.stdio =
                vec![null().map_err(failed)?, null().map_err(failed)?, null().map_err(failed)?];
        }
        let payload = command.payload().map_err(failed)?;
        let mut fds = vec![payload.as_fd()];
        fds.extend(command.stdio.iter().map(AsFd::as_fd));

        let mut state = self.lock();
        if state.closed {
            return Err(Error::Closed);
        }
        let id = state.next_id;
        state.next_id = id.wrapping_add(1);
        state.commands.insert(
            id,
            Tracked {
                program: command.program.clone(),
                memory_kills: self.cgroup.memory_kills(),
                started: Some(callbacks.started),
                exited: callbacks.exited,
            },
        );
        // Not under the lock: the socket may be full, and the reactor, which needs the lock, is
        // who makes room at the other end.
        drop(state);
        let request = p::Request { kind: p::SPAWN, id, ..p::Request::default() };
        if let Err(source) = self.channel.send(&request, &fds) {
            self.lock().commands.remove(&id);
            return Err(failed(source));
        }
        Ok(CommandHandle { inner: self, id, terminal })
    }

    /// Takes in what init reports; false: it is gone.
    pub(crate) fn hear(&self) -> bool {
        loop {
            match self.channel.receive(libc::MSG_DONTWAIT) {
                Ok(Some((report, sockets))) if report.kind == p::SOCKETS_MADE => {
                    Relay::supply(report.id, sockets);
                }
                Ok(Some((report, _))) => self.take_in(&report),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(None) | Err(_) => {
                    self.give_up();
                    return false;
                }
            }
        }
    }

    fn take_in(&self, report: &p::Report) {
        let mut state = self.lock();
        match report.kind {
            p::STARTED => {
                let Some(command) = state.commands.get_mut(&report.id) else { return };
                let started = command.started.take();
                drop(state);
                if let Some(started) = started {
                    started(Ok(report.pid));
                }
            }
            p::START_FAILED => {
                let Some(command) = state.commands.remove(&report.id) else { return };
                drop(state);
                if let Some(started) = command.started {
                    started(Err(Error::SpawnFailed {
                        program: command.program,
                        stage: stage::of_start(report.stage),
                        source: io::Error::from_raw_os_error(report.status),
                    }));
                }
            }
            p::EXITED => {
                let Some(command) = state.commands.remove(&report.id) else { return };
                drop(state);
                (command.exited)(Exit::of(report, &self.cgroup, command.memory_kills));
            }
            _ => {}
        }
    }

    /// The sandbox is gone and everything inside was killed: says so to all who wait.
    fn give_up(&self) {
        let commands = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.commands)
        };
        for command in commands.into_values() {
            match command.started {
                Some(started) => started(Err(Error::Closed)),
                None => (command.exited)(Exit::gone()),
            }
        }
    }

    /// A new terminal: in the sandbox's own file system where it has one, so that commands find theirs
    /// by its path.
    fn open_terminal(&self, size: TerminalSize) -> io::Result<(Terminal, OwnedFd)> {
        match &self.terminals {
            Some(place) => {
                let place = place.get()?;
                let path = format!("/proc/self/fd/{}", place.as_raw_fd());
                Terminal::open(Path::new(&path), size)
            }
            None => Terminal::open(Path::new("/dev/ptmx"), size),
        }
    }

    /// In order after the request that started the command, so init knows its id.
    pub(crate) fn signal(&self, id: u32, signal: i32) {
        if self.lock().commands.contains_key(&id) {
            let request = p::Request { kind: p::SIGNAL, id, signal };
            // A failure means that init is gone, and the command with it.
            let _ = self.channel.send(&request, &[]);
        }
    }

    fn close(&self) {
        let was_closed = std::mem::replace(&mut self.lock().closed, true);
        self.channel.shut_down();
        self.init.reap();
        self.cgroup.remove();
        if !was_closed && let Ok(reactor) = Reactor::get() {
            reactor.remove(self);
        }
        self.channel.release();
        self.terminals.iter().for_each(Held::release);
        drop(self.doors.lock().unwrap_or_else(PoisonError::into_inner).take());
        drop(self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).take());
        drop(self.tmp.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.give_up();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

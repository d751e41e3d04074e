//! The thread that carries file operations out for parked calls.
//!
//! It stands in the sandbox's own Landlock domain, without capabilities, so that the kernel judges
//! each operation by the same rules as if the caller had made it: whatever the supervisor gets wrong
//! about a path, it cannot reach what the sandbox could not. (Landlock, capabilities and
//! `no_new_privs` belong to a thread, not to its process: `landlock(7)`, `capabilities(7)`.)

use std::cell::{Cell, OnceCell};
use std::ffi::c_int;
use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::{privileges, processor};

type Job = Box<dyn FnOnce() + Send>;

/// Hands jobs to the thread, one at a time. Dropped, it ends. It starts with the first job.
pub(crate) struct Hands {
    /// Until then.
    ruleset: Cell<Option<OwnedFd>>,
    worker: OnceCell<Worker>,
}

/// The thread.
///
/// The supervisor sleeps while the thread works, so both are kept on one processor ([`processor`]). For
/// the same reason a pipe wakes the thread: it starts once its waker sleeps
/// (`wake_up_interruptible_sync_poll` in fs/pipe.c), so that there are never two for another processor
/// to take one of.
struct Worker {
    /// Whether the thread has a file mode mask of its own; else it is everybody's here, and stays.
    has_own_mask: bool,
    thread: libc::pid_t,
    /// The processor that the thread was bound to last.
    processor: Cell<c_int>,
    table: Arc<Table>,
    wake: PipeWriter,
}

/// What lies between the supervisor and the thread.
#[derive(Default)]
struct Table {
    job: Mutex<Stage>,
    /// The thread is free, or gone.
    done: Condvar,
}

#[derive(Default)]
enum Stage {
    /// Being carried out; at first, its own start.
    #[default]
    Busy,
    Free,
    Begun(Job),
    /// The thread is gone.
    Ended,
}

impl Table {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job that was begun.
    fn take(&self) -> Option<Job> {
        match std::mem::take(&mut *self.stage()) {
            Stage::Begun(job) => Some(job),
            _ => None,
        }
    }

    /// Waits until the thread is free.
    fn when_free(&self) -> io::Result<MutexGuard<'_, Stage>> {
        let is_busy = |stage: &mut Stage| matches!(stage, Stage::Busy | Stage::Begun(_));
        let stage = self.done.wait_while(self.stage(), is_busy);
        let stage = stage.unwrap_or_else(PoisonError::into_inner);
        match *stage {
            Stage::Ended => Err(io::Error::from_raw_os_error(libc::EIO)),
            _ => Ok(stage),
        }
    }

    fn turn(&self, stage: Stage) {
        *self.stage() = stage;
        self.done.notify_one();
    }
}

/// Says so when the thread ends, however it does.
struct Presence(Arc<Table>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.turn(Stage::Ended);
    }
}

impl Hands {
    /// A thread that will enter the domain of this ruleset.
    pub(crate) fn new(ruleset: OwnedFd) -> Self {
        Hands { ruleset: Cell::new(Some(ruleset)), worker: OnceCell::new() }
    }

    fn worker(&self) -> io::Result<&Worker> {
        if let Some(worker) = self.worker.get() {
            return Ok(worker);
        }
        let ruleset = self.ruleset.take().ok_or(io::Error::from_raw_os_error(libc::EIO))?;
        let worker = Worker::start(ruleset)?;
        Ok(self.worker.get_or_init(|| worker))
    }

    /// Has something done over there, and does not wait for it. It must not block.
    pub(super) fn begin(&self, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.worker()?.begin(Box::new(job))
    }

    /// Waits until everything that was begun is done.
    pub(super) fn finish(&self) -> io::Result<()> {
        self.worker.get().map_or(Ok(()), |worker| worker.table.when_free().map(drop))
    }

    /// Carries something out over there, and waits for it. It must not block.
    pub(super) fn carry_out<T: Send + 'static>(
        &self,
        operation: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let result = Arc::new(Mutex::new(None));
        let slot = result.clone();
        self.begin(move || {
            let made = operation();
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
        })?;
        self.finish()?;
        let made = result.lock().unwrap_or_else(PoisonError::into_inner).take();
        made.unwrap_or_else(|| Err(io::Error::from_raw_os_error(libc::EIO)))
    }

    /// Carries something out that may block, on a thread of its own in the same domain.
    pub(super) fn carry_out_aside(
        &self,
        operation: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        self.carry_out(move || {
            let builder = std::thread::Builder::new().name("nono-hands".into());
            builder.stack_size(64 * 1024).spawn(operation).map(drop)
        })
    }

    /// A mode as the thread can give it.
    pub(super) fn mode(&self, asked: libc::mode_t, mask: libc::mode_t) -> io::Result<Mode> {
        let has_own_mask = self.worker()?.has_own_mask;
        Ok(Mode { asked, mask, has_own_mask })
    }
}

impl Worker {
    /// Starts the thread and waits until it has given up what the sandbox does not have.
    fn start(ruleset: OwnedFd) -> io::Result<Self> {
        let table: Arc<Table> = Arc::default();
        let settled: Arc<Mutex<io::Result<Settled>>> = Arc::new(Mutex::new(Ok(Settled::default())));
        let (presence, result) = (Presence(table.clone()), settled.clone());
        let (mut woken, wake) = io::pipe()?;
        std::thread::Builder::new().name("nono-hands".into()).spawn(move || {
            *result.lock().unwrap_or_else(PoisonError::into_inner) = settle(&ruleset);
            drop(ruleset);
            presence.0.turn(Stage::Free);
            while woken.read_exact(&mut [0]).is_ok() {
                if let Some(job) = presence.0.take() {
                    job();
                }
                presence.0.turn(Stage::Free);
            }
        })?;
        drop(table.when_free()?);
        let mut settled = settled.lock().unwrap_or_else(PoisonError::into_inner);
        let Settled { thread, has_own_mask } =
            std::mem::replace(&mut *settled, Ok(Settled::default()))?;
        Ok(Worker { has_own_mask, thread, processor: Cell::new(-1), table, wake })
    }

    fn begin(&self, job: Job) -> io::Result<()> {
        self.come_here();
        *self.table.when_free()? = Stage::Begun(job);
        (&self.wake).write_all(&[0])
    }

    /// Binds the thread to this processor, unless it was there the last time.
    fn come_here(&self) {
        if let Some(here) = processor::current()
            && self.processor.replace(here) != here
        {
            processor::bind(self.thread, here);
        }
    }
}

/// What the thread says of itself when it has settled.
#[derive(Default)]
struct Settled {
    thread: libc::pid_t,
    /// Some containers refuse it.
    has_own_mask: bool,
}

/// Gives up what the sandbox does not have.
fn settle(ruleset: &OwnedFd) -> io::Result<Settled> {
    let has_own_mask = privileges::keep_own_directory_and_mask().is_ok();
    privileges::drop_capabilities(&[])?;
    // SAFETY: no memory is involved.
    unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) != 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: it cannot fail.
    Ok(Settled { thread: unsafe { libc::gettid() }, has_own_mask })
}

/// The mode of something new: what the caller asked for, and its mask.
#[derive(Clone, Copy)]
pub(super) struct Mode {
    pub(super) asked: libc::mode_t,
    pub(super) mask: libc::mode_t,
    has_own_mask: bool,
}

impl Mode {
    /// The same, where the mask is that of this process.
    pub(super) fn on_any_thread(self) -> Self {
        Mode { has_own_mask: false, ..self }
    }

    /// Makes something with this mode, as the kernel would for the caller. `amend` changes a mode
    /// afterwards: where this process's own mask has taken part, it may have taken bits away.
    pub(super) fn make<T>(
        self,
        make: impl FnOnce(libc::mode_t) -> io::Result<T>,
        amend: impl FnOnce(&T, libc::mode_t) -> io::Result<()>,
    ) -> io::Result<T> {
        if self.has_own_mask {
            // SAFETY: no memory is involved; the mask is this thread's own.
            unsafe { libc::umask(self.mask) };
            return make(self.asked);
        }
        let masked = self.asked & !self.mask;
        let made = make(masked)?;
        amend(&made, masked & 0o7777)?;
        Ok(made)
    }
}

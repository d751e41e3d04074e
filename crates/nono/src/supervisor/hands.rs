//! The thread that carries file operations out for parked calls.
//!
//! It stands in the sandbox's own Landlock domain, without capabilities, so that the kernel judges
//! each operation by the same rules as if the caller had made it: whatever the supervisor gets wrong
//! about a path, it cannot reach what the sandbox could not. (Landlock, capabilities and
//! `no_new_privs` belong to a thread, not to its process: `landlock(7)`, `capabilities(7)`.)

use std::cell::Cell;
use std::ffi::c_int;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use super::privileges;

type Work = Box<dyn FnOnce() + Send>;

/// Hands work to the thread. Dropped, it ends.
///
/// One side always sleeps while the other works, so both are kept on one processor: waking another one
/// by an interrupt takes longer than most operations. Pipes wake as is best for that
/// (`wake_up_interruptible_sync_poll` in fs/pipe.c).
pub(crate) struct Hands {
    /// Whether the thread has a file mode mask of its own; else it is everybody's here, and stays.
    has_own_mask: bool,
    thread: libc::pid_t,
    /// The processor that the thread was bound to last.
    processor: Cell<c_int>,
    desk: Arc<Mutex<Option<Work>>>,
    wake: PipeWriter,
    done: PipeReader,
}

impl Hands {
    /// Starts the thread and waits until it has given up what the sandbox does not have.
    pub(crate) fn start(ruleset: OwnedFd) -> io::Result<Self> {
        let desk: Arc<Mutex<Option<Work>>> = Arc::default();
        let ((mut woken, wake), (done, mut tell_done)) = (io::pipe()?, io::pipe()?);
        let mut hands = Hands {
            has_own_mask: false,
            thread: 0,
            processor: Cell::new(-1),
            desk: desk.clone(),
            wake,
            done,
        };
        let settled: Arc<Mutex<io::Result<Settled>>> = Arc::new(Mutex::new(Ok(Settled::default())));
        let result = settled.clone();
        std::thread::Builder::new().name("nono-hands".into()).spawn(move || {
            *result.lock().unwrap_or_else(PoisonError::into_inner) = settle(&ruleset);
            drop(ruleset);
            let mut byte = [0];
            while tell_done.write_all(&byte).is_ok() && woken.read_exact(&mut byte).is_ok() {
                let work = desk.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(work) = work {
                    work();
                }
            }
        })?;
        hands.wait()?;
        let mut settled = settled.lock().unwrap_or_else(PoisonError::into_inner);
        let settled = std::mem::replace(&mut *settled, Ok(Settled::default()))?;
        (hands.has_own_mask, hands.thread) = (settled.has_own_mask, settled.thread);
        Ok(hands)
    }

    /// Carries something out over there, and waits for it. It must not block.
    pub(super) fn carry_out<T: Send + 'static>(
        &self,
        operation: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let result = Arc::new(Mutex::new(None));
        let slot = result.clone();
        let work: Work = Box::new(move || {
            let made = operation();
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
        });
        *self.desk.lock().unwrap_or_else(PoisonError::into_inner) = Some(work);
        self.come_here();
        (&self.wake).write_all(&[0])?;
        self.wait()?;
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

    /// Binds the thread to this processor, unless it was there the last time.
    fn come_here(&self) {
        // SAFETY: no memory is involved.
        let here = unsafe { libc::sched_getcpu() };
        if !(0..libc::CPU_SETSIZE).contains(&here) || self.processor.replace(here) == here {
            return;
        }
        // SAFETY: all-zero is a valid set, `here` is within it, and the kernel reads it. Where it
        // refuses, the thread is only slower.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(here as usize, &mut set);
            libc::sched_setaffinity(self.thread, size_of_val(&set), &raw const set);
        }
    }

    /// A mode as the thread can give it.
    pub(super) fn mode(&self, asked: libc::mode_t, mask: libc::mode_t) -> Mode {
        Mode { asked, mask, has_own_mask: self.has_own_mask }
    }

    fn wait(&self) -> io::Result<()> {
        (&self.done).read_exact(&mut [0]).map_err(|_| io::Error::from_raw_os_error(libc::EIO))
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

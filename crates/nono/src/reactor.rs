//! One thread that hears all sandboxes of this process: what their inits report is handed on from
//! here, so that neither a sandbox nor a command costs a thread.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use crate::sandbox::Inner;

/// The thread's set of sandboxes.
pub(crate) struct Reactor {
    epoll: OwnedFd,
    sandboxes: Mutex<HashMap<u64, Weak<Inner>>>,
}

impl Reactor {
    /// The process's reactor, started when it is first needed.
    pub(crate) fn get() -> io::Result<&'static Reactor> {
        static REACTOR: OnceLock<Reactor> = OnceLock::new();
        static STARTING: Mutex<()> = Mutex::new(());
        if let Some(reactor) = REACTOR.get() {
            return Ok(reactor);
        }
        let _one_starter = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reactor) = REACTOR.get() {
            return Ok(reactor);
        }
        // SAFETY: no memory is involved.
        let epoll = match unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } {
            -1 => return Err(io::Error::last_os_error()),
            // SAFETY: a new descriptor that nobody else owns.
            fd => unsafe { OwnedFd::from_raw_fd(fd) },
        };
        let reactor = REACTOR.get_or_init(|| Reactor { epoll, sandboxes: Mutex::default() });
        std::thread::Builder::new().name("nono-reactor".into()).spawn(|| reactor.run())?;
        Ok(reactor)
    }

    /// Hears this sandbox from now on.
    pub(crate) fn add(&self, sandbox: &Arc<Inner>) -> io::Result<()> {
        let key = Arc::as_ptr(sandbox) as u64;
        self.lock().insert(key, Arc::downgrade(sandbox));
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: key };
        let control = sandbox.channel.socket()?;
        // SAFETY: `event` lives across the call.
        let added = unsafe {
            libc::epoll_ctl(
                self.epoll.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                control.as_raw_fd(),
                &raw mut event,
            )
        };
        if added == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Forgets it. Its socket leaves the set when it is closed (`epoll(7)`).
    pub(crate) fn remove(&self, sandbox: &Inner) {
        self.lock().remove(&(std::ptr::from_ref(sandbox) as u64));
        let Ok(control) = sandbox.channel.socket() else { return };
        // SAFETY: the event may be null for DEL since Linux 2.6.9.
        unsafe {
            libc::epoll_ctl(
                self.epoll.as_raw_fd(),
                libc::EPOLL_CTL_DEL,
                control.as_raw_fd(),
                std::ptr::null_mut(),
            )
        };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Weak<Inner>>> {
        self.sandboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) -> ! {
        loop {
            let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
            // SAFETY: the kernel writes at most as many events as the array holds.
            let count = unsafe {
                libc::epoll_wait(
                    self.epoll.as_raw_fd(),
                    events.as_mut_ptr(),
                    events.len() as i32,
                    -1,
                )
            };
            for event in &events[..count.max(0) as usize] {
                let key = event.u64;
                let sandbox = self.lock().get(&key).and_then(Weak::upgrade);
                if let Some(sandbox) = sandbox
                    && !sandbox.hear()
                {
                    self.remove(&sandbox);
                }
            }
        }
    }
}

//! Descriptors that are given up by `close()`, not only when the last handle is gone: in JavaScript
//! that is whenever the garbage collector comes by.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

/// A descriptor that can be let go of. It is closed when those who are using it just then are done.
#[derive(Debug)]
pub(crate) struct Held(Mutex<Option<Arc<OwnedFd>>>);

impl Held {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Held(Mutex::new(Some(Arc::new(fd))))
    }

    /// The descriptor, for as long as the caller keeps it; an error once it was let go of.
    pub(crate) fn get(&self) -> io::Result<Arc<OwnedFd>> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.clone().ok_or(io::ErrorKind::NotConnected.into())
    }

    pub(crate) fn release(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

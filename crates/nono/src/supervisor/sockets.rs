//! The sockets of a sandbox whose calls are carried out here.

use std::os::fd::{OwnedFd, RawFd};

use super::diagnosis::Diagnosis;
use super::internet::Internet;
use super::made::MadeSockets;
use super::notif::Notification;
use super::process;
use super::unix::UnixSockets;
use crate::socket::{self, Errno};

/// What is known of them, and what decides about them.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) unix: UnixSockets,
    pub(crate) internet: Internet,
    pub(crate) diagnosis: Diagnosis,
    /// Where descriptors of commands cannot be taken: the sockets that were made for them.
    pub(crate) made: Option<MadeSockets>,
}

impl Sockets {
    /// A duplicate of the socket that a call's first argument names.
    pub(super) fn of(&self, call: &Notification) -> Result<OwnedFd, Errno> {
        let fd = call.arguments[0] as RawFd;
        match &self.made {
            Some(made) => made.find(call.thread, fd),
            None => {
                process::take_descriptor(call.thread, fd).map_err(|error| socket::errno(&error))
            }
        }
    }
}

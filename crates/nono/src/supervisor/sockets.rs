//! The sockets of a sandbox whose calls are carried out here.

use std::collections::BTreeSet;
use std::os::fd::{OwnedFd, RawFd};

use super::diagnosis::Diagnosis;
use super::internet::Internet;
use super::made::MadeSockets;
use super::notif::{Listener, Notification};
use super::process;
use super::queries::Queries;
use super::seats::Seats;
use super::unix::UnixSockets;
use crate::socket::{self, Errno, address};

/// What is known of them, and what decides about them.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) unix: UnixSockets,
    pub(crate) internet: Internet,
    pub(crate) diagnosis: Diagnosis,
    /// TCP ports on which anything but loopback can be reached; `None`: whichever the network has.
    pub(crate) ports: Option<BTreeSet<u16>>,
    /// What commands have instead of datagram sockets, where addresses are given to sockets here.
    pub(crate) queries: Queries,
    /// Where connections wait that may take long.
    pub(crate) seats: Seats,
    /// Where descriptors of commands cannot be taken: the sockets that were made for them.
    pub(crate) made: Option<MadeSockets>,
}

impl Sockets {
    /// Carries out a socket() that the filter has parked.
    pub(super) fn make(&self, listener: &Listener, call: &Notification) {
        const TYPE: i32 = 0xf;
        let datagrams = call.arguments[1] as i32 & TYPE == libc::SOCK_DGRAM;
        match (&self.internet, &self.made) {
            (Internet::Led(led), _) if datagrams => self.queries.make(listener, call, led),
            (_, Some(made)) => made.make(listener, call),
            (_, None) => listener.finish(call, Err(libc::EACCES)),
        }
    }

    /// Whether an address is out of reach by the policy, whoever is there.
    pub(super) fn leaves_out(&self, asked: &[u8]) -> bool {
        let Some(address) = address::parse(asked) else { return false };
        let ip = address.ip().to_canonical();
        let is_own = ip.is_loopback() || ip.is_unspecified();
        !is_own && self.ports.as_ref().is_some_and(|ports| !ports.contains(&address.port()))
    }

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

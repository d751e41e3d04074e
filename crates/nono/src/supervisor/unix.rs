//! Which unix sockets may be connected to: those that the policy lists, and those that were bound
//! inside the sandbox.
//!
//! A socket is known by the inode of its file. An inode belongs to one socket for as long as it
//! exists, since bind(2) always makes a new one; so what is checked is what is connected to.

use std::collections::HashSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use super::diagnosis::Diagnosis;
use crate::policy::ListedSocket;

/// The unix sockets of a sandbox.
#[derive(Debug)]
pub(crate) struct UnixSockets {
    /// From the policy; each is held open, so that its inode cannot become another file.
    pub(crate) listed: Vec<ListedSocket>,
    /// Sockets that were bound inside, by their numbers; `None`: the network namespace is the
    /// sandbox's own, so that every socket in it is.
    pub(crate) bound: Option<HashSet<u32>>,
}

impl UnixSockets {
    /// Whether the network namespace, and with it the abstract names, is the sandbox's own.
    pub(super) fn has_own_namespace(&self) -> bool {
        self.bound.is_none()
    }

    /// Whether a socket with this file may be connected to.
    pub(super) fn allows(&self, file: &Metadata, diagnosis: &Diagnosis) -> bool {
        self.listed.iter().any(|listed| listed.is(file)) || self.is_bound_inside(file, diagnosis)
    }

    /// Takes note of a socket that is being bound inside. One that listens already under the same
    /// number is another one: the kernel's counter has 32 bits and comes round.
    pub(super) fn note(&mut self, number: u32, diagnosis: &Diagnosis) {
        const MANY: usize = 4096;
        let Ok(listening) = diagnosis.unix_listening() else { return };
        let listens = |number: u32| listening.iter().any(|socket| socket.number == number);
        let Some(bound) = &mut self.bound else { return };
        if listens(number) {
            return;
        }
        if bound.len() >= MANY {
            bound.retain(|number| listens(*number));
        }
        bound.insert(number);
    }

    /// The kernel tells 32 bits of an inode's number. Where a file system has more of them (XFS,
    /// btrfs), two sockets may look like one: then both must have been bound inside.
    fn is_bound_inside(&self, file: &Metadata, diagnosis: &Diagnosis) -> bool {
        let inode = file.ino() as u32;
        let device = libc::major(file.dev()) << 20 | libc::minor(file.dev());
        let is_inside = |number| self.bound.as_ref().is_none_or(|bound| bound.contains(&number));
        let listening = diagnosis.unix_listening().unwrap_or_default();
        let mut same =
            listening.iter().filter(|socket| (socket.device, socket.inode) == (device, inode));
        same.clone().next().is_some() && same.all(|socket| is_inside(socket.number))
    }
}

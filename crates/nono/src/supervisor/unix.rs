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
    /// Sockets that were bound inside, by their cookies; `None`: the network namespace is the
    /// sandbox's own, so that every socket in it is.
    pub(crate) bound: Option<HashSet<u64>>,
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

    /// Takes note of a socket that is being bound inside, by its cookie: numbers of inodes have 32 bits, and
    /// come round when enough sockets and pipes have been made.
    pub(super) fn note(&mut self, cookie: u64, diagnosis: &Diagnosis) {
        const MANY: usize = 4096;
        let Some(bound) = &mut self.bound else { return };
        if bound.len() >= MANY {
            let Ok(listening) = diagnosis.unix_listening() else { return };
            bound.retain(|cookie| listening.iter().any(|socket| socket.cookie == *cookie));
        }
        bound.insert(cookie);
    }

    /// The kernel tells 32 bits of an inode's number. Where a file system has more of them (XFS,
    /// btrfs), two sockets may look like one: then both must have been bound inside.
    fn is_bound_inside(&self, file: &Metadata, diagnosis: &Diagnosis) -> bool {
        let inode = file.ino() as u32;
        let device = libc::major(file.dev()) << 20 | libc::minor(file.dev());
        let is_inside = |cookie| self.bound.as_ref().is_none_or(|bound| bound.contains(&cookie));
        let listening = diagnosis.unix_listening().unwrap_or_default();
        let mut same =
            listening.iter().filter(|socket| (socket.device, socket.inode) == (device, inode));
        same.clone().next().is_some() && same.all(|socket| is_inside(socket.cookie))
    }
}

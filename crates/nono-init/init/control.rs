//! The control socket: whole packets, with descriptors.

use crate::protocol::{CONTROL_FD, MAX_FDS, Report, Request};
use crate::sys::{self, call};

/// Descriptors that came with a request or go with a report.
pub struct Fds {
    fds: [i32; MAX_FDS],
    count: usize,
}

impl Fds {
    pub const fn new() -> Self {
        Fds { fds: [-1; MAX_FDS], count: 0 }
    }

    /// Adds one; false: there is no room.
    pub fn push(&mut self, fd: i32) -> bool {
        if self.count == MAX_FDS {
            return false;
        }
        self.fds[self.count] = fd;
        self.count += 1;
        true
    }

    /// Hands over the one at `index`, -1 if there is none: it is no longer closed with the rest.
    pub fn take(&mut self, index: usize) -> i32 {
        if index >= self.count {
            return -1;
        }
        core::mem::replace(&mut self.fds[index], -1)
    }

    pub fn as_slice(&self) -> &[i32] {
        &self.fds[..self.count]
    }

    pub fn close_all(&mut self) {
        for fd in &mut self.fds[..self.count] {
            if *fd >= 0 {
                sys::close(*fd);
            }
            *fd = -1;
        }
        self.count = 0;
    }
}

#[repr(C)]
struct IoVec {
    base: *mut u8,
    length: usize,
}

/// `struct msghdr` on 64-bit Linux.
#[repr(C)]
struct MessageHeader {
    name: *mut u8,
    name_length: u32,
    vectors: *mut IoVec,
    vector_count: usize,
    control: *mut u8,
    control_length: usize,
    flags: i32,
}

/// A control buffer for one `SCM_RIGHTS` of up to [`MAX_FDS`] descriptors.
#[repr(C, align(8))]
struct Rights {
    length: usize,
    level: i32,
    kind: i32,
    fds: [i32; MAX_FDS],
}

const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
const RIGHTS_HEADER: usize = 16;

/// Takes our end away from the low numbers, which commands use, and makes it close on exec.
pub fn move_out_of_the_way() -> Option<i32> {
    let control = sys::move_high(CONTROL_FD);
    (control != CONTROL_FD).then_some(control)
}

/// Waits for a request; `None`: the owner closed the socket or died.
pub fn receive(control: i32, fds: &mut Fds) -> Option<Request> {
    const MSG_CMSG_CLOEXEC: u64 = 0x4000_0000;
    fds.close_all();
    let mut request = Request::default();
    let mut vector =
        IoVec { base: (&raw mut request).cast(), length: core::mem::size_of::<Request>() };
    let mut rights = Rights { length: 0, level: 0, kind: 0, fds: [-1; MAX_FDS] };
    let mut message = MessageHeader {
        name: core::ptr::null_mut(),
        name_length: 0,
        vectors: &raw mut vector,
        vector_count: 1,
        control: (&raw mut rights).cast(),
        control_length: core::mem::size_of::<Rights>(),
        flags: 0,
    };
    let received = loop {
        match call!(RECVMSG, control, &raw mut message, MSG_CMSG_CLOEXEC) {
            Err(sys::EINTR) => continue,
            other => break other.ok()?,
        }
    };
    if message.control_length > RIGHTS_HEADER && rights.kind == SCM_RIGHTS {
        let count = (rights.length - RIGHTS_HEADER) / 4;
        for fd in &rights.fds[..count.min(MAX_FDS)] {
            fds.push(*fd);
        }
    }
    (received == core::mem::size_of::<Request>()).then_some(request)
}

/// Sends a report. A failure means that the owner is gone, which the caller notices by polling.
pub fn send(control: i32, report: &Report, fds: &[i32]) {
    const MSG_NOSIGNAL: u64 = 0x4000;
    let mut vector = IoVec {
        base: core::ptr::from_ref(report).cast_mut().cast(),
        length: core::mem::size_of::<Report>(),
    };
    let mut rights = Rights {
        length: RIGHTS_HEADER + fds.len() * 4,
        level: SOL_SOCKET,
        kind: SCM_RIGHTS,
        fds: [-1; MAX_FDS],
    };
    let mut at = 0;
    while at < fds.len() {
        rights.fds[at] = fds[at];
        at += 1;
    }
    let message = MessageHeader {
        name: core::ptr::null_mut(),
        name_length: 0,
        vectors: &raw mut vector,
        vector_count: 1,
        control: if fds.is_empty() { core::ptr::null_mut() } else { (&raw mut rights).cast() },
        control_length: if fds.is_empty() { 0 } else { (rights.length + 7) & !7 },
        flags: 0,
    };
    while call!(SENDMSG, control, &raw const message, MSG_NOSIGNAL) == Err(sys::EINTR) {}
}

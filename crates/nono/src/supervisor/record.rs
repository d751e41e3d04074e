//! Attempts on their way into the record.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::notif::{Listener, Notification};
use super::who::{self, Callers};
use crate::event::{Event, Events, Observe, Operation, Refusal, Target};
use crate::judge::Reason;
use crate::tier::TierName;

/// What was attempted, and what becomes of it.
#[derive(Debug)]
pub(crate) struct Account {
    pub(super) operation: Operation,
    pub(super) target: Target,
    /// 0, or an errno. `None`: nobody knows, or nobody yet.
    pub(super) errno: Option<i32>,
    pub(super) refused: Option<Refusal>,
}

impl Account {
    /// An attempt that something refuses because nothing grants it.
    pub(super) fn refused(
        operation: Operation,
        target: Target,
        errno: i32,
        layer: &'static str,
    ) -> Self {
        let refused = Some(Refusal { layer, reason: Reason::NotGranted });
        Account { operation, target, errno: Some(errno), refused }
    }
}

/// What was done on somebody's word: 0, or an errno, or nobody knows yet; and what answers the call.
pub(super) type Given = (Option<i32>, Box<dyn FnOnce(&Listener, &Notification)>);

/// Puts attempts on record, as far as anybody wants to hear of them.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) observe: Observe,
    pub(crate) events: Events,
    /// The sandbox's first process.
    pub(crate) init: i32,
    pub(crate) tier: TierName,
    pub(crate) callers: Callers,
}

impl Recorder {
    /// Puts an attempt on record, while its process is still parked: all of it can be looked at, and
    /// whoever learns that the command has ended finds everything on record.
    pub(super) fn tell(&self, call: &Notification, account: Account) {
        if self.wants(&account) {
            self.events.put(self.event(call, account));
        }
    }

    /// The same of an attempt whose end is not known yet: what is returned is told of that, if the call
    /// is still parked then.
    pub(super) fn tell_later(
        &self,
        call: &Notification,
        account: Account,
    ) -> impl FnOnce(Option<i32>) + Send + 'static {
        let record = self.wants(&account).then(|| (self.events.clone(), self.event(call, account)));
        move |errno| {
            if let Some((events, event)) = record {
                events.put(Event { errno, ..event });
            }
        }
    }

    fn wants(&self, account: &Account) -> bool {
        let level =
            if account.operation == Operation::Read { Observe::All } else { Observe::Changes };
        self.observe >= level || (account.refused.is_some() && self.observe != Observe::Off)
    }

    /// What there is to say about an attempt.
    pub(super) fn event(&self, call: &Notification, account: Account) -> Event {
        let Account { operation, target, errno, refused } = account;
        let process = match refused {
            Some(_) if !self.events.is_crowded() => {
                Arc::new(who::in_full(call.thread, self.init, self.tier))
            }
            _ => self.callers.briefly(call.thread),
        };
        let (time, monotonic, count) = (SystemTime::now(), monotonic(), 1);
        let approved = false;
        Event { operation, target, errno, refused, approved, process, count, time, monotonic }
    }
}

fn monotonic() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the structure.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

//! The commands that are running, and when their time is over.

use crate::protocol::{GRACE_MS, MAX_COMMANDS};
use crate::sys;

/// The commands that are running: only their ends are reported, not those of adopted orphans.
pub struct Commands {
    running: [Running; MAX_COMMANDS],
    count: usize,
    /// How long each may run; 0: as long as it wants.
    time_ms: u32,
}

#[derive(Clone, Copy)]
struct Running {
    pid: i32,
    id: u32,
    /// When the next signal is due, in milliseconds of a clock that wraps around.
    due: u32,
    /// How many of [`LAST_SIGNALS`] it has got.
    signals: usize,
}

/// What ends a command whose time is over.
const LAST_SIGNALS: [i32; 2] = [sys::SIGTERM, sys::SIGKILL];

impl Commands {
    pub const fn none(wall_seconds: u32) -> Self {
        let nobody = Running { pid: 0, id: 0, due: 0, signals: 0 };
        let time_ms = wall_seconds.wrapping_mul(1000);
        Commands { running: [nobody; MAX_COMMANDS], count: 0, time_ms }
    }

    pub fn have_room_for(&self, more: usize) -> bool {
        self.count + more <= MAX_COMMANDS
    }

    pub fn add(&mut self, pid: i32, id: u32) {
        let due = if self.time_ms == 0 { 0 } else { sys::now_ms().wrapping_add(self.time_ms) };
        self.running[self.count] = Running { pid, id, due, signals: 0 };
        self.count += 1;
    }

    /// Every command leads a process group of its own number. Only this loop reaps, so a command in
    /// the table still owns that number: nobody else can be hit.
    pub fn signal(&self, id: u32, signal: i32) {
        if let Some(command) = self.running[..self.count].iter().find(|command| command.id == id) {
            let _ = sys::kill(-command.pid, signal);
        }
    }

    /// Signals those whose time is over. Returns how many milliseconds later that is to be done
    /// again, if at all.
    pub fn end_overdue(&mut self) -> Option<u32> {
        if self.time_ms == 0 || self.count == 0 {
            return None;
        }
        let now = sys::now_ms();
        let mut next = None;
        for command in &mut self.running[..self.count] {
            if command.signals == LAST_SIGNALS.len() {
                continue;
            }
            let mut left = command.due.wrapping_sub(now);
            // Less than half way round the clock in the past.
            if left == 0 || left > u32::MAX / 2 {
                let _ = sys::kill(-command.pid, LAST_SIGNALS[command.signals]);
                command.signals += 1;
                command.due = now.wrapping_add(GRACE_MS);
                left = GRACE_MS;
            }
            next = Some(next.map_or(left, |next: u32| next.min(left)));
        }
        next
    }

    /// Forgets a command: its id, and whether its time was over.
    pub fn remove(&mut self, pid: i32) -> Option<(u32, bool)> {
        let at = self.running[..self.count].iter().position(|command| command.pid == pid)?;
        self.count -= 1;
        let command = self.running[at];
        self.running[at] = self.running[self.count];
        Some((command.id, command.signals > 0))
    }
}

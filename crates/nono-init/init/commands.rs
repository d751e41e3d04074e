//! The commands that are running.

use crate::protocol::MAX_COMMANDS;
use crate::sys;

/// The commands that are running: only their ends are reported, not those of adopted orphans.
pub struct Commands {
    running: [(i32, u32); MAX_COMMANDS],
    count: usize,
}

impl Commands {
    pub const fn none() -> Self {
        Commands { running: [(0, 0); MAX_COMMANDS], count: 0 }
    }

    pub fn is_full(&self) -> bool {
        self.count == MAX_COMMANDS
    }

    pub fn add(&mut self, pid: i32, id: u32) {
        self.running[self.count] = (pid, id);
        self.count += 1;
    }

    /// Every command leads a process group of its own number. Only this loop reaps, so a command in
    /// the table still owns that number: nobody else can be hit.
    pub fn signal(&self, id: u32, signal: i32) {
        if let Some((pid, _)) = self.running[..self.count].iter().find(|(_, at)| *at == id) {
            let _ = sys::kill(-pid, signal);
        }
    }

    pub fn remove(&mut self, pid: i32) -> Option<u32> {
        let at = self.running[..self.count].iter().position(|(running, _)| *running == pid)?;
        self.count -= 1;
        let id = self.running[at].1;
        self.running[at] = self.running[self.count];
        Some(id)
    }
}

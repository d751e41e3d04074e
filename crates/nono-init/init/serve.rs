//! The serving loop: commands in, exits out.

use crate::control::{self, Fds};
use crate::protocol::{EXITED, MAX_COMMANDS, Report, SIGNAL, SPAWN};
use crate::spawn;
use crate::sys::{self, PollFd};

/// The commands that are running: only their ends are reported, not those of adopted orphans.
pub struct Commands {
    running: [(i32, u32); MAX_COMMANDS],
    count: usize,
}

impl Commands {
    pub fn is_full(&self) -> bool {
        self.count == MAX_COMMANDS
    }

    pub fn add(&mut self, pid: i32, id: u32) {
        self.running[self.count] = (pid, id);
        self.count += 1;
    }

    /// Every command leads a process group of its own number. Only this loop reaps, so a command in
    /// the table still owns that number: nobody else can be hit.
    fn signal(&self, id: u32, signal: i32) {
        if let Some((pid, _)) = self.running[..self.count].iter().find(|(_, at)| *at == id) {
            let _ = sys::kill(-pid, signal);
        }
    }

    fn remove(&mut self, pid: i32) -> Option<u32> {
        let at = self.running[..self.count].iter().position(|(running, _)| *running == pid)?;
        self.count -= 1;
        let id = self.running[at].1;
        self.running[at] = self.running[self.count];
        Some(id)
    }
}

static mut COMMANDS: Commands = Commands { running: [(0, 0); MAX_COMMANDS], count: 0 };

/// Serves until the owner goes. As pid 1 of a pid namespace, ending here ends everything inside;
/// otherwise the guard sees to it.
pub fn serve(control: i32, signals: i32) -> ! {
    // SAFETY: this program has one thread, and this is the only reference.
    let commands = unsafe { &mut *(&raw mut COMMANDS) };
    let mut fds = Fds::new();
    loop {
        let mut ready = [
            PollFd { fd: control, events: sys::POLLIN, revents: 0 },
            PollFd { fd: signals, events: sys::POLLIN, revents: 0 },
        ];
        sys::poll(&mut ready);
        if ready[1].revents != 0 {
            sys::drain(signals);
            report_ended(control, commands);
        }
        if ready[0].revents != 0 {
            let Some(request) = control::receive(control, &mut fds) else { sys::exit(0) };
            match request.kind {
                SPAWN => spawn::spawn(control, &request, &mut fds, commands),
                SIGNAL => commands.signal(request.id, request.signal),
                _ => sys::exit(1),
            }
            fds.close_all();
        }
    }
}

fn report_ended(control: i32, commands: &mut Commands) {
    while let Ok(Some(ended)) = sys::reap() {
        if let Some(id) = commands.remove(ended.pid) {
            let microseconds = |time: [i64; 2]| (time[0] * 1_000_000 + time[1]) as u64;
            let report = Report {
                kind: EXITED,
                id,
                pid: ended.pid,
                status: ended.status,
                user_us: microseconds(ended.usage.user),
                system_us: microseconds(ended.usage.system),
                max_rss_kib: ended.usage.max_rss_kib as u64,
                ..Report::default()
            };
            control::send(control, &report, &[]);
        }
    }
}

//! The serving loop: commands in, exits out.

use crate::commands::Commands;
use crate::control::{self, Fds};
use crate::protocol::{EXITED, MAKE_SOCKETS, REPORT_OVERTIME, Report, SIGNAL, SPAWN};
use crate::sys::{self, PollFd};
use crate::{network, spawn};

/// Serves until the owner goes. As pid 1 of a pid namespace, ending here ends everything inside;
/// otherwise the guard sees to it.
pub fn serve(control: i32, signals: i32, wall_seconds: u32) -> ! {
    let mut commands = Commands::none(wall_seconds);
    let mut fds = Fds::new();
    loop {
        let mut ready = [
            PollFd { fd: control, events: sys::POLLIN, revents: 0 },
            PollFd { fd: signals, events: sys::POLLIN, revents: 0 },
        ];
        match commands.end_overdue() {
            None => sys::poll(&mut ready),
            Some(milliseconds) => sys::poll_for(&mut ready, milliseconds),
        }
        if ready[1].revents != 0 {
            sys::drain(signals);
            report_ended(control, &mut commands);
        }
        if ready[0].revents != 0 {
            let Some(request) = control::receive(control, &mut fds) else { sys::exit(0) };
            match request.kind {
                SPAWN => spawn::spawn(control, &request, &mut fds, &mut commands),
                SIGNAL => commands.signal(request.id, request.signal),
                MAKE_SOCKETS => network::make_sockets(control, &request),
                _ => sys::exit(1),
            }
            fds.close_all();
        }
    }
}

fn report_ended(control: i32, commands: &mut Commands) {
    while let Ok(Some(ended)) = sys::reap() {
        if let Some((id, overtime)) = commands.remove(ended.pid) {
            let microseconds = |time: [i64; 2]| (time[0] * 1_000_000 + time[1]) as u64;
            let report = Report {
                kind: EXITED,
                id,
                pid: ended.pid,
                status: ended.status,
                flags: if overtime { REPORT_OVERTIME } else { 0 },
                user_us: microseconds(ended.usage.user),
                system_us: microseconds(ended.usage.system),
                max_rss_kib: ended.usage.max_rss_kib as u64,
                ..Report::default()
            };
            control::send(control, &report, &[]);
        }
    }
}

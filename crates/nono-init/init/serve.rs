//! The serving loop: commands in, exits out.

use crate::births::{Births, MAX_BIRTHS};
use crate::commands::Commands;
use crate::control::{self, Fds};
use crate::protocol::{EXITED, MAKE_SOCKETS, REPORT_OVERTIME, Report, SIGNAL, SPAWN};
use crate::sys::{self, PollFd};
use crate::{network, spawn};

/// What is watched besides births: the owner and the children.
const WATCHED: usize = 2;

/// Serves until the owner goes. As pid 1 of a pid namespace, ending here ends everything inside;
/// otherwise the guard sees to it. `open_files`: the limit of commands.
pub fn serve(control: i32, signals: i32, wall_seconds: u32, open_files: [u64; 2]) -> ! {
    let mut commands = Commands::none(wall_seconds);
    let mut births = Births::none(open_files);
    let mut fds = Fds::new();
    loop {
        let requests = if births.place().is_some() { sys::POLLIN } else { 0 };
        let mut all = [const { PollFd { fd: -1, events: 0, revents: 0 } }; WATCHED + MAX_BIRTHS];
        all[0] = PollFd { fd: control, events: requests, revents: 0 };
        all[1] = PollFd { fd: signals, events: sys::POLLIN, revents: 0 };
        births.watch(&mut all[WATCHED..]);
        // No more than there are: the limit of open files bounds how many can be watched (`poll(2)`).
        let ready = &mut all[..WATCHED + births.count()];
        match commands.end_overdue() {
            None => sys::poll(ready),
            Some(milliseconds) => sys::poll_for(ready, milliseconds),
        }
        for over in ready[WATCHED..].iter().filter(|ready| ready.revents != 0) {
            if let Some(place) = births.with(over.fd) {
                spawn::conclude(control, place, &mut births, &mut commands);
            }
        }
        if ready[1].revents != 0 {
            sys::drain(signals);
            report_ended(control, &mut births, &mut commands);
        }
        if ready[0].revents != 0 {
            if requests == 0 {
                sys::exit(0); // nothing but the owner's end was waited for
            }
            let Some(request) = control::receive(control, &mut fds) else { sys::exit(0) };
            match request.kind {
                SPAWN => spawn::spawn(control, &request, &mut fds, &mut births, &commands),
                SIGNAL => {
                    births.signal(request.id, request.signal);
                    commands.signal(request.id, request.signal);
                }
                MAKE_SOCKETS => network::make_sockets(control, &request),
                _ => sys::exit(1),
            }
            fds.close_all();
        }
    }
}

fn report_ended(control: i32, births: &mut Births, commands: &mut Commands) {
    while let Ok(Some(ended)) = sys::reap() {
        let place = births.of(ended.pid);
        if ended.is_stopped() {
            place.into_iter().for_each(|place| births.end_stopped(place));
            continue;
        }
        // Before its pipe told of it.
        if let Some(place) = place {
            spawn::conclude(control, place, births, commands);
        }
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

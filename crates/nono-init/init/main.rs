//! `nono-init`: the first process of every sandbox. See the crate's documentation.
//!
//! Rules of this program: no libc, no allocation, no threads, no data from the commands it runs.
//! The owner's requests are trusted; everything else only ever arrives as a wait status.

#![no_std]
#![no_main]
#![no_builtins] // so that the loops in `memory.rs` are not turned into calls of themselves

mod births;
mod commands;
mod control;
mod entry;
mod failure;
mod guard;
mod lockdown;
mod memory;
mod mounts;
mod network;
mod payload;
#[path = "../src/protocol.rs"]
#[allow(dead_code)]
mod protocol;
mod serve;
mod setup;
mod spawn;
mod sys;

use control::Fds;
use protocol::{PLAN_FLAT, READY, Report, SETUP, SETUP_FAILED, STAGE_PLAN};

/// Where the entry code jumps to, on a fresh stack.
#[unsafe(no_mangle)]
extern "C" fn nono_init_main() -> ! {
    memory::become_undumpable();
    sys::reset_signals();
    let Some(control) = control::move_out_of_the_way() else { sys::exit(1) };

    let mut fds = Fds::new();
    let request = match control::receive(control, &mut fds) {
        Some(request) if request.kind == SETUP => request,
        _ => sys::exit(1), // the owner is gone, or it is not our owner
    };
    let failed = |stage: u32, errno: i32| -> ! {
        let report = Report {
            kind: SETUP_FAILED,
            id: request.id,
            stage,
            status: errno,
            ..Report::default()
        };
        control::send(control, &report, &[]);
        sys::exit(1)
    };

    let plan = match payload::Payload::map(fds.take(0)) {
        Ok(plan) => plan,
        Err(errno) => failed(STAGE_PLAN, errno),
    };
    let header: protocol::Plan = plan.read(0);
    let signals = sys::signal_fd();
    if header.flags & PLAN_FLAT != 0
        && let Err(errno) = guard::split(control, signals, header.flags)
    {
        failed(protocol::STAGE_GUARD, errno);
    }
    let mut sockets = Fds::new();
    match setup::build(&plan, &header, &mut fds, &mut sockets) {
        Ok(()) => {}
        Err(failure) => failed(failure.stage, failure.errno),
    }
    let wall_seconds = header.wall_seconds;
    let open_files = [header.open_files_soft, header.open_files_hard].map(u64::from);
    drop(plan);
    control::send(
        control,
        &Report { kind: READY, id: request.id, ..Report::default() },
        sockets.as_slice(),
    );
    sockets.close_all();
    serve::serve(control, signals, wall_seconds, open_files)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    sys::exit(125)
}

/// The precompiled `core` names it, for unwinding; a program that aborts on panic never calls it.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

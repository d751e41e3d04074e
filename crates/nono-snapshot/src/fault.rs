//! Points at which tests make a step fail or kill the process. Without the feature
//! `fault-injection` they compile to nothing.

use std::io;

/// Marks a step. Under test, the step whose turn it is kills the process or fails.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub(crate) fn point(_name: &'static str) -> io::Result<()> {
    Ok(())
}

/// Marks a step. `NONO_SNAPSHOT_FAULT=<n>:<action>` picks the n-th step reached (from 0) of the
/// process; the action is `kill` (SIGKILL to itself) or an error number. `trace` as the whole value
/// prints each step's name instead, which is how a test learns how many there are.
#[cfg(feature = "fault-injection")]
pub(crate) fn point(name: &'static str) -> io::Result<()> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static REACHED: AtomicU64 = AtomicU64::new(0);

    let Ok(fault) = std::env::var("NONO_SNAPSHOT_FAULT") else { return Ok(()) };
    let turn = REACHED.fetch_add(1, Ordering::SeqCst);
    if fault == "trace" {
        eprintln!("fault point {turn} {name}");
        return Ok(());
    }
    let (number, action) = fault.split_once(':').expect("NONO_SNAPSHOT_FAULT is <n>:<action>");
    if turn != number.parse::<u64>().expect("a step number") {
        return Ok(());
    }
    if action == "kill" {
        let own = rustix::process::getpid();
        rustix::process::kill_process(own, rustix::process::Signal::KILL)?;
        loop {
            std::thread::park();
        }
    }
    Err(io::Error::from_raw_os_error(action.parse().expect("an error number")))
}

//! Processes that restrict themselves. Each test runs once more in a process of its own, which then
//! does it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use nono::{Capabilities, Error, Guarantee, Result, restrict_self};

use crate::common::Scratch;

/// Restricts this process to nothing, but for what an older kernel cannot keep of any process.
fn restrict() -> Result<Vec<Guarantee>> {
    match restrict_self(&Capabilities::new(), &[]) {
        Err(Error::UnsupportedPolicy { guarantees }) => {
            let names = guarantees.join(", ");
            println!("SKIPPED: {names} of a process itself: this kernel cannot keep them");
            restrict_self(&Capabilities::new(), &guarantees)
        }
        other => other,
    }
}

/// In the first process: runs this test again, with a secret file to try. In the second: the file.
fn in_a_process_of_its_own(test: &str) -> Option<PathBuf> {
    const SECRET: &str = "NONO_TEST_SECRET";
    if let Some(secret) = std::env::var_os(SECRET) {
        return Some(secret.into());
    }
    let scratch = Scratch::new();
    let secret = scratch.file("secret", "s");
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(SECRET, secret)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    None
}

fn is_refused(secret: &Path) -> bool {
    std::fs::read(secret).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

#[test]
fn every_thread_is_restricted_and_those_to_come() {
    let name = "restrict::every_thread_is_restricted_and_those_to_come";
    let Some(secret) = in_a_process_of_its_own(name) else { return };
    assert!(!is_refused(&secret));
    // Some wait, some are made all the time by others that are.
    let stop = Arc::new(AtomicBool::new(false));
    let mut waiting = Vec::new();
    for _ in 0..16 {
        let (secret, (go, gone)) = (secret.clone(), mpsc::channel::<()>());
        let thread = std::thread::spawn(move || gone.recv().is_err() && is_refused(&secret));
        waiting.push((go, thread));
    }
    let makers: Vec<_> = (0..2)
        .map(|_| {
            let (stop, secret) = (stop.clone(), secret.clone());
            std::thread::spawn(move || {
                let mut made = 0;
                while !stop.load(Ordering::SeqCst) {
                    let secret = secret.clone();
                    std::thread::spawn(move || std::fs::read(secret).is_ok()).join().unwrap();
                    made += 1;
                }
                (made, std::thread::spawn(move || is_refused(&secret)).join().unwrap())
            })
        })
        .collect();
    let guarantees = restrict().unwrap();
    assert!(guarantees.iter().any(|one| one.name == "fs-read"));
    assert!(is_refused(&secret));
    for (go, thread) in waiting {
        drop(go);
        assert!(thread.join().unwrap());
    }
    stop.store(true, Ordering::SeqCst);
    for maker in makers {
        let (made, refused) = maker.join().unwrap();
        assert!(made > 0 && refused);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    // setuid(2) uses the same signal among the threads, and still works.
    // SAFETY: to the user that it is already.
    unsafe { assert_eq!(libc::setuid(libc::getuid()), 0) };
}

/// As for files that a sandbox is granted.
#[test]
fn what_the_kernel_has_forgotten_meanwhile_is_still_ones_own() {
    let name = "restrict::what_the_kernel_has_forgotten_meanwhile_is_still_ones_own";
    if in_a_process_of_its_own(name).is_none() {
        return;
    }
    let script = "read line; echo 2 >/proc/sys/vm/drop_caches";
    let mut outside = std::process::Command::new("sh")
        .args(["-c", script])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    restrict().unwrap();
    drop(outside.stdin.take());
    if !outside.wait().unwrap().success() {
        return println!("SKIPPED: files that the kernel has forgotten: this takes root");
    }
    std::fs::read_to_string("/proc/self/status").unwrap();
}

#[test]
fn a_thread_out_of_reach_is_a_reason_to_change_nothing() {
    let name = "restrict::a_thread_out_of_reach_is_a_reason_to_change_nothing";
    let Some(secret) = in_a_process_of_its_own(name) else { return };
    let (ready, is_ready) = mpsc::channel();
    std::thread::spawn(move || {
        let all = !0u64;
        let none: *mut u64 = std::ptr::null_mut();
        // By system call: the C library would leave its own signals out.
        // SAFETY: the kernel reads 8 bytes.
        unsafe {
            libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const all, none, 8usize)
        };
        ready.send(()).unwrap();
        loop {
            std::thread::park();
        }
    });
    is_ready.recv().unwrap();
    let error = restrict().unwrap_err();
    assert!(matches!(error, Error::RestrictFailed { partial: false, .. }), "{error}");
    assert!(!is_refused(&secret));
}

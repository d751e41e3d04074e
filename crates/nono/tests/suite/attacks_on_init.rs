//! What commands can do to `nono-init` and to what it starts: nothing that keeps it from serving others,
//! from ending commands in time, and from ending with its owner.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use nono::{Command, Error, Limits, Options, Sandbox, TierName};

use crate::common::{Scratch, in_each_tier, run_command, shell};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn python(script: &str) -> Command {
    Command::new(["/usr/bin/python3", "-I", "-S", "-c", script])
}

/// Does something that may hang for good, which would be the failure.
fn in_time<T: Send>(sandbox: &Sandbox, attempt: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        scope.spawn(move || _ = tell.send(attempt()));
        told.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            // SAFETY: no memory is involved.
            unsafe { libc::kill(sandbox.init_pid(), libc::SIGKILL) };
            panic!("it hung");
        })
    })
}

fn wait_for(path: &Path) {
    while !path.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Leaves a process that stops whatever is started next, before it has executed anything.
const STOPS_THE_NEXT: &str = r"
import os, signal, time
if os.fork(): os._exit(0)
own, end = os.getpid(), time.monotonic() + 60
open('ready', 'w').close()
while time.monotonic() < end:
    for number in range(own + 1, own + 9):
        try: os.kill(number, signal.SIGSTOP)
        except OSError: pass
";

#[test]
fn whoever_stops_commands_before_they_execute_anything_holds_up_nobody() {
    in_each_tier(&shell(), |sandbox| {
        let scratch = Scratch::new();
        let capabilities = shell().allow_write(scratch.path());
        let options = crate::common::in_tier(sandbox.tier());
        let sandbox = Sandbox::create(&capabilities, &options).unwrap();
        let long = Command::new(["/bin/sleep", "1000"]);
        let long = sandbox.spawn(long).unwrap();
        let stopper = python(STOPS_THE_NEXT).cwd(scratch.path());
        assert!(sandbox.spawn(stopper).unwrap().wait().status.success());
        wait_for(&scratch.path().join("ready"));
        let mut stopped = 0;
        for _ in 0..20 {
            match in_time(&sandbox, || sandbox.spawn(Command::new(["/bin/true"]))) {
                Ok(child) => child.kill(libc::SIGKILL),
                Err(Error::SpawnFailed { stage, .. }) => {
                    assert!(stage.contains("stopped"), "{stage}");
                    stopped += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        println!("{stopped} of 20 were stopped in time");
        // Others are served meanwhile.
        let exit = in_time(&sandbox, || long.terminate(PATIENCE));
        assert!(!exit.status.success());
        in_time(&sandbox, || sandbox.close());
    });
}

#[test]
fn a_signal_for_a_command_that_is_on_its_way_reaches_its_program() {
    in_each_tier(&shell(), |sandbox| {
        for _ in 0..20 {
            let callbacks = || {
                let (tell, exit) = mpsc::channel();
                let exited = Box::new(move |exit: nono::Exit| _ = tell.send(exit));
                (nono::Callbacks { started: Box::new(|_| ()), exited }, exit)
            };
            for signal in [libc::SIGTERM, libc::SIGKILL] {
                let (callbacks, exit) = callbacks();
                let command = Command::new(["/bin/sleep", "1000"]);
                sandbox.spawn_with(command, callbacks).unwrap().kill(signal);
                let exit = exit.recv_timeout(PATIENCE).unwrap();
                assert!(!exit.status.success(), "{exit:?}");
            }
            // It is stopped as a program, and can go on.
            let (callbacks, exit) = callbacks();
            let handle = sandbox.spawn_with(Command::new(["/bin/true"]), callbacks).unwrap();
            handle.kill(libc::SIGSTOP);
            handle.kill(libc::SIGCONT);
            assert!(exit.recv_timeout(PATIENCE).unwrap().status.success());
        }
    });
}

#[test]
fn more_commands_at_once_than_can_be_born_at_a_time_all_start() {
    in_each_tier(&shell(), |sandbox| {
        let (tell, exits) = mpsc::channel();
        for _ in 0..200 {
            let tell = tell.clone();
            let started = Box::new(|started: nono::Result<i32>| assert!(started.is_ok()));
            let exited = Box::new(move |exit: nono::Exit| _ = tell.send(exit.status.success()));
            let callbacks = nono::Callbacks { started, exited };
            sandbox.spawn_with(Command::new(["/bin/true"]), callbacks).unwrap();
        }
        drop(tell);
        assert_eq!(exits.iter().filter(|success| *success).count(), 200);
    });
}

#[test]
fn init_that_a_command_stops_goes_on_or_ends_with_everything() {
    // In a pid namespace its first process cannot be stopped from inside.
    let once = "import os, signal; os.kill(os.getppid(), signal.SIGSTOP)";
    let all_the_time = r"
import os, signal, time
parent, end = os.getppid(), time.monotonic() + 60
while time.monotonic() < end: os.kill(parent, signal.SIGSTOP)
";
    let mut limits = Limits::default();
    limits.wall_seconds = Some(1);
    let capabilities = shell().limits(limits);
    in_each_tier(&capabilities, |sandbox| {
        for _ in 0..3 {
            in_time(sandbox, || run_command(sandbox, python(once)));
            let (exit, _) = in_time(sandbox, || run_command(sandbox, Command::new(["/bin/true"])));
            assert!(exit.status.success());
        }
        // Its time is over all the same.
        let attacker = sandbox.spawn(python(all_the_time)).unwrap();
        let exit = in_time(sandbox, || attacker.wait());
        assert!(!exit.status.success(), "{exit:?}");
        let next = in_time(sandbox, || sandbox.spawn(Command::new(["/bin/true"])));
        let is_flat = sandbox.tier() == TierName::Flat;
        assert!(next.is_ok() || is_flat && matches!(next, Err(Error::Closed)), "{next:?}");
        in_time(sandbox, || sandbox.close());
    });
}

#[test]
fn init_keeps_its_limits_and_its_processor_time() {
    let script = r"
import os, resource
init, user = os.getppid(), os.getuid()
def attempt(name, call):
    try: call(); print(name, 'SUCCEEDED')
    except OSError as error: print(name, error.errno)
for limit in ['NOFILE', 'NPROC', 'CPU', 'STACK', 'SIGPENDING', 'AS']:
    number = getattr(resource, 'RLIMIT_' + limit)
    attempt(limit, lambda: resource.prlimit(init, number, (1, 1)))
attempt('priority', lambda: os.setpriority(os.PRIO_PROCESS, init, 19))
attempt('of all', lambda: os.setpriority(os.PRIO_USER, user, 19))
attempt('processors', lambda: os.sched_setaffinity(init, {0}))
attempt('scheduler', lambda: os.sched_setscheduler(init, os.SCHED_IDLE, os.sched_param(0)))
# Of others that it has started it may.
child = os.fork() or os._exit(0)
resource.prlimit(child, resource.RLIMIT_NOFILE, (64, 64))
os.setpriority(os.PRIO_PROCESS, child, 5)
os.sched_setscheduler(child, os.SCHED_BATCH, os.sched_param(0))
print('own', os.waitpid(child, 0)[1])
";
    in_each_tier(&shell(), |sandbox| {
        let (_, output) = in_time(sandbox, || run_command(sandbox, python(script)));
        assert!(!output.contains("SUCC") && output.ends_with("own 0\n"), "{output}");
        assert_eq!(output.lines().count(), 11, "{output}");
        let (exit, _) = in_time(sandbox, || run_command(sandbox, Command::new(["/bin/true"])));
        assert!(exit.status.success());
    });
}

#[test]
fn with_few_descriptors_everything_still_ends() {
    for open_files in [1, 3, 8, 16] {
        let mut limits = Limits::default();
        limits.open_files = Some(open_files);
        let options = Options::default();
        let Ok(sandbox) = Sandbox::create(&shell().limits(limits), &options) else { continue };
        let child = in_time(&sandbox, || sandbox.spawn(Command::new(["/bin/true"])));
        let exit = child.map(|child| in_time(&sandbox, || child.wait()));
        println!("{open_files}: {exit:?}");
        in_time(&sandbox, || sandbox.close());
    }
}

//! Many threads of many processes at one supervisor: each call ends, each refusal is on record, and
//! nothing is left when the sandbox is gone.

use std::path::Path;
use std::time::{Duration, Instant};

use nono::{Command, Observe, Options, Sandbox};

use crate::common::{Scratch, in_each_tier, in_tier, run_command, shell};

/// Each process says how many calls were refused to it, and how many were made in all.
const SCRIPT: &str = r#"
import os, random, sys, threading, time
place, seconds = sys.argv[1], float(sys.argv[2])
end = time.time() + seconds
totals = []
def work(number):
    own = random.Random(os.getpid() * 100 + number)
    made = refused = 0
    def name(): return '%s/%s' % (place, own.choice(['a', 'b', 'c', 'd', 'x.pem', 'sub/e', 'sub/y.pem']))
    def create(): os.close(os.open(name(), os.O_RDWR | os.O_CREAT, 0o644))
    calls = [
        create, create,
        lambda: os.close(os.open(name(), os.O_RDONLY)),
        lambda: os.rename(name(), name()),
        lambda: os.unlink(name()),
        lambda: os.symlink('a', name()),
        lambda: os.link(name(), name()),
        lambda: os.chmod(name(), 0o600),
    ]
    while time.time() < end:
        made += 1
        try: own.choice(calls)()
        except PermissionError: refused += 1
        except OSError: pass
    totals.append((made, refused))
children = []
for _ in range(4):
    child = os.fork()
    if child == 0:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        os.write(1, b'%d %d\n' % (sum(made for made, _ in totals), sum(refused for _, refused in totals)))
        os._exit(0)
    children.append(child)
for child in children: assert os.waitpid(child, 0)[1] == 0
"#;

#[test]
fn many_threads_at_once_end_with_every_refusal_on_record() {
    for tier in nono::support().tiers {
        if let Some(reason) = tier.unavailable {
            println!("SKIPPED: the {} tier: {reason}", tier.name.as_str());
            continue;
        }
        let scratch = Scratch::in_public();
        std::fs::create_dir(scratch.path().join("sub")).unwrap();
        let capabilities = shell().allow_write(scratch.path()).deny("**/*.pem");
        let options = Options { observe: Observe::All, ..in_tier(tier.name) };
        let sandbox = Sandbox::create(&capabilities, &options).unwrap();
        let argv = ["/usr/bin/python3", "-I", "-S", "-c", SCRIPT];
        let place = scratch.path().display().to_string();
        let argv = argv.map(String::from).into_iter().chain([place, "3".into()]);
        let started = Instant::now();
        let (exit, output) = run_command(&sandbox, Command::new(argv));
        assert!(exit.status.success(), "{output}");
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
        let totals = output.lines().map(|line| {
            let (made, refused) = line.split_once(' ').unwrap();
            (made.parse::<u64>().unwrap(), refused.parse::<u64>().unwrap())
        });
        let (made, refused) = totals.fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1));
        println!("tier {}: {made} calls, {refused} refused", tier.name.as_str());
        assert!(refused > 20, "{output}"); // on a machine that is busy elsewhere
        // The interpreter's own start may meet a refusal or two.
        let recorded = sandbox.events().refused();
        assert!((refused..refused + 5).contains(&recorded), "{recorded} of {refused} on record");
        let (events, lost) = sandbox.events().take(usize::MAX);
        let told: u64 =
            events.iter().filter(|event| event.refused.is_some()).map(|event| event.count).sum();
        assert_eq!(told + lost.refused, recorded);
        assert!(
            !scratch.path().join("x.pem").exists() && !scratch.path().join("sub/y.pem").exists()
        );
    }
}

/// Threads of the supervisors, and descriptors: in a process of its own, since other tests have some.
#[test]
fn nothing_is_left_of_a_sandbox() {
    const ALONE: &str = "NONO_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let own = std::env::current_exe().unwrap();
        let again = std::process::Command::new(own)
            .args(["--exact", "stress::nothing_is_left_of_a_sandbox"])
            .env(ALONE, "1")
            .output()
            .unwrap();
        assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stdout));
        return;
    }
    let count = |what: &str| std::fs::read_dir(Path::new("/proc/self").join(what)).unwrap().count();
    let scratch = Scratch::in_public();
    let capabilities = shell().allow_write(scratch.path()).deny("**/*.pem");
    let once = || {
        for tier in nono::support().tiers.into_iter().filter(|tier| tier.unavailable.is_none()) {
            let options = Options { observe: Observe::All, ..in_tier(tier.name) };
            let sandbox = Sandbox::create(&capabilities, &options).unwrap();
            let script = format!("cd {}; echo >a; echo >x.pem; cat a", scratch.path().display());
            let _ = run_command(&sandbox, Command::new(["/bin/sh", "-c", &script]));
        }
    };
    once(); // what is made once for all stays
    std::thread::sleep(Duration::from_millis(200));
    let before = (count("task"), count("fd"));
    (0..20).for_each(|_| once());
    let deadline = Instant::now() + Duration::from_secs(10);
    while (count("task"), count("fd")) != before {
        let now = (count("task"), count("fd"));
        assert!(Instant::now() < deadline, "threads and descriptors: {before:?}, now {now:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A supervisor that is stopped (Ctrl-Z, a frozen container, a machine put to sleep) is interrupted in
/// the middle of a call. In a process of its own, which can be stopped.
#[test]
fn an_owner_that_is_stopped_now_and_then_answers_every_call() {
    const OWNER: &str = "NONO_TEST_OWNER";
    const SCRIPT: &str = r#"
import os, sys, time
end = time.time() + 4
opened = 0
while time.time() < end:
    for name in ('one', 'other'):
        fd = os.open(name, os.O_RDWR)
        found = os.read(fd, 10).decode()
        if found != name: sys.exit('%d is %r, not %r, after %d' % (fd, found, name, opened))
        os.close(fd)
        opened += 1
print('opened', opened > 100)
"#;
    if std::env::var_os(OWNER).is_some() {
        let scratch = Scratch::in_public();
        scratch.file("one", "one");
        scratch.file("other", "other");
        let capabilities = shell().allow_exec("/usr/bin/python3").allow_write(scratch.path());
        return in_each_tier(&capabilities, |sandbox| {
            let command = Command::new(["/usr/bin/python3", "-c", SCRIPT]).cwd(scratch.path());
            assert_eq!(run_command(sandbox, command).1, "opened True\n");
        });
    }
    let owner = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "stress::an_owner_that_is_stopped_now_and_then_answers_every_call"])
        .env(OWNER, "1")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = owner.id() as libc::pid_t;
    let ended = std::thread::spawn(move || owner.wait_with_output().unwrap());
    while !ended.is_finished() {
        for signal in [libc::SIGSTOP, libc::SIGCONT] {
            // SAFETY: no memory is involved; a process that has ended a moment ago is not there.
            unsafe { libc::kill(pid, signal) };
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let output = ended.join().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

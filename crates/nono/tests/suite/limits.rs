//! Limits are hit, and nothing outside notices (row 28 of the escape corpus).

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nono::{Capabilities, Command, Limit, Limits, Options, Sandbox, Status, TierName};

use crate::common::{Scratch, in_each_tier, in_tier, numbered, run, run_command, shell};

const MIB: u64 = 1024 * 1024;

fn with(set: impl FnOnce(&mut Limits)) -> Capabilities {
    let mut limits = Limits::default();
    set(&mut limits);
    shell().limits(limits)
}

fn status_of(sandbox: &Sandbox, name: &str) -> Option<Status> {
    sandbox.guarantees().iter().find(|one| one.name == name).map(|one| one.status)
}

#[test]
fn only_limits_that_were_asked_for_are_promised() {
    in_each_tier(&shell(), |sandbox| {
        assert!(sandbox.guarantees().iter().all(|one| !one.name.starts_with("limit-")));
    });
    in_each_tier(&with(|limits| limits.open_files = Some(64)), |sandbox| {
        assert_eq!(status_of(sandbox, "limit-open-files"), Some(Status::Enforced));
    });
}

#[test]
fn a_memory_balloon_bursts_inside() {
    let capabilities = with(|limits| limits.memory = Some(64 * MIB));
    in_each_tier(&capabilities, |sandbox| {
        let balloon =
            "held = []\nfor _ in range(512): held.append(bytearray(1024 * 1024))\nprint('HELD')";
        let (exit, output) = run_command(sandbox, Command::new(["python3", "-c", balloon]));
        assert!(!exit.status.success() && !output.contains("HELD"), "{output}");
        match status_of(sandbox, "limit-memory") {
            Some(Status::Enforced) => {
                assert_eq!(exit.exceeded, Some(Limit::Memory));
                assert_eq!(exit.status.signal(), Some(libc::SIGKILL));
                assert!(exit.usage.peak_memory.unwrap() <= 64 * MIB);
                // Split among processes, or shared between them, it counts just the same.
                let many = "import os, time\nfor _ in range(16):\n    if os.fork() == 0:\n        \
                            x = bytearray(16 << 20); time.sleep(60)\n\
                            os.wait(); print('BURST', flush=True); os.killpg(0, 9)";
                let (_, output) = run_command(sandbox, Command::new(["python3", "-c", many]));
                assert!(output.contains("BURST"), "{output}");
                let shared = "import mmap; m = mmap.mmap(-1, 512 << 20); m.write(b'x' * (512 << 20)); print('HELD')";
                let (_, output) = run_command(sandbox, Command::new(["python3", "-c", shared]));
                assert!(!output.contains("HELD"), "{output}");
            }
            weaker => {
                assert_eq!(weaker, Some(Status::Partial));
                println!("SKIPPED: memory of a sandbox as a whole: no control group to divide");
                assert!(output.contains("MemoryError"), "{output}");
            }
        }
        // nono-init is alive, and so is the next command.
        assert!(run(sandbox, "echo alive").0.status.success());
    });
}

#[test]
fn a_limit_of_memory_lets_runtimes_start_that_reserve_much() {
    if !Path::new("/usr/bin/node").exists() && !Path::new("/usr/local/bin/node").exists() {
        return println!("SKIPPED: a runtime that reserves much: node is not installed");
    }
    // Node 24 maps its range for code writable, which RLIMIT_DATA counts: 512 MiB are too few.
    let capabilities = with(|limits| limits.memory = Some(1024 * MIB)).allow_exec("node");
    in_each_tier(&capabilities, |sandbox| {
        let (_, output) = run_command(sandbox, Command::new(["node", "-p", "6 * 7"]));
        assert_eq!(output, "42\n");
    });
}

/// Forks until it cannot, or 200 times; says how often, and kills all.
const BOMB: &str = "
import os, time
forked = 0
try:
    while forked < 200:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
        forked += 1
except BlockingIOError:
    pass
print(forked, flush=True)
os.killpg(0, 9)
";

#[test]
fn a_fork_bomb_stays_within_its_number() {
    let capabilities = with(|limits| limits.processes = Some(12));
    for tier in [TierName::Namespaces, TierName::Flat] {
        let options = in_tier(tier);
        let sandbox = match Sandbox::create(&capabilities, &options) {
            Ok(sandbox) => sandbox,
            Err(error) => {
                assert_eq!(error.code(), "ERR_NONO_UNSUPPORTED_POLICY", "{error}");
                // SAFETY: cannot fail.
                assert_eq!(unsafe { libc::geteuid() }, 0, "{error}");
                let name = tier.as_str();
                println!("SKIPPED: a number of processes for root, {name}: {error}");
                continue;
            }
        };
        let spawned = sandbox.spawn(Command::new(["/bin/true"]));
        let enforced = status_of(&sandbox, "limit-processes") == Some(Status::Enforced);
        if let Err(error) = spawned {
            assert!(!enforced, "{error}");
            println!("SKIPPED: the exact number: the user has as many processes already: {error}");
            continue;
        }
        let _ = spawned.unwrap().wait();
        let (_, output) = run_command(&sandbox, Command::new(["python3", "-c", BOMB]));
        let forked: u32 = output.lines().last().unwrap().parse().unwrap();
        assert!(forked < 200);
        if enforced {
            assert_eq!(forked, 11, "and their parent, of 12");
        }
        let begin = Instant::now();
        sandbox.close();
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn a_share_of_the_processors_is_kept_or_refused() {
    let capabilities = with(|limits| limits.cpus = Some(0.1));
    for tier in [TierName::Namespaces, TierName::Flat] {
        let options = in_tier(tier);
        match Sandbox::create(&capabilities, &options) {
            Ok(sandbox) => {
                let begin = Instant::now();
                let busy = "i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done";
                let child =
                    sandbox.spawn(Command::new(["timeout", "1.5", "sh", "-c", busy])).unwrap();
                let exit = child.wait();
                let used = exit.usage.user + exit.usage.system;
                assert!(used < begin.elapsed() / 3, "{used:?} of {:?}", begin.elapsed());
            }
            Err(error) => {
                assert_eq!(error.code(), "ERR_NONO_UNSUPPORTED_POLICY");
                assert_eq!(error.value().as_deref(), Some("limit-cpus"));
                println!("SKIPPED: a share of the processors, {}: {error}", tier.as_str());
            }
        }
    }
}

#[test]
fn time_that_is_over_ends_a_command_gracefully_then_hard() {
    in_each_tier(&with(|limits| limits.wall_seconds = Some(1)), |sandbox| {
        let begin = Instant::now();
        let (exit, _) = run(sandbox, "sleep 60");
        assert_eq!(exit.status.signal(), Some(libc::SIGTERM));
        assert_eq!(exit.exceeded, Some(Limit::WallSeconds));
        let (exit, output) = run(
            sandbox,
            "trap 'echo tidied; exit 4' TERM; while :; do sleep 0.02; done 2>/dev/null",
        );
        assert_eq!((exit.status.code(), output.as_str()), (Some(4), "tidied\n"));
        assert_eq!(exit.exceeded, Some(Limit::WallSeconds));
        let (exit, _) = run(sandbox, "trap '' TERM; while :; do sleep 0.02; done");
        assert_eq!(exit.status.signal(), Some(libc::SIGKILL));
        assert_eq!(exit.exceeded, Some(Limit::WallSeconds));
        assert!(begin.elapsed() >= Duration::from_secs(5));
        let (exit, _) = run(sandbox, "true");
        assert_eq!((exit.status.code(), exit.exceeded), (Some(0), None));
    });
}

#[test]
fn what_ended_a_process_is_told() {
    let scratch = Scratch::new();
    let capabilities = with(|limits| {
        limits.cpu_seconds = Some(1);
        limits.file_size = Some(4096);
    });
    in_each_tier(&capabilities.allow_write(scratch.path()), |sandbox| {
        let (exit, _) = run(sandbox, "while :; do :; done");
        assert_eq!(exit.status.signal(), Some(libc::SIGXCPU));
        assert_eq!(exit.exceeded, Some(Limit::CpuSeconds));
        let (exit, _) = run(sandbox, "exec head -c 8192 /dev/zero > big");
        assert_eq!(exit.exceeded, Some(Limit::FileSize));
    });
}

#[test]
fn descriptors_run_out_inside_only() {
    in_each_tier(&with(|limits| limits.open_files = Some(32)), |sandbox| {
        let script = "import os\nn = 0\ntry:\n    while True: os.dup(0); n += 1\nexcept OSError as e: print(n, e.errno)";
        let (_, output) = run_command(sandbox, Command::new(["python3", "-c", script]));
        assert_eq!(output, format!("29 {}\n", libc::EMFILE));
        assert!(std::fs::File::open("/dev/null").is_ok());
    });
}

#[test]
fn private_directories_fill_up_early() {
    let capabilities = with(|limits| limits.memory = Some(24 * MIB));
    let options = in_tier(TierName::Namespaces);
    let Ok(sandbox) = Sandbox::create(&capabilities, &options) else {
        return println!("SKIPPED: private directories: no namespaces on this machine");
    };
    for place in ["/tmp", "/dev/shm"] {
        let fill = format!("head -c 64M /dev/zero > {place}/fill; stat -c %s {place}/fill");
        let (_, output) = run(&sandbox, &fill);
        assert!(output.contains("No space left"), "{output}");
        let size: u64 = output.lines().last().unwrap().parse().unwrap();
        assert!(size <= 12 * MIB, "{output}");
        run(&sandbox, &format!("rm {place}/fill"));
    }
    for place in ["/run", "/dev"] {
        assert!(!run(&sandbox, &format!("echo > {place}/file")).0.status.success(), "{place}");
    }
    let unlimited = Sandbox::create(&shell(), &options).unwrap();
    let (_, output) = run(&unlimited, "stat -f -c '%b %S' /tmp; grep MemTotal /proc/meminfo");
    let mut numbers = output.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
    let (blocks, size, kib) =
        (numbers.next().unwrap(), numbers.next().unwrap(), numbers.next().unwrap());
    assert!(blocks * size <= kib * 1024 * 26 / 100, "{output}");
}

#[test]
fn the_machines_own_tmp_can_be_asked_for() {
    let scratch = Scratch::new();
    let granted = scratch.file("granted/file", "seen").parent().unwrap().to_owned();
    let other = scratch.file("other/file", "unseen");
    let capabilities = shell().allow_write(&granted).private_tmp(false);
    in_each_tier(&capabilities, |sandbox| {
        let (_, output) = run(sandbox, "cat file; echo new > new");
        assert_eq!(output, "seen");
        assert!(granted.join("new").exists());
        for attempt in [
            format!("cat {}", other.display()),
            format!("echo > {}/new", scratch.path().display()),
            format!("echo > {}/nono-stray", std::env::temp_dir().display()),
        ] {
            assert!(!run(sandbox, &attempt).0.status.success(), "{attempt}");
        }
        // Not empty as a private one would be: the names in it are there, even if not to be listed.
        let (exit, _) = run(sandbox, &format!("test -d {}", other.parent().unwrap().display()));
        assert!(exit.status.success());
    });
}

#[test]
fn control_groups_go_with_their_sandboxes() {
    let capabilities = with(|limits| {
        limits.memory = Some(64 * MIB);
        limits.processes = Some(64);
    });
    let options = Options { allow_degraded: vec!["limit-processes".into()], ..Options::default() };
    let sandbox = Sandbox::create(&capabilities, &options).unwrap();
    run(&sandbox, "(sleep 60 & sleep 60 &) >/dev/null 2>&1");
    let groups: Vec<PathBuf> = groups_of(sandbox.init_pid());
    if groups.is_empty() {
        return println!("SKIPPED: control groups: none that this user may divide");
    }
    sandbox.close();
    for group in groups {
        assert!(!group.exists(), "{}", group.display());
    }
}

/// The groups of nono that a process is in.
fn groups_of(pid: i32) -> Vec<PathBuf> {
    let own = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts: Vec<&str> = mounts
        .lines()
        .filter(|line| line.contains(" - cgroup"))
        .filter_map(|line| line.split(' ').nth(4))
        .collect();
    let paths = own.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths
        .filter(|path| path.contains("/nono-"))
        .flat_map(|path| mounts.iter().map(move |mount| PathBuf::from(format!("{mount}{path}"))))
        .filter(|group| group.exists())
        .collect()
}

#[test]
fn no_command_has_a_core_written() {
    let script = r"
import ctypes, mmap, resource
libc = ctypes.CDLL(None, use_errno=True)
core = resource.RLIMIT_CORE
before = resource.getrlimit(core)
resource.setrlimit(core, (0, 0)); resource.prlimit(0, core, (0, 0))
zero = (ctypes.c_uint64 * 2)(0, 0)
libc.syscall(SYS_setrlimit, core, zero)
# A pointer whose lower half is null.
libc.mmap.restype = ctypes.c_void_p
place = libc.mmap(ctypes.c_void_p(1 << 33), 4096, 3, 0x100032, -1, 0)
assert place == 1 << 33
libc.syscall(SYS_prlimit64, 0, core, ctypes.c_void_p(place), None)
print(before, resource.getrlimit(core))
";
    in_each_tier(&shell(), |sandbox| {
        let argv = ["/usr/bin/python3", "-I", "-S", "-c", &numbered(script)];
        let (_, output) = run_command(sandbox, Command::new(argv));
        assert_eq!(output, "(1, 1) (1, 1)\n");
    });
}

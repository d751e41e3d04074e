//! What a sandbox refuses and what it lets through, on the real kernel.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use crate::common::{
    Scratch, in_any_tier, in_each_tier, in_tier, keeps, numbered, run, run_command,
    seals_memory_files, shell,
};
use crate::container::filter_this_thread;
use nono::{Capabilities, Command, Error, Limits, Options, Sandbox, TierName};

#[test]
fn reads_what_is_granted_and_nothing_else() {
    let scratch = Scratch::new();
    let granted = scratch.file("granted/a", "visible");
    let other = scratch.file("other/b", "hidden");
    let capabilities = shell().allow_read(granted.parent().unwrap());
    in_each_tier(&capabilities, |sandbox| {
        assert_eq!(run(sandbox, &format!("cat {}", granted.display())).1, "visible");
        let (exit, output) = run(sandbox, &format!("cat {}", other.display()));
        assert!(!exit.status.success());
        assert!(!output.contains("hidden"), "{output}");
    });
}

#[test]
fn writes_below_what_is_granted_and_nowhere_else() {
    let scratch = Scratch::new();
    let outside = scratch.file("outside", "kept");
    let writable = scratch.file("writable/x", "").parent().unwrap().to_owned();
    let capabilities = shell().allow_write(&writable).allow_read(scratch.path());
    in_each_tier(&capabilities, |sandbox| {
        let script = "echo new > x && mkdir d && mv x d/y && ln d/y z && rm z && cat d/y && rm d/y && rmdir d";
        assert_eq!(run(sandbox, script).1, "new\n");
        for attempt in [
            format!("echo gone > {}", outside.display()),
            format!("truncate -s 0 {}", outside.display()),
            format!("rm {}", outside.display()),
            format!("touch y && mv y {}", outside.display()),
            format!("ln -sf {} link && echo gone > link", outside.display()),
            format!("mkdir {}/new", scratch.path().display()),
        ] {
            assert!(!run(sandbox, &attempt).0.status.success(), "{attempt}");
        }
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "kept");
    });
}

/// Neither call asks for write access, as opening to write does: Landlock checks them from ABI 3 on.
#[test]
fn truncates_what_can_be_written_and_nothing_else() {
    let scratch = Scratch::in_public();
    let outside = scratch.file("outside", "kept");
    let inside = scratch.file("writable/inside", "cut");
    let capabilities =
        shell().allow_read(scratch.path()).allow_write(inside.parent().unwrap()).protect(false);
    let script = "
import os, sys
for path in sys.argv[1:]:
    for cut in (lambda: os.truncate(path, 1), lambda: os.open(path, os.O_RDONLY | os.O_TRUNC)):
        try: cut(); print(os.path.getsize(path))
        except OSError: print('refused')";
    in_each_tier(&capabilities, |sandbox| {
        let paths = [&inside, &outside].map(|path| path.to_str().unwrap());
        let command = Command::new(["python3", "-c", script, paths[0], paths[1]]);
        assert_eq!(run_command(sandbox, command).1, "1\n0\nrefused\nrefused\n");
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "kept");
    });
}

#[test]
fn changes_no_metadata_outside_where_mounts_can_be_read_only() {
    let scratch = Scratch::new();
    let outside = scratch.file("outside/file", "");
    let inside = scratch.file("inside/file", "");
    let capabilities =
        shell().allow_read(outside.parent().unwrap()).allow_write(inside.parent().unwrap());
    let options = in_tier(TierName::Namespaces);
    let Ok(sandbox) = Sandbox::create(&capabilities, &options) else {
        return println!("SKIPPED: metadata outside: no namespaces on this machine");
    };
    let before = outside.metadata().unwrap();
    for attempt in ["chmod 0777", "touch -d 2001-01-01", "chown --reference=/dev/null"] {
        let attempt = format!("{attempt} {}", outside.display());
        assert!(!run(&sandbox, &attempt).0.status.success(), "{attempt}");
    }
    let after = outside.metadata().unwrap();
    assert_eq!(
        (before.mode(), before.ctime(), before.mtime()),
        (after.mode(), after.ctime(), after.mtime())
    );
    assert!(run(&sandbox, &format!("chmod 0600 {}", inside.display())).0.status.success());
    assert_eq!(inside.metadata().unwrap().mode() & 0o777, 0o600);
}

#[test]
fn has_a_private_tmp_proc_and_dev() {
    let options = in_tier(TierName::Namespaces);
    let Ok(sandbox) = Sandbox::create(&shell(), &options) else {
        return println!("SKIPPED: private directories: no namespaces on this machine");
    };
    let name = format!("/tmp/nono-private-{}", std::process::id());
    assert!(run(&sandbox, &format!("echo x > {name} && cat {name}")).0.status.success());
    assert!(!std::path::Path::new(&name).exists());
    let (_, output) = run(&sandbox, "ls /proc | grep -c '^[0-9]'; ls /dev /run");
    let expected = "3\n/dev:\nfd\nfull\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n\n/run:\n";
    assert_eq!(output, expected);
    if std::path::Path::new("/usr/bin/ps").exists() {
        let (_, output) = run(&sandbox, "ps -e -o comm=");
        assert_eq!(output, "sh\nps\n");
    }
    let terminal = "import os, pty; a, b = pty.openpty(); os.write(b, b'x'); print(os.read(a, 1), os.ttyname(b))";
    let (_, output) = run_command(&sandbox, Command::new(["/usr/bin/python3", "-c", terminal]));
    assert_eq!(output, "b'x' /dev/pts/0\n");
}

#[test]
fn executes_what_is_granted_and_no_copy_of_anything_else() {
    let scratch = Scratch::new();
    let capabilities = Capabilities::new()
        .allow_exec("/bin/sh")
        .allow_exec("/bin/cp")
        .allow_read("/bin")
        .allow_read("/usr/bin")
        .allow_write(scratch.path());
    in_each_tier(&capabilities, |sandbox| {
        for attempt in ["/bin/ls", "cp /bin/ls ./copy && ./copy", "cp /bin/ls ls; PATH=. ls"] {
            let (exit, output) = run(sandbox, attempt);
            assert!(!exit.status.success(), "{attempt}: {output}");
            assert!(output.contains("ermission denied"), "{attempt}: {output}");
        }
    });
}

#[test]
fn passes_on_no_descriptor_and_no_variable_that_is_not_granted() {
    let scratch = Scratch::new();
    let secret = std::fs::File::open(scratch.file("secret", "s")).unwrap();
    in_each_tier(&shell().set_env("GIVEN", "1"), |sandbox| {
        let (_, output) = run(sandbox, "ls /proc/self/fd 2>/dev/null; env");
        assert!(!output.contains("CARGO"), "{output}");
        assert!(output.contains("GIVEN=1"), "{output}");
        // Every number above the three standard ones is free: the shell's first own descriptor is 3.
        let (_, output) =
            run(sandbox, "for n in 3 4 5 6 7 8 9; do (: <&$n) 2>/dev/null && echo $n; done");
        assert_eq!(output, "");
    });
    drop(secret);
}

#[test]
fn refuses_sockets_namespaces_and_terminal_injection() {
    in_each_tier(&shell(), |sandbox| {
        let script = r#"
import ctypes, errno, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def refused(what, call):
        try:
            result = call()
        except OSError as error:
            return print(what, errno.errorcode[error.errno])
        print(what, errno.errorcode[ctypes.get_errno()] if result == -1 else "ALLOWED")
def syscall(*arguments):
        ctypes.set_errno(0)
        return libc.syscall(*arguments)
for name, family, kind, protocol in [
        ("tcp", socket.AF_INET, socket.SOCK_STREAM, 0), ("tcp6", socket.AF_INET6, socket.SOCK_STREAM, 0),
        ("udp", socket.AF_INET, socket.SOCK_DGRAM, 0), ("mptcp", socket.AF_INET, socket.SOCK_STREAM, 262),
        ("raw", socket.AF_INET, socket.SOCK_RAW, 1), ("packet", 17, socket.SOCK_RAW, 0),
        ("vsock", 40, socket.SOCK_STREAM, 0), ("alg", 38, socket.SOCK_SEQPACKET, 0),
        ("unix", socket.AF_UNIX, socket.SOCK_DGRAM, 0)]:
        refused(name, lambda: socket.socket(family, kind, protocol))
refused("unshare user", lambda: syscall(SYS_unshare, 0x10000000))
refused("clone3", lambda: syscall(435, 0, 0))
refused("io_uring", lambda: syscall(425, 1, 0))
refused("bpf", lambda: syscall(SYS_bpf, 0, 0, 0))
refused("keyctl", lambda: syscall(SYS_keyctl, 0, 0))
refused("mount", lambda: libc.mount(None, b"/", None, 0x44000, None))
refused("TIOCSTI", lambda: libc.ioctl(0, 0x5412, b"x"))
refused("TIOCSTI high", lambda: libc.ioctl(0, ctypes.c_ulong(0x100005412), b"x"))
refused("x32 getpid", lambda: syscall(0x40000000 + 39))
refused("memfd both", lambda: syscall(SYS_memfd_create, b"m", 24))
refused("memfd exec", lambda: syscall(SYS_memfd_create, b"m", 16))
a, b = socket.socketpair(); a.send(b"x"); print("socketpair", b.recv(1))
print("noexec memfd", syscall(SYS_memfd_create, b"m", 8) >= 0)
"#;
        let command = Command::new(["/usr/bin/python3", "-c", &numbered(script)]);
        let (_, output) = run_command(sandbox, command);
        let sealed = if seals_memory_files() { "True" } else { "False" };
        let allowed = format!("socketpair b'x'\nnoexec memfd {sealed}\n");
        assert!(output.ends_with(&allowed), "{output}");
        assert!(!output.contains("ALLOWED"), "{output}");
        assert_eq!(output.lines().count(), 22, "{output}");
    });
}

/// A 32-bit program (`elf(5)`) that exits with 7, or executes what is no instruction if it cannot.
fn of_32_bits() -> Vec<u8> {
    const AT: u32 = 0x40_0000;
    const HEADERS: u32 = 52 + 32;
    let (machine, flags, code): (u16, u32, &[u8]) = if cfg!(target_arch = "x86_64") {
        // mov eax, 1; mov ebx, 7; int 0x80; ud2
        (3, 0, &[0xb8, 1, 0, 0, 0, 0xbb, 7, 0, 0, 0, 0xcd, 0x80, 0x0f, 0x0b])
    } else {
        // mov r7, #1; mov r0, #7; svc #0; udf #0
        let words = b"\x01\x70\xa0\xe3\x07\x00\xa0\xe3\x00\x00\x00\xef\xf0\x00\xf0\xe7";
        (40, 0x0500_0000, words)
    };
    let size = HEADERS + code.len() as u32;
    let mut program = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0".to_vec();
    program.extend(machine.to_le_bytes());
    for word in [1, AT + HEADERS, 52, 0, flags] {
        program.extend(word.to_le_bytes());
    }
    program.extend([52u16, 32, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    program.extend([1, 0, AT, AT, size, size, 5, 0x1000].map(u32::to_le_bytes).concat());
    program.extend(code);
    program
}

#[test]
fn no_call_of_another_architecture_is_made() {
    let scratch = Scratch::in_public();
    let program = scratch.file("program", "");
    std::fs::write(&program, of_32_bits()).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    match std::process::Command::new(&program).status() {
        Ok(status) => assert_eq!(status.code(), Some(7)),
        Err(error) => return println!("SKIPPED: 32-bit programs do not run here: {error}"),
    }
    in_each_tier(&shell().allow_exec(&program), |sandbox| {
        let (exit, output) = run_command(sandbox, Command::new([&program]));
        assert_eq!(exit.status.signal(), Some(libc::SIGILL), "{output}");
    });
}

#[test]
fn shows_no_other_process_and_signals_none() {
    let mut victim = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    in_each_tier(&shell(), |sandbox| {
        let pid = victim.id();
        let owner = std::process::id();
        let init = sandbox.init_pid();
        let mut attempts = vec![
            format!("cat /proc/{pid}/environ"),
            format!("cat /proc/{owner}/cmdline"),
            format!("cat /proc/{owner}/mem"),
            format!("ls /proc/{owner}/fd"),
        ];
        if keeps(sandbox, "signals") {
            attempts.extend([
                format!("kill -0 {pid}"),
                format!("kill -0 {owner}"),
                format!("kill -9 {init}"),
            ]);
        }
        for attempt in attempts {
            let (exit, output) = run(sandbox, &attempt);
            assert!(!exit.status.success(), "{attempt}: {output}");
        }
        assert!(run(sandbox, "echo alive").0.status.success());
    });
    assert!(victim.try_wait().unwrap().is_none());
    victim.kill().unwrap();
    victim.wait().unwrap();
}

#[test]
fn has_no_capability_as_root_either() {
    in_each_tier(&shell().allow_read("/proc"), |sandbox| {
        let (_, output) = run(sandbox, "grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert!(output.contains(&format!("{set}:\t0000000000000000")), "{output}");
        }
        assert!(output.contains("NoNewPrivs:\t1"), "{output}");
        assert!(output.contains("Seccomp:\t2"), "{output}");
    });
}

#[test]
fn closing_takes_daemons_along() {
    in_each_tier(&shell(), |sandbox| {
        let marker = format!("86{}", std::process::id());
        let script =
            format!("(setsid sh -c 'sleep {marker} & sleep {marker}' >/dev/null 2>&1 &) &");
        run(sandbox, &script);
        wait_until(|| count_processes(&marker) == 2);
        sandbox.close();
        assert_eq!(count_processes(&marker), 0);
        let refused = sandbox.spawn(Command::new(["/bin/true"])).unwrap_err();
        assert_eq!(refused.code(), "ERR_NONO_SANDBOX_CLOSED");
    });
}

#[test]
fn signals_the_command_and_its_children() {
    in_each_tier(&shell(), |sandbox| {
        let child = sandbox.spawn(Command::new(["/bin/sh", "-c", "sleep 60; true"])).unwrap();
        child.kill(15);
        assert_eq!(child.wait().status.signal(), Some(15));
    });
}

#[test]
fn bounds_resources() {
    let scratch = Scratch::new();
    let mut limits = Limits::default();
    limits.file_size = Some(4096);
    limits.open_files = Some(16);
    limits.cpu_seconds = Some(1);
    let capabilities = shell().allow_write(scratch.path()).limits(limits);
    in_each_tier(&capabilities, |sandbox| {
        let (exit, _) = run(sandbox, "head -c 8192 /dev/zero > big");
        assert!(!exit.status.success());
        assert_eq!(scratch.path().join("big").metadata().unwrap().len(), 4096);
        assert_eq!(run(sandbox, "ulimit -n").1, "16\n");
        let (exit, _) = run(sandbox, "exec sh -c 'while :; do :; done'");
        assert!(matches!(exit.status.signal(), Some(9 | 24)), "{:?}", exit.status);
        assert!(exit.usage.user + exit.usage.system > Duration::ZERO);
    });
}

#[test]
fn refuses_bad_input_before_anything_starts() {
    let code = |capabilities: Capabilities| {
        Sandbox::create(&capabilities, &Options::default()).unwrap_err().code()
    };
    let base = Capabilities::new;
    assert_eq!(code(base().allow_read("relative")), "ERR_NONO_INVALID_PATH");
    assert_eq!(code(base().allow_read("")), "ERR_NONO_INVALID_PATH");
    assert_eq!(code(base().allow_read("/a\0b")), "ERR_NONO_INVALID_PATH");
    assert_eq!(code(base().allow_read("/does/not/exist")), "ERR_NONO_PATH_NOT_FOUND");
    assert_eq!(code(base().allow_exec("no-such-program")), "ERR_NONO_EXEC_NOT_FOUND");
    assert_eq!(code(base().set_env("A=B", "x")), "ERR_NONO_INVALID_ENV");
    let scratch = Scratch::new();
    let link = scratch.path().join("loop");
    std::os::unix::fs::symlink(&link, &link).unwrap();
    assert_eq!(code(base().allow_read(link)), "ERR_NONO_INVALID_PATH");

    in_each_tier(&shell(), |sandbox| {
        let code = |command: Command| sandbox.spawn(command).unwrap_err().code();
        assert_eq!(code(Command::new([""; 0])), "ERR_NONO_INVALID_ARGV");
        assert_eq!(code(Command::new([""])), "ERR_NONO_INVALID_ARGV");
        assert_eq!(code(Command::new(["/bin/echo", "a\0b"])), "ERR_NONO_INVALID_ARGV");
        assert_eq!(code(Command::new(["/bin/true"]).cwd("relative")), "ERR_NONO_INVALID_CWD");
        assert_eq!(code(Command::new(["/bin/true"]).cwd("/etc/passwd")), "ERR_NONO_INVALID_CWD");
        assert_eq!(code(Command::new(["/sbin/ldconfig"])), "ERR_NONO_EXEC_NOT_ALLOWED");
        assert_eq!(code(Command::new(["no-such-program"])), "ERR_NONO_EXEC_NOT_FOUND");
    });
}

#[test]
fn takes_ten_thousand_rules_and_names_that_are_not_utf8() {
    use std::os::unix::ffi::OsStrExt;
    let scratch = Scratch::new();
    let odd = scratch.path().join(std::ffi::OsStr::from_bytes(b"odd-\xff\xfe"));
    std::fs::write(&odd, "read").unwrap();
    let mut capabilities = shell().allow_read(&odd);
    for index in 0..10_000 {
        capabilities = capabilities.allow_read(scratch.file(&format!("many/{index}"), ""));
    }
    // So many separate places below a private /tmp are beyond the namespaces tier: the flat one
    // takes over, and says so.
    let sandbox = &Sandbox::create(&capabilities, &in_any_tier()).unwrap();
    assert_eq!(sandbox.tier(), TierName::Flat);
    let read = run_command(sandbox, Command::new(["/bin/cat".as_ref(), odd.as_os_str()]));
    assert_eq!(read.1, "read");
    let last = scratch.path().join("many/9999");
    assert!(run(sandbox, &format!("cat {}", last.display())).0.status.success());
}

#[test]
fn without_landlock_nothing_starts() {
    let without = std::thread::spawn(|| {
        if nono::support().landlock_abi > 0 {
            filter_this_thread(libc::SYS_landlock_create_ruleset, libc::ENOSYS, 0);
        }
        for tier in nono::support().tiers {
            assert_eq!(tier.unavailable.as_deref(), Some("the kernel offers no Landlock"));
            let options = Options { tier: Some(tier.name), ..Options::default() };
            let error = Sandbox::create(&Capabilities::new(), &options).unwrap_err();
            assert!(matches!(error, Error::UnsupportedPlatform { .. }), "{error}");
            assert!(error.remedy().contains("CONFIG_SECURITY_LANDLOCK"));
        }
        nono::restrict_self(&Capabilities::new(), &[]).unwrap_err().code()
    });
    assert_eq!(without.join().unwrap(), "ERR_NONO_UNSUPPORTED_PLATFORM");
}

#[test]
fn many_sandboxes_and_commands_leave_nothing_behind() {
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let warm = Sandbox::create(&shell(), &Options::default()).unwrap();
    run(&warm, "true");
    drop(warm);
    // Other tests of this process open and close descriptors meanwhile: compare with slack.
    let before = descriptors();
    for _ in 0..20 {
        let sandboxes: Vec<_> =
            (0..10).map(|_| Sandbox::create(&shell(), &Options::default()).unwrap()).collect();
        for sandbox in &sandboxes {
            assert!(sandbox.spawn(Command::new(["/bin/true"])).unwrap().wait().status.success());
        }
    }
    wait_until(|| descriptors() < before + 100);
}

fn count_processes(argument: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
        .filter(|line| line == format!("sleep\0{argument}\0").as_bytes())
        .count()
}

fn wait_until(holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "it did not come to hold within 10 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_program_is_found_by_the_link_that_granted_it() {
    let scratch = Scratch::new();
    let link = scratch.path().join("bin/tool");
    std::fs::create_dir(link.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/bin/echo", &link).unwrap();
    let capabilities = shell().allow_exec(&link);
    in_each_tier(&capabilities, |sandbox| {
        let command = Command::new([link.as_os_str(), "by name".as_ref()]);
        assert_eq!(run_command(sandbox, command).1, "by name\n");
        let script = format!("PATH={} && tool by path", link.parent().unwrap().display());
        assert_eq!(run(sandbox, &script).1, "by path\n");
    });
}

/// The kernel forgets names that nobody uses when memory is scarce, and `/proc` makes its files anew
/// when they are looked up again.
#[test]
fn grants_hold_for_files_that_the_kernel_has_forgotten_meanwhile() {
    let scratch = Scratch::in_public();
    let file = scratch.file("file", "contents");
    let capabilities = shell().allow_read(&file);
    in_each_tier(&capabilities, |sandbox| {
        if std::fs::write("/proc/sys/vm/drop_caches", "2").is_err() {
            return println!("SKIPPED: files that the kernel has forgotten: this takes root");
        }
        let files = format!("{} /proc/meminfo /proc/sys/vm/overcommit_memory", file.display());
        let (exit, output) = run(sandbox, &format!("cat {files} >/dev/null"));
        assert!(exit.status.success(), "{output}");
    });
}

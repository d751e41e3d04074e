//! The exec allow-list against those who know a way around it.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant};

use crate::common::{Scratch, in_each_tier, in_tier, run, run_command, seals_memory_files, shell};
use crate::container::filter_this_thread;
use nono::{Capabilities, Command, Options, Sandbox, Status};

/// Python, a shell and `cp` may be executed; everything else may only be read.
fn few_programs(writable: &Path) -> Capabilities {
    Capabilities::new()
        .allow_exec("/usr/bin/python3")
        .allow_exec("/bin/sh")
        .allow_exec("/bin/cp")
        .allow_read("/bin")
        .allow_read("/usr/bin")
        .allow_write(writable)
}

/// The dynamic loader of this test, as it is mapped.
fn loader() -> PathBuf {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let names = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
    let is_loader =
        |name: &&str| name.rsplit('/').next().is_some_and(|name| name.starts_with("ld-"));
    PathBuf::from(names.into_iter().find(is_loader).expect("tests are dynamic programs"))
}

/// Compiles C; `None`, said loudly, where the machine cannot.
fn compile(compiler: &str, source: &Path, arguments: &[&str], program: &Path) -> Option<()> {
    let built = process::Command::new(compiler)
        .args(arguments)
        .arg("-o")
        .args([program, source])
        .stderr(process::Stdio::null())
        .status();
    if built.is_ok_and(|status| status.success()) {
        return Some(());
    }
    println!("SKIPPED: {}: {compiler} {arguments:?} does not work here", program.display());
    None
}

#[test]
fn kills_a_loader_that_is_started_as_a_program() {
    let scratch = Scratch::new();
    let loader = loader();
    let loader = loader.display();
    let source = scratch.file(
        "intruder.c",
        r#"#include <fcntl.h>
        unsigned la_version(unsigned v) { creat("ran", 0600); return v; }
        __attribute__((constructor)) void begin(void) { creat("ran", 0600); }"#,
    );
    let intruder = scratch.path().join("intruder.so");
    let _ = compile("cc", &source, &["-shared", "-fPIC"], &intruder);
    let intruder = intruder.display();
    in_each_tier(&few_programs(scratch.path()), |sandbox| {
        for attempt in [
            format!("{loader} /usr/bin/whoami"),
            format!("{loader} --argv0 python3 /usr/bin/whoami"),
            format!("{loader} --library-path . /usr/bin/whoami"),
            format!("{loader} --preload {intruder} /usr/bin/whoami"),
            format!("LD_PRELOAD={intruder} {loader} /usr/bin/whoami"),
            format!("LD_AUDIT={intruder} {loader} /usr/bin/whoami"),
            format!("{loader} --audit {intruder} /usr/bin/whoami"),
            format!("{loader} /usr/bin/python3 -c 'print(1)'"),
            "python3 -c 'import os; os.execve(os.open(\"LOADER\", 0), [\"l\", \"/usr/bin/whoami\"], {})'"
                .replace("LOADER", &loader.to_string()),
            format!("cp -sf {loader} link; ./link /usr/bin/whoami"),
        ] {
            let exec = format!("cd {}; {attempt}", scratch.path().display());
            let python = "import signal, subprocess, sys; done = subprocess.run(['/bin/sh', '-c', sys.argv[1]], stdout=1, stderr=2); print(done.returncode)";
            let (_, output) =
                run_command(sandbox, Command::new(["/usr/bin/python3", "-c", python, &exec]));
            let ended = output.lines().last().unwrap_or_default();
            // The shell's own replacement or its child: killed either way.
            assert!(matches!(ended, "137" | "-9"), "{attempt}: {output}");
            assert!(!scratch.path().join("ran").exists(), "{attempt}: code of the intruder ran");
        }
        // Directly, without a shell: what the owner is told.
        let direct = sandbox.spawn(Command::new([&loader.to_string(), "/usr/bin/whoami"])).unwrap();
        assert_eq!(direct.wait().status.signal(), Some(9));
        assert!(run(sandbox, "python3 -c 'print(1)'").0.status.success());
    });
}

/// A filter's refusal precedes the question to our supervisor, so a filter of the program's own can have a call
/// seem to be made that the supervisor then does not hear of; and it stays across execve.
#[test]
fn no_filter_of_a_programs_own_hides_a_loader() {
    let loader = loader();
    let calls = [libc::SYS_seccomp, libc::SYS_set_tid_address, libc::SYS_set_robust_list];
    #[cfg(target_arch = "x86_64")]
    let thread_local = libc::SYS_arch_prctl;
    #[cfg(not(target_arch = "x86_64"))]
    let thread_local = -1;
    let script = format!(
        r"
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
seccomp, tid, robust = {calls:?}
fs, loader = {thread_local}, {loader:?}
SEEMS, ASKED, TRACED, ALLOWED = 0x50000, 0x7fc00000, 0x7ff00000, 0x7fff0000
def install(actions, flags=0):
    code = [(0x20, 0, 0, 0)]
    for call, action in actions: code += [(0x15, 0, 1, call & 0xffffffff), (6, 0, 0, action)]
    code = b''.join(struct.pack('HBBI', *each) for each in code + [(6, 0, 0, ALLOWED)])
    code = ctypes.create_string_buffer(code)
    program = ctypes.create_string_buffer(struct.pack('HxxxxxxP', len(code) // 8, ctypes.addressof(code)))
    return libc.syscall(seccomp, 1, flags, program)
for calls in [(tid,), (tid, robust), (fs,), (tid, fs)]:
    for action in [SEEMS, ASKED, TRACED]:
        child = os.fork()
        if not child:
            install([(call, action) for call in calls])
            os.execv(loader, [loader, '/usr/bin/whoami'])
        ended = os.waitpid(child, 0)[1]
        if ended == 0: print('RAN', calls, action)
print('asks others', install([(tid, ASKED)], 8) >= 0)
"
    );
    in_each_tier(&few_programs(Path::new("/var/tmp")), |sandbox| {
        let command = Command::new(["/usr/bin/python3", "-I", "-S", "-c", &script]);
        let (exit, output) = run_command(sandbox, command);
        let told: String =
            output.lines().filter(|line| !line.starts_with("cannot set up")).collect();
        assert!(exit.status.success() && told == "asks others False", "{output}");
    });
}

#[test]
fn executes_no_copy_memory_or_nameless_file() {
    let scratch = Scratch::new();
    let script = r##"
import ctypes, errno, os, shutil
LOADER = "@LOADER@"
def attempt(what, act):
    pid = os.fork()
    if pid == 0:
        try: act()
        except OSError as error: os._exit(error.errno)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(what, errno.errorcode.get(status, status), flush=True)
def copied(source, arguments=()):
    shutil.copy(source, "copy"); os.execv("./copy", ["copy", *arguments])
def nameless():
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o755)
    os.write(fd, open("/usr/bin/whoami", "rb").read())
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    os.close(fd); os.execve(again, ["whoami"], {})
def script(interpreter):
    with open("script", "w") as f: f.write(f"#!{interpreter}\n")
    os.chmod("script", 0o755); os.execv("./script", ["script"])
def memory(flags):
    fd = os.memfd_create("m", flags)
    os.write(fd, open("/usr/bin/whoami", "rb").read()); os.execve(fd, ["whoami"], {})
attempt("program", lambda: os.execv("/usr/bin/whoami", ["whoami"]))
attempt("by descriptor", lambda: os.execve(os.open("/usr/bin/whoami", 0), ["whoami"], {}))
attempt("by /proc/self/fd", lambda: os.execv(f"/proc/self/fd/{os.open('/usr/bin/whoami', 0)}", ["whoami"]))
attempt("copy", lambda: copied("/usr/bin/whoami"))
attempt("copied loader", lambda: copied(LOADER, ["/usr/bin/whoami"]))
attempt("O_TMPFILE", nameless)
attempt("script", lambda: script("/usr/bin/perl"))
attempt("script of a script", lambda: script(os.path.abspath("script")))
attempt("memfd", lambda: memory(0))
attempt("MFD_EXEC", lambda: memory(16))
attempt("MFD_NOEXEC_SEAL", lambda: memory(8))
attempt("allowed", lambda: os.execv("/usr/bin/python3", ["python3", "-c", ""]))
"##
    .replace("@LOADER@", &loader().display().to_string());
    in_each_tier(&few_programs(scratch.path()), |sandbox| {
        let command = Command::new(["/usr/bin/python3", "-c", &script]).cwd(scratch.path());
        let (_, output) = run_command(sandbox, command);
        let (attempts, allowed) = output.trim().rsplit_once('\n').unwrap();
        assert_eq!(allowed, "allowed 0", "{output}");
        assert_eq!(attempts.lines().count(), 11, "{output}");
        for line in attempts.lines() {
            // /proc/self is not there in the flat tier.
            let refused = ["EACCES", "ENOENT"].iter().any(|errno| line.ends_with(errno));
            let unmade = ["memfd ENOSYS", "MFD_NOEXEC_SEAL EINVAL"].contains(&line);
            assert!(refused || unmade && !seals_memory_files(), "{output}");
        }
    });
}

#[test]
fn memory_files_can_be_used_but_not_executed() {
    if !seals_memory_files() {
        return in_each_tier(&shell(), |sandbox| {
            let (_, output) = run(sandbox, "python3 -c 'import os; os.memfd_create(\"m\")'");
            assert!(output.contains("Function not implemented"), "{output}");
        });
    }
    let script = r#"
import ctypes, errno, fcntl, mmap, os
libc = ctypes.CDLL(None, use_errno=True)
def create(name, flags): # not through Python, which adds MFD_CLOEXEC
    fd = libc.memfd_create(name, flags)
    return fd if fd >= 0 else errno.errorcode[ctypes.get_errno()]
fd = create(b"plain", 0)
os.write(fd, open("/usr/bin/true", "rb").read())
m = mmap.mmap(fd, 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC); print(m[1:4])
seals = lambda fd: fcntl.fcntl(fd, fcntl.F_GET_SEALS)
print(seals(fd), os.get_inheritable(fd), oct(os.fstat(fd).st_mode & 0o777))
fd2 = create(b"sealable", 3)
print(seals(fd2), os.get_inheritable(fd2), fcntl.fcntl(fd2, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE))
for attempt in [lambda: os.fchmod(fd, 0o777), lambda: os.execve(fd, ["true"], {})]:
    try: attempt(); print("DONE")
    except OSError as error: print(errno.errorcode[error.errno])
print(create(b"x" * 300, 0), create(b"m", 0x80000000), create(None, 0))
print(len([os.close(create(b"many", 0)) for _ in range(2000)]))
"#;
    in_each_tier(&shell(), |sandbox| {
        let (_, output) = run_command(sandbox, Command::new(["/usr/bin/python3", "-c", script]));
        let expected =
            "b'ELF'\n33 True 0o666\n32 False 0\nEPERM\nEACCES\nEINVAL EINVAL EFAULT\n2000\n";
        assert_eq!(output, expected);
    });
}

#[test]
fn static_programs_start() {
    let scratch = Scratch::new();
    let source = scratch.file("static.c", "#include <stdio.h>\nint main(void) { puts(\"runs\"); }");
    for (compiler, arguments) in [
        ("cc", ["-static"].as_slice()),
        ("cc", &["-static-pie"]),
        ("musl-gcc", &["-static"]),
        ("musl-gcc", &[]),
    ] {
        let program = scratch.path().join(format!("{compiler}{}", arguments.concat()));
        if compile(compiler, &source, arguments, &program).is_none() {
            continue;
        }
        let capabilities = shell().allow_exec(&program);
        in_each_tier(&capabilities, |sandbox| {
            let (exit, output) = run(sandbox, &program.display().to_string());
            assert_eq!((exit.status.code(), output.as_str()), (Some(0), "runs\n"), "{program:?}");
        });
    }
}

#[test]
fn threads_and_forks_run_on_and_nothing_is_left_behind() {
    let script = "import os, threading, subprocess
ts = [threading.Thread(target=lambda: subprocess.run(['/bin/true'], check=True)) for _ in range(16)]
[t.start() for t in ts]; [t.join() for t in ts]
for _ in range(50):
    pid = os.fork()
    if pid == 0: os.execv('/bin/true', ['true'])
    assert os.waitpid(pid, 0)[1] == 0
print('done')";
    in_each_tier(&shell(), |sandbox| {
        let (_, output) = run_command(sandbox, Command::new(["/usr/bin/python3", "-c", script]));
        assert_eq!(output, "done\n");
        sandbox.close();
    });
    let sandbox = Sandbox::create(&shell(), &Options::default()).unwrap();
    let exec = sandbox.guarantees().iter().find(|guarantee| guarantee.name == "exec").unwrap();
    assert_eq!(exec.status, Status::Partial);
    assert_eq!(exec.reason, Some("an allowed interpreter runs any script that it can read"));
}

#[test]
fn supervisors_end_with_their_sandboxes() {
    let supervisors = || {
        let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        threads
            .filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok())
            .filter(|name| name.trim() == "nono-supervisor")
            .count()
    };
    let wait_until = |holds: &dyn Fn(usize) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !holds(supervisors()) {
            assert!(Instant::now() < deadline, "there are {}", supervisors());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let sandboxes: Vec<_> =
        (0..60).map(|_| Sandbox::create(&shell(), &Options::default()).unwrap()).collect();
    wait_until(&|count| count >= 60);
    drop(sandboxes);
    wait_until(&|count| count < 30); // those of other tests run on
}

#[test]
fn an_owner_that_is_supervised_itself_is_told_what_that_costs() {
    std::thread::spawn(|| {
        let listener =
            filter_this_thread(libc::SYS_acct, libc::EPERM, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
        for tier in nono::support().tiers.into_iter().filter(|tier| tier.unavailable.is_none()) {
            let mut options = in_tier(tier.name);
            // An older kernel leaves that to the supervisor in the flat tier.
            options.allow_degraded.push("fs-truncate".into());
            let sandbox = Sandbox::create(&shell(), &options).unwrap();
            let exec =
                sandbox.guarantees().iter().find(|guarantee| guarantee.name == "exec").unwrap();
            assert!(exec.reason.unwrap().contains("this process is itself supervised"), "{exec:?}");
            let (_, output) = run(&sandbox, "python3 -c 'import os; os.memfd_create(\"m\")'");
            assert!(output.contains("Function not implemented"), "{output}");
        }
        // SAFETY: a new descriptor that nobody else owns.
        unsafe { libc::close(listener as i32) };
    })
    .join()
    .unwrap();
}

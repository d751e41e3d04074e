//! Attacks that must fail, by number of the escape corpus. Each would be harmless if it succeeded:
//! it reads a value that the test made, or writes back what is there.

use nono::{Command, Limits, TierName};

use crate::common::{Scratch, in_each_tier, keeps, numbered, run, run_command, shell};

/// Runs a Python script whose lines call `attempt(name, function)`, in each tier, and wants every
/// attempt refused. Attempts that this machine has no target for say `ABSENT`.
fn all_refused(scratch: &Scratch, script: &str) {
    let preamble = r#"
import ctypes, errno, fcntl, os, sys
libc = ctypes.CDLL(None, use_errno=True)
class Refused(Exception): pass
def attempt(name, call):
    try: result = call()
    except (OSError, Refused) as error:
        code = getattr(error, 'errno', None)
        return print(name, errno.errorcode.get(code, 'refused'))
    print(name, 'ABSENT' if result == 'absent' else 'SUCCEEDED', repr(result)[:60])
def syscall(*arguments):
    ctypes.set_errno(0)
    result = libc.syscall(*arguments)
    if result == -1: raise OSError(ctypes.get_errno(), 'refused')
    return result
def read(path):
    with open(path, 'rb') as file: return file.read(64)
def rewrite(path):
    if not os.path.exists(path): return 'absent'
    with open(path, 'r+b') as file: file.write(file.read(1))
    return True
W, O = sys.argv[1], sys.argv[2]
"#;
    let writable = scratch.path().join("w");
    let outside = scratch.path().join("o");
    // The corpus speaks of a directory that may be read but not written; the secret's may not be read.
    let capabilities = shell().allow_write(&writable).allow_read(outside.join("readable"));
    in_each_tier(&capabilities, |sandbox| {
        let argv =
            ["/usr/bin/python3".into(), "-c".into(), numbered(&format!("{preamble}{script}"))]
                .into_iter()
                .chain([writable.display().to_string(), outside.display().to_string()]);
        let (exit, output) = run_command(sandbox, Command::new(argv));
        assert!(exit.status.success(), "{output}");
        assert!(!output.is_empty(), "no attempt was made");
        let keeps_signals = keeps(sandbox, "signals");
        for line in output.lines().filter(|line| line.contains("SUCCEEDED")) {
            let is_reported = line.starts_with("outside signal") && !keeps_signals;
            assert!(is_reported, "{output}");
        }
    });
}

fn corpus() -> Scratch {
    let scratch = Scratch::new();
    scratch.file("w/mine", "mine");
    scratch.file("o/secret", "the secret");
    scratch.file("o/readable/file", "kept");
    scratch
}

#[test]
fn the_secret_is_not_reached_by_another_name() {
    let scratch = corpus();
    // 1-6 and 14 of the corpus, for a place that is not granted at all.
    all_refused(
        &scratch,
        r#"
S = O + '/secret'
attempt('open', lambda: read(S))
attempt('dot dot', lambda: read(W + '/../o/secret'))
attempt('hard link', lambda: (os.link(S, W + '/link'), read(W + '/link')))
os.path.lexists(W + '/sym') or os.symlink(S, W + '/sym')
attempt('symbolic link', lambda: read(W + '/sym'))
attempt('/proc/self/root', lambda: read('/proc/self/root' + S))
def by_cwd():
    os.chdir(O); return read('/proc/self/cwd/secret')
attempt('/proc/self/cwd', by_cwd)
os.chdir(W)
def by_path_fd():
    fd = os.open(S, os.O_PATH); return read('/proc/self/fd/%d' % fd)
attempt('O_PATH descriptor', by_path_fd)
def by_directory_fd():
    fd = os.open(O, os.O_PATH); return os.read(os.open('secret', os.O_RDONLY, dir_fd=fd), 64)
attempt('O_PATH directory', by_directory_fd)
attempt('rename away', lambda: os.rename(S, W + '/moved'))
def by_handle():
    handle = ctypes.create_string_buffer(8 + 128); handle[0] = 128; mount = ctypes.c_int()
    syscall(SYS_name_to_handle_at, -100, S.encode(), handle, ctypes.byref(mount), 0)
    return syscall(SYS_open_by_handle_at, os.open('/', os.O_PATH), handle, 0)
attempt('file handle', by_handle)
attempt('forged handle', lambda: syscall(SYS_open_by_handle_at, os.open(W, os.O_RDONLY), b'\x08\0\0\0\1\0\0\0' + b'\0' * 64, 0))
"#,
    );
}

#[test]
fn what_may_be_read_is_not_changed() {
    let scratch = corpus();
    // 12-14.
    all_refused(
        &scratch,
        r#"
F = O + '/readable/file'
assert read(F) == b'kept'
attempt('write', lambda: rewrite(F))
attempt('append', lambda: open(F, 'ab').close())
attempt('truncate', lambda: os.truncate(F, 4))
attempt('create', lambda: open(O + '/readable/new', 'x').close())
attempt('rename over', lambda: os.rename(W + '/mine', F))
attempt('exchange', lambda: syscall(SYS_renameat2, -100, (W + '/mine').encode(), -100, F.encode(), 2))
attempt('whiteout', lambda: syscall(SYS_renameat2, -100, F.encode(), -100, (O + '/readable/gone').encode(), 4))
attempt('unlink', lambda: os.unlink(F))
attempt('link out of it', lambda: os.link(F, W + '/link-of-readable'))
os.path.lexists(W + '/to-readable') or os.symlink(F, W + '/to-readable')
attempt('write through a link', lambda: rewrite(W + '/to-readable'))
def by_magic_link():
    fd = os.open(F, os.O_RDONLY); return os.open('/proc/self/fd/%d' % fd, os.O_RDWR)
attempt('reopen for writing', by_magic_link)
def rewrite_by(get, set, path):
    "What an ioctl on a descriptor for reading tells, by another that sets it."
    fd = os.open(path, os.O_RDONLY); return fcntl.ioctl(fd, set, fcntl.ioctl(fd, get, bytes(28)))
for path in (F, O + '/readable'):
    attempt('flags', lambda: rewrite_by(0x80086601, 0x40086602, path))
    attempt('extended flags', lambda: rewrite_by(0x801c581f, 0x401c5820, path))
    attempt('version', lambda: rewrite_by(0x80087601, 0x40087602, path))
    attempt("ext4's version", lambda: rewrite_by(0x80086603, 0x40086604, path))
"#,
    );
    let kept = std::fs::read_to_string(scratch.path().join("o/readable/file")).unwrap();
    assert_eq!(kept, "kept");
}

#[test]
fn namespaces_mounts_and_the_machine_are_out_of_reach() {
    let scratch = corpus();
    // 15-21 and 30.
    all_refused(
        &scratch,
        r#"
attempt('unshare user', lambda: syscall(SYS_unshare, 0x10000000))
attempt('unshare user and mount', lambda: syscall(SYS_unshare, 0x10020000))
attempt('unshare net', lambda: syscall(SYS_unshare, 0x40000000))
attempt('unshare into an empty mount namespace', lambda: syscall(SYS_unshare, 0x100000))  # Linux 7.1
attempt('clone into a user namespace', lambda: syscall(SYS_clone, 0x10000011, 0, 0, 0, 0))
attempt('setns', lambda: syscall(SYS_setns, os.open(W, os.O_RDONLY), 0))
attempt('bind mount', lambda: syscall(SYS_mount, W.encode(), O.encode(), 0, 0x1000, 0))
attempt('unmount', lambda: syscall(SYS_umount2, b'/tmp', 2))
attempt('open_tree', lambda: syscall(428, -100, b'/', 1))
attempt('fsopen', lambda: syscall(430, b'tmpfs', 0))
attempt('pivot_root', lambda: syscall(SYS_pivot_root, W.encode(), W.encode()))
attempt('chroot', lambda: os.chroot(W))
import stat
attempt('block device node', lambda: os.mknod(W + '/disk', 0o600 | stat.S_IFBLK, os.makedev(254, 0)))
attempt('character device node', lambda: os.mknod(W + '/mem', 0o600 | stat.S_IFCHR, os.makedev(1, 1)))
for device in ['/dev/vda', '/dev/sda', '/dev/mem', '/dev/kmsg', '/dev/port', '/dev/loop0', '/dev/fuse', '/dev/kvm']:
    attempt(device, lambda: os.open(device, os.O_RDONLY))
for setting in ['/proc/sys/kernel/core_pattern', '/proc/sys/vm/overcommit_memory', '/proc/sysrq-trigger',
                '/sys/kernel/uevent_helper', '/sys/kernel/mm/transparent_hugepage/enabled', '/sys/fs/cgroup/release_agent',
                '/proc/self/oom_score_adj']:
    attempt(setting, lambda: 'absent' if not os.path.exists(setting) else os.open(setting, os.O_WRONLY))
attempt('io_uring', lambda: syscall(425, 4, ctypes.create_string_buffer(120)))
attempt('bpf', lambda: syscall(SYS_bpf, 0, 0, 0))
attempt('perf', lambda: syscall(SYS_perf_event_open, ctypes.create_string_buffer(120), 0, -1, -1, 0))
attempt('userfaultfd', lambda: syscall(SYS_userfaultfd, 0))
attempt('add_key', lambda: syscall(SYS_add_key, b'user', b'n', b'v', 1, -3))
attempt('keyctl read', lambda: syscall(SYS_keyctl, 11, -3, 0, 0))
attempt('request_key', lambda: syscall(SYS_request_key, b'user', b'n', 0, -3))
attempt('kexec', lambda: syscall(SYS_kexec_load, 0, 0, 0, 0))
attempt('reboot', lambda: syscall(SYS_reboot, 0, 0, 0, 0))
attempt('syslog', lambda: syscall(SYS_syslog, 3, ctypes.create_string_buffer(16), 16))
attempt('personality READ_IMPLIES_EXEC', lambda: syscall(SYS_personality, 0x0400000))
class Mount(ctypes.Structure): _fields_ = [('size', ctypes.c_uint32), ('fd', ctypes.c_uint32), ('id', ctypes.c_uint64), ('mask', ctypes.c_uint64), ('namespace', ctypes.c_uint64)]
every, found = Mount(32, 0, 0xffffffffffffffff, 0, 0), ctypes.create_string_buffer(256)
syscall(SYS_statx, -100, b'/', 0, 0x4000, found)  # statx, STATX_MNT_ID_UNIQUE
root = Mount(32, 0, int.from_bytes(found[144:152], 'little'), 2, 0)
attempt('listmount', lambda: syscall(458, ctypes.byref(every), (ctypes.c_uint64 * 64)(), 64, 0))
attempt('statmount', lambda: syscall(457, ctypes.byref(root), ctypes.create_string_buffer(4096), 4096, 0))
attempt('a call that nobody has looked at', lambda: syscall(469, 0, 0, 0, 0))
"#,
    );
}

#[test]
fn other_processes_are_out_of_reach() {
    let scratch = corpus();
    // 23-25: the owner of the sandbox stands for every process outside.
    let script = format!(
        r#"
victim, init = {}, os.getppid()
def memory_of(pid):
    with open('/proc/%d/mem' % pid, 'rb') as file: file.seek(0x400000); return file.read(1)
class Vector(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]
def vm_read(pid):
    here = ctypes.create_string_buffer(8)
    return syscall(SYS_process_vm_readv, pid, ctypes.byref(Vector(ctypes.addressof(here), 8)), 1, ctypes.byref(Vector(0x400000, 8)), 1, 0)
for who, pid in [('outside', victim), ('init', init)]:
    attempt(who + ' environ', lambda: read('/proc/%d/environ' % pid) or 'absent')
    attempt(who + ' memory', lambda: memory_of(pid))
    attempt(who + ' descriptors', lambda: os.listdir('/proc/%d/fd' % pid))
    attempt(who + ' ptrace', lambda: syscall(SYS_ptrace, 16, pid, 0, 0))
    attempt(who + ' seize', lambda: syscall(SYS_ptrace, 0x4206, pid, 0, 0))
    attempt(who + ' process_vm_readv', lambda: vm_read(pid))
    attempt(who + ' pidfd_getfd', lambda: syscall(438, os.pidfd_open(pid), 0, 0))
attempt('outside signal', lambda: os.kill(victim, 0))
attempt('outside group', lambda: os.killpg(victim, 0))
attempt('outside priority', lambda: os.setpriority(os.PRIO_PROCESS, victim, -20))
import resource
attempt('outside limits', lambda: resource.prlimit(victim, resource.RLIMIT_CORE))
attempt('outside processors', lambda: os.sched_setaffinity(victim, os.sched_getaffinity(0)))
attempt('outside scheduler', lambda: os.sched_setscheduler(victim, os.SCHED_OTHER, os.sched_param(0)))
attempt('outside same priority', lambda: os.setpriority(os.PRIO_PROCESS, victim, os.getpriority(os.PRIO_PROCESS, 0)))
attempt('outside disk priority', lambda: syscall(SYS_ioprio_set, 1, victim, 0))
"#,
        std::process::id()
    );
    all_refused(&scratch, &script);
}

#[test]
fn own_processes_have_limits_and_priorities_to_set() {
    let script = r#"
import os, resource, subprocess, threading
child = subprocess.Popen(['/bin/sh', '-c', '/bin/sh -c "sleep 60 & echo \\$!"; read -r end'],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
orphan = int(child.stdout.readline())
for process in (0, os.getpid(), threading.get_native_id(), child.pid, orphan):
    resource.prlimit(process, resource.RLIMIT_CORE, (0, 0))
    os.sched_setaffinity(process, os.sched_getaffinity(process))
    os.sched_setscheduler(process, os.SCHED_BATCH, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, process, 1)
    assert os.getpriority(os.PRIO_PROCESS, process) == 1
os.kill(orphan, 9); child.communicate(b'\n')
print('done')
"#;
    let of_others = r#"
import os, resource
for call in (lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CORE),
             lambda: os.setpriority(os.PRIO_USER, os.getuid(), 0)):
    try: print(call())
    except PermissionError: print('refused')
"#;
    in_each_tier(&shell(), |sandbox| {
        let (_, output) = run_command(sandbox, Command::new(["/usr/bin/python3", "-c", script]));
        assert_eq!(output, "done\n");
        if sandbox.tier() == TierName::Flat {
            let command = Command::new(["/usr/bin/python3", "-c", of_others]);
            assert_eq!(run_command(sandbox, command).1, "refused\nrefused\n");
        }
    });
}

#[test]
fn memory_that_is_on_no_path_is_not_shared_with_the_machine() {
    // Made here, so that there is one to be found.
    // SAFETY: no memory is involved.
    let made = unsafe { libc::shmget(libc::IPC_PRIVATE, 4096, 0o600) };
    assert!(made >= 0);
    let script = format!(
        r#"
attempt('shared memory', lambda: syscall(SYS_shmat, {made}, 0, 0o10000))
attempt('its state', lambda: syscall(SYS_shmctl, {made}, 2, ctypes.create_string_buffer(256)))
"#
    );
    all_refused(&corpus(), &script);
    // SAFETY: no memory is involved.
    unsafe { libc::shmctl(made, libc::IPC_RMID, std::ptr::null_mut()) };
}

#[test]
fn a_fork_bomb_meets_its_limit_and_ends_with_the_sandbox() {
    // 28. As root RLIMIT_NPROC does not bind: the bomb is then bounded by itself.
    let mut limits = Limits::default();
    limits.processes = Some(400);
    let capabilities = shell().limits(limits);
    in_each_tier(&capabilities, |sandbox| {
        let script = "import os, time\nfor _ in range(6):\n    try: os.fork()\n    except OSError: pass\ntime.sleep(60)";
        let child =
            sandbox.spawn(Command::new(["/usr/bin/python3", "-c", script])).expect("it starts");
        std::thread::sleep(std::time::Duration::from_millis(300));
        sandbox.close();
        assert!(!child.wait().status.success());
        let left = std::fs::read_dir("/proc").unwrap().flatten().filter(|process| {
            let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            line.windows(script.len()).any(|window| window == script.as_bytes())
        });
        assert_eq!(left.count(), 0);
    });
}

#[test]
fn own_processes_and_pairs_still_work() {
    // 37, and that what is refused above is refused because of whom it is aimed at.
    in_each_tier(&shell(), |sandbox| {
        let script = r#"
import os, signal, socket
for kind in [socket.SOCK_STREAM, socket.SOCK_SEQPACKET]: # a datagram socket could send to any path
    a, b = socket.socketpair(socket.AF_UNIX, kind); a.send(b'x'); assert b.recv(1) == b'x'
pid = os.fork()
if pid == 0: signal.pause()
os.kill(pid, signal.SIGTERM); assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGTERM
r, w = os.pipe(); os.write(w, b'y'); assert os.read(r, 1) == b'y'
print('fine')
"#;
        assert_eq!(
            run_command(sandbox, Command::new(["/usr/bin/python3", "-c", script])).1,
            "fine\n"
        );
        assert!(run(sandbox, "sleep 60 & kill $! && wait $!; echo $?").1.ends_with("143\n"));
    });
}

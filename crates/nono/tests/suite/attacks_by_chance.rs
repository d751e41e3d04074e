//! Calls that the supervisor answers, with whatever can be passed to them, from several threads at once: it
//! answers them, and goes on to decide as before.

use nono::{Approver, Capabilities, Command, Network, Observe, Options, Sandbox};

use crate::common::{Scratch, in_any_tier, in_tier, run, run_command, shell};
use crate::container::in_container;

/// What it answers, for one sandbox or another.
const CALLS: &[i64] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_fsetxattr,
    libc::SYS_lsetxattr,
    libc::SYS_removexattr,
    libc::SYS_connect,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_socket,
    libc::SYS_socket,
    libc::SYS_memfd_create,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_set_tid_address,
    libc::SYS_setpriority,
    libc::SYS_sched_setscheduler,
    libc::SYS_unshare,
];

const SCRIPT: &str = r"
import ctypes, mmap, os, random, sys, threading, time
os.chdir(sys.argv[1])
numbers, end = [int(number) for number in sys.argv[3].split()], time.monotonic() + float(sys.argv[4])
call = ctypes.CDLL(None).syscall
call.restype = ctypes.c_long
# A page at whose end the memory ends.
size = 2 * mmap.PAGESIZE
memory = mmap.mmap(-1, size)
base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
libc = ctypes.CDLL(None)
libc.mprotect(ctypes.c_void_p(base + mmap.PAGESIZE), ctypes.c_size_t(mmap.PAGESIZE), 0)
limit = base + mmap.PAGESIZE
paths = [b'a', b'd/b', b'd', b'.', b'..', b'', b'/', b'//', b'x' * 300, b'd/' * 900, b'./' * 2100, b'/proc/self/fd/0',
    b'/proc/self/fd/7/x', b'/proc/self/environ', b'/proc/thread-self/mem', b'/dev/fd/3', b'/dev/tty', b'/dev/null', b'link',
    b'loop', b'secret.env', b'd/secret.env', b'\xff\xfe', b'/proc/1/root', b'/proc/self/task/1/cwd']
def address(any):
    family = any.choice([0, 1, 1, 2, 2, 10, 10, 16, 17, any.randrange(65536)])
    rest = any.choice([any.randbytes(any.randrange(130)), any.choice(paths), b'\0' + any.randbytes(5),
        (53).to_bytes(2, 'big') + bytes([127, 0, 0, 1]) + bytes(8), (443).to_bytes(2, 'big') + any.randbytes(26)])
    return family.to_bytes(2, sys.byteorder) + rest
def attack(seed):
    any = random.Random(seed)
    start = mmap.PAGESIZE // 8 * (seed % 8) % (mmap.PAGESIZE // 2)
    def pointer():
        what = any.random()
        if what < .5: text = any.choice(paths) + b'\0'
        elif what < .8: text = address(any)
        else: text = any.randbytes(any.randrange(64))
        text = text[:mmap.PAGESIZE // 2]
        at = any.choice([start, mmap.PAGESIZE - len(text)])
        memory[at:at + len(text)] = text
        return base + at
    others = [0, 1, 3, 4, 5, 7, 8, 9, 16, 28, 110, 128, 129, -1, -100, 0o100, 0o102, 0o1101, 0o200000, 0o10000000, 0o4755, 0x1000,
        1 << 31, (1 << 31) - 1, 1 << 32, (1 << 63) - 1, limit, limit - 1, 0xffffffff81000000, 2, 10, 0o2000000 | 1, 0o4000 | 1]
    while time.monotonic() < end:
        arguments = [pointer() if any.random() < .4 else any.choice(others) for argument in range(6)]
        # Descriptors are where calls have them, most often.
        if any.random() < .5: arguments[0] = any.randrange(3, 12)
        call(any.choice(numbers), *map(ctypes.c_long, arguments))
        counts[seed] += 1
        if any.random() < .02: call(CLOSE, ctypes.c_long(any.randrange(3, 40)))
CLOSE, seed, counts = int(sys.argv[5]), int(sys.argv[2]), [0] * 4
for number in range(4): threading.Thread(target=attack, args=[number], daemon=True).start()
while time.monotonic() < end + .2: time.sleep(.05)
os.write(1, b'%d\n' % sum(counts))
os._exit(0)
";

fn attack(sandbox: &Sandbox, scratch: &Scratch, seed: u32) {
    let numbers: Vec<_> = CALLS.iter().map(i64::to_string).collect();
    let (numbers, seed) = (numbers.join(" "), seed.to_string());
    let (path, close) = (scratch.path().display().to_string(), libc::SYS_close.to_string());
    let argv = ["/usr/bin/python3", "-I", "-S", "-c", SCRIPT, &path, &seed, &numbers, "1", &close];
    let (exit, output) = run_command(sandbox, Command::new(argv));
    println!("{} calls, {:?}", output.trim(), exit.status);
    // It may have hit itself; nobody else.
    let script = format!(
        "cd {path}; cat secret.env 2> error && echo READ; echo x > fine && cat fine; \
         echo x > {path}-beside; ls -d {path}-beside",
    );
    let (_, output) = run(sandbox, &script);
    assert!(output.contains("x\n") && !output.contains("READ"), "{output}");
    assert!(!std::path::Path::new(&format!("{path}-beside")).exists());
    let (_, _) = sandbox.events().take(usize::MAX);
}

fn scratch() -> Scratch {
    let scratch = Scratch::in_public();
    scratch.file("secret.env", "the secret");
    scratch.file("d/secret.env", "the secret");
    std::os::unix::fs::symlink("a", scratch.path().join("link")).unwrap();
    std::os::unix::fs::symlink("loop", scratch.path().join("loop")).unwrap();
    scratch
}

fn policies(scratch: &Scratch) -> [Capabilities; 3] {
    let denying = || shell().allow_write(scratch.path()).deny("**/*.env");
    [
        denying(),
        denying().network(Network::Gate { ports: vec![443] }),
        denying().network(Network::Open),
    ]
}

#[test]
fn nonsense_is_answered_and_decides_nothing() {
    for tier in nono::support().tiers.into_iter().filter(|tier| tier.unavailable.is_none()) {
        for index in 0..3 {
            let scratch = scratch();
            let capabilities = &policies(&scratch)[index];
            let approver = Approver::new(|_, request| request.deny());
            let approver = (index == 0).then_some(approver);
            let options = Options { observe: Observe::All, approver, ..in_tier(tier.name) };
            let sandbox = Sandbox::create(capabilities, &options).unwrap();
            for seed in 0..2 {
                attack(&sandbox, &scratch, seed);
            }
        }
    }
}

#[test]
fn nonsense_is_answered_in_a_container() {
    in_container(|| {
        for index in 0..2 {
            let scratch = scratch();
            let sandbox = Sandbox::create(&policies(&scratch)[index], &in_any_tier()).unwrap();
            attack(&sandbox, &scratch, 1);
        }
    });
}

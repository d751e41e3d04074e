//! What `/proc` says of a process to itself where its reads are supervised, and that it says nothing of
//! others: neither of processes outside nor of the sandbox's owner.

use std::collections::HashSet;
use std::process::{Child, Stdio};

use nono::{Capabilities, Command, Operation, Sandbox, Target, TierName};

use crate::common::{Scratch, in_each_tier, run_command, shell};

/// A process outside, of the same user, with a secret in its environment.
struct Outsider(Child);

impl Outsider {
    fn start() -> Self {
        let mut sleep = std::process::Command::new("/usr/bin/sleep");
        let sleep = sleep.arg("60").env_clear().env("SECRET", "not for the sandbox");
        Outsider(sleep.stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Outsider {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Every read is supervised, since something is denied.
fn denying(scratch: &Scratch) -> Capabilities {
    shell().allow_write(scratch.path()).deny("**/.env")
}

fn python(sandbox: &Sandbox, scratch: &Scratch, script: &str, numbers: &[u32]) -> String {
    let preamble = r"
import errno, os, sys, threading
W, NUMBERS = sys.argv[1], sys.argv[2:]
def attempt(name, call):
    try: print(name, call())
    except OSError as error: print(name, errno.errorcode[error.errno])
def read(path, **options):
    with open(os.open(path, os.O_RDONLY, **options), 'rb') as file: return file.read(4096)
";
    let argv = ["/usr/bin/python3", "-I", "-S", "-c", &format!("{preamble}{script}")];
    let workspace = scratch.path().display().to_string();
    let argv = argv.into_iter().map(str::to_owned).chain([workspace]);
    let argv = argv.chain(numbers.iter().map(u32::to_string));
    let (exit, output) = run_command(sandbox, Command::new(argv));
    assert!(exit.status.success(), "{output}");
    output
}

#[test]
fn no_way_from_its_own_directory_leads_to_others() {
    // 30: what /proc has of processes outside. Reading the owner's memory would give all credentials.
    let script = r"
os.path.lexists(W + '/link') or os.symlink('/proc/self', W + '/link')
def ways(number, name):
    own = os.getpid()
    for way in [f'/proc/{number}', f'/proc/self/../{number}', f'/proc/./self/.././{number}',
            f'/proc/self/task/../../{number}', f'/proc/self/task/{own}/../../../{number}',
            f'/proc/thread-self/../../../{number}', f'/proc/{own}/../{number}', f'/dev/fd/../../{number}',
            f'/../proc/self/../{number}', f'{W}/link/../{number}', f'//proc//self/..//{number}',
            f'/proc/self/cwd/../proc/{number}', f'/proc/self/root/proc/{number}',
            f'/proc/self/fd/../../{number}', f'/proc/{number}/task/{number}']:
        yield way, way + '/' + name, None
    for start in ['/proc/self', '/proc/thread-self', '/proc/self/task', '/proc']:
        try: fd = os.open(start, os.O_PATH)
        except OSError: continue
        up = {'/proc/self': '..', '/proc/thread-self': '../../..', '/proc/self/task': '../..', '/proc': '.'}[start]
        yield f'from {start}', f'{up}/{number}/{name}', fd
def look(name, path, fd):
    found = read(path, dir_fd=fd)
    return 'SUCCEEDED' if found != own[name] else 'own'
own = {}
for name in ['environ', 'maps', 'mem']:
    try: own[name] = read('/proc/self/' + name)
    except OSError: own[name] = None
for number in NUMBERS:
    for name in ['environ', 'maps', 'mem', 'auxv']:
        for way, path, fd in ways(number, name):
            attempt(f'{name} by {way}', lambda: look(name, path, fd))
# To whoever opens them with capabilities, these tell the places of memory in the machine, and of the kernel's code.
for name in ['pagemap', 'stack', f'task/{os.getpid()}/pagemap']:
    attempt(name, lambda: ('SUCCEEDED', read('/proc/self/' + name)[:0]))
# To the supervisor these would mean its own.
for name in ['environ', 'maps']:
    for way in ['/../proc/self/', '/x/../proc/self/', W + '/link/', '/proc/self/root/proc/self/', '/proc/../proc/thread-self/']:
        attempt(f'{name} by {way}', lambda: look(name, way + name, None))
";
    let scratch = Scratch::new();
    let outsider = Outsider::start();
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let threads = threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok());
    let numbers: Vec<u32> = [outsider.0.id()].into_iter().chain(threads.take(4)).collect();
    // A grant of everything includes /proc in the tier flat, but no looking into processes.
    for capabilities in [denying(&scratch), denying(&scratch).allow_read("/")] {
        in_each_tier(&capabilities, |sandbox| {
            let output = python(sandbox, &scratch, script, &numbers);
            assert!(output.lines().count() > 300, "{output}");
            let succeeded: Vec<_> = output.lines().filter(|line| line.contains("SUCC")).collect();
            assert!(succeeded.is_empty(), "{succeeded:#?}");
        });
    }
}

#[test]
fn what_is_found_on_any_way_through_proc_is_what_the_kernel_finds() {
    let script = r"
import random, re
random.seed(int(NUMBERS[0]))
own = str(os.getpid())
def look(path, flags=0):
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | flags)
        found = os.readlink('/proc/self/fd/%d' % fd)
        os.close(fd)
    except OSError as error: found = errno.errorcode[error.errno]
    parts = ['OWN' if part == own else part for part in found.split('/')]
    print(path.replace(own, 'OWN'), '->', '/'.join(parts))
HIDDEN = '/(%s)(/+[.]?)*/[.][.](?=/|$)' % '|'.join(['1'] + NUMBERS[1:])
os.path.lexists(W + '/link') or os.symlink('/proc/self', W + '/link')
STEPS = ['self', 'thread-self', '..', '..', '.', 'task', own, '1', NUMBERS[1], NUMBERS[2], 'proc', 'root', 'cwd', 'fd', '0', 'fdinfo',
    'exe', 'sys', 'status', 'maps', 'environ', 'mem', 'cmdline', 'net', 'dev', 'etc', 'hostname', 'ns', 'link', '']
STARTS = ['/proc/self', '/proc/thread-self', '/proc/' + own, '/proc', '/dev/fd', '', W, W + '/link', '.', 'link', '/proc/self/task/' + own]
os.chdir(W)
for turn in range(4000):
    path = '/'.join([random.choice(STARTS)] + [random.choice(STEPS) for _ in range(random.randrange(6))])
    look(path, random.choice([0, 0, 0, os.O_DIRECTORY, os.O_NOFOLLOW]))
    past = re.sub(HIDDEN, '', path)
    if past != path: look(past) # what `..` from a hidden process leads to
";
    let scratch = Scratch::new();
    let outsider = Outsider::start();
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    println!("seed {seed}");
    let numbers = [seed, outsider.0.id(), std::process::id()];
    for all in [false, true] {
        let granting = |capabilities: Capabilities| match all {
            true => capabilities.allow_read("/"),
            false => capabilities,
        };
        let plain = granting(shell().allow_write(scratch.path()));
        let mut by_kernel = Vec::new();
        in_each_tier(&plain, |sandbox| by_kernel.push(python(sandbox, &scratch, script, &numbers)));
        let mut by_kernel = by_kernel.into_iter();
        in_each_tier(&granting(denying(&scratch)), |sandbox| {
            let supervised = python(sandbox, &scratch, script, &numbers);
            let by_kernel = by_kernel.next().unwrap();
            let found = |line: &str| line.split_once(" -> ").unwrap().1.to_owned();
            let is_opened = |line: &&str| line.contains(" -> /");
            let known: HashSet<String> = by_kernel.lines().filter(is_opened).map(found).collect();
            let opened =
                supervised.lines().zip(by_kernel.lines()).filter(|(line, _)| is_opened(line));
            for (ours, kernel) in opened.clone() {
                let is_own = sandbox.tier() == TierName::Flat && ours.contains("-> /proc/OWN");
                let is_open = kernel.contains(" -> /");
                // `..` from a hidden process is found, but leads to nothing hidden.
                let is_known = !is_open && known.contains(&found(ours));
                assert!(ours == kernel || is_own || is_known, "{ours}; by the kernel: {kernel}");
            }
            println!("{} opened", opened.clone().count());
            assert!(opened.count() > 100);
        });
    }
}

#[test]
fn a_process_is_told_of_itself_under_its_own_numbers() {
    let script = r"
def of(path): return dict(line.split(':\t', 1) for line in read(path).decode(errors='replace').splitlines())
def numbers(path): return (of(path)['Tgid'], of(path)['Pid'])
def told():
    process, thread = str(os.getpid()), str(threading.get_native_id())
    assert numbers('/proc/self/status') == (process, process), numbers('/proc/self/status')
    assert numbers('/proc/thread-self/status') == (process, thread)
    assert numbers(f'/proc/{process}/status') == (process, process)
    assert numbers(f'/proc/self/task/{thread}/status') == (process, thread)
    assert read('/proc/self/stat').split()[0] == process.encode()
    assert thread in os.listdir('/proc/self/task'), os.listdir('/proc/self/task')
    assert b'python3' in read('/proc/self/cmdline') and b'[heap]' in read('/proc/self/maps')
    assert read('/proc/self/environ').split(b'\0')[:-1] == [os.fsencode(f'{k}={v}') for k, v in os.environ.items()], read('/proc/self/environ')
    assert read('/proc/self/cgroup') and read('/proc/self/limits') and read('/proc/self/fdinfo/0')
    assert '0' in os.listdir('/proc/self/fd') and 'stat' in os.listdir('/proc/self')
    return 'right'
attempt('main thread', told)
other = threading.Thread(target=lambda: attempt('other thread', told))
other.start(); other.join()
import ctypes
ctypes.CDLL(None).prctl(15, b'\xff') # PR_SET_NAME
attempt('under a name that is no text', told)
";
    let scratch = Scratch::new();
    in_each_tier(&denying(&scratch), |sandbox| {
        let output = python(sandbox, &scratch, script, &[]);
        let threads = "main thread right\nother thread right\n";
        assert_eq!(output, format!("{threads}under a name that is no text right\n"));
        let (events, _) = sandbox.events().take(usize::MAX);
        let refused: Vec<_> = events.iter().filter(|event| event.refused.is_some()).collect();
        assert!(refused.is_empty(), "{refused:#?}");
    });
}

#[test]
fn links_to_itself_lead_to_itself() {
    let script = r"
os.chdir(W)
own = str(os.getpid())
def pid(path): return dict(line.split(':', 1) for line in read(path).decode(errors='replace').splitlines())['Pid'].strip()
for name, target in [('file', '/proc/self/status'), ('directory', '/proc/self'), ('thread', '/proc/thread-self/status'),
        ('way', 'directory'), ('around', '/proc/../proc/self/status'), ('relative', '../' * 20 + 'proc/self/status'),
        ('nowhere', '/proc/self/nothing'), ('deep/link', '../directory')]:
    os.makedirs(os.path.dirname(name) or '.', exist_ok=True)
    os.path.lexists(name) or os.symlink(target, name)
for path in ['file', 'directory/status', 'thread', 'way/status', 'around', 'relative', 'deep/link/status', W + '/way/task/' + own + '/status',
        '/proc/../proc/self/status']:
    attempt(path.replace(W, '').replace(own, 'OWN'), lambda: pid(path) == own)
for path in ['nowhere', 'way/nothing', 'deep/nothing', 'nothing/status', 'nowhere/', 'file/', 'way/status/.']: attempt(path, lambda: pid(path))
os.symlink('/proc/self/mounts', 'mounts') if not os.path.lexists('mounts') else 0
attempt('mounts', lambda: read('mounts') == read('/proc/self/mounts') == read('/proc/mounts'))
attempt('without following', lambda: os.open('way', os.O_RDONLY | os.O_NOFOLLOW))
";
    let scratch = Scratch::new();
    in_each_tier(&denying(&scratch), |sandbox| {
        let output = python(sandbox, &scratch, script, &[]);
        let told: Vec<_> = output.lines().map(|line| line.split_once(' ').unwrap().1).collect();
        let mounts = if sandbox.tier() == TierName::Flat { "EACCES" } else { "True" };
        let rest =
            ["ENOENT"; 5].into_iter().chain(["ENOTDIR", "ENOTDIR", mounts, "following ELOOP"]);
        let expected: Vec<_> = ["True"; 9].into_iter().chain(rest).collect();
        assert_eq!(told, expected, "{output}");
    });
}

#[test]
fn without_a_proc_of_its_own_it_is_told_of_itself_alone() {
    let script = r"
for name in ['mem', 'mounts', 'mountstats', 'pagemap', 'net/dev', 'attr/current', 'task/%d/mem' % os.getpid()]:
    attempt(name, lambda: len(read('/proc/self/' + name)))
attempt('ns', lambda: os.listdir('/proc/self/ns'))
attempt('change', lambda: os.open('/proc/self/oom_score_adj', os.O_WRONLY))
attempt('parent', lambda: read('/proc/%d/cmdline' % os.getppid()))
points = [line.split(b' ')[4] for line in read('/proc/self/mountinfo').splitlines()]
print(sorted(set(points) - {b'/dev/null', b'/dev/zero', b'/dev/full', b'/dev/random', b'/dev/urandom', b'/dev/tty'}))
fd = os.open('/proc/self/mountinfo', os.O_RDONLY)
attempt('write', lambda: os.write(os.open('/proc/self/mountinfo', os.O_RDWR), b'x'))
attempt('execute', lambda: os.execve(fd, ['x'], {}))
";
    let scratch = Scratch::new();
    in_each_tier(&denying(&scratch), |sandbox| {
        if sandbox.tier() != TierName::Flat {
            return; // it has a /proc of its own
        }
        let output = python(sandbox, &scratch, script, &[]);
        let refused = output.lines().filter(|line| line.ends_with(" EACCES")).count();
        assert_eq!(refused, 12, "{output}");
        assert!(!output.contains("b'/'"), "{output}");
        let (events, _) = sandbox.events().take(usize::MAX);
        let told = events.iter().filter(|event| {
            let is_own =
                matches!(&event.target, Target::Path { path, .. } if path.starts_with("/proc"));
            event.refused.is_some() && is_own && event.operation != Operation::Execute
        });
        assert_eq!(told.count(), 11, "{events:#?}");
    });
}

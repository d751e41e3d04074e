//! What commands can do to the process that owns their sandbox, and to its other sandboxes: it stays alive,
//! answers them, and has descriptors, threads and memory left.

use std::io::{PipeReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nono::{Approver, Command, Options, Sandbox};

use crate::common::{Scratch, in_any_tier, in_each_tier, in_tier, run_command, shell};
use crate::container::in_container;

fn python(script: &str) -> Command {
    Command::new(["/usr/bin/python3", "-I", "-S", "-c", script])
}

/// Starts a command and waits until it says that it is ready.
fn start(sandbox: &Sandbox, command: Command) -> (nono::Child, PipeReader) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let null = || std::fs::File::options().read(true).write(true).open("/dev/null").unwrap().into();
    let error = std::io::stderr().as_fd().try_clone_to_owned().unwrap();
    let child = sandbox.spawn(command.stdio(vec![null(), writer.into(), error])).unwrap();
    let mut ready = [0; 6];
    reader.read_exact(&mut ready).unwrap();
    assert_eq!(&ready, b"ready\n");
    (child, reader)
}

#[test]
fn what_a_refused_program_says_of_itself_is_told_in_bounds() {
    // Megabytes of arguments, and a name that is no text.
    let script = r"
import ctypes, os, sys
libc = ctypes.CDLL(None)
if len(sys.argv) < 3:
    os.execv('/usr/bin/python3', ['/usr/bin/python3', '-I', '-S', '-c', sys.argv[1], *sys.argv[1:], *['x' * 100_000] * 15])
libc.prctl(15, b'\xff(no text)\xfe', 0, 0, 0)
for turn in range(100): libc.unshare(0x10000000)
";
    let argv = ["/usr/bin/python3", "-I", "-S", "-c", script, script];
    in_each_tier(&shell(), |sandbox| {
        let child = sandbox.spawn(Command::new(argv)).unwrap();
        assert!(child.wait().status.success());
        let (events, _) = sandbox.events().take(usize::MAX);
        let refused: Vec<_> = events.iter().filter(|event| event.refused.is_some()).collect();
        assert!(refused.len() >= 100, "{events:#?}");
        for event in refused.into_iter().rev().take(100) {
            let process = &event.process;
            let length: usize = process.arguments.iter().map(|argument| argument.len()).sum();
            assert!((10_000..20_000).contains(&length), "{length}");
            // Its name keeps it from nothing that is told of it.
            assert!(process.command != 0 && process.session == process.command, "{process:?}");
            assert!(!process.frames.is_empty() || process.cwd.is_absolute(), "{process:?}");
        }
    });
}

#[test]
fn connections_that_wait_leave_seats_for_other_sandboxes() {
    // Each blocks in connect(), since nobody accepts.
    let script = r"
import os, socket, sys, threading, time
os.chdir(sys.argv[1])
listener = socket.socket(socket.AF_UNIX); listener.bind('full'); listener.listen(0)
def connect():
    try: socket.socket(socket.AF_UNIX).connect('full')
    except OSError: failed.append(1)
failed = []
threading.stack_size(64 * 1024)
for turn in range(1100): threading.Thread(target=connect, daemon=True).start()
while len(failed) < 20: time.sleep(.01)
print('ready', flush=True)
time.sleep(1000)
";
    let other = r"
import os, socket, sys, threading, time
os.chdir(sys.argv[1])
listener = socket.socket(socket.AF_UNIX); listener.bind('other'); listener.listen(0)
waiting = [threading.Thread(target=lambda: socket.socket(socket.AF_UNIX).connect('other')) for turn in range(8)]
for thread in waiting: thread.start()
time.sleep(.2)
accepted = [listener.accept() for turn in range(8)]
for thread in waiting: thread.join()
print('all', len(accepted))
";
    let scratch = Scratch::new();
    let path = scratch.path().display().to_string();
    let of = |script| Command::new(["/usr/bin/python3", "-I", "-S", "-c", script, path.as_str()]);
    let sandbox = || Sandbox::create(&shell().allow_write(scratch.path()), &in_any_tier()).unwrap();
    let (attacker, victim) = (sandbox(), sandbox());
    let _attack = start(&attacker, of(script));
    let (exit, output) = run_command(&victim, of(other));
    assert!(exit.status.success() && output == "all 8\n", "{output}");
}

#[test]
fn opens_that_wait_leave_seats_for_other_sandboxes() {
    // Each waits for somebody to write, on threads of the owner.
    let script = r"
import errno, os, sys, threading, time
os.chdir(sys.argv[1]); os.mkfifo('nobody')
def wait():
    try: os.open('nobody', os.O_RDONLY)
    except OSError as error: failed.append(error.errno)
failed = []
threading.stack_size(64 * 1024)
for turn in range(600): threading.Thread(target=wait, daemon=True).start()
while len(failed) < 80: time.sleep(.01)
assert set(failed) == {errno.ENFILE}, failed
print('ready', flush=True)
time.sleep(1000)
";
    let other = r"
import os, sys, threading
os.chdir(sys.argv[1]); os.mkfifo('other')
reader = threading.Thread(target=lambda: print(open('other').read()))
reader.start()
with open('other', 'w') as pipe: pipe.write('through')
reader.join()
";
    let scratch = Scratch::new();
    let path = scratch.path().display().to_string();
    let of = |script| Command::new(["/usr/bin/python3", "-I", "-S", "-c", script, path.as_str()]);
    let capabilities = shell().allow_write(scratch.path()).deny("**/.env");
    let sandbox = || Sandbox::create(&capabilities, &in_any_tier()).unwrap();
    let (attacker, victim) = (sandbox(), sandbox());
    let _attack = start(&attacker, of(script));
    let (exit, output) = run_command(&victim, of(other));
    assert!(exit.status.success() && output == "through\n", "{output}");
}

#[test]
fn connections_to_a_service_of_the_host_leave_descriptors_for_others() {
    // Each that is led on takes two descriptors of the owner, which would have none left for anything else.
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = service.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut connection in service.incoming().flatten() {
            let _ = connection.write_all(b"x");
            std::mem::forget(connection);
        }
    });
    let script = format!(
        r"
import resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
reached, reset = [], 0
for turn in range(4000):
    connection = socket.create_connection(('127.0.0.1', {port}))
    try: connection.recv(1); reached.append(connection)
    except ConnectionResetError: reset += 1
    if reset > 10: break
print(len(reached), reset)
"
    );
    in_each_tier(&shell().allow_localhost(port), |sandbox| {
        if sandbox.tier() != nono::TierName::Namespaces {
            return; // its own sockets are connected to the service
        }
        let (_, output) = run_command(sandbox, python(&script));
        let mut numbers = output.split_whitespace().map(|word| word.parse::<usize>().unwrap());
        let (reached, reset) = (numbers.next().unwrap(), numbers.next().unwrap());
        println!("{reached} reached, {reset} reset");
        assert!(reached >= 32 && reset > 10, "{output}");
    });
}

#[test]
fn sockets_that_are_never_connected_leave_descriptors_for_others() {
    let script = r"
import errno, resource, socket
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
kept = []
try:
    while len(kept) < 9000: kept.append(socket.socket(socket.AF_UNIX))
except OSError as error: print(errno.errorcode[error.errno])
half = len(kept) // 2
del kept[:half]
kept += [socket.socket(socket.AF_UNIX) for turn in range(half)]
print('again')
";
    // Elsewhere they are the command's own, and bounded by its limit.
    in_container(|| {
        let sandbox = Sandbox::create(&shell(), &in_any_tier()).unwrap();
        let (exit, output) = run_command(&sandbox, python(script));
        assert!(exit.status.success() && output == "ENFILE\nagain\n", "{output}");
    });
}

#[test]
fn questions_that_nobody_answers_leave_descriptors_for_others() {
    let scratch = Scratch::in_public();
    let secret = scratch.file("secret", "x").display().to_string();
    let script = format!(
        r"
import threading, time
refused = []
def read():
    try: open('{secret}')
    except OSError: refused.append(1)
threading.stack_size(64 * 1024)
for turn in range(400): threading.Thread(target=read, daemon=True).start()
while len(refused) < 400 - 128: time.sleep(.01)
time.sleep(.2)
print('refused', len(refused), flush=True)
"
    );
    let asked: Arc<Mutex<Vec<nono::Request>>> = Arc::default();
    for tier in nono::support().tiers.into_iter().filter(|tier| tier.unavailable.is_none()) {
        let kept = asked.clone();
        let approver = Approver::new(move |_, request| kept.lock().unwrap().push(request));
        let options = Options { approver: Some(approver), ..in_tier(tier.name) };
        let sandbox = Sandbox::create(&shell(), &options).unwrap();
        let (_, output) = run_command(&sandbox, python(&script));
        assert_eq!(output, "refused 272\n");
        sandbox.close();
        assert_eq!(std::mem::take(&mut *asked.lock().unwrap()).len(), 128);
    }
}

#[test]
fn a_command_that_holds_up_its_supervisor_holds_up_nobody_else() {
    // The flag that says whether connect() waits is the caller's to change after it was looked at.
    let script = r"
import fcntl, os, socket, struct, sys, threading, time
os.chdir(sys.argv[1])
listener = socket.socket(socket.AF_UNIX); listener.bind('full'); listener.listen(0)
def flip(connecting):
    while True:
        connecting.setblocking(False)
        connecting.setblocking(True)
        connecting.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, bytes(16))
def connect():
    while True:
        connecting = socket.socket(socket.AF_UNIX)
        threading.Thread(target=flip, args=[connecting], daemon=True).start()
        try: connecting.connect('full')
        except OSError: pass
for turn in range(4): threading.Thread(target=connect, daemon=True).start()
print('ready', flush=True)
time.sleep(1000)
";
    in_each_tier(&shell(), |victim| {
        let scratch = Scratch::new();
        let path = scratch.path().display().to_string();
        let capabilities = shell().allow_write(scratch.path());
        let sandbox = Sandbox::create(&capabilities, &in_tier(victim.tier())).unwrap();
        let argv = ["/usr/bin/python3", "-I", "-S", "-c", script, path.as_str()];
        let (attacker, _output) = start(&sandbox, Command::new(argv));
        std::thread::sleep(Duration::from_millis(500));
        let (exit, _) = run_command(victim, Command::new(["/bin/true"]));
        assert!(exit.status.success());
        // Whether the next command starts or not, it can be ended.
        let (tell, exited) = std::sync::mpsc::channel();
        let exited_ = Box::new(move |exit: nono::Exit| _ = tell.send(exit.status));
        let callbacks = nono::Callbacks { started: Box::new(|_| ()), exited: exited_ };
        let handle = sandbox.spawn_with(Command::new(["/bin/sleep", "1000"]), callbacks).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        handle.kill(libc::SIGKILL);
        exited.recv_timeout(Duration::from_secs(30)).unwrap();
        let exit = attacker.terminate(Duration::from_secs(30));
        assert!(!exit.status.success());
        sandbox.close();
    });
}

#[test]
fn the_owner_that_connects_for_commands_is_not_reached_by_its_descriptor() {
    // Whoever accepts a connection can have a descriptor of the process that made it, which is the owner.
    let script = r"
import ctypes, errno, fcntl, os, socket, sys
os.chdir(sys.argv[1])
call = ctypes.CDLL(None, use_errno=True).syscall
def attempt(name, number, *arguments):
    result = call(number, *map(ctypes.c_long, arguments))
    print(name, 'SUCCEEDED' if result >= 0 else errno.errorcode[ctypes.get_errno()])
listener = socket.socket(socket.AF_UNIX); listener.bind('own'); listener.listen()
client = socket.socket(socket.AF_UNIX); client.connect('own')
server = listener.accept()[0]
try: owner = server.getsockopt(socket.SOL_SOCKET, 77) # SO_PEERPIDFD, Linux 6.5
except OSError: print('none'); sys.exit()
signal, take, advise, namespaces = [int(number) for number in sys.argv[2:6]]
attempt('signal', signal, owner, 0, 0, 0)
attempt('stop', signal, owner, 18, 0, 0)
for fd in range(12): attempt('descriptor', take, owner, fd, 0)
for flag in [0x40000000, 0x20000, 0x10000000, 0]: attempt('enter', namespaces, owner, flag)
text = ctypes.create_string_buffer(64)
vector = (ctypes.c_long * 2)(ctypes.addressof(text), 64)
attempt('advise', advise, owner, ctypes.addressof(vector), 1, 20, 0)
for number in range(1, 11):
    try: fcntl.ioctl(owner, 0xff00 | number); print('namespace SUCCEEDED')
    except OSError as error: print('namespace', errno.errorcode[error.errno])
";
    let scratch = Scratch::new();
    let path = scratch.path().display().to_string();
    let numbers = [
        libc::SYS_pidfd_send_signal,
        libc::SYS_pidfd_getfd,
        libc::SYS_process_madvise,
        libc::SYS_setns,
    ];
    let numbers = numbers.map(|number| number.to_string());
    in_each_tier(&shell().allow_write(scratch.path()), |sandbox| {
        let argv = ["/usr/bin/python3", "-I", "-S", "-c", script, &path];
        let argv = argv.into_iter().chain(numbers.iter().map(String::as_str));
        let (exit, output) = run_command(sandbox, Command::new(argv));
        assert!(exit.status.success(), "{output}");
        println!("{} attempts", output.lines().count());
        assert!(output == "none\n" || output.lines().count() == 29, "{output}");
        assert!(!output.contains("SUCC"), "{output}");
        std::fs::remove_file(scratch.path().join("own")).unwrap();
    });
}

#[test]
fn no_descriptor_signals_a_process_outside() {
    // Whatever becomes readable can send a signal of choice to whoever is said to own it (F_SETOWN, F_SETSIG).
    let script = r"
import errno, fcntl, os, socket, struct, sys, time
outside, F_SETSIG, F_SETOWN_EX, SIGTERM = int(sys.argv[1]), 10, 15, 15
def signal(name, own):
    try:
        pairs.append(socket.socketpair())
        ours, theirs = pairs[-1]
        own(ours)
        fcntl.fcntl(ours, F_SETSIG, SIGTERM)
        fcntl.fcntl(ours, fcntl.F_SETFL, fcntl.fcntl(ours, fcntl.F_GETFL) | os.O_ASYNC)
        theirs.send(b'x')
        print(name, 'set')
    except OSError as error: print(name, errno.errorcode[error.errno])
pairs = []
signal('process', lambda fd: fcntl.fcntl(fd, fcntl.F_SETOWN, outside))
signal('group', lambda fd: fcntl.fcntl(fd, fcntl.F_SETOWN, -outside))
for kind in range(3): signal('kind %d' % kind, lambda fd: fcntl.fcntl(fd, F_SETOWN_EX, struct.pack('ii', kind, outside)))
time.sleep(.2)
";
    in_each_tier(&shell(), |sandbox| {
        if !crate::common::keeps(sandbox, "signals") {
            println!("SKIPPED: signals: this kernel does not confine them");
            return;
        }
        let mut sleep = std::process::Command::new("/bin/sleep");
        let mut outside = std::os::unix::process::CommandExt::process_group(&mut sleep, 0)
            .arg("60")
            .stdin(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let number = outside.id().to_string();
        let argv = ["/usr/bin/python3", "-I", "-S", "-c", script, number.as_str()];
        let (exit, output) = run_command(sandbox, Command::new(argv));
        assert!(exit.status.success() && output.lines().count() == 5, "{output}");
        assert!(outside.try_wait().unwrap().is_none(), "{output}");
        outside.kill().unwrap();
        outside.wait().unwrap();
    });
}

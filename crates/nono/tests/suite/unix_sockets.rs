//! Unix sockets: the host's are out of reach unless they are listed, the sandbox's own just work.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::Path;
use std::thread;

use crate::common::{Scratch, in_any_tier, in_each_setting, in_tier, run_command, shell};
use crate::container::filter_this_thread;
use nono::{Command, Error, Network, Sandbox, TierName};

fn python(sandbox: &Sandbox, directory: &Path, script: &str) -> String {
    let prelude = r#"
import errno, os, socket, sys, threading
def attempt(what, address, kind=socket.SOCK_STREAM):
    try: s = socket.socket(socket.AF_UNIX, kind); s.settimeout(5); s.connect(address); print(what, 'CONNECTED')
    except OSError as error: print(what, errno.errorcode[error.errno])
"#;
    let command = Command::new(["/usr/bin/python3", "-c", &format!("{prelude}{script}")]);
    run_command(sandbox, command.cwd(directory)).1
}

fn nobody_came(listener: &UnixListener) -> bool {
    listener.set_nonblocking(true).unwrap();
    matches!(listener.accept(), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn the_hosts_sockets_are_refused_however_they_are_named() {
    let (writable, outside) = (Scratch::new(), Scratch::new());
    let near = UnixListener::bind(writable.path().join("agent")).unwrap();
    let far = UnixListener::bind(outside.path().join("agent")).unwrap();
    let name = format!("nono-abstract-{}", std::process::id());
    let hidden = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let datagrams = UnixDatagram::bind(writable.path().join("log")).unwrap();
    datagrams.set_nonblocking(true).unwrap();
    let script = format!(
        r#"
far = "{far}/agent"
os.symlink("agent", "link"); os.symlink(far, "farlink"); os.link("agent", "hard"); os.mkdir("d")
for what, address in [("relative", "agent"), ("absolute", os.path.abspath("agent")), ("dots", "d/../agent"),
        ("link", "link"), ("hard", "hard"), ("far", far), ("farlink", "farlink"), ("abstract", "\0{name}"),
        ("proc", "/proc/self/cwd/agent"), ("thread", "/proc/thread-self/root" + far)]:
    attempt(what, address)
# The file of a socket of ours, replaced by the host's after it was bound.
mine = socket.socket(socket.AF_UNIX); mine.bind("mine"); mine.listen(); os.rename("hard", "mine")
attempt("renamed over", "mine")
a, b = socket.socketpair()
try: a.sendto(b"x", "agent"); print("sendto CONNECTED")
except OSError as error: print("sendto", errno.errorcode[error.errno])
for make in [lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0]]:
    try: make().sendto(b"x", "log"); print("datagram CONNECTED")
    except OSError as error: print("datagram", errno.errorcode[error.errno])
for name in ["link", "farlink", "mine"]: os.unlink(name)
os.rmdir("d")
"#,
        far = outside.path().display()
    );
    in_each_setting(&shell().allow_write(writable.path()), |sandbox| {
        let output = python(sandbox, writable.path(), &script);
        assert_eq!(output.lines().count(), 14, "{output}");
        assert!(!output.contains("CONNECTED"), "{output}");
        assert!(
            output.starts_with(
                "relative EACCES\nabsolute EACCES\ndots EACCES\nlink EACCES\nhard EACCES\n"
            ),
            "{output}"
        );
        for listener in [&near, &far, &hidden] {
            assert!(nobody_came(listener), "{output}");
        }
        assert!(datagrams.recv(&mut [0; 8]).is_err());
    });
}

#[test]
fn a_listed_socket_is_reached_and_only_it() {
    for network in [Network::Blocked, Network::Open] {
        let scratch = Scratch::new();
        let path = scratch.path().join("agent");
        let agent = UnixListener::bind(&path).unwrap();
        let other = UnixListener::bind(scratch.path().join("other")).unwrap();
        let served = thread::spawn(move || {
            for _ in 0..6 {
                let Ok((mut client, _)) = agent.accept() else { return };
                let mut question = [0; 4];
                client.read_exact(&mut question).unwrap();
                client.write_all(b"pong").unwrap();
            }
        });
        let script = r#"
for blocking in [True, False]:
    s = socket.socket(socket.AF_UNIX); s.setblocking(blocking); s.connect(sys.path[0] + PATH)
    s.setblocking(True); s.sendall(b"ping"); print(s.recv(4))
attempt("other", OTHER)
"#
        .replace("sys.path[0] + PATH", &format!("{path:?}"))
        .replace("OTHER", &format!("{:?}", scratch.path().join("other")));
        let capabilities = shell().allow_unix_socket(&path).network(network);
        let mut clients = 0;
        in_each_setting(&capabilities, |sandbox| {
            let output = python(sandbox, Path::new("/"), &script);
            assert!(output.starts_with("b'pong'\nb'pong'\nother E"), "{output}");
            clients += 2;
        });
        assert!(nobody_came(&other));
        if clients == 6 {
            served.join().unwrap();
        }
    }
    let scratch = Scratch::new();
    let file = scratch.file("file", "");
    let refused = Sandbox::create(&shell().allow_unix_socket(file), &nono::Options::default());
    assert_eq!(refused.unwrap_err().code(), "ERR_NONO_INVALID_PATH");
}

#[test]
fn sockets_of_its_own_just_work() {
    let scratch = Scratch::new();
    let script = r#"
import multiprocessing.managers, subprocess
for kind in [socket.SOCK_STREAM, socket.SOCK_SEQPACKET]:
    server = socket.socket(socket.AF_UNIX, kind); server.bind("own"); server.listen()
    client = socket.socket(socket.AF_UNIX, kind); client.connect("own")
    other, _ = server.accept(); other.send(b"hello"); print(client.recv(9), client.getpeername())
    os.unlink("own")
# A thousand at once, from processes of their own.
server = socket.socket(socket.AF_UNIX); server.bind("many"); server.listen(4096)
failed = []
def connect():
    for _ in range(5):
        try: socket.socket(socket.AF_UNIX).connect("many")
        except OSError as error: failed.append(error)
threads = [threading.Thread(target=connect) for _ in range(200)]
[t.start() for t in threads]; [t.join() for t in threads]
print("failed", failed)
# A server that does not accept makes its client wait, and nobody else.
full = socket.socket(socket.AF_UNIX); full.bind("full"); full.listen(0)
waiting = [threading.Thread(target=lambda: socket.socket(socket.AF_UNIX).connect("full"), daemon=True) for _ in range(8)]
[t.start() for t in waiting]
print(subprocess.run(["/bin/echo", "meanwhile"], capture_output=True).stdout)
class Manager(multiprocessing.managers.BaseManager): pass
Manager.register("add", callable=lambda a, b: a + b)
manager = multiprocessing.Manager(); shared = manager.dict(); shared["x"] = 1; print(shared.copy())
manager.shutdown()
for name in ["many", "full"]: os.unlink(name)
sys.stdout.flush(); os._exit(0)
"#;
    let capabilities = shell().allow_write(scratch.path()).set_env("TMPDIR", scratch.path());
    in_each_setting(&capabilities, |sandbox| {
        let output = python(sandbox, scratch.path(), script);
        assert_eq!(output, "b'hello' own\nb'hello' own\nfailed []\nb'meanwhile\\n'\n{'x': 1}\n");
    });
}

#[test]
fn flipping_memory_or_descriptors_reaches_no_other_socket() {
    let scratch = Scratch::new();
    let listed = UnixListener::bind(scratch.path().join("yes")).unwrap();
    let unlisted = UnixListener::bind(scratch.path().join("no!")).unwrap();
    thread::spawn(move || {
        for client in listed.incoming() {
            drop(client)
        }
    });
    let script = r#"
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
yes, no = (b"\1\0" + os.path.abspath(name).encode() + b"\0" for name in ("yes", "no!"))
address = ctypes.create_string_buffer(no)
target = os.path.abspath("link")
stop = False
def flip():
    other = socket.socket(socket.AF_UNIX)
    while not stop:
        try:
            ctypes.memmove(address, no, len(no)); os.dup2(other.fileno(), 100)
            ctypes.memmove(address, yes, len(yes)); os.dup2(s.fileno(), 100)
        except OSError: pass # s was closed just now
def relink():
    while not stop:
        for name in ("no!", "yes"):
            try: os.symlink(name, "next"); os.rename("next", "link")
            except OSError: pass
s = socket.socket(socket.AF_UNIX)
os.symlink("yes", "link"); os.dup2(s.fileno(), 100)
threads = [threading.Thread(target=f) for f in (flip, relink)]; [t.start() for t in threads]
reached = refused = 0
through = b"\1\0" + target.encode() + b"\0"
for turn in range(5000):
    s.close(); s = socket.socket(socket.AF_UNIX); s.setblocking(turn % 8 == 0)
    fd, where = (100, address) if turn % 2 else (s.fileno(), through)
    if libc.connect(fd, where, len(where.raw if turn % 2 else where)) == 0: reached += 1
    else: refused += 1
stop = True; [t.join() for t in threads]; os.unlink("link")
print(reached > 0, refused > 0)
"#;
    let capabilities =
        shell().allow_write(scratch.path()).allow_unix_socket(scratch.path().join("yes"));
    in_each_setting(&capabilities, |sandbox| {
        assert_eq!(python(sandbox, scratch.path(), script), "True True\n");
        assert!(nobody_came(&unlisted));
    });
}

#[test]
fn where_descriptors_cannot_be_taken_the_supervisor_makes_the_sockets() {
    let scratch = Scratch::new();
    let path = scratch.path().join("agent");
    let _agent = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        filter_this_thread(libc::SYS_pidfd_getfd, libc::EPERM, 0);
        let listed = shell().allow_unix_socket(&path);
        // Sockets made outside would be in the wrong network namespace.
        let options = in_tier(TierName::Namespaces);
        match Sandbox::create(&listed, &options).unwrap_err() {
            refused @ Error::UnsupportedPolicy { .. } => {
                assert_eq!(refused.value().as_deref(), Some("unix-sockets"), "{refused}");
            }
            refused => println!("SKIPPED: the namespaces tier: {refused}"),
        }
        let sandbox = Sandbox::create(&listed, &in_any_tier()).unwrap();
        assert_eq!(sandbox.tier(), TierName::Flat);
        let script = format!("attempt('listed', {path:?}); attempt('none', {path:?} + 'x')");
        assert_eq!(python(&sandbox, Path::new("/"), &script), "listed CONNECTED\nnone ENOENT\n");
    })
    .join()
    .unwrap();
}

#[test]
fn a_socket_that_was_handed_in_leads_to_no_abstract_name_outside() {
    let name = format!("nono-handed-{}", std::process::id());
    let outside = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let script = format!(
        r#"
import errno, socket
handed = socket.socket(fileno=0)
try: handed.connect("\0{name}"); print("CONNECTED")
except OSError as error: print(errno.errorcode[error.errno])
own = socket.socket(socket.AF_UNIX); own.bind("\0own"); own.listen()
try: socket.socket(socket.AF_UNIX).connect("\0own"); print("own")
except OSError as error: print("own", errno.errorcode[error.errno])
"#
    );
    in_each_setting(&shell(), |sandbox| {
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
        // SAFETY: a new descriptor that nobody else owns.
        let handed = unsafe { OwnedFd::from_raw_fd(libc::socket(libc::AF_UNIX, kind, 0)) };
        let (mut reader, writer) = std::io::pipe().unwrap();
        let error = writer.try_clone().unwrap();
        let command = Command::new(["/usr/bin/python3", "-I", "-S", "-c", &script]);
        let command = command.stdio(vec![handed, writer.into(), error.into()]);
        assert!(sandbox.spawn(command).unwrap().wait().status.success());
        let mut output = String::new();
        reader.read_to_string(&mut output).unwrap();
        let own = if sandbox.tier() == TierName::Flat { "own EPERM\n" } else { "own\n" };
        assert!(!output.contains("CONNECTED") && output.ends_with(own), "{output}");
        assert!(nobody_came(&outside));
    });
}

//! Loopback inside a mediated network: the sandbox's own servers are reached there, and nothing of
//! the host's that is not granted.

use std::fs::File;
use std::io::{ErrorKind, PipeReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{in_each_setting, in_tier, shell};
use crate::gate::{gated, prelude, python};
use crate::test_gate::with_gate;
use nono::{Capabilities, Child, Command, Options, Question, Sandbox, TierName};

/// Connects to a port whose server was closed until that is refused. What the supervisor holds of a
/// socket for a moment is also held by a process that its owner, here this one with all its tests,
/// starts just then, until that executes its program: so long the server is there still.
const REFUSED: &str = r#"
def refused(port):
    for _ in range(1000):
        socket.create_connection(('127.0.0.1', port)).close(); time.sleep(0.01)
    sys.exit('port %d is not refused' % port)
"#;

#[test]
fn servers_of_its_own_are_reached_however_they_were_bound() {
    let script = r#"
def serve(family, address, port, v6only=None):
    s = socket.socket(family); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if v6only is not None: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    if address: s.bind((address, port))
    s.listen(); return s
def reach(server, *addresses):
    port = server.getsockname()[1]
    for address in addresses:
        family = socket.AF_INET6 if ':' in address else socket.AF_INET
        client = socket.socket(family); client.settimeout(20); client.connect((address, port))
        peer, _ = server.accept(); peer.sendall(b'hello'); assert client.recv(9) == b'hello'
        assert peer.getsockname()[1] == port and client.getpeername()[1] == port
    return port
print(reach(serve(socket.AF_INET, '127.0.0.1', 0), '127.0.0.1', 'localhost', '127.1', '0.0.0.0', '::ffff:127.0.0.1') > 1023)
print(reach(serve(socket.AF_INET, '0.0.0.0', 3000), '127.0.0.1', '::ffff:127.0.0.1'))
print(reach(serve(socket.AF_INET6, '::1', 3001), '::1'))
print(reach(serve(socket.AF_INET6, '::', 3002, 0), '::1', '127.0.0.1'))
print(reach(serve(socket.AF_INET, None, 0), '127.0.0.1') > 1023) # listen() alone chooses a port
attempt('gate port', lambda: serve(socket.AF_INET, '127.0.0.1', 8080))
for port in [80, 53, 81]: attempt('privileged', lambda: serve(socket.AF_INET, '127.0.0.1', port))
attempt('elsewhere', lambda: socket.socket().bind(('192.0.2.1', 4000)))
s = serve(socket.AF_INET, '127.0.0.1', 3003); attempt('taken', lambda: socket.socket().bind(('127.0.0.1', 3003)))
s.close(); attempt('closed', lambda: refused(3003))
serve(socket.AF_INET, '127.0.0.1', 3003).close()
"#;
    let script = &format!("{REFUSED}{script}");
    in_each_setting(&gated(&[80, 8080]), |sandbox| {
        let output = python(sandbox, script);
        let (servers, refusals) = output.split_at(output.find("gate port").unwrap_or(0));
        assert_eq!(servers, "True\n3000\n3001\n3002\nTrue\n", "{output}");
        let expected = [
            "gate port EADDRINUSE",
            "privileged EACCES",
            "privileged EACCES",
            "privileged EACCES",
            // Where every address is local, this one is too.
            if sandbox.tier() == TierName::Flat { "elsewhere EADDRNOTAVAIL" } else { "elsewhere" },
            "taken EADDRINUSE",
            "closed ECONNREFUSED",
        ];
        for (line, expected) in refusals.lines().zip(expected) {
            assert!(line.starts_with(expected), "{output}");
        }
    });
}

#[test]
fn a_server_leaves_no_port_taken_and_no_client_waiting() {
    // The port may be free a little later: `REFUSED` says why.
    let script = r#"
def bind(s, turn):
    end = time.time() + 10
    while True:
        try: return s.bind(('127.0.0.1', 4000))
        except OSError as error:
            if time.time() > end: sys.exit('turn %d: %s' % (turn, error))
for turn in range(300): # bound or made, and dropped: as a program does that looks for a free port
    s = socket.socket(); bind(s, turn)
    if turn % 3 == 0: s.listen()
    s.close(); socket.socket().close(); socket.socket(socket.AF_INET6).close()
s = socket.create_server(('127.0.0.1', 4001)); c = socket.create_connection(('127.0.0.1', 4001)); p, _ = s.accept()
c.close(); p.settimeout(20); print(p.recv(1)) # the end of the client is seen at once
c = socket.create_connection(('127.0.0.1', 4001)); p, _ = s.accept(); p.close(); c.settimeout(20); print(c.recv(1)); c.close()
s.close(); attempt('closed', lambda: refused(4001))
"#;
    let script = &format!("{REFUSED}{script}");
    in_each_setting(&gated(&[80]), |sandbox| {
        assert_eq!(python(sandbox, script), "b''\nb''\nclosed ECONNREFUSED\n");
    });
}

#[test]
fn two_sandboxes_and_the_host_have_the_same_port_each() {
    in_each_setting(&gated(&[80]), |sandbox| {
        let host = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = host.local_addr().unwrap().port();
        let options = in_tier(sandbox.tier());
        let other = Sandbox::create(&gated(&[80]), &options).unwrap();
        let script = format!(
            "s = socket.create_server(('127.0.0.1', {port})); c = socket.create_connection(('127.0.0.1', {port})); p, _ = s.accept(); print('own', end=' ')"
        );
        assert_eq!(python(sandbox, &script), "own ");
        assert_eq!(python(&other, &script), "own ");
        host.set_nonblocking(true).unwrap();
        assert!(host.accept().is_err(), "the host's service was reached");
        assert!(TcpStream::connect(host.local_addr().unwrap()).is_ok());
    });
}

#[test]
fn a_service_of_every_address_of_the_host_is_not_taken_for_its_own() {
    // In the flat tier both are in one network: the port is taken, and what is not known as the
    // sandbox's own is refused, even after a server of its own was there.
    let script = |port: u16| {
        format!(
            r#"{REFUSED}
for turn in range(2):
    s = socket.socket()
    try: s.bind(('127.0.0.1', {port})); s.listen(); s.close(); print('bound', end=' ')
    except OSError as error: print(errno.errorcode[error.errno], end=' ')
    try: refused({port})
    except OSError as error: print(errno.errorcode[error.errno])
"#
        )
    };
    in_each_setting(&gated(&[80]), |sandbox| {
        let host = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = host.local_addr().unwrap().port();
        let output = python(sandbox, &script(port));
        assert_eq!(output.matches(" ECONNREFUSED").count(), 2, "{output}");
        host.set_nonblocking(true).unwrap();
        assert!(host.accept().is_err(), "the host's service was reached");
    });
}

#[test]
fn the_hosts_loopback_is_not_reached_by_racing_a_server_away() {
    // One thread opens and closes a server on a port that the host serves on every address by
    // SO_REUSEPORT, others connect: whoever they reach must be that server.
    let script = |port: u16| {
        format!(
            r#"
stop = False; reached = 0
def serve():
    while not stop:
        s = socket.socket()
        try: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1); s.bind(('127.0.0.1', {port})); s.listen()
        except OSError: pass
        s.close()
thread = threading.Thread(target=serve); thread.start()
for _ in range(3000):
    c = socket.socket(); c.setblocking(False)
    try: c.connect_ex(('127.0.0.1', {port})); c.send(b'escaped')
    except OSError: pass
    c.close()
stop = True; thread.join(); print('done')
"#
        )
    };
    in_each_setting(&gated(&[80]), |sandbox| {
        let host = reuse_port_listener();
        let port = host.local_addr().unwrap().port();
        assert_eq!(python(sandbox, &script(port)), "done\n");
        host.set_nonblocking(true).unwrap();
        assert!(host.accept().is_err(), "the host's service was reached");
        with_gate(sandbox, |_| {});
    });
}

/// A service of the host on a free port of every address, which lets others share it.
fn reuse_port_listener() -> TcpListener {
    use std::os::fd::FromRawFd;
    let on = 1i32;
    // SAFETY: a new descriptor; the option and the all-zero address live across the calls.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        let option = (&raw const on).cast();
        assert_eq!(libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_REUSEPORT, option, 4), 0);
        assert_eq!(libc::listen(socket, 16), 0);
        TcpListener::from_raw_fd(socket)
    }
}

/// A service of the host: it sends back what it gets, to the end.
fn echo() -> (u16, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let accepting = listener.try_clone().unwrap();
    thread::spawn(move || {
        for client in accepting.incoming() {
            let Ok(mut client) = client else { return };
            thread::spawn(move || {
                let mut back = client.try_clone().unwrap();
                let _ = std::io::copy(&mut client, &mut back);
                let _ = back.shutdown(Shutdown::Write);
            });
        }
    });
    (listener.local_addr().unwrap().port(), listener)
}

const EXCHANGE: &str = r#"
def exchange(s, size):
    "Sends so much and its end, and returns how much came back the same."
    import hashlib
    sent, got, length = hashlib.sha256(), hashlib.sha256(), 0
    def send():
        for n in range(size // 65536): block = bytes([n % 251]) * 65536; sent.update(block); s.sendall(block)
        s.shutdown(socket.SHUT_WR)
    thread = threading.Thread(target=send); thread.start()
    while block := s.recv(1 << 16): got.update(block); length += len(block)
    thread.join(); return length if sent.digest() == got.digest() else 'DIFFERENT'
"#;

#[test]
fn a_service_of_the_host_is_reached_on_its_port_and_no_other() {
    let (port, _service) = echo();
    let (forbidden, other) = echo();
    let script = format!(
        r#"{EXCHANGE}
def reach(address, family=socket.AF_INET):
    s = socket.socket(family); s.settimeout(20); s.connect((address, {port})); return exchange(s, 1 << 16)
for address in ['127.0.0.1', 'localhost', '127.1', '0.0.0.0']: print(reach(address))
print(reach('::ffff:127.0.0.1', socket.AF_INET6))
print(exchange(socket.create_connection(('127.0.0.1', {port})), 16 << 20))
many = [socket.create_connection(('127.0.0.1', {port})) for _ in range(100)]
for s in many: s.sendall(b'x')
print([s.recv(1) for s in many].count(b'x'))
attempt('other address', lambda: socket.create_connection(('127.0.0.2', {port})))
attempt('other port', lambda: socket.create_connection(('127.0.0.1', {forbidden})))
attempt('elsewhere', lambda: socket.create_connection(('203.0.113.9', {port})))
attempt('bind', lambda: socket.socket().bind(('127.0.0.1', {port})))
attempt('udp', lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port})))
"#
    );
    for capabilities in [shell(), gated(&[80])] {
        in_each_setting(&capabilities.allow_localhost(port), |sandbox| {
            let output = python(sandbox, &script);
            let (reached, refused) = output.split_at(output.find("other").unwrap_or(0));
            let expected = format!("{}{}\n100\n", "65536\n".repeat(5), 16 << 20);
            assert_eq!(reached, expected, "{output}");
            assert_eq!(refused.lines().count(), 5, "{output}");
            // A datagram to a port where nobody is, in a network of its own, is just lost.
            let lost = refused.matches("udp ALLOWED").count();
            assert_eq!(refused.matches("ALLOWED").count(), lost, "{output}");
        });
    }
    other.set_nonblocking(true).unwrap();
}

#[test]
fn what_breaks_on_one_side_breaks_on_the_other() {
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let capabilities = shell().allow_localhost(port);
    in_each_setting(&capabilities, |sandbox| {
        let script = format!(
            r#"
s = socket.create_connection(('127.0.0.1', {port})); s.settimeout(20)
try: print(s.recv(9), s.recv(9))
except OSError as error: print(errno.errorcode[error.errno])
s = socket.create_connection(('127.0.0.1', {port})); s.sendall(b'bye')
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.recv(1); s.close(); print('reset')
"#
        );
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut first, _) = host.accept().unwrap();
                first.write_all(b"hello").unwrap();
                thread::sleep(Duration::from_millis(50));
                reset(first);
                let (mut second, _) = host.accept().unwrap();
                second.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let mut bytes = [0; 3];
                second.read_exact(&mut bytes).unwrap();
                second.write_all(b"x").unwrap();
                let ended = second.read(&mut bytes).map_err(|error| error.kind());
                assert_eq!(ended, Err(ErrorKind::ConnectionReset));
            });
            let output = python(sandbox, &script);
            assert_eq!(output, "ECONNRESET\nreset\n");
        });
    });
}

fn reset(socket: TcpStream) {
    let now = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = size_of_val(&now) as libc::socklen_t;
    let (fd, option) = (socket.as_raw_fd(), (&raw const now).cast());
    // SAFETY: the kernel reads `length` bytes.
    unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, option, length) };
}

#[test]
fn a_published_server_is_reached_from_the_host() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = |family: &str, address: &str| {
        format!(
            r#"
s = socket.socket(socket.{family}); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('{address}', {port})); s.listen(); print('ready', flush=True)
while True:
    c, _ = s.accept(); first = c.recv(4)
    if first == b'quit': break
    c.sendall(first)
    while block := c.recv(1 << 16): c.sendall(block)
    c.close()
"#
        )
    };
    for capabilities in [shell(), gated(&[80])] {
        in_each_setting(&capabilities.publish(port), |sandbox| {
            let host = *sandbox.published().get(&port).unwrap();
            assert_eq!(host, port, "it was free");
            // Where the machine is slow, the reset comes before connect() has returned.
            let nobody = TcpStream::connect(("127.0.0.1", host));
            let answer = nobody.and_then(|mut nobody| nobody.read(&mut [0; 1]));
            let answer = answer.map_err(|error| error.kind());
            assert_eq!(answer, Err(ErrorKind::ConnectionReset), "no server is there yet");
            for (family, address) in
                [("AF_INET", "127.0.0.1"), ("AF_INET", "0.0.0.0"), ("AF_INET6", "::1")]
            {
                let (child, mut output) = start(sandbox, &script(family, address));
                let mut ready = [0; 6];
                output.read_exact(&mut ready).unwrap();
                let mut client = TcpStream::connect(("127.0.0.1", host)).unwrap();
                client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let sent: Vec<u8> = (0..4 << 20).map(|n| (n % 251) as u8).collect();
                let mut got = Vec::new();
                thread::scope(|scope| {
                    let mut writer = client.try_clone().unwrap();
                    let sent = &sent;
                    scope.spawn(move || {
                        writer.write_all(sent).unwrap();
                        writer.shutdown(Shutdown::Write).unwrap();
                    });
                    client.read_to_end(&mut got).unwrap();
                });
                assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
                TcpStream::connect(("127.0.0.1", host)).unwrap().write_all(b"quit").unwrap();
                assert!(child.wait().status.success());
            }
            let options = in_tier(sandbox.tier());
            let second = Sandbox::create(&shell().publish(port), &options).unwrap();
            assert_ne!(second.published().get(&port), Some(&port), "it is taken by the first");
            sandbox.close();
            let deadline = Instant::now() + Duration::from_secs(5);
            while TcpStream::connect(("127.0.0.1", host)).is_ok() {
                assert!(Instant::now() < deadline, "the port is still open");
            }
        });
    }
}

fn start(sandbox: &Sandbox, script: &str) -> (Child, PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let null: OwnedFd = File::open("/dev/null").unwrap().into();
    let error = writer.as_fd().try_clone_to_owned().unwrap();
    let command = Command::new(["/usr/bin/python3", "-c", &prelude(script)]);
    (sandbox.spawn(command.stdio(vec![null, writer.into(), error])).unwrap(), reader)
}

#[test]
fn ports_that_contradict_each_other_are_refused() {
    for capabilities in [
        shell().allow_localhost(0),
        shell().publish(0),
        gated(&[80]).allow_localhost(53),
        gated(&[8080]).publish(8080),
        shell().allow_localhost(5432).publish(5432),
        (1..=25).fold(shell(), Capabilities::allow_localhost),
        (1..=25).fold(shell(), Capabilities::publish),
    ] {
        let refused = Sandbox::create(&capabilities, &Options::default()).unwrap_err();
        assert_eq!(refused.code(), "ERR_NONO_INVALID_CAPABILITIES", "{refused}");
    }
    // The gate's port on loopback is the host's, elsewhere the gate's.
    let (port, _service) = echo();
    let script = format!(
        "{EXCHANGE}\nprint(exchange(socket.create_connection(('127.0.0.1', {port})), 65536)); print(ask(('203.0.113.9', {port})))"
    );
    in_each_setting(&gated(&[port]).allow_localhost(port), |sandbox| {
        with_gate(sandbox, |_| {
            assert_eq!(python(sandbox, &script), format!("65536\n203.0.113.9:{port}\n"));
        });
    });
}

#[test]
fn what_is_explained_is_what_holds() {
    let options = Options::default();
    for (capabilities, port, allowed) in [
        (shell(), 5432, false),
        (shell().allow_localhost(5432), 5432, true),
        (shell().allow_localhost(5432), 5433, false),
        (gated(&[443]).allow_localhost(5432), 5432, true),
        (gated(&[443]).allow_localhost(5432), 443, true),
        (gated(&[443]).allow_localhost(5432), 80, false),
    ] {
        let answer = nono::explain(&capabilities, &options, &Question::Connect(port)).unwrap();
        assert_eq!(answer.allowed, allowed, "{answer:?}");
        assert!(answer.rule.contains(&port.to_string()) || !allowed, "{answer:?}");
    }
}

/// A process that goes on when this is dropped.
struct Stopped(i32);

impl Stopped {
    fn process(process: i32) -> Self {
        // SAFETY: no memory is involved.
        assert_eq!(unsafe { libc::kill(process, libc::SIGSTOP) }, 0);
        Stopped(process)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // SAFETY: no memory is involved.
        unsafe { libc::kill(self.0, libc::SIGCONT) };
    }
}

/// One thread relays for all sandboxes of an owner. What it asks a sandbox's init for may take long to come.
#[test]
fn a_sandbox_whose_init_is_held_up_holds_up_no_other() {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (held_port, port) = (free(), free());
    let options = in_tier(TierName::Namespaces);
    let Ok(held) = Sandbox::create(&shell().publish(held_port), &options) else {
        return println!("SKIPPED: published ports of an init that is held up: no namespaces tier");
    };
    let sandbox = Sandbox::create(&shell().publish(port), &options).unwrap();
    let server = format!(
        "s = socket.socket(); s.bind(('127.0.0.1', {port})); s.listen(); print('ready', flush=True)\n\
         c, _ = s.accept(); c.sendall(b'served')"
    );
    let (child, mut output) = start(&sandbox, &server);
    output.read_exact(&mut [0; 6]).unwrap();
    let stopped = Stopped::process(held.init_pid());
    let at_the_door = *held.published().get(&held_port).unwrap();
    // Those beyond a share are reset, perhaps before connect() has returned.
    let crowd: Vec<_> = (0..400).map(|_| TcpStream::connect(("127.0.0.1", at_the_door))).collect();
    assert!(crowd[0].is_ok());
    let mut client =
        TcpStream::connect(("127.0.0.1", *sandbox.published().get(&port).unwrap())).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut served = String::new();
    let read = client.read_to_string(&mut served);
    drop(stopped);
    assert_eq!((read.map_err(|error| error.kind()), served.as_str()), (Ok(6), "served"));
    assert!(child.wait().status.success());
    drop(crowd);
}

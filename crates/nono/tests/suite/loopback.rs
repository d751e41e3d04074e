//! Loopback inside a mediated network: the sandbox's own servers are reached there, and nothing of
//! the host's that is not granted.

use std::net::{TcpListener, TcpStream};

use crate::common::in_each_setting;
use crate::gate::{gated, python};
use crate::test_gate::with_gate;
use nono::{Options, Sandbox, TierName};

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
s.close(); attempt('closed', lambda: socket.create_connection(('127.0.0.1', 3003)))
serve(socket.AF_INET, '127.0.0.1', 3003).close()
"#;
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
    let script = r#"
for turn in range(300): # bound or made, and dropped: as a program does that looks for a free port
    s = socket.socket()
    try: s.bind(('127.0.0.1', 4000))
    except OSError as error: sys.exit('turn %d: %s' % (turn, error))
    if turn % 3 == 0: s.listen()
    s.close(); socket.socket().close(); socket.socket(socket.AF_INET6).close()
s = socket.create_server(('127.0.0.1', 4001)); c = socket.create_connection(('127.0.0.1', 4001)); p, _ = s.accept()
c.close(); p.settimeout(20); print(p.recv(1)) # the end of the client is seen at once
c = socket.create_connection(('127.0.0.1', 4001)); p, _ = s.accept(); p.close(); c.settimeout(20); print(c.recv(1)); c.close()
s.close(); attempt('closed', lambda: socket.create_connection(('127.0.0.1', 4001)))
"#;
    in_each_setting(&gated(&[80]), |sandbox| {
        assert_eq!(python(sandbox, script), "b''\nb''\nclosed ECONNREFUSED\n");
    });
}

#[test]
fn two_sandboxes_and_the_host_have_the_same_port_each() {
    in_each_setting(&gated(&[80]), |sandbox| {
        let host = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = host.local_addr().unwrap().port();
        let options = Options { tier: Some(sandbox.tier()), ..Options::default() };
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
            r#"
for turn in range(2):
    s = socket.socket()
    try: s.bind(('127.0.0.1', {port})); s.listen(); s.close(); print('bound', end=' ')
    except OSError as error: print(errno.errorcode[error.errno], end=' ')
    try: socket.create_connection(('127.0.0.1', {port})); print('REACHED')
    except OSError as error: print(errno.errorcode[error.errno])
    if turn == 0: print(input())
"#
        )
    };
    in_each_setting(&gated(&[80]), |sandbox| {
        let host = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = host.local_addr().unwrap().port();
        let output = python(sandbox, &script(port).replace("print(input())", "pass"));
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

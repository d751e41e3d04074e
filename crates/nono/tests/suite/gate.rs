//! The private network: whatever a program connects to arrives at a listener served from outside.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::thread;

use crate::common::{run_command, shell};
use nono::{Command, GateListener, Network, Options, Sandbox, TierName};

fn sandbox() -> Option<Sandbox> {
    let capabilities = shell().network(Network::Gate { ports: vec![80, 443] });
    match Sandbox::create(&capabilities, &Options::default()) {
        Ok(sandbox) => Some(sandbox),
        Err(error) => {
            assert_eq!(error.code(), "ERR_NONO_UNSUPPORTED_POLICY", "{error}");
            println!("SKIPPED: the gate's network: no namespaces on this machine");
            None
        }
    }
}

fn tcp(listeners: &[GateListener], port: u16) -> TcpListener {
    let listener = listeners.iter().find(|listener| listener.port == port && listener.stream);
    listener.unwrap().fd.as_fd().try_clone_to_owned().unwrap().into()
}

#[test]
fn a_connection_says_where_it_was_meant_to_go() {
    let Some(sandbox) = sandbox() else { return };
    let listener = tcp(&sandbox.take_listeners(), 443);
    let gate = thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let meant = connection.local_addr().unwrap();
        let mut greeting = [0; 5];
        connection.read_exact(&mut greeting).unwrap();
        connection
            .write_all(format!("{} for {meant}", greeting.escape_ascii()).as_bytes())
            .unwrap();
    });
    let script = "import socket; s = socket.create_connection(('203.0.113.9', 443)); s.send(b'hello'); print(s.recv(99).decode())";
    let (_, output) = run_command(&sandbox, Command::new(["/usr/bin/python3", "-c", script]));
    gate.join().unwrap();
    assert_eq!(output, "hello for 203.0.113.9:443\n");
}

#[test]
fn a_name_is_asked_for_at_the_gate() {
    let Some(sandbox) = sandbox() else { return };
    let listeners = sandbox.take_listeners();
    let dns = listeners.iter().find(|listener| listener.dns && !listener.stream).unwrap();
    let socket: UdpSocket = dns.fd.as_fd().try_clone_to_owned().unwrap().into();
    let gate = thread::spawn(move || {
        let mut query = [0; 512];
        let (length, client) = socket.recv_from(&mut query).unwrap();
        let mut refusal = query[..length].to_vec();
        refusal[2] |= 0x80; // a response
        refusal[3] = 3; // NXDOMAIN
        socket.send_to(&refusal, client).unwrap();
        query[..length].to_vec()
    });
    let script = "import socket\ntry: socket.getaddrinfo('name.test', 443, socket.AF_INET)\nexcept OSError as e: print(e.errno)";
    let (_, output) = run_command(&sandbox, Command::new(["/usr/bin/python3", "-c", script]));
    let query = gate.join().unwrap();
    assert!(query.windows(11).any(|window| window == b"\x04name\x04test\0"), "{query:?}");
    assert_eq!(output, "-2\n"); // EAI_NONAME
}

#[test]
fn everything_else_is_refused_at_once_and_loopback_is_private() {
    let Some(sandbox) = sandbox() else { return };
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let script = format!(
        r#"
import socket
def attempt(what, family, kind, call):
    s = socket.socket(family, kind); s.settimeout(2)
    try: call(s); print(what, 'ALLOWED')
    except OSError as error: print(what, type(error).__name__)
for where in ['127.0.0.1', '127.1', '0.0.0.0', '10.0.0.1', '169.254.169.254']:
    attempt(where, socket.AF_INET, socket.SOCK_STREAM, lambda s: s.connect((where, {port})))
attempt('v6', socket.AF_INET6, socket.SOCK_STREAM, lambda s: s.connect(('::1', {port})))
attempt('mapped', socket.AF_INET6, socket.SOCK_STREAM, lambda s: s.connect(('::ffff:127.0.0.1', {port})))
def datagram(s):
    s.connect(('127.0.0.1', {port})); s.send(b'x'); s.send(b'x')
attempt('udp', socket.AF_INET, socket.SOCK_DGRAM, datagram)
server = socket.create_server(('127.0.0.1', 3000))
client = socket.create_connection(('127.0.0.1', 3000)); print('own server')
"#
    );
    let (_, output) = run_command(&sandbox, Command::new(["/usr/bin/python3", "-c", &script]));
    assert!(!output.contains("ALLOWED"), "{output}");
    assert_eq!(output.matches("ConnectionRefusedError").count(), 8, "{output}");
    assert!(output.ends_with("own server\n"), "{output}");
}

#[test]
fn the_flat_tier_has_no_gate_and_says_so() {
    let capabilities = shell().network(Network::Gate { ports: vec![443] });
    let options = Options { tier: Some(TierName::Flat), ..Options::default() };
    let refused = Sandbox::create(&capabilities, &options).unwrap_err();
    assert_eq!(refused.code(), "ERR_NONO_UNSUPPORTED_POLICY");
    assert_eq!(refused.value().as_deref(), Some("net-gate"));
}

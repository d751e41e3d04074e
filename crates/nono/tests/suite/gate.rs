//! The gate's network: whatever a program connects to arrives at a listener that is served from
//! outside, and says where it was meant to go. Everything else is refused at once.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::Ordering;

use crate::common::{in_each_setting, run, run_command, shell};
use crate::test_gate::with_gate;
use nono::{Capabilities, Command, Network, Sandbox, Status, TierName};

pub(crate) fn gated(ports: &[u16]) -> Capabilities {
    shell().network(Network::Gate { ports: ports.to_vec() })
}

/// Runs Python with what these tests need at hand.
pub(crate) fn python(sandbox: &Sandbox, script: &str) -> String {
    run_command(sandbox, Command::new(["/usr/bin/python3", "-c", &prelude(script)])).1
}

pub(crate) fn prelude(script: &str) -> String {
    let prelude = r#"
import ctypes, errno, os, select, socket, struct, sys, threading, time
from errno import *
libc = ctypes.CDLL(None, use_errno=True)
def attempt(what, call):
    try: print(what, 'ALLOWED', call())
    except OSError as error: print(what, errno.errorcode.get(error.errno, error))
def asked(s):
    "What the gate says: where the connection was meant to go."
    s.settimeout(20); s.sendall(b'ping'); answer = b''
    while not answer.endswith(b'ping'): answer += s.recv(99) or sys.exit('closed: %r' % answer)
    return answer[:-5].decode()
def ask(address, family=socket.AF_INET):
    s = socket.socket(family); s.connect(address); return asked(s)
def connect(s, address, length=None):
    "connect(2) itself; address: bytes"
    ctypes.set_errno(0)
    libc.connect(s.fileno(), address, len(address) if length is None else length)
    return errno.errorcode.get(ctypes.get_errno(), 'OK')
def v4(ip, port): return struct.pack('=H', socket.AF_INET) + struct.pack('!H', port) + socket.inet_aton(ip) + bytes(8)
def v6(ip, port): return struct.pack('=H', socket.AF_INET6) + struct.pack('!HI', port, 0) + socket.inet_pton(socket.AF_INET6, ip) + bytes(4)
UNSPEC = bytes(16)
"#;
    format!("{prelude}{script}")
}

#[test]
fn a_connection_says_where_it_was_meant_to_go() {
    let script = r#"
print(ask(('203.0.113.9', 443)))
print(ask(('::ffff:203.0.113.9', 80), socket.AF_INET6))
if socket.has_dualstack_ipv6(): print(ask(('2001:db8::9', 443), socket.AF_INET6))
s = socket.socket(); s.bind(('0.0.0.0', 0)); s.connect(('203.0.113.10', 80)); print(asked(s))
s = socket.socket(); s.setblocking(False); print(errno.errorcode[s.connect_ex(('203.0.113.11', 443))]); print(asked(s))
"#;
    let expected = "203.0.113.9:443\n203.0.113.9:80\n[2001:db8::9]:443\n203.0.113.10:80\nEINPROGRESS\n203.0.113.11:443\n";
    in_each_setting(&gated(&[80, 443]), |sandbox| {
        with_gate(sandbox, |_| assert_eq!(python(sandbox, script), expected));
    });
}

#[test]
fn names_are_asked_for_at_the_gate() {
    let script = r#"
print(socket.getaddrinfo('name.test', 443, socket.AF_INET, socket.SOCK_STREAM)[0][4])
print(ask(('name.test', 443)))
attempt('elsewhere', lambda: socket.gethostbyname('name.example'))
"#;
    in_each_setting(&gated(&[443]), |sandbox| {
        with_gate(sandbox, |seen| {
            let output = python(sandbox, script);
            assert!(
                output.starts_with("('198.18.0.7', 443)\n198.18.0.7:443\nelsewhere "),
                "{output}"
            );
            assert!(!output.contains("ALLOWED"), "{output}");
            assert!(seen.queries.load(Ordering::Relaxed) >= 3);
        });
    });
}

#[test]
fn names_are_found_by_who_asks_for_what_this_machine_can_reach() {
    let script = r#"
print(socket.getaddrinfo('name.test', 443, socket.AF_INET, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)[0][4])
"#;
    in_each_setting(&gated(&[443]), |sandbox| {
        // In the tier `flat` the addresses are those of the machine, which may have none.
        if sandbox.tier() == TierName::Namespaces {
            with_gate(sandbox, |_| assert_eq!(python(sandbox, script), "('198.18.0.7', 443)\n"));
        }
    });
}

#[test]
fn a_resolver_of_its_own_asks_the_gate_by_datagrams() {
    let script = r#"
def query(name): return struct.pack('!6H', 7, 0x100, 1, 0, 0, 0) + b''.join(bytes([len(l)]) + l for l in name.split(b'.')) + b'\0' + struct.pack('!2H', 1, 1)
for family, server in [(socket.AF_INET, '192.0.2.53'), (socket.AF_INET, '10.0.0.53'), OTHER]:
    s = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, socket.IPPROTO_UDP); s.connect((server, 53)); s.settimeout(20)
    for name in (b'name.test', b'name.example'):
        s.send(query(name)); answer = s.recv(512); print(answer[:2] == b'\0\7', answer[3] & 15, answer.endswith(bytes([198, 18, 0, 7])))
attempt('elsewhere', lambda: s.connect((OTHER[1], 54)))
many = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) for _ in range(50)]
for s in many: s.connect(('192.0.2.53', 53)); s.send(query(b'name.test'))
for s in many: s.settimeout(20); assert s.recv(512)[3] & 15 == 0
"#;
    in_each_setting(&gated(&[443]), |sandbox| {
        with_gate(sandbox, |seen| {
            // A wildcard socket answers from ::1, whatever address was asked.
            let other = match sandbox.tier() {
                TierName::Namespaces => "(socket.AF_INET6, '::1')",
                TierName::Flat => "(socket.AF_INET6, '2001:db8::53')",
            };
            let output = python(sandbox, &script.replace("OTHER", other));
            let answers = "True 0 True\nTrue 3 False\n".repeat(3);
            assert!(output.starts_with(&answers), "{output}");
            let rest = &output[answers.len()..];
            // In a network of its own any address can be connected to; nobody is there.
            assert!(rest == "elsewhere ECONNREFUSED\n" || rest == "elsewhere ALLOWED None\n");
            assert_eq!(seen.queries.load(Ordering::Relaxed), 56);
        });
    });
}

#[test]
fn everything_else_is_refused_at_once() {
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    let (port, open) = (host.local_addr().unwrap().port(), everywhere.local_addr().unwrap().port());
    let script = format!(
        r#"
for port in [{port}, {open}]:
    for where in ['127.0.0.1', '127.1', '2130706433', '0x7f000001', '0.0.0.0', 'localhost', '10.0.0.1', '169.254.169.254']:
        attempt(where, lambda: ask((where, port)))
    for where in ['::1', '::', '::ffff:127.0.0.1', '::ffff:7f00:1']:
        attempt(where, lambda: ask((where, port), socket.AF_INET6))
for port in [1, 22, 79, 81, 442, 8443, 65535]: attempt(port, lambda: ask(('203.0.113.9', port)))
def datagram(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2)
    s.connect(('127.0.0.1', port)); s.send(b'x'); s.send(b'x')
attempt('udp', lambda: datagram({port}))
"#
    );
    in_each_setting(&gated(&[80, 443]), |sandbox| {
        with_gate(sandbox, |seen| {
            let output = python(sandbox, &script);
            assert_eq!(output.lines().count(), 32, "{output}");
            assert!(!output.contains("ALLOWED"), "{output}");
            let (tcp, udp) = output.trim_end().rsplit_once('\n').unwrap();
            assert_eq!(tcp.matches(" ECONNREFUSED").count(), 31, "{output}");
            assert_eq!(udp, "udp ECONNREFUSED");
            assert!(seen.meant.lock().unwrap().is_empty());
        });
    });
    for listener in [host, everywhere] {
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "the host's service was reached");
    }
}

#[test]
fn a_stranger_at_the_gate_is_not_known() {
    in_each_setting(&gated(&[443]), |sandbox| {
        if sandbox.tier() == TierName::Namespaces {
            return; // nobody outside can reach its listeners
        }
        let listeners = sandbox.take_listeners();
        for listener in &listeners {
            let stranger = TcpStream::connect(("127.0.0.1", listener.port)).unwrap();
            let (local, remote) = (stranger.peer_addr().unwrap(), stranger.local_addr().unwrap());
            assert_eq!(sandbox.destination(local, remote), None);
            assert_eq!(sandbox.destination(remote, local), None);
        }
    });
}

#[test]
fn a_socket_can_be_tried_connected_and_disconnected_as_ever() {
    let script = r#"
s = socket.socket()
print(connect(s, v4('203.0.113.9', 22)), connect(s, v4('203.0.113.9', 22)), connect(s, v4('203.0.113.9', 443)), asked(s))
print(connect(s, v4('203.0.113.9', 443)), connect(s, v4('203.0.113.8', 22)))
s = socket.socket(); s.setblocking(False)
poller = select.epoll(); poller.register(s, select.EPOLLOUT | select.EPOLLET) # before connect, as Go does
print(connect(s, v4('203.0.113.7', 443)), [event & select.EPOLLOUT for _, event in poller.poll(5)], asked(s))
s = socket.socket(socket.AF_INET6)
print(connect(s, v6('::ffff:203.0.113.6', 443)), s.getsockname()[1] > 0, asked(s))
a, b = socket.socketpair(); print(connect(a, v4('203.0.113.9', 443)))
r, w = os.pipe(); print(libc.connect(r, v4('203.0.113.9', 443), 16), libc.connect(99, v4('203.0.113.9', 443), 16))
"#;
    let expected = "ECONNREFUSED ECONNREFUSED OK 203.0.113.9:443\nEISCONN EISCONN\nEINPROGRESS [4] 203.0.113.7:443\nOK True 203.0.113.6:443\n";
    in_each_setting(&gated(&[443]), |sandbox| {
        with_gate(sandbox, |_| {
            let output = python(sandbox, script);
            assert!(output.starts_with(expected), "{output}");
            assert!(output.ends_with("-1 -1\n"), "{output}");
        });
    });
}

#[test]
fn what_is_no_address_is_refused_as_the_kernel_does() {
    let script = r#"
good = v4('203.0.113.9', 443)
for family, address, lengths in [(socket.AF_INET, good, [-1, 0, 1, 2, 15, 129, 2**31 - 1]),
        (socket.AF_INET6, v6('2001:db8::9', 443), [-1, 0, 1, 16, 23, 129])]:
    print([connect(socket.socket(family), address, length) for length in lengths])
print(connect(socket.socket(), v6('::ffff:203.0.113.9', 443)), connect(socket.socket(), b'\1\0/tmp/x\0' + bytes(8)))
print(connect(socket.socket(socket.AF_INET6), v6('2001:db8::9', 443)[:24]))
ctypes.set_errno(0); libc.connect(socket.socket().fileno(), ctypes.c_void_p(8), 16); print(errno.errorcode[ctypes.get_errno()])
longer = good + bytes(112); print(connect(socket.socket(), longer, 128))
"#;
    let expected = "['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL', 'EINVAL', 'EINVAL', 'EINVAL']\n\
        ['EINVAL', 'EINVAL', 'EINVAL', 'EINVAL', 'EINVAL', 'EINVAL']\nEAFNOSUPPORT EAFNOSUPPORT\nOK\nEFAULT\nOK\n";
    in_each_setting(&gated(&[443]), |sandbox| {
        with_gate(sandbox, |_| assert_eq!(python(sandbox, script), expected));
    });
}

#[test]
fn a_thousand_at_once_all_arrive() {
    let script = r#"
import asyncio, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
async def one(n):
    reader, writer = await asyncio.open_connection('203.0.113.%d' % (n % 250), 443)
    writer.write(b'ping'); answer = (await reader.readuntil(b'ping')).decode(); writer.close()
    return answer == '203.0.113.%d:443\nping' % (n % 250)
async def all(): return await asyncio.gather(*[one(n) for n in range(1000)], return_exceptions=True)
print(set(asyncio.run(all())))
failed = []
def blocking():
    for _ in range(10):
        try: assert ask(('203.0.113.5', 443)) == '203.0.113.5:443'
        except BaseException as error: failed.append(repr(error))
threads = [threading.Thread(target=blocking) for _ in range(100)]; [t.start() for t in threads]; [t.join() for t in threads]
print(failed)
"#;
    in_each_setting(&gated(&[443]), |sandbox| {
        with_gate(sandbox, |seen| {
            assert_eq!(python(sandbox, script), "{True}\n[]\n");
            assert_eq!(seen.meant.lock().unwrap().len(), 2000);
            assert_eq!(seen.strangers.load(Ordering::Relaxed), 0);
        });
    });
}

#[test]
fn the_report_says_what_holds_of_the_network() {
    let status = |sandbox: &Sandbox, name: &str| {
        let found = sandbox.guarantees().iter().find(|guarantee| guarantee.name == name);
        found.map(|guarantee| guarantee.status)
    };
    in_each_setting(&gated(&[443]), |sandbox| {
        for name in ["net-tcp", "net-udp", "net-raw", "net-unix"] {
            assert_eq!(status(sandbox, name), Some(Status::Enforced), "{name}");
        }
        let expected = match sandbox.tier() {
            TierName::Namespaces => Status::Enforced,
            TierName::Flat => Status::Partial,
        };
        assert_eq!(status(sandbox, "net-loopback"), Some(expected));
    });
    in_each_setting(&shell(), |sandbox| {
        assert_eq!(status(sandbox, "net-tcp"), Some(Status::Enforced));
        assert_eq!(status(sandbox, "net-loopback"), None, "no internet socket can be made");
    });
    in_each_setting(&shell().network(Network::Open), |sandbox| {
        assert_eq!(status(sandbox, "net-tcp"), None, "nothing is promised of an open network");
    });
}

/// What the machine's own files say of names leads to addresses that are not there.
#[test]
fn a_network_of_its_own_has_its_own_names() {
    let script = "print(open('/etc/hosts').read(), end='')
for name in 'localhost', socket.gethostname(): print(socket.gethostbyname(name))";
    let machine = std::fs::read_to_string("/etc/hosts").unwrap();
    let networks =
        [(gated(&[443]), true), (shell(), true), (shell().network(Network::Open), false)];
    for (capabilities, is_own) in networks {
        in_each_setting(&capabilities, |sandbox| {
            let output = python(sandbox, script);
            if is_own && sandbox.tier() == TierName::Namespaces {
                assert!(output.starts_with("127.0.0.1 localhost"), "{output}");
                assert!(output.ends_with("\n127.0.0.1\n127.0.0.1\n"), "{output}");
            } else {
                assert!(output.starts_with(&machine), "{output}");
            }
        });
    }
}

#[test]
fn what_it_has_of_its_own_is_not_left_in_the_machines_directories() {
    let is_there = || ["/run/hosts", "/run/resolv.conf"].map(|path| Path::new(path).exists());
    let before = is_there();
    for capabilities in [gated(&[443]).allow_read("/run"), gated(&[443]).allow_write("/run")] {
        in_each_setting(&capabilities, |sandbox| {
            assert!(run(sandbox, "cat /etc/resolv.conf /etc/hosts >/dev/null").0.status.success());
        });
    }
    assert_eq!(is_there(), before);
}

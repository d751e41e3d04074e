//! Ways around the network's rules that must fail, by number of the escape corpus. Each would be
//! harmless if it succeeded: whatever is reached is a socket that the test made.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use crate::common::{Scratch, in_each_setting, numbered, shell};
use crate::gate::{gated, python};
use crate::test_gate::with_gate;
use nono::{Network, TierName};

/// What of the host could be reached: a TCP service and a UDP one, which nobody comes to.
struct Host {
    tcp: TcpListener,
    udp: UdpSocket,
}

impl Host {
    fn new() -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind(("127.0.0.1", tcp.local_addr().unwrap().port())).unwrap();
        tcp.set_nonblocking(true).unwrap();
        udp.set_nonblocking(true).unwrap();
        Host { tcp, udp }
    }

    fn port(&self) -> u16 {
        self.tcp.local_addr().unwrap().port()
    }

    fn was_not_reached(&self) {
        let nobody = |result: std::io::Result<()>| {
            assert_eq!(result.map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
        };
        nobody(self.tcp.accept().map(|_| ()));
        nobody(self.udp.recv(&mut [0; 8]).map(|_| ()));
    }
}

#[test]
fn no_other_kind_of_socket_exists() {
    // 36. Numbers, because Python does not name them all.
    let script = r#"
INET, INET6, STREAM, DGRAM, RAW, SEQPACKET = 2, 10, 1, 2, 3, 5
tried = [(f, k, p) for f in (INET, INET6) for k, p in [
    (RAW, 1), (RAW, 6), (RAW, 17), (RAW, 58), (RAW, 255), (DGRAM, 1), (DGRAM, 58), (STREAM, 132), (SEQPACKET, 132), # ICMP, SCTP
    (STREAM, 262), (DGRAM, 136), (STREAM, 256), (6, 33), (10, 0), (STREAM, 17), (DGRAM, 6), (4, 0)]] # MPTCP, UDP-Lite, SMC, DCCP, PACKET
tried += [(17, k, 0x300) for k in (RAW, DGRAM, 10)] + [(40, k, 0) for k in (STREAM, DGRAM, SEQPACKET)] + [(38, SEQPACKET, 0)] # packet, vsock, ALG
tried += [(16, k, p) for k in (RAW, DGRAM) for p in range(1, 23)] # netlink
tried += [(f, k, 0) for f in range(3, 46) if f not in (10, 16) for k in (STREAM, DGRAM, RAW, SEQPACKET)]
tried += [(1, DGRAM, 0), (1, RAW, 0)]
tried += [(f + (1 << 32), RAW, 1 + (1 << 32)) for f in (INET, INET6)] + [(17 + (5 << 32), RAW, 0)] # an int to the kernel
socketcall = lambda f, k, p: libc.syscall(ctypes.c_long(SYS_socket), ctypes.c_long(f), ctypes.c_long(k), ctypes.c_long(p))
for flags in (0, 0x800, 0x80000):
    for f, k, p in tried:
        if socketcall(f, k | flags, p) >= 0: print('MADE', f, k, p, flags)
for k in (DGRAM, RAW): 
    pair = (ctypes.c_int * 2)()
    if libc.socketpair(1, k, 0, pair) == 0: print('PAIRED', k)
for f, k, p in [(INET, STREAM, 0), (INET, STREAM, 6), (INET6, STREAM, 0), (1, STREAM, 0), (16, RAW, 0)]:
    if socketcall(f, k | 0x80800, p) < 0: print('REFUSED', f, k, p)
print(len(tried))
"#;
    for network in [Network::Gate { ports: vec![443] }, Network::Open] {
        in_each_setting(&shell().network(network), |sandbox| {
            assert_eq!(python(sandbox, &numbered(script)), "254\n");
        });
    }
}

#[test]
fn routes_and_addresses_can_be_seen_but_not_changed() {
    // 36: RTM_NEW* and RTM_DEL*; the older ioctls; and that what getaddrinfo() asks still works.
    let script = r#"
def ask(kind, flags=0x5, payload=bytes(16)): # REQUEST | ACK
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0); s.settimeout(5)
    s.send(struct.pack('=IHHII', 16 + len(payload), kind, flags, 1, 0) + payload); answer = s.recv(1 << 16)
    if struct.unpack_from('=H', answer, 4)[0] == 2 and (code := struct.unpack_from('=i', answer, 16)[0]): raise OSError(-code, 'refused')
address = struct.pack('=BBBBI', 2, 8, 0, 0, 1) + struct.pack('=HH4s', 8, 2, bytes([127, 9, 9, 9]))
route = struct.pack('=BBBBBBBBI', 2, 0, 0, 0, 254, 4, 253, 1, 0) + struct.pack('=HHI', 8, 4, 1)
for name, kind in dict(link=16, addr=20, route=24, neigh=28, rule=32, qdisc=36, tclass=40, filter=44, action=48, prefix=52,
        addrlabel=72, netconf=80, mdb=84, nsid=88, chain=100, nexthop=104, linkprop=108, vlan=112, nexthopbucket=116, tunnel=120).items():
    for verb in (0, 1): # NEW, DEL
        if name in ('prefix', 'netconf') and verb: continue
        attempt(('new ' if verb == 0 else 'del ') + name, lambda: ask(kind + verb, 0x405, {'addr': address, 'route': route}.get(name, bytes(16))))
import fcntl
for name, request in dict(SIOCADDRT=0x890B, SIOCDELRT=0x890C, SIOCSIFFLAGS=0x8914, SIOCSIFADDR=0x8916, SIOCSIFMTU=0x8922, SIOCSIFHWADDR=0x8924,
        SIOCSARP=0x8955, SIOCBRADDBR=0x89a0, SIOCETHTOOL_SET=0x8946).items():
    attempt(name, lambda: fcntl.ioctl(socket.socket(), request, struct.pack('=16sH22x', b'lo', 1) + bytes(80)))
for kind in (18, 22, 26): attempt('dump %d' % kind, lambda: ask(kind, 0x301))
attempt('dump interfaces', lambda: len(socket.if_nameindex()) > 0)
"#;
    in_each_setting(&gated(&[443]), |sandbox| {
        let output = python(sandbox, script);
        let (changes, dumps) = output.split_at(output.find("dump").unwrap_or(0));
        assert!(!changes.contains("ALLOWED"), "{output}");
        assert_eq!(changes.lines().count(), 47, "{output}");
        assert_eq!(dumps.matches("ALLOWED").count(), 4, "{output}");
    });
}

#[test]
fn nothing_connects_without_connect() {
    // 36: TCP Fast Open in all its forms.
    let host = Host::new();
    let script = format!(
        r#"
where = ('127.0.0.1', {port}); FASTOPEN = 0x20000000
attempt('sendto', lambda: socket.socket().sendto(b'x', FASTOPEN, where))
attempt('sendto v6', lambda: socket.socket(socket.AF_INET6).sendto(b'x', FASTOPEN, ('::ffff:127.0.0.1', {port})))
attempt('sendto with more flags', lambda: socket.socket().sendto(b'x', FASTOPEN | socket.MSG_NOSIGNAL, where))
attempt('sendto without the flag', lambda: socket.socket().sendto(b'x', 0, where))
attempt('sendmsg', lambda: socket.socket().sendmsg([b'x'], [], FASTOPEN, where))
attempt('sendmsg without the flag', lambda: socket.socket().sendmsg([b'x'], [], 0, where))
def sendmmsg(flags):
    address = v4(*where); data = b'x'
    vector = struct.pack('=QQ', ctypes.addressof(ctypes.create_string_buffer(data)), 1); vector = ctypes.create_string_buffer(vector); name = ctypes.create_string_buffer(address)
    message = ctypes.create_string_buffer(struct.pack('=QIIQQQQI4xI4x', ctypes.addressof(name), 16, 0, ctypes.addressof(vector), 1, 0, 0, 0, 0))
    s = socket.socket(); ctypes.set_errno(0)
    if libc.syscall(SYS_sendmmsg, s.fileno(), message, 1, flags) < 0: raise OSError(ctypes.get_errno(), 'refused')
attempt('sendmmsg', lambda: sendmmsg(FASTOPEN)); attempt('sendmmsg without the flag', lambda: sendmmsg(0))
def deferred():
    s = socket.socket(); s.setsockopt(socket.IPPROTO_TCP, 30, 1); s.connect(where); s.send(b'x')
attempt('TCP_FASTOPEN_CONNECT', deferred)
attempt('connect', lambda: socket.socket().connect(where))
"#,
        port = host.port()
    );
    in_each_setting(&gated(&[443]), |sandbox| {
        let output = python(sandbox, &numbered(&script));
        assert_eq!(output.lines().count(), 10, "{output}");
        assert!(!output.contains("ALLOWED"), "{output}");
        assert_eq!(output.matches(" ENOTSUP").count(), 6, "{output}");
        host.was_not_reached();
    });
}

#[test]
fn no_other_protocol_is_put_upon_tcp() {
    // The kernel itself would say of the last one that it cannot be asked for so.
    let script = r#"
for protocol in (b'tls', b'smc', b'espintcp', b'mptcp'):
    attempt(protocol.decode(), lambda: socket.socket().setsockopt(socket.IPPROTO_TCP, 31, protocol))
"#;
    in_each_setting(&gated(&[443]), |sandbox| {
        let output = python(sandbox, script);
        assert_eq!(output.matches(" ENOENT").count(), 4, "{output}");
    });
}

#[test]
fn no_source_route_leads_elsewhere() {
    // A loose source route (RFC 791), and a segment routing header (RFC 8754).
    let script = r#"
route = bytes([0x83, 7, 4]) + socket.inet_aton('203.0.113.9') + bytes(1)
segments = bytes([0, 4, 4, 1, 1, 0, 0, 0]) + 2 * socket.inet_pton(socket.AF_INET6, '2001:db8::9')
attempt('IP_OPTIONS', lambda: socket.socket().setsockopt(0, 4, route))
six = socket.socket(socket.AF_INET6)
attempt('IP_OPTIONS of v6', lambda: six.setsockopt(0, 4, route))
attempt('IPV6_RTHDR', lambda: six.setsockopt(41, 57, segments))
attempt('IPV6_2292PKTOPTIONS', lambda: six.setsockopt(41, 6, struct.pack('=QII', 16 + 40, 41, 57) + segments))
"#;
    in_each_setting(&gated(&[443]), |sandbox| {
        let output = python(sandbox, script);
        assert_eq!(output.matches(" ENOPROTOOPT").count(), 4, "{output}");
        assert!(!output.contains("ALLOWED"), "{output}");
    });
}

#[test]
fn datagrams_reach_nobody() {
    // 35.
    let host = Host::new();
    let script = format!(
        r#"
def send(how):
    for family, where in [(socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::ffff:127.0.0.1')]:
        s = socket.socket(family, socket.SOCK_DGRAM)
        how(s, (where, {port}))
def connected(s, where): s.connect(where); s.send(b'x')
def reconnected(s, where): s.connect((where[0], 53)); s.sendto(b'x', where)
for name, how in [('sendto', lambda s, where: s.sendto(b'x', where)), ('sendmsg', lambda s, where: s.sendmsg([b'x'], [], 0, where)),
        ('connected', connected), ('reconnected', reconnected), ('broadcast', lambda s, where: s.sendto(b'x', ('127.255.255.255', where[1])))]:
    try: send(how)
    except OSError as error: pass
print('done')
"#,
        port = host.port()
    );
    in_each_setting(&gated(&[443]), |sandbox| {
        assert_eq!(python(sandbox, &script), "done\n");
        thread::sleep(Duration::from_millis(20));
        host.was_not_reached();
    });
}

#[test]
fn a_disconnected_socket_is_led_anew() {
    let host = Host::new();
    let script = format!(
        r#"
s = socket.socket(); print(connect(s, v4('203.0.113.9', 443)), asked(s), s.settimeout(None) or connect(s, UNSPEC), connect(s, UNSPEC[:2]))
print(connect(s, v4('127.0.0.1', {port})), connect(s, v4('203.0.113.8', 443)))
s = socket.socket(); print(connect(s, v4('127.0.0.1', {port})), connect(s, UNSPEC), connect(s, v4('127.0.0.1', {port})), connect(s, v4('203.0.113.7', 443)), asked(s))
"#,
        port = host.port()
    );
    in_each_setting(&gated(&[443]), |sandbox| {
        with_gate(sandbox, |_| {
            let output = python(sandbox, &script);
            // In a container the supervisor has given a connected socket up, and connects it no more.
            let first = [
                "OK 203.0.113.9:443 OK EINVAL\nECONNREFUSED OK\n",
                "OK 203.0.113.9:443 OK OK\nECONNREFUSED OK\n",
                "OK 203.0.113.9:443 EISCONN EISCONN\nEISCONN EISCONN\n",
            ];
            let last = "ECONNREFUSED OK ECONNREFUSED OK 203.0.113.7:443\n";
            assert!(
                output.ends_with(last) && first.iter().any(|first| output.starts_with(first)),
                "{output}"
            );
        });
        host.was_not_reached();
    });
}

#[test]
fn a_socket_of_another_network_is_not_connected() {
    // 38. A process of the host cooperates: it hands in a socket of its own. What it has connected
    // itself, or lets send anywhere, it has given away; what it has not connected stays so.
    let host = Host::new();
    let scratch = Scratch::new();
    let path = scratch.path().join("helper");
    let helper = UnixListener::bind(&path).unwrap();
    let accepting = helper.try_clone().unwrap();
    thread::spawn(move || {
        for client in accepting.incoming() {
            // SAFETY: no memory is involved; the test's process ends soon.
            let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) };
            send_descriptor(&client.unwrap(), socket);
        }
    });
    let script = format!(
        r#"
helper = socket.socket(socket.AF_UNIX); helper.connect({path:?})
_, fds, _, _ = socket.recv_fds(helper, 1, 1); s = socket.socket(fileno=fds[0])
print(connect(s, v4('127.0.0.1', {port})), connect(s, v4('203.0.113.9', 22)))
attempt('listen', lambda: (s.listen(), s.getsockname()))
"#,
        port = host.port()
    );
    in_each_setting(&gated(&[443]).allow_unix_socket(&path), |sandbox| {
        let output = python(sandbox, &script);
        let (connects, listen) = output.split_once('\n').unwrap();
        let expected: &[&str] = match sandbox.tier() {
            TierName::Namespaces => &["EACCES EACCES"],
            // There the networks are one. The socket is led like those made inside, or not known.
            TierName::Flat => &["ECONNREFUSED ECONNREFUSED", "EISCONN EISCONN"],
        };
        assert!(expected.contains(&connects), "{output}");
        if sandbox.tier() == TierName::Flat {
            assert!(!listen.contains("'0.0.0.0'"), "{output}");
        }
        host.was_not_reached();
    });
}

fn send_descriptor(to: &UnixStream, fd: i32) {
    let mut byte = [0u8; 1];
    let mut vector = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut control = [0u64; 3];
    // SAFETY: the buffers live across the call, and the control message fits its buffer.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as usize;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(fd);
        assert_eq!(libc::sendmsg(to.as_raw_fd(), &raw const message, 0), 1);
    }
}

/// Turns of the race; `NONO_TEST_TURNS` sets more.
fn turns() -> u32 {
    let more = std::env::var("NONO_TEST_TURNS").ok().and_then(|turns| turns.parse().ok());
    more.unwrap_or(5_000)
}

#[test]
fn flipping_the_address_or_the_descriptor_reaches_nothing_else() {
    // 8, for addresses: one thread connects, another changes the address between an allowed and a
    // refused one, and the descriptor between two sockets, one of them unix.
    let host = Host::new();
    let scratch = Scratch::new();
    let path = scratch.path().join("host");
    let unlisted = UnixListener::bind(&path).unwrap();
    unlisted.set_nonblocking(true).unwrap();
    let script = format!(
        r#"
yes, no, other = v4('203.0.113.9', 443), v4('127.0.0.1', {port}), b'\1\0' + {path:?}.encode() + b'\0'
size = max(len(yes), len(other)); yes, no, other = (a.ljust(size, b'\0') for a in (yes, no, other))
address = ctypes.create_string_buffer(yes, size); stop = False; FD = 100
unix = socket.socket(socket.AF_UNIX); s = socket.socket()
def flip():
    while not stop:
        try:
            for a in (no, yes, other, yes): ctypes.memmove(address, a, size)
            os.dup2(unix.fileno(), FD); os.dup2(s.fileno(), FD)
        except OSError: pass # s was closed just now
os.dup2(s.fileno(), FD)
thread = threading.Thread(target=flip); thread.start()
results = {{}}
for turn in range({turns}):
    s.close(); s = socket.socket(); s.setblocking(False)
    result = connect(s if turn % 4 else type('At', (), dict(fileno=lambda: FD)), address)
    results[result] = results.get(result, 0) + 1
stop = True; thread.join(); print(sorted(results))
"#,
        port = host.port(),
        turns = turns()
    );
    in_each_setting(&gated(&[443]).allow_read(scratch.path()), |sandbox| {
        // Nobody serves the gate: what arrives there stays in its queue, which is closed with it.
        let output = with_gate(sandbox, |_| python(sandbox, &script));
        assert!(output.contains("ECONNREFUSED") && output.contains("EINPROGRESS"), "{output}");
        host.was_not_reached();
        assert!(unlisted.accept().is_err(), "{output}");
    });
}

fn is_of_this_process(inode: &str) -> bool {
    let link = std::path::PathBuf::from(format!("socket:[{inode}]"));
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    descriptors.filter_map(|entry| entry.path().read_link().ok()).any(|found| found == link)
}

#[test]
fn a_server_inside_is_on_no_address_of_the_hosts() {
    // 45, from outside: what a command serves, on all addresses as it thinks, nobody else's network
    // can reach.
    let script = r#"
s = [socket.create_server(('0.0.0.0', 0)), socket.create_server(('::', 0), family=socket.AF_INET6, dualstack_ipv6=True), socket.socket()]
s[2].listen()
print(*[x.getsockname()[1] for x in s], flush=True); input()
"#;
    in_each_setting(&gated(&[443]), |sandbox| {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (wait, mut end) = std::io::pipe().unwrap();
        let stdio = vec![wait.into(), writer.try_clone().unwrap().into(), writer.into()];
        let command = nono::Command::new(["/usr/bin/python3", "-c", &crate::gate::prelude(script)]);
        let child = sandbox.spawn(command.stdio(stdio)).unwrap();
        let mut output = [0; 64];
        let length = reader.read(&mut output).unwrap();
        let ports: Vec<String> = String::from_utf8_lossy(&output[..length])
            .split_whitespace()
            .map(|port| format!(":{:04X} ", port.parse::<u16>().unwrap()))
            .collect();
        assert_eq!(ports.len(), 3);
        let mut seen = 0;
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            for line in std::fs::read_to_string(table).unwrap_or_default().lines() {
                let Some(local) = line.split_whitespace().nth(1).map(|local| format!("{local} "))
                else {
                    continue;
                };
                let listens = line.split_whitespace().nth(3) == Some("0A");
                if listens && ports.iter().any(|port| local.ends_with(port)) {
                    // 127.128.0.0/9, as the kernel prints it: the last byte is the first.
                    let first = u32::from_str_radix(&local[local.len() - 14..][..8], 16).unwrap();
                    let [net, half, ..] = first.to_le_bytes();
                    let is_inside = net == 127 && half >= 128;
                    // Other tests of this process may have the same port at another address.
                    let inode = line.split_whitespace().nth(9).unwrap();
                    assert!(is_inside || is_of_this_process(inode), "{line}");
                    seen += usize::from(is_inside);
                }
            }
        }
        assert_eq!(seen, if sandbox.tier() == TierName::Flat { 3 } else { 0 });
        end.write_all(b"\n").unwrap();
        assert!(child.wait().status.success());
    });
}

//! Steps that shape the sandbox's private network: a loopback device that owns every address, so
//! that whatever a program connects to, it reaches a socket opened here.

use crate::control::{self, Fds};
use crate::protocol::{LISTEN_ON_LOOPBACK, LISTEN_SHARED, Report, Request, SOCKETS_MADE};
use crate::sys::{self, Result, call};

const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const AF_NETLINK: u64 = 16;
const SOCK_STREAM: u64 = 1;
const SOCK_DGRAM: u64 = 2;
const SOCK_RAW: u64 = 3;
const SOCK_CLOEXEC: u64 = sys::O_CLOEXEC;
/// The first device of a network namespace (`LOOPBACK_IFINDEX`, include/net/flow.h).
const LOOPBACK: u32 = 1;
/// What does not leave this machine (`rtnetlink(7)`).
const RT_SCOPE_HOST: u8 = 254;

pub fn loopback_up() -> Result<()> {
    const SIOCSIFFLAGS: u64 = 0x8914;
    const IFF_UP: u16 = 1;
    #[repr(C)]
    struct InterfaceRequest {
        name: [u8; 16],
        flags: u16,
        rest: [u8; 22],
    }
    let mut request = InterfaceRequest { name: [0; 16], flags: IFF_UP, rest: [0; 22] };
    request.name[..2].copy_from_slice(b"lo");
    let socket = call!(SOCKET, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)?;
    let done = call!(IOCTL, socket, SIOCSIFFLAGS, &raw const request);
    sys::close(socket as i32);
    done.map(|_| ())
}

/// `ip address add ADDRESS/32 dev lo` (`rtnetlink(7)`).
pub fn add_address(address: u32) -> Result<()> {
    const RTM_NEWADDR: u16 = 20;
    const IFA_LOCAL: u16 = 2;
    #[repr(C)]
    struct AddressRequest {
        header: Header,
        family: u8,
        prefix: u8,
        flags: u8,
        scope: u8,
        device: u32,
        attribute_length: u16,
        attribute: u16,
        address: u32,
    }
    ask(&AddressRequest {
        header: Header::creating::<AddressRequest>(RTM_NEWADDR),
        family: AF_INET as u8,
        prefix: 32,
        flags: 0,
        scope: RT_SCOPE_HOST,
        device: LOOPBACK,
        attribute_length: 8,
        attribute: IFA_LOCAL,
        address,
    })
}

/// `ip route add local default dev lo` for family 4 or 6 (`rtnetlink(7)`): AnyIP.
pub fn route_everything_here(family: u64) -> Result<()> {
    const RTM_NEWROUTE: u16 = 24;
    const RT_TABLE_LOCAL: u8 = 255;
    const RTPROT_STATIC: u8 = 4;
    const RTN_LOCAL: u8 = 2;
    const RTA_OIF: u16 = 4;
    #[repr(C)]
    struct RouteRequest {
        header: Header,
        family: u8,
        prefix: u8,
        source_prefix: u8,
        tos: u8,
        table: u8,
        protocol: u8,
        scope: u8,
        route_type: u8,
        route_flags: u32,
        attribute_length: u16,
        attribute: u16,
        device: u32,
    }
    ask(&RouteRequest {
        header: Header::creating::<RouteRequest>(RTM_NEWROUTE),
        family: if family == 4 { AF_INET as u8 } else { AF_INET6 as u8 },
        prefix: 0,
        source_prefix: 0,
        tos: 0,
        table: RT_TABLE_LOCAL,
        protocol: RTPROT_STATIC,
        scope: RT_SCOPE_HOST,
        route_type: RTN_LOCAL,
        route_flags: 0,
        attribute_length: 8,
        attribute: RTA_OIF,
        device: LOOPBACK,
    })
}

/// `struct nlmsghdr` (`netlink(7)`).
#[repr(C)]
struct Header {
    length: u32,
    kind: u16,
    flags: u16,
    sequence: u32,
    port: u32,
}

impl Header {
    /// Of a request `T`, which makes something new and is acknowledged.
    fn creating<T>(kind: u16) -> Self {
        const REQUEST_CREATE_ACK: u16 = 0x001 | 0x400 | 0x004;
        let length = size_of::<T>() as u32;
        Header { length, kind, flags: REQUEST_CREATE_ACK, sequence: 1, port: 0 }
    }
}

/// Makes one netlink request and reads its acknowledgement: `struct nlmsgerr` after the header.
fn ask<T>(request: &T) -> Result<()> {
    const ERROR_OFFSET: usize = 16;
    let mut answer = [0u8; 256];
    let socket = call!(SOCKET, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0)?;
    let exchanged = call!(SENDTO, socket, core::ptr::from_ref(request), size_of::<T>(), 0, 0, 0)
        .and_then(|_| call!(RECVFROM, socket, answer.as_mut_ptr(), answer.len(), 0, 0, 0));
    sys::close(socket as i32);
    exchanged?;
    let mut error = [0u8; 4];
    error.copy_from_slice(&answer[ERROR_OFFSET..ERROR_OFFSET + 4]);
    match i32::from_ne_bytes(error) {
        0 => Ok(()),
        errno => Err(-errno),
    }
}

/// A socket on `port` of every address, or as the options say. `kind` 1: a listening stream, 2:
/// datagrams.
pub fn listen(family: u32, kind: u32, port: u16, options: u64) -> Result<i32> {
    const SOL_SOCKET: u64 = 1;
    const SO_REUSEPORT: u64 = 15;
    const IPPROTO_IPV6: u64 = 41;
    const IPV6_V6ONLY: u64 = 26;
    const BACKLOG: u64 = 4096;
    let is_v6 = family == 6;
    let domain = if is_v6 { AF_INET6 } else { AF_INET };
    let socket = call!(SOCKET, domain, u64::from(kind) | SOCK_CLOEXEC, 0)?;
    let mut address = [0u8; 28]; // struct sockaddr_in6; the first 16 bytes fit struct sockaddr_in
    address[..2].copy_from_slice(&(domain as u16).to_ne_bytes());
    address[2..4].copy_from_slice(&port.to_be_bytes());
    let length = if is_v6 { 28 } else { 16 };
    if options & LISTEN_ON_LOOPBACK != 0 {
        match is_v6 {
            true => address[23] = 1, // ::1
            false => address[4..8].copy_from_slice(&[127, 0, 0, 1]),
        }
    }
    let ready = (|| {
        if is_v6 {
            let on = 1i32;
            call!(SETSOCKOPT, socket, IPPROTO_IPV6, IPV6_V6ONLY, &raw const on, 4)?;
        }
        if options & LISTEN_SHARED != 0 {
            let on = 1i32;
            call!(SETSOCKOPT, socket, SOL_SOCKET, SO_REUSEPORT, &raw const on, 4)?;
        }
        call!(BIND, socket, address.as_ptr(), length)?;
        if u64::from(kind) == SOCK_STREAM {
            call!(LISTEN, socket, BACKLOG)?;
        }
        Ok(())
    })();
    match ready {
        Ok(()) => Ok(socket as i32),
        Err(errno) => {
            sys::close(socket as i32);
            Err(errno)
        }
    }
}

/// Makes sockets for the owner, who will connect one: their network namespace is this one.
pub fn make_sockets(control: i32, request: &Request) {
    const SOCK_NONBLOCK: u64 = 0o4000;
    let kind = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
    let mut made = Fds::new();
    for domain in [AF_INET, AF_INET6] {
        if let Ok(socket) = call!(SOCKET, domain, kind, 0) {
            made.push(socket as i32);
        }
    }
    let report = Report { kind: SOCKETS_MADE, id: request.id, ..Report::default() };
    control::send(control, &report, made.as_slice());
    made.close_all();
}

/// A socket that answers about the sockets of this network namespace, wherever it is used.
pub fn diagnosis() -> Result<i32> {
    const NETLINK_SOCK_DIAG: u64 = 4;
    call!(SOCKET, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG)
        .map(|socket| socket as i32)
}

//! Internet sockets of a sandbox that has no network namespace of its own.
//!
//! They all live on one loopback address that nobody else uses, the sandbox's *home*, and only the
//! supervisor gives them addresses. A server that asks for a port of any address gets that port at
//! home, where it collides with none of the host's; a connection to loopback leads home as well, if
//! a socket of the sandbox listens there; and a connection to anywhere else, on a port that the
//! policy allows, leads to the gate, which learns from a table where it was meant to go.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::diagnosis::Diagnosis;
use crate::gate::{Destinations, Entry};
use crate::socket::{self, Errno, address};

/// What decides about a sandbox's internet sockets.
#[derive(Debug)]
pub(crate) enum Internet {
    /// There are none.
    Absent,
    /// The network that they are in, the sandbox's own or an open one: calls are made as asked.
    AsAsked,
    /// The supervisor.
    Led(Box<Led>),
}

/// Internet sockets that are led.
#[derive(Debug)]
pub(crate) struct Led {
    pub(crate) servers: Arc<Servers>,
    pub(crate) gate: Option<Gate>,
    /// Ports of services on the host's loopback that may be connected to.
    pub(crate) localhost: BTreeSet<u16>,
}

/// What listens at the home of a sandbox.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) home: Ipv4Addr,
    /// Sockets that were made to listen inside, by their port and cookie.
    listening: Mutex<HashMap<u16, HashSet<u64>>>,
}

/// Where the gate listens, on the host's loopback.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) connections: SocketAddr,
    pub(crate) dns: SocketAddr,
    /// The ports that programs may connect to.
    pub(crate) ports: HashSet<u16>,
    pub(crate) destinations: Arc<Destinations>,
    /// Held, so that nobody else can listen there once the gate has gone.
    pub(crate) _held: [OwnedFd; 2],
}

/// Where a connect() is made to.
#[derive(Debug)]
pub(super) struct Lead {
    pub(super) address: Vec<u8>,
    /// What the gate was told about it.
    pub(super) entry: Option<(Arc<Destinations>, Entry)>,
}

impl Lead {
    pub(super) fn to(address: Vec<u8>) -> Self {
        Lead { address, entry: None }
    }
}

const DNS: u16 = 53;

impl Servers {
    /// At a loopback address that is most likely nobody else's. Another process there would be a
    /// nuisance and no danger: what is the sandbox's own is known by cookie.
    pub(crate) fn new() -> Self {
        let mut random = [0u8; 3];
        // SAFETY: the kernel fills the three bytes. Where it does not, any address does.
        unsafe { libc::getrandom(random.as_mut_ptr().cast(), random.len(), 0) };
        let home = Ipv4Addr::new(127, 128 | random[0], random[1], random[2].clamp(1, 254));
        Servers { home, listening: Mutex::default() }
    }

    fn note(&self, port: u16, cookie: u64) {
        const MANY: usize = 256;
        let mut listening = self.lock();
        let own = listening.entry(port).or_default();
        if own.len() >= MANY {
            own.clear(); // the oldest are closed long since: a port has few sockets at a time
        }
        own.insert(cookie);
    }

    /// Whether a connection to this port at home reaches a socket of the sandbox. A socket that is
    /// bound there precedes the host's on the same port of every address; where there is one of
    /// those, the sandbox's might be closed just now, and the connection arrive at the host's.
    pub(crate) fn are_reached(&self, port: u16, diagnosis: &Diagnosis) -> bool {
        let listening = self.lock();
        let Some(own) = listening.get(&port) else { return false };
        let all = diagnosis.tcp_listening(port).unwrap_or_default();
        let mut reached = all.iter().filter(|socket| {
            let address = socket.address.to_canonical();
            address == IpAddr::V4(self.home) || address.is_unspecified()
        });
        reached.clone().next().is_some() && reached.all(|socket| own.contains(&socket.cookie))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u16, HashSet<u64>>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Led {
    /// Where the connect() of `socket` to `asked` is to be made.
    pub(super) fn connect(
        &self,
        socket: &OwnedFd,
        asked: &[u8],
        diagnosis: &Diagnosis,
    ) -> Result<Lead, Errno> {
        let family = socket::tcp_family(socket).ok_or(libc::EACCES)?;
        if address::family(asked) == Some(libc::AF_UNSPEC) {
            return Ok(Lead::to(asked.to_vec())); // it is disconnected (`connect(2)`)
        }
        let meant = expect(asked, family)?;
        if socket::tcp_state(socket) != Some(socket::CLOSED) {
            // The kernel says how far it is. Nothing can be connected to the broadcast address.
            let nowhere = SocketAddr::from((Ipv4Addr::BROADCAST, 0));
            return Ok(Lead::to(address::to_bytes(nowhere, family)));
        }
        match self.route(meant, diagnosis)? {
            Route::Host(there) => Ok(Lead::to(address::to_bytes(there, family))),
            Route::Home => {
                let there = SocketAddr::from((self.servers.home, meant.port()));
                self.settle(socket, family)?;
                Ok(Lead::to(address::to_bytes(there, family)))
            }
            Route::Gate(there) => {
                let port = self.settle(socket, family)?;
                let address = address::to_bytes(there, family);
                let entry = self.gate.as_ref().map(|gate| {
                    let destinations = gate.destinations.clone();
                    let entry = destinations.put(port, meant);
                    (destinations, entry)
                });
                Ok(Lead { address, entry })
            }
        }
    }

    fn route(&self, meant: SocketAddr, diagnosis: &Diagnosis) -> Result<Route, Errno> {
        let port = meant.port();
        if let Some(gate) = &self.gate
            && port == DNS
        {
            return Ok(Route::Gate(gate.dns));
        }
        if is_local(meant.ip()) {
            if let Some(there) = host_loopback(meant)
                && self.localhost.contains(&port)
            {
                return Ok(Route::Host(there));
            }
            if self.servers.are_reached(port, diagnosis) {
                return Ok(Route::Home);
            }
        }
        match &self.gate {
            Some(gate) if gate.ports.contains(&port) => Ok(Route::Gate(gate.connections)),
            _ => Err(libc::ECONNREFUSED),
        }
    }

    /// Carries out a bind() of a socket to the address that it asked for.
    pub(super) fn bind(&self, socket: &OwnedFd, asked: &[u8]) -> Result<(), Errno> {
        let family = socket::tcp_family(socket).ok_or(libc::EACCES)?;
        let meant = expect(asked, family)?;
        if !is_local(meant.ip()) {
            return Err(libc::EADDRNOTAVAIL);
        }
        let port = meant.port();
        if port != 0 && port < first_unprivileged_port() {
            return Err(libc::EACCES); // no command has CAP_NET_BIND_SERVICE; its owner may
        }
        let taken =
            self.gate.as_ref().is_some_and(|gate| port == DNS || gate.ports.contains(&port))
                || self.localhost.contains(&port);
        if taken {
            return Err(libc::EADDRINUSE);
        }
        self.bind_home(socket, family, port)
    }

    /// Carries out a listen(): on a free port, if the socket was not bound.
    pub(super) fn listen(&self, socket: &OwnedFd, backlog: i32) -> Result<(), Errno> {
        let family = socket::tcp_family(socket).ok_or(libc::EACCES)?;
        let port = self.settle(socket, family)?;
        self.servers.note(port, socket::cookie(socket)?);
        socket::listen(socket, backlog)
    }

    /// Makes sure that a socket is at home; returns its port.
    fn settle(&self, socket: &OwnedFd, family: i32) -> Result<u16, Errno> {
        if socket::local_address(socket)?.port() == 0 {
            self.bind_home(socket, family, 0)?;
        }
        let local = socket::local_address(socket)?;
        // A socket that came from elsewhere may be bound anywhere.
        match (local.ip().to_canonical() == IpAddr::V4(self.servers.home), local.port()) {
            (true, port @ 1..) => Ok(port),
            _ => Err(libc::EACCES),
        }
    }

    fn bind_home(&self, socket: &OwnedFd, family: i32, port: u16) -> Result<(), Errno> {
        // With the first, an IPv6 socket could not have an IPv4 address; with the second, its port
        // would be chosen only as it connects, when the table must have it already (`ip(7)`).
        const IP_BIND_ADDRESS_NO_PORT: i32 = 24;
        if family == libc::AF_INET6 {
            socket::set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
        }
        socket::set_option(socket, libc::IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 0)?;
        let there = SocketAddr::from((self.servers.home, port));
        socket::bind(socket, &address::to_bytes(there, family))
    }
}

/// Where a connection leads.
#[derive(Debug)]
enum Route {
    /// To a service of the host.
    Host(SocketAddr),
    /// To a socket of the sandbox.
    Home,
    /// To the gate.
    Gate(SocketAddr),
}

/// The address that a socket of this family is given.
fn expect(address: &[u8], family: i32) -> Result<SocketAddr, Errno> {
    match address::family(address) {
        Some(named) if named == family => address::parse(address).ok_or(libc::EINVAL),
        Some(_) => Err(libc::EAFNOSUPPORT),
        None => Err(libc::EINVAL),
    }
}

/// Whether an address means the machine itself wherever it is used: loopback, or none.
fn is_local(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

/// The host's `localhost` that an address means; `None`: another address of its loopback.
fn host_loopback(address: SocketAddr) -> Option<SocketAddr> {
    let ip = match address.ip().to_canonical() {
        IpAddr::V4(Ipv4Addr::LOCALHOST | Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::LOCALHOST | Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, address.port()))
}

fn first_unprivileged_port() -> u16 {
    let setting = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let read =
        || -> io::Result<Option<u16>> { Ok(std::fs::read_to_string(setting)?.trim().parse().ok()) };
    read().ok().flatten().unwrap_or(1024)
}

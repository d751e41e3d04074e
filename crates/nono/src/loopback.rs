//! What crosses between a sandbox's loopback and the host's: services of the host that commands may
//! reach, and servers of commands that the host reaches.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use nono_init::protocol as p;

use crate::capabilities::Network;
use crate::plan::Listener;
use crate::policy::Policy;
use crate::relay::{Doors, Way};
use crate::sandbox::Inner;
use crate::supervisor::{Diagnosis, Servers};
use crate::tier::TierName;

/// A sandbox's doors, and the ports of the host at which its servers are found, by their own.
pub(crate) struct Loopback {
    pub(crate) doors: Doors,
    pub(crate) published: BTreeMap<u16, u16>,
}

/// Opens them. `localhost`: listeners inside that stand for services of the host. `servers`: those of
/// a sandbox without a network of its own.
pub(crate) fn open(
    policy: &Policy,
    tier: TierName,
    inner: &Arc<Inner>,
    localhost: Vec<(Listener, OwnedFd)>,
    servers: Option<Arc<Servers>>,
) -> io::Result<Loopback> {
    let doors = Doors::none();
    for (Listener { port, family, .. }, socket) in localhost {
        let mut services = [v4(port), v6(port)];
        if family == 6 {
            services.reverse();
        }
        doors.open(socket, Way::Here(services))?;
    }
    let mut published = BTreeMap::new();
    for port in policy.publish.iter().copied() {
        if policy.network == Network::Open {
            published.insert(port, port); // it is the host's own network
            continue;
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        published.insert(port, listener.local_addr()?.port());
        let way = match (tier, &servers) {
            (TierName::Flat, Some(servers)) => home(servers.clone(), port)?,
            _ => inside(Arc::downgrade(inner), port),
        };
        doors.open(listener.into(), way)?;
    }
    Ok(Loopback { doors, published })
}

/// To a server in the sandbox's network namespace, by sockets that `nono-init` makes there.
fn inside(inner: Weak<Inner>, port: u16) -> Way {
    let ask = move |door| {
        let request = p::Request { kind: p::MAKE_SOCKETS, id: door, signal: 0 };
        // The relay serves other sandboxes, too, and does not wait for one whose init is held up.
        inner.upgrade().is_some_and(|inner| inner.channel.send_at_once(&request).is_ok())
    };
    Way::There([v4(port), v6(port)], Box::new(ask))
}

/// To a server at the sandbox's own address.
fn home(servers: Arc<Servers>, port: u16) -> io::Result<Way> {
    let there = SocketAddr::from((servers.home, port));
    let diagnosis = Diagnosis::open()?;
    Ok(Way::If(there, Box::new(move || servers.are_reached(port, &diagnosis))))
}

fn v4(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn v6(port: u16) -> SocketAddr {
    (Ipv6Addr::LOCALHOST, port).into()
}

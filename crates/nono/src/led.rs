//! The owner's side of a network that the supervisor leads: sockets of the host's loopback for the
//! gate, and the table that says where each connection was meant to go.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use crate::capabilities::Network;
use crate::gate::{Destinations, GateListener, listen_on_loopback};
use crate::policy::Policy;
use crate::supervisor::{Gate, Internet, Led, Servers};

/// What is made of it for others.
pub(crate) struct LedNetwork {
    /// For the gate.
    pub(crate) listeners: Vec<GateListener>,
    pub(crate) destinations: Option<Arc<Destinations>>,
    pub(crate) servers: Arc<Servers>,
}

/// Makes what the supervisor needs to lead, and what goes with it.
pub(crate) fn lead(policy: &Policy) -> io::Result<(Internet, LedNetwork)> {
    let servers = Arc::new(Servers::new());
    let mut network =
        LedNetwork { listeners: Vec::new(), destinations: None, servers: servers.clone() };
    let gate = match &policy.network {
        Network::Gate { ports } => Some(make_gate(ports, &mut network)?),
        _ => None,
    };
    let led = Led { servers, gate, localhost: policy.localhost_ports.clone() };
    Ok((Internet::Led(Box::new(led)), network))
}

fn make_gate(ports: &[u16], network: &mut LedNetwork) -> io::Result<Gate> {
    let (connections, dns) = (listen_on_loopback()?, listen_on_loopback()?);
    let destinations = Arc::new(Destinations::new(network.servers.home));
    let gate = Gate {
        connections: connections.local_addr()?,
        dns: dns.local_addr()?,
        ports: ports.iter().copied().collect(),
        destinations: destinations.clone(),
        _held: [connections.try_clone()?.into(), dns.try_clone()?.into()],
    };
    network.destinations = Some(destinations);
    let listener = |socket: TcpListener, port, dns| {
        let fd = socket.into();
        GateListener { port, family: 4, stream: true, dns, fd }
    };
    network.listeners = vec![
        listener(connections, gate.connections.port(), false),
        listener(dns, gate.dns.port(), true),
    ];
    Ok(gate)
}

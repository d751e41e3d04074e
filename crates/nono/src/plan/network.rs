//! The sandbox's private network: its only listeners are sockets born here and served from outside.
//! With a gate, loopback owns every address.

use std::net::Ipv4Addr;

use nono_init::protocol::{self as p, Step};

use super::PlanBuilder;
use crate::capabilities::Network;
use crate::policy::Policy;

/// A socket that is born inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) port: u16,
    pub(crate) family: u8,
    pub(crate) stream: bool,
    pub(crate) purpose: Purpose,
}

/// Who serves a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The gate.
    Connections,
    /// The gate.
    Dns,
    /// The host's service on the same port of its loopback.
    Localhost,
}

/// The address of a machine that has none (RFC 7600, section 4.8). With 127.0.0.1 alone, resolvers that
/// are asked for what can be reached (`AI_ADDRCONFIG`, `getaddrinfo(3)`) find no IPv4 address at all.
const DUMMY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

const STREAM: u32 = 1;
const DATAGRAM: u32 = 2;

/// Adds the steps; returns what the sockets in the answer will be, in order.
pub(super) fn plan(builder: &mut PlanBuilder, policy: &Policy) -> Vec<Listener> {
    if !policy.mediates_network() {
        return Vec::new();
    }
    builder.step(
        "bringing the private loopback device up",
        Step { op: p::STEP_LOOPBACK_UP, ..Step::default() },
    );
    if matches!(policy.network, Network::Gate { .. }) {
        let flags = u32::from_ne_bytes(DUMMY.octets()).into();
        builder.step(
            "giving the private loopback device an address",
            Step { op: p::STEP_ADDRESS, flags, ..Step::default() },
        );
    }
    let mut listeners = Vec::new();
    for family in [4u8, 6] {
        if family == 6 && !std::path::Path::new("/proc/net/if_inet6").exists() {
            continue; // a kernel without IPv6: no program can make such a socket either
        }
        for listener in listeners_of(policy, family) {
            // The loopback address precedes every address.
            let shared = listeners_of(policy, family)
                .filter(|other| listener.stream && other.stream && other.port == listener.port);
            builder.listen(&listener, shared.count() > 1);
            listeners.push(listener);
        }
        if matches!(policy.network, Network::Gate { .. }) {
            builder.step(
                format!("making every IPv{family} address local"),
                Step { op: p::STEP_LOCAL_ROUTE, flags: family.into(), ..Step::default() },
            );
        }
    }
    listeners
}

fn listeners_of(policy: &Policy, family: u8) -> impl Iterator<Item = Listener> {
    let listener = move |port, stream, purpose| Listener { port, family, stream, purpose };
    let (has_gate, ports) = match &policy.network {
        Network::Gate { ports } => (true, ports.as_slice()),
        _ => (false, [].as_slice()),
    };
    let dns = [listener(53, true, Purpose::Dns), listener(53, false, Purpose::Dns)];
    let connections = ports.iter().map(move |port| listener(*port, true, Purpose::Connections));
    let localhost =
        policy.localhost_ports.iter().map(move |port| listener(*port, true, Purpose::Localhost));
    dns.into_iter().filter(move |_| has_gate).chain(connections).chain(localhost)
}

impl PlanBuilder {
    fn listen(&mut self, listener: &Listener, shared: bool) {
        let Listener { port, family, stream, purpose } = *listener;
        let (place, loopback) = match purpose {
            Purpose::Localhost => ("the loopback address", p::LISTEN_ON_LOOPBACK),
            _ => ("every address", 0),
        };
        self.step(
            format!("listening on port {port} of {place} of IPv{family}"),
            Step {
                op: p::STEP_LISTEN,
                kind: family.into(),
                data: if stream { STREAM } else { DATAGRAM },
                flags: u64::from(port),
                extra: loopback | if shared { p::LISTEN_SHARED } else { 0 },
                ..Step::default()
            },
        );
    }
}

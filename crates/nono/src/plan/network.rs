//! The sandbox's private network: loopback owns every address, and the only listeners are sockets
//! born here and served by the gate outside.

use nono_init::protocol::{self as p, Step};

use super::PlanBuilder;
use crate::capabilities::Network;

/// A socket that is born inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    pub(crate) port: u16,
    pub(crate) family: u8,
    pub(crate) stream: bool,
    pub(crate) dns: bool,
}

const STREAM: u32 = 1;
const DATAGRAM: u32 = 2;

/// Adds the steps; returns what the sockets in the answer will be, in order.
pub(super) fn plan(builder: &mut PlanBuilder, network: &Network) -> Vec<Listener> {
    let Network::Gate { ports } = network else { return Vec::new() };
    builder.step(
        "bringing the private loopback device up",
        Step { op: p::STEP_LOOPBACK_UP, ..Step::default() },
    );
    let mut listeners = Vec::new();
    for family in [4u8, 6] {
        if family == 6 && !std::path::Path::new("/proc/net/if_inet6").exists() {
            continue; // a kernel without IPv6: no program can make such a socket either
        }
        builder.step(
            format!("making every IPv{family} address local"),
            Step { op: p::STEP_LOCAL_ROUTE, flags: family.into(), ..Step::default() },
        );
        let dns = [(53, STREAM, true), (53, DATAGRAM, true)];
        let connections = ports.iter().map(|port| (*port, STREAM, false));
        for (port, kind, dns) in dns.into_iter().chain(connections) {
            builder.step(
                format!("listening on port {port} of every IPv{family} address"),
                Step {
                    op: p::STEP_LISTEN,
                    kind: family.into(),
                    data: kind,
                    flags: u64::from(port),
                    ..Step::default()
                },
            );
            listeners.push(Listener { port, family, stream: kind == STREAM, dns });
        }
    }
    listeners
}

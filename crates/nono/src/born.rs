//! What a sandbox's network brought forth, sorted by who is to have it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::gate::{Destinations, GateListener};
use crate::led::LedNetwork;
use crate::plan::{Listener, Purpose};
use crate::supervisor::Servers;

/// Sockets and tables of one sandbox.
#[derive(Default)]
pub(crate) struct Born {
    /// For the gate.
    pub(crate) gate: Vec<GateListener>,
    /// Where connections to the gate were meant to go, unless their own addresses say it.
    pub(crate) destinations: Option<Arc<Destinations>>,
    /// Listeners inside that stand for services of the host.
    pub(crate) localhost: Vec<(Listener, OwnedFd)>,
    /// What listens at the sandbox's own address, if it has no network of its own.
    pub(crate) servers: Option<Arc<Servers>>,
}

impl Born {
    pub(crate) fn sort(inside: Vec<(Listener, OwnedFd)>, led: Option<LedNetwork>) -> Self {
        let mut born = Born::default();
        if let Some(led) = led {
            born.gate = led.listeners;
            born.destinations = led.destinations;
            born.servers = Some(led.servers);
        }
        for (listener, fd) in inside {
            let Listener { port, family, stream, purpose } = listener;
            match purpose {
                Purpose::Localhost => born.localhost.push((listener, fd)),
                Purpose::Connections | Purpose::Dns => {
                    let dns = purpose == Purpose::Dns;
                    born.gate.push(GateListener { port, family, stream, dns, fd });
                }
            }
        }
        born
    }
}

//! From connections to what is told: each service's round trips by client network.
//!
//! A connection belongs to the service that declares its local address, else to the first one on its
//! port: behind a NAT the declared address is not the machine's. A service declared on loopback has
//! only its own, since several nodes may share a machine there (the demo's do).
//!
//! Peers on loopback or link-local addresses, and the machine itself, are nobody's users: what is
//! timed of them are checks and proxies beside the service. They count only for a service on
//! loopback.

use super::message::Connection;
use crate::process::Key;
use ipnet::IpNet;
use nearmost_config::Service;
use nearmost_core::registry::MirrorAddress;
use nearmost_core::rtt::Coarseness;
use nearmost_wire::agent::ToBroker;
use nearmost_wire::paths::{MAX_SAMPLES, PathSample};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Connections that one reading looks at; each takes a few bytes until it ends.
const MAX_CONNECTIONS: usize = 1 << 18;

/// A service whose connections are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Domain it mirrors.
    pub domain: String,
    /// The mirror's name.
    pub mirror: String,
    /// Its port.
    pub port: u16,
    /// Its declared addresses; none when it is found in another way.
    pub addresses: Vec<IpAddr>,
}

impl Watched {
    /// The services of a configuration.
    pub fn all(services: &[Service]) -> Vec<Watched> {
        let watched = |s: &Service| Watched {
            domain: s.domain.clone(),
            mirror: s.mirror.clone(),
            port: s.port,
            addresses: match s.address {
                MirrorAddress::Declared { v4, v6 } => {
                    v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6)).collect()
                }
                MirrorAddress::Hostname(_) | MirrorAddress::Observed => Vec::new(),
            },
        };
        services.iter().map(watched).collect()
    }

    /// Whether it is declared on loopback, as in the demo.
    pub fn on_loopback(&self) -> bool {
        self.addresses.iter().any(|a| a.to_canonical().is_loopback())
    }

    /// Whether the peer of a connection may be one of its users.
    fn serves(&self, c: &Connection) -> bool {
        self.on_loopback() || !(c.peer.is_loopback() || link_local(c.peer) || c.peer == c.local.ip())
    }
}

/// Whether an address means something on its link only.
pub fn link_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// What was read at one time; told to every broker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// One entry a service that has samples.
    pub services: Vec<ServicePaths>,
    /// Connections that the samples stand for.
    pub connections: u64,
    /// Connections beyond what one reading looks at.
    pub unread: u64,
    /// Networks beyond what is told of a service.
    pub left_out: u64,
}

/// The round trips of one service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServicePaths {
    /// Domain it mirrors.
    pub domain: String,
    /// The mirror's name.
    pub mirror: String,
    /// One a network; those with most connections first.
    pub samples: Vec<PathSample>,
}

/// A reading that is under way.
pub struct Aggregate<'a> {
    services: &'a [Watched],
    coarseness: Coarseness,
    /// Round trips in microseconds, by position of the service and by network.
    seen: BTreeMap<(usize, IpNet), Vec<u32>>,
    room: usize,
    unread: u64,
}

impl<'a> Aggregate<'a> {
    /// Nothing read yet.
    pub fn new(services: &'a [Watched], coarseness: Coarseness) -> Aggregate<'a> {
        Aggregate { services, coarseness, seen: BTreeMap::new(), room: MAX_CONNECTIONS, unread: 0 }
    }

    /// Adds a connection, if it is one of a service's users' and was timed.
    pub fn add(&mut self, c: &Connection) {
        let Some(service) = self.owner(c).filter(|i| c.rtt_us > 0 && self.services[*i].serves(c)) else {
            return;
        };
        self.count(service, c.peer, c.rtt_us);
    }

    /// Adds a session of the ingress, if its client may be one of the service's users.
    pub fn add_session(&mut self, of: &Key, peer: IpAddr, rtt_us: u32) {
        let at = self.services.iter().position(|w| (&w.domain, &w.mirror) == (&of.0, &of.1));
        let user = |w: &Watched| {
            w.on_loopback() || !(peer.is_loopback() || link_local(peer) || w.addresses.contains(&peer))
        };
        if let Some(service) = at.filter(|i| rtt_us > 0 && user(&self.services[*i])) {
            self.count(service, peer, rtt_us);
        }
    }

    fn count(&mut self, service: usize, peer: IpAddr, rtt_us: u32) {
        let Some(room) = self.room.checked_sub(1) else {
            self.unread += 1;
            return;
        };
        self.room = room;
        let network = self.coarseness.network(peer);
        self.seen.entry((service, network)).or_default().push(rtt_us);
    }

    /// Position of the service that a connection belongs to.
    fn owner(&self, c: &Connection) -> Option<usize> {
        let on_port = |w: &Watched| w.port == c.local.port();
        let declared = self.services.iter().position(|w| on_port(w) && w.addresses.contains(&c.local.ip()));
        declared.or_else(|| self.services.iter().position(|w| on_port(w) && !w.on_loopback()))
    }

    /// What is told: at most so many networks of each service.
    pub fn finish(self, max_networks: usize) -> Reading {
        let mut by_service: BTreeMap<usize, Vec<PathSample>> = BTreeMap::new();
        for ((service, network), mut rtts) in self.seen {
            let connections = u32::try_from(rtts.len()).unwrap_or(u32::MAX);
            let sample = PathSample { network, rtt_us: median(&mut rtts), connections };
            by_service.entry(service).or_default().push(sample);
        }
        let mut reading = Reading { unread: self.unread, ..Reading::default() };
        for (service, mut samples) in by_service {
            samples.sort_by_key(|s| std::cmp::Reverse(s.connections));
            reading.left_out += samples.len().saturating_sub(max_networks) as u64;
            samples.truncate(max_networks);
            reading.connections += samples.iter().map(|s| u64::from(s.connections)).sum::<u64>();
            let Watched { domain, mirror, .. } = &self.services[service];
            reading.services.push(ServicePaths { domain: domain.clone(), mirror: mirror.clone(), samples });
        }
        reading
    }
}

/// The middle one, or the lower of two; 0 of none.
fn median(values: &mut [u32]) -> u32 {
    match values.len().checked_sub(1) {
        Some(last) => *values.select_nth_unstable(last / 2).1,
        None => 0,
    }
}

/// A reading on its way to one broker, message by message.
#[derive(Default)]
pub struct Telling {
    reading: Arc<Reading>,
    service: usize,
    from: usize,
}

impl Telling {
    /// Nothing told yet.
    pub fn new(reading: Arc<Reading>) -> Telling {
        Telling { reading, service: 0, from: 0 }
    }

    /// Networks that are still to be told.
    pub fn left(&self) -> usize {
        let services = self.reading.services.iter().skip(self.service);
        services.map(|s| s.samples.len()).sum::<usize>().saturating_sub(self.from)
    }

    /// The next message; none when all is told.
    pub fn next_message(&mut self) -> Option<ToBroker> {
        let service = self.reading.services.get(self.service)?;
        let until = service.samples.len().min(self.from + MAX_SAMPLES);
        let samples = service.samples.get(self.from..until)?.to_vec();
        let message =
            ToBroker::Paths { domain: service.domain.clone(), mirror: service.mirror.clone(), samples };
        self.from = until;
        if until == service.samples.len() {
            (self.service, self.from) = (self.service + 1, 0);
        }
        Some(message)
    }
}

#[cfg(test)]
#[path = "aggregate_tests.rs"]
mod tests;

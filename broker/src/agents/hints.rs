//! What agents say of round trips, made into lessons. Whatever is not plausible is left out and
//! counted; nothing here ends a session.

use super::orders::Order;
use crate::learning::{LearnHandle, Lesson};
use crate::steering::{Demand, DemandHandle, Seen};
use crate::telemetry::PathMetrics;
use ipnet::IpNet;
use nearmost_core::id::NodeId;
use nearmost_core::registry::Registry;
use nearmost_core::rtt::{Coarseness, Observation, Source, Target};
use nearmost_wire::paths::{Measurement, PathSample, V4_LENGTHS, V6_LENGTHS};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A round trip that takes longer is none: twice around the Earth over satellites is a second.
const LONGEST: Duration = Duration::from_secs(10);

/// What is taught by agents' sessions.
#[derive(Clone)]
pub struct Hints {
    learn: LearnHandle,
    demand: DemandHandle,
    /// Counters.
    pub metrics: PathMetrics,
    /// The broker, as who measured its own sessions.
    broker: u64,
}

/// Who measured, as observations have it. Nodes and brokers are told apart by the role.
fn reporter(role: &str, key: &[u8; 32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (role, key).hash(&mut hasher);
    hasher.finish()
}

impl Hints {
    /// Lessons go to `learn`, where users are to `demand`; `broker` is this broker's key.
    pub fn new(learn: LearnHandle, demand: DemandHandle, metrics: PathMetrics, broker: &[u8; 32]) -> Hints {
        Hints { learn, demand, metrics, broker: reporter("broker", broker) }
    }

    /// A node tells of one of its mirrors.
    pub fn paths(&self, node: NodeId, registry: &Registry, mirror: (&str, &str), samples: &[PathSample]) {
        let count = |result, n: usize| self.metrics.samples.with_label_values(&[result]).inc_by(n as u64);
        if !runs(node, registry, mirror) {
            count("mirror", samples.len());
            return;
        }
        let (domain, name): (Arc<str>, Arc<str>) = (mirror.0.into(), mirror.1.into());
        let mut taken = Vec::with_capacity(samples.len());
        for sample in samples {
            match plausible(sample) {
                Ok(rtt_ms) => {
                    let users = sample.connections.max(1);
                    self.demand.tell(Demand {
                        domain: domain.clone(),
                        mirror: Some(name.clone()),
                        addr: sample.network.addr(),
                        users: users as f32,
                        rtt_ms: Some(rtt_ms),
                        seen: Seen::Connections,
                    });
                    taken.push(Observation {
                        network: sample.network,
                        target: Target::Node(node),
                        rtt_ms,
                        source: Source::Connections,
                        reporter: reporter("node", &node.0),
                        users,
                    });
                }
                Err(result) => count(result, 1),
            }
        }
        count("taken", taken.len());
        if !taken.is_empty() {
            self.learn.teach(Lesson::Observed(taken));
        }
    }

    /// So many samples came too fast.
    pub fn too_fast(&self, samples: usize) {
        self.metrics.samples.with_label_values(&["rate"]).inc_by(samples as u64);
    }

    /// A node answers an order, if there was such an order. Whoever measures a loopback address measures
    /// its own machine, which says nothing of where a mirror is said to be: so trials on one machine
    /// keep the places that were given.
    pub fn measured(&self, node: NodeId, order: Option<Order>, result: &Measurement) {
        let rtt = result.rtt_us.map(|us| Duration::from_micros(us.into()));
        let label = match (order, rtt) {
            (None, _) => "unknown",
            (Some(_), None) => "failed",
            (Some(_), Some(rtt)) if rtt.is_zero() || rtt > LONGEST => "absurd",
            (Some(order), Some(_)) if order.at.ip().to_canonical().is_loopback() => "loopback",
            (Some(order), Some(rtt)) => {
                let (from, to) = (Target::Node(node), order.target);
                self.learn.teach(Lesson::Between { from, to, rtt_ms: millis(rtt) });
                "measured"
            }
        };
        self.metrics.results.with_label_values(&[label]).inc();
    }

    /// The estimate of a node's own session, which goes from `remote` to our address `local`.
    pub fn session(&self, node: NodeId, local: Option<IpAddr>, remote: IpAddr, rtt: Duration) {
        let label = match place_of(local, remote) {
            Err(label) => label,
            Ok(_) if rtt.is_zero() || rtt > LONGEST => "absurd",
            Ok(local) => {
                self.learn.teach(Lesson::Observed(vec![Observation {
                    network: Coarseness::default().network(local),
                    target: Target::Node(node),
                    rtt_ms: millis(rtt),
                    source: Source::Quic,
                    reporter: self.broker,
                    users: 1,
                }]));
                "taken"
            }
        };
        self.metrics.sessions.with_label_values(&[label]).inc();
    }
}

fn millis(rtt: Duration) -> f32 {
    rtt.as_secs_f32() * 1000.0
}

/// Whether a node runs a mirror, given as domain and name.
fn runs(node: NodeId, registry: &Registry, (domain, mirror): (&str, &str)) -> bool {
    let index = registry.find_domain(domain).and_then(|d| registry.find_mirror(d, mirror));
    let of = index.and_then(|i| registry.mirror(i).node);
    of.is_some() && of == registry.node_by_id.get(&node).copied()
}

/// The sample's milliseconds, or what is wrong with it.
fn plausible(sample: &PathSample) -> Result<f32, &'static str> {
    let (network, length) = (sample.network.network(), sample.network.prefix_len());
    let lengths = match sample.network {
        IpNet::V4(_) => V4_LENGTHS,
        IpNet::V6(_) => V6_LENGTHS,
    };
    // An IPv4 client has one network, not one more within IPv6.
    let mapped = network.to_canonical() != network;
    if !lengths.contains(&length) || network.is_multicast() || network.is_unspecified() || mapped {
        return Err("network");
    }
    let rtt = Duration::from_micros(sample.rtt_us.into());
    match rtt.is_zero() || rtt > LONGEST {
        true => Err("rtt"),
        false => Ok(millis(rtt)),
    }
}

/// Our address on a session, if it says where we are as a client would be.
fn place_of(local: Option<IpAddr>, remote: IpAddr) -> Result<IpAddr, &'static str> {
    let local = local.filter(|l| !l.is_unspecified()).ok_or("address")?.to_canonical();
    // A proxy or a tunnel of this machine's stands between.
    match local.is_loopback() && !remote.to_canonical().is_loopback() {
        true => Err("loopback"),
        false => Ok(local),
    }
}

#[cfg(test)]
#[path = "hints_tests.rs"]
mod tests;

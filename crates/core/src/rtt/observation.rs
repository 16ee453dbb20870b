//! One measured round trip, whoever measured it.

use crate::id::NodeId;
use crate::registry::{MirrorAddress, MirrorIndex, Registry};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;

/// What a round trip was measured to. Mirrors that one node runs share what is measured to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "StoredTarget", into = "StoredTarget")]
pub enum Target {
    /// A machine with an agent.
    Node(NodeId),
    /// A machine without one, by its address (IPv4 where it has both).
    Address(IpAddr),
    /// A mirror of which neither is known.
    Mirror {
        /// The domain's name.
        domain: Arc<str>,
        /// The mirror's name.
        mirror: Arc<str>,
    },
}

/// A target as it is kept.
#[derive(Serialize, Deserialize)]
enum StoredTarget {
    Node([u8; 32]),
    Address(IpAddr),
    Mirror(String, String),
}

impl From<StoredTarget> for Target {
    fn from(stored: StoredTarget) -> Target {
        match stored {
            StoredTarget::Node(key) => Target::Node(NodeId(key)),
            StoredTarget::Address(addr) => Target::Address(addr),
            StoredTarget::Mirror(domain, mirror) => {
                Target::Mirror { domain: domain.into(), mirror: mirror.into() }
            }
        }
    }
}

impl From<Target> for StoredTarget {
    fn from(target: Target) -> StoredTarget {
        match target {
            Target::Node(id) => StoredTarget::Node(id.0),
            Target::Address(addr) => StoredTarget::Address(addr),
            Target::Mirror { domain, mirror } => StoredTarget::Mirror(domain.to_string(), mirror.to_string()),
        }
    }
}

impl Target {
    /// What is measured when a mirror is measured.
    pub fn of(registry: &Registry, index: MirrorIndex) -> Target {
        let mirror = registry.mirror(index);
        let node = mirror.node.and_then(|n| registry.nodes.get(n.0 as usize)?.id);
        match (node, &mirror.address) {
            (Some(id), _) => Target::Node(id),
            (None, MirrorAddress::Declared { v4: Some(v4), .. }) => Target::Address(IpAddr::V4(*v4)),
            (None, MirrorAddress::Declared { v6: Some(v6), .. }) => Target::Address(IpAddr::V6(*v6)),
            _ => {
                let domain = registry.domain(mirror.domain).name.clone();
                Target::Mirror { domain, mirror: mirror.name.clone() }
            }
        }
    }
}

/// How a round trip was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Source {
    /// A client timed it and said so.
    Client,
    /// An agent read it off established connections of its service (`TCP_INFO`).
    Connections,
    /// A QUIC connection's own estimate.
    Quic,
    /// One node probed another.
    Probe,
}

impl Source {
    /// All, in the order of their discriminants.
    pub const ALL: [Source; 4] = [Source::Client, Source::Connections, Source::Quic, Source::Probe];

    /// Label for metrics and people.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Client => "client",
            Source::Connections => "connections",
            Source::Quic => "quic",
            Source::Probe => "probe",
        }
    }
}

/// One measured round trip between a client network and a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Where the client is: see [`Coarseness::network`].
    pub network: IpNet,
    /// Where it measured to.
    pub target: Target,
    /// Milliseconds.
    pub rtt_ms: f32,
    /// How.
    pub source: Source,
    /// Who measured it, as a hash: a reporter has one vote in each window.
    pub reporter: u64,
    /// How many users it stands for, as far as is known; at least 1.
    pub users: u32,
}

/// How coarse client networks are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coarseness {
    /// Prefix length of IPv4 networks, at most 24.
    pub v4: u8,
    /// Prefix length of IPv6 networks, at most 48.
    pub v6: u8,
}

impl Default for Coarseness {
    fn default() -> Self {
        Coarseness { v4: 24, v6: 48 }
    }
}

impl Coarseness {
    /// The network of an address; IPv4-mapped addresses are IPv4.
    pub fn network(self, addr: IpAddr) -> IpNet {
        match addr.to_canonical() {
            IpAddr::V4(a) => IpNet::V4(Ipv4Net::new(a, self.v4.min(24)).unwrap_or(a.into()).trunc()),
            IpAddr::V6(a) => IpNet::V6(Ipv6Net::new(a, self.v6.min(48)).unwrap_or(a.into()).trunc()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_as_coarse_as_told_and_never_finer() {
        let at = |addr: &str, v4, v6| Coarseness { v4, v6 }.network(addr.parse().unwrap()).to_string();
        assert_eq!(at("192.0.2.77", 24, 48), "192.0.2.0/24");
        assert_eq!(at("192.0.2.77", 32, 128), "192.0.2.0/24");
        assert_eq!(at("192.0.2.77", 16, 48), "192.0.0.0/16");
        assert_eq!(at("::ffff:192.0.2.77", 24, 48), "192.0.2.0/24");
        assert_eq!(at("2001:db8:1:2::3", 24, 48), "2001:db8:1::/48");
    }
}

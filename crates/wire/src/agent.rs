//! The messages between an agent and a broker.
//!
//! The agent opens one bidirectional stream after the handshake and speaks first: [`ToBroker::Join`]
//! once in its life, [`ToBroker::Hello`] at every later session. Refusals close the connection with
//! a [`Refusal`] as the QUIC application error code and a sentence as the reason.
//!
//! ```text
//! agent                               broker
//!   | -- Join{secret,name} ----------->  |   token redeemed, node recorded
//!   | <-- Joined{name,domains} --------  |
//!
//!   | -- Hello{boot,services} -------->  |   key known, not revoked
//!   | <-- Welcome{beacon,observed} ----  |
//!   | -- Report{seq,…} --------------->  |   on change and every 5 s
//!   | <-- Ack{seq} --------------------  |   the report is in the snapshot
//!   | <-- Beacon{grant} ---------------  |   new key epoch or period
//!   | -- Paths{mirror,samples} ------->  |   read off the service's connections, every 30 s
//!   | <-- Measure{orders} -------------  |   a few an hour and node
//!   | -- Measured{results} ----------->  |   one result an order
//!   | <-- Witness{orders} -------------  |   while another node's mirror is suspected
//!   | -- Witnessed{results} ---------->  |   one result an order, each as soon as it is known
//!   | -- Goodbye --------------------->  |
//! ```
//!
//! On a unidirectional stream of its own the broker tells what it concludes of the node's mirrors, for the
//! node's operator ([`crate::standing`]).
//!
//! Paths and everything on orders are hints: whoever has no room for one drops it, and nobody waits
//! for an answer longer than the order itself says.

use crate::beacon::BeaconSecret;
use crate::paths::{self, MeasureOrder, Measurement, PathSample};
use crate::registry::{PlaceBody, ProbeBody};
use crate::witness::{self, WitnessOrder, WitnessResult};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

/// From an agent to a broker.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub enum ToBroker {
    /// Redeem an invitation; the node's key is the connection's.
    Join {
        /// The token's secret.
        secret: [u8; 16],
        /// The name the operator wants, if the invitation names none.
        name: Option<String>,
    },
    /// Begin a session.
    Hello(Hello),
    /// What the agent knows of its services.
    Report(Report),
    /// The agent stops; its mirrors are out at once.
    Goodbye,
    /// Round trips between a mirror and its clients, by their networks. A reading may need several.
    Paths {
        /// Domain it mirrors.
        domain: String,
        /// Name of the mirror.
        mirror: String,
        /// At most [`paths::MAX_SAMPLES`].
        #[serde(deserialize_with = "paths::samples")]
        samples: Vec<PathSample>,
    },
    /// What became of the broker's orders.
    Measured {
        /// At most [`paths::MAX_ORDERS`].
        #[serde(deserialize_with = "paths::orders")]
        results: Vec<Measurement>,
    },
    /// What became of orders to probe other nodes' mirrors.
    Witnessed {
        /// At most [`witness::MAX_ORDERS`].
        #[serde(deserialize_with = "witness::orders")]
        results: Vec<WitnessResult>,
    },
}

/// Without the secret of an invitation, which whoever reads a log could redeem.
impl fmt::Debug for ToBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ToBroker::Join { name, .. } => f.debug_struct("Join").field("name", name).finish_non_exhaustive(),
            ToBroker::Hello(hello) => f.debug_tuple("Hello").field(hello).finish(),
            ToBroker::Report(report) => f.debug_tuple("Report").field(report).finish(),
            ToBroker::Goodbye => f.write_str("Goodbye"),
            ToBroker::Paths { domain, mirror, samples } => {
                let mut paths = f.debug_struct("Paths");
                paths.field("domain", domain).field("mirror", mirror).field("samples", samples).finish()
            }
            ToBroker::Measured { results } => f.debug_struct("Measured").field("results", results).finish(),
            ToBroker::Witnessed { results } => f.debug_struct("Witnessed").field("results", results).finish(),
        }
    }
}

/// From a broker to an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToAgent {
    /// The invitation was good; from now on the node is known by its key.
    Joined {
        /// The node's name.
        name: String,
        /// Domains it may mirror.
        domains: Vec<String>,
    },
    /// The session is on.
    Welcome {
        /// How to send beacons.
        beacon: BeaconGrant,
        /// The address the session comes from, as the broker sees it.
        observed: IpAddr,
        /// What is wrong with declared services, if anything; the others are served.
        warnings: Vec<String>,
    },
    /// New beacon key or period.
    Beacon(BeaconGrant),
    /// The report of this number is part of what queries read.
    Ack {
        /// [`Report::seq`].
        seq: u64,
    },
    /// Round trips to measure.
    Measure {
        /// At most [`paths::MAX_ORDERS`].
        #[serde(deserialize_with = "paths::orders")]
        orders: Vec<MeasureOrder>,
    },
    /// Other nodes' mirrors to probe, at once.
    Witness {
        /// At most [`witness::MAX_ORDERS`].
        #[serde(deserialize_with = "witness::orders")]
        orders: Vec<WitnessOrder>,
    },
}

/// Beginning of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Software version, for people.
    pub version: String,
    /// When the agent started, Unix milliseconds: the boot epoch of its beacons.
    pub boot: u64,
    /// What it serves.
    pub services: Vec<ServiceDecl>,
    /// Where the node is, if its operator says so.
    pub place: Option<PlaceBody>,
}

/// One service as its agent declares it; the registry's own entry, when a person made one, wins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceDecl {
    /// Domain it mirrors.
    pub domain: String,
    /// Name of the mirror within the domain.
    pub mirror: String,
    /// Declared addresses; with none and no host name, the observed one is used.
    pub addresses: Vec<IpAddr>,
    /// A host name to follow.
    pub hostname: Option<String>,
    /// Service port.
    pub port: u16,
    /// Share among near-equals.
    pub weight: u32,
    /// How brokers probe it from outside.
    pub probe: ProbeBody,
    /// Base URL for redirects.
    pub url: Option<String>,
    /// Port of the node's ingress, if it takes this service's clients in.
    pub ingress: Option<u16>,
}

/// How to send beacons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BeaconGrant {
    /// Key and tag.
    pub secret: BeaconSecret,
    /// UDP port on the address that the session goes to.
    pub port: u16,
    /// Time between two beacons, in milliseconds.
    pub period_ms: u32,
}

/// What an agent knows of its services: sent on change and every 5 s.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Counts up within a session; acknowledged.
    pub seq: u64,
    /// The agent drains: no new users.
    pub draining: bool,
    /// CPU in use on the machine, 0..=1.
    pub cpu: f32,
    /// Memory in use on the machine, 0..=1.
    pub memory: f32,
    /// One entry a service.
    pub services: Vec<ServiceReport>,
}

/// The state of one service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// Domain it mirrors.
    pub domain: String,
    /// Name of the mirror.
    pub mirror: String,
    /// All its checks pass.
    pub healthy: bool,
    /// It may take users (readiness, apart from health).
    pub ready: bool,
    /// Its process ended, or stands still, and no other one was seen to serve since. Never said of
    /// services whose process is not watched.
    pub stopped: bool,
    /// The first failing check and why, for people; at most 200 characters.
    pub problem: Option<String>,
    /// Established connections on its port.
    pub connections: u32,
    /// Connections that the operator declared it can carry; 0 when not declared.
    pub capacity: u32,
}

/// Why a broker ends a session, as the QUIC application error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The node's key is not in the registry.
    UnknownKey,
    /// The node was revoked.
    Revoked,
    /// No such token was made here.
    UnknownToken,
    /// The token's time is over.
    ExpiredToken,
    /// The token was used.
    UsedToken,
    /// The node's name is taken by another key, or not a name.
    BadName,
    /// A message could not be read.
    BadMessage,
    /// A message that does not fit the state of the session.
    OutOfOrder,
    /// The broker has no room for another session.
    Overloaded,
    /// The broker stops; try another, or this one later.
    Leaving,
    /// The same key began a newer session.
    Superseded,
    /// The broker cannot write to its store.
    Storage,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Refusal; 12] = [
        Refusal::UnknownKey,
        Refusal::Revoked,
        Refusal::UnknownToken,
        Refusal::ExpiredToken,
        Refusal::UsedToken,
        Refusal::BadName,
        Refusal::BadMessage,
        Refusal::OutOfOrder,
        Refusal::Overloaded,
        Refusal::Leaving,
        Refusal::Superseded,
        Refusal::Storage,
    ];

    /// The application error code.
    pub fn code(self) -> u32 {
        16 + self as u32
    }

    /// The refusal of a code.
    pub fn from_code(code: u64) -> Option<Refusal> {
        Refusal::ALL.into_iter().find(|r| u64::from(r.code()) == code)
    }

    /// A snake-case label for logs and counters.
    pub fn label(self) -> &'static str {
        match self {
            Refusal::UnknownKey => "unknown_key",
            Refusal::Revoked => "revoked",
            Refusal::UnknownToken => "unknown_token",
            Refusal::ExpiredToken => "expired_token",
            Refusal::UsedToken => "used_token",
            Refusal::BadName => "bad_name",
            Refusal::BadMessage => "bad_message",
            Refusal::OutOfOrder => "out_of_order",
            Refusal::Overloaded => "overloaded",
            Refusal::Leaving => "leaving",
            Refusal::Superseded => "superseded",
            Refusal::Storage => "storage",
        }
    }

    /// Whether trying again can help without anyone changing anything.
    pub fn retryable(self) -> bool {
        matches!(self, Refusal::Overloaded | Refusal::Leaving | Refusal::Storage | Refusal::Superseded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_of_an_invitation_is_not_printed() {
        let join = ToBroker::Join { secret: [0xab; 16], name: Some("lon".into()) };
        let said = format!("{join:?}");
        assert!(said.contains("lon") && !said.contains("171") && !said.contains("secret"), "{said}");
    }

    #[test]
    fn codes_are_distinct_and_come_back() {
        for r in Refusal::ALL {
            assert_eq!(Refusal::from_code(r.code().into()), Some(r));
        }
        assert_eq!(Refusal::from_code(0), None);
    }

    #[test]
    fn a_hello_round_trips_with_and_without_its_options() {
        let full =
            PlaceBody { latitude: Some(1.5), longitude: Some(-2.0), country: Some(*b"GB"), asn: Some(7) };
        let country = PlaceBody { country: Some(*b"BR"), ..PlaceBody::default() };
        for place in [None, Some(PlaceBody::default()), Some(country), Some(full)] {
            let service = ServiceDecl {
                domain: "play.example".into(),
                mirror: "lon".into(),
                addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
                hostname: None,
                port: 443,
                weight: 100,
                probe: ProbeBody { path: Some("/".into()), status: Some((200, 204)), ..ProbeBody::default() },
                url: place.map(|_| "https://lon.example/".into()),
                ingress: place.map(|_| 7850),
            };
            let hello = Hello { version: "0".into(), boot: 9, services: vec![service], place };
            let message = ToBroker::Hello(hello);
            let bytes = crate::frame::encode(&message).unwrap();
            assert_eq!(crate::frame::decode::<ToBroker>(&bytes[4..]).unwrap(), message);
        }
    }

    #[test]
    fn a_report_round_trips() {
        let service = ServiceReport {
            domain: "play.example".into(),
            mirror: "lon".into(),
            healthy: false,
            ready: true,
            stopped: true,
            problem: Some("tcp: refused".into()),
            connections: 3,
            capacity: 100,
        };
        let report = ToBroker::Report(Report {
            seq: 4,
            draining: true,
            cpu: 0.5,
            memory: 0.25,
            services: vec![service],
        });
        let bytes = crate::frame::encode(&report).unwrap();
        assert_eq!(crate::frame::decode::<ToBroker>(&bytes[4..]).unwrap(), report);
    }
}

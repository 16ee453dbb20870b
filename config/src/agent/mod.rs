//! The node agent's configuration as its subsystems take it; see the broker's for the rules.

mod apply;
mod check;
mod ingress;
mod kinds;
mod render;
pub(crate) mod spec;
#[cfg(test)]
mod tests;

pub use render::{JoinedAgent, JoinedBroker, JoinedService, render_agent_config};

use crate::error::ConfigError;
use crate::load::Layers;
use crate::log::LogConfig;
use nearmost_core::check::CheckSpec;
use nearmost_core::geo::Place;
use nearmost_core::registry::MirrorAddress;
use nearmost_core::rtt::Coarseness;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything a node agent is told.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentConfig {
    /// The node's key lives here.
    pub data_dir: PathBuf,
    /// What is logged, and how.
    pub log: LogConfig,
    /// The node itself.
    pub node: NodeConfig,
    /// The brokers it may talk to; empty until it joined.
    pub brokers: Vec<Broker>,
    /// Where metrics are served over HTTP; `None` when off.
    pub metrics: Option<SocketAddr>,
    /// Time between two reports when nothing changes.
    pub report_interval: Duration,
    /// Telling brokers of round trips.
    pub paths: PathsConfig,
    /// How long draining is announced before the agent leaves.
    pub drain_grace: Duration,
    /// Waiting between attempts to reach a broker.
    pub reconnect: ReconnectConfig,
    /// What the node serves.
    pub services: Vec<Service>,
}

/// The node itself.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeConfig {
    /// Its name at the brokers; empty for the one they know its key by.
    pub name: String,
    /// Where it is, if the operator says so.
    pub place: Option<Place>,
    /// Sessions with brokers kept at once.
    pub max_sessions: usize,
    /// Most orders a second by which brokers may have it probe other nodes' mirrors, all together; 0 for
    /// none at all.
    pub witnesses_per_second: u32,
    /// Taking clients in.
    pub ingress: IngressConfig,
}

/// Taking clients' sessions in and handing their flows to the services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressConfig {
    /// Whether it is done at all.
    pub enabled: bool,
    /// QUIC addresses; the tripwire listens on the same ports over TCP.
    pub listen: Vec<SocketAddr>,
    /// Who may connect.
    pub connections: IngressLimits,
    /// Most flows of all sessions, UDP and TCP together.
    pub max_flows: usize,
    /// Most flows of one session.
    pub max_session_flows: u32,
    /// Most tripwire connections.
    pub max_tripwires: usize,
}

/// Bounds on connections of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngressLimits {
    /// At once.
    pub most: usize,
    /// At once of one /24 or /48.
    pub most_a_network: usize,
    /// New ones a second.
    pub handshakes_per_second: u32,
}

/// A broker the agent may talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// `nb1…`; its form is checked, not whether it is a point of the curve.
    pub id: String,
    /// `host:port` each, at least one, tried in order.
    pub addresses: Vec<String>,
}

/// Telling brokers of round trips.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathsConfig {
    /// Read them off the established connections of the services.
    pub connections: bool,
    /// Time between two readings.
    pub interval: Duration,
    /// How coarse clients' networks are told.
    pub networks: Coarseness,
    /// Most networks told of one service and reading.
    pub max_networks: usize,
    /// Most measurements a second that brokers may order, all together; 0 for none at all.
    pub measures_per_second: u32,
}

/// Waiting between attempts to reach a broker: doubling from `min` to `max`, with jitter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReconnectConfig {
    /// After the first failure.
    pub min: Duration,
    /// At most.
    pub max: Duration,
}

/// One service of this node: a mirror of a domain.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// What it mirrors: lower case, no final dot.
    pub domain: String,
    /// The mirror's name; the node's unless given.
    pub mirror: String,
    /// Where users reach it.
    pub address: MirrorAddress,
    /// The port where users reach it.
    pub port: u16,
    /// How many users it gets.
    pub share: Share,
    /// Base URL for redirects; from address and port when absent.
    pub url: Option<String>,
    /// All of them must pass for the service to be healthy; empty only when the operator wants none:
    /// an entry that says nothing of checks has one by tcp.
    pub checks: Vec<ServiceCheck>,
    /// Must pass before the service gets users, as while it catches up on data.
    pub ready: Option<ServiceCheck>,
    /// What brokers should probe from outside.
    pub probe: ServiceProbe,
    /// How it runs on this machine.
    pub local: LocalService,
}

/// How a service runs on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalService {
    /// How its process is found, if that is to be watched.
    pub process: Option<ProcessSource>,
    /// Where the ingress hands clients' flows to.
    pub ingress: ServiceIngress,
}

/// Where the ingress hands clients' flows to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceIngress {
    /// UDP flows; `None` when the service takes none.
    pub udp: Option<SocketAddr>,
    /// TCP connections; `None` when the service takes none.
    pub tcp: Option<SocketAddr>,
    /// TCP connections begin with a PROXY protocol version 2 header.
    pub proxy_protocol: bool,
}

/// How many users a service gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Share among near-equals.
    pub weight: u32,
    /// How many users it can serve; 0 when not declared.
    pub capacity: u32,
}

/// How a service's process is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessSource {
    /// A file that begins with its number.
    PidFile(PathBuf),
    /// The oldest process of a unit of the system's systemd.
    SystemdUnit(String),
    /// The oldest process that runs a program.
    Exe(PathBuf),
}

/// A check that the agent makes of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceCheck {
    /// Unique within the service.
    pub name: String,
    /// What is checked; means nothing to a command.
    pub address: SocketAddr,
    /// How.
    pub spec: CheckSpec,
}

/// What brokers should probe from outside.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ServiceProbe {
    /// What they do by default.
    #[default]
    Default,
    /// Nothing: it cannot be reached from there.
    None,
    /// This; never a command.
    Check(CheckSpec),
}

impl AgentConfig {
    /// Reads the configuration: defaults, then the file, then those of `env` that start with
    /// `NEARMOST__` (see [`crate::process_env`]), then `overrides` (see [`crate::parse_setting`]).
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn load(
        path: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<AgentConfig, ConfigError> {
        AgentConfig::from_layers(&Layers::read(path, env, overrides)?)
    }

    pub(crate) fn from_layers(layers: &Layers) -> Result<AgentConfig, ConfigError> {
        let spec: spec::AgentSpec = layers.spec(spec::VERSION)?;
        apply::config(spec).map_err(|fault| layers.blame(fault))
    }
}

impl Default for Share {
    fn default() -> Self {
        Share { weight: 100, capacity: 0 }
    }
}

impl Default for AgentConfig {
    fn default() -> Self {
        AgentConfig {
            data_dir: PathBuf::from("/var/lib/nearmost-agent"),
            log: LogConfig::default(),
            node: NodeConfig::default(),
            brokers: Vec::new(),
            metrics: Some((Ipv4Addr::LOCALHOST, 9754).into()),
            report_interval: Duration::from_secs(5),
            paths: PathsConfig::default(),
            drain_grace: Duration::from_secs(5),
            reconnect: ReconnectConfig::default(),
            services: Vec::new(),
        }
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        NodeConfig {
            name: String::new(),
            place: None,
            max_sessions: 3,
            witnesses_per_second: 20,
            ingress: IngressConfig::default(),
        }
    }
}

impl Default for IngressConfig {
    fn default() -> Self {
        IngressConfig {
            enabled: false,
            listen: vec![(Ipv6Addr::UNSPECIFIED, 7850).into()],
            connections: IngressLimits { most: 16_384, most_a_network: 1024, handshakes_per_second: 500 },
            max_flows: 8192,
            max_session_flows: 256,
            max_tripwires: 16_384,
        }
    }
}

impl Default for PathsConfig {
    fn default() -> Self {
        PathsConfig {
            connections: true,
            interval: Duration::from_secs(30),
            networks: Coarseness::default(),
            max_networks: 4096,
            measures_per_second: 2,
        }
    }
}

impl Default for ReconnectConfig {
    fn default() -> Self {
        ReconnectConfig { min: Duration::from_millis(250), max: Duration::from_secs(30) }
    }
}

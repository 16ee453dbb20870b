//! The broker's configuration as its subsystems take it: one structure each, no version, no text
//! left to parse. The values of `Default` are the only place where defaults are written in code;
//! `broker.toml` repeats them for people and a test compares the two.

mod abuse;
mod apply;
mod caution;
mod dns;
mod dns_log;
mod dns_tls;
mod dns_xdp;
mod dnssec;
mod keeping;
mod metrics;
mod peers;
mod scope;
pub(crate) mod spec;
#[cfg(test)]
mod tests;

pub use abuse::{DnsCookieConfig, DnsIdentityConfig, DnsLimitsConfig};
pub use caution::CautionConfig;
pub use dns::{DnsConfig, DnsEdnsConfig, DnsTcpConfig, DnsUdpConfig, DnsZoneConfig, SoaConfig};
pub use dns_log::{ClientDetail, DnsLogConfig, JsonTarget};
pub use dns_tls::DnsTlsConfig;
pub use dns_xdp::{DnsXdpConfig, XdpMode};
pub use dnssec::DnssecConfig;
pub use keeping::{AuditConfig, EventsConfig};
pub use metrics::MetricsConfig;
pub use peers::{KnownPeer, PeerPaceConfig, PeerQueueConfig, PeersConfig};
pub use scope::Scope;

use crate::error::ConfigError;
use crate::given::Given;
use crate::load::Layers;
use crate::log::LogConfig;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nearmost_core::check::{CheckKind, CheckSpec};
use nearmost_core::geo::Place;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything a broker is told.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerConfig {
    /// Keys, registry and last verdicts live here.
    pub data_dir: PathBuf,
    /// Answering over DNS.
    pub dns: DnsConfig,
    /// Answering over HTTP.
    pub http: HttpConfig,
    /// Administration on this machine.
    pub admin: AdminConfig,
    /// Listening to node agents.
    pub agents: AgentsConfig,
    /// Listening to clients of users.
    pub clients: ClientsConfig,
    /// The other brokers of a federation.
    pub peers: PeersConfig,
    /// Where addresses are, and how far from each other.
    pub geo: GeoConfig,
    /// Keeping an eye on mirrors.
    pub mirrors: MirrorsConfig,
    /// What people are told of it.
    pub observing: ObservingConfig,
}

/// What people are told of a broker, and for how long.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObservingConfig {
    /// What is logged, and how.
    pub log: LogConfig,
    /// Keeping who did what.
    pub audit: AuditConfig,
    /// Keeping what became of mirrors.
    pub events: EventsConfig,
    /// What Prometheus is told.
    pub metrics: MetricsConfig,
}

/// Answering over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpConfig {
    /// Addresses of API, metrics and page; HTTPS when `tls` is set.
    pub listen: Vec<SocketAddr>,
    /// Addresses of plain HTTP that gives redirects and nothing else.
    pub redirect_listen: Vec<SocketAddr>,
    /// Certificate and key.
    pub tls: Option<TlsFiles>,
    /// Who may say on whose behalf it asks (`client=IP`, `X-Forwarded-For`).
    pub trusted_sources: Vec<IpNet>,
    /// Open connections, all together.
    pub max_connections: usize,
    /// Requests a second that one source address may make over time.
    pub requests_per_second: u32,
    /// Requests it may make at once after a pause.
    pub request_burst: u32,
    /// Who may use the API, by token.
    pub tokens: Vec<HttpToken>,
    /// Who may use the API, by key.
    pub persons: Vec<Person>,
}

/// Certificate and key of a TLS server, PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate with its chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A bearer token of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpToken {
    /// Whose it is, for logs.
    pub name: String,
    /// SHA-256 of the token's text; the token itself is not kept.
    pub sha256: [u8; 32],
    /// What its holder may do.
    pub scope: Scope,
}

/// A person whose key may use the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Who it is, for logs.
    pub name: String,
    /// `np1…`; its form is checked, not whether it is a point of the curve.
    pub id: String,
}

/// Administration on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// Unix socket; `admin.sock` in the data directory unless given.
    pub socket: PathBuf,
}

/// Listening to node agents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentsConfig {
    /// QUIC addresses.
    pub listen: Vec<SocketAddr>,
    /// Addresses of beacons: one or more, of one port.
    pub beacon_listen: Vec<SocketAddr>,
    /// What tokens tell agents to connect to, as `host:port`; `listen` itself unless given, without
    /// addresses that stand for all (`0.0.0.0`, `::`), so it can be empty.
    pub advertise: Vec<String>,
    /// Sessions held at once.
    pub max_sessions: usize,
    /// Handshakes under way at once.
    pub max_handshakes: usize,
    /// A handshake not done after this long is dropped.
    pub handshake_timeout: Duration,
}

/// Listening to clients of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientsConfig {
    /// QUIC addresses.
    pub listen: Vec<SocketAddr>,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once of one /24 or /48.
    pub max_per_network: usize,
    /// A handshake not done after this long is dropped.
    pub handshake_timeout: Duration,
    /// A connection without a message for this long is closed.
    pub idle_timeout: Duration,
    /// Messages a second that one connection may send over time; at least 1.
    pub messages_per_second: u32,
    /// Messages it may send at once after a pause.
    pub message_burst: u32,
    /// Time between two reports of round trips of one source, over HTTP and QUIC together; zero for
    /// no limit.
    pub report_interval: Duration,
    /// Reports it may make at once after a pause.
    pub report_burst: u32,
}

/// Where addresses are, and how far from each other.
#[derive(Clone, Debug, PartialEq)]
pub struct GeoConfig {
    /// Database files, the first that knows an address wins.
    pub databases: Vec<PathBuf>,
    /// Fall back on the built-in country database.
    pub embedded: bool,
    /// Reload a database when its file changes.
    pub watch: bool,
    /// Memory for cells of the map, in bytes.
    pub cell_memory: usize,
    /// The operator's corrections; they win, the longest prefix first.
    pub overrides: Vec<GeoOverride>,
    /// Learning round trips.
    pub learning: LearningConfig,
}

/// What an operator knows better than any database.
#[derive(Clone, Debug, PartialEq)]
pub struct GeoOverride {
    /// The addresses.
    pub prefix: IpNet,
    /// Where they are; at least one part is known.
    pub place: Place,
}

/// Concluding who is healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthConfig {
    /// Time between two beacons of an agent; at least 50 ms.
    pub beacon_period: Duration,
    /// This many missed beacons make a mirror suspect; at least 1.
    pub missed_for_suspect: u32,
    /// Time between two outside probes of a mirror that is up.
    pub reprobe_interval: Duration,
    /// The same while its agent is silent.
    pub unattended_reprobe: Duration,
    /// How many brokers of a federation probe each mirror as a matter of routine; at least 1.
    pub probe_vantages: u8,
    /// After a restart, last verdicts stand this long unconfirmed.
    pub resume_grace: Duration,
    /// How long a mirror is `warming` before it is `up`; may be zero.
    pub warm_up: Duration,
    /// How long each probe that corroborates a suspicion may take while it is not known how long answers
    /// usually take; after that it follows from what is usual.
    pub burst_timeout: Duration,
    /// Most of a core that taking in beacons may take, in percent; beyond it they are asked for less often.
    pub beacon_budget_percent: u8,
}

/// Looking at mirrors from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MirrorsConfig {
    /// Concluding who is healthy.
    pub health: HealthConfig,
    /// Acting on it.
    pub caution: CautionConfig,
    /// Probing them.
    pub probe: ProbeConfig,
    /// Following those given by host name.
    pub resolver: ResolverConfig,
    /// Sharing load out among them.
    pub spread: SpreadConfig,
}

/// Sharing load out among mirrors that declare a capacity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpreadConfig {
    /// Up to which share of its capacity a mirror is filled while others have room, in percent.
    pub high_water_percent: u8,
    /// How long a mirror that came back takes to get its whole share; may be zero.
    pub slow_start: Duration,
}

/// How mirrors are probed from outside where they do not say it themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeConfig {
    /// Time between the starts of two probes.
    pub interval: Duration,
    /// After this long an unanswered probe has failed.
    pub timeout: Duration,
    /// Successes in a row that make a failing mirror good; at least 1.
    pub rise: u8,
    /// Failures in a row that make a good mirror bad; at least 1.
    pub fall: u8,
    /// Probes under way at once; one that finds no room is not made, and tried again shortly.
    pub max_in_flight: usize,
}

/// Following mirrors given by host name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverConfig {
    /// DNS servers asked; the system's when empty.
    pub servers: Vec<SocketAddr>,
    /// A name is not asked again sooner, whatever its TTL.
    pub min_refresh: Duration,
    /// A name is asked again by then, whatever its TTL.
    pub max_refresh: Duration,
}

/// What is remembered of the networks that users are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworksConfig {
    /// Whether anything is learned of them; otherwise what they report is dropped.
    pub enabled: bool,
    /// Prefix length of IPv4 networks: how coarse they are kept.
    pub prefix_v4: u8,
    /// Prefix length of IPv6 networks.
    pub prefix_v6: u8,
    /// Most networks remembered; those heard of longest ago go.
    pub max: usize,
    /// What was not measured again for this long is forgotten.
    pub keep: Duration,
    /// Whether what was learned survives a restart, in the data directory.
    pub persist: bool,
    /// Least time from one fit of the model to the next.
    pub fit_interval: Duration,
}

/// Learning round trips.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LearningConfig {
    /// Remembering what client networks measured.
    pub networks: NetworksConfig,
    /// Each node measures each mirror once in this time, where the rates allow it.
    pub pair_interval: Duration,
    /// Most orders to one node a minute; 0 for none at all.
    pub pair_rate_per_node: u32,
    /// Most orders to all nodes a second, on average.
    pub pair_rate: u32,
}

impl BrokerConfig {
    /// Reads the configuration: defaults, then the file, then those of `env` that start with
    /// `NEARMOST__` (see [`crate::process_env`]), then `overrides` (see [`crate::parse_setting`]).
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn load(
        path: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<BrokerConfig, ConfigError> {
        BrokerConfig::load_with_given(path, env, overrides).map(|(config, _)| config)
    }

    /// The same, with what was said key by key.
    ///
    /// # Errors
    /// As [`BrokerConfig::load`].
    pub fn load_with_given(
        path: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<(BrokerConfig, Given), ConfigError> {
        let layers = Layers::read(path, env, overrides)?;
        Ok((BrokerConfig::from_layers(&layers)?, layers.given()))
    }

    pub(crate) fn from_layers(layers: &Layers) -> Result<BrokerConfig, ConfigError> {
        let spec: spec::BrokerSpec = layers.spec(spec::VERSION)?;
        apply::config(spec).map_err(|fault| layers.blame(fault))
    }
}

impl ProbeConfig {
    /// A probe of this kind at the default pace.
    pub fn check(&self, kind: CheckKind) -> CheckSpec {
        CheckSpec { kind, interval: self.interval, timeout: self.timeout, rise: self.rise, fall: self.fall }
    }
}

/// Where `admin.sock` is, for a data directory.
fn admin_socket(data_dir: &Path) -> PathBuf {
    data_dir.join("admin.sock")
}

/// A port on every IPv6 address; with v6-only off, on IPv4 as well.
fn any_v6(port: u16) -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, port).into()
}

impl Default for BrokerConfig {
    fn default() -> Self {
        let data_dir = PathBuf::from("/var/lib/nearmost");
        BrokerConfig {
            admin: AdminConfig { socket: admin_socket(&data_dir) },
            data_dir,
            dns: DnsConfig::default(),
            http: HttpConfig::default(),
            agents: AgentsConfig::default(),
            clients: ClientsConfig::default(),
            peers: PeersConfig::default(),
            geo: GeoConfig::default(),
            mirrors: MirrorsConfig::default(),
            observing: ObservingConfig::default(),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        const V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
        const V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128);
        HttpConfig {
            listen: vec![(Ipv4Addr::LOCALHOST, 8053).into()],
            redirect_listen: Vec::new(),
            tls: None,
            trusted_sources: vec![V4.into(), V6.into()],
            max_connections: 1000,
            requests_per_second: 100,
            request_burst: 200,
            tokens: Vec::new(),
            persons: Vec::new(),
        }
    }
}

impl Default for AgentsConfig {
    fn default() -> Self {
        AgentsConfig {
            listen: vec![any_v6(7841)],
            beacon_listen: vec![any_v6(7842)],
            advertise: Vec::new(),
            max_sessions: 100_000,
            max_handshakes: 1000,
            handshake_timeout: Duration::from_secs(5),
        }
    }
}

impl Default for ClientsConfig {
    fn default() -> Self {
        ClientsConfig {
            listen: vec![any_v6(7840)],
            max_connections: 10_000,
            max_per_network: 500,
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            messages_per_second: 5,
            message_burst: 20,
            report_interval: Duration::from_secs(10),
            report_burst: 5,
        }
    }
}

impl Default for GeoConfig {
    fn default() -> Self {
        GeoConfig {
            databases: Vec::new(),
            embedded: true,
            watch: true,
            cell_memory: 256 << 20,
            overrides: Vec::new(),
            learning: LearningConfig::default(),
        }
    }
}

impl Default for HealthConfig {
    fn default() -> Self {
        HealthConfig {
            beacon_period: Duration::from_millis(200),
            missed_for_suspect: 2,
            reprobe_interval: Duration::from_secs(10),
            unattended_reprobe: Duration::from_secs(1),
            probe_vantages: 3,
            resume_grace: Duration::from_secs(5),
            warm_up: Duration::ZERO,
            burst_timeout: Duration::from_millis(600),
            beacon_budget_percent: 50,
        }
    }
}

impl Default for ProbeConfig {
    fn default() -> Self {
        ProbeConfig {
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: 1,
            fall: 2,
            max_in_flight: 512,
        }
    }
}

impl Default for SpreadConfig {
    fn default() -> Self {
        SpreadConfig { high_water_percent: 80, slow_start: Duration::from_secs(60) }
    }
}

impl Default for ResolverConfig {
    fn default() -> Self {
        ResolverConfig {
            servers: Vec::new(),
            min_refresh: Duration::from_secs(5),
            max_refresh: Duration::from_secs(300),
        }
    }
}

impl Default for LearningConfig {
    fn default() -> Self {
        LearningConfig {
            networks: NetworksConfig::default(),
            pair_interval: Duration::from_secs(3600),
            pair_rate_per_node: 10,
            pair_rate: 50,
        }
    }
}

impl Default for NetworksConfig {
    fn default() -> Self {
        NetworksConfig {
            enabled: true,
            prefix_v4: 24,
            prefix_v6: 48,
            max: 100_000,
            keep: Duration::from_secs(7 * 24 * 3600),
            persist: true,
            fit_interval: Duration::from_secs(10),
        }
    }
}

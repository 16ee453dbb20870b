//! Layered configuration with errors that name the key and the place.
//!
//! ```text
//!  defaults < file < environment < flags        load     figment: who said what
//!        │
//!        ▼
//!  spec  (one key of the file, one field)       serde    text → types, unknown keys refused
//!        │  apply
//!        ▼
//!  plain (BrokerConfig, AgentConfig)            rules    what keys may say together
//! ```
//!
//! The file's format has a version; its `spec` types exist only between the file and the plain
//! types, so programs never see a version. Every field of a spec is optional and the defaults live
//! in the plain types alone. A test proves the annotated files beside this code equal to them.
//!
//! Reading binds no socket and opens no file but the configuration itself; what the files hold that it
//! names is for the programs to see.
//!
//! | layer | how |
//! |---|---|
//! | file | TOML, given explicitly or at the program's default path ([`file_to_read`]); without one, the defaults |
//! | environment | `NEARMOST__DNS__WORKERS=4`: `__` between levels; lists as `["a", "b"]`, tables as `{a=1}` |
//! | flags | `--set dns.workers=4`, values as in the environment |

mod agent;
mod broker;
mod error;
mod explain;
mod given;
mod keys;
mod load;
mod log;
mod place;
mod told;
mod value;

pub use agent::{
    AgentConfig, Broker, IngressConfig, IngressLimits, JoinedAgent, JoinedBroker, JoinedService,
    LocalService, NodeConfig, PathsConfig, ProcessSource, ReconnectConfig, Service, ServiceCheck,
    ServiceIngress, ServiceProbe, Share, render_agent_config,
};
pub use broker::{
    AdminConfig, AgentsConfig, AuditConfig, BrokerConfig, ClientDetail, DnsConfig, DnsCookieConfig,
    DnsEdnsConfig, DnsIdentityConfig, DnsLimitsConfig, DnsLogConfig, DnsTcpConfig, DnsTlsConfig,
    DnsUdpConfig, DnsXdpConfig, DnsZoneConfig, DnssecConfig, EventsConfig, GeoConfig, GeoOverride,
    HealthConfig, HttpConfig, HttpToken, JsonTarget, KnownPeer, LearningConfig, MetricsConfig,
    NetworksConfig, ObservingConfig, PeerPaceConfig, PeerQueueConfig, PeersConfig, Person, ProbeConfig,
    ResolverConfig, Scope, SoaConfig, TlsFiles, XdpMode,
};
pub use error::{ConfigError, Origin};
pub use given::{Given, GivenValue};
pub use load::{file_to_read, parse_setting, process_env};
pub use log::{LevelError, LogConfig, LogFormat, LogLevel, TargetLevel};
pub use told::told;

/// The shipped `broker.toml`: every key with its meaning, unit and default.
pub const BROKER_TOML: &str = include_str!("../broker.toml");

/// The shipped `node-agent.toml`: every key with its meaning, unit and default.
pub const AGENT_TOML: &str = include_str!("../node-agent.toml");

#[cfg(test)]
mod testing;

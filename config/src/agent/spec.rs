//! `node-agent.toml`, version 1: one field a key. Everything is optional but what makes an entry of
//! a list; unknown keys are refused everywhere.
//!
//! Services and checks are flat in the file, because that is how people write them, so their
//! structures here are as long as their lists of keys; `apply` and `check` turn them at once into
//! the plain types.

use crate::log::LogSpec;
use crate::value::{
    BaseUrl, BrokerId, Bytes, Country, Degrees, DnsCode, DnsType, DomainName, FilePath, HostName, HostPort,
    Listen, ListenOrOff, Millis, Name, NameOrDefault, Number, Port, Protocol, RequestPath, StatusRange, Text,
    TextKind,
};
use serde::Deserialize;
use std::borrow::Cow;

/// The only version there is.
pub(crate) const VERSION: u64 = 1;

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct AgentSpec {
    /// Checked before the rest is read; here so that the key is known.
    #[serde(rename = "version")]
    pub(super) _version: Option<Number<u64, 1, VERSION>>,
    pub(super) data_dir: Option<Text<FilePath>>,
    pub(super) log: Option<LogSpec>,
    pub(super) node: Option<NodeSpec>,
    pub(super) brokers: Option<Vec<BrokerSpec>>,
    pub(super) metrics: Option<MetricsSpec>,
    pub(super) reports: Option<ReportsSpec>,
    pub(super) paths: Option<PathsSpec>,
    pub(super) witness: Option<WitnessSpec>,
    pub(super) ingress: Option<IngressSpec>,
    pub(super) drain: Option<DrainSpec>,
    pub(super) reconnect: Option<ReconnectSpec>,
    pub(super) services: Option<Vec<ServiceSpec>>,
}

/// `[node]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct NodeSpec {
    pub(super) name: Option<Text<NameOrDefault>>,
    pub(super) max_sessions: Option<Number<usize, 1, 64>>,
    pub(super) place: Option<PlaceSpec>,
}

/// `[node.place]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct PlaceSpec {
    pub(super) latitude: Option<Degrees<90>>,
    pub(super) longitude: Option<Degrees<180>>,
    pub(super) country: Option<Text<Country>>,
    pub(super) asn: Option<Number<u32, 1>>,
}

/// An entry of `[[brokers]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct BrokerSpec {
    pub(super) id: Text<BrokerId>,
    pub(super) addresses: Vec<Text<HostPort>>,
}

/// `[metrics]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct MetricsSpec {
    pub(super) listen: Option<Text<ListenOrOff>>,
}

/// `[reports]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct ReportsSpec {
    pub(super) interval_ms: Option<Millis>,
}

/// `[paths]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct PathsSpec {
    pub(super) connections: Option<bool>,
    pub(super) interval_ms: Option<Millis<100>>,
    pub(super) ipv4_prefix: Option<Number<u8, 8, 24>>,
    pub(super) ipv6_prefix: Option<Number<u8, 16, 48>>,
    pub(super) max_networks: Option<Number<usize, 1, 65_536>>,
    pub(super) measures_per_second: Option<Number<u32, 0, 100>>,
}

/// `[witness]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct WitnessSpec {
    pub(super) per_second: Option<Number<u32, 0, 100>>,
}

/// `[ingress]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct IngressSpec {
    pub(super) enabled: Option<bool>,
    pub(super) listen: Option<Vec<Text<Listen>>>,
    pub(super) max_connections: Option<Number<usize, 1, 1_000_000>>,
    pub(super) max_per_network: Option<Number<usize, 1, 1_000_000>>,
    pub(super) handshakes_per_second: Option<Number<u32, 1, 100_000>>,
    pub(super) max_flows: Option<Number<usize, 1, 1_000_000>>,
    pub(super) max_session_flows: Option<Number<u32, 1, 65_536>>,
    pub(super) max_tripwires: Option<Number<usize, 0, 1_000_000>>,
}

/// `[services.ingress]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct ServiceIngressSpec {
    pub(super) udp: Option<Text<ListenOrOff>>,
    pub(super) tcp: Option<Text<ListenOrOff>>,
    pub(super) proxy_protocol: Option<bool>,
}

/// `[drain]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct DrainSpec {
    pub(super) grace_ms: Option<Millis<0>>,
}

/// `[reconnect]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct ReconnectSpec {
    pub(super) min_ms: Option<Millis>,
    pub(super) max_ms: Option<Millis>,
}

/// An entry of `[[services]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct ServiceSpec {
    pub(super) domain: Text<DomainName>,
    pub(super) mirror: Option<Text<NameOrDefault>>,
    pub(super) addresses: Option<Vec<Text<crate::value::Address>>>,
    pub(super) hostname: Option<Text<HostName>>,
    pub(super) port: Port,
    pub(super) weight: Option<Number<u32, 1, 1_000_000>>,
    pub(super) capacity: Option<Number<u32, 0>>,
    pub(super) url: Option<Text<BaseUrl>>,
    pub(super) checks: Option<Vec<CheckKeys>>,
    pub(super) ready: Option<CheckKeys>,
    pub(super) probe: Option<CheckKeys>,
    pub(super) process: Option<ProcessSpec>,
    pub(super) ingress: Option<ServiceIngressSpec>,
}

/// `[services.process]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct ProcessSpec {
    pub(super) pid_file: Option<Text<FilePath>>,
    pub(super) systemd_unit: Option<Text<Name>>,
    pub(super) exe: Option<Text<FilePath>>,
}

/// An entry of `[[services.checks]]`, `[services.ready]` or `[services.probe]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct CheckKeys {
    pub(super) name: Option<Text<Name>>,
    pub(super) kind: Text<Kind>,
    pub(super) address: Option<Text<Listen>>,
    pub(super) interval_ms: Option<Millis>,
    pub(super) timeout_ms: Option<Millis>,
    pub(super) rise: Option<Number<u8, 1, 255>>,
    pub(super) fall: Option<Number<u8, 1, 255>>,
    pub(super) path: Option<Text<RequestPath>>,
    pub(super) host: Option<Text<HostName>>,
    pub(super) status: Option<StatusRange>,
    pub(super) body_contains: Option<String>,
    pub(super) verify: Option<bool>,
    pub(super) min_days_to_expiry: Option<Number<u32, 0>>,
    pub(super) alpn: Option<Vec<Text<Protocol>>>,
    pub(super) send: Option<Text<Bytes>>,
    pub(super) expect: Option<Text<Bytes>>,
    pub(super) steps: Option<Vec<StepKeys>>,
    pub(super) query: Option<Text<DomainName>>,
    pub(super) query_type: Option<Text<DnsType>>,
    pub(super) rcode: Option<Text<DnsCode>>,
    pub(super) answer: Option<Text<Name>>,
    pub(super) argv: Option<Vec<String>>,
    pub(super) max_output_bytes: Option<Number<u64, 0>>,
}

/// An entry of a check's `steps`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct StepKeys {
    pub(super) send: Option<Text<Bytes>>,
    pub(super) expect: Option<Text<Bytes>>,
}

/// The kinds of check in the words of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No probe at all; only for `[services.probe]`.
    None,
    Tcp,
    Tls,
    Http,
    Https,
    H2,
    H2c,
    Udp,
    Dns,
    Quic,
    Command,
}

impl Kind {
    const ALL: [Kind; 11] = [
        Kind::None,
        Kind::Tcp,
        Kind::Tls,
        Kind::Http,
        Kind::Https,
        Kind::H2,
        Kind::H2c,
        Kind::Udp,
        Kind::Dns,
        Kind::Quic,
        Kind::Command,
    ];

    /// As it is written.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Kind::None => "none",
            Kind::Tcp => "tcp",
            Kind::Tls => "tls",
            Kind::Http => "http",
            Kind::Https => "https",
            Kind::H2 => "h2",
            Kind::H2c => "h2c",
            Kind::Udp => "udp",
            Kind::Dns => "dns",
            Kind::Quic => "quic",
            Kind::Command => "command",
        }
    }
}

impl TextKind for Kind {
    type Value = Kind;
    const EXPECTED: &'static str =
        "\"tcp\", \"tls\", \"http\", \"https\", \"h2\", \"h2c\", \"udp\", \"dns\", \"quic\" or \"command\"";

    fn parse(text: &str) -> Result<Kind, Cow<'static, str>> {
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == text);
        kind.ok_or(Cow::Borrowed(Self::EXPECTED))
    }
}

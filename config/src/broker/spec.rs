//! `broker.toml`, version 1: one field a key. Everything is optional but what makes an entry of a
//! list; unknown keys are refused everywhere. These structures are as long as the file's tables and
//! live only until `apply` turned them into the plain types.

use super::scope::Scope;
use crate::log::LogSpec;
use crate::value::{
    Address, Country, Degrees, DnsServer, DomainName, FilePath, HostName, HostPort, Listen, Mailbox, Millis,
    Name, Number, PersonId, Prefix, Seconds, Sha256, Text,
};
use serde::Deserialize;

/// The only version there is.
pub(crate) const VERSION: u64 = 1;

/// A number of things that may be open at once.
pub(crate) type Limit = Number<usize, 1>;

/// The whole file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct BrokerSpec {
    /// Checked before the rest is read; here so that the key is known.
    #[serde(rename = "version")]
    pub(super) _version: Option<Number<u64, 1, VERSION>>,
    pub(super) data_dir: Option<Text<FilePath>>,
    pub(super) log: Option<LogSpec>,
    pub(super) audit: Option<super::keeping::AuditSpec>,
    pub(super) events: Option<super::keeping::EventsSpec>,
    pub(super) dns: Option<DnsSpec>,
    pub(super) http: Option<HttpSpec>,
    pub(super) admin: Option<AdminSpec>,
    pub(super) agents: Option<AgentsSpec>,
    pub(super) clients: Option<ClientsSpec>,
    pub(super) geo: Option<GeoSpec>,
    pub(super) health: Option<HealthSpec>,
    pub(super) caution: Option<super::caution::CautionSpec>,
    pub(super) probe: Option<ProbeSpec>,
    pub(super) resolver: Option<ResolverSpec>,
    pub(super) spread: Option<SpreadSpec>,
    pub(super) learning: Option<LearningSpec>,
    pub(super) peers: Option<super::peers::PeersSpec>,
    pub(super) metrics: Option<super::metrics::MetricsSpec>,
}

/// `[dns]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct DnsSpec {
    pub(super) listen: Option<Vec<Text<Listen>>>,
    pub(super) workers: Option<Number<usize, 0>>,
    pub(super) segmentation: Option<bool>,
    pub(super) xdp: Option<super::dns_xdp::DnsXdpSpec>,
    pub(super) zones: Option<Vec<Text<DomainName>>>,
    pub(super) nameservers: Option<Vec<Text<HostName>>>,
    pub(super) nameserver_addresses: Option<Vec<Text<Address>>>,
    pub(super) hostmaster: Option<Text<Mailbox>>,
    pub(super) ecs: Option<bool>,
    pub(super) max_udp_payload: Option<Number<u16, 512, 1452>>,
    pub(super) tcp: Option<DnsTcpSpec>,
    pub(super) tls: Option<super::dns_tls::DnsTlsSpec>,
    pub(super) log: Option<super::dns_log::DnsLogSpec>,
    pub(super) identity: Option<super::abuse::DnsIdentitySpec>,
    pub(super) cookies: Option<super::abuse::DnsCookieSpec>,
    pub(super) limits: Option<super::abuse::DnsLimitsSpec>,
    pub(super) soa: Option<SoaSpec>,
    pub(super) dnssec: Option<super::dnssec::DnssecSpec>,
}

/// `[dns.tcp]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct DnsTcpSpec {
    pub(super) max_connections: Option<Limit>,
    pub(super) max_per_source: Option<Limit>,
    pub(super) idle_timeout_ms: Option<Millis>,
    pub(super) max_queries: Option<Number<u32, 1>>,
}

/// `[dns.soa]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct SoaSpec {
    pub(super) refresh_s: Option<Seconds>,
    pub(super) retry_s: Option<Seconds>,
    pub(super) expire_s: Option<Seconds>,
}

/// `[http]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct HttpSpec {
    pub(super) listen: Option<Vec<Text<Listen>>>,
    pub(super) redirect_listen: Option<Vec<Text<Listen>>>,
    pub(super) tls_cert: Option<Text<FilePath>>,
    pub(super) tls_key: Option<Text<FilePath>>,
    pub(super) trusted_sources: Option<Vec<Text<Prefix>>>,
    pub(super) max_connections: Option<Limit>,
    pub(super) requests_per_second: Option<Number<u32, 1>>,
    pub(super) request_burst: Option<Number<u32, 1>>,
    pub(super) tokens: Option<Vec<TokenSpec>>,
    pub(super) persons: Option<Vec<PersonSpec>>,
}

/// An entry of `[[http.tokens]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct TokenSpec {
    pub(super) name: Text<Name>,
    pub(super) sha256: Text<Sha256>,
    pub(super) scope: Option<Text<Scope>>,
}

/// An entry of `[[http.persons]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct PersonSpec {
    pub(super) name: Text<Name>,
    pub(super) id: Text<PersonId>,
}

/// `[admin]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct AdminSpec {
    pub(super) socket: Option<Text<FilePath>>,
}

/// `[agents]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct AgentsSpec {
    pub(super) listen: Option<Vec<Text<Listen>>>,
    pub(super) beacon_listen: Option<Vec<Text<Listen>>>,
    pub(super) advertise: Option<Vec<Text<HostPort>>>,
    pub(super) max_sessions: Option<Limit>,
    pub(super) max_handshakes: Option<Limit>,
    pub(super) handshake_timeout_ms: Option<Millis>,
}

/// `[clients]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct ClientsSpec {
    pub(super) listen: Option<Vec<Text<Listen>>>,
    pub(super) max_connections: Option<Limit>,
    pub(super) max_per_network: Option<Limit>,
    pub(super) handshake_timeout_ms: Option<Millis>,
    pub(super) idle_timeout_ms: Option<Millis>,
    pub(super) messages_per_second: Option<Number<u32, 1, 1000>>,
    pub(super) message_burst: Option<Number<u32, 1>>,
    pub(super) report_interval_ms: Option<Millis<0>>,
    pub(super) report_burst: Option<Number<u32, 1>>,
}

/// `[geo]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct GeoSpec {
    pub(super) databases: Option<Vec<Text<FilePath>>>,
    pub(super) embedded: Option<bool>,
    pub(super) watch: Option<bool>,
    pub(super) cell_memory_mib: Option<Number<usize, 0, 1_048_576>>,
    pub(super) overrides: Option<Vec<OverrideSpec>>,
}

/// An entry of `[[geo.overrides]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct OverrideSpec {
    pub(super) prefix: Text<Prefix>,
    pub(super) latitude: Option<Degrees<90>>,
    pub(super) longitude: Option<Degrees<180>>,
    pub(super) country: Option<Text<Country>>,
    pub(super) asn: Option<Number<u32, 1>>,
}

/// `[health]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct HealthSpec {
    pub(super) beacon_period_ms: Option<Millis<50>>,
    pub(super) missed_for_suspect: Option<Number<u32, 1, 1000>>,
    pub(super) reprobe_interval_ms: Option<Millis>,
    pub(super) unattended_reprobe_ms: Option<Millis>,
    pub(super) probe_vantages: Option<Number<u8, 1, 255>>,
    pub(super) resume_grace_ms: Option<Millis<0>>,
    pub(super) warm_up_ms: Option<Millis<0>>,
    pub(super) burst_timeout_ms: Option<Millis>,
    pub(super) beacon_budget_percent: Option<Number<u8, 1, 100>>,
}

/// `[probe]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct ProbeSpec {
    pub(super) interval_ms: Option<Millis>,
    pub(super) timeout_ms: Option<Millis>,
    pub(super) rise: Option<Number<u8, 1, 255>>,
    pub(super) fall: Option<Number<u8, 1, 255>>,
    pub(super) max_in_flight: Option<Limit>,
}

/// `[resolver]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct ResolverSpec {
    pub(super) servers: Option<Vec<Text<DnsServer>>>,
    pub(super) min_refresh_ms: Option<Millis>,
    pub(super) max_refresh_ms: Option<Millis>,
}

/// `[spread]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct SpreadSpec {
    pub(super) high_water_percent: Option<Number<u8, 5, 95>>,
    pub(super) slow_start_ms: Option<Millis<0>>,
}

/// `[learning]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct LearningSpec {
    pub(super) enabled: Option<bool>,
    pub(super) prefix_v4: Option<Number<u8, 8, 24>>,
    pub(super) prefix_v6: Option<Number<u8, 16, 48>>,
    pub(super) max_networks: Option<Number<usize, 1, 10_000_000>>,
    pub(super) keep_s: Option<Seconds>,
    pub(super) persist: Option<bool>,
    pub(super) fit_interval_ms: Option<Millis>,
    pub(super) pair_interval_s: Option<Seconds>,
    pub(super) pair_rate_per_node: Option<Number<u32, 0, 600>>,
    pub(super) pair_rate: Option<Number<u32, 1, 10_000>>,
}

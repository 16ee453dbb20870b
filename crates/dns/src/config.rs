//! Settings of the answers, checked once when a [`crate::Responder`] is made.

use crate::cookie::CookieKey;
use crate::name::{self, WireName};
use std::net::IpAddr;
use std::time::Duration;

/// Least payload limit: every client takes 512 bytes (RFC 1035 §2.3.4).
pub const MIN_UDP_PAYLOAD: u16 = 512;
/// Default limit of a datagram: what crosses nearly every path unfragmented (DNS flag day 2020).
pub const DEFAULT_UDP_PAYLOAD: u16 = 1232;
/// Most bytes of a server's name or version: every reply has room for them.
pub const MAX_IDENTITY: usize = 128;

/// How names are answered, besides what the registry says of each domain.
#[derive(Clone, Debug, PartialEq)]
pub struct DnsConfig {
    /// Zones whose parents delegate to the brokers. A domain at or below one of these belongs to
    /// the longest such zone; every other domain is a zone of its own.
    pub zones: Vec<String>,
    /// Name servers of every zone, the first of them primary; `ns1.<zone>` when empty.
    pub nameservers: Vec<String>,
    /// Addresses of the name servers whose names lie within a zone: each such name has all of them.
    pub nameserver_addresses: Vec<IpAddr>,
    /// The responsible person as a name or as a mail address; `hostmaster.<zone>` when absent.
    pub hostmaster: Option<String>,
    /// Timers of SOA records.
    pub soa: SoaTimers,
    /// TTL of SOA, NS and name servers' addresses, and of the minimal answer to ANY.
    pub infrastructure_ttl: Duration,
    /// What is said and heard in EDNS.
    pub edns: EdnsConfig,
    /// What a server says of itself when it is asked.
    pub identity: Identity,
}

/// What is said and heard in EDNS (RFC 6891).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdnsConfig {
    /// Largest datagram sent, in bytes; at least 512.
    pub max_udp_payload: u16,
    /// Whether client subnets are used and echoed. Malformed ones are refused either way.
    pub ecs: bool,
    /// How long connections may idle, told to clients that ask (RFC 7828).
    pub keepalive: IdleTimeouts,
    /// What server cookies are made with (RFC 7873); `None` ignores cookies.
    pub cookies: Option<CookieKey>,
    /// Whether a query over UDP whose cookie option has no valid server cookie is answered with nothing
    /// but one (BADCOOKIE). Queries without a cookie option are answered either way.
    pub require_cookie: bool,
}

/// How long connections may idle, of each transport that keepalive options are for; told to 0.1 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleTimeouts {
    /// Over TCP.
    pub tcp: Duration,
    /// Over TLS.
    pub tls: Duration,
}

/// What a server says of itself when it is asked; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Which server this is: told by NSID (RFC 5001) and `id.server` (RFC 4892). At most 128 bytes.
    pub id: Option<String>,
    /// What `version.bind` and `version.server` are answered with. At most 128 bytes.
    pub version: Option<String>,
}

/// Timers of SOA records (RFC 1035 §3.3.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoaTimers {
    /// Secondaries look for a new serial this often.
    pub refresh: Duration,
    /// They try again after this long.
    pub retry: Duration,
    /// They stop answering after this long without an answer.
    pub expire: Duration,
    /// Negative answers live this long (RFC 2308) in zones that hold several domains; a domain that
    /// is its own zone has its policy's.
    pub negative_ttl: Duration,
}

impl Default for DnsConfig {
    fn default() -> Self {
        DnsConfig {
            zones: Vec::new(),
            nameservers: Vec::new(),
            nameserver_addresses: Vec::new(),
            hostmaster: None,
            soa: SoaTimers::default(),
            infrastructure_ttl: Duration::from_secs(3600),
            edns: EdnsConfig::default(),
            identity: Identity::default(),
        }
    }
}

impl Default for EdnsConfig {
    fn default() -> Self {
        EdnsConfig {
            max_udp_payload: DEFAULT_UDP_PAYLOAD,
            ecs: true,
            keepalive: IdleTimeouts { tcp: Duration::from_secs(10), tls: Duration::from_secs(10) },
            cookies: None,
            require_cookie: false,
        }
    }
}

impl Default for SoaTimers {
    fn default() -> Self {
        SoaTimers {
            refresh: Duration::from_secs(3600),
            retry: Duration::from_secs(600),
            expire: Duration::from_secs(604_800),
            negative_ttl: Duration::from_secs(30),
        }
    }
}

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A zone that is no domain name.
    #[error("dns zone {0:?} is not a domain name")]
    Zone(String),
    /// A name server that is no domain name.
    #[error("dns name server {0:?} is not a domain name")]
    Nameserver(String),
    /// A hostmaster that is neither a name nor a mail address.
    #[error("dns hostmaster {0:?} is neither a domain name nor a mail address")]
    Hostmaster(String),
    /// A payload limit that is too small.
    #[error("dns max_udp_payload is {0}; expected at least 512")]
    UdpPayload(u16),
    /// A name or version of the server that is empty or too long.
    #[error("dns identity {0:?} is not between 1 and {MAX_IDENTITY} bytes long")]
    Identity(String),
}

/// The settings in the form that answers need.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    /// Lower case, no final dot.
    pub(crate) zones: Vec<String>,
    /// As text and as names; empty for the default of each zone.
    pub(crate) nameservers: Vec<(String, WireName)>,
    pub(crate) hostmaster: Option<WireName>,
}

impl Prepared {
    pub(crate) fn new(config: &DnsConfig) -> Result<Prepared, ConfigError> {
        if config.edns.max_udp_payload < MIN_UDP_PAYLOAD {
            return Err(ConfigError::UdpPayload(config.edns.max_udp_payload));
        }
        let Identity { id, version } = &config.identity;
        if let Some(text) = id.iter().chain(version).find(|t| !(1..=MAX_IDENTITY).contains(&t.len())) {
            return Err(ConfigError::Identity(text.clone()));
        }
        let zones = config.zones.iter().map(|z| normal(z).ok_or_else(|| ConfigError::Zone(z.clone())));
        let nameservers = config.nameservers.iter().map(|n| {
            let text = normal(n).ok_or_else(|| ConfigError::Nameserver(n.clone()))?;
            let wire = WireName::from_text(&text).ok_or_else(|| ConfigError::Nameserver(n.clone()))?;
            Ok((text, wire))
        });
        let hostmaster = config
            .hostmaster
            .as_ref()
            .map(|h| mailbox(h).ok_or_else(|| ConfigError::Hostmaster(h.clone())))
            .transpose()?;
        Ok(Prepared {
            zones: zones.collect::<Result<_, _>>()?,
            nameservers: nameservers.collect::<Result<_, _>>()?,
            hostmaster,
        })
    }
}

/// Lower case without the final dot, if it is a host's or zone's name.
fn normal(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    (plain && name::fits(&text)).then_some(text)
}

/// A mail address as a name: the local part is the first label, dots and all (RFC 1035 §8).
fn mailbox(text: &str) -> Option<WireName> {
    match text.split_once('@') {
        None => WireName::from_text(&normal(text)?),
        Some((local, host)) => {
            let host = normal(host)?;
            WireName::from_labels(std::iter::once(local.as_bytes()).chain(host.split('.').map(str::as_bytes)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_named() {
        let with = |f: fn(&mut DnsConfig)| {
            let mut config = DnsConfig::default();
            f(&mut config);
            Prepared::new(&config).unwrap_err()
        };
        assert_eq!(with(|c| c.zones = vec!["a..b".into()]), ConfigError::Zone("a..b".into()));
        assert_eq!(with(|c| c.zones = vec!["".into()]), ConfigError::Zone("".into()));
        assert_eq!(with(|c| c.nameservers = vec!["n s".into()]), ConfigError::Nameserver("n s".into()));
        assert_eq!(with(|c| c.hostmaster = Some("@x".into())), ConfigError::Hostmaster("@x".into()));
        assert_eq!(with(|c| c.edns.max_udp_payload = 511), ConfigError::UdpPayload(511));
        assert_eq!(with(|c| c.identity.id = Some("".into())), ConfigError::Identity("".into()));
        let long = "x".repeat(129);
        assert_eq!(with(|c| c.identity.version = Some("x".repeat(129))), ConfigError::Identity(long));
    }

    #[test]
    fn mail_addresses_become_names() {
        let prepared = |h: &str| {
            let config = DnsConfig { hostmaster: Some(h.into()), ..DnsConfig::default() };
            Prepared::new(&config).unwrap().hostmaster.unwrap()
        };
        assert_eq!(prepared("dns.admin@Example.com").wire(), b"\x09dns.admin\x07example\x03com\x00");
        assert_eq!(prepared("dns.example.com.").wire(), b"\x03dns\x07example\x03com\x00");
    }
}

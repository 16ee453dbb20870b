//! Bodies of records, as JSON. Unknown fields of a newer writer are kept in the record's bytes and
//! ignored here; what people write by hand is checked more strictly where it is read.

use super::failover::FailoverBody;
use super::probe::ProbeBody;
use super::sharing::SharingBody;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Version of the bodies that this build writes.
pub const BODY_VERSION: u8 = 1;

/// A domain's policy and static records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DomainBody {
    /// Most addresses in one DNS answer, 1 to 8.
    pub answers: u8,
    /// TTL of address answers that may change as ever, in seconds: 5 to 60 make sense.
    pub ttl_s: u32,
    /// TTL of negative answers, in seconds.
    pub negative_ttl_s: u32,
    /// What is answered when no mirror is eligible.
    pub all_down: AllDownBody,
    /// What happens when its mirrors fail and come back. In JSON its fields stand among the domain's.
    #[serde(flatten)]
    pub failover: FailoverBody,
    /// Protocols offered in HTTPS records, e.g. `h2`.
    pub alpn: Vec<String>,
    /// How its mirrors are shared out. In JSON its fields stand among the domain's.
    #[serde(flatten)]
    pub sharing: SharingBody,
    /// Records besides the mirrors' addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<RecordBody>,
    /// Hosts whose plain HTTP requests are redirected to the nearest mirror.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redirect_hosts: Vec<String>,
    /// Id of the owner (`np1…`), whose word clients ask for where they know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The owner's delegations to brokers, as text; see [`crate::grant`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub delegations: Vec<String>,
    /// Id of whoever made the entry; stays when others change it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
}

impl Default for DomainBody {
    fn default() -> Self {
        DomainBody {
            answers: 2,
            ttl_s: 20,
            negative_ttl_s: 30,
            all_down: AllDownBody::LastKnown,
            failover: FailoverBody::default(),
            alpn: Vec::new(),
            sharing: SharingBody::default(),
            records: Vec::new(),
            redirect_hosts: Vec::new(),
            owner: None,
            delegations: Vec::new(),
            made_by: None,
        }
    }
}

/// What is answered when no mirror is eligible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllDownBody {
    /// The mirrors that were eligible last.
    LastKnown,
    /// All mirrors.
    All,
    /// These addresses.
    Fallback(Vec<IpAddr>),
    /// No address.
    NoAnswer,
}

/// A static record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordBody {
    /// Owner, relative to the domain; `@` is the domain itself. A first label `*` stands for every name
    /// that does not exist there.
    pub name: String,
    /// `A`, `AAAA`, `CNAME`, `MX`, `TXT`, `NS`, `DS`, `CAA` or `SRV`.
    #[serde(rename = "type")]
    pub kind: String,
    /// In seconds.
    #[serde(default = "record_ttl")]
    pub ttl_s: u32,
    /// As in a zone file, e.g. `10 mail.example.com.`; TXT without quotes is one string.
    pub value: String,
}

fn record_ttl() -> u32 {
    3600
}

/// Where something is. Agents' messages carry it too, in an encoding without field names: no field
/// may be skipped when writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlaceBody {
    /// Degrees north.
    pub latitude: Option<f64>,
    /// Degrees east.
    pub longitude: Option<f64>,
    /// Two letters (ISO 3166-1).
    #[serde(with = "country")]
    pub country: Option<[u8; 2]>,
    /// Autonomous system.
    pub asn: Option<u32>,
}

/// Country codes as two-letter strings.
pub(super) mod country {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(code: &Option<[u8; 2]>, s: S) -> Result<S::Ok, S::Error> {
        match code {
            Some(code) => s.serialize_some(&String::from_utf8_lossy(code)),
            None => s.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<[u8; 2]>, D::Error> {
        let Some(text) = Option::<String>::deserialize(d)? else { return Ok(None) };
        match nearmost_core::geo::CountryCode::new(&text) {
            Some(code) => match code.as_str().as_bytes() {
                [a, b] => Ok(Some([*a, *b])),
                _ => Ok(None),
            },
            None => Err(D::Error::custom(format!("found country {text:?}, expected two letters such as GB"))),
        }
    }
}

/// A machine with a node agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeBody {
    /// Its id (`nn1…`); absent until it joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Domains it may mirror.
    pub domains: Vec<String>,
    /// Refused from now on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub revoked: bool,
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<PlaceBody>,
    /// Id of whoever made the entry; stays when others change it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
}

/// One node's serving of one domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MirrorBody {
    /// The node that runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// At most one IPv4 and one IPv6 address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Or a host name to follow. With neither, the address the node's session comes from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Service port.
    pub port: u16,
    /// Share among near-equals.
    pub weight: u32,
    /// Where its health comes from.
    pub health: HealthBody,
    /// How brokers probe it from outside. Boxed: it has many keys, of which most are absent.
    pub probe: Box<ProbeBody>,
    /// Base URL for redirects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Port of its node's ingress, QUIC over UDP and the tripwire over TCP; absent where clients are not
    /// taken in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<u16>,
    /// Where it is; else what the geo database says of its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<PlaceBody>,
    /// Id of whoever made the entry; stays when others change it. Absent where that is the record's author.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
}

impl Default for MirrorBody {
    fn default() -> Self {
        MirrorBody {
            node: None,
            addresses: Vec::new(),
            hostname: None,
            port: 443,
            weight: 100,
            health: HealthBody::Agent,
            probe: Box::default(),
            url: None,
            ingress: None,
            place: None,
            made_by: None,
        }
    }
}

/// Where a mirror's health comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthBody {
    /// The node's agent, confirmed from outside.
    Agent,
    /// The broker's own probes.
    Probe,
    /// Set by hand: serving.
    ManualUp,
    /// Set by hand: not serving.
    ManualDown,
}

/// A person whose records are accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PersonBody {
    /// For people.
    pub name: String,
}

/// Where the clients of a prefix are, as people corrected it: at least one of position, country and
/// autonomous system. The record's id is the prefix.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OverrideBody {
    /// Degrees north; with `longitude`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latitude: Option<f64>,
    /// Degrees east; with `latitude`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longitude: Option<f64>,
    /// Two letters (ISO 3166-1).
    #[serde(with = "country", skip_serializing_if = "Option::is_none")]
    pub country: Option<[u8; 2]>,
    /// Autonomous system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// Id of whoever made the entry; stays when others change it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
}

impl OverrideBody {
    /// The place alone.
    pub fn place(&self) -> PlaceBody {
        let OverrideBody { latitude, longitude, country, asn, .. } = *self;
        PlaceBody { latitude, longitude, country, asn }
    }
}

impl From<PlaceBody> for OverrideBody {
    fn from(place: PlaceBody) -> OverrideBody {
        let PlaceBody { latitude, longitude, country, asn } = place;
        OverrideBody { latitude, longitude, country, asn, made_by: None }
    }
}

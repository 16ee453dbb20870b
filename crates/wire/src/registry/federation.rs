//! Bodies of the records that a federation is made of: members, where they are reached, owners of
//! domains, what these grant, and bans. What follows from them is [`crate::authority`]'s subject.

use super::bodies::BODY_VERSION;
use crate::grant;
use crate::identity::{Id, IdError, KeyPair, Role, verify};
use crate::name::{self, NameError};
use data_encoding::BASE64;
use nearmost_replica::merge::expiry_unix_ms;
use nearmost_replica::{Body, Kind, Record};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A broker is a member of the federation. The record's id is the broker's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerBody {
    /// For people, and the beginning of the names of its nodes: those of `bob` are `bob` and `bob-…`.
    pub name: String,
    /// It may state everything that concerns the whole federation, members included.
    pub admin: bool,
    /// Domains that it may create and run: `a.example`, `*.a.example` for that and all below it, or `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
    /// Where it was reached when the entry was made, `host:port`: until it says itself where.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Id of whoever made the entry; stays when others change it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
    /// When it was invited, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invited_unix_ms: Option<u64>,
}

/// Why the body of a member or of a grant makes no sense. Where one is held all the same, what makes no
/// sense in it gives nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RightsError {
    /// A member's name is none of a node either.
    #[error("name: {0}")]
    Name(NameError),
    /// What should be a pattern of domains is none.
    #[error("domains: {pattern:?}: expected a.example, *.a.example or *: {source}")]
    Pattern {
        /// As written.
        pattern: String,
        /// What is wrong with its domain.
        source: NameError,
    },
    /// A writer writes the kinds of applications only.
    #[error("kinds: {0:#06x} is no kind of an application")]
    Kind(u16),
    /// A writer of nothing.
    #[error("kinds: a writer needs at least one")]
    NoKinds,
    /// Kinds of somebody who is no writer.
    #[error("kinds: only a writer has them, not an {0}")]
    NotAWriter(&'static str),
    /// It ends before it begins.
    #[error("until_unix_ms = {until_unix_ms}: expected a moment after from_unix_ms = {from_unix_ms}, or 0")]
    Dates {
        /// Its beginning.
        from_unix_ms: u64,
        /// Its end.
        until_unix_ms: u64,
    },
}

impl PeerBody {
    /// Whether it makes sense, before it is stated.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check(&self) -> Result<(), RightsError> {
        name::short(&self.name).map_err(RightsError::Name)?;
        for pattern in self.domains.iter().filter(|p| *p != "*") {
            name::domain(pattern.strip_prefix("*.").unwrap_or(pattern))
                .map_err(|source| RightsError::Pattern { pattern: pattern.clone(), source })?;
        }
        Ok(())
    }
}

/// Where a broker is reached, each as `host:port`. The record's id is the broker's, and so is its author.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointBody {
    /// By other brokers.
    pub peers: Vec<String>,
    /// By agents.
    pub agents: Vec<String>,
    /// By clients.
    pub clients: Vec<String>,
    /// By people, over HTTP.
    pub http: Vec<String>,
}

/// Somebody may do something in a domain. The record's scope is the domain, its id the grantee's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantBody {
    /// What.
    pub role: GrantRole,
    /// Of a writer: the numbers of the applications' kinds that it writes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<u16>,
    /// From when, Unix milliseconds.
    #[serde(default)]
    pub from_unix_ms: u64,
    /// Until when, Unix milliseconds, which is no longer in it; 0 is for ever.
    #[serde(default)]
    pub until_unix_ms: u64,
}

/// What a grantee may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantRole {
    /// All that is in the domain, and giving the other roles.
    Admin,
    /// Its mirrors, their drains and their verdicts.
    Operator,
    /// Reading.
    Auditor,
    /// The listed kinds of applications.
    Writer,
}

impl GrantBody {
    /// Whether it makes sense, before it is stated.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check(&self) -> Result<(), RightsError> {
        let GrantBody { role, ref kinds, from_unix_ms, until_unix_ms } = *self;
        match (role, kinds.iter().find(|k| !Kind(**k).is_application())) {
            (GrantRole::Writer, Some(kind)) => return Err(RightsError::Kind(*kind)),
            (GrantRole::Writer, None) if kinds.is_empty() => return Err(RightsError::NoKinds),
            (GrantRole::Writer, None) => {}
            _ if !kinds.is_empty() => return Err(RightsError::NotAWriter(role.as_str())),
            _ => {}
        }
        match until_unix_ms == 0 || from_unix_ms < until_unix_ms {
            true => Ok(()),
            false => Err(RightsError::Dates { from_unix_ms, until_unix_ms }),
        }
    }
}

impl GrantRole {
    /// Every one.
    pub const ALL: [GrantRole; 4] =
        [GrantRole::Admin, GrantRole::Operator, GrantRole::Auditor, GrantRole::Writer];

    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            GrantRole::Admin => "admin",
            GrantRole::Operator => "operator",
            GrantRole::Auditor => "auditor",
            GrantRole::Writer => "writer",
        }
    }
}

/// A domain is its author's. The record's scope is the domain, its id empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClaimBody {}

/// An owner's key gives its place to another. The record's scope is the domain, its id the old key's, and
/// so is its author.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollBody {
    /// Id of the new key (`np1…`).
    pub to: String,
    /// The new key's signature over the domain and both keys, in base64.
    pub proof: String,
}

/// Why a new key is not known to agree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RollError {
    /// What should be the new key's id is none.
    #[error("roll of {domain}: {source}")]
    Id {
        /// The domain.
        domain: String,
        /// What is wrong with it.
        source: IdError,
    },
    /// The signature is missing, or not the new key's over this roll.
    #[error("roll of {domain}: the proof is not the signature of {to} over this domain and the old key")]
    Proof {
        /// The domain.
        domain: String,
        /// The new key's id, as given.
        to: String,
    },
}

impl RollBody {
    /// The new key agrees to take the place of `old` as the owner of `domain`.
    pub fn sign(domain: &str, old: &[u8; 32], new: &KeyPair) -> RollBody {
        let to = Id { role: Role::Person, key: new.id().key };
        let proof = new.sign(&RollBody::signed(domain, old, &to.key));
        RollBody { to: to.to_string(), proof: BASE64.encode(&proof) }
    }

    fn signed(domain: &str, old: &[u8; 32], new: &[u8; 32]) -> Vec<u8> {
        grant::signed("nearmost roll v1", &[domain.as_bytes(), old, new])
    }

    /// The new key, once it is known to agree.
    ///
    /// # Errors
    /// [`RollError`] says why it is not.
    pub fn verify(&self, domain: &str, old: &[u8; 32]) -> Result<[u8; 32], RollError> {
        let id = Id::parse(&self.to, Role::Person)
            .map_err(|source| RollError::Id { domain: domain.into(), source })?;
        let proof = BASE64.decode(self.proof.as_bytes()).ok();
        let proof = proof.and_then(|p| <[u8; 64]>::try_from(p).ok());
        match proof.is_some_and(|p| verify(&id.key, &RollBody::signed(domain, old, &id.key), &p)) {
            true => Ok(id.key),
            false => Err(RollError::Proof { domain: domain.into(), to: self.to.clone() }),
        }
    }
}

/// A key or an address that is refused for a while. Its bytes are the expiry, u64 big-endian, as kinds of
/// this rule have it (see [`nearmost_replica::merge::Rule::LatestExpiryWins`]), then JSON of the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BanBody {
    /// Until when, Unix milliseconds; `u64::MAX` is for ever.
    pub until_unix_ms: u64,
    /// For people.
    pub reason: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct BanRest {
    reason: String,
}

/// Why bytes are no ban.
#[derive(Debug, thiserror::Error)]
pub enum BanError {
    /// They end inside the expiry.
    #[error("a ban begins with an expiry of 8 bytes, {0} bytes are there")]
    Short(usize),
    /// What follows the expiry is not JSON of a ban.
    #[error("after a ban's expiry comes JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl BanBody {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.until_unix_ms.to_be_bytes().to_vec();
        let rest = serde_json::json!({ "reason": self.reason });
        bytes.extend_from_slice(rest.to_string().as_bytes());
        bytes
    }

    /// Reads its bytes.
    ///
    /// # Errors
    /// [`BanError`] says what is wrong. The expiry of what is too short is still that of
    /// [`expiry_unix_ms`].
    pub fn decode(bytes: &[u8]) -> Result<BanBody, BanError> {
        let Some((_, rest)) = bytes.split_first_chunk::<8>() else {
            return Err(BanError::Short(bytes.len()));
        };
        let BanRest { reason } = serde_json::from_slice(rest)?;
        Ok(BanBody { until_unix_ms: expiry_unix_ms(bytes), reason })
    }
}

/// A live record's body, where this build knows its version and can read it.
pub(crate) fn read<T: DeserializeOwned>(record: &Record) -> Option<T> {
    match &record.body {
        Body::Live { version: BODY_VERSION, bytes } => serde_json::from_slice(bytes).ok(),
        _ => None,
    }
}

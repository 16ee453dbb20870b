//! Who may be a mirror of a domain: a chain of signatures from the domain's owner to a node's key.
//!
//! ```text
//! owner's key (a person, may stay offline)
//!   └─ Delegation{domain, to: a broker, from, until} ── signed by the owner, for weeks or months
//!        └─ Grant{until} of one mirror {domain, name, node} ── signed by that broker, a day at most
//! ```
//!
//! A client that knows the owner verifies both, so a broker that the owner did not choose can order the
//! mirrors that it is given, and cannot add one. Grants are short: a mirror that is taken off the registry
//! is granted no more, and no list outlives the grants in it.
//!
//! Each signature is over a label of its own, the parts' lengths and the parts, so that none can be taken
//! for another. A delegation's text is `nmd1` and [`crate::armor`] of [`Delegation`].

use crate::armor::{self, ArmorError};
use crate::identity::{Id, IdError, KeyPair, Role, verify};
use crate::name::{self, NameError};
use serde::{Deserialize, Serialize};

/// Longest life of a mirror's grant, in milliseconds.
pub const GRANT_MS: u64 = 24 * 3600 * 1000;
/// What clocks may differ by, in milliseconds: what begins a little later than now has begun.
pub const SKEW_MS: u64 = 5 * 60 * 1000;

const PREFIX: &str = "nmd1";

/// An Ed25519 signature as it is written into messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}…", data_encoding::HEXLOWER.encode(&self.0[..4]))
    }
}

impl Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (a, b) = self.0.split_at(32);
        (<&[u8; 32]>::try_from(a).ok(), <&[u8; 32]>::try_from(b).ok()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Signature, D::Error> {
        let (a, b): (Option<[u8; 32]>, Option<[u8; 32]>) = Deserialize::deserialize(deserializer)?;
        match (a, b) {
            (Some(a), Some(b)) => {
                let mut bytes = [0; 64];
                bytes[..32].copy_from_slice(&a);
                bytes[32..].copy_from_slice(&b);
                Ok(Signature(bytes))
            }
            _ => Err(serde::de::Error::custom("half a signature")),
        }
    }
}

/// The owner's word that a broker may say who the mirrors of a domain are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    /// Of which domain.
    pub domain: String,
    /// The broker's key.
    pub to: [u8; 32],
    /// From when, in Unix milliseconds …
    pub from_ms: u64,
    /// … until when.
    pub until_ms: u64,
    /// By the owner's key.
    pub signature: Signature,
}

/// A broker's word that a node is a mirror of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The broker's key.
    pub by: [u8; 32],
    /// Until when, in Unix milliseconds; at most [`GRANT_MS`] after it was signed.
    pub until_ms: u64,
    /// By the broker's key.
    pub signature: Signature,
}

/// What a grant is about.
#[derive(Clone, Copy, Debug)]
pub struct Granted<'a> {
    /// The domain.
    pub domain: &'a str,
    /// The mirror's name.
    pub mirror: &'a str,
    /// The node's key.
    pub node: &'a [u8; 32],
}

/// Why a delegation or a grant does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The text is none of a delegation.
    #[error("delegation: {0}")]
    Text(#[from] ArmorError),
    /// Not a domain.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Not an id.
    #[error(transparent)]
    Id(#[from] IdError),
    /// It is of another domain.
    #[error("the delegation is of {0}")]
    Domain(String),
    /// Its signature is not the owner's.
    #[error("the delegation is not signed by the owner {0}")]
    Owner(Id),
    /// Not yet, or no longer.
    #[error("the delegation holds at another time")]
    Time,
    /// No delegation that holds is to the broker that granted it.
    #[error("mirror {0}: granted by a broker that the owner did not choose")]
    Stranger(String),
    /// A mirror that is not granted at all.
    #[error("mirror {0}: not granted")]
    Missing(String),
    /// The grant's signature is wrong.
    #[error("mirror {0}: its grant's signature is wrong")]
    Signature(String),
    /// The grant is over, or longer than grants are.
    #[error("mirror {0}: its grant is over, or too long")]
    Over(String),
}

/// What is signed: label and parts, each behind its length.
pub(crate) fn signed(label: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = label.as_bytes().to_vec();
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

impl Delegation {
    /// Signs one with the owner's key.
    ///
    /// # Errors
    /// What is no domain.
    pub fn sign(
        owner: &KeyPair,
        domain: &str,
        to: &Id,
        from_ms: u64,
        until_ms: u64,
    ) -> Result<Delegation, GrantError> {
        let unsigned = Delegation {
            domain: name::domain(domain)?,
            to: to.key,
            from_ms,
            until_ms,
            signature: Signature([0; 64]),
        };
        let signature = Signature(owner.sign(&unsigned.signed()));
        Ok(Delegation { signature, ..unsigned })
    }

    fn signed(&self) -> Vec<u8> {
        let times = [self.from_ms.to_be_bytes(), self.until_ms.to_be_bytes()].concat();
        signed("nearmost delegation v1", &[self.domain.as_bytes(), &self.to, &times])
    }

    /// Whether it is the owner's word for this domain, now.
    ///
    /// # Errors
    /// [`GrantError`] says why not.
    pub fn verify(&self, owner: &Id, domain: &str, now_ms: u64) -> Result<(), GrantError> {
        if self.domain != domain {
            return Err(GrantError::Domain(self.domain.clone()));
        }
        if now_ms.saturating_add(SKEW_MS) < self.from_ms || self.until_ms <= now_ms {
            return Err(GrantError::Time);
        }
        match verify(&owner.key, &self.signed(), &self.signature.0) {
            true => Ok(()),
            false => Err(GrantError::Owner(*owner)),
        }
    }

    /// The broker that it is to.
    pub fn broker(&self) -> Id {
        Id { role: Role::Broker, key: self.to }
    }

    /// Its text.
    pub fn encode(&self) -> String {
        armor::encode(PREFIX, self)
    }

    /// The delegation of a text; white space around it is ignored. Its signature is not verified here.
    ///
    /// # Errors
    /// [`GrantError`] says what is wrong with the text.
    pub fn decode(text: &str) -> Result<Delegation, GrantError> {
        Ok(armor::decode(PREFIX, text)?)
    }
}

impl Grant {
    /// Signs one with the broker's key.
    pub fn sign(broker: &KeyPair, granted: Granted<'_>, until_ms: u64) -> Grant {
        let signature = Signature(broker.sign(&Grant::signed(granted, until_ms)));
        Grant { by: broker.id().key, until_ms, signature }
    }

    fn signed(granted: Granted<'_>, until_ms: u64) -> Vec<u8> {
        let Granted { domain, mirror, node } = granted;
        let parts: [&[u8]; 4] = [domain.as_bytes(), mirror.as_bytes(), node, &until_ms.to_be_bytes()];
        signed("nearmost grant v1", &parts)
    }

    /// Whether it is a chosen broker's word for this mirror, now. The delegations are verified already.
    ///
    /// # Errors
    /// [`GrantError`] says why not.
    pub fn verify(
        &self,
        granted: Granted<'_>,
        delegations: &[Delegation],
        now_ms: u64,
    ) -> Result<(), GrantError> {
        let mirror = || granted.mirror.to_owned();
        if !delegations.iter().any(|d| d.to == self.by) {
            return Err(GrantError::Stranger(mirror()));
        }
        if self.until_ms <= now_ms || self.until_ms > now_ms.saturating_add(GRANT_MS + SKEW_MS) {
            return Err(GrantError::Over(mirror()));
        }
        match verify(&self.by, &Grant::signed(granted, self.until_ms), &self.signature.0) {
            true => Ok(()),
            false => Err(GrantError::Signature(mirror())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: u64 = GRANT_MS;

    fn key(role: Role, seed: u8) -> KeyPair {
        KeyPair::from_seed(role, &[seed; 32])
    }

    fn granted<'a>(node: &'a [u8; 32]) -> Granted<'a> {
        Granted { domain: "play.example", mirror: "lon", node }
    }

    #[test]
    fn the_chain_holds_from_the_owner_to_the_node_and_nothing_else_does() {
        let (owner, broker, other) = (key(Role::Person, 1), key(Role::Broker, 2), key(Role::Broker, 3));
        let delegation = Delegation::sign(&owner, "Play.Example.", &broker.id(), 10 * DAY, 90 * DAY).unwrap();
        let now = 20 * DAY;
        delegation.verify(&owner.id(), "play.example", now).unwrap();
        let refused = |owner: &KeyPair, domain, now| delegation.verify(&owner.id(), domain, now).unwrap_err();
        assert!(matches!(refused(&owner, "other.example", now), GrantError::Domain(_)));
        assert!(matches!(refused(&key(Role::Person, 9), "play.example", now), GrantError::Owner(_)));
        assert_eq!(refused(&owner, "play.example", 10 * DAY - SKEW_MS - 1), GrantError::Time);
        assert_eq!(refused(&owner, "play.example", 90 * DAY), GrantError::Time);
        let longer = Delegation { until_ms: 91 * DAY, ..delegation.clone() };
        assert!(matches!(longer.verify(&owner.id(), "play.example", now), Err(GrantError::Owner(_))));

        let node = key(Role::Node, 4).id().key;
        let chosen = [delegation];
        let grant = Grant::sign(&broker, granted(&node), now + DAY);
        grant.verify(granted(&node), &chosen, now).unwrap();
        let stranger = Grant::sign(&other, granted(&node), now + DAY);
        let wrong =
            |grant: Grant, granted: Granted<'_>, now| grant.verify(granted, &chosen, now).unwrap_err();
        assert!(matches!(wrong(stranger, granted(&node), now), GrantError::Stranger(_)));
        assert!(matches!(
            wrong(Grant { by: broker.id().key, ..stranger }, granted(&node), now),
            GrantError::Signature(_)
        ));
        let thief = key(Role::Node, 5).id().key;
        assert!(matches!(wrong(grant, granted(&thief), now), GrantError::Signature(_)));
        let renamed = Granted { mirror: "fra", ..granted(&node) };
        assert!(matches!(wrong(grant, renamed, now), GrantError::Signature(_)));
        assert!(matches!(wrong(grant, granted(&node), now + DAY), GrantError::Over(_)));
        let long = Grant::sign(&broker, granted(&node), now + 2 * DAY);
        assert!(matches!(wrong(long, granted(&node), now), GrantError::Over(_)));
    }

    #[test]
    fn a_delegations_text_comes_back_and_damage_is_named() {
        let delegation =
            Delegation::sign(&key(Role::Person, 1), "play.example", &key(Role::Broker, 2).id(), 0, 9)
                .unwrap();
        let text = delegation.encode();
        assert_eq!(Delegation::decode(&format!(" {text}\n")), Ok(delegation));
        assert!(matches!(Delegation::decode("nmt1abc"), Err(GrantError::Text(ArmorError::Prefix(_)))));
        let cut = Delegation::decode(&text[..text.len() - 2]);
        assert!(matches!(cut, Err(GrantError::Text(ArmorError::Damaged(_)))));
    }

    proptest! {
        #[test]
        fn arbitrary_texts_and_bytes_never_panic(text: String, bytes: Vec<u8>) {
            let _ = Delegation::decode(&text);
            let _ = postcard::from_bytes::<Grant>(&bytes);
        }
    }
}

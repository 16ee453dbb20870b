//! The signed list of a domain's mirrors that a broker hands a client, and its changes.
//!
//! ```text
//! client                                   broker
//!   | -- Subscribe{domain, have?} ------->   |
//!   | <-- Signed(List) -------------------   |   nothing held, or nothing that the broker remembers
//!   | <-- Signed(Change{from: have}) -----   |   what is new; empty: what is held still holds
//!   | <-- Signed(Change) -----------------   |   pushed whenever something changed
//!   | -- Subscribe{domain, have} -------->   |   each 30 s without news: still so?
//! ```
//!
//! What is signed is the exact bytes of a [`Word`] behind a label, so a list can be kept, and proven to
//! be the broker's later, without the connection that it came by. It does not name the client: clients to
//! whom the same mirrors are as near are handed the same bytes.
//!
//! Versions are counted by the broker that signs, `source` being this run of it. Each has one content, so
//! a broker that still remembers a version sends only what is different.

use crate::grant::{Delegation, Grant, Granted, Signature};
use crate::identity::{KeyPair, verify};
use nearmost_core::session::list::MOST_MIRRORS;
use serde::{Deserialize, Deserializer, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Most delegations of one list.
pub const MAX_DELEGATIONS: usize = 4;
/// Largest signed list in bytes: [`MOST_MIRRORS`] entries with the longest names and grants have less.
pub const MAX_LIST: usize = 48 * 1024;

const LABEL: &[u8] = b"nearmost list v1\0";

/// What a broker counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Version {
    /// The broker, and this run of it.
    pub source: u64,
    /// Its count.
    pub number: u64,
}

/// A signed [`Word`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// Postcard of it.
    pub word: Vec<u8>,
    /// By the broker's key.
    pub signature: Signature,
}

/// What a broker signs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Word {
    /// All of it.
    List(List),
    /// What is different.
    Change(Change),
}

/// The mirrors of a domain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct List {
    /// Of which domain.
    pub domain: String,
    /// Which version.
    pub version: Version,
    /// When it was signed, in Unix milliseconds.
    pub issued_ms: u64,
    /// Whom the owner lets say who the mirrors are; none where the domain has no owner's key.
    #[serde(deserialize_with = "delegations")]
    pub delegations: Vec<Delegation>,
    /// Best first.
    #[serde(deserialize_with = "entries")]
    pub mirrors: Vec<Entry>,
}

/// What leads from one version to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Of which domain.
    pub domain: String,
    /// The number that it follows.
    pub from: u64,
    /// The version that it makes; that of `from` when nothing is different.
    pub to: Version,
    /// When it was signed, in Unix milliseconds.
    pub issued_ms: u64,
    /// New mirrors and those that changed.
    #[serde(deserialize_with = "entries")]
    pub put: Vec<Entry>,
    /// Names of mirrors that are gone.
    #[serde(deserialize_with = "names")]
    pub removed: Vec<String>,
}

/// One mirror.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name, unique within the domain.
    pub name: String,
    /// Its node's key, which whoever answers there must hold.
    pub node: [u8; 32],
    /// Where it is reached.
    pub at: Reach,
    /// Predicted round trip, in microseconds.
    pub rtt_us: u32,
    /// Its share among near-equals.
    pub weight: u32,
    /// Mirrors of a lower tier are taken before those of a higher one, however near.
    pub tier: u8,
    /// What it fails together with.
    pub fate: Fate,
    /// Whether to go there.
    pub standing: Standing,
    /// The word of a broker that the owner chose; `None` where the domain has no owner's key.
    pub grant: Option<Grant>,
}

/// Where a mirror is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Its IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// Port of the ingress.
    pub port: u16,
}

/// What fails together; each may be 0 when it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fate {
    /// A data centre, as a hash.
    pub site: u64,
    /// Autonomous system.
    pub asn: u32,
    /// Country or region, as a number.
    pub region: u32,
}

/// What the broker says of a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Take it.
    Eligible,
    /// Take it, but rather another: it may fail soon.
    Endangered,
    /// Leaving in order: move away.
    Draining,
    /// Out of service.
    Down,
}

/// Why a signed word is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The signature is not the broker's.
    #[error("the list is not signed by the broker that it came from")]
    Signature,
    /// The signature is right and the bytes are no word.
    #[error("the signed list cannot be read: {0}")]
    Word(String),
}

impl Signed {
    /// Signs a word.
    pub fn sign(key: &KeyPair, word: &Word) -> Signed {
        // Strings, numbers and arrays always encode into a growing vector.
        let word = postcard::to_stdvec(word).unwrap_or_default();
        let signature = Signature(key.sign(&[LABEL, &word].concat()));
        Signed { word, signature }
    }

    /// The word, if it is that of the holder of `key`.
    ///
    /// # Errors
    /// [`ListError`] says why it is not.
    pub fn open(&self, key: &[u8; 32]) -> Result<Word, ListError> {
        if !verify(key, &[LABEL, &self.word].concat(), &self.signature.0) {
            return Err(ListError::Signature);
        }
        Word::decode(&self.word)
    }
}

impl Word {
    /// A word from the bytes that are signed; whose they are is not looked at here.
    ///
    /// # Errors
    /// [`ListError::Word`] says what is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Word, ListError> {
        match postcard::take_from_bytes(bytes) {
            Ok((word, [])) => Ok(word),
            Ok((_, rest)) => Err(ListError::Word(format!("{} bytes left over", rest.len()))),
            Err(error) => Err(ListError::Word(error.to_string())),
        }
    }
}

impl Entry {
    /// What its grant is about.
    pub fn granted<'a>(&'a self, domain: &'a str) -> Granted<'a> {
        Granted { domain, mirror: &self.name, node: &self.node }
    }
}

fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
    most: usize,
) -> Result<Vec<T>, D::Error> {
    let all = Vec::deserialize(deserializer)?;
    match all.len() <= most {
        true => Ok(all),
        false => Err(serde::de::Error::custom(format!("{} in a list of at most {most}", all.len()))),
    }
}

fn entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Entry>, D::Error> {
    bounded(deserializer, MOST_MIRRORS)
}

fn delegations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Delegation>, D::Error> {
    bounded(deserializer, MAX_DELEGATIONS)
}

fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    bounded(deserializer, MOST_MIRRORS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ToClient;
    use crate::frame;
    use crate::identity::Role;
    use proptest::prelude::*;

    fn key(seed: u8) -> KeyPair {
        KeyPair::from_seed(Role::Broker, &[seed; 32])
    }

    fn entry(name: String) -> Entry {
        let node = [7; 32];
        let granted = Granted { domain: "d", mirror: &name, node: &node };
        let grant = Some(Grant::sign(&key(1), granted, u64::MAX));
        let at = Reach { v4: Some([192, 0, 2, 1].into()), v6: Some(Ipv6Addr::LOCALHOST), port: 65_535 };
        Entry {
            name,
            node,
            at,
            rtt_us: u32::MAX,
            weight: u32::MAX,
            tier: u8::MAX,
            fate: Fate { site: u64::MAX, asn: u32::MAX, region: u32::MAX },
            standing: Standing::Down,
            grant,
        }
    }

    fn list(mirrors: usize) -> List {
        let owner = KeyPair::from_seed(Role::Person, &[3; 32]);
        let domain = format!("{0}.{0}.{0}.{1}", "d".repeat(63), "e".repeat(61));
        let delegation = Delegation::sign(&owner, &domain, &key(1).id(), 0, u64::MAX).unwrap();
        List {
            domain,
            version: Version { source: u64::MAX, number: u64::MAX },
            issued_ms: u64::MAX,
            delegations: vec![delegation; MAX_DELEGATIONS],
            mirrors: (0..mirrors).map(|_| entry("m".repeat(63))).collect(),
        }
    }

    #[test]
    fn only_the_brokers_own_words_open() {
        let word = Word::List(list(2));
        let signed = Signed::sign(&key(1), &word);
        assert_eq!(signed.open(&key(1).id().key), Ok(word.clone()));
        assert_eq!(signed.open(&key(2).id().key), Err(ListError::Signature));
        for at in [0, signed.word.len() / 2, signed.word.len() - 1] {
            let mut forged = signed.clone();
            forged.word[at] ^= 1;
            assert_eq!(forged.open(&key(1).id().key), Err(ListError::Signature), "byte {at}");
        }
        let long = Signed::sign(&key(1), &Word::List(list(MOST_MIRRORS + 1)));
        assert!(matches!(long.open(&key(1).id().key), Err(ListError::Word(_))));
    }

    #[test]
    fn the_largest_list_fits() {
        let largest = Signed::sign(&key(1), &Word::List(list(MOST_MIRRORS)));
        let message = ToClient::List(largest);
        assert!(frame::encode(&message).unwrap().len() < MAX_LIST);
    }

    proptest! {
        #[test]
        fn changes_round_trip(from: u64, source: u64, number: u64, issued_ms: u64, names in prop::collection::vec("[a-z]{1,9}", 0..5), removed in prop::collection::vec("[a-z]{1,9}", 0..5)) {
            let (to, put) = (Version { source, number }, names.into_iter().map(entry).collect());
            let word = Word::Change(Change { domain: "d".into(), from, to, issued_ms, put, removed });
            let message = ToClient::List(Signed::sign(&key(1), &word));
            let bytes = frame::encode(&message).unwrap();
            let ToClient::List(signed) = frame::decode(&bytes[4..]).unwrap() else { panic!("no list") };
            prop_assert_eq!(signed.open(&key(1).id().key), Ok(word));
        }

        #[test]
        fn arbitrary_bytes_signed_by_a_broker_never_panic(word: Vec<u8>) {
            let signature = Signature(key(1).sign(&[LABEL, &word].concat()));
            let _ = Signed { word, signature }.open(&key(1).id().key);
        }
    }
}

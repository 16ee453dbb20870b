//! What a record says.
//!
//! A record is one author's statement about one thing: that it is so ([`Body::Live`]) or that it
//! no longer is ([`Body::Tombstone`]). The thing is named by [`RecordKey`]; the body's bytes belong
//! to the application of the kind and are not read here, so that brokers relay kinds and versions
//! they do not know.

use crate::hlc::Hlc;
use crate::key::PublicKey;
use crate::merge::Rule;
use std::fmt;

/// What sort of thing a record is about. Numbers not named here are kept and relayed unread.
///
/// The three highest bits say how the kind merges (see [`crate::merge::Rule`]), so that brokers of
/// different versions merge a kind alike even where one of them does not know it. The fourth is set
/// in the kinds of applications, whose bodies no broker reads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u16);

impl Kind {
    /// A name that users resolve.
    pub const DOMAIN: Kind = Kind(1);
    /// A machine with an agent.
    pub const NODE: Kind = Kind(2);
    /// One node's serving of one domain.
    pub const MIRROR: Kind = Kind(3);
    /// A health verdict overruled by a person.
    pub const FORCE: Kind = Kind(4);
    /// A person's key and what it may do.
    pub const PERSON: Kind = Kind(5);
    /// Where the clients of a prefix are, as people corrected it.
    pub const OVERRIDE: Kind = Kind(6);
    /// A broker is a member of the federation, says another: what it may do here.
    pub const PEER: Kind = Kind(7);
    /// Where a broker is reached, as it says itself.
    pub const ENDPOINT: Kind = Kind(8);
    /// Somebody may do something in a domain, says its owner.
    pub const GRANT: Kind = Kind(9);
    /// A text that a certificate authority looks for in a domain, until it ends.
    pub const CHALLENGE: Kind = Kind(10);
    /// A public key that a domain is signed with (DNSSEC).
    pub const ZONE_KEY: Kind = Kind(11);
    /// No new users for a mirror or a node: live while drained, a tombstone once lifted.
    pub const DRAIN: Kind = Kind(0x4001);
    /// A key or an address that is refused until an expiry: live while banned, a tombstone once
    /// lifted.
    pub const BAN: Kind = Kind(0x8001);
    /// A domain is this key's: the first claim stands.
    pub const CLAIM: Kind = Kind(0xc001);
    /// An owner's key gives its place to another, which agrees.
    pub const ROLL: Kind = Kind(0xc002);

    /// The bit that kinds of applications have.
    pub const APPLICATION: u16 = 0x1000;

    /// The application's kind with this number, at most 0xfff, and rule. `None` for larger numbers, and
    /// for rules that applications have no use for.
    pub fn application(rule: Rule, number: u16) -> Option<Kind> {
        let bits = match rule {
            Rule::RemovalWins => 0,
            Rule::RemovalFinal => 0x2000,
            Rule::LatestExpiryWins => 0x8000,
            Rule::PresenceWins | Rule::FirstWins => return None,
        };
        (number < Self::APPLICATION).then_some(Kind(bits | Self::APPLICATION | number))
    }

    /// Whether it is an application's.
    pub fn is_application(self) -> bool {
        self.0 & Self::APPLICATION != 0
    }

    /// Whether its statements give or take rights. Their tombstones are kept for ever: who was removed stays so,
    /// also where somebody nearer removed whom somebody farther still vouches for.
    pub fn is_of_rights(self) -> bool {
        matches!(self, Kind::PEER | Kind::PERSON | Kind::GRANT | Kind::CLAIM | Kind::ROLL)
    }

    /// The name of a known kind.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Kind::DOMAIN => "domain",
            Kind::NODE => "node",
            Kind::MIRROR => "mirror",
            Kind::FORCE => "force",
            Kind::PERSON => "person",
            Kind::OVERRIDE => "override",
            Kind::PEER => "peer",
            Kind::ENDPOINT => "endpoint",
            Kind::GRANT => "grant",
            Kind::CHALLENGE => "challenge",
            Kind::ZONE_KEY => "zone-key",
            Kind::CLAIM => "claim",
            Kind::ROLL => "roll",
            Kind::DRAIN => "drain",
            Kind::BAN => "ban",
            _ => return None,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "kind-{:#06x}", self.0),
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a record is about. Of the records with one key each author has one, its statement; of these one
/// stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// What sort of thing.
    pub kind: Kind,
    /// Whose it is: a domain's name, or empty for the whole federation.
    pub scope: String,
    /// Which one within the scope.
    pub id: String,
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} in {:?}", self.kind, self.id, self.scope)
    }
}

/// What a record says of its thing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// It is so.
    Live {
        /// The version of the body's own format; a version not known is kept and relayed.
        version: u8,
        /// In the kind's own format.
        bytes: Vec<u8>,
    },
    /// It is no longer.
    Tombstone,
}

/// One author's statement about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// What sort of thing.
    pub kind: Kind,
    /// Whose it is; at most [`crate::codec::MAX_NAME_BYTES`] bytes.
    pub scope: String,
    /// Which one within the scope; at most [`crate::codec::MAX_NAME_BYTES`] bytes.
    pub id: String,
    /// What is said.
    pub body: Body,
    /// When, on the hybrid logical clock.
    pub hlc: Hlc,
    /// Who signs.
    pub author: PublicKey,
    /// Grows when an author lost count of its own writes, e.g. after a restore from a backup.
    pub author_epoch: u32,
    /// The author's own count within the epoch; each number is used for one record only.
    pub author_seq: u64,
    /// Hashes of the records that entitle the author, at most [`crate::codec::MAX_GRANTS`].
    pub grants: Vec<[u8; 32]>,
}

impl Record {
    /// What it is about.
    pub fn key(&self) -> RecordKey {
        RecordKey { kind: self.kind, scope: self.scope.clone(), id: self.id.clone() }
    }

    /// Whether both are about the same thing.
    pub fn same_key(&self, other: &Record) -> bool {
        self.kind == other.kind && self.scope == other.scope && self.id == other.id
    }

    /// Whether it says that its thing is no longer.
    pub fn is_tombstone(&self) -> bool {
        matches!(self.body, Body::Tombstone)
    }
}

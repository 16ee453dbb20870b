//! DNSSEC, signed while answering (RFC 4033 to 4035, RFC 9824).
//!
//! ```text
//! registry: public keys of the zone, of all sites ──┬─► DNSKEY, CDS, CDNSKEY: of all together (RFC 8901)
//!                                                   ▼
//! the site's secret ─► Signer::zone: which of them are ours ─► the one that signs answers, those that
//!                                                   │           sign the key set
//! reply: set after set of records ─► canonical ─► hash ─► signature: cached, or made
//! nothing there ─► denial: an NSEC that covers the name and nothing else (RFC 9824)
//! ```
//!
//! **Keys** are ECDSA on P-256 (RFC 6605), each both key- and zone-signing. The private part follows from a
//! secret that the brokers of a site share, from the zone's name and from a number; nothing secret is stored
//! or sent. Signatures are deterministic (RFC 6979), so that all brokers of a site give the same bytes.
//!
//! **Times** of a signature depend on the set's own hash and on the day only ([`SignTimes`]): one signature
//! serves for a whole window, and long before it expires the next window has begun. Not all sets change
//! over at the same moment.
//!
//! **Sites.** A site that the parent has no DS of, while it has those of others, cannot be believed: to those who
//! validate it says nothing (`chain`).
//!
//! **An answer** is a pure function of the snapshot, the secret, the question and the moment. The cache of
//! signatures makes it faster and no different.

mod answers;
mod cache;
mod canonical;
mod chain;
mod denial;
mod keys;
mod set;
mod sign;
#[cfg(test)]
mod tests;

pub(crate) use answers::keys_of;
pub(crate) use chain::{Signing, without_own};
pub use keys::{ALGORITHM, Ds, KeyDerivation, PublicKey, SigningKey};
pub(crate) use set::SetSigner;
pub(crate) use sign::ZoneSigner;
pub use sign::{SignTimes, Signer};

/// The type of DS records (RFC 4034 §5).
pub(crate) const TYPE_DS: u16 = 43;
/// The type of RRSIG records (RFC 4034 §3).
pub(crate) const TYPE_RRSIG: u16 = 46;
/// The type of NSEC records (RFC 4034 §4).
pub(crate) const TYPE_NSEC: u16 = 47;
/// The type of DNSKEY records (RFC 4034 §2).
pub(crate) const TYPE_DNSKEY: u16 = 48;
/// The type of CDS records (RFC 7344 §3.1).
pub(crate) const TYPE_CDS: u16 = 59;
/// The type of CDNSKEY records (RFC 7344 §3.2).
pub(crate) const TYPE_CDNSKEY: u16 = 60;
/// Stands in the types of a name that does not exist (RFC 9824 §2).
pub(crate) const TYPE_NXNAME: u16 = 128;

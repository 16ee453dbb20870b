//! Which replies count as alike when their rate is limited (the "imputed" names of BIND's and NSD's
//! response-rate limiting): whoever wants many of one victim's replies must not get more by asking for
//! names that differ in nothing that matters.

use nearmost_core::hash::{fnv1a, mix};

/// The number of an answer that a name has for a type: `wire` is the name in lower case.
pub(crate) fn named(wire: &[u8], qtype: u16) -> u64 {
    mix(fnv1a(wire.iter().copied().chain(qtype.to_be_bytes())))
}

/// The number of all replies for names that can be made up without end: those that do not exist, have
/// nothing of the type, are one-time names, or are delegated away. `owner` is the domain that they lie
/// in, or the zone.
pub(crate) fn made_up(owner: &str) -> u64 {
    mix(fnv1a(owner.bytes()))
}

//! What a server says of itself in class CHAOS (RFC 4892): nothing, unless the operator wants it.

use crate::answer::Asked;
use crate::config::Identity;
use crate::edns::Extended;
use crate::outcome::{Outcome, Rcode};
use crate::reply::Header;

/// Class CH (RFC 1035 §3.2.4).
pub(crate) const CLASS: u16 = 3;
/// The types whose answer is the text: TXT and ANY.
const TYPES: [u16; 2] = [16, 255];

/// Answers a query of this class.
pub(crate) fn answer(identity: &Identity, asked: &Asked<'_>, out: &mut Vec<u8>) -> Outcome {
    let text = match asked.query.name.wire() {
        b"\x07version\x04bind\x00" | b"\x07version\x06server\x00" => identity.version.as_deref(),
        b"\x02id\x06server\x00" | b"\x08hostname\x04bind\x00" => identity.id.as_deref(),
        _ => None,
    };
    let Some(text) = text.filter(|_| TYPES.contains(&asked.query.qtype)) else {
        return asked.decline(Rcode::Refused, Some(Extended::NOT_SUPPORTED), out);
    };
    out.clear();
    let header = Header { authoritative: true, counts: [1, 0, 0], ..asked.header() };
    out.extend_from_slice(&header.bytes());
    out.extend_from_slice(asked.query.question);
    // A pointer to the question's name, TXT, the class, a TTL of 0; the settings bound the text.
    out.extend_from_slice(&[0xc0, 12, 0, 16, 0, CLASS as u8, 0, 0, 0, 0, 0, 1 + text.len() as u8]);
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
    asked.end(asked.begin(), None, out)
}

//! Signed answers that were given before, by what makes them: domain, family, TTL and addresses.
//!
//! The records of such an answer, signature included, stand in a reply after the question and are the same
//! whoever asks, since their owner is a pointer to the question's name. The general path makes them; here
//! they are kept for as long as it would make them again: until the signature's window ends or a key of the
//! zone comes to another stage of its life.

use crate::dnssec::{SignTimes, TYPE_RRSIG};
use crate::query::HEADER_LEN;
use arrayvec::ArrayVec;
use nearmost_core::hash::mix;
use nearmost_core::ranking::MAX_ANSWERS;
use nearmost_core::registry::DomainIndex;
use nearmost_core::time::UnixMillis;
use std::net::IpAddr;

/// Places for answers: a few megabytes when all are taken.
const PLACES: usize = 1 << 13;

/// What makes an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Made {
    /// The registry, by its number among those that were met.
    pub(super) met: u64,
    pub(super) domain: DomainIndex,
    /// In seconds.
    pub(super) ttl: u32,
    pub(super) addrs: ArrayVec<IpAddr, MAX_ANSWERS>,
}

/// The records of an answer.
pub(super) struct Piece {
    made: Made,
    /// From when to when it is given, in milliseconds since 1970.
    good: std::ops::Range<u64>,
    /// Records in the answer section.
    pub(super) count: u16,
    pub(super) records: Vec<u8>,
}

/// The answers of one thread.
#[derive(Default)]
pub(super) struct Pieces(Vec<Option<Piece>>);

impl Made {
    fn place(&self) -> usize {
        let domain = mix(self.met ^ u64::from(self.domain.0) << 32 ^ u64::from(self.ttl));
        let hash = self.addrs.iter().fold(domain, |hash, addr| {
            let bits = match addr {
                IpAddr::V4(a) => u64::from(a.to_bits()),
                IpAddr::V6(a) => mix(a.to_bits() as u64) ^ (a.to_bits() >> 64) as u64 ^ 1 << 63,
            };
            mix(hash ^ bits)
        });
        hash as usize % PLACES
    }
}

impl Pieces {
    /// The answer that would be made now, if it was made before.
    pub(super) fn get(&self, made: &Made, now: UnixMillis) -> Option<&Piece> {
        let piece = self.0.get(made.place())?.as_ref()?;
        (piece.made == *made && piece.good.contains(&now.0)).then_some(piece)
    }

    /// Keeps the answer of a reply: `records` follow its question. Until a key changes, at `change`, or the
    /// signature's window ends.
    pub(super) fn keep(
        &mut self,
        made: Made,
        records: &[u8],
        times: &SignTimes,
        change: Option<UnixMillis>,
        now: UnixMillis,
    ) {
        let Some((count, window)) = read(records, times) else { return };
        let change = change.map_or(u64::MAX, |c| c.0);
        let good = window.start.min(now.0)..window.end.min(change);
        let place = made.place();
        if self.0.is_empty() {
            self.0.resize_with(PLACES, || None);
        }
        let Some(place) = self.0.get_mut(place) else { return };
        // Room that is there is used again.
        let mut kept = place.take().map_or_else(Vec::new, |p| p.records);
        kept.clear();
        kept.extend_from_slice(records);
        *place = Some(Piece { made, good, count, records: kept });
    }
}

/// How many records there are, and when the signature among them is used, in milliseconds; `None` when they
/// are not all owned by the question's name.
fn read(mut records: &[u8], times: &SignTimes) -> Option<(u16, std::ops::Range<u64>)> {
    let (mut count, mut window) = (0, 0..u64::MAX);
    while !records.is_empty() {
        let (fixed, rest) = records.split_first_chunk::<12>()?;
        let [0xc0, owner, t0, t1, _, _, _, _, _, _, l0, l1] = *fixed else { return None };
        let (data, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])))?;
        if usize::from(owner) != HEADER_LEN {
            return None;
        }
        if u16::from_be_bytes([t0, t1]) == TYPE_RRSIG {
            // Type, algorithm, labels, TTL, expiration, inception (RFC 4034 §3.1).
            let inception = data.get(12..16)?.try_into().ok().map(u32::from_be_bytes)?;
            let used = times.used(inception.into());
            window = window.start.max(used.start * 1000)..window.end.min(used.end * 1000);
        }
        count += 1;
        records = rest;
    }
    Some((count, window))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(rtype: u16, data: &[u8]) -> Vec<u8> {
        let mut out = vec![0xc0, 12];
        out.extend_from_slice(&rtype.to_be_bytes());
        out.extend_from_slice(&[0, 1, 0, 0, 0, 20]);
        out.extend_from_slice(&(data.len() as u16).to_be_bytes());
        out.extend_from_slice(data);
        out
    }

    fn signed(inception: u32) -> Vec<u8> {
        let mut data = vec![0; 12];
        data.extend_from_slice(&inception.to_be_bytes());
        data.resize(90, 9);
        [record(1, &[192, 0, 2, 1]), record(TYPE_RRSIG, &data)].concat()
    }

    fn made(ttl: u32) -> Made {
        let addrs = [IpAddr::from([192, 0, 2, 1])].into_iter().collect();
        Made { met: 3, domain: DomainIndex(7), ttl, addrs }
    }

    #[test]
    fn an_answer_is_given_while_its_signature_is_the_one_that_would_be_made() {
        let times = SignTimes::default();
        let mut pieces = Pieces::default();
        let at = |s: u64| UnixMillis(s * 1000);
        let begin = 1_790_000_000;
        let inception = (begin - times.skew.as_secs()) as u32;
        pieces.keep(made(20), &signed(inception), &times, None, at(begin + 5));
        let end = begin + times.window.as_secs();
        assert_eq!(pieces.get(&made(20), at(end - 1)).map(|p| p.count), Some(2));
        assert!(pieces.get(&made(20), at(end)).is_none());
        assert!(pieces.get(&made(21), at(begin + 6)).is_none());
        pieces.keep(made(20), &signed(inception), &times, Some(at(begin + 60)), at(begin + 5));
        assert!(pieces.get(&made(20), at(begin + 59)).is_some());
        assert!(pieces.get(&made(20), at(begin + 60)).is_none());
    }

    #[test]
    fn what_another_name_owns_is_not_kept() {
        let mut pieces = Pieces::default();
        let mut records = signed(1_790_000_000);
        records[1] = 17;
        pieces.keep(made(20), &records, &SignTimes::default(), None, UnixMillis(1_790_000_000_000));
        assert!(pieces.get(&made(20), UnixMillis(1_790_000_000_000)).is_none());
    }
}

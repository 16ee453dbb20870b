//! The EDNS options of a message, found where they lie: for what is asked of a message beside its answer.
//!
//! Queries and replies alike are walked front to back, and no pointer is followed, so the end of the
//! message bounds the work. What is not well formed ends the walk, which says so: whether a query is
//! accepted is the parser's matter ([`nearmost_dns::query`]), but who must know what all of a message
//! says, must know whether all of it was seen.

use std::ops::Range;

/// Client subnet (RFC 7871).
pub(super) const CLIENT_SUBNET: u16 = 8;
/// Cookie (RFC 7873).
pub(super) const COOKIE: u16 = 10;
/// TCP keepalive (RFC 7828).
pub(super) const TCP_KEEPALIVE: u16 = 11;

/// The type of OPT records (RFC 6891 §6.1.1).
const TYPE_OPT: u16 = 41;
/// Bytes of a header (RFC 1035 §4.1.1).
const HEADER: usize = 12;

/// What stands in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// An EDNS option of this code.
    Option(u16),
    /// The data of a record other than OPT.
    Record,
}

/// Calls `found` with each option's code and where its data lies.
pub(super) fn each(message: &[u8], mut found: impl FnMut(u16, Range<usize>)) {
    let _ = walk(message, &mut |part, at| {
        if let Part::Option(code) = part {
            found(code, at);
        }
    });
}

/// Calls `found` with each option and each other record, and where its data lies; true when that is all
/// there is: the walk ended where the message does.
pub(super) fn whole(message: &[u8], mut found: impl FnMut(Part, Range<usize>)) -> bool {
    walk(message, &mut found) == Some(message.len())
}

/// Whether a message has an option.
pub(super) fn has(message: &[u8], wanted: u16) -> bool {
    let mut there = false;
    each(message, |code, _| there |= code == wanted);
    there
}

/// Where the last record ends; `None` where something is malformed or the message ends early.
fn walk(message: &[u8], found: &mut impl FnMut(Part, Range<usize>)) -> Option<usize> {
    let questions = u16_at(message, 4)?;
    let records = [6, 8, 10].into_iter().map(|at| u16_at(message, at)).sum::<Option<usize>>()?;
    let mut at = HEADER;
    for _ in 0..questions {
        at = after_name(message, at)? + 4;
    }
    for _ in 0..records {
        let fields = after_name(message, at)?;
        let kind = u16_at(message, fields)?;
        let data = fields + 10;
        at = data + u16_at(message, fields + 8)?;
        message.get(data..at)?;
        match kind == usize::from(TYPE_OPT) {
            true => options(message, data..at, found)?,
            false => found(Part::Record, data..at),
        }
    }
    Some(at)
}

fn options(message: &[u8], record: Range<usize>, found: &mut impl FnMut(Part, Range<usize>)) -> Option<()> {
    let mut at = record.start;
    while at < record.end {
        let [c0, c1] = *message.get(at..record.end)?.first_chunk::<2>()?;
        let data = at + 4;
        at = data + u16_at(message, at + 2)?;
        if at > record.end {
            return None;
        }
        found(Part::Option(u16::from_be_bytes([c0, c1])), data..at);
    }
    Some(())
}

fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            0xc0.. => return Some(at + 2),
            // Reserved (RFC 6891 §5).
            64.. => return None,
            length => at += 1 + usize::from(length),
        }
    }
}

fn u16_at(message: &[u8], at: usize) -> Option<usize> {
    let bytes = message.get(at..)?.first_chunk::<2>()?;
    Some(usize::from(u16::from_be_bytes(*bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::{Edns, Message, Query};
    use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
    use hickory_proto::rr::{Name, RecordType};
    use proptest::prelude::*;

    fn query(options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut message = Message::query();
        message.queries.push(Query::query(Name::from_ascii("play.example.com").unwrap(), RecordType::A));
        let mut edns = Edns::new();
        for (code, data) in options {
            edns.options_mut().insert(EdnsOption::Unknown(*code, data.to_vec()));
        }
        message.edns = Some(edns);
        message.to_vec().unwrap()
    }

    #[test]
    fn options_are_found_where_they_lie() {
        let wire = query(&[(TCP_KEEPALIVE, &[]), (12, &[0; 9]), (65001, b"abc")]);
        let mut found = Vec::new();
        each(&wire, |code, at| found.push((code, wire[at].to_vec())));
        found.sort();
        assert_eq!(found, [(11, vec![]), (12, vec![0; 9]), (65001, b"abc".to_vec())]);
        assert!(has(&wire, TCP_KEEPALIVE) && !has(&wire, COOKIE));
        assert!(EdnsCode::from(TCP_KEEPALIVE) == EdnsCode::Keepalive);
        for cut in 0..wire.len() {
            each(&wire[..cut], |_, at| assert!(at.end <= cut));
            assert!(!whole(&wire[..cut], |_, _| ()), "{cut}");
        }
        assert!(whole(&wire, |part, _| assert!(matches!(part, Part::Option(_)))));
        assert!(!whole(&[&wire[..], &[0]].concat(), |_, _| ()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_within_their_bounds(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            each(&bytes, |_, at| assert!(at.start <= at.end && at.end <= bytes.len()));
        }

        #[test]
        fn whatever_follows_a_question_is_walked_within_its_bounds(
            tail in proptest::collection::vec(any::<u8>(), 0..100), counts in any::<[u8; 2]>()
        ) {
            let mut wire = query(&[]);
            wire[8..10].copy_from_slice(&counts);
            wire.extend(tail);
            each(&wire, |_, at| assert!(at.start <= at.end && at.end <= wire.len()));
        }
    }
}

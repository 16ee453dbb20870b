//! The serial of the zones (RFC 1035 §3.3.13), from the records that the registry is made of.

use nearmost_replica::{Kind, Record};

/// Bits of the clock's milliseconds below the serial's unit of 16 ms.
const UNIT_BITS: u32 = 4;

/// The serial of what these visible records make, tombstones among them: when the latest of them was written,
/// on the hybrid logical clock, in units of 16 ms, modulo 2³².
///
/// *Equal on all brokers.* It follows from the records alone, so brokers that hold the same give the same,
/// whatever they did to get there. A broker's own count of changes, [`version`], does not: what reaches one
/// in a hundred steps reaches another in one.
///
/// *Growing.* Whoever writes has seen what it writes after, and its clock is beyond that (removals too: they
/// are records). So each change grows the serial, in the arithmetic of RFC 1982, as long as changes are less
/// than 2³¹ units, 397 days, apart; the unit makes that long without making two changes of one second
/// alike. Changes of one broker within 16 ms may have one serial.
///
/// *Where it does not grow* though the zones differ: a record arrives that was written before the latest one
/// here, as after a split of the network; a challenge ends, or a grant, by time alone; a tombstone is forgotten
/// after 30 days without another change; a whole member is removed. Equality is worth more: zones are never
/// transferred from a broker, so nobody decides by the serial whether to fetch, and whoever compares brokers
/// wants to know whether they agree.
///
/// Besides the kinds that the registry is made of, those count which say whose records of a domain do. Persons,
/// members and their addresses do not: they change no name, and brokers may see them differently.
///
/// [`version`]: nearmost_core::registry::Registry::version
pub(super) fn serial<'a>(records: impl IntoIterator<Item = &'a Record>) -> u32 {
    let counting = records.into_iter().filter(|record| counts(record.kind));
    let latest = counting.map(|record| record.hlc.millis).max().unwrap_or(0);
    // The lower bits are what remains modulo 2³².
    (latest >> UNIT_BITS) as u32
}

fn counts(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::DOMAIN
            | Kind::NODE
            | Kind::MIRROR
            | Kind::DRAIN
            | Kind::FORCE
            | Kind::OVERRIDE
            | Kind::ZONE_KEY
            | Kind::CHALLENGE
            | Kind::GRANT
            | Kind::CLAIM
            | Kind::ROLL
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_replica::{Body, Hlc, PublicKey};
    use proptest::prelude::*;

    const HALF_MS: u64 = 1 << (31 + UNIT_BITS);

    fn record(kind: Kind, millis: u64) -> Record {
        Record {
            kind,
            scope: "a.test".into(),
            id: String::new(),
            body: Body::Tombstone,
            hlc: Hlc { millis, counter: 0 },
            author: PublicKey([0; 32]),
            author_epoch: 0,
            author_seq: 0,
            grants: Vec::new(),
        }
    }

    /// RFC 1982 §3.2.
    fn is_greater(a: u32, b: u32) -> bool {
        a != b && a.wrapping_sub(b) < 1 << 31
    }

    #[test]
    fn the_latest_record_of_the_zones_decides() {
        let records = [(Kind::DOMAIN, 160), (Kind::MIRROR, 320), (Kind::ENDPOINT, 999), (Kind::PERSON, 999)];
        let records = records.map(|(kind, millis)| record(kind, millis));
        assert_eq!(serial(&records), 20);
        assert_eq!(serial(records.iter().rev()), 20);
        assert_eq!(serial(&[]), 0);
    }

    /// Persons aside: they change no name.
    #[test]
    fn all_that_the_registry_is_made_of_counts() {
        let made_of = |kind: &Kind| {
            let body = Body::Live { version: nearmost_wire::registry::BODY_VERSION, bytes: Vec::new() };
            let record = Record { body, ..record(*kind, 0) };
            nearmost_wire::registry::entry_of(&record).is_some()
        };
        let all: Vec<Kind> = (0..=u16::MAX).map(Kind).filter(made_of).collect();
        assert!(all.contains(&Kind::ZONE_KEY) && all.contains(&Kind::PERSON), "{all:?}");
        for kind in all {
            assert_eq!(counts(kind), kind != Kind::PERSON, "{kind:?}");
        }
    }

    proptest! {
        /// Also where it wraps around.
        #[test]
        fn later_is_greater(at in 0..u64::MAX / 2, after in 16..HALF_MS) {
            let of = |millis| serial(&[record(Kind::DOMAIN, millis)]);
            prop_assert!(is_greater(of(at + after), of(at)));
            prop_assert!(!is_greater(of(at), of(at + after)));
        }
    }
}

//! Tests of [`super`].

use super::*;
use crate::key::SigningKey;
use proptest::prelude::*;

fn write(kind: Kind, author: u8, seq: u64, hlc: Hlc, body: Body) -> SignedRecord {
    let key = SigningKey::from_seed(&[author; 32]);
    let record = Record {
        kind,
        scope: "play.example".into(),
        id: "lon".into(),
        body,
        hlc,
        author: key.public(),
        author_epoch: 1,
        author_seq: seq,
        grants: vec![],
    };
    SignedRecord::sign(record, &key).unwrap()
}

fn live(bytes: &[u8]) -> Body {
    Body::Live { version: 1, bytes: bytes.to_vec() }
}

fn at(millis: u64) -> Hlc {
    Hlc { millis, counter: 0 }
}

/// Asserts that `winner` stands whichever of the two comes first.
fn assert_beats(winner: &SignedRecord, loser: &SignedRecord) {
    assert_eq!(merge(Some(loser), winner), MergeOutcome::Applied);
    assert_eq!(merge(Some(winner), loser), MergeOutcome::Superseded);
}

#[test]
fn the_first_record_applies_and_the_same_bytes_are_a_duplicate() {
    let a = write(Kind::MIRROR, 1, 1, at(5), live(b"a"));
    assert_eq!(merge(None, &a), MergeOutcome::Applied);
    assert_eq!(merge(Some(&a), &a.clone()), MergeOutcome::Duplicate);
}

#[test]
fn the_later_write_wins_whatever_it_says() {
    for kind in [Kind::MIRROR, Kind::DRAIN, Kind::BAN, Kind(77), Kind(0x1001), Kind(0x9001)] {
        assert_beats(&write(kind, 1, 2, at(6), live(b"b")), &write(kind, 9, 1, at(5), Body::Tombstone));
        assert_beats(&write(kind, 1, 2, at(6), Body::Tombstone), &write(kind, 9, 1, at(5), live(b"a")));
    }
}

#[test]
fn at_a_tie_the_rule_of_the_kind_decides_before_the_author() {
    for (kind, removal_wins) in [
        (Kind::DOMAIN, true),
        (Kind::NODE, true),
        (Kind::MIRROR, true),
        (Kind::FORCE, true),
        (Kind::PERSON, true),
        (Kind::OVERRIDE, true),
        (Kind::ZONE_KEY, true),
        (Kind(0x0fff), true),
        (Kind(0x3001), true),
        (Kind(0xe001), true),
        (Kind::DRAIN, false),
        (Kind(0x4fff), false),
        (Kind::BAN, false),
        (Kind(0x8fff), false),
    ] {
        for (live_author, dead_author) in [(1, 2), (2, 1)] {
            let present = write(kind, live_author, 1, at(5), live(b"a"));
            let removed = write(kind, dead_author, 1, at(5), Body::Tombstone);
            if removal_wins {
                assert_beats(&removed, &present);
            } else {
                assert_beats(&present, &removed);
            }
        }
    }
}

#[test]
fn where_removal_is_final_no_later_write_brings_it_back() {
    let kind = Kind::application(Rule::RemovalFinal, 1).unwrap();
    assert_beats(&write(kind, 1, 1, at(5), Body::Tombstone), &write(kind, 9, 2, at(6), live(b"later")));
    assert_beats(&write(kind, 9, 2, at(6), live(b"later")), &write(kind, 1, 1, at(5), live(b"a")));
}

#[test]
fn of_two_claims_the_first_stands() {
    assert_beats(&write(Kind::CLAIM, 9, 1, at(5), live(b"a")), &write(Kind::CLAIM, 1, 1, at(6), live(b"b")));
}

#[test]
fn applications_choose_among_three_rules() {
    for rule in [Rule::RemovalWins, Rule::RemovalFinal, Rule::LatestExpiryWins] {
        let kind = Kind::application(rule, 0xfff).unwrap();
        assert!(kind.is_application());
        assert_eq!(Rule::of(kind), rule);
        assert_eq!(Kind::application(rule, 0x1000), None);
    }
    assert_eq!(Kind::application(Rule::FirstWins, 1), None);
    assert!(![Kind::DOMAIN, Kind::DRAIN, Kind::BAN, Kind::CLAIM].iter().any(|k| k.is_application()));
}

#[test]
fn of_two_bans_at_a_tie_the_longer_stands() {
    let until = |ms: u64| live(&[&ms.to_be_bytes()[..], b"reason"].concat());
    for (short_author, long_author) in [(1, 2), (2, 1)] {
        let short = write(Kind::BAN, short_author, 1, at(5), until(1_000));
        let long = write(Kind::BAN, long_author, 1, at(5), until(2_000));
        let endless = write(Kind::BAN, 3, 1, at(5), live(b"short"));
        assert_beats(&long, &short);
        assert_beats(&endless, &long);
    }
}

#[test]
fn tombstones_are_collectable_after_thirty_days_and_live_records_never() {
    let life = 30 * 24 * 3600 * 1000;
    let dead = write(Kind::MIRROR, 1, 1, at(5), Body::Tombstone);
    assert!(!is_collectable(dead.record(), 5 + life - 1));
    assert!(is_collectable(dead.record(), 5 + life));
    assert!(!is_collectable(write(Kind::MIRROR, 1, 1, at(5), live(b"a")).record(), u64::MAX));
}

fn arbitrary_write() -> impl Strategy<Value = SignedRecord> {
    // Few values each, so that ties on every level are common.
    (0u64..3, 0u16..2, 1u8..4, 0u64..4, prop::option::of(0u8..3)).prop_map(
        |(millis, counter, author, seq, body)| {
            let body = body.map_or(Body::Tombstone, |b| live(&u64::from(b).to_be_bytes()));
            write(Kind::BAN, author, seq, Hlc { millis, counter }, body)
        },
    )
}

fn with_kind(signed: &SignedRecord, kind: Kind) -> SignedRecord {
    let seed = (1..4).find(|s| SigningKey::from_seed(&[*s; 32]).public() == signed.record().author).unwrap();
    let record = Record { kind, ..signed.record().clone() };
    SignedRecord::sign(record, &SigningKey::from_seed(&[seed; 32])).unwrap()
}

fn fold<'a>(records: impl IntoIterator<Item = &'a SignedRecord>) -> Option<SignedRecord> {
    records.into_iter().fold(None, |current, incoming| match merge(current.as_ref(), incoming) {
        MergeOutcome::Applied => Some(incoming.clone()),
        MergeOutcome::Duplicate | MergeOutcome::Superseded => current,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any order, any repetition and any grouping of deliveries ends in the same record.
    #[test]
    fn order_repetition_and_grouping_do_not_matter(
        (records, permuted) in prop::collection::vec(arbitrary_write(), 1..8)
            .prop_flat_map(|records| (Just(records.clone()), Just(records).prop_shuffle())),
        kind in prop::sample::select(vec![
            Kind::MIRROR, Kind::DRAIN, Kind::BAN, Kind::CLAIM, Kind(999), Kind(0x3001), Kind(0x9001),
        ]),
        cut in any::<prop::sample::Index>(),
    ) {
        let records: Vec<_> = records.iter().map(|r| with_kind(r, kind)).collect();
        let permuted: Vec<_> = permuted.iter().map(|r| with_kind(r, kind)).collect();
        let expected = fold(&records);
        prop_assert_eq!(&fold(&permuted), &expected);
        prop_assert_eq!(&fold(permuted.iter().chain(&records)), &expected);

        let (left, right) = permuted.split_at(cut.index(permuted.len()));
        let halves: Vec<_> = [fold(left), fold(right)].into_iter().flatten().collect();
        prop_assert_eq!(&fold(&halves), &expected);
    }
}

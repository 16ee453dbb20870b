//! What holds for all statements.

use super::super::statements::{Forks, Statements};
use super::*;
use proptest::prelude::*;

const KEYS: std::ops::Range<u8> = 1..7;

fn any_kind() -> impl Strategy<Value = Kind> {
    let known = [
        Kind::DOMAIN,
        Kind::NODE,
        Kind::MIRROR,
        Kind::FORCE,
        Kind::PERSON,
        Kind::OVERRIDE,
        Kind::PEER,
        Kind::ENDPOINT,
        Kind::GRANT,
        Kind::ZONE_KEY,
        Kind::DRAIN,
        Kind::BAN,
        Kind::CLAIM,
        Kind::ROLL,
        Kind(0x1001),
    ];
    prop_oneof![4 => prop::sample::select(known.to_vec()), 1 => any::<u16>().prop_map(Kind)]
}

/// A statement that may count.
fn any_statement() -> impl Strategy<Value = SignedRecord> {
    (0u8..12, KEYS, 0u64..6, KEYS, prop::sample::select(GrantRole::ALL.to_vec())).prop_map(
        |(what, by, at, about, role)| match what {
            0 | 1 => admin(by, at, about),
            2 => member(by, at, about, &["*.example"]),
            3 => no_peer(by, at, about),
            4 | 5 => vouch(by, at, about),
            6 => no_person(by, at, about),
            7 => claim(by, at),
            8 => roll(by, at, about),
            9 => grant(by, at, about, role),
            10 => revoke(by, at, about),
            _ => ban(by, at, if at % 2 == 0 { "" } else { D }, &person(about), 10 * at),
        },
    )
}

fn any_body() -> impl Strategy<Value = Body> {
    let json = prop_oneof![
        Just("{}".to_owned()),
        Just(r#"{"role":"admin"}"#.to_owned()),
        Just(r#"{"role":"writer","kinds":[4097],"until_unix_ms":5}"#.to_owned()),
        Just(r#"{"name":"x","admin":true,"domains":["*"]}"#.to_owned()),
        Just(r#"{"to":"np1","proof":"AA=="}"#.to_owned()),
        ".*",
    ];
    prop_oneof![
        Just(Body::Tombstone),
        json.prop_map(|text| Body::Live { version: BODY_VERSION, bytes: text.into_bytes() }),
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(version, bytes)| Body::Live { version, bytes }),
    ]
}

/// A statement of any sort by any of few keys.
fn arbitrary() -> impl Strategy<Value = (u8, Record)> {
    let scope = prop_oneof![Just(String::new()), Just(D.to_owned()), ".{0,8}"];
    let about = prop_oneof![
        KEYS.prop_map(broker),
        KEYS.prop_map(person),
        KEYS.prop_map(|n| id(Role::Node, n)),
        Just(String::new()),
        ".{0,8}",
    ];
    (any_kind(), scope, about, any_body(), KEYS, any::<u64>())
        .prop_map(|(kind, scope, about, body, by, at)| (by, unsigned(by, at, (kind, &scope, &about), body)))
}

fn all_answers(rights: &Rights, asked: &[(u8, Record)]) -> String {
    let judged: Vec<_> = asked
        .iter()
        .map(|(_, r)| (rights.admits(r), rights.in_force(r, 5), rights.banned(&r.author, &r.scope, 5)))
        .collect();
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {judged:?}",
        rights.members().iter().map(|m| (m.key, m.via, m.depth, &m.body)).collect::<Vec<_>>(),
        rights.persons(),
        rights.owner(D),
        rights.grants(D).iter().map(|g| (g.to, g.by, &g.body)).collect::<Vec<_>>(),
        rights.contested(),
        rights.next_change(0),
    )
}

/// What a store that holds nothing ends up with, offered these again and again.
fn offered(all: &[SignedRecord]) -> Vec<SignedRecord> {
    let mut held: Vec<SignedRecord> = Vec::new();
    loop {
        let told = rights(1, &held);
        let new = |s: &&SignedRecord| !held.contains(s) && told.admits(s.record()).is_admitted();
        let taken: Vec<_> = all.iter().filter(new).cloned().collect();
        if taken.is_empty() {
            return held;
        }
        held.extend(taken);
    }
}

/// For people who read of a failure.
fn in_short(statements: &[SignedRecord]) -> String {
    let number = |id: &str| (0..=255).find(|n| [broker(*n), person(*n)].contains(&id.to_owned()));
    let one = |s: &SignedRecord| {
        let r = s.record();
        let by = (0..=255).find(|n| key(*n) == r.author);
        let said = if r.is_tombstone() { "-" } else { "+" };
        format!("{said}{} {:?} by {:?} at {}", r.kind, number(&r.id), by, r.hlc.millis)
    };
    statements.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// One statement of each author about each thing, as stores hold them.
fn one_of_each(statements: &[SignedRecord]) -> Vec<SignedRecord> {
    let statements = Statements::new(statements, &Forks::default());
    let about_keys = statements.peers.values().chain(statements.persons.values()).flatten().map(|(_, s)| *s);
    let in_domains = [&statements.claims, &statements.rolls, &statements.grants];
    let in_domains = in_domains.into_iter().flat_map(|all| all.values().flatten().copied());
    about_keys.chain(in_domains).chain(statements.bans.iter().copied()).cloned().collect()
}

proptest! {
    #[test]
    fn what_is_hidden_has_no_effect_and_what_has_one_reaches_others(
        held in prop::collection::vec(any_statement(), 0..24),
    ) {
        let held = one_of_each(&held);
        let told = rights(1, &held);
        let shown: Vec<_> = held.iter().filter(|s| told.admits(s.record()).is_admitted()).cloned().collect();
        let answers = all_answers(&told, &[]);
        prop_assert_eq!(&answers, &all_answers(&rights(1, &shown), &[]), "{}", in_short(&held));
        let reached = offered(&shown);
        prop_assert_eq!(&answers, &all_answers(&rights(1, &reached), &[]), "{} of {}", in_short(&reached), in_short(&held));
    }

    #[test]
    fn the_order_of_statements_makes_no_difference(
        (held, shuffled) in prop::collection::vec(any_statement(), 0..24)
            .prop_flat_map(|held| (Just(held.clone()), Just(held).prop_shuffle())),
        asked in prop::collection::vec(arbitrary(), 8),
        before in prop::collection::vec(any_statement(), 0..6),
    ) {
        let mut learnt = rights(1, &before);
        learnt.learn(&shuffled, &[]);
        prop_assert_eq!(all_answers(&rights(1, &held), &asked), all_answers(&learnt, &asked));
    }

    #[test]
    fn arbitrary_statements_are_judged_and_never_a_panic(
        sane in prop::collection::vec(any_statement(), 0..12),
        odd in prop::collection::vec(arbitrary(), 0..12),
    ) {
        let signed = odd.iter().map(|(by, record)| sign(*by, record.clone()));
        let held: Vec<_> = sane.into_iter().chain(signed).collect();
        let told = rights(1, &held);
        let _ = all_answers(&told, &odd);
        prop_assert!(told.is_admin(&key(1)));
        for now in [0, 5, u64::MAX] {
            prop_assert!(told.next_change(now).is_none_or(|next| next > now));
        }
    }

    #[test]
    fn what_no_rightful_author_says_changes_nothing(
        held in prop::collection::vec(any_statement(), 0..16),
        extra in any_statement(),
    ) {
        let told = rights(1, &held);
        let with = rights(1, &[&held[..], std::slice::from_ref(&extra)].concat());
        // Refused before and after: then it has no effect either.
        if !told.admits(extra.record()).is_admitted() && !with.admits(extra.record()).is_admitted() {
            // Who is called removed, or revoked, may be another; who has rights is not.
            prop_assert_eq!(all_answers(&told, &[]), all_answers(&with, &[]));
        }
    }
}

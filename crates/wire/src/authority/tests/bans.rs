//! Keys that are refused for a while.

use super::*;

fn with(extra: &[SignedRecord]) -> Rights {
    let base = [admin(1, 1, 2), member(1, 1, 3, &["*"]), vouch(3, 1, 30), claim(30, 5)];
    rights(1, &[&base[..], extra].concat())
}

#[test]
fn a_ban_lasts_until_its_expiry_in_its_scope() {
    let told = with(&[ban(2, 6, "", &person(9), 100), ban(30, 6, D, &person(8), 100)]);
    for (author, scope, now, until) in [
        (9, "", 99, Some(100)),
        (9, D, 99, Some(100)),
        (9, "other.example", 0, Some(100)),
        (9, "", 100, None),
        (8, D, 99, Some(100)),
        (8, "", 99, None),
        (8, "other.example", 99, None),
        (7, "", 0, None),
    ] {
        assert_eq!(told.banned(&key(author), scope, now), until, "{author} in {scope:?} at {now}");
    }
}

#[test]
fn only_who_may_bans() {
    let told = with(&[
        ban(3, 6, "", &person(9), 100),
        ban(30, 6, "", &person(9), 100),
        ban(2, 6, D, &person(9), 100),
    ]);
    assert_eq!(told.banned(&key(9), D, 0), None);
}

#[test]
fn the_later_word_stands_and_at_a_tie_the_longer_ban() {
    let until = |held: &[SignedRecord]| with(held).banned(&key(9), "", 0);
    let nine = person(9);
    let lifted = |by, at| gone(by, at, (Kind::BAN, "", &nine));
    assert_eq!(until(&[ban(1, 6, "", &nine, 100), lifted(2, 7)]), None);
    assert_eq!(until(&[ban(1, 6, "", &nine, 100), lifted(2, 6)]), Some(100));
    assert_eq!(until(&[ban(1, 6, "", &nine, 100), ban(2, 6, "", &nine, 200)]), Some(200));
    assert_eq!(until(&[ban(1, 7, "", &nine, 100), ban(2, 6, "", &nine, 200)]), Some(100));
    assert_eq!(until(&[ban(1, 7, "", &nine, 100), ban(2, 6, "", &broker(9), 200)]), Some(200));
    assert_eq!(until(&[ban(1, 6, "", "192.0.2.1", 100)]), None, "an address is no key");
}

#[test]
fn a_body_too_short_never_expires() {
    let short = Body::Live { version: 77, bytes: vec![1] };
    let told = with(&[sign(1, unsigned(1, 6, (Kind::BAN, "", &person(9)), short))]);
    assert_eq!(told.banned(&key(9), "", u64::MAX - 1), Some(u64::MAX));
}

#[test]
fn the_root_is_not_banned_and_nobody_lifts_its_own_ban() {
    let told = with(&[ban(2, 6, "", &broker(1), 100), ban(30, 6, D, &broker(1), 100)]);
    assert_eq!((told.banned(&key(1), "", 0), told.banned(&key(1), D, 0)), (None, None));
    let own = broker(2);
    let told = with(&[ban(1, 6, "", &own, 100), gone(2, 9, (Kind::BAN, "", &own))]);
    assert_eq!(told.banned(&key(2), "", 0), Some(100));
    assert!(is_refused(&told, 2, (Kind::BAN, "", &own)));
}

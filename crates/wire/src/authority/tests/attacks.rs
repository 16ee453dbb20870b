//! What a malicious member tries. It is 6, no admin, may create domains below `evil.example`, and has a
//! person 60. The others: the root 1, an admin 2, a member 3 with its person 30, who owns `d.example`.

use super::*;

fn with(extra: &[SignedRecord]) -> Rights {
    let base = [
        admin(1, 1, 2),
        member(1, 1, 3, &["d.example"]),
        member(1, 1, 6, &["*.evil.example"]),
        vouch(3, 1, 30),
        vouch(6, 1, 60),
        claim(30, 5),
    ];
    rights(1, &[&base[..], extra].concat())
}

/// Whether the statement is refused, and changes nothing where it is held all the same.
fn fails(stated: &SignedRecord) {
    let (before, after) = (with(&[]), with(std::slice::from_ref(stated)));
    for rights in [&before, &after] {
        assert!(!rights.admits(stated.record()).is_admitted(), "{stated:?}");
    }
    assert_eq!(picture(&before), picture(&after), "{stated:?}");
}

/// All that can be asked.
fn picture(rights: &Rights) -> String {
    let bans: Vec<_> =
        (0..=99).map(|n| (rights.banned(&key(n), "", 0), rights.banned(&key(n), D, 0))).collect();
    format!(
        "{:?} {:?} {:?} {:?} {:?} {bans:?}",
        rights.members(),
        rights.persons(),
        rights.owner(D),
        rights.grants(D),
        rights.contested()
    )
}

#[test]
fn it_makes_itself_or_others_no_admins() {
    for by in [6, 60] {
        fails(&admin(by, 9, 6));
        fails(&admin(by, 9, 99));
        fails(&peer(by, 9, 6, &peer_body("m6", false, &["*"])));
    }
}

#[test]
fn it_removes_nobody() {
    for by in [6, 60] {
        for about in [1, 2, 3] {
            fails(&no_peer(by, 9, about));
        }
        fails(&no_peer(by, u64::MAX, 2));
    }
    // It may end its own word for a person, and nobody else's.
    let told = with(&[no_person(6, 9, 30)]);
    assert_eq!(told.person(&key(30)).map(|p| p.homes.clone()), Some(vec![key(3)]));
    fails(&no_person(60, 9, 30));
}

#[test]
fn it_takes_no_domain_of_others() {
    for by in [6, 60] {
        for at in [0, 9] {
            fails(&claim(by, at));
        }
        for thing in [
            (Kind::DOMAIN, D, ""),
            (Kind::MIRROR, D, "m"),
            (Kind::ZONE_KEY, D, "s-1"),
            (Kind(0x1001), D, "x"),
        ] {
            assert!(is_refused(&with(&[]), by, thing), "{thing:?}");
        }
        let foreign = (Kind::CLAIM, "free.example", "");
        assert_eq!(says(&with(&[]), by, foreign), Judgement::MissingGrant);
        let claimed = sign(by, unsigned(by, 0, foreign, live(&ClaimBody {})));
        assert_eq!(with(&[claimed]).owner("free.example"), None);
    }
}

#[test]
fn it_grants_itself_nothing() {
    for by in [6, 60] {
        for role in GrantRole::ALL {
            fails(&grant(by, 9, by, role));
        }
        fails(&revoke(by, 9, 30));
    }
}

#[test]
fn it_rolls_nobodys_key() {
    let new = KeyPair::from_seed(Role::Person, &[60; 32]);
    let body = live(&RollBody::sign(D, &key(30).0, &new));
    for by in [6, 60] {
        fails(&sign(by, unsigned(by, 6, (Kind::ROLL, D, &person(30)), body.clone())));
        fails(&sign(by, unsigned(by, 6, (Kind::ROLL, D, &person(by)), body.clone())));
        fails(&roll(by, 6, 60));
        fails(&gone(by, 6, (Kind::ROLL, D, &person(30))));
    }
    // A throw-away key with no home leads to no more than its own rights.
    let told = with(&[claim(99, 0), roll(99, 1, 60)]);
    assert_eq!((told.owner(D), told.contested().len()), (Some(key(30)), 0));
    fails(&roll(99, 1, 60));
}

#[test]
fn it_touches_no_nodes_of_others_and_bans_nobody() {
    for by in [6, 60] {
        for node in ["m3", "m3-a", "m66", "any"] {
            for kind in [Kind::NODE, Kind::DRAIN] {
                assert!(is_refused(&with(&[]), by, (kind, "", node)), "{kind} {node}");
                let tombstone = unsigned(by, 9, (kind, "", node), Body::Tombstone);
                assert!(!with(&[]).admits(&tombstone).is_admitted(), "{kind} {node}");
            }
        }
        for about in [broker(1), broker(2), broker(3), person(30)] {
            fails(&ban(by, 9, "", &about, u64::MAX));
            fails(&ban(by, 9, D, &about, u64::MAX));
            fails(&gone(by, 9, (Kind::BAN, "", &about)));
        }
    }
}

#[test]
fn it_brings_no_removed_member_back_and_does_not_come_back() {
    let removed = [no_peer(1, 8, 3), no_peer(1, 8, 6)];
    for by in [6, 60, 3, 30] {
        for about in [3, 6] {
            for at in [2, 9] {
                let told = with(&[&removed[..], &[admin(by, at, about)]].concat());
                assert_eq!(member_numbers(&told), [1, 2], "{by} about {about} at {at}");
                assert!(!told.admits(admin(by, at, about).record()).is_admitted());
            }
        }
    }
    let told = with(&removed);
    assert!(told.persons().is_empty() && told.owner(D).is_none());
    // Nor does an admin farther away, be it one that it won over.
    let told = with(&[&removed[..], &[admin(2, 9, 6)]].concat());
    assert_eq!(member_numbers(&told), [1, 2]);
}

#[test]
fn what_it_dates_back_counts_no_more_than_the_rest() {
    let granted = with(&[grant(30, 6, 60, GrantRole::Operator)]);
    let before = unsigned(60, 7, (Kind::MIRROR, D, "m"), Body::Tombstone);
    assert!(granted.admits(&before).is_admitted());
    let revoked = with(&[revoke(30, 9, 60)]);
    assert!(!revoked.admits(&before).is_admitted());
    let removed = with(&[no_peer(1, 8, 6)]);
    for by in [6, 60] {
        let before = unsigned(by, 2, (Kind::NODE, "", "m6-a"), Body::Tombstone);
        assert!(with(&[]).admits(&before).is_admitted());
        assert!(!removed.admits(&before).is_admitted());
    }
}

#[test]
fn it_writes_no_endpoint_but_its_own() {
    let told = with(&[]);
    assert!(may(&told, 6, (Kind::ENDPOINT, "", &broker(6))));
    for by in [6, 60] {
        for about in [1, 2, 3] {
            assert!(is_refused(&told, by, (Kind::ENDPOINT, "", &broker(about))));
        }
    }
    assert!(is_refused(&told, 60, (Kind::ENDPOINT, "", &broker(6))));
}

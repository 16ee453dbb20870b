//! Who is a member and a person, and what they state of the whole federation.

use super::*;

#[test]
fn the_root_is_an_admin_member_by_itself() {
    let alone = rights(1, &[]);
    let members = alone.members();
    assert_eq!(members.len(), 1);
    assert_eq!(
        (members[0].key, members[0].via, members[0].depth, members[0].body.admin),
        (key(1), key(1), 0, true)
    );
    assert!(alone.is_admin(&key(1)) && alone.persons().is_empty() && alone.contested().is_empty());
    for kind in [Kind::PEER, Kind::ENDPOINT] {
        assert!(may(&alone, 1, (kind, "", &broker(1))), "{kind}");
    }
    for thing in [
        (Kind::NODE, "", "n"),
        (Kind::OVERRIDE, "", "192.0.2.0/24"),
        (Kind::MIRROR, D, "m"),
        (Kind(0x77), D, "x"),
    ] {
        assert!(may(&alone, 1, thing), "{thing:?}");
        assert_eq!(says(&alone, 2, thing), Judgement::MissingGrant, "{thing:?}");
    }
}

#[test]
fn the_roots_statement_of_itself_names_it_and_takes_nothing_from_it() {
    let own = peer(1, 1, 1, &peer_body("home", false, &["a.example"]));
    let told = rights(1, &[own.clone(), admin(1, 1, 2), peer(2, 5, 1, &peer_body("else", false, &[]))]);
    let members = told.members();
    assert_eq!((members[0].body.name.as_str(), members[0].body.admin), ("home", true));
    let told = rights(1, &[own, admin(1, 1, 2), no_peer(2, 5, 1)]);
    assert!(told.is_admin(&key(1)));
    assert!(rights(1, &[no_peer(1, 1, 1)]).is_admin(&key(1)));
}

#[test]
fn members_are_found_through_admins_and_only_through_them() {
    let held = [admin(1, 1, 2), admin(2, 1, 3), member(3, 1, 4, &[]), admin(4, 1, 5), admin(6, 1, 7)];
    let found = rights(1, &held);
    assert_eq!(member_numbers(&found), [1, 2, 3, 4]);
    let members: Vec<_> = found.members().iter().map(|m| (m.key, m.via, m.depth)).collect();
    assert_eq!(members, [(key(1), key(1), 0), (key(2), key(1), 1), (key(3), key(2), 2), (key(4), key(3), 3)]);
    assert!(found.is_admin(&key(3)) && !found.is_admin(&key(4)));
    assert_eq!(member_numbers(&rights(4, &held)), [4, 5], "who asks is the root of its own trust");
}

#[test]
fn who_is_nearer_to_the_root_outweighs_whoever_is_farther() {
    // What 1 says of the rights of 3 counts more than what 2, whom 1 made an admin, says later.
    let held = [admin(1, 1, 2), member(1, 1, 3, &["a.example"]), admin(2, 9, 3)];
    assert!(!rights(1, &held).is_admin(&key(3)));
    // What the root removed nobody brings back.
    let held = [admin(1, 1, 2), no_peer(1, 1, 3), admin(2, 9, 3)];
    let told = rights(1, &held);
    assert_eq!(member_numbers(&told), [1, 2]);
    assert_eq!(
        says(&told, 3, (Kind::ENDPOINT, "", &broker(3))),
        Judgement::Unauthorised("this broker was removed from the federation")
    );
}

#[test]
fn of_what_is_said_equally_near_the_later_stands() {
    let two = [admin(1, 1, 2), admin(1, 1, 3)];
    let with = |extra: &[SignedRecord]| member_numbers(&rights(1, &[&two[..], extra].concat()));
    assert_eq!(with(&[member(2, 5, 4, &[]), no_peer(3, 6, 4)]), [1, 2, 3]);
    assert_eq!(with(&[member(2, 7, 4, &[]), no_peer(3, 6, 4)]), [1, 2, 3, 4]);
    assert_eq!(with(&[member(2, 6, 4, &[]), no_peer(3, 6, 4)]), [1, 2, 3], "at a tie removal wins");
}

#[test]
fn a_removal_outweighs_what_was_said_before_it_however_near() {
    let all = [admin(1, 1, 2), admin(1, 1, 3), admin(3, 2, 4), admin(4, 3, 5)];
    let with = |extra: &[SignedRecord]| member_numbers(&rights(1, &[&all[..], extra].concat()));
    assert_eq!(with(&[no_peer(2, 9, 3)]), [1, 2], "and those whom it brought");
    assert_eq!(with(&[no_peer(5, 9, 2)]), [1, 3, 4, 5], "also by one far away");
    assert_eq!(with(&[no_peer(2, 9, 1)]), [1, 2, 3, 4, 5], "nobody is removed at home");
    let again = [admin(1, 1, 2), admin(1, 12, 3), no_peer(2, 9, 3)];
    assert_eq!(member_numbers(&rights(1, &again)), [1, 2, 3], "who is let in again stays");
    assert_eq!(with(&[no_peer(2, 9, 3), admin(4, 12, 3)]), [1, 2], "but not by those whom it brought");
    assert_eq!(with(&[no_peer(2, 8, 3), no_peer(3, 9, 2)]), [1, 2], "of two the earlier prevails");
    assert_eq!(with(&[no_peer(2, 9, 3), no_peer(3, 8, 2)]), [1, 3, 4, 5]);
}

#[test]
fn what_counts_at_home_alone_is_not_shared() {
    // 2 is no admin where 1 is asked, and has let 1 in as one.
    let held = [admin(2, 1, 1), member(1, 1, 2, &["b.example"])];
    let of = |broker| rights(broker, &held);
    let shared = |rights: &Rights, kind, scope, id: &str| {
        let record = unsigned(2, 5, (kind, scope, id), Body::Tombstone);
        rights.admits(&record).is_admitted() && rights.is_shared(&record)
    };
    assert!(!shared(&of(2), Kind::PEER, "", &broker(1)));
    assert!(!shared(&of(2), Kind::DOMAIN, "a.example", ""), "a domain that it may not create elsewhere");
    assert!(shared(&of(2), Kind::DOMAIN, "b.example", ""));
    assert!(shared(&of(2), Kind::ENDPOINT, "", &broker(2)));
    let admins = [admin(2, 1, 1), admin(1, 1, 2)];
    assert!(shared(&rights(2, &admins), Kind::PEER, "", &broker(1)));
    assert!(shared(&rights(2, &[]), Kind::DOMAIN, "a.example", ""), "alone there is nobody to hide from");
}

#[test]
fn a_body_that_is_not_understood_gives_nothing() {
    let newer = Body::Live { version: BODY_VERSION + 1, bytes: vec![1] };
    let broken = Body::Live { version: BODY_VERSION, bytes: b"{".to_vec() };
    for body in [newer, broken] {
        let thing = (Kind::PEER, "", &*broker(2));
        let told = rights(1, &[sign(1, unsigned(1, 1, thing, body.clone())), admin(2, 1, 3)]);
        assert_eq!(member_numbers(&told), [1]);
        assert_eq!(says(&told, 2, (Kind::NODE, "", "n")), Judgement::MissingGrant);
        let vouched = sign(1, unsigned(1, 1, (Kind::PERSON, "", &person(9)), body));
        assert!(rights(1, &[vouched]).persons().is_empty());
    }
}

#[test]
fn a_person_has_its_homes_rights() {
    let held = [
        admin(1, 1, 2),
        member(1, 1, 3, &["*.c.example"]),
        vouch(2, 1, 20),
        vouch(3, 1, 30),
        vouch(4, 1, 40),
        vouch(30, 1, 31),
    ];
    let told = rights(1, &held);
    let homes: Vec<_> = told.persons().iter().map(|p| (p.key, p.homes.clone())).collect();
    let mut expected = vec![(key(20), vec![key(2)]), (key(30), vec![key(3)])];
    expected.sort();
    assert_eq!(homes, expected, "neither strangers nor persons vouch");
    assert!(told.is_admin(&key(20)) && !told.is_admin(&key(30)));
    assert!(may(&told, 20, (Kind::PEER, "", &broker(9))));
    assert!(may(&told, 20, (Kind::DOMAIN, D, "")));
    assert!(may(&told, 30, (Kind::DOMAIN, "x.c.example", "")));
    assert!(!may(&told, 30, (Kind::DOMAIN, D, "")));
    assert!(may(&told, 30, (Kind::NODE, "", "m3-a")) && !may(&told, 30, (Kind::NODE, "", "m4")));
    assert!(!may(&told, 30, (Kind::ENDPOINT, "", &broker(3))), "an endpoint is the broker's own word");
    let both = rights(1, &[&held[..], &[vouch(1, 1, 30)]].concat());
    assert!(both.is_admin(&key(30)), "one admin among its homes is enough");
    assert_eq!(both.person(&key(30)).map(|p| p.homes.clone()), Some(vec![key(1), key(3)]));
}

#[test]
fn a_person_of_an_admin_speaks_for_its_home() {
    let held = [vouch(1, 1, 10), admin(10, 1, 2), member(10, 2, 3, &[])];
    let told = rights(1, &held);
    assert_eq!(member_numbers(&told), [1, 2, 3]);
    assert_eq!(told.members()[1].via, key(10));
    assert_eq!(told.members()[1].depth, 1, "no farther than its home");
    let taken_back = rights(1, &[&held[..], &[no_peer(1, 5, 2)]].concat());
    assert_eq!(member_numbers(&taken_back), [1, 3]);
    let removed = rights(1, &[&held[1..], &[no_person(1, 5, 10)]].concat());
    assert_eq!(member_numbers(&removed), [1]);
}

#[test]
fn a_person_is_called_as_it_says_and_vouches_for_nobody() {
    let told = |held: &[SignedRecord]| rights(1, held).person(&key(10)).map(|p| p.name.clone());
    assert_eq!(told(&[named(10, 1, 10, "Ada")]), None);
    assert_eq!(told(&[named(10, 1, 10, "Ada"), vouch(1, 1, 10)]), Some("Ada".into()));
    assert_eq!(told(&[named(10, 1, 10, "Ada"), named(1, 9, 10, "A.")]), Some("Ada".into()));
    assert_eq!(told(&[named(1, 9, 10, "A.")]), Some("A.".into()));
    assert_eq!(told(&[no_person(10, 1, 10), named(1, 9, 10, "A.")]), Some("A.".into()));
    let itself = (Kind::PERSON, "", &*person(10));
    assert_eq!(says(&rights(1, &[]), 10, itself), Judgement::MissingGrant);
    assert!(may(&rights(1, &[vouch(1, 1, 10)]), 10, itself));
    assert!(!may(&rights(1, &[member(1, 1, 3, &[]), vouch(3, 1, 10)]), 10, (Kind::PERSON, "", &person(11))));
}

#[test]
fn a_home_ends_its_own_word_and_an_admin_everybodys() {
    let base = [admin(1, 1, 2), member(1, 1, 3, &[]), member(1, 1, 4, &[])];
    let homes = |extra: &[SignedRecord]| {
        rights(1, &[&base[..], extra].concat()).person(&key(10)).map(|p| p.homes.clone()).unwrap_or_default()
    };
    assert_eq!(homes(&[vouch(3, 1, 10), no_person(4, 9, 10)]), [key(3)]);
    assert_eq!(homes(&[no_person(3, 9, 10)]), []);
    assert_eq!(homes(&[vouch(1, 9, 10), vouch(3, 9, 10), no_person(2, 1, 10)]), []);
    let by_admin = rights(1, &[&base[..], &[vouch(3, 9, 10), no_person(2, 1, 10)]].concat());
    let itself = (Kind::PERSON, "", &*person(10));
    assert_eq!(says(&by_admin, 10, itself), Judgement::Unauthorised("an admin removed this person"));
    let by_home = rights(1, &[&base[..], &[no_person(3, 9, 10)]].concat());
    assert_eq!(says(&by_home, 10, itself), Judgement::Unauthorised("its home removed this person"));
}

#[test]
fn a_person_speaks_for_its_home_until_somebody_as_near_removes_it() {
    // 2 is an admin by the word of 10, a person of 1, and removes that person.
    let held = [vouch(1, 1, 10), admin(10, 1, 2), no_person(2, 9, 10)];
    let told = rights(1, &held);
    assert_eq!(member_numbers(&told), [1, 2], "else 2 would be removed by its own word");
    assert!(told.person(&key(10)).is_none() && !may(&told, 10, (Kind::NODE, "", "n")));
    assert!(may(&told, 10, (Kind::PEER, "", &broker(2))), "what counts is taken");
    // An equal of its home silences it.
    let held = [admin(1, 1, 2), admin(1, 1, 3), vouch(2, 1, 20), admin(20, 1, 4), no_person(3, 9, 20)];
    assert_eq!(member_numbers(&rights(1, &held)), [1, 2, 3]);
}

#[test]
fn nodes_have_names_of_their_members() {
    let told =
        rights(1, &[member(1, 1, 2, &[]), peer(1, 1, 3, &peer_body("", false, &["*"])), admin(1, 1, 4)]);
    let upper = rights(1, &[peer(1, 1, 2, &peer_body("Bob", false, &[]))]);
    assert!(may(&upper, 2, (Kind::NODE, "", "bob-1")) && !may(&upper, 2, (Kind::NODE, "", "Bob-1")));
    for kind in [Kind::NODE, Kind::DRAIN] {
        for (by, node, allowed) in [
            (2, "m2", true),
            (2, "m2-lon", true),
            (2, "m2lon", false),
            (2, "m3", false),
            (2, "", false),
            (3, "", false),
            (3, "-x", false),
            (3, "m2", false),
            (4, "m2", true),
            (1, "any", true),
        ] {
            let judged = says(&told, by, (kind, "", node));
            assert_eq!(judged.is_admitted(), allowed, "{kind} {by} {node:?}");
            assert!(allowed || matches!(judged, Judgement::Unauthorised(_)), "{kind} {by} {node:?}");
        }
        assert_eq!(says(&told, 9, (kind, "", "m2")), Judgement::MissingGrant);
    }
}

#[test]
fn federation_wide_kinds_are_the_admins() {
    let held = [admin(1, 1, 2), member(1, 1, 3, &["*"]), vouch(2, 1, 20), vouch(3, 1, 30)];
    let told = rights(1, &held);
    let prefix = (Kind::OVERRIDE, "", "192.0.2.0/24");
    let banned = person(99);
    for thing in [prefix, (Kind::BAN, "", &*banned), (Kind(0x0777), "", "x"), (Kind(0x1001), "", "x")] {
        for by in [1, 2, 20] {
            assert!(may(&told, by, thing), "{thing:?} by {by}");
        }
        for by in [3, 30, 9] {
            assert_eq!(says(&told, by, thing), Judgement::MissingGrant, "{thing:?} by {by}");
        }
    }
    let endpoint = broker(3);
    assert!(may(&told, 3, (Kind::ENDPOINT, "", &endpoint)));
    for by in [1, 2, 20, 30] {
        assert!(is_refused(&told, by, (Kind::ENDPOINT, "", &endpoint)), "{by}");
    }
    assert_eq!(says(&told, 9, (Kind::ENDPOINT, "", &broker(9))), Judgement::MissingGrant);
}

#[test]
fn ids_have_one_spelling() {
    let upper = format!("nb1{}", broker(2)[3..].to_ascii_uppercase());
    let told =
        rights(1, &[sign(1, unsigned(1, 1, (Kind::PEER, "", &upper), live(&peer_body("x", true, &[]))))]);
    assert_eq!(member_numbers(&told), [1]);
    for thing in
        [(Kind::PEER, "", &*upper), (Kind::PEER, "", "x"), (Kind::PERSON, "", "x"), (Kind::ENDPOINT, "", "x")]
    {
        assert!(is_refused(&told, 1, thing), "{thing:?}");
    }
    assert!(is_refused(&told, 1, (Kind::GRANT, D, "x")) && is_refused(&told, 1, (Kind::CLAIM, D, "x")));
}

#[test]
fn statements_after_a_fork_count_for_nothing() {
    let held = [admin(1, 1, 2), member(2, 5, 3, &[]), member(2, 6, 4, &[])];
    let mut told = Rights::new(key(1));
    told.learn(&held, &[(key(2), (1, 7)), (key(2), (1, 6))]);
    assert_eq!(member_numbers(&told), [1, 2, 3]);
    let at = |seq| told.admits(&unsigned(2, seq, (Kind::NODE, "", "n"), Body::Tombstone));
    assert_eq!(at(5), Judgement::Admitted);
    for seq in [6, 7, 99] {
        assert!(matches!(at(seq), Judgement::Unauthorised(why) if why.contains("forked")), "{seq}");
    }
    let next_epoch = Record { author_epoch: 2, ..unsigned(2, 1, (Kind::NODE, "", "n"), Body::Tombstone) };
    assert!(!told.admits(&next_epoch).is_admitted());
    told.learn(&held, &[]);
    assert_eq!(member_numbers(&told), [1, 2, 3, 4], "every opinion is formed anew");
}

//! What owners give.

use super::*;

/// Domain `d.example` of 30, a person of the member 3.
fn owned(extra: &[SignedRecord]) -> Rights {
    let base = [member(1, 1, 3, &["*"]), admin(1, 1, 2), vouch(3, 1, 30), claim(30, 5)];
    rights(1, &[&base[..], extra].concat())
}

fn give(rights: &Rights, by: u8, to: u8, role: GrantRole) -> Judgement {
    rights.admits(grant(by, 1_000, to, role).record())
}

#[test]
fn a_role_is_what_it_may_state() {
    let application = Kind(0x1001);
    let writer = GrantBody { kinds: vec![application.0, Kind::DOMAIN.0], ..grant_body(GrantRole::Writer) };
    let told = owned(&[
        grant(30, 6, 70, GrantRole::Admin),
        grant(30, 6, 71, GrantRole::Operator),
        grant(30, 6, 72, GrantRole::Auditor),
        grant_with(30, 6, 73, &writer),
    ]);
    let grantee = person(99);
    for (kind, id, allowed) in [
        (Kind::DOMAIN, "", &[70][..]),
        (Kind::CHALLENGE, "_acme-challenge/v", &[70]),
        (Kind::ZONE_KEY, "s-1", &[70]),
        (Kind::MIRROR, "m", &[70, 71]),
        (Kind::DRAIN, "m", &[70, 71]),
        (Kind::FORCE, "m", &[70, 71]),
        (application, "x", &[70, 73]),
        (Kind(0x1002), "x", &[70]),
        (Kind::BAN, &*grantee, &[]),
        (Kind(0x0777), "x", &[]),
        (Kind::NODE, "x", &[]),
    ] {
        for by in 70..=73 {
            let judged = says(&told, by, (kind, D, id));
            let expected = if allowed.contains(&by) { Judgement::Admitted } else { Judgement::MissingGrant };
            assert_eq!(judged, expected, "{kind} by {by}");
            assert!(!may(&told, by, (kind, "other.example", id)), "{kind} by {by} elsewhere");
        }
    }
    for reader in [30, 70, 71, 72, 73] {
        assert!(told.may_read(&key(reader), D, 0), "{reader}");
    }
    for stranger in [1, 2, 3, 9] {
        assert!(!told.may_read(&key(stranger), D, 0), "{stranger}");
    }
    let roles: Vec<_> = told.grants(D).iter().map(|g| (g.to, g.by, g.body.role)).collect();
    assert_eq!(roles.len(), 4);
    assert!(roles.is_sorted() && roles.contains(&(key(71), key(30), GrantRole::Operator)));
}

#[test]
fn an_admin_of_a_domain_gives_all_roles_but_its_own() {
    let told = owned(&[grant(30, 6, 70, GrantRole::Admin), grant(30, 6, 71, GrantRole::Operator)]);
    for role in GrantRole::ALL {
        assert_eq!(give(&told, 30, 80, role), Judgement::Admitted, "{role:?}");
        assert_eq!(give(&told, 70, 80, role).is_admitted(), role != GrantRole::Admin, "{role:?}");
        assert_eq!(give(&told, 71, 80, role), Judgement::MissingGrant, "{role:?}");
    }
    let newer = Body::Live { version: BODY_VERSION + 1, bytes: vec![] };
    let newer = told.admits(&unsigned(70, 9, (Kind::GRANT, D, &person(80)), newer));
    assert_eq!(newer, Judgement::MissingGrant, "who knows what it gives");
    let given = owned(&[
        grant(30, 6, 70, GrantRole::Admin),
        grant(70, 7, 80, GrantRole::Operator),
        grant(70, 7, 81, GrantRole::Admin),
        grant(80, 8, 82, GrantRole::Operator),
    ]);
    assert!(may(&given, 80, (Kind::MIRROR, D, "m")));
    assert!(!may(&given, 81, (Kind::MIRROR, D, "m")) && !may(&given, 82, (Kind::MIRROR, D, "m")));
}

#[test]
fn the_owners_word_outweighs_that_of_admins() {
    let admins = [grant(30, 6, 70, GrantRole::Admin), grant(30, 6, 71, GrantRole::Admin)];
    let with = |extra: &[SignedRecord]| owned(&[&admins[..], extra].concat());
    let mirror = (Kind::MIRROR, D, "m");
    let later = with(&[revoke(30, 7, 80), grant(70, 9, 80, GrantRole::Operator)]);
    assert!(!may(&later, 80, mirror));
    assert!(!give(&later, 70, 80, GrantRole::Operator).is_admitted());
    assert!(may(&with(&[grant(30, 7, 80, GrantRole::Operator), revoke(70, 9, 80)]), 80, mirror));
    let each_other = with(&[revoke(70, 9, 71), revoke(71, 9, 70)]);
    assert!(may(&each_other, 70, mirror) && may(&each_other, 71, mirror));
    assert!(!may(&with(&[grant(70, 8, 80, GrantRole::Operator), revoke(71, 9, 80)]), 80, mirror));
}

#[test]
fn a_revoked_grant_takes_all_that_was_stated_under_it() {
    let held = [grant(30, 6, 70, GrantRole::Admin), grant(70, 7, 80, GrantRole::Operator)];
    let told = owned(&[&held[1..], &[revoke(30, 9, 70)]].concat());
    for at in [0, 7, 10_000] {
        let stated = unsigned(70, at, (Kind::MIRROR, D, "m"), Body::Tombstone);
        assert_eq!(told.admits(&stated), Judgement::Unauthorised("its grant was revoked"), "{at}");
    }
    assert!(!may(&told, 80, (Kind::MIRROR, D, "m")), "what it gave falls with it");
    assert!(told.grants(D).is_empty());
    let under_another_name = gone(30, 9, (Kind::GRANT, D, &broker(70)));
    let told = owned(&[&held[..], &[under_another_name]].concat());
    assert!(!may(&told, 70, (Kind::MIRROR, D, "m")), "a key is one grantee, whatever it is called");
}

#[test]
fn dates_hide_and_do_not_refuse() {
    let dated =
        |role, from_unix_ms, until_unix_ms| GrantBody { from_unix_ms, until_unix_ms, ..grant_body(role) };
    let told = owned(&[
        grant_with(30, 6, 70, &dated(GrantRole::Admin, 100, 200)),
        grant_with(70, 7, 80, &dated(GrantRole::Operator, 150, 0)),
        grant_with(30, 6, 81, &dated(GrantRole::Operator, 300, 300)),
        grant_with(30, 6, 82, &dated(GrantRole::Auditor, 0, 400)),
    ]);
    let stated = |by| unsigned(by, 1, (Kind::MIRROR, D, "m"), Body::Tombstone);
    for (by, now, in_force) in [
        (70, 99, false),
        (70, 100, true),
        (70, 199, true),
        (70, 200, false),
        (80, 149, false),
        (80, 150, true),
        (80, 200, false),
        (81, 300, false),
        (30, 0, true),
    ] {
        assert!(told.admits(&stated(by)).is_admitted(), "{by} at {now}");
        assert_eq!(told.in_force(&stated(by), now), in_force, "{by} at {now}");
    }
    let mut changes = vec![];
    let mut now = 0;
    while let Some(next) = told.next_change(now) {
        changes.push(next);
        now = next;
    }
    assert_eq!(changes, [100, 150, 200, 400]);
    assert!(told.may_read(&key(82), D, 399) && !told.may_read(&key(82), D, 400));
    assert!(told.in_force(&unsigned(1, 1, (Kind::NODE, "", "n"), Body::Tombstone), 0));
}

#[test]
fn grants_are_to_one_key_and_fall_with_their_givers_rights() {
    let to_broker =
        sign(30, unsigned(30, 6, (Kind::GRANT, D, &broker(2)), live(&grant_body(GrantRole::Operator))));
    let told = owned(&[to_broker, vouch(2, 1, 20)]);
    let mirror = (Kind::MIRROR, D, "m");
    assert!(may(&told, 2, mirror) && !may(&told, 20, mirror));
    let rolled = owned(&[grant(30, 6, 70, GrantRole::Admin), roll(30, 7, 50)]);
    assert!(!may(&rolled, 70, mirror), "the new key gives its own");
    // Without an owner those who may create the domain give; once it has one, only that one does.
    let base = [member(1, 1, 3, &["*"]), vouch(3, 1, 30), grant(3, 6, 70, GrantRole::Admin)];
    assert!(may(&rights(1, &base), 70, (Kind::DOMAIN, D, "")));
    assert!(!may(&rights(1, &[&base[..], &[claim(30, 9)]].concat()), 70, (Kind::DOMAIN, D, "")));
}

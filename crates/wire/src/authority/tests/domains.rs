//! Whose a domain is.

use super::*;

/// The root 1, an admin 2, a member 3 that may create `d.example` with its persons 30 and 31, and a member
/// 4 that may not with its person 40.
fn base() -> Vec<SignedRecord> {
    vec![
        admin(1, 1, 2),
        member(1, 1, 3, &["*.example"]),
        member(1, 1, 4, &["x.example"]),
        vouch(3, 1, 30),
        vouch(3, 1, 31),
        vouch(4, 1, 40),
    ]
}

fn with(extra: &[SignedRecord]) -> Rights {
    rights(1, &[&base()[..], extra].concat())
}

#[test]
fn without_an_owner_a_domain_is_for_all_who_may_create_it() {
    let told = with(&[]);
    assert_eq!(told.owner(D), None);
    let grantee = person(99);
    for thing in [
        (Kind::DOMAIN, D, ""),
        (Kind::MIRROR, D, "m"),
        (Kind::DRAIN, D, "m"),
        (Kind::FORCE, D, "m"),
        (Kind::ZONE_KEY, D, "s-1"),
        (Kind::GRANT, D, &*grantee),
        (Kind::BAN, D, &*grantee),
        (Kind(0x1001), D, "x"),
        (Kind(0x0777), D, "x"),
        (Kind::CLAIM, D, ""),
    ] {
        for by in [1, 2, 3, 30] {
            assert!(may(&told, by, thing), "{thing:?} by {by}");
        }
        for by in [4, 40, 9] {
            assert_eq!(says(&told, by, thing), Judgement::MissingGrant, "{thing:?} by {by}");
        }
    }
}

#[test]
fn an_owner_has_the_domain_alone() {
    let told = with(&[claim(30, 5)]);
    assert_eq!(told.owner(D), Some(key(30)));
    assert!(told.has_full_rights(&key(30), D) && !told.has_full_rights(&key(1), D));
    for thing in
        [(Kind::DOMAIN, D, ""), (Kind::MIRROR, D, "m"), (Kind(0x1001), D, "x"), (Kind(0x777), D, "x")]
    {
        assert!(may(&told, 30, thing), "{thing:?}");
        for by in [1, 2, 3, 31, 4, 40] {
            assert_eq!(
                says(&told, by, thing),
                Judgement::Unauthorised("the domain has another owner"),
                "{by}"
            );
        }
        assert_eq!(says(&told, 9, thing), Judgement::MissingGrant, "it may hold a grant that is under way");
    }
    assert!(may(&told, 30, (Kind::DOMAIN, "other.example", "")), "in other domains nothing changed");
}

#[test]
fn the_earliest_claim_of_who_may_stands_and_others_raise_an_alarm() {
    let told = with(&[claim(31, 6), claim(30, 5), claim(40, 1), claim(9, 1), claim(2, 7)]);
    assert_eq!(told.owner(D), Some(key(30)));
    let contest = told.contested();
    assert_eq!(contest.len(), 1);
    assert_eq!((contest[0].domain.as_str(), &contest[0].claimants[..]), (D, &[key(30), key(31), key(2)][..]));
    assert!(may(&told, 31, (Kind::CLAIM, D, "")), "all brokers shall see that");
    assert!(is_refused(&told, 40, (Kind::CLAIM, D, "")));
    assert!(with(&[claim(30, 5), claim(40, 1)]).contested().is_empty());
}

#[test]
fn a_claim_counts_while_its_author_may_create_the_domain() {
    let removed = with(&[claim(30, 5), claim(31, 6), no_person(1, 9, 30)]);
    assert_eq!(removed.owner(D), Some(key(31)));
    let narrowed = rights(1, &[member(1, 1, 3, &["x.example"]), vouch(3, 1, 30), claim(30, 5)]);
    assert_eq!(narrowed.owner(D), None);
    let withdrawn = with(&[gone(30, 5, (Kind::CLAIM, D, ""))]);
    assert_eq!(withdrawn.owner(D), None);
}

#[test]
fn rolls_are_followed_by_each_keys_own_word() {
    let rolled = with(&[claim(30, 5), roll(30, 6, 50), roll(50, 7, 51)]);
    assert_eq!(rolled.owner(D), Some(key(51)), "a new key needs no home");
    assert!(may(&rolled, 51, (Kind::MIRROR, D, "m")));
    for by in [30, 50] {
        assert_eq!(
            says(&rolled, by, (Kind::MIRROR, D, "m")),
            Judgement::Unauthorised("this key gave its place as the owner to another")
        );
    }
    for record in [roll_record(30, 6, 50), roll_record(50, 7, 51), roll_record(51, 8, 52)] {
        assert!(rolled.admits(&record).is_admitted());
    }
    assert_eq!(rolled.admits(&roll_record(9, 8, 52)), Judgement::MissingGrant);
    assert!(matches!(rolled.admits(&roll_record(31, 8, 52)), Judgement::Unauthorised(_)));
}

#[test]
fn rolls_that_lead_back_stop() {
    assert_eq!(with(&[claim(30, 5), roll(30, 6, 50), roll(50, 7, 30)]).owner(D), Some(key(50)));
    assert_eq!(with(&[claim(30, 5), roll(30, 6, 30)]).owner(D), Some(key(30)));
}

#[test]
fn no_more_than_64_rolls_are_followed() {
    let chain: Vec<_> = (100..180).map(|n| roll(n, 6, n + 1)).collect();
    let held = [&[vouch(1, 1, 100), claim(100, 5)][..], &chain].concat();
    assert_eq!(rights(1, &held).owner(D), Some(key(164)));
}

#[test]
fn a_roll_without_the_new_keys_word_leads_nowhere() {
    let theirs = RollBody::sign("other.example", &key(30).0, &KeyPair::from_seed(Role::Person, &[50; 32]));
    let record = unsigned(30, 6, (Kind::ROLL, D, &person(30)), live(&theirs));
    let told = with(&[claim(30, 5), sign(30, record.clone())]);
    assert_eq!(told.owner(D), Some(key(30)));
    assert_eq!(told.admits(&record), Judgement::Unauthorised("the new key did not agree to take its place"));
}

#[test]
fn an_old_key_can_be_removed_once_a_new_one_has_a_home() {
    let removed = [claim(30, 5), no_person(1, 9, 30), vouch(3, 9, 50)];
    assert_eq!(with(&removed).owner(D), None);
    // Either of the two may come first.
    let roll_first = with(&removed[1..]);
    assert!(roll_first.admits(&roll_record(30, 6, 50)).is_admitted());
    assert!(is_refused(&roll_first, 30, (Kind::CLAIM, D, "")));
    let then_claim = with(&[&removed[1..], &[roll(30, 6, 50)]].concat());
    assert!(may(&then_claim, 30, (Kind::CLAIM, D, "")));
    let all = with(&[&removed[..], &[roll(30, 6, 50)]].concat());
    assert_eq!(all.owner(D), Some(key(50)));
    let both = with(&[&removed[..], &[roll(30, 6, 50), claim(50, 9)]].concat());
    assert_eq!((both.owner(D), both.contested().len()), (Some(key(50)), 0), "one line of keys");
}

#[test]
fn a_key_that_may_no_longer_create_the_domain_counts_by_the_one_that_took_its_place() {
    let narrowed = [member(1, 1, 3, &["x.example"]), member(1, 1, 2, &[D]), vouch(3, 1, 30), vouch(2, 1, 50)];
    let told = rights(1, &narrowed);
    assert!(told.admits(&roll_record(30, 6, 50)).is_admitted(), "else it could not reach who holds neither");
    let told = rights(1, &[&narrowed[..], &[roll(30, 6, 50)]].concat());
    assert!(may(&told, 30, (Kind::CLAIM, D, "")));
    let told = rights(1, &[&narrowed[..], &[roll(30, 6, 50), claim(30, 5)]].concat());
    assert_eq!(told.owner(D), Some(key(50)));
}

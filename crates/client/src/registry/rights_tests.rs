//! Tests of [`super`].

use super::*;
use crate::registry::entry::{Content, EntryKey};
use crate::registry::world::{NOW, World, person};
use nearmost_replica::Body;
use nearmost_wire::registry::PeerBody;

const DOMAIN: &str = "a.example";

fn role(role: GrantRole) -> GrantBody {
    GrantBody { role, kinds: Vec::new(), from_unix_ms: 0, until_unix_ms: 0 }
}

/// A domain that Ada owns.
fn owned() -> World {
    let mut world = World::new();
    let ada = world.ada.clone();
    let plan = claim(&world.held(), &ada.id(), "A.Example.").unwrap();
    assert_eq!(plan.to_string(), "+ claim a.example\n");
    world.carry_out(&plan, &ada, None);
    world
}

fn give(world: &mut World, to: &KeyPair, body: &GrantBody) {
    let ada = world.ada.clone();
    let plan = grant(&world.held(), &ada.id(), DOMAIN, &to.id(), body).unwrap();
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    world.carry_out(&plan, &ada, None);
}

fn answers(world: &World) -> Option<u8> {
    let held = world.held();
    let about = EntryKey::domain(DOMAIN).unwrap().record_key();
    match &held.live(&about)?.record().body {
        Body::Live { bytes, .. } => {
            match Content::parse(nearmost_wire::registry::EntryKind::Domain, bytes).unwrap() {
                Content::Domain(body) => Some(body.answers),
                _ => None,
            }
        }
        Body::Tombstone => None,
    }
}

#[test]
fn the_first_claim_stands_and_is_stated_once() {
    let mut world = owned();
    let ada = world.ada.id();
    assert!(claim(&world.held(), &ada, DOMAIN).unwrap().is_empty());
    world.vouch(&person(2), "bob");
    let refused = claim(&world.held(), &person(2).id(), DOMAIN).unwrap_err().to_string();
    assert_eq!(refused, format!("a.example is owned by ada ({ada})"));
    let shown = of_domain(&world.held(), DOMAIN).unwrap();
    assert_eq!(shown.owner, Some(Holder { id: ada.to_string(), name: Some("ada".into()) }));
    assert!(shown.creators.iter().any(|c| c.id == world.broker.id().to_string()), "{shown:?}");
    assert!(claim(&world.held(), &ada, "a b").unwrap_err().to_string().contains("' '"));
}

#[test]
fn grants_are_checked_shown_and_changed() {
    let (mut world, eve) = (owned(), person(5));
    let held = world.held();
    let ada = world.ada.id();
    let refused = |body: &GrantBody| grant(&held, &ada, DOMAIN, &eve.id(), body).unwrap_err().to_string();
    assert_eq!(refused(&role(GrantRole::Writer)), "kinds: a writer needs at least one");
    let kinds = GrantBody { kinds: vec![0x1005], ..role(GrantRole::Operator) };
    assert!(refused(&kinds).contains("only a writer has them"));
    let own = grant(&held, &ada, DOMAIN, &ada, &role(GrantRole::Admin)).unwrap_err().to_string();
    assert!(own.contains("owns a.example and needs no grant"), "{own}");
    let over = GrantBody { until_unix_ms: NOW - 5, ..role(GrantRole::Operator) };
    let plan = grant(&held, &ada, DOMAIN, &eve.id(), &over).unwrap();
    assert_eq!(plan.warnings, ["the grant has ended already"]);
    let plan = grant(&held, &eve.id(), DOMAIN, &person(6).id(), &role(GrantRole::Auditor)).unwrap();
    assert!(plan.warnings[0].contains("your key gives no rights in a.example"), "{:?}", plan.warnings);

    let writer =
        GrantBody { kinds: vec![0x1005, 0x3001], until_unix_ms: NOW + 5000, ..role(GrantRole::Writer) };
    give(&mut world, &eve, &writer);
    let plan = grant(&world.held(), &ada, DOMAIN, &eve.id(), &role(GrantRole::Admin)).unwrap();
    let id = eve.id();
    assert_eq!(
        plan.to_string(),
        format!(
            "~ grant a.example to {id}  kinds: [5 removal-wins:1] → none, role: writer → admin, until: \
             2025-10-09 08:53:25 UTC → none\n"
        )
    );
    let shown = of_domain(&world.held(), DOMAIN).unwrap().grants;
    assert_eq!((shown[0].state, shown[0].until_unix_ms), ("in force", Some(NOW + 5000)));
    assert_eq!(shown[0].kinds, ["5", "removal-wins:1"]);
}

#[test]
fn an_admin_of_a_domain_is_told_that_it_makes_no_other() {
    let (mut world, eve) = (owned(), person(5));
    give(&mut world, &eve, &role(GrantRole::Admin));
    let told = |body| grant(&world.held(), &eve.id(), DOMAIN, &person(6).id(), &role(body)).unwrap().warnings;
    assert!(told(GrantRole::Admin)[0].contains("makes no other admin"));
    assert!(told(GrantRole::Operator).is_empty());
}

#[test]
fn a_revocation_is_total_unless_what_was_stated_is_kept() {
    let (mut world, eve) = (owned(), person(5));
    let ada = world.ada.clone();
    let missing = revoke(&world.held(), DOMAIN, &eve.id(), true).unwrap_err().to_string();
    assert!(missing.starts_with("there is no grant a.example to np1"), "{missing}");
    world.domain(&ada, DOMAIN, 2);
    give(&mut world, &eve, &role(GrantRole::Admin));
    world.domain(&eve, DOMAIN, 5);
    assert_eq!(answers(&world), Some(5));

    let plan = revoke(&world.held(), DOMAIN, &eve.id(), false).unwrap();
    assert!(plan.warnings[0].contains("counts no longer: domain a.example; --keep"), "{:?}", plan.warnings);
    let kept = revoke(&world.held(), DOMAIN, &eve.id(), true).unwrap();
    assert!(kept.to_string().ends_with("= domain a.example  kept: stated anew\n"), "{kept}");
    let records = world.records.clone();
    world.carry_out(&plan, &ada, None);
    assert_eq!(answers(&world), Some(2), "what Eve had overwritten is there again");
    world.records = records;
    world.carry_out(&kept, &ada, None);
    assert_eq!(answers(&world), Some(5));
    assert!(of_domain(&world.held(), DOMAIN).unwrap().grants.is_empty());
}

#[test]
fn a_grant_that_is_over_is_revoked_all_the_same() {
    let (mut world, eve, bob) = (owned(), person(5), person(6));
    let over = GrantBody { from_unix_ms: 1, until_unix_ms: NOW - 1, ..role(GrantRole::Admin) };
    let ada = world.ada.clone();
    let plan = grant(&world.held(), &ada.id(), DOMAIN, &eve.id(), &over).unwrap();
    world.carry_out(&plan, &ada, None);
    let plan = grant(&world.held(), &eve.id(), DOMAIN, &bob.id(), &role(GrantRole::Operator)).unwrap();
    world.carry_out(&plan, &eve, None);
    let shown = of_domain(&world.held(), DOMAIN).unwrap().grants;
    assert!(shown.len() == 2 && shown.iter().all(|grant| grant.state == "over"), "{shown:?}");
    let plan = revoke(&world.held(), DOMAIN, &bob.id(), false).unwrap();
    world.carry_out(&plan, &ada, None);
    assert_eq!(of_domain(&world.held(), DOMAIN).unwrap().grants.len(), 1);
}

#[test]
fn what_was_removed_stays_removed_where_it_is_kept() {
    let (mut world, eve) = (owned(), person(5));
    let ada = world.ada.clone();
    world.domain(&ada, DOMAIN, 2);
    give(&mut world, &eve, &role(GrantRole::Admin));
    world.state(&eve, EntryKey::domain(DOMAIN).unwrap().record_key(), Body::Tombstone);
    let kept = revoke(&world.held(), DOMAIN, &eve.id(), true).unwrap();
    assert!(kept.to_string().ends_with("= domain a.example  kept: its removal stated anew\n"), "{kept}");
    world.carry_out(&kept, &ada, None);
    assert_eq!(answers(&world), None);
}

#[test]
fn a_new_key_takes_over_with_what_the_old_one_stated() {
    let (mut world, eve, new) = (owned(), person(5), person(9));
    let ada = world.ada.clone();
    world.domain(&ada, DOMAIN, 2);
    give(&mut world, &eve, &role(GrantRole::Operator));
    let bare = roll(&world.held(), &ada, DOMAIN, &new, false).unwrap();
    assert!(bare.warnings[0].contains("domain a.example, grant a.example/np1"), "{:?}", bare.warnings);
    let kept = roll(&world.held(), &ada, DOMAIN, &new, true).unwrap();
    assert!(kept.to_string().starts_with(&format!("+ roll a.example from {} to ", ada.id())), "{kept}");
    let records = world.records.clone();
    world.carry_out(&bare, &ada, None);
    assert_eq!(answers(&world), None);
    world.records = records;
    world.carry_out(&kept, &ada, Some(&new));
    let shown = of_domain(&world.held(), DOMAIN).unwrap();
    assert_eq!((shown.owner.unwrap().id, shown.grants.len()), (new.id().to_string(), 1));
    assert_eq!(answers(&world), Some(2));

    assert!(roll(&world.held(), &ada, DOMAIN, &new, true).unwrap().is_empty(), "it is done");
    let refused = roll(&world.held(), &ada, DOMAIN, &person(3), true).unwrap_err().to_string();
    assert!(refused.contains("is owned by"), "{refused}");
    let refused = roll(&world.held(), &ada, "b.example", &new, true).unwrap_err().to_string();
    assert!(refused.contains("nobody owns b.example"), "{refused}");
    assert!(roll(&world.held(), &ada, DOMAIN, &ada, true).is_err());
}

#[test]
fn two_claims_are_a_contest() {
    let mut world = owned();
    let bob = KeyPair::from_seed(nearmost_wire::identity::Role::Broker, &[201; 32]);
    let ada = world.ada.clone();
    world.peer(&ada, &bob, &PeerBody { name: "bob".into(), admin: true, ..PeerBody::default() });
    world.state(&bob, about(Kind::CLAIM, DOMAIN, ""), crate::registry::statements::live(b"{}".to_vec()));
    let shown = of_domain(&world.held(), DOMAIN).unwrap();
    let names: Vec<_> = shown.contested.iter().map(|c| c.name.as_deref()).collect();
    assert_eq!(names, [Some("ada"), Some("bob")]);
}

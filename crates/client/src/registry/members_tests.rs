//! Tests of [`super`].

use super::*;
use crate::registry::world::{NOW, World};
use nearmost_wire::identity::KeyPair;

fn broker(seed: u8) -> KeyPair {
    KeyPair::from_seed(Role::Broker, &[seed; 32])
}

fn body(name: &str, admin: bool) -> PeerBody {
    PeerBody { name: name.into(), admin, domains: vec!["*.b.example".into()], ..PeerBody::default() }
}

/// Bob, an admin, who let Carol in.
fn world() -> World {
    let mut world = World::new();
    let ada = world.ada.clone();
    world.peer(&ada, &broker(201), &body("bob", true));
    world.peer(&broker(201), &broker(202), &body("carol", false));
    world
}

#[test]
fn members_are_found_by_name_or_id() {
    let mut world = world();
    let held = world.held();
    assert_eq!(find(&held, "Bob").unwrap().key.0, broker(201).id().key);
    assert_eq!(find(&held, &broker(202).id().to_string()).unwrap().body.name, "carol");
    let unknown = find(&held, "dave").unwrap_err().to_string();
    assert!(unknown.contains("no peer \"dave\"; there are bob, carol"), "{unknown}");
    assert!(find(&held, &held.broker.to_string()).is_err(), "not the broker itself");
    let ada = world.ada.clone();
    world.peer(&ada, &broker(203), &body("bob", false));
    let several = find(&world.held(), "bob").unwrap_err().to_string();
    assert!(several.contains("name one by its id: nb1"), "{several}");
}

#[test]
fn what_a_member_may_do_is_changed_and_the_rest_stays() {
    let mut world = world();
    let fields = MemberFields { admin: Some(false), domains: Some(vec!["c.example".into()]) };
    let plan = set(&world.held(), "bob", &fields).unwrap();
    let id = broker(201).id();
    assert_eq!(
        plan.to_string(),
        format!("~ peer bob ({id})  admin: true → false, domains: [*.b.example] → [c.example]\n")
    );
    assert!(plan.warnings[0].contains("carol") && plan.warnings[0].contains("no members any more"));
    let ada = world.ada.clone();
    world.carry_out(&plan, &ada, None);
    let held = world.held();
    let found = find(&held, "bob").unwrap();
    assert_eq!((found.body.admin, found.body.made_by.clone()), (false, Some(ada.id().to_string())));
    assert!(set(&held, "bob", &MemberFields::default()).unwrap().is_empty());
    let wrong = MemberFields { domains: Some(vec!["*.*".into()]), ..MemberFields::default() };
    assert!(set(&held, "bob", &wrong).unwrap_err().to_string().contains("\"*.*\""));
}

#[test]
fn who_is_removed_takes_along_whom_it_let_in() {
    let mut world = world();
    let plan = remove(&world.held(), "bob").unwrap();
    assert!(plan.warnings[0].contains("carol (nb1"), "{:?}", plan.warnings);
    let ada = world.ada.clone();
    world.carry_out(&plan, &ada, None);
    assert!(find(&world.held(), "bob").is_err() && find(&world.held(), "carol").is_err());
    assert!(remove(&world.held(), "bob").unwrap_err().to_string().contains("this broker has none"));
}

#[test]
fn bans_are_stated_changed_and_lifted() {
    let mut world = world();
    let ada = world.ada.clone();
    let plan = ban(&world.held(), "carol", NOW + 5000, "spam").unwrap();
    let id = broker(202).id();
    let shown = format!("+ ban carol ({id})  reason: spam, until: 2025-10-09 08:53:25 UTC\n");
    assert_eq!(plan.to_string(), shown);
    world.carry_out(&plan, &ada, None);
    assert_eq!(bans(&world.held()), [(id.to_string(), NOW + 5000, "spam".into())]);
    let longer = ban(&world.held(), &id.to_string(), u64::MAX, "spam").unwrap().to_string();
    assert!(longer.contains("until: 2025-10-09 08:53:25 UTC → for ever"), "{longer}");
    let lifted = unban(&world.held(), "carol").unwrap();
    world.carry_out(&lifted, &ada, None);
    assert!(bans(&world.held()).is_empty());
    let none = unban(&world.held(), "carol").unwrap_err().to_string();
    assert!(none.starts_with("there is no ban carol (nb1"), "{none}");
    let own = world.broker.id().to_string();
    assert!(ban(&world.held(), &own, NOW, "").unwrap_err().to_string().contains("does not ban itself"));
}

#[test]
fn what_is_said_nearer_stands_and_is_what_changes() {
    let mut world = World::new();
    let ada = world.ada.clone();
    world.peer(&ada, &broker(201), &body("bob", true));
    world.peer(&ada, &broker(202), &body("carol", false));
    // Later and farther away: visible, and of no account.
    world.peer(&broker(201), &broker(202), &body("carol", true));
    let fields = MemberFields { admin: Some(true), ..MemberFields::default() };
    let plan = set(&world.held(), "carol", &fields).unwrap();
    assert!(plan.to_string().contains("admin: false → true"), "{plan}");
    let removed = remove(&world.held(), "carol").unwrap();
    assert!(!removed.is_empty());
    // A later removal is another matter: it counts however far away it was said.
    world.state(&broker(201), about_id(Kind::PEER, "", &broker(202).id()), nearmost_replica::Body::Tombstone);
    assert!(find(&world.held(), "carol").is_err());
}

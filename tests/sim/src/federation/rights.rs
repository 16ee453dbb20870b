//! Rights that are given and taken while things go wrong: brokers that are admins of one another, persons
//! that they vouch for, domains with owners, and what these grant.

use super::broker::EPOCH_MS;
use super::plan::{Plan, Theme};
use super::world::Counts;
use crate::rng::Rng;
use nearmost_replica::{Authority, Body, Kind, PublicKey, RecordKey, SigningKey};
use nearmost_wire::authority::Rights;
use nearmost_wire::identity::{Id, KeyPair, Role};
use nearmost_wire::registry::{
    BODY_VERSION, BanBody, ClaimBody, GrantBody, GrantRole, PeerBody, PersonBody, RollBody,
};

const DOMAINS: [&str; 3] = ["a.example", "b.example", "c.example"];
const PERSONS: usize = 6;
const APPLICATION: Kind = Kind(0x1001);
const RESTRICTIVE: Kind = Kind(0x9001);

/// The id of a broker or a person.
pub fn id(role: Role, key: PublicKey) -> String {
    Id { role, key: key.0 }.to_string()
}

/// A body as people's tools write it.
pub fn live(body: &impl serde::Serialize) -> Body {
    Body::Live { version: BODY_VERSION, bytes: serde_json::to_vec(body).unwrap_or_default() }
}

/// What a record is about.
pub fn about(kind: Kind, scope: &str, id: String) -> RecordKey {
    RecordKey { kind, scope: scope.into(), id }
}

/// The authority of each of the brokers with these keys.
pub fn authorities(keys: Vec<PublicKey>) -> Box<dyn Fn(usize) -> Rights> {
    Box::new(move |broker| Rights::new(keys[broker]))
}

pub(super) fn run(rng: Rng) -> Counts {
    let mut plan = Plan::new(Theme::Rights, rng, authorities, write);
    plan.world.allowed.refusals = true;
    plan.rejoin = join;
    plan.persons = (0..PERSONS as u8).map(|i| SigningKey::from_seed(&[100 + i; 32])).collect();
    begin(&mut plan);
    plan.storm();
    plan.heal();
    check(&plan);
    plan.world.counts
}

/// Brokers make each other admins, vouch for persons, and some of these claim domains.
fn begin(plan: &mut Plan<Rights>) {
    let n = plan.world.brokers.len();
    (0..n).for_each(|i| plan.world.start(i));
    (0..n).for_each(|i| join(plan, i));
    for person in 0..PERSONS {
        let name = id(Role::Person, plan.persons[person].public());
        let home = person % n;
        plan.state(home, about(Kind::PERSON, "", name), live(&PersonBody { name: String::new() }), None);
    }
    for (person, domain) in DOMAINS.iter().enumerate().take(2) {
        let home = person % n;
        plan.state(home, about(Kind::CLAIM, domain, String::new()), live(&ClaimBody {}), Some(person));
    }
    plan.world.run_until(plan.world.time + 20_000);
}

/// A broker makes all others admins.
fn join(plan: &mut Plan<Rights>, by: usize) {
    for of in (0..plan.world.brokers.len()).filter(|of| *of != by) {
        let body = PeerBody { name: format!("b{of}"), admin: true, ..PeerBody::default() };
        let broker = id(Role::Broker, plan.world.brokers[of].id());
        plan.state(by, about(Kind::PEER, "", broker), live(&body), None);
    }
}

/// Something is stated by somebody who may or may not; where they may not it is refused at once.
fn write(plan: &mut Plan<Rights>, broker: usize) {
    let domain = DOMAINS[plan.rng.below(3) as usize];
    match plan.rng.below(20) {
        0..10 => thing(plan, broker, domain),
        10..13 => grant(plan, broker, domain),
        13..15 => revoke(plan, broker, domain),
        15 => roll(plan, broker, domain),
        16 => {
            drop(plan.state(broker, about(Kind::CLAIM, domain, String::new()), live(&ClaimBody {}), Some(2)))
        }
        17 | 18 => ban(plan, broker, domain),
        _ => home(plan, broker),
    }
}

fn somebody(plan: &mut Plan<Rights>) -> usize {
    plan.rng.below(PERSONS as u64) as usize
}

/// Mostly whose the domain is at this broker, so that something comes of it.
fn somebody_of(plan: &mut Plan<Rights>, broker: usize, domain: &str) -> Option<usize> {
    let chosen = somebody(plan);
    let set = &plan.world.brokers[broker].running.as_ref()?.set;
    let owner = set.authority().owner(domain).filter(|_| plan.rng.chance(0.8));
    Some(plan.persons.iter().position(|p| Some(p.public()) == owner).unwrap_or(chosen))
}

fn thing(plan: &mut Plan<Rights>, broker: usize, domain: &str) {
    let kinds = [Kind::MIRROR, Kind::DRAIN, Kind::FORCE, Kind::DOMAIN, APPLICATION, RESTRICTIVE];
    let kind = kinds[plan.rng.below(kinds.len() as u64) as usize];
    let key = about(kind, domain, format!("k{}", plan.rng.below(3)));
    let bytes = plan.rng.bits().to_be_bytes().to_vec();
    let body = if plan.rng.chance(0.3) { Body::Tombstone } else { Body::Live { version: 1, bytes } };
    let person = somebody(plan);
    plan.state(broker, key, body, Some(person));
}

fn grantee(plan: &mut Plan<Rights>, broker: usize) -> String {
    let person = somebody(plan);
    match plan.rng.chance(0.8) {
        true => id(Role::Person, plan.persons[person].public()),
        false => id(Role::Broker, plan.world.brokers[broker].id()),
    }
}

fn grant(plan: &mut Plan<Rights>, broker: usize, domain: &str) {
    let to = grantee(plan, broker);
    let role = GrantRole::ALL[plan.rng.below(4) as usize];
    let kinds = if role == GrantRole::Writer { vec![APPLICATION.0] } else { vec![] };
    let now = EPOCH_MS + plan.world.time;
    let (from, long) = (plan.rng.below(600_000), plan.rng.below(900_000));
    let (from_unix_ms, until_unix_ms) = match plan.rng.chance(0.3) {
        true => (now + from, now + from + long + 1),
        false => (0, 0),
    };
    let body = GrantBody { role, kinds, from_unix_ms, until_unix_ms };
    let person = somebody_of(plan, broker, domain);
    plan.state(broker, about(Kind::GRANT, domain, to), live(&body), person);
}

fn revoke(plan: &mut Plan<Rights>, broker: usize, domain: &str) {
    let to = grantee(plan, broker);
    let person = somebody_of(plan, broker, domain);
    plan.state(broker, about(Kind::GRANT, domain, to), Body::Tombstone, person);
}

fn roll(plan: &mut Plan<Rights>, broker: usize, domain: &str) {
    let (old, new) = (somebody_of(plan, broker, domain).unwrap_or(0), somebody(plan));
    let key = plan.persons[old].public();
    let to = KeyPair::from_seed(Role::Person, &[100 + new as u8; 32]);
    let body = live(&RollBody::sign(domain, &key.0, &to));
    plan.state(broker, about(Kind::ROLL, domain, id(Role::Person, key)), body, Some(old));
}

fn ban(plan: &mut Plan<Rights>, broker: usize, domain: &str) {
    let (of, by) = (somebody(plan), somebody_of(plan, broker, domain));
    let until_unix_ms = EPOCH_MS + plan.world.time + plan.rng.below(1_200_000);
    let bytes = BanBody { until_unix_ms, reason: "noise".into() }.encode();
    let body =
        if plan.rng.chance(0.2) { Body::Tombstone } else { Body::Live { version: BODY_VERSION, bytes } };
    let of = id(Role::Person, plan.persons[of].public());
    match plan.rng.chance(0.5) {
        true => plan.state(broker, about(Kind::BAN, "", of), body, None),
        false => plan.state(broker, about(Kind::BAN, domain, of), body, by),
    };
}

/// A broker vouches for a person, or removes it.
fn home(plan: &mut Plan<Rights>, broker: usize) {
    let of = somebody(plan);
    let of = id(Role::Person, plan.persons[of].public());
    let body = match plan.rng.chance(0.3) {
        true => Body::Tombstone,
        false => live(&PersonBody { name: "p".into() }),
    };
    plan.state(broker, about(Kind::PERSON, "", of), body, None);
}

/// In the end all think alike of whom they let do what, and show what that allows and nothing else.
fn check(plan: &Plan<Rights>) {
    let now = EPOCH_MS + plan.world.time;
    let sets: Vec<_> = plan.world.brokers.iter().filter_map(|b| Some(&b.running.as_ref()?.set)).collect();
    let shown = |i: usize| sets[i].all_visible(now).map(|(_, s)| s.clone()).collect::<Vec<_>>();
    for (i, set) in sets.iter().enumerate() {
        for (key, signed) in set.all_visible(now) {
            let record = signed.record();
            let authority = set.authority();
            assert!(authority.admits(record).is_admitted(), "broker {i} shows {key}, which is not admitted");
            assert!(authority.in_force(record, now), "broker {i} shows {key} before or after its time");
        }
        assert_eq!(shown(0), shown(i), "brokers 0 and {i} show other things");
        for domain in DOMAINS {
            assert_eq!(set.authority().owner(domain), sets[0].authority().owner(domain), "{domain}");
        }
        for (person, scope) in plan.persons.iter().flat_map(|p| DOMAINS.map(|d| (p.public(), d))) {
            let until = |i: usize, at| sets[i].authority().banned(&person, scope, at);
            // Bans outlast the storm by no more than what they were ordered for.
            assert_eq!(until(i, EPOCH_MS), until(0, EPOCH_MS), "a ban in {scope}");
            if let Some(end) = until(i, EPOCH_MS) {
                assert!(until(i, end - 1).is_some() && until(i, end).is_none_or(|later| later > end));
            }
        }
    }
}

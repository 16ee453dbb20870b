//! No query allocates between decode and encode (DESIGN §3.2): every allocation of the thread that
//! answers is counted while it answers, into a buffer that is used again as a UDP worker's is.
//!
//! Answers of rarer types (SVCB, HTTPS, TXT, CAA, the name servers' glue) go through hickory-proto's
//! record data, which allocates, and are not among these.

// Clippy takes only what is marked as a test for one, not what tests share.
#![allow(clippy::unwrap_used)]

#[path = "allocation/counting.rs"]
mod counting;
#[path = "allocation/world.rs"]
mod world;

use counting::allocations;
use nearmost_core::health::{Family, State};
use nearmost_core::ranking::{self, How};
use nearmost_core::registry::{
    AllDown, DomainIndex, Rule, RuleEffect, StaticData, StaticRecord, Strategy, Who,
};
use nearmost_core::snapshot::Snapshot;
use nearmost_core::time::UnixMillis;
use nearmost_dns::limiter::{LimitConfig, Limiter, Verdict, slip};
use nearmost_dns::{
    Client, CookieKey, CookieState, DnsConfig, EdnsConfig, Identity, Outcome, Rcode, Responder, Transport,
};
use std::net::IpAddr;
use std::sync::Arc;
use world::{A, AAAA, NAME, Random, World, query};

/// Asks from random clients with and without a subnet, and expects no allocation and this of each answer.
fn quiet(what: &str, snapshot: &Snapshot, name: &str, types: &[u16], expected: impl Fn(&Outcome) -> bool) {
    let responder = Responder::new(DnsConfig { zones: vec!["example.com".into()], ..DnsConfig::default() });
    let (responder, mut random) = (responder.unwrap(), Random(7));
    let asked: Vec<(Vec<u8>, Client)> = (0..400)
        .map(|at| {
            let (subnet, source) = (random.client(), random.client());
            let subnet = (at % 3 > 0).then_some(subnet);
            let transport = if at % 50 == 0 { Transport::Tcp } else { Transport::Udp };
            (query(name, types[at % types.len()], subnet), Client { source, transport, now: UnixMillis(0) })
        })
        .collect();
    let mut out = Vec::new();
    // What a worker's first queries leave behind: a buffer that is large enough.
    for (query, client) in &asked {
        responder.answer(snapshot, query, client, &mut out);
    }
    for (query, client) in &asked {
        let (outcome, count) = allocations(|| responder.answer(snapshot, query, client, &mut out));
        assert_eq!(count, 0, "{what}: {client:?} {query:?}: {outcome:?}");
        assert!(!out.is_empty() && expected(&outcome), "{what}: {outcome:?}");
    }
}

fn comes_about(snapshot: &Snapshot, how: How) -> bool {
    let mut random = Random(7);
    (0..800).any(|_| {
        let view = snapshot.map.view(DomainIndex(0), random.client()).unwrap();
        ranking::choose(&snapshot.registry, &snapshot.live, DomainIndex(0), &view, Family::V4).how == how
    })
}

fn answered(outcome: &Outcome) -> bool {
    outcome.rcode == Rcode::NoError && !outcome.mirrors.is_empty() && !outcome.truncated
}

/// The same with cells built and without; some of the choices must come about as expected.
fn quiet_answers(what: &str, world: &World, how: How) {
    for built in [true, false] {
        let snapshot = world.snapshot(built);
        assert!(comes_about(&snapshot, how), "{what}, cells {built}: nobody is chosen as {how:?}");
        quiet(&format!("{what}, cells {built}"), &snapshot, NAME, &[A, AAAA], answered);
    }
}

#[test]
fn allocations_are_counted() {
    let ((), none) = allocations(|| ());
    let (kept, some) = allocations(|| (vec![1_u8], String::from("x")));
    assert_eq!((none, some, kept.0.len()), (0, 2, 1));
    let mut growing = Vec::with_capacity(1);
    let ((), grown) = allocations(|| growing.extend([1_u8; 100]));
    assert_eq!(grown, 1, "growing counts, too");
}

#[test]
fn few_mirrors_and_many() {
    for mirrors in [1, 6, 10_000] {
        quiet_answers(&format!("{mirrors} mirrors"), &World::new(mirrors), How::First);
    }
}

#[test]
fn every_strategy() {
    for mirrors in [6, 200] {
        let order = (0..mirrors as u32).rev().map(|at| world::mirror_name(at).into()).collect();
        for strategy in [Strategy::Nearest, Strategy::Balanced, Strategy::Weighted, Strategy::Failover(order)]
        {
            let mut world = World::new(mirrors);
            world.policy.strategy = strategy.clone();
            let how = if strategy == Strategy::Weighted { How::SharedOut } else { How::First };
            quiet_answers(&format!("{mirrors} mirrors, {strategy:?}"), &world, how);
        }
    }
}

#[test]
fn ties_spill_and_exploration() {
    let mut world = World::new(40);
    (world.policy.tie_band_ms, world.policy.answers, world.policy.explore) = (60.0, 8, 0.5);
    quiet_answers("wide ties", &world, How::Spread);
    quiet_answers("wide ties, some try out others", &world, How::Explored);
    world.shed = 40_000;
    quiet_answers("ties and spill", &world, How::Spilled);
    world.shed = u16::MAX;
    quiet_answers("everything sheds", &world, How::Spilled);
    world.policy.strategy = Strategy::Nearest;
    quiet_answers("nearest, everything sheds", &world, How::Spilled);
}

#[test]
fn mirrors_beyond_the_ranking() {
    for mirrors in [40, 10_000] {
        let mut world = World::new(mirrors);
        // Of so many that are down, no ranking holds one of the two that are up, as a rule.
        world.up = |at| at < 2;
        quiet_answers(&format!("two of {mirrors} up"), &world, How::Beyond);
    }
}

#[test]
fn all_down() {
    for mirrors in [6, 10_000] {
        let mut world = World::new(mirrors);
        world.up = |_| false;
        for policy in [AllDown::LastKnown, AllDown::All] {
            world.policy.failover.all_down = policy.clone();
            quiet_answers(&format!("{mirrors} down, {policy:?}"), &world, How::First);
        }
        for policy in [AllDown::Fallback(world::fallback()), AllDown::NoAnswer] {
            world.policy.failover.all_down = policy.clone();
            let bare = |o: &Outcome| o.rcode == Rcode::NoError && o.mirrors.is_empty();
            quiet(&format!("{mirrors} down, {policy:?}"), &world.snapshot(false), NAME, &[A, AAAA], bare);
        }
    }
}

#[test]
fn unknown_positions() {
    for mirrors in [6, 10_000] {
        let mut world = World::new(mirrors);
        world.placed = false;
        quiet_answers(&format!("nobody is anywhere, {mirrors} mirrors"), &world, How::SharedOut);
    }
}

#[test]
fn rules_and_what_was_learned() {
    for mirrors in [6, 200] {
        let mut world = World::new(mirrors);
        let rule = |who, effect, at| Rule { who, effect, mirrors: vec![world::mirror_name(at).into()] };
        world.policy.rules = vec![
            rule(Who::Prefix("128.0.0.0/1".parse().unwrap()), RuleEffect::Pin, 3),
            rule(Who::Prefix("0.0.0.0/2".parse().unwrap()), RuleEffect::Exclude, 1),
            rule(Who::Country(world::country()), RuleEffect::Exclude, 2),
        ];
        quiet_answers(&format!("rules, {mirrors} mirrors"), &world, How::First);
        world.learned = true;
        quiet_answers(&format!("rules and measurements, {mirrors} mirrors"), &world, How::First);
    }
}

#[test]
fn negative_answers_and_refusals() {
    let snapshot = World::new(6).snapshot(true);
    let (txt, soa) = (16, 6);
    quiet("no such name", &snapshot, "nobody.play.example.com", &[A, AAAA, txt], |o| {
        o.rcode == Rcode::NxDomain
    });
    let long = format!("{0}.{0}.{0}.{NAME}", "x".repeat(63));
    quiet("no such long name", &snapshot, &long, &[A, AAAA], |o| o.rcode == Rcode::NxDomain);
    quiet("nothing of that type", &snapshot, NAME, &[txt], |o| o.rcode == Rcode::NoError);
    quiet("not our zone", &snapshot, "example.org", &[A], |o| o.rcode == Rcode::Refused);
    quiet("the zone's SOA", &snapshot, "example.com", &[soa], |o| o.rcode == Rcode::NoError);
}

#[test]
fn mirrors_by_name_aliases_and_fixed_addresses() {
    let mut world = World::new(6);
    let record = |name: &str, data| StaticRecord { name: name.into(), ttl_s: 60, data };
    world.records = vec![
        record("www.play.example.com", StaticData::Cname(NAME.into())),
        record("fixed.play.example.com", StaticData::A([192, 0, 2, 77].into())),
        record("mail.play.example.com", StaticData::Mx { preference: 5, exchange: "mx.example.org".into() }),
    ];
    let snapshot = world.snapshot(true);
    let fine = |o: &Outcome| o.rcode == Rcode::NoError;
    let one = format!("{}.{NAME}", world::mirror_name(1));
    quiet("one mirror", &snapshot, &one, &[A, AAAA], answered);
    quiet("services", &snapshot, &format!("_game._udp.{NAME}"), &[33], answered);
    quiet("one-time name", &snapshot, &format!("abcdefghij234567.probe.{NAME}"), &[A, AAAA], answered);
    quiet("alias", &snapshot, "www.play.example.com", &[A, AAAA], answered);
    quiet("fixed address", &snapshot, "fixed.play.example.com", &[A], fine);
    quiet("mail exchanger", &snapshot, "mail.play.example.com", &[15], fine);
}

#[test]
fn what_is_no_query() {
    let (snapshot, responder) = (World::new(6).snapshot(true), Responder::new(DnsConfig::default()).unwrap());
    let client =
        Client { source: IpAddr::from([192, 0, 2, 1]), transport: Transport::Udp, now: UnixMillis(0) };
    let whole = query(NAME, A, Some(IpAddr::from([198, 51, 100, 0])));
    let mut out = Vec::with_capacity(512);
    for length in 0..whole.len() {
        let (outcome, count) =
            allocations(|| responder.answer(&snapshot, &whole[..length], &client, &mut out));
        assert_eq!(count, 0, "{length}: {outcome:?}");
        assert!(outcome.error.is_some(), "{length}");
    }
}

#[test]
fn a_change_of_health_touches_no_map() {
    let snapshot = World::new(6).snapshot(true);
    let mut live = (*snapshot.live).clone();
    live.mirrors[0].verdicts.iter_mut().for_each(|v| v.state = State::Down);
    live.tally(&snapshot.registry);
    let after = Snapshot { live: Arc::new(live), ..snapshot.clone() };
    assert!(Arc::ptr_eq(&snapshot.map, &after.map));
    quiet("one of six down", &after, NAME, &[A, AAAA], answered);
}

#[test]
fn cookies_names_and_limits() {
    let snapshot = World::new(6).snapshot(true);
    let edns = EdnsConfig { cookies: Some(CookieKey::new([1; 16])), ..EdnsConfig::default() };
    let identity = Identity { id: Some("one".into()), version: Some("two".into()) };
    let responder = Responder::new(DnsConfig { edns, identity, ..DnsConfig::default() }).unwrap();
    let client =
        Client { source: IpAddr::from([192, 0, 2, 1]), transport: Transport::Udp, now: UnixMillis(0) };
    let limits = LimitConfig { responses_per_second: 10, slip: 2, ..LimitConfig::default() };
    let mut limiter = Limiter::new(limits, [1, 2]).unwrap();
    let mut wire = query(NAME, A, None);
    // The OPT record's length; then options for the server's name, for padding, and a client's cookie.
    let length = wire.len() - 1;
    wire[length] = 20;
    wire.extend([0, 3, 0, 0, 0, 12, 0, 0, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    let mut out = Vec::with_capacity(512);
    let mut seen = [0; 3];
    for at in 0..100 {
        let (verdict, count) = allocations(|| {
            let mut outcome = responder.answer(&snapshot, &wire, &client, &mut out);
            assert_eq!(outcome.account.cookie, CookieState::ClientOnly);
            let verdict = limiter.check(at, &client, &outcome, wire.len(), &out);
            if let Verdict::Slip(_) = verdict {
                slip(&mut out, &mut outcome);
                assert!(!out.is_empty());
            }
            verdict
        });
        assert_eq!(count, 0, "{verdict:?}");
        seen[match verdict {
            Verdict::Send => 0,
            Verdict::Slip(_) => 1,
            Verdict::Drop(_) => 2,
        }] += 1;
    }
    assert!(seen.iter().all(|n| *n > 0), "{seen:?}");
}

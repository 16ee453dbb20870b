//! Brokers that tell each other what they see: who serves what, liars, outages, deaths, and who probes.

use super::federation_lab::*;
use super::lab::{V4, registry};
use super::tests::at;
use super::*;
use crate::check::{CheckKind, CheckSpec};
use crate::health::{Reason, State};
use crate::registry::{HealthMode, MirrorIndex};

const SEEDS: std::ops::Range<u64> = 0..5;

fn usual() -> FleetConfig {
    FleetConfig::default()
}

/// Three brokers; the agents of three mirrors have sessions with the first only.
fn three(seed: u64) -> Federation {
    let mut federation = Federation::new(3, &[&[0], &[0], &[0]], &usual(), seed);
    federation.run(3_000);
    for b in 0..3 {
        for m in 0..3 {
            assert_eq!(federation.shown(b, m), State::Up, "{b} {m}: {:?}", federation.brokers[b].log);
        }
    }
    federation.clear();
    federation
}

#[test]
fn what_one_broker_hears_of_an_agent_serves_all() {
    for seed in SEEDS {
        let mut federation = three(seed);
        federation.run(60_000);
        assert!((0..3).all(|b| federation.brokers[b].log.is_empty()), "{:?}", federation.brokers[1].log);
    }
}

#[test]
fn a_healthy_agents_word_alone_is_not_believed() {
    let mut federation = Federation::new(2, &[&[0]], &usual(), 1);
    federation.brokers[1].blind = vec![0];
    federation.alive[0] = false;
    federation.run(10_000);
    assert!((0..2).all(|b| !federation.shown(b, 0).eligible()));
}

#[test]
fn another_brokers_look_proves_what_this_one_does_not_reach() {
    let mut federation = Federation::new(3, &[&[0], &[0]], &usual(), 1);
    federation.brokers[2].blind = vec![0];
    federation.run(6_000);
    let verdict = *federation.brokers[2].fleet.live().mirror(MirrorIndex(0)).verdict(V4);
    assert_eq!((verdict.state, verdict.reason), (State::Up, Reason::PartlyReachable));
    let evidence = federation.brokers[2].fleet.evidence(MirrorIndex(0), V4, at(federation.now)).unwrap();
    assert_eq!(evidence.broker.map(|b| b.0), Some(false));
    assert_eq!(evidence.peers.iter().filter(|p| p.1).count(), 2, "{evidence:?}");
}

/// All is dead, and every agent says so.
fn all_down(mut fact: PeerFact) -> PeerFact {
    fact.view.outside = Some(OutsideLook { reached: false, rtt: None, age: Duration::ZERO });
    fact.view.agent = Some(AgentWord { word: Word::Failing, age: Duration::ZERO });
    fact
}

#[test]
fn one_that_lies_takes_nothing_out_for_others() {
    for seed in SEEDS {
        for sessions in [[&[0usize][..], &[0], &[0]], [&[0, 1], &[0, 2], &[1]]] {
            let mut federation = Federation::new(4, &sessions, &usual(), seed);
            federation.run(6_000);
            federation.clear();
            federation.brokers[0].lie = Some(all_down);
            federation.run(60_000);
            for b in 1..4 {
                assert!(federation.keeps(b), "{b}: {:?}", federation.brokers[b].log);
                assert!((0..3).all(|m| federation.shown(b, m).eligible()));
            }
        }
    }
}

#[test]
fn a_lone_liar_does_not_help_one_that_is_blind_to_condemn_what_others_reach() {
    for seed in SEEDS {
        let mut federation = three(seed);
        federation.brokers[0].lie = Some(all_down);
        federation.brokers[1].blind = vec![0];
        federation.run(60_000);
        assert!(federation.keeps(1), "{:?}", federation.brokers[1].log);
        assert!(federation.shown(1, 0).eligible());
    }
}

#[test]
fn two_that_hear_an_agent_say_so_are_believed() {
    let failing = |mut fact: PeerFact| {
        fact.view.agent = Some(AgentWord { word: Word::Failing, age: Duration::ZERO });
        fact
    };
    let mut federation = Federation::new(4, &[&[0, 1], &[2], &[3]], &usual(), 3);
    federation.run(6_000);
    assert_eq!(federation.shown(3, 0), State::Up);
    federation.brokers[0].lie = Some(failing);
    federation.run(20_000);
    assert_eq!(federation.shown(3, 0), State::Up, "the other hears it healthy");
    federation.brokers[1].lie = Some(failing);
    federation.run(6_000);
    let verdict = *federation.brokers[3].fleet.live().mirror(MirrorIndex(0)).verdict(V4);
    assert_eq!((verdict.state, verdict.reason), (State::Down, Reason::ServiceFailing));
    federation.brokers[0].lie = None;
    federation.run(6_000);
    assert_eq!(federation.shown(3, 0), State::Up, "and one that hears it healthy brings it back");
}

#[test]
fn when_the_only_broker_with_sessions_is_cut_off_the_others_go_on() {
    for seed in SEEDS {
        let mut federation = three(seed);
        federation.brokers[0].cut = true;
        federation.run(60_000);
        for b in 1..3 {
            assert!(federation.keeps(b), "{:?}", federation.brokers[b].log);
            assert!((0..3).all(|m| federation.shown(b, m) == State::Unattended));
        }
        assert!(federation.keeps(0), "and it doubts itself: {:?}", federation.brokers[0].log);
        federation.brokers[0].cut = false;
        federation.run(10_000);
        for b in 0..3 {
            assert!((0..3).all(|m| federation.shown(b, m) == State::Up), "{:?}", federation.brokers[b].log);
        }
    }
}

#[test]
fn a_dead_mirror_is_out_everywhere_soon() {
    for seed in 0..10 {
        let mut federation = Federation::new(5, &[&[0], &[0, 1], &[2], &[3]], &usual(), seed);
        federation.run(6_000 + seed * 137);
        federation.clear();
        federation.alive[0] = false;
        federation.run(2_500);
        for b in 0..5 {
            assert_eq!(
                federation.shown(b, 0),
                State::Down,
                "seed {seed}, {b}: {:?}",
                federation.brokers[b].log
            );
        }
        assert!((1..4).all(|m| (0..5).all(|b| federation.shown(b, m).eligible())));
        federation.alive[0] = true;
        federation.run(12_000);
        assert!((0..5).all(|b| federation.shown(b, 0) == State::Up), "and back");
    }
}

#[test]
fn an_agent_that_goes_over_to_another_broker_is_heard_there() {
    let mut federation = three(2);
    federation.brokers[0].sessions.retain(|m| *m != 0);
    federation.brokers[0].fleet.on_session_left(super::lab::id(0), 1, at(federation.now));
    federation.attach(1, 0);
    federation.run(15_000);
    assert!((0..3).all(|b| federation.shown(b, 0) == State::Up), "{:?}", federation.brokers[0].log);
    assert!(federation.keeps(2), "{:?}", federation.brokers[2].log);
}

#[test]
fn after_a_restart_an_agent_that_others_hear_is_not_missed() {
    let mut federation = three(4);
    let now = at(federation.now);
    let kept = federation.brokers[1].fleet.persisted(now);
    let mut again = Fleet::new(usual(), 9);
    again.set_broker(key(1));
    again.set_registry(Arc::new(federation.registry.clone()), now);
    again.resume(kept, now);
    again.on_peers_connected(vec![key(0), key(2)], now);
    federation.brokers[1].fleet = again;
    federation.run(20_000);
    assert!((0..3).all(|m| federation.shown(1, m) == State::Up), "{:?}", federation.brokers[1].log);
    let missed = |t: &Transition| t.to.reason == Reason::MissedBeacons;
    assert!(!federation.brokers[1].log.iter().any(|(_, t)| missed(t)), "{:?}", federation.brokers[1].log);
}

#[test]
fn a_broker_that_slept_waits_to_be_told_again() {
    let mut federation = three(4);
    // Nothing is looked at for longer than facts live.
    federation.now += 20_000;
    federation.run(10_000);
    let doubted = |t: &Transition| t.to.reason == Reason::MissedBeacons;
    let log = &federation.brokers[1].log;
    assert!(!log.iter().any(|(_, t)| doubted(t)), "{log:?}");
}

fn only_probed(mirrors: u32, interval: Duration) -> Registry {
    let mut registry = registry(mirrors);
    registry.nodes.clear();
    for mirror in &mut registry.mirrors {
        mirror.node = None;
        mirror.health = HealthMode::Probe;
        let timeout = Duration::from_secs(1);
        mirror.probe = Some(CheckSpec { kind: CheckKind::Tcp, interval, timeout, rise: 1, fall: 3 });
    }
    registry.index();
    registry
}

#[test]
fn ten_brokers_probe_hardly_more_than_three() {
    let probes = |brokers: usize, probed: bool| {
        let sessions: Vec<&[usize]> = vec![&[0]; 6];
        let mut federation = match probed {
            true => {
                let registry = only_probed(6, Duration::from_secs(2));
                Federation::of(brokers, &sessions, registry, &usual(), 5)
            }
            false => Federation::new(brokers, &sessions, &usual(), 5),
        };
        federation.run(20_000);
        federation.clear();
        federation.run(200_000);
        assert!((0..brokers).all(|b| federation.brokers[b].log.is_empty()));
        federation.brokers.iter().flat_map(|b| &b.probes).sum::<u64>()
    };
    for probed in [false, true] {
        let (one, ten) = (probes(1, probed), probes(10, probed));
        assert!(ten as f64 <= 3.5 * one as f64, "probed only: {probed}; {one} and {ten}");
        assert!(ten as f64 >= 2.5 * one as f64, "probed only: {probed}; {one} and {ten}");
    }
}

#[test]
fn when_those_on_duty_are_gone_the_others_look_themselves() {
    let registry = only_probed(4, Duration::from_secs(2));
    let mut federation = Federation::of(5, &[&[], &[], &[], &[]], registry, &usual(), 7);
    federation.run(20_000);
    for b in 1..5 {
        federation.brokers[b].cut = true;
    }
    let left = &mut federation.brokers[0];
    left.fleet.on_peers_connected(Vec::new(), at(federation.now));
    federation.clear();
    federation.run(20_000);
    assert!(federation.brokers[0].probes.iter().all(|n| *n >= 8), "{:?}", federation.brokers[0].probes);
}

#[test]
fn a_failure_that_one_broker_sees_is_looked_into_by_all() {
    let registry = only_probed(4, Duration::from_secs(10));
    let mut federation = Federation::of(5, &[&[], &[], &[], &[]], registry, &usual(), 9);
    federation.run(30_000);
    federation.clear();
    federation.alive[2] = false;
    let from = federation.now;
    while (0..5).any(|b| federation.shown(b, 2) != State::Down) {
        federation.run(100);
        assert!(federation.now - from < 30_000, "{:?}", federation.brokers[0].log);
    }
    let downs = federation.brokers.iter().flat_map(|b| &b.log).filter(|(_, t)| t.to.state == State::Down);
    let downs: Vec<u64> = downs.map(|(ms, _)| *ms).collect();
    let spread = downs.iter().max().unwrap() - downs.iter().min().unwrap();
    assert!(spread < 5_000, "{downs:?}");
}

#[test]
fn facts_are_bounded_and_what_is_not_known_is_counted() {
    let mut federation = three(1);
    let now = at(federation.now);
    let mut facts: Vec<PeerFact> = federation.brokers[0].fleet.own_facts(now).collect();
    assert_eq!(facts.len(), 3);
    facts[1].mirror = "other".into();
    let fleet = &mut federation.brokers[1].fleet;
    assert_eq!(fleet.on_peer_facts(key(7), &facts, now), 1);
    assert_eq!(fleet.on_peer_facts(key(1), &facts, now), 3, "its own key");
    for b in 100..200 {
        let left_out = fleet.on_peer_facts(key(b), &facts[..1], now);
        assert_eq!(left_out == 0, b < 161, "{b}: three are held already");
    }
    // Their life over, others find room.
    let later = at(federation.now + 15_001);
    assert_eq!(fleet.on_peer_facts(key(250), &facts[..1], later), 0);
}

#[test]
fn only_changes_are_told_between_two_full_tellings() {
    let mut federation = three(1);
    let fleet = &mut federation.brokers[0].fleet;
    let now = at(federation.now);
    let _ = fleet.changed_facts(now);
    assert!(!fleet.facts_changed());
    let mut failing = super::tests::report(&["m1"]);
    failing.services[0].healthy = false;
    fleet.on_report(super::lab::id(1), &failing, now);
    let changed = fleet.changed_facts(now);
    assert_eq!(changed.len(), 1, "of the family that it has an address of: {changed:?}");
    assert!(changed.iter().all(|f| &*f.mirror == "m1"));
    assert!(changed.iter().all(|f| f.view.agent.map(|a| a.word) == Some(Word::Failing)));
    assert!(!fleet.facts_changed());
}

#[test]
fn another_broker_that_is_heard_ends_the_doubt() {
    let caution = Caution { witnesses: false, panic_below: 0.0, region_cap: 1.0, ..Caution::default() };
    let config = FleetConfig { caution, ..FleetConfig::default() };
    for heard in [false, true] {
        let mut lab = super::lab::Lab::new(3, config.clone());
        for i in 0..3 {
            lab.kill(i);
        }
        for _ in 0..40 {
            lab.run(500);
            if heard {
                lab.fleet.on_peer_contact(at(lab.now));
            }
        }
        let down = (0..3).filter(|i| lab.shown(*i).0 == State::Down).count();
        assert_eq!(down, if heard { 3 } else { 0 }, "heard: {heard}; {:?}", lab.log);
        assert_eq!(lab.fleet.doubts_itself(), !heard);
    }
}

#[test]
fn a_drained_agent_that_one_broker_hears_is_unattended_elsewhere_until_it_is_well() {
    let mut federation = three(6);
    let mut draining = super::tests::report(&["m0"]);
    draining.draining = true;
    let now = at(federation.now);
    federation.brokers[0].fleet.on_report(super::lab::id(0), &draining, now);
    federation.run(5_000);
    assert_eq!(federation.shown(0, 0), State::Draining);
    assert!((1..3).all(|b| federation.shown(b, 0) == State::Unattended));
    let now = at(federation.now);
    federation.brokers[0].fleet.on_report(super::lab::id(0), &super::tests::report(&["m0"]), now);
    federation.run(5_000);
    assert!((0..3).all(|b| federation.shown(b, 0) == State::Up), "{:?}", federation.brokers[1].log);
}

#[test]
fn an_agents_word_and_this_brokers_own_failure_take_a_mirror_out() {
    let mut federation = Federation::new(2, &[&[0], &[0]], &usual(), 3);
    federation.run(3_000);
    federation.brokers[0].lie = Some(all_down);
    federation.brokers[1].blind = vec![0];
    federation.run(8_000);
    assert_eq!(federation.shown(1, 0), State::Down);
    assert!(federation.shown(1, 1).eligible());
}

#[test]
fn loads_of_agents_elsewhere_are_known() {
    let mut federation = three(1);
    let mut loaded = super::tests::report(&["m2"]);
    loaded.services[0].connections = 77;
    let now = at(federation.now);
    federation.brokers[0].fleet.on_report(super::lab::id(2), &loaded, now);
    federation.run(6_000);
    let load = |b: usize| federation.brokers[b].fleet.live().mirror(MirrorIndex(2)).load.connections;
    assert_eq!([load(0), load(1), load(2)], [77; 3]);
}

#[test]
fn ten_thousand_mirrors_are_told_and_heard_quickly() {
    let n = 10_000;
    let mut registry = only_probed(1, Duration::from_secs(10));
    let one = registry.mirrors.remove(0);
    let numbered = |i: u32| crate::registry::Mirror {
        name: format!("m{i}").into(),
        address: crate::registry::MirrorAddress::Declared { v4: Some((0x0a00_0000 + i).into()), v6: None },
        ..one.clone()
    };
    registry.mirrors = (0..n).map(numbered).collect();
    registry.domains[0].mirrors = 0..n;
    registry.index();
    let registry = Arc::new(registry);
    let mut fleets = [1, 2].map(|seed| Fleet::new(usual(), seed));
    for (b, fleet) in fleets.iter_mut().enumerate() {
        fleet.set_broker(key(b));
        fleet.on_peers_connected(vec![key(0), key(1)], at(0));
        fleet.set_registry(registry.clone(), at(0));
        for order in super::tests::orders_of(fleet) {
            fleet.on_probe_result(order.token, super::tests::PASSED, at(1));
        }
        fleet.on_deadline(at(2));
    }
    let [one, other] = &mut fleets;
    let mut probed = 0;
    for ms in (10..12_500).step_by(50) {
        one.on_deadline(at(ms));
        for order in super::tests::orders_of(one) {
            probed += 1;
            one.on_probe_result(order.token, super::tests::PASSED, at(ms));
        }
    }
    let facts: Vec<PeerFact> = one.own_facts(at(12_500)).collect();
    assert_eq!(facts.len(), n as usize, "{probed} probes");
    assert_eq!(other.on_peer_facts(key(0), &facts, at(12_500)), 0);
    assert_eq!(one.changed_facts(at(12_500)).len(), n as usize, "each once");
}

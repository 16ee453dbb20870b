//! Witnesses, self-doubt, the cap, panic, and people's orders.

use super::lab::*;
use super::tests::{at, report};
use super::*;
use crate::health::{Reason, State, Vantage};
use crate::registry::{Force, ForcedTo, MirrorAddress, MirrorIndex, Window};
use std::net::IpAddr;

#[test]
fn witnesses_make_an_eviction_quick_and_say_so() {
    let mut lab = Lab::new(4, FleetConfig::default());
    lab.kill(0);
    let took = lab.until(0, State::Down, 1000);
    assert!(took <= 750, "{took} ms");
    assert_eq!(lab.shown(0), (State::Down, Reason::SilentAndUnreachable, Vantage::BrokerAndWitnesses));
    assert!(lab.tally.asked.len() >= 3 && !lab.tally.asked.contains(&id(0)), "{:?}", lab.tally.asked);
    let evidence = lab.fleet.evidence(MirrorIndex(0), V4, at(lab.now)).unwrap();
    assert_eq!(evidence.broker.map(|b| b.0), Some(false));
    assert!(evidence.witnesses.iter().filter(|w| w.1 == Witnessed::Failed).count() >= 2);
}

#[test]
fn an_agent_that_is_heard_again_ends_what_its_silence_began() {
    for silence in [460, 500, 590] {
        let mut lab = Lab::new(4, FleetConfig::default());
        lab.kill(0);
        lab.run(silence);
        assert_eq!(lab.shown(0).0, State::Suspect, "{silence}");
        lab.beating[0] = true;
        lab.run(1_500);
        assert_eq!(lab.shown(0).0, State::Up, "{silence}: {:?}", lab.log);
    }
}

#[test]
fn what_its_agent_calls_well_goes_only_after_two_rounds() {
    let mut lab = Lab::new(4, FleetConfig::default());
    lab.answers[0] = (false, false);
    lab.until(0, State::Down, 20_000);
    assert_eq!(lab.shown(0), (State::Down, Reason::ProbeFailed, Vantage::BrokerAndWitnesses));
    assert_eq!(lab.tally.asked.len(), 6, "three witnesses, twice");
    // One round that fails by chance is forgotten.
    let mut lab = Lab::new(4, FleetConfig::default());
    for _ in 0..10 {
        lab.answers[0] = (false, false);
        let asked = lab.tally.asked.len();
        while lab.tally.asked.len() == asked {
            lab.run(1);
        }
        lab.answers[0] = (true, true);
        lab.run(3_000);
        assert_eq!(lab.shown(0).0, State::Up);
    }
}

#[test]
fn agents_that_come_by_ipv4_testify_about_ipv6_where_they_serve_by_it() {
    let mut lab = Lab::new(4, FleetConfig::default());
    for (i, mirror) in lab.registry.mirrors.iter_mut().enumerate() {
        let v6 = std::net::Ipv6Addr::new(0x2a00, i as u16, 0, 0, 0, 0, 0, 1);
        mirror.address = MirrorAddress::Declared { v4: Some(addr(i as u32)), v6: Some(v6) };
    }
    lab.apply();
    lab.run(1_000);
    lab.kill(0);
    lab.run(750);
    let verdict = *lab.fleet.live().mirror(MirrorIndex(0)).verdict(Family::V6);
    assert_eq!((verdict.state, verdict.vantage), (State::Down, Vantage::BrokerAndWitnesses));
}

#[test]
fn what_only_the_broker_does_not_reach_stays() {
    let mut lab = Lab::new(4, FleetConfig::default());
    lab.answers[1] = (false, true);
    lab.run(15_000);
    assert_eq!(lab.shown(1), (State::Up, Reason::PartlyReachable, Vantage::Witnesses));
    lab.beating[1] = false;
    lab.run(2_000);
    assert_eq!(lab.shown(1), (State::Unattended, Reason::SilentButAnswering, Vantage::Witnesses));
    assert!(lab.log.iter().all(|(_, t)| t.to.state.eligible()), "{:?}", lab.log);
}

#[test]
fn a_broker_that_is_cut_off_alone_evicts_nobody() {
    for references in [false, true] {
        let caution = Caution { references, ..Caution::default() };
        let mut lab = Lab::new(4, FleetConfig { caution, ..FleetConfig::default() });
        for i in 0..4 {
            lab.kill(i);
        }
        lab.run(60_000);
        for i in 0..4 {
            assert_eq!(lab.shown(i).0, State::Suspect, "references: {references}");
        }
        assert!(lab.fleet.doubts_itself());
        assert_eq!(lab.shown(0).1, Reason::SelfDoubt);
        for i in 0..4 {
            lab.revive(i);
        }
        lab.run(1_000);
        assert_eq!(lab.shown(0).0, State::Up);
        assert!(!lab.fleet.doubts_itself());
    }
}

#[test]
fn references_that_answer_end_the_doubt() {
    let caution = Caution { references: true, panic_below: 0.0, region_cap: 1.0, ..Caution::default() };
    let mut lab = Lab::new(3, FleetConfig { caution, ..FleetConfig::default() });
    lab.ways.references = 1;
    for i in 0..3 {
        lab.kill(i);
    }
    lab.run(6_000);
    assert!((0..3).all(|i| lab.shown(i).0 == State::Down), "{:?}", lab.log);
}

#[test]
fn references_that_answer_late_end_a_long_doubt() {
    let caution = Caution { references: true, panic_below: 0.0, region_cap: 1.0, ..Caution::default() };
    let mut lab = Lab::new(3, FleetConfig { caution, ..FleetConfig::default() });
    for i in 0..3 {
        lab.kill(i);
    }
    lab.run(90_000);
    assert!((0..3).all(|i| lab.shown(i).0 == State::Suspect), "{:?}", lab.log);
    lab.ways.references = 1;
    lab.run(6_000);
    assert!((0..3).all(|i| lab.shown(i).0 == State::Down), "{:?}", lab.log);
}

#[test]
fn of_three_mirrors_two_die_and_the_third_serves() {
    let mut lab = Lab::new(3, FleetConfig::default());
    lab.kill(0);
    lab.kill(1);
    lab.run(5_000);
    assert_eq!(lab.shown(2).0, State::Up);
    // One witness is left, and with the broker it is two outside vantages.
    let down = (0..2).filter(|i| lab.shown(*i).0 == State::Down).count();
    assert_eq!(down, 2, "{:?}", lab.log);
}

#[test]
fn silence_that_only_the_broker_sees_passes_neither_cap_nor_panic() {
    let caution = Caution { witnesses: false, ..Caution::default() };
    let mut lab = Lab::new(10, FleetConfig { caution, ..FleetConfig::default() });
    for i in 0..6 {
        lab.kill(i);
    }
    lab.run(20_000);
    let down: Vec<u32> = (0..10).filter(|i| lab.shown(*i).0 == State::Down).collect();
    assert_eq!(down.len(), 3, "30 % of ten: {:?}", lab.log);
    let held: Vec<_> = (0..6).filter(|i| !down.contains(i)).map(|i| lab.shown(i)).collect();
    assert!(held.iter().all(|h| h.0 == State::Suspect && h.1 == Reason::CapReached), "{held:?}");
    // The services of four more fail: too little is left, and what the broker alone took out comes back.
    for i in 6..10 {
        let mut failing = report(&[&format!("m{i}")]);
        failing.services[0].healthy = false;
        lab.fleet.on_report(id(i), &failing, at(lab.now));
    }
    lab.run(3_000);
    // All six are back, or five: half of the weight is no panic.
    let back = (0..6).filter(|i| lab.shown(*i).0 == State::Suspect).count();
    assert!(back >= 5, "{:?}", lab.log);
    let panicked =
        |i: &u32| lab.log.iter().any(|(_, t)| *t.mirror == *format!("m{i}") && t.to.reason == Reason::Panic);
    assert!(down.iter().all(panicked), "{:?}", lab.log);
    assert!((6..10).all(|i| lab.shown(i).0 == State::Down), "what agents say stands");
}

#[test]
fn a_flapping_mirror_is_held_down_longer_each_time_and_behaves_in_the_end() {
    let mut lab = Lab::new(4, FleetConfig::default());
    let mut out = Vec::new();
    for _ in 0..5 {
        lab.kill(0);
        lab.until(0, State::Down, 2_000);
        lab.revive(0);
        out.push(lab.until(0, State::Up, 300_000));
    }
    assert!(out.windows(2).all(|w| w[1] > w[0]), "{out:?}");
    assert!(out[0] < 2_000 && out[4] > 30_000, "{out:?}");
    let held = lab.log.iter().filter(|(_, t)| t.to.reason == Reason::HeldDown).count();
    assert!(held >= 4, "{:?}", lab.log);
}

#[test]
fn manual_fail_back_waits_for_a_person_over_a_restart() {
    let mut lab = Lab::new(4, FleetConfig::default());
    lab.registry.domains[0].policy.failover.manual_failback = true;
    lab.apply();
    lab.kill(0);
    lab.until(0, State::Down, 2_000);
    lab.revive(0);
    lab.run(30_000);
    assert_eq!((lab.shown(0).0, lab.shown(0).1), (State::Down, Reason::AwaitingRelease));
    let kept = lab.fleet.persisted(at(lab.now));
    let mut again = Fleet::new(FleetConfig::default(), 1);
    again.set_registry(Arc::new(lab.registry.clone()), at(lab.now));
    again.resume(kept, at(lab.now));
    assert_eq!(again.live().mirror(MirrorIndex(0)).verdict(V4).reason, Reason::AwaitingRelease);
    assert_eq!(again.live().mirror(MirrorIndex(1)).verdict(V4).state, State::Up);
    lab.registry.mirrors[0].orders.released = Some(at(lab.now).unix);
    lab.apply();
    assert_eq!(lab.shown(0).0, State::Up);
}

#[test]
fn an_order_ends_soon_after_the_wall_clock_jumped_past_its_end() {
    let mut lab = Lab::new(4, FleetConfig::default());
    let until = at(lab.now + 3_600_000).unix;
    lab.registry.mirrors[0].orders.force = Some(Force { to: ForcedTo::Down, until });
    lab.apply();
    assert_eq!(lab.shown(0).1, Reason::Forced);
    let jumped = Now { mono: at(lab.now + 31_000).mono, unix: at(lab.now + 4_000_000).unix };
    assert!(lab.fleet.next_deadline().is_some_and(|due| due <= jumped.mono));
    lab.fleet.on_deadline(jumped);
    assert_ne!(lab.shown(0).1, Reason::Forced);
}

#[test]
fn a_flapping_mirror_stays_held_over_a_restart() {
    let mut lab = Lab::new(4, FleetConfig::default());
    for _ in 0..3 {
        lab.kill(0);
        lab.until(0, State::Down, 60_000);
        lab.revive(0);
        lab.run(5_000);
    }
    assert_eq!((lab.shown(0).0, lab.shown(0).1), (State::Down, Reason::HeldDown));
    let mut again = Fleet::new(FleetConfig::default(), 1);
    again.set_registry(Arc::new(lab.registry.clone()), at(lab.now));
    again.resume(lab.fleet.persisted(at(lab.now)), at(lab.now));
    assert_eq!(again.live().mirror(MirrorIndex(0)).verdict(V4).reason, Reason::HeldDown);
    let later = at(lab.now + 120_000);
    assert!(again.next_deadline().is_some_and(|due| due <= later.mono));
    again.on_deadline(later);
    assert_ne!(again.live().mirror(MirrorIndex(0)).verdict(V4).reason, Reason::HeldDown);
}

#[test]
fn a_frozen_mirror_stays_as_it_was_and_a_window_drains() {
    let mut lab = Lab::new(4, FleetConfig::default());
    let unix = |ms: u64| at(ms).unix;
    lab.registry.mirrors[0].orders.force =
        Some(Force { to: ForcedTo::AsItWas, until: unix(lab.now + 5_000) });
    lab.registry.mirrors[1].orders.windows =
        vec![Window { from: unix(lab.now + 1_000), until: unix(lab.now + 3_000) }];
    lab.apply();
    lab.kill(0);
    lab.run(2_000);
    assert_eq!((lab.shown(0).0, lab.shown(0).1), (State::Up, Reason::Frozen));
    assert_eq!((lab.shown(1).0, lab.shown(1).1), (State::Draining, Reason::Maintenance));
    lab.run(2_000);
    assert_eq!((lab.shown(0).0, lab.shown(1).0), (State::Up, State::Up));
    lab.run(2_000);
    assert_eq!(lab.shown(0).0, State::Down, "the freeze is over");
}

#[test]
fn a_freeze_keeps_what_was_shown_over_a_restart() {
    let mut lab = Lab::new(4, FleetConfig::default());
    let until = at(lab.now + 60_000).unix;
    let freeze = Some(Force { to: ForcedTo::AsItWas, until });
    lab.registry.mirrors[0].orders.force = freeze;
    lab.apply();
    lab.kill(0);
    lab.run(2_000);
    let shown = |fleet: &Fleet, i| {
        let verdict = *fleet.live().mirror(MirrorIndex(i)).verdict(V4);
        (verdict.state, verdict.reason)
    };
    assert_eq!(shown(&lab.fleet, 0), (State::Up, Reason::Frozen));
    let kept = lab.fleet.persisted(at(lab.now));
    let stored = kept.iter().find(|p| &*p.mirror == "m0").unwrap();
    assert_eq!((stored.verdict.state, stored.frozen), (State::Down, Some(State::Up)));
    // Another is frozen while the broker is away.
    lab.registry.mirrors[1].orders.force = freeze;
    let mut again = Fleet::new(FleetConfig::default(), 1);
    again.set_registry(Arc::new(lab.registry.clone()), at(lab.now));
    again.resume(kept, at(lab.now));
    assert_eq!(shown(&again, 0), (State::Up, Reason::Frozen));
    assert_eq!(shown(&again, 1), (State::Up, Reason::Frozen));
    lab.registry.mirrors[0].orders.force = None;
    again.set_registry(Arc::new(lab.registry.clone()), at(lab.now + 1));
    assert_eq!(shown(&again, 0), (State::Down, Reason::SilentAndUnreachable));
}

#[test]
fn forged_complaints_change_nothing_and_true_ones_hasten() {
    let mut lab = Lab::new(4, FleetConfig::default());
    let complain = |lab: &mut Lab, n: u8| {
        let client = IpAddr::from([172, n, 0, 9]);
        lab.fleet.on_client_failure(MirrorIndex(0), V4, client, at(lab.now));
        lab.outputs();
    };
    for round in 0..2_000u64 {
        complain(&mut lab, (round % 250) as u8);
        lab.run(5);
        assert!(lab.shown(0).0.eligible());
    }
    let evicted = lab.log.iter().filter(|(_, t)| !t.to.state.eligible()).count();
    assert_eq!(evicted, 0, "{:?}", lab.log);
    assert!(lab.log.len() <= 4, "one look, then deaf: {:?}", lab.log);
    // The agent is fine and says so, and nobody reaches the service.
    let mut lab = Lab::new(4, FleetConfig::default());
    lab.answers[0] = (false, false);
    for n in 0..3 {
        complain(&mut lab, n);
    }
    assert!(lab.fleet.live().mirror(MirrorIndex(0)).paused[0]);
    assert!(lab.until(0, State::Down, 1_500) < 1_000);
}

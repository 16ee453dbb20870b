//! What is asked of failure detection: speed on a bad network, and no mistakes on a worse one.

mod common;

use common::{SECOND, all_eligible, explained, host, nobody_evicted, started, started_as, suspicions};
use nearmost_core::health::{Family, State};
use nearmost_sim::broker::Nearmost;
use nearmost_sim::faults::{Fault, pauses};
use nearmost_sim::fleet_of::dual;
use nearmost_sim::measure::{Case, Deaths, Kind, deaths, mistakes};
use nearmost_sim::net::{Conditions, Cut};
use nearmost_sim::rng::Rng;
use nearmost_sim::seeds::{for_seeds, is_long, is_replay};
use nearmost_sim::world::{Plan, World};

const LOSSY: Case = Case { name: "5 %", conditions: Conditions { loss: 0.05, ..CALM }, pauses: false };
const CALM: Conditions =
    Conditions { loss: 0.0, bursts: None, jitter_us: 15_000, reordered: 0.0, duplicated: 0.0 };

#[test]
fn a_dead_host_is_down_within_a_second_at_5_percent_loss() {
    let mut all = Deaths::default();
    for_seeds(200, |seed| all.add(deaths(Kind::Nearmost, &LOSSY, seed, 20)));
    let ms = |share: f64| all.percentile(share).map(|us| us / 1000);
    let times = [0.5, 0.9, 0.95, 0.98, 0.99, 0.995, 1.0].map(ms);
    let p99 = all.percentile(0.99).expect("found");
    assert!(p99 <= SECOND, "{times:?} ms, {} missed", all.missed);
}

/// Takes out nobody in ten minutes of 50 hosts each time; in the long form that is 10 000 node-hours.
fn no_mistakes(case: Case) {
    for_seeds(if is_long() { 60 } else { 8 }, |seed| {
        let found = mistakes(Kind::Nearmost, &case, seed, 50, 600 * SECOND);
        assert_eq!(found.count, 0, "in {} node-hours", found.node_hours);
    });
}

#[test]
fn random_loss_evicts_nobody_who_answers() {
    no_mistakes(LOSSY);
}

#[test]
fn bursts_of_loss_evict_nobody_who_answers() {
    no_mistakes(Case { name: "bursts", conditions: Conditions::bursty(0.05), pauses: false });
}

#[test]
fn loss_and_pauses_evict_nobody_who_answers() {
    no_mistakes(Case { pauses: true, ..LOSSY });
}

/// Paths from the broker to single hosts, and back, that are dark for seconds: others see that the
/// hosts serve.
#[test]
fn a_path_that_is_dark_evicts_nobody_whom_others_reach() {
    let mut noticed = 0;
    for_seeds(60, |seed| {
        let mut world = started(seed, 8);
        let broker = world.ground.broker();
        for _ in 0..6 {
            let host = world.ground.rng.below(8) as u32;
            let us = world.ground.rng.between(SECOND / 2, 6 * SECOND);
            match world.ground.rng.below(3) {
                0 => world.fault(Fault::PathDark(broker, host, us)),
                1 => world.fault(Fault::PathDark(host, broker, us)),
                _ => {
                    world.fault(Fault::PathDark(host, broker, us));
                    world.fault(Fault::PathDark(broker, host, us));
                }
            }
            world.run_for(8 * SECOND);
        }
        noticed += suspicions(&world);
        nobody_evicted(&world);
        explained(&world);
    });
    assert!(noticed >= 30 || is_replay(), "{noticed} suspicions are too few to have been put to the test");
}

#[test]
fn a_region_that_only_the_broker_misses_keeps_serving() {
    for_seeds(40, |seed| {
        let mut world = started(seed, 12);
        world.fault(Fault::RegionCut((seed % 4) as u16, Cut::Broker));
        let us = world.ground.rng.between(SECOND, 60 * SECOND);
        world.run_for(us);
        nobody_evicted(&world);
    });
}

/// A broker that is cut off from everyone doubts itself.
#[test]
fn a_broker_that_is_alone_evicts_nobody() {
    for_seeds(40, |seed| {
        let plan = Plan { observers: 3, ..Plan::new(seed, 12) };
        let mut world = started_as(&plan);
        // Some of them nobody can be asked about.
        for mirror in [0, 5] {
            world.detector.registry.mirrors[mirror].probe = None;
        }
        world.apply();
        world.run_for(6 * SECOND);
        let us = world.ground.rng.between(SECOND, 60 * SECOND);
        world.fault(Fault::BrokerDark(us));
        world.run_for(us);
        nobody_evicted(&world);
        world.run_for(60 * SECOND);
        assert!(all_eligible(&world), "{:?}", world.states(Family::V4));
        nobody_evicted(&world);
    });
}

/// How long a host that serves again is kept out, in microseconds.
fn kept_out(world: &mut World<Nearmost>, host: u32) -> u64 {
    let from = world.ground.now;
    for _ in 0..36_000 {
        if world.verdict(host, Family::V4).state.eligible() {
            return world.ground.now - from;
        }
        world.run_for(SECOND / 10);
    }
    assert!(all_eligible(world), "kept out for an hour: {:?}", world.verdict(host, Family::V4));
    world.ground.now - from
}

#[test]
fn a_host_that_flaps_is_kept_out_longer_each_time_until_it_behaves() {
    for_seeds(10, |seed| {
        let mut world = started(seed, 6);
        let mut times = Vec::new();
        for _ in 0..5 {
            world.fault(Fault::HostDies(2));
            world.run_for(10 * SECOND);
            assert_eq!(world.verdict(2, Family::V4).state, State::Down);
            world.fault(Fault::HostReturns(2));
            times.push(kept_out(&mut world, 2));
            world.run_for(5 * SECOND);
        }
        assert!(times[0] < 5 * SECOND, "the first failure costs nothing: {times:?}");
        assert!(times[2] > times[0] + 5 * SECOND && times[4] > times[2], "{times:?}");
        // It behaves for an hour, and is treated like any other.
        world.run_for(3600 * SECOND);
        world.fault(Fault::HostDies(2));
        world.run_for(10 * SECOND);
        world.fault(Fault::HostReturns(2));
        assert!(kept_out(&mut world, 2) < 5 * SECOND);
    });
}

/// Agents that fall silent where nobody can be asked: only a share of a region goes at once.
#[test]
fn silence_alone_takes_out_a_share_of_a_region_and_no_more() {
    for_seeds(40, |seed| {
        let (hosts, regions) = (20, 2);
        let mut registry = dual(hosts);
        for mirror in &mut registry.mirrors {
            mirror.probe = None;
        }
        let plan = Plan { regions, observers: 3, ..Plan::new(seed, hosts) };
        let mut world = World::of_fleet(&plan, registry);
        common::settle(&mut world);
        let (mut gone, mut rng) = (Vec::new(), Rng::new(seed));
        for host in 0..hosts {
            // A region's agents, one after the other: it is no single moment that looks suspicious.
            if host % 2 == 0 && rng.chance(0.8) {
                world.fault(Fault::AgentDies(host));
                gone.push(host);
                world.run_for(rng.below(2 * SECOND));
            }
        }
        for _ in 0..300 {
            world.run_for(SECOND / 10);
            let out = world.states(Family::V4).iter().filter(|s| !s.eligible()).count();
            assert!(out <= 3, "{out} of 10");
        }
        let evicted: Vec<u32> = world.evictions().iter().map(|(_, t)| host(&t.mirror)).collect();
        assert!(!evicted.is_empty() && evicted.iter().all(|h| gone.contains(h)), "{evicted:?}");
        explained(&world);
    });
}

/// One mirror of a small region may always go.
#[test]
fn silence_alone_may_take_out_one_of_two() {
    for_seeds(20, |seed| {
        let mut registry = dual(4);
        registry.mirrors[1].probe = None;
        let plan = Plan { regions: 2, ..Plan::new(seed, 4) };
        let mut world = World::of_fleet(&plan, registry);
        common::settle(&mut world);
        world.fault(Fault::HostDies(1));
        world.run_for(12 * SECOND);
        assert_eq!(world.verdict(1, Family::V4).state, State::Down);
        assert_eq!(world.states(Family::V4).iter().filter(|s| s.eligible()).count(), 3);
        explained(&world);
    });
}

#[test]
fn pauses_on_a_lossy_network_evict_nobody_who_answers() {
    for_seeds(10, |seed| {
        let mut world = started(seed, 10);
        let bad = Conditions { loss: 0.02, ..Conditions::bursty(0.03) };
        world.ground.net.conditions = bad;
        let span = (world.ground.now, world.ground.now + 600 * SECOND);
        let plan = pauses(&mut Rng::new(seed), 10, span, 60 * SECOND, 30 * SECOND);
        world.faults(plan);
        world.run_for(620 * SECOND);
        nobody_evicted(&world);
        explained(&world);
    });
}

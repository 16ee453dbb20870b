//! What always holds, whatever the network does.

mod common;

use common::{SECOND, all_eligible, explained, host, nobody_evicted, settle, started};
use nearmost_core::health::{Family, Reason, State};
use nearmost_sim::broker::Nearmost;
use nearmost_sim::faults::{Fault, pauses};
use nearmost_sim::fleet_of::dual;
use nearmost_sim::host::Service;
use nearmost_sim::net::{Conditions, Cut};
use nearmost_sim::rng::Rng;
use nearmost_sim::seeds::for_seeds;
use nearmost_sim::world::{Plan, World};

/// What was concluded, without the wall clock.
fn conclusions(world: &World<Nearmost>) -> Vec<(u64, String, Family, State, Reason)> {
    let log = &world.detector.log.transitions;
    log.iter().map(|(at, t)| (*at, t.mirror.to_string(), t.family, t.to.state, t.to.reason)).collect()
}

#[test]
fn a_seed_replays_exactly() {
    for_seeds(30, |seed| {
        let run = || {
            let mut world = started(seed, 6);
            world.faults(soup(seed, 6, world.ground.now));
            world.run_for(200 * SECOND);
            (conclusions(&world), world.events())
        };
        assert_eq!(run(), run());
    });
}

#[test]
fn jumping_clocks_change_nothing() {
    for_seeds(60, |seed| {
        let run = |jumps: bool| {
            let mut world = started(seed, 5);
            world.ground.net.conditions = Conditions::lossy(0.05);
            world.fault_at(world.ground.now + 15 * SECOND, Fault::HostDies(1));
            let mut rng = Rng::new(seed).fork(9);
            for _ in 0..12 {
                let us = rng.below(2 * 86_400 * SECOND) as i64 - (86_400 * SECOND) as i64;
                let host = rng.below(5) as u32;
                if jumps {
                    world.fault(Fault::AgentClockJumps(host, us));
                    world.fault(Fault::BrokerClockJumps(-us));
                }
                world.run_for(3 * SECOND);
            }
            conclusions(&world)
        };
        assert_eq!(run(true), run(false));
    });
}

#[test]
fn overtaken_and_doubled_packets_evict_nobody_and_hide_no_death() {
    for_seeds(100, |seed| {
        let mut world = started(seed, 5);
        world.ground.net.conditions =
            Conditions { reordered: 0.05, duplicated: 0.1, ..Conditions::default() };
        world.run_for(60 * SECOND);
        nobody_evicted(&world);
        world.fault(Fault::HostDies(2));
        world.run_for(3 * SECOND);
        let states = world.states(Family::V4);
        assert_eq!(states[2], State::Down);
        assert!((0..5).all(|h| h == 2 || states[h].eligible()), "{states:?}");
        explained(&world);
    });
}

#[test]
fn pauses_of_agents_and_broker_evict_nobody_who_answers() {
    for_seeds(20, |seed| {
        let mut world = started(seed, 8);
        let span = (world.ground.now, world.ground.now + 600 * SECOND);
        let plan = pauses(&mut Rng::new(seed), 8, span, 30 * SECOND, 20 * SECOND);
        world.faults(plan);
        world.run_for(620 * SECOND);
        nobody_evicted(&world);
        explained(&world);
    });
}

#[test]
fn of_three_mirrors_the_last_one_serves() {
    for_seeds(100, |seed| {
        let mut world = started(seed, 3);
        world.ground.net.conditions = Conditions::lossy(0.01);
        for dead in [seed % 3, (seed + 1) % 3] {
            world.fault(Fault::HostDies(dead as u32));
            let apart = world.ground.rng.below(2 * SECOND);
            world.run_for(apart);
        }
        world.run_for(8 * SECOND);
        for family in Family::ALL {
            let eligible: Vec<bool> = world.states(family).iter().map(|s| s.eligible()).collect();
            let last = ((seed + 2) % 3) as usize;
            assert!((0..3).all(|h| eligible[h] == (h == last)), "{last} {eligible:?}");
        }
        explained(&world);
    });
}

#[test]
fn a_region_that_is_cut_off_from_everyone_is_taken_out_and_no_other() {
    for_seeds(60, |seed| {
        let mut world = started(seed, 12);
        let region = (seed % 4) as u16;
        world.fault(Fault::RegionCut(region, Cut::Everyone));
        world.run_for(5 * SECOND);
        for (state, host) in world.states(Family::V4).into_iter().zip(0u32..) {
            assert_eq!(state.eligible(), world.ground.net.region(host) != region, "{host} {state:?}");
        }
        world.fault(Fault::RegionHeals(region));
        world.run_for(60 * SECOND);
        assert!(all_eligible(&world), "{:?}", world.states(Family::V4));
        explained(&world);
    });
}

/// A service that hangs or was stopped is found although its agent is there and notices nothing.
#[test]
fn a_service_that_no_longer_answers_is_found_by_the_steady_probes() {
    for_seeds(60, |seed| {
        let mut world = started(seed, 4);
        let how = if seed % 2 == 0 { Service::Swallows } else { Service::Refuses };
        world.fault(Fault::Service(1, how));
        world.run_for(20 * SECOND);
        assert_eq!(world.verdict(1, Family::V4).reason, Reason::ProbeFailed);
        world.fault(Fault::Service(1, Service::Answers));
        world.run_for(20 * SECOND);
        assert!(all_eligible(&world));
        explained(&world);
    });
}

/// Everything at once, for two minutes: faults that end, and the network as bad as it gets.
fn soup(seed: u64, hosts: u32, from: u64) -> Vec<(u64, Fault)> {
    let mut rng = Rng::new(seed).fork(7);
    let mut plan = Vec::new();
    let until = from + 120 * SECOND;
    for _ in 0..30 {
        let at = rng.between(from, until);
        let back = at + rng.between(SECOND / 5, 20 * SECOND);
        let (host, us) = (rng.below(u64::from(hosts)) as u32, rng.between(SECOND / 5, 5 * SECOND));
        let region = rng.below(4) as u16;
        let (from, to) = if rng.chance(0.5) { (host, hosts) } else { (hosts, host) };
        let (fault, end) = match rng.below(14) {
            0 => (Fault::HostDies(host), Some(Fault::HostReturns(host))),
            1 => (Fault::AgentDies(host), Some(Fault::AgentStarts(host))),
            2 => (Fault::AgentLeaves(host), Some(Fault::AgentStarts(host))),
            3 => (Fault::Service(host, Service::Refuses), Some(Fault::Service(host, Service::Answers))),
            4 => (Fault::Service(host, Service::Swallows), Some(Fault::Service(host, Service::Answers))),
            5 => (Fault::AgentPauses(host, us), None),
            6 => (Fault::BrokerPauses(us), None),
            7 => (Fault::PathDark(from, to, us), None),
            8 => (Fault::BrokerDark(us), None),
            9 => (Fault::RegionCut(region, Cut::Everyone), Some(Fault::RegionHeals(region))),
            10 => (Fault::RegionCut(region, Cut::Broker), Some(Fault::RegionHeals(region))),
            11 => (Fault::PathLossy(from, to, 0.5), Some(Fault::PathLossy(from, to, 0.0))),
            12 => {
                // A path that flaps.
                plan.extend((0..8).map(|i| (at + i * SECOND, Fault::PathDark(from, to, SECOND / 2))));
                continue;
            }
            _ => (Fault::AgentClockJumps(host, us as i64 - 2_500_000), None),
        };
        plan.push((at, fault));
        plan.extend(end.map(|end| (back, end)));
    }
    let bad = Conditions { loss: 0.05, reordered: 0.02, duplicated: 0.02, ..Conditions::bursty(0.05) };
    plan.push((from, Fault::Weather(bad)));
    plan.push((until + 20 * SECOND, Fault::Weather(Conditions::default())));
    // What was left dead by faults that crossed each other.
    for host in 0..hosts {
        plan.push((until + 20 * SECOND, Fault::HostReturns(host)));
    }
    plan
}

#[test]
fn whatever_happens_every_verdict_is_explained_and_all_is_well_in_the_end() {
    for_seeds(300, |seed| {
        let mut world = started(seed, 6);
        let plan = soup(seed, 6, world.ground.now);
        world.faults(plan);
        world.run_for(145 * SECOND);
        explained(&world);
        // A host that failed again and again may be held down for a while.
        let mut waited = 0;
        while !all_eligible(&world) && waited < 1800 {
            world.run_for(10 * SECOND);
            waited += 10;
        }
        assert!(all_eligible(&world), "{:?}", world.states(Family::V4));
        explained(&world);
    });
}

/// On a network that loses nothing, who is taken out really did not serve a moment ago.
#[test]
fn without_loss_only_the_dead_are_taken_out() {
    for_seeds(100, |seed| {
        let mut world = started(seed, 8);
        let mut rng = Rng::new(seed).fork(8);
        let mut dead = Vec::new();
        for _ in 0..6 {
            let victim = rng.below(8) as u32;
            world.fault(Fault::HostDies(victim));
            dead.push(victim);
            let apart = rng.between(SECOND / 10, 3 * SECOND);
            world.run_for(apart);
        }
        world.run_for(3 * SECOND);
        assert!(world.evictions().iter().all(|(_, t)| dead.contains(&host(&t.mirror))));
        let states = world.states(Family::V6);
        let down = |h: &u32| states[*h as usize] == State::Down;
        let verdict = |h: &u32| world.verdict(*h, Family::V6);
        assert!(dead.iter().all(down), "{dead:?} {:?}", dead.iter().map(verdict).collect::<Vec<_>>());
        explained(&world);
    });
}

#[test]
fn thousands_of_nodes_are_watched_through_lost_power_of_a_few() {
    for_seeds(1, |seed| {
        let mut world = World::of_fleet(&Plan::new(seed, 2000), dual(2000));
        settle(&mut world);
        for dead in [3, 500, 1999] {
            world.fault(Fault::HostDies(dead));
        }
        world.run_for(5 * SECOND);
        let down = world.states(Family::V4).iter().filter(|s| **s == State::Down).count();
        assert_eq!((down, world.evictions().len()), (3, 6));
        explained(&world);
    });
}

//! What the fleet concludes of hosts that die, hang, pause, drain and return.

mod common;

use common::{SECOND, explained, started, suspicions};
use nearmost_core::health::{Family, Reason, State};
use nearmost_core::registry::{Force, ForcedTo, HealthMode, MirrorAddress};
use nearmost_core::time::UnixMillis;
use nearmost_sim::broker::Nearmost;
use nearmost_sim::faults::Fault;
use nearmost_sim::fleet_of::{DOMAIN, dual, v4};
use nearmost_sim::host::Service;
use nearmost_sim::net::Conditions;
use nearmost_sim::seeds::for_seeds;
use nearmost_sim::world::{Plan, World};

const SEEDS: u64 = 200;

#[test]
fn a_dead_host_or_service_is_down_and_nothing_else_is() {
    let (mut all, mut slow) = (0, 0);
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 3);
        world.ground.net.conditions = Conditions::lossy(if seed % 2 == 0 { 0.0 } else { 0.02 });
        let wait = world.ground.rng.between(0, 2 * SECOND);
        world.run_for(wait);
        let killed = world.ground.now;
        if world.ground.rng.chance(0.5) {
            world.fault(Fault::Service(1, Service::Refuses));
            world.fault(Fault::AgentDies(1));
        } else {
            world.fault(Fault::HostDies(1));
        }
        world.run_for(10 * SECOND);
        for family in Family::ALL {
            let down = world.detector.log.transitions.iter().find(|(at, t)| {
                *at >= killed && &*t.mirror == "m00001" && t.family == family && t.to.state == State::Down
            });
            let (at, t) = down.expect("down");
            // Two witnesses are all there are: when an answer of theirs is lost twice, it takes longer.
            assert!(at - killed <= 6 * SECOND, "{} µs, {t:?}", at - killed);
            all += 1;
            slow += u32::from(at - killed > 3 * SECOND / 2);
            assert_eq!(world.verdict(1, family).reason, Reason::SilentAndUnreachable);
        }
        explained(&world);
    });
    assert!(slow <= all / 25, "{slow} of {all}");
}

#[test]
fn a_dead_agent_leaves_its_mirror_unattended_never_down() {
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 3);
        world.fault(Fault::AgentDies(2));
        world.run_for(20 * SECOND);
        for family in Family::ALL {
            assert_eq!(world.states(family), [State::Up, State::Up, State::Unattended]);
        }
        world.fault(Fault::AgentStarts(2));
        world.run_for(3 * SECOND);
        assert_eq!(world.states(Family::V4), [State::Up; 3]);
        assert!(world.evictions().is_empty(), "{:#?}", world.evictions());
        explained(&world);
    });
}

#[test]
fn pauses_of_the_broker_evict_nobody() {
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 5);
        // One of them can be asked by nobody: silence alone would evict it.
        world.detector.registry.mirrors[4].probe = None;
        world.apply();
        world.detector.settings.lost_beacons = 0.05;
        for _ in 0..6 {
            let apart = world.ground.rng.between(SECOND, 4 * SECOND);
            world.run_for(apart);
            let pause = world.ground.rng.between(SECOND / 5, 5 * SECOND);
            world.fault(Fault::BrokerPauses(pause));
            if pause > 3 * SECOND {
                let lost = world.ground.rng.below(5) as u32;
                world.lose_session(lost, pause + 300_000);
            }
            world.run_for(pause);
        }
        world.run_for(3 * SECOND);
        assert!(world.evictions().is_empty(), "{:#?}", world.evictions());
        explained(&world);
    });
}

#[test]
fn a_pause_alone_raises_no_suspicion() {
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 5);
        let pause = world.ground.rng.between(7 * SECOND / 10, 5 * SECOND);
        world.fault(Fault::BrokerPauses(pause));
        world.run_for(pause + 2 * SECOND);
        let log = &world.detector.log.transitions;
        assert!(log.is_empty(), "{log:#?}");
    });
}

/// What waits for a broker that stands still has an end; what found no room was lost to no harm.
#[test]
fn a_full_socket_evicts_nobody() {
    for_seeds(SEEDS / 2, |seed| {
        let plan = Plan { socket_buffer: 10, ..Plan::new(seed, 5) };
        let mut world = World::of_fleet(&plan, dual(5));
        world.run_for(3 * SECOND);
        for _ in 0..5 {
            world.fault(Fault::BrokerPauses(3 * SECOND));
            world.run_for(5 * SECOND);
        }
        assert!(world.ground.station.dropped > 100, "{}", world.ground.station.dropped);
        assert!(world.evictions().is_empty(), "{:#?}", world.evictions());
        explained(&world);
    });
}

#[test]
fn lost_beacons_evict_nobody_who_answers() {
    for_seeds(4, |seed| {
        let mut world = started(seed, 8);
        world.detector.settings.lost_beacons = 0.05;
        world.run_for(30 * 60 * SECOND);
        assert!(suspicions(&world) > 10, "the loss must have been noticed: {}", suspicions(&world));
        assert!(world.evictions().is_empty(), "{:#?}", world.evictions());
        explained(&world);
    });
}

#[test]
fn pauses_of_agents_whose_service_answers_evict_nobody() {
    let mut suspected = 0;
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 5);
        world.detector.settings.lost_beacons = 0.02;
        for _ in 0..10 {
            let host = world.ground.rng.below(5) as u32;
            let pause = world.ground.rng.between(SECOND / 5, 5 * SECOND);
            world.fault(Fault::AgentPauses(host, pause));
            let apart = world.ground.rng.between(SECOND / 2, 6 * SECOND);
            world.run_for(pause + apart);
        }
        world.detector.settings.lost_beacons = 0.0;
        world.run_for(5 * SECOND);
        assert!(world.evictions().is_empty(), "{:#?}", world.evictions());
        for family in Family::ALL {
            assert_eq!(world.states(family), [State::Up; 5]);
        }
        suspected += suspicions(&world);
        explained(&world);
    });
    assert!(suspected > 0, "the pauses must have been noticed");
}

#[test]
fn beacons_lost_in_bursts_evict_nobody_who_answers() {
    for_seeds(20, |seed| {
        let mut world = started(seed, 5);
        for _ in 0..60 {
            // All beacons of a while, and nothing else.
            world.detector.settings.lost_beacons = 1.0;
            let burst = world.ground.rng.between(SECOND / 10, 3 * SECOND);
            world.run_for(burst);
            world.detector.settings.lost_beacons = 0.0;
            let apart = world.ground.rng.between(SECOND, 15 * SECOND);
            world.run_for(apart);
        }
        assert!(suspicions(&world) > 10, "the loss must have been noticed: {}", suspicions(&world));
        assert!(world.evictions().is_empty(), "{:#?}", world.evictions());
        explained(&world);
    });
}

#[test]
fn a_drain_that_only_beacons_tell_of_takes_effect() {
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 3);
        world.ground.hosts[1].draining = true;
        world.run_for(SECOND / 2);
        for family in Family::ALL {
            assert_eq!(world.states(family), [State::Up, State::Draining, State::Up]);
        }
        world.ground.hosts[1].draining = false;
        world.run_for(12 * SECOND);
        assert_eq!(world.states(Family::V4), [State::Up; 3]);
        explained(&world);
    });
}

#[test]
fn an_agent_that_restarts_with_its_clock_set_back_is_heard() {
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 3);
        world.fault(Fault::AgentDies(1));
        let away = world.ground.rng.between(SECOND / 10, 8 * SECOND);
        world.run_for(away);
        world.fault(Fault::AgentClockJumps(1, -((3600 * SECOND) as i64)));
        world.fault(Fault::AgentStarts(1));
        world.run_for(10 * SECOND);
        assert_eq!(world.states(Family::V4), [State::Up; 3]);
        assert!(world.evictions().is_empty(), "{:#?}", world.evictions());
    });
}

#[test]
fn a_lost_probe_result_wedges_nothing() {
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 3);
        world.detector.settings.lost_results = 1.0;
        world.fault(Fault::Service(0, Service::Refuses));
        world.fault(Fault::AgentDies(0));
        world.run_for(3 * SECOND);
        assert_eq!(world.verdict(0, Family::V4).state, State::Down);
        world.detector.settings.lost_results = 0.3;
        world.fault(Fault::Service(0, Service::Answers));
        world.fault(Fault::AgentStarts(0));
        world.run_for(30 * SECOND);
        // A whole burst whose results were lost just now is a failed one.
        world.detector.settings.lost_results = 0.0;
        world.run_for(3 * SECOND);
        assert_eq!(world.verdict(0, Family::V4).state, State::Up);
    });
}

#[test]
fn broken_ipv6_takes_out_ipv6_only() {
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 3);
        world.ground.hosts[1].service[Family::V6.index()] = Service::Swallows;
        world.run_for(20 * SECOND);
        assert_eq!(world.states(Family::V4), [State::Up; 3]);
        assert_eq!(world.states(Family::V6), [State::Up, State::Down, State::Up]);
        assert_eq!(world.verdict(1, Family::V6).reason, Reason::ProbeFailed);
        world.ground.hosts[1].service[Family::V6.index()] = Service::Answers;
        world.run_for(4 * SECOND);
        assert_eq!(world.states(Family::V6), [State::Up; 3]);
        explained(&world);
    });
}

#[test]
fn registry_changes_keep_what_they_do_not_touch() {
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 4);
        world.detector.registry.mirrors[2].weight = 7;
        world.detector.registry.nodes[3].revoked = true;
        world.apply();
        assert_eq!(world.states(Family::V4), [State::Up, State::Up, State::Up, State::Down]);
        assert_eq!(world.verdict(3, Family::V4).reason, Reason::Revoked);
        world.run_for(6 * SECOND);
        assert_eq!(world.verdict(3, Family::V4).reason, Reason::Revoked);
        assert!(!world.detector.fleet.live().mirrors[3].last_known[0]);
        // The first mirror goes: every other moves to another index and stays up.
        world.detector.registry.mirrors.remove(0);
        world.detector.registry.domains[0].mirrors = 0..3;
        world.detector.log.transitions.clear();
        world.apply();
        assert_eq!(world.states(Family::V4)[..2], [State::Up; 2]);
        assert!(world.detector.log.transitions.is_empty(), "{:#?}", world.detector.log.transitions);
        assert_eq!((world.states(Family::V4).len(), world.host_of(0)), (3, Some(1)));
        assert_eq!(world.detector.fleet.live().mirrors[0].v4, Some(v4(1)));
    });
}

#[test]
fn a_restarted_broker_goes_on_with_what_it_knew() {
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 5);
        world.fault(Fault::Service(1, Service::Refuses));
        world.ground.hosts[1].healthy = false;
        world.report_now(1);
        world.run_for(SECOND);
        let away = world.ground.rng.between(SECOND / 2, 30 * SECOND);
        // While the broker is away, one host dies and one loses its agent.
        world.fault(Fault::HostDies(2));
        world.fault(Fault::AgentDies(3));
        world.detector.log.transitions.clear();
        let stored = world.restart_broker(away);
        assert_eq!(stored.len(), 10);
        let first = [State::Up, State::Down, State::Up, State::Up, State::Up];
        assert_eq!(world.states(Family::V4), first);
        assert!(world.detector.fleet.live().mirrors.iter().all(|m| m.verdict(Family::V4).stale));
        world.run_for(12 * SECOND);
        let then = [State::Up, State::Down, State::Down, State::Unattended, State::Up];
        assert_eq!(world.states(Family::V4), then);
        assert!(world.detector.fleet.live().mirrors.iter().all(|m| !m.verdict(Family::V4).stale));
        let kept = |mirror: &str| world.evictions().iter().all(|(_, t)| &*t.mirror != mirror);
        assert!(kept("m00000") && kept("m00003") && kept("m00004"), "{:#?}", world.evictions());
    });
}

#[test]
fn drains_goodbyes_and_failing_services_act_at_once() {
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 4);
        world.ground.hosts[0].draining = true;
        world.ground.hosts[1].healthy = false;
        for host in [0, 1] {
            world.report_now(host);
        }
        world.fault(Fault::AgentLeaves(2));
        world.detector.registry.mirrors[3].orders.drained = true;
        world.apply();
        world.run_for(SECOND / 4);
        let reasons = |w: &World<Nearmost>| [0, 1, 2, 3].map(|h| w.verdict(h, Family::V6).reason);
        let left =
            [Reason::DrainedByAgent, Reason::ServiceFailing, Reason::AgentLeft, Reason::DrainedByOrder];
        assert_eq!(reasons(&world), left);
        world.run_for(10 * SECOND);
        assert_eq!(reasons(&world), left);
        world.ground.hosts[0].draining = false;
        world.ground.hosts[1].healthy = true;
        for host in [0, 1] {
            world.report_now(host);
        }
        world.fault(Fault::AgentStarts(2));
        world.detector.registry.mirrors[3].orders.drained = false;
        world.apply();
        assert_eq!(world.verdict(3, Family::V6).reason, Reason::AwaitingProbe);
        world.run_for(2 * SECOND);
        assert_eq!(world.states(Family::V6), [State::Up; 4]);
        explained(&world);
    });
}

#[test]
fn silence_evicts_where_nobody_can_be_asked_and_only_long_silence() {
    for_seeds(SEEDS, |seed| {
        let mut registry = dual(2);
        registry.mirrors[0].probe = None;
        let mut world = World::of_fleet(&Plan::new(seed, 2), registry);
        world.run_for(3 * SECOND);
        assert_eq!(world.states(Family::V4), [State::Up; 2]);
        let killed = world.ground.now;
        world.fault(Fault::AgentDies(0));
        world.detector.log.transitions.clear();
        world.run_for(10 * SECOND);
        let log = &world.detector.log.transitions;
        let after = log.iter().find(|(_, t)| t.to.state == State::Down).expect("down").0 - killed;
        assert!((1_800_000..=2_300_000).contains(&after), "ten beacons of 200 ms: {after} µs");
        assert_eq!(world.verdict(0, Family::V4).reason, Reason::MissedBeacons);
        explained(&world);
    });
}

#[test]
fn probe_mode_rises_and_falls_by_its_probe() {
    for_seeds(SEEDS, |seed| {
        let mut registry = dual(2);
        for mirror in &mut registry.mirrors {
            mirror.health = HealthMode::Probe;
        }
        let mut world = World::of_fleet(&Plan::new(seed, 2), registry);
        world.run_for(SECOND);
        assert_eq!(world.states(Family::V6), [State::Up; 2]);
        world.fault(Fault::Service(0, Service::Refuses));
        let broken = world.ground.now;
        world.run_for(6 * SECOND);
        assert_eq!(world.states(Family::V6), [State::Down, State::Up]);
        let log = &world.detector.log.transitions;
        let down = log.iter().find(|(_, t)| t.to.state == State::Down).expect("down");
        assert!(down.0 - broken < 9 * SECOND / 2, "{} µs", down.0 - broken);
        world.fault(Fault::Service(0, Service::Answers));
        world.run_for(6 * SECOND);
        assert_eq!(world.states(Family::V6), [State::Up; 2]);
    });
}

#[test]
fn force_holds_until_it_ends_and_observed_addresses_follow_the_session() {
    for_seeds(20, |seed| {
        let mut registry = dual(2);
        registry.mirrors[1].address = MirrorAddress::Observed;
        let mut world = World::of_fleet(&Plan::new(seed, 2), registry);
        world.run_for(3 * SECOND);
        assert_eq!(world.states(Family::V4), [State::Up; 2]);
        assert_eq!(world.verdict(1, Family::V6).reason, Reason::NoAddress);
        assert_eq!(world.detector.fleet.live().mirrors[1].v4, Some(v4(1)));
        let until = UnixMillis((world.ground.broker_clock_us() + 5 * SECOND) / 1000);
        world.detector.registry.mirrors[0].orders.force = Some(Force { to: ForcedTo::Down, until });
        world.apply();
        assert_eq!(world.verdict(0, Family::V4).reason, Reason::Forced);
        world.run_for(4_900_000);
        assert_eq!(world.verdict(0, Family::V4).state, State::Down);
        world.run_for(200_000);
        assert_eq!(world.states(Family::V4), [State::Up; 2]);
        assert!(world.persisted().iter().all(|p| p.domain == DOMAIN));
        // A restart must not lose where the observed mirror was.
        world.restart_broker(SECOND);
        assert_eq!(world.states(Family::V4), [State::Up; 2]);
    });
}

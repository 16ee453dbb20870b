//! The fleet in a simulated world: dead hosts are found in time, and nothing that serves is evicted.
//!
//! Every run prints its seed when it fails; `SEED=n` runs only that one.

mod sim;

use nearmost_core::health::{Family, Reason, State};
use nearmost_core::registry::{Force, HealthMode, MirrorAddress};
use nearmost_core::time::UnixMillis;
use sim::{DOMAIN, EPOCH_MS, Service, World};

const SECOND: u64 = 1_000_000;
const SEEDS: u64 = 200;

/// Runs a scenario with many seeds, naming the one that fails.
fn for_seeds(count: u64, scenario: impl Fn(u64)) {
    struct Name(u64);
    impl Drop for Name {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed with SEED={}", self.0);
            }
        }
    }
    let only = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
    let seeds = only.map_or(0..count, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let _name = Name(seed);
        scenario(seed);
    }
}

fn started(seed: u64, hosts: usize) -> World {
    let mut world = World::new(seed, hosts);
    world.run_for(3 * SECOND);
    for family in Family::ALL {
        assert_eq!(world.states(family), vec![State::Up; hosts], "{family:?} {:#?}", world.log);
    }
    world.log.clear();
    world
}

#[test]
fn a_dead_host_is_down_within_a_second_and_a_half() {
    let worst = std::cell::Cell::new(0);
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 3);
        world.loss = if seed % 2 == 0 { 0.0 } else { 0.05 };
        let wait = world.rng.between(0, 2 * SECOND);
        world.run_for(wait);
        let how = if world.rng.chance(0.5) { Service::Refuses } else { Service::Swallows };
        let killed = world.now_us;
        world.hosts[1].service = [how; 2];
        world.kill_agent(1);
        world.run_for(10 * SECOND);
        for family in Family::ALL {
            let down = world.log.iter().find(|(at, t)| {
                *at >= killed && &*t.mirror == "m001" && t.family == family && t.to.state == State::Down
            });
            let (at, t) = down.expect("down");
            assert!(at - killed <= 3 * SECOND / 2, "{how:?}: {} µs, {t:?}", at - killed);
            worst.set(worst.get().max(at - killed));
            assert_eq!(world.verdict(1, family).reason, Reason::SilentAndUnreachable);
            assert!(world.verdict(0, family).state.eligible());
        }
        assert_eq!(world.evictions().len(), 2, "{:#?}", world.evictions());
    });
    println!("slowest detection {} ms", worst.get() / 1000);
}

#[test]
fn a_dead_agent_leaves_its_mirror_unattended_never_down() {
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 3);
        world.kill_agent(2);
        world.run_for(20 * SECOND);
        for family in Family::ALL {
            let states = [State::Up, State::Up, State::Unattended];
            assert_eq!(world.states(family), states);
        }
        world.start_agent(2, world.now_us);
        world.run_for(3 * SECOND);
        assert_eq!(world.states(Family::V4), [State::Up; 3]);
        assert!(world.evictions().is_empty(), "{:#?}", world.evictions());
    });
}

#[test]
fn pauses_of_the_broker_evict_nobody() {
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 5);
        // One of them can be asked by nobody: silence alone would evict it.
        world.registry.mirrors[4].probe = None;
        world.apply();
        world.loss = 0.05;
        for _ in 0..6 {
            let apart = world.rng.between(SECOND, 4 * SECOND);
            world.run_for(apart);
            let pause = world.rng.between(SECOND / 5, 5 * SECOND);
            world.hold(pause);
            if pause > 3 * SECOND {
                let lost = world.rng.below(5) as usize;
                world.lose_session(lost);
                let back = world.now_us + pause + world.rng.between(100_000, 500_000);
                world.connect(lost, back);
            }
            world.run_for(pause);
        }
        world.run_for(3 * SECOND);
        assert!(world.evictions().is_empty(), "{:#?}", world.evictions());
    });
}

#[test]
fn a_pause_alone_raises_no_suspicion() {
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 5);
        let pause = world.rng.between(7 * SECOND / 10, 5 * SECOND);
        world.hold(pause);
        world.run_for(pause + 2 * SECOND);
        assert!(world.log.is_empty(), "{:#?}", world.log);
    });
}

#[test]
fn lost_beacons_evict_nobody_who_answers() {
    for_seeds(10, |seed| {
        let mut world = started(seed, 8);
        world.loss = 0.05;
        world.run_for(60 * 60 * SECOND);
        let suspected = world.log.iter().filter(|(_, t)| t.to.state == State::Suspect).count();
        assert!(suspected > 10, "the loss must have been noticed: {suspected}");
        assert!(world.evictions().is_empty(), "{:#?}", world.evictions());
    });
}

#[test]
fn pauses_of_agents_whose_service_answers_evict_nobody() {
    let suspected = std::cell::Cell::new(0);
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 5);
        world.loss = 0.02;
        for _ in 0..10 {
            let (host, pause) = (world.rng.below(5) as usize, world.rng.between(SECOND / 5, 5 * SECOND));
            world.pause_agent(host, pause);
            let apart = world.rng.between(SECOND / 2, 6 * SECOND);
            world.run_for(pause + apart);
        }
        world.run_for(5 * SECOND);
        assert!(world.evictions().is_empty(), "{:#?}", world.evictions());
        for family in Family::ALL {
            assert_eq!(world.states(family), [State::Up; 5]);
        }
        let noticed = world.log.iter().filter(|(_, t)| t.to.state == State::Suspect).count();
        suspected.set(suspected.get() + noticed);
    });
    assert!(suspected.get() > 0, "the pauses must have been noticed");
}

#[test]
fn bursts_of_loss_evict_nobody_who_answers() {
    for_seeds(20, |seed| {
        let mut world = started(seed, 5);
        world.bursts = 0.01;
        world.run_for(10 * 60 * SECOND);
        let suspected = world.log.iter().filter(|(_, t)| t.to.state == State::Suspect).count();
        assert!(suspected > 10, "the loss must have been noticed: {suspected}");
        assert!(world.evictions().is_empty(), "{:#?}", world.evictions());
    });
}

#[test]
fn a_drain_that_only_beacons_tell_of_takes_effect() {
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 3);
        world.hosts[1].draining = true;
        world.run_for(SECOND / 2);
        for family in Family::ALL {
            assert_eq!(world.states(family), [State::Up, State::Draining, State::Up]);
        }
        world.hosts[1].draining = false;
        world.run_for(12 * SECOND);
        assert_eq!(world.states(Family::V4), [State::Up; 3]);
    });
}

#[test]
fn an_agent_that_restarts_with_its_clock_set_back_is_heard() {
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 3);
        world.kill_agent(1);
        let away = world.rng.between(SECOND / 10, 8 * SECOND);
        world.run_for(away);
        let back = world.now_us;
        world.hosts[1].skew_us = back;
        world.start_agent(1, back);
        world.run_for(10 * SECOND);
        assert_eq!(world.states(Family::V4), [State::Up; 3]);
        assert!(world.evictions().is_empty(), "{:#?}", world.evictions());
    });
}

#[test]
fn a_lost_probe_result_wedges_nothing() {
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 3);
        world.lost_results = 1.0;
        world.hosts[0].service = [Service::Refuses; 2];
        world.kill_agent(0);
        world.run_for(3 * SECOND);
        assert_eq!(world.verdict(0, Family::V4).state, State::Down);
        world.lost_results = 0.3;
        world.hosts[0].service = [Service::Answers; 2];
        world.start_agent(0, world.now_us);
        world.run_for(30 * SECOND);
        // A whole burst whose results were lost just now is a failed one.
        world.lost_results = 0.0;
        world.run_for(3 * SECOND);
        assert_eq!(world.verdict(0, Family::V4).state, State::Up);
    });
}

#[test]
fn broken_ipv6_takes_out_ipv6_only() {
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 3);
        world.hosts[1].service[Family::V6.index()] = Service::Swallows;
        world.run_for(20 * SECOND);
        assert_eq!(world.states(Family::V4), [State::Up; 3]);
        assert_eq!(world.states(Family::V6), [State::Up, State::Down, State::Up]);
        assert_eq!(world.verdict(1, Family::V6).reason, Reason::ProbeFailed);
        world.hosts[1].service[Family::V6.index()] = Service::Answers;
        world.run_for(4 * SECOND);
        assert_eq!(world.states(Family::V6), [State::Up; 3]);
    });
}

#[test]
fn registry_changes_keep_what_they_do_not_touch() {
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 4);
        world.registry.mirrors[2].weight = 7;
        world.registry.nodes[3].revoked = true;
        world.apply();
        assert_eq!(world.states(Family::V4), [State::Up, State::Up, State::Up, State::Down]);
        assert_eq!(world.verdict(3, Family::V4).reason, Reason::Revoked);
        world.run_for(6 * SECOND);
        assert_eq!(world.verdict(3, Family::V4).reason, Reason::Revoked);
        assert!(!world.fleet.live().mirrors[3].last_known[0]);
        // The first mirror goes: every other moves to another index and stays up.
        world.registry.mirrors.remove(0);
        world.registry.domains[0].mirrors = 0..3;
        world.log.clear();
        world.apply();
        let states = |w: &World| [0, 1].map(|h| w.verdict(h, Family::V4).state);
        assert_eq!(states(&world), [State::Up; 2]);
        assert!(world.log.is_empty(), "{:#?}", world.log);
        assert!(
            world.fleet.live().mirrors.len() == 3
                && world.fleet.live().mirrors[0].v4.unwrap().octets()[3] == 2
        );
    });
}

#[test]
fn a_restarted_broker_goes_on_with_what_it_knew() {
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 5);
        world.hosts[1].service = [Service::Refuses; 2];
        world.hosts[1].healthy = false;
        world.report_now(1);
        world.run_for(SECOND);
        let away = world.rng.between(SECOND / 2, 30 * SECOND);
        // While the broker is away, one host dies and one loses its agent.
        world.hosts[2].service = [Service::Swallows; 2];
        world.kill_agent(2);
        world.kill_agent(3);
        world.log.clear();
        let stored = world.restart_broker(away);
        assert_eq!(stored.len(), 10);
        let first = [State::Up, State::Down, State::Up, State::Up, State::Up];
        assert_eq!(world.states(Family::V4), first);
        assert!(world.fleet.live().mirrors.iter().all(|m| m.verdict(Family::V4).stale));
        for host in [0, 1, 4] {
            let back = world.now_us + world.rng.between(100_000, 2 * SECOND);
            world.connect(host, back);
        }
        world.run_for(10 * SECOND);
        let then = [State::Up, State::Down, State::Down, State::Unattended, State::Up];
        assert_eq!(world.states(Family::V4), then);
        assert!(world.fleet.live().mirrors.iter().all(|m| !m.verdict(Family::V4).stale));
        let kept = |host: &str| world.evictions().iter().all(|(_, t)| &*t.mirror != host);
        assert!(kept("m000") && kept("m003") && kept("m004"), "{:#?}", world.evictions());
    });
}

#[test]
fn drains_goodbyes_and_failing_services_act_at_once() {
    for_seeds(SEEDS, |seed| {
        let mut world = started(seed, 4);
        world.hosts[0].draining = true;
        world.hosts[1].healthy = false;
        for host in [0, 1] {
            world.report_now(host);
        }
        world.leave(2);
        world.registry.mirrors[3].orders.drained = true;
        world.apply();
        world.run_for(SECOND / 4);
        let reasons = |w: &World| [0, 1, 2, 3].map(|h| w.verdict(h, Family::V6).reason);
        let left =
            [Reason::DrainedByAgent, Reason::ServiceFailing, Reason::AgentLeft, Reason::DrainedByOrder];
        assert_eq!(reasons(&world), left);
        world.run_for(10 * SECOND);
        assert_eq!(reasons(&world), left);
        world.hosts[0].draining = false;
        world.hosts[1].healthy = true;
        for host in [0, 1] {
            world.report_now(host);
        }
        world.start_agent(2, world.now_us);
        world.registry.mirrors[3].orders.drained = false;
        world.apply();
        assert_eq!(world.verdict(3, Family::V6).reason, Reason::AwaitingProbe);
        world.run_for(SECOND);
        assert_eq!(world.states(Family::V6), [State::Up; 4]);
    });
}

#[test]
fn silence_evicts_where_nobody_can_be_asked_and_only_long_silence() {
    for_seeds(SEEDS, |seed| {
        let mut registry = sim::registry(2);
        registry.mirrors[0].probe = None;
        let mut world = World::with(seed, registry);
        world.run_for(3 * SECOND);
        assert_eq!(world.states(Family::V4), [State::Up; 2]);
        let killed = world.now_us;
        world.kill_agent(0);
        world.log.clear();
        world.run_for(10 * SECOND);
        let down = world.log.iter().find(|(_, t)| t.to.state == State::Down).expect("down");
        let after = down.0 - killed;
        assert!((1_800_000..=2_300_000).contains(&after), "ten beacons of 200 ms: {after} µs");
        assert_eq!(world.verdict(0, Family::V4).reason, Reason::MissedBeacons);
    });
}

#[test]
fn probe_mode_rises_and_falls_by_its_probe() {
    for_seeds(SEEDS, |seed| {
        let mut registry = sim::registry(2);
        for mirror in &mut registry.mirrors {
            mirror.health = HealthMode::Probe;
        }
        let mut world = World::with(seed, registry);
        world.run_for(SECOND);
        assert_eq!(world.states(Family::V6), [State::Up; 2]);
        world.hosts[0].service = [Service::Refuses; 2];
        let broken = world.now_us;
        world.run_for(6 * SECOND);
        assert_eq!(world.states(Family::V6), [State::Down, State::Up]);
        let down = world.log.iter().find(|(_, t)| t.to.state == State::Down).expect("down");
        assert!(down.0 - broken < 4 * SECOND, "{} µs", down.0 - broken);
        world.hosts[0].service = [Service::Answers; 2];
        world.run_for(6 * SECOND);
        assert_eq!(world.states(Family::V6), [State::Up; 2]);
    });
}

#[test]
fn force_holds_until_it_ends_and_observed_addresses_follow_the_session() {
    for_seeds(20, |seed| {
        let mut registry = sim::registry(2);
        registry.mirrors[1].address = MirrorAddress::Observed;
        let mut world = World::with(seed, registry);
        world.run_for(3 * SECOND);
        assert_eq!(world.states(Family::V4), [State::Up; 2]);
        assert_eq!(world.verdict(1, Family::V6).reason, Reason::NoAddress);
        assert_eq!(world.fleet.live().mirrors[1].v4, Some([192, 0, 2, 2].into()));
        let until = UnixMillis(EPOCH_MS + (world.now_us + 5 * SECOND) / 1000);
        world.registry.mirrors[0].orders.force = Some(Force { up: false, until });
        world.apply();
        assert_eq!(world.verdict(0, Family::V4).reason, Reason::Forced);
        world.run_for(4_900_000);
        assert_eq!(world.verdict(0, Family::V4).state, State::Down);
        world.run_for(200_000);
        assert_eq!(world.states(Family::V4), [State::Up; 2]);
        assert!(world.fleet.persisted().iter().all(|p| p.domain == DOMAIN));
        // A restart must not lose where the observed mirror was.
        world.restart_broker(SECOND);
        assert_eq!(world.states(Family::V4), [State::Up; 2]);
    });
}

//! The figures that sessions are held to, in virtual time.

use super::client::{ClientConfig, Event, MoveReason, Pace, Phase};
use super::list::Standing;
use super::mirror::MirrorConfig;
use super::sim::{World, listed, ms};
use super::{Duplicate, Mode};
use crate::time::MonoTime;
use std::time::Duration;

pub(super) const DATAGRAM: Mode = Mode::Datagram(Duplicate::WhileDegraded);

/// One client, settled, between a primary and a standby at these round trips, and a third far behind.
pub(super) fn pair(seed: u64, r: u64, s: u64, loss: f64) -> World {
    let mut world = World::new(seed);
    world.net.loss = loss;
    (0..3).for_each(|i| world.add_host(listed(i, 1.0), MirrorConfig::default()));
    world.add_peer(vec![ms(r), ms(s), ms(900)], DATAGRAM, ClientConfig::default());
    world.stream();
    // Not in step with the beacons.
    world.run_for(ms(6000 + seed * 7 % 53));
    world
}

pub(super) fn settled(world: &World) -> (usize, Option<usize>) {
    let client = &world.peers[0].machine;
    (client.primary().unwrap().0 as usize, client.standby().map(|key| key.0 as usize))
}

/// From `since` to the first packet of the stream that did not come from `old`.
pub(super) fn gap(world: &World, since: MonoTime, old: usize) -> Duration {
    let first = world.peers[0].received.iter().find(|(at, from)| *at > since && *from != old);
    first.map_or(Duration::MAX, |(at, _)| at.since(since))
}

/// The longest time without any packet of the stream.
pub(super) fn longest(world: &World, since: MonoTime) -> Duration {
    let times: Vec<MonoTime> =
        world.peers[0].received.iter().map(|(at, _)| *at).filter(|at| *at >= since).collect();
    times.windows(2).map(|pair| pair[1].since(pair[0])).max().unwrap_or(Duration::MAX)
}

pub(super) fn moves(world: &World, peer: usize) -> Vec<MoveReason> {
    let moved = |(_, event): &(MonoTime, Event)| match event {
        Event::Moved { reason, .. } => Some(*reason),
        _ => None,
    };
    world.peers[peer].events.iter().filter_map(moved).collect()
}

const PATHS: [(u64, u64); 6] = [(10, 40), (40, 40), (40, 100), (10, 70), (150, 150), (150, 300)];

fn percentile(mut gaps: Vec<i64>, share: f64) -> i64 {
    gaps.sort_unstable();
    gaps[((gaps.len() - 1) as f64 * share).round() as usize]
}

/// How much longer than r/2 + s the gap was, in milliseconds, over seeds.
fn excess(tripwire: bool, loss: f64, (r, s): (u64, u64), seeds: u64) -> Vec<i64> {
    let mut all = Vec::new();
    for seed in 0..seeds {
        let mut world = pair(seed, r, s, loss);
        let (primary, standby) = settled(&world);
        // At heavy loss it may be on its way somewhere else: not what is measured.
        if primary != 0 || standby.is_none_or(|standby| standby != 1) {
            continue;
        }
        let since = world.now;
        world.kill(0, tripwire);
        world.run_for(ms(3000));
        all.push(gap(&world, since, 0).as_millis() as i64 - (r / 2 + s) as i64);
    }
    assert!(all.len() as u64 >= seeds * 3 / 4, "only {} of {seeds} trials", all.len());
    all
}

#[test]
fn a_killed_mirror_with_a_tripwire_costs_little_more_than_the_paths() {
    for path in PATHS {
        let excess = excess(true, 0.0, path, 60);
        println!("kill {path:?}: {} {}", percentile(excess.clone(), 0.5), percentile(excess.clone(), 1.0));
        assert!(percentile(excess, 1.0) <= 30, "{path:?}");
    }
}

#[test]
fn a_black_hole_costs_the_bound_on_silence() {
    for path in PATHS {
        let excess = excess(false, 0.0, path, 60);
        println!("hole {path:?}: {} {}", percentile(excess.clone(), 0.5), percentile(excess.clone(), 1.0));
        // The standby must have been asked and have answered.
        let far = (path.1 as i64 - 230).max(0);
        assert!(percentile(excess, 1.0) <= 300 + far, "{path:?}");
    }
}

#[test]
fn loss_delays_some_of_the_moves() {
    for (tripwire, most, most_p99) in [(true, 30, 30), (false, 300, 305)] {
        for path in [(10, 40), (40, 100), (150, 150)] {
            let excess = excess(tripwire, 0.05, path, 200);
            let of = |share| percentile(excess.clone(), share);
            println!("5 % {tripwire} {path:?}: {} {} {} {}", of(0.5), of(0.9), of(0.99), of(1.0));
            assert!(of(0.9) <= most && of(0.99) <= most_p99, "{tripwire} {path:?}");
        }
    }
}

#[test]
fn a_drain_costs_nothing() {
    for (r, s) in PATHS {
        for seed in 0..20 {
            let mut world = pair(seed, r, s, 0.0);
            let since = world.now;
            world.drain(0, ms(10_000));
            world.run_for(ms(5000));
            assert!(longest(&world, since) <= ms(11), "{r} {s}: {:?}", longest(&world, since));
            assert_eq!(moves(&world, 0), [MoveReason::Drain]);
            let moved = world.peers[0].events.iter().rev().find_map(|(_, event)| match event {
                Event::Moved { gap, .. } => Some(*gap),
                _ => None,
            });
            assert_eq!(moved, Some(Duration::ZERO));
            assert!(world.hosts[0].sessions.is_empty(), "the old mirror is let go");
            assert_eq!(settled(&world).0, 1);
        }
    }
}

#[test]
fn loss_and_pauses_move_nobody_who_is_served() {
    let (mut hours, mut moved, mut doubts) = (0.0, 0, 0);
    for (seed, (r, s)) in PATHS.into_iter().enumerate() {
        let mut world = World::new(seed as u64);
        world.net.loss = 0.05;
        world.net.jitter = ms(3);
        (0..3).for_each(|i| world.add_host(listed(i, 1.0), MirrorConfig::default()));
        (0..2)
            .for_each(|_| world.add_peer(vec![ms(r), ms(s), ms(s + 30)], DATAGRAM, ClientConfig::default()));
        let mut dice = super::Dice(seed as u64 + 77);
        world.run_for(ms(5000));
        (0..2).for_each(|peer| world.peers[peer].events.clear());
        // An hour; each server pauses for 200 ms about every ten seconds.
        let end = world.now + Duration::from_secs(3600);
        while world.now < end {
            world.run_for(ms(300) + dice.between(ms(3000), 0.0, 2.0));
            let host = (dice.next() % 3) as usize;
            world.hosts[host].paused = world.now + ms(200);
        }
        for peer in 0..2 {
            let unforced = moves(&world, peer).into_iter().filter(|reason| *reason != MoveReason::Better);
            moved += unforced.count();
            let degraded =
                |(_, event): &&(MonoTime, Event)| matches!(event, Event::Degraded(_) | Event::Lost(_));
            doubts += world.peers[peer].events.iter().filter(degraded).count();
        }
        hours += 2.0;
    }
    println!("{moved} false moves and {doubts} doubts in {hours} session-hours");
    assert!(doubts > 1000, "nothing was lost");
    assert!(moved as f64 <= hours, "{moved} in {hours} h");
}

#[test]
fn a_dead_region_and_a_dead_broker_leave_whoever_is_left() {
    let mut world = pair(3, 40, 60, 0.0);
    world.broker = false;
    let since = world.now;
    (0..2).for_each(|host| world.kill(host, false));
    world.run_for(ms(8000));
    assert_eq!(settled(&world).0, 2);
    assert!(gap(&world, since, 0) < ms(6000), "{:?}", gap(&world, since, 0));
    // All dead: it keeps trying, and finds the first that returns.
    world.kill(2, false);
    world.run_for(ms(60_000));
    assert!(matches!(world.peers[0].machine.phase(), Phase::Probing | Phase::Racing | Phase::Resolving));
    world.revive(1, MirrorConfig::default());
    world.run_for(ms(35_000));
    assert_eq!(settled(&world).0, 1);
}

#[test]
fn it_moves_back_after_a_hold_that_grows() {
    let mut world = pair(5, 10, 100, 0.0);
    world.kill(0, true);
    world.run_for(ms(2000));
    assert_eq!(settled(&world).0, 1);
    world.revive(0, MirrorConfig::default());
    world.run_for(ms(30_000));
    assert_eq!(settled(&world).0, 1, "too soon");
    world.run_for(ms(80_000));
    assert_eq!(settled(&world).0, 0);
    assert_eq!(moves(&world, 0), [MoveReason::Tripwire, MoveReason::Better]);
    world.kill(0, true);
    world.run_for(ms(2000));
    world.revive(0, MirrorConfig::default());
    world.run_for(ms(110_000));
    assert_eq!(settled(&world).0, 1, "the second time it takes longer");
}

#[test]
fn the_list_moves_a_session_without_a_gap() {
    for standing in [Standing::Draining, Standing::Down] {
        let mut world = pair(8, 20, 80, 0.0);
        let since = world.now;
        world.hosts[0].listed.standing = standing;
        world.push_list();
        world.run_for(ms(3000));
        assert_eq!(settled(&world).0, 1, "{standing:?}");
        assert!(longest(&world, since) <= ms(11), "{standing:?}: {:?}", longest(&world, since));
    }
}

#[test]
fn an_idle_session_moves_as_soon() {
    for (r, s) in PATHS {
        for seed in 0..40 {
            let mut world = World::new(seed);
            (0..3).for_each(|i| world.add_host(listed(i, 1.0), MirrorConfig::default()));
            world.add_peer(vec![ms(r), ms(s), ms(900)], DATAGRAM, ClientConfig::default());
            world.run_for(ms(6000 + seed * 7 % 53));
            let since = world.now;
            world.kill(0, false);
            world.run_for(ms(2000));
            let moved = |(at, event): &(MonoTime, Event)| matches!(event, Event::Moved { .. }).then_some(*at);
            let at = world.peers[0].events.iter().find_map(moved).unwrap();
            let bound = r / 2 + s + 300 + s.saturating_sub(230);
            assert!(at.since(since) <= ms(bound), "{r} {s}: {:?}", at.since(since));
        }
    }
}

const CLIENTS: usize = 10_000;
const MIRRORS: usize = 20;

/// Weights between 1 and 3; the first mirror has the most.
fn weight(mirror: usize) -> f64 {
    3.0 - 2.0 * mirror as f64 / (MIRRORS - 1) as f64
}

fn share(mirror: usize) -> f64 {
    weight(mirror) / (0..MIRRORS).map(weight).sum::<f64>()
}

/// Clients spread over mirrors by weight, as brokers spread them; every other mirror is near enough.
fn crowd(capacity: impl Fn(usize) -> usize) -> World {
    let mut world = World::new(11);
    for mirror in 0..MIRRORS {
        let capacity = capacity(mirror);
        world.add_host(listed(mirror, weight(mirror)), MirrorConfig { capacity, ..MirrorConfig::default() });
    }
    let pace = Pace { steady: ms(500), brisk: ms(500), standby: ms(1000), ..Pace::default() };
    let config = ClientConfig { pace, ..ClientConfig::default() };
    let mut dice = super::Dice(5);
    for _ in 0..CLIENTS {
        let mut left = crate::hash::unit(dice.next());
        let nearest = (0..MIRRORS).find(|mirror| {
            left -= share(*mirror);
            left <= 0.0
        });
        let mut far = || ms(40) + dice.between(ms(20), 0.0, 1.0);
        let mut paths: Vec<Duration> = (0..MIRRORS).map(|_| far()).collect();
        paths[nearest.unwrap_or(MIRRORS - 1)] = ms(10);
        world.add_peer(paths, DATAGRAM, config);
    }
    world.run_for(ms(2500));
    world
}

fn attached(world: &World) -> usize {
    world.peers.iter().filter(|peer| peer.machine.primary().is_some_and(|key| key.0 != 0)).count()
}

#[test]
fn the_death_of_the_largest_overloads_no_neighbour() {
    // Nobody is refused here: the standbys alone are spread well enough.
    let mut world = crowd(|_| CLIENTS);
    let before: Vec<usize> = world.hosts.iter().map(|host| host.sessions.served()).collect();
    assert_eq!(before.iter().sum::<usize>(), CLIENTS);
    world.kill(0, true);
    world.run_for(ms(2000));
    assert_eq!(attached(&world), CLIENTS);
    let mut worst = 0.0f64;
    for mirror in 1..MIRRORS {
        let grown = world.hosts[mirror].sessions.served() - before[mirror];
        // What it should take of the dead mirror's clients, by weight.
        let fair = before[0] as f64 * share(mirror) / (1.0 - share(0));
        worst = worst.max(world.hosts[mirror].sessions.served() as f64 / (share(mirror) * CLIENTS as f64));
        assert!((grown as f64) < fair + 4.0 * fair.sqrt(), "{mirror}: {grown} of {fair}");
    }
    println!("{} clients moved; the fullest survivor has {worst:.2} of its share", before[0]);
    assert!(worst < 1.25);
}

#[test]
fn who_finds_no_room_finds_it_elsewhere() {
    // A tenth more than the average, and no more than what is needed: many are refused.
    let capacity = |mirror| (share(mirror) * CLIENTS as f64 * 1.12).ceil() as usize;
    let mut world = crowd(capacity);
    world.kill(0, true);
    world.run_for(ms(20_000));
    assert_eq!(attached(&world), CLIENTS);
    let refused: u64 = world.hosts.iter().map(|host| host.sessions.tally().full).sum();
    println!("{refused} refusals");
    for mirror in 1..MIRRORS {
        assert!(world.hosts[mirror].sessions.served() <= capacity(mirror), "{mirror}");
    }
}

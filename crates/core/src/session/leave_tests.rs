//! Links that end in order, or not at all: what a closed tripwire means, moves that come to nothing,
//! streams that outlive the move, and silence that nobody confirms.

use super::client::{ClientConfig, Event, Leave, MoveReason, Phase};
use super::list::Standing;
use super::mirror::{MirrorConfig, MirrorInput};
use super::sim::{World, listed, ms, whose};
use super::sim_tests::{DATAGRAM, gap, longest, moves, pair, settled};
use super::{Dice, Mode};
use crate::time::MonoTime;
use std::time::Duration;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn lost(world: &World) -> usize {
    world.peers[0].events.iter().filter(|(_, event)| matches!(event, Event::Lost(_))).count()
}

/// When and why a connection was closed from the client's side.
fn detached(world: &World, host: usize) -> Option<(MonoTime, Leave)> {
    world.peers[0].detached.iter().rev().find(|(_, of, _)| *of == host).map(|(at, _, why)| (*at, *why))
}

#[test]
fn an_open_stream_outlives_the_drain_of_its_mirror_in_every_mode() {
    for (mode, tripwire) in [(DATAGRAM, false), (DATAGRAM, true), (Mode::Stream, true)] {
        let mut world = World::new(3);
        (0..3).for_each(|i| world.add_host(listed(i, 1.0), MirrorConfig::default()));
        world.add_peer(vec![ms(20), ms(60), ms(900)], mode, ClientConfig::default());
        world.run_for(s(6));
        world.peers[0].streams.push(0);
        world.hosts[0].sessions.handle(work(1), world.now);
        if tripwire {
            // Agents of before closed it with the first word of a drain.
            world.unwell(0);
        }
        world.drain(0, s(60));
        world.run_for(s(45));
        assert_eq!(settled(&world).0, 1);
        assert_eq!(detached(&world, 0), None, "{mode:?}: a stream is open over it");
        assert_eq!((world.hosts[0].sessions.len(), lost(&world)), (1, 0));
        world.hosts[0].sessions.handle(work(0), world.now);
        world.finish(0, 0);
        world.run_for(s(1));
        assert!(matches!(detached(&world, 0), Some((_, Leave::Drained | Leave::Moved))), "{mode:?}");
    }
}

fn work(open: u32) -> MirrorInput {
    MirrorInput::Work { session: whose(0), open }
}

#[test]
fn the_end_of_a_drain_ends_what_is_left() {
    let mut world = pair(3, 20, 60, 0.0);
    world.peers[0].streams.push(0);
    world.hosts[0].sessions.handle(work(1), world.now);
    let since = world.now;
    world.drain(0, s(30));
    world.run_for(s(40));
    let (at, why) = detached(&world, 0).unwrap();
    assert!(at.since(since) >= s(30) && why == Leave::Drained, "{:?} {why:?}", at.since(since));
}

#[test]
fn a_closed_tripwire_moves_new_work_at_once_and_ends_no_stream() {
    let mut world = pair(4, 40, 60, 0.0);
    world.peers[0].streams.push(0);
    world.hosts[0].sessions.handle(work(1), world.now);
    let since = world.now;
    world.unwell(0);
    world.run_for(s(30));
    assert!(gap(&world, since, 0) <= ms(20 + 60 + 30), "{:?}", gap(&world, since, 0));
    assert_eq!((settled(&world).0, moves(&world, 0)), (1, vec![MoveReason::Tripwire]));
    assert_eq!((detached(&world, 0), lost(&world)), (None, 0));
    assert_eq!(world.peers[0].reported, [], "it answers");
    // It dies after all: then it is known.
    world.kill(0, false);
    world.run_for(s(25));
    assert_eq!((detached(&world, 0).unwrap().1, &world.peers[0].reported[..]), (Leave::Dead, &[0][..]));
}

#[test]
fn a_mirror_that_dies_with_its_tripwire_is_reported_and_not_kept() {
    let mut world = pair(4, 40, 60, 0.0);
    world.peers[0].streams.push(0);
    let since = world.now;
    world.kill(0, true);
    world.run_for(s(2));
    // With what was open over it.
    let (at, why) = detached(&world, 0).unwrap();
    assert!(at.since(since) < ms(20 + 40 + 200) && why == Leave::Dead, "{:?} {why:?}", at.since(since));
    assert_eq!(world.peers[0].reported, [0]);
    // Without a standby it is left as soon as another accepts, and never kept.
    let mut world = pair(5, 40, 60, 0.0);
    world.kill(1, false);
    world.run_for(ms(2500));
    let since = world.now;
    world.kill(0, true);
    world.run_for(s(5));
    assert_eq!(settled(&world).0, 2, "{:?}", world.peers[0].events);
    assert!(gap(&world, since, 0) < s(5));
    // Nor without any other.
    let mut world = World::new(6);
    world.add_host(listed(0, 1.0), MirrorConfig::default());
    world.add_peer(vec![ms(40)], DATAGRAM, ClientConfig::default());
    world.run_for(s(6));
    world.kill(0, true);
    world.run_for(ms(400));
    assert_eq!((world.peers[0].machine.primary(), lost(&world)), (None, 1));
    world.revive(0, MirrorConfig::default());
    world.run_for(s(3));
    assert_eq!(settled(&world).0, 0);
}

#[test]
fn a_mirror_that_was_given_up_is_primary_again_when_it_is_heard() {
    let mut world = World::new(6);
    world.add_host(listed(0, 1.0), MirrorConfig::default());
    world.add_peer(vec![ms(40)], DATAGRAM, ClientConfig::default());
    world.run_for(s(6));
    // A firewall restarts: it ends TCP connections, and lets nothing through for a while.
    world.unwell(0);
    world.hosts[0].well = true;
    (world.net.up_cut, world.net.down_cut) = (vec![0], vec![0]);
    world.run_for(ms(1500));
    assert_eq!((world.peers[0].machine.primary(), lost(&world)), (None, 1));
    (world.net.up_cut, world.net.down_cut) = (vec![], vec![]);
    world.run_for(s(1));
    assert_eq!((settled(&world).0, detached(&world, 0)), (0, None));
}

#[test]
fn tripwires_that_close_everywhere_end_no_session() {
    for hosts in [1, 3] {
        let mut world = World::new(7);
        (0..hosts).for_each(|i| world.add_host(listed(i, 1.0), MirrorConfig::default()));
        world.add_peer(vec![ms(20), ms(40), ms(60)][..hosts].to_vec(), DATAGRAM, ClientConfig::default());
        world.stream();
        world.run_for(s(6));
        let since = world.now;
        (0..hosts).for_each(|host| world.unwell(host));
        world.run_for(s(120));
        assert!(longest(&world, since) <= ms(100), "{hosts}: {:?}", longest(&world, since));
        assert!(lost(&world) == 0 && moves(&world, 0).len() <= 2, "{:?}", world.peers[0].events);
        assert_eq!(world.peers[0].machine.phase(), Phase::Attached);
        // Nor does it keep anybody from attaching.
        world.add_peer(vec![ms(20), ms(40), ms(60)][..hosts].to_vec(), DATAGRAM, ClientConfig::default());
        let tried = world.peers[1].detached.len();
        world.run_for(s(120));
        assert_eq!(world.peers[1].machine.phase(), Phase::Attached);
        assert!(moves(&world, 1).is_empty() && world.peers[1].detached.len() - tried < 10);
    }
}

#[test]
fn a_move_to_a_full_mirror_leaves_the_session_where_it_was() {
    let mut world = pair(5, 100, 200, 0.0);
    // It comes nearer, and has room for standbys only.
    world.revive(2, MirrorConfig { capacity: 0, ..MirrorConfig::default() });
    world.peers[0].paths[2] = ms(10);
    world.push_list();
    let since = world.now;
    world.run_for(s(300));
    assert_eq!((lost(&world), moves(&world, 0)), (0, vec![]), "{:?}", world.peers[0].events);
    assert_eq!(settled(&world).0, 0);
    assert!(longest(&world, since) <= ms(11), "{:?}", longest(&world, since));
    assert!(world.hosts[2].sessions.tally().full > 0, "it was never tried");
    // A drain goes past it as well.
    let since = world.now;
    world.drain(0, s(30));
    world.run_for(s(20));
    assert_eq!((settled(&world).0, lost(&world)), (1, 0), "{:?}", world.peers[0].events);
    assert!(longest(&world, since) <= ms(11), "{:?}", longest(&world, since));
}

#[test]
fn nobody_moves_to_a_nearer_mirror_that_is_not_well() {
    let mut world = pair(5, 100, 200, 0.0);
    world.hosts[2].well = false;
    world.peers[0].paths[2] = ms(10);
    world.push_list();
    world.run_for(s(300));
    assert_eq!((settled(&world).0, moves(&world, 0)), (0, vec![]));
    world.revive(2, MirrorConfig::default());
    world.run_for(s(300));
    assert_eq!((settled(&world).0, moves(&world, 0)), (2, vec![MoveReason::Better]));
}

#[test]
fn silence_that_nobody_confirms_ends_nothing() {
    // The only mirror pauses.
    let mut world = World::new(8);
    world.add_host(listed(0, 1.0), MirrorConfig::default());
    world.add_peer(vec![ms(20)], DATAGRAM, ClientConfig::default());
    world.run_for(s(6));
    world.peers[0].streams.push(0);
    for pause in [350, 1000, 2500] {
        world.hosts[0].paused = world.now + ms(pause);
        world.run_for(s(10));
        assert_eq!((lost(&world), world.peers[0].machine.phase()), (0, Phase::Attached), "{pause}");
    }
    assert_eq!(detached(&world, 0), None);
    // The client's network is away.
    for outage in [1500, 2000, 5000, 12_000] {
        let mut world = pair(9, 20, 60, 0.0);
        let everyone = vec![0, 1, 2];
        (world.net.up_cut, world.net.down_cut) = (everyone.clone(), everyone);
        world.run_for(ms(outage));
        (world.net.up_cut, world.net.down_cut) = (vec![], vec![]);
        world.run_for(s(1));
        assert_eq!((lost(&world), moves(&world, 0)), (0, vec![]), "{outage}");
        assert_eq!((settled(&world).0, detached(&world, 0)), (0, None), "{outage}");
    }
}

#[test]
fn a_link_that_is_dead_while_its_mirror_answers_is_replaced() {
    let mut world = World::new(8);
    world.add_host(listed(0, 1.0), MirrorConfig::default());
    world.add_peer(vec![ms(20)], DATAGRAM, ClientConfig::default());
    world.stream();
    world.run_for(s(6));
    // It forgot the session, as after a restart, and says nothing of it.
    world.revive(0, MirrorConfig::default());
    let since = world.now;
    world.run_for(s(4));
    assert_eq!((world.peers[0].machine.phase(), world.hosts[0].sessions.served()), (Phase::Attached, 1));
    let back = world.peers[0].received.iter().find(|(at, _)| *at > since + ms(20)).unwrap().0;
    assert!(back.since(since) < s(3), "{:?}", back.since(since));
}

/// Everything that can go wrong with mirrors, at random; then all but one are well again.
#[test]
fn a_mirror_that_can_be_reached_is_attached_before_long() {
    const HOSTS: usize = 4;
    for seed in 0..60 {
        let mut world = World::new(seed);
        world.net.loss = 0.02;
        (0..HOSTS).for_each(|i| world.add_host(listed(i, 1.0), MirrorConfig::default()));
        world.add_peer(vec![ms(20), ms(50), ms(80), ms(110)], DATAGRAM, ClientConfig::default());
        world.run_for(s(5));
        let mut dice = Dice(seed + 1000);
        for _ in 0..40 {
            let host = (dice.next() % HOSTS as u64) as usize;
            let full = MirrorConfig { capacity: 0, ..MirrorConfig::default() };
            match dice.next() % 8 {
                0 => world.kill(host, true),
                1 => world.kill(host, false),
                2 => world.unwell(host),
                3 => world.revive(host, full),
                4 => world.drain(host, s(3)),
                5 => world.hosts[host].paused = world.now + ms(1500),
                _ => world.revive(host, MirrorConfig::default()),
            }
            if dice.next().is_multiple_of(4) {
                let standings = [Standing::Eligible, Standing::Draining, Standing::Endangered];
                world.hosts[host].listed.standing = standings[(dice.next() % 3) as usize];
                world.push_list();
            }
            world.run_for(dice.between(s(6), 0.0, 1.0));
        }
        let spared = (dice.next() % HOSTS as u64) as usize;
        for host in 0..HOSTS {
            world.hosts[host].listed.standing = Standing::Eligible;
            match host == spared {
                true => world.revive(host, MirrorConfig::default()),
                false => world.kill(host, host % 2 == 0),
            }
        }
        world.push_list();
        // At worst: the last link's silence, and the longest rest after rounds in vain.
        world.run_for(s(75));
        let peer = &world.peers[0];
        assert_eq!(peer.machine.primary().map(|key| key.0 as usize), Some(spared), "{seed}");
        assert_eq!(world.hosts[spared].sessions.served(), 1, "{seed}: {:?}", peer.machine.phase());
    }
}

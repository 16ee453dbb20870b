//! Rough networks, in virtual time: one-way loss, outages of the client's own network, heavy loss,
//! everything dying together, mirrors that come and go.

use super::client::{ClientConfig, Event, MoveReason, Phase};
use super::mirror::MirrorConfig;
use super::sim::{World, listed, ms};
use super::sim_tests::{DATAGRAM, gap, moves, pair, settled};
use std::time::Duration;

#[test]
fn a_path_that_is_dead_one_way_is_left() {
    for (r, s) in [(10, 40), (40, 100), (150, 150)] {
        for up in [true, false] {
            let mut world = pair(2, r, s, 0.0);
            let since = world.now;
            if up {
                world.net.up_cut.push(0)
            } else {
                world.net.down_cut.push(0)
            }
            world.run_for(ms(3000));
            assert_eq!(moves(&world, 0), [MoveReason::Silence], "{r} {s} up: {up}");
            let moved = world.peers[0].events.iter().find(|(_, event)| matches!(event, Event::Moved { .. }));
            let took = moved.unwrap().0.since(since);
            // Where nothing goes up, it takes as long again as an answer takes to be missed.
            let most = if up { r + s + 450 } else { r / 2 + s + 300 };
            println!("one way {r} {s} up: {up}: {took:?}");
            assert!(took <= ms(most), "{r} {s} up: {up}: {took:?}");
        }
    }
}

#[test]
fn an_outage_of_the_clients_own_network_moves_nobody() {
    let mut world = pair(4, 40, 100, 0.0);
    world.net.up_cut = vec![0, 1, 2];
    world.net.down_cut = vec![0, 1, 2];
    world.run_for(ms(1000));
    assert_eq!(world.peers[0].machine.phase(), Phase::Degraded);
    world.net.up_cut.clear();
    world.net.down_cut.clear();
    world.run_for(ms(1000));
    assert_eq!((world.peers[0].machine.phase(), settled(&world)), (Phase::Attached, (0, Some(1))));
    assert_eq!(moves(&world, 0), []);
    // Nor does a long one.
    world.net.up_cut = vec![0, 1, 2];
    world.net.down_cut = vec![0, 1, 2];
    world.run_for(ms(5000));
    world.net.up_cut.clear();
    world.net.down_cut.clear();
    world.run_for(ms(1000));
    assert_eq!((world.peers[0].machine.phase(), settled(&world).0), (Phase::Attached, 0));
    assert_eq!(moves(&world, 0), []);
}

#[test]
fn primary_and_standby_that_die_together_are_followed_by_a_third() {
    for tripwire in [true, false] {
        let mut world = World::new(6);
        (0..4).for_each(|i| world.add_host(listed(i, 1.0), MirrorConfig::default()));
        world.add_peer(vec![ms(20), ms(40), ms(50), ms(60)], DATAGRAM, ClientConfig::default());
        world.stream();
        world.run_for(ms(6000));
        let (primary, standby) = settled(&world);
        let since = world.now;
        world.kill(primary, tripwire);
        world.kill(standby.unwrap(), tripwire);
        world.run_for(ms(4000));
        let took = gap(&world, since, primary);
        println!("both, tripwire {tripwire}: {took:?}");
        assert!(took <= ms(if tripwire { 600 } else { 1800 }), "{tripwire}: {took:?}");
    }
}

#[test]
fn heavy_loss_is_borne() {
    let mut world = World::new(9);
    (0..3).for_each(|i| world.add_host(listed(i, 1.0), MirrorConfig::default()));
    world.add_peer(vec![ms(40), ms(60), ms(80)], DATAGRAM, ClientConfig::default());
    world.net.loss = 0.3;
    world.run_for(Duration::from_secs(3600));
    let unforced = moves(&world, 0).into_iter().filter(|reason| *reason != MoveReason::Better).count();
    println!("30 % loss: {unforced} moves in an hour");
    assert!(unforced <= 4, "{unforced}");
}

#[test]
fn a_mirror_that_comes_and_goes_is_left_alone() {
    let mut world = pair(12, 10, 80, 0.0);
    for _ in 0..15 {
        world.kill(0, true);
        world.run_for(Duration::from_secs(20));
        world.revive(0, MirrorConfig::default());
        world.run_for(Duration::from_secs(100));
    }
    let back = moves(&world, 0).into_iter().filter(|reason| *reason == MoveReason::Better).count();
    println!("moved back {back} times in half an hour");
    assert!((1..=2).contains(&back), "{back}");
}

#[test]
fn a_client_that_was_asleep_does_not_blame_its_mirrors() {
    let mut world = pair(13, 20, 60, 0.0);
    // The driver is not called for a while; packets that came meanwhile are handed in afterwards.
    world.asleep(0, ms(3000));
    world.run_for(ms(6000));
    assert_eq!((settled(&world), moves(&world, 0)), ((0, Some(1)), vec![]));
    assert!(!world.peers[0].events.iter().any(|(_, event)| matches!(event, Event::Lost(_))));
}

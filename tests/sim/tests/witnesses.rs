//! Witnesses and references, as the network lets them see.

mod common;

use common::{SECOND, started, started_as};
use nearmost_core::health::Family;
use nearmost_sim::broker::Nearmost;
use nearmost_sim::faults::Fault;
use nearmost_sim::net::{Conditions, Cut};
use nearmost_sim::seeds::for_seeds;
use nearmost_sim::witness::{Order, Seen, Testimony};
use nearmost_sim::world::{Plan, World};

fn ask(world: &mut World<Nearmost>, witness: u32, host: u32) -> u64 {
    let attempts = vec![0, 30_000, 60_000];
    let order = Order { witness, host, family: Family::V4, timeout_us: 600_000, attempts };
    world.detector.order(order, &mut world.ground)
}

fn told(world: &World<Nearmost>, order: u64) -> Option<&Testimony> {
    world.detector.log.testimonies.iter().find(|t| t.order == order)
}

#[test]
fn a_witness_sees_what_its_own_path_lets_it_see() {
    for_seeds(100, |seed| {
        let mut world = started(seed, 6);
        let (broker, asked) = (world.ground.broker(), world.ground.now);
        // The broker does not reach host 0; hosts 1 and 2 do, in spite of it.
        world.fault(Fault::PathDark(broker, 0, 9 * SECOND));
        world.fault(Fault::HostDies(3));
        let orders = [ask(&mut world, 1, 0), ask(&mut world, 2, 3), ask(&mut world, 3, 0)];
        world.run_for(2 * SECOND);
        let [sees, misses, dead] = orders.map(|order| told(&world, order));
        let sees = sees.expect("an answer");
        let rtt = 2 * world.ground.net.delay_us(1, 0);
        assert!(matches!(sees.seen, Seen::Passed(us) if us >= rtt), "{sees:?}");
        // There, look, and back.
        assert!(sees.at - asked >= rtt + 2 * world.ground.net.delay_us(1, broker));
        assert_eq!(misses.expect("an answer").seen, Seen::Failed);
        assert_eq!(dead, None, "a dead witness says nothing");
    });
}

#[test]
fn a_region_that_only_the_broker_misses_is_seen_from_elsewhere() {
    for_seeds(50, |seed| {
        let mut world = started(seed, 8);
        let region = world.ground.net.region(0);
        world.fault(Fault::RegionCut(region, Cut::Broker));
        let order = ask(&mut world, 1, 0);
        world.run_for(2 * SECOND);
        assert!(matches!(told(&world, order).expect("an answer").seen, Seen::Passed(_)));
        world.fault(Fault::RegionHeals(region));
        world.fault(Fault::RegionCut(region, Cut::Everyone));
        let order = ask(&mut world, 1, 0);
        let within = ask(&mut world, 4, 0);
        world.run_for(2 * SECOND);
        assert_eq!(told(&world, order).expect("an answer").seen, Seen::Failed);
        assert_eq!(told(&world, within), None, "who is cut off too is not heard");
    });
}

#[test]
fn answers_are_late_rather_than_lost() {
    let mut slowest = 0;
    for_seeds(100, |seed| {
        let mut world = started(seed, 4);
        world.ground.net.conditions = Conditions::lossy(0.3);
        let asked = world.ground.now;
        let order = ask(&mut world, 1, 0);
        world.run_for(60 * SECOND);
        slowest = slowest.max(told(&world, order).expect("an answer").at - asked);
    });
    assert!(slowest > SECOND, "lost packets cost time: {slowest}");
}

#[test]
fn a_witness_that_stands_still_answers_later_and_one_without_a_session_not_at_all() {
    for_seeds(20, |seed| {
        let mut world = started(seed, 4);
        world.fault(Fault::AgentPauses(1, 3 * SECOND));
        let (asked, order) = (world.ground.now, ask(&mut world, 1, 0));
        world.run_for(5 * SECOND);
        assert!(told(&world, order).expect("an answer").at >= asked + 3 * SECOND);
        world.fault(Fault::AgentLeaves(2));
        world.run_for(SECOND);
        let order = ask(&mut world, 2, 0);
        assert_eq!(told(&world, order).expect("at once").seen, Seen::Declined);
    });
}

#[test]
fn references_answer_unless_the_broker_is_alone() {
    for_seeds(20, |seed| {
        let plan = Plan { observers: 4, ..Plan::new(seed, 3) };
        let mut world = started_as(&plan);
        world.detector.ask_references(600_000, &mut world.ground);
        world.run_for(SECOND);
        let references = world.detector.references;
        assert_eq!((references.asked, references.answered), (4, 4));
        world.fault(Fault::BrokerDark(9 * SECOND));
        world.detector.ask_references(600_000, &mut world.ground);
        world.run_for(SECOND);
        let references = world.detector.references;
        assert_eq!((references.asked, references.answered), (4, 0));
    });
}

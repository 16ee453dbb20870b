//! What the scenarios share.
#![allow(dead_code, clippy::expect_used, reason = "each test uses some of it; what is not expected fails it")]

use nearmost_core::health::{Family, State};
use nearmost_sim::broker::Nearmost;
use nearmost_sim::fleet_of::dual;
use nearmost_sim::world::{Plan, World};

pub const SECOND: u64 = 1_000_000;

/// A world of a plan whose hosts are all up, with an empty log.
pub fn started_as(plan: &Plan) -> World<Nearmost> {
    let mut world = World::of_fleet(plan, dual(plan.hosts));
    settle(&mut world);
    world
}

/// A world whose hosts are all up, with an empty log.
pub fn started(seed: u64, hosts: u32) -> World<Nearmost> {
    started_as(&Plan::new(seed, hosts))
}

/// Waits until all hosts are up, and empties the log.
pub fn settle(world: &mut World<Nearmost>) {
    world.run_for(3 * SECOND);
    for family in Family::ALL {
        let up = world.states(family).iter().all(|s| *s == State::Up);
        assert!(up, "{family:?} {:?} {:#?}", world.states(family), world.detector.log.transitions);
    }
    world.detector.log.transitions.clear();
    world.ground.changes.clear();
}

/// Nothing was concluded that nothing explains.
pub fn explained(world: &World<Nearmost>) {
    let unexplained = &world.detector.evidence.unexplained;
    assert!(unexplained.is_empty(), "{unexplained:#?}");
}

/// No mirror was taken out.
pub fn nobody_evicted(world: &World<Nearmost>) {
    assert!(world.evictions().is_empty(), "{:#?}", world.evictions());
}

/// Whether all mirrors are eligible in all families.
pub fn all_eligible(world: &World<Nearmost>) -> bool {
    Family::ALL.into_iter().all(|f| world.states(f).iter().all(|s| s.eligible()))
}

pub fn suspicions(world: &World<Nearmost>) -> usize {
    world.detector.log.transitions.iter().filter(|(_, t)| t.to.state == State::Suspect).count()
}

/// A mirror's name by its host.
pub fn host(mirror: &str) -> u32 {
    mirror[1..].parse().expect("mirrors are named after their hosts")
}

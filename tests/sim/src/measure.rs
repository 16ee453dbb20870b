//! How fast detectors find dead hosts, and how often they take out hosts that serve.

use crate::broker::{Nearmost, settings_of};
use crate::faults::{Fault, pauses};
use crate::fleet_of::{place, single};
use crate::net::{Bursts, Conditions};
use crate::rivals::checkers::{CHECKERS, Checks};
use crate::rivals::monitor::Monitors;
use crate::rivals::phi::{Accrual, Form};
use crate::rivals::swim::Group;
use crate::rng::Rng;
use crate::world::{BEGINNING_US, Detector, Plan, World};

const SECOND: u64 = 1_000_000;
/// Detectors learn what is usual before anything is counted.
const WARM_US: u64 = 30 * SECOND;
/// A host taken out counts as a mistake when it had been serving for so long.
const SERVING_US: u64 = 3 * SECOND;
/// Deaths in one world, and the time between two of them at most.
const DEATHS: u32 = 5;
const APART_US: u64 = 10 * SECOND;
/// How long a detector has to find the last death.
const PATIENCE_US: u64 = 180 * SECOND;
/// Mean time between two pauses of an agent, and of the broker.
const AGENT_PAUSES_US: u64 = 300 * SECOND;
const BROKER_PAUSES_US: u64 = 120 * SECOND;

/// A detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Ours.
    Nearmost,
    /// SWIM as memberlist has it.
    Swim,
    /// φ > 8 with a normal distribution and no pause put up with.
    Phi,
    /// The same with Akka's default pause of 3 s.
    PhiAkka,
    /// φ > 8 with an exponential distribution, as Cassandra has it.
    PhiCassandra,
    /// gdnsd's monitors.
    Gdnsd,
    /// Route 53's checkers, at the fast setting.
    Route53,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 7] = [
        Kind::Nearmost,
        Kind::Swim,
        Kind::Phi,
        Kind::PhiAkka,
        Kind::PhiCassandra,
        Kind::Gdnsd,
        Kind::Route53,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Nearmost => "nearmost",
            Kind::Swim => "swim",
            Kind::Phi => "phi",
            Kind::PhiAkka => "phi_akka",
            Kind::PhiCassandra => "phi_cassandra",
            Kind::Gdnsd => "gdnsd",
            Kind::Route53 => "route53",
        }
    }
}

/// What detectors are judged under.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// How the network behaves.
    pub conditions: Conditions,
    /// Agents and broker stand still for 200 ms to 5 s now and then.
    pub pauses: bool,
}

/// The cases of the table; bursts are so long on average.
pub fn cases(burst_us: f64) -> [Case; 6] {
    let bursty = Conditions { bursts: Some(Bursts::of_share(0.05, burst_us)), ..Conditions::default() };
    let lossy = |name, loss| Case { name, conditions: Conditions::lossy(loss), pauses: false };
    [
        lossy("no loss", 0.0),
        lossy("1 %", 0.01),
        lossy("5 %", 0.05),
        lossy("20 %", 0.20),
        Case { name: "5 % in bursts", conditions: bursty, pauses: false },
        Case { name: "5 %, pauses", conditions: Conditions::lossy(0.05), pauses: true },
    ]
}

/// What was found of deaths.
#[derive(Clone, Debug, Default)]
pub struct Deaths {
    /// How long each took to be found, in microseconds.
    pub found_us: Vec<u64>,
    /// Deaths that were not found in time.
    pub missed: u32,
}

impl Deaths {
    /// Adds those of another world.
    pub fn add(&mut self, other: Deaths) {
        self.found_us.extend(other.found_us);
        self.missed += other.missed;
    }

    /// The time within which a share of the deaths was found (the nearest rank), in microseconds;
    /// `None` when that many were not.
    pub fn percentile(&self, share: f64) -> Option<u64> {
        let mut sorted = self.found_us.clone();
        sorted.sort_unstable();
        let all = sorted.len() + self.missed as usize;
        let rank = (share * all as f64).ceil() as usize;
        sorted.get(rank.max(1) - 1).copied()
    }
}

/// Hosts that were taken out although they served, over how much time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Mistakes {
    /// How many times.
    pub count: u64,
    /// In how many hours of one host each.
    pub node_hours: f64,
    /// Events that were simulated.
    pub events: u64,
}

impl Mistakes {
    /// Adds those of another world.
    pub fn add(&mut self, other: Mistakes) {
        self.count += other.count;
        self.node_hours += other.node_hours;
        self.events += other.events;
    }

    /// Mistakes in ten thousand node-hours.
    pub fn per_10_000(&self) -> f64 {
        self.count as f64 / self.node_hours.max(f64::MIN_POSITIVE) * 10_000.0
    }
}

/// What is done in a world; the same whatever watches it.
trait Script {
    type Result;
    fn run<D: Detector>(self, world: World<D>) -> Self::Result;
}

fn with<S: Script>(kind: Kind, seed: u64, hosts: u32, script: S) -> S::Result {
    let plan = Plan { observers: CHECKERS, ..Plan::new(seed, hosts) };
    let phi = |form| World::new(&plan, Accrual::new(form, hosts));
    match kind {
        Kind::Nearmost => {
            let mut registry = single(hosts);
            place(&mut registry, &plan);
            let mut detector = Nearmost::new(registry, settings_of(&plan));
            detector.log.keeps = false;
            script.run(World::new(&plan, detector))
        }
        Kind::Swim => script.run(World::new(&plan, Group::new(hosts))),
        Kind::Phi => script.run(phi(Form::Normal { pause_us: 0.0 })),
        Kind::PhiAkka => script.run(phi(Form::Normal { pause_us: 3e6 })),
        Kind::PhiCassandra => script.run(phi(Form::Exponential)),
        Kind::Gdnsd => script.run(World::new(&plan, Monitors::new(hosts))),
        Kind::Route53 => script.run(World::new(&plan, Checks::new(hosts))),
    }
}

fn begin<D: Detector>(world: &mut World<D>, case: &Case, seed: u64, us: u64) -> Rng {
    let mut rng = Rng::new(seed).fork(4);
    world.ground.net.conditions = case.conditions;
    if case.pauses {
        let span = (BEGINNING_US, BEGINNING_US + us);
        let hosts = world.ground.hosts.len() as u32;
        world.faults(pauses(&mut rng, hosts, span, AGENT_PAUSES_US, BROKER_PAUSES_US));
    }
    world.run_for(WARM_US);
    rng
}

struct Dying<'a> {
    case: &'a Case,
    seed: u64,
}

impl Script for Dying<'_> {
    type Result = Deaths;

    fn run<D: Detector>(self, mut world: World<D>) -> Deaths {
        let span = WARM_US + u64::from(DEATHS) * APART_US + PATIENCE_US;
        let mut rng = begin(&mut world, self.case, self.seed, span);
        let hosts = world.ground.hosts.len() as u64;
        let mut victims: Vec<u32> = (0..hosts as u32).collect();
        rng.shuffle(&mut victims);
        victims.truncate(DEATHS as usize);
        let mut died = Vec::new();
        for host in victims {
            let apart = rng.below(APART_US);
            world.run_for(apart);
            let known = world.ground.changes.iter().rev().find(|c| c.host == host);
            // Who was taken out by mistake is not found dead.
            if known.is_none_or(|change| change.up) {
                died.push((host, world.ground.now));
            }
            world.fault(Fault::HostDies(host));
        }
        world.run_for(PATIENCE_US);
        let mut deaths = Deaths::default();
        for (host, at) in died {
            // What counts is from when on it stays out.
            let last = world.ground.changes.iter().rev().find(|c| c.host == host);
            match last.filter(|c| !c.up && c.at >= at) {
                Some(change) => deaths.found_us.push(change.at - at),
                None => deaths.missed += 1,
            }
        }
        deaths
    }
}

/// Hosts die, one after the other, in a world of a seed.
pub fn deaths(kind: Kind, case: &Case, seed: u64, hosts: u32) -> Deaths {
    with(kind, seed, hosts.max(DEATHS), Dying { case, seed })
}

struct Serving<'a> {
    case: &'a Case,
    seed: u64,
    us: u64,
}

impl Script for Serving<'_> {
    type Result = Mistakes;

    fn run<D: Detector>(self, mut world: World<D>) -> Mistakes {
        begin(&mut world, self.case, self.seed, WARM_US + self.us);
        let from = world.ground.now;
        world.run_for(self.us);
        let mistake = |c: &&crate::world::Change| {
            !c.up && c.at >= from && c.serving_us.is_some_and(|us| us >= SERVING_US)
        };
        Mistakes {
            count: world.ground.changes.iter().filter(mistake).count() as u64,
            node_hours: world.ground.hosts.len() as f64 * self.us as f64 / 3.6e9,
            events: world.events(),
        }
    }
}

/// All hosts serve, for so many microseconds, in a world of a seed.
pub fn mistakes(kind: Kind, case: &Case, seed: u64, hosts: u32, us: u64) -> Mistakes {
    with(kind, seed, hosts, Serving { case, seed, us })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_count_what_was_missed() {
        let mut deaths = Deaths { found_us: (1..=98).rev().collect(), missed: 0 };
        assert_eq!((deaths.percentile(0.5), deaths.percentile(0.99)), (Some(49), Some(98)));
        deaths.add(Deaths { found_us: vec![], missed: 2 });
        assert_eq!((deaths.percentile(0.5), deaths.percentile(0.99)), (Some(50), None));
        assert_eq!(Deaths::default().percentile(0.5), None);
    }

    /// Each detector finds the dead, about as fast as its figures say, and makes no mistake on a good
    /// network.
    #[test]
    fn every_detector_does_its_work_on_a_good_network() {
        let good = &cases(2e5)[0];
        for (kind, least, most) in [
            (Kind::Nearmost, 300, 1_600),
            (Kind::Swim, 4_000, 40_000),
            (Kind::Phi, 500, 1_100),
            (Kind::PhiAkka, 3_500, 4_100),
            (Kind::PhiCassandra, 3_400, 4_100),
            (Kind::Gdnsd, 90_000, 106_000),
            (Kind::Route53, 20_000, 41_000),
        ] {
            let found = deaths(kind, good, 1, 12);
            assert_eq!((found.missed, found.found_us.len()), (0, 5), "{kind:?}");
            let all = found.found_us.iter().all(|us| (least..=most).contains(&(us / 1000)));
            assert!(all, "{kind:?} {found:?}");
            assert_eq!(mistakes(kind, good, 1, 12, 60 * SECOND).count, 0, "{kind:?}");
        }
    }

    #[test]
    fn a_seed_replays() {
        let bad = Case { name: "bad", conditions: Conditions::bursty(0.2), pauses: true };
        for kind in Kind::ALL {
            let once = || (deaths(kind, &bad, 3, 8).found_us, mistakes(kind, &bad, 3, 8, 60 * SECOND));
            assert_eq!(once(), once(), "{kind:?}");
        }
    }
}

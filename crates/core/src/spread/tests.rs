//! What offers do, and that nothing breaks them.

use super::*;
use crate::geo::table::PlaceTableBuilder;
use crate::geo::{Place, PlaceSource, Position};
use crate::health::{Family, State, Verdict};
use crate::live::{LiveMirror, Load};
use crate::ranking::choose;
use crate::registry::{Domain as Registered, HealthMode, Mirror, MirrorAddress, Orders, Policy};
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::time::Duration;

const DOMAIN: &str = "a.test";
const PARTS: u32 = 1024;

/// One domain; 10/8 is at latitude 50, mirrors at 50, 50, … or one after another south of it.
struct World {
    registry: Registry,
    live: Live,
    map: Map,
    spread: Spread,
    now: MonoTime,
    plan: Plan,
}

fn place(lat: f64) -> Place {
    Place { position: Position::from_degrees(lat, 0.0), ..Place::default() }
}

fn mirror(n: usize, lat: f64) -> Mirror {
    Mirror {
        name: format!("m{n:05}").into(),
        domain: DomainIndex(0),
        node: None,
        address: MirrorAddress::Observed,
        port: 80,
        weight: 100,
        place: place(lat),
        place_source: PlaceSource::Given,
        health: HealthMode::Agent,
        probe: None,
        url: None,
        ingress: None,
        orders: Orders::default(),
    }
}

fn up(capacity: u32, connections: u32) -> LiveMirror {
    LiveMirror {
        v4: Some([192, 0, 2, 1].into()),
        verdicts: [Verdict { state: State::Up, ..Verdict::default() }; 2],
        load: Load { capacity, connections, ..Load::default() },
        ..LiveMirror::default()
    }
}

fn part(n: u32) -> IpAddr {
    Ipv4Addr::from_bits((10 << 24) + (n << 12)).into()
}

impl World {
    /// Mirrors with so much capacity, each so many degrees south of the one before.
    fn new(capacities: &[u32], degrees: f64) -> World {
        let mirrors: Vec<Mirror> =
            (0..capacities.len()).map(|n| mirror(n, 50.0 - (degrees * n as f64) % 140.0)).collect();
        let policy = Policy { answers: 1, explore: 0.0, ..Policy::default() };
        let domain = Registered {
            name: DOMAIN.into(),
            mirrors: 0..mirrors.len() as u32,
            policy,
            records: Vec::new(),
            redirect_hosts: Vec::new(),
            trust: Default::default(),
        };
        let registry = Registry { domains: vec![domain], mirrors, ..Registry::default() };
        let mut places = PlaceTableBuilder::new();
        places.add_override("10.0.0.0/8".parse().unwrap(), place(50.0));
        let places = Arc::new(places.build().unwrap());
        let map = Map::of_places(1, places.clone()).follow(&registry, &places, &Arc::default(), None);
        let live = Live::new(capacities.iter().map(|c| up(*c, 0)).collect());
        let spread = Spread::new(SpreadConfig::default());
        World { registry, live, map, spread, now: MonoTime::ZERO, plan: Plan::default() }
    }

    fn plan(&mut self) {
        self.plan = self.spread.plan(&self.registry, &self.map, &self.live, self.now);
        for (mirror, offer) in self.live.mirrors.iter_mut().zip(&self.plan.offers) {
            mirror.offer = *offer;
        }
    }

    fn chosen(&self, n: u32) -> usize {
        let view = self.map.view(DomainIndex(0), part(n)).unwrap();
        let choice = choose(&self.registry, &self.live, DomainIndex(0), &view, Family::V4);
        choice.mirrors[0].mirror.0 as usize
    }

    /// Parts of each mirror.
    fn parts(&self) -> Vec<usize> {
        let mut parts = vec![0; self.live.mirrors.len()];
        (0..PARTS).for_each(|n| parts[self.chosen(n)] += 1);
        parts
    }

    /// For so long, `users` users are where they are sent at once, the same from every part.
    fn run(&mut self, seconds: u64, users: f32) {
        for _ in 0..seconds / 10 {
            self.now = self.now + Duration::from_secs(10);
            let each = users / PARTS as f32;
            let parts = self.parts();
            for (mirror, parts) in self.live.mirrors.iter_mut().zip(parts) {
                if mirror.eligible_any() {
                    mirror.load.connections = (parts as f32 * each).round() as u32;
                }
            }
            (0..PARTS).for_each(|n| self.spread.demand(DOMAIN, part(n), each, self.now));
            self.plan();
        }
    }

    fn set(&mut self, mirror: usize, state: State) {
        self.live.mirrors[mirror].verdicts = [Verdict { state, ..Verdict::default() }; 2];
        self.plan();
    }
}

#[test]
fn domains_without_capacities_cost_nothing() {
    let mut world = World::new(&[0, 0], 0.0);
    world.live.mirrors[0].load.connections = 5_000_000;
    world.plan();
    assert_eq!((world.plan.offers.clone(), world.spread.next_deadline()), (vec![Offer::default(); 2], None));
    assert!(world.plan.domains.is_empty() && !world.plan.changed);
}

#[test]
fn near_equals_share_by_free_capacity() {
    let mut world = World::new(&[3000, 1000], 0.0);
    world.run(600, 1000.0);
    let share = world.parts()[0] as f32 / PARTS as f32;
    assert!((share - 0.75).abs() < 0.05, "{share} {:?}", world.plan);
    assert!(world.plan.offers.iter().all(|o| o.shed == 0));
}

#[test]
fn what_is_too_much_spills_to_the_next_and_comes_back() {
    let mut world = World::new(&[1000, 1000, 1000], 10.0);
    world.run(300, 700.0);
    assert_eq!(world.parts(), [1024, 0, 0]);
    world.run(900, 1400.0);
    let loads = &world.plan.domains[0].loads;
    assert!(loads[0] > 740.0 && loads[0] <= 801.0 && loads[1] > 590.0 && loads[2] == 0.0, "{loads:?}");
    let before: Vec<usize> = (0..PARTS).map(|n| world.chosen(n)).collect();
    world.run(600, 1400.0);
    assert!((0..PARTS).all(|n| world.chosen(n) == before[n as usize]), "nothing moves without a change");
    assert_eq!(world.plan.domains[0].rebalanced, 0.0);
    world.run(60, 1000.0);
    assert!(world.parts()[1] > 0, "gradually");
    world.run(1800, 700.0);
    assert_eq!(world.parts(), [1024, 0, 0]);
}

#[test]
fn a_failure_is_planned_for_at_once() {
    let mut world = World::new(&[4000, 1000, 4000], 10.0);
    world.run(600, 2000.0);
    assert_eq!(world.parts()[0], 1024);
    world.set(0, State::Down);
    let parts = world.parts();
    let load = parts[1] as f32 * 2000.0 / PARTS as f32;
    assert!(load > 600.0 && load <= 950.0, "{parts:?}");
    let figures = &world.plan.domains[0];
    assert!(figures.moved == 1.0 && figures.rebalanced == 0.0 && figures.crowded == 0.0, "{figures:?}");
}

#[test]
fn a_mirror_that_comes_back_starts_slowly_unless_it_is_alone() {
    let mut world = World::new(&[0, 0], 10.0);
    world.plan();
    world.set(0, State::Down);
    world.set(0, State::Up);
    assert_eq!(world.plan.offers[0].shed, 0, "not when the broker starts");
    world.run(60, 100.0);
    world.set(0, State::Down);
    world.set(0, State::Up);
    assert_eq!(world.plan.offers[0].shed, Offer::share(0.9));
    assert!(world.spread.next_deadline().is_some());
    world.run(30, 100.0);
    assert!(world.plan.offers[0].shed.abs_diff(Offer::share(0.45)) < 700);
    world.run(30, 100.0);
    assert_eq!(world.plan.offers[0].shed, 0);
    world.set(1, State::Down);
    world.set(0, State::Down);
    world.set(0, State::Up);
    assert_eq!(world.plan.offers[0].shed, 0);
}

#[test]
fn without_demand_reported_load_raises_the_shed_step_by_step() {
    let mut world = World::new(&[1000, 1000], 10.0);
    world.plan();
    let mut sheds = Vec::new();
    for _ in 0..12 {
        world.live.mirrors[0].load.connections = 1200;
        world.now = world.now + Duration::from_secs(30);
        world.plan();
        sheds.push(world.plan.offers[0].shed);
    }
    assert!(sheds[0] > 0 && sheds[0] <= Offer::share(0.16), "{sheds:?}");
    assert!(sheds.windows(2).all(|w| w[0] <= w[1]) && sheds[11] > Offer::share(0.3), "{sheds:?}");
    world.live.mirrors[0].load.connections = 300;
    for _ in 0..60 {
        world.now = world.now + Duration::from_secs(30);
        world.plan();
    }
    assert_eq!(world.plan.offers[0].shed, 0);
}

#[test]
fn a_part_that_nobody_can_hold_closes_nobody() {
    let mut world = World::new(&[1000, 1000], 10.0);
    for _ in 0..30 {
        world.now = world.now + Duration::from_secs(10);
        world.live.mirrors[0].load.connections = 1500;
        (0..100).for_each(|n| world.spread.demand(DOMAIN, part(n), 1.0, world.now));
        world.spread.demand(DOMAIN, part(500), 1400.0, world.now);
        world.plan();
    }
    let figures = &world.plan.domains[0];
    assert!(figures.crowded > 1000.0 && figures.loads[1] < 200.0, "{figures:?}");
}

#[test]
fn thousands_of_mirrors_can_be_planned() {
    let mut world = World::new(&[10; 3000], 0.37);
    world.run(40, 5000.0);
    assert_eq!(world.plan.offers.len(), 3000);
    assert_eq!(world.plan.domains[0].crowded, 0.0);
}

#[test]
fn a_domain_keeps_its_state_when_the_registry_changes() {
    let mut world = World::new(&[1000, 1000], 10.0);
    world.run(900, 1400.0);
    let shed = world.plan.offers[0].shed;
    assert!(shed > 0);
    let mut first = mirror(0, -80.0);
    first.name = "a-new-one".into();
    world.registry.mirrors.insert(0, first);
    world.registry.domains[0].mirrors = 0..3;
    world.live.mirrors.insert(0, up(1000, 0));
    world.map = world.map.follow(&world.registry, &world.map.places.clone(), &Arc::default(), None);
    world.plan();
    assert!(world.plan.offers[1].shed.abs_diff(shed) < 3000, "{:?}", world.plan.offers);
    assert!(world.plan.domains[0].moved < 0.05);
    world.registry.domains.clear();
    world.registry.mirrors.clear();
    world.live.mirrors.clear();
    world.plan();
    assert_eq!(world.spread.next_deadline(), None);
}

#[test]
fn configuration_that_makes_no_sense_is_made_to() {
    let marks = Marks { low: f32::NAN, refill: 9.0, high: -1.0, hard: f32::INFINITY };
    let marks = marks.sensible();
    assert!(marks.low <= marks.refill && marks.refill <= marks.high && marks.high <= marks.hard);
    let rates = Rates { rise: f32::NAN, fall: -1.0, ..Rates::default() }.sensible();
    assert!(rates.rise > 0.0 && rates.fall == 0.0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes in, two brokers that get the same make the same offers, one a mirror.
    #[test]
    fn offers_are_the_same_everywhere(
        steps in prop::collection::vec(
            (prop::collection::vec((any::<u32>(), 0u32..3000, 0u8..4), 5), any::<f32>(), 0u32..2000, 0u64..200), 1..12),
    ) {
        let mut brokers = [World::new(&[1000; 5], 3.0), World::new(&[1000; 5], 3.0)];
        let mut now = MonoTime::ZERO;
        for (mirrors, users, of, seconds) in &steps {
            now = now + Duration::from_secs(*seconds);
            for broker in &mut brokers {
                broker.now = now;
                for (live, (connections, capacity, state)) in broker.live.mirrors.iter_mut().zip(mirrors) {
                    let state = [State::Up, State::Down, State::Up, State::Draining][usize::from(*state)];
                    live.verdicts = [Verdict { state, ..Verdict::default() }; 2];
                    let capacity = if *capacity > 2900 { u32::MAX } else { *capacity / 100 * 100 };
                    live.load = Load { connections: *connections, capacity, ..Load::default() };
                }
                (0..40).for_each(|n| broker.spread.demand(DOMAIN, part(of + n), *users, now));
                broker.plan();
            }
            prop_assert_eq!(&brokers[0].plan, &brokers[1].plan);
            prop_assert_eq!(brokers[0].plan.offers.len(), 5);
            prop_assert!(brokers[0].plan.moved.is_finite());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// A growth of demand moves about as many users as it must.
    #[test]
    fn growth_moves_what_it_must(users in 900f32..1500.0, growth in 1.02f32..1.1) {
        let mut world = World::new(&[1000, 1000, 1000], 10.0);
        world.run(600, users);
        let before: Vec<usize> = (0..PARTS).map(|n| world.chosen(n)).collect();
        world.run(300, users * growth);
        let moved = (0..PARTS).filter(|n| world.chosen(*n) != before[*n as usize]).count() as f32 / PARTS as f32;
        // The first sheds what grows, and of what it shed all the second may have to.
        prop_assert!(moved <= 2.0 * (growth - 1.0) + 0.06, "{moved} for {growth}");
    }
}

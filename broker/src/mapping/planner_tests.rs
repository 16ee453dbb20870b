use super::*;
use crate::api::testing::Fixture;
use nearmost_core::registry::{Domain, DomainIndex, Registry};

/// Domains whose policies differ, so that each has a set of its own.
fn map(domains: u32) -> Map {
    let snapshot = Fixture::five_mirrors().snapshot();
    let mut registry = Registry::clone(&snapshot.registry);
    let one = registry.domains[0].clone();
    let mirrors = registry.mirrors.clone();
    registry.mirrors.clear();
    registry.domains.clear();
    for d in 0..domains {
        let mut domain = Domain { name: format!("d{d}.test").into(), ..one.clone() };
        domain.mirrors = d * 5..d * 5 + 5;
        domain.policy.tie_band_ms = 1.0 + d as f32;
        registry.domains.push(domain);
        registry.mirrors.extend(
            mirrors.iter().cloned().map(|m| nearmost_core::registry::Mirror { domain: DomainIndex(d), ..m }),
        );
    }
    let Map { places, model, .. } = Map::clone(&snapshot.map);
    Map::default().follow(&registry, &places, &model, None)
}

fn ask(map: &Map, domain: u32) {
    map.view(DomainIndex(domain), [192, 0, 2, 1].into()).unwrap();
}

fn build(map: &Map, at: usize, now: UnixMillis) -> (Map, usize) {
    let entry = &map.sets.entries()[at];
    let cells = CellTable::build(&entry.set, &map.places, entry.cells.as_deref(), now);
    let bytes = cells.memory_bytes();
    (map.with_cells([(at, Some(Arc::new(cells)))]), bytes)
}

struct Bench {
    planner: Planner,
    map: Map,
    /// Seconds.
    now: u64,
    start: Instant,
}

impl Bench {
    fn new(domains: u32, memory: usize) -> Bench {
        Bench {
            planner: Planner::new(memory),
            map: map(domains),
            now: 1_000_000,
            start: crate::clock::mono_now(),
        }
    }

    fn unix(&self) -> UnixMillis {
        UnixMillis(self.now * 1000)
    }

    fn mono(&self) -> Instant {
        self.start + Duration::from_secs(self.now)
    }

    fn next(&mut self) -> Step {
        self.planner.next(&self.map, self.unix(), self.mono())
    }

    /// Builds what is to be built until nothing is; says which, in order.
    fn work(&mut self) -> Vec<usize> {
        let mut done = Vec::new();
        loop {
            match self.next() {
                Step::Rest => return done,
                Step::GiveUp(gone) => self.map = self.map.with_cells(gone.into_iter().map(|at| (at, None))),
                Step::Build(at) => {
                    let (map, bytes) = build(&self.map, at, self.unix());
                    if self.planner.built(&self.map, at, bytes, self.mono(), Duration::from_secs(1)) {
                        self.map = map;
                    }
                    done.push(at);
                }
            }
        }
    }

    fn built(&self) -> Vec<usize> {
        let entries = self.map.sets.entries().iter().enumerate();
        entries.filter(|(_, e)| e.cells.is_some()).map(|(at, _)| at).collect()
    }
}

#[test]
fn what_is_asked_for_is_built_and_given_up_an_hour_after() {
    let mut bench = Bench::new(3, usize::MAX);
    assert_eq!(bench.work(), [0_usize; 0], "nobody asked");
    ask(&bench.map, 1);
    assert_eq!(bench.work(), [1]);
    bench.now += 60;
    ask(&bench.map, 2);
    bench.next();
    bench.now += 3541;
    bench.work();
    assert_eq!(bench.built(), [2]);
}

#[test]
fn memory_is_kept_and_goes_to_those_that_are_asked_for_lately() {
    let bytes = build(&map(1), 0, UnixMillis(1)).1;
    let mut bench = Bench::new(5, bytes * 2 + bytes / 2);
    for domain in 0..5 {
        ask(&bench.map, domain);
    }
    assert_eq!(bench.work(), [0, 1], "the third would not fit");
    assert_eq!(bench.planner.totals(&bench.map).built, 2);
    bench.now += 60;
    ask(&bench.map, 4);
    assert!(bench.work().is_empty(), "the others were asked for not long before");
    bench.now += 700;
    ask(&bench.map, 4);
    ask(&bench.map, 0);
    bench.work();
    assert_eq!(bench.built(), [0, 4]);
}

#[test]
fn what_does_not_fit_at_all_is_tried_seldom() {
    let mut bench = Bench::new(1, 100);
    ask(&bench.map, 0);
    assert_eq!(bench.work(), [0]);
    bench.now += 60;
    ask(&bench.map, 0);
    assert!(bench.work().is_empty() && bench.built().is_empty());
}

#[test]
fn outdated_cells_serve_on_and_are_made_new_by_and_by() {
    let mut bench = Bench::new(2, usize::MAX);
    ask(&bench.map, 0);
    ask(&bench.map, 1);
    bench.work();
    // Another geo table, which is no other place for anyone.
    let snapshot = Fixture::five_mirrors().snapshot();
    bench.map.places = Arc::new(nearmost_core::geo::table::PlaceTable::clone(&snapshot.map.places));
    assert_eq!(bench.work(), [0], "and then a rest");
    assert_eq!((bench.built(), bench.planner.waiting()), (vec![0, 1], 1));
    bench.now += 10;
    assert_eq!(bench.work(), [1]);
}

use super::*;
use crate::api::testing::Fixture;
use nearmost_core::live::LiveMirror;
use nearmost_core::registry::DomainIndex;
use nearmost_core::rtt::routes::Routes;

struct Bench {
    world: World,
    live: Live,
}

fn bench() -> Bench {
    let snapshot = Fixture::five_mirrors().snapshot();
    let world = World::new(snapshot.registry.clone(), snapshot.map.places.clone());
    Bench { world, live: Live::clone(&snapshot.live) }
}

impl Bench {
    fn settle_at(&mut self, now: MonoTime) -> Parts {
        self.world.settle(&mut self.live, || now)
    }

    fn settle(&mut self) -> Parts {
        self.settle_at(MonoTime::default())
    }

    fn registry(&self, change: impl FnOnce(&mut Registry)) -> Arc<Registry> {
        let mut registry = Registry::clone(self.world.given());
        registry.version += 1;
        change(&mut registry);
        Arc::new(registry)
    }
}

#[test]
fn what_is_published_belongs_together_whatever_changes() {
    let mut bench = bench();
    let first = bench.settle();
    assert_eq!(first.map.sets.entries()[0].set.len(), 5);
    let fewer = bench.registry(|r| {
        r.mirrors.pop();
        r.domains[0].mirrors.end -= 1;
    });
    bench.world.set_registry(fewer);
    bench.live.mirrors.pop();
    let second = bench.settle();
    assert_eq!((second.registry.mirrors.len(), second.map.sets.entries()[0].set.len()), (4, 4));
    let model = Arc::new(Model::new(Arc::new(Routes::new())));
    let prepared = Arc::new(Map::default().follow(&second.registry, &second.map.places, &model, None));
    bench.world.set_model(model.clone(), prepared.clone());
    let third = bench.settle();
    let set = |map: &Map| map.sets.entries()[0].set.clone();
    assert!(Arc::ptr_eq(set(&third.map).model(), &model));
    assert!(Arc::ptr_eq(&set(&third.map), &set(&prepared)), "made elsewhere, not again here");
    assert!(first.map.version < second.map.version && second.map.version < third.map.version);
}

#[test]
fn health_alone_rebuilds_nothing() {
    let mut bench = bench();
    let before = bench.settle();
    bench.world.addresses_changed();
    let after = bench.settle();
    assert!(Arc::ptr_eq(&before.map, &after.map) && Arc::ptr_eq(&before.registry, &after.registry));
}

#[test]
fn a_mirror_that_moves_waits_for_its_turn_and_a_registry_does_not() {
    let mut bench = bench();
    let second = |n: u64| MonoTime::default() + std::time::Duration::from_secs(n);
    // Placing takes a second each time it looks at the clock.
    let clock = std::cell::Cell::new(0);
    let settle = |bench: &mut Bench| {
        let now = || {
            clock.set(clock.get() + 1);
            second(clock.get())
        };
        let Bench { world, live } = bench;
        world.settle(live, now)
    };
    let unplaced = bench.registry(|r| r.mirrors[0].place_source = nearmost_core::geo::PlaceSource::Unknown);
    bench.world.set_registry(unplaced);
    let first = settle(&mut bench);
    bench.live.mirrors[0] = LiveMirror { v4: Some([203, 0, 113, 1].into()), ..bench.live.mirrors[0] };
    bench.world.addresses_changed();
    assert_eq!(bench.world.next_deadline(), Some(second(12)));
    assert!(Arc::ptr_eq(&settle(&mut bench).map, &first.map), "after one second of ten");
    let version = bench.registry(|_| {});
    bench.world.set_registry(version);
    let now = settle(&mut bench);
    assert_eq!(now.registry.mirrors[0].place.country.map(|c| c.to_string()).as_deref(), Some("US"));
    assert_eq!(now.registry.version, bench.world.given().version);
}

#[test]
fn cells_are_taken_for_sets_that_are_in_use_only() {
    let mut bench = bench();
    let map = bench.settle().map;
    let set = map.sets.entries()[0].set.clone();
    let build =
        |set: &Arc<MirrorSet>| Some(Arc::new(CellTable::build(set, &map.places, None, Default::default())));
    assert!(bench.world.set_cells(vec![(set.clone(), build(&set))]));
    assert!(bench.settle().map.sets.entries()[0].cells.is_some());
    let other = bench.registry(|r| r.domains[0].policy.tie_band_ms = 9.0);
    bench.world.set_registry(other);
    assert!(bench.settle().map.sets.entries()[0].cells.is_none(), "another set");
    assert!(!bench.world.set_cells(vec![(set.clone(), build(&set))]));
    assert_eq!(bench.world.map().sets.position(DomainIndex(0)), Some(0));
}

#[test]
fn offers_are_of_one_registry_and_follow_the_mirrors_into_the_next() {
    let mut bench = bench();
    let version = bench.world.given().version;
    let mut offers = vec![Offer::default(); 5];
    offers[4].shed = 7;
    assert!(!bench.world.set_offers(version + 1, offers.clone()), "of another registry");
    assert!(bench.world.set_offers(version, offers.clone()));
    assert!(!bench.world.set_offers(version, offers), "nothing new");
    bench.settle();
    assert_eq!(bench.live.mirrors[4].offer.shed, 7);
    let fewer = bench.registry(|r| {
        r.mirrors.remove(0);
        r.domains[0].mirrors.end -= 1;
    });
    bench.world.set_registry(fewer);
    bench.live.mirrors.remove(0);
    bench.settle();
    let shed: Vec<u16> = bench.live.mirrors.iter().map(|m| m.offer.shed).collect();
    assert_eq!(shed, [0, 0, 0, 7]);
}

//! What is published besides health: the registry with its mirrors placed, and the map that belongs
//! to it.
//!
//! ```text
//!  registry as given ─┐
//!  mirrors' addresses ├─▶ registry, placed ─┐
//!  geo table ─────────┘         │           ├─▶ map (sets of mirrors; cells come later)
//!  model ───────────────────────┴───────────┘
//! ```
//!
//! A new registry gets its map at once, since a snapshot's parts belong together. An address that was
//! learned moves a mirror, which makes its set anew; in a fleet of thousands that takes a while, so
//! between two such times the driver is left alone for [`REST`] times as long as the last one took.

use crate::placing;
use nearmost_core::geo::table::PlaceTable;
use nearmost_core::health::Family;
use nearmost_core::live::{Live, Offer};
use nearmost_core::map::{CellTable, Map, MirrorSet};
use nearmost_core::registry::{MirrorIndex, Registry};
use nearmost_core::rtt::Model;
use nearmost_core::time::MonoTime;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Pause after mirrors were placed, in times of how long that took.
const REST: u32 = 10;

/// What the map is made from, and the map.
pub(super) struct World {
    /// As the registrar built it.
    given: Arc<Registry>,
    /// With the places that follow from the mirrors' addresses.
    registry: Arc<Registry>,
    /// Addresses that mirrors' places were derived from.
    placed: Vec<[Option<IpAddr>; 2]>,
    /// Something that the map is made from is newer than the map.
    stale: Stale,
    /// Mirrors that moved wait until then.
    rest_until: MonoTime,
    map: Arc<Map>,
    prepared: Option<Arc<Map>>,
    offers: Vec<Offer>,
    /// Grows with every change of any of it.
    version: u64,
}

/// What is newer than the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stale {
    /// Nothing, as far as is known.
    No,
    /// Mirrors' addresses may be.
    Addresses,
    /// Registry, geo table or model: a snapshot cannot wait for the map.
    Parts,
}

/// A registry and its map, to be published.
pub(super) struct Parts {
    pub(super) registry: Arc<Registry>,
    pub(super) map: Arc<Map>,
}

impl World {
    pub(super) fn new(given: Arc<Registry>, places: Arc<PlaceTable>) -> World {
        World {
            registry: given.clone(),
            offers: vec![Offer::default(); given.mirrors.len()],
            given,
            placed: Vec::new(),
            stale: Stale::Parts,
            rest_until: MonoTime::default(),
            map: Arc::new(Map::of_places(1, places)),
            prepared: None,
            version: 1,
        }
    }

    pub(super) fn given(&self) -> &Arc<Registry> {
        &self.given
    }

    #[cfg(test)]
    fn map(&self) -> &Arc<Map> {
        &self.map
    }

    /// Grows with every change.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Another registry. Mirrors that were in the last one keep what they are offered.
    pub(super) fn set_registry(&mut self, given: Arc<Registry>) {
        self.offers = carried_over(&self.offers, &self.given, &given);
        // One without mirrors has nothing to be placed, and may differ in names alone.
        self.registry = given.clone();
        self.given = given;
        self.placed.clear();
        self.parts_changed();
    }

    /// Another geo table; says whether it is another one.
    pub(super) fn set_places(&mut self, places: Arc<PlaceTable>) -> bool {
        if Arc::ptr_eq(&places, &self.map.places) {
            return false;
        }
        self.map = Arc::new(Map { places, ..Map::clone(&self.map) });
        self.placed.clear();
        self.parts_changed();
        true
    }

    /// Another model.
    pub(super) fn set_model(&mut self, model: Arc<Model>, prepared: Arc<Map>) {
        self.map = Arc::new(Map { model, ..Map::clone(&self.map) });
        self.prepared = Some(prepared);
        self.parts_changed();
    }

    fn parts_changed(&mut self) {
        self.stale = Stale::Parts;
        self.version += 1;
    }

    /// Cells of sets; says whether any of the sets is in use.
    pub(super) fn set_cells(&mut self, built: Vec<(Arc<MirrorSet>, Option<Arc<CellTable>>)>) -> bool {
        let at: HashMap<*const MirrorSet, usize> =
            self.map.sets.entries().iter().enumerate().map(|(i, e)| (Arc::as_ptr(&e.set), i)).collect();
        let known = |(set, cells)| Some((*at.get(&Arc::as_ptr(&set))?, cells));
        let known: Vec<_> = built.into_iter().filter_map(known).collect();
        if known.is_empty() {
            return false;
        }
        self.map = Arc::new(self.map.with_cells(known));
        self.version += 1;
        true
    }

    /// What mirrors of a registry are offered; says whether that is the registry in use and anything
    /// is different.
    pub(super) fn set_offers(&mut self, registry: u64, offers: Vec<Offer>) -> bool {
        let taken = registry == self.given.version && offers.len() == self.given.mirrors.len();
        if !taken || offers == self.offers {
            return false;
        }
        self.offers = offers;
        self.version += 1;
        true
    }

    /// A mirror's address may have changed.
    pub(super) fn addresses_changed(&mut self) {
        if self.stale == Stale::No {
            self.stale = Stale::Addresses;
        }
    }

    /// When mirrors that moved are placed, if any did.
    pub(super) fn next_deadline(&self) -> Option<MonoTime> {
        (self.stale == Stale::Addresses).then_some(self.rest_until)
    }

    /// Registry and map for what is live, which gets its offers; `clock` tells how long it took.
    pub(super) fn settle(&mut self, live: &mut Live, clock: impl Fn() -> MonoTime) -> Parts {
        let began = clock();
        if self.stale == Stale::Parts || self.stale == Stale::Addresses && began >= self.rest_until {
            let parts = std::mem::replace(&mut self.stale, Stale::No) == Stale::Parts;
            if self.place_mirrors(live) || parts {
                let Map { places, model, .. } = Map::clone(&self.map);
                let prepared = self.prepared.take();
                self.map = Arc::new(self.map.follow(&self.registry, &places, &model, prepared.as_deref()));
                self.version += u64::from(!parts);
                let now = clock();
                self.rest_until = now + now.since(began) * REST;
            }
        }
        for (mirror, offer) in live.mirrors.iter_mut().zip(&self.offers) {
            mirror.offer = *offer;
            if mirror.paused.contains(&true) {
                // Whoever can go elsewhere does; the last one left still takes everyone.
                mirror.offer.shed = u16::MAX;
            }
        }
        live.tally(&self.registry);
        Parts { registry: self.registry.clone(), map: self.map.clone() }
    }

    /// Gives mirrors the places that follow from their addresses; the registry is copied only when
    /// an address, the registry or the geo table changed, which is what is said.
    fn place_mirrors(&mut self, live: &Live) -> bool {
        let addresses =
            |i: usize| live.mirrors.get(i).map_or([None, None], |m| Family::ALL.map(|f| m.addr(f)));
        let same = self.placed.len() == live.mirrors.len()
            && self.registry.version == self.given.version
            && self.placed.iter().enumerate().all(|(i, placed)| *placed == addresses(i));
        if same {
            return false;
        }
        self.placed = (0..live.mirrors.len()).map(addresses).collect();
        let mut registry = Registry::clone(&self.given);
        for (mirror, addrs) in registry.mirrors.iter_mut().zip(&self.placed) {
            (mirror.place, mirror.place_source) = placing::place(mirror, *addrs, &self.map);
        }
        self.registry = Arc::new(registry);
        true
    }
}

/// The offers of one registry's mirrors as those of another's; new mirrors are offered everything.
fn carried_over(offers: &[Offer], from: &Registry, to: &Registry) -> Vec<Offer> {
    let name = |registry: &Registry, i: MirrorIndex| {
        let mirror = registry.mirror(i);
        (registry.domain(mirror.domain).name.clone(), mirror.name.clone())
    };
    let reduced: HashMap<_, Offer> = (0..)
        .zip(offers)
        .filter(|(_, offer)| **offer != Offer::default())
        .map(|(i, offer)| (name(from, MirrorIndex(i)), *offer))
        .collect();
    if reduced.is_empty() {
        return vec![Offer::default(); to.mirrors.len()];
    }
    let offer = |i| reduced.get(&name(to, MirrorIndex(i))).copied().unwrap_or_default();
    (0..to.mirrors.len() as u32).map(offer).collect()
}

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;

//! Which domain has which set of mirrors.

use super::Map;
use super::cells::CellTable;
use super::set::{KnownTolls, MirrorSet, SetKey};
use crate::geo::table::PlaceTable;
use crate::registry::{DomainIndex, Registry};
use crate::rtt::Model;
use std::collections::HashMap;
use std::sync::Arc;

/// A set of mirrors and its cells, if they are built.
#[derive(Clone)]
pub struct Entry {
    /// The mirrors.
    pub set: Arc<MirrorSet>,
    /// Their cells: of this set, or of the same one under an earlier model or geo table.
    pub cells: Option<Arc<CellTable>>,
}

/// The sets of all domains of one registry.
#[derive(Clone, Default)]
pub struct Sets {
    /// Of each domain, the position of its set.
    of_domain: Arc<[u32]>,
    entries: Arc<[Entry]>,
}

impl Sets {
    /// The set of a domain.
    pub(super) fn of(&self, domain: DomainIndex) -> Option<&Entry> {
        let at = *self.of_domain.get(domain.0 as usize)?;
        self.entries.get(at as usize)
    }

    /// All sets.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The set of a domain, by its position among all.
    pub fn position(&self, domain: DomainIndex) -> Option<usize> {
        self.of_domain.get(domain.0 as usize).map(|at| *at as usize)
    }
}

/// Sets by what makes them.
struct Known(HashMap<u64, Vec<Entry>>);

impl Known {
    fn new<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> Known {
        let mut known: HashMap<u64, Vec<Entry>> = HashMap::new();
        for entry in entries {
            known.entry(entry.set.key.hash()).or_default().push(entry.clone());
        }
        Known(known)
    }

    fn find(&self, key: &SetKey) -> Option<&Entry> {
        self.0.get(&key.hash())?.iter().find(|e| e.set.key == *key)
    }
}

impl Map {
    /// The map for another registry, geo table or model. Sets that are as they were are kept, with their
    /// cells; what was built of others under an earlier model or table serves until it is built anew.
    /// `prepared` are maps of the same model made elsewhere, whose sets need not be made again.
    pub fn follow(
        &self,
        registry: &Registry,
        places: &Arc<PlaceTable>,
        model: &Arc<Model>,
        prepared: Option<&Map>,
    ) -> Map {
        let before = Known::new(self.sets.entries.iter());
        let prepared = Known::new(prepared.into_iter().flat_map(|m| m.sets.entries.iter()));
        let mut tolls = KnownTolls::new();
        let mut numbers: HashMap<u64, Vec<u32>> = HashMap::new();
        let mut entries: Vec<Entry> = Vec::new();
        let mut of_domain = Vec::with_capacity(registry.domains.len());
        for domain in 0..registry.domains.len() as u32 {
            let key = SetKey::of(registry, DomainIndex(domain));
            let alike = numbers.entry(key.hash()).or_default();
            if let Some(known) = alike.iter().find(|at| entries[**at as usize].set.key == key) {
                of_domain.push(*known);
                continue;
            }
            let old = before.find(&key).cloned();
            let same_model = |e: &&Entry| Arc::ptr_eq(e.set.model(), model);
            let set = old.as_ref().filter(same_model).or_else(|| prepared.find(&key).filter(same_model));
            let set = set.map(|e| e.set.clone());
            let cells = old.as_ref().and_then(|e| e.cells.clone());
            let set = set.unwrap_or_else(|| Arc::new(MirrorSet::new(key, model, &mut tolls)));
            if let Some(old) = old.filter(|old| !Arc::ptr_eq(&old.set, &set)) {
                set.asked_as(&old.set);
            }
            alike.push(entries.len() as u32);
            of_domain.push(entries.len() as u32);
            entries.push(Entry { set, cells });
        }
        let sets = Sets { of_domain: of_domain.into(), entries: entries.into() };
        Map { version: self.version + 1, places: places.clone(), model: model.clone(), sets }
    }

    /// The map with other cells for some sets, by position; `None` takes them away.
    pub fn with_cells(&self, cells: impl IntoIterator<Item = (usize, Option<Arc<CellTable>>)>) -> Map {
        let mut entries = self.sets.entries.to_vec();
        for (at, cells) in cells {
            if let Some(entry) = entries.get_mut(at) {
                entry.cells = cells;
            }
        }
        let sets = Sets { of_domain: self.sets.of_domain.clone(), entries: entries.into() };
        Map { version: self.version + 1, sets, ..self.clone() }
    }

    /// The map with the cells of every set built: for tests and tools, as it takes its time.
    pub fn with_all_cells(&self) -> Map {
        let build = |(at, entry): (usize, &Entry)| {
            let now = crate::time::UnixMillis::default();
            (at, Some(Arc::new(CellTable::build(&entry.set, &self.places, entry.cells.as_deref(), now))))
        };
        self.with_cells(self.sets.entries.iter().enumerate().map(build).collect::<Vec<_>>())
    }
}

//! Whose cells are built next, and whose are given up: pure, `now` handed in.

use nearmost_core::map::{CellTable, Entry, Map, MirrorSet};
use nearmost_core::time::UnixMillis;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Cells that nobody asked for during this long are given up.
const KEEP: Duration = Duration::from_secs(3600);
/// A set takes the memory of another one only if that was asked so much longer ago: otherwise the two
/// would push each other out by turns.
const OLDER: Duration = Duration::from_secs(600);
/// Cells in which a better mirror waits for its time are built again after this.
const AGAIN: Duration = Duration::from_secs(60);
/// After cells were made new that served already, pause for so many times as long as that took.
const REST: u32 = 9;

/// What is to be done next; sets are given by their position in the map.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Build the cells of a set.
    Build(usize),
    /// Give up the cells of sets.
    GiveUp(Vec<usize>),
    /// Nothing for now.
    Rest,
}

/// What there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Different sets of mirrors.
    pub(crate) sets: usize,
    /// Sets whose cells are built.
    pub(crate) built: usize,
    /// Sets whose cells are to be built.
    pub(crate) waiting: usize,
    /// All cells.
    pub(crate) cells: usize,
    /// Memory of all cells.
    pub(crate) bytes: usize,
}

/// Decides; holds only what the map does not tell.
pub(super) struct Planner {
    memory: usize,
    /// Sets whose cells did not fit or could not be built, by address, and when that was.
    refused: HashMap<usize, (Weak<MirrorSet>, Instant)>,
    /// Cells that serve already are made new from then on.
    rest_until: Option<Instant>,
    /// Bytes of the cells built last.
    typical: usize,
    waiting: usize,
}

/// A set that was asked for.
struct Asked<'m> {
    at: usize,
    entry: &'m Entry,
    when: UnixMillis,
}

/// Why cells are to be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// There are none.
    Missing,
    /// They are of an earlier model or geo table.
    Outdated,
    /// A better mirror waits for its time.
    Challenged,
}

impl Planner {
    /// Cells may take so many bytes.
    pub(super) fn new(memory: usize) -> Planner {
        Planner { memory, refused: HashMap::new(), rest_until: None, typical: 0, waiting: 0 }
    }

    /// Sets that waited at the last decision.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn totals(&self, map: &Map) -> Totals {
        let cells = || map.sets.entries().iter().filter_map(|e| e.cells.as_deref());
        Totals {
            sets: map.sets.entries().len(),
            built: cells().count(),
            waiting: self.waiting,
            cells: cells().map(CellTable::cells).sum(),
            bytes: cells().map(CellTable::memory_bytes).sum(),
        }
    }

    /// What to do; to be asked at least once a second, so that it is known who asked when.
    pub(super) fn next(&mut self, map: &Map, now: UnixMillis, mono: Instant) -> Step {
        self.refused.retain(|_, (set, at)| set.strong_count() > 0 && mono - *at < OLDER);
        let entries = map.sets.entries().iter().enumerate();
        let mut asked: Vec<Asked<'_>> = entries
            .filter(|(_, entry)| entry.set.gains_by_cells())
            .map(|(at, entry)| Asked { at, entry, when: entry.set.asked(now).unwrap_or_default() })
            .collect();
        // Asked last first.
        asked.sort_by_key(|a| (std::cmp::Reverse(a.when), a.at));
        let unasked = |a: &&Asked<'_>| age(a.when, now) >= KEEP;
        let gone: Vec<usize> =
            asked.iter().filter(unasked).filter(|a| a.entry.cells.is_some()).map(|a| a.at).collect();
        if !gone.is_empty() {
            return Step::GiveUp(gone);
        }
        asked.retain(|a| age(a.when, now) < KEEP);
        self.build(map, &asked, now, mono)
    }

    fn build(&mut self, map: &Map, asked: &[Asked<'_>], now: UnixMillis, mono: Instant) -> Step {
        let mut wanted: Vec<(Need, &Asked<'_>)> =
            asked.iter().filter_map(|a| Some((need(a.entry, map, now)?, a))).collect();
        wanted.retain(|(_, a)| !self.refused.contains_key(&Arc::as_ptr(&a.entry.set).addr()));
        // Stable: asked last first within each need.
        wanted.sort_by_key(|(need, _)| *need);
        self.waiting = wanted.iter().filter(|(need, _)| *need != Need::Challenged).count();
        let rests = self.rest_until.is_some_and(|until| mono < until);
        // If there is no room for the one that was asked for last, there is none for the others.
        let missing = wanted.iter().find(|(need, _)| *need == Need::Missing);
        if let Some(step) = missing.and_then(|(_, a)| self.with_room(asked, a)) {
            return step;
        }
        let served = wanted.iter().find(|(need, _)| *need != Need::Missing && !rests);
        served.map_or(Step::Rest, |(_, a)| Step::Build(a.at))
    }

    /// Builds cells where there were none, if there is memory for them or can be.
    fn with_room(&self, asked: &[Asked<'_>], next: &Asked<'_>) -> Option<Step> {
        let bytes = |a: &Asked<'_>| a.entry.cells.as_ref().map_or(0, |c| c.memory_bytes());
        let mut held: usize = asked.iter().map(bytes).sum();
        let mut gone = Vec::new();
        for other in asked.iter().rev().filter(|a| a.entry.cells.is_some()) {
            if held + self.typical <= self.memory || age(other.when, next.when) < OLDER {
                break;
            }
            held -= bytes(other);
            gone.push(other.at);
        }
        let fits = held + self.typical <= self.memory;
        fits.then_some(if gone.is_empty() { Step::Build(next.at) } else { Step::GiveUp(gone) })
    }

    /// Cells were built; says whether they may be kept.
    pub(super) fn built(
        &mut self,
        map: &Map,
        at: usize,
        bytes: usize,
        mono: Instant,
        took: Duration,
    ) -> bool {
        let Some(entry) = map.sets.entries().get(at) else { return false };
        if entry.cells.is_some() {
            self.rest_until = Some(mono + took * REST);
        }
        self.typical = bytes;
        let others = map.sets.entries().iter().enumerate().filter(|(i, _)| *i != at);
        let held: usize = others.filter_map(|(_, e)| Some(e.cells.as_ref()?.memory_bytes())).sum();
        let fits = held + bytes <= self.memory;
        if !fits {
            self.refuse(&entry.set, mono);
        }
        fits
    }

    /// Cells could not be built: not tried again for this set for a while.
    pub(super) fn failed(&mut self, map: &Map, at: usize, mono: Instant) {
        if let Some(entry) = map.sets.entries().get(at) {
            self.refuse(&entry.set, mono);
        }
    }

    fn refuse(&mut self, set: &Arc<MirrorSet>, mono: Instant) {
        self.refused.insert(Arc::as_ptr(set).addr(), (Arc::downgrade(set), mono));
    }
}

fn need(entry: &Entry, map: &Map, now: UnixMillis) -> Option<Need> {
    match &entry.cells {
        None => Some(Need::Missing),
        Some(cells) if !cells.is_of(&entry.set, &map.places) => Some(Need::Outdated),
        Some(cells) if cells.is_challenged() && age(cells.built(), now) >= AGAIN => Some(Need::Challenged),
        Some(_) => None,
    }
}

fn age(at: UnixMillis, now: UnixMillis) -> Duration {
    Duration::from_millis(now.0.saturating_sub(at.0))
}

#[cfg(test)]
#[path = "planner_tests.rs"]
mod tests;

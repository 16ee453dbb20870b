//! A mirror that comes, moves or goes, of ten thousand: what it takes until queries see it, and until
//! the cells are built anew behind them.

use super::database::Database;
use super::fleet::{self, Machine};
use crate::meter::{Cost, measured};
use crate::random::Random;
use anyhow::{Result, ensure};
use nearmost_core::geo::table::PlaceTable;
use nearmost_core::health::State;
use nearmost_core::map::{CellTable, Map};
use nearmost_core::snapshot::Snapshot;
use nearmost_core::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What changes cost.
#[derive(Debug, Serialize, Deserialize)]
pub struct Changes {
    mirrors: usize,
    changes: Vec<Change>,
    /// A mirror's health: copies the live state, and nothing else.
    flip: Cost,
}

#[derive(Debug, Serialize, Deserialize)]
struct Change {
    what: String,
    /// The map and live state for the new registry: from then on queries see the change.
    publish: Cost,
    /// The cells of the changed set, in the background.
    rebuild: Cost,
}

/// Changes one mirror in three ways.
///
/// # Errors
/// When a change of health touches the map.
pub fn run(database: &Database, places: &Arc<PlaceTable>, mirrors: usize, seed: u64) -> Result<Changes> {
    let mut random = Random::new(seed ^ 3);
    let machines = fleet::machines(database.places(), mirrors + 1, &mut random);
    let before = machines[..mirrors].to_vec();
    let snapshot = fleet::built(&fleet::snapshot(places, std::slice::from_ref(&before)));
    let (added, mut moved, mut removed) = (machines, before.clone(), before);
    moved[mirrors / 2].place = added[mirrors].place;
    removed.remove(mirrors / 2);
    let mut changes = Vec::new();
    for (what, after) in [("added", added), ("moved", moved), ("removed", removed)] {
        changes.push(change(what, &snapshot, places, &after)?);
    }
    Ok(Changes { mirrors, changes, flip: flip(&snapshot)? })
}

fn change(what: &str, before: &Snapshot, places: &Arc<PlaceTable>, after: &[Machine]) -> Result<Change> {
    let registry = fleet::registry([after]);
    let (snapshot, publish) = measured(|| {
        let map = before.map.follow(&registry, places, &before.map.model, None);
        let live = fleet::live(&registry, [after]);
        (Arc::new(map), Arc::new(live))
    })?;
    let (map, _): &(Arc<Map>, _) = &snapshot;
    let entry = &map.sets.entries()[0];
    let old = before.map.sets.entries()[0].cells.clone();
    let build = || {
        let cells = CellTable::build(&entry.set, places, old.as_deref(), UnixMillis(1));
        map.with_cells([(0, Some(Arc::new(cells)))])
    };
    let (_, rebuild) = measured(build)?;
    Ok(Change { what: what.to_owned(), publish, rebuild })
}

/// A mirror goes down: the snapshot after it has the map it had before.
fn flip(before: &Snapshot) -> Result<Cost> {
    let (after, cost) = measured(|| {
        let mut live = (*before.live).clone();
        let last = live.mirrors.len() / 2;
        live.mirrors[last].verdicts.iter_mut().for_each(|v| v.state = State::Down);
        live.tally(&before.registry);
        Snapshot { live: Arc::new(live), ..before.clone() }
    })?;
    ensure!(Arc::ptr_eq(&before.map, &after.map), "a change of health made another map");
    Ok(cost)
}

impl Changes {
    /// For people.
    pub fn print(&self) {
        println!(
            "\n{:36} {:>12} {:>12} {:>12}",
            "one mirror of many", "publish ms", "rebuild ms", "rebuild MiB"
        );
        for c in &self.changes {
            println!(
                "{:36} {:>12.1} {:>12.0} {:>12.0}",
                format!("{} ({} mirrors)", c.what, self.mirrors),
                c.publish.cpu_s * 1e3,
                c.rebuild.cpu_s * 1e3,
                c.rebuild.peak_mib
            );
        }
        println!("{:36} {:>12.2} {:>12}", "down", self.flip.cpu_s * 1e3, "nothing");
    }
}

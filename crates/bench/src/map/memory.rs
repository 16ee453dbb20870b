//! Memory of a map of many domains, each with mirrors of its own: without cells, and with as many as
//! a budget holds.

use super::database::Database;
use super::fleet::{self, Machine};
use crate::meter::{Cost, measured};
use crate::random::Random;
use anyhow::Result;
use nearmost_core::geo::table::PlaceTable;
use nearmost_core::map::{CellTable, Map};
use nearmost_core::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const DOMAINS: usize = 10_000;
/// Places that their mirrors are in.
const SITES: usize = 2_000;
/// Maps whose mean is told.
const MAPS: usize = 20;
/// Bytes for cells.
const BUDGET: usize = 256 << 20;

/// What a map of many domains costs.
#[derive(Debug, Serialize, Deserialize)]
pub struct Memory {
    domains: usize,
    sets: usize,
    /// One map without cells; the registry and the table of places not counted. The mean of several,
    /// since the first ones fill memory that the process has already.
    map: Cost,
    /// The map that follows for a registry in which nothing changed.
    again: Cost,
    /// Cells within the budget.
    cells: Cost,
    built: usize,
    cells_mib: f64,
}

/// Makes the map, and fills the budget.
///
/// # Errors
/// When the kernel does not tell what is in use.
pub fn run(database: &Database, places: &Arc<PlaceTable>, seed: u64) -> Result<Memory> {
    let mut random = Random::new(seed ^ 4);
    let machines = fleet::machines(database.places(), SITES, &mut random);
    let domains: Vec<Vec<Machine>> = (0..DOMAINS).map(|_| fleet::some(&machines, 6, &mut random)).collect();
    let registry = fleet::registry(domains.iter().map(Vec::as_slice));
    let model = Arc::default();
    let empty = Map::of_places(1, places.clone());
    let follow = |before: &Map| before.follow(&registry, places, &model, None);
    let first = follow(&empty);
    let entries = first.sets.entries();
    let (built, cells) = measured(|| {
        let (mut built, mut bytes) = (Vec::new(), 0);
        for (at, entry) in entries.iter().enumerate() {
            let table = CellTable::build(&entry.set, places, None, UnixMillis(0));
            bytes += table.memory_bytes();
            if bytes > BUDGET {
                break;
            }
            built.push((at, Some(Arc::new(table))));
        }
        built
    })?;
    let (maps, all) = measured(|| (0..MAPS).map(|_| follow(&empty)).collect::<Vec<Map>>())?;
    let each = |sum: f64| sum / MAPS as f64;
    let map = Cost {
        wall_s: each(all.wall_s),
        cpu_s: each(all.cpu_s),
        peak_mib: each(all.peak_mib),
        kept_mib: each(all.kept_mib),
        ..all
    };
    let (_, again) = measured(|| follow(&maps[0]))?;
    let held: usize = built.iter().flat_map(|(_, table)| table).map(|table| table.memory_bytes()).sum();
    Ok(Memory {
        domains: DOMAINS,
        sets: entries.len(),
        map,
        again,
        cells,
        built: built.len(),
        cells_mib: held as f64 / f64::from(1 << 20),
    })
}

impl Memory {
    /// For people.
    pub fn print(&self) {
        println!("\n{} domains, {} sets of mirrors", self.domains, self.sets);
        println!("{:44} {:>8} {:>10} {:>10}", "", "CPU s", "peak MiB", "kept MiB");
        let row = |name: &str, c: &Cost| {
            println!("{name:44} {:8.2} {:10.0} {:10.0}", c.cpu_s, c.peak_mib, c.kept_mib);
        };
        row("map without cells", &self.map);
        row("the same map again", &self.again);
        row(&format!("cells of {} sets, {:.0} MiB", self.built, self.cells_mib), &self.cells);
    }
}

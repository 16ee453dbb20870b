//! From a database to tables: time and memory of compiling it and of the cells of a domain.

use super::database::Database;
use super::{fleet, mmdb};
use crate::meter::{Cost, measured};
use crate::random::Random;
use anyhow::Result;
use nearmost_core::geo::table::PlaceTable;
use nearmost_core::map::CellTable;
use nearmost_core::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What compiling cost.
#[derive(Debug, Serialize, Deserialize)]
pub struct Compiled {
    networks: usize,
    ranges: usize,
    places: usize,
    table_mib: f64,
    file_mib: f64,
    /// From networks that are made up on the way, less the time to make them up.
    table: Cost,
    /// From a file, as the broker does it: read, verify, decode, compile.
    file: Cost,
    cells: Vec<Cells>,
    /// File, table, and the cells of both sets beside each other.
    all: Cost,
}

/// What the cells of one set of mirrors cost.
#[derive(Debug, Serialize, Deserialize)]
struct Cells {
    mirrors: usize,
    set: Cost,
    cells: Cost,
    count: usize,
    rankings: usize,
    mib: f64,
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Compiles a table, without a file and from one, and cells.
///
/// # Errors
/// When files cannot be written or read.
pub fn run(database: &Database, mirrors: [usize; 2], seed: u64) -> Result<Compiled> {
    let ((), making) = measured(|| database.networks(|network| _ = std::hint::black_box(network)))?;
    let (direct, mut table) = measured(|| mmdb::compile_directly(database))?;
    drop(direct?);
    (table.wall_s, table.cpu_s) = (table.wall_s - making.wall_s, table.cpu_s - making.cpu_s);
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("city.mmdb");
    mmdb::write(database, &path)?;
    let file_mib = std::fs::metadata(&path)?.len() as f64 / f64::from(1 << 20);
    let (result, all) = measured(|| -> Result<_> {
        let (read, file) = measured(|| mmdb::compile(&path))?;
        let (places, networks) = read?;
        let places = Arc::new(places);
        let mut cells = Vec::new();
        let mut kept = Vec::new();
        for count in mirrors {
            let (table, cost) = cells_of(database, &places, count, seed)?;
            kept.push(table);
            cells.push(cost);
        }
        Ok((places, networks, file, cells, kept))
    })?;
    let (places, networks, file, cells, kept) = result?;
    drop(kept);
    Ok(Compiled {
        networks,
        ranges: places.ranges(),
        places: places.places(),
        table_mib: mib(places.memory_bytes()),
        file_mib,
        table,
        file,
        all: all.highest(cells.iter().flat_map(|c| [&c.set, &c.cells]).chain([&file])),
        cells,
    })
}

fn cells_of(
    database: &Database,
    places: &Arc<PlaceTable>,
    mirrors: usize,
    seed: u64,
) -> Result<(CellTable, Cells)> {
    let machines = fleet::machines(database.places(), mirrors, &mut Random::new(seed));
    let (snapshot, set) = measured(|| fleet::snapshot(places, &[machines]))?;
    let entry = &snapshot.map.sets.entries()[0];
    let (table, cells) = measured(|| CellTable::build(&entry.set, places, None, UnixMillis(0)))?;
    let (count, rankings, mib) = (table.cells(), table.rankings(), mib(table.memory_bytes()));
    Ok((table, Cells { mirrors, set, cells, count, rankings, mib }))
}

impl Compiled {
    /// For people.
    pub fn print(&self) {
        println!(
            "{} networks, {} ranges, {} places; file {:.0} MiB, table {:.0} MiB\n",
            self.networks, self.ranges, self.places, self.file_mib, self.table_mib
        );
        println!("{:44} {:>8} {:>8} {:>10} {:>10}", "", "wall s", "CPU s", "peak MiB", "kept MiB");
        let row = |name: &str, c: &Cost| {
            println!("{name:44} {:8.2} {:8.2} {:10.0} {:10.0}", c.wall_s, c.cpu_s, c.peak_mib, c.kept_mib);
        };
        row("compile the table", &self.table);
        row("read, verify and compile a file", &self.file);
        for c in &self.cells {
            row(&format!("set of {} mirrors", c.mirrors), &c.set);
            row(&format!("its {} cells, {} rankings, {:.0} MiB", c.count, c.rankings, c.mib), &c.cells);
        }
        row("from file to cells, in all", &self.all);
    }
}

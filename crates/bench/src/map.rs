//! The map: what it costs to compile, to change, to ask and to keep, in one run.
//!
//! Everything works on one database that is made up (`database`): about as many networks and places
//! as a city database has. CPU is what the kernel accounts to this process or thread, so what others
//! do on the machine matters little; what a query costs is compared in rounds that go through all
//! cases in turn.

mod change;
mod compile;
mod database;
mod fleet;
mod memory;
mod mmdb;
mod query;

use anyhow::{Result, ensure};
use database::Database;
use serde::Serialize;

/// How much is measured.
#[derive(clap::Args)]
pub struct MapArgs {
    /// IPv4 networks of the database
    #[arg(long, default_value_t = 3_400_000)]
    v4: usize,
    /// IPv6 networks of the database
    #[arg(long, default_value_t = 600_000)]
    v6: usize,
    /// Distinct places of the database
    #[arg(long, default_value_t = 100_000)]
    places: usize,
    /// Makes up the database and the mirrors
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Mirrors of the small and of the large case.
const MIRRORS: [usize; 2] = [6, 10_000];

/// All that was measured.
#[derive(Debug, Serialize)]
struct Report {
    compile: compile::Compiled,
    changes: change::Changes,
    memory: memory::Memory,
    queries: query::Queries,
}

/// Measures and prints.
pub fn run(args: &MapArgs) -> Result<()> {
    ensure!(args.places >= 1000, "--places {}: expected at least 1000", args.places);
    let database = Database::new(args.seed, args.v4, args.v6, args.places);
    let (compile, places) = compile::run(&database, MIRRORS, args.seed)?;
    let report = Report {
        compile,
        changes: change::run(&database, &places, MIRRORS[1], args.seed)?,
        memory: memory::run(&database, &places, args.seed)?,
        queries: query::run(&database, &places, MIRRORS[1], args.seed)?,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        report.compile.print();
        report.changes.print();
        report.memory.print();
        report.queries.print();
    }
    Ok(())
}

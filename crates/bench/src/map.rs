//! The map: what it costs to compile, to change, to ask and to keep, in one run.
//!
//! Everything works on one database that is made up (`database`): about as many networks and places
//! as a city database has. CPU is what the kernel accounts to this process or thread, so what others
//! do on the machine matters little; what a query costs is compared in rounds that go through all
//! cases in turn. Each part runs in a process of its own, whose memory is not what another left behind.

mod change;
mod compile;
pub(crate) mod database;
mod fleet;
mod memory;
pub(crate) mod mmdb;
mod query;

use anyhow::{Context, Result, ensure};
use database::Database;
use nearmost_core::geo::table::PlaceTable;
use serde::{Deserialize, Serialize};
use std::process::Command;
use std::sync::Arc;

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
    /// Measure this part only
    #[arg(long)]
    part: Option<Part>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Mirrors of the small and of the large case.
const MIRRORS: [usize; 2] = [6, 10_000];

/// What is measured in a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Compile,
    Changes,
    Memory,
    Queries,
}

/// What a part measured.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Measured {
    Compile(compile::Compiled),
    Changes(change::Changes),
    Memory(memory::Memory),
    Queries(query::Queries),
}

/// Measures and prints.
pub fn run(args: &MapArgs) -> Result<()> {
    ensure!(args.places >= 1000, "--places {}: expected at least 1000", args.places);
    let measured = match args.part {
        Some(part) => vec![measure(args, part)?],
        None => {
            let all = [Part::Compile, Part::Changes, Part::Memory, Part::Queries];
            let parts = all.into_iter().map(|part| elsewhere(args, part));
            parts.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect()
        }
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&measured)?);
        return Ok(());
    }
    for part in &measured {
        match part {
            Measured::Compile(measured) => measured.print(),
            Measured::Changes(measured) => measured.print(),
            Measured::Memory(measured) => measured.print(),
            Measured::Queries(measured) => measured.print(),
        }
    }
    Ok(())
}

/// Measures a part in a process of its own.
fn elsewhere(args: &MapArgs, part: Part) -> Result<Vec<Measured>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["map", "--json", "--part", &format!("{part:?}").to_lowercase()]);
    for (name, value) in [("--v4", args.v4), ("--v6", args.v6), ("--places", args.places)] {
        command.args([name, &value.to_string()]);
    }
    let output = command.args(["--seed", &args.seed.to_string()]).output()?;
    ensure!(output.status.success(), "{part:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).with_context(|| format!("{part:?}"))
}

fn measure(args: &MapArgs, part: Part) -> Result<Measured> {
    let database = Database::new(args.seed, args.v4, args.v6, args.places);
    let table = || -> Result<Arc<PlaceTable>> { Ok(Arc::new(mmdb::compile_directly(&database)?.0)) };
    Ok(match part {
        Part::Compile => Measured::Compile(compile::run(&database, MIRRORS, args.seed)?),
        Part::Changes => Measured::Changes(change::run(&database, &table()?, MIRRORS[1], args.seed)?),
        Part::Memory => Measured::Memory(memory::run(&database, &table()?, args.seed)?),
        Part::Queries => Measured::Queries(query::run(&database, &table()?, MIRRORS[1], args.seed)?),
    })
}

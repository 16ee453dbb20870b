//! How fast dead hosts are found and how often serving hosts are taken out, in the simulation of
//! `tests/sim`, beside other detectors on the same network with the same seeds.
//!
//! For each kind of network: the time within which half and 99 % of the deaths were found, and the
//! mistakes in 10 000 node-hours in which every host served.

use anyhow::{Result, ensure};
use nearmost_sim::measure::{Case, Deaths, Kind, Mistakes, cases, deaths, mistakes};
use serde::Serialize;

/// How much is simulated.
#[derive(clap::Args)]
pub struct DetectionArgs {
    /// Worlds in which five hosts die, for each detector and kind of network
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// Node-hours without a death, for each detector and kind of network
    #[arg(long, default_value_t = 200.0)]
    hours: f64,
    /// Hosts in a world
    #[arg(long, default_value_t = 50)]
    hosts: u32,
    /// Mean length of bursts of loss, in milliseconds
    #[arg(long, default_value_t = 200.0)]
    burst_ms: f64,
    /// Only this detector
    #[arg(long)]
    only: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One detector under one kind of network.
#[derive(Debug, Serialize)]
struct Row {
    network: &'static str,
    detector: &'static str,
    deaths: usize,
    missed: u32,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    node_hours: f64,
    mistakes: u64,
    mistakes_per_10_000_node_hours: f64,
    events: u64,
}

/// Hours of one world at most: more worlds are more places.
const WORLD_HOURS: f64 = 1.0;

fn measure(kind: Kind, case: &Case, args: &DetectionArgs) -> Row {
    let mut found = Deaths::default();
    for seed in 0..args.seeds {
        found.add(deaths(kind, case, seed, args.hosts));
    }
    let mut wrong = Mistakes::default();
    let mut seed = 0;
    while wrong.node_hours < args.hours {
        let hours = (args.hours - wrong.node_hours) / f64::from(args.hosts);
        let us = (hours.clamp(0.01, WORLD_HOURS) * 3.6e9) as u64;
        wrong.add(mistakes(kind, case, seed, args.hosts, us));
        seed += 1;
    }
    let ms = |us: u64| us as f64 / 1000.0;
    Row {
        network: case.name,
        detector: kind.name(),
        deaths: found.found_us.len() + found.missed as usize,
        missed: found.missed,
        p50_ms: found.percentile(0.5).map(ms),
        p99_ms: found.percentile(0.99).map(ms),
        node_hours: wrong.node_hours,
        mistakes: wrong.count,
        mistakes_per_10_000_node_hours: wrong.per_10_000(),
        events: wrong.events,
    }
}

/// Simulates and prints.
pub fn run(args: &DetectionArgs) -> Result<()> {
    ensure!(args.burst_ms > 0.0, "--burst-ms {}: expected more than 0", args.burst_ms);
    ensure!(args.hosts >= 5, "--hosts {}: expected at least 5", args.hosts);
    let names: Vec<&str> = Kind::ALL.iter().map(|k| k.name()).collect();
    let known = args.only.as_deref().is_none_or(|only| names.contains(&only));
    ensure!(known, "--only: expected one of {}", names.join(", "));
    let chosen = |kind: &Kind| args.only.as_deref().is_none_or(|only| kind.name() == only);
    let mut rows = Vec::new();
    if !args.json {
        println!(
            "{} hosts, {} worlds with five deaths, {} node-hours without, each\n",
            args.hosts, args.seeds, args.hours
        );
    }
    for case in cases(args.burst_ms * 1000.0) {
        if !args.json {
            println!(
                "{:16} {:>10} {:>10} {:>8}  {:>24}",
                case.name, "p50 ms", "p99 ms", "missed", "mistakes/10 000 node-h"
            );
        }
        for kind in Kind::ALL.into_iter().filter(chosen) {
            let row = measure(kind, &case, args);
            match args.json {
                true => rows.push(row),
                false => print(&row),
            }
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    }
    Ok(())
}

fn print(row: &Row) {
    let ms = |ms: Option<f64>| ms.map_or("—".to_owned(), |ms| format!("{ms:.0}"));
    println!(
        "  {:14} {:>10} {:>10} {:>8}  {:>24.1}",
        row.detector,
        ms(row.p50_ms),
        ms(row.p99_ms),
        row.missed,
        row.mistakes_per_10_000_node_hours
    );
}

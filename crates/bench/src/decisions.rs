//! How good the chosen mirrors are: a replay of a measured round-trip matrix.
//!
//! Some servers of the matrix play mirrors (nodes with agents, that probe one another), the others
//! client networks. Each network reports at most a few round trips, to the mirrors that the model
//! asks for, one after the other. What is compared is the regret: the chosen mirror's round trip less
//! that of the best one, over all networks and many random sets of mirrors:
//!
//! | | chosen by |
//! |---|---|
//! | `distance` | the nearest by great circle |
//! | `distance_probed` | the best of as many probes, sent to the nearest by great circle |
//! | `cold` | ours, before any network reported |
//! | `unseen` | ours, for a network that never reported, while all others did |
//! | `reported` | ours, for a network that reported, as all others did |
//!
//! The matrix: `servers` has `id,name,country,latitude,longitude`, `pings` has
//! `source,destination,min_ms,avg_ms`; the mean is taken both as what a probe measures and as what is
//! true. Countries are names, so they count as groups of networks but not as ISO codes.

mod matrix;
mod replay;

use anyhow::{Result, ensure};
use matrix::Matrix;
use serde::Serialize;
use std::path::PathBuf;

/// What is replayed.
#[derive(clap::Args)]
pub struct DecisionsArgs {
    /// Servers and where they are (CSV)
    #[arg(long)]
    servers: PathBuf,
    /// Round trips between them (CSV)
    #[arg(long)]
    pings: PathBuf,
    /// Servers of a set that are mirrors
    #[arg(long, default_value_t = 20)]
    mirrors: usize,
    /// Probes of a network in all
    #[arg(long, default_value_t = 5)]
    probes: usize,
    /// Random sets of mirrors
    #[arg(long, default_value_t = 100)]
    sets: usize,
    /// Chooses the sets
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Use the half of the servers that constants were chosen on, or the other one
    #[arg(long, default_value = "all")]
    part: Part,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which servers take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// All of them.
    All,
    /// Those that constants were chosen on.
    Tuned,
    /// The others.
    Other,
}

/// Regrets of all ways to choose.
#[derive(Debug, Serialize)]
struct Report {
    distance: Summary,
    distance_probed: Summary,
    cold: Summary,
    unseen: Summary,
    reported: Summary,
}

/// Regrets of one way to choose.
#[derive(Clone, Copy, Debug, Serialize)]
struct Summary {
    /// Share of networks that got the best mirror.
    best: f64,
    /// Share that got one within 5 ms of the best.
    within_5ms: f64,
    mean_ms: f64,
    p95_ms: f64,
    p99_ms: f64,
}

impl Summary {
    fn of(mut regrets: Vec<f32>) -> Summary {
        regrets.sort_by(f32::total_cmp);
        let n = regrets.len().max(1) as f64;
        let share = |most: f32| regrets.iter().filter(|r| **r <= most).count() as f64 / n;
        // The nearest rank.
        let percentile = |p: f64| {
            let rank = ((p * n).ceil() as usize).clamp(1, regrets.len().max(1));
            regrets.get(rank - 1).map_or(0.0, |r| f64::from(*r))
        };
        Summary {
            best: share(0.0),
            within_5ms: share(5.0),
            mean_ms: regrets.iter().map(|r| f64::from(*r)).sum::<f64>() / n,
            p95_ms: percentile(0.95),
            p99_ms: percentile(0.99),
        }
    }
}

/// Replays and prints.
pub fn run(args: &DecisionsArgs) -> Result<()> {
    let matrix = Matrix::read(&args.servers, &args.pings)?.part(args.part);
    ensure!(args.mirrors >= 2, "--mirrors {}: expected at least 2", args.mirrors);
    ensure!(args.probes >= 1 && args.sets >= 1, "--probes and --sets: expected at least 1");
    ensure!(
        args.mirrors < matrix.len(),
        "--mirrors {}: the matrix has {} servers, and some of them must be clients",
        args.mirrors,
        matrix.len()
    );
    let regrets = replay::all(&matrix, args.mirrors, args.probes, args.sets, args.seed);
    let report = Report {
        distance: Summary::of(regrets.distance),
        distance_probed: Summary::of(regrets.distance_probed),
        cold: Summary::of(regrets.cold),
        unseen: Summary::of(regrets.unseen),
        reported: Summary::of(regrets.reported),
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(args, &matrix, &report);
    }
    Ok(())
}

fn print(args: &DecisionsArgs, matrix: &Matrix, report: &Report) {
    let clients = matrix.len() - args.mirrors;
    println!(
        "{} sets of {} mirrors and {clients} client networks, {} probes a network\n",
        args.sets, args.mirrors, args.probes
    );
    println!(
        "{:16} {:>7} {:>7} {:>9} {:>9} {:>9}",
        "regret", "best", "≤ 5 ms", "mean ms", "p95 ms", "p99 ms"
    );
    let rows = [
        ("distance", report.distance),
        ("distance_probed", report.distance_probed),
        ("cold", report.cold),
        ("unseen", report.unseen),
        ("reported", report.reported),
    ];
    for (name, s) in rows {
        println!(
            "{name:16} {:>6.1}% {:>6.1}% {:>9.2} {:>9.1} {:>9.1}",
            s.best * 100.0,
            s.within_5ms * 100.0,
            s.mean_ms,
            s.p95_ms,
            s.p99_ms
        );
    }
    println!(
        "\ncold ÷ distance {:.2}, unseen ÷ distance {:.2}, reported ÷ distance_probed {:.2}",
        report.cold.mean_ms / report.distance.mean_ms,
        report.unseen.mean_ms / report.distance.mean_ms,
        report.reported.mean_ms / report.distance_probed.mean_ms
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_use_the_nearest_rank() {
        let s = Summary::of((0..100).map(|i| i as f32).collect());
        assert_eq!((s.best, s.within_5ms, s.mean_ms, s.p95_ms, s.p99_ms), (0.01, 0.06, 49.5, 94.0, 98.0));
        assert_eq!(Summary::of(vec![3.0]).p99_ms, 3.0);
    }
}

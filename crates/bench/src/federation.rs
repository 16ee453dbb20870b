//! What a federation costs, and how soon its brokers hold the same.
//!
//! | figure | what is measured |
//! |---|---|
//! | `catch-up` | how soon a broker that was away holds what was written meanwhile, 150 ms of round trip away |
//! | `digest` | what two stores tell each other to find what they differ in |
//! | `change` | how soon a change is seen at every other broker |
//! | `idle` | what quiet peers cost a broker |
//! | `write` | how long a write takes at one broker, without peers and with them |
//!
//! Brokers are real processes on loopback; `digest` runs in this one. A figure that cannot be taken is told
//! with its reason, and the others are taken all the same.

mod catch_up;
mod digest;
mod idle;
mod member;
mod relay;
mod spread;
mod writer;

use crate::figure::Taken;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// The domain whose records are written.
const DOMAIN: &str = "play.example.com";

/// What is measured.
#[derive(clap::Args)]
pub struct FederationArgs {
    /// Which figures; all unless given.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Name>,
    /// Records that the returning broker lacks.
    #[arg(long, default_value_t = 100_000)]
    records: usize,
    /// Milliseconds from it to the other and back.
    #[arg(long, default_value_t = 150)]
    rtt_ms: u64,
    /// Statements of the stores that are compared.
    #[arg(long, default_value_t = 1_000_000)]
    slots: usize,
    /// Brokers that a change is to reach.
    #[arg(long, default_value_t = 10)]
    peers: usize,
    /// Changes, one at a time.
    #[arg(long, default_value_t = 200)]
    changes: usize,
    /// Commits of one record each.
    #[arg(long, default_value_t = 1000)]
    writes: usize,
    /// Quiet peers.
    #[arg(long, default_value_t = 50)]
    idle_peers: usize,
    /// Seconds of quiet that are measured.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A figure, or several that are taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    Digest,
    CatchUp,
    /// `change` and `write`: both with the same brokers.
    Change,
    Idle,
}

/// Everything that was measured.
#[derive(Serialize)]
struct Report {
    /// Of the machine when the first figure was begun: others work on it too.
    load: f64,
    taken: Vec<Taken>,
}

/// Runs the measurement and prints it.
pub async fn run(args: FederationArgs) -> Result<()> {
    let mut report = Report { load: load()?, taken: Vec::new() };
    for name in [Name::Digest, Name::CatchUp, Name::Change, Name::Idle] {
        if !args.only.is_empty() && !args.only.contains(&name) {
            continue;
        }
        let (measured, most): (Pin<Box<dyn Future<Output = Result<Taken>>>>, _) = match name {
            Name::Digest => (Box::pin(digest::run(args.slots)), 600),
            Name::CatchUp => {
                (Box::pin(catch_up::run(args.records, Duration::from_millis(args.rtt_ms) / 2)), 900)
            }
            Name::Change => (Box::pin(spread::run(args.peers, args.changes, args.writes)), 900),
            Name::Idle => {
                let quiet = Duration::from_secs(args.seconds);
                (Box::pin(idle::run(args.idle_peers, quiet)), 600 + 2 * args.seconds)
            }
        };
        let done = tokio::time::timeout(Duration::from_secs(most), measured).await;
        let taken = match done.context("it took too long").flatten() {
            Ok(taken) => taken,
            Err(error) => Taken::failed(&format!("{name:?}"), &error),
        };
        if !args.json {
            taken.show();
        }
        report.taken.push(taken);
    }
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("load of the machine when this began: {:.1}", report.load);
    }
    match report.taken.iter().any(|taken| taken.error.is_some()) {
        true => bail!("not every figure could be taken"),
        false => Ok(()),
    }
}

fn load() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").context("/proc/loadavg")?;
    Ok(text.split_whitespace().next().context("/proc/loadavg")?.parse()?)
}

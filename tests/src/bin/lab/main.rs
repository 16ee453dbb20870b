//! The WAN lab: real brokers, agents and sessions on hosts that are joined by ways of any length and
//! quality, and what users feel when those fail. `docs/lab.md` tells how it is used.
//!
//! ```text
//!  lab ── orders ──▶ lab router, packet sockets on every host's link
//!   │ ── signals ─▶ nearmost-broker, nearmost-agent, lab-service, each on its host
//!   └ ── words ───▶ lab user, on the client's host ──▶ what its sessions saw
//! ```

mod catalogue;
mod clock;
mod raw;
mod router;
mod trial;
mod urgent;
mod user;
mod world;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use nearmost_lab::report::{Row, Subject, Trials, csv, table};
use nearmost_lab::scenario::Scenario;
use nearmost_lab::seen::{Mode, Way};
use nearmost_lab::timeline::{self, Run};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use trial::{Outcome, Which};
use world::World;

/// Measures what users feel when mirrors, brokers and ways to them fail.
#[derive(Debug, Parser)]
#[command(name = "lab", version)]
struct Arguments {
    /// Scenario files, or names of those that come with the lab.
    scenarios: Vec<String>,
    /// Tell which come with the lab.
    #[arg(long)]
    list: bool,
    /// Print JSON and no table.
    #[arg(long)]
    json: bool,
    /// Runs for each pair of round trips, in place of the scenario's.
    #[arg(long)]
    trials: Option<u32>,
    /// Sessions of each mode in a run, in place of the scenario's.
    #[arg(long)]
    users: Option<u32>,
    /// By what users reach the service, in place of the scenario's: nearmost, quinn, dns or haproxy. What it
    /// cannot do is left out, and it is watched for as long as it needs.
    #[arg(long)]
    way: Option<Way>,
    /// Seed, in place of the scenario's.
    #[arg(long)]
    seed: Option<u64>,
    /// Only this pair of round trips, as `10,40` in milliseconds.
    #[arg(long, value_parser = pair)]
    cell: Option<(u32, u32)>,
    /// Where CSV and SVG files go.
    #[arg(long, default_value = "lab-out")]
    out: PathBuf,
}

fn pair(text: &str) -> Result<(u32, u32)> {
    let (r, s) = text.split_once(',').context("two numbers with a comma between")?;
    Ok((r.trim().parse()?, s.trim().parse()?))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    // The lab's own parts, which it starts on its hosts.
    let words: Vec<String> = std::env::args().skip(1).collect();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["router", start] => router::run(start),
        ["user", task] => runtime()?.block_on(user::run(task)),
        _ => runtime()?.block_on(until_told(lab(Arguments::parse()))),
    }
}

/// To the end, or until a signal says so: what was started ends with what started it.
async fn until_told(lab: impl Future<Output = Result<()>>) -> Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    tokio::select! {
        done = lab => done,
        _ = terminated.recv() => bail!("told to end"),
        _ = interrupted.recv() => bail!("interrupted"),
    }
}

async fn lab(arguments: Arguments) -> Result<()> {
    if arguments.list {
        for scenario in catalogue::all()? {
            println!("{:<22}{}", scenario.name, scenario.about);
        }
        return Ok(());
    }
    if arguments.scenarios.is_empty() {
        bail!("no scenario is given; --list tells which there are");
    }
    let mut scenarios = Vec::new();
    for named in &arguments.scenarios {
        scenarios.push(changed(catalogue::find(named)?, &arguments)?);
    }
    binaries_are_there()?;
    std::fs::create_dir_all(&arguments.out).with_context(|| format!("make {}", arguments.out.display()))?;
    let mirrors = scenarios.iter().map(|s| s.mirrors.len()).max().unwrap_or(0);
    let seed = scenarios.first().map_or(1, |s| s.seed);
    let mut world = World::start(u8::try_from(mirrors)?, seed).await?;
    let mut rows = Vec::new();
    for scenario in &scenarios {
        for (r_ms, s_ms) in scenario.cells() {
            rows.extend(cell(&mut world, scenario, (r_ms, s_ms), &arguments.out).await?);
            std::fs::write(arguments.out.join("lab.csv"), csv(&rows))?;
        }
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        print!("{}", table(&rows));
    }
    Ok(())
}

/// What the lab runs, in the folder where it is looked for.
fn binaries_are_there() -> Result<()> {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.to_owned());
    let dir = std::env::var_os("NEARMOST_BIN_DIR").map(PathBuf::from).or_else(beside).context("no folder")?;
    let needed = ["nearmost", "nearmost-broker", "nearmost-agent", "lab-service"];
    let missing: Vec<&str> = needed.into_iter().filter(|name| !dir.join(name).is_file()).collect();
    let release = if dir.ends_with("release") { "--release " } else { "" };
    ensure!(
        missing.is_empty(),
        "{} not in {}; build what the lab runs:\n    cargo build {release}-p nearmost-broker -p nearmost-agent \
         -p nearmost-cli -p nearmost-tests --bins",
        missing.join(", "),
        dir.display()
    );
    Ok(())
}

fn changed(mut scenario: Scenario, arguments: &Arguments) -> Result<Scenario> {
    scenario.pace.trials = arguments.trials.unwrap_or(scenario.pace.trials);
    scenario.traffic.users = arguments.users.unwrap_or(scenario.traffic.users);
    scenario.seed = arguments.seed.unwrap_or(scenario.seed);
    if let Some(way) = arguments.way {
        scenario.traffic.way = way;
        scenario.traffic.modes =
            way.modes().iter().copied().filter(|m| scenario.traffic.modes.contains(m)).collect();
        scenario.pace.watch_ms = scenario.pace.watch_ms.max(way.least_watch_ms());
        if scenario.traffic.modes.is_empty() {
            bail!("--way: no mode of scenario {} is for {}", scenario.name, way.name());
        }
    }
    if let Some((r, s)) = arguments.cell {
        (scenario.ways.r_ms, scenario.ways.s_ms) = (vec![r], vec![s]);
        if scenario.cells().is_empty() {
            bail!("--cell: the standby, at {s} ms, must not be nearer than the primary, at {r} ms");
        }
    }
    Ok(scenario)
}

/// All runs of a pair of round trips; a row for each mode.
async fn cell(
    world: &mut World,
    scenario: &Scenario,
    (r_ms, s_ms): (u32, u32),
    out: &Path,
) -> Result<Vec<Row>> {
    let mut trials: BTreeMap<Mode, Trials> = BTreeMap::new();
    let mut worst: Option<(u64, Outcome)> = None;
    for number in 0..scenario.pace.trials {
        let which = Which { scenario, r_ms, s_ms, number };
        let outcome = trial::run(world, &which)
            .await
            .with_context(|| format!("{}, r {r_ms}, s {s_ms}, run {number}", scenario.name))?;
        for mode in &scenario.traffic.modes {
            let trials = trials.entry(*mode).or_default();
            trials.runs += 1;
            trials.router.push(outcome.router);
            trials.felt.extend(outcome.felt.get(mode).into_iter().flatten().cloned());
            trials.counts.add(outcome.counts.get(mode).copied().unwrap_or_default());
        }
        let gap = outcome.felt.values().flatten().map(|f| f.gap_us).max().unwrap_or(0);
        eprintln!("{} r {r_ms} s {s_ms} run {number}: longest gap {} ms", scenario.name, gap / 1000);
        if worst.as_ref().is_none_or(|(most, _)| gap > *most) {
            worst = Some((gap, outcome));
        }
    }
    if let Some((_, outcome)) = worst {
        show(scenario, (r_ms, s_ms), outcome, out)?;
    }
    let figure = scenario.bound(r_ms, s_ms).map(|bound| bound.as_secs_f64() * 1e3);
    let subject =
        |mode| Subject { scenario: scenario.name.clone(), way: scenario.traffic.way, mode, r_ms, s_ms };
    // The figures are those of datagrams: a new stream takes a round trip to open before it is used.
    let figure = |mode| figure.filter(|_| mode == Mode::Udp);
    let watched = std::time::Duration::from_millis(scenario.pace.watch_ms);
    Ok(trials.iter().map(|(mode, trials)| trials.row(subject(*mode), figure(*mode), watched)).collect())
}

/// Files of the run with the longest gap.
fn show(scenario: &Scenario, (r_ms, s_ms): (u32, u32), outcome: Outcome, out: &Path) -> Result<()> {
    let title = format!("{}, r {r_ms} ms, s {s_ms} ms: the run with the longest gap", scenario.name);
    let run = Run { title, seen: &outcome.seen, window: outcome.window, marks: outcome.marks };
    let name = format!("{}-{r_ms}-{s_ms}", scenario.name);
    std::fs::write(out.join(format!("{name}.csv")), timeline::csv(&run))?;
    std::fs::write(out.join(format!("{name}.svg")), timeline::svg(&run))?;
    Ok(())
}

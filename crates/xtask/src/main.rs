//! `cargo xtask lint`, `cargo xtask test`, `cargo xtask fuzz`, `cargo xtask bench NAME`, `cargo xtask grafana`.
//!
//! * `lint`: formatting, clippy and rustdoc, each with warnings denied.
//! * `test`: installs the system packages that tests need (with apt when root; else it prints the
//!   line to run and stops), builds the binaries, and runs every test with their folder in
//!   `NEARMOST_BIN_DIR`. With `--long` in their long form ([`LONG`]), and then a minute of fuzzing of each target.
//! * `fuzz`: runs the fuzz targets, each for a minute.
//! * `bench NAME ARGS…`: builds in release mode and runs one benchmark of `nearmost-bench`; for `dns` it
//!   installs the servers that are compared with, in the same way.
//! * `grafana`: writes dashboards, rules and their tests from `grafana/source`.

mod fuzz;
mod grafana;
mod packages;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::Command;

#[derive(Parser)]
#[command(about = "Lint, test and benchmark commands of the workspace")]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Formatting, clippy and rustdoc, with warnings denied.
    Lint,
    /// Installs what tests need, builds the binaries and runs all tests.
    Test {
        /// Everything longer: millions of DNS messages and packets, many more cases, a minute of fuzzing of each
        /// target. Takes hours.
        #[arg(long)]
        long: bool,
        /// Passed on to `cargo test`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Fuzzes the decoders.
    Fuzz {
        /// How long each, in seconds.
        #[arg(long, default_value_t = fuzz::A_MINUTE)]
        seconds: u64,
        /// Add to the corpus what reaches code that nothing in it does.
        #[arg(long)]
        keep: bool,
        /// Which targets; all, unless some are named.
        targets: Vec<String>,
    },
    /// Writes dashboards, rules and their tests from `grafana/source`.
    Grafana,
    /// Runs one benchmark in release mode.
    Bench {
        /// Its name and arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        args: Vec<String>,
    },
}

fn main() -> Result<()> {
    match Args::parse().task {
        Task::Lint => lint(),
        Task::Test { long: false, args } => test(&args),
        Task::Test { long: true, args } => test_long(&args),
        Task::Fuzz { seconds, keep, targets } => fuzz::fuzz(&targets, seconds, keep),
        Task::Bench { args } => bench(&args),
        Task::Grafana => grafana::write(&root().join("grafana")),
    }
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

fn root() -> PathBuf {
    // crates/xtask is two folders below the root.
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn run(command: &mut Command) -> Result<()> {
    // What commands print may be for a program to read.
    eprintln!("+ {command:?}");
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}

fn lint() -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    run(cargo()
        .args(["doc", "--workspace", "--no-deps", "--document-private-items"])
        .env("RUSTDOCFLAGS", "-D warnings"))
}

const END_TO_END: &str = "nearmost-tests";
const BINARIES: [&str; 4] = ["nearmost-broker", "nearmost-agent", "nearmost-cli", "nearmost-demo"];

/// The folder of what was built.
fn built(profile: &str) -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let dir = target.join(profile);
    dir.canonicalize().with_context(|| format!("no binaries in {}", dir.display()))
}

fn test(args: &[String]) -> Result<()> {
    packages::install(packages::TESTS)?;
    // All commands choose the whole workspace: with fewer packages dependencies would have fewer features,
    // and most of them would be compiled once more for each choice.
    run(cargo().args(["build", "--workspace", "--bins", "--tests"]))?;
    // One failure hides no other: every test runs, then the first failure is told.
    let unit =
        run(cargo().args(["test", "--no-fail-fast", "--workspace", "--exclude", END_TO_END]).args(args));
    let names = end_to_end_tests()?;
    if let Some(gone) = TIMED.iter().find(|timed| !names.iter().any(|name| name == *timed)) {
        bail!("there is no tests/tests/{gone}.rs any more; TIMED names it");
    }
    let (timed, patient): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|name| TIMED.contains(&name.as_str()));
    // Most of their time they wait for processes.
    let patient = end_to_end(&patient, "2", args);
    let timed = end_to_end(&timed, "1", args);
    unit.and(patient).and(timed)
}

/// What makes tests longer than usual, and what that is.
const LONG: [(&str, &str, &str); 4] = [
    ("NEARMOST_DNS", "long", "both paths of DNS are given 4 000 000 messages and say the same (crates/dns)"),
    ("NEARMOST_FLOOD", "long", "1 000 000 packets leave a broker serving and its memory flat (dns_flood)"),
    ("NEARMOST_SIM", "long", "each scenario of the simulations has twenty times as many seeds (tests/sim)"),
    ("PROPTEST_CASES", "4096", "properties that name no number of cases have 4096 instead of 256"),
];

/// All tests in their long form, and fuzzing after them.
fn test_long(args: &[String]) -> Result<()> {
    eprintln!("the long form:");
    let mut tests = cargo();
    for (name, value, what) in LONG {
        eprintln!("  {name}={value}: {what}");
        tests.env(name, value);
    }
    eprintln!("  then each fuzz target for {} s", fuzz::A_MINUTE);
    // This program again, which hands on what is in its environment.
    let tests = run(tests.args(["xtask", "test"]).args(args));
    let fuzzed = fuzz::fuzz(&[], fuzz::A_MINUTE, false);
    tests.and(fuzzed)
}

/// End-to-end tests that hold real processes to real time limits, or load the machine: they run one after the
/// other.
const TIMED: [&str; 12] = [
    "disk_full",
    "dns_flood",
    "dns_load",
    "dnssec_operators",
    "health_netns",
    "health_processes",
    "page",
    "peers_netns",
    "prometheus",
    "session_moves",
    "sidecar",
    "wan_lab",
];

fn end_to_end(names: &[String], at_once: &str, args: &[String]) -> Result<()> {
    let mut tests = cargo();
    tests.args(["test", "--no-fail-fast", "--workspace"]);
    for name in names {
        tests.args(["--test", name]);
    }
    run(tests.args(args).env("NEARMOST_BIN_DIR", built("debug")?).env("RUST_TEST_THREADS", at_once))
}

/// Names of the tests in `tests/tests`.
fn end_to_end_tests() -> Result<Vec<String>> {
    let dir = root().join("tests/tests");
    let read = || -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "rs") {
                names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
            }
        }
        names.sort();
        Ok(names)
    };
    read().with_context(|| format!("cannot list {}", dir.display()))
}

fn build_for_benchmarks() -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--release", "--bins"]);
    for package in BINARIES {
        build.args(["--package", package]);
    }
    run(&mut build)?;
    built("release")
}

fn bench(args: &[String]) -> Result<()> {
    if args.first().is_some_and(|name| name == "dns") {
        packages::install(packages::BENCH_DNS)?;
    }
    let binaries = build_for_benchmarks()?;
    let mut bench = cargo();
    bench.args(["run", "--release", "--package", "nearmost-bench", "--"]).args(args);
    run(bench.env("NEARMOST_BIN_DIR", binaries))
}

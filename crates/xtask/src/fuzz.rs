//! Fuzzing: builds the targets (`fuzz/`) with the instrumentation that libFuzzer needs, and runs each for a while.
//!
//! The toolchain is the one of the workspace: the instrumentation is a pass of LLVM's that any rustc has. There is
//! no sanitizer, which only a nightly one has: the targets count what is allocated themselves, and what they run
//! is safe Rust. libFuzzer itself is C++.

use crate::{cargo, packages, root, run};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// How long a target is fuzzed unless something else is said, in seconds.
pub const A_MINUTE: u64 = 60;
/// As cargo-fuzz passes them, without those of a sanitizer.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// What one input may take: seconds, and mebibytes of the process.
const LIMITS: [&str; 2] = ["-timeout=10", "-rss_limit_mb=2048"];
/// Longest input that is tried, in bytes, unless one that is kept is longer.
const LONGEST: u64 = 4096;

/// Fuzzes each of these targets, or all, for so many seconds. What is new stays in `fuzz/found/TARGET`, what
/// breaks a promise in `fuzz/artifacts`.
///
/// All are run whatever the others say, and all are told of.
///
/// # Errors
/// Targets whose promises are broken, or one that there is not.
pub fn fuzz(names: &[String], seconds: u64, merge: bool) -> Result<()> {
    packages::install(packages::FUZZ)?;
    let all = targets()?;
    if let Some(unknown) = names.iter().find(|name| !all.contains(name)) {
        bail!("there is no fuzz target {unknown:?}; there are {}", all.join(", "));
    }
    let chosen: Vec<&String> = all.iter().filter(|n| names.is_empty() || names.contains(n)).collect();
    eprintln!("fuzzing {} targets for {seconds} s each", chosen.len());
    let fuzzer = build()?;
    let (mut told, mut broken) = (Vec::new(), Vec::new());
    for name in chosen {
        let ran = one(&fuzzer, name, seconds)?;
        let kept = if merge { keep(&fuzzer, name) } else { Ok(()) };
        if !ran.whole || kept.is_err() {
            broken.push(name.as_str());
        }
        told.push(ran.told);
        told.extend(kept.err().map(|e| format!("{name:14} what was found is not kept: {e:#}")));
    }
    eprintln!("{}", told.join("\n"));
    if !broken.is_empty() {
        bail!("{}: a promise is broken; inputs and logs are in fuzz/artifacts", broken.join(", "));
    }
    Ok(())
}

/// What one target's run came to.
struct Ran {
    /// Whether every promise held.
    whole: bool,
    /// A line about it.
    told: String,
}

/// Names of the targets: the corpus has a folder of each, which a test checks.
fn targets() -> Result<Vec<String>> {
    let corpus = root().join("fuzz/corpus");
    let read = || -> std::io::Result<Vec<String>> {
        let names = std::fs::read_dir(&corpus)?;
        let mut names: Vec<String> = names
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<std::io::Result<_>>()?;
        names.sort();
        Ok(names)
    };
    read().with_context(|| format!("cannot list {}", corpus.display()))
}

/// The fuzzer's binary.
fn build() -> Result<PathBuf> {
    let host = host()?;
    // With a target named, build scripts and macros are built without the instrumentation.
    let folder = root().join("target/fuzz");
    let mut build = cargo();
    build.args(["build", "--profile", "fuzz", "--package", "nearmost-fuzz", "--features", "libfuzzer"]);
    build.args(["--bin", "fuzz", "--target", &host, "--target-dir"]).arg(&folder);
    run(build.env("RUSTFLAGS", FLAGS))?;
    let binary = folder.join(host).join("fuzz/fuzz");
    binary.canonicalize().with_context(|| format!("no fuzzer at {}", binary.display()))
}

/// The triple of the machine that this runs on.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}

/// Where what fuzzing found of a target stays on this machine, beside the corpus that is kept for all.
fn found(name: &str) -> Result<PathBuf> {
    folder(root().join("fuzz/found").join(name))
}

fn folder(path: PathBuf) -> Result<PathBuf> {
    std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

fn corpus(name: &str) -> PathBuf {
    root().join("fuzz/corpus").join(name)
}

fn fuzzer(binary: &Path, name: &str) -> Command {
    let mut fuzzer = Command::new(binary);
    fuzzer.env("NEARMOST_FUZZ", name).args(LIMITS);
    fuzzer
}

/// Runs one target.
fn one(binary: &Path, name: &str, seconds: u64) -> Result<Ran> {
    let (found, artifacts) = (found(name)?, folder(root().join("fuzz/artifacts"))?);
    let log = artifacts.join(format!("{name}.log"));
    let file = std::fs::File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
    eprintln!("+ {name}, {seconds} s; {}", log.display());
    let mut fuzzer = fuzzer(binary, name);
    fuzzer.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={}", longest(&corpus(name))?));
    fuzzer.arg("-print_final_stats=1").arg(format!("-artifact_prefix={}/{name}-", artifacts.display()));
    let status = fuzzer.arg(&found).arg(corpus(name)).stderr(file).status();
    let status = status.with_context(|| format!("cannot start {}", binary.display()))?;
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    if !status.success() {
        let end: Vec<&str> = said.lines().rev().take(40).collect();
        eprintln!("{}", end.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
    let broken = if status.success() { "" } else { ": BROKEN" };
    Ok(Ran { whole: status.success(), told: summary(name, &said) + broken })
}

/// Executions and coverage, from what libFuzzer wrote.
fn summary(name: &str, said: &str) -> String {
    let number = |line: &str, word: &str| {
        line.split(word).nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or("?").to_owned()
    };
    let last = said.lines().rev().find(|line| line.contains(" cov: ")).unwrap_or_default();
    let executed = said.lines().find(|line| line.contains("number_of_executed_units:")).unwrap_or_default();
    format!(
        "{name:14} {:>10} executions, {:>6} edges covered, {:>6} features",
        number(executed, "units:"),
        number(last, " cov: "),
        number(last, " ft: ")
    )
}

/// The longest input to try, in bytes.
fn longest(corpus: &Path) -> Result<u64> {
    let mut longest = LONGEST;
    for entry in std::fs::read_dir(corpus).with_context(|| format!("cannot list {}", corpus.display()))? {
        longest = longest.max(entry?.metadata()?.len());
    }
    Ok(longest)
}

/// Adds to the corpus what of the inputs that were found reaches code that none there does.
fn keep(binary: &Path, name: &str) -> Result<()> {
    let mut fuzzer = fuzzer(binary, name);
    let log = root().join("fuzz/artifacts").join(format!("{name}.merge.log"));
    let file = std::fs::File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
    // Edges and not features, and short inputs only: the corpus is to stay small.
    fuzzer.args(["-merge=1", "-use_counters=0", "-use_value_profile=0", "-max_len=512"]);
    run(fuzzer.arg(corpus(name)).arg(found(name)?).stderr(file))
}

//! A dozen cells of the WAN lab: what users feel when mirrors, brokers and ways to them fail. The lab's
//! long form has all scenarios at all round trips and many more trials.

use serde_json::Value;
use std::time::Duration;
use tokio::process::Command;

/// A machine that does other things besides may be so much slower than the figure.
const SLACK_MS: f64 = 300.0;
/// The longest that one lab may take.
const LAB: Duration = Duration::from_secs(280);
/// Mutual lateness of the router beyond which the machine measures nothing.
const LATE_MS: f64 = 100.0;

/// Runs scenarios at a pair of round trips; the rows that the lab prints.
async fn lab(scenarios: &[&str], cell: &str, trials: &str) -> Vec<Value> {
    let out = nearmost_tests::process::directory();
    let run = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(scenarios)
        .args(["--json", "--cell", cell, "--trials", trials, "--users", "3", "--out"])
        .arg(out.path())
        .kill_on_drop(true)
        .output();
    let run = tokio::time::timeout(LAB, run).await.expect("the lab ends in time").expect("run the lab");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}");
    let rows: Vec<Value> = serde_json::from_slice(&run.stdout).expect("JSON");
    println!("{said}");
    for row in &rows {
        println!("{row}");
    }
    for scenario in scenarios {
        let picture = out.path().join(format!("{scenario}-{}.svg", cell.replace(',', "-")));
        assert!(picture.is_file(), "{}", picture.display());
    }
    rows
}

fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("{key} of {row}"))
}

/// What holds whatever fails: every byte is right, and nothing is bought twice or lost after it was
/// confirmed.
fn is_correct(row: &Value) {
    for key in ["corrupt", "twice_in_ledger", "not_in_ledger"] {
        assert_eq!(number(row, key), 0.0, "{key}: {row}");
    }
    assert!(number(row, "trials") > 0.0, "nothing was measured: {row}");
    assert!(number(row, "late_p99_ms") < LATE_MS, "too busy a machine: {row}");
}

/// The gap is within the figure, where the scenario has one.
fn keeps_its_figure(row: &Value) {
    is_correct(row);
    if let Some(figure) = row["figure_ms"].as_f64() {
        let p99 = row["gap_ms"]["p99"].as_f64().expect("a gap");
        assert!(p99 <= figure + SLACK_MS, "a gap of {p99} ms, {figure} ms is the figure: {row}");
    }
}

fn of<'a>(rows: &'a [Value], scenario: &str, mode: &str) -> &'a Value {
    let wanted = |row: &&Value| row["scenario"] == scenario && row["mode"] == mode;
    rows.iter().find(wanted).unwrap_or_else(|| panic!("no row of {scenario}, {mode}"))
}

#[tokio::test]
async fn users_of_a_mirror_that_dies_go_on_at_another() {
    let scenarios = ["drain", "agent-crash", "kill", "blackhole", "mute", "deaf"];
    let rows = lab(&scenarios, "10,40", "2").await;
    rows.iter().for_each(keeps_its_figure);
    // The links are as long as the scenario says.
    for scenario in scenarios {
        let rtt = number(of(&rows, scenario, "udp"), "rtt_p50_ms");
        assert!((10.0..25.0).contains(&rtt), "{scenario}: a round trip of {rtt} ms");
    }
    // Who leaves in order loses nothing, and is left in doubt about nothing.
    for mode in ["udp", "tcp", "http"] {
        let row = of(&rows, "drain", mode);
        assert_eq!((number(row, "lost"), number(row, "unsure")), (0.0, 0.0), "{row}");
    }
}

#[tokio::test]
async fn figures_hold_across_an_ocean() {
    let rows = lab(&["kill", "blackhole"], "40,150", "2").await;
    rows.iter().for_each(keeps_its_figure);
}

#[tokio::test]
async fn users_outlive_brokers_regions_and_changes_of_their_own_network() {
    let scenarios = ["broker-and-mirror", "region", "rebind", "mtu-1280"];
    let rows = lab(&scenarios, "10,40", "2").await;
    rows.iter().for_each(keeps_its_figure);
}

#[tokio::test]
async fn a_scenario_that_makes_no_sense_is_refused_by_name() {
    let dir = nearmost_tests::process::directory();
    let file = dir.path().join("wrong.toml");
    std::fs::write(&file, "version = 1\nname = \"x\"\ntrails = 3\n").expect("write");
    let run = Command::new(env!("CARGO_BIN_EXE_lab")).arg(&file).output().await.expect("run the lab");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && said.contains("trails") && said.contains("wrong.toml"), "{said}");
    // Those that come with the lab make sense.
    let run = Command::new(env!("CARGO_BIN_EXE_lab")).arg("--list").output().await.expect("run the lab");
    let listed = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && listed.lines().any(|line| line.starts_with("kill ")), "{listed}");
    let run = Command::new(env!("CARGO_BIN_EXE_lab")).arg("kil").output().await.expect("run the lab");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success() && said.contains("\"kil\"") && said.contains("--list"), "{said}");
}

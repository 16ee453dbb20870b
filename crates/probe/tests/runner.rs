//! The runner: independence, no overlap, triggers, changes, stopping.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in helpers too")]

mod common;

use common::*;
use nearmost_core::check::{CheckKind, CheckSpec};
use nearmost_probe::{CheckRunner, CheckStatus, NamedCheck};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_secs(3600);
const QUICK: Duration = Duration::from_millis(10);

fn runner(stop: &CancellationToken) -> CheckRunner {
    CheckRunner::new(Arc::new(prober()), 7, stop)
}

fn named(name: &str, target: SocketAddr, kind: CheckKind, interval: Duration) -> NamedCheck {
    let spec = CheckSpec { kind, interval, timeout: HOUR, rise: 2, fall: 2 };
    NamedCheck { name: name.into(), target, spec }
}

fn sh(name: &str, script: String, interval: Duration) -> NamedCheck {
    let argv = vec!["sh".into(), "-c".into(), script];
    named(
        name,
        SocketAddr::from(([0, 0, 0, 0], 0)),
        CheckKind::Command { argv, max_output: 1 << 20 },
        interval,
    )
}

async fn until(
    watch: &mut watch::Receiver<CheckStatus>,
    wanted: impl Fn(&CheckStatus) -> bool,
) -> CheckStatus {
    let found = tokio::time::timeout(LONG, watch.wait_for(|s| wanted(s))).await;
    found.expect("in time").expect("the check runs").clone()
}

#[tokio::test]
async fn a_slow_check_delays_no_other() {
    let stop = CancellationToken::new();
    let mut runner = runner(&stop);
    let silent = silent().await;
    let slow = named("slow", silent, CheckKind::Http(http()), QUICK);
    runner.set(vec![slow, named("fast", silent, CheckKind::Tcp, QUICK)]);
    let mut fast = runner.watch("fast").expect("runs");
    until(&mut fast, |s| s.consecutive >= 20).await;
    let statuses = runner.statuses();
    assert_eq!((statuses[0].name.as_str(), statuses[0].good), ("fast", Some(true)));
    assert_eq!((statuses[1].name.as_str(), &statuses[1].last), ("slow", &None));
    runner.shutdown().await;
}

#[tokio::test]
async fn a_check_never_overlaps_itself() {
    let dir = tempfile::tempdir().expect("a folder");
    let lock = dir.path().join("lock");
    let stop = CancellationToken::new();
    let mut runner = runner(&stop);
    let script = format!("mkdir {0} || exit 1; sleep 0.05; rmdir {0}", lock.display());
    runner.set(vec![sh("alone", script, QUICK)]);
    let mut watch = runner.watch("alone").expect("runs");
    let status = until(&mut watch, |s| s.consecutive >= 5 || s.good == Some(false)).await;
    assert_eq!(status.good, Some(true), "{status:?}");
    runner.shutdown().await;
}

#[tokio::test]
async fn rise_and_fall_decide_and_changes_wake() {
    let stop = CancellationToken::new();
    let mut runner = runner(&stop);
    let dir = tempfile::tempdir().expect("a folder");
    let flag = dir.path().join("up");
    std::fs::write(&flag, "").expect("written");
    runner.set(vec![sh("web", format!("test -e {}", flag.display()), HOUR)]);
    let mut watch = runner.watch("web").expect("runs");
    let mut changes = runner.changes();
    let up = until(&mut watch, |s| s.good == Some(true)).await;
    std::fs::remove_file(&flag).expect("removed");
    changes.mark_unchanged();
    assert!(runner.run_now("web"));
    let first = until(&mut watch, |s| s.last.as_ref().is_some_and(|o| !o.passed())).await;
    assert_eq!((first.good, first.consecutive, first.since), (Some(true), 1, up.since));
    assert!(!changes.has_changed().expect("the runner lives"));
    assert!(runner.run_now("web"));
    let second = until(&mut watch, |s| s.good == Some(false)).await;
    assert!(second.consecutive == 2 && second.since > up.since);
    tokio::time::timeout(LONG, changes.changed()).await.expect("in time").expect("a change");
    assert!(!runner.run_now("nothing"));
    runner.shutdown().await;
}

#[tokio::test]
async fn setting_checks_keeps_the_unchanged_and_stops_the_rest() {
    let stop = CancellationToken::new();
    let mut runner = runner(&stop);
    let addr = silent().await;
    let check = |name, interval| named(name, addr, CheckKind::Tcp, interval);
    runner.set(vec![check("a", HOUR), check("b", HOUR), check("c", HOUR)]);
    for name in ["a", "b", "c"] {
        until(&mut runner.watch(name).expect("runs"), |s| s.good.is_some()).await;
    }
    let mut gone = runner.watch("c").expect("runs");
    let kept = runner.watch("a").expect("runs").borrow().since;
    runner.set(vec![check("a", HOUR), check("b", HOUR / 2)]);
    // The stopped check's task lets go of its channel.
    let ended = tokio::time::timeout(LONG, async { while gone.changed().await.is_ok() {} }).await;
    ended.expect("stopped");
    let statuses = runner.statuses();
    assert_eq!(statuses.len(), 2);
    assert_eq!((statuses[0].good, statuses[0].since), (Some(true), kept));
    until(&mut runner.watch("b").expect("runs"), |s| s.consecutive == 1).await;
    runner.shutdown().await;
}

#[tokio::test]
async fn cancelling_shutting_down_and_dropping_all_stop_every_check() {
    for how in 0..3 {
        let stop = CancellationToken::new();
        let mut runner = runner(&stop);
        let slow = sh("slow", "sleep 1000".into(), HOUR);
        runner.set(vec![slow, named("quick", silent().await, CheckKind::Tcp, QUICK)]);
        until(&mut runner.watch("quick").expect("runs"), |s| s.consecutive >= 3).await;
        let mut watch = runner.watch("slow").expect("runs");
        match how {
            0 => stop.cancel(),
            1 => tokio::time::timeout(LONG, runner.shutdown()).await.expect("ends"),
            _ => drop(runner),
        }
        let ended = tokio::time::timeout(LONG, async { while watch.changed().await.is_ok() {} }).await;
        ended.expect("stopped");
    }
}

#[tokio::test]
async fn more_commands_than_slots_wait_their_turn() {
    let stop = CancellationToken::new();
    let mut runner = runner(&stop);
    let checks = (0..12).map(|i| sh(&format!("c{i}"), "sleep 0.02".into(), HOUR)).collect();
    runner.set(checks);
    for i in 0..12 {
        let mut watch = runner.watch(&format!("c{i}")).expect("runs");
        assert_eq!(until(&mut watch, |s| s.good.is_some()).await.good, Some(true));
    }
    runner.shutdown().await;
}

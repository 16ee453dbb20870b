//! What an agent reports of a service's process.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in helpers too")]

mod fake;

use fake::*;
use nearmost_agent::{Agent, AgentStatus, Shutdown};
use nearmost_config::{AgentConfig, LocalService, ProcessSource, Service, ServiceCheck};
use nearmost_core::check::{CheckKind, CheckSpec};
use nearmost_wire::agent::{Report, ServiceReport};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

async fn run(config: AgentConfig) -> watch::Receiver<AgentStatus> {
    let agent = Agent::bind(config, node_key()).await.expect("an agent");
    let status = agent.status();
    tokio::spawn(async move {
        let (_reload, reloads) = mpsc::channel(1);
        agent.run(Shutdown::default(), reloads).await;
    });
    status
}

/// A service with a pid file, and a check that passes while another file is there.
fn watched(dir: &Path, interval: Duration) -> (Service, PathBuf, PathBuf) {
    let (pid, up) = (dir.join("x.pid"), dir.join("up"));
    std::fs::write(&up, "").expect("written");
    let argv = ["test", "-e", &up.to_string_lossy()].map(str::to_string).to_vec();
    let spec = CheckSpec {
        kind: CheckKind::Command { argv, max_output: 65_536 },
        interval,
        timeout: LONG,
        rise: 1,
        fall: 1,
    };
    let address = (Ipv4Addr::LOCALHOST, 80).into();
    let checks = vec![ServiceCheck { name: "flag".into(), address, spec }];
    let process = Some(ProcessSource::PidFile(pid.clone()));
    let local = LocalService { process, ..LocalService::default() };
    (Service { checks, local, ..service("lon", 80) }, pid, up)
}

fn begin(file: &Path) -> Child {
    let child = Command::new("sleep").arg("1000").kill_on_drop(true).spawn().expect("sleep");
    std::fs::write(file, child.id().expect("its number").to_string()).expect("written");
    child
}

fn only(report: &Report) -> &ServiceReport {
    &report.services[0]
}

async fn until(status: &mut watch::Receiver<AgentStatus>, state: &str) {
    let there = status.wait_for(|s| s.processes.iter().any(|p| p.state == state));
    tokio::time::timeout(LONG, there).await.expect("in time").expect("the agent runs");
}

#[tokio::test]
async fn the_end_of_a_process_is_reported_at_once_and_its_successor_once_checks_passed() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    let (service, file, _) = watched(dir.path(), LONG * 100);
    let mut child = begin(&file);
    let pid = child.id().expect("its number");
    let mut status = run(config(vec![broker.config()], vec![service])).await;
    let first = broker.report(|r| !r.services.is_empty()).await;
    assert!(only(&first).healthy && !only(&first).stopped);
    until(&mut status, "running").await;
    let clock = nearmost_agent::clock::Clock::start();
    child.start_kill().expect("killed");
    let ended = broker.report(|r| only(r).stopped).await;
    let took = clock.now().since(Default::default());
    assert!(took < Duration::from_millis(500), "the end came after {took:?}");
    assert!(!only(&ended).healthy);
    assert_eq!(only(&ended).problem.as_deref(), Some(format!("process {pid} ended").as_str()));
    child.wait().await.expect("reaped");
    // The check's next time is far away: it is run because there is a new process.
    let _second = begin(&file);
    let back = broker.report(|r| !only(r).stopped).await;
    assert!(only(&back).healthy && only(&back).problem.is_none(), "{back:?}");
}

#[tokio::test]
async fn a_new_process_counts_once_the_checks_have_passed_since() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    let (service, file, up) = watched(dir.path(), Duration::from_millis(20));
    let child = begin(&file);
    let mut config = config(vec![broker.config()], vec![service]);
    config.report_interval = Duration::from_millis(20);
    let mut status = run(config).await;
    until(&mut status, "running").await;
    std::fs::remove_file(&up).expect("removed");
    drop(child);
    until(&mut status, "ended").await;
    let second = begin(&file);
    let pid = second.id().expect("its number");
    let proving = format!("process {pid} runs; the checks have not passed since");
    for _ in 0..5 {
        let report = broker.report(|r| only(r).problem.as_ref() == Some(&proving)).await;
        assert!(only(&report).stopped && !only(&report).healthy);
    }
    std::fs::write(&up, "").expect("written");
    broker.report(|r| !only(r).stopped && only(r).healthy).await;
}

#[tokio::test]
async fn a_process_that_was_never_found_stops_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    let (service, _, _) = watched(dir.path(), LONG);
    let mut config = config(vec![broker.config()], vec![service]);
    config.report_interval = Duration::from_millis(20);
    run(config).await;
    let report = broker.report(|r| r.services.iter().any(|s| s.problem.is_some())).await;
    assert!(only(&report).healthy && !only(&report).stopped);
    let problem = only(&report).problem.as_deref().expect("named");
    assert!(problem.starts_with("process not found: pid file ") && problem.contains("x.pid"), "{problem}");
}

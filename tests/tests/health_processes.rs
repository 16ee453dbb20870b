//! What is said of mirrors whose processes end, are stopped, or run out of disk, while their hosts and
//! links are well.

use nearmost_tests::Stopwatch;
use nearmost_tests::netns::{Lab, Setup, Signal, signal};
use std::path::PathBuf;
use std::time::Duration;

const PAGE: &str = env!("CARGO_BIN_EXE_serve-page");
/// From an agent's end until its mirror is unattended: two beacons, and a probe that passes.
const UNATTENDED: Duration = Duration::from_millis(1_500);
/// From a process's end until its mirror is down, where the agent watches it.
const ENDED: Duration = Duration::from_millis(500);
/// The same by checks: two of them, 200 ms apart, of which the last may hang for 300 ms; and some time
/// for a busy machine.
const CHECKED: Duration = Duration::from_millis(1_200);

/// Agents are killed and stopped: their mirrors stay in service.
#[tokio::test]
async fn a_mirror_whose_agent_is_gone_or_hangs_is_unattended_and_never_down() {
    let mut lab = Lab::start(PAGE, 4, "").await;
    for (host, how) in [(1, Signal::Kill), (2, Signal::Stop)] {
        let (name, address) = (lab.node(host).name.clone(), lab.node(host).address());
        let from = lab.journal.now();
        signal(&lab.node(host).agent, how);
        let (event, took) = lab.journal.until(from, &name, "unattended").await;
        println!("agent, {how:?}: unattended after {took:?}");
        assert_eq!(event.reason, "silent_but_answering", "{}", lab.journal.told(from));
        assert!(took <= UNATTENDED, "it took {took:?}:\n{}", lab.journal.told(from));
        assert_eq!(lab.dns(host).await, [address]);
        // Long enough for a session that is silent to time out, and for some probes.
        lab.journal.nobody_down_for(Duration::from_secs(6), |_| true).await;
        assert_eq!(lab.dns(host).await, [address]);
        lab.journal.never(from, &name, "down");

        let back = lab.journal.now();
        match how {
            Signal::Stop => signal(&lab.node(host).agent, Signal::Continue),
            _ => lab.restart_agent(host).await,
        }
        let (_, took) = lab.journal.until(back, &name, "up").await;
        println!("agent back: up after {took:?}");
    }
}

/// An agent that was stopped for longer than its checks may take finds them late when it goes on, which
/// says nothing of the service.
#[tokio::test]
async fn an_agent_that_goes_on_after_a_stop_blames_no_service() {
    let mut lab = Lab::start(PAGE, 2, "").await;
    for _ in 0..5 {
        let from = lab.journal.now();
        signal(&lab.node(1).agent, Signal::Stop);
        lab.journal.until(from, "m1", "unattended").await;
        lab.journal.nobody_down_for(Duration::from_secs(6), |_| true).await;
        signal(&lab.node(1).agent, Signal::Continue);
        lab.journal.nobody_down_for(Duration::from_secs(1), |_| true).await;
        lab.broker.until("m1", "up").await;
    }
}

/// Services are killed and stopped, with and without their process being watched.
#[tokio::test]
async fn a_service_that_ends_or_stops_is_down_at_once_by_its_agents_word() {
    let watching = |host| Setup { watches_process: host <= 2, ..Setup::default() };
    let mut lab = Lab::start_with(PAGE, 4, "", watching).await;
    // A stopped process is looked for each 500 ms: checks may be first.
    let cases: [(u8, Signal, &[&str], Duration); 4] = [
        (1, Signal::Kill, &["process_ended"], ENDED),
        (2, Signal::Stop, &["process_ended", "service_failing"], CHECKED),
        (3, Signal::Kill, &["service_failing"], CHECKED),
        (4, Signal::Stop, &["service_failing"], CHECKED),
    ];
    for (host, how, reasons, limit) in cases {
        let (name, address) = (lab.node(host).name.clone(), lab.node(host).address());
        assert_eq!(lab.dns(host).await, [address]);
        let from = lab.journal.now();
        signal(&lab.node(host).service, how);
        let (event, took) = lab.journal.until(from, &name, "down").await;
        println!("service, {how:?}: down, {}, after {took:?}", event.reason);
        assert!(reasons.contains(&event.reason.as_str()) && event.vantage == "agent", "{event:?}");
        assert!(took <= limit, "it took {took:?}:\n{}", lab.journal.told(from));
        assert!(!lab.dns(host).await.contains(&address), "DNS still answers it");

        let back = lab.journal.now();
        match how {
            Signal::Stop => signal(&lab.node(host).service, Signal::Continue),
            _ => lab.restart_service(host).await,
        }
        let (_, took) = lab.journal.until(back, &name, "up").await;
        println!("service back: up after {took:?}");
        assert_eq!(lab.dns(host).await, [address]);
    }
}

/// The agent's data directory and log share a disk that is full.
#[tokio::test]
async fn an_agent_whose_disk_is_full_goes_on() {
    let mut lab = Lab::start_with(PAGE, 1, "", |_| Setup { small_disk: true, ..Setup::default() }).await;
    let from = lab.journal.now();
    let pid = lab.node(1).agent.id().expect("it runs");
    let disk = lab.node(1).dir.join("data");
    fill(&PathBuf::from(format!("/proc/{pid}/root{}", disk.display())));
    // Longer than the period of reports.
    let watch = Stopwatch::start();
    lab.journal.nobody_down_for(Duration::from_secs(7), |_| true).await;
    assert!(lab.journal.since(from).is_empty(), "{}", lab.journal.told(from));
    assert_eq!(lab.verdict("m1").await.state, "up", "after {:?}", watch.elapsed());

    // It still reports what changes.
    signal(&lab.node(1).service, Signal::Stop);
    let (event, took) = lab.journal.until(from, "m1", "down").await;
    println!("on a full disk: down, {}, after {:?}", event.reason, took - Duration::from_secs(7));
    assert_eq!(event.reason, "service_failing");
    signal(&lab.node(1).service, Signal::Continue);
    lab.broker.until("m1", "up").await;
}

/// Writes until nothing more fits into a folder's file system.
fn fill(dir: &std::path::Path) {
    let mut file = std::fs::File::create(dir.join("filler")).expect("a file on the small disk");
    let error = loop {
        if let Err(e) = std::io::Write::write_all(&mut file, &[0; 512]) {
            break e;
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
}

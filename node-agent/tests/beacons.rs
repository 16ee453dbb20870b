//! Beacons come from the loop that serves: when it hangs they cease, and nothing else stops them.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in helpers too")]

mod fake;

use fake::*;
use nearmost_agent::{Agent, Shutdown};
use nearmost_config::AgentConfig;
use nearmost_core::id::NodeId;
use nearmost_wire::agent::{BeaconGrant, ToAgent};
use nearmost_wire::beacon::SiteKey;
use std::io::Write;
use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// Many periods of beacons.
const SILENCE: Duration = Duration::from_millis(400);
/// What the loop logs when it took a new configuration.
const RELOADED: &str = "the new configuration is in use";

fn run(config: AgentConfig) -> mpsc::Sender<AgentConfig> {
    let (reload, reloads) = mpsc::channel(1);
    tokio::spawn(async move {
        let agent = Agent::bind(config, node_key()).await.expect("an agent");
        agent.run(Shutdown::default(), reloads).await;
    });
    reload
}

/// Whether no beacon comes for a while.
async fn silent(broker: &FakeBroker, node: NodeId) -> bool {
    tokio::time::timeout(SILENCE, broker.beacon(node)).await.is_err()
}

/// A log that holds up whoever logs a reload, until it is let go.
#[derive(Clone)]
struct Gate(Arc<Mutex<blocking::Receiver<()>>>);

impl Write for Gate {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        if String::from_utf8_lossy(line).contains(RELOADED) {
            let _ = self.0.lock().expect("no panic").recv();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_agent_whose_loop_hangs_falls_silent_though_all_else_goes_on() {
    let (release, held) = blocking::channel();
    let gate = Gate(Arc::new(Mutex::new(held)));
    let log = tracing_subscriber::fmt().with_writer(move || gate.clone()).finish();
    tracing::subscriber::set_global_default(log).expect("the only log of this binary");
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    let mut config = config(vec![broker.config()], vec![service("lon", 80)]);
    let reload = run(config.clone());
    let (node, _) = broker.hello().await;
    broker.beacon(node).await;
    config.report_interval = Duration::from_secs(7);
    reload.send(config).await.expect("the agent runs");
    while !silent(&broker, node).await {}
    // The session's own task lives: the connection stands, though it is idle for long.
    while let Ok(seen) = tokio::time::timeout(SILENCE, broker.next()).await {
        assert!(!matches!(seen, Seen::Gone), "{seen:?}");
    }
    let last = {
        release.send(()).expect("somebody waits");
        broker.beacon(node).await
    };
    // What was missed is not made up for: the numbers go on, one a period.
    let next = broker.beacon(node).await;
    assert_eq!(next.seq, last.seq + 1);
    assert!(next.sent_us > last.sent_us);
}

#[tokio::test]
async fn a_new_period_counts_at_once_whether_longer_or_shorter() {
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    let mut config = config(vec![broker.config()], vec![service("lon", 80)]);
    // The broker speaks when it is spoken to.
    config.report_interval = Duration::from_millis(20);
    let _reload = run(config);
    let (node, _) = broker.hello().await;
    broker.beacon(node).await;
    let port = broker.beacon_port();
    let grant = |period_ms| {
        let secret = SiteKey::new(&[9; 32]).beacon_secret(&node, 3);
        ToAgent::Beacon(BeaconGrant { secret, port, period_ms })
    };
    for (period_ms, slow) in [(60_000, true), (20, false), (60_000, true), (30, false)] {
        broker.report(|_| true).await;
        broker.orders.send(grant(period_ms)).expect("a session");
        if slow {
            while !silent(&broker, node).await {}
            // Not the session fell silent.
            broker.report(|_| true).await;
        } else {
            // Of the minute before hardly anything is over.
            let first = broker.beacon(node).await;
            let second = broker.beacon(node).await;
            assert_eq!(second.seq, first.seq + 1);
        }
    }
}

#[tokio::test]
async fn neither_a_full_disk_nor_a_lost_folder_stops_beacons_or_reports() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = dir.path().join("data");
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    std::fs::create_dir(&data).expect("a folder");
    node_key().save_new(&data.join("node.key")).expect("written");
    let config = dir.path().join("node-agent.toml");
    let text = format!(
        "data_dir = {:?}\nlog.level = \"debug\"\nmetrics.listen = \"\"\nreports.interval_ms = 20\n\
         [[brokers]]\nid = \"{}\"\naddresses = [\"{}\"]\n\
         [[services]]\ndomain = \"play.example\"\nport = 80\nmirror = \"lon\"\nchecks = []\n",
        data, broker.id, broker.addr
    );
    std::fs::write(&config, text).expect("written");
    // Every line of the log is refused for want of space.
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("a full disk");
    let mut child = agent()
        .arg("run")
        .arg("--config")
        .arg(&config)
        .stderr(full)
        .kill_on_drop(true)
        .spawn()
        .expect("runs");
    let (node, _) = broker.hello().await;
    std::fs::remove_dir_all(&data).expect("removed");
    let first = broker.beacon(node).await;
    for _ in 0..10 {
        broker.report(|r| r.services.iter().any(|s| s.healthy)).await;
        broker.beacon(node).await;
    }
    assert!(broker.beacon(node).await.seq > first.seq);
    assert!(child.try_wait().expect("it can be asked").is_none(), "it ended");
}

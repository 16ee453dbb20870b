//! An agent with a broker that speaks the real protocol.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in helpers too")]

mod fake;

use fake::*;
use nearmost_agent::clock::Clock;
use nearmost_agent::{Agent, AgentError, AgentStatus, SessionState, Shutdown};
use nearmost_config::{AgentConfig, ServiceCheck};
use nearmost_core::check::{CheckKind, CheckSpec, HttpCheck, HttpVersion};
use nearmost_wire::agent::{Refusal, ToAgent};
use nearmost_wire::beacon::FLAG_DRAINING;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// A running agent.
struct Run {
    status: watch::Receiver<AgentStatus>,
    metrics: Option<SocketAddr>,
    shutdown: Shutdown,
    reload: mpsc::Sender<AgentConfig>,
    task: JoinHandle<()>,
}

impl Run {
    async fn start(config: AgentConfig) -> Run {
        let agent = Agent::bind(config, node_key()).await.expect("an agent");
        let (reload, reloads) = mpsc::channel(1);
        let shutdown = Shutdown::default();
        let (status, metrics) = (agent.status(), agent.metrics_addr());
        let task = tokio::spawn(agent.run(shutdown.clone(), reloads));
        Run { status, metrics, shutdown, reload, task }
    }

    async fn until(&mut self, wanted: impl Fn(&AgentStatus) -> bool) -> AgentStatus {
        let found = tokio::time::timeout(LONG, self.status.wait_for(|s| wanted(s))).await;
        found.expect("in time").expect("the agent runs").clone()
    }

    /// Waits for an error of the broker at `index` that holds all of `parts`.
    async fn error(&mut self, index: usize, parts: &[&str]) {
        let status = self.until(|s| s.brokers[index].error.is_some()).await;
        let error = status.brokers[index].error.as_deref().unwrap_or_default();
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
    }

    async fn ends(self) {
        tokio::time::timeout(LONG, self.task).await.expect("in time").expect("no panic");
    }
}

#[tokio::test]
async fn an_agent_attaches_declares_reports_and_beacons() {
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    let mut run = Run::start(config(vec![broker.config()], vec![service("lon", 8080)])).await;
    let (node, hello) = broker.hello().await;
    assert_eq!(node.0, node_key().id().key);
    assert_eq!((hello.services[0].mirror.as_str(), hello.services[0].port), ("lon", 8080));
    let report = broker.report(|r| !r.services.is_empty()).await;
    assert!(report.services[0].healthy && report.services[0].ready && !report.draining);
    assert_eq!(report.services[0].capacity, 7);
    for seq in 0..5 {
        let beacon = broker.beacon(node).await;
        assert_eq!((beacon.seq, beacon.boot, beacon.flags), (seq, hello.boot, 0));
    }
    let status = run.until(|s| s.attached() == 1).await;
    assert_eq!(status.brokers[0].observed, Some(Ipv4Addr::LOCALHOST.into()));
    assert_eq!(status.brokers[0].warnings, ["a warning"]);
}

#[tokio::test]
async fn a_failing_check_is_reported_at_once() {
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    let dir = tempfile::tempdir().expect("a folder");
    let flag = dir.path().join("up");
    std::fs::write(&flag, "").expect("written");
    let argv = ["test", "-e", &flag.to_string_lossy()].map(str::to_string).to_vec();
    let spec = CheckSpec {
        kind: CheckKind::Command { argv, max_output: 1000 },
        interval: Duration::from_millis(20),
        timeout: LONG,
        rise: 1,
        fall: 2,
    };
    let mut checked = service("lon", 80);
    let address = (Ipv4Addr::LOCALHOST, 80).into();
    checked.checks.push(ServiceCheck { name: "flag".into(), address, spec });
    let _run = Run::start(config(vec![broker.config()], vec![checked])).await;
    let report = broker.report(|r| !r.services.is_empty()).await;
    assert!(report.services[0].healthy);
    std::fs::remove_file(&flag).expect("removed");
    // The interval of reports is an hour: only the change can bring this one.
    let report = broker.report(|r| r.services.iter().any(|s| !s.healthy)).await;
    let problem = report.services[0].problem.as_deref().expect("named");
    assert!(problem.starts_with("flag: ") && problem.contains("exit status 1"), "{problem}");
    std::fs::write(&flag, "").expect("written");
    broker.report(|r| r.services.iter().all(|s| s.healthy)).await;
}

#[tokio::test]
async fn the_first_report_waits_for_the_first_results() {
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    // Accepts by its backlog and never answers: this check takes its whole timeout.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = silent.local_addr().expect("its address");
    let http = HttpCheck {
        version: HttpVersion::Http1,
        tls: None,
        path: "/".into(),
        host: None,
        status: (200, 299),
        body_contains: None,
    };
    let timeout = Duration::from_millis(300);
    let spec = CheckSpec { kind: CheckKind::Http(http), interval: LONG, timeout, rise: 1, fall: 1 };
    let mut slow = service("slow", address.port());
    slow.checks.push(ServiceCheck { name: "web".into(), address, spec });
    let _run = Run::start(config(vec![broker.config()], vec![service("quick", 80), slow])).await;
    broker.hello().await;
    let first = broker.report(|_| true).await;
    let health: Vec<_> = first.services.iter().map(|s| (s.mirror.as_str(), s.healthy)).collect();
    assert_eq!((first.seq, health), (1, vec![("quick", true), ("slow", false)]));
}

#[tokio::test]
async fn orders_change_the_beacons() {
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    let other = FakeBroker::start(2, Manner::Serve).await;
    let mut config = config(vec![broker.config()], vec![service("lon", 80)]);
    config.report_interval = Duration::from_millis(20);
    let _run = Run::start(config).await;
    let (node, _) = broker.hello().await;
    broker.beacon(node).await;
    let secret = nearmost_wire::beacon::SiteKey::new(&[9; 32]).beacon_secret(&node, 3);
    let port = other.beacon_port();
    let grant = nearmost_wire::agent::BeaconGrant { secret, port, period_ms: 10 };
    broker.orders.send(ToAgent::Beacon(grant)).expect("a session");
    // The sequence goes on where the beacons go now.
    assert!(other.beacon(node).await.seq > 0);
}

#[tokio::test]
async fn when_the_first_broker_goes_the_next_takes_over() {
    let mut first = FakeBroker::start(1, Manner::Serve).await;
    let mut second = FakeBroker::start(2, Manner::Serve).await;
    let mut config = config(vec![first.config(), second.config()], vec![service("lon", 80)]);
    config.node.max_sessions = 1;
    let mut run = Run::start(config).await;
    let (node, _) = first.hello().await;
    run.until(|s| s.brokers[0].session == SessionState::Attached).await;
    assert_eq!(run.status.borrow().brokers[1].session, SessionState::Idle);
    first.endpoint.close(Refusal::Leaving.code().into(), b"restart");
    second.hello().await;
    run.until(|s| s.brokers[1].session == SessionState::Attached).await;
    run.error(0, &["it is stopping", "restart"]).await;
    assert_eq!(second.beacon(node).await.seq, 0);
    // The first broker still hears us, as it would after a restart.
    let heard = first.beacon(node).await.seq;
    while first.beacon(node).await.seq <= heard + 3 {}
}

#[tokio::test]
async fn an_agent_holds_several_sessions() {
    let mut first = FakeBroker::start(1, Manner::Serve).await;
    let mut second = FakeBroker::start(2, Manner::Serve).await;
    let brokers = vec![first.config(), second.config()];
    let mut run = Run::start(config(brokers, vec![service("lon", 80)])).await;
    run.until(|s| s.attached() == 2).await;
    for broker in [&mut first, &mut second] {
        broker.report(|r| r.services.len() == 1).await;
    }
}

#[tokio::test]
async fn a_wrong_key_is_refused_by_name_and_the_next_address_is_tried() {
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    let impostor = FakeBroker::start(2, Manner::Serve).await;
    let mut entry = broker.config();
    entry.addresses.insert(0, impostor.addr.to_string());
    let mut alone = entry.clone();
    alone.addresses.truncate(1);
    let mut run = Run::start(config(vec![alone], vec![])).await;
    run.error(0, &["wrong broker key", &broker.id.to_string(), &impostor.addr.to_string()]).await;
    let mut run = Run::start(config(vec![entry], vec![])).await;
    run.until(|s| s.attached() == 1).await;
    broker.hello().await;
}

#[tokio::test]
async fn refusals_are_named_and_end_the_beacons() {
    for (refusal, words) in [
        (Refusal::UnknownKey, "does not know this node's key"),
        (Refusal::Revoked, "this node was revoked"),
        (Refusal::Overloaded, "no room"),
    ] {
        let broker = FakeBroker::start(1, Manner::Refuse(refusal)).await;
        let mut run = Run::start(config(vec![broker.config()], vec![])).await;
        run.error(0, &[words, "so it is"]).await;
    }
}

#[tokio::test]
async fn a_revoked_session_ends_and_its_beacons_too() {
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    let mut run = Run::start(config(vec![broker.config()], vec![])).await;
    let (node, _) = broker.hello().await;
    run.until(|s| s.attached() == 1).await;
    broker.beacon(node).await;
    broker.endpoint.close(Refusal::Revoked.code().into(), b"by an administrator");
    run.error(0, &["this node was revoked", "by an administrator"]).await;
    // What was under way before the refusal arrived still comes; then silence.
    let quiet = Duration::from_millis(500);
    let silence = async { while tokio::time::timeout(quiet, broker.beacon(node)).await.is_ok() {} };
    tokio::time::timeout(LONG, silence).await.expect("beacons end");
}

#[tokio::test]
async fn a_drain_is_told_acknowledged_waited_for_and_ended_with_goodbye() {
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    let mut config = config(vec![broker.config()], vec![service("lon", 80)]);
    config.drain_grace = Duration::from_millis(300);
    let mut run = Run::start(config).await;
    let (node, _) = broker.hello().await;
    broker.report(|r| r.services.len() == 1).await;
    run.until(|s| s.attached() == 1).await;
    let clock = Clock::start();
    run.shutdown.drain.cancel();
    let report = broker.report(|r| r.draining).await;
    assert!(report.services[0].healthy);
    while broker.beacon(node).await.flags & FLAG_DRAINING == 0 {}
    loop {
        match broker.next().await {
            Seen::Goodbye => break,
            Seen::Gone => panic!("gone without goodbye"),
            _ => {}
        }
    }
    assert!(clock.now().0 >= 300_000, "grace was {} µs", clock.now().0);
    run.ends().await;
    assert!(matches!(broker.next().await, Seen::Gone));
}

#[tokio::test]
async fn a_broker_that_does_not_acknowledge_is_not_waited_for_for_ever() {
    let mut broker = FakeBroker::start(1, Manner::Mute).await;
    let mut run = Run::start(config(vec![broker.config()], vec![])).await;
    run.until(|s| s.attached() == 1).await;
    run.shutdown.drain.cancel();
    broker.report(|r| r.draining).await;
    while !matches!(broker.next().await, Seen::Goodbye) {}
    run.ends().await;
}

#[tokio::test]
async fn a_second_order_ends_at_once() {
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    let mut config = config(vec![broker.config()], vec![]);
    config.drain_grace = Duration::from_secs(3600);
    let run = Run::start(config).await;
    broker.hello().await;
    run.shutdown.drain.cancel();
    broker.report(|r| r.draining).await;
    run.shutdown.now.cancel();
    run.ends().await;
}

#[tokio::test]
async fn a_new_configuration_begins_a_new_session_before_the_old_one_ends() {
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    let before = config(vec![broker.config()], vec![service("lon", 80)]);
    let mut run = Run::start(before.clone()).await;
    assert_eq!(broker.hello().await.1.services.len(), 1);
    let mut after = before;
    after.services.push(service("lon-2", 81));
    run.until(|s| s.attached() == 1).await;
    let mut later = run.status.clone();
    later.mark_unchanged();
    run.reload.send(after.clone()).await.expect("the agent runs");
    loop {
        match broker.next().await {
            Seen::Hello(_, hello) => {
                assert_eq!(hello.services.len(), 2);
                break;
            }
            Seen::Goodbye => panic!("said goodbye"),
            Seen::Gone => panic!("the old session ended before the new one began"),
            _ => {}
        }
    }
    // The broker ends the old session, and that is nothing to speak of: no error, no pause, no third
    // session, and reports go on in the second.
    let (mut gone, mut reported) = (false, false);
    while !(gone && reported) {
        match broker.next().await {
            Seen::Gone => gone = true,
            Seen::Report(report) => reported |= report.services.len() == 2,
            seen => panic!("{seen:?}"),
        }
    }
    let status = later.borrow_and_update().clone();
    assert_eq!((status.attached(), &status.brokers[0].error), (1, &None));
    // The same again, to see that the second session can be replaced as the first was.
    after.services.pop();
    run.reload.send(after).await.expect("the agent runs");
    assert_eq!(broker.hello().await.1.services.len(), 1);
    broker.report(|r| r.services.len() == 1).await;
    assert_eq!(run.status.borrow().brokers[0].error, None);
}

#[tokio::test]
async fn a_session_goes_on_until_the_one_that_replaces_it_comes_about() {
    let mut broker = FakeBroker::start(1, Manner::RefuseSecond(Refusal::Overloaded)).await;
    let mut config = config(vec![broker.config()], vec![service("lon", 80)]);
    config.metrics = Some((Ipv4Addr::LOCALHOST, 0).into());
    let mut run = Run::start(config.clone()).await;
    assert_eq!(broker.hello().await.1.services.len(), 1);
    run.until(|s| s.attached() == 1).await;
    config.services.push(service("lon-2", 81));
    run.reload.send(config).await.expect("the agent runs");
    loop {
        match broker.next().await {
            Seen::Hello(_, hello) => {
                assert_eq!(hello.services.len(), 2);
                break;
            }
            Seen::Report(_) => assert_eq!(run.status.borrow().attached(), 1),
            seen => panic!("{seen:?} before the second session"),
        }
    }
    // The refusal was counted, and is forgotten once the second attempt is on.
    let page = get(run.metrics.expect("an address"), "/metrics").await;
    assert!(page.contains("{reason=\"overloaded\"} 1\n"), "{page}");
    run.until(|s| s.attached() == 1 && s.brokers[0].error.is_none()).await;
    broker.report(|r| r.services.len() == 2).await;
}

#[tokio::test]
async fn of_two_agents_with_one_key_the_older_gives_way_for_long() {
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    // Reconnects within 100 ms otherwise.
    let config = config(vec![broker.config()], vec![service("lon", 80)]);
    let mut first = Run::start(config.clone()).await;
    broker.hello().await;
    first.until(|s| s.attached() == 1).await;
    let mut second = Run::start(config).await;
    broker.hello().await;
    first.error(0, &["another agent with this node's key took the session over"]).await;
    second.until(|s| s.attached() == 1).await;
    let third = async { broker.hello().await };
    assert!(tokio::time::timeout(Duration::from_secs(1), third).await.is_err(), "it came back at once");
    assert_eq!((first.status.borrow().attached(), second.status.borrow().attached()), (0, 1));
}

#[tokio::test]
async fn beacons_that_cannot_be_sent_end_nothing() {
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    let mut config = config(vec![broker.config()], vec![service("lon", 80)]);
    config.report_interval = Duration::from_millis(20);
    config.metrics = Some((Ipv4Addr::LOCALHOST, 0).into());
    let run = Run::start(config).await;
    let (node, _) = broker.hello().await;
    broker.beacon(node).await;
    // Nothing can be sent to port 0.
    let secret = nearmost_wire::beacon::SiteKey::new(&[9; 32]).beacon_secret(&node, 3);
    let to = |port| {
        let secret = secret.clone();
        ToAgent::Beacon(nearmost_wire::agent::BeaconGrant { secret, port, period_ms: 10 })
    };
    broker.orders.send(to(0)).expect("a session");
    let addr = run.metrics.expect("an address");
    let failed = async {
        while get(addr, "/metrics").await.contains("nearmost_agent_beacon_errors_total 0\n") {
            broker.report(|_| true).await;
        }
    };
    tokio::time::timeout(LONG, failed).await.expect("sending fails");
    // The session stands, and beacons are heard again once there is a way.
    while tokio::time::timeout(Duration::from_millis(100), broker.beacon(node)).await.is_ok() {}
    broker.orders.send(to(broker.beacon_port())).expect("a session");
    broker.beacon(node).await;
    assert_eq!(run.status.borrow().attached(), 1);
}

async fn get(addr: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).await.expect("a response");
    response
}

#[tokio::test]
async fn metrics_and_health_are_served() {
    let broker = FakeBroker::start(1, Manner::Serve).await;
    let mut config = config(vec![broker.config()], vec![service("lon", 80)]);
    config.metrics = Some((Ipv4Addr::LOCALHOST, 0).into());
    let mut run = Run::start(config).await;
    run.until(|s| s.attached() == 1).await;
    let addr = run.metrics.expect("an address");
    broker.beacon(nearmost_core::id::NodeId(node_key().id().key)).await;
    let page = get(addr, "/metrics").await;
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(
        page.contains("nearmost_agent_service_healthy{domain=\"play.example\",mirror=\"lon\"} 1"),
        "{page}"
    );
    assert!(!page.contains("nearmost_agent_beacons_total 0\n"), "{page}");
    let health = get(addr, "/healthz").await;
    assert!(health.starts_with("HTTP/1.1 200") && health.contains("\"attached\""), "{health}");
}

#[tokio::test]
async fn what_stands_in_the_way_is_named() {
    let error = Agent::bind(config(vec![], vec![]), node_key()).await.err().expect("refused");
    assert!(matches!(error, AgentError::NoBroker), "{error}");
    let broker = FakeBroker::start(1, Manner::Serve).await;
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let addr = taken.local_addr().expect("its address");
    let mut config = config(vec![broker.config()], vec![]);
    config.metrics = Some(addr);
    let error = Agent::bind(config.clone(), node_key()).await.err().expect("refused").to_string();
    assert_eq!(error, format!("port in use: metrics (metrics.listen) asked for {addr}"));
    // An address of no interface is another matter.
    config.metrics = Some("192.0.2.1:0".parse().expect("an address"));
    let error = Agent::bind(config, node_key()).await.err().expect("refused").to_string();
    assert!(error.starts_with("metrics (metrics.listen) cannot listen on 192.0.2.1:0: "), "{error}");
}

#[tokio::test]
async fn status_asks_the_running_agent() {
    let broker = FakeBroker::start(1, Manner::Serve).await;
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = closed.local_addr().expect("its address");
    drop(closed);
    let spec = CheckSpec { kind: CheckKind::Tcp, interval: LONG, timeout: LONG, rise: 1, fall: 1 };
    let mut down = service("lon", address.port());
    down.checks.push(ServiceCheck { name: "web".into(), address, spec });
    let mut config = config(vec![broker.config()], vec![down]);
    config.metrics = Some((Ipv4Addr::LOCALHOST, 0).into());
    let mut run = Run::start(config).await;
    let refused = |s: &AgentStatus| s.checks.iter().any(|c| c.problem.contains("connection refused"));
    let status = run.until(refused).await;
    assert_eq!(status.checks.len(), 1);
    assert!(status.checks[0].name.ends_with("/lon/check/web") && !status.checks[0].stuck);
    let asked = |at: SocketAddr| {
        let args = ["nearmost-agent", "status", "--set"].map(str::to_owned);
        nearmost_agent::main_from_args(
            args.into_iter().chain([format!("metrics.listen={at}")]).map(Into::into),
        )
    };
    let code = asked(run.metrics.expect("an address")).await.expect("an answer");
    assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::SUCCESS));
    let error = asked(address).await.expect_err("nobody is there").to_string();
    assert!(error.contains("no agent answers at"), "{error}");
}

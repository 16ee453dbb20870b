//! What an agent probes for brokers.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in helpers too")]

mod fake;

use fake::*;
use nearmost_agent::{Agent, Shutdown};
use nearmost_config::{AgentConfig, Service};
use nearmost_core::registry::MirrorAddress;
use nearmost_wire::agent::ToAgent;
use nearmost_wire::registry::{ProbeBody, ProbeKind};
use nearmost_wire::witness::{Decline, MAX_ORDERS, WitnessOrder, WitnessOutcome, WitnessResult};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

fn run(mut config: AgentConfig) {
    // The broker speaks when it is spoken to.
    config.report_interval = Duration::from_millis(20);
    tokio::spawn(async move {
        let agent = Agent::bind(config, node_key()).await.expect("an agent");
        let (_reload, reloads) = mpsc::channel(1);
        agent.run(Shutdown::default(), reloads).await;
    });
}

fn on_loopback() -> Service {
    let address = MirrorAddress::Declared { v4: Some(Ipv4Addr::LOCALHOST), v6: None };
    Service { address, ..service("own", 1) }
}

fn order(id: u64, target: SocketAddr) -> WitnessOrder {
    WitnessOrder {
        id,
        domain: "play.example".into(),
        mirror: format!("m{id}"),
        address: target.ip(),
        port: target.port(),
        probe: ProbeBody::default(),
        attempts_ms: vec![0, 100],
        timeout_ms: 1000,
    }
}

async fn results(broker: &mut FakeBroker, wanted: usize) -> Vec<WitnessResult> {
    let mut all = Vec::new();
    while all.len() < wanted {
        if let Seen::Witnessed(results) = broker.next().await {
            all.extend(results);
        }
    }
    all.sort_by_key(|r| r.id);
    all
}

#[tokio::test]
async fn orders_are_answered_by_number_each_as_soon_as_it_is_known() {
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("its address");
    // Accepts by its backlog, and never answers what it is asked.
    let silent = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).await.expect("a port");
    let unanswered = ProbeBody { kind: ProbeKind::Http, ..ProbeBody::default() };
    run(config(vec![broker.config()], vec![on_loopback()]));
    broker.report(|_| true).await;
    let slow = WitnessOrder { probe: unanswered, ..order(1, silent.local_addr().expect("its address")) };
    let orders = vec![slow, order(2, address), order(3, "169.254.169.254:80".parse().expect("an address"))];
    broker.orders.send(ToAgent::Witness { orders }).expect("a session");
    let first = results(&mut broker, 2).await;
    assert!(matches!(first[0], WitnessResult { id: 2, outcome: WitnessOutcome::Passed { .. } }), "{first:?}");
    let forbidden = WitnessOutcome::Declined(Decline::Forbidden);
    assert_eq!(first[1], WitnessResult { id: 3, outcome: forbidden });
    let last = results(&mut broker, 1).await;
    let WitnessResult { id: 1, outcome: WitnessOutcome::Failed { reason } } = &last[0] else {
        panic!("{last:?}")
    };
    assert!(reason.contains("within 1000 ms"), "{reason}");
}

#[tokio::test]
async fn nothing_is_probed_where_the_operator_wants_none() {
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    let mut config = config(vec![broker.config()], vec![on_loopback()]);
    config.node.witnesses_per_second = 0;
    run(config);
    broker.report(|_| true).await;
    let orders = vec![order(1, (Ipv4Addr::LOCALHOST, 9).into())];
    broker.orders.send(ToAgent::Witness { orders }).expect("a session");
    let disabled = WitnessOutcome::Declined(Decline::Disabled);
    assert_eq!(results(&mut broker, 1).await, [WitnessResult { id: 1, outcome: disabled }]);
}

#[tokio::test]
async fn a_flood_of_orders_delays_neither_beacons_nor_reports() {
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    run(config(vec![broker.config()], vec![on_loopback()]));
    let (node, _) = broker.hello().await;
    let first = broker.beacon(node).await;
    broker.report(|_| true).await;
    for n in 0..10u8 {
        let target = |i: usize| SocketAddr::from(([127, 1, n, i as u8], 9));
        let orders = (0..MAX_ORDERS).map(|i| order(u64::from(n) * 100 + i as u64, target(i))).collect();
        broker.orders.send(ToAgent::Witness { orders }).expect("a session");
    }
    // Most are declined at once; some are carried out, which takes them as long as they say.
    let (mut declined, mut carried_out) = (0, 0);
    while declined < 3 * MAX_ORDERS || carried_out == 0 {
        for result in results(&mut broker, 1).await {
            match result.outcome {
                WitnessOutcome::Declined(_) => declined += 1,
                WitnessOutcome::Passed { .. } | WitnessOutcome::Failed { .. } => carried_out += 1,
            }
        }
    }
    let mut last = first.seq;
    for _ in 0..20 {
        let beacon = broker.beacon(node).await;
        assert_eq!(beacon.seq, last + 1);
        last = beacon.seq;
    }
    broker.report(|_| true).await;
}

//! What an agent tells a broker of round trips, and measures for it.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in helpers too")]

mod fake;

use fake::*;
use nearmost_agent::{Agent, Shutdown};
use nearmost_config::{AgentConfig, Service};
use nearmost_core::registry::MirrorAddress;
use nearmost_wire::agent::ToAgent;
use nearmost_wire::paths::{MAX_ORDERS, MeasureOrder, Measurement, PathSample};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

fn run(config: AgentConfig) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let agent = Agent::bind(config, node_key()).await.expect("an agent");
        let (_reload, reloads) = mpsc::channel(1);
        agent.run(Shutdown::default(), reloads).await;
    })
}

fn on_loopback(port: u16) -> Service {
    let address = MirrorAddress::Declared { v4: Some(Ipv4Addr::LOCALHOST), v6: None };
    Service { address, ..service("lon", port) }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("its address");
    (listener, address)
}

/// A connection over which something went, so that it was timed.
async fn held(listener: &TcpListener, address: SocketAddr) -> (TcpStream, TcpStream) {
    let mut client = TcpStream::connect(address).await.expect("connected");
    let (mut server, _) = listener.accept().await.expect("accepted");
    server.write_all(b"hello").await.expect("written");
    client.read_exact(&mut [0; 5]).await.expect("read");
    (client, server)
}

async fn samples(broker: &mut FakeBroker) -> (String, Vec<PathSample>) {
    loop {
        if let Seen::Paths(mirror, samples) = broker.next().await {
            return (mirror, samples);
        }
    }
}

async fn results(broker: &mut FakeBroker, wanted: usize) -> Vec<Measurement> {
    let mut all = Vec::new();
    let collect = async {
        while all.len() < wanted {
            if let Seen::Measured(results) = broker.next().await {
                all.extend(results);
            }
        }
    };
    tokio::time::timeout(LONG, collect).await.expect("in time");
    all
}

#[tokio::test]
async fn connections_that_are_held_are_told_and_so_is_their_end() {
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    let (listener, address) = listener().await;
    let mut held = vec![held(&listener, address).await, held(&listener, address).await];
    let mut config = config(vec![broker.config()], vec![on_loopback(address.port())]);
    config.paths.interval = Duration::from_millis(100);
    run(config);
    let (mirror, samples_of_two) = samples(&mut broker).await;
    let [sample] = samples_of_two[..] else { panic!("{samples_of_two:?}") };
    assert_eq!((mirror.as_str(), sample.network.to_string().as_str()), ("lon", "127.0.0.0/24"));
    assert_eq!(sample.connections, 2);
    assert!((1..1_000_000).contains(&sample.rtt_us), "{sample:?}");
    held.pop();
    // A later reading has one connection.
    while samples(&mut broker).await.1[0].connections != 1 {}
}

#[tokio::test]
async fn a_node_that_is_told_to_keep_quiet_does() {
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    let (listener, address) = listener().await;
    let _held = held(&listener, address).await;
    let mut config = config(vec![broker.config()], vec![on_loopback(address.port())]);
    config.paths.interval = Duration::from_millis(20);
    config.paths.connections = false;
    config.report_interval = Duration::from_millis(20);
    run(config);
    for _ in 0..20 {
        let seen = broker.next().await;
        assert!(!matches!(seen, Seen::Paths(..)), "{seen:?}");
    }
}

#[tokio::test]
async fn orders_are_answered_by_number() {
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    let (_listener, address) = listener().await;
    let mut config = config(vec![broker.config()], vec![on_loopback(1)]);
    config.report_interval = Duration::from_millis(20);
    config.paths.measures_per_second = 100;
    run(config);
    broker.report(|_| true).await;
    let order = |id, ip: &str, port| MeasureOrder { id, address: ip.parse().expect("an address"), port };
    let orders = vec![order(5, "127.0.0.1", address.port()), order(6, "169.254.169.254", 80)];
    broker.orders.send(ToAgent::Measure { orders }).expect("a session");
    let mut results = results(&mut broker, 2).await;
    results.sort_by_key(|m| m.id);
    assert_eq!((results[0].id, results[1]), (5, Measurement { id: 6, rtt_us: None }));
    assert!(results[0].rtt_us.is_some_and(|us| us < 1_000_000), "{results:?}");
}

#[tokio::test]
async fn a_flood_of_orders_delays_neither_beacons_nor_reports() {
    let mut broker = FakeBroker::start(1, Manner::Serve).await;
    let (_listener, address) = listener().await;
    let mut config = config(vec![broker.config()], vec![on_loopback(1)]);
    config.report_interval = Duration::from_millis(20);
    run(config);
    let (node, _) = broker.hello().await;
    let first = broker.beacon(node).await;
    let flood = |n: usize| -> Vec<MeasureOrder> {
        let order = |i| MeasureOrder { id: i as u64, address: address.ip(), port: address.port() };
        (n * MAX_ORDERS..(n + 1) * MAX_ORDERS).map(order).collect()
    };
    broker.report(|_| true).await;
    for n in 0..10 {
        broker.orders.send(ToAgent::Measure { orders: flood(n) }).expect("a session");
    }
    // As many as may wait do so for half a minute; of the others those are answered at once that
    // there is room for.
    let refused = results(&mut broker, 2 * MAX_ORDERS).await;
    assert!(refused.iter().filter(|m| m.rtt_us.is_none()).count() >= MAX_ORDERS);
    let mut last = first.seq;
    for _ in 0..20 {
        let beacon = broker.beacon(node).await;
        assert_eq!(beacon.seq, last + 1);
        last = beacon.seq;
    }
    broker.report(|_| true).await;
}

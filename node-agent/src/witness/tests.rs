use super::*;
use crate::metrics::Metrics;
use nearmost_core::time::MonoTime;
use nearmost_probe::ProberOptions;
use nearmost_wire::registry::{ProbeBody, ProbeKind};
use std::net::Ipv4Addr;
use tokio::net::{TcpListener, UdpSocket};

/// Longest that a test waits for something that should happen.
const LONG: Duration = Duration::from_secs(30);

struct Fixture {
    metrics: Metrics,
    witness: Witness,
    clock: Clock,
    _services: watch::Sender<Vec<Watched>>,
}

impl Fixture {
    fn start(address: &str, rate: u32) -> Fixture {
        let addresses = vec![address.parse().expect("an address")];
        let service = Watched { domain: "play.example".into(), mirror: "own".into(), port: 443, addresses };
        let (sender, services) = watch::channel(vec![service]);
        let metrics = Metrics::new().expect("metrics");
        let (witness, tasks) = channel(services, rate, metrics.witnesses.clone());
        let prober = Arc::new(Prober::new(ProberOptions::default()).expect("a prober"));
        let clock = Clock::start();
        tokio::spawn(work(tasks, rate, prober, clock, metrics.witnesses.clone()));
        Fixture { metrics, witness, clock, _services: sender }
    }

    fn count(&self, result: &str) -> u64 {
        self.metrics.witnesses.with_label_values(&[result]).get()
    }
}

fn order(id: u64, target: SocketAddr) -> WitnessOrder {
    WitnessOrder {
        id,
        domain: "play.example".into(),
        mirror: format!("m{id}"),
        address: target.ip(),
        port: target.port(),
        probe: ProbeBody::default(),
        attempts_ms: vec![0],
        timeout_ms: 3000,
    }
}

async fn next(answers: &mut mpsc::Receiver<WitnessResult>) -> WitnessResult {
    tokio::time::timeout(LONG, answers.recv()).await.expect("in time").expect("an answer")
}

fn declined(decline: Decline) -> WitnessOutcome {
    WitnessOutcome::Declined(decline)
}

async fn listener(ip: [u8; 4]) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::from(ip), 0)).await.expect("a port");
    let address = listener.local_addr().expect("its address");
    (listener, address)
}

#[tokio::test]
async fn who_answers_passes_at_once_and_who_refuses_fails_with_a_reason() {
    let fixture = Fixture::start("127.0.0.1", 20);
    let (_listener, address) = listener([127, 0, 0, 1]).await;
    let (closed, nobody) = listener([127, 0, 0, 2]).await;
    drop(closed);
    let (orders, mut answers) = fixture.witness.session(0);
    // A pass does not wait for attempts that were to come.
    orders.take(vec![WitnessOrder { attempts_ms: vec![0, 1000], ..order(7, address) }]);
    let WitnessResult { id: 7, outcome: WitnessOutcome::Passed { rtt_us } } = next(&mut answers).await else {
        panic!("it did not pass")
    };
    assert!(rtt_us < 1_000_000, "{rtt_us}");
    assert!(fixture.clock.now() < MonoTime::from_millis(1000), "{:?}", fixture.clock.now());
    orders.take(vec![WitnessOrder { attempts_ms: vec![0, 5, 10], ..order(8, nobody) }]);
    let WitnessResult { id: 8, outcome: WitnessOutcome::Failed { reason } } = next(&mut answers).await else {
        panic!("it did not fail")
    };
    assert!(reason.contains("connection refused"), "{reason}");
    assert_eq!((fixture.count("passed"), fixture.count("failed")), (1, 1));
}

#[tokio::test]
async fn attempts_start_at_their_times_whatever_becomes_of_earlier_ones() {
    let fixture = Fixture::start("127.0.0.1", 20);
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let target = server.local_addr().expect("its address");
    let (orders, mut answers) = fixture.witness.session(0);
    let probe = ProbeBody { kind: ProbeKind::Udp, send: Some("ping".into()), ..ProbeBody::default() };
    orders.take(vec![WitnessOrder { attempts_ms: vec![0, 40, 80], probe, ..order(1, target) }]);
    let mut buffer = [0; 16];
    for _ in 0..2 {
        let received = tokio::time::timeout(LONG, server.recv_from(&mut buffer)).await;
        received.expect("in time").expect("a datagram");
    }
    // Two were lost; the third is answered while they still wait.
    let third = tokio::time::timeout(LONG, server.recv_from(&mut buffer)).await;
    let (n, from) = third.expect("in time").expect("a datagram");
    assert!(fixture.clock.now() >= MonoTime::from_millis(80));
    server.send_to(&buffer[..n], from).await.expect("sent");
    assert!(matches!(next(&mut answers).await.outcome, WitnessOutcome::Passed { .. }));
    assert!(fixture.clock.now() < MonoTime::from_millis(3000), "the first attempt was waited for");
}

#[tokio::test]
async fn what_is_not_done_for_anybody_is_declined_without_a_packet() {
    let fixture = Fixture::start("192.0.2.1", 20);
    let (listener, address) = listener([127, 0, 0, 1]).await;
    let (orders, mut answers) = fixture.witness.session(0);
    let to = |text: &str| order(1, text.parse().expect("an address"));
    let cases = [
        (order(1, address), Decline::Forbidden),
        (to("[::1]:80"), Decline::Forbidden),
        (to("169.254.169.254:80"), Decline::Forbidden),
        (to("[fe80::1]:80"), Decline::Forbidden),
        (to("224.0.0.1:80"), Decline::Forbidden),
        (to("255.255.255.255:80"), Decline::Forbidden),
        (to("0.0.0.0:80"), Decline::Forbidden),
        (to("192.0.2.2:0"), Decline::Forbidden),
        (to("[::ffff:127.0.0.1]:80"), Decline::Forbidden),
        (to("[64:ff9b::7f00:1]:80"), Decline::Forbidden),
        (to("[2002:7f00:1::1]:80"), Decline::Forbidden),
        (to("[2001:0:7f00:1::1]:80"), Decline::Forbidden),
        (WitnessOrder { timeout_ms: 60_000, ..to("192.0.2.2:80") }, Decline::BadOrder),
        (WitnessOrder { domain: String::new(), ..to("192.0.2.2:80") }, Decline::BadOrder),
    ];
    for (order, decline) in cases {
        let said = format!("{order:?}");
        orders.take(vec![order]);
        assert_eq!(next(&mut answers).await.outcome, declined(decline), "{said}");
    }
    assert_eq!((fixture.count("forbidden"), fixture.count("bad_order")), (12, 2));
    drop(listener);
    let off = Fixture::start("127.0.0.1", 0);
    let (orders, mut answers) = off.witness.session(0);
    orders.take(vec![order(5, address)]);
    assert_eq!(next(&mut answers).await, WitnessResult { id: 5, outcome: declined(Decline::Disabled) });
}

#[tokio::test]
async fn brokers_that_ask_the_same_share_the_attempts_and_the_result() {
    let fixture = Fixture::start("127.0.0.1", 20);
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let target = server.local_addr().expect("its address");
    let probe = ProbeBody { kind: ProbeKind::Udp, send: Some("ping".into()), ..ProbeBody::default() };
    let same = |id| WitnessOrder { probe: probe.clone(), ..order(id, target) };
    let (one, mut answers_of_one) = fixture.witness.session(0);
    let (two, mut answers_of_two) = fixture.witness.session(1);
    one.take(vec![same(1)]);
    let mut buffer = [0; 16];
    let (n, from) = server.recv_from(&mut buffer).await.expect("a datagram");
    // The same, by a broker with other round trips.
    two.take(vec![WitnessOrder { timeout_ms: 2900, attempts_ms: vec![0, 20], ..same(2) }]);
    tokio::task::yield_now().await;
    server.send_to(&buffer[..n], from).await.expect("sent");
    let (first, second) = (next(&mut answers_of_one).await, next(&mut answers_of_two).await);
    assert_eq!((first.id, second.id), (1, 2));
    assert!(matches!(first.outcome, WitnessOutcome::Passed { .. }) && first.outcome == second.outcome);
    // Right after that the result is still good, for whoever has not heard it.
    two.take(vec![WitnessOrder { mirror: "another".into(), ..same(3) }]);
    let WitnessResult { id: 3, outcome } = next(&mut answers_of_two).await else { panic!("another order") };
    assert_eq!(outcome, first.outcome);
    one.take(vec![WitnessOrder { mirror: "m1".into(), ..same(4) }]);
    assert_eq!(next(&mut answers_of_one).await.outcome, declined(Decline::TooFast));
    assert!(server.try_recv_from(&mut buffer).is_err(), "a second datagram");
}

#[tokio::test]
async fn a_flood_is_declined_and_what_has_no_room_is_counted() {
    let fixture = Fixture::start("127.0.0.1", 20);
    let (orders, mut answers) = fixture.witness.session(0);
    // Nothing is carried out before this test lets the worker run.
    for n in 0..10u64 {
        let flood = |i| order(n * 100 + i, SocketAddr::from(([127, 0, n as u8, i as u8], 9)));
        orders.take((0..MAX_ORDERS as u64).map(flood).collect());
    }
    assert_eq!(fixture.count("overload"), (10 * MAX_ORDERS - OF_ONE) as u64);
    assert_eq!(fixture.count("untold"), (10 * MAX_ORDERS - OF_ONE - ANSWERS) as u64);
    for _ in 0..ANSWERS {
        assert_eq!(next(&mut answers).await.outcome, declined(Decline::Overload));
    }
    // Of those that had room, at most as many are carried out as a pause allows, and 30 of a network.
    let mut sent = 0;
    for _ in 0..OF_ONE {
        sent += usize::from(!matches!(next(&mut answers).await.outcome, WitnessOutcome::Declined(_)));
    }
    assert!((1..=62).contains(&sent), "{sent}");
}

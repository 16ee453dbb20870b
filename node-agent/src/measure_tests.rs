use super::*;
use crate::clock::Clock;
use crate::metrics::Metrics;
use nearmost_probe::ProberOptions;
use std::net::Ipv4Addr;
use tokio::net::TcpListener;

/// Longest that a test waits for something that should happen.
const LONG: Duration = Duration::from_secs(30);

struct Fixture {
    metrics: Metrics,
    measurer: Measurer,
    tasks: Option<mpsc::Receiver<Task>>,
    _services: watch::Sender<Vec<Watched>>,
}

impl Fixture {
    fn with_service_on(address: &str) -> Fixture {
        let addresses = vec![address.parse().expect("an address")];
        let service = Watched { domain: "play.example".into(), mirror: "lon".into(), port: 443, addresses };
        let (sender, services) = watch::channel(vec![service]);
        let metrics = Metrics::new().expect("metrics");
        let (measurer, tasks) = channel(services, metrics.paths.clone());
        Fixture { metrics, measurer, tasks: Some(tasks), _services: sender }
    }

    /// Carries out the orders in the background.
    fn work(&mut self, rate: u32) -> tokio::task::JoinHandle<()> {
        let prober = Prober::new(ProberOptions::default()).expect("a prober");
        let tasks = self.tasks.take().expect("not at work yet");
        tokio::spawn(work(tasks, rate, Arc::new(prober), self.metrics.paths.clone()))
    }

    fn count(&self, result: &str) -> u64 {
        self.metrics.paths.measures.with_label_values(&[result]).get()
    }
}

fn order(id: u64, target: SocketAddr) -> MeasureOrder {
    MeasureOrder { id, address: target.ip(), port: target.port() }
}

async fn next(answers: &mut mpsc::Receiver<Measurement>) -> Measurement {
    tokio::time::timeout(LONG, answers.recv()).await.expect("in time").expect("an answer")
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("its address");
    (listener, address)
}

#[test]
fn only_other_machines_are_connected_to() {
    let never = [
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "169.254.169.254",
        "fe80::1",
        "::ffff:0.0.0.0",
        "::ffff:169.254.169.254",
    ];
    let demo = ["127.0.0.1", "127.0.21.3", "::1", "::ffff:127.0.0.1"];
    let always = ["192.0.2.1", "2001:db8::1", "10.0.0.1", "::ffff:192.0.2.1"];
    let with = |text: &str, on_loopback| allowed(text.parse().expect("an address"), 443, on_loopback);
    for text in never {
        assert!(!with(text, false) && !with(text, true), "{text}");
    }
    for text in demo {
        assert!(!with(text, false) && with(text, true), "{text}");
    }
    for text in always {
        assert!(with(text, false) && with(text, true), "{text}");
    }
    assert!(!allowed("192.0.2.1".parse().expect("an address"), 0, true), "no port");
}

#[tokio::test]
async fn the_least_of_a_few_connections_is_told() {
    let mut fixture = Fixture::with_service_on("127.0.0.1");
    let (listener, address) = listener().await;
    let (orders, mut answers) = fixture.measurer.session(0);
    fixture.work(100);
    orders.take(vec![order(7, address)]);
    let Measurement { id: 7, rtt_us: Some(rtt_us) } = next(&mut answers).await else {
        panic!("not measured")
    };
    assert!(rtt_us < 1_000_000, "{rtt_us}");
    for _ in 0..ATTEMPTS {
        tokio::time::timeout(LONG, listener.accept()).await.expect("in time").expect("a connection");
    }
    assert_eq!(fixture.count("measured"), 1);
    drop(listener);
    orders.take(vec![order(8, address)]);
    assert_eq!(next(&mut answers).await, Measurement { id: 8, rtt_us: None });
    assert_eq!(fixture.count("failed"), 1);
}

#[tokio::test]
async fn forbidden_addresses_are_answered_without_a_connection() {
    let mut fixture = Fixture::with_service_on("192.0.2.1");
    let (listener, address) = listener().await;
    let (orders, mut answers) = fixture.measurer.session(0);
    let mapped = SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), address.port());
    orders.take(vec![order(1, address), order(2, mapped), order(3, (Ipv4Addr::UNSPECIFIED, 80).into())]);
    for id in 1..=3 {
        assert_eq!(next(&mut answers).await, Measurement { id, rtt_us: None });
    }
    assert_eq!(fixture.count("forbidden"), 3);
    assert!(fixture.tasks.as_mut().expect("tasks").try_recv().is_err(), "one was queued");
    drop(listener);
}

#[tokio::test]
async fn a_flood_is_answered_and_leaves_room_for_others() {
    let fixture = Fixture::with_service_on("127.0.0.1");
    let (_listener, address) = listener().await;
    let (flood, mut answers) = fixture.measurer.session(0);
    flood.take((0..1000).map(|id| order(id, address)).collect());
    // Some wait, as many are answered as a session may have waiting, and the rest is counted.
    let answered: Vec<_> = std::iter::from_fn(|| answers.try_recv().ok()).collect();
    assert!(answered.iter().all(|m| m.rtt_us.is_none()));
    assert_eq!((answered.len(), answered[0].id), (ANSWERS, OF_ONE as u64));
    assert_eq!(fixture.count("overload"), (1000 - OF_ONE) as u64);
    assert_eq!(fixture.count("untold"), (1000 - OF_ONE - ANSWERS) as u64);
    let (other, mut others) = fixture.measurer.session(0);
    other.take(vec![order(1, address)]);
    assert!(others.try_recv().is_err(), "it was not refused");
}

#[tokio::test]
async fn orders_are_paced_and_those_of_ended_sessions_dropped() {
    let mut fixture = Fixture::with_service_on("127.0.0.1");
    let (_listener, address) = listener().await;
    let (gone, answers) = fixture.measurer.session(0);
    gone.take((0..OF_ONE as u64).map(|id| order(id, address)).collect());
    drop((gone, answers));
    let (orders, mut answers) = fixture.measurer.session(0);
    orders.take((0..5).map(|id| order(id, address)).collect());
    let clock = Clock::start();
    fixture.work(20);
    for _ in 0..5 {
        next(&mut answers).await;
    }
    let took = clock.now().since(nearmost_core::time::MonoTime::ZERO);
    // Five at twenty a second, the first at once; the other session's 64 would take three seconds.
    assert!(took >= Duration::from_millis(4 * 50 - 10), "{took:?}");
    assert_eq!((fixture.count("measured"), fixture.count("failed")), (5, 0));
}

#[tokio::test]
async fn with_a_rate_of_0_nothing_is_measured() {
    let mut fixture = Fixture::with_service_on("127.0.0.1");
    let (_listener, address) = listener().await;
    let (orders, mut answers) = fixture.measurer.session(0);
    fixture.work(0).await.expect("it ends");
    orders.take(vec![order(1, address)]);
    assert_eq!(next(&mut answers).await, Measurement { id: 1, rtt_us: None });
    assert_eq!(fixture.count("overload"), 1);
}

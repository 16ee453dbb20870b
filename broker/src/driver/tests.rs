use super::*;
use crate::telemetry::{ProbeMetrics, WitnessMetrics};
use nearmost_core::fleet::{AgentWord, FleetConfig, PeerFact, PeerView, Word};
use nearmost_core::geo::table::PlaceTableBuilder;
use nearmost_core::geo::{CountryCode, Place};
use nearmost_core::id::BrokerId;
use nearmost_core::registry::HealthMode;
use nearmost_probe::{Prober, ProberOptions};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Nowhere(Arc<AtomicUsize>);

impl VerdictSink for Nowhere {
    fn save(&self, _: Vec<PersistedVerdict>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Bench {
    driver: Driver,
    registry: watch::Sender<Arc<Registry>>,
    reader: crate::publish::SnapshotReader,
    _inputs: mpsc::Receiver<DriverInput>,
}

/// The five mirrors of the fixture, `lon` given by a host name.
fn bench() -> Bench {
    let mut fixture = crate::api::testing::Fixture::five_mirrors();
    fixture.mirror("lon", |m| {
        m.address = MirrorAddress::Hostname("a.example".into());
        m.health = HealthMode::Manual { up: true };
        m.node = None;
    });
    let (registry, changes) = watch::channel(fixture.snapshot().registry.clone());
    let metrics = prometheus::Registry::new();
    let publisher = Publisher::default();
    let reader = publisher.reader();
    let probes = ProbeMetrics::register(&metrics).unwrap();
    let prober = Prober::new(ProberOptions::default()).unwrap();
    let (handle, inputs) = channel();
    let parts = DriverParts {
        fleet: Fleet::new(FleetConfig::default(), 1),
        verdicts: Vec::new(),
        clock: Clock::start(),
        registry: changes,
        places: Arc::default(),
        metrics: Arc::new(FleetMetrics::register(&metrics, reader.clone(), Default::default()).unwrap()),
        publisher,
        asking: Asking {
            probes: Probes::new(prober, 0, probes, CancellationToken::new()),
            witnesses: Witnesses::new(Arc::default(), WitnessMetrics::register(&metrics).unwrap()),
            references: References::default(),
        },
        events: Arc::new(EventLog::starting_at(0)),
        sink: Box::new(Nowhere(Arc::default())),
    };
    Bench { driver: Driver::new(parts, handle), registry, reader, _inputs: inputs }
}

impl Bench {
    fn input(&mut self, input: DriverInput) {
        let now = self.driver.parts.clock.now();
        self.driver.input(input, now);
        self.driver.publish(now);
    }

    fn resolved(&mut self, host: &str) {
        self.input(DriverInput::Address {
            domain: "play.nearmost.test".into(),
            mirror: "lon".into(),
            host: host.into(),
            family: Family::V4,
            addr: Some([203, 0, 113, 9].into()),
        });
    }

    fn address(&self) -> Option<std::net::Ipv4Addr> {
        let snapshot = self.reader.load();
        let domain = snapshot.registry.find_domain("play.nearmost.test").unwrap();
        let index = snapshot.registry.find_mirror(domain, "lon").unwrap();
        snapshot.live.mirror(index).v4
    }

    fn give(&mut self, address: MirrorAddress) {
        let mut registry = Registry::clone(self.driver.world.given());
        registry.version += 1;
        registry.mirrors.iter_mut().find(|m| &*m.name == "lon").unwrap().address = address;
        self.registry.send_replace(Arc::new(registry));
        self.driver.new_registry();
        let now = self.driver.parts.clock.now();
        self.driver.publish(now);
    }
}

#[tokio::test]
async fn a_resolved_address_counts_only_for_the_name_that_the_mirror_has_now() {
    let mut bench = bench();
    bench.resolved("other.example");
    assert_eq!(bench.address(), None, "of a name that it does not have");
    bench.resolved("a.example");
    assert_eq!(bench.address(), Some([203, 0, 113, 9].into()));
    let declared = [192, 0, 2, 77].into();
    bench.give(MirrorAddress::Declared { v4: Some(declared), v6: None });
    bench.resolved("a.example");
    assert_eq!(bench.address(), Some(declared), "resolved late");
    bench.give(MirrorAddress::Hostname("a.example".into()));
    assert_eq!(bench.address(), None);
    bench.resolved("a.example");
    assert_eq!(bench.address(), Some([203, 0, 113, 9].into()));
}

#[tokio::test]
async fn a_complaint_that_the_fleet_is_deaf_to_publishes_nothing() {
    let Bench { mut driver, registry: _registry, .. } = bench();
    let metrics = driver.parts.metrics.clone();
    // Nobody probes the one, so that nothing can be looked into, and the other is not there.
    let of = |mirror: &str| Complaint {
        domain: "play.nearmost.test".into(),
        mirror: mirror.into(),
        family: Family::V4,
        client: [198, 51, 100, 7].into(),
    };
    let now = driver.parts.clock.now();
    driver.complaint(&of("lon"), now);
    assert_eq!((driver.due.publish, driver.due.changed), (None, None));
    // They come through a way of their own.
    let (complaints, told) = complaints(metrics.complaints_dropped());
    for mirror in ["lon", "gone"] {
        complaints.tell(of(mirror));
    }
    let (_handle, inputs) = channel();
    let cancel = CancellationToken::new();
    let running = tokio::spawn(driver.run(inputs, told, cancel.clone()));
    let known = metrics.client_failures.with_label_values(&["known"]);
    while known.get() < 3 {
        tokio::task::yield_now().await;
    }
    cancel.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_table_that_comes_twice_is_one_map() {
    let mut bench = bench();
    let mut builder = PlaceTableBuilder::new();
    let place = Place { country: CountryCode::new("JP"), ..Place::default() };
    builder.add_override("203.0.113.0/24".parse().unwrap(), place);
    let table = Arc::new(builder.build().unwrap());
    bench.input(DriverInput::Places(table.clone()));
    let version = bench.reader.load().map.version;
    bench.input(DriverInput::Places(table));
    assert_eq!(bench.reader.load().map.version, version);
    assert!(version > 1);
}

#[tokio::test]
async fn brokers_that_connect_are_told_and_what_they_tell_is_counted() {
    let mut bench = bench();
    let handle = bench.driver.handle.clone();
    let (mut facts, mut asks) = (handle.own_facts(), handle.peer_asks());
    let now = bench.driver.parts.clock.now();
    bench.driver.tell_peers(now);
    assert!(facts.try_recv().is_err(), "nobody is connected");
    bench.input(DriverInput::PeersConnected(vec![BrokerId([7; 32])]));
    assert!(bench.driver.next_wake() <= bench.driver.parts.clock.now().mono);
    let word = AgentWord { word: Word::Healthy, age: Duration::ZERO };
    let fact = |mirror: &str| PeerFact {
        domain: "play.nearmost.test".into(),
        mirror: mirror.into(),
        family: Family::V4,
        view: PeerView { agent: Some(word), ..PeerView::default() },
    };
    let known = bench.driver.world.given().mirrors.iter().find(|m| m.node.is_some()).unwrap().name.clone();
    let told = vec![fact(&known), fact("gone")];
    bench.input(DriverInput::PeerFacts { broker: BrokerId([7; 32]), facts: told });
    let counted = |result| bench.driver.parts.metrics.peer_facts.with_label_values(&[result]).get();
    assert_eq!((counted("taken"), counted("left_out")), (1, 1));
    // What is not known here is asked of nobody and changes nothing.
    let ask = PeerAsk { domain: "play.nearmost.test".into(), mirror: "gone".into(), family: Family::V4 };
    bench.input(DriverInput::AskedToProbe(ask));
    bench.input(DriverInput::PeerHeard);
    assert!(asks.try_recv().is_err());
}

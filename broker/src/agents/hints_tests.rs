use super::*;
use crate::api::testing::Fixture;
use crate::learning;
use crate::learning::Lessons;
use crate::steering::{self, DemandInbox};
use crate::telemetry::LearningMetrics;
use std::sync::Arc;

const DOMAIN: &str = "play.nearmost.test";
const LONDON: NodeId = NodeId([1; 32]);
const NEW_YORK: NodeId = NodeId([2; 32]);

struct Taught {
    hints: Hints,
    lessons: Lessons,
    demand: DemandInbox,
    registry: Arc<Registry>,
}

impl Taught {
    fn new() -> Taught {
        let metrics = prometheus::Registry::new();
        let (learn, lessons) = learning::channel(Arc::new(LearningMetrics::register(&metrics).unwrap()));
        let paths = PathMetrics::register(&metrics).unwrap();
        let registry = Fixture::five_mirrors().snapshot().registry.clone();
        let (tell, demand) = steering::channel(prometheus::IntCounter::new("d", "d").unwrap());
        Taught { hints: Hints::new(learn, tell, paths, &[9; 32]), lessons, demand, registry }
    }

    fn observed(&mut self) -> Vec<Observation> {
        match self.lessons.try_recv() {
            Ok(Lesson::Observed(observations)) => observations,
            Ok(other) => panic!("{other:?}"),
            Err(_) => Vec::new(),
        }
    }

    fn samples(&self, result: &str) -> u64 {
        self.hints.metrics.samples.with_label_values(&[result]).get()
    }
}

fn sample(network: &str, rtt_us: u32, connections: u32) -> PathSample {
    PathSample { network: network.parse().unwrap(), rtt_us, connections }
}

#[test]
fn samples_of_a_nodes_own_mirror_are_taught() {
    let mut taught = Taught::new();
    let samples = [sample("198.51.100.0/24", 20_500, 3), sample("2001:db8:1::/48", 10_000_000, 0)];
    taught.hints.paths(LONDON, &taught.registry, (DOMAIN, "lon"), &samples);
    let observed = taught.observed();
    let expected = Observation {
        network: "198.51.100.0/24".parse().unwrap(),
        target: Target::Node(LONDON),
        rtt_ms: 20.5,
        source: Source::Connections,
        reporter: reporter("node", &LONDON.0),
        users: 3,
    };
    assert_eq!(observed[0], expected);
    assert_eq!((observed.len(), observed[1].users, observed[1].rtt_ms), (2, 1, 10_000.0));
    assert_eq!(taught.samples("taken"), 2);
    let seen: Vec<f32> = taught.demand.take().map(|d| d.users).collect();
    assert_eq!(seen, [3.0, 1.0], "where users are is told, too");
    // Another node has another vote, and so has a broker with the same key.
    let others = [reporter("node", &NEW_YORK.0), reporter("broker", &LONDON.0)];
    assert!(!others.contains(&expected.reporter));
}

#[test]
fn nobody_speaks_for_the_mirrors_of_others() {
    let mut taught = Taught::new();
    let samples = [sample("198.51.100.0/24", 20_500, 3)];
    for (node, domain, mirror) in [
        (NEW_YORK, DOMAIN, "lon"),
        (LONDON, DOMAIN, "nowhere"),
        (LONDON, "elsewhere.example", "lon"),
        (NodeId([77; 32]), DOMAIN, "lon"),
    ] {
        taught.hints.paths(node, &taught.registry, (domain, mirror), &samples);
    }
    let mut without_node = Registry::clone(&taught.registry);
    without_node.mirrors.iter_mut().for_each(|m| m.node = None);
    taught.hints.paths(NodeId([77; 32]), &without_node, (DOMAIN, "lon"), &samples);
    assert_eq!(taught.observed(), []);
    assert_eq!((taught.samples("mirror"), taught.samples("taken")), (5, 0));
}

#[test]
fn what_is_not_plausible_is_left_out_by_reason() {
    let mut taught = Taught::new();
    let networks = [
        "0.0.0.0/0",
        "10.0.0.0/7",
        "198.51.100.0/25",
        "198.51.100.7/32",
        "2000::/15",
        "2001:db8::/49",
        "224.0.0.0/8",
        "0.0.0.0/8",
        "ff00::/16",
        "::/16",
    ];
    let wrong: Vec<_> = networks.iter().map(|n| sample(n, 20_000, 1)).collect();
    taught.hints.paths(LONDON, &taught.registry, (DOMAIN, "lon"), &wrong);
    assert_eq!(taught.observed(), []);
    assert_eq!(taught.samples("network"), networks.len() as u64);
    let rtts = [sample("10.0.0.0/8", 0, 1), sample("10.0.0.0/8", 10_000_001, 1), sample("10.0.0.0/8", 1, 1)];
    taught.hints.paths(LONDON, &taught.registry, (DOMAIN, "lon"), &rtts);
    assert_eq!(taught.observed().len(), 1);
    assert_eq!((taught.samples("rtt"), taught.samples("taken")), (2, 1));
    taught.hints.too_fast(5);
    assert_eq!(taught.samples("rate"), 5);
}

#[test]
fn results_teach_what_was_ordered_and_nothing_else() {
    let mut taught = Taught::new();
    let to = Target::Node(NEW_YORK);
    let order = |at: [u8; 4]| Some(Order { target: Target::Node(NEW_YORK), at: (at, 80).into() });
    let far = || order([192, 0, 2, 1]);
    let result = |rtt_us| Measurement { id: 1, rtt_us };
    for rtt_us in [None, Some(0), Some(10_000_001)] {
        taught.hints.measured(LONDON, far(), &result(rtt_us));
    }
    taught.hints.measured(LONDON, None, &result(Some(70_000)));
    taught.hints.measured(LONDON, order([127, 0, 0, 9]), &result(Some(40)));
    assert!(taught.lessons.try_recv().is_err());
    taught.hints.measured(LONDON, far(), &result(Some(70_250)));
    let expected = Lesson::Between { from: Target::Node(LONDON), to, rtt_ms: 70.25 };
    assert_eq!(taught.lessons.try_recv(), Ok(expected));
    let counts = ["failed", "absurd", "unknown", "loopback", "measured"]
        .map(|label| taught.hints.metrics.results.with_label_values(&[label]).get());
    assert_eq!(counts, [1, 2, 1, 1, 1]);
}

#[test]
fn a_sessions_round_trip_is_from_the_brokers_own_network() {
    let mut taught = Taught::new();
    let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
    let rtt = Duration::from_micros(12_500);
    let cases = [
        (Some("192.0.2.9"), "203.0.113.5", Some("192.0.2.0/24")),
        (Some("::ffff:192.0.2.9"), "::ffff:203.0.113.5", Some("192.0.2.0/24")),
        (Some("2001:db8:5:6::1"), "2001:db8::9", Some("2001:db8:5::/48")),
        (Some("127.0.0.1"), "127.0.0.1", Some("127.0.0.0/24")),
        (Some("::ffff:127.0.0.1"), "203.0.113.5", None),
        (Some("0.0.0.0"), "203.0.113.5", None),
        (None, "203.0.113.5", None),
    ];
    for (local, remote, network) in cases {
        taught.hints.session(LONDON, local.map(ip), ip(remote), rtt);
        let observed = taught.observed();
        let said = observed.first().map(|o| o.network.to_string());
        assert_eq!(said.as_deref(), network, "{local:?} {remote}");
        for o in observed {
            assert_eq!((o.source, o.target, o.rtt_ms), (Source::Quic, Target::Node(LONDON), 12.5));
            assert_eq!(o.reporter, reporter("broker", &[9; 32]));
        }
    }
    taught.hints.session(LONDON, Some(ip("192.0.2.9")), ip("203.0.113.5"), Duration::from_secs(11));
    let counts = ["taken", "address", "loopback", "absurd"]
        .map(|label| taught.hints.metrics.sessions.with_label_values(&[label]).get());
    assert_eq!(counts, [4, 2, 1, 1]);
}

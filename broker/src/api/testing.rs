//! Snapshots for tests, built by hand: one domain, five mirrors, clients in five places.

use super::{ApiSettings, ApiState, FleetAccess, Readiness};
use crate::admin::AdminHandle;
use crate::agents::SessionTable;
use crate::clock::Clock;
use crate::checkup::Examiner;
use crate::dns::signing::{Signing, SigningSettings};
use crate::driver;
use crate::events::EventLog;
use crate::learning::Lessons;
use crate::publish::SnapshotReader;
use crate::registrar::{Registrar, RegistrarSettings};
use crate::reports::{ReportSettings, Reports};
use crate::steering::{self, TrafficHandle};
use crate::store::{RedbStore, StoreThread};
use crate::telemetry::{ApiMetrics, LearningMetrics, ReportMetrics};
use ipnet::IpNet;
use nearmost_config::BrokerConfig;
use nearmost_core::geo::table::{PlaceTable, PlaceTableBuilder};
use nearmost_core::geo::{CountryCode, Place, PlaceSource, Position};
use nearmost_core::health::{Reason, State, Vantage, Verdict};
use nearmost_core::id::NodeId;
use nearmost_core::live::{Live, LiveMirror, Load, Offer};
use nearmost_core::map::Map;
use nearmost_core::registry::{
    Domain, DomainIndex, HealthMode, Mirror, MirrorAddress, MirrorIndex, Node, NodeIndex, Orders, Policy,
    Registry, Trust,
};
use nearmost_core::rtt::routes::Routes;
use nearmost_core::rtt::{Learner, LearnerConfig, Memory, Model, Observation, Source, Target, World};
use nearmost_core::snapshot::Snapshot;
use nearmost_core::time::UnixMillis;
use nearmost_dns::dnssec::{KeyDerivation, SignTimes};
use nearmost_wire::identity::{KeyPair, Role};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The domain of every fixture.
pub(crate) const DOMAIN: &str = "play.nearmost.test";
/// A name that is redirected to it.
pub(crate) const REDIRECT_HOST: &str = "www.play.test";

const PLACES: [(&str, &str, f64, f64); 5] = [
    ("lon", "GB", 51.51, -0.13),
    ("nyc", "US", 40.71, -74.01),
    ("sao", "BR", -23.55, -46.63),
    ("sin", "SG", 1.35, 103.82),
    ("syd", "AU", -33.87, 151.21),
];

/// Where whom reported from, the mirror, and milliseconds.
pub(crate) type Learnt<'a> = (&'a str, &'a str, f32);

/// A snapshot that tests change, and its reader.
pub(crate) struct Fixture {
    pub(crate) registry: Registry,
    live: Live,
    networks: Vec<(IpNet, Place)>,
    places: Arc<PlaceTable>,
    model: Arc<Model>,
    reader: SnapshotReader,
}

fn place(at: usize) -> Place {
    let (_, country, lat, lon) = PLACES[at];
    Place { position: Position::from_degrees(lat, lon), country: CountryCode::new(country), asn: None }
}

fn places(corrected: &[(IpNet, Place)]) -> PlaceTable {
    let mut builder = PlaceTableBuilder::new();
    corrected.iter().for_each(|(net, place)| builder.add_override(*net, *place));
    let mut database = builder.database("testdb").unwrap();
    for (net, at) in [("198.51.100.0/24", 0), ("203.0.113.0/24", 1)] {
        let id = database.place(place(at));
        database.add(net.parse().unwrap(), id).unwrap();
    }
    builder.build().unwrap()
}

fn node(at: usize) -> Node {
    Node {
        name: format!("{}-node", PLACES[at].0).into(),
        id: Some(NodeId([at as u8 + 1; 32])),
        revoked: false,
        domains: vec![DOMAIN.into()],
        drained: false,
        windows: Vec::new(),
        place: None,
    }
}

fn mirror(at: usize) -> Mirror {
    Mirror {
        name: PLACES[at].0.into(),
        domain: DomainIndex(0),
        node: Some(NodeIndex(at as u32)),
        address: MirrorAddress::Declared { v4: Some(v4(at)), v6: None },
        port: 8080,
        weight: 100,
        place: place(at),
        place_source: PlaceSource::Given,
        health: HealthMode::Agent,
        probe: None,
        url: None,
        ingress: None,
        orders: Orders::default(),
    }
}

fn v4(at: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, at as u8 + 1)
}

impl Fixture {
    /// London, New York, São Paulo, Singapore and Sydney, all up in IPv4 for three seconds.
    /// 198.51.100.0/24 is in London, 203.0.113.0/24 in New York.
    pub(crate) fn five_mirrors() -> Fixture {
        let policy = Policy {
            answers: 2,
            ttl: Duration::from_secs(20),
            negative_ttl: Duration::from_secs(20),
            tie_band_ms: 3.0,
            tie_band_share: 0.05,
            failover: nearmost_core::registry::Failover::default(),
            alpn: Vec::new(),
            ..Policy::default()
        };
        let domain = Domain {
            name: DOMAIN.into(),
            mirrors: 0..5,
            policy,
            records: Vec::new(),
            redirect_hosts: vec![REDIRECT_HOST.into()],
            trust: Default::default(),
        };
        let mut registry = Registry {
            version: 1,
            domains: vec![domain],
            nodes: (0..5).map(node).collect(),
            mirrors: (0..5).map(mirror).collect(),
            domain_by_name: [(DOMAIN.into(), DomainIndex(0))].into(),
            node_by_id: (0..5).map(|i| (NodeId([i as u8 + 1; 32]), NodeIndex(i))).collect(),
            ..Registry::default()
        };
        registry.index();
        let mut fixture = Fixture {
            live: Live::new(vec![LiveMirror::default(); 5]),
            registry,
            networks: Vec::new(),
            places: Arc::new(places(&[])),
            model: Arc::default(),
            reader: crate::publish::Publisher::default().reader(),
        };
        for (at, live) in fixture.live.mirrors.iter_mut().enumerate() {
            live.v4 = Some(v4(at));
            live.load = Load { cpu: 0.5, memory: 0.25, connections: 7, capacity: 100 };
        }
        for (name, ..) in PLACES {
            fixture.set_state(name, State::Up);
        }
        fixture
    }

    /// Of the registry; grows with every change made here.
    pub(crate) fn version(&self) -> u64 {
        self.registry.version
    }

    /// Three seconds after every verdict.
    pub(crate) fn now(&self) -> UnixMillis {
        UnixMillis(1_700_000_003_000)
    }

    /// What the broker's parts hold; follows the fixture's changes.
    pub(crate) fn reader(&self) -> SnapshotReader {
        self.reader.clone()
    }

    /// As published.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.reader.load_full()
    }

    fn publish(&mut self) {
        self.registry.version += 1;
        let mut live = self.live.clone();
        live.tally(&self.registry);
        self.reader.store(Arc::new(Snapshot {
            registry: Arc::new(self.registry.clone()),
            map: Arc::new(self.map()),
            live: Arc::new(live),
            published: UnixMillis(1_700_000_000_000),
        }));
    }

    fn map(&self) -> Map {
        Map::of_places(1, self.places.clone()).follow(&self.registry, &self.places, &self.model, None)
    }

    fn index(&self, mirror: &str) -> usize {
        self.registry.mirrors.iter().position(|m| *m.name == *mirror).unwrap()
    }

    /// A mirror's place.
    pub(crate) fn place_of(&self, mirror: &str) -> Place {
        self.registry.mirrors[self.index(mirror)].place
    }

    /// Changes a mirror.
    pub(crate) fn mirror(&mut self, name: &str, change: impl FnOnce(&mut Mirror)) {
        let at = self.index(name);
        change(&mut self.registry.mirrors[at]);
        self.publish();
    }

    /// Changes the domain's policy.
    pub(crate) fn policy(&mut self, change: impl FnOnce(&mut Policy)) {
        change(&mut self.registry.domains[0].policy);
        self.publish();
    }

    /// Changes whose word the domain's mirrors stand on.
    pub(crate) fn trust(&mut self, trust: Trust) {
        self.registry.domains[0].trust = trust;
        self.publish();
    }

    /// Revokes a node.
    pub(crate) fn revoke(&mut self, id: NodeId) {
        let node = self.registry.node_by_id[&id];
        self.registry.nodes[node.0 as usize].revoked = true;
        self.publish();
    }

    /// Removes the domain and its mirrors.
    pub(crate) fn forget_domain(&mut self) {
        self.registry.domains.clear();
        self.registry.mirrors.clear();
        self.registry.domain_by_name.clear();
        self.registry.index();
        self.live = Live::default();
        self.publish();
    }

    /// Corrects the place of a network, as the configuration does.
    pub(crate) fn network(&mut self, prefix: &str, place: Place) {
        self.networks.push((prefix.parse().unwrap(), place));
        self.places = Arc::new(places(&self.networks));
        self.publish();
    }

    /// Corrects the place of a network in the registry.
    pub(crate) fn override_in_registry(&mut self, prefix: &str, place: Place) {
        self.registry.overrides.push((prefix.parse().unwrap(), place));
        self.network(prefix, place);
    }

    /// Fits a model to round trips that were reported just now.
    pub(crate) fn learn(&mut self, reports: &[Learnt<'_>]) {
        self.learn_behind(reports, &[]);
    }

    /// The same, with the resolvers that networks were found behind.
    pub(crate) fn learn_behind(&mut self, reports: &[Learnt<'_>], behind: &[(&str, &str)]) {
        let mut learner = Learner::new(LearnerConfig::default(), Arc::new(Routes::new()), Memory::default());
        for (from, mirror, rtt_ms) in reports {
            let from: IpAddr = from.parse().unwrap();
            let observation = Observation {
                network: from.into(),
                target: Target::of(&self.registry, MirrorIndex(self.index(mirror) as u32)),
                rtt_ms: *rtt_ms,
                source: Source::Client,
                reporter: 1,
                users: 1,
            };
            learner.observe(&observation, self.now()).unwrap();
        }
        for (resolver, network) in behind {
            let network: IpAddr = network.parse().unwrap();
            learner.behind(resolver.parse().unwrap(), network.into(), 1, self.now());
        }
        let target = |i: u32| Target::of(&self.registry, MirrorIndex(i));
        let sites = (0..).zip(&self.registry.mirrors).map(|(i, m)| (target(i), m.place)).collect();
        let places = self.places.clone();
        let locate = move |addr| places.locate(addr).place;
        self.model = Arc::new(learner.fit(&World { sites: &sites, locate: &locate }, self.now()));
        self.publish();
    }

    /// Changes what a mirror is offered.
    pub(crate) fn offer(&mut self, name: &str, offer: Offer) {
        let at = self.index(name);
        self.live.mirrors[at].offer = offer;
        self.publish();
    }

    /// Gives a mirror an IPv6 address, as healthy as its IPv4 address, in place of that.
    pub(crate) fn only_ipv6(&mut self, name: &str) {
        let at = self.index(name);
        let live = &mut self.live.mirrors[at];
        live.v6 = live.v4.take().map(|v4| v4.to_ipv6_mapped());
        live.verdicts.swap(0, 1);
        live.last_known.swap(0, 1);
        self.publish();
    }

    /// Removes a mirror.
    pub(crate) fn remove(&mut self, name: &str) {
        let at = self.index(name);
        self.registry.mirrors.remove(at);
        self.live.mirrors.remove(at);
        self.registry.domains[0].mirrors.end -= 1;
        self.publish();
    }

    /// Changes a mirror's IPv4 verdict.
    pub(crate) fn set_state(&mut self, name: &str, state: State) {
        let at = self.index(name);
        let (reason, vantage) = match state {
            State::Up => (Reason::Proven, Vantage::AgentAndBroker),
            State::Draining => (Reason::DrainedByOrder, Vantage::Operator),
            _ => (Reason::SilentAndUnreachable, Vantage::Broker),
        };
        let since = UnixMillis(1_700_000_000_000);
        self.live.mirrors[at].verdicts[0] = Verdict { state, reason, vantage, since, stale: false };
        self.live.mirrors[at].last_known[0] |= state.eligible();
        self.publish();
    }

    /// An API over this fixture, with a registrar and a store of its own.
    pub(crate) async fn api(&self, settings: ApiSettings) -> TestApi {
        let dir = tempfile::tempdir().unwrap();
        let registry = prometheus::Registry::new();
        let (ready, is_ready) = watch::channel(Readiness::READY);
        let key = KeyPair::from_seed(Role::Broker, &[1; 32]);
        let learning = Arc::new(LearningMetrics::register(&registry).unwrap());
        let (learn, lessons) = crate::learning::channel(learning);
        let report_metrics = Arc::new(ReportMetrics::register(&registry).unwrap());
        let limit = ReportSettings { interval: Duration::from_secs(10), burst: 5 };
        let state = ApiState {
            me: super::Me { id: key.id(), name: "test".into(), addresses: Vec::new(), clients: vec![7840] },
            snapshot: self.reader(),
            signing: signing(),
            events: Arc::new(EventLog::default()),
            admin: admin(&key, dir.path()).await,
            peers: None,
            fleet: FleetAccess {
                sessions: Arc::new(SessionTable::default()),
                driver: driver::channel().0,
                traffic: TrafficHandle::new(Clock::start()),
                demand: steering::channel(prometheus::IntCounter::new("d", "d").unwrap()).0,
            },
            reports: Arc::new(Reports::new(limit, learn, report_metrics).unwrap()),
            metrics: ApiMetrics::register(&registry).unwrap(),
            registry,
            settings,
            ready: is_ready,
            examiner: Examiner::new(
                &BrokerConfig { data_dir: dir.path().into(), ..BrokerConfig::default() },
                None,
            ),
        };
        TestApi { state, ready, lessons, _dir: dir }
    }
}

/// What [`Fixture::api`] makes.
pub(crate) struct TestApi {
    pub(crate) state: ApiState,
    pub(crate) ready: watch::Sender<Readiness>,
    /// What reached the learner.
    pub(crate) lessons: Lessons,
    _dir: tempfile::TempDir,
}

fn signing() -> Signing {
    let hold = Duration::from_secs(10);
    let settings = SigningSettings { publish_hold: hold, retire_hold: hold, times: SignTimes::default() };
    Signing::new(KeyDerivation::new(&[1; 32]), settings, Vec::new())
}

async fn admin(key: &KeyPair, dir: &Path) -> AdminHandle {
    let (store, _) = StoreThread::spawn(Box::new(RedbStore::open(dir).unwrap())).unwrap();
    let settings =
        RegistrarSettings { advertise: vec!["127.0.0.1:7841".into()], ..RegistrarSettings::default() };
    let (registrar, _) = Registrar::open(store, key, settings).await.unwrap();
    let (handle, inbox) = registrar.handle();
    // Ends with the last handle.
    tokio::spawn(registrar.run(inbox, CancellationToken::new()));
    handle
}

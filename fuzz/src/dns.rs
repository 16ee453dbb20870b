//! Queries: a reply is one, and both paths give the same.

use hickory_proto::op::Message;
use nearmost_core::geo::{Place, PlaceSource, Position};
use nearmost_core::health::{State, Verdict};
use nearmost_core::live::{Live, LiveMirror};
use nearmost_core::map::Map;
use nearmost_core::registry::{
    AllDown, Domain, DomainIndex, Failover, HealthMode, KeyLife, KeyStage, Mirror, MirrorAddress, Orders,
    Policy, Registry, StaticData, StaticRecord, ZoneKey,
};
use nearmost_core::snapshot::Snapshot;
use nearmost_core::time::UnixMillis;
use nearmost_dns::dnssec::{KeyDerivation, SignTimes, Signer};
use nearmost_dns::{
    Client, CookieKey, DnsConfig, EdnsConfig, ErrorKind, HotPath, Identity, Responder, Transport, limiter,
    query,
};
use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Short, so that the fuzzer finds it; it lies in a configured zone.
const DOMAIN: &str = "a.b";
/// A zone of its own, signed.
const SIGNED: &str = "s";
/// When it is asked, in Unix milliseconds.
const NOW: UnixMillis = UnixMillis(1_790_000_000_000);
/// Of the site's keys, and of its cookies.
const SECRET: [u8; 32] = [1; 32];

fn policy() -> Policy {
    Policy {
        answers: 8,
        ttl: Duration::from_secs(20),
        negative_ttl: Duration::from_secs(5),
        tie_band_ms: 1000.0,
        tie_band_share: 0.05,
        failover: Failover { all_down: AllDown::All, ..Failover::default() },
        alpn: vec!["h2".into()],
        ..Policy::default()
    }
}

fn mirror(domain: u32, n: u8) -> Mirror {
    Mirror {
        name: format!("m{n}").into(),
        domain: DomainIndex(domain),
        node: None,
        address: MirrorAddress::Observed,
        port: 443,
        weight: 1,
        place: Place { position: Position::from_degrees(f64::from(n) * 10.0, 0.0), ..Place::default() },
        place_source: PlaceSource::Given,
        health: HealthMode::Manual { up: true },
        probe: None,
        url: None,
        ingress: None,
        orders: Orders::default(),
    }
}

fn records() -> Vec<StaticRecord> {
    let record = |name: &str, data| StaticRecord { name: name.into(), ttl_s: 60, data };
    vec![
        record("c.a.b", StaticData::Cname("a.b".into())),
        record("l.a.b", StaticData::Cname("l.a.b".into())),
        record("d.a.b", StaticData::Ns("n.d.a.b".into())),
        record("n.d.a.b", StaticData::A(Ipv4Addr::LOCALHOST)),
        record("d.a.b", StaticData::Ds { key_tag: 1, algorithm: 13, digest_type: 2, digest: vec![7; 32] }),
        record("*.w.a.b", StaticData::Cname("x.w.a.b".into())),
        record("a.b", StaticData::Txt(vec!["x".repeat(255); 4])),
        record("a.b", StaticData::Mx { preference: 1, exchange: "m.a.b".into() }),
        record("a.b", StaticData::Caa { critical: false, tag: "issue".into(), value: ";".into() }),
        record("x..a.b", StaticData::Mx { preference: 1, exchange: "..".into() }),
    ]
}

fn domain(name: &str, mirrors: std::ops::Range<u32>, records: Vec<StaticRecord>) -> Domain {
    Domain {
        name: name.into(),
        mirrors,
        policy: policy(),
        records,
        redirect_hosts: Vec::new(),
        trust: Default::default(),
    }
}

/// The key of this site, of the zone that is signed.
fn zone_key() -> ZoneKey {
    let derivation = KeyDerivation::new(&SECRET);
    let public = derivation.key(SIGNED, 1).expect("a key").public();
    let hold = Duration::from_secs(3600);
    ZoneKey {
        site: derivation.site().into(),
        generation: 1,
        public: public.dnskey()[4..].try_into().expect("64 bytes"),
        life: KeyLife {
            stage: KeyStage::Active,
            since: UnixMillis(0),
            publish_hold: hold,
            retire_hold: hold,
        },
    }
}

fn snapshot() -> Snapshot {
    let live = |n: u8| LiveMirror {
        v4: Some(Ipv4Addr::new(192, 0, 2, n)),
        v6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into())),
        verdicts: [Verdict { state: State::Up, ..Verdict::default() }; 2],
        ..LiveMirror::default()
    };
    let mirrors = (0..8).map(|n| mirror(0, n)).chain((0..2).map(|n| mirror(1, n)));
    let mut registry = Registry {
        version: 1,
        domains: vec![domain(DOMAIN, 0..8, records()), domain(SIGNED, 8..10, Vec::new())],
        mirrors: mirrors.collect(),
        ..Registry::default()
    };
    registry.domain_by_name.insert(DOMAIN.into(), DomainIndex(0));
    registry.domain_by_name.insert(SIGNED.into(), DomainIndex(1));
    registry.zone_keys.insert(DomainIndex(1), vec![zone_key()]);
    registry.index();
    let mut live = Live::new((0..10).map(live).collect());
    live.tally(&registry);
    let (places, model) = Default::default();
    Snapshot {
        map: Arc::new(Map::default().follow(&registry, &places, &model, None).with_all_cells()),
        registry: Arc::new(registry),
        live: Arc::new(live),
        published: UnixMillis(0),
    }
}

fn responder() -> Arc<Responder> {
    let edns = EdnsConfig { cookies: Some(CookieKey::new([1; 16])), ..EdnsConfig::default() };
    let identity = Identity { id: Some("i".into()), version: Some("v".into()) };
    let config = DnsConfig { zones: vec!["b".into()], edns, identity, ..DnsConfig::default() };
    let signer = Signer::new(KeyDerivation::new(&SECRET), SignTimes::default());
    Arc::new(Responder::new(config).expect("the settings make sense").with_signer(Arc::new(signer)))
}

/// The same for all threads: what it signed once it need not sign again.
fn world() -> &'static (Arc<Responder>, Snapshot) {
    static WORLD: OnceLock<(Arc<Responder>, Snapshot)> = OnceLock::new();
    WORLD.get_or_init(|| (responder(), snapshot()))
}

thread_local! {
    static HOT: RefCell<HotPath> = RefCell::new(HotPath::new(world().0.clone(), 2));
}

/// A message from a client of the network that its id chooses, over UDP, then over TCP.
pub fn query(message: &[u8]) {
    let source = match message.first() {
        Some(0x80..) => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 1)),
        _ => IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
    };
    if let Ok(query) = query::parse(message) {
        // It is a query by its own account.
        assert!(message.len() >= 12 && message[2] & 0x80 == 0, "{query:?}");
    }
    for (transport, limit) in [(Transport::Udp, 1232), (Transport::Tcp, 65_535)] {
        ask(message, &Client { source, transport, now: NOW }, limit);
    }
}

fn ask(message: &[u8], client: &Client, limit: usize) {
    let (responder, snapshot) = world();
    let mut out = Vec::new();
    let outcome = responder.answer(snapshot, message, client, &mut out);
    // What the hot path makes of it at first, and what it then keeps.
    for _ in 0..2 {
        let mut hot = Vec::new();
        let same = HOT.with_borrow_mut(|path| {
            // As one of a batch that is large enough for what it looks up to be guessed.
            for _ in 0..4 {
                path.expect(message, client.source);
            }
            path.look_ahead(snapshot);
            path.answer(snapshot, message, client, &mut hot)
        });
        assert_eq!((&hot, &same), (&out, &outcome));
    }
    if let Some(error) = outcome.error {
        assert!(error.at <= message.len());
    }
    if outcome.dropped() {
        assert!(out.is_empty());
        let kind = outcome.error.map(|e| e.kind);
        assert!(matches!(kind, Some(ErrorKind::Short | ErrorKind::Response)));
        return;
    }
    assert_eq!(out[..2], message[..2]);
    assert!(out[2] & 0x80 != 0 && out.len() <= limit);
    read(&out);
    // What is left of a reply that is held back is one, too.
    let (length, mut outcome) = (out.len(), outcome);
    limiter::slip(&mut out, &mut outcome);
    assert!((12..=length).contains(&out.len()));
    read(&out);
}

/// Another decoder reads it.
fn read(reply: &[u8]) {
    // That one knows no client subnet of family 0, which has no address (RFC 7871 §6: code 8, 4 bytes, all 0).
    if !reply.windows(8).any(|option| option == [0, 8, 0, 4, 0, 0, 0, 0]) {
        Message::from_vec(reply).expect("a reply is a message");
    }
}

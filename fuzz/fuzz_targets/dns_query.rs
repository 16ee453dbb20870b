//! Arbitrary bytes to parser and answer function. Whatever comes in, nothing panics, and a reply is
//! one: same id, QR set, within the limit, and readable by another decoder.
#![no_main]

use hickory_proto::op::Message;
use libfuzzer_sys::fuzz_target;
use nearmost_core::geo::{Place, PlaceSource, Position};
use nearmost_core::health::{State, Verdict};
use nearmost_core::live::{Live, LiveMirror};
use nearmost_core::map::Map;
use nearmost_core::registry::{
    AllDown, Domain, DomainIndex, Failover, HealthMode, Mirror, MirrorAddress, Orders, Policy, Registry,
    StaticData, StaticRecord,
};
use nearmost_core::snapshot::Snapshot;
use nearmost_core::time::UnixMillis;
use nearmost_dns::{
    Client, CookieKey, DnsConfig, EdnsConfig, ErrorKind, Identity, Responder, Transport, limiter,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Short, so that the fuzzer finds it.
const DOMAIN: &str = "a.b";

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

fn mirror(n: u8) -> Mirror {
    Mirror {
        name: format!("m{n}").into(),
        domain: DomainIndex(0),
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

fn snapshot() -> Snapshot {
    let domain = Domain {
        name: DOMAIN.into(),
        mirrors: 0..8,
        policy: policy(),
        records: records(),
        redirect_hosts: Vec::new(),
        trust: Default::default(),
    };
    let live = |n: u8| LiveMirror {
        v4: Some(Ipv4Addr::new(192, 0, 2, n)),
        v6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into())),
        verdicts: [Verdict { state: State::Up, ..Verdict::default() }; 2],
        ..LiveMirror::default()
    };
    let mut registry = Registry {
        version: 1,
        domains: vec![domain],
        mirrors: (0..8).map(mirror).collect(),
        ..Registry::default()
    };
    registry.domain_by_name.insert(DOMAIN.into(), DomainIndex(0));
    registry.index();
    let mut live = Live::new((0..8).map(live).collect());
    live.tally(&registry);
    let (places, model) = Default::default();
    Snapshot {
        map: Arc::new(Map::default().follow(&registry, &places, &model, None).with_all_cells()),
        registry: Arc::new(registry),
        live: Arc::new(live),
        published: UnixMillis(0),
    }
}

fuzz_target!(|message: &[u8]| {
    static WORLD: OnceLock<(Responder, Snapshot)> = OnceLock::new();
    let (responder, snapshot) = WORLD.get_or_init(|| {
        let edns = EdnsConfig { cookies: Some(CookieKey::new([1; 16])), ..EdnsConfig::default() };
        let identity = Identity { id: Some("i".into()), version: Some("v".into()) };
        let config = DnsConfig { zones: vec!["b".into()], edns, identity, ..DnsConfig::default() };
        (Responder::new(config).expect("the settings make sense"), snapshot())
    });
    let mut out = Vec::new();
    for (transport, limit) in [(Transport::Udp, 1232), (Transport::Tcp, 65_535)] {
        let client = Client { source: IpAddr::V4(Ipv4Addr::LOCALHOST), transport, now: UnixMillis(0) };
        let outcome = responder.answer(snapshot, message, &client, &mut out);
        if let Some(error) = outcome.error {
            assert!(error.at <= message.len());
        }
        if outcome.dropped() {
            assert!(out.is_empty());
            let kind = outcome.error.map(|e| e.kind);
            assert!(matches!(kind, Some(ErrorKind::Short | ErrorKind::Response)));
            continue;
        }
        assert_eq!(out[..2], message[..2]);
        assert!(out[2] & 0x80 != 0 && out.len() <= limit);
        // The other decoder knows no client subnet of family 0, which has no address.
        if outcome.scope != Some(0) {
            Message::from_vec(&out).expect("a reply is a message");
        }
        // What is left of a reply that is held back is one, too.
        let (length, mut outcome) = (out.len(), outcome);
        limiter::slip(&mut out, &mut outcome);
        assert!((12..=length).contains(&out.len()));
        if outcome.scope != Some(0) {
            Message::from_vec(&out).expect("a short reply is a message");
        }
    }
});

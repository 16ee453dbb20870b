//! Small snapshots built by hand, queries in wire form, and replies decoded.

use crate::{Client, DnsConfig, Outcome, Responder, Transport};
use hickory_proto::op::Message;
use nearmost_core::geo::table::PlaceTableBuilder;
use nearmost_core::geo::{Place, PlaceSource, Position};
use nearmost_core::health::{State, Verdict};
use nearmost_core::live::{Live, LiveMirror};
use nearmost_core::map::Map;
use nearmost_core::registry::{
    Domain, DomainIndex, HealthMode, Mirror, MirrorAddress, Orders, Policy, Registry, StaticData,
    StaticRecord,
};
use nearmost_core::snapshot::Snapshot;
use nearmost_core::time::UnixMillis;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const LONDON: (f64, f64) = (51.5, -0.1);
pub(crate) const NEW_YORK: (f64, f64) = (40.7, -74.0);
pub(crate) const SYDNEY: (f64, f64) = (-33.9, 151.2);

pub(crate) fn place((lat, lon): (f64, f64)) -> Place {
    Place { position: Position::from_degrees(lat, lon), ..Place::default() }
}

/// A mirror in the making: up in the families it has addresses of.
#[derive(Clone)]
pub(crate) struct TestMirror {
    pub(crate) name: &'static str,
    pub(crate) v4: Option<&'static str>,
    pub(crate) v6: Option<&'static str>,
    pub(crate) at: (f64, f64),
    pub(crate) port: u16,
    pub(crate) up: bool,
}

pub(crate) fn mirror(name: &'static str, v4: &'static str, v6: &'static str, at: (f64, f64)) -> TestMirror {
    let some = |a: &'static str| (!a.is_empty()).then_some(a);
    TestMirror { name, v4: some(v4), v6: some(v6), at, port: 443, up: true }
}

pub(crate) fn policy() -> Policy {
    Policy {
        answers: 2,
        ttl: Duration::from_secs(20),
        negative_ttl: Duration::from_secs(7),
        tie_band_ms: 3.0,
        tie_band_share: 0.05,
        failover: nearmost_core::registry::Failover::default(),
        alpn: vec!["h2".into(), "http/1.1".into()],
        ..Policy::default()
    }
}

/// Domains and places of a snapshot in the making.
#[derive(Clone)]
pub(crate) struct Fixture {
    pub(crate) domains: Vec<(Domain, Vec<TestMirror>)>,
    pub(crate) places: Vec<(&'static str, Place)>,
    pub(crate) serial: u32,
    /// Whether the map's cells are built.
    pub(crate) built: bool,
}

impl Fixture {
    /// No domains.
    pub(crate) fn empty() -> Fixture {
        Fixture { domains: Vec::new(), places: Vec::new(), serial: 1, built: true }
    }

    /// `play.example.com` in three places, and clients near each.
    pub(crate) fn three() -> Fixture {
        let mut fixture = Fixture::empty();
        fixture.serial = 42;
        fixture.places = vec![
            ("81.0.0.0/8", place(LONDON)),
            ("2a00::/12", place(LONDON)),
            ("3.0.0.0/9", place(NEW_YORK)),
            ("2600::/16", place(NEW_YORK)),
            ("1.128.0.0/11", place(SYDNEY)),
        ];
        fixture.domain(
            "play.example.com",
            vec![
                mirror("lon", "192.0.2.1", "2001:db8::1", LONDON),
                mirror("nyc", "192.0.2.2", "2001:db8::2", NEW_YORK),
                mirror("syd", "192.0.2.3", "", SYDNEY),
            ],
        );
        fixture
    }

    pub(crate) fn domain(&mut self, name: &str, mirrors: Vec<TestMirror>) -> &mut Domain {
        let domain = Domain {
            name: name.into(),
            mirrors: 0..0,
            policy: policy(),
            records: Vec::new(),
            redirect_hosts: Vec::new(),
            trust: Default::default(),
        };
        self.domains.push((domain, mirrors));
        &mut self.domains.last_mut().unwrap().0
    }

    pub(crate) fn mirrors(&mut self) -> &mut Vec<TestMirror> {
        &mut self.domains[0].1
    }

    pub(crate) fn first(&mut self) -> &mut Domain {
        &mut self.domains[0].0
    }

    /// Adds a static record to the first domain.
    pub(crate) fn record(&mut self, name: &str, data: StaticData) -> &mut Fixture {
        self.first().records.push(StaticRecord { name: name.into(), ttl_s: 300, data });
        self
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut domains = self.domains.clone();
        domains.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        let mut registry = Registry { version: 1, serial: self.serial, ..Registry::default() };
        let mut live = Vec::new();
        for (at, (mut domain, mut mirrors)) in domains.into_iter().enumerate() {
            let index = DomainIndex(at as u32);
            mirrors.sort_by_key(|m| m.name);
            let start = registry.mirrors.len() as u32;
            domain.mirrors = start..start + mirrors.len() as u32;
            for m in &mirrors {
                registry.mirrors.push(registered(m, index));
                live.push(alive(m));
            }
            registry.domain_by_name.insert(domain.name.clone(), index);
            registry.domains.push(domain);
        }
        registry.index();
        let mut places = PlaceTableBuilder::new();
        for (net, place) in &self.places {
            places.add_override(net.parse().unwrap(), *place);
        }
        let places = Arc::new(places.build().unwrap());
        let map = Map::of_places(1, places.clone()).follow(&registry, &places, &Arc::default(), None);
        let map = if self.built { map.with_all_cells() } else { map };
        Snapshot {
            registry: Arc::new(registry),
            map: Arc::new(map),
            live: Arc::new(Live::new(live)),
            published: UnixMillis(0),
        }
    }
}

fn registered(m: &TestMirror, domain: DomainIndex) -> Mirror {
    Mirror {
        name: m.name.into(),
        domain,
        node: None,
        address: MirrorAddress::Observed,
        port: m.port,
        weight: 100,
        place: place(m.at),
        place_source: PlaceSource::Given,
        health: HealthMode::Manual { up: m.up },
        probe: None,
        url: None,
        ingress: None,
        orders: Orders::default(),
    }
}

fn alive(m: &TestMirror) -> LiveMirror {
    let state = if m.up { State::Up } else { State::Down };
    LiveMirror {
        v4: m.v4.map(|a| a.parse().unwrap()),
        v6: m.v6.map(|a| a.parse().unwrap()),
        verdicts: [Verdict { state, ..Verdict::default() }; 2],
        last_known: [m.up; 2],
        ..LiveMirror::default()
    }
}

/// A query in wire form.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) id: u16,
    pub(crate) name: String,
    pub(crate) qtype: u16,
    pub(crate) qclass: u16,
    pub(crate) payload: Option<u16>,
    pub(crate) dnssec_ok: bool,
    pub(crate) compact_ok: bool,
    pub(crate) options: Vec<(u16, Vec<u8>)>,
}

pub(crate) fn ask(name: &str, qtype: hickory_proto::rr::RecordType) -> Ask {
    Ask {
        id: 0x1234,
        name: name.into(),
        qtype: qtype.into(),
        qclass: 1,
        payload: None,
        dnssec_ok: false,
        compact_ok: false,
        options: vec![],
    }
}

impl Ask {
    pub(crate) fn edns(mut self, payload: u16) -> Ask {
        self.payload = Some(payload);
        self
    }

    /// With a client subnet such as `81.2.3.0/24`.
    pub(crate) fn subnet(mut self, net: &str) -> Ask {
        let net: ipnet::IpNet = net.parse().unwrap();
        let source = net.prefix_len();
        let (family, octets) = match net.trunc() {
            ipnet::IpNet::V4(n) => (1, n.addr().octets().to_vec()),
            ipnet::IpNet::V6(n) => (2, n.addr().octets().to_vec()),
        };
        let mut data = vec![0, family, source, 0];
        data.extend_from_slice(&octets[..usize::from(source.div_ceil(8))]);
        self.options.push((8, data));
        self.edns(1232)
    }

    pub(crate) fn wire(&self) -> Vec<u8> {
        let mut out = self.id.to_be_bytes().to_vec();
        out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(self.payload.is_some())]);
        for label in self.name.trim_end_matches('.').split('.').filter(|l| !l.is_empty()) {
            out.push(label.len() as u8);
            out.extend_from_slice(label.as_bytes());
        }
        out.push(0);
        out.extend_from_slice(&self.qtype.to_be_bytes());
        out.extend_from_slice(&self.qclass.to_be_bytes());
        if let Some(payload) = self.payload {
            let mut data = vec![];
            for (code, value) in &self.options {
                data.extend_from_slice(&code.to_be_bytes());
                data.extend_from_slice(&(value.len() as u16).to_be_bytes());
                data.extend_from_slice(value);
            }
            out.extend_from_slice(&[0, 0, 41]);
            out.extend_from_slice(&payload.to_be_bytes());
            let flags = u8::from(self.dnssec_ok) << 7 | u8::from(self.compact_ok) << 6;
            out.extend_from_slice(&[0, 0, flags, 0]);
            out.extend_from_slice(&(data.len() as u16).to_be_bytes());
            out.extend_from_slice(&data);
        }
        out
    }
}

/// A reply, decoded.
pub(crate) struct Replied {
    pub(crate) bytes: Vec<u8>,
    pub(crate) outcome: Outcome,
    pub(crate) message: Message,
}

impl Replied {
    /// Answer records in presentation form without the owner, TTL and class: `A 192.0.2.1`.
    pub(crate) fn answers(&self) -> Vec<String> {
        self.message.answers.iter().map(|r| format!("{} {}", r.record_type(), r.data)).collect()
    }

    pub(crate) fn authority(&self) -> Vec<String> {
        self.message.authorities.iter().map(|r| format!("{} {} {}", r.name, r.ttl, r.record_type())).collect()
    }

    pub(crate) fn rcode(&self) -> u16 {
        self.message.metadata.response_code.into()
    }
}

/// Answers from a fixture.
pub(crate) struct Bench {
    pub(crate) snapshot: Snapshot,
    pub(crate) responder: Responder,
}

impl Bench {
    pub(crate) fn new(fixture: &Fixture, config: DnsConfig) -> Bench {
        Bench { snapshot: fixture.snapshot(), responder: Responder::new(config).unwrap() }
    }

    pub(crate) fn raw(&self, query: &[u8], source: &str, transport: Transport) -> (Vec<u8>, Outcome) {
        let client = Client {
            source: source.parse::<IpAddr>().unwrap(),
            transport,
            now: UnixMillis(1_790_000_000_000),
        };
        let mut out = vec![0xee; 3];
        let outcome = self.responder.answer(&self.snapshot, query, &client, &mut out);
        (out, outcome)
    }

    pub(crate) fn from(&self, source: &str, ask: &Ask, transport: Transport) -> Replied {
        let (bytes, outcome) = self.raw(&ask.wire(), source, transport);
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(message.metadata.id, ask.id);
        Replied { bytes, outcome, message }
    }

    /// Over UDP from London.
    pub(crate) fn ask(&self, ask: &Ask) -> Replied {
        self.from("81.2.69.142", ask, Transport::Udp)
    }
}

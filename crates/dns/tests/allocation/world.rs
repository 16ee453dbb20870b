//! A domain with mirrors all over the world, clients anywhere, and queries in wire form.

use ipnet::{Ipv4Net, Ipv6Net};
use nearmost_core::geo::table::{PlaceTable, PlaceTableBuilder};
use nearmost_core::geo::{CountryCode, Place, PlaceSource, Position};
use nearmost_core::health::{State, Verdict};
use nearmost_core::live::{Live, LiveMirror, Offer};
use nearmost_core::map::Map;
use nearmost_core::registry::{
    Domain, DomainIndex, HealthMode, Mirror, MirrorAddress, MirrorIndex, Orders, Policy, Registry,
    StaticRecord,
};
use nearmost_core::rtt::{self, Learner, LearnerConfig, Memory, Model, Observation, Source, Target};
use nearmost_core::snapshot::Snapshot;
use nearmost_core::time::UnixMillis;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

pub const NAME: &str = "play.example.com";
pub const A: u16 = 1;
pub const AAAA: u16 = 28;

/// splitmix64.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        nearmost_core::hash::mix(self.0)
    }

    fn degrees(&mut self, most: f64) -> f64 {
        (nearmost_core::hash::unit(self.next()) * 2.0 - 1.0) * most
    }

    fn place(&mut self) -> Place {
        let position = Position::from_degrees(self.degrees(65.0), self.degrees(180.0));
        let country = CountryCode::new(if self.next() & 1 == 0 { "FR" } else { "JP" });
        Place { position, country, asn: Some((self.next() % 50) as u32) }
    }

    /// Any address: also ones that carry or map an IPv4 address.
    pub fn client(&mut self) -> IpAddr {
        let (high, low) = (self.next(), self.next());
        let v6 = |first: u128| IpAddr::V6(Ipv6Addr::from_bits(first));
        match high % 8 {
            0..4 => IpAddr::V4(Ipv4Addr::from_bits(low as u32)),
            4 => v6(0xffff << 32 | u128::from(low as u32)),
            5 => v6(0x2002 << 112 | u128::from(low) << 48),
            _ => v6(1 << 125 | u128::from(high) << 59 | u128::from(low)),
        }
    }
}

pub fn country() -> CountryCode {
    CountryCode::new("FR").unwrap()
}

pub fn mirror_name(at: u32) -> String {
    format!("m{at:05}")
}

pub fn fallback() -> Vec<IpAddr> {
    vec![IpAddr::from([203, 0, 113, 1]), IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96))]
}

/// What a snapshot is made of.
pub struct World {
    pub mirrors: usize,
    pub policy: Policy,
    pub records: Vec<StaticRecord>,
    /// Which mirrors are up.
    pub up: fn(usize) -> bool,
    /// Every mirror's [`Offer::shed`].
    pub shed: u16,
    /// Whether clients' places are known.
    pub placed: bool,
    /// Whether networks measured anything.
    pub learned: bool,
}

impl World {
    pub fn new(mirrors: usize) -> World {
        World {
            mirrors,
            policy: Policy::default(),
            records: Vec::new(),
            up: |_| true,
            shed: 0,
            placed: true,
            learned: false,
        }
    }

    pub fn snapshot(&self, built: bool) -> Snapshot {
        let mut random = Random(1);
        let mut places = PlaceTableBuilder::new();
        for block in (0..=255_u8).filter(|_| self.placed) {
            let v4 = Ipv4Net::new_assert([block, 0, 0, 0].into(), 8);
            let v6 = Ipv6Net::new_assert(Ipv6Addr::from_bits(1 << 125 | u128::from(block) << 117), 11);
            places.add_override(v4.into(), random.place());
            places.add_override(v6.into(), random.place());
        }
        let places = Arc::new(places.build().unwrap());
        let (registry, live) = self.registered(&mut random);
        let model = Arc::new(if self.learned { self.learn(&registry, &places) } else { Model::default() });
        let map = Map::of_places(1, places.clone()).follow(&registry, &places, &model, None);
        let map = Arc::new(if built { map.with_all_cells() } else { map });
        Snapshot { registry: Arc::new(registry), map, live: Arc::new(live), published: UnixMillis(0) }
    }

    fn registered(&self, random: &mut Random) -> (Registry, Live) {
        let mut registry = Registry { version: 1, ..Registry::default() };
        let mut live = Vec::new();
        for at in 0..self.mirrors as u32 {
            let (v4, v6) = (Ipv4Addr::from_bits(10 << 24 | at), Ipv6Addr::from_bits(u128::from(at)));
            let state = if (self.up)(at as usize) { State::Up } else { State::Down };
            registry.mirrors.push(Mirror {
                name: mirror_name(at).into(),
                domain: DomainIndex(0),
                node: None,
                address: MirrorAddress::Declared { v4: Some(v4), v6: Some(v6) },
                port: 443,
                weight: 1 + at % 7,
                place: random.place(),
                place_source: PlaceSource::Given,
                health: HealthMode::Probe,
                probe: None,
                url: None,
                ingress: None,
                orders: Orders::default(),
            });
            live.push(LiveMirror {
                v4: Some(v4),
                v6: Some(v6),
                verdicts: [Verdict { state, ..Verdict::default() }; 2],
                last_known: [true; 2],
                offer: Offer { withheld: 0, shed: self.shed },
                ..LiveMirror::default()
            });
        }
        registry.domain_by_name.insert(NAME.into(), DomainIndex(0));
        registry.domains.push(Domain {
            name: NAME.into(),
            mirrors: 0..self.mirrors as u32,
            policy: self.policy.clone(),
            records: self.records.clone(),
            redirect_hosts: Vec::new(),
            trust: Default::default(),
        });
        registry.index();
        let mut live = Live::new(live);
        live.tally(&registry);
        (registry, live)
    }

    /// A model in which networks of each block measured a few mirrors.
    fn learn(&self, registry: &Registry, places: &PlaceTable) -> Model {
        let mut learner = Learner::new(LearnerConfig::default(), Arc::default(), Memory::default());
        let target = |at: usize| Target::of(registry, MirrorIndex((at % self.mirrors) as u32));
        for at in 0..2000 {
            let network = Ipv4Net::new_assert([(at % 256) as u8, (at / 256) as u8, 0, 0].into(), 24);
            for mirror in [at, at * 7 + 1] {
                let seen = Observation {
                    network: network.into(),
                    target: target(mirror),
                    rtt_ms: 150.0 + (at * 31 % 200) as f32,
                    source: Source::Client,
                    reporter: at as u64,
                    users: 1,
                };
                learner.observe(&seen, UnixMillis(0)).unwrap();
            }
        }
        let sites: HashMap<Target, Place> =
            registry.mirrors.iter().enumerate().map(|(at, m)| (target(at), m.place)).collect();
        let world = rtt::World { sites: &sites, locate: &|addr| places.locate(addr).place };
        learner.fit(&world, UnixMillis(0))
    }
}

/// A query in wire form, with the /24 or /48 of an address as client subnet.
pub fn query(name: &str, qtype: u16, subnet: Option<IpAddr>) -> Vec<u8> {
    let mut out = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out.extend(qtype.to_be_bytes());
    // IN; then OPT with 1232 bytes (RFC 6891 §6.1.2).
    out.extend([0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0]);
    let (family, octets) = match subnet {
        None => return [out, vec![0, 0]].concat(),
        Some(IpAddr::V4(a)) => (1, a.octets()[..3].to_vec()),
        Some(IpAddr::V6(a)) => (2, a.octets()[..14].to_vec()),
    };
    let source = octets.len() as u8 * 8;
    out.extend([0, 8 + octets.len() as u8, 0, 8, 0, 4 + octets.len() as u8, 0, family, source, 0]);
    out.extend(octets);
    out
}

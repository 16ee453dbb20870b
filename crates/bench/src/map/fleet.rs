//! Registries of mirrors and domains by the thousand, and snapshots of them in which all is well.

use crate::random::Random;
use nearmost_core::geo::table::PlaceTable;
use nearmost_core::geo::{Place, PlaceSource};
use nearmost_core::health::{State, Verdict};
use nearmost_core::live::{Live, LiveMirror};
use nearmost_core::map::Map;
use nearmost_core::registry::{
    Domain, DomainIndex, HealthMode, Mirror, MirrorAddress, Orders, Policy, Registry,
};
use nearmost_core::snapshot::Snapshot;
use nearmost_core::time::UnixMillis;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A machine that can mirror domains: told apart by its number, which makes its name and addresses.
#[derive(Clone, Copy)]
pub struct Machine {
    /// Below 16 million.
    pub number: u32,
    /// Where it is.
    pub place: Place,
}

impl Machine {
    fn v4(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(10 << 24 | self.number)
    }

    fn v6(&self) -> Ipv6Addr {
        Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(self.number))
    }

    fn mirror(&self, domain: DomainIndex) -> Mirror {
        Mirror {
            name: format!("m{:07}", self.number).into(),
            domain,
            node: None,
            address: MirrorAddress::Declared { v4: Some(self.v4()), v6: Some(self.v6()) },
            port: 443,
            weight: 100,
            place: self.place,
            place_source: PlaceSource::Given,
            health: HealthMode::Manual { up: true },
            probe: None,
            url: None,
            ingress: None,
            orders: Orders::default(),
        }
    }

    fn live(&self) -> LiveMirror {
        LiveMirror {
            v4: Some(self.v4()),
            v6: Some(self.v6()),
            verdicts: [Verdict { state: State::Up, ..Verdict::default() }; 2],
            last_known: [true; 2],
            ..LiveMirror::default()
        }
    }
}

/// Machines in random ones of these places.
pub fn machines(places: &[Place], count: usize, random: &mut Random) -> Vec<Machine> {
    let machine = |number| Machine { number, place: places[random.below(places.len())] };
    (0..count as u32).map(machine).collect()
}

/// Some of the machines, in the order of their numbers.
pub fn some(machines: &[Machine], count: usize, random: &mut Random) -> Vec<Machine> {
    let mut chosen: Vec<Machine> = Vec::with_capacity(count);
    while chosen.len() < count.min(machines.len()) {
        let machine = machines[random.below(machines.len())];
        if chosen.iter().all(|c| c.number != machine.number) {
            chosen.push(machine);
        }
    }
    chosen.sort_by_key(|m| m.number);
    chosen
}

/// The name of a domain.
pub fn name(domain: usize) -> String {
    format!("d{domain:05}.example.com")
}

/// A registry of domains, each with its machines in the order of their numbers.
pub fn registry<'m>(domains: impl IntoIterator<Item = &'m [Machine]>) -> Registry {
    let mut registry = Registry { version: 1, ..Registry::default() };
    for (at, machines) in domains.into_iter().enumerate() {
        let (index, start) = (DomainIndex(at as u32), registry.mirrors.len() as u32);
        registry.mirrors.extend(machines.iter().map(|m| m.mirror(index)));
        let domain = Domain {
            name: name(at).into(),
            mirrors: start..registry.mirrors.len() as u32,
            policy: Policy::default(),
            records: Vec::new(),
            redirect_hosts: Vec::new(),
            trust: Default::default(),
        };
        registry.domain_by_name.insert(domain.name.clone(), index);
        registry.domains.push(domain);
    }
    registry.index();
    registry
}

/// Everything up.
pub fn live<'m>(registry: &Registry, domains: impl IntoIterator<Item = &'m [Machine]>) -> Live {
    let mut live = Live::new(domains.into_iter().flatten().map(Machine::live).collect());
    live.tally(registry);
    live
}

/// A snapshot of domains without cells.
pub fn snapshot(places: &Arc<PlaceTable>, domains: &[Vec<Machine>]) -> Snapshot {
    let all = || domains.iter().map(Vec::as_slice);
    let registry = registry(all());
    let map = Map::of_places(1, places.clone()).follow(&registry, places, &Arc::default(), None);
    let live = live(&registry, all());
    Snapshot {
        registry: Arc::new(registry),
        map: Arc::new(map),
        live: Arc::new(live),
        published: UnixMillis(0),
    }
}

/// The same with the cells of all sets.
pub fn built(snapshot: &Snapshot) -> Snapshot {
    Snapshot { map: Arc::new(snapshot.map.with_all_cells()), ..snapshot.clone() }
}

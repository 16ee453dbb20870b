//! Registries of simulated fleets: one domain with a mirror on each host.

use crate::world::{Plan, sites};
use nearmost_core::check::{CheckKind, CheckSpec};
use nearmost_core::geo::{CountryCode, Place, PlaceSource};
use nearmost_core::id::NodeId;
use nearmost_core::registry::{
    Domain, DomainIndex, HealthMode, Mirror, MirrorAddress, Node, NodeIndex, Orders, Policy, Registry,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

/// The one domain.
pub const DOMAIN: &str = "play.example";

/// The key of a host's agent.
pub fn id(host: u32) -> NodeId {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&host.to_be_bytes());
    NodeId(bytes)
}

/// The host of an agent's key.
pub fn host_of(id: &NodeId) -> u32 {
    let [a, b, c, d, ..] = id.0;
    u32::from_be_bytes([a, b, c, d])
}

/// The name of a host's mirror.
pub fn mirror_name(host: u32) -> String {
    format!("m{host:05}")
}

/// An outside probe by TCP, every 2 s, with 2 s to answer.
pub fn tcp_probe() -> CheckSpec {
    let (interval, timeout) = (Duration::from_secs(2), Duration::from_secs(2));
    CheckSpec { kind: CheckKind::Tcp, interval, timeout, rise: 2, fall: 3 }
}

/// A host's IPv4 address, in a /16 of its own: agents that share a network with a mirror may not
/// testify about it. There is room for some fifty thousand.
pub fn v4(host: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0b00_0001_u32.wrapping_add(host << 16))
}

/// A host's IPv6 address, in a /32 of its own.
pub fn v6(host: u32) -> Ipv6Addr {
    Ipv6Addr::new(0x2a00 + (host >> 16) as u16, host as u16, 0, 0, 0, 0, 0, 1)
}

/// The host that an address belongs to, if any of so many.
pub fn host_at(addr: IpAddr, hosts: usize) -> Option<u32> {
    let host = match addr {
        IpAddr::V4(addr) => u32::from(addr).wrapping_sub(0x0b00_0001) >> 16,
        IpAddr::V6(addr) => {
            let [a, b, ..] = addr.segments();
            u32::from(a.checked_sub(0x2a00)?) << 16 | u32::from(b)
        }
    };
    let known = IpAddr::V4(v4(host)) == addr || IpAddr::V6(v6(host)) == addr;
    (known && (host as usize) < hosts).then_some(host)
}

/// A country for each region, on continents of their own.
const COUNTRIES: [&str; 6] = ["DE", "US", "BR", "JP", "AU", "ZA"];

/// Says of each host's mirror where it is.
pub fn place(registry: &mut Registry, plan: &Plan) {
    let sites = sites(plan);
    for ((host, mirror), site) in registry.mirrors.iter_mut().enumerate().zip(sites) {
        let region = host % usize::from(plan.regions.max(1));
        mirror.place.position = Some(site.position);
        mirror.place.country = COUNTRIES.get(region).and_then(|code| CountryCode::new(code));
        mirror.place_source = PlaceSource::Given;
    }
}

/// Mirrors with addresses of both families.
pub fn dual(hosts: u32) -> Registry {
    fleet(hosts, |host| MirrorAddress::Declared { v4: Some(v4(host)), v6: Some(v6(host)) })
}

/// Mirrors with an IPv4 address only.
pub fn single(hosts: u32) -> Registry {
    fleet(hosts, |host| MirrorAddress::Declared { v4: Some(v4(host)), v6: None })
}

fn fleet(hosts: u32, address: impl Fn(u32) -> MirrorAddress) -> Registry {
    let name: Arc<str> = DOMAIN.into();
    let domain = Domain {
        name: name.clone(),
        mirrors: 0..hosts,
        policy: Policy::default(),
        records: Vec::new(),
        redirect_hosts: Vec::new(),
        trust: Default::default(),
    };
    let node = |host| Node {
        name: format!("n{host:05}").into(),
        id: Some(id(host)),
        revoked: false,
        domains: vec![name.clone()],
        drained: false,
        windows: Vec::new(),
        place: None,
    };
    let mirror = |host| Mirror {
        name: mirror_name(host).into(),
        domain: DomainIndex(0),
        node: Some(NodeIndex(host)),
        address: address(host),
        port: 443,
        weight: 1,
        place: Place::default(),
        place_source: PlaceSource::Unknown,
        health: HealthMode::Agent,
        probe: Some(tcp_probe()),
        url: None,
        ingress: None,
        orders: Orders::default(),
    };
    Registry {
        version: 1,
        domains: vec![domain],
        nodes: (0..hosts).map(node).collect(),
        mirrors: (0..hosts).map(mirror).collect(),
        domain_by_name: [(name.clone(), DomainIndex(0))].into(),
        node_by_id: (0..hosts).map(|host| (id(host), NodeIndex(host))).collect(),
        ..Registry::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_keys_belong_to_one_host() {
        for host in [0, 1, 255, 256, 40_000] {
            for addr in [IpAddr::V4(v4(host)), IpAddr::V6(v6(host))] {
                assert_eq!(host_at(addr, 50_000), Some(host), "{addr}");
                assert_eq!(host_at(addr, host as usize), None);
            }
            assert_eq!(host_of(&id(host)), host);
        }
        assert_eq!(host_at([11, 0, 0, 2].into(), 9), None);
    }

    #[test]
    fn regions_lie_on_continents_of_their_own() {
        let mut registry = dual(6);
        place(&mut registry, &Plan { regions: 3, ..Plan::new(1, 6) });
        let country = |m: usize| registry.mirrors[m].place.country;
        assert_eq!(country(0), country(3));
        assert!(country(0) != country(1) && country(1) != country(2) && country(2).is_some());
    }
}

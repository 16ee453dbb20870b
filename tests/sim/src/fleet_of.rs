//! Registries of simulated fleets: one domain with a mirror on each host.

use nearmost_core::check::{CheckKind, CheckSpec};
use nearmost_core::geo::{Place, PlaceSource};
use nearmost_core::id::NodeId;
use nearmost_core::registry::{
    Domain, DomainIndex, HealthMode, Mirror, MirrorAddress, Node, NodeIndex, Orders, Policy, Registry,
};
use std::net::{Ipv4Addr, Ipv6Addr};
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

/// A host's IPv4 address. Those of two hosts are never in one /24: agents that share a network
/// with a mirror may not testify about it.
pub fn v4(host: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0b00_0001 + (host << 8))
}

/// A host's IPv6 address, in a /48 of its own.
pub fn v6(host: u32) -> Ipv6Addr {
    let [a, b, c, d] = host.to_be_bytes();
    let group = |high, low| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0x2001, 0xdb8 + group(a, b), group(c, d), 0, 0, 0, 0, 1)
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
    };
    let node = |host| Node {
        name: format!("n{host:05}").into(),
        id: Some(id(host)),
        revoked: false,
        domains: vec![name.clone()],
        drained: false,
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

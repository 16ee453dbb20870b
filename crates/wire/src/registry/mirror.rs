//! Mirrors as people write them → plain data.

use super::bodies::{HealthBody, MirrorBody};
use super::build::{BuildDefaults, place};
use super::{probe, url};
use crate::name;
use nearmost_core::geo::{Place, PlaceSource};
use nearmost_core::registry::{DomainIndex, HealthMode, Mirror, MirrorAddress, NodeIndex, Orders, Registry};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// A mirror of a domain; the error says what is wrong with it.
pub(super) fn mirror(
    mirror_name: &str,
    domain: DomainIndex,
    body: &MirrorBody,
    nodes: &HashMap<String, NodeIndex>,
    registry: &Registry,
    defaults: &BuildDefaults,
) -> Result<Mirror, String> {
    let domain_name = &*registry.domain(domain).name;
    let node = match &body.node {
        Some(name) => Some(*nodes.get(name).ok_or_else(|| format!("unknown node {name:?}"))?),
        None => None,
    };
    let health = match body.health {
        HealthBody::Agent => HealthMode::Agent,
        HealthBody::Probe => HealthMode::Probe,
        HealthBody::ManualUp => HealthMode::Manual { up: true },
        HealthBody::ManualDown => HealthMode::Manual { up: false },
    };
    if body.port == 0 {
        return Err("port = 0: expected 1 to 65535".into());
    }
    let probe = probe::check(&body.probe, domain_name, defaults)?;
    match (health, node, &probe) {
        (HealthMode::Agent, None, _) => return Err("health = \"agent\" needs a node".into()),
        (HealthMode::Probe, _, None) => {
            return Err("health = \"probe\" needs a probe, but its kind is \"none\"".into());
        }
        _ => {}
    }
    let address = address(body)?;
    if address == MirrorAddress::Observed && node.is_none() {
        return Err("needs addresses, a hostname, or a node whose address is observed".into());
    }
    if let Some(text) = &body.url {
        url::check(text).map_err(|e| format!("url {text:?}: {e}"))?;
    }
    match (body.ingress, node) {
        (Some(0), _) => return Err("ingress = 0: expected a port, 1 to 65535".into()),
        // Whoever answers there proves the node's key.
        (Some(_), None) => return Err("ingress needs a node".into()),
        _ => {}
    }
    if body.weight == 0 {
        return Err("weight = 0: expected at least 1; to send no new users there, drain it".into());
    }
    let own = body.place.as_ref().map(place).transpose()?;
    let given = own.or_else(|| node.and_then(|n| registry.nodes[n.0 as usize].place));
    // A place that says nothing is none.
    let given = given.filter(|p| *p != Place::default());
    Ok(Mirror {
        name: mirror_name.into(),
        domain,
        node,
        address,
        port: body.port,
        weight: body.weight,
        place: given.unwrap_or_default(),
        place_source: if given.is_some() { PlaceSource::Given } else { PlaceSource::Unknown },
        health,
        probe,
        url: body.url.as_deref().map(Arc::from),
        ingress: body.ingress,
        orders: Orders::default(),
    })
}

fn address(body: &MirrorBody) -> Result<MirrorAddress, String> {
    if let Some(host) = &body.hostname {
        if !body.addresses.is_empty() {
            return Err("give addresses or a hostname, not both".into());
        }
        return Ok(MirrorAddress::Hostname(name::domain(host).map_err(|e| e.to_string())?.into()));
    }
    let (mut v4, mut v6): (Option<Ipv4Addr>, Option<Ipv6Addr>) = (None, None);
    for addr in &body.addresses {
        if addr.is_unspecified() || addr.is_multicast() {
            return Err(format!("address {addr}: no service can be reached there"));
        }
        let taken = match addr.to_canonical() {
            IpAddr::V4(a) => v4.replace(a).is_some(),
            IpAddr::V6(a) => v6.replace(a).is_some(),
        };
        if taken {
            return Err(format!(
                "address {addr}: a second address of its family; make it a mirror of its own"
            ));
        }
    }
    Ok(match (v4, v6) {
        (None, None) => MirrorAddress::Observed,
        (v4, v6) => MirrorAddress::Declared { v4, v6 },
    })
}

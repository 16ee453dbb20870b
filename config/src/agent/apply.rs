//! From version 1 of the file to the plain configuration, and the rules between keys.

use super::spec::{AgentSpec, BrokerSpec, NodeSpec, PathsSpec, ProcessSpec, ReconnectSpec, ServiceSpec};
use super::*;
use crate::error::Fault;
use crate::place::place;
use crate::value::{Address, FilePath, Number, Plain, Text, set};
use std::collections::HashSet;
use std::net::IpAddr;

/// The defaults with what the spec says over them, if the whole makes sense.
pub(super) fn config(spec: AgentSpec) -> Result<AgentConfig, Fault> {
    let mut config = AgentConfig::default();
    set(&mut config.data_dir, spec.data_dir);
    if let Some(log) = spec.log {
        log.apply(&mut config.log);
    }
    if let Some(node) = spec.node {
        node.apply(&mut config.node)?;
    }
    config.brokers = brokers(spec.brokers.unwrap_or_default())?;
    if let Some(metrics) = spec.metrics {
        set(&mut config.metrics, metrics.listen);
    }
    if let Some(reports) = spec.reports {
        set(&mut config.report_interval, reports.interval_ms);
    }
    if let Some(paths) = spec.paths {
        paths.apply(&mut config.paths);
    }
    if let Some(witness) = spec.witness {
        set(&mut config.node.witnesses_per_second, witness.per_second);
    }
    if let Some(ingress) = spec.ingress {
        ingress.apply(&mut config.node.ingress)?;
    }
    if let Some(drain) = spec.drain {
        set(&mut config.drain_grace, drain.grace_ms);
    }
    if let Some(reconnect) = spec.reconnect {
        reconnect.apply(&mut config.reconnect)?;
    }
    config.services = services(spec.services.unwrap_or_default(), &config.node.name)?;
    Ok(config)
}

impl NodeSpec {
    fn apply(self, node: &mut NodeConfig) -> Result<(), Fault> {
        set(&mut node.name, self.name);
        set(&mut node.max_sessions, self.max_sessions);
        if let Some(p) = self.place {
            node.place = place("node.place", p.latitude, p.longitude, p.country, p.asn)?;
        }
        Ok(())
    }
}

impl PathsSpec {
    fn apply(self, paths: &mut PathsConfig) {
        set(&mut paths.connections, self.connections);
        set(&mut paths.interval, self.interval_ms);
        set(&mut paths.networks.v4, self.ipv4_prefix);
        set(&mut paths.networks.v6, self.ipv6_prefix);
        set(&mut paths.max_networks, self.max_networks);
        set(&mut paths.measures_per_second, self.measures_per_second);
    }
}

impl ReconnectSpec {
    fn apply(self, reconnect: &mut ReconnectConfig) -> Result<(), Fault> {
        let key = if self.min_ms.is_some() { "reconnect.min_ms" } else { "reconnect.max_ms" };
        set(&mut reconnect.min, self.min_ms);
        set(&mut reconnect.max, self.max_ms);
        let (min, max) = (reconnect.min.as_millis(), reconnect.max.as_millis());
        match min <= max {
            true => Ok(()),
            false => Err(Fault::rule(key, format!("min_ms ({min}) is above max_ms ({max})"))),
        }
    }
}

fn brokers(specs: Vec<BrokerSpec>) -> Result<Vec<Broker>, Fault> {
    let mut brokers: Vec<Broker> = Vec::with_capacity(specs.len());
    for (i, spec) in specs.into_iter().enumerate() {
        let broker = Broker { id: spec.id.plain(), addresses: spec.addresses.plain() };
        if broker.addresses.is_empty() {
            return Err(Fault::rule(format!("brokers[{i}].addresses"), "must hold at least one host:port"));
        }
        if brokers.iter().any(|b| b.id == broker.id) {
            return Err(Fault::rule(format!("brokers[{i}].id"), format!("{:?} is there already", broker.id)));
        }
        brokers.push(broker);
    }
    Ok(brokers)
}

fn services(specs: Vec<ServiceSpec>, node: &str) -> Result<Vec<Service>, Fault> {
    let mut services: Vec<Service> = Vec::with_capacity(specs.len());
    for (i, spec) in specs.into_iter().enumerate() {
        let path = format!("services[{i}]");
        let service = service(&path, spec, node)?;
        if services.iter().any(|s| s.domain == service.domain && s.mirror == service.mirror) {
            let message = format!("there is already a mirror {:?} of {}", service.mirror, service.domain);
            return Err(Fault::rule(format!("{path}.mirror"), message));
        }
        services.push(service);
    }
    Ok(services)
}

fn service(path: &str, spec: ServiceSpec, node: &str) -> Result<Service, Fault> {
    let port = spec.port.plain();
    let mirror = spec.mirror.map(Plain::plain).filter(|name| !name.is_empty());
    let address = match (spec.hostname, spec.addresses.unwrap_or_default()) {
        (None, addresses) => addresses_of(path, addresses)?,
        (Some(name), addresses) if addresses.is_empty() => MirrorAddress::Hostname(name.plain().into()),
        (Some(_), _) => {
            let message = "give either hostname or addresses; a host name's addresses are looked up";
            return Err(Fault::rule(format!("{path}.hostname"), message));
        }
    };
    let ready = format!("{path}.ready");
    let probe = format!("{path}.probe");
    let checks = match spec.checks {
        Some(keys) => checks(path, keys, port)?,
        None => vec![check::by_default(&address, port)],
    };
    let own = check::own_address(&address, port);
    let local = LocalService {
        process: spec.process.map(|keys| process(&format!("{path}.process"), keys)).transpose()?,
        ingress: ingress::of_service(&format!("{path}.ingress"), spec.ingress, own)?,
    };
    Ok(Service {
        domain: spec.domain.plain(),
        mirror: mirror.unwrap_or_else(|| node.to_owned()),
        address,
        port,
        share: share(spec.weight, spec.capacity),
        url: spec.url.map(Plain::plain),
        checks,
        ready: spec.ready.map(|keys| check::by_agent(&ready, keys, "ready", port)).transpose()?,
        probe: spec.probe.map(|keys| check::by_broker(&probe, keys)).transpose()?.unwrap_or_default(),
        local,
    })
}

fn share(weight: Option<Number<u32, 1, 1_000_000>>, capacity: Option<Number<u32, 0>>) -> Share {
    let mut share = Share::default();
    set(&mut share.weight, weight);
    set(&mut share.capacity, capacity);
    share
}

fn process(path: &str, keys: ProcessSpec) -> Result<ProcessSource, Fault> {
    let absolute = |key: &str, file: Text<FilePath>| {
        let file = file.plain();
        match file.is_absolute() {
            true => Ok(file),
            false => Err(Fault::value(format!("{path}.{key}"), format!("{file:?}"), "a path from the root")),
        }
    };
    match (keys.pid_file, keys.systemd_unit, keys.exe) {
        (Some(file), None, None) => Ok(ProcessSource::PidFile(absolute("pid_file", file)?)),
        (None, None, Some(file)) => Ok(ProcessSource::Exe(absolute("exe", file)?)),
        (None, Some(unit), None) => {
            let unit = unit.plain();
            match unit.contains('/') || !unit.contains('.') {
                false => Ok(ProcessSource::SystemdUnit(unit)),
                true => Err(Fault::value(
                    format!("{path}.systemd_unit"),
                    format!("{unit:?}"),
                    "a unit's name, such as \"nginx.service\"",
                )),
            }
        }
        _ => Err(Fault::rule(path, "give exactly one of pid_file, systemd_unit and exe")),
    }
}

/// Unnamed checks are named for their kind; two of a kind need names.
fn checks(path: &str, keys: Vec<spec::CheckKeys>, port: u16) -> Result<Vec<ServiceCheck>, Fault> {
    let mut checks = Vec::with_capacity(keys.len());
    let mut names = HashSet::new();
    for (i, keys) in keys.into_iter().enumerate() {
        let path = format!("{path}.checks[{i}]");
        let kind = keys.kind.0.as_str();
        let check = check::by_agent(&path, keys, kind, port)?;
        if !names.insert(check.name.clone()) {
            return Err(Fault::rule(
                format!("{path}.name"),
                format!("there is already a check {:?}", check.name),
            ));
        }
        checks.push(check);
    }
    Ok(checks)
}

/// At most one address a family, since health is kept per family; none means observed.
fn addresses_of(path: &str, addresses: Vec<Text<Address>>) -> Result<MirrorAddress, Fault> {
    let (mut v4, mut v6) = (None, None);
    for (i, address) in addresses.into_iter().enumerate() {
        let address = address.plain();
        let key = format!("{path}.addresses[{i}]");
        if address.is_unspecified() || address.is_multicast() {
            return Err(Fault::value(key, format!("\"{address}\""), "an address of one host"));
        }
        let second = match address {
            IpAddr::V4(ip) => v4.replace(ip).is_some(),
            IpAddr::V6(ip) => v6.replace(ip).is_some(),
        };
        if second {
            let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            let message = format!(
                "{address} is a second {family} address; make it a second service with its own mirror"
            );
            return Err(Fault::rule(key, message));
        }
    }
    Ok(match (v4, v6) {
        (None, None) => MirrorAddress::Observed,
        _ => MirrorAddress::Declared { v4, v6 },
    })
}

//! From version 1 of the file to the plain configuration, and the rules between keys.

use super::spec::*;
use super::*;
use crate::error::Fault;
use crate::place::place;
use crate::value::{Plain, set};
use std::collections::{HashMap, HashSet};

/// The defaults with what the spec says over them, if the whole makes sense.
pub(super) fn config(spec: BrokerSpec) -> Result<BrokerConfig, Fault> {
    let mut config = BrokerConfig::default();
    set(&mut config.data_dir, spec.data_dir);
    config.admin.socket = admin_socket(&config.data_dir);
    if let Some(log) = spec.log {
        log.apply(&mut config.observing.log);
    }
    if let Some(audit) = spec.audit {
        audit.apply(&mut config.observing.audit);
    }
    if let Some(events) = spec.events {
        events.apply(&mut config.observing.events);
    }
    if let Some(dns) = spec.dns {
        dns.apply(&mut config.dns)?;
    }
    if let Some(http) = spec.http {
        http.apply(&mut config.http)?;
    }
    if let Some(admin) = spec.admin {
        set(&mut config.admin.socket, admin.socket);
    }
    if let Some(agents) = spec.agents {
        agents.apply(&mut config.agents);
    }
    if let Some(clients) = spec.clients {
        clients.apply(&mut config.clients);
    }
    if let Some(geo) = spec.geo {
        geo.apply(&mut config.geo)?;
    }
    if let Some(health) = spec.health {
        health.apply(&mut config.mirrors.health);
    }
    if let Some(caution) = spec.caution {
        caution.apply(&mut config.mirrors.caution);
    }
    if let Some(probe) = spec.probe {
        probe.apply(&mut config.mirrors.probe);
    }
    if let Some(resolver) = spec.resolver {
        resolver.apply(&mut config.mirrors.resolver)?;
    }
    if let Some(spread) = spec.spread {
        set(&mut config.mirrors.spread.high_water_percent, spread.high_water_percent);
        set(&mut config.mirrors.spread.slow_start, spread.slow_start_ms);
    }
    if let Some(learning) = spec.learning {
        learning.apply(&mut config.geo.learning);
    }
    if let Some(peers) = spec.peers {
        peers.apply(&mut config.peers)?;
    }
    if let Some(metrics) = spec.metrics {
        metrics.apply(&mut config.observing.metrics);
    }
    advertise_listen(&config.agents.listen, &mut config.agents.advertise);
    config.peers.complete()?;
    beacon_port(&config.agents)?;
    if config.dns.listen.is_empty() {
        return Err(Fault::rule("dns.listen", "must hold at least one address, such as 0.0.0.0:53"));
    }
    abuse::complete(&config.dns.edns.cookies, &config.dns.limits)?;
    http_beyond_loopback(&config.http)?;
    listen_twice(&config)?;
    Ok(config)
}

impl DnsSpec {
    fn apply(self, dns: &mut DnsConfig) -> Result<(), Fault> {
        set(&mut dns.listen, self.listen);
        set(&mut dns.udp.workers, self.workers);
        set(&mut dns.udp.segmentation, self.segmentation);
        if let Some(xdp) = self.xdp {
            xdp.apply(&mut dns.udp.xdp)?;
        }
        set(&mut dns.zone.zones, self.zones);
        set(&mut dns.zone.nameservers, self.nameservers);
        set(&mut dns.zone.nameserver_addresses, self.nameserver_addresses);
        set(&mut dns.zone.hostmaster, self.hostmaster);
        set(&mut dns.edns.ecs, self.ecs);
        set(&mut dns.edns.max_udp_payload, self.max_udp_payload);
        if let Some(tcp) = self.tcp {
            set(&mut dns.tcp.max_connections, tcp.max_connections);
            set(&mut dns.tcp.max_per_source, tcp.max_per_source);
            set(&mut dns.tcp.idle_timeout, tcp.idle_timeout_ms);
            set(&mut dns.tcp.max_queries, tcp.max_queries);
        }
        if let Some(identity) = self.identity {
            identity.apply(&mut dns.edns.identity);
        }
        if let Some(cookies) = self.cookies {
            cookies.apply(&mut dns.edns.cookies);
        }
        if let Some(limits) = self.limits {
            limits.apply(&mut dns.limits);
        }
        if let Some(soa) = self.soa {
            set(&mut dns.zone.soa.refresh, soa.refresh_s);
            set(&mut dns.zone.soa.retry, soa.retry_s);
            set(&mut dns.zone.soa.expire, soa.expire_s);
        }
        if let Some(dnssec) = self.dnssec {
            dnssec.apply(&mut dns.dnssec);
        }
        if let Some(tls) = self.tls {
            tls.apply(&mut dns.tls)?;
        }
        if let Some(log) = self.log {
            log.apply(&mut dns.log)?;
        }
        Ok(())
    }
}

impl HttpSpec {
    fn apply(self, http: &mut HttpConfig) -> Result<(), Fault> {
        set(&mut http.listen, self.listen);
        set(&mut http.redirect_listen, self.redirect_listen);
        set(&mut http.trusted_sources, self.trusted_sources);
        set(&mut http.max_connections, self.max_connections);
        set(&mut http.requests_per_second, self.requests_per_second);
        set(&mut http.request_burst, self.request_burst);
        http.tls = match (self.tls_cert, self.tls_key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert: cert.plain(), key: key.plain() }),
            (Some(_), None) => return Err(Fault::rule("http.tls_cert", "needs http.tls_key beside it")),
            (None, Some(_)) => return Err(Fault::rule("http.tls_key", "needs http.tls_cert beside it")),
            (None, None) => None,
        };
        let token = |t: TokenSpec| HttpToken {
            name: t.name.plain(),
            sha256: t.sha256.plain(),
            scope: t.scope.map(Plain::plain).unwrap_or_default(),
        };
        http.tokens = self.tokens.unwrap_or_default().into_iter().map(token).collect();
        let person = |p: PersonSpec| Person { name: p.name.plain(), id: p.id.plain() };
        http.persons = self.persons.unwrap_or_default().into_iter().map(person).collect();
        unique("http.tokens", "name", http.tokens.iter().map(|t| t.name.as_str()))?;
        unique("http.persons", "id", http.persons.iter().map(|p| p.id.as_str()))
    }
}

impl AgentsSpec {
    fn apply(self, agents: &mut AgentsConfig) {
        set(&mut agents.listen, self.listen);
        set(&mut agents.beacon_listen, self.beacon_listen);
        set(&mut agents.advertise, self.advertise);
        set(&mut agents.max_sessions, self.max_sessions);
        set(&mut agents.max_handshakes, self.max_handshakes);
        set(&mut agents.handshake_timeout, self.handshake_timeout_ms);
    }
}

impl ClientsSpec {
    fn apply(self, clients: &mut ClientsConfig) {
        set(&mut clients.listen, self.listen);
        set(&mut clients.max_connections, self.max_connections);
        set(&mut clients.max_per_network, self.max_per_network);
        set(&mut clients.handshake_timeout, self.handshake_timeout_ms);
        set(&mut clients.idle_timeout, self.idle_timeout_ms);
        set(&mut clients.messages_per_second, self.messages_per_second);
        set(&mut clients.message_burst, self.message_burst);
        set(&mut clients.report_interval, self.report_interval_ms);
        set(&mut clients.report_burst, self.report_burst);
    }
}

impl GeoSpec {
    fn apply(self, geo: &mut GeoConfig) -> Result<(), Fault> {
        set(&mut geo.databases, self.databases);
        set(&mut geo.embedded, self.embedded);
        set(&mut geo.watch, self.watch);
        let mut mib = geo.cell_memory >> 20;
        set(&mut mib, self.cell_memory_mib);
        geo.cell_memory = mib << 20;
        for (i, entry) in self.overrides.unwrap_or_default().into_iter().enumerate() {
            let path = format!("geo.overrides[{i}]");
            let place = place(&path, entry.latitude, entry.longitude, entry.country, entry.asn)?;
            let Some(place) = place else {
                return Err(Fault::rule(path, "says no place; give latitude and longitude, country or asn"));
            };
            geo.overrides.push(GeoOverride { prefix: entry.prefix.plain(), place });
        }
        let prefixes: Vec<String> = geo.overrides.iter().map(|o| o.prefix.to_string()).collect();
        unique("geo.overrides", "prefix", prefixes.iter().map(String::as_str))
    }
}

impl HealthSpec {
    fn apply(self, health: &mut HealthConfig) {
        set(&mut health.beacon_period, self.beacon_period_ms);
        set(&mut health.missed_for_suspect, self.missed_for_suspect);
        set(&mut health.reprobe_interval, self.reprobe_interval_ms);
        set(&mut health.unattended_reprobe, self.unattended_reprobe_ms);
        set(&mut health.probe_vantages, self.probe_vantages);
        set(&mut health.resume_grace, self.resume_grace_ms);
        set(&mut health.warm_up, self.warm_up_ms);
        set(&mut health.burst_timeout, self.burst_timeout_ms);
        set(&mut health.beacon_budget_percent, self.beacon_budget_percent);
    }
}

impl ProbeSpec {
    fn apply(self, probe: &mut ProbeConfig) {
        set(&mut probe.interval, self.interval_ms);
        set(&mut probe.timeout, self.timeout_ms);
        set(&mut probe.rise, self.rise);
        set(&mut probe.fall, self.fall);
        set(&mut probe.max_in_flight, self.max_in_flight);
    }
}

impl ResolverSpec {
    fn apply(self, resolver: &mut ResolverConfig) -> Result<(), Fault> {
        let key =
            if self.min_refresh_ms.is_some() { "resolver.min_refresh_ms" } else { "resolver.max_refresh_ms" };
        set(&mut resolver.servers, self.servers);
        set(&mut resolver.min_refresh, self.min_refresh_ms);
        set(&mut resolver.max_refresh, self.max_refresh_ms);
        let (min, max) = (resolver.min_refresh.as_millis(), resolver.max_refresh.as_millis());
        match min <= max {
            true => Ok(()),
            false => Err(Fault::rule(key, format!("min_refresh_ms ({min}) is above max_refresh_ms ({max})"))),
        }
    }
}

impl LearningSpec {
    fn apply(self, learning: &mut LearningConfig) {
        let networks = &mut learning.networks;
        set(&mut networks.enabled, self.enabled);
        set(&mut networks.prefix_v4, self.prefix_v4);
        set(&mut networks.prefix_v6, self.prefix_v6);
        set(&mut networks.max, self.max_networks);
        set(&mut networks.keep, self.keep_s);
        set(&mut networks.persist, self.persist);
        set(&mut networks.fit_interval, self.fit_interval_ms);
        set(&mut learning.pair_interval, self.pair_interval_s);
        set(&mut learning.pair_rate_per_node, self.pair_rate_per_node);
        set(&mut learning.pair_rate, self.pair_rate);
    }
}

/// Others are told what the operator says, else those listen addresses that can be connected to.
pub(super) fn advertise_listen(listen: &[SocketAddr], advertise: &mut Vec<String>) {
    if advertise.is_empty() {
        let concrete = |a: &&SocketAddr| !a.ip().is_unspecified() && a.port() != 0;
        *advertise = listen.iter().filter(concrete).map(SocketAddr::to_string).collect();
    }
}

/// Agents send beacons to one port, whichever of the broker's addresses they reach it by.
fn beacon_port(agents: &AgentsConfig) -> Result<(), Fault> {
    let key = "agents.beacon_listen";
    let Some((first, others)) = agents.beacon_listen.split_first() else {
        return Err(Fault::rule(key, "must hold at least one address, such as [::]:7842"));
    };
    let other = |a: &&SocketAddr| a.port() != first.port() || a.port() == 0;
    match others.iter().find(other) {
        None => Ok(()),
        Some(other) => {
            let message =
                format!("{first} and {other} are not of one given port, but agents are told only one");
            Err(Fault::rule(key, message))
        }
    }
}

/// Whoever can reach the API from elsewhere must be known, and nobody may read along.
fn http_beyond_loopback(http: &HttpConfig) -> Result<(), Fault> {
    let beyond = |a: &SocketAddr| !a.ip().to_canonical().is_loopback();
    let Some((i, address)) = http.listen.iter().enumerate().find(|(_, a)| beyond(a)) else {
        return Ok(());
    };
    let mut missing = Vec::new();
    if http.tls.is_none() {
        missing.push("http.tls_cert and http.tls_key");
    }
    if http.tokens.is_empty() && http.persons.is_empty() {
        missing.push("a token in http.tokens or a person in http.persons");
    }
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Fault::rule(
            format!("http.listen[{i}]"),
            format!("{address} is beyond loopback, which needs {}", missing.join(", and ")),
        )),
    }
}

/// Two listeners cannot share an address of one protocol. Port 0 is a new port each time.
fn listen_twice(config: &BrokerConfig) -> Result<(), Fault> {
    let udp = [
        ("dns.listen", &config.dns.listen[..]),
        ("dns.tls.doq_listen", &config.dns.tls.doq_listen),
        ("agents.listen", &config.agents.listen),
        ("agents.beacon_listen", &config.agents.beacon_listen),
        ("clients.listen", &config.clients.listen),
        ("peers.listen", config.peers.listening()),
    ];
    let tcp = [
        ("dns.listen", &config.dns.listen[..]),
        ("dns.tls.dot_listen", &config.dns.tls.dot_listen),
        ("http.listen", &config.http.listen),
        ("http.redirect_listen", &config.http.redirect_listen),
    ];
    for (protocol, listeners) in [("UDP", &udp[..]), ("TCP", &tcp[..])] {
        let mut taken: HashMap<SocketAddr, String> = HashMap::new();
        for (key, addresses) in listeners {
            for (i, address) in addresses.iter().enumerate().filter(|(_, a)| a.port() != 0) {
                let key = format!("{key}[{i}]");
                if let Some(other) = taken.get(address) {
                    return Err(Fault::rule(
                        key,
                        format!("{address} over {protocol} is already taken by {other}"),
                    ));
                }
                taken.insert(*address, key);
            }
        }
    }
    Ok(())
}

/// No two entries of a list share what tells them apart.
pub(super) fn unique<'a>(list: &str, key: &str, values: impl Iterator<Item = &'a str>) -> Result<(), Fault> {
    let mut seen = HashSet::new();
    for (i, value) in values.enumerate() {
        if !seen.insert(value) {
            return Err(Fault::rule(format!("{list}[{i}].{key}"), format!("{value:?} is there already")));
        }
    }
    Ok(())
}

//! Configuration → what each subsystem takes.

use crate::agents::AgentSettings;
use crate::clients::ClientSettings;
use crate::dns::signing::SigningSettings;
use crate::dns::{DnsSettings, EncryptedSettings, XdpSettings};
use crate::events::keeper::Keeping;
use crate::geoip::GeoSettings;
use crate::hostnames::HostnameSettings;
use crate::learning::{LearnerSettings, MemoryFile};
use crate::reports::ReportSettings;
use nearmost_config::{BrokerConfig, HttpConfig, ObservingConfig, XdpMode};
use nearmost_core::fleet::{Caution, FleetConfig};
use nearmost_core::health::damping::DampingRules;
use nearmost_core::rtt::pairs::PairConfig;
use nearmost_core::rtt::{Coarseness, LearnerConfig};
use nearmost_core::spread::{DemandConfig, Marks, SpreadConfig};
use nearmost_dns::dnssec::SignTimes;
use nearmost_dns::limiter::LimitConfig;
use nearmost_dns::{CookieKey, DnsConfig, EdnsConfig, Identity, IdleTimeouts, SoaTimers};
use nearmost_wire::beacon::SiteKey;
use nearmost_wire::name;
use nearmost_wire::registry::BuildDefaults;
use std::net::SocketAddr;
use std::time::Duration;

/// Of the answer function.
pub fn responder(config: &BrokerConfig, site: &SiteKey) -> DnsConfig {
    let dns = &config.dns;
    let given = |text: &String| Some(text.clone()).filter(|t| !t.is_empty());
    DnsConfig {
        zones: dns.zone.zones.clone(),
        nameservers: dns.zone.nameservers.clone(),
        nameserver_addresses: crate::dns::nameserver_addresses(&dns.zone.nameserver_addresses, &dns.listen),
        hostmaster: given(&dns.zone.hostmaster),
        soa: SoaTimers {
            refresh: dns.zone.soa.refresh,
            retry: dns.zone.soa.retry,
            expire: dns.zone.soa.expire,
            ..SoaTimers::default()
        },
        edns: EdnsConfig {
            max_udp_payload: dns.edns.max_udp_payload,
            ecs: dns.edns.ecs,
            keepalive: IdleTimeouts { tcp: dns.tcp.idle_timeout, tls: dns.tls.idle_timeout },
            cookies: dns.edns.cookies.enabled.then(|| CookieKey::new(site.cookie_key())),
            require_cookie: dns.edns.cookies.required,
        },
        identity: Identity { id: given(&dns.edns.identity.id), version: given(&dns.edns.identity.version) },
        ..DnsConfig::default()
    }
}

/// Of keys and signatures.
pub fn signing(config: &BrokerConfig) -> SigningSettings {
    let dnssec = &config.dns.dnssec;
    let window = (dnssec.signature_life / 7).max(Duration::from_secs(1));
    let margin = dnssec.signature_life.saturating_sub(window);
    let times = SignTimes { window, margin, ..SignTimes::default() };
    SigningSettings { publish_hold: dnssec.publish_hold, retire_hold: dnssec.retire_hold, times }
}

/// Of the DNS sockets.
pub fn dns(config: &BrokerConfig) -> DnsSettings {
    let tcp = &config.dns.tcp;
    DnsSettings {
        listen: config.dns.listen.clone(),
        workers: config.dns.udp.workers,
        tcp: crate::dns::TcpLimits {
            max_connections: tcp.max_connections,
            max_per_source: tcp.max_per_source,
            idle_timeout: tcp.idle_timeout,
            max_queries: tcp.max_queries,
            ..crate::dns::TcpLimits::default()
        },
        segmentation: config.dns.udp.segmentation,
        xdp: xdp(config),
        limits: limits(config),
    }
}

/// Of UDP past the sockets.
fn xdp(config: &BrokerConfig) -> XdpSettings {
    let xdp = &config.dns.udp.xdp;
    XdpSettings {
        interfaces: xdp.interfaces.clone(),
        mode: match xdp.mode {
            XdpMode::Auto => nearmost_xdp::Mode::Auto,
            XdpMode::Native => nearmost_xdp::Mode::Native,
            XdpMode::Generic => nearmost_xdp::Mode::Generic,
        },
        required: xdp.required,
        ring: xdp.ring,
    }
}

/// Of what is sent to sources that may be forged.
fn limits(config: &BrokerConfig) -> LimitConfig {
    let limits = &config.dns.limits;
    LimitConfig {
        responses_per_second: limits.responses_per_second,
        nxdomains_per_second: limits.nxdomains_per_second,
        errors_per_second: limits.errors_per_second,
        window: limits.window,
        slip: limits.slip,
        ipv4_prefix: limits.ipv4_prefix,
        ipv6_prefix: limits.ipv6_prefix,
        allow: limits.allow.clone(),
        max_amplification: limits.max_amplification,
        table_size: limits.table_size,
    }
}

/// Of encrypted DNS; `None` when it is off.
pub fn encrypted_dns(config: &BrokerConfig) -> Option<EncryptedSettings> {
    let tls = &config.dns.tls;
    Some(EncryptedSettings {
        files: tls.files_in_use()?.clone(),
        dot: tls.dot_listen.clone(),
        doq: tls.doq_listen.clone(),
        limits: crate::dns::TcpLimits {
            max_connections: tls.max_connections,
            max_per_source: tls.max_per_source,
            idle_timeout: tls.idle_timeout,
            max_queries: tls.max_queries,
            ..crate::dns::TcpLimits::default()
        },
        handshake_timeout: tls.handshake_timeout,
        max_streams: tls.max_streams,
    })
}

/// Of the geo databases.
pub fn geo(config: &BrokerConfig) -> GeoSettings {
    GeoSettings {
        embedded: config.geo.embedded,
        databases: config.geo.databases.clone(),
        watch: config.geo.watch,
        overrides: config.geo.overrides.iter().map(|o| (o.prefix, o.place)).collect(),
    }
}

/// Of the agents' sessions.
pub fn agents(config: &BrokerConfig) -> AgentSettings {
    AgentSettings {
        listen: config.agents.listen.clone(),
        max_sessions: config.agents.max_sessions,
        max_handshakes: config.agents.max_handshakes,
        hello_timeout: config.agents.handshake_timeout,
    }
}

/// Of clients' sessions.
pub fn clients(config: &BrokerConfig) -> ClientSettings {
    let clients = &config.clients;
    ClientSettings {
        listen: clients.listen.clone(),
        max_connections: clients.max_connections,
        max_per_network: clients.max_per_network,
        handshake_timeout: clients.handshake_timeout,
        idle_timeout: clients.idle_timeout,
        message_every: Duration::from_secs(1) / clients.messages_per_second.max(1),
        message_burst: clients.message_burst,
    }
}

/// Of clients' reports.
pub fn reports(config: &BrokerConfig) -> ReportSettings {
    ReportSettings { interval: config.clients.report_interval, burst: config.clients.report_burst }
}

/// Of the fleet.
pub fn fleet(config: &BrokerConfig) -> FleetConfig {
    let health = &config.mirrors.health;
    FleetConfig {
        beacon_period: health.beacon_period,
        missed_for_suspect: health.missed_for_suspect,
        reprobe_interval: health.reprobe_interval,
        unattended_reprobe: health.unattended_reprobe,
        probe_vantages: usize::from(health.probe_vantages),
        resume_grace: health.resume_grace,
        warm_for: health.warm_up,
        burst_timeout: health.burst_timeout,
        caution: caution(config),
        ..FleetConfig::default()
    }
}

fn caution(config: &BrokerConfig) -> Caution {
    let caution = &config.mirrors.caution;
    let share = |percent: u8| f64::from(percent) / 100.0;
    Caution {
        region_cap: share(caution.region_cap_percent),
        panic_below: share(caution.panic_below_percent),
        damping: DampingRules {
            half_life: caution.flap_half_life,
            hold: caution.flap_hold,
            most: caution.flap_hold_max,
            manual_failback: false,
        },
        calm_after: caution.calm_after,
        references: !caution.references.is_empty(),
        witnesses: caution.witnesses,
        ..Caution::default()
    }
}

/// How often agents tell where their service's users are, as they are shipped.
const AGENTS_TELL: Duration = Duration::from_secs(30);

/// Of sharing load out.
pub fn spread(config: &BrokerConfig) -> SpreadConfig {
    let spread = &config.mirrors.spread;
    let high = f32::from(spread.high_water_percent) / 100.0;
    let marks = Marks::default();
    SpreadConfig {
        // A band below the mark, in which nothing moves.
        marks: Marks { low: high - 0.04, refill: high - 0.02, high, hard: marks.hard.max(high) },
        slow_start: spread.slow_start,
        demand: DemandConfig { period: AGENTS_TELL, ..DemandConfig::default() },
        ..SpreadConfig::default()
    }
}

/// Of learning round trips.
pub fn learner(config: &BrokerConfig) -> LearnerSettings {
    let networks = &config.geo.learning.networks;
    LearnerSettings {
        enabled: networks.enabled,
        config: LearnerConfig {
            coarseness: Coarseness { v4: networks.prefix_v4, v6: networks.prefix_v6 },
            max_networks: networks.max,
            keep: networks.keep,
        },
        persist: networks.persist,
        file: Some(MemoryFile::new(&config.data_dir)),
        fit_interval: networks.fit_interval,
    }
}

/// Of measuring between nodes; `None` when nothing is to be measured.
pub fn pairs(config: &BrokerConfig) -> Option<PairConfig> {
    let learning = &config.geo.learning;
    Some(PairConfig {
        interval: learning.pair_interval,
        node_gap: Duration::from_secs(60).checked_div(learning.pair_rate_per_node)?,
        gap: Duration::from_secs(1).checked_div(learning.pair_rate)?,
    })
}

/// Of mirrors given by host name.
pub fn hostnames(config: &BrokerConfig) -> HostnameSettings {
    let resolver = &config.mirrors.resolver;
    HostnameSettings {
        servers: resolver.servers.clone(),
        min_refresh: resolver.min_refresh,
        max_refresh: resolver.max_refresh,
    }
}

/// What absent parts of a probe take.
pub fn probe_defaults(config: &BrokerConfig) -> BuildDefaults {
    let probe = &config.mirrors.probe;
    BuildDefaults {
        probe_interval: probe.interval,
        probe_timeout: probe.timeout,
        probe_rise: probe.rise,
        probe_fall: probe.fall,
    }
}

/// What agents' tokens carry: as configured, else the concrete addresses that the agents' port listens on.
pub fn advertise(config: &BrokerConfig, bound: &[SocketAddr]) -> Vec<String> {
    reached_at(&config.agents.advertise, bound)
}

/// Where other brokers reach this one: as configured, else the concrete addresses that the peers' port
/// listens on.
pub fn advertise_to_peers(config: &BrokerConfig, bound: &[SocketAddr]) -> Vec<String> {
    reached_at(&config.peers.advertise, bound)
}

/// This broker's name for people: as configured, else the first label of the machine's host name, else
/// `broker`.
pub fn peer_name(config: &BrokerConfig) -> String {
    let given = Some(config.peers.name.clone()).filter(|name| !name.is_empty());
    given.unwrap_or_else(|| name_of_host(&rustix::system::uname().nodename().to_string_lossy()))
}

fn name_of_host(host: &str) -> String {
    let label = host.split('.').next().unwrap_or_default();
    name::short(label).unwrap_or_else(|_| "broker".into())
}

fn reached_at(configured: &[String], bound: &[SocketAddr]) -> Vec<String> {
    // The configuration derives its default from the listening addresses; a port of 0 is only known now.
    if configured.iter().any(|a| !a.ends_with(":0")) {
        return configured.to_vec();
    }
    bound.iter().filter(|a| !a.ip().is_unspecified()).map(SocketAddr::to_string).collect()
}

/// The part of the section that listening sockets are made from; the rest is taken over.
fn http_listeners(http: &HttpConfig) -> HttpConfig {
    let HttpConfig { listen, redirect_listen, tls, max_connections, .. } = http.clone();
    HttpConfig { listen, redirect_listen, tls, max_connections, ..HttpConfig::default() }
}

/// How long what happened is kept.
pub fn keeping(config: &BrokerConfig) -> Keeping {
    Keeping { audit: config.observing.audit.clone(), events: config.observing.events.clone() }
}

/// The sections that differ in what a running broker does not take over: all but the geo databases
/// (whose table is made anew, while the memory for cells stays), who may use the API, levels of the logs and
/// how long what happened is kept.
pub fn needing_restart(running: &BrokerConfig, new: &BrokerConfig) -> Vec<&'static str> {
    // Every section by name, so that a new one is not forgotten.
    let BrokerConfig {
        data_dir,
        dns,
        http,
        admin,
        agents,
        clients,
        peers,
        geo,
        mirrors,
        observing: ObservingConfig { log, audit: _, events: _, metrics },
    } = running;
    let same = [
        ("data_dir", *data_dir == new.data_dir),
        ("log", log.format == new.observing.log.format),
        ("dns", *dns == new.dns),
        ("http", http_listeners(http) == http_listeners(&new.http)),
        ("admin", *admin == new.admin),
        ("agents", *agents == new.agents),
        ("clients", *clients == new.clients),
        ("health", mirrors.health == new.mirrors.health),
        ("caution", mirrors.caution == new.mirrors.caution),
        ("probe", mirrors.probe == new.mirrors.probe),
        ("resolver", mirrors.resolver == new.mirrors.resolver),
        ("spread", mirrors.spread == new.mirrors.spread),
        ("learning", geo.learning == new.geo.learning),
        ("peers", *peers == new.peers),
        ("metrics", *metrics == new.observing.metrics),
    ];
    same.into_iter().filter(|(_, same)| !same).map(|(section, _)| section).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_limits_make_sense() {
        limits(&BrokerConfig::default()).check().unwrap();
    }

    #[test]
    fn cookies_are_of_the_site_unless_they_are_off() {
        let (mut config, site) = (BrokerConfig::default(), SiteKey::new(&[1; 32]));
        let key = responder(&config, &site).edns.cookies;
        assert_eq!(key, Some(CookieKey::new(site.cookie_key())));
        assert_ne!(key, responder(&config, &SiteKey::new(&[2; 32])).edns.cookies);
        config.dns.edns.cookies.enabled = false;
        assert_eq!(responder(&config, &site).edns.cookies, None);
    }

    #[test]
    fn clients_are_told_the_idle_time_of_their_transport() {
        let mut config = BrokerConfig::default();
        (config.dns.tcp.idle_timeout, config.dns.tls.idle_timeout) =
            (Duration::from_secs(3), Duration::from_secs(4));
        let told = responder(&config, &SiteKey::new(&[1; 32])).edns.keepalive;
        assert_eq!((told.tcp, told.tls), (Duration::from_secs(3), Duration::from_secs(4)));
    }

    #[test]
    fn rates_become_gaps_and_a_rate_of_0_measures_nothing() {
        let mut config = BrokerConfig::default();
        let pairs = pairs(&config).unwrap();
        assert_eq!((pairs.node_gap, pairs.gap), (Duration::from_secs(6), Duration::from_millis(20)));
        config.geo.learning.pair_rate_per_node = 0;
        assert_eq!(super::pairs(&config), None);
    }

    #[test]
    fn a_broker_is_named_after_its_machine_unless_it_is_given_a_name() {
        let mut config = BrokerConfig::default();
        assert!(name::short(&peer_name(&config)).is_ok());
        config.peers.name = "alice".into();
        assert_eq!(peer_name(&config), "alice");
        for (host, name) in [("Lon-1.example.com", "lon-1"), ("", "broker"), ("(none)", "broker")] {
            assert_eq!(name_of_host(host), name);
        }
    }

    #[test]
    fn peers_are_told_what_is_configured_or_else_bound() {
        let mut config = BrokerConfig::default();
        let bound = ["192.0.2.1:4000", "[::]:4000"].map(|a| a.parse().unwrap());
        assert_eq!(advertise_to_peers(&config, &bound), ["192.0.2.1:4000"]);
        config.peers.advertise = vec!["b.example:7843".into()];
        assert_eq!(advertise_to_peers(&config, &bound), ["b.example:7843"]);
    }

    #[test]
    fn changed_sections_that_need_a_restart_are_named() {
        let running = BrokerConfig::default();
        assert!(needing_restart(&running, &running).is_empty());
        let mut new = running.clone();
        new.geo.watch = false;
        assert!(needing_restart(&running, &new).is_empty(), "taken over while running");
        new.http.tokens.push(nearmost_config::HttpToken {
            name: "t".into(),
            sha256: [1; 32],
            scope: nearmost_config::Scope::Read,
        });
        assert!(needing_restart(&running, &new).is_empty(), "taken over while running");
        new.observing.log.levels.push("quinn=debug".parse().unwrap());
        new.observing.audit.keep_days += 1;
        new.observing.events.keep_days += 1;
        assert!(needing_restart(&running, &new).is_empty(), "taken over while running");
        new.http.max_connections += 1;
        assert_eq!(needing_restart(&running, &new), ["http"]);
        new.http.max_connections -= 1;
        new.mirrors.health.reprobe_interval += Duration::from_secs(1);
        new.dns.edns.ecs = !new.dns.edns.ecs;
        assert_eq!(needing_restart(&running, &new), ["dns", "health"]);
        new.peers.name = "bob".into();
        new.geo.learning.pair_rate += 1;
        assert_eq!(needing_restart(&running, &new), ["dns", "health", "learning", "peers"]);
        new.observing.metrics.max_mirrors += 1;
        assert_eq!(needing_restart(&running, &new).last(), Some(&"metrics"));
        assert_eq!(geo(&new).watch, new.geo.watch);
    }
}

//! Answering over DNS.

use super::{
    DnsCookieConfig, DnsIdentityConfig, DnsLimitsConfig, DnsLogConfig, DnsTlsConfig, DnsXdpConfig,
    DnssecConfig, any_v6,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Answering over DNS.
#[derive(Clone, Debug, PartialEq)]
pub struct DnsConfig {
    /// UDP and TCP addresses.
    pub listen: Vec<SocketAddr>,
    /// How UDP is served.
    pub udp: DnsUdpConfig,
    /// What the zones say of themselves.
    pub zone: DnsZoneConfig,
    /// What is said and heard in EDNS.
    pub edns: DnsEdnsConfig,
    /// Limits of DNS over TCP.
    pub tcp: DnsTcpConfig,
    /// DNS over TLS and over QUIC.
    pub tls: DnsTlsConfig,
    /// A sample of the queries, written down.
    pub log: DnsLogConfig,
    /// Limits of DNS over UDP.
    pub limits: DnsLimitsConfig,
    /// Keys and signatures of the domains that are signed.
    pub dnssec: DnssecConfig,
}

/// How UDP is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsUdpConfig {
    /// Threads that answer, for each address; 0 for one a core for each address.
    pub workers: usize,
    /// Replies to one destination leave together (`UDP_SEGMENT`), where the system can.
    pub segmentation: bool,
    /// Past the sockets, from interfaces' queues.
    pub xdp: DnsXdpConfig,
}

/// What the zones say of themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsZoneConfig {
    /// Zones that hold several domains; every domain outside them is a zone of its own.
    pub zones: Vec<String>,
    /// Host names of the name servers, for NS records and the SOA.
    pub nameservers: Vec<String>,
    /// Addresses of those name servers whose names lie in a zone of ours (glue).
    pub nameserver_addresses: Vec<IpAddr>,
    /// Mailbox for the SOA, as `user@host`; empty for `hostmaster@<zone>`.
    pub hostmaster: String,
    /// Timers of the SOA record.
    pub soa: SoaConfig,
}

/// What is said and heard in EDNS (RFC 6891).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsEdnsConfig {
    /// Look at EDNS client subnets (RFC 7871).
    pub ecs: bool,
    /// Largest UDP answer sent, in bytes, whatever the client offers.
    pub max_udp_payload: u16,
    /// DNS cookies.
    pub cookies: DnsCookieConfig,
    /// What is said of this server.
    pub identity: DnsIdentityConfig,
}

/// Limits of DNS over TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsTcpConfig {
    /// Open connections, all together.
    pub max_connections: usize,
    /// Open connections of one source: an IPv4 address or an IPv6 /64.
    pub max_per_source: usize,
    /// A connection without a query for this long is closed.
    pub idle_timeout: Duration,
    /// Queries on one connection before it is closed.
    pub max_queries: u32,
}

/// Timers of the SOA record (RFC 1035 section 3.3.13); the negative TTL is the domain's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoaConfig {
    /// When secondaries look again.
    pub refresh: Duration,
    /// When they try again after a failure.
    pub retry: Duration,
    /// When they give up.
    pub expire: Duration,
}

impl Default for DnsConfig {
    fn default() -> Self {
        DnsConfig {
            listen: vec![(Ipv4Addr::UNSPECIFIED, 53).into(), any_v6(53)],
            udp: DnsUdpConfig::default(),
            zone: DnsZoneConfig::default(),
            edns: DnsEdnsConfig::default(),
            tcp: DnsTcpConfig::default(),
            tls: DnsTlsConfig::default(),
            log: DnsLogConfig::default(),
            limits: DnsLimitsConfig::default(),
            dnssec: DnssecConfig::default(),
        }
    }
}

impl Default for DnsUdpConfig {
    fn default() -> Self {
        DnsUdpConfig { workers: 0, segmentation: true, xdp: DnsXdpConfig::default() }
    }
}

impl Default for DnsEdnsConfig {
    fn default() -> Self {
        // What passes every path of today unfragmented (DNS flag day 2020).
        DnsEdnsConfig {
            ecs: true,
            max_udp_payload: 1232,
            cookies: DnsCookieConfig::default(),
            identity: DnsIdentityConfig::default(),
        }
    }
}

impl Default for DnsTcpConfig {
    fn default() -> Self {
        DnsTcpConfig {
            max_connections: 1000,
            max_per_source: 20,
            idle_timeout: Duration::from_secs(10),
            max_queries: 1000,
        }
    }
}

impl Default for SoaConfig {
    fn default() -> Self {
        SoaConfig {
            refresh: Duration::from_secs(3600),
            retry: Duration::from_secs(600),
            expire: Duration::from_secs(604_800),
        }
    }
}

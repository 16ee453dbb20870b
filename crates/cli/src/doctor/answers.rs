//! Whether the broker's DNS ports answer, over UDP and TCP, for each domain.

use super::Findings;
use super::ask::{By, ask, authoritative, code, serial};
use crate::broker::Context;
use hickory_proto::rr::{Name, RecordType};
use nearmost_client::Endpoint;
use nearmost_client::api::CheckupResponse;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Most addresses looked at.
const ADDRESSES: usize = 8;

/// Where the broker answers DNS: as named, else where it says it listens.
pub fn addresses(context: &Context, checkup: &CheckupResponse, named: &[SocketAddr]) -> Vec<SocketAddr> {
    if !named.is_empty() {
        return named.to_vec();
    }
    let dns = checkup.listeners.iter().filter(|l| l.kind == "dns");
    let mut all: Vec<SocketAddr> =
        dns.filter_map(|l| l.address.parse().ok()).map(|at| reached(context, at)).collect();
    all.sort();
    all.dedup();
    all.truncate(ADDRESSES);
    all
}

/// An address that stands for all is reached where the broker was asked.
pub fn reached(context: &Context, at: SocketAddr) -> SocketAddr {
    if !at.ip().is_unspecified() {
        return at;
    }
    let host = match context.client.endpoint() {
        Endpoint::Unix(_) => None,
        Endpoint::Http { host, .. } | Endpoint::Https { host, .. } => host.parse::<IpAddr>().ok(),
    };
    let ip = match (host, at) {
        (Some(ip), _) => ip,
        (None, SocketAddr::V4(_)) => Ipv4Addr::LOCALHOST.into(),
        (None, SocketAddr::V6(_)) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, at.port())
}

/// Asks each address for each domain.
pub async fn look(at: &[SocketAddr], domains: &[String], findings: &mut Findings) {
    if at.is_empty() {
        findings.fail(
            "dns",
            "the broker listens for DNS nowhere",
            "set dns.listen in its configuration, and restart it",
        );
    }
    if domains.is_empty() {
        findings.ok("dns", "there are no domains to ask for");
    }
    for at in at {
        let mut well = 0;
        for domain in domains {
            match problem(*at, domain).await {
                None => well += 1,
                Some((message, fix)) => {
                    findings.fail("dns", message, fix);
                    // One that does not answer at all does so for no other domain.
                    if well == 0 {
                        break;
                    }
                }
            }
        }
        if well == domains.len() && well > 0 {
            let domains = if well == 1 { "1 domain" } else { &format!("{well} domains") };
            findings.ok("dns", format!("{at} answers over UDP and TCP for {domains}"));
        }
    }
}

/// What is wrong with the answers for a domain, and the remedy.
async fn problem(at: SocketAddr, domain: &str) -> Option<(String, String)> {
    let Ok(name) = Name::from_ascii(format!("{domain}.")) else {
        return Some((format!("{domain:?} is no domain name"), "write it as play.example.com".into()));
    };
    for (kind, by, transport) in [
        (RecordType::A, By::Udp, "udp"),
        (RecordType::SOA, By::Udp, "udp"),
        (RecordType::SOA, By::Tcp, "tcp"),
    ] {
        let answer = match ask(at, &name, kind, false, by).await {
            Ok(answer) => answer,
            Err(why) => {
                return Some((format!("{at} does not answer for {domain}: {why}"), closed(at, transport)));
            }
        };
        if !authoritative(&answer) {
            let message = format!("{at} answers {} for {domain} {kind}, not as its authority", code(&answer));
            return Some((
                message,
                format!(
                    "`nearmost domain list` shows whether the broker serves {domain}, `nearmost status` whether it is well"
                ),
            ));
        }
        // In a zone that holds several domains the SOA is the zone's.
        if kind == RecordType::SOA && serial(&answer, &name).is_none() && answer.authorities.is_empty() {
            let fix = "the broker's log says more; restart it if it stays so";
            return Some((format!("{at} gives no SOA of {domain}"), fix.into()));
        }
    }
    None
}

fn closed(at: SocketAddr, transport: &str) -> String {
    let port = at.port();
    format!(
        "is the broker bound there (`ss -lnp 'sport = :{port}'`), is {transport}/{port} open in every firewall on \
         the way, and is the address right (else name it with --address)?"
    )
}

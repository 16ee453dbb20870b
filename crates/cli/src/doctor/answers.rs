//! Whether the broker's DNS ports answer, over UDP and TCP, for each domain.

use super::Findings;
use super::ask::{By, ask, authoritative, code, no_way, serial};
use crate::broker::Context;
use hickory_proto::rr::{Name, RecordType};
use nearmost_client::Endpoint;
use nearmost_client::api::CheckupResponse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Most addresses looked at.
const ADDRESSES: usize = 8;
/// How long the look-up of the broker's host may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a broker is reached that listens on all addresses of its machine.
pub enum Host {
    /// On this machine: it was asked over its socket.
    Here,
    /// At these addresses, of the host that was asked; none where they are not known.
    At(Vec<IpAddr>),
}

impl Host {
    /// Looks up the host that was asked.
    pub async fn of(context: &Context, findings: &mut Findings) -> Host {
        let (host, port) = match context.client.endpoint() {
            Endpoint::Unix(_) => return Host::Here,
            Endpoint::Http { host, port } => (host, *port),
            Endpoint::Https { host, port, .. } => (host, *port),
        };
        let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((host.as_str(), port))).await;
        let why = match found {
            Ok(Ok(all)) => {
                let mut ips: Vec<IpAddr> = all.map(|at| at.ip()).collect();
                ips.sort();
                ips.dedup();
                return Host::At(ips);
            }
            Ok(Err(e)) => e.to_string(),
            Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        };
        let message = format!("{host} has no address here, so its other ports are not looked at: {why}");
        findings.warn(
            "dns",
            message,
            "name the broker's addresses for DNS with --address, or run this beside it",
        );
        Host::At(Vec::new())
    }

    /// Where an address that the broker is bound to is reached from here; nowhere where it is not.
    pub fn reached(&self, at: SocketAddr) -> Vec<SocketAddr> {
        let ips = match self {
            Host::Here if !at.ip().is_unspecified() => vec![at.ip()],
            Host::Here => vec![here(at)],
            // What is bound to a loopback address there is not what is bound to it here.
            Host::At(ips) if at.ip().is_loopback() && !ips.iter().any(IpAddr::is_loopback) => Vec::new(),
            Host::At(_) if !at.ip().is_unspecified() => vec![at.ip()],
            // A socket of all IPv6 addresses takes those of IPv4 too.
            Host::At(ips) => ips.iter().copied().filter(|ip| at.is_ipv6() || ip.is_ipv4()).collect(),
        };
        ips.into_iter().map(|ip| SocketAddr::new(ip, at.port())).collect()
    }
}

/// This machine, in the family of the address, or in the other where this machine has not that one.
fn here(at: SocketAddr) -> IpAddr {
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, at.port()));
    match at.is_ipv6() && no_way(v6).is_none() {
        true => v6.ip(),
        false => Ipv4Addr::LOCALHOST.into(),
    }
}

/// Where the broker answers DNS: as named, else where it says it listens.
pub fn addresses(host: &Host, checkup: &CheckupResponse, named: &[SocketAddr]) -> Vec<SocketAddr> {
    if !named.is_empty() {
        return named.to_vec();
    }
    let dns = checkup.listeners.iter().filter(|l| l.kind == "dns");
    let mut all: Vec<SocketAddr> =
        dns.filter_map(|l| l.address.parse().ok()).flat_map(|at| host.reached(at)).collect();
    all.sort();
    all.dedup();
    all.truncate(ADDRESSES);
    all
}

/// Asks each address for each domain.
pub async fn look(checkup: &CheckupResponse, at: &[SocketAddr], domains: &[String], findings: &mut Findings) {
    if at.is_empty() && !checkup.listeners.iter().any(|l| l.kind == "dns") {
        findings.fail(
            "dns",
            "the broker listens for DNS nowhere",
            "set dns.listen in its configuration, and restart it",
        );
    } else if at.is_empty() {
        findings.ok("dns", "the broker listens for DNS where it is not reached from here: not looked at");
    }
    if domains.is_empty() {
        findings.ok("dns", "there are no domains to ask for");
    }
    for at in at {
        if let Some(why) = no_way(*at) {
            findings.ok("dns", format!("{at} is not testable from here: {why}"));
            continue;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_elsewhere_is_not_looked_for_here() {
        let reached = |host: &Host, at: &str| -> Vec<String> {
            host.reached(at.parse().unwrap()).iter().map(ToString::to_string).collect()
        };
        let there = Host::At(vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]);
        assert_eq!(reached(&there, "0.0.0.0:53"), ["192.0.2.1:53"]);
        assert_eq!(reached(&there, "[::]:53"), ["192.0.2.1:53", "[2001:db8::1]:53"]);
        assert_eq!(reached(&there, "198.51.100.1:53"), ["198.51.100.1:53"]);
        assert!(reached(&there, "127.0.0.1:53").is_empty());
        assert!(reached(&Host::At(Vec::new()), "0.0.0.0:53").is_empty());
        let here = Host::At(vec!["127.0.0.1".parse().unwrap()]);
        assert_eq!(reached(&here, "127.0.0.1:53"), ["127.0.0.1:53"]);
        assert_eq!(reached(&Host::Here, "0.0.0.0:53"), ["127.0.0.1:53"]);
        assert!(["[::1]:53", "127.0.0.1:53"].contains(&reached(&Host::Here, "[::]:53")[0].as_str()));
    }
}

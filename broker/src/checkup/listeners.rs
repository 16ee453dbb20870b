//! Which sockets are bound.

use super::{fail, ok, warn};
use crate::server::Addresses;
use nearmost_wire::api::{FindingView, ListenerView};
use std::net::SocketAddr;

fn all(at: &Addresses) -> [(&'static str, &'static str, &[SocketAddr]); 9] {
    [
        ("dns", "udp+tcp", &at.dns),
        ("dot", "tcp", &at.dot),
        ("doq", "udp", &at.doq),
        ("http", "tcp", &at.http),
        ("redirect", "tcp", &at.redirect),
        ("agents", "udp", &at.agents),
        ("beacons", "udp", &at.beacons),
        ("clients", "udp", &at.clients),
        ("peers", "udp", &at.peers),
    ]
}

/// For whoever wants to knock at them.
pub(super) fn views(at: &Addresses) -> Vec<ListenerView> {
    let of = |(kind, transport, at): &(&str, &str, &[SocketAddr])| {
        let (kind, transport) = ((*kind).to_owned(), (*transport).to_owned());
        let view = move |a: &SocketAddr| ListenerView {
            kind: kind.clone(),
            transport: transport.clone(),
            address: a.to_string(),
        };
        at.iter().map(view).collect::<Vec<_>>()
    };
    all(at).iter().flat_map(of).collect()
}

pub(super) fn judge(at: &Addresses) -> Vec<FindingView> {
    let bound: Vec<String> = all(at)
        .iter()
        .filter(|(_, _, at)| !at.is_empty())
        .map(|(kind, _, at)| {
            format!("{kind} {}", at.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        })
        .collect();
    let mut findings = vec![ok("ports", format!("bound: {}", bound.join(", ")))];
    let outside = |a: &&SocketAddr| !a.ip().is_loopback();
    if at.dns.is_empty() {
        findings.push(fail("ports", "DNS is bound nowhere", "set dns.listen, and restart"));
    } else if at.dns.iter().any(|a| outside(&a)) && at.dns.iter().filter(outside).all(|a| a.port() != 53) {
        findings.push(warn(
            "ports",
            "DNS is not on port 53, and resolvers ask no other",
            "set dns.listen to port 53 (the unit needs AmbientCapabilities=CAP_NET_BIND_SERVICE), or forward udp/53 and \
             tcp/53 to it",
        ));
    }
    if at.agents.iter().all(|a| a.ip().is_loopback())
        && !at.agents.is_empty()
        && at.dns.iter().any(|a| outside(&a))
    {
        findings.push(warn(
            "ports",
            "agents.listen is on this machine only: no node elsewhere can join",
            "set agents.listen and agents.beacon_listen to an address that nodes reach",
        ));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(dns: &[&str], agents: &[&str]) -> Addresses {
        let parse = |all: &[&str]| all.iter().map(|a| a.parse().unwrap()).collect::<Vec<SocketAddr>>();
        Addresses {
            broker: "nb1".into(),
            dns: parse(dns),
            dot: Vec::new(),
            doq: Vec::new(),
            http: Vec::new(),
            redirect: Vec::new(),
            agents: parse(agents),
            beacons: Vec::new(),
            clients: Vec::new(),
            peers: Vec::new(),
            admin: "/x".into(),
        }
    }

    #[test]
    fn ports_that_nobody_reaches_are_told() {
        let levels = |dns: &[&str], agents: &[&str]| -> Vec<String> {
            judge(&at(dns, agents)).into_iter().map(|f| f.level).collect()
        };
        assert_eq!(levels(&["0.0.0.0:53"], &["0.0.0.0:7841"]), ["ok"]);
        assert_eq!(levels(&["127.0.0.1:5300"], &["127.0.0.1:7841"]), ["ok"], "a broker for trying out");
        assert_eq!(levels(&["0.0.0.0:5300"], &["0.0.0.0:7841"]), ["ok", "warn"]);
        assert_eq!(levels(&["0.0.0.0:53"], &["127.0.0.1:7841"]), ["ok", "warn"]);
        assert_eq!(levels(&[], &[]), ["ok", "fail"]);
        assert_eq!(views(&at(&["[::1]:53"], &[]))[0].address, "[::1]:53");
    }
}

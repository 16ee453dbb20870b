//! What can be found of a broker that does not run, by its configuration: `nearmost-broker check-config --examine`.

use super::{certificates, disk, fail, geo, limits, ok, warn};
use crate::dns::bind;
use crate::geoip::{self, GeoStatus};
use nearmost_config::BrokerConfig;
use nearmost_core::time::UnixMillis;
use nearmost_wire::api::FindingView;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

/// Looks at all of it, which blocks for as long as disks and large geo databases take.
pub fn examine(config: &BrokerConfig, now: UnixMillis) -> Vec<FindingView> {
    let mut findings = ports(config);
    findings.extend(certificates::judge(&certificates::gather(config), now));
    findings.extend(geo::judge(&databases(config), now));
    findings.push(limits::judge(&limits::foresee(config)));
    match config.data_dir.is_dir() {
        true => findings.extend(disk::judge(&disk::gather(&config.data_dir))),
        false => findings.push(warn(
            "disk",
            format!("{} is not there yet", config.data_dir.display()),
            "the broker makes it when it first starts, where its user may",
        )),
    }
    findings
}

/// The databases as a broker would have them.
fn databases(config: &BrokerConfig) -> GeoStatus {
    let status = GeoStatus { complete: true, ..GeoStatus::default() };
    match geoip::compile(&crate::settings::geo(config)) {
        Ok(compiled) => GeoStatus { databases: compiled.databases.into(), ..status },
        Err(e) => GeoStatus { last_error: Some(e.to_string()), ..status },
    }
}

/// Whether a port may be had; whoever has it keeps others from it.
struct Tried {
    /// Where the configuration says so.
    key: &'static str,
    at: SocketAddr,
    transport: &'static str,
    outcome: io::Result<OwnedFd>,
}

/// Takes every port that a broker would, as it would, and keeps them until all were tried: two of its own may not go
/// together.
fn take(config: &BrokerConfig) -> Vec<Tried> {
    let (dns, http) = (&config.dns, &config.http);
    let mut all = Vec::new();
    let mut each =
        |key, transport, listen: &[SocketAddr], bind: &dyn Fn(SocketAddr) -> io::Result<OwnedFd>| {
            all.extend(listen.iter().map(|&at| Tried { key, at, transport, outcome: bind(at) }));
        };
    let dns_tcp = |at| bind::tcp_alone(at).map(OwnedFd::from);
    let dns_udp = |at| bind::udp_alone(at).map(OwnedFd::from);
    each("dns.listen", "tcp", &dns.listen, &dns_tcp);
    each("dns.listen", "udp", &dns.listen, &dns_udp);
    if dns.tls.files_in_use().is_some() {
        each("dns.tls.dot_listen", "tcp", &dns.tls.dot_listen, &dns_tcp);
        each("dns.tls.doq_listen", "udp", &dns.tls.doq_listen, &dns_udp);
    }
    let web = |all| move |at| crate::api::listen::bound(at, all).map(OwnedFd::from);
    each("http.listen", "tcp", &http.listen, &web(&http.listen));
    each("http.redirect_listen", "tcp", &http.redirect_listen, &web(&http.redirect_listen));
    let quic = |at| crate::net::udp_socket(at, 0).map(OwnedFd::from);
    each("agents.listen", "udp", &config.agents.listen, &quic);
    each("agents.beacon_listen", "udp", &config.agents.beacon_listen, &quic);
    each("clients.listen", "udp", &config.clients.listen, &quic);
    // For clients whose network lets no UDP through.
    let tunnels = |at| TcpListener::bind(at).map(OwnedFd::from);
    each("clients.listen", "tcp", &config.clients.listen, &tunnels);
    if config.peers.enabled {
        each("peers.listen", "udp", &config.peers.listen, &quic);
    }
    all
}

fn ports(config: &BrokerConfig) -> Vec<FindingView> {
    let all = take(config);
    let refusal = |t: &Tried| t.outcome.as_ref().err().map(|e| refused(t.key, t.at, t.transport, e));
    let findings: Vec<_> = all.iter().filter_map(refusal).collect();
    match findings.is_empty() {
        true => vec![ok("ports", format!("all {} listening ports are free", all.len()))],
        false => findings,
    }
}

fn refused(key: &str, at: SocketAddr, transport: &str, e: &std::io::Error) -> FindingView {
    let message = format!("{key}: {at} over {transport}: {e}");
    let port = at.port();
    match e.kind() {
        ErrorKind::AddrInUse => {
            let flags = if transport == "udp" { "-lunp" } else { "-ltnp" };
            let fix = format!(
                "another program has it, or another line of this configuration: `ss {flags} 'sport = :{port}'` says which (often systemd-resolved, dnsmasq or \
                 named for port 53); stop it, or list single addresses in {key} instead of a wildcard"
            );
            fail("ports", message, fix)
        }
        ErrorKind::PermissionDenied => warn(
            "ports",
            message,
            "you may not; the unit may, by AmbientCapabilities=CAP_NET_BIND_SERVICE. Run this as root to know more",
        ),
        ErrorKind::AddrNotAvailable => {
            fail("ports", message, format!("this machine has no such address: `ip address`; correct {key}"))
        }
        _ => fail("ports", message, format!("correct {key}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn config(dir: &std::path::Path) -> BrokerConfig {
        let mut config = BrokerConfig { data_dir: dir.into(), ..BrokerConfig::default() };
        let free: Vec<SocketAddr> = vec!["127.0.0.1:0".parse().unwrap()];
        config.dns.listen = free.clone();
        config.http.listen = free.clone();
        config.agents.listen = free.clone();
        config.agents.beacon_listen = free.clone();
        config.clients.listen = free.clone();
        config.peers.listen = free;
        config
    }

    #[test]
    fn ports_that_others_have_are_told_and_free_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        let found = examine(&config, UnixMillis(1_700_000_000_000));
        assert!(found.iter().any(|f| f.subject == "ports" && f.level == "ok"), "{found:?}");
        assert!(found.iter().any(|f| f.subject == "geo"), "{found:?}");
        assert!(found.iter().any(|f| f.subject == "disk" && f.level != "fail"), "{found:?}");
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        config.dns.listen = vec![taken.local_addr().unwrap(), "192.0.2.1:53".parse().unwrap()];
        config.geo.databases = vec![dir.path().join("none.mmdb")];
        config.data_dir = dir.path().join("none");
        let found = examine(&config, UnixMillis(0));
        let ports: Vec<_> = found.iter().filter(|f| f.subject == "ports" && f.level == "fail").collect();
        assert!(ports.iter().any(|f| f.fix.contains("ss -lunp")), "{ports:?}");
        assert!(ports.iter().any(|f| f.message.contains("192.0.2.1:53")), "{ports:?}");
        assert!(found.iter().any(|f| f.subject == "geo" && f.level == "fail"), "{found:?}");
        assert!(found.iter().any(|f| f.subject == "disk" && f.level == "warn"), "{found:?}");
    }

    #[test]
    fn the_tunnels_of_clients_need_tcp_beside_udp() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        config.clients.listen = vec![taken.local_addr().unwrap()];
        let found = ports(&config);
        assert!(found.iter().any(|f| f.level == "fail" && f.message.contains("over tcp")), "{found:?}");
    }

    #[test]
    fn both_wildcards_go_together_where_the_broker_has_them_so_and_two_lines_of_one_port_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        // DNS has a socket for each family.
        let probe = bind::udp_alone("[::]:0".parse().unwrap()).unwrap();
        let port = probe.local_addr().unwrap().as_socket().unwrap().port();
        drop(probe);
        config.dns.listen = vec![SocketAddr::from(([0, 0, 0, 0], port)), SocketAddr::from(([0; 16], port))];
        let found = ports(&config);
        assert_eq!(found[0].level, "ok", "{found:?}");
        config.agents.listen = vec![SocketAddr::from(([127, 0, 0, 1], port))];
        config.http.listen = config.agents.listen.clone();
        let found = ports(&config);
        for key in ["agents.listen", "http.listen"] {
            assert!(found.iter().any(|f| f.message.starts_with(key)), "{found:?}");
        }
    }
}

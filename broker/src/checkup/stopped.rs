//! What can be found of a broker that does not run, by its configuration: `nearmost-broker check-config --examine`.

use super::{certificates, disk, fail, geo, limits, ok, warn};
use crate::geoip::{self, GeoStatus};
use nearmost_config::BrokerConfig;
use nearmost_core::time::UnixMillis;
use nearmost_wire::api::FindingView;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};

/// Looks at all of it, which blocks for as long as disks and large geo databases take.
pub fn examine(config: &BrokerConfig, now: UnixMillis) -> Vec<FindingView> {
    let mut findings = ports(config);
    findings.extend(certificates::judge(&certificates::gather(config), now));
    findings.extend(geo::judge(&databases(config), now));
    findings.push(limits::judge(&limits::gather(config)));
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

/// Every port that it wants: what for, where, by UDP, by TCP.
fn wanted(config: &BrokerConfig) -> Vec<(&'static str, SocketAddr, bool, bool)> {
    let tls = config.dns.tls.files_in_use().is_some();
    let peers: &[SocketAddr] = if config.peers.enabled { &config.peers.listen } else { &[] };
    let encrypted = |at: &'static str, all: &[SocketAddr], udp: bool| {
        let all = if tls { all } else { &[] };
        all.iter().map(move |addr| (at, *addr, udp, !udp)).collect::<Vec<_>>()
    };
    let mut all = encrypted("dns.tls.dot_listen", &config.dns.tls.dot_listen, false);
    all.extend(encrypted("dns.tls.doq_listen", &config.dns.tls.doq_listen, true));
    for (key, listen, udp, tcp) in [
        ("dns.listen", &config.dns.listen[..], true, true),
        ("http.listen", &config.http.listen, false, true),
        ("http.redirect_listen", &config.http.redirect_listen, false, true),
        ("agents.listen", &config.agents.listen, true, false),
        ("agents.beacon_listen", &config.agents.beacon_listen, true, false),
        ("clients.listen", &config.clients.listen, true, false),
        ("peers.listen", peers, true, false),
    ] {
        all.extend(listen.iter().map(|addr| (key, *addr, udp, tcp)));
    }
    all
}

fn ports(config: &BrokerConfig) -> Vec<FindingView> {
    let all = wanted(config);
    let mut findings = Vec::new();
    for (key, at, udp, tcp) in &all {
        let tried = [
            ("udp", udp.then(|| UdpSocket::bind(at).map(drop))),
            ("tcp", tcp.then(|| TcpListener::bind(at).map(drop))),
        ];
        for (transport, outcome) in tried {
            if let Some(Err(e)) = outcome {
                findings.push(refused(key, *at, transport, &e));
            }
        }
    }
    if findings.is_empty() {
        findings.push(ok("ports", format!("all {} listening addresses are free", all.len())));
    }
    findings
}

fn refused(key: &str, at: SocketAddr, transport: &str, e: &std::io::Error) -> FindingView {
    let message = format!("{key}: {at} over {transport}: {e}");
    let port = at.port();
    match e.kind() {
        ErrorKind::AddrInUse => {
            let flags = if transport == "udp" { "-lunp" } else { "-ltnp" };
            let fix = format!(
                "another program has it: `ss {flags} 'sport = :{port}'` says which (often systemd-resolved, dnsmasq or \
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
        assert!(ports[0].fix.contains("ss -lunp"), "{ports:?}");
        assert!(ports[1].message.contains("192.0.2.1:53"), "{ports:?}");
        assert!(found.iter().any(|f| f.subject == "geo" && f.level == "fail"), "{found:?}");
        assert!(found.iter().any(|f| f.subject == "disk" && f.level == "warn"), "{found:?}");
    }
}

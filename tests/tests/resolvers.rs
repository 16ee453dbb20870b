//! Real resolvers between users and the broker: Unbound and the PowerDNS Recursor pass the client
//! subnet on and keep each answer for the scope it came with.

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use nearmost_tests::dns;
use nearmost_tests::process::{Broker, directory};
use nearmost_tests::tools::{Resolver, Upstream};
use std::net::IpAddr;
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;

const DOMAIN: &str = "play.example.com";

/// Name, address and place of each mirror.
const MIRRORS: [(&str, &str, &str); 6] = [
    ("london", "192.0.2.1", "latitude = 51.5, longitude = -0.1"),
    ("newyork", "192.0.2.2", "latitude = 40.7, longitude = -74.0"),
    ("saopaulo", "192.0.2.3", "latitude = -23.5, longitude = -46.6"),
    ("johannesburg", "192.0.2.4", "latitude = -26.2, longitude = 28.0"),
    ("singapore", "192.0.2.5", "latitude = 1.35, longitude = 103.8"),
    ("sydney", "192.0.2.6", "latitude = -33.9, longitude = 151.2"),
];

/// Where a network lies, its prefix, the subnet that its resolver passes on, and its nearest mirror.
/// London's and Melbourne's lie side by side.
const CLIENTS: [(&str, &str, &str, &str); 12] = [
    ("latitude = 51.5, longitude = -0.1", "212.58.224.0/19", "212.58.225.0/24", "london"),
    ("latitude = -37.8, longitude = 145.0", "212.58.192.0/19", "212.58.223.0/24", "sydney"),
    ("latitude = 30.0, longitude = 31.2", "41.32.0.0/16", "41.32.7.0/24", "london"),
    ("latitude = -33.9, longitude = 18.4", "41.0.0.0/16", "41.0.1.0/24", "johannesburg"),
    ("latitude = 41.9, longitude = -87.6", "17.0.0.0/12", "17.3.2.0/24", "newyork"),
    ("latitude = -34.6, longitude = -58.4", "181.0.0.0/16", "181.0.9.0/24", "saopaulo"),
    ("latitude = 35.7, longitude = 139.7", "133.11.0.0/16", "133.11.5.0/24", "singapore"),
    ("latitude = 19.1, longitude = 72.9", "117.192.0.0/16", "117.192.8.0/24", "singapore"),
    ("latitude = -77.8, longitude = 166.7", "203.0.112.0/22", "203.0.113.0/24", "sydney"),
    ("latitude = -22.9, longitude = -43.2", "2001:db8:1000::/36", "2001:db8:1000:100::/56", "saopaulo"),
    ("latitude = -1.3, longitude = 36.8", "2001:db8:2000::/36", "2001:db8:2abc:d00::/56", "johannesburg"),
    ("latitude = 59.3, longitude = 18.1", "2001:db8:3000::/36", "2001:db8:3000::/56", "london"),
];

fn address_of(name: &str) -> IpAddr {
    let (_, addr, _) = MIRRORS.iter().find(|(n, ..)| *n == name).expect("a mirror");
    addr.parse().expect("an address")
}

/// A broker that knows where the clients are, and six mirrors that are up.
async fn world(dir: &Path) -> Broker {
    let places: String = CLIENTS
        .iter()
        .map(|(place, prefix, ..)| {
            format!("[[geo.overrides]]\nprefix = {prefix:?}\n{}\n", place.replace(", ", "\n"))
        })
        .collect();
    let broker = Broker::start_with(dir, &format!("[geo]\nembedded = false\n{places}")).await;
    let mirrors: String = MIRRORS
        .iter()
        .map(|(name, addr, place)| {
            format!(
                "[[mirror]]\ndomain = {DOMAIN:?}\nname = {name:?}\naddresses = [{addr:?}]\n\
                 health = \"manual\"\nstate = \"up\"\nplace = {{ {place} }}\n"
            )
        })
        .collect();
    // Answers live longer than the test, and nobody tries another mirror than the nearest.
    let domain =
        format!("[[domain]]\nname = {DOMAIN:?}\nttl_s = 3600\nstrategy = \"nearest\"\nexplore_percent = 0\n");
    broker.apply(&format!("version = 1\n{domain}{mirrors}"), &[]).await;
    for (name, ..) in MIRRORS {
        broker.until(name, "up").await;
    }
    broker
}

/// Messages that the broker has answered so far.
async fn answered(broker: &Broker) -> u64 {
    let url = format!("{}/metrics", broker.url());
    let output = Command::new("curl").args(["-sSf", &url]).stdin(Stdio::null()).output().await;
    let output = output.expect("curl; `cargo xtask test` installs it");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("nearmost_dns_queries_total"), "{text}");
    let counted = text.lines().filter(|l| l.starts_with("nearmost_dns_queries_total{"));
    counted.filter_map(|l| l.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// A resolver that passes the client subnet on.
struct Subject(Resolver);

impl Subject {
    /// Its answer to a client in a subnet.
    async fn ask(&self, subnet: &str) -> Message {
        let mut query = dns::query(DOMAIN, RecordType::A, Some(subnet.parse().expect("a prefix")));
        query[2] |= RD;
        dns::exchange(self.0.at, &query).await.unwrap_or_else(|| panic!("no reply to {subnet}"))
    }

    async fn expect(&self, subnet: &str, mirror: &str) {
        let reply = self.ask(subnet).await;
        assert_eq!(dns::addresses(&reply), [address_of(mirror)], "{subnet}: {reply:?}");
    }
}

/// The bit of "recursion desired" in a query's third byte.
const RD: u8 = 1;

/// The broker, with client subnets.
fn upstream(broker: &Broker) -> Upstream<'static> {
    Upstream {
        server: broker.at.dns[0],
        zones: &[DOMAIN],
        elsewhere: &[],
        anchors: None,
        subnets: true,
        more: "",
    }
}

/// Each client gets its mirror, fresh and from the cache, whatever the order.
async fn clients_are_told_apart(broker: &Broker, resolver: &Subject) {
    let before = answered(broker).await;
    for (_, _, subnet, nearest) in CLIENTS {
        resolver.expect(subnet, nearest).await;
    }
    let fresh = answered(broker).await - before;
    assert!(fresh >= CLIENTS.len() as u64, "{fresh} queries for {} clients", CLIENTS.len());

    // Neighbours of the first round are far apart in this one: 5 and 12 have no common divisor.
    let before = answered(broker).await;
    for i in 0..2 * CLIENTS.len() {
        let (_, _, subnet, nearest) = CLIENTS[i * 5 % CLIENTS.len()];
        resolver.expect(subnet, nearest).await;
    }
    assert_eq!(answered(broker).await, before, "all of it was in the cache");
}

/// Other subnets of a scope get its answer without a question; the next one outside asks its own.
async fn a_scope_is_shared_and_no_more(broker: &Broker, resolver: &Subject) {
    let before = answered(broker).await;
    for (subnet, mirror) in [
        ("212.58.226.0/24", "london"),
        ("212.58.222.0/24", "sydney"),
        ("41.32.200.0/24", "london"),
        ("17.15.255.0/24", "newyork"),
        ("2001:db8:1000:200::/56", "saopaulo"),
        ("2001:db8:3fff:ff00::/56", "london"),
    ] {
        resolver.expect(subnet, mirror).await;
    }
    assert_eq!(answered(broker).await, before, "their scopes were in the cache");

    // Nothing is known of where these are, so they get any mirror, but by an answer of their own.
    for outside in ["212.57.255.0/24", "41.33.0.0/24", "2001:db8:4000::/56"] {
        let before = answered(broker).await;
        resolver.ask(outside).await;
        assert!(answered(broker).await > before, "{outside} was given the answer of others");
    }
}

/// The scope that a resolver passes back lies between the network's own length and what was asked for.
async fn scopes_are_passed_back(resolver: &Subject) {
    for (_, prefix, subnet, _) in CLIENTS {
        let length = |text: &str| text.parse::<ipnet::IpNet>().expect("a prefix").prefix_len();
        let scope = dns::scope(&resolver.ask(subnet).await).expect("an echoed subnet");
        assert!((length(prefix)..=length(subnet)).contains(&scope), "{subnet}: scope {scope}");
    }
}

#[tokio::test]
async fn unbound_keeps_clients_apart() {
    let (dir, own) = (directory(), directory());
    let broker = world(dir.path()).await;
    let resolver = Subject(Resolver::unbound(own.path(), &upstream(&broker)).await);
    clients_are_told_apart(&broker, &resolver).await;
    // The Recursor passes none back.
    scopes_are_passed_back(&resolver).await;
    a_scope_is_shared_and_no_more(&broker, &resolver).await;
    broker.stop().await;
}

#[tokio::test]
async fn the_powerdns_recursor_keeps_clients_apart() {
    let (dir, own) = (directory(), directory());
    let broker = world(dir.path()).await;
    let resolver = Subject(Resolver::recursor(own.path(), &upstream(&broker)).await);
    clients_are_told_apart(&broker, &resolver).await;
    a_scope_is_shared_and_no_more(&broker, &resolver).await;
    broker.stop().await;
}

//! Real resolvers between users and the broker: Unbound and the PowerDNS Recursor pass the client
//! subnet on and keep each answer for the scope it came with.

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use nearmost_tests::process::{Broker, directory};
use nearmost_tests::{dns, eventually};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::process::{Child, Command};

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

/// A resolver as a process that ends with the test.
struct Resolver {
    at: SocketAddr,
    _child: Child,
}

impl Resolver {
    async fn unbound(dir: &Path, broker: SocketAddr) -> Resolver {
        let at = free_port("127.0.31.1");
        let config = format!(
            "server:\n\
             interface: {ip}\nport: {port}\naccess-control: 127.0.0.0/8 allow\n\
             do-daemonize: no\nusername: \"\"\nchroot: \"\"\npidfile: \"\"\ndirectory: {dir:?}\n\
             use-syslog: no\nlogfile: \"\"\nnum-threads: 1\n\
             do-not-query-localhost: no\nmodule-config: \"subnetcache validator iterator\"\n\
             send-client-subnet: 127.0.0.1\nclient-subnet-always-forward: yes\n\
             max-client-subnet-ipv4: 24\nmax-client-subnet-ipv6: 56\n\
             stub-zone:\nname: {DOMAIN:?}\nstub-addr: {broker_ip}@{broker_port}\n\
             remote-control:\ncontrol-enable: no\n",
            ip = at.ip(),
            port = at.port(),
            broker_ip = broker.ip(),
            broker_port = broker.port(),
        );
        std::fs::write(dir.join("unbound.conf"), config).expect("write unbound.conf");
        // Debian's AppArmor profile lets the program at its own place read no configuration of ours.
        let program = dir.join("unbound");
        std::fs::copy(installed("unbound"), &program).expect("copy unbound");
        let mut command = Command::new(program);
        command.arg("-d").arg("-c").arg(dir.join("unbound.conf"));
        Resolver::start(command, dir, at).await
    }

    async fn recursor(dir: &Path, broker: SocketAddr) -> Resolver {
        let at = free_port("127.0.31.2");
        let config = format!(
            "local-address={ip}\nlocal-port={port}\nallow-from=127.0.0.0/8\n\
             socket-dir={dir}\ndaemon=no\nthreads=1\ndnssec=off\nsecurity-poll-suffix=\n\
             dont-query=\nforward-zones={DOMAIN}={broker}\n\
             edns-subnet-allow-list={DOMAIN}\nuse-incoming-edns-subnet=yes\n\
             ecs-ipv4-bits=24\necs-ipv6-bits=56\necs-cache-limit-ttl=1\n",
            ip = at.ip(),
            port = at.port(),
            dir = dir.display(),
        );
        std::fs::write(dir.join("recursor.conf"), config).expect("write recursor.conf");
        let mut command = Command::new(installed("pdns_recursor"));
        command.arg(format!("--config-dir={}", dir.display()));
        Resolver::start(command, dir, at).await
    }

    /// Starts it and waits until it answers for the broker's zone.
    async fn start(mut command: Command, dir: &Path, at: SocketAddr) -> Resolver {
        let log = std::fs::File::create(dir.join("resolver.log")).expect("log file");
        let output = log.try_clone().expect("log file");
        let child = command.stdin(Stdio::null()).stdout(output).stderr(log).kill_on_drop(true).spawn();
        let resolver = Resolver { at, _child: child.expect("start the resolver") };
        let ready = || async {
            let mut query = dns::query(DOMAIN, RecordType::SOA, None);
            query[2] |= RD;
            let answers = dns::exchange(at, &query).await.map_or(0, |reply| reply.answers.len());
            (answers, std::fs::read_to_string(dir.join("resolver.log")).unwrap_or_default())
        };
        eventually("the resolver answers", ready, |(answers, _)| *answers > 0).await;
        resolver
    }

    /// Its answer to a client in a subnet.
    async fn ask(&self, subnet: &str) -> Message {
        let mut query = dns::query(DOMAIN, RecordType::A, Some(subnet.parse().expect("a prefix")));
        query[2] |= RD;
        dns::exchange(self.at, &query).await.unwrap_or_else(|| panic!("no reply to {subnet}"))
    }

    async fn expect(&self, subnet: &str, mirror: &str) {
        let reply = self.ask(subnet).await;
        assert_eq!(dns::addresses(&reply), [address_of(mirror)], "{subnet}: {reply:?}");
    }
}

/// The bit of "recursion desired" in a query's third byte.
const RD: u8 = 1;

/// A program that Debian puts where only root's path leads.
fn installed(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let found = folders.map(|folder| folder.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{program} is not there; `cargo xtask test` installs it"))
}

/// A port that is free for UDP and TCP: resolvers cannot say which they were given for 0.
fn free_port(ip: &str) -> SocketAddr {
    let free = || {
        let udp = std::net::UdpSocket::bind((ip, 0)).expect("bind");
        let at = udp.local_addr().expect("bound");
        std::net::TcpListener::bind(at).ok().map(|_| at)
    };
    (0..100).find_map(|_| free()).expect("a free port")
}

/// Each client gets its mirror, fresh and from the cache, whatever the order.
async fn clients_are_told_apart(broker: &Broker, resolver: &Resolver) {
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
async fn a_scope_is_shared_and_no_more(broker: &Broker, resolver: &Resolver) {
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
async fn scopes_are_passed_back(resolver: &Resolver) {
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
    let resolver = Resolver::unbound(own.path(), broker.at.dns[0]).await;
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
    let resolver = Resolver::recursor(own.path(), broker.at.dns[0]).await;
    clients_are_told_apart(&broker, &resolver).await;
    a_scope_is_shared_and_no_more(&broker, &resolver).await;
    broker.stop().await;
}

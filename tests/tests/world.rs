//! The whole path: five mirrors around the world, users on six continents.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use nearmost_client::{Auth, Client};
use nearmost_tests::process::{Agent, Broker, directory};
use nearmost_tests::service::Service;
use nearmost_tests::{Stopwatch, dns, eventually};
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

const DOMAIN: &str = "play.example.com";

/// Name, address and place of each mirror.
const MIRRORS: [(&str, &str, &str); 5] = [
    ("london", "127.0.21.1", "latitude = 51.5, longitude = -0.1, country = \"GB\""),
    ("newyork", "127.0.21.2", "latitude = 40.7, longitude = -74.0, country = \"US\""),
    ("saopaulo", "127.0.21.3", "latitude = -23.5, longitude = -46.6, country = \"BR\""),
    ("singapore", "127.0.21.4", "latitude = 1.35, longitude = 103.8, country = \"SG\""),
    ("sydney", "127.0.21.5", "latitude = -33.9, longitude = 151.2, country = \"AU\""),
];

/// Networks of twelve countries on six continents, and the mirror that is nearest to each.
const USERS: [(&str, &str, &str); 12] = [
    ("GB", "212.58.224.0/19", "london"),
    ("DE", "84.128.0.0/16", "london"),
    ("FR", "90.0.0.0/16", "london"),
    ("EG", "41.32.0.0/16", "london"),
    ("NG", "105.112.0.0/16", "london"),
    ("US", "17.0.0.0/16", "newyork"),
    ("CA", "24.64.0.0/16", "newyork"),
    ("BR", "200.160.0.0/20", "saopaulo"),
    ("AR", "181.0.0.0/16", "saopaulo"),
    ("JP", "133.11.0.0/16", "singapore"),
    ("IN", "117.192.0.0/16", "singapore"),
    ("AU", "139.130.0.0/16", "sydney"),
];

struct World {
    broker: Broker,
    mirrors: Vec<(Service, Agent)>,
}

impl World {
    async fn start(dir: &Path) -> World {
        let broker = Broker::start(dir).await;
        broker.apply(&format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n"), &[]).await;
        let mut mirrors = Vec::new();
        for (name, addr, place) in MIRRORS {
            let service = Service::start(&format!("{addr}:0"), name).await;
            let own = dir.join(name);
            let token = broker.ok(&["node", "invite", "--domain", DOMAIN, "--name", name]).await;
            assert!(Agent::join(&own, token.trim()).await.status.success());
            let mut settings = nearmost_tests::process::service_config(&own, DOMAIN, service.addr);
            settings.push(format!("node.place={{ {place} }}"));
            let agent = Agent::run(&own, &settings).await;
            mirrors.push((service, agent));
        }
        for (name, ..) in MIRRORS {
            broker.until(name, "up").await;
        }
        World { broker, mirrors }
    }

    fn dns(&self) -> std::net::SocketAddr {
        self.broker.at.dns[0]
    }

    async fn ask(&self, prefix: &str) -> Vec<IpAddr> {
        dns::ask(self.dns(), DOMAIN, prefix).await
    }
}

fn address_of(name: &str) -> IpAddr {
    let (_, addr, _) = MIRRORS.iter().find(|(n, ..)| *n == name).expect("a mirror");
    addr.parse().expect("an address")
}

#[tokio::test]
async fn users_get_the_nearest_healthy_mirror() {
    let dir = directory();
    let mut world = World::start(dir.path()).await;
    for (country, prefix, nearest) in USERS {
        assert_eq!(world.ask(prefix).await, [address_of(nearest)], "{country} {prefix}");
    }
    scopes_and_codes(&world).await;
    http_agrees(&world).await;
    explain_says_why(&world).await;

    // A mirror dies: agent and service at once, as when its machine loses power.
    let (service, agent) = world.mirrors.pop().expect("sydney");
    drop(service);
    agent.kill().await;
    let dead = Stopwatch::start();
    eventually("Australians move", || world.ask("139.130.0.0/16"), |a| *a == [address_of("singapore")]).await;
    assert!(dead.elapsed() < Duration::from_millis(1500), "took {:?}", dead.elapsed());

    // Its agent alone dies: the service answers, so users stay, and people are told.
    let (service, agent) = world.mirrors.pop().expect("singapore");
    agent.kill().await;
    world.broker.until("singapore", "unattended").await;
    assert_eq!(world.ask("133.11.0.0/16").await, [address_of("singapore")]);
    drop(service);
    world.broker.until("singapore", "down").await;

    // A service that fails its checks is out at once, although its agent is well.
    let (service, _agent) = &world.mirrors[0];
    service.answer_with(500);
    world.broker.until("london", "down").await;
    assert_eq!(world.ask("212.58.224.0/19").await, [address_of("newyork")]);
    service.answer_with(200);
    world.broker.until("london", "up").await;

    // SIGTERM drains first: no new users, then gone.
    let (_service, mut agent) = world.mirrors.pop().expect("saopaulo");
    nearmost_tests::process::terminate(&agent.child);
    world.broker.until("saopaulo", "down").await;
    assert!(agent.child.wait().await.expect("wait").success());
    let events = world.broker.ok(&["history", "--limit", "50"]).await;
    assert!(events.contains("saopaulo"), "{events}");
    world.broker.stop().await;
}

async fn scopes_and_codes(world: &World) {
    let ask = |prefix: &str| dns::query(DOMAIN, RecordType::A, Some(prefix.parse().expect("a prefix")));
    let reply = dns::exchange(world.dns(), &ask("212.58.224.0/24")).await.expect("a reply");
    let scope = dns::scope(&reply).expect("an echoed subnet");
    assert!((8..=24).contains(&scope), "scope {scope}");
    assert!(reply.metadata.authoritative);

    // The same over TCP, byte for byte the same records.
    let tcp = dns::exchange_tcp(world.dns(), &ask("212.58.224.0/24")).await;
    assert_eq!(tcp.answers, reply.answers);

    // The option is echoed only when it was sent.
    let plain = dns::exchange(world.dns(), &dns::query(DOMAIN, RecordType::A, None)).await.expect("a reply");
    assert_eq!(dns::scope(&plain), None);
    assert_eq!(
        dns::code(world.dns(), "nothing.play.example.com", RecordType::A).await,
        ResponseCode::NXDomain
    );
    assert_eq!(dns::code(world.dns(), "elsewhere.org", RecordType::A).await, ResponseCode::Refused);
    let nodata =
        dns::exchange(world.dns(), &dns::query(DOMAIN, RecordType::MX, None)).await.expect("a reply");
    assert_eq!(nodata.metadata.response_code, ResponseCode::NoError);
    assert!(
        nodata.answers.is_empty() && nodata.authorities.iter().any(|r| r.record_type() == RecordType::SOA)
    );
}

async fn http_agrees(world: &World) {
    let client = Client::new(world.broker.url().parse().expect("a URL"), Auth::None);
    for (country, prefix, nearest) in USERS {
        let net: ipnet::IpNet = prefix.parse().expect("a prefix");
        let answer = client.resolve(DOMAIN, Some(net.addr())).await.expect("resolve");
        assert_eq!(answer.mirrors[0].mirror, nearest, "{country}");
        assert_eq!(answer.mirrors.len(), 5);
        let rtts: Vec<f32> = answer.mirrors.iter().map(|m| m.rtt_ms).collect();
        assert!(rtts.is_sorted(), "{rtts:?}");
    }
}

async fn explain_says_why(world: &World) {
    let text = world.broker.ok(&["explain", DOMAIN, "--client", "139.130.4.5"]).await;
    for (name, ..) in MIRRORS {
        assert!(text.contains(name), "{name} is missing in\n{text}");
    }
    assert!(text.contains("Australia") && text.contains("embedded"), "{text}");
    let lookup = world.broker.ok(&["geo", "lookup", "139.130.4.5"]).await;
    assert!(lookup.contains("AU") && lookup.contains("embedded"), "{lookup}");
}

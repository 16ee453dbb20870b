//! Signed domains as validating resolvers see them: `delv`, Unbound and BIND, with the broker's keys as trust
//! anchors; one resolver between two brokers of two sites; and the life of a key.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use nearmost_tests::process::{Broker, broker_config, directory};
use nearmost_tests::switch::Switch;
use nearmost_tests::tools::{self, Upstream, bind_anchors, copied};
use nearmost_tests::{dns, eventually};
use nearmost_wire::api::DnssecResponse;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;

const DOMAIN: &str = "play.example.com";
/// The bit of "recursion desired" in a query's third byte.
const RD: u8 = 1;
/// The bit of "authentic data" in its fourth: the client understands it (RFC 6840 §5.7).
const AD: u8 = 0x20;

const REGISTRY: &str = r#"
version = 1
[[domain]]
name = "play.example.com"
ttl_s = 1
negative_ttl_s = 1
strategy = "nearest"
explore_percent = 0
alpn = ["h2"]
records = [
  { name = "@", type = "MX", ttl_s = 60, value = "10 Mail.example.net" },
  { name = "@", type = "TXT", ttl_s = 60, value = "v=spf1 -all" },
  { name = "@", type = "CAA", ttl_s = 60, value = "0 issue \"ca.example\"" },
  { name = "www", type = "CNAME", ttl_s = 60, value = "lon.play.example.com" },
  { name = "gone", type = "CNAME", ttl_s = 60, value = "nothing.play.example.com" },
  { name = "deep.down", type = "A", ttl_s = 60, value = "192.0.2.77" },
  { name = "sub", type = "NS", ttl_s = 60, value = "ns.sub.play.example.com" },
  { name = "ns.sub", type = "A", ttl_s = 60, value = "192.0.2.99" },
]
[[mirror]]
domain = "play.example.com"
name = "lon"
addresses = ["192.0.2.1", "2001:db8::1"]
health = "manual"
state = "up"
"#;

/// What is there.
const POSITIVE: [(&str, RecordType); 14] = [
    (DOMAIN, RecordType::A),
    (DOMAIN, RecordType::AAAA),
    (DOMAIN, RecordType::HTTPS),
    (DOMAIN, RecordType::SVCB),
    (DOMAIN, RecordType::MX),
    (DOMAIN, RecordType::TXT),
    (DOMAIN, RecordType::CAA),
    (DOMAIN, RecordType::SOA),
    (DOMAIN, RecordType::NS),
    (DOMAIN, RecordType::DNSKEY),
    (DOMAIN, RecordType::CDS),
    ("_https._tcp.play.example.com", RecordType::SRV),
    ("www.play.example.com", RecordType::A),
    ("deep.down.play.example.com", RecordType::A),
];

/// What is not.
const NEGATIVE: [(&str, RecordType); 9] = [
    ("nothing.play.example.com", RecordType::A),
    ("a.b.c.play.example.com", RecordType::TXT),
    ("gone.play.example.com", RecordType::A),
    (DOMAIN, RecordType::SRV),
    ("lon.play.example.com", RecordType::MX),
    ("_https._tcp.play.example.com", RecordType::TXT),
    // Empty non-terminals.
    ("down.play.example.com", RecordType::A),
    ("_tcp.play.example.com", RecordType::SRV),
    // Delegated to somebody who does not sign.
    ("sub.play.example.com", RecordType::DS),
];

/// A broker whose keys are published for two seconds, and stay so many after they are needed no more.
async fn broker(dir: &Path, retire_s: u32) -> Broker {
    let holds = format!("[dns.dnssec]\npublish_hold_s = 2\nretire_hold_s = {retire_s}\n");
    let config = broker_config(dir, &format!("{holds}[geo]\nembedded = false"));
    let config = config.replace("[peers]\n", "[peers]\ncompare_every_ms = 200\n");
    std::fs::write(dir.join("broker.toml"), config).expect("write broker.toml");
    Broker::restart(dir).await
}

async fn keys(broker: &Broker) -> DnssecResponse {
    let told = broker.ok(&["domain", "dnssec", DOMAIN, "--json"]).await;
    serde_json::from_str(&told).expect("keys as JSON")
}

/// Own keys of a broker's site, as `generation stage`.
async fn stages(broker: &Broker) -> Vec<String> {
    let told = keys(broker).await;
    told.keys.iter().filter(|k| k.own).map(|k| format!("{} {}", k.tag, k.stage)).collect()
}

/// Signs the domain at a broker's site, and says that the parent took the DS.
async fn enable(broker: &Broker) {
    broker.ok(&["domain", "dnssec", DOMAIN, "--enable"]).await;
    let ready = || async { stages(broker).await };
    eventually("the key is ready", ready, |s| !s.is_empty() && s.iter().all(|s| s.ends_with(" ready"))).await;
    seen(broker).await;
}

/// Says that the parent took the DS, once every broker knows the key.
async fn seen(broker: &Broker) {
    broker.until_all_told().await;
    broker.until_all_compared().await;
    broker.ok(&["domain", "dnssec", DOMAIN, "--ds-seen"]).await;
}

/// The DS of all sites that a broker tells: `tag algorithm digest-type digest`.
async fn anchors(broker: &Broker) -> Vec<String> {
    let told = keys(broker).await.keys;
    told.into_iter().filter(|k| matches!(k.stage.as_str(), "ready" | "active")).map(|k| k.ds).collect()
}

/// One broker, one mirror, one active key.
async fn world(dir: &Path) -> Broker {
    let broker = broker(dir, 1).await;
    broker.apply(REGISTRY, &[]).await;
    broker.until("lon", "up").await;
    enable(&broker).await;
    broker
}

/// What delv says of a name, asking a server.
async fn delv(dir: &Path, server: SocketAddr, anchors: &[String], name: &str, rtype: RecordType) -> String {
    let file = dir.join("anchors.conf");
    std::fs::write(&file, bind_anchors(DOMAIN, anchors)).expect("write anchors");
    let mut command = Command::new(copied("delv", dir));
    command.arg(format!("@{}", server.ip())).arg("-p").arg(server.port().to_string());
    command.arg("-a").arg(&file).arg(format!("+root={DOMAIN}")).arg(name).arg(rtype.to_string());
    let output = command.stdin(Stdio::null()).output().await.expect("run delv");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn delv_believes_every_answer() {
    let dir = directory();
    let broker = world(dir.path()).await;
    let anchors = anchors(&broker).await;
    let own = broker.at.dns[0];
    for (name, rtype) in POSITIVE {
        let said = delv(dir.path(), own, &anchors, name, rtype).await;
        assert!(said.contains("; fully validated") && !said.contains("unsigned"), "{name} {rtype}: {said}");
    }
    for (name, rtype) in NEGATIVE {
        let said = delv(dir.path(), own, &anchors, name, rtype).await;
        // After an alias the whole is no negative response.
        assert!(said.contains("fully validated") && !said.contains("unsigned"), "{name} {rtype}: {said}");
    }
    // It would have said if it had not.
    let wrong = ["1 13 2 ".to_owned() + &"AB".repeat(32)];
    let said = delv(dir.path(), own, &wrong, DOMAIN, RecordType::A).await;
    assert!(!said.contains("fully validated"), "{said}");
}

/// A resolver that believes nothing of the domain without proof.
struct Resolver(tools::Resolver);

impl Resolver {
    async fn unbound(dir: &Path, server: SocketAddr, anchors: &[String]) -> Resolver {
        Resolver(tools::Resolver::unbound(dir, &upstream(server, anchors)).await)
    }

    async fn bind(dir: &Path, server: SocketAddr, anchors: &[String]) -> Resolver {
        Resolver(tools::Resolver::bind(dir, &upstream(server, anchors)).await)
    }

    async fn ask(&self, name: &str, rtype: RecordType) -> Message {
        let query = asked(name, rtype);
        let ask = || dns::exchange(self.0.at, &query);
        eventually("a reply", ask, Option::is_some).await.expect("a reply")
    }
}

fn upstream(server: SocketAddr, anchors: &[String]) -> Upstream<'_> {
    Upstream {
        server,
        zones: &[DOMAIN],
        elsewhere: &[],
        anchors: Some((DOMAIN, anchors)),
        subnets: false,
        more: "",
    }
}

fn asked(name: &str, rtype: RecordType) -> Vec<u8> {
    let mut query = dns::query(name, rtype, None);
    query[2] |= RD;
    query[3] |= AD;
    query
}

/// Whether a reply was validated; SERVFAIL is what a resolver says where it was found wrong.
fn secure(message: &Message) -> bool {
    message.metadata.authentic_data && message.metadata.response_code != ResponseCode::ServFail
}

async fn believes_every_answer(resolver: &Resolver) {
    for (name, rtype) in POSITIVE {
        let reply = resolver.ask(name, rtype).await;
        assert!(secure(&reply) && !reply.answers.is_empty(), "{name} {rtype}: {reply:?}");
    }
    for (name, rtype) in NEGATIVE {
        let reply = resolver.ask(name, rtype).await;
        assert!(secure(&reply), "{name} {rtype}: {reply:?}");
        assert!(!reply.answers.iter().any(|r| r.record_type() == rtype), "{name} {rtype}: {reply:?}");
    }
}

#[tokio::test]
async fn unbound_believes_every_answer() {
    let dir = directory();
    let broker = world(dir.path()).await;
    let resolver = Resolver::unbound(dir.path(), broker.at.dns[0], &anchors(&broker).await).await;
    believes_every_answer(&resolver).await;
}

#[tokio::test]
async fn bind_believes_every_answer() {
    let dir = directory();
    let broker = world(dir.path()).await;
    let resolver = Resolver::bind(dir.path(), broker.at.dns[0], &anchors(&broker).await).await;
    believes_every_answer(&resolver).await;
}

/// Asks for names that no cache has, of both kinds.
async fn fresh(resolver: &Resolver, round: &str) {
    for n in 0..5 {
        for name in
            [format!("x{round}{n}.play.example.com"), format!("{round:0>15}{n}.probe.play.example.com")]
        {
            let reply = resolver.ask(&name, RecordType::A).await;
            assert!(secure(&reply), "{name}: {reply:?}");
        }
    }
    for (name, rtype) in POSITIVE {
        let reply = resolver.ask(name, rtype).await;
        assert!(secure(&reply), "{round}: {name} {rtype}: {reply:?}");
    }
}

#[tokio::test]
async fn a_resolver_between_two_sites_never_fails() {
    let dirs = [directory(), directory()];
    let (a, b) = (broker(dirs[0].path(), 8).await, broker(dirs[1].path(), 8).await);
    let token = a.ok(&["peer", "invite", "bob", "--admin"]).await;
    b.ok(&["peer", "join", token.trim()]).await;
    a.apply(REGISTRY, &[]).await;
    let known = || async { b.ok(&["export"]).await };
    eventually("the other has the domain", known, |e| e.contains(DOMAIN) && e.contains("lon")).await;
    enable(&a).await;
    enable(&b).await;
    for broker in [&a, &b] {
        broker.until("lon", "up").await;
        let all = || async { anchors(broker).await.len() };
        eventually("keys of both sites", all, |n| *n == 2).await;
    }
    let anchors = self::anchors(&a).await;
    // Each signs with its own.
    assert_ne!(keys(&a).await.site, keys(&b).await.site);
    let switch = Switch::new(a.at.dns[0]).await;
    let unbound = Resolver::unbound(dirs[0].path(), switch.at, &anchors).await;
    let named = Resolver::bind(dirs[1].path(), switch.at, &anchors).await;
    for (round, broker) in [("a", &a), ("b", &b), ("c", &a), ("d", &b)] {
        switch.turn(broker.at.dns[0]);
        fresh(&unbound, round).await;
        fresh(&named, round).await;
    }

    // A key is rolled at one site: at no moment is an answer refused.
    let before = stages(&b).await;
    b.ok(&["domain", "dnssec", DOMAIN, "--roll"]).await;
    fresh(&unbound, "e").await;
    let ready = || async { stages(&b).await };
    let both = eventually("the new key is ready", ready, |s| s.iter().any(|s| s.ends_with(" ready"))).await;
    assert_eq!(both.len(), 2, "{both:?}");
    switch.turn(a.at.dns[0]);
    fresh(&unbound, "f").await;
    seen(&b).await;
    switch.turn(b.at.dns[0]);
    // A resolver that has the old DS from before, and one that knows only the new.
    fresh(&unbound, "g").await;
    drop(named);
    let later = directory();
    let anchors = self::anchors(&b).await;
    let named = Resolver::bind(later.path(), switch.at, &anchors).await;
    fresh(&named, "h").await;
    let removed = || async { stages(&b).await };
    let after =
        eventually("the old key is removed", removed, |s| s.iter().any(|s| s.ends_with(" removed"))).await;
    let tag = |s: &String| s.split(' ').next().unwrap_or_default().to_owned();
    fresh(&named, "i").await;
    assert!(
        after.iter().any(|s| tag(s) == tag(&before[0]) && s.ends_with(" removed")),
        "{before:?} {after:?}"
    );
}

#[tokio::test]
async fn a_domain_shows_its_ds_and_is_unsigned_again() {
    let dir = directory();
    let a = world(dir.path()).await;
    let ds = anchors(&a).await;
    let shown = a.ok(&["domain", "dnssec", DOMAIN]).await;
    assert!(shown.contains(&format!("{DOMAIN}. DS {}", ds[0])), "{shown}");
    assert!(shown.contains(&format!("{DOMAIN}. DNSKEY 257 3 13 ")), "{shown}");
    let again = a.fails(&["domain", "dnssec", DOMAIN, "--enable"]).await;
    assert!(again.contains("already, which is active"), "{again}");
    a.ok(&["domain", "dnssec", DOMAIN, "--disable"]).await;
    assert!(stages(&a).await[0].ends_with(" leaving"));
    a.ok(&["domain", "dnssec", DOMAIN, "--ds-gone"]).await;
    let gone = || async { stages(&a).await };
    eventually("the key is removed", gone, |s| s[0].ends_with(" removed")).await;
    let keys = || async {
        let query = dns::query(DOMAIN, RecordType::DNSKEY, None);
        dns::exchange(a.at.dns[0], &query).await.map(|m| m.answers.len())
    };
    assert_eq!(keys().await, Some(0));
}

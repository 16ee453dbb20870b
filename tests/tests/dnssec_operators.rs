//! Several operators sign one domain (RFC 8901, model 2) below a parent that does what CDS says (RFC 7344): one is
//! there, another joins, rolls its key and leaves. Validating resolvers that come to the one or the other, and find
//! the DS at the parent, never see an answer that they refuse.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use nearmost_tests::process::{Broker, broker_config, directory};
use nearmost_tests::switch::Switch;
use nearmost_tests::tools::{self, Upstream};
use nearmost_tests::{dns, eventually};
use nearmost_wire::api::DnssecResponse;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

const DOMAIN: &str = "play.example.com";
const PARENT: &str = "example.com";
/// Bits of a query: recursion desired, and authentic data understood (RFC 6840 §5.7).
const RD: u8 = 1;
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
records = [{ name = "@", type = "TXT", ttl_s = 1, value = "v=spf1 -all" }]
[[mirror]]
domain = "play.example.com"
name = "lon"
addresses = ["192.0.2.1", "2001:db8::1"]
health = "manual"
state = "up"
"#;

/// The parent: it delegates, and has these DS.
fn parent(ds: &BTreeSet<String>) -> String {
    let ds =
        ds.iter().map(|ds| format!("  {{ name = \"play\", type = \"DS\", ttl_s = 1, value = \"{ds}\" }},\n"));
    format!(
        "version = 1\n[[domain]]\nname = \"{PARENT}\"\nttl_s = 1\nnegative_ttl_s = 1\nrecords = [\n\
         \x20 {{ name = \"play\", type = \"NS\", ttl_s = 1, value = \"ns.play.example.com\" }},\n\
         \x20 {{ name = \"ns.play\", type = \"A\", ttl_s = 1, value = \"192.0.2.53\" }},\n{}]\n",
        ds.collect::<String>()
    )
}

/// A broker whose keys are published for so many seconds, and stay three when they are needed no more.
async fn broker(dir: &Path, publish_hold_s: u32) -> Broker {
    let holds = format!(
        "[dns.dnssec]\npublish_hold_s = {publish_hold_s}\nretire_hold_s = 3\n[geo]\nembedded = false"
    );
    let config = broker_config(dir, &holds).replace("[peers]\n", "[peers]\ncompare_every_ms = 200\n");
    std::fs::write(dir.join("broker.toml"), config).expect("write broker.toml");
    Broker::restart(dir).await
}

async fn keys(broker: &Broker, domain: &str) -> DnssecResponse {
    let told = broker.ok(&["domain", "dnssec", domain, "--json"]).await;
    serde_json::from_str(&told).expect("keys as JSON")
}

/// Stages of the keys of a broker's own site.
async fn stages(broker: &Broker, domain: &str) -> Vec<String> {
    let told = keys(broker, domain).await;
    told.keys.into_iter().filter(|k| k.own).map(|k| k.stage).collect()
}

async fn change(broker: &Broker, domain: &str, what: &str) {
    broker.until_all_told().await;
    broker.ok(&["domain", "dnssec", domain, what]).await;
}

/// Waits until a site's newest key may have its DS at the parent.
async fn until_ready(broker: &Broker, domain: &str) {
    let stages = || stages(broker, domain);
    eventually("the key is ready", stages, |s| s.iter().any(|s| s == "ready")).await;
    // What --ds-seen asks for.
    broker.until_all_compared().await;
}

/// Data of the records of a type that a broker gives, in presentation form; `None` where it sends those who
/// validate to the others.
async fn given(broker: &Broker, rtype: RecordType) -> Option<BTreeSet<String>> {
    let query = dns::query(DOMAIN, rtype, None);
    let reply = dns::exchange(broker.at.dns[0], &query).await.expect("a reply");
    let given = reply.answers.iter().filter(|r| r.record_type() == rtype).map(|r| r.data.to_string());
    (reply.metadata.response_code != ResponseCode::ServFail).then(|| given.collect())
}

/// Every key that a broker knows of, and its stage.
async fn known(broker: &Broker) -> BTreeSet<(String, String)> {
    keys(broker, DOMAIN).await.keys.into_iter().map(|k| (k.id, k.stage)).collect()
}

/// The operators' brokers, the parent, and resolvers.
struct World {
    a: Broker,
    b: Broker,
    top: Broker,
    switch: Switch,
    resolvers: [Arc<tools::Resolver>; 2],
}

impl World {
    async fn new(dirs: &[tempfile::TempDir; 5]) -> World {
        // The second's keys wait longer than all that is done while they do.
        let (a, b) = (broker(dirs[0].path(), 2).await, broker(dirs[1].path(), 10).await);
        let top = broker(dirs[2].path(), 2).await;
        let token = a.ok(&["peer", "invite", "bob", "--admin"]).await;
        b.ok(&["peer", "join", token.trim()]).await;
        a.apply(REGISTRY, &[]).await;
        let known = || async { b.ok(&["export"]).await };
        eventually("the other has the domain", known, |e| e.contains(DOMAIN) && e.contains("lon")).await;
        for broker in [&a, &b] {
            broker.until("lon", "up").await;
        }
        top.apply(&parent(&BTreeSet::new()), &[]).await;
        for (broker, domain) in [(&top, PARENT), (&a, DOMAIN)] {
            change(broker, domain, "--enable").await;
            until_ready(broker, domain).await;
        }
        // Of the parent's own DS nobody asks: it is the resolvers' anchor.
        change(&top, PARENT, "--ds-seen").await;
        let anchors: Vec<String> = keys(&top, PARENT).await.keys.into_iter().map(|k| k.ds).collect();
        let switch = Switch::new(a.at.dns[0]).await;
        let upstream = upstream(&switch, &anchors, top.at.dns[0]);
        let unbound = tools::Resolver::unbound(dirs[3].path(), &upstream.upstream()).await;
        let named = tools::Resolver::bind(dirs[4].path(), &upstream.upstream()).await;
        World { a, b, top, switch, resolvers: [Arc::new(unbound), Arc::new(named)] }
    }

    /// Both operators know the same keys, and say the same of them and of what the parent is to have, which are
    /// so many DS.
    async fn agreed(&self, ds: usize) -> BTreeSet<String> {
        let told = || async {
            let mut all = Vec::new();
            for rtype in [RecordType::DNSKEY, RecordType::CDS, RecordType::CDNSKEY] {
                all.push((given(&self.a, rtype).await, given(&self.b, rtype).await));
            }
            (known(&self.a).await == known(&self.b).await, all)
        };
        let same = |(known, all): &(bool, Vec<(Option<_>, Option<_>)>)| {
            let some = |of: &Option<BTreeSet<String>>| of.as_ref().map(BTreeSet::len);
            let alike = all.iter().all(|(a, b)| a.is_some() && (b.is_none() || a == b));
            *known && alike && some(&all[1].0) == Some(ds) && some(&all[2].0) == Some(ds)
        };
        let (_, mut all) = eventually("the operators agree", told, same).await;
        all.swap_remove(1).0.unwrap_or_default()
    }

    /// The parent does what CDS says, and the resolvers come to know.
    async fn parent_follows(&self, ds: usize) {
        let cds = self.agreed(ds).await;
        let wanted: BTreeSet<String> = keys(&self.a, DOMAIN)
            .await
            .keys
            .into_iter()
            .filter(|k| matches!(k.stage.as_str(), "ready" | "active"))
            .map(|k| k.ds)
            .collect();
        assert_eq!(
            cds.iter().map(|ds| squeezed(ds)).collect::<BTreeSet<_>>(),
            wanted.iter().map(|ds| squeezed(ds)).collect()
        );
        self.top.apply(&parent(&wanted), &[]).await;
        for resolver in &self.resolvers {
            let there = || async { ask(resolver, DOMAIN, RecordType::DS).await.answers.len() };
            // A signature is beside them where it is asked for; it is not.
            eventually("the resolver finds the DS", there, |n| *n == ds).await;
        }
    }

    /// Comes to the one and to the other by turns.
    async fn turns(&self, names: &mut u32) {
        for _ in 0..2 {
            for broker in [&self.b, &self.a] {
                self.switch.turn(broker.at.dns[0]);
                self.asked(names).await;
            }
        }
    }

    /// Asks both resolvers for what is there, what is not, and for keys.
    async fn asked(&self, names: &mut u32) {
        for resolver in &self.resolvers {
            *names += 1;
            believed(resolver, &format!("x{names}.{DOMAIN}"), RecordType::A).await.expect("believed");
            for rtype in
                [RecordType::A, RecordType::TXT, RecordType::DNSKEY, RecordType::CDS, RecordType::SRV]
            {
                believed(resolver, DOMAIN, rtype).await.expect("believed");
            }
        }
    }
}

/// Presentation forms differ in case and in spaces within digests.
fn squeezed(ds: &str) -> String {
    let mut words = ds.split_whitespace();
    let head: Vec<&str> = words.by_ref().take(3).collect();
    let numbers = head.join(" ").replace("ECDSAP256SHA256", "13").replace("SHA-256", "2");
    format!("{numbers} {}", words.collect::<String>().to_ascii_uppercase())
}

async fn ask(resolver: &tools::Resolver, name: &str, rtype: RecordType) -> Message {
    let mut query = dns::query(name, rtype, None);
    query[2] |= RD;
    query[3] |= AD;
    let ask = || dns::exchange(resolver.at, &query);
    eventually("a reply", ask, Option::is_some).await.expect("a reply")
}

/// Whether an answer was validated; the error tells it.
async fn believed(resolver: &tools::Resolver, name: &str, rtype: RecordType) -> Result<(), String> {
    let reply = ask(resolver, name, rtype).await;
    let refused = reply.metadata.response_code == ResponseCode::ServFail;
    match reply.metadata.authentic_data && !refused {
        true => Ok(()),
        false => Err(format!("{name} {rtype}: {reply:?}")),
    }
}

/// Asks for ever new names until it is told to stop; answers how many were believed.
fn users(
    resolver: Arc<tools::Resolver>,
    number: usize,
    stop: Arc<AtomicBool>,
) -> JoinHandle<Result<u32, String>> {
    tokio::spawn(async move {
        let mut asked = 0;
        while !stop.load(Ordering::Relaxed) {
            believed(&resolver, &format!("u{number}-{asked}.{DOMAIN}"), RecordType::A).await?;
            believed(&resolver, DOMAIN, RecordType::A).await?;
            asked += 1;
            // The brokers and the resolvers are to have some of the machine.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(asked)
    })
}

/// Where resolvers find the domain and its parent.
fn upstream(switch: &Switch, anchors: &[String], top: SocketAddr) -> Asked {
    Asked { switch: switch.at, anchors: anchors.to_vec(), top: [(PARENT, top)] }
}

struct Asked {
    switch: SocketAddr,
    anchors: Vec<String>,
    top: [(&'static str, SocketAddr); 1],
}

impl Asked {
    fn upstream(&self) -> Upstream<'_> {
        Upstream {
            server: self.switch,
            zones: &[DOMAIN],
            elsewhere: &self.top,
            anchors: Some((PARENT, &self.anchors)),
            subnets: false,
            more: "",
        }
    }
}

#[tokio::test]
async fn an_operator_joins_rolls_and_leaves_and_no_resolver_refuses_an_answer() {
    let dirs = std::array::from_fn(|_| directory());
    let world = World::new(&dirs).await;
    let (a, b) = (&world.a, &world.b);
    let mut names = 0;
    // The first operator alone.
    world.parent_follows(1).await;
    change(a, DOMAIN, "--ds-seen").await;
    world.asked(&mut names).await;
    let stop = Arc::new(AtomicBool::new(false));
    let asking: Vec<_> =
        world.resolvers.iter().enumerate().map(|(n, r)| users(r.clone(), n, stop.clone())).collect();

    // The second joins: its key is served by both before its DS is at the parent, and it answers after that.
    change(b, DOMAIN, "--enable").await;
    b.until_all_told().await;
    let early = b.fails(&["domain", "dnssec", DOMAIN, "--ds-seen"]).await;
    assert!(early.contains("in caches everywhere only in"), "{early}");
    assert_eq!(world.agreed(1).await.len(), 1);
    assert_eq!(given(a, RecordType::DNSKEY).await.map(|k| k.len()), Some(2));
    until_ready(b, DOMAIN).await;
    world.parent_follows(2).await;
    change(b, DOMAIN, "--ds-seen").await;
    eventually("the first knows", || keys(a, DOMAIN), |k| k.keys.iter().all(|k| k.stage == "active")).await;
    world.turns(&mut names).await;

    // It rolls its key; the other's brokers serve the new one before it signs.
    change(b, DOMAIN, "--roll").await;
    world.turns(&mut names).await;
    until_ready(b, DOMAIN).await;
    world.parent_follows(3).await;
    world.turns(&mut names).await;
    change(b, DOMAIN, "--ds-seen").await;
    world.turns(&mut names).await;
    world.parent_follows(2).await;
    world.turns(&mut names).await;
    let removed = || stages(b, DOMAIN);
    eventually("the old key is removed", removed, |s| s.iter().any(|s| s == "removed")).await;
    world.turns(&mut names).await;

    // It leaves: out of the delegation first, then its DS goes, then its keys.
    world.switch.turn(a.at.dns[0]);
    world.asked(&mut names).await;
    change(b, DOMAIN, "--disable").await;
    world.parent_follows(1).await;
    world.asked(&mut names).await;
    change(b, DOMAIN, "--ds-gone").await;
    world.asked(&mut names).await;
    let removed = || stages(b, DOMAIN);
    eventually("its keys are removed", removed, |s| s.iter().all(|s| s == "removed")).await;
    assert_eq!(given(a, RecordType::DNSKEY).await.map(|k| k.len()), Some(1));
    world.asked(&mut names).await;

    stop.store(true, Ordering::Relaxed);
    for asked in asking {
        let asked = asked.await.expect("it asked").expect("every answer was believed");
        assert!(asked > 20, "only {asked} rounds");
    }
}

/// What proves that something is not there is the same at every operator, keys and signatures aside.
#[tokio::test]
async fn operators_deny_alike() {
    let dirs = [directory(), directory()];
    let (a, b) = (broker(dirs[0].path(), 2).await, broker(dirs[1].path(), 2).await);
    let token = a.ok(&["peer", "invite", "bob", "--admin"]).await;
    b.ok(&["peer", "join", token.trim()]).await;
    a.apply(REGISTRY, &[]).await;
    for broker in [&a, &b] {
        let known = || async { broker.ok(&["export"]).await };
        eventually("it has the domain", known, |e| e.contains(DOMAIN) && e.contains("lon")).await;
        broker.until("lon", "up").await;
        change(broker, DOMAIN, "--enable").await;
    }
    for broker in [&a, &b] {
        until_ready(broker, DOMAIN).await;
    }
    for broker in [&a, &b] {
        change(broker, DOMAIN, "--ds-seen").await;
    }
    for broker in [&a, &b] {
        let all =
            || async { keys(broker, DOMAIN).await.keys.into_iter().map(|k| k.stage).collect::<Vec<_>>() };
        eventually("both sign", all, |s| s.len() == 2 && s.iter().all(|s| s == "active")).await;
    }
    for (name, rtype) in [
        (DOMAIN, RecordType::SRV),
        (DOMAIN, RecordType::DS),
        ("nothing.play.example.com", RecordType::A),
        ("a.b.play.example.com", RecordType::TXT),
        ("lon.play.example.com", RecordType::MX),
        ("_tcp.play.example.com", RecordType::A),
        ("_https._tcp.play.example.com", RecordType::A),
    ] {
        let mut said = Vec::new();
        for broker in [&a, &b] {
            let reply = dns::exchange(broker.at.dns[0], &signed(name, rtype)).await.expect("a reply");
            let proof = reply.authorities.iter().filter(|r| r.record_type() == RecordType::NSEC);
            let proof: Vec<String> = proof.map(|r| format!("{} {} {}", r.name, r.ttl, r.data)).collect();
            assert_eq!(proof.len(), 1, "{name} {rtype}: {reply:?}");
            let by = reply.authorities.iter().filter(|r| r.record_type() == RecordType::RRSIG).count();
            said.push((reply.metadata.response_code, proof, by));
        }
        assert_eq!(said[0], said[1], "{name} {rtype}");
    }
}

/// A query with the DO bit.
fn signed(name: &str, rtype: RecordType) -> Vec<u8> {
    let mut query = dns::query(name, rtype, None);
    // One additional record: OPT, 1232 bytes, DO.
    query[11] = 1;
    query.extend_from_slice(&[0, 0, 41, 0x04, 0xd0, 0, 0, 0x80, 0, 0, 0]);
    query
}

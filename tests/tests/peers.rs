//! Brokers that federate, as real processes: they join by a token, converge, survive kills, four days of
//! absence, and being restored from a backup.

use hickory_proto::rr::{RData, RecordType};
use nearmost_tests::process::{Agent, Broker, binary, broker_config, directory};
use nearmost_tests::service::Service;
use nearmost_tests::{dns, eventually};
use nearmost_wire::api::PeersResponse;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What a broker says of its peers.
async fn peers(broker: &Broker) -> PeersResponse {
    serde_json::from_str(&broker.ok(&["peer", "list", "--json"]).await).expect("peers as JSON")
}

/// Waits until brokers hold the same, and shows it byte for byte.
async fn equal(brokers: &[&Broker]) -> String {
    let digests = || async {
        let mut all = Vec::new();
        for broker in brokers {
            let said = peers(broker).await;
            all.push((said.rights_digest, said.digest));
        }
        all
    };
    eventually("brokers hold the same", digests, |all| all.iter().all(|d| *d == all[0])).await;
    // What was received shows a moment later.
    let exports = || async {
        let mut all = Vec::new();
        for broker in brokers {
            all.push(broker.ok(&["export"]).await);
        }
        all
    };
    let mut all = eventually("exports are equal", exports, |all| all.iter().all(|e| *e == all[0])).await;
    all.remove(0)
}

/// `who` lets `newcomer` in, as an admin.
async fn join(who: &Broker, name: &str, newcomer: &Broker) {
    let token = who.ok(&["peer", "invite", name, "--admin"]).await;
    newcomer.ok(&["peer", "join", token.trim()]).await;
    let id = newcomer.at.broker.clone();
    let connected = || async { peers(who).await.peers.iter().any(|p| p.id == id && p.state == "up") };
    eventually(&format!("{name} is connected"), connected, |up| *up).await;
}

#[tokio::test]
async fn brokers_join_by_token_and_hold_the_same_whoever_is_killed() {
    let dirs = [directory(), directory(), directory()];
    let a = Broker::start(dirs[0].path()).await;
    let b = Broker::start(dirs[1].path()).await;
    a.ok(&["domain", "add", "a.example"]).await;
    b.ok(&["domain", "add", "b.example"]).await;
    join(&a, "bob", &b).await;
    let both = equal(&[&a, &b]).await;
    assert!(both.contains("a.example") && both.contains("b.example"), "{both}");

    // A third is let in by the second, and the first hears of it.
    let c = Broker::start(dirs[2].path()).await;
    join(&b, "carol", &c).await;
    c.ok(&["domain", "add", "c.example"]).await;
    let all = equal(&[&a, &b, &c]).await;
    assert!(all.contains("c.example"), "{all}");

    // One is killed, both sides write, it returns.
    b.kill().await;
    a.ok(&["domain", "set", "a.example", "--ttl", "7"]).await;
    a.ok(&["record", "put", "a.example", "users/ada", "--text", "hello"]).await;
    c.ok(&["domain", "remove", "b.example"]).await;
    let b = Broker::restart(dirs[1].path()).await;
    let after = equal(&[&a, &b, &c]).await;
    assert!(!after.contains("b.example") && after.contains("ttl_s = 7"), "{after}");
    assert_eq!(b.ok(&["record", "get", "a.example", "users/ada", "--raw"]).await, "hello");

    // A removed member hears no more.
    a.ok(&["peer", "remove", "carol"]).await;
    let gone = || async { peers(&b).await.peers.iter().all(|p| p.name != "carol") };
    eventually("carol is no member at the others", gone, |gone| *gone).await;
    a.ok(&["domain", "add", "later.example"]).await;
    equal(&[&a, &b]).await;
    assert!(!c.ok(&["export"]).await.contains("later.example"));
}

#[tokio::test]
async fn a_token_is_good_once_and_a_stranger_is_not_let_in() {
    let dirs = [directory(), directory(), directory()];
    let a = Broker::start(dirs[0].path()).await;
    let token = a.ok(&["peer", "invite", "bob"]).await;
    let b = Broker::start(dirs[1].path()).await;
    b.ok(&["peer", "join", token.trim()]).await;
    let connected = || async { peers(&a).await.peers.iter().any(|p| p.state == "up") };
    eventually("bob is connected", connected, |up| *up).await;
    let c = Broker::start(dirs[2].path()).await;
    c.ok(&["peer", "join", token.trim()]).await;
    let refused = || async { peers(&c).await.peers[0].last_error.clone().unwrap_or_default() };
    eventually("carol is refused", refused, |why| why.contains("bad_token")).await;
    assert_eq!(peers(&a).await.peers.len(), 1, "nobody else came in");
    let said = c.fails(&["peer", "join", "nonsense"]).await;
    assert!(said.contains("nmp1"), "{said}");
}

#[tokio::test]
async fn a_restored_broker_and_one_whose_disk_was_set_back_come_back_whole() {
    let dirs = [directory(), directory()];
    let a = Broker::start(dirs[0].path()).await;
    let b = Broker::start(dirs[1].path()).await;
    join(&a, "bob", &b).await;
    b.ok(&["domain", "add", "one.example"]).await;
    equal(&[&a, &b]).await;
    let copy = dirs[1].path().join("copy.redb");
    b.ok(&["backup", copy.to_str().expect("UTF-8")]).await;
    b.ok(&["domain", "add", "two.example"]).await;
    equal(&[&a, &b]).await;
    b.stop().await;
    let restore = tokio::process::Command::new(binary("nearmost-broker"))
        .args(["restore", "--config"])
        .arg(dirs[1].path().join("broker.toml"))
        .arg(&copy)
        .arg("--force")
        .output()
        .await
        .expect("run nearmost-broker");
    assert!(restore.status.success(), "{}", String::from_utf8_lossy(&restore.stderr));
    a.ok(&["domain", "add", "three.example"]).await;
    let b = Broker::restart(dirs[1].path()).await;
    b.ok(&["domain", "add", "four.example"]).await;
    let all = equal(&[&a, &b]).await;
    for domain in ["one.example", "two.example", "three.example", "four.example"] {
        assert!(all.contains(domain), "{domain} is missing:\n{all}");
    }
    assert!(peers(&a).await.alarms.is_empty(), "nobody forked");
}

/// The serial that a broker says its zone has.
async fn serial(broker: &Broker, zone: &str) -> Option<u32> {
    let reply = dns::exchange(broker.at.dns[0], &dns::query(zone, RecordType::SOA, None)).await?;
    match dns::data(&reply)[..] {
        [RData::SOA(soa)] => Some(soa.serial),
        _ => None,
    }
}

/// Waits until brokers have the same serial, which is not `before`.
async fn equal_serials(brokers: [&Broker; 2], zone: &str, before: Option<u32>) -> Option<u32> {
    let serials = || async { (serial(brokers[0], zone).await, serial(brokers[1], zone).await) };
    let alike = |(a, b): &(Option<u32>, Option<u32>)| a.is_some() && a == b && *a != before;
    eventually("serials are equal", serials, alike).await.0
}

#[tokio::test]
async fn zones_are_alike_wherever_they_are_asked_for() {
    let dirs = [directory(), directory()];
    let a = Broker::start(dirs[0].path()).await;
    let b = Broker::start(dirs[1].path()).await;
    a.ok(&["domain", "add", "a.example", "--record", "*.w TXT 60 any"]).await;
    // Their own counts of changes differ from here on.
    a.ok(&["domain", "set", "a.example", "--ttl", "7"]).await;
    join(&a, "bob", &b).await;
    let first = equal_serials([&a, &b], "a.example", None).await;
    b.ok(&["domain", "set", "a.example", "--ttl", "8"]).await;
    let second = equal_serials([&a, &b], "a.example", first).await;

    // A certificate is fetched at one, and looked for at the other.
    b.ok(&["domain", "acme", "*.www.a.example", "-first_value"]).await;
    b.ok(&["domain", "acme", "_acme-challenge.www.a.example.", "second", "--for", "2h"]).await;
    let texts = |name: &'static str| {
        let at = a.at.dns[0];
        move || async move {
            let reply = dns::exchange(at, &dns::query(name, RecordType::TXT, None)).await;
            let mut texts: Vec<String> =
                reply.iter().flat_map(dns::data).map(|data| data.to_string()).collect();
            texts.sort();
            texts
        }
    };
    let challenges = texts("_acme-challenge.www.a.example");
    eventually("both are there", &challenges, |t| *t == ["-first_value", "second"]).await;
    let third = equal_serials([&a, &b], "a.example", second).await;
    assert!(third.zip(first).is_some_and(|(third, first)| third.wrapping_sub(first) < 1 << 31));
    let told = b.ok(&["domain", "acme", "www.a.example", "--remove", "second"]).await;
    assert!(told.contains("1 removed"), "{told}");
    eventually("one is gone", &challenges, |t| *t == ["-first_value"]).await;
    eventually("a wildcard covers", texts("x.y.w.a.example"), |t| *t == ["any"]).await;
    let said = a.fails(&["domain", "acme", "elsewhere.example", "value"]).await;
    assert!(said.contains("no domain here"), "{said}");
}

/// Writes a configuration whose peers' port stays the same however often the broker starts.
fn with_fixed_port(dir: &Path) -> SocketAddr {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let at = socket.local_addr().expect("bound");
    let any = "[peers]\nlisten = [\"127.0.0.1:0\"]";
    let config = broker_config(dir, "").replace(any, &format!("[peers]\nlisten = [\"{at}\"]"));
    assert!(config.contains(&at.to_string()), "the configuration has another form");
    std::fs::write(dir.join("broker.toml"), config).expect("write broker.toml");
    at
}

/// The library that moves a program's clock, which is in a folder named for the machine's sort.
fn glob_libfaketime() -> PathBuf {
    let sorts = std::fs::read_dir("/usr/lib").expect("/usr/lib").flatten();
    let mut found = sorts.map(|sort| sort.path().join("faketime/libfaketime.so.1"));
    found.find(|path| path.is_file()).expect("libfaketime; `cargo xtask test` installs it")
}

/// Starts a broker whose wall clock is days ahead.
async fn start_later(dir: &Path, days: u32) -> Broker {
    // Not by the program of that name, which is no parent that ends with its child.
    let preload = glob_libfaketime();
    let with_clock: Vec<String> = vec![
        "env".into(),
        format!("LD_PRELOAD={}", preload.display()),
        format!("FAKETIME=+{days}d"),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".into(),
        binary("nearmost-broker").display().to_string(),
        "run".into(),
        "--config".into(),
        dir.join("broker.toml").display().to_string(),
    ];
    Broker::start_by(dir, &with_clock).await
}

/// The queue's 72 hours pass while one is off: the others drop what waited, say so, and the one that returns
/// is compared with before anything else.
#[tokio::test]
async fn a_broker_that_was_off_for_four_days_ends_equal() {
    let dirs = [directory(), directory(), directory()];
    for dir in &dirs {
        with_fixed_port(dir.path());
    }
    let a = Broker::restart(dirs[0].path()).await;
    let b = Broker::restart(dirs[1].path()).await;
    let c = Broker::restart(dirs[2].path()).await;
    join(&a, "bob", &b).await;
    join(&a, "carol", &c).await;
    a.ok(&["domain", "add", "before.example"]).await;
    equal(&[&a, &b, &c]).await;
    c.stop().await;
    for i in 0..20 {
        a.ok(&["domain", "add", &format!("while-away-{i}.example")]).await;
    }
    a.ok(&["domain", "remove", "before.example"]).await;
    a.stop().await;
    b.stop().await;

    let (a, b) = (start_later(dirs[0].path(), 4).await, start_later(dirs[1].path(), 4).await);
    let carol = c_id(&dirs[2]);
    let behind = || async {
        let said = peers(&a).await;
        said.peers.iter().find(|p| p.id == carol).and_then(|p| p.behind.clone())
    };
    eventually("what waited for carol has expired", behind, |b| b.as_deref() == Some("expired")).await;
    let told = a.ok(&["peer", "list"]).await;
    assert!(told.contains("carol") && told.contains("expired"), "{told}");
    let c = start_later(dirs[2].path(), 4).await;
    let all = equal(&[&a, &b, &c]).await;
    assert!(all.contains("while-away-19.example") && !all.contains("before.example"), "{all}");
}

/// The id of the broker of a directory, which need not run.
fn c_id(dir: &tempfile::TempDir) -> String {
    let init = std::process::Command::new(binary("nearmost-broker"))
        .args(["init", "--config"])
        .arg(dir.path().join("broker.toml"))
        .output()
        .expect("run nearmost-broker");
    let out = String::from_utf8_lossy(&init.stdout);
    let id = out.split_whitespace().find(|word| word.starts_with("nb1")).expect("an id");
    id.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

#[tokio::test]
async fn peers_of_the_configuration_need_no_token() {
    let dirs = [directory(), directory()];
    let at: Vec<_> = dirs.iter().map(|dir| with_fixed_port(dir.path())).collect();
    let ids: Vec<_> = dirs.iter().map(c_id).collect();
    let mut brokers = Vec::new();
    for (own, other) in [(0, 1), (1, 0)] {
        let path = dirs[own].path().join("broker.toml");
        let config = std::fs::read_to_string(&path).expect("read");
        let name = ["alice", "bob"][other];
        let (id, at) = (&ids[other], at[other]);
        let more = format!(
            "{config}\n[[peers.peer]]\nid = \"{id}\"\nname = \"{name}\"\naddresses = [\"{at}\"]\nadmin = true\n"
        );
        std::fs::write(&path, more).expect("write");
        brokers.push(Broker::restart(dirs[own].path()).await);
    }
    brokers[0].ok(&["domain", "add", "a.example"]).await;
    brokers[1].ok(&["domain", "add", "b.example"]).await;
    let all = equal(&[&brokers[0], &brokers[1]]).await;
    assert!(all.contains("a.example") && all.contains("b.example"), "{all}");
}

/// DNS tells where a peer is; its key is in the configuration.
#[tokio::test]
async fn dns_tells_where_a_peer_is() {
    let dirs = [directory(), directory()];
    let at = with_fixed_port(dirs[0].path());
    with_fixed_port(dirs[1].path());
    let ids: Vec<_> = dirs.iter().map(c_id).collect();
    let known = |dir: &Path, more: &str| {
        let path = dir.join("broker.toml");
        let config = std::fs::read_to_string(&path).expect("read");
        std::fs::write(&path, format!("{config}\n{more}")).expect("write");
    };
    let peer =
        |id: &str, name: &str| format!("[[peers.peer]]\nid = \"{id}\"\nname = \"{name}\"\nadmin = true\n");
    known(dirs[0].path(), &peer(&ids[1], "bob"));
    let a = Broker::restart(dirs[0].path()).await;
    let zone = format!(
        "version = 1\n[[domain]]\nname = \"fed.example\"\n[[domain.records]]\nname = \"_nearmost-peers\"\n\
         type = \"TXT\"\nvalue = \"\\\"id={} endpoint={at}\\\"\"\n",
        ids[0]
    );
    a.apply(&zone, &[]).await;
    let path = dirs[1].path().join("broker.toml");
    let config = std::fs::read_to_string(&path).expect("read");
    let config = config.replace("[peers]\n", "[peers]\ndns = [\"fed.example\"]\n");
    let resolver = format!("[resolver]\nservers = [\"{}\"]\n", a.at.dns[0]);
    std::fs::write(&path, format!("{config}\n{resolver}\n{}", peer(&ids[0], "alice"))).expect("write");
    let b = Broker::restart(dirs[1].path()).await;
    b.ok(&["domain", "add", "b.example"]).await;
    let all = equal(&[&a, &b]).await;
    assert!(all.contains("fed.example") && all.contains("b.example"), "{all}");
}

/// An agent has a session with one broker; the other serves its mirror too, on what the first tells and on
/// its own look from outside, and takes it out when it dies.
#[tokio::test]
async fn a_mirror_is_served_by_brokers_that_its_agent_does_not_know() {
    let dirs = [directory(), directory()];
    let a = Broker::start(dirs[0].path()).await;
    let b = Broker::start(dirs[1].path()).await;
    join(&a, "bob", &b).await;
    a.ok(&["domain", "add", "play.example"]).await;
    let service = Service::start("127.0.29.1:0", "lon").await;
    let agent = Agent::start(&a, &dirs[0].path().join("lon"), "lon", "play.example", service.addr).await;
    a.until("lon", "up").await;
    let answers = || dns::ask(b.at.dns[0], "play.example", "212.58.224.0/19");
    eventually("bob answers with the mirror", answers, |found| *found == [service.addr.ip()]).await;
    agent.kill().await;
    drop(service);
    let eligible = || async {
        let fleet = b.fleet().await;
        let mirror = fleet.mirrors.iter().find(|m| m.mirror == "lon");
        mirror.is_some_and(|m| m.verdicts.iter().any(|v| v.eligible))
    };
    eventually("bob takes it out", eligible, |eligible| !eligible).await;
}

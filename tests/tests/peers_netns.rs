//! Brokers in networks of their own that are cut off from each other: both sides change everything, and end
//! byte-equal; one is killed while it is being told.

use nearmost_tests::netns::{Cut, Network};
use nearmost_tests::process::{Broker, binary, broker_config, directory};
use nearmost_tests::{PATIENCE, eventually};
use nearmost_wire::api::PeersResponse;
use std::path::{Path, PathBuf};

/// One broker of the lab.
struct Site {
    host: u8,
    dir: PathBuf,
}

impl Site {
    async fn new(network: &Network, at: &Path, host: u8) -> Site {
        network.add(host).await;
        let dir = at.join(format!("site{host}"));
        std::fs::create_dir_all(&dir).expect("directory");
        let any = "[peers]\nlisten = [\"127.0.0.1:0\"]";
        let own = format!("[peers]\nlisten = [\"10.{host}.0.2:7843\"]\nretry_most_ms = 2000");
        let config = broker_config(&dir, "").replace(any, &own);
        std::fs::write(dir.join("broker.toml"), config).expect("write broker.toml");
        Site { host, dir }
    }

    async fn start(&self, network: &Network) -> Broker {
        let mut line = network.command_line(self.host);
        line.push(binary("nearmost-broker").display().to_string());
        line.extend(["run".into(), "--config".into(), self.dir.join("broker.toml").display().to_string()]);
        Broker::start_by(&self.dir, &line).await
    }
}

async fn peers(broker: &Broker) -> PeersResponse {
    serde_json::from_str(&broker.ok(&["peer", "list", "--json"]).await).expect("peers as JSON")
}

async fn exports(brokers: &[&Broker]) -> Vec<String> {
    let mut all = Vec::new();
    for broker in brokers {
        all.push(broker.ok(&["export"]).await);
    }
    all
}

/// Waits until all export the same, which contains what it should.
async fn equal(brokers: &[&Broker], wanted: &[&str]) -> String {
    let same = |all: &Vec<String>| all.iter().all(|e| *e == all[0] && wanted.iter().all(|w| e.contains(w)));
    eventually("exports are equal", || exports(brokers), same).await.remove(0)
}

#[tokio::test]
async fn both_sides_of_a_cut_change_everything_and_end_byte_equal() {
    let dir = directory();
    let network = Network::start(dir.path()).await;
    let sites = [
        Site::new(&network, dir.path(), 1).await,
        Site::new(&network, dir.path(), 2).await,
        Site::new(&network, dir.path(), 3).await,
    ];
    let a = sites[0].start(&network).await;
    let b = sites[1].start(&network).await;
    let c = sites[2].start(&network).await;
    for (name, newcomer) in [("bob", &b), ("carol", &c)] {
        let token = a.ok(&["peer", "invite", name, "--admin"]).await;
        newcomer.ok(&["peer", "join", token.trim()]).await;
    }
    for domain in ["one.example", "two.example", "three.example"] {
        a.ok(&["domain", "add", domain]).await;
    }
    equal(&[&a, &b, &c], &["one.example", "two.example", "three.example"]).await;
    let meshed = || async { peers(&b).await.peers.iter().filter(|p| p.state == "up").count() };
    eventually("bob and carol are connected too", meshed, |up| *up == 2).await;

    network.cut(Cut::From(3)).await;
    network.cut(Cut::To(3)).await;
    let cut_off = || async { peers(&a).await.peers.iter().any(|p| p.name == "carol" && p.state != "up") };
    eventually("carol is seen to be cut off", cut_off, |gone| *gone).await;
    a.ok(&["domain", "set", "one.example", "--ttl", "11"]).await;
    b.ok(&["domain", "remove", "two.example"]).await;
    b.ok(&["domain", "add", "by-bob.example"]).await;
    c.ok(&["domain", "set", "three.example", "--ttl", "13"]).await;
    c.ok(&["domain", "set", "two.example", "--ttl", "12"]).await;
    c.ok(&["domain", "add", "by-carol.example"]).await;
    c.ok(&["record", "put", "three.example", "users/ada", "--text", "hello"]).await;
    let queued = peers(&a).await;
    let carol = queued.peers.iter().find(|p| p.name == "carol").expect("carol");
    assert!(carol.queue.records > 0, "{carol:?}");
    assert!(a.ok(&["peer", "list"]).await.contains("carol"));

    network.heal(Cut::From(3)).await;
    network.heal(Cut::To(3)).await;
    let all = equal(&[&a, &b, &c], &["by-bob.example", "by-carol.example"]).await;
    assert!(all.contains("ttl_s = 11") && all.contains("ttl_s = 13"), "{all}");
    assert_eq!(a.ok(&["record", "get", "three.example", "users/ada", "--raw"]).await, "hello");

    // A line of two is cut, and what one says reaches the other around it.
    network.cut(Cut::Between(1, 2)).await;
    network.cut(Cut::Between(2, 1)).await;
    let split = || async { peers(&c).await.splits.len() };
    eventually("carol sees that alice and bob do not see each other", split, |n| *n == 1).await;
    a.ok(&["domain", "add", "around.example"]).await;
    equal(&[&a, &b, &c], &["around.example"]).await;
}

#[tokio::test]
async fn one_killed_while_it_is_being_told_misses_nothing() {
    let dir = directory();
    let network = Network::start(dir.path()).await;
    let sites = [Site::new(&network, dir.path(), 1).await, Site::new(&network, dir.path(), 2).await];
    let a = sites[0].start(&network).await;
    let mut b = sites[1].start(&network).await;
    let token = a.ok(&["peer", "invite", "bob", "--admin"]).await;
    b.ok(&["peer", "join", token.trim()]).await;
    a.ok(&["domain", "add", "a.example"]).await;
    equal(&[&a, &b], &["a.example"]).await;
    let registry = |n: usize| -> String {
        let domains = (0..n).map(|i| format!("[[domain]]\nname = \"d{i}.example\"\n"));
        format!("version = 1\n{}", domains.collect::<String>())
    };
    for round in 1..=3 {
        a.apply(&registry(round * 400), &[]).await;
        b.kill().await;
        b = sites[1].start(&network).await;
    }
    let last = format!("d{}.example", 3 * 400 - 1);
    let whole = tokio::time::timeout(3 * PATIENCE, equal(&[&a, &b], &[&last])).await;
    assert!(whole.expect("in time").contains("d0.example"));
}

//! A broker that comes back knows what it knew.

use nearmost_tests::process::{Agent, Broker, directory};
use nearmost_tests::service::Service;
use nearmost_tests::{Stopwatch, dns, eventually};
use std::time::Duration;

const DOMAIN: &str = "play.example.com";
const REGISTRY: &str = r#"
version = 1
[[domain]]
name = "play.example.com"
ttl_s = 7
[[domain.records]]
name = "@"
type = "TXT"
value = "v=spf1 -all"
"#;

#[tokio::test]
async fn registry_and_verdicts_survive_sigterm_and_sigkill() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    broker.apply(REGISTRY, &[]).await;
    let good = Service::start("127.0.23.1:0", "good").await;
    let bad = Service::start("127.0.23.2:0", "bad").await;
    let first = Agent::start(&broker, &dir.path().join("good"), "good", DOMAIN, good.addr).await;
    let second = Agent::start(&broker, &dir.path().join("bad"), "bad", DOMAIN, bad.addr).await;
    broker.until("good", "up").await;
    broker.until("bad", "up").await;
    bad.answer_with(500);
    broker.until("bad", "down").await;
    let before = broker.ok(&["export"]).await;
    let (agents, beacons) = (broker.at.agents[0], broker.at.beacons[0]);

    // In order: verdicts are written at the end. The agents stay away, so what is known is what was kept.
    first.kill().await;
    second.kill().await;
    broker.stop().await;
    let broker = Broker::restart(dir.path()).await;
    assert_eq!(broker.ok(&["export"]).await, before);
    let fleet = broker.fleet().await;
    let verdict = |name: &str| {
        let mirror = fleet.mirrors.iter().find(|m| m.mirror == name).expect("the mirror");
        mirror.verdicts.iter().find(|v| v.family == "v4").expect("a verdict").clone()
    };
    assert_eq!(verdict("bad").state, "down");
    assert!(verdict("good").eligible, "{:?}", verdict("good"));
    let answer = dns::ask(broker.at.dns[0], DOMAIN, "212.58.224.0/19").await;
    assert_eq!(answer, [good.addr.ip()]);

    // Without order: what was committed is there.
    broker.ok(&["domain", "add", "second.example.com"]).await;
    broker.kill().await;
    let broker = Broker::restart(dir.path()).await;
    assert!(broker.ok(&["export"]).await.contains("second.example.com"));

    // Agents find a broker that came back at its old address.
    broker.stop().await;
    let fixed = std::fs::read_to_string(dir.path().join("broker.toml"))
        .expect("config")
        .replace("[agents]\nlisten = [\"127.0.0.1:0\"]", &format!("[agents]\nlisten = [\"{agents}\"]"))
        .replace("beacon_listen = [\"127.0.0.1:0\"]", &format!("beacon_listen = [\"{beacons}\"]"));
    std::fs::write(dir.path().join("broker.toml"), fixed).expect("write");
    let own = dir.path().join("good");
    let settings = nearmost_tests::process::service_config(&own, DOMAIN, good.addr);
    let agent = Agent::run(&own, &settings).await;
    let broker = Broker::restart(dir.path()).await;
    let proven = || async {
        let fleet = broker.fleet().await;
        let mirror = fleet.mirrors.into_iter().find(|m| m.mirror == "good").expect("the mirror");
        mirror.verdicts.into_iter().find(|v| v.family == "v4").expect("a verdict")
    };
    eventually("the agent is back", proven, |v| v.state == "up" && !v.stale && v.reason == "proven").await;
    agent.kill().await;
}

#[tokio::test]
async fn a_live_session_moves_to_the_broker_that_comes_back_after_sigkill() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    broker.apply(REGISTRY, &[]).await;
    let service = Service::start("127.0.23.3:0", "one").await;
    let agent = Agent::start(&broker, &dir.path().join("one"), "one", DOMAIN, service.addr).await;
    broker.until("one", "up").await;
    let (agents, beacons) = (broker.at.agents[0], broker.at.beacons[0]);
    let fixed = std::fs::read_to_string(dir.path().join("broker.toml"))
        .expect("config")
        .replace("[agents]\nlisten = [\"127.0.0.1:0\"]", &format!("[agents]\nlisten = [\"{agents}\"]"))
        .replace("beacon_listen = [\"127.0.0.1:0\"]", &format!("beacon_listen = [\"{beacons}\"]"));
    std::fs::write(dir.path().join("broker.toml"), fixed).expect("write");
    let attached = || {
        let log = std::fs::read_to_string(dir.path().join("broker.log")).expect("the log");
        log.matches("agent attached").count()
    };
    assert_eq!(attached(), 1);
    // The old process says nothing: that the session is over, the agent learns from the new one.
    broker.kill().await;
    let broker = Broker::restart(dir.path()).await;
    let clock = Stopwatch::start();
    let seen = || async {
        let fleet = broker.fleet().await;
        let mirror = fleet.mirrors.into_iter().find(|m| m.mirror == "one").expect("the mirror");
        (attached(), mirror.verdicts.into_iter().find(|v| v.family == "v4").expect("a verdict"))
    };
    eventually("the agent is back", seen, |(sessions, v)| {
        *sessions == 2 && v.state == "up" && !v.stale && v.reason == "proven"
    })
    .await;
    // Well under the session's idle timeout of five seconds, which would end it too.
    assert!(clock.elapsed() < Duration::from_millis(4_500), "it took {:?}", clock.elapsed());
    agent.kill().await;
}

#[tokio::test]
async fn the_registry_is_declarative_and_can_be_undone() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    let diff = broker.apply(REGISTRY, &["--dry-run"]).await;
    assert!(diff.contains('+') && diff.contains(DOMAIN), "{diff}");
    assert!(!broker.ok(&["export"]).await.contains(DOMAIN), "a dry run writes nothing");
    broker.apply(REGISTRY, &[]).await;
    assert!(broker.apply(REGISTRY, &[]).await.contains("nothing to do"));

    // What export gives back applies to nothing-to-do.
    let exported = broker.ok(&["export"]).await;
    assert!(broker.apply(&exported, &["--dry-run"]).await.contains("nothing to do"), "{exported}");

    broker.apply(&REGISTRY.replace("ttl_s = 7", "ttl_s = 9"), &[]).await;
    assert!(broker.ok(&["export"]).await.contains("ttl_s = 9"));
    broker.ok(&["undo"]).await;
    assert!(broker.ok(&["export"]).await.contains("ttl_s = 7"));

    // Absence deletes only with --prune.
    broker.apply("version = 1\n", &[]).await;
    assert!(broker.ok(&["export"]).await.contains(DOMAIN));
    broker.apply("version = 1\n", &["--prune"]).await;
    assert!(!broker.ok(&["export"]).await.contains(DOMAIN));
    let history = broker.ok(&["history", DOMAIN]).await;
    assert!(history.lines().count() >= 4, "{history}");
}

#[tokio::test]
async fn people_overrule() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    let one = Service::start("127.0.24.1:0", "one").await;
    let two = Service::start("127.0.24.2:0", "two").await;
    let mirror = |name: &str, s: &Service, place: &str| {
        format!(
            "[[mirror]]\ndomain = {DOMAIN:?}\nname = {name:?}\naddresses = [\"{}\"]\nport = {}\nhealth = \"probe\"\n\
             probe = {{ kind = \"tcp\", interval_ms = 200 }}\nplace = {{ {place} }}\n",
            s.addr.ip(),
            s.addr.port()
        )
    };
    let near = mirror("near", &one, "latitude = 51.5, longitude = 0.0, country = \"GB\"");
    let far = mirror("far", &two, "latitude = -33.9, longitude = 151.2, country = \"AU\"");
    broker.apply(&format!("{REGISTRY}{near}{far}"), &[]).await;
    broker.until("near", "up").await;
    broker.until("far", "up").await;
    let british = || dns::ask(broker.at.dns[0], DOMAIN, "212.58.224.0/19");

    let preview = broker.ok(&["mirror", "drain", "play.example.com/near", "--dry-run"]).await;
    assert!(preview.contains("far"), "{preview}");
    assert_eq!(broker.state("near").await, "up", "a dry run drains nothing");
    broker.ok(&["mirror", "drain", "play.example.com/near"]).await;
    broker.until("near", "draining").await;
    assert_eq!(british().await, [two.addr.ip()]);
    broker.ok(&["mirror", "undrain", "play.example.com/near"]).await;
    broker.until("near", "up").await;

    broker.ok(&["mirror", "force", "play.example.com/near", "down", "--for", "1s"]).await;
    broker.until("near", "down").await;
    broker.until("near", "up").await;

    // Probed mirrors need no agent: the port closes, users move.
    drop(one);
    broker.until("near", "down").await;
    assert_eq!(british().await, [two.addr.ip()]);
}

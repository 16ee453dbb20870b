//! Which mirror was out last night, and for how long: also over a restart of the broker.

use nearmost_tests::eventually;
use nearmost_tests::process::{Agent, Broker, directory};
use nearmost_tests::service::Service;

const DOMAIN: &str = "play.example.com";

#[tokio::test]
async fn an_outage_is_told_with_its_times_its_reason_and_who_said_it() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    broker.ok(&["domain", "add", DOMAIN]).await;
    let service = Service::start("127.0.62.1:0", "one").await;
    let agent = Agent::start(&broker, &dir.path().join("one"), "one", DOMAIN, service.addr).await;
    broker.until("one", "up").await;
    assert_eq!(broker.ok(&["outages"]).await, "no outages\n");
    service.answer_with(500);
    broker.until("one", "down").await;
    let told = || async { broker.ok(&["outages", "--since", "1h"]).await };
    let text = eventually("it is kept", told, |told| told.contains("still")).await;
    assert!(text.contains("play.example.com/one") && text.contains("said by"), "{text}");
    service.answer_with(200);
    broker.until("one", "up").await;
    let text = eventually("its end is kept", told, |told| !told.contains("still")).await;
    assert!(text.lines().count() >= 2, "{text}");
    // Ordered by a person, it is told apart.
    broker.ok(&["mirror", "drain", &format!("{DOMAIN}/one")]).await;
    broker.until("one", "draining").await;
    let text = eventually("the drain is kept", told, |told| told.contains("planned: ")).await;
    assert!(text.lines().count() >= 3, "{text}");
    assert_eq!(broker.ok(&["outages", "--mirror", "two"]).await, "no outages\n");
    let json = broker.ok(&["--json", "outages", "--domain", DOMAIN]).await;
    let found: Vec<serde_json::Value> = serde_json::from_str(&json).expect("JSON");
    // A slow machine may have seen more of them; the drain was the last.
    assert!(found.len() >= 2, "{json}");
    let planned = |outage: Option<&serde_json::Value>| outage.map(|o| o["planned"] == true);
    assert_eq!((planned(found.first()), planned(found.last())), (Some(false), Some(true)));
    let said = broker.fails(&["outages", "--since", "last night"]).await;
    assert!(said.contains("24h"), "{said}");
    agent.kill().await;
    broker.stop().await;
}

#[tokio::test]
async fn an_outage_over_a_restart_is_one() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    broker.ok(&["domain", "add", DOMAIN]).await;
    let service = Service::start("127.0.62.2:0", "one").await;
    let agent = Agent::start(&broker, &dir.path().join("one"), "one", DOMAIN, service.addr).await;
    broker.until("one", "up").await;
    service.answer_with(500);
    broker.until("one", "down").await;
    // It came up, and went down.
    let stored = || broker.metric("nearmost_events_stored_total");
    eventually("both are kept", stored, |stored| *stored >= 2.0).await;
    agent.kill().await;
    broker.stop().await;
    let broker = Broker::restart(dir.path()).await;
    let told = broker.ok(&["outages"]).await;
    assert!(told.contains("still"), "{told}");
    assert!(told.contains("the broker did not run from"), "{told}");
    let still = |line: &&str| line.contains("play.example.com/one") && line.contains("still");
    assert_eq!(told.lines().filter(still).count(), 1, "{told}");
    broker.stop().await;
}

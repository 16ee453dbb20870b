//! Joining and being refused: every refusal says which it is.

use nearmost_tests::eventually;
use nearmost_tests::process::{Agent, Broker, directory, service_config};
use nearmost_tests::service::Service;

const DOMAIN: &str = "play.example.com";
const REGISTRY: &str = "version = 1\n[[domain]]\nname = \"play.example.com\"\n";

async fn refusal(dir: &std::path::Path, token: &str) -> String {
    let output = Agent::join(dir, token).await;
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).to_lowercase()
}

#[tokio::test]
async fn a_token_is_good_once_here_and_in_time() {
    let (dir, other_dir) = (directory(), directory());
    let broker = Broker::start(dir.path()).await;
    broker.apply(REGISTRY, &[]).await;
    let broker = &broker;
    let invite = |args: &'static [&'static str]| async move {
        let mut all = vec!["node", "invite", "--domain", DOMAIN];
        all.extend(args);
        broker.ok(&all).await.trim().to_owned()
    };

    // Used.
    let token = invite(&["--name", "one"]).await;
    assert!(Agent::join(&dir.path().join("a"), &token).await.status.success());
    let said = refusal(&dir.path().join("b"), &token).await;
    assert!(said.contains("used already, at 20") && !said.contains("epoch"), "a time for people: {said}");

    // The same key again, as when the first answer was lost: it is told what it was told.
    let own = dir.path().join("a");
    let config = std::fs::read(own.join("node-agent.toml")).expect("the configuration");
    std::fs::remove_file(own.join("node-agent.toml")).expect("remove");
    assert!(Agent::join(&own, &token).await.status.success());
    assert_eq!(std::fs::read(own.join("node-agent.toml")).expect("the configuration"), config);

    // Cut short.
    let said = refusal(&dir.path().join("c"), &token[..token.len() - 5]).await;
    assert!(said.contains("cut short"), "{said}");

    // Expired: only time can bring that about.
    let token = invite(&["--ttl", "1s"]).await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let said = refusal(&dir.path().join("x"), &token).await;
    assert!(said.contains("expired"), "{said}");

    // Foreign: made by another broker.
    let other = Broker::start(other_dir.path()).await;
    other.apply(REGISTRY, &[]).await;
    let foreign = other.ok(&["node", "invite", "--domain", DOMAIN]).await;
    let mut token = nearmost_wire::token::JoinToken::decode(&foreign).expect("a token");
    token.addresses = vec![broker.at.agents[0].to_string()];
    let said = refusal(&dir.path().join("d"), &token.encode()).await;
    assert!(said.contains("wrong broker key"), "a wrong broker key is named: {said}");
    let mine = nearmost_wire::identity::Id::parse(&broker.at.broker, nearmost_wire::identity::Role::Broker);
    token.broker = mine.expect("an id").key;
    let said = refusal(&dir.path().join("e"), &token.encode()).await;
    assert!(said.contains("not known") || said.contains("unknown"), "{said}");

    // Names and domains are checked when the token is made.
    let said = broker.fails(&["node", "invite", "--domain", "nowhere.example"]).await;
    assert!(said.contains("nowhere.example"), "{said}");
}

#[tokio::test]
async fn no_token_takes_over_what_was_prepared_for_another() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    broker.apply(&format!("{REGISTRY}[[domain]]\nname = \"other.example.com\"\n"), &[]).await;
    broker.ok(&["node", "add", "foo", "--domain", "other.example.com"]).await;
    let token = broker.ok(&["node", "invite", "--domain", DOMAIN]).await;
    let own = dir.path().join("foo");
    let output = Agent::join_with(&own, token.trim(), &["--name", "foo"]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("belongs to another node"), "{said}");
    // The token that names it is for it.
    let token = broker.ok(&["node", "invite", "--domain", DOMAIN, "--name", "foo"]).await;
    assert!(Agent::join(&own, token.trim()).await.status.success());
    let config = std::fs::read_to_string(own.join("node-agent.toml")).expect("the configuration");
    assert!(config.contains("other.example.com") && config.contains(DOMAIN), "{config}");
    broker.stop().await;
}

#[tokio::test]
async fn a_revoked_node_is_gone_and_stays_out() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    broker.apply(REGISTRY, &[]).await;
    let service = Service::start("127.0.22.1:0", "one").await;
    let own = dir.path().join("one");
    let agent = Agent::start(&broker, &own, "one", DOMAIN, service.addr).await;
    broker.until("one", "up").await;
    broker.ok(&["node", "revoke", "one"]).await;
    broker.until("one", "down").await;
    eventually("the agent is told", || async { agent.log() }, |log| log.contains("revoked")).await;
    agent.kill().await;
    let agent = Agent::run(&own, &service_config(&own, DOMAIN, service.addr)).await;
    eventually("it is refused again", || async { agent.log() }, |log| log.matches("revoked").count() >= 2)
        .await;
    assert_eq!(broker.state("one").await, "down");

    // An unknown key: the node's entry is removed altogether.
    broker.ok(&["mirror", "remove", "play.example.com/one"]).await;
    broker.ok(&["node", "remove", "one"]).await;
    agent.kill().await;
    let agent = Agent::run(&own, &service_config(&own, DOMAIN, service.addr)).await;
    eventually(
        "the key is unknown",
        || async { agent.log() },
        |log| log.contains("not in the registry") || log.contains("unknown") || log.contains("not know"),
    )
    .await;
    assert_eq!(broker.state("one").await, "absent");
}

//! A session that follows a real broker's list, with the owner's word from a token to the mirror.

use nearmost_client::session::{Event, Events, MoveReason, Session, SessionError};
use nearmost_client::{Endpoint, identity::Id, identity::Role};
use nearmost_tests::process::{Agent, Broker, directory, service_config};
use nearmost_tests::service::Service;
use nearmost_tests::{PATIENCE, Stopwatch};
use std::path::Path;
use std::time::Duration;

const DOMAIN: &str = "play.example.com";

/// An agent that takes clients in for a TCP service, on a port that its broker is told of.
async fn mirror(broker: &Broker, dir: &Path, name: &'static str, ip: &str) -> (Agent, Service) {
    let service = Service::start(&format!("{ip}:0"), name).await;
    let token = broker.ok(&["node", "invite", "--domain", DOMAIN, "--name", name]).await;
    assert!(Agent::join(dir, token.trim()).await.status.success());
    let mut settings = service_config(dir, DOMAIN, service.addr);
    settings.push("ingress.enabled=true".into());
    settings.push(format!("ingress.listen=[\"{ip}:0\"]"));
    (Agent::run(dir, &settings).await, service)
}

/// Waits until a session is elsewhere; how long it had no mirror.
async fn elsewhere(events: &mut Events, than: Id) -> String {
    let next = async {
        loop {
            match events.next().await.expect("it goes on") {
                Event::Moved { to, reason, gap, .. } if to != than => return format!("{reason:?}, {gap:?}"),
                // It had no standby yet.
                Event::Attached { to } if to != than => return "attached anew".into(),
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, next).await.expect("it moves")
}

async fn moved(events: &mut Events) -> (Id, MoveReason, Duration) {
    let next = async {
        loop {
            if let Event::Moved { to, reason, gap, .. } = events.next().await.expect("it goes on") {
                return (to, reason, gap);
            }
        }
    };
    tokio::time::timeout(PATIENCE, next).await.expect("it moves")
}

struct World {
    broker: Broker,
    agents: [Agent; 2],
    _services: [Service; 2],
    _dir: tempfile::TempDir,
}

impl World {
    async fn start() -> World {
        let dir = directory();
        let broker = Broker::start(dir.path()).await;
        broker.apply(&format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n"), &[]).await;
        let (one, first) = mirror(&broker, &dir.path().join("one"), "one", "127.0.51.1").await;
        let (two, second) = mirror(&broker, &dir.path().join("two"), "two", "127.0.51.2").await;
        broker.until("one", "up").await;
        broker.until("two", "up").await;
        World { broker, agents: [one, two], _services: [first, second], _dir: dir }
    }

    /// Names an owner, and has it choose the broker.
    async fn own(&self) -> Id {
        let owner = self.broker.dir.join("owner.key");
        let key = nearmost_client::identity::KeyPair::load_or_create(&owner, Role::Person).expect("a key").0;
        let at = &self.broker.at;
        let owner = owner.to_str().expect("UTF-8");
        let set = self.broker.ok(&["domain", "delegate", DOMAIN, "--to", &at.broker, "--key", owner]).await;
        let words: Vec<&str> = set.split_whitespace().skip(1).collect();
        self.broker.ok(&words).await;
        key.id()
    }

    async fn token(&self) -> String {
        let at = self.broker.at.clients[0].to_string();
        self.broker.ok(&["domain", "token", DOMAIN, "--at", &at]).await.trim().to_owned()
    }

    async fn node(&self, name: &str) -> Id {
        let nodes = self.broker.fleet().await.nodes;
        let node = nodes.iter().find(|n| n.name == name).expect("it joined");
        Id::parse(node.id.as_deref().expect("its key is known"), Role::Node).expect("an id")
    }
}

#[tokio::test]
async fn a_drain_is_pushed_and_the_session_is_elsewhere_before_it_is_missed() {
    let world = World::start().await;
    let owner = world.own().await;
    let session = Session::builder(DOMAIN).token(&world.token().await).connect().await.expect("attached");
    world.broker.until_metric("nearmost_list_subscribers", 1.0).await;
    let mut events = session.events();
    let first = session.primary().expect("attached");
    let one = world.node("one").await;
    let name = if first == one { "one" } else { "two" };
    let watch = Stopwatch::start();
    world.broker.ok(&["mirror", "drain", &format!("{DOMAIN}/{name}")]).await;
    let ordered = watch.elapsed();
    let (to, reason, gap) = moved(&mut events).await;
    println!(
        "moved {:?} after the order was given ({ordered:?} for the command), {gap:?} without a mirror",
        watch.elapsed()
    );
    assert_ne!(to, first);
    assert!(gap < Duration::from_millis(100), "{gap:?} without a mirror");
    let pushed = watch.elapsed().saturating_sub(ordered);
    assert!(pushed < Duration::from_millis(500), "{pushed:?} after the order was in force");
    assert!(matches!(reason, MoveReason::Drain | MoveReason::Unlisted), "{reason:?}");
    assert_eq!(world.broker.metric("nearmost_list_dropped_total").await, 0.0);
    session.close().await;

    // Whoever insists on another owner gets nobody.
    let stranger = nearmost_client::identity::KeyPair::from_seed(Role::Person, &[9; 32]).id();
    assert_ne!(stranger, owner);
    let token = world.token().await;
    let refused = Session::builder(DOMAIN).token(&token).owner(stranger).within(Duration::from_secs(2));
    let Err(SessionError::NotAttached { problems, .. }) = refused.connect().await else { panic!("attached") };
    assert!(problems.iter().any(|(_, what)| what.contains("owner")), "{problems:?}");
}

#[tokio::test]
async fn brokers_are_found_in_dns_with_the_owner() {
    let world = World::start().await;
    let owner = world.own().await;
    let server = world.broker.at.dns[0];
    let find = || Session::builder(DOMAIN).name_server(server).within(PATIENCE).connect();
    let Err(SessionError::Find(nothing)) = find().await else { panic!("nobody is there to be found") };
    assert!(nothing.to_string().contains("_nearmost.play.example.com"), "{nothing}");
    let at = world.broker.at.clients[0].to_string();
    let zone = world.broker.ok(&["domain", "token", DOMAIN, "--at", &at, "--dns"]).await;
    let text = zone.split('"').nth(1).expect("a text");
    assert!(text.contains(&owner.to_string()), "{zone}");
    world.broker.ok(&["domain", "set", DOMAIN, "--record", &format!("_nearmost TXT 300 {text}")]).await;
    let session = find().await.expect("found and attached");
    assert!(session.primary().is_some());
    session.close().await;
}

#[tokio::test]
async fn a_url_is_enough_and_the_dead_broker_is_not_missed() {
    let World { broker, agents, _services, _dir } = World::start().await;
    let url: Endpoint = broker.url().parse().expect("a URL");
    let session = Session::builder(DOMAIN).url(url).connect().await.expect("attached");
    let mut events = session.events();
    let first = session.primary().expect("attached");
    let nodes = broker.fleet().await.nodes;
    let one = nodes.iter().find(|n| n.name == "one").and_then(|n| n.id.clone()).expect("it joined");
    broker.kill().await;
    let [a, b] = agents;
    let (dies, _lives) = if first.to_string() == one { (a, b) } else { (b, a) };
    let watch = Stopwatch::start();
    dies.kill().await;
    let how = elsewhere(&mut events, first).await;
    println!("without a broker: elsewhere {:?} after the kill: {how}", watch.elapsed());
    session.close().await;
}

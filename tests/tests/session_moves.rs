//! A session through the ingress of real agents: it outlives the death of its mirror.

use nearmost_client::session::{Event, FailureDomain, Known, Session};
use nearmost_tests::process::{Agent, Broker, directory, service_config};
use nearmost_tests::service::{Service, game};
use nearmost_tests::{PATIENCE, Stopwatch};
use std::path::Path;
use std::time::Duration;

const DOMAIN: &str = "play.example.com";
/// Each agent has an address of its own, so the port can be the usual one.
const INGRESS: u16 = 7850;

/// An agent that takes clients in for a TCP service and a game beside it.
async fn mirror(broker: &Broker, dir: &Path, name: &'static str, ip: &str) -> (Agent, Service) {
    let service = Service::start(&format!("{ip}:0"), name).await;
    let udp = game(service.addr.ip(), name).await;
    let token = broker.ok(&["node", "invite", "--domain", DOMAIN, "--name", name]).await;
    assert!(Agent::join(dir, token.trim()).await.status.success());
    let mut settings = service_config(dir, DOMAIN, service.addr);
    let with = format!("ingress = {{ udp = \"{ip}:{udp}\" }}, checks = [");
    settings.iter_mut().for_each(|s| *s = s.replace("checks = [", &with));
    settings.push("ingress.enabled=true".into());
    settings.push(format!("ingress.listen=[\"{ip}:{INGRESS}\"]"));
    (Agent::run(dir, &settings).await, service)
}

/// Says something again and again until it is answered; who answered.
async fn answered(session: &Session, says: &str) -> String {
    let mut again = tokio::time::interval(Duration::from_millis(10));
    let asked = async {
        loop {
            tokio::select! {
                _ = again.tick() => drop(session.send(1, says.as_bytes())),
                heard = session.recv() => {
                    let heard = String::from_utf8(heard.expect("it goes on").payload.to_vec()).expect("UTF-8");
                    let (name, said) = heard.split_once(' ').expect("a name");
                    if said == says {
                        return name.to_owned();
                    }
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("an answer")
}

#[tokio::test]
async fn a_session_goes_on_at_another_mirror_when_its_agent_is_killed() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    broker.apply(&format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n"), &[]).await;
    let (one, _first) = mirror(&broker, &dir.path().join("one"), "one", "127.0.50.1").await;
    let (two, _second) = mirror(&broker, &dir.path().join("two"), "two", "127.0.50.2").await;
    broker.until("one", "up").await;
    broker.until("two", "up").await;

    let nodes = broker.fleet().await.nodes;
    let known = |name: &str, ip: &str, predicted_ms, domain| {
        let node = nodes.iter().find(|n| n.name == name).expect("it joined");
        let id = node.id.as_deref().expect("its key is known");
        let known = Known::new(id, vec![ip.parse().expect("an address")]).expect("an id");
        let predicted = Duration::from_millis(predicted_ms);
        Known {
            port: INGRESS,
            predicted,
            domain: FailureDomain { site: domain, ..FailureDomain::default() },
            ..known
        }
    };
    let session = Session::builder(DOMAIN)
        .mirror(known("one", "127.0.50.1", 5, 1))
        .mirror(known("two", "127.0.50.2", 40, 2))
        .connect()
        .await
        .unwrap_or_else(|e| panic!("{e}\n{}\n{}", one.log(), two.log()));
    let mut events = session.events();
    let mut serving = answered(&session, "hello").await;
    // A tripwire that closes as soon as it is opened is taken for none: both are held before one goes.
    let playing = Stopwatch::start();
    while playing.elapsed() < Duration::from_millis(600) {
        serving = answered(&session, "playing").await;
    }
    // Both are as near on this machine; whoever it is goes.
    let (dies, lives) = if serving == "one" { (one, "two") } else { (two, "one") };
    let watch = Stopwatch::start();
    dies.kill().await;
    let mut tries = 0;
    while serving != lives {
        tries += 1;
        serving = answered(&session, &format!("still there {tries}")).await;
    }
    println!("answered by {lives} {:?} after the other's agent was killed", watch.elapsed());
    assert!(watch.elapsed() < Duration::from_secs(2), "{:?}", watch.elapsed());
    let moved = async {
        loop {
            if let Event::Moved { reason, gap, .. } = events.next().await.expect("it goes on") {
                return (reason, gap);
            }
        }
    };
    let (reason, gap) = tokio::time::timeout(PATIENCE, moved).await.expect("it moved");
    println!("moved: {reason:?}, {gap:?} without it");
    session.close().await;
    broker.stop().await;
}

//! Dual stack: addresses, probes and verdicts are per family; host names are followed.

use hickory_proto::rr::RecordType;
use nearmost_tests::process::{Agent, Broker, directory, service_config};
use nearmost_tests::service::Service;
use nearmost_tests::{dns, eventually};
use std::net::SocketAddr;
use tokio::net::TcpListener;

const DOMAIN: &str = "play.example.com";

async fn answer(broker: &Broker, kind: RecordType) -> Vec<std::net::IpAddr> {
    let reply = dns::exchange(broker.at.dns[0], &dns::query(DOMAIN, kind, None)).await;
    dns::addresses(&reply.expect("a reply"))
}

async fn verdict(broker: &Broker, mirror: &str, family: &str) -> String {
    let fleet = broker.fleet().await;
    let mirror = fleet.mirrors.iter().find(|m| m.mirror == mirror);
    let verdict = mirror.and_then(|m| m.verdicts.iter().find(|v| v.family == family));
    verdict.map_or("absent".into(), |v| v.state.clone())
}

/// Listeners on both families at one port.
async fn both() -> (TcpListener, TcpListener, u16) {
    loop {
        let v4 = TcpListener::bind("127.0.25.1:0").await.expect("bind");
        let port = v4.local_addr().expect("bound").port();
        if let Ok(v6) = TcpListener::bind(("::1", port)).await {
            return (v4, v6, port);
        }
    }
}

#[tokio::test]
async fn broken_ipv6_takes_out_ipv6_only() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    let (_v4, v6, port) = both().await;
    broker
        .apply(
            &format!(
                "version = 1\n[[domain]]\nname = {DOMAIN:?}\nall_down = \"no_answer\"\n\
                 [[mirror]]\ndomain = {DOMAIN:?}\nname = \"m\"\naddresses = [\"127.0.25.1\", \"::1\"]\nport = {port}\n\
                 health = \"probe\"\nprobe = {{ kind = \"tcp\", interval_ms = 200 }}\n"
            ),
            &[],
        )
        .await;
    for family in ["v4", "v6"] {
        eventually("both families are up", || verdict(&broker, "m", family), |s| s == "up").await;
    }
    assert_eq!(answer(&broker, RecordType::A).await.len(), 1);
    assert_eq!(answer(&broker, RecordType::AAAA).await.len(), 1);
    drop(v6);
    eventually("IPv6 is down", || verdict(&broker, "m", "v6"), |s| s == "down").await;
    assert_eq!(verdict(&broker, "m", "v4").await, "up");
    assert_eq!(answer(&broker, RecordType::A).await.len(), 1);
    assert_eq!(answer(&broker, RecordType::AAAA).await.len(), 0);
}

#[tokio::test]
async fn a_host_name_is_followed() {
    let (dir, names_dir) = (directory(), directory());
    let names = Broker::start(names_dir.path()).await;
    let zone = |address: &str| {
        format!(
            "version = 1\n[[domain]]\nname = \"hosts.example\"\n[[domain.records]]\nname = \"one\"\ntype = \"A\"\nttl_s = 1\nvalue = \"{address}\"\n"
        )
    };
    names.apply(&zone("127.0.26.1"), &[]).await;
    let extra = format!("[resolver]\nservers = [\"{}\"]\nmin_refresh_ms = 200", names.at.dns[0]);
    let broker = Broker::start_with(dir.path(), &extra).await;
    let one = Service::start("127.0.26.1:0", "one").await;
    let _two = Service::start(&format!("127.0.26.2:{}", one.addr.port()), "two").await;
    broker
        .apply(
            &format!(
                "version = 1\n[[domain]]\nname = {DOMAIN:?}\n[[mirror]]\ndomain = {DOMAIN:?}\nname = \"m\"\n\
                 hostname = \"one.hosts.example\"\nport = {}\nhealth = \"probe\"\nprobe = {{ kind = \"http\" }}\n",
                one.addr.port()
            ),
            &[],
        )
        .await;
    let at = |address: &'static str| [address.parse::<std::net::IpAddr>().expect("an address")];
    eventually("the first address", || answer(&broker, RecordType::A), |a| *a == at("127.0.26.1")).await;
    names.apply(&zone("127.0.26.2"), &[]).await;
    eventually("the second address", || answer(&broker, RecordType::A), |a| *a == at("127.0.26.2")).await;
    // A resolver that is away takes nothing down.
    names.kill().await;
    broker.ok(&["status"]).await;
    assert_eq!(answer(&broker, RecordType::A).await, at("127.0.26.2"));
}

#[tokio::test]
async fn an_agent_without_addresses_is_reached_where_its_session_comes_from() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    broker.apply(&format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n"), &[]).await;
    let service = Service::start("127.0.0.1:0", "one").await;
    let own = dir.path().join("one");
    let token = broker.ok(&["node", "invite", "--domain", DOMAIN, "--name", "one"]).await;
    assert!(Agent::join(&own, token.trim()).await.status.success());
    let observed: SocketAddr = service.addr;
    let settings: Vec<String> = service_config(&own, DOMAIN, observed)
        .into_iter()
        .map(|s| s.replace(&format!("addresses = [\"{}\"], ", observed.ip()), ""))
        .collect();
    assert!(settings.iter().all(|s| !s.contains("addresses")), "{settings:?}");
    let agent = Agent::run(&own, &settings).await;
    broker.until("one", "up").await;
    assert_eq!(answer(&broker, RecordType::A).await, [observed.ip()]);
    agent.kill().await;
}

#[tokio::test]
async fn an_agent_finds_another_of_several_brokers() {
    let (dir, first_dir, second_dir) = (directory(), directory(), directory());
    let first = Broker::start(first_dir.path()).await;
    let second = Broker::start(second_dir.path()).await;
    let service = Service::start("127.0.27.1:0", "one").await;
    let registry = format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n");
    first.apply(&registry, &[]).await;
    let own = dir.path().join("one");
    let token = first.ok(&["node", "invite", "--domain", DOMAIN, "--name", "one"]).await;
    assert!(Agent::join(&own, token.trim()).await.status.success());
    // The second broker learns of the node from the first one's registry.
    let exported = first.ok(&["export"]).await;
    second.apply(&exported, &[]).await;
    let mut settings = service_config(&own, DOMAIN, service.addr);
    let entry = |b: &Broker| format!("{{ id = \"{}\", addresses = [\"{}\"] }}", b.at.broker, b.at.agents[0]);
    settings.push(format!("brokers=[{}, {}]", entry(&first), entry(&second)));
    settings.push("node.max_sessions=1".into());
    let agent = Agent::run(&own, &settings).await;
    first.until("one", "up").await;
    first.kill().await;
    second.until("one", "up").await;
    agent.kill().await;
}

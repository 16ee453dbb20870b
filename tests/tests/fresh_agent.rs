//! The configuration that joining writes is a good one as it stands.

use nearmost_tests::process::{Agent, Broker, directory};
use nearmost_tests::service::Service;
use nearmost_tests::{Stopwatch, eventually};
use std::time::Duration;

const DOMAIN: &str = "play.example.com";
/// Two checks a second apart, with their jitter, and the way to the broker.
const NOTICED: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_service_that_dies_under_a_living_agent_is_noticed_without_any_configuring() {
    let dir = directory();
    // Nobody else looks: the broker's own probes of a mirror that is up are an hour apart.
    let broker = Broker::start_with(dir.path(), "[health]\nreprobe_interval_ms = 3600000").await;
    broker.apply(&format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n"), &[]).await;
    let service = Service::start("127.0.0.1:0", "one").await;
    let addr = service.addr;
    let own = dir.path().join("one");
    let token = broker.ok(&["node", "invite", "--domain", DOMAIN, "--name", "one"]).await;
    let joined = Agent::join_with(&own, token.trim(), &["--port", &addr.port().to_string()]).await;
    assert!(joined.status.success(), "join: {}", String::from_utf8_lossy(&joined.stderr));
    // Only so that tests can run beside each other.
    let _agent = Agent::run(&own, &["metrics.listen=".into()]).await;
    broker.until("one", "up").await;

    let watch = Stopwatch::start();
    drop(service);
    let verdict = || async {
        let fleet = broker.fleet().await;
        let mirror = fleet.mirrors.iter().find(|m| m.mirror == "one");
        let v4 = mirror.and_then(|m| m.verdicts.iter().find(|v| v.family == "v4"));
        v4.map_or_else(Default::default, |v| (v.state.clone(), v.reason.clone()))
    };
    let (_, reason) = eventually("the death is noticed", verdict, |(state, _)| state == "down").await;
    let took = watch.elapsed();
    assert_eq!(reason, "service_failing");
    assert!(took <= NOTICED, "it took {took:?}");

    let _service = Service::start(&addr.to_string(), "one").await;
    broker.until("one", "up").await;
}

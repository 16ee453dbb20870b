//! The command measures mirrors and reports, over HTTP and over QUIC, and the broker learns of it.

use nearmost_tests::process::{Broker, binary, broker_config, directory};
use nearmost_tests::service::Service;
use nearmost_tests::{dns, eventually};
use std::process::Stdio;
use tokio::process::Command;

const DOMAIN: &str = "play.example.com";
const OBSERVED: &str = "nearmost_rtt_observations_total{source=\"client\"}";

/// Runs `nearmost measure` by a way to the broker.
async fn measure(broker: &Broker, domain: &str, way: &[&str]) -> (bool, String) {
    let output = Command::new(binary("nearmost"))
        .env("NEARMOST_PERSON_KEY", broker.dir.join("person.key"))
        .args(["measure", domain, "--no-lookup"])
        .args(way)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(nearmost_tests::PATIENCE, output).await.expect("it ends").expect("run");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn registry(services: &[(&str, &Service)]) -> String {
    let mirror = |(name, service): &(&str, &Service)| {
        format!(
            "[[mirror]]\ndomain = {DOMAIN:?}\nname = {name:?}\naddresses = [\"{}\"]\nport = {}\n\
             health = \"probe\"\nprobe = {{ kind = \"http\", path = \"/\" }}\n",
            service.addr.ip(),
            service.addr.port()
        )
    };
    let mirrors: String = services.iter().map(mirror).collect();
    format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n{mirrors}")
}

#[tokio::test]
async fn round_trips_reach_the_broker_over_both_ways() {
    let dir = directory();
    // It learns nothing, so that it wants to know the same again.
    let config = broker_config(dir.path(), "[learning]\nenabled = false\n")
        .replace("[clients]\n", "[clients]\nreport_burst = 3\n");
    std::fs::write(dir.path().join("broker.toml"), config).expect("write");
    let broker = Broker::restart(dir.path()).await;
    let (one, two) =
        (Service::start("127.0.29.1:0", "one").await, Service::start("127.0.29.2:0", "two").await);
    broker.apply(&registry(&[("one", &one), ("two", &two)]), &[]).await;
    broker.until("one", "up").await;
    broker.until("two", "up").await;
    assert_eq!(broker.metric(OBSERVED).await, 0.0);

    let (http, quic, id) = (broker.url(), broker.at.clients[0].to_string(), broker.at.broker.clone());
    let over_http = ["--broker", http.as_str()];
    let over_quic = ["--quic", quic.as_str(), "--broker-id", id.as_str()];
    for (way, observed) in [(&over_http[..], 2.0), (&over_quic[..], 4.0)] {
        let (good, said) = measure(&broker, DOMAIN, way).await;
        assert!(good && said.contains("127.0.29.1") && said.contains("127.0.29.2"), "{said}");
        assert!(said.contains("the broker took 2 round trips, and does not know the resolver"), "{said}");
        broker.until_metric(OBSERVED, observed).await;
    }

    // A mirror that is gone is not measured once the broker knows.
    drop(two);
    broker.until("two", "down").await;
    let (good, said) = measure(&broker, DOMAIN, &over_quic).await;
    assert!(good && said.contains("took 1 round trip,") && !said.contains("127.0.29.2"), "{said}");
    broker.until_metric(OBSERVED, 5.0).await;

    // Both ways count for the same limit, and what is refused is said and counted.
    for (way, refused) in [(&over_http[..], 1.0), (&over_quic[..], 2.0)] {
        let (good, said) = measure(&broker, DOMAIN, way).await;
        assert!(good && said.contains("took nothing") && said.contains("reports_too_often"), "{said}");
        let counter = "nearmost_rtt_reports_refused_total{reason=\"reports_too_often\"}";
        assert_eq!(broker.metric(counter).await, refused);
    }
    let (good, said) = measure(&broker, "nowhere.example.com", &over_quic).await;
    assert!(!good && said.contains("unknown_domain"), "{said}");
    let (good, said) = measure(&broker, "nowhere.example.com", &over_http).await;
    assert!(!good && said.contains("unknown_domain"), "{said}");
    let other = id.replace(&id[3..8], "aaaaa");
    let (good, said) = measure(&broker, DOMAIN, &["--quic", &quic, "--broker-id", &other]).await;
    assert!(!good && said.contains("is not nb1aaaaa"), "{said}");

    // One-time names are answered by the broker at once, and noted.
    let name = "zyxwvutsrq765432.probe.play.example.com";
    let ask = || dns::ask(broker.at.dns[0], name, "127.0.0.0/24");
    eventually("the one-time name is answered", ask, |a| *a == [one.addr.ip()]).await;
    broker.until_metric("nearmost_rtt_nonces_total", 1.0).await;
    broker.stop().await;
}

//! Where alerts go, with the real Alertmanager: who is told of which, and which keep others quiet. And what asks
//! DNS from outside, with the real exporter.

use nearmost_tests::process::{Broker, directory};
use nearmost_tests::prometheus::{self, Blackbox, folder};
use nearmost_tests::tools::{free_port, installed, said};
use nearmost_tests::{PATIENCE, eventually};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Stdio;
use tokio::process::{Child, Command};

fn config() -> String {
    folder().join("prometheus/alertmanager.yml").display().to_string()
}

/// Labels of an alert as people write them: `NAME severity label=value …`.
fn labels(alert: &str) -> Vec<(String, String)> {
    let (name, rest) = alert.split_once(' ').unwrap_or((alert, ""));
    let (severity, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let mut labels = vec![("alertname".to_owned(), name.to_owned()), ("severity".into(), severity.into())];
    let pairs = rest.split_whitespace().map(|pair| pair.split_once('=').expect("label=value"));
    labels.extend(pairs.map(|(label, value)| (label.to_owned(), value.to_owned())));
    labels
}

#[tokio::test]
async fn each_severity_has_its_receiver() {
    let checked = said(Command::new(installed("amtool")).args(["check-config", &config()])).await;
    assert!(checked.contains("SUCCESS") && !checked.contains("FAILED"), "{checked}");
    let cases = [
        ("BrokerDown critical site=s1 broker=b1", "page"),
        ("DomainUnserved critical site=s1 domain=d", "page"),
        ("DnsUnanswered critical site=s1 broker=b1 domain=d transport=udp", "page"),
        ("MirrorDown warning site=s1 domain=d mirror=m family=v4", "morning"),
        ("NodeSilent warning site=s1 node=n1", "morning"),
        ("SeriesLeftOut info site=s1 broker=b1", "note"),
        ("Watchdog info", "dead-man"),
        ("SomethingOfYours none", "morning"),
    ];
    for (alert, receiver) in cases {
        let mut command = Command::new(installed("amtool"));
        command.args([
            "config",
            "routes",
            "test",
            "--verify.receivers",
            receiver,
            "--config.file",
            &config(),
        ]);
        command.args(labels(alert).iter().map(|(label, value)| format!("{label}={value}")));
        let output = command.stdin(Stdio::null()).output().await.expect("amtool");
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && told.lines().any(|l| l == receiver), "{alert}: {told}");
    }
}

/// Each alert that there is has a severity that a route knows, or the first receiver.
#[tokio::test]
async fn rules_of_inhibition_name_alerts_that_there_are() {
    let text = std::fs::read_to_string(config()).expect("alertmanager.yml");
    let there: BTreeSet<String> = prometheus::alerts().into_iter().map(|a| a.name).collect();
    let mut named = 0;
    for matcher in text.lines().filter_map(|l| l.split_once("_matchers: ")).map(|(_, m)| m) {
        for quoted in matcher.split("alertname").skip(1).filter_map(|m| m.split('"').nth(1)) {
            for name in quoted.replace("Mirror(Down|Disputed|Unattended|Flapping)", "MirrorDown").split('|') {
                assert!(there.contains(name), "{name} is no alert");
                named += 1;
            }
        }
    }
    for mirror in ["MirrorDisputed", "MirrorUnattended", "MirrorFlapping"] {
        assert!(there.contains(mirror), "{mirror} is no alert");
    }
    assert!(named > 20, "{named}");
}

/// A real Alertmanager with the configuration of `grafana/`. What it sends goes nowhere.
struct Alertmanager {
    _child: Child,
    at: SocketAddr,
    _dir: tempfile::TempDir,
}

impl Alertmanager {
    async fn start() -> Alertmanager {
        let (dir, at) = (directory(), free_port("127.0.0.1"));
        let child = Command::new(installed("prometheus-alertmanager"))
            .arg(format!("--config.file={}", config()))
            .arg(format!("--storage.path={}", dir.path().display()))
            .arg(format!("--web.listen-address={at}"))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("start the Alertmanager");
        let ready = || async { prometheus::get(at, "/-/ready").await.is_some() };
        eventually("the Alertmanager is ready", ready, |ready| *ready).await;
        Alertmanager { _child: child, at, _dir: dir }
    }

    /// Tells it of alerts.
    async fn tell(&self, alerts: &[&str]) {
        let one = |alert: &&str| {
            let labels: serde_json::Map<String, Value> =
                labels(alert).into_iter().map(|(label, value)| (label, value.into())).collect();
            json!({ "labels": labels })
        };
        let body = Value::from(alerts.iter().map(one).collect::<Vec<_>>()).to_string();
        let url = format!("http://{}/api/v2/alerts", self.at);
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail", "-H", "Content-Type: application/json", "-d", &body, &url]);
        assert!(curl.status().await.expect("curl").success(), "{alerts:?}");
    }

    /// Alerts that it has and that nothing keeps quiet, by name and the mirror, broker or node they are of; and how
    /// many it has in all.
    async fn loud(&self) -> (BTreeSet<String>, usize) {
        let body = prometheus::get(self.at, "/api/v2/alerts").await.unwrap_or_default();
        let all: Vec<Value> = serde_json::from_str(&body).unwrap_or_default();
        let of = |alert: &Value| {
            let label = |name: &str| alert["labels"][name].as_str().map(str::to_owned);
            let what = ["mirror", "broker", "node"].iter().find_map(|name| label(name));
            format!("{} {}", label("alertname").expect("a name"), what.unwrap_or_default())
        };
        let quiet =
            |alert: &&Value| alert["status"]["inhibitedBy"].as_array().is_some_and(|by| !by.is_empty());
        (all.iter().filter(|alert| !quiet(alert)).map(of).collect(), all.len())
    }
}

#[tokio::test]
async fn what_explains_others_keeps_them_quiet() {
    let manager = Alertmanager::start().await;
    let told = [
        // A domain without mirrors, and another of the same site that has some.
        "DomainUnserved critical site=s1 domain=d",
        "DomainsUnserved critical site=s1",
        "MirrorDown warning site=s1 domain=d mirror=m1 family=v4",
        "MirrorDown warning site=s1 domain=e mirror=m2 family=v4",
        // A broker that is down, and one of another site that has the same name.
        "BrokerDown critical site=s1 broker=b1",
        "DnsUnanswered critical site=s1 broker=b1 domain=e transport=udp",
        "PeerDown warning site=s1 broker=b1 peer=b2",
        "PeerDown warning site=s2 broker=b1 peer=b2",
        // A node that nobody hears.
        "NodeSilent warning site=s1 node=n1",
        "AgentDown warning site=s1 node=n1",
        "AgentDown warning site=s1 node=n2",
    ];
    manager.tell(&told).await;
    let wanted: BTreeSet<String> =
        ["DomainUnserved ", "MirrorDown m2", "BrokerDown b1", "PeerDown b1", "NodeSilent n1", "AgentDown n2"]
            .map(str::to_owned)
            .into();
    let all = told.len();
    eventually(
        "what follows from others is quiet",
        || manager.loud(),
        |(loud, n)| *n == all && *loud == wanted,
    )
    .await;
}

#[tokio::test]
async fn dns_is_asked_from_outside() {
    let dir = directory();
    let broker = Broker::start(dir.path()).await;
    let blackbox = Blackbox::start().await;
    let dns = broker.at.dns[0];
    let modules = ["play_example_com_udp", "play_example_com_tcp"];
    for module in modules {
        assert!(!blackbox.content(dns, module).await, "{module}: the broker has no such domain");
    }
    let one = "version = 1\n[[domain]]\nname = \"play.example.com\"\n";
    broker.apply(one, &[]).await;
    assert!(!blackbox.content(dns, modules[0]).await, "an answer without an address is none");
    let mirror = "[[mirror]]\ndomain = \"play.example.com\"\nname = \"one\"\naddresses = [\"192.0.2.1\"]\n\
                  health = \"manual\"\nstate = \"up\"\n";
    broker.apply(&format!("{one}{mirror}"), &[]).await;
    for module in modules {
        let content = || blackbox.content(dns, module);
        eventually("the domain has an address", content, |content| *content).await;
    }
    let watch = nearmost_tests::Stopwatch::start();
    broker.kill().await;
    assert!(!blackbox.content(dns, modules[0]).await, "nobody answers");
    assert!(watch.elapsed() < PATIENCE);
}

//! Where alerts go, with the real Alertmanager: who is told of which, and which keep others quiet. And what asks
//! DNS from outside, with the real exporter.

use nearmost_tests::process::{Broker, directory};
use nearmost_tests::prometheus::{self, Blackbox, folder};
use nearmost_tests::tools::{free_port, installed, said};
use nearmost_tests::{PATIENCE, eventually};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::process::Stdio;
use tokio::process::{Child, Command};

fn config() -> String {
    folder().join("prometheus/alertmanager.yml").display().to_string()
}

/// All labels of an alert that there is, as it fires: `NAME label=value …`. Those not given are as in its own case.
fn labels(alert: &str) -> BTreeMap<String, String> {
    let mut words = alert.split_whitespace();
    let name = words.next().expect("a name");
    let known = prometheus::alerts().into_iter().find(|known| known.name == name);
    let known = known.unwrap_or_else(|| panic!("{name} is no alert"));
    let mut labels = known.labels();
    for (label, value) in words.map(|pair| pair.split_once('=').expect("label=value")) {
        let own = labels.get_mut(label).unwrap_or_else(|| panic!("{name} has no label {label}"));
        value.clone_into(own);
    }
    labels.insert("alertname".into(), known.name);
    labels.insert("severity".into(), known.severity);
    labels
}

/// Who is told of an alert of these labels.
async fn receiver(labels: &BTreeMap<String, String>) -> String {
    let mut command = Command::new(installed("amtool"));
    command.args(["config", "routes", "test", "--config.file", &config()]);
    command.args(labels.iter().map(|(label, value)| format!("{label}={value}")));
    // What it warns of follows.
    said(&mut command).await.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn each_alert_goes_where_its_severity_says() {
    let checked = said(Command::new(installed("amtool")).args(["check-config", &config()])).await;
    assert!(checked.contains("SUCCESS") && !checked.contains("FAILED"), "{checked}");
    for alert in prometheus::alerts() {
        let wanted = match (&*alert.name, &*alert.severity) {
            ("Watchdog", _) => "dead-man",
            (_, "critical") => "page",
            (_, "warning") => "morning",
            (_, "info") => "note",
            (name, other) => panic!("{name} has severity {other}, which nobody is told of by name"),
        };
        assert_eq!(receiver(&labels(&alert.name)).await, wanted, "{}", alert.name);
    }
    let yours = [("alertname", "SomethingOfYours"), ("severity", "none")];
    let yours = yours.map(|(label, value)| (label.to_owned(), value.to_owned())).into();
    assert_eq!(receiver(&yours).await, "morning");
}

/// What a rule names is there to be kept quiet, or to keep others quiet.
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
    assert!(named > 15, "{named}");
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
        let one = |alert: &&str| json!({ "labels": labels(alert) });
        let body = Value::from(alerts.iter().map(one).collect::<Vec<_>>()).to_string();
        let url = format!("http://{}/api/v2/alerts", self.at);
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail", "-H", "Content-Type: application/json", "-d", &body, &url]);
        assert!(curl.status().await.expect("curl").success(), "{alerts:?}");
    }

    /// Alerts that it has and that nothing keeps quiet, by name, site and the mirror, broker or node they are of; and
    /// how many it has in all.
    async fn loud(&self) -> (BTreeSet<String>, usize) {
        let body = prometheus::get(self.at, "/api/v2/alerts").await.unwrap_or_default();
        let all: Vec<Value> = serde_json::from_str(&body).unwrap_or_default();
        let of = |alert: &Value| {
            let label = |name: &str| alert["labels"][name].as_str().map(str::to_owned);
            let what = ["mirror", "broker", "node"].iter().find_map(|name| label(name));
            let name = label("alertname").expect("a name");
            format!("{name} {} {}", label("site").unwrap_or_default(), what.unwrap_or_default())
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
        // A domain without mirrors, and another of the same site that has some. How many there are is told by itself:
        // others may have no name.
        "DomainUnserved site=s1 domain=d",
        "DomainsUnserved site=s1",
        "MirrorDown site=s1 domain=d mirror=m1",
        "MirrorDown site=s1 domain=e mirror=m2",
        // A broker that is down, why it may be, what wakes people up whatever is down, and one of another site that has
        // the same name.
        "BrokerDown site=s1 broker=b1",
        "StoreErrors site=s1 broker=b1",
        "DataDiskFull site=s1 broker=b1",
        "MemoryNearLimit site=s1 broker=b1",
        "DnsUnanswered site=s1 broker=b1 domain=e",
        "PeerDown site=s1 broker=b1",
        "PeerDown site=s2 broker=b1",
        // Nobody of a site answers Prometheus; users may be answered or not.
        "NoBrokerUp site=s3",
        "BrokerDown site=s3 broker=b3",
        "DnsUnanswered site=s3 broker=b3 domain=f",
        // A node that nobody hears.
        "NodeSilent site=s1 node=n1",
        "AgentDown site=s1 node=n1",
        "AgentDown site=s1 node=n2",
    ];
    manager.tell(&told).await;
    let wanted = [
        "AgentDown s1 n2",
        "BrokerDown s1 b1",
        "DataDiskFull s1 b1",
        "DnsUnanswered s1 b1",
        "DnsUnanswered s3 b3",
        "DomainUnserved s1 ",
        "DomainsUnserved s1 ",
        "MemoryNearLimit s1 b1",
        "MirrorDown s1 m2",
        "NoBrokerUp s3 ",
        "NodeSilent s1 n1",
        "PeerDown s2 b1",
        "StoreErrors s1 b1",
    ];
    let wanted: BTreeSet<String> = wanted.map(str::to_owned).into();
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

//! Dashboards and rules with the real Prometheus: it scrapes two real brokers and four real agents while users
//! ask, mirrors die and drain, credentials are refused and a peer is away; every query of every panel and rule
//! must return data then, and every metric that is named must be there.

use hickory_proto::rr::RecordType;
use nearmost_client::session::{Event, Session};
use nearmost_tests::process::{Agent, Broker, broker_config, directory, service_config};
use nearmost_tests::prometheus::{self, Alert, Asked, Blackbox, Prometheus, Scraped, folder};
use nearmost_tests::service::{Service, game};
use nearmost_tests::tools::{certify, free_port, installed};
use nearmost_tests::{PATIENCE, dns, eventually};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const DOMAIN: &str = "play.example.com";

/// Runs promtool, which must be content and say nothing against it.
async fn promtool(args: &[&str], input: &str) -> String {
    let mut command = Command::new(installed("promtool"));
    command.args(args).current_dir(folder().join("prometheus"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("run promtool");
    // Who reads no input may have ended before it came.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes()).await;
    // Hours of a rule's time take it seconds, and minutes where the machine is busy.
    let output = tokio::time::timeout(Duration::from_secs(300), child.wait_with_output()).await;
    let output = output.expect("it ends").expect("run");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {args:?}:\n{said}");
    said
}

#[tokio::test]
async fn rules_are_right_and_each_alert_fires_when_it_should_and_only_then() {
    promtool(&["check", "rules", "rules/recording.yml", "rules/alerts.yml"], "").await;
    promtool(&["check", "config", "--syntax-only", "prometheus.yml"], "").await;
    promtool(&["test", "rules", "tests/alerts.yml"], "").await;
    let tests = std::fs::read_to_string(folder().join("prometheus/tests/alerts.yml")).expect("tests");
    let rules = std::fs::read_to_string(folder().join("prometheus/rules/alerts.yml")).expect("rules");
    let named = |text: &str, before: &str| -> BTreeSet<String> {
        text.lines().filter_map(|l| l.trim().strip_prefix(before).map(str::to_owned)).collect()
    };
    let alerts = named(&rules, "- alert: ");
    assert!(alerts.len() > 40);
    for alert in &alerts {
        // The one that always does.
        let cases: &[&str] = if alert == "Watchdog" { &["fires"] } else { &["fires", "does not fire"] };
        for case in cases {
            assert!(tests.contains(&format!("- name: {alert} {case}\n")), "no case in which {alert} {case}");
        }
        let page = folder().join(format!("../docs/runbooks/{alert}.md"));
        assert!(page.is_file(), "no {}", page.display());
    }
    assert_eq!(named(&rules, "runbook_url: ").len(), alerts.len(), "each has a page of its own");
}

/// What stands in a page between backticks, and the lines of its blocks for a shell.
fn code(page: &str) -> Vec<String> {
    let mut code = Vec::new();
    let mut language = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), language) {
            (Some(_), Some(_)) => language = None,
            (Some(begins), None) => language = Some(begins),
            (None, Some("sh")) => code.push(line.to_owned()),
            (None, Some(_)) => {}
            (None, None) => code.extend(line.split('`').skip(1).step_by(2).map(str::to_owned)),
        }
    }
    code
}

/// The words of a command as a shell takes them, to its end.
fn words(command: &str) -> Vec<String> {
    let command = command.split(" | ").next().unwrap_or_default();
    let mut words = Vec::new();
    for (i, part) in command.split('\'').enumerate() {
        match i % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

#[tokio::test]
async fn runbooks_name_commands_and_settings_that_there_are() {
    let settings: String = ["broker.toml", "node-agent.toml"]
        .map(|f| std::fs::read_to_string(folder().join("../config").join(f)).expect("settings"))
        .concat();
    let (mut commands, mut keys) = (BTreeSet::new(), 0);
    for entry in std::fs::read_dir(folder().join("../docs/runbooks")).expect("runbooks") {
        let page = entry.expect("an entry").path();
        for code in code(&std::fs::read_to_string(&page).expect("a page")) {
            if ["nearmost ", "nearmost-agent ", "nearmost-broker "].iter().any(|c| code.starts_with(c)) {
                commands.insert(code.clone());
            }
            // `section.key`
            let tables = [
                "dns.", "http.", "geo.", "peers.", "metrics.", "caution.", "health.", "spread.", "drain.",
                "ingress.",
            ];
            if tables.iter().any(|t| code.starts_with(t)) && !code.contains([' ', '/']) {
                let key = code.rsplit('.').next().unwrap_or_default();
                let given =
                    settings.lines().any(|l| l.trim_start_matches('#').starts_with(&format!("{key} =")));
                assert!(given, "{code} of {} is no setting", page.display());
                keys += 1;
            }
        }
    }
    assert!(commands.len() > 30 && keys > 10, "{} {keys}", commands.len());
    for command in commands {
        let mut words = words(&command).into_iter();
        let program = nearmost_tests::process::binary(&words.next().expect("a program"));
        // Whatever stands before it must be right for that to be answered.
        let output = Command::new(program).args(words).arg("--help").stdin(Stdio::null()).output().await;
        let output = output.expect("run");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// An agent that takes clients in and tells its metrics.
async fn mirror(broker: &Broker, dir: &Path, name: &'static str, ip: &str) -> (Agent, Service, SocketAddr) {
    let service = Service::start(&format!("{ip}:0"), name).await;
    let udp = game(service.addr.ip(), name).await;
    let token = broker.ok(&["node", "invite", "--domain", DOMAIN, "--name", name]).await;
    assert!(Agent::join(dir, token.trim()).await.status.success());
    let mut settings = service_config(dir, DOMAIN, service.addr);
    let with = format!("capacity = 100, ingress = {{ udp = \"{ip}:{udp}\" }}, checks = [");
    settings.iter_mut().for_each(|s| *s = s.replace("checks = [", &with));
    let metrics = free_port(ip);
    settings.retain(|s| !s.starts_with("metrics.listen"));
    settings.push(format!("metrics.listen={metrics}"));
    settings.push("node.place={ latitude = 51.5, longitude = -0.1, country = \"GB\" }".into());
    settings.push("ingress.enabled=true".into());
    settings.push(format!("ingress.listen=[\"{ip}:0\"]"));
    (Agent::run(dir, &settings).await, service, metrics)
}

/// Everything that is scraped.
struct World {
    a: Broker,
    b: Broker,
    agents: BTreeMap<&'static str, (Agent, Service)>,
    metrics: Vec<SocketAddr>,
    prometheus: Prometheus,
    _blackbox: Blackbox,
    _dirs: [tempfile::TempDir; 3],
}

impl World {
    async fn start() -> World {
        let dirs = [directory(), directory(), directory()];
        let (cert, key) = certify(dirs[0].path(), "dns.example.com").await;
        let tls = format!("[dns.tls]\ncert = {cert:?}\nkey = {key:?}\ndot_listen = [\"127.0.0.1:0\"]\n");
        let a = Broker::start_with(dirs[0].path(), &tls).await;
        // The other tells its own over HTTPS.
        let (cert, key) = certify(dirs[1].path(), "broker.example.com").await;
        let https = format!("[http]\ntls_cert = {cert:?}\ntls_key = {key:?}\n");
        let config = broker_config(dirs[1].path(), "").replace("[http]\n", &https);
        std::fs::write(dirs[1].path().join("broker.toml"), config).expect("write broker.toml");
        let b = Broker::restart(dirs[1].path()).await;
        let names = ["one", "two", "three", "four"];
        // Told before they are there, so that all that happens is scraped from its beginning.
        a.apply(&format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n"), &[]).await;
        let token = a.ok(&["peer", "invite", "bob", "--admin"]).await;
        b.ok(&["peer", "join", token.trim()]).await;
        let (mut agents, mut metrics) = (BTreeMap::new(), Vec::new());
        let mut targets = vec![
            Scraped {
                job: "nearmost-broker",
                at: a.at.http[0],
                named: ("broker", "ann"),
                tls: false,
                asks: None,
            },
            Scraped {
                job: "nearmost-broker",
                at: b.at.http[0],
                named: ("broker", "bob"),
                tls: true,
                asks: None,
            },
        ];
        for (name, ip) in names.into_iter().zip(["127.0.61.1", "127.0.61.2", "127.0.61.3", "127.0.61.4"]) {
            let (agent, service, at) = mirror(&a, &dirs[0].path().join(name), name, ip).await;
            targets.push(Scraped {
                job: "nearmost-agent",
                at,
                named: ("node", name),
                tls: false,
                asks: None,
            });
            agents.insert(name, (agent, service));
            metrics.push(at);
        }
        let blackbox = Blackbox::start().await;
        let asks = Some(a.at.dns[0]);
        targets.push(Scraped {
            job: "nearmost-dns",
            at: blackbox.at,
            named: ("broker", "ann"),
            tls: false,
            asks,
        });
        let prometheus = Prometheus::start(dirs[2].path(), &targets).await;
        for name in names {
            a.until(name, "up").await;
        }
        World { a, b, agents, metrics, prometheus, _blackbox: blackbox, _dirs: dirs }
    }

    /// Users of all kinds, honest and not.
    async fn ask(&self) {
        let (udp, http) = (self.a.at.dns[0], self.a.at.http[0]);
        // In Europe, in America, and nowhere.
        for subnet in ["193.0.6.0/24", "8.8.8.0/24", "192.0.2.0/24"] {
            dns::ask(udp, DOMAIN, subnet).await;
        }
        for kind in [RecordType::A, RecordType::AAAA, RecordType::TXT, RecordType::SOA] {
            dns::code(udp, DOMAIN, kind).await;
            dns::code(udp, "elsewhere.example", kind).await;
        }
        dns::exchange_tcp(udp, &dns::query(DOMAIN, RecordType::A, None)).await;
        // A query cut short, and nothing like one.
        let query = dns::query(DOMAIN, RecordType::A, None);
        dns::exchange(udp, &query[..query.len() - 3]).await;
        assert!(prometheus::get(http, &format!("/v1/resolve/{DOMAIN}")).await.is_some());
        assert!(prometheus::get(http, "/v1/resolve/nowhere.example").await.is_none());
        // A token that nobody was given.
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "-o",
            "/dev/null",
            "-X",
            "POST",
            "-H",
            "Authorization: Bearer guessed",
            "-d",
            "{}",
        ]);
        curl.arg(format!("http://{http}/v1/invites"));
        assert!(curl.status().await.expect("curl").success());
        let forged = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("bind");
        forged.send_to(&[1; 52], self.a.at.beacons[0]).await.expect("send");
    }

    /// What both brokers and all agents tell.
    async fn scrapes(&self) -> Vec<String> {
        let mut all = vec![self.a.metrics().await, self.b.metrics().await];
        for at in self.metrics.clone() {
            all.extend(prometheus::get(at, "/metrics").await);
        }
        all
    }

    /// Queries that return nothing, or no number, all of them asked again and again until none is left or
    /// patience is: the more they are, the longer.
    async fn silent(&self, mut asked: Vec<Asked>) -> Vec<String> {
        let watch = nearmost_tests::Stopwatch::start();
        let budget = PATIENCE + Duration::from_millis(500) * u32::try_from(asked.len()).expect("few");
        loop {
            let mut left = Vec::new();
            for one in asked {
                if let Some(wrong) = self.prometheus.wrong(&one.query).await {
                    left.push((one, wrong));
                }
            }
            if left.is_empty() || watch.elapsed() > budget {
                let told =
                    |(one, wrong): (Asked, String)| format!("{}: {wrong}\n    {}", one.panel, one.query);
                return left.into_iter().map(told).collect();
            }
            // Something new is known with the next scrape only.
            self.ask().await;
            let last = self.prometheus.until("max(timestamp(up))").await[0].1;
            self.prometheus.until(&format!("max(timestamp(up)) > {last}")).await;
            asked = left.into_iter().map(|(one, _)| one).collect();
        }
    }
}

/// Waits for what a session tells.
async fn moved(events: &mut nearmost_client::session::Events) {
    let moved = async { while !matches!(events.next().await.expect("it goes on"), Event::Moved { .. }) {} };
    tokio::time::timeout(PATIENCE, moved).await.expect("it moves");
}

/// A session that follows broker `a`, moved by a drain.
async fn session(world: &World) -> Session {
    let at = world.a.at.clients[0].to_string();
    let owner = world.a.dir.join("owner.key");
    nearmost_client::identity::KeyPair::load_or_create(&owner, nearmost_client::identity::Role::Person)
        .expect("a key");
    let owner = owner.to_str().expect("UTF-8");
    let set = world.a.ok(&["domain", "delegate", DOMAIN, "--to", &world.a.at.broker, "--key", owner]).await;
    let words: Vec<&str> = set.split_whitespace().skip(1).collect();
    world.a.ok(&words).await;
    let token = world.a.ok(&["domain", "token", DOMAIN, "--at", &at]).await;
    let session = Session::builder(DOMAIN).token(token.trim()).connect().await.expect("attached");
    world.a.until_metric("nearmost_session_standings{standing=\"standby\"}", 1.0).await;
    let mut events = session.events();
    let primary = session.primary().expect("attached");
    let name = session.name(primary).expect("its name is known");
    world.a.ok(&["mirror", "drain", &format!("{DOMAIN}/{name}")]).await;
    moved(&mut events).await;
    world.a.until_metric("nearmost_session_moves_total{cause=\"drain\"}", 1.0).await;
    session
}

#[tokio::test]
async fn every_panel_and_rule_returns_data_and_shows_what_happens() {
    let mut world = World::start().await;
    for job in ["nearmost-broker", "nearmost-agent"] {
        world
            .prometheus
            .until(&format!("count(up{{job=\"{job}\"}} == 1) == {}", if job.ends_with('r') { 2 } else { 4 }))
            .await;
    }
    world.ask().await;
    let session = session(&world).await;
    // Whoever does not serve the session dies.
    let serving = session.name(session.primary().expect("attached")).expect("a name");
    let drained = world.a.fleet().await.mirrors;
    let dies = drained.iter().find(|m| m.mirror != serving && m.verdicts.iter().any(|v| v.state == "up"));
    let dies = dies.expect("another one is up").mirror.clone();
    let name = *world.agents.keys().find(|n| **n == dies).expect("one of ours");
    let (agent, service) = world.agents.remove(name).expect("one of ours");
    agent.kill().await;
    drop(service);
    world.a.until(name, "down").await;
    world.ask().await;

    let scrapes = world.scrapes().await;
    let there = names(&scrapes);
    named_metrics_are_there(&there);
    for scrape in &scrapes {
        let said = promtool(&["check", "metrics"], scrape).await;
        assert!(said.trim().is_empty(), "promtool check metrics:\n{said}");
    }

    let mut asked = prometheus::panels();
    assert!(asked.len() > 120, "{}", asked.len());
    let alerts = prometheus::alerts();
    let of_alert = |a: Alert| Asked { panel: format!("alert {}", a.name), query: a.value };
    asked.extend(alerts.into_iter().map(of_alert));
    let rules = world.prometheus.rules().await;
    assert!(rules.len() > 50, "{}", rules.len());
    let recorded = rules.iter().filter(|(name, ..)| name.contains(':'));
    asked.extend(
        recorded.map(|(name, query, _)| Asked { panel: format!("rule {name}"), query: query.clone() }),
    );
    let silent = world.silent(asked).await;
    assert!(silent.is_empty(), "no data for {} queries:\n{}", silent.len(), silent.join("\n"));
    let wrong: Vec<_> =
        world.prometheus.rules().await.into_iter().filter(|(_, _, error)| !error.is_empty()).collect();
    assert!(wrong.is_empty(), "{wrong:?}");

    // And they show what happened.
    let down = format!("nearmost_mirror_state{{broker=\"ann\",mirror=\"{name}\",state=\"down\"}} == 1");
    world.prometheus.until(&down).await;
    world.prometheus.until("sum(nearmost_failovers_total{broker=\"ann\"}) >= 2").await;
    world.prometheus.until("nearmost_beacons_rejected_total{broker=\"ann\",kind=\"mac\"} > 0").await;
    world
        .prometheus
        .until("nearmost_http_auth_failures_total{broker=\"ann\",kind=\"token_unknown\"} > 0")
        .await;
    world.prometheus.until("nearmost_dns_cpu_seconds_total{broker=\"ann\"} > 0").await;
    world.prometheus.until("nearmost_region_mirrors{broker=\"ann\",state=\"down\"} > 0").await;

    // A peer that is away is told of, and what waits for it.
    world.b.kill().await;
    world.a.ok(&["domain", "set", DOMAIN, "--ttl", "7"]).await;
    world.prometheus.until("nearmost_peer_queue_records{broker=\"ann\",peer=\"bob\"} > 0").await;
    // Nobody closed the connection: it has to time out.
    let long = Duration::from_secs(40);
    world.prometheus.until_within(long, "nearmost_peer_up{broker=\"ann\",peer=\"bob\"} == 0").await;
    world.prometheus.until("up{broker=\"bob\"} == 0").await;
    let pending = || async {
        let alerts = world.prometheus.alerts().await;
        alerts
            .iter()
            .map(|a| a["labels"]["alertname"].as_str().unwrap_or_default().to_owned())
            .collect::<BTreeSet<_>>()
    };
    let wanted = |alerts: &BTreeSet<String>| {
        ["BrokerDown", "AgentDown", "PeerDown", "MirrorDown"].iter().all(|a| alerts.contains(*a))
    };
    eventually("alerts are on their way", pending, wanted).await;
    session.close().await;
    world.a.stop().await;
}

#[test]
fn panels_have_units_descriptions_thresholds_and_links() {
    let boards = prometheus::dashboards();
    let named: Vec<&str> = boards.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(named, ["broker", "domain", "federation", "mirror", "overview", "security", "sessions"]);
    for (name, board) in &boards {
        assert_eq!(board["schemaVersion"], 39, "{name}");
        let mut ids = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for panel in board["panels"].as_array().expect("panels") {
            assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{name}: an id is there twice");
            let at = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
            assert!(at("x") + at("w") <= 24, "{name}: {} is too wide", panel["title"]);
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(taken.insert((x, y)), "{name}: {} lies on another", panel["title"]);
                }
            }
            if panel["type"] == "row" {
                continue;
            }
            let defaults = &panel["fieldConfig"]["defaults"];
            assert!(!defaults["unit"].as_str().unwrap_or_default().is_empty(), "{name}: {}", panel["title"]);
            assert!(
                panel["description"].as_str().unwrap_or_default().len() > 20,
                "{name}: {}",
                panel["title"]
            );
            assert!(!defaults["thresholds"]["steps"].as_array().expect("steps").is_empty());
            let links = panel["links"].as_array().expect("links");
            assert!(
                !links.is_empty()
                    && links.iter().all(|l| l["url"].as_str().unwrap_or_default().ends_with(".md"))
            );
        }
        for variable in ["datasource", "site", "broker"] {
            let list = board["templating"]["list"].as_array().expect("variables");
            assert!(list.iter().any(|v| v["name"] == variable), "{name} has no variable {variable}");
        }
    }
}

/// Names of all metrics of some scrapes.
fn names(scrapes: &[String]) -> BTreeSet<String> {
    let name = |line: &str| line.split(['{', ' ']).next().map(str::to_owned);
    scrapes.iter().flat_map(|s| s.lines()).filter(|l| !l.starts_with('#')).filter_map(name).collect()
}

/// Every metric that dashboards, rules and runbooks name exists.
fn named_metrics_are_there(there: &BTreeSet<String>) {
    let mut files: Vec<_> = ["dashboards", "prometheus/rules", "../docs/runbooks"]
        .iter()
        .flat_map(|dir| std::fs::read_dir(folder().join(dir)).expect("a folder"))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.push(folder().join("prometheus/tests/alerts.yml"));
    let mut named = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a file");
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')) {
            let ours = word.starts_with("nearmost_") || word.starts_with("process_");
            // Recorded ones have a colon, parts of expressions for names end early, and one reason looks alike.
            if !ours || word.contains(':') || word.ends_with('_') || word == "process_ended" {
                continue;
            }
            named += 1;
            assert!(there.contains(word), "{word} of {} is no metric", file.display());
        }
    }
    assert!(named > 400, "{named}");
}

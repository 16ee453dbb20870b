//! The real Prometheus, on loopback, and what the files of `grafana/` ask of it.

use crate::tools::{free_port, installed};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// The folder `grafana` of the repository.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../grafana")
}

/// One thing to scrape.
pub struct Scraped {
    /// `nearmost-broker`, `nearmost-agent` or `nearmost-dns`.
    pub job: &'static str,
    /// Where its metrics are.
    pub at: SocketAddr,
    /// `broker` or `node`, and its name.
    pub named: (&'static str, &'static str),
    /// Over HTTPS, with a certificate that nobody vouches for.
    pub tls: bool,
    /// The server that a [`Blackbox`] asks.
    pub asks: Option<SocketAddr>,
}

/// The real exporter that asks DNS from outside, with the modules of `grafana/`.
pub struct Blackbox {
    _child: Child,
    /// Where it is.
    pub at: SocketAddr,
}

impl Blackbox {
    /// Starts it, and waits until it answers.
    pub async fn start() -> Blackbox {
        let at = free_port("127.0.0.1");
        let child = Command::new(installed("prometheus-blackbox-exporter"))
            .arg(format!("--config.file={}", folder().join("prometheus/blackbox.yml").display()))
            .arg(format!("--web.listen-address={at}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("start the exporter");
        let ready = || async { get(at, "/-/healthy").await.is_some() };
        crate::eventually("the exporter is ready", ready, |ready| *ready).await;
        Blackbox { _child: child, at }
    }

    /// Whether a module of the configuration is content with what a server answers.
    pub async fn content(&self, server: SocketAddr, module: &str) -> bool {
        let page = get(self.at, &format!("/probe?target={server}&module={module}")).await;
        let page = page.expect("it says what it found");
        let said = page.lines().find_map(|line| line.strip_prefix("probe_success "));
        said.expect("whether it succeeded") == "1"
    }
}

/// A Prometheus that scrapes each second, with the rules of `grafana/`.
pub struct Prometheus {
    child: Child,
    at: SocketAddr,
    log: PathBuf,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
    }
}

impl Prometheus {
    /// Starts it in a directory.
    pub async fn start(dir: &Path, targets: &[Scraped]) -> Prometheus {
        let rules = dir.join("rules");
        std::fs::create_dir_all(&rules).expect("directory");
        for name in ["recording.yml", "alerts.yml"] {
            let text = std::fs::read_to_string(folder().join("prometheus/rules").join(name)).expect("rules");
            // As often as it scrapes here.
            let text = text.replace("interval: 30s", "interval: 1s");
            std::fs::write(rules.join(name), text).expect("write rules");
        }
        let config = dir.join("prometheus.yml");
        std::fs::write(&config, configuration(targets)).expect("write prometheus.yml");
        // Another test may take the port first; Prometheus ends then.
        for _ in 0..5 {
            if let Some(prometheus) = Prometheus::try_start(dir, &config).await {
                return prometheus;
            }
        }
        panic!("Prometheus does not start");
    }

    /// Starts it at a free port; nothing if it ends.
    async fn try_start(dir: &Path, config: &Path) -> Option<Prometheus> {
        let at = free_port("127.0.0.1");
        let log = dir.join("prometheus.log");
        let output = std::fs::File::create(&log).expect("log file");
        let child = Command::new(installed("prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()))
            .arg(format!("--web.listen-address={at}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .expect("start prometheus");
        let mut prometheus = Prometheus { child, at, log };
        let ready = || async { get(at, "/-/ready").await.is_some() };
        let ended = tokio::select! {
            () = async { crate::eventually("Prometheus is ready", ready, |ready| *ready).await; } => false,
            _ = prometheus.child.wait() => true,
        };
        if ended {
            prometheus.tell();
            return None;
        }
        Some(prometheus)
    }

    /// Prints what it logged.
    fn tell(&self) {
        println!("prometheus.log:\n{}", std::fs::read_to_string(&self.log).unwrap_or_default());
    }

    /// The body of an answer with status 200.
    async fn get(&self, path: &str) -> Option<String> {
        get(self.at, path).await
    }

    async fn api(&self, path: &str) -> Value {
        let body = self.get(path).await.unwrap_or_else(|| panic!("no answer to {path}"));
        serde_json::from_str(&body).expect("JSON")
    }

    /// The values of a query, with their labels; NaN is none.
    ///
    /// # Errors
    /// What Prometheus says of a query that is wrong.
    pub async fn query(&self, query: &str) -> Result<Vec<(Value, f64)>, String> {
        let path = format!("/api/v1/query?query={}", encoded(query));
        let Some(body) = self.get(&path).await else {
            return Err(format!("Prometheus refuses {query}"));
        };
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        let result = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        let of = |sample: &Value| {
            let value: f64 = sample["value"][1].as_str()?.parse().ok()?;
            value.is_finite().then(|| (sample["metric"].clone(), value))
        };
        Ok(result.iter().filter_map(of).collect())
    }

    /// What is wrong with what a query gives, if anything: nothing, or what is no number.
    pub async fn wrong(&self, query: &str) -> Option<String> {
        let Some(body) = self.get(&format!("/api/v1/query?query={}", encoded(query))).await else {
            return Some("refused".into());
        };
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        let result = answer["data"]["result"].as_array().cloned().unwrap_or_default();
        if result.is_empty() {
            return Some("no data".into());
        }
        let odd = |sample: &&Value| {
            let value = sample["value"][1].as_str().and_then(|v| v.parse::<f64>().ok());
            !value.is_some_and(f64::is_finite)
        };
        result.iter().find(odd).map(ToString::to_string)
    }

    /// Waits until a query has values, for longer than for most.
    pub async fn until_within(&self, patience: Duration, query: &str) {
        let asking = async {
            let mut tick = tokio::time::interval(Duration::from_millis(200));
            loop {
                tick.tick().await;
                if self.query(query).await.is_ok_and(|values| !values.is_empty()) {
                    return;
                }
            }
        };
        let waited = tokio::time::timeout(patience, asking).await;
        assert!(waited.is_ok(), "{query}: not within {patience:?}");
    }

    /// Waits until a query has values.
    pub async fn until(&self, query: &str) -> Vec<(Value, f64)> {
        let ask = || async { self.query(query).await };
        crate::eventually(query, ask, |said| said.as_ref().is_ok_and(|s| !s.is_empty()))
            .await
            .expect("values")
    }

    /// What the rules are that it runs: name, query, and what went wrong with each.
    pub async fn rules(&self) -> Vec<(String, String, String)> {
        let answer = self.api("/api/v1/rules").await;
        let groups = answer["data"]["groups"].as_array().cloned().unwrap_or_default();
        let rules = groups.iter().flat_map(|g| g["rules"].as_array().cloned().unwrap_or_default());
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        rules.map(|r| (text(&r["name"]), text(&r["query"]), text(&r["lastError"]))).collect()
    }

    /// Alerts that fire or are about to, with what they say.
    pub async fn alerts(&self) -> Vec<Value> {
        self.api("/api/v1/alerts").await["data"]["alerts"].as_array().cloned().unwrap_or_default()
    }
}

/// The body of an HTTP answer with status 200.
pub async fn get(at: SocketAddr, path: &str) -> Option<String> {
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(at).await.ok()?;
        // Of HTTP/1.0, so that the body comes as it is.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {at}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.lines().next()?.contains(" 200 ").then(|| body.to_owned())
    };
    tokio::time::timeout(crate::PATIENCE, ask).await.expect("an answer in time")
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { (b as char).to_string() } else { format!("%{b:02X}") })
        .collect()
}

fn configuration(targets: &[Scraped]) -> String {
    let mut text = "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\n\
                    rule_files: [rules/*.yml]\nscrape_configs:\n"
        .to_owned();
    for (i, Scraped { job, at, named: (label, name), tls, asks }) in targets.iter().enumerate() {
        // One entry each, as schemes differ; the label is what the job is called in ours.
        text += &format!("  - job_name: {job}{i}\n");
        if *tls {
            text += "    scheme: https\n    tls_config: { insecure_skip_verify: true }\n";
        }
        let mut labels = format!("job: {job}, site: here, {label}: {name}");
        if let Some(server) = asks {
            text += &format!(
                "    metrics_path: /probe\n    params: {{ module: [play_example_com_udp], target: [\"{server}\"] }}\n"
            );
            labels += ", domain: play.example.com, transport: udp";
        }
        text +=
            &format!("    static_configs:\n      - targets: [\"{at}\"]\n        labels: {{ {labels} }}\n");
    }
    text
}

/// A query of a panel: the dashboard, the panel, and the query with its variables filled in.
#[derive(Debug)]
pub struct Asked {
    /// Of which panel.
    pub panel: String,
    /// As Prometheus takes it.
    pub query: String,
}

/// Every query of every dashboard, those of variables included.
pub fn panels() -> Vec<Asked> {
    let mut asked = Vec::new();
    for (name, board) in dashboards() {
        let panels = board["panels"].as_array().expect("panels").iter();
        for panel in panels.filter(|p| p["type"] != "row") {
            let title = format!("{name}: {}", panel["title"].as_str().expect("a title"));
            for target in panel["targets"].as_array().expect("targets") {
                let query = filled(target["expr"].as_str().expect("a query"));
                asked.push(Asked { panel: title.clone(), query });
            }
        }
        for variable in board["templating"]["list"].as_array().expect("variables") {
            // `label_values(SELECTOR, LABEL)`
            let Some(query) = variable["query"]["query"].as_str() else { continue };
            let inner =
                query.strip_prefix("label_values(").and_then(|q| q.strip_suffix(')')).expect("label_values");
            let (selector, label) = inner.rsplit_once(", ").expect("a label");
            let query = format!("count by ({label}) ({})", filled(selector));
            asked.push(Asked { panel: format!("{name}: variable {}", variable["name"]), query });
        }
    }
    asked
}

/// Every dashboard, by the name of its file.
pub fn dashboards() -> Vec<(String, Value)> {
    let dir = std::fs::read_dir(folder().join("dashboards")).expect("grafana/dashboards");
    let mut boards: Vec<(String, Value)> = dir
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).expect("a file");
            (name, serde_json::from_str(&text).expect("JSON"))
        })
        .collect();
    boards.sort_by(|a, b| a.0.cmp(&b.0));
    boards
}

/// As Grafana does with all chosen.
fn filled(query: &str) -> String {
    let mut query = query.replace("$__rate_interval", "15s");
    for variable in ["$site", "$broker", "$domain", "$mirror", "$node"] {
        query = query.replace(variable, ".*");
    }
    assert!(!query.contains('$'), "a variable is not known: {query}");
    query
}

#[derive(Deserialize)]
struct Alerts {
    alert: Vec<Alert>,
}

/// What of an alert is looked at.
#[derive(Deserialize)]
pub struct Alert {
    /// Its name.
    pub name: String,
    /// What is compared.
    pub value: String,
    /// How much it matters.
    pub severity: String,
    fires: Vec<Firing>,
}

impl Alert {
    /// The labels that it has besides those, by a case in which it fires.
    pub fn labels(&self) -> BTreeMap<String, String> {
        self.fires.first().map(|firing| firing.labels.clone()).unwrap_or_default()
    }
}

/// A case in which an alert fires.
#[derive(Deserialize)]
struct Firing {
    labels: BTreeMap<String, String>,
}

/// The alerts, with what each looks at before it is compared.
pub fn alerts() -> Vec<Alert> {
    let text = std::fs::read_to_string(folder().join("source/alerts.toml")).expect("alerts.toml");
    toml::from_str::<Alerts>(&text).expect("alerts").alert
}

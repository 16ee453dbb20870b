//! The real binaries as processes that end with the test.

use nearmost_wire::api::{FleetResponse, TrafficResponse};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The path of one of our binaries: in the folder in `NEARMOST_BIN_DIR`, or else beside this one.
pub fn binary(name: &str) -> PathBuf {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.to_owned());
    let dir = std::env::var_os("NEARMOST_BIN_DIR").map(PathBuf::from).or_else(beside);
    let dir = dir.expect("NEARMOST_BIN_DIR is not set: run the end to end tests with `cargo xtask test`");
    let path = dir.join(name);
    assert!(
        path.is_file(),
        "{} is not there: run the end to end tests with `cargo xtask test`",
        path.display()
    );
    path
}

/// Where a broker said it is.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Addresses {
    /// Its id.
    pub broker: String,
    /// DNS.
    pub dns: Vec<SocketAddr>,
    /// DNS over TLS.
    pub dot: Vec<SocketAddr>,
    /// DNS over QUIC.
    pub doq: Vec<SocketAddr>,
    /// HTTP.
    pub http: Vec<SocketAddr>,
    /// HTTP that only redirects.
    pub redirect: Vec<SocketAddr>,
    /// Agents.
    pub agents: Vec<SocketAddr>,
    /// Beacons.
    pub beacons: Vec<SocketAddr>,
    /// Clients over QUIC.
    pub clients: Vec<SocketAddr>,
    /// Other brokers.
    pub peers: Vec<SocketAddr>,
    /// Admin socket.
    pub admin: PathBuf,
}

/// A running broker.
pub struct Broker {
    /// Its process.
    pub child: Child,
    /// Where it is.
    pub at: Addresses,
    /// Its data directory and configuration.
    pub dir: PathBuf,
}

/// A configuration on loopback with every port 0; `extra` is appended.
pub fn broker_config(dir: &Path, extra: &str) -> String {
    format!(
        "version = 1\ndata_dir = {:?}\n\
         [dns]\nlisten = [\"127.0.0.1:0\"]\nworkers = 1\n\
         [http]\nlisten = [\"127.0.0.1:0\"]\n\
         [clients]\nlisten = [\"127.0.0.1:0\"]\n\
         [peers]\nlisten = [\"127.0.0.1:0\"]\n\
         [agents]\nlisten = [\"127.0.0.1:0\"]\nbeacon_listen = [\"127.0.0.1:0\"]\n{extra}\n",
        dir.join("data")
    )
}

impl Broker {
    /// Starts a broker in `dir` and waits until it answers.
    pub async fn start(dir: &Path) -> Broker {
        Broker::start_with(dir, "").await
    }

    /// The same with more configuration.
    pub async fn start_with(dir: &Path, extra: &str) -> Broker {
        std::fs::write(dir.join("broker.toml"), broker_config(dir, extra)).expect("write broker.toml");
        Broker::restart(dir).await
    }

    /// Starts a broker with the configuration that is in `dir` already.
    pub async fn restart(dir: &Path) -> Broker {
        Broker::spawn(dir, broker_command(dir)).await
    }

    /// The same by a command line of the test's own.
    pub async fn start_by(dir: &Path, command_line: &[String]) -> Broker {
        let mut command = Command::new(&command_line[0]);
        command.args(&command_line[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        Broker::spawn(dir, command).await
    }

    async fn spawn(dir: &Path, mut command: Command) -> Broker {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(dir.join("broker.log"))
            .expect("log file");
        let mut child = command.stderr(log).spawn().expect("start nearmost-broker");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = tokio::time::timeout(crate::PATIENCE, lines.next_line())
            .await
            .expect("ready in time")
            .expect("read");
        let log = || std::fs::read_to_string(dir.join("broker.log")).unwrap_or_default();
        let line = line.unwrap_or_else(|| panic!("the broker stopped at once:\n{}", log()));
        let at = serde_json::from_str(&line).expect("the ready line is JSON");
        Broker { child, at, dir: dir.into() }
    }

    /// Runs a broker that is expected to refuse to start, and returns what it said.
    pub async fn refused(dir: &Path) -> String {
        let output = broker_command(dir).stderr(Stdio::piped()).output();
        let output = tokio::time::timeout(crate::PATIENCE, output).await.expect("it stops").expect("run");
        assert!(!output.status.success(), "the broker started although it should not");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Runs the `nearmost` command against this broker's admin socket.
    pub async fn cli(&self, args: &[&str]) -> Output {
        let output = Command::new(binary("nearmost"))
            .env("NEARMOST_PERSON_KEY", self.dir.join("person.key"))
            .arg("--broker")
            .arg(format!("unix:{}", self.at.admin.display()))
            .args(args)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        tokio::time::timeout(crate::PATIENCE, output).await.expect("the command ends").expect("run nearmost")
    }

    /// The same, which must succeed; its standard output.
    pub async fn ok(&self, args: &[&str]) -> String {
        let output = self.cli(args).await;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "nearmost {args:?}:\n{out}{err}");
        out.into_owned()
    }

    /// The same, which must fail; its standard error.
    pub async fn fails(&self, args: &[&str]) -> String {
        let output = self.cli(args).await;
        assert!(
            !output.status.success(),
            "nearmost {args:?} succeeded: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Writes a registry file and applies it.
    pub async fn apply(&self, registry: &str, flags: &[&str]) -> String {
        let path = self.dir.join("registry.toml");
        std::fs::write(&path, registry).expect("write registry.toml");
        let mut args = vec!["apply", path.to_str().expect("UTF-8")];
        args.extend(flags);
        self.ok(&args).await
    }

    /// The fleet as the broker sees it.
    pub async fn fleet(&self) -> FleetResponse {
        nearmost_client::Client::new(self.endpoint(), nearmost_client::Auth::None)
            .fleet()
            .await
            .expect("fleet")
    }

    /// Who uses which mirror as the broker sees it.
    pub async fn traffic(&self) -> TrafficResponse {
        nearmost_client::Client::new(self.endpoint(), nearmost_client::Auth::None)
            .traffic()
            .await
            .expect("traffic")
            .expect("this broker tells of it")
    }

    /// Waits until every other broker of the federation was told all that this one knows.
    pub async fn until_all_told(&self) {
        let client = nearmost_client::Client::new(self.endpoint(), nearmost_client::Auth::None);
        let waiting = || async {
            let peers = client.peers().await.expect("peers").peers;
            peers.into_iter().map(|p| (p.name, p.queue.records, p.behind)).collect::<Vec<_>>()
        };
        let none = |peers: &Vec<(String, u64, Option<String>)>| {
            peers.iter().all(|(_, records, behind)| *records == 0 && behind.is_none())
        };
        crate::eventually("all peers are told", waiting, none).await;
    }

    /// Waits until everything was compared with every peer since this was called.
    pub async fn until_all_compared(&self) {
        let client = nearmost_client::Client::new(self.endpoint(), nearmost_client::Auth::None);
        let began = nearmost_client::clock::now_unix_ms();
        let compared = || async {
            let peers = client.peers().await.expect("peers").peers;
            peers.into_iter().map(|p| (p.name, p.last_compared_unix_ms)).collect::<Vec<_>>()
        };
        let all = |peers: &Vec<(String, u64)>| peers.iter().all(|(_, at)| *at >= began);
        crate::eventually("all was compared with all peers", compared, all).await;
    }

    /// The HTTP API on TCP.
    pub fn url(&self) -> String {
        format!("http://{}", self.at.http[0])
    }

    fn endpoint(&self) -> nearmost_client::Endpoint {
        format!("unix:{}", self.at.admin.display()).parse().expect("an endpoint")
    }

    /// State of a mirror's IPv4 side, or `absent`.
    pub async fn state(&self, mirror: &str) -> String {
        let fleet = self.fleet().await;
        let found = fleet.mirrors.iter().find(|m| m.mirror == mirror);
        let v4 = found.and_then(|m| m.verdicts.iter().find(|v| v.family == "v4"));
        v4.map_or("absent".into(), |v| v.state.clone())
    }

    /// Waits until a mirror's IPv4 side is in a state.
    pub async fn until(&self, mirror: &str, state: &str) {
        crate::eventually(&format!("{mirror} is {state}"), || self.state(mirror), |s| s == state).await;
    }

    /// The value of a metric with its labels as `/metrics` writes them; 0 when it is not there yet.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.metrics().await;
        let value = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0.0, |v| v.parse().expect("a number"))
    }

    /// All metrics as `/metrics` writes them.
    pub async fn metrics(&self) -> String {
        // Over the admin socket, which is reached from other network namespaces too.
        let curl = Command::new("curl")
            .args(["-sSf", "--max-time", "10", "--unix-socket"])
            .arg(&self.at.admin)
            .arg("http://localhost/metrics")
            .output();
        let output = curl.await.expect("curl; `cargo xtask test` installs it");
        assert!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until a metric has grown to a value.
    pub async fn until_metric(&self, name: &str, value: f64) {
        crate::eventually(&format!("{name} is {value}"), || self.metric(name), |v| *v == value).await;
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(mut self) {
        terminate(&self.child);
        let status =
            tokio::time::timeout(crate::PATIENCE, self.child.wait()).await.expect("it stops").expect("wait");
        assert!(status.success(), "the broker ended with {status}");
    }

    /// SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("kill");
    }
}

fn broker_command(dir: &Path) -> Command {
    let mut command = Command::new(binary("nearmost-broker"));
    command.arg("run").arg("--config").arg(dir.join("broker.toml"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

/// SIGTERM.
pub fn terminate(child: &Child) {
    let pid = child.id().expect("it runs").to_string();
    let status = std::process::Command::new("kill").arg(pid).status().expect("kill");
    assert!(status.success());
}

/// A node agent and its directory.
pub struct Agent {
    /// Its process.
    pub child: Child,
    /// Its data directory and configuration.
    pub dir: PathBuf,
}

impl Agent {
    /// Invites, joins, and starts an agent for one service of a domain.
    pub async fn start(broker: &Broker, dir: &Path, name: &str, domain: &str, service: SocketAddr) -> Agent {
        let token = broker.ok(&["node", "invite", "--domain", domain, "--name", name]).await;
        let joined = Agent::join(dir, token.trim()).await;
        assert!(joined.status.success(), "join: {}", String::from_utf8_lossy(&joined.stderr));
        Agent::run(dir, &service_config(dir, domain, service)).await
    }

    /// Runs `nearmost-agent join`.
    pub async fn join(dir: &Path, token: &str) -> Output {
        Agent::join_with(dir, token, &[]).await
    }

    /// The same with more arguments.
    pub async fn join_with(dir: &Path, token: &str, more: &[&str]) -> Output {
        std::fs::create_dir_all(dir).expect("directory");
        let output = Command::new(binary("nearmost-agent"))
            .arg("join")
            .arg(token)
            .arg("--config")
            .arg(dir.join("node-agent.toml"))
            .arg("--data-dir")
            .arg(dir.join("agent-data"))
            .args(more)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        tokio::time::timeout(crate::PATIENCE, output).await.expect("join ends").expect("run nearmost-agent")
    }

    /// Starts a joined agent with settings on its command line.
    pub async fn run(dir: &Path, settings: &[String]) -> Agent {
        let log =
            std::fs::File::options().create(true).append(true).open(dir.join("agent.log")).expect("log file");
        let mut command = Command::new(binary("nearmost-agent"));
        command.arg("run").arg("--config").arg(dir.join("node-agent.toml"));
        for setting in settings {
            command.arg("--set").arg(setting);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true).spawn();
        Agent { child: child.expect("start nearmost-agent"), dir: dir.into() }
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default()
    }

    /// SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("kill");
    }
}

/// One HTTP service on its own address, checked each 200 ms.
pub fn service_config(_dir: &Path, domain: &str, service: SocketAddr) -> Vec<String> {
    let check = "{ name = \"http\", kind = \"http\", interval_ms = 200, timeout_ms = 500, fall = 1 }";
    vec![
        "metrics.listen=".into(),
        "drain.grace_ms=200".into(),
        format!(
            "services=[{{ domain = {domain:?}, addresses = [\"{}\"], port = {}, checks = [{}] }}]",
            service.ip(),
            service.port(),
            check.replace("kind = \"http\"", &format!("kind = \"http\", address = \"{service}\"")),
        ),
    ]
}

/// A directory for one test.
pub fn directory() -> TempDir {
    tempfile::Builder::new().prefix("nearmost-test-").tempdir().expect("temporary directory")
}

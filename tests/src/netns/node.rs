//! A node: a host with a service and an agent, each a process that can be killed and stopped.

use super::lab::DOMAIN;
use super::network::Network;
use crate::process::{Broker, binary};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

/// Where services listen.
const PORT: u16 = 8080;
/// Where agents take sessions in.
pub const INGRESS: u16 = 7850;

/// How an agent is set up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// Watches the service's process, beside the check.
    pub watches_process: bool,
    /// Has its data directory and log on a file system of its own, of 1 MiB.
    pub small_disk: bool,
    /// Takes clients' sessions in for a service on UDP and TCP.
    pub ingress: bool,
}

/// Signals of tests.
#[derive(Clone, Copy, Debug)]
pub enum Signal {
    /// Ends it at once.
    Kill,
    /// Stops it where it is.
    Stop,
    /// Lets it go on.
    Continue,
}

/// Sends a signal to one of the test's own children.
pub fn signal(child: &Child, signal: Signal) {
    let pid = child.id().expect("it runs").to_string();
    let name = match signal {
        Signal::Kill => "-KILL",
        Signal::Stop => "-STOP",
        Signal::Continue => "-CONT",
    };
    let status = std::process::Command::new("kill").args([name, &pid]).status().expect("kill");
    assert!(status.success(), "kill {name} {pid}: {status}");
}

/// A node and its processes.
pub struct Node {
    /// The number of its host.
    pub host: u8,
    /// The name of node and mirror.
    pub name: String,
    /// Its service.
    pub service: Child,
    /// Its agent.
    pub agent: Child,
    /// Where its files are.
    pub dir: PathBuf,
    setup: Setup,
    page: PathBuf,
}

impl Node {
    /// Starts service and agent of an invited node on a host that is there.
    pub async fn start(network: &Network, broker: &Broker, host: u8, page: &Path, setup: Setup) -> Node {
        let name = format!("m{host}");
        let dir = broker.dir.join(&name);
        std::fs::create_dir_all(&dir).expect("directory");
        let service = serve(network, host, page, &dir).await;
        let token = broker.ok(&["node", "invite", "--domain", DOMAIN, "--name", &name]).await;
        let mut join = network.command(host, binary("nearmost-agent"));
        join.args(["join", token.trim()]);
        let join = join.arg("--config").arg(dir.join("node-agent.toml"));
        let joined = join.arg("--data-dir").arg(dir.join("data")).output();
        let joined = tokio::time::timeout(crate::PATIENCE, joined).await.expect("join ends").expect("run");
        assert!(joined.status.success(), "join: {}", String::from_utf8_lossy(&joined.stderr));
        let agent = run_agent(network, host, &dir, setup);
        Node { host, name, service, agent, dir, setup, page: page.into() }
    }

    /// Starts the service anew, after the old one was ended.
    pub async fn restart_service(&mut self, network: &Network) {
        self.service.kill().await.expect("end the old service");
        self.service = serve(network, self.host, &self.page, &self.dir).await;
    }

    /// Starts the agent anew, after the old one was ended.
    pub async fn restart_agent(&mut self, network: &Network) {
        self.agent.kill().await.expect("end the old agent");
        self.agent = run_agent(network, self.host, &self.dir, self.setup);
    }

    /// Its address.
    pub fn address(&self) -> std::net::IpAddr {
        [10, self.host, 0, 2].into()
    }

    /// Its service's address.
    pub fn service_address(host: u8) -> std::net::SocketAddr {
        ([10, host, 0, 2], PORT).into()
    }

    /// What its agent logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default()
    }
}

/// Starts a service on a host, and waits until it listens.
pub(super) async fn serve(network: &Network, host: u8, page: &Path, dir: &Path) -> Child {
    let mut command = network.command(host, page);
    command.arg(Node::service_address(host).to_string()).arg(format!("m{host}")).arg(dir.join("pid"));
    let mut service = command.stdout(Stdio::piped()).spawn().expect("start the service");
    let mut lines = BufReader::new(service.stdout.take().expect("piped")).lines();
    let line = tokio::time::timeout(crate::PATIENCE, lines.next_line()).await.expect("ready in time");
    assert_eq!(line.expect("read").as_deref(), Some("ready"), "the service of host {host}");
    service
}

fn run_agent(network: &Network, host: u8, dir: &Path, setup: Setup) -> Child {
    let mut line = vec![binary("nearmost-agent").display().to_string(), "run".into(), "--config".into()];
    line.push(dir.join("node-agent.toml").display().to_string());
    line.extend(settings(host, dir, setup).into_iter().flat_map(|setting| ["--set".into(), setting]));
    let mut command = if setup.small_disk {
        // What joining wrote is moved onto the small disk, and the log is on it too.
        let script = "cp -r \"$0\"/data \"$0\"/kept && mount -t tmpfs -o size=1m tmpfs \"$0\"/data \
                      && cp -r \"$0\"/kept/. \"$0\"/data && exec \"$@\" 2>>\"$0\"/data/agent.log";
        let mut command = network.command(host, "unshare");
        command.args(["--mount", "sh", "-c", script]).arg(dir).args(line);
        command
    } else {
        let mut command = network.command(host, &line[0]);
        command.args(&line[1..]);
        command
    };
    let log = std::fs::File::options().create(true).append(true).open(dir.join("agent.log"));
    command.stdout(Stdio::null()).stderr(log.expect("log file"));
    command.spawn().expect("start nearmost-agent")
}

fn settings(host: u8, dir: &Path, setup: Setup) -> Vec<String> {
    let (latitude, longitude, country) = super::lab::place(host);
    let address = Node::service_address(host);
    let check = format!(
        "{{ name = \"web\", kind = \"http\", address = \"{address}\", interval_ms = 200, timeout_ms = 300, fall = 2 }}"
    );
    let process = match setup.watches_process {
        true => format!(", process = {{ pid_file = {:?} }}", dir.join("pid")),
        false => String::new(),
    };
    let to_service = match setup.ingress {
        true => format!(", ingress = {{ udp = \"{address}\" }}"),
        false => String::new(),
    };
    let mut settings = vec![
        "metrics.listen=".into(),
        "reconnect.max_ms=1000".into(),
        format!("node.place={{ latitude = {latitude}, longitude = {longitude}, country = {country:?} }}"),
        format!(
            "services=[{{ domain = {DOMAIN:?}, addresses = [\"{}\"], port = {PORT}, checks = [{check}]{process}{to_service} }}]",
            address.ip()
        ),
    ];
    if setup.ingress {
        settings.push("ingress.enabled=true".into());
        settings.push(format!("ingress.listen=[\"{}:{INGRESS}\"]", address.ip()));
    }
    settings
}

//! A broker's process under measurement: the real binary in release mode.

use anyhow::{Context, Result, bail};
use nearmost_client::registry::commit::{Author, change};
use nearmost_client::registry::{Plan, PlanError, RegistryFile};
use nearmost_client::{Auth, Client, Endpoint};
use nearmost_wire::identity::{Id, KeyPair, Role};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A broker that is told to stop has this long.
const STOPS_WITHIN: Duration = Duration::from_secs(20);

/// A running broker.
pub struct Broker {
    /// Its process; killed when dropped.
    pub child: Child,
    /// Where it is.
    pub at: Addresses,
    key: KeyPair,
}

/// Where the broker said it is.
#[derive(serde::Deserialize)]
pub struct Addresses {
    /// Its id.
    pub broker: String,
    /// Agents' sessions.
    pub agents: Vec<SocketAddr>,
    /// Clients' sessions.
    pub clients: Vec<SocketAddr>,
    admin: PathBuf,
}

impl Broker {
    /// Starts one on loopback, with the configuration that is in `dir` if there is one.
    pub async fn start(dir: &Path, settings: &[String]) -> Result<Broker> {
        let mut command = program()?;
        command.arg("run").env("NEARMOST_LOG", "warn");
        let file = config(dir);
        if file.is_file() {
            command.arg("--config").arg(file);
        }
        command.arg("--set").arg(data_dir(dir));
        let keys = [
            "dns.listen",
            "http.listen",
            "agents.listen",
            "agents.beacon_listen",
            "clients.listen",
            "peers.listen",
        ];
        // A setting that is given stands for itself.
        let given = |key: &str| settings.iter().any(|s| s.split_once('=').is_some_and(|(k, _)| k == key));
        for key in keys.into_iter().filter(|key| !given(key)) {
            command.arg("--set").arg(format!("{key}=[\"127.0.0.1:0\"]"));
        }
        for setting in settings {
            command.arg("--set").arg(setting);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let stdout = child.stdout.take().context("its output")?;
        let Some(line) = BufReader::new(stdout).lines().next_line().await? else {
            bail!("the broker did not start")
        };
        Ok(Broker { child, at: serde_json::from_str(&line)?, key: KeyPair::generate(Role::Person)? })
    }

    /// Whose changes are applied.
    pub fn key(&self) -> &KeyPair {
        &self.key
    }

    /// Stops it as a service manager does, and kills it when it does not stop in time.
    pub async fn stop(&mut self) -> Result<()> {
        let pid = i32::try_from(self.pid()?).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.context("its process id")?, rustix::process::Signal::TERM)?;
        if tokio::time::timeout(STOPS_WITHIN, self.child.wait()).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }

    /// Its process id.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("the broker ended")
    }

    /// Its id.
    pub fn id(&self) -> Result<Id> {
        Ok(Id::parse(&self.at.broker, Role::Broker)?)
    }

    /// Over the admin socket.
    pub fn client(&self) -> Result<Client> {
        let endpoint: Endpoint = self.admin().parse()?;
        Ok(Client::new(endpoint, Auth::None))
    }

    /// The admin socket, as the command line takes it.
    pub fn admin(&self) -> String {
        format!("unix:{}", self.at.admin.display())
    }

    /// Applies a registry.
    pub async fn apply(&self, registry: &str) -> Result<()> {
        let file = RegistryFile::parse_complete("the benchmark's registry", registry)?;
        let author = Author { key: &self.key, name: "bench", note: "benchmark" };
        let me = self.key.id();
        change::<PlanError>(&self.client()?, &author, |view| Plan::of_file(&file, view, &me, false)).await?;
        Ok(())
    }
}

/// The broker's binary.
fn program() -> Result<Command> {
    Ok(Command::new(binary("nearmost-broker")?))
}

/// Whether the broker knows these settings.
///
/// # Errors
/// When it complains of anything but a key that it does not know.
pub async fn knows(settings: &[String]) -> Result<bool> {
    let mut command = program()?;
    command.arg("check-config").stdin(Stdio::null()).kill_on_drop(true);
    for setting in settings {
        command.arg("--set").arg(setting);
    }
    let done = command.output().await?;
    let said = String::from_utf8_lossy(&done.stderr);
    match done.status.success() {
        true => Ok(true),
        false if said.contains(": unknown key") => Ok(false),
        false => bail!("the broker does not take {}: {}", settings.join(", "), said.trim()),
    }
}

/// A binary: where it is said to be, or beside this one.
pub fn binary(name: &str) -> Result<PathBuf> {
    let bin = match std::env::var_os("NEARMOST_BIN_DIR") {
        Some(bin) => PathBuf::from(bin),
        None => std::env::current_exe()?.parent().context("no folder of this program")?.to_owned(),
    };
    let path = bin.join(name);
    anyhow::ensure!(path.is_file(), "{} is not there: run this through `cargo xtask bench`", path.display());
    Ok(path)
}

/// Where the configuration of a broker is that is started in `dir`.
pub fn config(dir: &Path) -> PathBuf {
    dir.join("broker.toml")
}

fn data_dir(dir: &Path) -> String {
    format!("data_dir={:?}", dir.join("broker").display().to_string())
}

/// Makes the key of a broker that is started in `dir` later; its id.
pub async fn init(dir: &Path) -> Result<String> {
    std::fs::create_dir_all(dir)?;
    let mut command = program()?;
    command.arg("init").arg("--set").arg(data_dir(dir)).stdin(Stdio::null()).kill_on_drop(true);
    let done = command.output().await?;
    let text = String::from_utf8_lossy(&done.stdout);
    match text.split_whitespace().next() {
        Some(id) if done.status.success() => Ok(id.to_owned()),
        _ => bail!("no id: {}", String::from_utf8_lossy(&done.stderr).trim()),
    }
}

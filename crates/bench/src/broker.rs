//! A broker's process under measurement: the real binary in release mode.

use anyhow::{Context, Result, bail};
use nearmost_client::registry::commit::{Author, change};
use nearmost_client::registry::{Plan, PlanError, RegistryFile};
use nearmost_client::{Auth, Client, Endpoint};
use nearmost_wire::identity::{Id, KeyPair, Role};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

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
    /// DNS.
    pub dns: Vec<SocketAddr>,
    /// Agents' sessions.
    pub agents: Vec<SocketAddr>,
    /// Clients' sessions.
    pub clients: Vec<SocketAddr>,
    admin: PathBuf,
}

impl Broker {
    /// Starts one on loopback.
    pub async fn start(dir: &Path, settings: &[String]) -> Result<Broker> {
        let bin = std::env::var_os("NEARMOST_BIN_DIR").context("run this through `cargo xtask bench`")?;
        let mut command = Command::new(Path::new(&bin).join("nearmost-broker"));
        command.arg("run").env("NEARMOST_LOG", "warn");
        command.arg("--set").arg(format!("data_dir={:?}", dir.join("broker").display().to_string()));
        let keys = [
            "dns.listen",
            "http.listen",
            "agents.listen",
            "agents.beacon_listen",
            "clients.listen",
            "peers.listen",
        ];
        for key in keys {
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
        let endpoint: Endpoint = format!("unix:{}", self.at.admin.display()).parse()?;
        Ok(Client::new(endpoint, Auth::None))
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

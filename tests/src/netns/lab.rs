//! A broker and its mirrors in the lab.

use super::journal::Journal;
use super::network::Network;
use super::node::{self, Node, Setup};
use crate::process::{Broker, binary};
use nearmost_wire::api::VerdictView;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::process::Child;

/// The broker's host.
pub const BROKER: u8 = 100;
/// The domain that all mirrors serve.
pub const DOMAIN: &str = "play.example.com";

/// Where hosts are: each on a continent of its own.
const PLACES: [(f64, f64, &str); 4] =
    [(51.5, -0.1, "GB"), (40.7, -74.0, "US"), (35.7, 139.7, "JP"), (-33.9, 151.2, "AU")];

/// Latitude, longitude and country of a host.
pub(super) fn place(host: u8) -> (f64, f64, &'static str) {
    PLACES[usize::from(host - 1) % PLACES.len()]
}

/// Everything that runs; in the order in which it ends.
pub struct Lab {
    /// Transitions since the start.
    pub journal: Journal,
    /// The mirrors, `m1` on host 1 and so on.
    pub nodes: Vec<Node>,
    /// Services without an agent.
    pub others: Vec<Child>,
    /// The broker.
    pub broker: Broker,
    /// Hosts and links.
    pub network: Network,
    /// The program of services.
    page: PathBuf,
    /// Everybody's files.
    pub dir: TempDir,
}

impl Lab {
    /// A broker with `extra` configuration and this many mirrors, all of them up. `page` is the program
    /// of services, `serve-page`.
    pub async fn start(page: &str, mirrors: u8, extra: &str) -> Lab {
        Lab::start_with(page, mirrors, extra, |_| Setup::default()).await
    }

    /// The same with settings for each mirror.
    pub async fn start_with(page: &str, mirrors: u8, extra: &str, setup: impl Fn(u8) -> Setup) -> Lab {
        let dir = crate::process::directory();
        let network = Network::start(dir.path()).await;
        for host in (1..=mirrors).chain([BROKER]) {
            network.add(host).await;
        }
        Lab::start_on(dir, network, page, mirrors, extra, setup).await
    }

    /// The same on a network that has all these hosts and the broker's.
    pub async fn start_on(
        dir: TempDir,
        network: Network,
        page: &str,
        mirrors: u8,
        extra: &str,
        setup: impl Fn(u8) -> Setup,
    ) -> Lab {
        std::fs::write(dir.path().join("broker.toml"), config(dir.path(), extra)).expect("write");
        let mut line = network.command_line(BROKER);
        line.push(binary("nearmost-broker").display().to_string());
        line.extend(["run".into(), "--config".into(), dir.path().join("broker.toml").display().to_string()]);
        let broker = Broker::start_by(dir.path(), &line).await;
        let endpoint = format!("unix:{}", broker.at.admin.display()).parse().expect("an endpoint");
        let journal = Journal::start(endpoint);
        let page = page.into();
        let mut lab = Lab { journal, nodes: Vec::new(), others: Vec::new(), broker, network, page, dir };
        lab.broker.apply(&format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n"), &[]).await;
        for host in 1..=mirrors {
            let node = Node::start(&lab.network, &lab.broker, host, &lab.page, setup(host)).await;
            lab.nodes.push(node);
        }
        lab.all_up().await;
        lab
    }

    /// Adds a host with a service and no agent.
    pub async fn add_service(&mut self, host: u8) {
        self.network.add(host).await;
        let dir = self.dir.path().join(format!("m{host}"));
        std::fs::create_dir_all(&dir).expect("directory");
        self.others.push(node::serve(&self.network, host, &self.page, &dir).await);
    }

    /// Waits until every mirror is up.
    pub async fn all_up(&self) {
        for node in &self.nodes {
            self.broker.until(&node.name, "up").await;
        }
    }

    /// The mirror on a host.
    pub fn node(&mut self, host: u8) -> &mut Node {
        &mut self.nodes[usize::from(host - 1)]
    }

    /// Starts a mirror's agent anew.
    pub async fn restart_agent(&mut self, host: u8) {
        self.nodes[usize::from(host - 1)].restart_agent(&self.network).await;
    }

    /// Starts a mirror's service anew.
    pub async fn restart_service(&mut self, host: u8) {
        self.nodes[usize::from(host - 1)].restart_service(&self.network).await;
    }

    /// The verdict on a mirror.
    pub async fn verdict(&self, mirror: &str) -> VerdictView {
        let fleet = self.broker.fleet().await;
        let found = fleet.mirrors.into_iter().find(|m| m.mirror == mirror).expect("the mirror");
        found.verdicts.into_iter().find(|v| v.family == "v4").expect("its IPv4 side")
    }

    /// Waits until the verdict on a mirror is as wanted.
    pub async fn until(
        &self,
        mirror: &str,
        what: &str,
        wanted: impl Fn(&VerdictView) -> bool,
    ) -> VerdictView {
        crate::eventually(&format!("{mirror} is {what}"), || self.verdict(mirror), wanted).await
    }

    /// What DNS answers users who are where the mirror on `host` is, asked on the broker's host.
    pub async fn dns(&self, host: u8) -> Vec<IpAddr> {
        let port = self.broker.at.dns[0].port().to_string();
        let subnet = format!("+subnet=203.0.{host}.0/24");
        let args = ["@127.0.0.1", "-p", &port, "+short", "+tries=2", "+time=1", &subnet, DOMAIN, "A"];
        let output = self.network.command(BROKER, "dig").args(args).output().await.expect("run dig");
        assert!(output.status.success(), "dig: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8_lossy(&output.stdout).lines().map(|l| l.parse().expect("an address")).collect()
    }
}

/// Users of 203.0.n.0/24 are where the mirror on host n is. Nobody measures: in the lab all hosts are
/// equally near.
fn config(dir: &Path, extra: &str) -> String {
    let mut text = format!(
        "version = 1\ndata_dir = {:?}\n\
         [dns]\nlisten = [\"127.0.0.1:0\", \"10.{BROKER}.0.2:53\"]\nworkers = 1\n\
         [http]\nlisten = [\"127.0.0.1:0\"]\n\
         [clients]\nlisten = [\"10.{BROKER}.0.2:0\"]\n\
         [peers]\nlisten = [\"10.{BROKER}.0.2:0\"]\n\
         [agents]\nlisten = [\"10.{BROKER}.0.2:0\"]\nbeacon_listen = [\"10.{BROKER}.0.2:0\"]\n\
         [learning]\nenabled = false\n\
         [spread]\nslow_start_ms = 0\n{extra}\n",
        dir.join("data")
    );
    for host in 1..=PLACES.len() as u8 {
        let (latitude, longitude, country) = place(host);
        let _ = write!(
            text,
            "[[geo.overrides]]\nprefix = \"203.0.{host}.0/24\"\nlatitude = {latitude:?}\n\
             longitude = {longitude:?}\ncountry = {country:?}\n"
        );
    }
    text
}

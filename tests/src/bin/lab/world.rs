//! Everything that runs around users: hosts, the router, a broker, mirrors with agents and services.

use crate::router::Start;
use crate::urgent;
use crate::user::Mirror;
use anyhow::{Context, Result, ensure};
use nearmost_lab::order::{Change, Done, Order, Report};
use nearmost_lab::scenario::{Cell, Rtt, Scenario};
use nearmost_tests::netns::{BROKER, DOMAIN, INGRESS, Lab, Network, Setup, Signal, signal};
use nearmost_tests::process::{binary, terminate};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout};

/// The client's host.
pub const CLIENT: u8 = 10;
/// To DNS and in lists, the client is where the first mirror is. Mirrors die many times here, and are none the
/// worse for it.
const NEAR_M1: &str = "[caution]\nflap_half_life_ms = 0\n\
                       [[geo.overrides]]\nprefix = \"10.10.0.0/16\"\nlatitude = 51.5\nlongitude = -0.1\n\
                       country = \"GB\"\n";
/// Where primary and standby are as far, the standby is a little farther, so that all sessions agree on who
/// is the primary.
const TIE_MS: u32 = 4;
/// Answers of DNS are good for 5 s.
const TTL: &str = "ttl_s = 5\nttl_min_s = 5\nttl_max_s = 5\n";
/// One way between hosts of which a scenario says nothing, in milliseconds.
const ELSEWHERE_MS: f64 = 10.0;

/// A standing world.
pub struct World {
    /// Broker, mirrors and hosts.
    pub lab: Lab,
    router: Router,
    /// Ids of nodes, by their hosts' numbers.
    ids: BTreeMap<u8, String>,
    /// What is to be mended after a trial.
    broken: BTreeMap<u8, Broken>,
    moved: bool,
}

/// What was done to a mirror's processes.
#[derive(Clone, Copy, Default)]
struct Broken {
    agent: bool,
    service: bool,
    stopped: bool,
}

struct Router {
    _child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl World {
    /// With this many mirrors, all up.
    pub async fn start(mirrors: u8, seed: u64) -> Result<World> {
        let dir = nearmost_tests::process::directory();
        let network = Network::start_unrouted(dir.path()).await;
        let hosts: Vec<u8> = (1..=mirrors).chain([CLIENT, BROKER]).collect();
        for host in &hosts {
            network.add(*host).await;
        }
        let router = Router::start(&network, Start { hosts, delay_ms: ELSEWHERE_MS, seed }).await?;
        let page = binary("lab-service").display().to_string();
        let setup = |_| Setup { ingress: true, watches_process: true, ..Setup::default() };
        let lab = Lab::start_on(dir, network, &page, mirrors, NEAR_M1, setup).await;
        lab.broker.apply(&format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n{TTL}"), &[]).await;
        let nodes = lab.broker.fleet().await.nodes;
        let id = |host: u8| {
            let node = nodes.iter().find(|n| n.name == format!("m{host}"));
            let id = node.and_then(|n| n.id.clone()).with_context(|| format!("m{host} has no id"))?;
            anyhow::Ok((host, id))
        };
        let ids = (1..=mirrors).map(id).collect::<Result<_>>()?;
        Ok(World { lab, router, ids, broken: BTreeMap::new(), moved: false })
    }

    /// Places the client and the mirrors of a scenario for a pair of round trips.
    pub async fn place(&mut self, scenario: &Scenario, r: u32, s: u32) -> Result<Vec<Mirror>> {
        let mut mirrors = Vec::new();
        for (host, mirror) in (1..).zip(&scenario.mirrors) {
            let tied = r == s && mirror.rtt == Rtt::Of(Cell::S);
            let rtt_ms = mirror.rtt.of(r, s) + if tied { TIE_MS } else { 0 };
            let delay_ms = f64::from(rtt_ms) / 2.0;
            self.order(Order::Base { a: CLIENT, b: host, delay_ms }).await?;
            let id = self.ids.get(&host).context("the world has fewer mirrors")?.clone();
            let ip = Ipv4Addr::new(10, host, 0, 2).into();
            mirrors.push(Mirror { host, id, ip, port: INGRESS, rtt_ms, region: mirror.region });
        }
        self.order(Order::Nat { host: CLIENT, on: scenario.ways.nat }).await?;
        self.order(Order::TellTooLong { told: scenario.ways.tell_too_long }).await?;
        Ok(mirrors)
    }

    /// Where clients reach the broker.
    pub fn broker(&self) -> String {
        let at = &self.lab.broker.at;
        format!("{}@{}", at.broker, at.clients[0])
    }

    /// Has the router do something; when it was done.
    pub async fn order(&mut self, order: Order) -> Result<Duration> {
        Ok(Duration::from_nanos(self.router.order(order).await?.at_ns))
    }

    /// How the router did since the last time.
    pub async fn report(&mut self) -> Result<Report> {
        self.router.order(Order::Report).await?.report.context("the router reports nothing")
    }

    /// Changes links of a host; `with` only those with another.
    pub async fn shape(&mut self, host: u8, with: Option<u8>, out: bool, change: Change) -> Result<Duration> {
        let (from, to) = if out { (Some(host), with) } else { (with, Some(host)) };
        self.order(Order::Shape { from, to, change }).await
    }

    /// SIGTERM to a mirror's agent.
    pub fn drain(&mut self, host: u8) {
        self.broken.entry(host).or_default().agent = true;
        terminate(&self.lab.node(host).agent);
    }

    /// A signal to a mirror's processes.
    pub fn signal(&mut self, host: u8, agent: bool, service: bool, what: Signal) {
        let broken = self.broken.entry(host).or_default();
        match what {
            Signal::Kill => {
                broken.agent |= agent;
                broken.service |= service;
            }
            Signal::Stop => broken.stopped = true,
            Signal::Continue => {}
        }
        let node = self.lab.node(host);
        // The agent first: it must not tell of the service's end when both die at once.
        for (_, child) in [(agent, &node.agent), (service, &node.service)].into_iter().filter(|(yes, _)| *yes)
        {
            signal(child, what);
        }
    }

    /// Gives the client another address.
    pub async fn change_network(&mut self) {
        self.moved = true;
        self.lab.network.readdress(CLIENT, Ipv4Addr::new(10, CLIENT, 0, 3)).await;
    }

    /// Everything as it was.
    pub async fn mend(&mut self) -> Result<()> {
        self.order(Order::Reset).await?;
        for (host, broken) in std::mem::take(&mut self.broken) {
            if broken.stopped {
                // Both, whichever it was: to who runs it says nothing.
                self.signal(host, true, true, Signal::Continue);
            }
            if broken.service {
                self.lab.restart_service(host).await;
            }
            if broken.agent {
                self.lab.restart_agent(host).await;
            }
        }
        self.lab.all_up().await;
        if std::mem::take(&mut self.moved) {
            self.lab.network.readdress(CLIENT, Ipv4Addr::new(10, CLIENT, 0, 2)).await;
        }
        Ok(())
    }

    /// Ids in the services' ledgers that begin with a trial's name, and how often.
    pub fn ledgers(&self, trial: &str) -> Result<BTreeMap<String, u64>> {
        let mut ids = BTreeMap::new();
        for node in &self.lab.nodes {
            let text = std::fs::read_to_string(node.dir.join("ledger")).context("a ledger")?;
            for id in text.lines().filter(|id| id.starts_with(trial)) {
                *ids.entry(id.to_owned()).or_default() += 1;
            }
        }
        Ok(ids)
    }
}

impl Router {
    async fn start(network: &Network, start: Start) -> Result<Router> {
        let mut line = network.router_command_line();
        line.push(std::env::current_exe()?.display().to_string());
        line.extend(["router".into(), serde_json::to_string(&start)?]);
        let mut child = urgent::command(&line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("start the router")?;
        let orders = child.stdin.take().context("piped")?;
        let mut answers = BufReader::new(child.stdout.take().context("piped")?).lines();
        let first = answers.next_line().await?;
        ensure!(first.as_deref() == Some("ready"), "the router did not start");
        Ok(Router { _child: child, orders, answers })
    }

    async fn order(&mut self, order: Order) -> Result<Done> {
        let line = serde_json::to_string(&order)? + "\n";
        self.orders.write_all(line.as_bytes()).await.context("the router is gone")?;
        let answer = self.answers.next_line().await?.context("the router is gone")?;
        let done: Done = serde_json::from_str(&answer)?;
        ensure!(done.error.is_none(), "{order:?}: {}", done.error.unwrap_or_default());
        Ok(done)
    }
}

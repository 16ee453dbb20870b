//! All servers of a run, started beside each other: only the one that is asked uses the processor.

use super::checks::{self, Rule};
use super::city::City;
use super::lab;
use super::ours::{self, Ours, Variant};
use super::peers::{Peer, Running};
use super::queries::{self, Files, Kind};
use super::report::{self, Many, Report, Row, Strangers, median};
use anyhow::{Context, Result};
use std::net::SocketAddrV4;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

/// A server has this long until it answers.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where the echo answers.
const FLOOR: SocketAddrV4 = SocketAddrV4::new(lab::SERVER, 5500);

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// The bare echo.
    Floor,
    /// One of the peers.
    Peer(Peer),
    /// The broker.
    Ours(Variant),
}

impl Name {
    /// In tables.
    pub fn text(self) -> &'static str {
        match self {
            Name::Floor => "bare batched echo",
            Name::Peer(peer) => peer.name(),
            Name::Ours(variant) => variant.name(),
        }
    }
}

/// What keeps a server running: it ends when this is dropped.
enum Process {
    Floor(Child),
    Peer(Running),
    Ours(Box<Ours>),
}

/// One server, and what was measured of it.
pub struct Server {
    /// Which.
    pub name: Name,
    /// Where it answers.
    pub at: SocketAddrV4,
    /// What it is asked.
    pub kind: Kind,
    /// The same, in files.
    pub files: Files,
    /// What it may answer; nothing is right or wrong of the echo.
    pub rule: Option<Rule>,
    /// So far.
    pub measured: Measured,
    process: Process,
}

/// A value a round of each.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// CPU a query in microseconds, of few sockets of dnsperf.
    pub cpu_us: Vec<f64>,
    /// The same of many.
    pub many_us: Vec<f64>,
    /// The same under kxdpgun, whose clients have an address each.
    pub strangers_us: Vec<f64>,
    /// CPU of the whole machine a query meanwhile, the generator's included: what the kernel does in interrupts is
    /// on nobody's account else.
    pub machine_us: Vec<f64>,
    /// Queries a second under dnsperf.
    pub dnsperf: Vec<f64>,
    /// Queries a second without loss.
    pub lossless: Vec<f64>,
    /// Microseconds to half of the answers.
    pub p50_us: Vec<f64>,
    /// Microseconds to 99 of 100 answers.
    pub p99_us: Vec<f64>,
}

impl Server {
    /// Its process id.
    ///
    /// # Errors
    /// When it ended.
    pub fn pid(&self) -> Result<u32> {
        let pid = match &self.process {
            Process::Floor(child) => child.id().context("it ended"),
            Process::Peer(running) => running.pid(),
            Process::Ours(ours) => ours.pid(),
        };
        pid.with_context(|| self.name.text())
    }

    /// Whether a fault of it is ours.
    pub fn is_ours(&self) -> bool {
        matches!(self.name, Name::Ours(_))
    }

    /// Whether what is measured of it is reached over loopback, too.
    pub fn over_loopback(&self) -> bool {
        self.name != Name::Ours(Variant::Xdp)
    }

    /// Its medians, beside those of others.
    pub fn row(&self, all: &[Server]) -> Row {
        let m = &self.measured;
        let middle = |values: &[f64]| (!values.is_empty()).then(|| median(values));
        let by = |name: Name, of: fn(&Measured) -> &[f64]| {
            let other = all.iter().find(|s| s.name == name)?;
            (!of(m).is_empty()).then(|| report::ratio(of(m), of(&other.measured)))
        };
        let gdnsd = Name::Peer(Peer::Gdnsd);
        Row {
            server: self.name.text().into(),
            cpu_us: middle(&m.cpu_us),
            by_floor: by(Name::Floor, |m| &m.cpu_us),
            by_gdnsd: by(gdnsd, |m| &m.cpu_us),
            many: Many {
                cpu_us: middle(&m.many_us),
                by_floor: by(Name::Floor, |m| &m.many_us),
                by_gdnsd: by(gdnsd, |m| &m.many_us),
            },
            strangers: Strangers { cpu_us: middle(&m.strangers_us), machine_us: middle(&m.machine_us) },
            dnsperf_rate: middle(&m.dnsperf),
            lossless: middle(&m.lossless),
            p50_us: middle(&m.p50_us),
            p99_us: middle(&m.p99_us),
        }
    }
}

/// Starts the echo, all peers and these variants of the broker. A variant that this broker cannot be is
/// left out and told; the plain one must start.
///
/// # Errors
/// When one of the others does not start.
pub async fn start(
    variants: &[Variant],
    city: &City,
    count: usize,
    dir: &Path,
    report: &mut Report,
) -> Result<Vec<Server>> {
    let plain = Kind::default();
    let files = queries::write(&plain, count, dir, "plain")?;
    let server = |name, at, rule, process| Server {
        name,
        at,
        kind: Kind::default(),
        files: files.clone(),
        rule,
        measured: Measured::default(),
        process,
    };
    let mut servers = vec![server(Name::Floor, FLOOR, None, Process::Floor(floor()?))];
    for peer in Peer::ALL {
        let folder = dir.join(format!("peer{}", peer as u8));
        let running = peer.start(&city.path, &folder)?;
        let answers = ours::first_answer(running.at, &plain);
        let answers = tokio::time::timeout(PATIENCE, answers).await;
        answers.with_context(|| format!("{} does not answer: {}", peer.name(), peer.log(&folder)))??;
        let rule = if peer == Peer::Gdnsd { Rule::nearest() } else { Rule::Continent };
        servers.push(server(Name::Peer(peer), running.at, Some(rule), Process::Peer(running)));
    }
    for variant in variants {
        let folder = dir.join(format!("ours{}", *variant as u8));
        match variant.start(&city.path, &folder).await {
            Ok(mut ours) => {
                let settled = checks::settled(ours.at, city, &ours.kind, &ours.rule, PATIENCE).await;
                if let Err(e) = settled {
                    report.faults.push(format!("{}: {e:#}", variant.name()));
                }
                report.taken.notes.append(&mut ours.notes);
                let files = match ours.kind == plain {
                    true => files.clone(),
                    false => queries::write(&ours.kind, count, dir, &format!("ours{}", *variant as u8))?,
                };
                let (kind, rule) = (ours.kind.clone(), Some(ours.rule.clone()));
                let name = Name::Ours(*variant);
                let process = Process::Ours(Box::new(ours));
                servers.push(Server { kind, files, ..server(name, variant.at(), rule, process) });
            }
            Err(e) if *variant == Variant::Plain => return Err(e),
            Err(e) => report.taken.notes.push(format!("{}: left out: {e:#}", variant.name())),
        }
    }
    Ok(servers)
}

/// This program as the echo, in a process of its own.
fn floor() -> Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["dns-floor", &FLOOR.to_string()]).stdin(Stdio::null()).kill_on_drop(true);
    command.spawn().context("cannot start the echo")
}

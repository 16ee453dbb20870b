//! DNS: what a query costs, beside gdnsd, Knot, PowerDNS and a bare echo, in one run.
//!
//! All servers answer one name from six sites, by the same city database, with one worker each. A run
//! has these parts:
//!
//! | part | what is measured |
//! |---|---|
//! | `cpu` | CPU time of the server a query, and queries a second: dnsperf over loopback, each query with a random public /24 as client subnet, from 8 sockets (servers may join replies to one) and from 256 (nothing to join); then kxdpgun, without client subnets and from an address each |
//! | `rate` | queries a second without loss, and times of answers at half of that: kxdpgun through a link to another network namespace |
//! |  | kxdpgun's columns are of the link; the row of AF_XDP has no others, and its program hangs on the link while all are measured, so that the kernel polls the link for all alike |
//! | `memory` | resident memory with a full city database |
//! | `start` | time from the start of the program to the first right answer |
//!
//! Rounds go through all servers in turn, and medians are compared: absolute figures drift. Before and after,
//! a sample of each server's answers is compared with what geometry says (`checks`). A lost or wrong
//! answer of ours fails the run; those of others are told.
//!
//! The programs are Debian's: gdnsd, knot, knot-module-geoip, pdns-server, pdns-backend-geoip, dnsperf,
//! knot-dnsutils, iproute2; `cargo xtask bench dns` installs them.

mod boot;
mod checks;
mod city;
mod cpu;
pub mod floor;
mod lab;
mod load;
mod ours;
mod peers;
mod queries;
mod rate;
mod report;
mod rounds;
mod scenario;
mod servers;

use crate::figure::{Figure, mib};
use anyhow::{Result, bail};
use city::City;
use lab::Client;
use ours::Variant;
use queries::Kind;
use report::{Machine, Report, median};
use servers::{Name, Server};
use std::path::{Path, PathBuf};

/// What is measured.
#[derive(clap::Args)]
pub struct DnsArgs {
    /// City database in the MaxMind schema, instead of one that is made up
    #[arg(long)]
    city: Option<PathBuf>,
    /// Rounds through all servers
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement of CPU
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Queries in the set
    #[arg(long, default_value_t = 100_000)]
    queries: usize,
    /// Only these parts
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Only these variants of the broker beside the plain one
    #[arg(long, value_delimiter = ',')]
    variants: Vec<Extra>,
    /// One round of one second each and no full database: whether all works, no figures
    #[arg(long)]
    quick: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Set when it runs in namespaces of its own
    #[arg(long, hide = true)]
    inside: bool,
}

/// A part of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Cpu,
    Rate,
    Memory,
    Start,
}

/// What may be left out of the broker's variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Extra {
    None,
    Signed,
    Mirrors,
    Domains,
    Everything,
    Xdp,
}

impl DnsArgs {
    fn has(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// `xdp`: whether programs may attach to the link.
    fn variants(&self, xdp: bool) -> Vec<Variant> {
        let chosen = |extra| self.variants.is_empty() || self.variants.contains(&extra);
        let mut variants = Variant::ALL.to_vec();
        variants.retain(|variant| match variant {
            Variant::Plain => true,
            Variant::Signed => chosen(Extra::Signed),
            Variant::Mirrors => chosen(Extra::Mirrors),
            Variant::Domains => chosen(Extra::Domains),
            Variant::Everything => chosen(Extra::Everything),
            Variant::Xdp => xdp && chosen(Extra::Xdp),
        });
        variants
    }
}

/// Runs the measurement and prints it.
pub async fn run(mut args: DnsArgs) -> Result<()> {
    if !args.inside {
        return lab::enter().await;
    }
    if args.quick {
        (args.rounds, args.seconds) = (1, 1.0);
    }
    let mut client = Client::start().await?;
    let dir = tempfile::tempdir()?;
    let mut report = Report { machine: Machine::this(), ..Report::default() };
    report.taken.name = "figures, and their targets where they have one".into();
    measure(&args, &client, dir.path(), &mut report).await?;
    if !client.lives() {
        bail!("the namespace of clients is gone");
    }
    report.machine.load_after = report::load();
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => report.show(),
    }
    match report.faults.is_empty() {
        true => Ok(()),
        false => bail!("answers were lost or wrong: {}", report.faults.join("; ")),
    }
}

async fn measure(args: &DnsArgs, client: &Client, dir: &Path, report: &mut Report) -> Result<()> {
    let city = match &args.city {
        Some(path) => City::open(path)?,
        None => City::small(dir)?,
    };
    if args.has(Part::Cpu) || args.has(Part::Rate) {
        let mut servers =
            servers::start(&args.variants(client.xdp), &city, args.queries, dir, report).await?;
        rounds::check(&servers, &city, report).await?;
        if args.has(Part::Cpu) {
            rounds::cpu(&mut servers, args.rounds, args.seconds, report).await?;
            if client.xdp {
                rounds::cpu_strangers(&mut servers, args.rounds, client).await?;
            }
        }
        if args.has(Part::Rate) {
            rates(&mut servers, args, client, report).await?;
        }
        rounds::check(&servers, &city, report).await?;
        report.servers = servers.iter().map(|server| server.row(&servers)).collect();
        if args.has(Part::Cpu) {
            ratios(&servers, report);
        }
    }
    if args.has(Part::Memory) {
        memory(args, &city, dir, report).await?;
    }
    if args.has(Part::Start) {
        let starts = boot::starts(&city, dir, args.rounds).await?;
        report.taken.figures.extend([
            Figure::told("start to first answer, by country or city", median(&starts.ours) * 1e3, "ms"),
            Figure::told("start to answers by the city database", median(&starts.city) * 1e3, "ms"),
            Figure::told("the same of gdnsd, which waits for it", median(&starts.gdnsd) * 1e3, "ms"),
        ]);
    }
    Ok(())
}

async fn rates(servers: &mut [Server], args: &DnsArgs, client: &Client, report: &mut Report) -> Result<()> {
    if !client.xdp {
        let why = "rate: left out, kxdpgun needs root and a network namespace of root's";
        report.taken.notes.push(why.into());
        return Ok(());
    }
    rounds::rates(servers, args.rounds, client).await
}

/// The ratios that have targets: CPU a query, each beside another in the same round.
fn ratios(servers: &[Server], report: &mut Report) {
    let plain = Name::Ours(Variant::Plain);
    let targets = [
        (plain, Name::Peer(peers::Peer::Gdnsd), 0.95),
        (plain, Name::Floor, 1.15),
        (Name::Ours(Variant::Signed), plain, 1.25),
        (Name::Ours(Variant::Mirrors), plain, 1.2),
        (Name::Ours(Variant::Domains), plain, 1.2),
        (Name::Ours(Variant::Everything), plain, 1.1),
        (Name::Ours(Variant::Xdp), plain, 0.7),
    ];
    let measured = |name: Name| servers.iter().find(|s| s.name == name).map(|s| &s.measured);
    for (who, beside, target) in targets {
        let (Some(a), Some(b)) = (measured(who), measured(beside)) else { continue };
        let pairs = [
            ("dnsperf, 8 sockets", &a.cpu_us, &b.cpu_us),
            ("dnsperf, 256 sockets", &a.many_us, &b.many_us),
            ("kxdpgun", &a.strangers_us, &b.strangers_us),
        ];
        for (load, ours, theirs) in pairs.into_iter().filter(|(_, ours, _)| !ours.is_empty()) {
            let what = format!("CPU: {} by {}, {load}", who.text(), beside.text());
            report.taken.figures.push(Figure::of(what, report::ratio(ours, theirs), "", target));
        }
    }
}

async fn memory(args: &DnsArgs, city: &City, dir: &Path, report: &mut Report) -> Result<()> {
    let made;
    let full = match args.quick || args.city.is_some() {
        true => city,
        false => {
            made = City::full(dir)?;
            &made
        }
    };
    let files = queries::write(&Kind::default(), args.queries.min(20_000), dir, "memory")?;
    let (own, theirs) = boot::memory(full, dir, &files).await?;
    report.taken.figures.extend([
        Figure::told("memory with a full city database", mib(own.resident), "MiB"),
        Figure::told("the most, while it was read", mib(own.peak), "MiB"),
        Figure::told("the same of gdnsd", mib(theirs.resident), "MiB"),
        Figure::told("the most, of gdnsd", mib(theirs.peak), "MiB"),
    ]);
    Ok(())
}

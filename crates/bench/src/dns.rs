//! Server CPU time a DNS query, beside gdnsd and Knot with mod-geoip, in one run.
//!
//! The tools of the comparison are scripts in a folder that is given with `--tools`:
//! `peers.sh start CITY.mmdb DIR`, `peers.sh stop DIR`, `measure.sh NAME PID PORT dnsperf-args…`,
//! `queries.py OUT N NAME` and `floor.c`. Debian packages: gdnsd, knot, knot-module-geoip, dnsperf,
//! gcc, python3-dnspython. The broker gets the same city database, the same six sites and one
//! worker; rounds go through all servers in turn, and the medians are compared.

use crate::broker::Broker;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokio::process::{Child, Command};

/// What is measured.
#[derive(clap::Args)]
pub struct DnsArgs {
    /// Folder of the comparison's tools.
    #[arg(long)]
    tools: PathBuf,
    /// City database in the MaxMind schema.
    #[arg(long)]
    city: PathBuf,
    /// Rounds through all servers.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Queries in the set, each with a random client subnet.
    #[arg(long, default_value_t = 100_000)]
    queries: usize,
    /// Seconds a measurement.
    #[arg(long, default_value_t = 5)]
    seconds: u32,
}

/// The six sites of `peers.sh`.
const SITES: [(&str, f64, f64); 6] = [
    ("lon", 51.5, -0.12),
    ("nyc", 40.7, -74.0),
    ("sfo", 37.77, -122.4),
    ("gru", -23.5, -46.6),
    ("sin", 1.35, 103.8),
    ("syd", -33.87, 151.2),
];
const NAME: &str = "play.example.com";

/// Runs the comparison and prints it.
pub async fn run(args: DnsArgs) -> Result<()> {
    let tools = args.tools.canonicalize().context("--tools")?;
    let city = args.city.canonicalize().context("--city")?;
    let dir = tempfile::tempdir()?;
    let queries = dir.path().join("queries");
    let count = args.queries.to_string();
    call("python3", &[path(&tools.join("queries.py"))?, path(&queries)?, &count, NAME]).await?;
    let broker =
        Broker::start(dir.path(), &[format!("geo.databases=[{:?}]", path(&city)?), "dns.workers=1".into()])
            .await?;
    broker.apply(&registry()).await?;
    let floor = floor(&tools, dir.path()).await?;
    let peers = dir.path().join("peers");
    let script = tools.join("peers.sh");
    call("bash", &[path(&script)?, "start", path(&city)?, path(&peers)?]).await?;
    let measured = measure_all(&args, &tools, &queries, &broker, &floor, &peers).await;
    call("bash", &[path(&script)?, "stop", path(&peers)?]).await?;
    report(&measured?);
    Ok(())
}

fn registry() -> String {
    let mut text = format!("version = 1\n[[domain]]\nname = {NAME:?}\nanswers = 1\nttl_s = 30\n");
    for (i, (name, lat, lon)) in SITES.iter().enumerate() {
        text += &format!(
            "[[mirror]]\ndomain = {NAME:?}\nname = {name:?}\naddresses = [\"203.0.113.{}\"]\nport = 443\n\
             health = \"manual\"\nstate = \"up\"\nplace = {{ latitude = {lat:?}, longitude = {lon:?} }}\n",
            i + 1
        );
    }
    text
}

fn path(p: &Path) -> Result<&str> {
    p.to_str().context("paths must be UTF-8")
}

async fn call(program: &str, args: &[&str]) -> Result<String> {
    let output =
        Command::new(program).args(args).output().await.with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The bare echo, and its port.
struct Floor {
    child: Child,
    port: u16,
}

async fn floor(tools: &Path, dir: &Path) -> Result<Floor> {
    let binary = dir.join("floor");
    call("cc", &["-O2", "-o", path(&binary)?, path(&tools.join("floor.c"))?]).await?;
    let port = std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
    let child = Command::new(&binary).args([&port.to_string(), "64"]).kill_on_drop(true).spawn()?;
    Ok(Floor { child, port })
}

type Figures = BTreeMap<&'static str, Vec<f64>>;

async fn measure_all(
    args: &DnsArgs,
    tools: &Path,
    queries: &Path,
    broker: &Broker,
    floor: &Floor,
    peers: &Path,
) -> Result<Figures> {
    let pid_of =
        |name: &str| -> Result<u32> { Ok(std::fs::read_to_string(peers.join(name))?.trim().parse()?) };
    let port = broker.at.dns.first().context("no DNS address")?.port();
    let servers = [
        ("floor", floor.child.id().context("the echo ended")?, floor.port),
        ("gdnsd", pid_of("gdnsd.pid")?, 5510),
        ("knot", pid_of("knot.pid")?, 5520),
        ("nearmost", broker.pid()?, port),
    ];
    let mut figures = Figures::new();
    for round in 0..args.rounds {
        for (name, pid, port) in servers {
            let script = tools.join("measure.sh");
            let mut command = Command::new("bash");
            command.arg(script).args([name, &pid.to_string(), &port.to_string(), "-B", "-d"]).arg(queries);
            let output = command.env("L", args.seconds.to_string()).output().await?;
            let line = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            println!("round {} {line}", round + 1);
            let cpu = line.split("cpu_us_per_q=").nth(1).and_then(|r| r.split_whitespace().next());
            let cpu: f64 =
                cpu.and_then(|c| c.parse().ok()).with_context(|| format!("no figure in: {line}"))?;
            figures.entry(name).or_default().push(cpu);
        }
    }
    Ok(figures)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn report(figures: &Figures) {
    let own = figures.get("nearmost").map_or(f64::NAN, |f| median(f));
    println!("\n| server | CPU µs a query (median) | nearmost ÷ it |\n|---|---|---|");
    for (name, values) in figures {
        println!("| {name} | {:.2} | {:.2} |", median(values), own / median(values));
    }
}

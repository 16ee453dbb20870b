//! What checks cost: one broker that probes many mirrors over TCP, and whether any of them is late.
//!
//! Each mirror has a loopback address of its own and all have one port, so that one listener of this
//! process sees every check and knows by the address which it is. A check counts as late when the one
//! before it was longer ago than the interval and the jitter of a fifth that the broker gives it allow.

use crate::broker::Broker;
use crate::proc;
use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::Instant;

const DOMAIN: &str = "play.example.com";
/// Mirrors in one change of the registry.
const AT_ONCE: usize = 2000;
/// The first mirror's address; the others' follow. Beyond what systems use of loopback themselves.
const FIRST: u32 = 0x7f40_0000;
/// The broker's jitter, and what a busy machine may add.
const JITTER: f64 = 1.2;
const TOLERANCE: Duration = Duration::from_millis(250);

/// What is measured.
#[derive(clap::Args)]
pub struct ChecksArgs {
    /// How many mirrors.
    #[arg(long, default_value_t = 20_000)]
    count: usize,
    /// Milliseconds between two checks of one mirror.
    #[arg(long, default_value_t = 10_000)]
    interval_ms: u64,
    /// Seconds that are measured, once all are up and three intervals have passed.
    #[arg(long, default_value_t = 40)]
    seconds: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Serialize)]
struct Figures {
    mirrors: usize,
    interval_ms: u64,
    seconds: u64,
    /// From the last change of the registry until all were up.
    all_up_s: f64,
    checks_per_second: f64,
    cpu_percent_of_a_core: f64,
    cpu_us_a_check: f64,
    resident_mib: f64,
    longest_gap_s: f64,
    late: u64,
    /// Checks that came while the measurement lasted, of the mirror with fewest.
    fewest: u64,
}

/// Runs the measurement and prints it.
pub async fn run(args: ChecksArgs) -> Result<()> {
    ensure!((1..=60_000).contains(&args.count), "--count: expected 1 to 60000");
    let dir = tempfile::tempdir()?;
    let broker = Broker::start(dir.path(), &[]).await?;
    let listener = listen()?;
    let port = listener.local_addr()?.port();
    let seen = Arc::new(Seen::new(args.count));
    tokio::spawn(accept(listener, Arc::clone(&seen)));
    for first in (0..args.count).step_by(AT_ONCE) {
        let numbers = first..args.count.min(first + AT_ONCE);
        broker.apply(&registry(numbers, port, args.interval_ms)?).await?;
    }
    let applied = now();
    wait_until_up(&broker, args.count).await?;
    let all_up_s = applied.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_millis(args.interval_ms) * 3).await;

    let pid = broker.pid()?;
    seen.begin();
    let before = proc::cpu(pid)?;
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let used = (proc::cpu(pid)? - before).as_secs_f64();
    let allowed = Duration::from_millis(args.interval_ms).mul_f64(JITTER) + TOLERANCE;
    let (checks, gaps) = seen.end();
    let total: u64 = checks.iter().sum();
    let seconds = args.seconds as f64;
    let figures = Figures {
        mirrors: args.count,
        interval_ms: args.interval_ms,
        seconds: args.seconds,
        all_up_s,
        checks_per_second: total as f64 / seconds,
        cpu_percent_of_a_core: used / seconds * 100.0,
        cpu_us_a_check: used * 1e6 / total as f64,
        resident_mib: proc::resident(pid)? as f64 / f64::from(1 << 20),
        longest_gap_s: gaps.iter().max().copied().unwrap_or_default().as_secs_f64(),
        late: gaps.iter().filter(|gap| **gap > allowed).count() as u64,
        fewest: checks.iter().min().copied().unwrap_or_default(),
    };
    show(&figures, args.json)
}

fn show(f: &Figures, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string(f)?);
        return Ok(());
    }
    println!(
        "{} mirrors, each checked over TCP every {} ms; all up after {:.1} s",
        f.mirrors, f.interval_ms, f.all_up_s
    );
    println!(
        "CPU: {:.1} % of a core, {:.0} µs a check ({:.0} checks/s); {:.1} MiB resident",
        f.cpu_percent_of_a_core, f.cpu_us_a_check, f.checks_per_second, f.resident_mib
    );
    println!(
        "late: {} mirrors (longest gap {:.2} s); fewest checks of one mirror in {} s: {}",
        f.late, f.longest_gap_s, f.seconds, f.fewest
    );
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "measures time, decides nothing")]
fn now() -> Instant {
    Instant::now()
}

/// All of loopback, with room for a burst of checks.
fn listen() -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::UNSPECIFIED, 0).into())?;
    Ok(socket.listen(4096)?)
}

fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::from(FIRST + number as u32)
}

fn registry(numbers: std::ops::Range<usize>, port: u16, interval_ms: u64) -> Result<String> {
    let mut text = format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n");
    for i in numbers {
        writeln!(
            text,
            "[[mirror]]\ndomain = {DOMAIN:?}\nname = \"m{i}\"\naddresses = [\"{}\"]\nport = {port}\n\
             health = \"probe\"\nprobe = {{ kind = \"tcp\", interval_ms = {interval_ms} }}",
            address(i)
        )?;
    }
    Ok(text)
}

/// What the listener saw of each mirror.
struct Seen {
    start: Instant,
    mirrors: Vec<Mirror>,
}

#[derive(Default)]
struct Mirror {
    checks: AtomicU64,
    /// When the last one came, in microseconds after the start.
    last_us: AtomicU64,
    longest_us: AtomicU64,
}

impl Seen {
    fn new(count: usize) -> Seen {
        Seen { start: now(), mirrors: (0..count).map(|_| Mirror::default()).collect() }
    }

    fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    /// Forgets gaps and counts; when the last check came stays known.
    fn begin(&self) {
        for mirror in &self.mirrors {
            mirror.checks.store(0, Ordering::Relaxed);
            mirror.longest_us.store(0, Ordering::Relaxed);
        }
    }

    fn check(&self, number: usize) {
        let Some(mirror) = self.mirrors.get(number) else { return };
        let now = self.now_us();
        let gap = now.saturating_sub(mirror.last_us.swap(now, Ordering::Relaxed));
        mirror.longest_us.fetch_max(gap, Ordering::Relaxed);
        mirror.checks.fetch_add(1, Ordering::Relaxed);
    }

    /// Checks and longest gap of each mirror; the time since the last check is a gap too.
    fn end(&self) -> (Vec<u64>, Vec<Duration>) {
        let now = self.now_us();
        let gap = |m: &Mirror| {
            let open = now.saturating_sub(m.last_us.load(Ordering::Relaxed));
            Duration::from_micros(open.max(m.longest_us.load(Ordering::Relaxed)))
        };
        let checks = self.mirrors.iter().map(|m| m.checks.load(Ordering::Relaxed)).collect();
        (checks, self.mirrors.iter().map(gap).collect())
    }
}

async fn accept(listener: TcpListener, seen: Arc<Seen>) {
    loop {
        // A connection that is gone already was a check all the same, but no longer says of whom.
        let Ok((stream, _)) = listener.accept().await else { continue };
        if let Ok(IpAddr::V4(ip)) = stream.local_addr().map(|a| a.ip()) {
            seen.check(u32::from(ip).wrapping_sub(FIRST) as usize);
        }
    }
}

async fn wait_until_up(broker: &Broker, count: usize) -> Result<()> {
    let client = broker.client()?;
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut up = 0;
    for _ in 0..180 {
        tick.tick().await;
        let fleet = client.fleet().await.context("the fleet")?;
        up = fleet.mirrors.iter().filter(|m| m.verdicts.iter().any(|v| v.state == "up")).count();
        if up == count {
            return Ok(());
        }
    }
    bail!("only {up} of {count} mirrors came up")
}

//! What an agent costs a broker: memory and CPU each, with real QUIC sessions, reports and beacons.
//!
//! The agents speak the real protocol from this one process: each has its own key, its own session
//! and its own beacons at the period that the broker asks for, and reports every 5 s. Three figures
//! are taken of the broker's process: before anyone is there, with all attached and quiet for a
//! while, and the CPU it used meanwhile.

mod flood;

use self::flood::Sender;
use crate::broker::Broker;
use crate::proc;
use anyhow::{Context, Result, bail};
use nearmost_wire::agent::{BeaconGrant, Hello, Report, ServiceDecl, ServiceReport, ToAgent, ToBroker};
use nearmost_wire::frame;
use nearmost_wire::identity::{Id, KeyPair, Role};
use nearmost_wire::registry::ProbeBody;
use nearmost_wire::tls::{self, ALPN_AGENT, SERVER_NAME};
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

const DOMAIN: &str = "play.example.com";

/// What is measured.
#[derive(clap::Args)]
pub struct AgentsArgs {
    /// How many agents.
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// Seconds of quiet that are measured.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Then, beacons a second for as long again, whatever the period says; 0 for none.
    #[arg(long, default_value_t = 0)]
    beacons_per_second: u64,
}

/// Runs the measurement and prints it.
pub async fn run(args: AgentsArgs) -> Result<()> {
    let dir = tempfile::tempdir()?;
    // Each mirror is probed from outside at the default pace, as in production.
    let broker = Broker::start(dir.path(), &["health.beacon_budget_percent=100".into()]).await?;
    let keys: Vec<KeyPair> =
        (0..args.count).map(|_| KeyPair::generate(Role::Node)).collect::<Result<_, _>>()?;
    broker.apply(&registry(&keys)?).await?;
    let service = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = service.local_addr()?;
    tokio::spawn(async move { while service.accept().await.is_ok() {} });
    tokio::time::sleep(Duration::from_secs(2)).await;
    let pid = broker.pid()?;
    let empty = proc::resident(pid)?;

    let (mut agents, senders) = attach_all(&broker, &keys, address).await?;
    let up = wait_until_up(&broker, args.count).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (full, before) = (proc::resident(pid)?, proc::cpu(pid)?);
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let used = proc::cpu(pid)? - before;
    if let Some(ended) = agents.try_join_next() {
        ended??;
        bail!("an agent ended during the measurement");
    }

    let (count, seconds) = (args.count as f64, args.seconds as f64);
    let beacons = count * seconds * 5.0;
    println!("{count} agents attached, {up} mirrors up");
    println!(
        "memory: {:.1} MiB without agents, {:.1} MiB with them: {:.1} KiB an agent",
        mib(empty),
        mib(full),
        full.saturating_sub(empty) as f64 / count / 1024.0
    );
    println!(
        "CPU: {:.1} % of a core, {:.0} µs an agent and second",
        used.as_secs_f64() / seconds * 100.0,
        used.as_secs_f64() * 1e6 / count / seconds
    );
    println!(
        "that is {:.1} µs a beacon with everything else (sessions, reports, probes) counted in",
        used.as_secs_f64() * 1e6 / beacons
    );
    if args.beacons_per_second > 0 {
        flood(&args, pid, senders, used).await?;
    }
    Ok(())
}

/// The CPU of a beacon alone: what the flood adds to what the broker used before.
async fn flood(args: &AgentsArgs, pid: u32, senders: Vec<Sender>, quiet: Duration) -> Result<()> {
    let (rate, time) = (args.beacons_per_second, Duration::from_secs(args.seconds));
    let before = proc::cpu(pid)?;
    let sent = tokio::task::spawn_blocking(move || flood::run(&senders, rate, time)).await??;
    let used = (proc::cpu(pid)? - before).saturating_sub(quiet);
    println!(
        "{:.0} beacons a second more: {:.2} µs of CPU each",
        sent as f64 / time.as_secs_f64(),
        used.as_secs_f64() * 1e6 / sent as f64
    );
    Ok(())
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

fn registry(keys: &[KeyPair]) -> Result<String> {
    let mut text = format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n");
    for (i, key) in keys.iter().enumerate() {
        writeln!(text, "[[node]]\nname = \"n{i}\"\nid = \"{}\"\ndomains = [{DOMAIN:?}]", key.id())?;
    }
    Ok(text)
}

async fn attach_all(
    broker: &Broker,
    keys: &[KeyPair],
    service: SocketAddr,
) -> Result<(JoinSet<Result<()>>, Vec<Sender>)> {
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse()?)?;
    let target = *broker.at.agents.first().context("no agents' address")?;
    let id = broker.id()?;
    let beacons = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
    let mut tasks = JoinSet::new();
    let mut senders = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        let attached =
            attach(&endpoint, target, id, key, i, service).await.with_context(|| format!("agent {i}"))?;
        senders.push(attached.beacons.clone());
        tasks.spawn(live(attached, beacons.clone(), i));
    }
    Ok((tasks, senders))
}

/// A session that is on.
struct Attached {
    _connection: quinn::Connection,
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    grant: BeaconGrant,
    beacons: Sender,
    mirror: String,
}

async fn attach(
    endpoint: &quinn::Endpoint,
    target: SocketAddr,
    broker: Id,
    key: &KeyPair,
    index: usize,
    service: SocketAddr,
) -> Result<Attached> {
    let config = quinn::ClientConfig::new(Arc::new(tls::client_config(key, broker, ALPN_AGENT)?));
    let connection = endpoint.connect_with(config, target, SERVER_NAME)?.await?;
    let (mut send, mut receive) = connection.open_bi().await?;
    let mirror = format!("m{index}");
    let decl = ServiceDecl {
        domain: DOMAIN.into(),
        mirror: mirror.clone(),
        addresses: vec![service.ip()],
        hostname: None,
        port: service.port(),
        weight: 100,
        probe: ProbeBody::default(),
        url: None,
        ingress: None,
    };
    let hello = Hello { version: "bench".into(), boot: 1, services: vec![decl], place: None };
    frame::write(&mut send, &ToBroker::Hello(hello)).await?;
    match frame::read(&mut receive).await? {
        ToAgent::Welcome { beacon, warnings, .. } if warnings.is_empty() => {
            let (ip, port) = (connection.remote_address().ip(), beacon.port);
            let beacons = Sender {
                key: beacon.secret.prepare(),
                secret: beacon.secret.clone(),
                seq: Arc::default(),
                target: SocketAddr::new(ip, port),
            };
            Ok(Attached { send, receive, grant: beacon, beacons, mirror, _connection: connection })
        }
        other => bail!("expected a welcome, got {other:?}"),
    }
}

/// Beacons and reports for as long as the measurement lasts.
async fn live(mut agent: Attached, socket: Arc<UdpSocket>, index: usize) -> Result<()> {
    let period = Duration::from_millis(agent.grant.period_ms.into());
    // Spread over the period, as agents that started at different times are.
    tokio::time::sleep(period.mul_f64((index % 100) as f64 / 100.0)).await;
    let mut beacons = tokio::time::interval(period);
    let mut reports = tokio::time::interval(Duration::from_secs(5));
    let mut number = 0;
    loop {
        tokio::select! {
            _ = beacons.tick() => {
                socket.send_to(&agent.beacons.next(), agent.beacons.target).await?;
            }
            _ = reports.tick() => {
                number += 1;
                frame::write(&mut agent.send, &ToBroker::Report(report(&agent.mirror, number))).await?;
                // Orders to measure come in between; they are hints, and not carried out here.
                while !matches!(frame::read(&mut agent.receive).await?, ToAgent::Ack { .. }) {}
            }
        }
    }
}

fn report(mirror: &str, seq: u64) -> Report {
    let service = ServiceReport {
        domain: DOMAIN.into(),
        mirror: mirror.into(),
        healthy: true,
        ready: true,
        stopped: false,
        problem: None,
        connections: 10,
        capacity: 100,
    };
    Report { seq, draining: false, cpu: 0.1, memory: 0.2, services: vec![service] }
}

async fn wait_until_up(broker: &Broker, count: usize) -> Result<usize> {
    let client = broker.client()?;
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    for _ in 0..120 {
        tick.tick().await;
        let fleet = client.fleet().await?;
        let up = fleet.mirrors.iter().filter(|m| m.verdicts.iter().any(|v| v.state == "up")).count();
        if up == count {
            return Ok(up);
        }
    }
    bail!("not all mirrors came up")
}

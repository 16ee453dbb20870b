//! What a client that follows a domain's list costs a broker: memory each, CPU a push, and how soon it comes.
//!
//! Clients speak the real protocol from this one process, each over a QUIC connection of its own, from many
//! networks of loopback (127.a.b.1), so that each network has a list of its own. Then a mirror goes down and up
//! again by hand, and every client is pushed the change.

use crate::broker::Broker;
use crate::proc;
use anyhow::{Context, Result, bail};
use nearmost_client::clock::mono_now;
use nearmost_wire::client::{ToBroker, ToClient};
use nearmost_wire::frame;
use nearmost_wire::identity::{KeyPair, Role};
use nearmost_wire::list::Word;
use nearmost_wire::tls::{self, ALPN_CLIENT, SERVER_NAME};
use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const DOMAIN: &str = "play.example.com";
/// Mirrors in each list.
const MIRRORS: usize = 6;
/// Longest that all clients wait for a push.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is measured.
#[derive(clap::Args)]
pub struct SubscribersArgs {
    /// How many clients.
    #[arg(long, default_value_t = 2000)]
    count: usize,
    /// From how many networks.
    #[arg(long, default_value_t = 500)]
    networks: usize,
    /// How many changes are pushed to everybody.
    #[arg(long, default_value_t = 20)]
    pushes: usize,
}

/// Runs the measurement and prints it.
pub async fn run(args: SubscribersArgs) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let limits = ["clients.max_connections=200000".into(), "clients.max_per_network=200000".into()];
    let broker = Broker::start(dir.path(), &limits).await?;
    let keys: Vec<KeyPair> = (0..MIRRORS).map(|_| KeyPair::generate(Role::Node)).collect::<Result<_, _>>()?;
    broker.apply(&registry(&keys, true)?).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let pid = broker.pid()?;
    let empty = proc::resident(pid)?;

    let (to, mut heard) = mpsc::channel(args.count.max(1));
    let before = proc::cpu(pid)?;
    let mut clients = subscribe_all(&broker, &args, &to).await?;
    let joined = proc::cpu(pid)? - before;
    for _ in 0..args.count {
        heard.recv().await.context("the clients ended")?;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (full, before) = (proc::resident(pid)?, proc::cpu(pid)?);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let quiet = (proc::cpu(pid)? - before) / 10;

    let (mut firsts, mut lasts, begun) = (Vec::new(), Vec::new(), mono_now());
    let before = proc::cpu(pid)?;
    for push in 0..args.pushes {
        let ordered = mono_now();
        broker.apply(&registry(&keys, push % 2 == 1)?).await?;
        let mut at: Vec<Duration> = Vec::with_capacity(args.count);
        while at.len() < args.count {
            let next = tokio::time::timeout(PATIENCE, heard.recv()).await.context("a push did not come")?;
            at.push(next.context("the clients ended")?.saturating_duration_since(ordered));
        }
        at.sort_unstable();
        firsts.push(at[0]);
        lasts.push(at[args.count - 1]);
    }
    let used = (proc::cpu(pid)? - before).saturating_sub(quiet.mul_f64(begun.elapsed().as_secs_f64()));
    if let Some(ended) = clients.try_join_next() {
        ended??;
        bail!("a client ended during the measurement");
    }
    show(&args, [empty, full], joined, quiet, used);
    let middle = |mut all: Vec<Duration>| {
        all.sort_unstable();
        all[all.len() / 2].as_secs_f64() * 1e3
    };
    println!(
        "from the order to the first client {:.1} ms, to the last {:.1} ms (medians of {} pushes, applying included)",
        middle(firsts),
        middle(lasts),
        args.pushes
    );
    Ok(())
}

fn show(args: &SubscribersArgs, [empty, full]: [u64; 2], joined: Duration, quiet: Duration, used: Duration) {
    let (count, pushes) = (args.count as f64, args.pushes as f64);
    println!("{count} clients in {} networks follow a list of {MIRRORS} mirrors", args.networks);
    println!(
        "memory: {:.1} KiB a client; joining: {:.0} µs of CPU each, handshake included",
        full.saturating_sub(empty) as f64 / count / 1024.0,
        joined.as_secs_f64() * 1e6 / count
    );
    println!(
        "quiet: {:.1} % of a core, {:.1} µs a client and second",
        quiet.as_secs_f64() * 100.0,
        quiet.as_secs_f64() * 1e6 / count
    );
    println!("a push: {:.1} µs of CPU a client", used.as_secs_f64() * 1e6 / count / pushes);
}

fn registry(keys: &[KeyPair], first_up: bool) -> Result<String> {
    let mut text = format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n");
    for (i, key) in keys.iter().enumerate() {
        let state = if i > 0 || first_up { "up" } else { "down" };
        writeln!(
            text,
            "[[node]]\nname = \"n{i}\"\nid = \"{}\"\ndomains = [{DOMAIN:?}]\n\
             [[mirror]]\ndomain = {DOMAIN:?}\nname = \"m{i}\"\nnode = \"n{i}\"\naddresses = [\"192.0.2.{i}\"]\n\
             ingress = 7850\nhealth = \"manual\"\nstate = \"{state}\"\nprobe = {{ kind = \"none\" }}",
            key.id()
        )?;
    }
    Ok(text)
}

async fn subscribe_all(
    broker: &Broker,
    args: &SubscribersArgs,
    to: &mpsc::Sender<Instant>,
) -> Result<JoinSet<Result<()>>> {
    let target = *broker.at.clients.first().context("no clients' address")?;
    let id = broker.id()?;
    let key = KeyPair::generate(Role::Person)?;
    let mut transport = quinn::TransportConfig::default();
    transport.keep_alive_interval(Some(Duration::from_secs(10)));
    let mut config = quinn::ClientConfig::new(Arc::new(tls::client_config(&key, id, ALPN_CLIENT)?));
    config.transport_config(Arc::new(transport));
    let networks: Vec<quinn::Endpoint> =
        (0..args.networks).map(endpoint).collect::<Result<_>>().context("sockets")?;
    let mut clients = JoinSet::new();
    for n in 0..args.count {
        let endpoint = networks[n % networks.len()].clone();
        let connection = endpoint
            .connect_with(config.clone(), target, SERVER_NAME)?
            .await
            .with_context(|| format!("client {n}"))?;
        clients.spawn(follow(endpoint, connection, id.key, to.clone()));
    }
    Ok(clients)
}

/// An endpoint in a network of its own.
fn endpoint(network: usize) -> Result<quinn::Endpoint> {
    let [_, _, a, b] = u32::try_from(network)?.to_be_bytes();
    anyhow::ensure!(network < 128 << 8, "at most {} networks", 128 << 8);
    let address: SocketAddr = (Ipv4Addr::new(127, 100 + a, b, 1), 0).into();
    Ok(quinn::Endpoint::client(address)?)
}

/// Tells when each word came, until the connection ends.
async fn follow(
    _endpoint: quinn::Endpoint,
    connection: quinn::Connection,
    broker: [u8; 32],
    to: mpsc::Sender<Instant>,
) -> Result<()> {
    let (mut send, mut receive) = connection.open_bi().await?;
    let subscribe = ToBroker::Subscribe { domain: DOMAIN.into(), have: None };
    frame::write(&mut send, &subscribe).await?;
    let mut first = true;
    loop {
        let ToClient::List(signed) = frame::read(&mut receive).await? else { bail!("no list") };
        let came = mono_now();
        if std::mem::take(&mut first) {
            let Word::List(list) = signed.open(&broker)? else { bail!("no whole list") };
            anyhow::ensure!(list.mirrors.len() == MIRRORS, "{} mirrors", list.mirrors.len());
        }
        to.send(came).await?;
    }
}

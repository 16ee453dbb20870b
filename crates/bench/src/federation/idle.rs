//! What quiet peers cost a broker.

use super::member::{Member, up};
use crate::broker::Broker;
use crate::figure::{Figure, Taken, mib};
use crate::proc;
use anyhow::{Context, Result, bail};
use std::time::Duration;

/// The target, in percent of a core for fifty peers.
const PERCENT: f64 = 1.0;
const FOR_PEERS: f64 = 50.0;
/// What brokers do after a start ends within this.
const CALM: Duration = Duration::from_secs(10);

/// Takes the figures.
pub async fn run(peers: usize, quiet: Duration) -> Result<Taken> {
    let mut taken = Taken::new("idle");
    let root = tempfile::tempdir()?;
    let members = Member::several(root.path(), peers.max(1) + 1).await?;
    let (hub, spokes) = members.split_first().context("no broker")?;
    let alone = hub.start([]).await?;
    let spoke = spokes[0].start([hub]).await?;
    tokio::time::sleep(CALM).await;
    let each = proc::resident(spoke.pid()?)?;
    drop(spoke);
    let without = used(&alone, quiet).await?;
    let mut alone = alone;
    alone.stop().await?;

    // Half of what is free, so that others on the machine are left in peace.
    let fit = usize::try_from(available()? / 2 / each.max(1))?;
    let count = spokes.len().min(fit.max(1));
    let spokes = &spokes[..count];
    let watched = hub.start(spokes).await?;
    let mut running = Vec::with_capacity(count);
    for spoke in spokes {
        running.push(spoke.start([hub]).await?);
    }
    let client = watched.client()?;
    let mut connected = 0;
    for _ in 0..240 {
        connected = up(&client.peers().await?);
        if connected == count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    if connected < count {
        bail!("only {connected} of {count} peers came up");
    }
    tokio::time::sleep(CALM).await;
    let with = used(&watched, quiet).await?;
    let scale = FOR_PEERS / count as f64;
    let added = (with - without).max(0.0) * scale;
    taken.figures.push(Figure::told("CPU of a broker alone", without, "% of a core"));
    taken.figures.push(Figure::told(format!("CPU with {count} quiet peers"), with, "% of a core"));
    taken.figures.push(Figure::of("what 50 peers add", added, "% of a core", PERCENT));
    taken.figures.push(Figure::told("a peer in memory, without geo tables", mib(each), "MiB"));
    if count < spokes.len().max(peers) {
        taken.notes.push(format!("only {count} peers fit into half of the free memory; scaled from there"));
    }
    taken
        .notes
        .push(format!("over {} s; peers know only the broker that is measured at first", quiet.as_secs()));
    Ok(taken)
}

/// CPU of a broker, in percent of a core.
async fn used(broker: &Broker, quiet: Duration) -> Result<f64> {
    let before = proc::cpu(broker.pid()?)?;
    tokio::time::sleep(quiet).await;
    Ok((proc::cpu(broker.pid()?)? - before).as_secs_f64() / quiet.as_secs_f64() * 100.0)
}

/// Memory that could be used, in bytes.
fn available() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:")).context("MemAvailable")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

//! How soon a broker that was away holds what was written meanwhile.
//!
//! Each broker reaches the other only through a relay of this process that delays every datagram. Two ways:
//! out of the queue that the other kept for it, and by comparing everything where its own store is empty.

use super::member::{LOOK, Member, digests, settled};
use super::relay::Relay;
use super::writer::{Writer, registry};
use crate::broker::Broker;
use crate::figure::{Figure, Taken, mib};
use crate::proc;
use anyhow::{Context, Result};
use nearmost_client::Client;
use nearmost_client::clock::{mono_now, now_unix_ms};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The target, for each 100 000 records.
const SECONDS: f64 = 10.0;
const MEBIBYTES: f64 = 200.0;
/// Records in one commit.
const AT_ONCE: usize = 4000;
/// A catch-up that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(180);
/// What brokers do after a start or a load ends within this.
const CALM: Duration = Duration::from_secs(4);

/// Takes the figures.
pub async fn run(records: usize, each_way: Duration) -> Result<Taken> {
    let root = tempfile::tempdir()?;
    let mut members = Member::several(root.path(), 2).await?;
    let mut relays = Vec::new();
    for member in &mut members {
        member.with_geo();
        let relay = Relay::start(member.listen, each_way)?;
        member.reached = relay.address;
        relays.push(relay);
    }
    let [a, b] = &members[..] else { anyhow::bail!("two members") };
    let (staying, mut leaving) = (a.start([b]).await?, b.start([a]).await?);
    staying.apply(&registry()).await?;
    settled(&[staying.client()?, leaving.client()?], 1, Duration::from_secs(60)).await?;
    tokio::time::sleep(CALM).await;
    let idle = [proc::resident(staying.pid()?)?, proc::resident(leaving.pid()?)?];
    leaving.stop().await?;

    let (client, mut writer) = (staying.client()?, Writer::new(staying.key())?);
    let begun = mono_now();
    for first in (0..records).step_by(AT_ONCE) {
        writer.write(&client, first..records.min(first + AT_ONCE)).await?;
    }
    let loading = begun.elapsed();
    tokio::time::sleep(CALM).await;
    let loaded = proc::resident(staying.pid()?)?;

    let mut taken = Taken::new("catch-up");
    taken.figures.push(Figure::told("writing them at the other broker", loading.as_secs_f64(), "s"));
    taken.figures.push(Figure::told("A idle, before the records", mib(idle[0]), "MiB"));
    taken.figures.push(Figure::told("A idle, with the records", mib(loaded), "MiB"));
    taken.figures.push(Figure::told("B idle, before the records", mib(idle[1]), "MiB"));
    let returned =
        catch_up(&mut taken, "from the queue", &staying, (b, a), [loaded, idle[1]], records).await?;
    // It is known to have everything before it loses everything.
    tokio::time::sleep(CALM).await;
    let mut leaving = returned;
    leaving.stop().await?;
    b.forget()?;
    let loaded = proc::resident(staying.pid()?)?;
    catch_up(&mut taken, "empty store", &staying, (b, a), [loaded, idle[1]], records).await?;
    let lost: u64 = relays.iter().map(|relay| relay.lost.load(Ordering::Relaxed)).sum();
    taken.notes.push(format!("the relays lost {lost} datagrams for want of room"));
    taken.notes.push("A's memory is above its idle with the records, B's above its idle before them".into());
    Ok(taken)
}

/// Starts the broker that was away, and takes the time until it holds the same.
async fn catch_up(
    taken: &mut Taken,
    how: &str,
    staying: &Broker,
    (away, other): (&Member, &Member),
    idle: [u64; 2],
    records: usize,
) -> Result<Broker> {
    let back = away.start([other]).await?;
    let pids = [staying.pid()?, back.pid()?];
    let clients = [staying.client()?, back.client()?];
    let connected =
        tokio::time::timeout(PATIENCE, connected(&clients[1])).await.context("no connection")??;
    pids.iter().try_for_each(|pid| proc::forget_peak(*pid))?;
    let before = [proc::cpu(pids[0])?, proc::cpu(pids[1])?];
    let caught = tokio::time::timeout(PATIENCE, equal(&clients)).await;
    let seconds = now_unix_ms().saturating_sub(connected) as f64 / 1000.0;
    let scale = records as f64 / 100_000.0;
    let what = |of: &str| format!("{how}: {of}");
    taken.figures.push(Figure::of(what("from connection to equal"), seconds, "s", SECONDS * scale));
    for (n, name) in ["A", "B"].into_iter().enumerate() {
        let peak = proc::peak(pids[n])?;
        let above = mib(peak.saturating_sub(idle[n]));
        taken.figures.push(Figure::of(what(&format!("{name}'s peak above idle")), above, "MiB", MEBIBYTES));
        let used = (proc::cpu(pids[n])? - before[n]).as_secs_f64();
        taken.figures.push(Figure::told(what(&format!("{name}'s CPU")), used, "s"));
        let kept = mib(proc::resident(pids[n])?.saturating_sub(idle[n]));
        taken.figures.push(Figure::told(what(&format!("{name}'s memory above idle then")), kept, "MiB"));
    }
    match caught {
        Ok(done) => done?,
        Err(_) => {
            let told = clients[1].peers().await?;
            taken.notes.push(format!(
                "{how}: given up after {seconds:.0} s with {} statements there",
                told.statements
            ));
        }
    }
    Ok(back)
}

/// Since when a broker is connected with a peer, Unix milliseconds.
async fn connected(client: &Client) -> Result<u64> {
    loop {
        let told = client.peers().await?;
        if let Some(since) = told.peers.iter().find_map(|peer| peer.up_since_unix_ms) {
            return Ok(since);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until both hold the same.
async fn equal([staying, back]: &[Client; 2]) -> Result<()> {
    loop {
        let (here, there) = (staying.peers().await?, back.peers().await?);
        if digests(&here) == digests(&there) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
}

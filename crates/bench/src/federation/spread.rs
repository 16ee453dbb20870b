//! How soon a change is seen at every other broker, and how long a write takes.

use super::DOMAIN;
use super::member::{Member, settled};
use super::writer::{Writer, registry};
use crate::broker::Broker;
use crate::figure::{Figure, Taken, ms, quantile};
use anyhow::{Context, Result, bail};
use nearmost_client::Client;
use nearmost_client::clock::mono_now;
use nearmost_client::federation::RecordNotice;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// The target for a change, beyond a round trip, which is nearly nothing here.
const SPREAD_MS: f64 = 50.0;
/// What peers may do to a write: ours, as nobody has said.
const WRITE_RATIO: f64 = 2.0;
/// Longest that a change may be under way.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two changes.
const PAUSE: Duration = Duration::from_millis(20);

/// A record that came to a broker.
struct Seen {
    user: String,
    at: Instant,
}

/// Takes the figures.
pub async fn run(peers: usize, changes: usize, writes: usize) -> Result<Taken> {
    let mut taken = Taken::new("change and write");
    let root = tempfile::tempdir()?;
    let alone = Broker::start(root.path(), &[]).await?;
    alone.apply(&registry()).await?;
    let mut writer = Writer::new(alone.key())?;
    let without = written(&mut writer, &alone.client()?, writes).await?;
    drop(alone);

    let members = Member::several(root.path(), peers + 1).await?;
    let mut brokers = Vec::new();
    for (n, member) in members.iter().enumerate() {
        let others = members.iter().enumerate().filter(|(m, _)| *m != n).map(|(_, other)| other);
        brokers.push(member.start(others).await?);
    }
    let clients: Vec<Client> = brokers.iter().map(Broker::client).collect::<Result<_>>()?;
    let (first, others) = clients.split_first().context("no broker")?;
    brokers[0].apply(&registry()).await?;
    settled(&clients, peers, Duration::from_secs(180)).await?;
    let mut writer = Writer::new(brokers[0].key())?;
    spread(&mut taken, &mut writer, first, others, changes).await?;
    let with = written(&mut writer, first, writes).await?;
    settled(&clients, peers, Duration::from_secs(60)).await?;

    for (how, all) in [("without peers", &without), ("with peers", &with)] {
        taken.figures.push(Figure::told(format!("write {how}: p50"), ms(quantile(all, 0.5)), "ms"));
        taken.figures.push(Figure::told(format!("write {how}: p99"), ms(quantile(all, 0.99)), "ms"));
    }
    for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
        let ratio = ms(quantile(&with, part)) / ms(quantile(&without, part));
        taken.figures.push(Figure::of(
            format!("write {name}: with peers by without"),
            ratio,
            "",
            WRITE_RATIO,
        ));
    }
    taken.notes.push(format!(
        "{} brokers share this machine's cores; those beside the first hold no geo tables",
        peers + 1
    ));
    Ok(taken)
}

/// How long each of several commits of one record took.
async fn written(writer: &mut Writer, client: &Client, writes: usize) -> Result<Vec<Duration>> {
    let mut took = Vec::with_capacity(writes);
    for user in 0..writes {
        let request = writer.sign(user..user + 1)?;
        let begun = mono_now();
        client.commit(&request).await.context("a commit")?;
        took.push(begun.elapsed());
    }
    Ok(took)
}

/// Changes at the first broker, one at a time, until each is seen at all others.
async fn spread(
    taken: &mut Taken,
    writer: &mut Writer,
    first: &Client,
    others: &[Client],
    changes: usize,
) -> Result<()> {
    let (to, mut heard) = mpsc::channel(others.len().max(1) * 16);
    let mut watching = JoinSet::new();
    for other in others {
        watching.spawn(watch(other.clone(), writer.kind(), to.clone()));
    }
    drop(to);
    // The first is not counted: streams may be on their way still, and tell of it when they are there.
    let (mut from_start, mut from_answer) = (Vec::new(), Vec::new());
    for change in 0..=changes {
        let user = 1_000_000 + change;
        let request = writer.sign(user..user + 1)?;
        let begun = mono_now();
        first.commit(&request).await.context("a change")?;
        let answered = mono_now();
        let id = format!("users/{user}");
        let mut missing = others.len();
        while missing > 0 {
            let next = tokio::time::timeout(PATIENCE, heard.recv()).await;
            let seen: Seen = next
                .with_context(|| format!("{id} did not come to {missing} brokers"))?
                .context("streams")?;
            if seen.user != id {
                continue;
            }
            missing -= 1;
            if change > 0 {
                from_start.push(seen.at.saturating_duration_since(begun));
                from_answer.push(seen.at.saturating_duration_since(answered));
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    if let Some(ended) = watching.try_join_next() {
        ended??;
        bail!("a stream ended");
    }
    let figure = |what: &str, all: &[Duration], part| {
        Figure::of(
            format!("change seen by {} peers, {what}", others.len()),
            ms(quantile(all, part)),
            "ms",
            SPREAD_MS,
        )
    };
    taken.figures.push(figure("from its answer: p50", &from_answer, 0.5));
    taken.figures.push(figure("from its answer: p99", &from_answer, 0.99));
    taken.figures.push(figure("from its start: p50", &from_start, 0.5));
    taken.figures.push(figure("from its start: p99", &from_start, 0.99));
    Ok(())
}

async fn watch(client: Client, kind: u16, to: mpsc::Sender<Seen>) -> Result<()> {
    let mut stream = client.watch_app_records(DOMAIN, Some(kind))?;
    loop {
        match stream.next().await? {
            RecordNotice::Record(record) => to.send(Seen { user: record.id, at: mono_now() }).await?,
            RecordNotice::Lost { why, .. } => bail!("a stream was lost: {why:?}"),
        }
    }
}

//! A sample of the queries, written down with what was answered.
//!
//! ```text
//! worker ─ sampled()? ─ offer() ─► bounded queue ─► json::Writer   ─► file or standard error
//!             │ no                 bounded queue ─► dnstap::Writer ─► Unix socket of a collector
//!             ▼                      │ full
//!           nothing done             ▼
//!                                 dropped, counted
//! ```
//!
//! Whoever answers queries never waits: deciding costs a few instructions, offering one copy of query and
//! reply, and a queue that is full drops. Formatting is the writers' work, each a task with a queue of its
//! own, so that a collector that hangs does not stop the file.
//!
//! | file | does |
//! |---|---|
//! | `json` | one object a line |
//! | `dnstap` | dnstap's messages |
//! | `frames` | Frame Streams, which carry them |
//! | `privacy` | leaves out what the operator does not want to have written of who asked |

mod dnstap;
mod frames;
mod json;
mod privacy;
#[cfg(test)]
mod tests;

use super::metrics::registered;
use nearmost_config::{ClientDetail, DnsLogConfig, JsonTarget};
use nearmost_core::registry::Registry;
use nearmost_core::time::UnixMillis;
use nearmost_dns::{Outcome, Transport};
use prometheus::{IntCounter, IntCounterVec, Opts};
use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Queries that wait to be written, for each writer.
const QUEUE: usize = 4096;
/// Queries that a writer takes at once.
const BATCH: usize = 256;

/// Why the log cannot be begun.
#[derive(Debug, thiserror::Error)]
#[error("query log {}: {source}", path.display())]
pub struct QueryLogError {
    /// The file.
    path: PathBuf,
    /// What the system said.
    source: io::Error,
}

/// Where queries are offered. Cheap to clone; without a log, nothing costs anything.
#[derive(Clone, Debug, Default)]
pub struct QueryLog(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    /// A draw from 2³² below this is written.
    threshold: u64,
    sinks: Vec<Sink>,
}

#[derive(Debug)]
struct Sink {
    queue: Sender<Arc<Entry>>,
    dropped: IntCounter,
}

/// A query that was answered, as its worker holds it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The message as received.
    pub query: &'a [u8],
    /// The reply; empty when there was none.
    pub reply: &'a [u8],
    /// Who sent it.
    pub source: IpAddr,
    /// How it came.
    pub transport: Transport,
    /// When it came.
    pub at: UnixMillis,
    /// How long the answer took.
    pub took: Duration,
    /// What came of it.
    pub outcome: &'a Outcome,
    /// What its domain and mirrors are indexes of.
    pub registry: &'a Arc<Registry>,
}

/// The same, kept.
#[derive(Debug)]
struct Entry {
    query: Box<[u8]>,
    reply: Box<[u8]>,
    source: IpAddr,
    transport: Transport,
    at: UnixMillis,
    took: Duration,
    outcome: Outcome,
    registry: Arc<Registry>,
}

impl Seen<'_> {
    fn kept(&self) -> Entry {
        Entry {
            query: self.query.into(),
            reply: self.reply.into(),
            source: self.source,
            transport: self.transport,
            at: self.at,
            took: self.took,
            outcome: self.outcome.clone(),
            registry: Arc::clone(self.registry),
        }
    }
}

impl QueryLog {
    /// Whether the query at hand is one of the sample. Independent of all others, so that no client can
    /// stay out of it.
    #[inline]
    pub fn sampled(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| u64::from(draw()) < inner.threshold)
    }

    /// Hands one over to be written. Never waits: what finds no room is dropped, and counted.
    pub fn offer(&self, seen: &Seen<'_>) {
        let Some(inner) = &self.0 else { return };
        let mut kept: Option<Arc<Entry>> = None;
        for sink in &inner.sinks {
            match sink.queue.try_reserve() {
                Ok(place) => place.send(Arc::clone(kept.get_or_insert_with(|| Arc::new(seen.kept())))),
                Err(_) => sink.dropped.inc(),
            }
        }
    }
}

thread_local! {
    /// State of [`draw`], each thread's own: a generator that threads shared would be one cache line that
    /// all of them write.
    static DRAWN: Cell<u64> = Cell::new(rand::random());
}

/// 32 random bits by SplitMix64 (Steele, Lea and Flood 2014): good enough for a sample, at a few
/// instructions.
fn draw() -> u32 {
    let state = DRAWN.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    DRAWN.set(state);
    let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z >> 32) as u32
}

/// What a writer counts.
#[derive(Clone, Debug)]
struct SinkMetrics {
    /// `nearmost_dns_log_written_total{sink}`.
    written: IntCounter,
    /// `nearmost_dns_log_dropped_total{sink}`: found no room, or could not be written.
    dropped: IntCounter,
    /// `nearmost_dns_log_errors_total{sink}`: writes and connections that failed.
    errors: IntCounter,
}

/// Makes the counters of a writer.
struct Families {
    written: IntCounterVec,
    dropped: IntCounterVec,
    errors: IntCounterVec,
}

impl Families {
    fn register(registry: &prometheus::Registry) -> Result<Families, prometheus::Error> {
        let family = |name: &str, help: &str| {
            registered(registry, IntCounterVec::new(Opts::new(name, help), &["sink"])?)
        };
        Ok(Families {
            written: family("nearmost_dns_log_written_total", "Queries written to the query log.")?,
            dropped: family(
                "nearmost_dns_log_dropped_total",
                "Queries of the sample that found no room in the query log, or could not be written.",
            )?,
            errors: family(
                "nearmost_dns_log_errors_total",
                "Failed writes and connections of the query log.",
            )?,
        })
    }

    fn of(&self, sink: &str) -> SinkMetrics {
        SinkMetrics {
            written: self.written.with_label_values(&[sink]),
            dropped: self.dropped.with_label_values(&[sink]),
            errors: self.errors.with_label_values(&[sink]),
        }
    }
}

/// What empties the queues.
pub struct Writers {
    json: Option<(json::Writer, Receiver<Arc<Entry>>)>,
    dnstap: Option<(dnstap::Writer, Receiver<Arc<Entry>>)>,
}

/// Opens the log; `None` when it is off. `identity` is what dnstap calls this server.
///
/// # Errors
/// [`QueryLogError`] when the file cannot be opened. A collector that is not there yet is waited for.
pub fn open(
    config: &DnsLogConfig,
    identity: &str,
    registry: &prometheus::Registry,
) -> Result<Option<(QueryLog, Writers)>, OpenError> {
    if config.sample <= 0.0 {
        return Ok(None);
    }
    let families = Families::register(registry)?;
    let mut sinks = Vec::new();
    let mut queue = |metrics: &SinkMetrics| {
        let (sender, receiver) = channel(QUEUE);
        sinks.push(Sink { queue: sender, dropped: metrics.dropped.clone() });
        receiver
    };
    let json = match &config.json {
        Some(target) => {
            let metrics = families.of("json");
            let receiver = queue(&metrics);
            Some((json::Writer::open(target, config.client, metrics)?, receiver))
        }
        None => None,
    };
    let dnstap = config.dnstap.as_ref().map(|socket| {
        let metrics = families.of("dnstap");
        let receiver = queue(&metrics);
        (dnstap::Writer::new(socket.clone(), identity, config.client, metrics), receiver)
    });
    let threshold = (config.sample * (1u64 << 32) as f64) as u64;
    let log = QueryLog(Some(Arc::new(Inner { threshold, sinks })));
    Ok(Some((log, Writers { json, dnstap })))
}

/// Why [`open`] failed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file.
    #[error(transparent)]
    File(#[from] QueryLogError),
    /// Two metrics of one name: a defect of the program.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl Writers {
    /// Writes until cancelled, and then what waits still.
    pub async fn run(self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        if let Some((writer, queue)) = self.json {
            tasks.spawn(writer.run(queue, stop.clone()));
        }
        if let Some((writer, queue)) = self.dnstap {
            tasks.spawn(writer.run(queue, stop.clone()));
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the query log died");
            }
        }
        // Answering goes on without a log.
        stop.cancelled().await;
    }
}

/// What waits in a queue, at least one and at most a batch; empty once told to stop and nothing waits.
async fn next(queue: &mut Receiver<Arc<Entry>>, batch: &mut Vec<Arc<Entry>>, stop: &CancellationToken) {
    batch.clear();
    if stop.run_until_cancelled(queue.recv_many(batch, BATCH)).await.is_none() {
        queue.close();
        queue.recv_many(batch, BATCH).await;
    }
}

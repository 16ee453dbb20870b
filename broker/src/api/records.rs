//! Records of applications, which the federation carries without knowing what they mean.
//!
//! `GET /v1/records/watch` streams them as server-sent events (HTML, section 9.2): first every record that
//! stands, then `current`, then each that changes; one without a body was removed.
//!
//! ```text
//! event: record
//! data: {"domain":"play.example","kind":4097,"id":"…","body":"…",…}
//!
//! event: current
//! data: {"version":7}
//! ```
//! A reader compares what stands at each version with what it was told, so one that reads slowly misses
//! states in between and never how it ends. One that connects again is told everything anew.

use super::Shared;
use super::error::Problem;
use super::params::Params;
use super::stream::{Reader, data, response};
use crate::admin::{AdminError, AdminHandle, AppFilter};
use crate::clock::mono_now;
use axum::Json;
use axum::extract::State;
use axum::response::Response;
use axum::response::sse::Event;
use http::Uri;
use nearmost_replica::Kind;
use nearmost_wire::api::{AppRecordView, AppRecordsResponse, ErrorBody};
use nearmost_wire::name;
use serde::Serialize;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_stream::Stream;

/// Events that wait for a reader; while they do, nothing is compared for it.
const QUEUE: usize = 64;
/// Least time between two comparisons for one reader: each looks at all that it follows.
const PACE: Duration = Duration::from_millis(100);

/// Lists records of applications.
#[utoipa::path(
    get,
    path = "/v1/records",
    tag = "federation",
    params(
        ("domain" = String, Query, description = "Of this domain"),
        ("kind" = Option<u16>, Query, description = "Only of this kind, by its whole number"),
        ("id" = Option<String>, Query, description = "Only with this id; one that was removed is then listed too, without its body"),
    ),
    responses(
        (status = 200, body = AppRecordsResponse),
        (status = 400, description = "Not a domain, or no kind of an application", body = ErrorBody),
    )
)]
pub(super) async fn records(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
) -> Result<Json<AppRecordsResponse>, Problem> {
    let query = Params::read(&uri, &["domain", "kind", "id"])?;
    let filter = AppFilter { id: query.text("id").map(Into::into), ..filter(&query)? };
    Ok(Json(shared.api.admin.app_records(filter).await?))
}

/// Streams records of applications: those that stand, then changes.
#[utoipa::path(
    get,
    path = "/v1/records/watch",
    tag = "federation",
    params(
        ("domain" = String, Query, description = "Of this domain"),
        ("kind" = Option<u16>, Query, description = "Only of this kind, by its whole number"),
    ),
    responses(
        (status = 200, description = "Events `record` and `current`", content_type = "text/event-stream", body = AppRecordView),
        (status = 400, description = "Not a domain, or no kind of an application", body = ErrorBody),
        (status = 503, description = "Too many readers", body = ErrorBody),
    )
)]
pub(super) async fn watch(State(shared): State<Arc<Shared>>, uri: Uri) -> Result<Response, Problem> {
    let filter = filter(&Params::read(&uri, &["domain", "kind"])?)?;
    let reader = Reader::admit(&shared)?;
    let admin = shared.api.admin.clone();
    let mut changes = admin.changes();
    changes.mark_unchanged();
    // The first answer before the head is sent, so that a refusal is one.
    let first = admin.app_records(filter.clone()).await?;
    let (events, queue) = mpsc::channel(QUEUE);
    let follower = Follower { admin, filter, told: BTreeMap::new(), events };
    tokio::spawn(shared.closing.clone().run_until_cancelled_owned(follower.run(first, changes)));
    Ok(response(Records { queue, _reader: reader }))
}

fn filter(query: &Params) -> Result<AppFilter, Problem> {
    let domain =
        name::domain(query.required("domain")?).map_err(|e| Problem::bad_request(format!("domain: {e}")))?;
    let kind = query.parsed("kind", "a whole number from 0 to 65535")?.map(Kind);
    match kind.filter(|kind| !kind.is_application()) {
        None => Ok(AppFilter { domain, kind, id: None }),
        Some(Kind(kind)) => {
            let message =
                format!("kind={kind}: applications' kinds have the bit 0x{:04x}", Kind::APPLICATION);
            Err(Problem::bad_request(message))
        }
    }
}

/// Which record, by kind and id.
type Key = (u16, String);

/// Which of its states: by hybrid clock and author.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    hlc: (u64, u16),
    author: String,
}

impl Version {
    fn of(record: &AppRecordView) -> Version {
        Version { hlc: (record.hlc_millis, record.hlc_counter), author: record.author.clone() }
    }
}

/// Tells one reader what changes, for as long as it reads.
struct Follower {
    admin: AdminHandle,
    filter: AppFilter,
    /// What stands, as far as the reader knows.
    told: BTreeMap<Key, Version>,
    events: mpsc::Sender<Event>,
}

/// Why a follower ends: the reader is gone, or the broker stops. Both close the stream.
struct Ended;

#[derive(Serialize)]
struct Current {
    version: u64,
}

impl Follower {
    async fn run(mut self, first: AppRecordsResponse, mut changes: watch::Receiver<u64>) {
        // Nobody is left to be told of the end.
        let _: Result<(), Ended> = async {
            let version = first.version;
            self.tell(first).await?;
            self.send(data(Event::default().event("current"), &Current { version })).await?;
            let mut paced = mono_now();
            loop {
                tokio::select! {
                    () = self.events.closed() => return Err(Ended),
                    changed = changes.changed() => changed.map_err(|_| Ended)?,
                }
                tokio::time::sleep_until(paced.into()).await;
                paced = mono_now() + PACE;
                changes.mark_unchanged();
                let now = self.ask(self.filter.clone()).await?;
                self.tell(now).await?;
            }
        }
        .await;
    }

    async fn ask(&self, filter: AppFilter) -> Result<AppRecordsResponse, Ended> {
        self.admin.app_records(filter).await.map_err(|error| {
            if !matches!(error, AdminError::Stopping) {
                tracing::warn!(%error, "records of applications cannot be read; a reader's stream ends");
            }
            Ended
        })
    }

    /// Tells how what stands differs from what the reader was told.
    async fn tell(&mut self, now: AppRecordsResponse) -> Result<(), Ended> {
        let live = now.records.into_iter().filter(|r| r.body.is_some());
        let mut before = std::mem::take(&mut self.told);
        for record in live {
            let (key, state) = ((record.kind, record.id.clone()), Version::of(&record));
            if before.remove(&key).as_ref() != Some(&state) {
                self.send(event(&record)).await?;
            }
            self.told.insert(key, state);
        }
        for (key, last) in before {
            let removed = self.removed(key, last).await?;
            self.send(event(&removed)).await?;
        }
        Ok(())
    }

    /// How a record that stood was removed. Where nothing tells, as when its author's rights ended, it is
    /// told with its last author and time.
    async fn removed(&mut self, key: Key, last: Version) -> Result<AppRecordView, Ended> {
        let (kind, id) = key;
        let filter = AppFilter { kind: Some(Kind(kind)), id: Some(id.clone()), ..self.filter.clone() };
        let found = self.ask(filter).await?.records.into_iter().next();
        if let Some(record) = found {
            // It may stand again meanwhile.
            if record.body.is_some() {
                self.told.insert((kind, id), Version::of(&record));
            }
            return Ok(record);
        }
        let (hlc_millis, hlc_counter) = last.hlc;
        let domain = self.filter.domain.clone();
        Ok(AppRecordView { domain, kind, id, body: None, author: last.author, hlc_millis, hlc_counter })
    }

    /// Waits for room in the reader's queue.
    async fn send(&self, event: Event) -> Result<(), Ended> {
        self.events.send(event).await.map_err(|_| Ended)
    }
}

fn event(record: &AppRecordView) -> Event {
    data(Event::default().event("record"), record)
}

/// The body: ends when the follower does.
struct Records {
    queue: mpsc::Receiver<Event>,
    _reader: Reader,
}

impl Stream for Records {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.queue.poll_recv(cx).map(|next| next.map(Ok))
    }
}

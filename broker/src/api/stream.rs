//! `GET /v1/events`: every transition as a server-sent event (HTML, section 9.2); and
//! `GET /v1/events/history`: those that are kept.
//!
//! ```text
//! id: 1700000000000001
//! event: transition
//! data: {"number":1700000000000001,…}
//! ```
//! A reader that reconnects with `Last-Event-ID` gets what it missed, as far as it is retained. When
//! something is lost, for a reader that resumes too late or reads too slowly, an event `lagged`
//! says so: `{"missed": 12}`, or `null` where the number is not known.

use super::Shared;
use super::error::Problem;
use super::params::Params;
use crate::events::Subscription;
use crate::store::{EventFilter, EventsPage};
use crate::telemetry::ApiMetrics;
use axum::Json;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use nearmost_wire::api::{ErrorBody, EventView, EventsHistoryResponse, RunGapView};
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio_stream::Stream;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_util::sync::WaitForCancellationFutureOwned;

/// A comment is sent after this long without an event, so that both ends see that the other is there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Streams every transition; with `follow=false` those that are retained, and then it ends.
#[utoipa::path(
    get,
    path = "/v1/events",
    tag = "operators",
    params(
        ("Last-Event-ID" = Option<u64>, Header, description = "Resume after the event of this number"),
        ("follow" = Option<bool>, Query, description = "`false` ends after what is retained; all of it without Last-Event-ID"),
    ),
    responses(
        (status = 200, description = "Events `transition` and `lagged`", content_type = "text/event-stream", body = EventView),
        (status = 503, description = "Too many readers", body = ErrorBody),
    )
)]
pub(super) async fn events(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let follow = Params::read(&uri, &["follow"])?.parsed::<bool>("follow", "true or false")?.unwrap_or(true);
    let since = last_event_id(&headers)?;
    let reader = Reader::admit(&shared)?;
    // Who asks for what is retained, and for no number, has missed nothing.
    let all = !follow && since.is_none();
    let subscription = shared.api.events.subscribe(if all { Some(0) } else { since });
    let subscription = Subscription { gap: subscription.gap && !all, ..subscription };
    Ok(response(EventStream {
        log: Feed::new(subscription),
        follow,
        closing: Box::pin(shared.closing.clone().cancelled_owned()),
        reader,
    }))
}

/// Transitions on a page unless asked for otherwise …
const USUAL: usize = 1000;
/// … and at most.
const MOST: usize = 10_000;

/// Lists the transitions that are kept, oldest first, and when the broker did not run.
#[utoipa::path(
    get,
    path = "/v1/events/history",
    tag = "operators",
    params(
        ("since_unix_ms" = Option<u64>, Query, description = "Not before"),
        ("until_unix_ms" = Option<u64>, Query, description = "Before"),
        ("domain" = Option<String>, Query, description = "Only of this domain"),
        ("mirror" = Option<String>, Query, description = "Only of mirrors of this name"),
        ("after" = Option<u64>, Query, description = "Only after the transition of this number: the next page"),
        ("limit" = Option<usize>, Query, description = "At most this many, up to 10000; 1000 unless given"),
    ),
    responses((status = 200, body = EventsHistoryResponse))
)]
pub(super) async fn history(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
) -> Result<Json<EventsHistoryResponse>, Problem> {
    const KNOWN: [&str; 6] = ["since_unix_ms", "until_unix_ms", "domain", "mirror", "after", "limit"];
    let query = Params::read(&uri, &KNOWN)?;
    let name = |key: &str| query.text(key).map(str::to_ascii_lowercase);
    let filter = EventFilter {
        since_unix_ms: query.parsed("since_unix_ms", "a whole number")?,
        until_unix_ms: query.parsed("until_unix_ms", "a whole number")?,
        domain: name("domain").map(|domain| domain.trim_end_matches('.').to_owned()),
        mirror: name("mirror"),
        after: query.parsed("after", "a whole number")?,
        limit: query.parsed("limit", "a whole number")?.unwrap_or(USUAL).clamp(1, MOST),
    };
    // Few at a time: each keeps a core busy for a moment. It is never closed.
    let _turn = shared.histories.acquire().await;
    let mut page = shared.api.admin.events(filter.clone()).await?;
    // What was just seen is on its way to the store.
    let newer = shared.api.events.after(page.seen);
    page.join(&filter, newer.iter().map(|event| EventView::clone(event)));
    let EventsPage { events, more, seen, before, gaps } = page;
    let gap = |(from_unix_ms, until_unix_ms)| RunGapView { from_unix_ms, until_unix_ms };
    Ok(Json(EventsHistoryResponse {
        events,
        more,
        next_after: Some(seen),
        before,
        gaps: gaps.into_iter().map(gap).collect(),
    }))
}

/// A stream of events as a body.
pub(super) fn response(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // Proxies that buffer would hold events back.
    response
        .headers_mut()
        .insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let text = value.to_str().unwrap_or("");
    match text.trim().parse() {
        Ok(number) => Ok(Some(number)),
        Err(_) => Err(Problem::bad_request(format!("Last-Event-ID: {text:?} is not the number of an event"))),
    }
}

/// Counts a reader for as long as it reads.
pub(super) struct Reader {
    metrics: ApiMetrics,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// Takes one of the readers' places.
    ///
    /// # Errors
    /// 503 when none is left.
    pub(super) fn admit(shared: &Shared) -> Result<Reader, Problem> {
        let permit = shared.streams.clone().try_acquire_owned().map_err(|_| {
            let most = shared.settings.load().settings.max_event_streams;
            let message = format!("{most} readers of events already; no more are served");
            Problem::unavailable("too_many_readers", message, 5)
        })?;
        let metrics = shared.api.metrics.clone();
        metrics.event_streams.inc();
        Ok(Reader { metrics, _permit: permit })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.metrics.event_streams.dec();
    }
}

/// What a reader gets next: word of a gap, then the backlog, then live events.
struct Feed {
    gap: bool,
    backlog: std::vec::IntoIter<Arc<EventView>>,
    live: BroadcastStream<Arc<EventView>>,
}

impl Feed {
    fn new(subscription: Subscription) -> Feed {
        Feed {
            gap: subscription.gap,
            backlog: subscription.backlog.into_iter(),
            live: BroadcastStream::new(subscription.live),
        }
    }
}

/// The body: ends when the broker stops.
struct EventStream {
    log: Feed,
    /// Whether it goes on after the backlog.
    follow: bool,
    closing: Pin<Box<WaitForCancellationFutureOwned>>,
    reader: Reader,
}

impl Stream for EventStream {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.closing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        if std::mem::take(&mut self.log.gap) {
            return Poll::Ready(Some(Ok(lagged(None))));
        }
        if let Some(event) = self.log.backlog.next() {
            return Poll::Ready(Some(Ok(transition(&event))));
        }
        if !self.follow {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.log.live).poll_next(cx).map(|next| {
            next.map(|event| {
                Ok(match event {
                    Ok(event) => transition(&event),
                    Err(BroadcastStreamRecvError::Lagged(missed)) => {
                        self.reader.metrics.events_lagged.inc_by(missed);
                        lagged(Some(missed))
                    }
                })
            })
        })
    }
}

fn transition(event: &EventView) -> Event {
    data(Event::default().id(event.number.to_string()).event("transition"), event)
}

#[derive(Serialize)]
struct Lagged {
    missed: Option<u64>,
}

fn lagged(missed: Option<u64>) -> Event {
    data(Event::default().event("lagged"), &Lagged { missed })
}

/// An event with this value as JSON.
pub(super) fn data(event: Event, value: &impl Serialize) -> Event {
    // Plain structures of strings and numbers always have a JSON form.
    event.data(serde_json::to_string(value).unwrap_or_default())
}

//! Transitions as they happen.
//!
//! ```text
//!            connected                   cut, silent
//! connecting ─────────► live ───────────────────────► waiting ──► connecting
//!     │  refused, or never connected: the error is returned         (Last-Event-ID)
//! ```
//! After a cut the stream waits (1 s, doubling to 30 s, less a random half) and asks for what came
//! after the last event it has seen; the caller is told of each cut.

use crate::error::ClientError;
use crate::http::{Ask, Streaming, Transport, random};
use crate::sse::{Event, Parser};
use http::HeaderName;
use nearmost_wire::api::EventView;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::time::Duration;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What [`EventStream::next`] has to say.
#[derive(Debug)]
pub enum Notice {
    /// A transition.
    Event(EventView),
    /// So many were lost, for reading too slowly or resuming too late; `None` when nobody knows how many.
    Missed(Option<u64>),
    /// The connection was lost and is made again after `retry_in`.
    Lost {
        /// What happened; `None` when the broker ended the stream.
        why: Option<ClientError>,
        /// How long is waited.
        retry_in: Duration,
    },
}

/// Data of the event `lagged`.
#[derive(Deserialize)]
struct Lagged {
    missed: Option<u64>,
}

/// An endless stream of transitions.
pub struct EventStream {
    transport: Transport,
    last_id: Option<u64>,
    live: Option<Streaming>,
    parser: Parser,
    ready: VecDeque<Event>,
    /// Waited before the next connection; `None` until the first succeeded.
    wait: Option<Duration>,
    pending_wait: Option<Duration>,
}

impl EventStream {
    pub(crate) fn new(transport: Transport, after: Option<u64>) -> EventStream {
        EventStream {
            transport,
            last_id: after,
            live: None,
            parser: Parser::default(),
            ready: VecDeque::new(),
            wait: None,
            pending_wait: None,
        }
    }

    /// Number of the last event seen.
    pub fn last_id(&self) -> Option<u64> {
        self.last_id
    }

    /// The next transition, or that the connection was lost. May be cancelled and called again.
    ///
    /// # Errors
    /// When the first connection fails, when the broker refuses, and when an event is not
    /// understood.
    pub async fn next(&mut self) -> Result<Notice, ClientError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                match self.understood(&event)? {
                    Some(notice) => return Ok(notice),
                    None => continue,
                }
            }
            if let Some(wait) = self.pending_wait {
                tokio::time::sleep(wait).await;
                self.pending_wait = None;
            }
            let Some(live) = &mut self.live else {
                if let Err(e) = self.connect().await {
                    return self.lost(Some(e));
                }
                continue;
            };
            match live.next().await {
                Ok(Some(piece)) => {
                    let refused = live.not_understood(crate::sse::TooLong.to_string());
                    self.parser.feed(&piece, &mut self.ready).map_err(|_| refused)?;
                    // The wait starts over once the broker has really said something.
                    self.wait = Some(FIRST_WAIT);
                }
                Ok(None) => return self.lost(None),
                Err(e) => return self.lost(Some(e)),
            }
        }
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        let mut ask = Ask::get("/v1/events", &[]);
        if let Some(id) = self.last_id {
            ask = ask.with_header(HeaderName::from_static("last-event-id"), id.into());
        }
        self.live = Some(self.transport.stream(ask).await?);
        self.parser = Parser::default();
        self.wait = self.wait.or(Some(FIRST_WAIT));
        Ok(())
    }

    fn lost(&mut self, why: Option<ClientError>) -> Result<Notice, ClientError> {
        self.live = None;
        let (wait, why) = match (self.wait, why) {
            (None, Some(e)) | (_, Some(e @ ClientError::Api { .. })) => return Err(e),
            (wait, why) => (wait.unwrap_or(FIRST_WAIT), why),
        };
        self.wait = Some((wait * 2).min(LONGEST_WAIT));
        let [share] = random::<1>()?;
        let retry_in = wait.mul_f64(1.0 - f64::from(share) / 512.0);
        self.pending_wait = Some(retry_in);
        Ok(Notice::Lost { why, retry_in })
    }

    /// `None` for events of names that only a newer client knows.
    fn understood(&mut self, event: &Event) -> Result<Option<Notice>, ClientError> {
        match event.name.as_deref() {
            None | Some("transition") => {
                let view: EventView = self.data(event)?;
                let id = event.id.as_deref().and_then(|id| id.parse().ok());
                self.last_id = id.or(Some(view.number));
                Ok(Some(Notice::Event(view)))
            }
            // It has no number: where to resume stays as it is.
            Some("lagged") => Ok(Some(Notice::Missed(self.data::<Lagged>(event)?.missed))),
            Some(_) => Ok(None),
        }
    }

    fn data<T: DeserializeOwned>(&self, event: &Event) -> Result<T, ClientError> {
        serde_json::from_str(&event.data).map_err(|e| ClientError::Answer {
            at: self.transport.at(),
            what: "GET /v1/events".into(),
            detail: format!("event {:?}: {e}", event.data),
        })
    }
}

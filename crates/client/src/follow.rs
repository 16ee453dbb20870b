//! A stream of events that is connected anew when it is cut.
//!
//! ```text
//!            connected                   cut, silent
//! connecting ─────────► live ───────────────────────► waiting ──► connecting
//!     │  refused, or never connected: the error is returned         (Last-Event-ID)
//! ```
//! After a cut the stream waits (1 s, doubling to 30 s, less a random half); the caller is told of each cut.

use crate::error::ClientError;
use crate::http::{Ask, Streaming, Transport, random};
use crate::sse::{Event, Parser};
use http::HeaderName;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::time::Duration;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What came of a stream.
pub(crate) enum Followed {
    /// An event, not looked into.
    Event(Event),
    /// The connection was lost and is made again after `retry_in`.
    Lost {
        /// What happened; `None` when the broker ended the stream.
        why: Option<ClientError>,
        /// How long is waited.
        retry_in: Duration,
    },
}

/// An endless stream of one path's events.
pub(crate) struct Follow {
    transport: Transport,
    path: &'static str,
    query: Vec<(&'static str, String)>,
    /// Where to resume, where the stream's events have numbers.
    pub(crate) last_id: Option<u64>,
    live: Option<Streaming>,
    parser: Parser,
    ready: VecDeque<Event>,
    /// Waited before the next connection; `None` until the first succeeded.
    wait: Option<Duration>,
    pending_wait: Option<Duration>,
}

impl Follow {
    pub(crate) fn new(
        transport: Transport,
        path: &'static str,
        query: Vec<(&'static str, String)>,
    ) -> Follow {
        Follow {
            transport,
            path,
            query,
            last_id: None,
            live: None,
            parser: Parser::default(),
            ready: VecDeque::new(),
            wait: None,
            pending_wait: None,
        }
    }

    /// The next event, or that the connection was lost. May be cancelled and called again.
    ///
    /// # Errors
    /// When the first connection fails, and when the broker refuses.
    pub(crate) async fn next(&mut self) -> Result<Followed, ClientError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Followed::Event(event));
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
        let query: Vec<(&str, &str)> = self.query.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let mut ask = Ask::get(self.path, &query);
        if let Some(id) = self.last_id {
            ask = ask.with_header(HeaderName::from_static("last-event-id"), id.into());
        }
        self.live = Some(self.transport.stream(ask).await?);
        self.parser = Parser::default();
        self.wait = self.wait.or(Some(FIRST_WAIT));
        Ok(())
    }

    fn lost(&mut self, why: Option<ClientError>) -> Result<Followed, ClientError> {
        self.live = None;
        let (wait, why) = match (self.wait, why) {
            (None, Some(e)) | (_, Some(e @ ClientError::Api { .. })) => return Err(e),
            (wait, why) => (wait.unwrap_or(FIRST_WAIT), why),
        };
        self.wait = Some((wait * 2).min(LONGEST_WAIT));
        let [share] = random::<1>()?;
        let retry_in = wait.mul_f64(1.0 - f64::from(share) / 512.0);
        self.pending_wait = Some(retry_in);
        Ok(Followed::Lost { why, retry_in })
    }

    /// An event's data, read.
    ///
    /// # Errors
    /// [`ClientError::Answer`].
    pub(crate) fn data<T: DeserializeOwned>(&self, event: &Event) -> Result<T, ClientError> {
        serde_json::from_str(&event.data).map_err(|e| ClientError::Answer {
            at: self.transport.at(),
            what: format!("GET {}", self.path),
            detail: format!("event {:?}: {e}", event.data),
        })
    }
}

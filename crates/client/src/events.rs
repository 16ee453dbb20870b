//! Transitions as they happen.
//!
//! After a cut the stream asks for what came after the last event it has seen; the caller is told of each
//! cut.

use crate::error::ClientError;
use crate::follow::{Follow, Followed};
use crate::http::{Ask, Transport};
use crate::sse::{Event, Parser};
use http::HeaderName;
use nearmost_wire::api::EventView;
use serde::Deserialize;
use std::collections::VecDeque;
use std::time::Duration;

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

/// What a broker retains.
#[derive(Debug, Default)]
pub struct Retained {
    /// Oldest first.
    pub events: Vec<EventView>,
    /// Whether some of what was asked for is retained no longer.
    pub incomplete: bool,
}

/// Transitions that the broker retains: all, or those after the event numbered `after`.
///
/// # Errors
/// [`ClientError`].
pub(crate) async fn retained(transport: &Transport, after: Option<u64>) -> Result<Retained, ClientError> {
    let mut ask = Ask::get("/v1/events", &[("follow", "false")]);
    if let Some(id) = after {
        ask = ask.with_header(HeaderName::from_static("last-event-id"), id.into());
    }
    let mut body = transport.stream(ask).await?;
    let (mut parser, mut ready) = (Parser::default(), VecDeque::new());
    while let Some(piece) = body.next().await? {
        parser.feed(&piece, &mut ready).map_err(|e| body.not_understood(e.to_string()))?;
    }
    let mut retained = Retained::default();
    for event in ready {
        match event.name.as_deref() {
            None | Some("transition") => {
                let view = serde_json::from_str(&event.data);
                retained.events.push(view.map_err(|e| body.not_understood(e.to_string()))?);
            }
            Some("lagged") => retained.incomplete = true,
            Some(_) => {}
        }
    }
    Ok(retained)
}

/// Data of the event `lagged`.
#[derive(Deserialize)]
struct Lagged {
    missed: Option<u64>,
}

/// An endless stream of transitions.
pub struct EventStream {
    follow: Follow,
}

impl EventStream {
    pub(crate) fn new(transport: Transport, after: Option<u64>) -> EventStream {
        let mut follow = Follow::new(transport, "/v1/events", Vec::new());
        follow.last_id = after;
        EventStream { follow }
    }

    /// Number of the last event seen.
    pub fn last_id(&self) -> Option<u64> {
        self.follow.last_id
    }

    /// The next transition, or that the connection was lost. May be cancelled and called again.
    ///
    /// # Errors
    /// When the first connection fails, when the broker refuses, and when an event is not
    /// understood.
    pub async fn next(&mut self) -> Result<Notice, ClientError> {
        loop {
            match self.follow.next().await? {
                Followed::Lost { why, retry_in } => return Ok(Notice::Lost { why, retry_in }),
                Followed::Event(event) => match self.understood(&event)? {
                    Some(notice) => return Ok(notice),
                    None => continue,
                },
            }
        }
    }

    /// `None` for events of names that only a newer client knows.
    fn understood(&mut self, event: &Event) -> Result<Option<Notice>, ClientError> {
        match event.name.as_deref() {
            None | Some("transition") => {
                let view: EventView = self.follow.data(event)?;
                let id = event.id.as_deref().and_then(|id| id.parse().ok());
                self.follow.last_id = id.or(Some(view.number));
                Ok(Some(Notice::Event(view)))
            }
            // It has no number: where to resume stays as it is.
            Some("lagged") => Ok(Some(Notice::Missed(self.follow.data::<Lagged>(event)?.missed))),
            Some(_) => Ok(None),
        }
    }
}

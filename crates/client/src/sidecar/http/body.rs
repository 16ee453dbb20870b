//! Bodies: what a program sends, and what it gets.

use super::super::count::Count;
use super::Gateway;
use super::local::Local;
use super::program::UnderWay;
use super::upstream::Upstream;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A body of at most so many bytes is kept until the answer comes.
const KEPT: u64 = 64 * 1024;
/// So many bytes of all bodies.
const KEPT_IN_ALL: usize = 64 * 1024 * 1024;

/// Room for bodies that are kept.
#[derive(Clone)]
pub(super) struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Room {
        Room(Arc::new(Semaphore::new(KEPT_IN_ALL)))
    }
}

impl Room {
    /// Takes room for a body, if it is short and there is room.
    fn take(&self, body: &Incoming) -> Option<OwnedSemaphorePermit> {
        let len = body.size_hint().exact().filter(|len| *len <= KEPT)?;
        self.0.clone().try_acquire_many_owned(u32::try_from(len).ok()?).ok()
    }
}

/// A body on its way to the service.
pub(super) type Outgoing = Either<Full<Bytes>, Upload>;

/// A program's body as it comes.
#[derive(Debug)]
pub(super) struct Upload {
    incoming: Incoming,
    /// It came over h2.
    of_h2: bool,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BrokeOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokeOff>>> {
        match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            // A stream that is reset without an error looks like one that ended (RFC 9113 §8.1).
            None if self.of_h2 && !self.incoming.is_end_stream() => Poll::Ready(Some(Err(BrokeOff(None)))),
            frame => Poll::Ready(frame.map(|frame| frame.map_err(|error| BrokeOff(Some(error))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The program broke its body off.
#[derive(Debug, thiserror::Error)]
#[error("the program broke the body off")]
pub(super) struct BrokeOff(#[source] Option<hyper::Error>);

/// A program's body.
pub(super) enum Given {
    /// All of it is here, in its room.
    Whole { bytes: Bytes, _room: OwnedSemaphorePermit },
    /// It is handed on as it comes, once.
    Flowing(Upload),
    /// It was.
    Gone,
}

impl Given {
    /// Reads a body that is short while there is room; others stay where they are.
    ///
    /// # Errors
    /// The program broke it off.
    pub async fn read(incoming: Incoming, of_h2: bool, room: &Room) -> Result<Given, BrokeOff> {
        let Some(_room) = room.take(&incoming) else {
            return Ok(Given::Flowing(Upload { incoming, of_h2 }));
        };
        let len = incoming.size_hint().exact();
        let bytes = Upload { incoming, of_h2 }.collect().await?.to_bytes();
        match len == u64::try_from(bytes.len()).ok() {
            true => Ok(Given::Whole { bytes, _room }),
            false => Err(BrokeOff(None)),
        }
    }

    /// Whether nobody knows how long it will be.
    pub fn is_open_ended(&self) -> bool {
        matches!(self, Given::Flowing(upload) if upload.size_hint().exact().is_none())
    }

    /// Whether it can be sent once more.
    pub fn is_here(&self) -> bool {
        !matches!(self, Given::Gone)
    }

    /// The body for a try; `None` when it is gone.
    pub fn take(&mut self) -> Option<Outgoing> {
        match self {
            Given::Whole { bytes, .. } => Some(Either::Left(Full::new(bytes.clone()))),
            Given::Flowing(_) => match std::mem::replace(self, Given::Gone) {
                Given::Flowing(upload) => Some(Either::Right(upload)),
                _ => None,
            },
            Given::Gone => None,
        }
    }

    /// What was taken for a try and not begun is here again.
    pub fn give_back(&mut self, body: Option<Outgoing>) {
        if let (Given::Gone, Some(Either::Right(upload))) = (&*self, body) {
            *self = Given::Flowing(upload);
        }
    }
}

/// The body of an answer.
pub(super) enum Answer {
    /// Of this sidecar.
    Ours(Full<Bytes>),
    /// Of the service.
    Theirs(Theirs),
}

/// The service's body on its way to a program.
pub(super) struct Theirs {
    incoming: Incoming,
    upstream: Option<Upstream>,
    /// The connection that must not end as if nothing were missing; h2 says so by itself.
    local: Option<Local>,
    gateway: Arc<Gateway>,
    _under_way: Option<UnderWay>,
}

impl Theirs {
    pub fn new(
        incoming: Incoming,
        upstream: Upstream,
        local: Option<Local>,
        gateway: Arc<Gateway>,
        _under_way: Option<UnderWay>,
    ) -> Theirs {
        local.iter().for_each(Local::holds);
        Theirs { incoming, upstream: Some(upstream), local, gateway, _under_way }
    }

    /// All of it came.
    fn whole(&mut self) {
        if let Some(upstream) = self.upstream.take() {
            self.gateway.counters.add(Count::Answered);
            self.gateway.pool.give_back(upstream, &self.gateway.session);
        }
    }

    fn cut(&mut self, what: Count) {
        // Once.
        if self.upstream.take().is_some() {
            self.gateway.counters.add(what);
            self.local.iter().for_each(Local::cut);
        }
    }
}

impl Drop for Theirs {
    fn drop(&mut self) {
        // A body that was empty from the start is not asked for.
        match self.incoming.is_end_stream() {
            true => self.whole(),
            false => self.cut(Count::GivenUp),
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Answer::Ours(text) => Pin::new(text).poll_frame(cx).map_err(|never| match never {}),
            Answer::Theirs(theirs) => {
                let frame = Pin::new(&mut theirs.incoming).poll_frame(cx);
                match &frame {
                    Poll::Ready(None) => theirs.whole(),
                    // Nothing comes after trailers, and so nobody asks.
                    Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => theirs.whole(),
                    Poll::Ready(Some(Err(_))) => theirs.cut(Count::Cut),
                    Poll::Ready(Some(Ok(_))) | Poll::Pending => {}
                }
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Ours(text) => text.is_end_stream(),
            Answer::Theirs(theirs) => theirs.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Ours(text) => text.size_hint(),
            Answer::Theirs(theirs) => theirs.incoming.size_hint(),
        }
    }
}

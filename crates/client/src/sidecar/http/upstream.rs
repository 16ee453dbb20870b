//! A connection to the service that speaks HTTP/1.1, and those that wait for the next request.

use super::super::open::{self, Unreached};
use super::body::Outgoing;
use super::retry::Fate;
use crate::clock::mono_now;
use crate::session::{Session, Stream};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use nearmost_wire::identity::Id;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Connections that wait for a request.
const MOST_IDLE: usize = 64;
/// For how long one waits. Services commonly close theirs after a minute.
const IDLE: Duration = Duration::from_secs(30);
/// A request that could not be sent again takes no connection that waited for longer: the service may be about
/// to close it, and then nobody knows what became of the request.
const FRESH: Duration = Duration::from_secs(1);
/// For how long the service may take to end a connection that is no longer needed.
const FAREWELL: Duration = Duration::from_secs(1);
/// Bytes of a head.
const HEAD: usize = 64 * 1024;
/// Fields of a head: its bytes are the bound, not the hundred that hyper takes otherwise.
pub(super) const FIELDS: usize = 1024;

/// A connection that carries one request at a time.
pub(super) struct Upstream {
    sender: SendRequest<Outgoing>,
    /// The mirror.
    pub at: Id,
    meter: Arc<Meter>,
    since: Instant,
}

/// A request without an answer.
#[derive(Debug)]
pub(super) struct Failed {
    pub fate: Fate,
    pub why: hyper::Error,
    /// The body, where nobody began to send it.
    pub body: Option<Outgoing>,
}

/// What was written on a connection. The lock is held while something is.
#[derive(Default)]
struct Meter(Mutex<Written>);

#[derive(Default)]
struct Written {
    bytes: u64,
    /// Not a byte more.
    over: bool,
}

impl Meter {
    fn lock(&self) -> MutexGuard<'_, Written> {
        // Nothing that holds the lock can panic in between.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Ends all writing, and says how much there was. What still waits in a buffer never leaves.
    fn end(&self) -> u64 {
        let mut written = self.lock();
        written.over = true;
        written.bytes
    }
}

impl Upstream {
    /// A new one, at the primary.
    pub async fn open(session: &Session) -> Result<Upstream, Unreached> {
        let stream = open::stream(session).await?;
        let at = stream.mirror();
        Upstream::over(stream, at).await
    }

    async fn over<S>(stream: S, at: Id) -> Result<Upstream, Unreached>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let meter = Arc::<Meter>::default();
        let io = Metered { stream, meter: meter.clone(), ending: None };
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD).max_headers(FIELDS);
        let shaken = builder.handshake(TokioIo::new(io)).await;
        // It only takes the two ends apart; nothing is written.
        let (sender, connection) = shaken.map_err(|_| Unreached::Ended)?;
        // It ends with the sender and what came of its last request, or with the stream.
        tokio::spawn(async move { drop(connection.with_upgrades().await) });
        Ok(Upstream { sender, at, meter, since: mono_now() })
    }

    /// Sends a request, to the head of the answer. After an error nothing of it is written any more.
    pub async fn send(&mut self, request: Request<Outgoing>) -> Result<Response<Incoming>, Failed> {
        let before = self.meter.bytes();
        let sent = self.sender.try_send_request(request).await;
        sent.map_err(|mut error| {
            // The error may come while the request waits in a buffer for the stream to take more.
            let fate = match self.meter.end() == before {
                true => Fate::Unsent,
                false => Fate::Sent,
            };
            Failed { fate, body: error.take_message().map(Request::into_body), why: error.into_error() }
        })
    }
}

/// Connections that wait, those that waited least last.
#[derive(Default)]
pub(super) struct Pool(Mutex<Vec<Upstream>>);

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Vec<Upstream>> {
        // Nothing that holds the lock can panic in between.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One to the mirror. For a request that is not `repeatable`, one that was used just now.
    pub fn take(&self, at: Id, repeatable: bool) -> Option<Upstream> {
        let now = mono_now();
        let most = if repeatable { IDLE } else { FRESH };
        let mut waiting = self.lock();
        let fits = |one: &Upstream| {
            one.at == at && one.sender.is_ready() && now.saturating_duration_since(one.since) < most
        };
        let place = waiting.iter().rposition(fits)?;
        Some(waiting.remove(place))
    }

    /// Takes one back once the service is ready for the next request; unless it is not, or the session's new
    /// work goes elsewhere.
    pub fn give_back(self: &Arc<Self>, mut upstream: Upstream, session: &Session) {
        let (pool, session) = (self.clone(), session.clone());
        tokio::spawn(async move {
            let ready = tokio::time::timeout(FRESH, upstream.sender.ready()).await;
            if !matches!(ready, Ok(Ok(()))) || session.primary() != Some(upstream.at) {
                return;
            }
            upstream.since = mono_now();
            let mut waiting = pool.lock();
            if waiting.len() == MOST_IDLE {
                waiting.remove(0);
            }
            waiting.push(upstream);
        });
    }

    /// Lets go of those that lead elsewhere or waited for too long.
    pub fn tidy(&self, primary: Option<Id>) {
        let now = mono_now();
        self.lock().retain(|one| {
            let fresh = now.saturating_duration_since(one.since) < IDLE && !one.sender.is_closed();
            primary == Some(one.at) && fresh
        });
    }
}

/// A stream that counts what is written.
pub(super) struct Metered<S = Stream> {
    pub stream: S,
    meter: Arc<Meter>,
    /// Its end was said; the service's is waited for until then.
    ending: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + Unpin> Metered<S> {
    /// Waits for the service's end, for a while: a stream that is dropped before is a break to the service.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let ending = self.ending.get_or_insert_with(|| Box::pin(tokio::time::sleep(FAREWELL)));
        if ending.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        // Whatever it still says is for nobody.
        let mut one = [MaybeUninit::uninit()];
        Pin::new(&mut self.stream).poll_read(cx, &mut ReadBuf::uninit(&mut one)).map(|_| ())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Metered { stream, meter, .. } = &mut *self;
        let mut written = meter.lock();
        if written.over {
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        let taken = Pin::new(stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(n)) = taken {
            written.bytes += n as u64;
        }
        taken
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.meter.lock().over {
            // Half a request must not end as if it were one.
            return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
        }
        if self.ending.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        self.poll_end(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;
    use hyper::body::Bytes;
    use nearmost_wire::identity::{KeyPair, Role};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn what_waited_to_be_written_when_its_fate_was_told_never_leaves() {
        let (mut ours, mut service) = duplex(16);
        // The mirror takes nothing more for now.
        ours.write_all(&[b'.'; 16]).await.unwrap();
        let at = KeyPair::from_seed(Role::Node, &[1; 32]).id();
        let mut upstream = Upstream::over(ours, at).await.unwrap();
        let body = Outgoing::Left(Full::new(Bytes::from_static(b"once")));
        let request = Request::post("/").header("host", "a").body(body).unwrap();
        let ((), sent) = tokio::join!(
            async {
                tokio::task::yield_now().await;
                service.shutdown().await.unwrap();
            },
            upstream.send(request)
        );
        assert_eq!(sent.unwrap_err().fate, Fate::Unsent);
        // Now it takes all, and nothing is left that could come.
        let mut heard = Vec::new();
        service.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, [b'.'; 16]);
    }
}

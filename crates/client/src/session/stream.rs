//! A TCP connection to the service behind a mirror.

use super::error::StreamError;
use nearmost_wire::frame::{self, FrameError};
use nearmost_wire::identity::Id;
use nearmost_wire::ingress::control::MAX_MESSAGE;
use nearmost_wire::ingress::flow::{Break, FlowKind, Open, OpenAnswer};
use quinn::{RecvStream, SendStream};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

/// Streams that are open over one connection.
#[derive(Clone)]
pub(super) struct Work(Arc<watch::Sender<usize>>);

impl Work {
    pub fn new() -> Work {
        Work(Arc::new(watch::Sender::new(0)))
    }

    fn begin(&self) -> Doing {
        self.0.send_modify(|open| *open += 1);
        Doing(self.clone())
    }

    /// Until none is open.
    pub async fn done(&self) {
        // Fails only without a sender, and there is one: this.
        let _ = self.0.subscribe().wait_for(|open| *open == 0).await;
    }
}

/// Whether a stream that could not be opened reached the mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    No,
    Perhaps,
}

struct Doing(Work);

impl Drop for Doing {
    fn drop(&mut self) {
        self.0.0.send_modify(|open| *open -= 1);
    }
}

/// A stream to the service of the mirror that was primary when it was opened. It lives and ends with that
/// mirror and is never carried on by another one.
///
/// Its end is honest: reading gives the end of the data only where the service ended it. A connection that
/// broke, and a mirror that died, are errors. To the service a stream that is dropped is one that broke,
/// unless it was [shut down](tokio::io::AsyncWriteExt::shutdown) and read to its end before. It keeps no
/// session alive.
pub struct Stream {
    send: SendStream,
    recv: RecvStream,
    at: Id,
    /// The end of what is written was said.
    finished: bool,
    /// All that the service says has been read.
    read: bool,
    _doing: Doing,
}

impl Stream {
    /// Opens one; the error says whether the mirror may know of it. Dropped meanwhile, the stream is
    /// broken, not ended.
    pub(super) async fn open(
        connection: quinn::Connection,
        at: Id,
        work: &Work,
    ) -> Result<Stream, (StreamError, Begun)> {
        let doing = work.begin();
        let (send, recv) = match connection.open_bi().await {
            Ok(streams) => streams,
            Err(e) => {
                let source = FrameError::Io(e.into());
                return Err((StreamError::Broken { at, source }, Begun::No));
            }
        };
        let stream = Stream { send, recv, at, finished: false, read: false, _doing: doing };
        stream.begin().await.map_err(|error| (error, Begun::Perhaps))
    }

    async fn begin(mut self) -> Result<Stream, StreamError> {
        let at = self.at;
        let broken = |source| StreamError::Broken { at, source };
        let stream = &mut self;
        frame::write(&mut stream.send, &Open { kind: FlowKind::Tcp }).await.map_err(broken)?;
        match frame::read_at_most(&mut stream.recv, MAX_MESSAGE).await.map_err(broken)? {
            OpenAnswer::Opened => Ok(self),
            OpenAnswer::Failed { code } => Err(StreamError::Failed { at, code }),
        }
    }

    /// The node of the mirror that it leads to.
    pub fn mirror(&self) -> Id {
        self.at
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.recv).poll_read(cx, buf))?;
        self.read |= buf.filled().len() == before && buf.remaining() > 0;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(AsyncWrite::poll_shutdown(Pin::new(&mut self.send), cx))?;
        self.finished = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let code = Break::Aborted.code().into();
        // Fails where the connection is gone, which says the same.
        if !self.finished {
            let _ = self.send.reset(code);
        }
        if !self.read {
            let _ = self.recv.stop(code);
        }
    }
}

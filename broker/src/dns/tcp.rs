//! DNS over TCP (RFC 7766): two-byte lengths, any number of queries in flight, answered in order.
//!
//! [`Connection`] is the same inside TLS ([`super::tls`]).
//!
//! What a stranger may hold is bounded: connections in all and for each source, time without a
//! query, time for a query to arrive and for replies to be taken, queries a connection, and memory.
//! That is what bounds pipelining, too: whatever a client sends ahead, a connection holds one read of
//! queries and one batch of replies; while that batch is not taken, nothing more is read or answered, and
//! the kernel's window makes the client wait. Memory grows with what has come, not with what a length
//! promises, and is given back once nothing waits.
//!
//! Told to stop, a connection answers nothing more; replies that are being written have [`LINGER`] left.

use super::gate::Gate;
use super::metrics::ConnectionMetrics;
use super::tls::TlsDoor;
use super::{Handler, TcpLimits};
use nearmost_dns::Transport;
use prometheus::IntGauge;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// Replies are sent at the latest when this many bytes have gathered.
const FLUSH_AT: usize = 64 * 1024;
/// Room that is made for what comes, at most, in one step.
const STEP: usize = 4 * 1024;
/// Room that an idle connection keeps, in each direction.
const KEEP: usize = 512;
/// How long a client may take to take its last replies once the connection is over.
const LINGER: Duration = Duration::from_secs(2);
/// Pause after a failed accept: out of file descriptors, as a rule, and trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The accept loop of one address.
pub(super) struct Acceptor {
    pub(super) listener: TcpListener,
    pub(super) gate: Arc<Gate>,
    pub(super) limits: TcpLimits,
    pub(super) handler: Handler,
    /// For DNS over TLS; `None` for plain TCP.
    pub(super) tls: Option<TlsDoor>,
}

impl Acceptor {
    fn transport(&self) -> Transport {
        if self.tls.is_some() { Transport::Tls } else { Transport::Tcp }
    }

    fn metrics(&self) -> &ConnectionMetrics {
        let connections = &self.handler.metrics.connections;
        if self.tls.is_some() { &connections.tls } else { &connections.tcp }
    }

    /// Accepts until cancelled, then waits for its connections to end.
    pub(super) async fn serve(self, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a DNS connection's task died");
                    }
                    continue;
                }
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, &stop, &mut connections),
                Err(error) => {
                    let transport = self.transport().as_str();
                    tracing::warn!(%error, transport, "accepting a DNS connection");
                    self.handler.metrics.socket_errors.inc();
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self.listener);
        while connections.join_next().await.is_some() {}
    }

    fn admit(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        stop: &CancellationToken,
        connections: &mut JoinSet<()>,
    ) {
        let pass = match self.gate.enter(peer.ip()) {
            Ok(pass) => pass,
            Err(refusal) => {
                tracing::debug!(%peer, transport = self.transport().as_str(), ?refusal, "DNS connection refused");
                self.metrics().refused(refusal).inc();
                return;
            }
        };
        let terms = Terms {
            transport: self.transport(),
            peer: peer.ip(),
            limits: self.limits,
            handler: self.handler.clone(),
            metrics: self.metrics().clone(),
        };
        let open = OpenGauge::new(&self.metrics().open);
        let (tls, stop) = (self.tls.clone(), stop.clone());
        connections.spawn(async move {
            if let Err(error) = converse(stream, tls, terms, &stop).await {
                tracing::trace!(%peer, %error, "DNS connection ended");
            }
            drop((pass, open));
        });
    }
}

/// One connection from its first byte to its last.
async fn converse(
    stream: TcpStream,
    tls: Option<TlsDoor>,
    terms: Terms,
    stop: &CancellationToken,
) -> io::Result<()> {
    // Replies are written whole, so there is nothing to gather.
    stream.set_nodelay(true)?;
    match tls {
        None => Connection::new(stream, terms).serve(stop).await,
        Some(door) => match door.open(stream, &terms.handler.metrics.encrypted.tls, stop).await? {
            Some(stream) => Connection::new(stream, terms).serve(stop).await,
            None => Ok(()),
        },
    }
}

/// Counts a connection in the gauge while it lives.
pub(super) struct OpenGauge(IntGauge);

impl OpenGauge {
    pub(super) fn new(gauge: &IntGauge) -> OpenGauge {
        gauge.inc();
        OpenGauge(gauge.clone())
    }
}

impl Drop for OpenGauge {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Whom a connection serves, and how.
struct Terms {
    transport: Transport,
    peer: IpAddr,
    limits: TcpLimits,
    handler: Handler,
    metrics: ConnectionMetrics,
}

/// A stream of queries and replies.
struct Connection<S> {
    stream: S,
    terms: Terms,
    /// Bytes read and not yet answered.
    input: Vec<u8>,
    /// Replies not yet sent.
    output: Vec<u8>,
    served: u32,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    fn new(stream: S, terms: Terms) -> Connection<S> {
        Connection { stream, terms, input: Vec::new(), output: Vec::new(), served: 0 }
    }

    async fn serve(mut self, stop: &CancellationToken) -> io::Result<()> {
        let mut begun: Option<Instant> = None;
        loop {
            if self.answer_all(stop).await? {
                begun = None;
            }
            if self.served >= self.terms.limits.max_queries {
                return self.close(stop).await;
            }
            let now = crate::clock::mono_now();
            // A query must be complete some time after its first byte, however slowly it trickles.
            let deadline = if self.input.is_empty() {
                now + self.terms.limits.idle_timeout
            } else {
                *begun.get_or_insert(now) + self.terms.limits.transfer_timeout
            };
            self.input.reserve_exact(self.missing());
            let read = tokio::select! {
                () = stop.cancelled() => return self.close(stop).await,
                read = timeout_at(deadline.into(), self.stream.read_buf(&mut self.input)) => read,
            };
            match read {
                Ok(Ok(0)) => return self.part().await,
                Ok(Ok(_)) => {}
                Ok(Err(e)) => return Err(e),
                Err(_) => {
                    self.terms.metrics.timeouts.inc();
                    return self.part().await;
                }
            }
        }
    }

    /// Ends a connection on which nothing is under way. TLS says goodbye, so that the end cannot be taken
    /// for an attacker's.
    async fn part(mut self) -> io::Result<()> {
        timeout(LINGER, self.stream.shutdown()).await.unwrap_or(Ok(()))
    }

    /// Ends the connection so that the replies sent arrive. Input that nobody read would make the
    /// kernel answer with a reset, and a reset makes the client's discard what it has not read: so
    /// input is thrown away until the client closes, for a bounded time, or until told to stop.
    async fn close(mut self, stop: &CancellationToken) -> io::Result<()> {
        timeout(LINGER, self.stream.shutdown()).await??;
        let mut rest = vec![0; 4096];
        let drained = async {
            while self.stream.read(&mut rest).await? > 0 {}
            Ok(())
        };
        tokio::select! {
            // Reads first what is there.
            biased;
            drained = timeout(LINGER, drained) => drained.unwrap_or(Ok(())),
            () = stop.cancelled() => Ok(()),
        }
    }

    /// How many bytes there must be room for: what the query at the front still lacks, a step at a time; a
    /// little more than a usual query if it has not begun.
    fn missing(&self) -> usize {
        match self.input.first_chunk::<2>() {
            Some(length) => (2 + usize::from(u16::from_be_bytes(*length))).saturating_sub(self.input.len()),
            None => KEEP,
        }
        .min(STEP)
    }

    /// Gives back what much at once took, when nothing waits.
    fn shrink(&mut self) {
        if self.input.is_empty() {
            self.input.shrink_to(KEEP);
        }
        self.output.shrink_to(KEEP);
    }

    /// Answers every complete query, unless told to stop, and sends the replies; true when there was one.
    async fn answer_all(&mut self, stop: &CancellationToken) -> io::Result<bool> {
        let mut reply = Vec::new();
        let mut taken = 0;
        while self.served < self.terms.limits.max_queries
            && !stop.is_cancelled()
            && let Some(message) = frame(&self.input[taken..])
        {
            taken += 2 + message.len();
            self.served += 1;
            let Terms { handler, peer, transport, .. } = &self.terms;
            if handler.answer(message, *peer, *transport, &mut reply) {
                // Replies are at most 65 535 bytes.
                self.output.extend_from_slice(&(reply.len() as u16).to_be_bytes());
                self.output.extend_from_slice(&reply);
            }
            if self.output.len() >= FLUSH_AT {
                self.flush(stop).await?;
            }
        }
        self.input.drain(..taken);
        self.flush(stop).await?;
        self.shrink();
        Ok(taken > 0)
    }

    /// Sends the replies. Who does not take them must not keep the server from stopping.
    async fn flush(&mut self, stop: &CancellationToken) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let writing = async {
            self.stream.write_all(&self.output).await?;
            // TLS may still hold what the kernel did not take.
            self.stream.flush().await
        };
        let hurried = async {
            stop.cancelled().await;
            tokio::time::sleep(LINGER).await;
        };
        let written = tokio::select! {
            written = timeout(self.terms.limits.transfer_timeout, writing) => written,
            () = hurried => return Err(io::ErrorKind::TimedOut.into()),
        };
        match written {
            Ok(written) => written?,
            Err(_) => {
                self.terms.metrics.timeouts.inc();
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        self.output.clear();
        Ok(())
    }
}

/// The message at the front, if all of it is there.
fn frame(input: &[u8]) -> Option<&[u8]> {
    let (length, rest) = input.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length)))
}

//! DNS over TCP (RFC 7766): two-byte lengths, any number of queries in flight, answered in order.
//!
//! What a stranger may hold is bounded: connections in all and for each source, time without a
//! query, time for a query to arrive and for replies to be taken, queries a connection, and memory:
//! one query and one batch of replies a connection.

use super::{DnsMetrics, Handler, TcpLimits};
use nearmost_dns::Transport;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// Replies are sent at the latest when this many bytes have gathered.
const FLUSH_AT: usize = 64 * 1024;
/// How long a client may take to take its last replies once the connection is over.
const LINGER: Duration = Duration::from_secs(2);
/// Pause after a failed accept: out of file descriptors, as a rule, and trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Counts connections in all and for each source.
#[derive(Debug)]
pub(super) struct Gate {
    limits: TcpLimits,
    /// Held for a few instructions, never across an await. Entries are bounded by `max_connections`.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// Why a connection was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// All connections are in use.
    Total,
    /// This source has its share.
    Source,
}

impl Gate {
    pub(super) fn new(limits: TcpLimits) -> Gate {
        Gate { limits, open: Mutex::default() }
    }

    /// Lets a connection in for as long as the pass lives.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Result<Pass, Refusal> {
        let source = source_of(peer);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.limits.max_connections {
            return Err(Refusal::Total);
        }
        let held = open.by_source.get(&source).copied().unwrap_or(0);
        if held >= self.limits.max_per_source {
            return Err(Refusal::Source);
        }
        open.by_source.insert(source, held + 1);
        open.total += 1;
        Ok(Pass { gate: Arc::clone(self), source })
    }
}

/// A place among the connections.
#[derive(Debug)]
pub(super) struct Pass {
    gate: Arc<Gate>,
    source: IpAddr,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut open = self.gate.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total = open.total.saturating_sub(1);
        if let Some(held) = open.by_source.get_mut(&self.source) {
            *held -= 1;
            if *held == 0 {
                open.by_source.remove(&self.source);
            }
        }
    }
}

/// Who counts as one source: an IPv6 user has a whole /64.
fn source_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(a) => IpAddr::V4(a),
        IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & (u128::MAX << 64))),
    }
}

/// The accept loop of one address.
pub(super) struct Acceptor {
    pub(super) listener: TcpListener,
    pub(super) gate: Arc<Gate>,
    pub(super) limits: TcpLimits,
    pub(super) handler: Handler,
}

impl Acceptor {
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
                    tracing::warn!(%error, "DNS over TCP: accepting a connection");
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
                tracing::debug!(%peer, ?refusal, "DNS over TCP: connection refused");
                self.handler.metrics.refused(refusal).inc();
                return;
            }
        };
        let connection = Connection {
            stream,
            peer: peer.ip(),
            limits: self.limits,
            handler: self.handler.clone(),
            input: Vec::new(),
            output: Vec::new(),
            served: 0,
        };
        let stop = stop.clone();
        let open = OpenGauge::new(Arc::clone(&self.handler.metrics));
        connections.spawn(async move {
            if let Err(error) = connection.serve(&stop).await {
                tracing::trace!(%peer, %error, "DNS over TCP: connection ended");
            }
            drop((pass, open));
        });
    }
}

/// Counts a connection in the gauge while it lives.
struct OpenGauge(Arc<DnsMetrics>);

impl OpenGauge {
    fn new(metrics: Arc<DnsMetrics>) -> OpenGauge {
        metrics.tcp_connections.inc();
        OpenGauge(metrics)
    }
}

impl Drop for OpenGauge {
    fn drop(&mut self) {
        self.0.tcp_connections.dec();
    }
}

struct Connection {
    stream: TcpStream,
    peer: IpAddr,
    limits: TcpLimits,
    handler: Handler,
    /// Bytes read and not yet answered.
    input: Vec<u8>,
    /// Replies not yet sent.
    output: Vec<u8>,
    served: u32,
}

impl Connection {
    async fn serve(mut self, stop: &CancellationToken) -> io::Result<()> {
        // Replies are written whole, so there is nothing to gather.
        self.stream.set_nodelay(true)?;
        let mut begun: Option<Instant> = None;
        loop {
            if self.answer_all().await? {
                begun = None;
            }
            if self.served >= self.limits.max_queries {
                return self.close(stop).await;
            }
            let now = crate::clock::mono_now();
            // A query must be complete some time after its first byte, however slowly it trickles.
            let deadline = if self.input.is_empty() {
                now + self.limits.idle_timeout
            } else {
                *begun.get_or_insert(now) + self.limits.transfer_timeout
            };
            self.input.reserve(self.missing());
            let read = tokio::select! {
                () = stop.cancelled() => return self.close(stop).await,
                read = timeout_at(deadline.into(), self.stream.read_buf(&mut self.input)) => read,
            };
            match read {
                Ok(Ok(0)) => return Ok(()),
                Ok(Ok(_)) => {}
                Ok(Err(e)) => return Err(e),
                Err(_) => {
                    self.handler.metrics.tcp_timeouts.inc();
                    return Ok(());
                }
            }
        }
    }

    /// Ends the connection so that the replies sent arrive. Input that nobody read would make the
    /// kernel answer with a reset, and a reset makes the client's discard what it has not read: so
    /// input is thrown away until the client closes, for a bounded time, or until told to stop.
    async fn close(mut self, stop: &CancellationToken) -> io::Result<()> {
        self.stream.shutdown().await?;
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

    /// How many bytes the query at the front still lacks; a little more than a usual query if it
    /// has not begun.
    fn missing(&self) -> usize {
        match self.input.first_chunk::<2>() {
            Some(length) => (2 + usize::from(u16::from_be_bytes(*length))).saturating_sub(self.input.len()),
            None => 512,
        }
    }

    /// Answers every complete query and sends the replies; true when there was one.
    async fn answer_all(&mut self) -> io::Result<bool> {
        let mut reply = Vec::new();
        let mut taken = 0;
        while self.served < self.limits.max_queries
            && let Some(message) = frame(&self.input[taken..])
        {
            taken += 2 + message.len();
            self.served += 1;
            if self.handler.answer(message, self.peer, Transport::Tcp, &mut reply) {
                // Replies are at most 65 535 bytes.
                self.output.extend_from_slice(&(reply.len() as u16).to_be_bytes());
                self.output.extend_from_slice(&reply);
            }
            if self.output.len() >= FLUSH_AT {
                self.flush().await?;
            }
        }
        self.input.drain(..taken);
        self.flush().await?;
        Ok(taken > 0)
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        match timeout(self.limits.transfer_timeout, self.stream.write_all(&self.output)).await {
            Ok(written) => written?,
            Err(_) => {
                self.handler.metrics.tcp_timeouts.inc();
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

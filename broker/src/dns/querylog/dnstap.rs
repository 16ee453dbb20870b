//! dnstap (dnstap.info): two messages a query, `AUTH_QUERY` and `AUTH_RESPONSE`, over a Unix socket.
//!
//! ```text
//!            ┌──── pause, doubled up to 10 s ◄───┐ cannot be connected, does not shake hands
//!            ▼                                   │
//!        connecting ── begun ──► writing ── gone, or takes nothing ─► connecting
//!            │                     │
//!            └──── told to stop ───┴─► STOP, FINISH
//! ```
//!
//! While there is no collector, the queue fills, and what finds no room is dropped where it is offered.

use super::{BATCH, ClientDetail, Entry, SinkMetrics, frames, next, privacy};
use crate::backoff::Backoff;
use nearmost_dns::Transport;
use prost::Message as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A collector that takes longer to shake hands or to take a batch is left.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pauses between attempts to connect.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));

/// `dnstap.Dnstap` of dnstap.proto, without what is never said.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Dnstap {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub(super) identity: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub(super) version: Option<Vec<u8>>,
    #[prost(message, optional, tag = "14")]
    pub(super) message: Option<Message>,
    /// Always `MESSAGE`.
    #[prost(int32, required, tag = "15")]
    pub(super) kind: i32,
}

/// `dnstap.Message`, likewise.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Message {
    #[prost(enumeration = "MessageKind", required, tag = "1")]
    pub(super) kind: i32,
    #[prost(enumeration = "SocketFamily", optional, tag = "2")]
    pub(super) socket_family: Option<i32>,
    #[prost(enumeration = "SocketProtocol", optional, tag = "3")]
    pub(super) socket_protocol: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(super) query_address: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "8")]
    pub(super) query_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "9")]
    pub(super) query_time_nsec: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "10")]
    pub(super) query_message: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "12")]
    pub(super) response_time_sec: Option<u64>,
    #[prost(fixed32, optional, tag = "13")]
    pub(super) response_time_nsec: Option<u32>,
    #[prost(bytes = "vec", optional, tag = "14")]
    pub(super) response_message: Option<Vec<u8>>,
}

/// `dnstap.Message.Type`, of an authoritative server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum MessageKind {
    AuthQuery = 1,
    AuthResponse = 2,
}

/// `dnstap.SocketFamily`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum SocketFamily {
    Inet = 1,
    Inet6 = 2,
}

/// `dnstap.SocketProtocol`, those that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum SocketProtocol {
    Udp = 1,
    Tcp = 2,
    Dot = 3,
    Doq = 7,
}

/// `dnstap.Dnstap.Type.MESSAGE`.
const TYPE_MESSAGE: i32 = 1;

/// Sends to a collector.
pub(super) struct Writer {
    socket: PathBuf,
    identity: Vec<u8>,
    detail: ClientDetail,
    metrics: SinkMetrics,
}

/// How a connection to a collector ended.
enum End {
    /// It is gone, or it takes nothing.
    Lost(String),
    /// Everything was said.
    Stopped,
}

impl Writer {
    pub(super) fn new(socket: PathBuf, identity: &str, detail: ClientDetail, metrics: SinkMetrics) -> Writer {
        Writer { socket, identity: identity.as_bytes().to_vec(), detail, metrics }
    }

    /// Sends what comes until told to stop and nothing is left, or there is nobody to take it.
    pub(super) async fn run(self, mut queue: Receiver<Arc<Entry>>, stop: CancellationToken) {
        let mut pauses = PAUSES;
        let socket = self.socket.display();
        while let Some(mut stream) = self.connected(&mut pauses, &stop).await {
            tracing::info!(%socket, "the dnstap collector takes queries");
            match self.send(&mut stream, &mut queue, &stop).await {
                End::Stopped => return,
                End::Lost(error) => {
                    self.metrics.errors.inc();
                    tracing::warn!(%socket, error, "the dnstap collector is gone");
                }
            }
        }
        queue.close();
        self.metrics.dropped.inc_by(queue.len() as u64);
    }

    /// A collector that shook hands; `None` when told to stop before.
    async fn connected(&self, pauses: &mut Backoff, stop: &CancellationToken) -> Option<UnixStream> {
        let mut said = false;
        loop {
            let begun = async {
                let mut stream = UnixStream::connect(&self.socket).await?;
                frames::begin(&mut stream).await?;
                Ok::<UnixStream, frames::FrameError>(stream)
            };
            let error = match stop.run_until_cancelled(timeout(PATIENCE, begun)).await? {
                Ok(Ok(stream)) => {
                    pauses.reset();
                    return Some(stream);
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it does not answer".into(),
            };
            self.metrics.errors.inc();
            if !std::mem::replace(&mut said, true) {
                let socket = self.socket.display();
                tracing::warn!(%socket, error, "no dnstap collector; trying again until there is one");
            }
            stop.run_until_cancelled(tokio::time::sleep(pauses.pause())).await?;
        }
    }

    async fn send(
        &self,
        stream: &mut UnixStream,
        queue: &mut Receiver<Arc<Entry>>,
        stop: &CancellationToken,
    ) -> End {
        let mut batch = Vec::with_capacity(BATCH);
        let mut bytes = Vec::new();
        let mut unasked = [0];
        loop {
            tokio::select! {
                () = next(queue, &mut batch, stop) => {}
                // A collector says nothing until the end: it is gone, and what waits is for the next one.
                _ = stream.read(&mut unasked) => return End::Lost("it closed the connection".into()),
            }
            if batch.is_empty() {
                // Whoever does not say that it has everything has had its time.
                let _ = timeout(PATIENCE, frames::end(stream)).await;
                return End::Stopped;
            }
            bytes.clear();
            batch.iter().for_each(|entry| self.encode(entry, &mut bytes));
            let count = batch.len() as u64;
            let error = match timeout(PATIENCE, stream.write_all(&bytes)).await {
                Ok(Ok(())) => {
                    self.metrics.written.inc_by(count);
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it takes nothing".into(),
            };
            self.metrics.dropped.inc_by(count);
            return End::Lost(error);
        }
    }

    /// Appends the frames of one query.
    fn encode(&self, entry: &Entry, out: &mut Vec<u8>) {
        let mut frame = |message: Message| {
            let tap = Dnstap {
                identity: Some(self.identity.clone()),
                version: Some(concat!("nearmost ", env!("CARGO_PKG_VERSION")).into()),
                message: Some(message),
                kind: TYPE_MESSAGE,
            };
            frames::data(out, |out| {
                // A vector grows; nothing else can fail.
                let _ = tap.encode(out);
            });
        };
        let asked = message(MessageKind::AuthQuery, entry, self.detail);
        if !entry.reply.is_empty() {
            let (seconds, nanoseconds) = after(entry.at.0, entry.took);
            frame(Message {
                query_message: Some(privacy::query(self.detail, &entry.query)),
                ..asked.clone()
            });
            frame(Message {
                kind: MessageKind::AuthResponse.into(),
                response_time_sec: Some(seconds),
                response_time_nsec: Some(nanoseconds),
                response_message: Some(privacy::reply(self.detail, &entry.reply)),
                ..asked
            });
        } else {
            frame(Message { query_message: Some(privacy::query(self.detail, &entry.query)), ..asked });
        }
    }
}

/// What both messages of a query have.
fn message(kind: MessageKind, entry: &Entry, detail: ClientDetail) -> Message {
    let source = entry.source.to_canonical();
    let family = if source.is_ipv4() { SocketFamily::Inet } else { SocketFamily::Inet6 };
    let protocol = match entry.transport {
        Transport::Udp => SocketProtocol::Udp,
        Transport::Tcp => SocketProtocol::Tcp,
        Transport::Tls => SocketProtocol::Dot,
        Transport::Quic => SocketProtocol::Doq,
    };
    let octets = |address| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let (seconds, nanoseconds) = after(entry.at.0, Duration::ZERO);
    Message {
        kind: kind.into(),
        socket_family: Some(family.into()),
        socket_protocol: Some(protocol.into()),
        query_address: privacy::address(detail, source).map(octets),
        query_time_sec: Some(seconds),
        query_time_nsec: Some(nanoseconds),
        ..Message::default()
    }
}

/// So long after a moment: seconds since 1970, and nanoseconds of the second.
fn after(unix_ms: u64, later: Duration) -> (u64, u32) {
    let at = Duration::from_millis(unix_ms).saturating_add(later);
    (at.as_secs(), at.subsec_nanos())
}

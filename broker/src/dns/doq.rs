//! DNS over QUIC (RFC 9250): one stream a query, with a two-byte length, and the id 0.
//!
//! ```text
//!             no place left ──────────────────────────────────────────────► refused
//! a datagram ─┤ half of them taken, and the address unproven ─► retry (RFC 9000 §8.1.2): no state
//!             └ handshake ─► streams: read to FIN ─► answer ─► reply, FIN ─► acknowledged
//!                              │                                  └ the next streams may begin
//!                              │ breaks a rule ─► closed, DOQ_PROTOCOL_ERROR
//!                              │ taken back by the client ─► reset, DOQ_REQUEST_CANCELLED
//!                              │ too large, too slow ─► closed, DOQ_EXCESSIVE_LOAD
//!                              └ idle, enough queries, told to stop ─► closed, DOQ_NO_ERROR
//! ```
//!
//! What a stranger may hold is bounded: connections in all and for each source, streams of a connection,
//! bytes of a query, time for a query and for its reply, time without a query, queries a connection.
//! Connections do not migrate: an answer depends on who asks, and what follows a change of address is taken
//! in before the new one is proven.

use super::gate::Gate;
use super::metrics::{ConnectionMetrics, QuicFault};
use super::tcp::OpenGauge;
use super::{Handler, TcpLimits, options};
use nearmost_dns::Transport;
use quinn::{Connection, Endpoint, Incoming, RecvStream, SendStream, VarInt};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The longest query taken, in bytes: far above any that asks something, far below what the length could
/// say, since a connection may have many under way.
const MAX_QUERY: usize = 8 * 1024;
/// Bytes of all streams of a connection that were sent ahead.
const WINDOW: u32 = 64 * 1024;
/// Bytes of replies of a connection that are not acknowledged yet.
const SEND_WINDOW: u64 = 256 * 1024;
/// Connections that wait to be accepted, for each endpoint, and what is kept of each meanwhile.
const MAX_INCOMING: usize = 1000;
const INCOMING_BUFFER: u64 = 16 * 1024;
/// How long streams that are under way may take once the server is told to stop.
const LINGER: Duration = Duration::from_secs(2);
/// How long the last datagrams may take when the server ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Error codes (RFC 9250 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    /// `DOQ_NO_ERROR`.
    NoError = 0x0,
    /// `DOQ_INTERNAL_ERROR`.
    InternalError = 0x1,
    /// `DOQ_PROTOCOL_ERROR`.
    ProtocolError = 0x2,
    /// `DOQ_REQUEST_CANCELLED`.
    RequestCancelled = 0x3,
    /// `DOQ_EXCESSIVE_LOAD`.
    ExcessiveLoad = 0x4,
}

impl From<Code> for VarInt {
    fn from(code: Code) -> VarInt {
        VarInt::from_u32(code as u32)
    }
}

impl From<QuicFault> for Code {
    fn from(fault: QuicFault) -> Code {
        match fault {
            QuicFault::MessageId | QuicFault::Framing | QuicFault::NoQuery | QuicFault::Keepalive => {
                Code::ProtocolError
            }
            QuicFault::TooLarge | QuicFault::TooSlow => Code::ExcessiveLoad,
        }
    }
}

/// Limits of DNS over QUIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QuicLimits {
    /// As of the other connections.
    pub(super) connections: TcpLimits,
    /// A handshake not done after this long is dropped.
    pub(super) handshake_timeout: Duration,
    /// Queries that a connection may have under way.
    pub(super) max_streams: u32,
}

/// What endpoints are made with.
pub(super) fn server_config(
    crypto: quinn::crypto::rustls::QuicServerConfig,
    limits: &QuicLimits,
) -> quinn::ServerConfig {
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    transport.max_concurrent_bidi_streams(limits.max_streams.into()).max_concurrent_uni_streams(0u8.into());
    transport.receive_window(WINDOW.into()).stream_receive_window(WINDOW.into()).send_window(SEND_WINDOW);
    // Who reads along must not know replies by their length (RFC 9250 §5.4).
    transport.pad_to_mtu(true);
    // No datagrams: nobody reads them.
    transport.datagram_receive_buffer_size(None);
    // For clients that are gone; those that are there and ask nothing are closed below, in time to be told.
    transport.max_idle_timeout((limits.connections.idle_timeout * 2).try_into().ok());
    config.transport_config(Arc::new(transport));
    config.migration(false);
    config.max_incoming(MAX_INCOMING).incoming_buffer_size(INCOMING_BUFFER);
    config
}

/// The accept loop of one address.
pub(super) struct QuicAcceptor {
    pub(super) endpoint: Endpoint,
    pub(super) gate: Arc<Gate>,
    pub(super) limits: QuicLimits,
    pub(super) handler: Handler,
}

impl QuicAcceptor {
    fn metrics(&self) -> &ConnectionMetrics {
        &self.handler.metrics.connections.quic
    }

    /// Accepts until cancelled, then waits for its connections to end.
    pub(super) async fn serve(self, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            let incoming = tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "the task of a connection of DNS over QUIC died");
                    }
                    continue;
                }
                incoming = self.endpoint.accept() => incoming,
            };
            let Some(incoming) = incoming else { break };
            self.admit(incoming, &stop, &mut connections);
        }
        self.endpoint.set_server_config(None);
        while connections.join_next().await.is_some() {}
        self.endpoint.close(Code::NoError.into(), b"");
        let _ = timeout(LAST_WORDS, self.endpoint.wait_idle()).await;
    }

    fn admit(&self, incoming: Incoming, stop: &CancellationToken, connections: &mut JoinSet<()>) {
        let peer = incoming.remote_address().ip().to_canonical();
        if !incoming.remote_address_validated() && self.gate.crowded(peer) {
            // An unproven address can be asked to prove itself: it cannot fail.
            return drop(incoming.retry());
        }
        let pass = match self.gate.enter(peer) {
            Ok(pass) => pass,
            Err(refusal) => {
                tracing::debug!(%peer, ?refusal, "DNS over QUIC: connection refused");
                self.metrics().refused(refusal).inc();
                return incoming.refuse();
            }
        };
        let session = Session {
            peer,
            limits: self.limits,
            handler: self.handler.clone(),
            metrics: self.metrics().clone(),
        };
        let stop = stop.clone();
        connections.spawn(async move {
            let open = OpenGauge::new(&session.metrics.open);
            session.serve(incoming, &stop).await;
            drop((pass, open));
        });
    }
}

/// One connection.
#[derive(Clone)]
struct Session {
    peer: IpAddr,
    limits: QuicLimits,
    handler: Handler,
    metrics: ConnectionMetrics,
}

/// Why a connection is closed.
enum End {
    /// The client closed it, or the way to it broke.
    Gone,
    /// Nobody did anything wrong.
    Orderly,
    /// The client broke a rule.
    Fault(QuicFault),
    /// A task of ours died.
    Died,
}

impl Session {
    async fn serve(self, incoming: Incoming, stop: &CancellationToken) {
        let failed = &self.handler.metrics.encrypted.quic;
        let handshake = timeout(self.limits.handshake_timeout, incoming);
        let connection = match stop.run_until_cancelled(handshake).await {
            None => return,
            Some(Ok(Ok(connection))) => connection,
            Some(Ok(Err(error))) => {
                tracing::debug!(peer = %self.peer, %error, "DNS over QUIC: a handshake failed");
                return failed.error.inc();
            }
            Some(Err(_)) => return failed.timeout.inc(),
        };
        let (code, reason) = match self.streams(&connection, stop).await {
            End::Gone => return,
            End::Orderly => (Code::NoError, ""),
            End::Died => (Code::InternalError, ""),
            End::Fault(fault) => {
                tracing::debug!(peer = %self.peer, fault = fault.as_str(), "DNS over QUIC: connection closed");
                self.handler.metrics.encrypted.closed(fault).inc();
                (fault.into(), fault.as_str())
            }
        };
        connection.close(code.into(), reason.as_bytes());
    }

    /// Answers streams, each in a task of its own, until the connection is to be closed; then those under
    /// way are finished, unless a rule was broken.
    async fn streams(&self, connection: &Connection, stop: &CancellationToken) -> End {
        let limits = &self.limits.connections;
        let mut tasks: JoinSet<Result<(), QuicFault>> = JoinSet::new();
        let mut served: u32 = 0;
        while served < limits.max_queries {
            let idle = async {
                match tasks.join_next().await {
                    Some(ended) => Some(ended),
                    None => {
                        tokio::time::sleep(limits.idle_timeout).await;
                        None
                    }
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                ended = idle => match ended {
                    Some(Ok(Ok(()))) => {}
                    Some(Ok(Err(fault))) => return End::Fault(fault),
                    Some(Err(_)) => return End::Died,
                    None => {
                        self.metrics.timeouts.inc();
                        return End::Orderly;
                    }
                },
                stream = connection.accept_bi() => match stream {
                    Ok((send, receive)) => {
                        served += 1;
                        tasks.spawn(self.clone().stream(send, receive));
                    }
                    Err(_) => return End::Gone,
                },
            }
        }
        let hurried = async {
            stop.cancelled().await;
            tokio::time::sleep(LINGER).await;
        };
        tokio::select! {
            end = finished(tasks) => end,
            () = hurried => End::Orderly,
        }
    }

    /// One stream. What is dropped ends as if it were whole, so one that broke a rule is reset.
    async fn stream(self, mut send: SendStream, receive: RecvStream) -> Result<(), QuicFault> {
        let done = self.query(&mut send, receive).await;
        if let Err(fault) = done {
            // Fails only where the stream has ended already.
            let _ = send.reset(Code::from(fault).into());
        }
        done
    }

    /// One query. A client that takes back its question or its connection broke no rule; an end without an
    /// answer would look like an empty one (RFC 9250 §4.3.1).
    async fn query(&self, send: &mut SendStream, mut receive: RecvStream) -> Result<(), QuicFault> {
        let patience = self.limits.connections.transfer_timeout;
        let read = timeout(patience, receive.read_to_end(2 + MAX_QUERY));
        let bytes = match read.await.map_err(|_| QuicFault::TooSlow)? {
            Ok(bytes) => bytes,
            Err(quinn::ReadToEndError::TooLong) => return Err(QuicFault::TooLarge),
            Err(quinn::ReadToEndError::Read(_)) => {
                // Fails only where the connection has ended.
                let _ = send.reset(Code::RequestCancelled.into());
                return Ok(());
            }
        };
        let mut reply = Vec::new();
        if !self.handler.answer(message(&bytes)?, self.peer, Transport::Quic, &mut reply) {
            return Err(QuicFault::NoQuery);
        }
        // Replies are at most 65 535 bytes.
        let length = (reply.len() as u16).to_be_bytes();
        let writing = async {
            send.write_all(&length).await?;
            send.write_all(&reply).await
        };
        match timeout(patience, writing).await {
            Err(_) => return Err(QuicFault::TooSlow),
            Ok(Err(_)) => return Ok(()),
            Ok(Ok(())) => {}
        }
        // Cannot fail: the stream is finished once, here.
        let _ = send.finish();
        // Closing the connection would drop what is not acknowledged.
        let _ = timeout(patience, send.stopped()).await;
        Ok(())
    }
}

/// Waits for the streams under way.
async fn finished(mut tasks: JoinSet<Result<(), QuicFault>>) -> End {
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => return End::Fault(fault),
            Err(_) => return End::Died,
        }
    }
    End::Orderly
}

/// The one message of a stream.
fn message(stream: &[u8]) -> Result<&[u8], QuicFault> {
    let (length, message) = stream.split_first_chunk::<2>().ok_or(QuicFault::Framing)?;
    if message.len() != usize::from(u16::from_be_bytes(*length)) {
        return Err(QuicFault::Framing);
    }
    if message.first_chunk::<2>().is_some_and(|id| *id != [0, 0]) {
        return Err(QuicFault::MessageId);
    }
    match options::has(message, options::TCP_KEEPALIVE) {
        true => Err(QuicFault::Keepalive),
        false => Ok(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_holds_one_message_with_its_length_and_the_id_0() {
        let good = [&[0, 12][..], &[0; 12]].concat();
        assert_eq!(message(&good).unwrap(), [0; 12]);
        for cut in 0..good.len() {
            assert_eq!(message(&good[..cut]), Err(QuicFault::Framing), "{cut}");
        }
        assert_eq!(message(&[&good[..], &[0]].concat()), Err(QuicFault::Framing));
        for at in [2, 3] {
            let mut wrong = good.clone();
            wrong[at] = 1;
            assert_eq!(message(&wrong), Err(QuicFault::MessageId));
        }
    }

    #[test]
    fn every_fault_has_the_code_of_rfc_9250() {
        let code = |fault: QuicFault| VarInt::from(Code::from(fault)).into_inner();
        for fault in [QuicFault::MessageId, QuicFault::Framing, QuicFault::NoQuery, QuicFault::Keepalive] {
            assert_eq!(code(fault), 2);
        }
        assert_eq!((code(QuicFault::TooLarge), code(QuicFault::TooSlow)), (4, 4));
        assert_eq!(VarInt::from(Code::NoError).into_inner(), 0);
        assert_eq!(VarInt::from(Code::RequestCancelled).into_inner(), 3);
        assert_eq!(VarInt::from(Code::InternalError).into_inner(), 1);
    }
}

//! A conversation with a broker over QUIC, its key pinned.

use crate::dial::{Dial, DialError, Dialed};
use crate::text::printable;
use nearmost_wire::client::Refusal;
use nearmost_wire::frame::FrameError;
use nearmost_wire::identity::{Id, KeyError, KeyPair, Role};
use nearmost_wire::name;
use nearmost_wire::tls::{self, ALPN_CLIENT, TlsError, WRONG_KEY};
use nearmost_wire::tunnel::{Tunnel, TunnelError};
use quinn::{Connection, ConnectionError, Endpoint, IdleTimeout, RecvStream, SendStream, VarInt};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long one step may take: the look-up of the broker's name, a handshake, an answer.
pub(crate) const STEP: Duration = Duration::from_secs(5);
/// How long finding a broker's address and connecting may take: sessions ask the next one after 5 s.
const CONNECT: Duration = Duration::from_secs(4);
/// Between attempts at two addresses.
const APART: Duration = Duration::from_millis(250);
/// Silence after which the connection is lost, in milliseconds …
const IDLE_MS: u32 = 30_000;
/// … and something is said in time, where nothing else is.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Why nothing came of asking a broker over QUIC.
#[derive(Debug, thiserror::Error)]
pub enum QuicError {
    /// What was asked about has no valid name.
    #[error(transparent)]
    Name(#[from] name::NameError),
    /// The system gave no random bytes for a key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The broker's name could not be looked up.
    #[error("broker {at}: its address could not be looked up: {source}")]
    LookUp {
        /// As given.
        at: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// No socket to speak from.
    #[error("no UDP socket to reach a broker from: {0}")]
    Socket(#[source] std::io::Error),
    /// The address is not one that can be connected to.
    #[error("broker {at}: {source}")]
    Connect {
        /// As given.
        at: String,
        /// What is wrong.
        source: quinn::ConnectError,
    },
    /// Somebody else answers there.
    #[error("broker {at}: whoever answers there is not {expected}")]
    WrongKey {
        /// As given.
        at: String,
        /// The broker's id.
        expected: Id,
    },
    /// The broker ended the session.
    #[error("broker {at}: {detail} ({})", refusal.label())]
    Refused {
        /// As given.
        at: String,
        /// Why.
        refusal: Refusal,
        /// The broker's own words.
        detail: String,
    },
    /// The connection did not come about, or was lost.
    #[error("broker {at}: {source}")]
    Lost {
        /// As given.
        at: String,
        /// How.
        source: ConnectionError,
    },
    /// Neither UDP nor TCP got through.
    #[error("broker {at}: {source}")]
    Tunnel {
        /// As given.
        at: String,
        /// What happened.
        source: TunnelError,
    },
    /// A message could not be written or read.
    #[error("broker {at}: {source}")]
    Frame {
        /// As given.
        at: String,
        /// What was wrong.
        source: FrameError,
    },
    /// An answer to something else.
    #[error("broker {at}: its answer is not the one to {asked}; do broker and client have the same version?")]
    OutOfOrder {
        /// As given.
        at: String,
        /// What was asked.
        asked: &'static str,
    },
    /// It took too long.
    #[error("broker {at}: no {what} within {} s", STEP.as_secs())]
    Slow {
        /// As given.
        at: String,
        /// What was awaited.
        what: &'static str,
    },
}

/// A connection to a broker and its one stream.
pub(crate) struct Talk {
    pub at: String,
    pub connection: Connection,
    pub send: SendStream,
    pub receive: RecvStream,
    pub endpoint: Endpoint,
    /// What it goes through, where UDP is blocked.
    _tunnel: Option<Tunnel>,
}

impl Talk {
    /// Connects to the broker `id` at `at` (`host:port`), at the first of its addresses that answers: they are
    /// tried one after another, a little apart (RFC 8305 §5), and all within [`CONNECT`].
    pub async fn open(at: &str, id: Id) -> Result<Talk, QuicError> {
        let slow = |what| QuicError::Slow { at: at.into(), what };
        let unknown = |source| QuicError::LookUp { at: at.into(), source };
        // Nobody asks a client who it is: its key is made for the one connection.
        let key = KeyPair::generate(Role::Person)?;
        let config = config(&key, id)?;
        let connect = async {
            let found: Vec<SocketAddr> = tokio::net::lookup_host(at).await.map_err(unknown)?.collect();
            let mut dials = JoinSet::new();
            for (place, remote) in (0..).zip(alternating(found)) {
                let (key, config) = (key.clone(), config.clone());
                dials.spawn(async move {
                    tokio::time::sleep(APART * place).await;
                    let tcp_after = Dial::TCP_AFTER;
                    Dial { at: remote, key: &key, server: id, config, tcp_after }.connect().await
                });
            }
            let mut last = unknown(std::io::Error::other("the name has no address"));
            while let Some(dialed) = dials.join_next().await {
                match dialed {
                    Ok(Ok(dialed)) => return Talk::begin(at, dialed).await,
                    Ok(Err(error)) => last = failed(at, id, error),
                    // Nothing was learnt of that address.
                    Err(_) => {}
                }
            }
            Err(last)
        };
        tokio::time::timeout(CONNECT, connect).await.unwrap_or_else(|_| Err(slow("handshake")))
    }

    async fn begin(at: &str, dialed: Dialed) -> Result<Talk, QuicError> {
        let Dialed { endpoint, connection, tunnel } = dialed;
        let (send, receive) = connection.open_bi().await.map_err(|e| lost(at, e))?;
        Ok(Talk { at: at.into(), connection, send, receive, endpoint, _tunnel: tunnel })
    }
}

/// One family after the other, beginning with the first address's.
fn alternating(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first = found.first().is_some_and(SocketAddr::is_ipv6);
    let (mut one, two): (Vec<_>, Vec<_>) = found.into_iter().partition(|a| a.is_ipv6() == first);
    for (place, address) in (1..).step_by(2).zip(two) {
        one.insert(one.len().min(place), address);
    }
    one
}

fn config(key: &KeyPair, id: Id) -> Result<quinn::ClientConfig, QuicError> {
    let crypto = tls::client_config(key, id, ALPN_CLIENT)?;
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_bidi_streams(0u8.into())
        .max_concurrent_uni_streams(0u8.into())
        .datagram_receive_buffer_size(None);
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

fn failed(at: &str, id: Id, error: DialError) -> QuicError {
    match error {
        DialError::Socket(source) => QuicError::Socket(source),
        DialError::Connect(source) => QuicError::Connect { at: at.into(), source },
        DialError::Connection(e) if e.to_string().contains(WRONG_KEY) => {
            QuicError::WrongKey { at: at.into(), expected: id }
        }
        DialError::Connection(e) => lost(at, e),
        DialError::Tunnel(source) => QuicError::Tunnel { at: at.into(), source },
    }
}

/// A connection's end as an error: a refusal if the broker gave one.
pub(crate) fn lost(at: &str, source: ConnectionError) -> QuicError {
    if let ConnectionError::ApplicationClosed(close) = &source
        && let Some(refusal) = Refusal::from_code(close.error_code.into_inner())
    {
        let detail = printable(&String::from_utf8_lossy(&close.reason));
        return QuicError::Refused { at: at.into(), refusal, detail };
    }
    QuicError::Lost { at: at.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let all = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let found = all(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        assert_eq!(alternating(found), all(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]));
        assert_eq!(alternating(all(&["1.1.1.1:1"])), all(&["1.1.1.1:1"]));
        assert!(alternating(Vec::new()).is_empty());
    }
}

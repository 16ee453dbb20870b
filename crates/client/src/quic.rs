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

/// How long one step may take: the look-up of the broker's name, a handshake, an answer.
pub(crate) const STEP: Duration = Duration::from_secs(5);
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
    /// Connects to the broker `id` at `at` (`host:port`), at the first of its addresses that answers.
    pub async fn open(at: &str, id: Id) -> Result<Talk, QuicError> {
        let slow = |what| QuicError::Slow { at: at.into(), what };
        let unknown = |source| QuicError::LookUp { at: at.into(), source };
        // Nobody asks a client who it is: its key is made for the one connection.
        let key = KeyPair::generate(Role::Person)?;
        let config = config(&key, id)?;
        let found = tokio::time::timeout(STEP, tokio::net::lookup_host(at)).await;
        let found: Vec<SocketAddr> = found.map_err(|_| slow("name look-up"))?.map_err(unknown)?.collect();
        let mut last = unknown(std::io::Error::other("the name has no address"));
        for remote in found {
            let dial = Dial { at: remote, key: &key, server: id, config: config.clone() };
            match tokio::time::timeout(STEP, dial.connect()).await {
                Ok(Ok(dialed)) => return Talk::begin(at, dialed).await,
                Ok(Err(error)) => last = failed(at, id, error),
                Err(_) => last = slow("handshake"),
            }
        }
        Err(last)
    }

    async fn begin(at: &str, dialed: Dialed) -> Result<Talk, QuicError> {
        let Dialed { endpoint, connection, tunnel } = dialed;
        let (send, receive) = connection.open_bi().await.map_err(|e| lost(at, e))?;
        Ok(Talk { at: at.into(), connection, send, receive, endpoint, _tunnel: tunnel })
    }
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

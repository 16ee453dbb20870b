//! A QUIC connection to one broker, whose key is pinned.

use nearmost_wire::agent::Refusal;
use nearmost_wire::frame::FrameError;
use nearmost_wire::identity::{Id, KeyPair};
use nearmost_wire::tls::{self, ALPN_AGENT, SERVER_NAME, TlsError, WRONG_KEY};
use quinn::{ConnectionError, Endpoint, IdleTimeout, TransportConfig, VarInt};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How long one step of a session's beginning may take: a name's lookup, a handshake to one
/// address, an answer.
pub const STEP: Duration = Duration::from_secs(5);
/// How long to wait for the broker to have seen our last words.
const FAREWELL: Duration = Duration::from_secs(1);
/// Keeps the connection and the ways through NATs open between reports.
const KEEP_ALIVE: Duration = Duration::from_millis(1_500);
/// Silence after which the connection is lost.
const IDLE_MS: u32 = 5_000;

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The broker's name could not be looked up.
    #[error("broker {address}: its address could not be looked up: {source}")]
    Resolve {
        /// `host:port` as configured.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// No socket to speak from.
    #[error("no UDP socket to reach a broker from: {0}")]
    Socket(#[source] std::io::Error),
    /// TLS cannot be set up with our key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address is not one that can be connected to.
    #[error("broker {address}: {source}")]
    Connect {
        /// As configured.
        address: String,
        /// What is wrong.
        source: quinn::ConnectError,
    },
    /// Somebody else answers at the broker's address.
    #[error("broker {address}: wrong broker key: whoever answers there is not {expected}")]
    WrongKey {
        /// As configured.
        address: String,
        /// The broker's id.
        expected: Id,
    },
    /// The broker does not want this session.
    #[error("broker {address} refused: {} ({detail})", describe(*refusal))]
    Refused {
        /// As configured.
        address: String,
        /// Why.
        refusal: Refusal,
        /// The broker's own words.
        detail: String,
    },
    /// The connection did not come about, or was lost.
    #[error("broker {address}: {source}")]
    Lost {
        /// As configured.
        address: String,
        /// How.
        source: ConnectionError,
    },
    /// The broker took too long.
    #[error("broker {address}: no {what} within {} s", STEP.as_secs())]
    Slow {
        /// As configured.
        address: String,
        /// What was awaited.
        what: &'static str,
    },
    /// A message could not be read or written.
    #[error("broker {address}: {source}")]
    Frame {
        /// As configured.
        address: String,
        /// Why.
        source: FrameError,
    },
    /// A message that has no place there.
    #[error("broker {address}: expected {expected}, found another message")]
    OutOfOrder {
        /// As configured.
        address: String,
        /// What should have come.
        expected: &'static str,
    },
}

impl LinkError {
    /// The broker's refusal, if it is one.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            LinkError::Refused { refusal, .. } => Some(*refusal),
            _ => None,
        }
    }

    /// What [`LinkError::label`] may say, beside why brokers refuse.
    pub const LABELS: [&'static str; 9] =
        ["resolve", "socket", "tls", "connect", "wrong_key", "lost", "slow", "frame", "out_of_order"];

    /// A bounded label for counters.
    pub fn label(&self) -> &'static str {
        match self {
            LinkError::Resolve { .. } => "resolve",
            LinkError::Socket(_) => "socket",
            LinkError::Tls(_) => "tls",
            LinkError::Connect { .. } => "connect",
            LinkError::WrongKey { .. } => "wrong_key",
            LinkError::Refused { refusal, .. } => refusal.label(),
            LinkError::Lost { .. } => "lost",
            LinkError::Slow { .. } => "slow",
            LinkError::Frame { .. } => "frame",
            LinkError::OutOfOrder { .. } => "out_of_order",
        }
    }
}

/// A refusal for people.
fn describe(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::UnknownKey => "it does not know this node's key; join with a token first",
        Refusal::Revoked => "this node was revoked",
        Refusal::UnknownToken => "the token was not made there",
        Refusal::ExpiredToken => "the token has expired; ask for a new one",
        Refusal::UsedToken => "the token was used already; ask for a new one",
        Refusal::BadName => "the node's name is taken or is not a name",
        Refusal::BadMessage => "it could not read a message of ours",
        Refusal::OutOfOrder => "a message of ours came out of order",
        Refusal::Overloaded => "it has no room for another session",
        Refusal::Leaving => "it is stopping",
        Refusal::Superseded => "another agent with this node's key took the session over",
        Refusal::Storage => "it cannot write to its store",
    }
}

/// A connection and the endpoint that it lives on.
pub struct Dialled {
    /// As configured, for errors.
    pub address: String,
    /// The connection.
    pub connection: quinn::Connection,
    endpoint: Endpoint,
}

/// Connects to the broker `broker` at `address` (`host:port`), trying each address of the host.
pub async fn dial(key: &KeyPair, broker: Id, address: &str) -> Result<Dialled, LinkError> {
    let config = client_config(key, broker)?;
    let slow = |what| LinkError::Slow { address: address.into(), what };
    let unresolved = |source| LinkError::Resolve { address: address.into(), source };
    let lookup = tokio::time::timeout(STEP, tokio::net::lookup_host(address)).await;
    let found: Vec<SocketAddr> = lookup.map_err(|_| slow("name lookup"))?.map_err(unresolved)?.collect();
    let mut last = unresolved(std::io::Error::other("the name has no address"));
    for remote in found {
        let handshake = connect(&config, address, broker, remote);
        match tokio::time::timeout(STEP, handshake).await {
            Ok(Ok(dialled)) => return Ok(dialled),
            Ok(Err(e)) => last = e,
            Err(_) => last = slow("handshake"),
        }
    }
    Err(last)
}

fn client_config(key: &KeyPair, broker: Id) -> Result<quinn::ClientConfig, LinkError> {
    let crypto = tls::client_config(key, broker, ALPN_AGENT)?;
    let mut transport = TransportConfig::default();
    transport
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))))
        // The agent opens the one stream of messages; on two others the broker says what it thinks of us, and
        // how much it uses us.
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(2))
        .datagram_receive_buffer_size(None);
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

/// A connection on an endpoint of its own: it is bound to the network as it is now.
async fn connect(
    config: &quinn::ClientConfig,
    address: &str,
    broker: Id,
    remote: SocketAddr,
) -> Result<Dialled, LinkError> {
    let any: SocketAddr = match remote {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let endpoint = Endpoint::client(any).map_err(LinkError::Socket)?;
    let connecting = endpoint
        .connect_with(config.clone(), remote, SERVER_NAME)
        .map_err(|source| LinkError::Connect { address: address.into(), source })?;
    match connecting.await {
        Ok(connection) => Ok(Dialled { address: address.into(), connection, endpoint }),
        Err(e) if e.to_string().contains(WRONG_KEY) => {
            Err(LinkError::WrongKey { address: address.into(), expected: broker })
        }
        Err(e) => Err(lost(address, e)),
    }
}

/// A connection's end as an error: a refusal if the broker gave one.
fn lost(address: &str, source: ConnectionError) -> LinkError {
    if let ConnectionError::ApplicationClosed(close) = &source
        && let Some(refusal) = Refusal::from_code(close.error_code.into_inner())
    {
        let detail = String::from_utf8_lossy(&close.reason).into_owned();
        return LinkError::Refused { address: address.into(), refusal, detail };
    }
    LinkError::Lost { address: address.into(), source }
}

impl Dialled {
    /// A failed message as an error; the connection's own end says more, if it has ended.
    pub fn frame_error(&self, source: FrameError) -> LinkError {
        match self.connection.close_reason() {
            Some(reason) => self.lost(reason),
            None => LinkError::Frame { address: self.address.clone(), source },
        }
    }

    /// The connection's end as an error.
    pub fn lost(&self, source: ConnectionError) -> LinkError {
        lost(&self.address, source)
    }

    /// A step that took too long.
    pub fn slow(&self, what: &'static str) -> LinkError {
        LinkError::Slow { address: self.address.clone(), what }
    }

    /// A message that has no place there.
    pub fn out_of_order(&self, expected: &'static str) -> LinkError {
        LinkError::OutOfOrder { address: self.address.clone(), expected }
    }

    /// Waits until the broker has all that was written, then closes the connection.
    pub async fn farewell(self, mut send: quinn::SendStream) {
        if send.finish().is_ok() {
            // Whether it was seen does not change what follows.
            let _ = tokio::time::timeout(FAREWELL, send.stopped()).await;
        }
        self.connection.close(VarInt::from_u32(0), b"done");
        let _ = tokio::time::timeout(FAREWELL, self.endpoint.wait_idle()).await;
    }
}

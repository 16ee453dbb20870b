//! Finds a peer's addresses and connects.

use super::endpoint::{HANDSHAKE, transport};
use super::talk::{Established, SOFTWARE};
use nearmost_replica::PublicKey;
use nearmost_wire::frame;
use nearmost_wire::identity::{Id, KeyPair, Role};
use nearmost_wire::peer::{ALPN_PEER, Hello, Join, MAX_HELLO, PROTOCOL, Refusal};
use nearmost_wire::tls::{self, SERVER_NAME, WRONG_KEY};
use std::net::SocketAddr;
use std::sync::Arc;

/// Addresses that are tried for one peer at most, one after another.
const MAX_TRIED: usize = 8;

/// Why a peer is not connected with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DialError {
    /// Nobody said where it is.
    #[error("no address is known")]
    NoAddress,
    /// A name has no address.
    #[error("{name}: {why}")]
    Lookup {
        /// The name with its port.
        name: String,
        /// What the resolver said.
        why: String,
    },
    /// Nothing of ours reaches it.
    #[error("{address}: {why}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// What happened.
        why: String,
    },
    /// It refused.
    #[error("it refused: {}: {why}", .refusal.label())]
    Refused {
        /// With this code.
        refusal: Refusal,
        /// And this sentence.
        why: String,
    },
}

/// What dialling takes.
#[derive(Clone)]
pub(super) struct Dialler {
    pub endpoints: Vec<quinn::Endpoint>,
    pub key: KeyPair,
    /// Where this broker is reached, for one that lets it in.
    pub advertise: Vec<String>,
}

impl Dialler {
    /// Connects with a peer at the first of its addresses that answers.
    pub async fn dial(
        &self,
        peer: PublicKey,
        addresses: &[String],
        secret: Option<[u8; 16]>,
    ) -> Result<Established, DialError> {
        let mut failed = DialError::NoAddress;
        let mut tried = 0;
        for name in addresses {
            let found = match tokio::net::lookup_host(name.as_str()).await {
                Ok(found) => found,
                Err(e) => {
                    failed = DialError::Lookup { name: name.clone(), why: e.to_string() };
                    continue;
                }
            };
            for address in found {
                tried += 1;
                if tried > MAX_TRIED {
                    return Err(failed);
                }
                match tokio::time::timeout(HANDSHAKE, self.connect(peer, address, secret)).await {
                    Ok(Ok(established)) => return Ok(established),
                    Ok(Err(refused @ DialError::Refused { .. })) => return Err(refused),
                    Ok(Err(error)) => failed = error,
                    Err(_) => failed = DialError::Connect { address, why: "no answer in time".into() },
                }
            }
        }
        Err(failed)
    }

    async fn connect(
        &self,
        peer: PublicKey,
        address: SocketAddr,
        secret: Option<[u8; 16]>,
    ) -> Result<Established, DialError> {
        let failed = |why: String| DialError::Connect { address, why };
        let of_family = |e: &&quinn::Endpoint| e.local_addr().is_ok_and(|a| a.is_ipv4() == address.is_ipv4());
        let endpoint = self.endpoints.iter().find(of_family).or(self.endpoints.first());
        let endpoint = endpoint.ok_or_else(|| failed("no socket".into()))?;
        let id = Id { role: Role::Broker, key: peer.0 };
        let crypto = tls::client_config(&self.key, id, ALPN_PEER).map_err(|e| failed(e.to_string()))?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport()));
        let connecting = endpoint.connect_with(config, address, SERVER_NAME);
        let connection = connecting.map_err(|e| failed(e.to_string()))?.await.map_err(|e| {
            let text = e.to_string();
            failed(if text.contains(WRONG_KEY) {
                "another broker answers there: wrong key".into()
            } else {
                text
            })
        })?;
        let ended =
            |connection: &quinn::Connection, why: String| refused(connection).unwrap_or_else(|| failed(why));
        let (mut send, mut receive) =
            connection.open_bi().await.map_err(|e| ended(&connection, e.to_string()))?;
        let join = secret.map(|secret| Join { secret, addresses: self.advertise.clone() });
        let hello = Hello { protocol: PROTOCOL, software: SOFTWARE.into(), join };
        frame::write(&mut send, &hello).await.map_err(|e| ended(&connection, e.to_string()))?;
        let hello: Hello = frame::read_at_most(&mut receive, MAX_HELLO)
            .await
            .map_err(|e| ended(&connection, e.to_string()))?;
        match PROTOCOL.common(hello.protocol) {
            Some(protocol) => {
                Ok(Established { connection, send, receive, protocol, software: hello.software })
            }
            None => {
                let why = format!("it speaks protocol {}", hello.protocol.major);
                connection.close(Refusal::Protocol.code().into(), why.as_bytes());
                Err(DialError::Refused { refusal: Refusal::Protocol, why })
            }
        }
    }
}

/// The refusal with which the other ended a connection.
pub(super) fn refused(connection: &quinn::Connection) -> Option<DialError> {
    match connection.close_reason()? {
        quinn::ConnectionError::ApplicationClosed(close) => {
            let refusal = Refusal::from_code(close.error_code.into_inner())?;
            Some(DialError::Refused { refusal, why: String::from_utf8_lossy(&close.reason).into_owned() })
        }
        _ => None,
    }
}

//! The one-time invitation of a node: what `nearmost node invite` prints and `nearmost-agent join` takes;
//! and what a client begins with, which `nearmost domain token` prints.
//!
//! Each is a prefix and [`crate::armor`]. Whoever holds a node's can join one node; the broker keeps only
//! the secret's hash. A client's holds no secret.

use crate::armor::{self, ArmorError};
use crate::identity::{Id, Role};
use sha2::{Digest, Sha256};

const PREFIX: &str = "nmt1";
const CLIENT_PREFIX: &str = "nmc1";
const PEER_PREFIX: &str = "nmp1";

/// An invitation.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct JoinToken {
    /// Public key of the broker that made it; the agent talks to no other.
    pub broker: [u8; 32],
    /// What proves the invitation.
    pub secret: [u8; 16],
    /// Where the broker's agents' port is: `host:port`.
    pub addresses: Vec<String>,
}

/// Without the secret, which whoever reads a log could redeem.
impl std::fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("JoinToken");
        shown.field("broker", &self.broker_id().to_string()).field("addresses", &self.addresses);
        shown.finish_non_exhaustive()
    }
}

impl JoinToken {
    /// The broker's id.
    pub fn broker_id(&self) -> Id {
        Id { role: Role::Broker, key: self.broker }
    }

    /// What the broker keeps of the secret.
    pub fn secret_hash(secret: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(b"nearmost join v1").chain_update(secret).finalize().into()
    }

    /// The token's text.
    pub fn encode(&self) -> String {
        armor::encode(PREFIX, self)
    }

    /// The token of a text; white space around it is ignored.
    ///
    /// # Errors
    /// [`ArmorError`] says what is wrong with it.
    pub fn decode(text: &str) -> Result<JoinToken, ArmorError> {
        armor::decode(PREFIX, text)
    }
}

/// What a client begins with, in one text: the domain, whose word counts for it, and whom to ask. There is
/// no secret in it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ClientToken {
    /// The domain.
    pub domain: String,
    /// Key of the domain's owner; `None` where its brokers are believed.
    pub owner: Option<[u8; 32]>,
    /// Keys of brokers, and where the clients' port of each is: `host:port`.
    pub brokers: Vec<([u8; 32], String)>,
}

impl ClientToken {
    /// The token's text.
    pub fn encode(&self) -> String {
        armor::encode(CLIENT_PREFIX, self)
    }

    /// The token of a text; white space around it is ignored.
    ///
    /// # Errors
    /// [`ArmorError`] says what is wrong with it.
    pub fn decode(text: &str) -> Result<ClientToken, ArmorError> {
        armor::decode(CLIENT_PREFIX, text)
    }
}

/// The one-time invitation of a broker: what `nearmost peer invite` prints and `nearmost peer join` takes.
/// Its fields are a node's; its prefix and the hash of its secret are not, so that neither does for the
/// other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerToken(pub JoinToken);

impl PeerToken {
    /// What the broker keeps of the secret.
    pub fn secret_hash(secret: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(b"nearmost peer join v1").chain_update(secret).finalize().into()
    }

    /// The token's text.
    pub fn encode(&self) -> String {
        armor::encode(PEER_PREFIX, &self.0)
    }

    /// The token of a text; white space around it is ignored.
    ///
    /// # Errors
    /// [`ArmorError`] says what is wrong with it.
    pub fn decode(text: &str) -> Result<PeerToken, ArmorError> {
        armor::decode(PEER_PREFIX, text).map(PeerToken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back() {
        let token = JoinToken { broker: [7; 32], secret: [8; 16], addresses: vec!["b.example:7841".into()] };
        assert_eq!(JoinToken::decode(&token.encode()), Ok(token.clone()));
        let peer = PeerToken(token);
        assert_eq!(PeerToken::decode(&peer.encode()), Ok(peer.clone()));
        assert!(JoinToken::decode(&peer.encode()).is_err(), "a broker's is not a node's");
        assert_ne!(PeerToken::secret_hash(&[1; 16]), JoinToken::secret_hash(&[1; 16]));
        let brokers = vec![([1; 32], "b.example:7840".into()), ([2; 32], "[2001:db8::1]:7840".into())];
        let token = ClientToken { domain: "play.example".into(), owner: Some([3; 32]), brokers };
        assert_eq!(ClientToken::decode(&token.encode()), Ok(token));
    }

    #[test]
    fn the_secret_is_not_printed() {
        let token = JoinToken { broker: [1; 32], secret: [0xab; 16], addresses: vec!["b:1".into()] };
        let said = format!("{token:?}");
        assert!(said.contains("b:1") && !said.contains("171") && !said.contains("secret"), "{said}");
    }
}

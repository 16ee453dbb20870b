//! The one-time invitation of a node: what `nearmost node invite` prints and
//! `nearmost-agent join` takes.
//!
//! `nmt1` and base32 of: version byte, postcard of [`JoinToken`], and the first four bytes of the
//! SHA-256 of what precedes them, so that a token cut short or mistyped is told apart from one that
//! was used. Whoever holds it can join one node; the broker keeps only the secret's hash.

use crate::identity::{Id, Role};
use sha2::{Digest, Sha256};

const PREFIX: &str = "nmt1";
const VERSION: u8 = 1;
const CHECK: usize = 4;

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

/// Why a text is not a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not even the prefix.
    #[error("not a token: tokens begin with {PREFIX}")]
    Prefix,
    /// Damaged: letters are missing or wrong.
    #[error("the token is cut short or mistyped; copy all of it")]
    Damaged,
    /// Made by a newer broker.
    #[error("token version {0}; this agent knows {VERSION}: update the agent")]
    Version(u8),
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
        // Strings and arrays always encode into a growing vector.
        let mut bytes = postcard::to_extend(self, vec![VERSION]).unwrap_or_default();
        let check = Sha256::digest(&bytes);
        bytes.extend_from_slice(&check[..CHECK]);
        format!("{PREFIX}{}", data_encoding::BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
    }

    /// The token of a text; white space around it is ignored.
    pub fn decode(text: &str) -> Result<JoinToken, TokenError> {
        let rest = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Prefix)?.to_ascii_uppercase();
        let bytes = data_encoding::BASE32_NOPAD.decode(rest.as_bytes()).map_err(|_| TokenError::Damaged)?;
        let (body, check) =
            bytes.split_at_checked(bytes.len().wrapping_sub(CHECK)).ok_or(TokenError::Damaged)?;
        if Sha256::digest(body)[..CHECK] != *check {
            return Err(TokenError::Damaged);
        }
        match body.split_first() {
            Some((&VERSION, rest)) => match postcard::take_from_bytes(rest) {
                Ok((token, [])) => Ok(token),
                _ => Err(TokenError::Damaged),
            },
            Some((&other, _)) => Err(TokenError::Version(other)),
            None => Err(TokenError::Damaged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip_and_every_cut_is_named(broker: [u8; 32], secret: [u8; 16], addresses in proptest::collection::vec("[a-z.]{1,20}:[0-9]{1,5}", 1..4)) {
            let token = JoinToken { broker, secret, addresses };
            let text = token.encode();
            prop_assert_eq!(JoinToken::decode(&format!(" {text}\n")), Ok(token));
            for end in PREFIX.len()..text.len() {
                prop_assert_eq!(JoinToken::decode(&text[..end]), Err(TokenError::Damaged));
            }
        }

        #[test]
        fn arbitrary_text_never_panics(text: String) {
            let _ = JoinToken::decode(&text);
            let _ = JoinToken::decode(&format!("{PREFIX}{text}"));
        }
    }

    #[test]
    fn the_secret_is_not_printed() {
        let token = JoinToken { broker: [1; 32], secret: [0xab; 16], addresses: vec!["b:1".into()] };
        let said = format!("{token:?}");
        assert!(said.contains("b:1") && !said.contains("171") && !said.contains("secret"), "{said}");
    }

    #[test]
    fn other_things_are_told_apart() {
        assert_eq!(JoinToken::decode("hello"), Err(TokenError::Prefix));
        let mut newer = vec![9u8];
        let check = Sha256::digest(&newer);
        newer.extend_from_slice(&check[..CHECK]);
        let text = format!("{PREFIX}{}", data_encoding::BASE32_NOPAD.encode(&newer));
        assert_eq!(JoinToken::decode(&text), Err(TokenError::Version(9)));
    }
}

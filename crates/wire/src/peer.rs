//! What brokers say to each other, around the messages of [`nearmost_replica::message`].
//!
//! The one that dials opens a bidirectional stream and both say [`Hello`] on it, the dialling one first;
//! what follows are [`Message`]s, each way on its own. Each may open one unidirectional stream more, on which
//! it sends what it sees of mirrors' health ([`crate::facts`]).
//!
//! ```text
//! dialling                          accepting
//!   | -- Hello{protocol, join} ------> |   is the key a member's, or the token good?
//!   | <-- Hello{protocol} ------------ |
//!   | <=========== Message ==========> |
//! ```
//! A protocol has a major and a minor number. Of different majors nothing is understood, and the connection
//! is closed; of different minors the lower is spoken: a newer broker does not send what came later.
//!
//! | minor | adds |
//! |---|---|
//! | 0 | all but what is below |
//! | 1 | `Seen`: whom a peer is connected with; `Proofs`: why something is gone |

use nearmost_replica::message::Message;
use serde::{Deserialize, Serialize};

/// Application protocol of brokers among each other.
pub const ALPN_PEER: &[u8] = b"nearmost-peer/1";
/// What this build speaks.
pub const PROTOCOL: Protocol = Protocol { major: 1, minor: 1 };
/// Most bytes of a [`Hello`], version included: a stranger may send one.
pub const MAX_HELLO: usize = 2048;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Protocol {
    /// Different ones do not understand each other.
    pub major: u16,
    /// The lower one is spoken.
    pub minor: u16,
}

impl Protocol {
    /// What two speak with each other.
    pub fn common(self, other: Protocol) -> Option<Protocol> {
        (self.major == other.major)
            .then_some(Protocol { major: self.major, minor: self.minor.min(other.minor) })
    }

    /// Whether a message may be sent.
    pub fn knows(self, message: &Message) -> bool {
        self.minor >= 1 || !matches!(message, Message::Seen { .. } | Message::Proofs { .. })
    }
}

/// The first message of each side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// What it speaks.
    pub protocol: Protocol,
    /// Name and version of the program, for people.
    pub software: String,
    /// It is no member yet and has a token.
    pub join: Option<Join>,
}

/// A broker that wants to become a member.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The token's secret.
    pub secret: [u8; 16],
    /// Where it is reached, `host:port`.
    pub addresses: Vec<String>,
}

/// Without the secret.
impl std::fmt::Debug for Join {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Join").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// Why a broker ends a connection with another, as the QUIC application error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A message could not be read, or breaks the rules.
    BadMessage,
    /// The key is no member's.
    UnknownPeer,
    /// The token is not good.
    BadToken,
    /// Another major protocol.
    Protocol,
    /// There is another connection with the same peer, which is kept.
    Twice,
    /// The member was removed or banned.
    Removed,
    /// The broker stops.
    Leaving,
    /// The store cannot write now.
    Storage,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Refusal; 8] = [
        Refusal::BadMessage,
        Refusal::UnknownPeer,
        Refusal::BadToken,
        Refusal::Protocol,
        Refusal::Twice,
        Refusal::Removed,
        Refusal::Leaving,
        Refusal::Storage,
    ];

    /// The application error code.
    pub fn code(self) -> u32 {
        64 + self as u32
    }

    /// The refusal of a code.
    pub fn from_code(code: u64) -> Option<Refusal> {
        Refusal::ALL.into_iter().find(|r| u64::from(r.code()) == code)
    }

    /// A snake-case label for logs and counters.
    pub fn label(self) -> &'static str {
        match self {
            Refusal::BadMessage => "bad_message",
            Refusal::UnknownPeer => "unknown_peer",
            Refusal::BadToken => "bad_token",
            Refusal::Protocol => "protocol",
            Refusal::Twice => "twice",
            Refusal::Removed => "removed",
            Refusal::Leaving => "leaving",
            Refusal::Storage => "storage",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;
    use proptest::prelude::*;

    #[test]
    fn the_lower_minor_is_spoken_and_other_majors_are_not_understood() {
        let (new, old) = (Protocol { major: 1, minor: 4 }, Protocol { major: 1, minor: 0 });
        assert_eq!(new.common(old), Some(old));
        assert_eq!(old.common(new), Some(old));
        assert_eq!(new.common(Protocol { major: 2, minor: 0 }), None);
        assert!(!old.knows(&Message::Seen { peers: vec![] }) && new.knows(&Message::Seen { peers: vec![] }));
        assert!(old.knows(&Message::Announce { boot: 1 }));
    }

    #[test]
    fn codes_are_distinct_and_come_back() {
        for r in Refusal::ALL {
            assert_eq!(Refusal::from_code(r.code().into()), Some(r));
        }
    }

    #[test]
    fn the_largest_hello_fits() {
        let join = Join { secret: [9; 16], addresses: vec!["h".repeat(255); 4] };
        let hello = Hello { protocol: PROTOCOL, software: "s".repeat(100), join: Some(join) };
        let bytes = frame::encode(&hello).unwrap();
        assert!(bytes.len() < MAX_HELLO);
        assert_eq!(frame::decode::<Hello>(&bytes[4..]).unwrap(), hello);
        assert!(!format!("{hello:?}").contains("secret"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = frame::decode::<Hello>(&bytes);
            if let Ok(message) = frame::decode::<Message>(&bytes) {
                let _ = message.check_bounds();
            }
        }
    }
}

//! The messages of the control stream, which the client opens first and which lives as long as the
//! connection.

use nearmost_core::session::{self, mirror};
use serde::{Deserialize, Serialize};

/// Largest message in bytes, version included.
pub const MAX_MESSAGE: usize = 4 * 1024;

/// What a mirror is to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// New work goes to it.
    Primary,
    /// It is kept warm.
    Standby,
}

/// From a client to a mirror.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToMirror {
    /// Begin, or take over, a session.
    Attach(Attach),
    /// New work goes elsewhere; what is under way is finished here.
    Retired,
}

/// A session that wants to be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Of which domain.
    pub domain: String,
    /// The session: a random number of the client's, the same at every mirror.
    pub session: u64,
    /// As what.
    pub role: Role,
}

/// From a mirror to a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToClient {
    /// Answers [`ToMirror::Attach`]: the session is attached.
    Accepted(Accepted),
    /// Answers [`ToMirror::Attach`]; to a session that is attached it says that it is not promoted.
    Refused(Refused),
    /// The mirror is to be left.
    Drain {
        /// Name of a mirror where there is room, if one is known.
        go_to: Option<String>,
        /// When the connection is closed at the latest, in milliseconds.
        within_ms: u32,
    },
}

/// A session is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// As what.
    pub role: Role,
    /// The service takes UDP flows.
    pub udp: bool,
    /// The service takes TCP connections.
    pub tcp: bool,
    /// Flows of both kinds that the session may have at once.
    pub max_flows: u32,
}

/// A session is not attached, or not promoted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why.
    pub reason: RefuseReason,
    /// Not to be tried before, in milliseconds.
    pub retry_after_ms: u32,
    /// Name of a mirror where there is room, if one is known.
    pub go_to: Option<String>,
}

/// Why a session is not attached, or not promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RefuseReason {
    /// No room.
    Full,
    /// The mirror is being left.
    Draining,
    /// The session is another client's. Mirrors no longer say so: sessions of two clients never meet.
    Foreign,
    /// The client has not proved who it is.
    Unproven,
}

impl RefuseReason {
    /// A snake-case label for logs and counters.
    pub fn label(self) -> &'static str {
        match self {
            RefuseReason::Full => "full",
            RefuseReason::Draining => "draining",
            RefuseReason::Foreign => "foreign",
            RefuseReason::Unproven => "unproven",
        }
    }
}

impl From<Role> for session::Role {
    fn from(role: Role) -> session::Role {
        match role {
            Role::Primary => session::Role::Primary,
            Role::Standby => session::Role::Standby,
        }
    }
}

impl From<session::Role> for Role {
    fn from(role: session::Role) -> Role {
        match role {
            session::Role::Primary => Role::Primary,
            session::Role::Standby => Role::Standby,
        }
    }
}

impl From<mirror::RefuseReason> for RefuseReason {
    fn from(reason: mirror::RefuseReason) -> RefuseReason {
        match reason {
            mirror::RefuseReason::Full => RefuseReason::Full,
            mirror::RefuseReason::Draining => RefuseReason::Draining,
            mirror::RefuseReason::Unproven => RefuseReason::Unproven,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;
    use proptest::prelude::*;

    fn role() -> impl Strategy<Value = Role> {
        prop_oneof![Just(Role::Primary), Just(Role::Standby)]
    }

    fn reason() -> impl Strategy<Value = RefuseReason> {
        use RefuseReason::{Draining, Foreign, Full, Unproven};
        prop_oneof![Just(Full), Just(Draining), Just(Foreign), Just(Unproven)]
    }

    fn to_client() -> impl Strategy<Value = ToClient> {
        let go_to = || prop::option::of("[a-z]{1,63}");
        let accepted =
            (role(), any::<bool>(), any::<bool>(), any::<u32>()).prop_map(|(role, udp, tcp, max_flows)| {
                ToClient::Accepted(Accepted { role, udp, tcp, max_flows })
            });
        let refused = (reason(), any::<u32>(), go_to()).prop_map(|(reason, retry_after_ms, go_to)| {
            ToClient::Refused(Refused { reason, retry_after_ms, go_to })
        });
        let drain =
            (go_to(), any::<u32>()).prop_map(|(go_to, within_ms)| ToClient::Drain { go_to, within_ms });
        prop_oneof![accepted, refused, drain]
    }

    #[test]
    fn the_largest_messages_fit() {
        let attach = Attach { domain: "d".repeat(253), session: u64::MAX, role: Role::Standby };
        assert!(frame::encode(&ToMirror::Attach(attach)).unwrap().len() < MAX_MESSAGE / 2);
        let drain = ToClient::Drain { go_to: Some("m".repeat(63)), within_ms: u32::MAX };
        assert!(frame::encode(&drain).unwrap().len() < MAX_MESSAGE / 2);
    }

    proptest! {
        #[test]
        fn what_clients_say_round_trips(domain in "[a-z.]{0,253}", session: u64, role in role()) {
            for message in [ToMirror::Retired, ToMirror::Attach(Attach { domain, session, role })] {
                let bytes = frame::encode(&message).unwrap();
                prop_assert_eq!(frame::decode::<ToMirror>(&bytes[4..]).unwrap(), message);
            }
        }

        #[test]
        fn what_mirrors_say_round_trips(message in to_client()) {
            let bytes = frame::encode(&message).unwrap();
            prop_assert_eq!(frame::decode::<ToClient>(&bytes[4..]).unwrap(), message);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = frame::decode::<ToMirror>(&bytes);
            let _ = frame::decode::<ToClient>(&bytes);
        }
    }
}

//! A stream for a TCP connection: how it begins, and how it breaks.
//!
//! The client opens the stream and sends an [`Open`]; the mirror answers with an [`OpenAnswer`]. From then
//! on both directions carry the connection's bytes and nothing else:
//!
//! | on the TCP side | on the stream |
//! |---|---|
//! | FIN: no more bytes | FIN |
//! | RST, or the connection broke in any other way | RESET_STREAM and STOP_SENDING with [`Break::Aborted`] |
//!
//! and the other way round. So a connection that broke is never shown as one that ended. TCP cannot refuse
//! one direction alone: either of RESET_STREAM and STOP_SENDING breaks the whole connection.

use serde::{Deserialize, Serialize};

/// Header of a stream, from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// To which port of the service.
    pub kind: FlowKind,
}

/// The ports of a service, by what they speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FlowKind {
    /// TCP.
    Tcp,
}

/// The mirror's answer to an [`Open`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpenAnswer {
    /// The connection to the service stands.
    Opened,
    /// There is none, and nothing was sent to the service; the stream ends here.
    Failed {
        /// Why.
        code: OpenError,
    },
}

/// Why a stream has no connection to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OpenError {
    /// The service takes none of that kind.
    NotServed,
    /// The session is not served here: it was not promoted, or it is retired.
    NotPrimary,
    /// The session, or the mirror, has as many flows as it may.
    TooMany,
    /// The service refused the connection.
    Refused,
    /// The service did not answer in time.
    Timeout,
    /// The connection failed in another way.
    Unreachable,
}

impl OpenError {
    /// Every error.
    pub const ALL: [OpenError; 6] = [
        OpenError::NotServed,
        OpenError::NotPrimary,
        OpenError::TooMany,
        OpenError::Refused,
        OpenError::Timeout,
        OpenError::Unreachable,
    ];

    /// A snake-case label for logs and counters.
    pub fn label(self) -> &'static str {
        match self {
            OpenError::NotServed => "not_served",
            OpenError::NotPrimary => "not_primary",
            OpenError::TooMany => "too_many",
            OpenError::Refused => "refused",
            OpenError::Timeout => "timeout",
            OpenError::Unreachable => "unreachable",
        }
    }
}

/// Why a stream breaks, as the error code of RESET_STREAM and STOP_SENDING.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Break {
    /// The TCP connection of the other end broke.
    Aborted,
}

impl Break {
    /// The application error code.
    pub fn code(self) -> u32 {
        match self {
            Break::Aborted => 64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;
    use crate::ingress::close::Refusal;
    use proptest::prelude::*;

    #[test]
    fn headers_round_trip() {
        let open = Open { kind: FlowKind::Tcp };
        assert_eq!(frame::decode::<Open>(&frame::encode(&open).unwrap()[4..]).unwrap(), open);
        let failed = OpenError::ALL.map(|code| OpenAnswer::Failed { code });
        for answer in failed.into_iter().chain([OpenAnswer::Opened]) {
            assert_eq!(frame::decode::<OpenAnswer>(&frame::encode(&answer).unwrap()[4..]).unwrap(), answer);
        }
    }

    #[test]
    fn a_broken_stream_is_no_closed_connection() {
        assert_eq!(Refusal::from_code(Break::Aborted.code().into()), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = frame::decode::<Open>(&bytes);
            let _ = frame::decode::<OpenAnswer>(&bytes);
        }
    }
}

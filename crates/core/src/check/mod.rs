//! What a check of a service is: plain types shared by agents (which check their own services) and
//! brokers (which probe mirrors from outside). How a check is carried out lives in the shells.

mod dns;
mod keys;
mod payload;
mod talk;

pub use dns::{DnsCheck, RecordType, ResponseCode};
pub use keys::{foreign_key, kinds_with};
pub use payload::{payload, payload_text};
pub use talk::{MAX_TALK_BYTES, TalkCheck, TalkStep};

use std::time::Duration;

/// One check of one service.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckSpec {
    /// What is asked of the service.
    pub kind: CheckKind,
    /// Time between the starts of two checks.
    pub interval: Duration,
    /// After this long an unanswered check has failed.
    pub timeout: Duration,
    /// Successes in a row that make a failing service good again; at least 1.
    pub rise: u8,
    /// Failures in a row that make a good service bad; at least 1.
    pub fall: u8,
}

/// The kinds of check.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckKind {
    /// A TCP connection is accepted.
    Tcp,
    /// A TLS handshake over TCP succeeds.
    Tls(HandshakeCheck),
    /// An HTTP or HTTPS request is answered as expected.
    Http(HttpCheck),
    /// A conversation over TCP or TLS goes as expected.
    Talk(TalkCheck),
    /// A datagram is answered; `expect` must be within the reply (empty: any reply will do).
    Udp {
        /// Bytes sent.
        send: Vec<u8>,
        /// Bytes looked for in the reply.
        expect: Vec<u8>,
    },
    /// A DNS query is answered as expected.
    Dns(DnsCheck),
    /// A QUIC handshake (version 1) completes. That something answers is not enough: version negotiation
    /// and a refusal are failures, each with its name.
    Quic(HandshakeCheck),
    /// A program exits with status 0. Only agents run commands; brokers refuse them.
    Command {
        /// Program and arguments; no shell.
        argv: Vec<String>,
        /// A program that writes more than this, in bytes of both its outputs together, is killed and
        /// has failed.
        max_output: u64,
    },
}

impl CheckKind {
    /// Whether the service is known to be spoken to over UDP, so that it may take no TCP connections.
    pub fn over_udp(&self) -> bool {
        matches!(self, CheckKind::Udp { .. } | CheckKind::Dns(_) | CheckKind::Quic(_))
    }
}

/// What TLS is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsTerms {
    /// Verify the certificate's chain and name.
    pub verify: bool,
    /// Fail when the certificate expires in fewer days than this.
    pub min_days_to_expiry: Option<u32>,
}

impl Default for TlsTerms {
    /// Verified, its expiry not looked at.
    fn default() -> Self {
        TlsTerms { verify: true, min_days_to_expiry: None }
    }
}

/// A handshake of TLS or QUIC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandshakeCheck {
    /// Server name, which the certificate must have; the address when absent.
    pub host: Option<String>,
    /// Protocols offered (ALPN), of which the service must choose one. TLS may do without any.
    pub alpn: Vec<String>,
    /// What is verified.
    pub terms: TlsTerms,
}

/// Versions of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: chosen by ALPN over TLS, else by prior knowledge.
    Http2,
}

/// An HTTP(S) request and what its answer must be.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpCheck {
    /// Which HTTP.
    pub version: HttpVersion,
    /// Speak TLS, and hold the certificate to these terms.
    pub tls: Option<TlsTerms>,
    /// Path and query, starting with `/`.
    pub path: String,
    /// `Host` header (HTTP/2: `:authority`) and TLS server name; the address when absent.
    pub host: Option<String>,
    /// Status codes that are good, both ends included.
    pub status: (u16, u16),
    /// Text that the first 64 KiB of the body must contain.
    pub body_contains: Option<String>,
}

/// The protocol that QUIC checks offer unless they say otherwise.
pub const DEFAULT_QUIC_ALPN: &str = "h3";

/// How much a command may write unless its check says otherwise, in bytes.
pub const DEFAULT_MAX_OUTPUT: u64 = 1 << 20;

/// How one check ended.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckOutcome {
    /// The service answered as expected, after this long.
    Pass {
        /// From the first packet to the verdict.
        took: Duration,
    },
    /// It did not; the text names what was expected and what was found.
    Fail {
        /// For people; at most 200 characters.
        reason: String,
        /// Something came back in time, a refusal or a wrong answer: it is not silence, for which the
        /// way there could be to blame.
        answered: bool,
    },
}

impl CheckOutcome {
    /// Whether the check passed.
    pub fn passed(&self) -> bool {
        matches!(self, CheckOutcome::Pass { .. })
    }
}

//! What a check of a service is: plain types shared by agents (which check their own services) and
//! brokers (which probe mirrors from outside). How a check is carried out lives in the shells.

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
    /// An HTTP or HTTPS request is answered as expected.
    Http(HttpCheck),
    /// A datagram is answered; `expect` must be within the reply (empty: any reply will do).
    Udp {
        /// Bytes sent.
        send: Vec<u8>,
        /// Bytes looked for in the reply.
        expect: Vec<u8>,
    },
    /// A program exits with status 0. Only agents run commands; brokers refuse them.
    Command {
        /// Program and arguments; no shell.
        argv: Vec<String>,
    },
}

/// An HTTP(S) request and what its answer must be.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpCheck {
    /// Speak TLS, and verify the certificate against `host` unless `verify` is off.
    pub tls: bool,
    /// Path and query, starting with `/`.
    pub path: String,
    /// `Host` header and TLS server name; the address when absent.
    pub host: Option<String>,
    /// Status codes that are good, both ends included.
    pub status: (u16, u16),
    /// Text that the first 64 KiB of the body must contain.
    pub body_contains: Option<String>,
    /// Verify the certificate's chain and name.
    pub verify: bool,
    /// Fail when the certificate expires in fewer days than this.
    pub min_days_to_expiry: Option<u32>,
}

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
    },
}

impl CheckOutcome {
    /// Whether the check passed.
    pub fn passed(&self) -> bool {
        matches!(self, CheckOutcome::Pass { .. })
    }
}

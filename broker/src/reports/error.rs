//! Why a report is not taken.

use super::token::TokenError;
use nearmost_wire::client::{MAX_RTT_MS, MAX_RTTS};
use std::net::IpAddr;
use std::time::Duration;

/// Why a report is not taken. Nothing of it is used then.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReportError {
    /// The source has reported too much.
    #[error("{client} reports too often; wait {} s", retry_after_s(*.wait))]
    TooOften {
        /// Who.
        client: IpAddr,
        /// Until it may again.
        wait: Duration,
    },
    /// The session is not one.
    #[error(transparent)]
    Session(#[from] TokenError),
    /// The report's domain is not there, or is gone since the session was given.
    #[error("no domain {0:?}")]
    UnknownDomain(String),
    /// More round trips, or more mirrors not reached, than a report may have.
    #[error("{0} mirrors; at most {MAX_RTTS} are taken at once")]
    TooMany(usize),
    /// Neither round trips, nor mirrors not reached, nor a one-time name.
    #[error("the report says nothing: it has neither round trips, nor mirrors not reached, nor a nonce")]
    Empty,
    /// A mirror that the domain does not have.
    #[error("{domain} has no mirror {mirror:?}")]
    UnknownMirror {
        /// The domain.
        domain: String,
        /// The name given, cut to what a name can have.
        mirror: String,
    },
    /// A round trip that is none.
    #[error("{mirror}: {rtt_ms} ms is no round trip; expected more than 0 and at most {MAX_RTT_MS}")]
    Range {
        /// The mirror.
        mirror: String,
        /// What was given, in milliseconds.
        rtt_ms: f64,
    },
    /// A nonce that no one-time name has.
    #[error("the nonce is not of 16 to 32 letters and digits")]
    Nonce,
}

/// A wait in whole seconds, rounded up.
pub(crate) fn retry_after_s(wait: Duration) -> u64 {
    wait.as_secs() + 1
}

impl ReportError {
    /// A bounded, snake-case code; label of the counter.
    pub fn code(&self) -> &'static str {
        match self {
            ReportError::TooOften { .. } => "reports_too_often",
            ReportError::Session(e) => e.code(),
            ReportError::UnknownDomain(_) => "unknown_domain",
            ReportError::TooMany(_) => "too_many_rtts",
            ReportError::Empty => "no_rtts",
            ReportError::UnknownMirror { .. } => "unknown_mirror",
            ReportError::Range { .. } => "rtt_range",
            ReportError::Nonce => "nonce_malformed",
        }
    }
}

//! The messages between a client and a broker.
//!
//! The client opens one bidirectional stream after the handshake and asks; the broker answers in the
//! order of the questions. The handshake has proven the client's address, so a report needs no token.
//! What breaks the protocol closes the connection with a [`Refusal`] as the QUIC application error
//! code and a sentence as the reason; a report that is not taken is answered, and the session goes on.
//!
//! ```text
//! client                              broker
//!   | -- Resolve{domain} ------------->  |
//!   | <-- Resolved{mirrors,measure} ---  |
//!   |        … times the mirrors …       |
//!   | -- Rtt{domain,rtts,nonce} ------>  |
//!   | <-- Taken{accepted,measure} -----  |
//!        … and so on until none is named …
//!   | -- Subscribe{domain,have} ------>  |
//!   | <-- List(signed) ----------------  |   at once, and again whenever something changes
//! ```
//!
//! Lists and their changes are [`crate::list`]. Pushes come between answers; each other question is
//! answered in its turn. What a client tells of its session with mirrors has a stream of its own:
//! [`crate::fare`].

use crate::list::{Signed, Version};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Largest message of a client in bytes, version included: a full report has less than three quarters of it.
pub const MAX_MESSAGE: usize = 8 * 1024;
/// Most round trips of one report.
pub const MAX_RTTS: usize = 32;
/// Longest round trip that is reported, in milliseconds.
pub const MAX_RTT_MS: f64 = 10_000.0;
/// Most mirrors that a client is asked to measure in one session, or after one resolving over HTTP.
pub const MAX_MEASURED: usize = 5;
/// Most of them that are named when it resolves …
pub const FIRST_MEASURED: usize = 3;
/// … and in the answer to a report, which is about what the ones before turned out to be.
pub const NEXT_MEASURED: usize = 2;
/// Most mirrors in a [`Resolved`], apart from those to measure.
pub const MAX_MIRRORS: usize = 64;

/// From a client to a broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToBroker {
    /// Which mirrors does the domain have for me?
    Resolve {
        /// The domain.
        domain: String,
    },
    /// What was measured, and what could not be reached.
    Rtt(Rtt),
    /// The signed list of a domain, or what is new of it, now and whenever it changes. Asked again of the
    /// same domain, it is answered once more; a session follows one domain.
    Subscribe {
        /// The domain.
        domain: String,
        /// The version that is held.
        have: Option<Version>,
    },
}

/// Round trips that a client measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rtt {
    /// Whose mirrors.
    pub domain: String,
    /// At most [`MAX_RTTS`].
    pub rtts: Vec<Measured>,
    /// First label of the one-time name that was looked up before.
    pub nonce: Option<String>,
    /// Mirrors that were to be measured in this session and are not among the round trips: those reported
    /// before, and those that could not be reached. They count among the [`MAX_MEASURED`].
    pub tried: Vec<String>,
    /// Mirrors that could not be reached just now, at most [`MAX_RTTS`]: they are probed for it, and for
    /// this network they count as far.
    pub failed: Vec<String>,
}

/// One measured round trip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The mirror's name.
    pub mirror: String,
    /// In milliseconds: above 0, at most [`MAX_RTT_MS`].
    pub rtt_ms: f64,
}

/// From a broker to a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToClient {
    /// Answers [`ToBroker::Resolve`].
    Resolved(Resolved),
    /// Answers [`ToBroker::Rtt`].
    Taken(Taken),
    /// Answers [`ToBroker::Subscribe`], and comes by itself.
    List(Signed),
}

/// The mirrors of a domain for one client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resolved {
    /// The domain.
    pub domain: String,
    /// The client's address as the broker sees it; the answer is for it.
    pub observed: IpAddr,
    /// How long the answer may be used, in seconds.
    pub ttl_s: u32,
    /// Eligible ones first, nearest first; the first [`MAX_MIRRORS`] and those to measure.
    pub mirrors: Vec<Mirror>,
    /// Names of those whose round trips are worth measuring now, at most [`FIRST_MEASURED`].
    pub measure: Vec<String>,
}

/// One mirror as a client sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mirror {
    /// Its name.
    pub name: String,
    /// At most one of each family.
    pub addresses: Vec<IpAddr>,
    /// Service port.
    pub port: u16,
    /// Predicted round trip, in milliseconds.
    pub rtt_ms: f32,
    /// Whether new users are sent there (in any family).
    pub eligible: bool,
}

/// What became of a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    /// Round trips taken: all or none.
    pub accepted: u32,
    /// Whether the one-time name tied the client's network to its resolver.
    pub tied: bool,
    /// Mirrors that are worth measuring after what was reported, at most [`NEXT_MEASURED`]. With what the
    /// report names they are at most [`MAX_MEASURED`].
    pub measure: Vec<Mirror>,
    /// Why nothing was taken.
    pub refused: Option<Declined>,
}

/// Why a report was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declined {
    /// A bounded, snake-case code; the HTTP API has the same.
    pub code: String,
    /// A sentence that names what was wrong.
    pub message: String,
}

/// Why a broker ends a client's session, as the QUIC application error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A message could not be read.
    BadMessage,
    /// The broker does not serve the domain.
    UnknownDomain,
    /// More messages than a client has use for.
    TooFast,
    /// Nothing was asked for too long.
    Idle,
    /// The broker stops; try another, or this one later.
    Leaving,
    /// The client does not read what it is sent.
    TooSlow,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Refusal; 6] = [
        Refusal::BadMessage,
        Refusal::UnknownDomain,
        Refusal::TooFast,
        Refusal::Idle,
        Refusal::Leaving,
        Refusal::TooSlow,
    ];

    /// The application error code.
    pub fn code(self) -> u32 {
        16 + self as u32
    }

    /// The refusal of a code.
    pub fn from_code(code: u64) -> Option<Refusal> {
        Refusal::ALL.into_iter().find(|r| u64::from(r.code()) == code)
    }

    /// A snake-case label for logs and counters.
    pub fn label(self) -> &'static str {
        match self {
            Refusal::BadMessage => "bad_message",
            Refusal::UnknownDomain => "unknown_domain",
            Refusal::TooFast => "too_fast",
            Refusal::Idle => "idle",
            Refusal::Leaving => "leaving",
            Refusal::TooSlow => "too_slow",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;
    use proptest::prelude::*;

    #[test]
    fn codes_are_distinct_and_come_back() {
        for r in Refusal::ALL {
            assert_eq!(Refusal::from_code(r.code().into()), Some(r));
        }
        assert_eq!(Refusal::from_code(0), None);
    }

    #[test]
    fn answers_round_trip() {
        let mirror = Mirror {
            name: "lon".into(),
            addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            port: 443,
            rtt_ms: 12.5,
            eligible: true,
        };
        let resolved = ToClient::Resolved(Resolved {
            domain: "play.example".into(),
            observed: "198.51.100.7".parse().unwrap(),
            ttl_s: 20,
            mirrors: vec![mirror.clone()],
            measure: vec!["lon".into()],
        });
        let declined = Declined { code: "rtt_range".into(), message: "0 ms".into() };
        let taken =
            Taken { accepted: 0, tied: false, measure: vec![mirror.clone()], refused: Some(declined) };
        let taken = ToClient::Taken(taken);
        for message in [resolved, taken] {
            let bytes = frame::encode(&message).unwrap();
            assert_eq!(frame::decode::<ToClient>(&bytes[4..]).unwrap(), message);
        }
    }

    /// The bound on messages is wide enough for everything that is within the other bounds.
    #[test]
    fn the_largest_report_fits() {
        let entry = Measured { mirror: "m".repeat(63), rtt_ms: 1.0 };
        let report = ToBroker::Rtt(Rtt {
            domain: "d".repeat(253),
            rtts: vec![entry; MAX_RTTS],
            nonce: Some("n".repeat(32)),
            tried: vec!["m".repeat(63); MAX_MEASURED],
            failed: vec!["m".repeat(63); MAX_RTTS],
        });
        assert!(frame::encode(&report).unwrap().len() < MAX_MESSAGE * 3 / 4);
    }

    proptest! {
        #[test]
        fn questions_round_trip(domain in "[a-z.]{0,40}", mirrors in prop::collection::vec(("[a-z]{1,9}", 0.0..1e4), 0..5), nonce: Option<String>, tried: Vec<String>, failed: Vec<String>) {
            let rtts = mirrors.into_iter().map(|(mirror, rtt_ms)| Measured { mirror, rtt_ms }).collect();
            for message in [ToBroker::Resolve { domain: domain.clone() }, ToBroker::Rtt(Rtt { domain, rtts, nonce, tried, failed })] {
                let bytes = frame::encode(&message).unwrap();
                prop_assert_eq!(frame::decode::<ToBroker>(&bytes[4..]).unwrap(), message);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = frame::decode::<ToBroker>(&bytes);
            let _ = frame::decode::<ToClient>(&bytes);
        }
    }
}

//! Who asks, and what came of it: what the shells hand in and what their metrics need.

use crate::cookie::CookieState;
use crate::error::QueryError;
use crate::onetime::Nonce;
use arrayvec::ArrayVec;
use nearmost_core::ranking::{Basis, MAX_ANSWERS};
use nearmost_core::registry::{DomainIndex, MirrorIndex};
use nearmost_core::time::UnixMillis;
use std::net::IpAddr;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Transport {
    /// One datagram; answers are bounded by what the client says it can take.
    Udp,
    /// A stream with two-byte lengths (RFC 7766); answers up to 65 535 bytes.
    Tcp,
    /// The same inside TLS (RFC 7858).
    Tls,
    /// One QUIC stream a query (RFC 9250).
    Quic,
}

impl Transport {
    /// All, in the order of their discriminants.
    pub const ALL: [Transport; 4] = [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Quic];

    /// Whether nobody on the way can read it.
    pub fn encrypted(self) -> bool {
        matches!(self, Transport::Tls | Transport::Quic)
    }

    /// Label for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Quic => "quic",
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The address that the query came from: a resolver's, as a rule.
    pub source: IpAddr,
    /// How it came.
    pub transport: Transport,
    /// When it came: cookies and signatures have lifetimes.
    pub now: UnixMillis,
}

/// The response codes that are given (RFC 1035 §4.1.1, RFC 6891 §9, RFC 7873 §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Rcode {
    /// Answered, or nothing of that type (NODATA).
    #[default]
    NoError,
    /// The query is malformed.
    FormErr,
    /// A record of ours cannot be put on the wire.
    ServFail,
    /// No such name.
    NxDomain,
    /// The opcode or type is not implemented.
    NotImp,
    /// Not our zone, not our class, or no zone transfers here.
    Refused,
    /// An EDNS version that is not spoken here.
    BadVers,
    /// A server cookie is needed, and the reply has one (RFC 7873 §5.2).
    BadCookie,
}

impl Rcode {
    /// All, in the order of their discriminants.
    pub const ALL: [Rcode; 8] = [
        Rcode::NoError,
        Rcode::FormErr,
        Rcode::ServFail,
        Rcode::NxDomain,
        Rcode::NotImp,
        Rcode::Refused,
        Rcode::BadVers,
        Rcode::BadCookie,
    ];

    /// The twelve-bit code of RFC 6891 §6.1.3.
    pub fn code(self) -> u16 {
        match self {
            Rcode::NoError => 0,
            Rcode::FormErr => 1,
            Rcode::ServFail => 2,
            Rcode::NxDomain => 3,
            Rcode::NotImp => 4,
            Rcode::Refused => 5,
            Rcode::BadVers => 16,
            Rcode::BadCookie => 23,
        }
    }

    /// Label for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Rcode::NoError => "noerror",
            Rcode::FormErr => "formerr",
            Rcode::ServFail => "servfail",
            Rcode::NxDomain => "nxdomain",
            Rcode::NotImp => "notimp",
            Rcode::Refused => "refused",
            Rcode::BadVers => "badvers",
            Rcode::BadCookie => "badcookie",
        }
    }
}

/// How mirrors were chosen for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChosenFor {
    /// From which of them.
    pub basis: Basis,
    /// The address whose place decided: the client's as its resolver tells it, or the resolver's.
    pub client: IpAddr,
}

/// What counters and limits go by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Whether the query carried a client subnet option.
    pub ecs: bool,
    /// What the query's cookie says about its source.
    pub cookie: CookieState,
    /// Replies of one response code that are alike have the same number, whatever is asked to get more
    /// of them: those of a name and type; all of a zone for names that are made up. 0 for what no zone
    /// of ours answers.
    pub alike: u64,
    /// Whether the name that was asked for, or the one that aliases led to, does not exist. The reply's code
    /// does not tell: a signed denial has none (RFC 9824 §3.1).
    pub denial: bool,
    /// Bytes of the reply; 0 when there is none.
    pub reply_bytes: u16,
}

/// What came of one query. The reply itself is in the caller's buffer, which is empty when there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The reply's code; meaningless when the message was dropped.
    pub rcode: Rcode,
    /// The type asked for; 0 when the question was not readable.
    pub qtype: u16,
    /// What counters and limits go by besides.
    pub account: Account,
    /// The scope returned, when one was.
    pub scope: Option<u8>,
    /// Whether TC is set in the reply.
    pub truncated: bool,
    /// The registered domain that the name belongs to.
    pub domain: Option<DomainIndex>,
    /// The mirrors that the answer names, best first.
    pub mirrors: ArrayVec<MirrorIndex, MAX_ANSWERS>,
    /// How they were chosen, and for whom; `None` when the answer does not depend on mirrors.
    pub chosen: Option<ChosenFor>,
    /// The nonce of the one-time name whose addresses were asked for.
    pub nonce: Option<Nonce>,
    /// Why the message was not accepted as a query.
    pub error: Option<QueryError>,
}

impl Outcome {
    /// Whether there is no reply.
    pub fn dropped(&self) -> bool {
        self.error.is_some_and(|e| e.kind.rcode().is_none())
    }
}

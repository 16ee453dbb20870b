//! How a domain's mirrors are shared out among its users.

use crate::geo::CountryCode;
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Most rules of one domain.
pub const MAX_RULES: usize = 256;

/// A domain's answer policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Most addresses in one DNS answer; more than one only within the tie band.
    pub answers: u8,
    /// TTL of address answers that may change as ever.
    pub ttl: Duration,
    /// TTL of negative answers (SOA minimum, RFC 2308).
    pub negative_ttl: Duration,
    /// Mirrors within this many milliseconds of the best are as good as it …
    pub tie_band_ms: f32,
    /// … or within this share of the best's round trip, whichever is wider.
    pub tie_band_share: f32,
    /// What happens when mirrors fail and come back.
    pub failover: Failover,
    /// `Service` names offered with HTTPS/SVCB and SRV: the port is the mirror's own.
    pub alpn: Vec<String>,
    /// By what mirrors are chosen.
    pub strategy: Strategy,
    /// Who is sent to, or kept from, which mirrors, whatever the strategy.
    pub rules: Vec<Rule>,
    /// Share of client networks that are sent to a mirror that may be better but was not measured
    /// from there, 0..=1. Only mirrors about as near as the best are tried.
    pub explore: f32,
}

impl Default for Policy {
    /// What a domain has of which only the name was given.
    fn default() -> Self {
        Policy {
            answers: 2,
            ttl: Duration::from_secs(20),
            negative_ttl: Duration::from_secs(30),
            tie_band_ms: 3.0,
            tie_band_share: 0.05,
            failover: Failover::default(),
            alpn: Vec::new(),
            strategy: Strategy::Balanced,
            rules: Vec::new(),
            explore: 0.01,
        }
    }
}

/// What happens when mirrors fail and come back.
#[derive(Clone, Debug, PartialEq)]
pub struct Failover {
    /// What is answered when no mirror is eligible.
    pub all_down: AllDown,
    /// TTL while an answer may change within seconds.
    pub ttl_least: Duration,
    /// TTL once nothing has changed for long.
    pub ttl_most: Duration,
    /// A mirror that was evicted comes back only when a person lets it.
    pub manual_failback: bool,
}

impl Default for Failover {
    fn default() -> Self {
        Failover {
            all_down: AllDown::LastKnown,
            ttl_least: Duration::from_secs(5),
            ttl_most: Duration::from_secs(60),
            manual_failback: false,
        }
    }
}

impl Policy {
    /// TTL of an address answer that changes at this pace: within the domain's bounds, whichever way
    /// they are set.
    pub fn ttl_at(&self, pace: Pace) -> Duration {
        match pace {
            Pace::Quick => self.ttl.min(self.failover.ttl_least),
            Pace::Usual => self.ttl,
            Pace::Calm => self.ttl.max(self.failover.ttl_most),
        }
    }
}

/// How soon an answer could change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    /// Within seconds: evidence is being gathered, it failed lately, or a window is about to begin.
    Quick,
    /// As ever.
    #[default]
    Usual,
    /// Nothing has changed for long.
    Calm,
}

/// By what mirrors are chosen among those that are eligible.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Strategy {
    /// The lowest predicted round trip and nothing else, whatever weights say.
    Nearest,
    /// Mirrors within the tie band of the best share users by weight and room.
    #[default]
    Balanced,
    /// All mirrors share users by weight, however far they are.
    Weighted,
    /// The first of this list of names that is eligible; those that it leaves out follow, nearest first.
    Failover(Vec<Arc<str>>),
}

/// Who is sent to, or kept from, which mirrors.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Whom it is about.
    pub who: Who,
    /// What it does.
    pub effect: RuleEffect,
    /// Names of mirrors of the domain.
    pub mirrors: Vec<Arc<str>>,
}

/// Whom a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Clients in a country.
    Country(CountryCode),
    /// Clients in an autonomous system.
    Asn(u32),
    /// Clients in a prefix.
    Prefix(IpNet),
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleEffect {
    /// These mirrors before all others; the others only when none of these is eligible. Where several
    /// pins are about one client, that of the longest prefix counts, else that of the AS.
    Pin,
    /// Never these mirrors.
    Exclude,
}

/// The owner's choice for when no mirror is eligible.
#[derive(Clone, Debug, PartialEq)]
pub enum AllDown {
    /// The mirrors that were eligible last.
    LastKnown,
    /// All mirrors, nearest first.
    All,
    /// These addresses.
    Fallback(Vec<IpAddr>),
    /// No address: NODATA.
    NoAnswer,
}

//! Response-rate limiting: what keeps a server from being turned against those whose addresses are
//! forged. One [`Limiter`] belongs to one thread that answers over UDP; it takes no lock and allocates
//! nothing once it is made.
//!
//! ```text
//! reply to be sent ─► over TCP, TLS, QUIC ─ valid cookie ─ allow-listed source ───────────► Send
//!                       │ none of these: the source may be forged
//!                       ▼
//!       rate of replies that are alike toward the source's network ── within ──┐
//!                       │ above                                                │
//!                       ▼                                                      ▼
//!          every n-th: Slip, else Drop           bytes toward the network without a valid cookie
//!                                                   │ within ratio × bytes from it    │ above
//!                                                   ▼                                 ▼
//!                                                 Send                              Slip
//! ```
//!
//! **Rates.** Replies are alike by response code and [`Account::alike`](crate::outcome::Account): of one
//! name and type, or of all names that can be made up in a domain; errors are all alike. Each kind toward
//! one network has a bucket that fills at the kind's rate up to one second's worth. Replies held back
//! count, too, down to a debt of the window's worth: a flood is limited until it ends.
//!
//! **Amplification.** Each network has a budget of bytes. A query adds its length times the ratio, a reply
//! takes its own. So what a network gets is at most the ratio times what came from it, and a small burst
//! ([`BURST`]) that comes back within a minute ([`REFILL_MS`]), for resolvers that ask now and then. A
//! reply beyond the budget is replaced by a short one: nobody is left without a reply, and a resolver
//! without cookies comes back over TCP.
//!
//! A *slipped* reply ([`slip()`]) has no records and the TC bit; or, toward a client that sent a cookie, the
//! code BADCOOKIE and a valid one, so that it need not open a connection.
//!
//! Each thread counts by itself: a network whose queries the kernel spreads over several threads gets as
//! many times the rate.

mod config;
mod slip;
mod table;
#[cfg(test)]
mod tests;

pub use config::{LimitConfig, LimitError, MAX_RATE, MAX_WINDOW};
pub use slip::slip;

use crate::cookie::CookieState;
use crate::outcome::{Client, Outcome, Rcode, Transport};
use nearmost_core::hash::mix;
use std::net::IpAddr;
use table::{Bucket, Rule, Table};

/// Bytes that a network may be sent beyond the ratio.
pub const BURST: u32 = 4096;
/// Milliseconds after which they are there again.
pub const REFILL_MS: u32 = 60_000;

/// What becomes of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is sent.
    Send,
    /// What [`slip()`] leaves of it is sent.
    Slip(Reason),
    /// Nothing is sent.
    Drop(Reason),
}

/// Which limit a reply was above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// Of answers that are alike.
    Responses,
    /// Of denials within one domain.
    Nxdomains,
    /// Of errors.
    Errors,
    /// Of bytes toward a network.
    Amplification,
}

impl Reason {
    /// All, in the order of their discriminants.
    pub const ALL: [Reason; 4] =
        [Reason::Responses, Reason::Nxdomains, Reason::Errors, Reason::Amplification];

    /// Label for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Responses => "responses",
            Reason::Nxdomains => "nxdomains",
            Reason::Errors => "errors",
            Reason::Amplification => "amplification",
        }
    }

    /// The limit that a reply falls under.
    fn of(outcome: &Outcome) -> Reason {
        match outcome.rcode {
            Rcode::NoError if outcome.account.denial => Reason::Nxdomains,
            Rcode::NoError => Reason::Responses,
            Rcode::NxDomain => Reason::Nxdomains,
            _ => Reason::Errors,
        }
    }
}

/// Limits the replies of one thread.
#[derive(Debug)]
pub struct Limiter {
    config: LimitConfig,
    /// By [`Reason`]; `None` for what is not limited.
    rules: [Option<Rule>; Reason::ALL.len()],
    table: Table,
    /// Keeps others from choosing what shares a place in the table.
    seed: [u64; 2],
    /// Decides which replies slip: by lot, so that two sources in step do not get one all slips.
    lot: u64,
}

impl Limiter {
    /// With an empty table. The seed is to be random.
    ///
    /// # Errors
    /// [`LimitError`] names the setting that makes no sense.
    pub fn new(config: LimitConfig, seed: [u64; 2]) -> Result<Limiter, LimitError> {
        config.check()?;
        let rate = |per_second| (per_second > 0).then(|| Rule::rate(per_second, config.window));
        let budget = config.max_amplification > 0;
        Ok(Limiter {
            rules: [
                rate(config.responses_per_second),
                rate(config.nxdomains_per_second),
                rate(config.errors_per_second),
                budget.then(|| Rule::budget(BURST, REFILL_MS)),
            ],
            table: Table::new(config.table_size),
            seed,
            lot: seed[0],
            config,
        })
    }

    /// Decides on the reply to a query of so many bytes. `now_ms` is a monotonic clock.
    pub fn check(
        &mut self,
        now_ms: u64,
        client: &Client,
        outcome: &Outcome,
        query_bytes: usize,
        reply: &[u8],
    ) -> Verdict {
        if client.transport != Transport::Udp || outcome.account.cookie == CookieState::Valid {
            return Verdict::Send;
        }
        let source = client.source.to_canonical();
        if self.config.allow.iter().any(|net| net.contains(&source)) {
            return Verdict::Send;
        }
        let network = mix(self.network(source) ^ self.seed[0]);
        let now = now_ms as u32;
        let verdict = self.check_rate(now, network, outcome);
        self.check_bytes(now, network, query_bytes, reply, verdict)
    }

    fn check_rate(&mut self, now: u32, network: u64, outcome: &Outcome) -> Verdict {
        let reason = Reason::of(outcome);
        let Some(rule) = self.rules[reason as usize] else { return Verdict::Send };
        let alike = if reason == Reason::Errors { 0 } else { outcome.account.alike };
        let bucket = self.bucket(now, network, reason, alike);
        bucket.refill(&rule, now);
        match bucket.take(&rule) {
            true => Verdict::Send,
            false if self.slips() => Verdict::Slip(reason),
            false => Verdict::Drop(reason),
        }
    }

    fn check_bytes(
        &mut self,
        now: u32,
        network: u64,
        query_bytes: usize,
        reply: &[u8],
        verdict: Verdict,
    ) -> Verdict {
        let Some(rule) = self.rules[Reason::Amplification as usize] else { return verdict };
        let ratio = self.config.max_amplification;
        let bucket = self.bucket(now, network, Reason::Amplification, 0);
        bucket.refill(&rule, now);
        // At most 65 535 bytes times 1000 times the unit.
        bucket.add(&rule, query_bytes as i64 * i64::from(ratio) * i64::from(table::UNIT));
        let slipped = || slip::length(reply);
        match verdict {
            Verdict::Send if bucket.pay(reply.len()) => Verdict::Send,
            Verdict::Send if bucket.pay(slipped()) => Verdict::Slip(Reason::Amplification),
            Verdict::Slip(reason) if bucket.pay(slipped()) => Verdict::Slip(reason),
            Verdict::Drop(reason) => Verdict::Drop(reason),
            _ => Verdict::Drop(Reason::Amplification),
        }
    }

    fn bucket(&mut self, now: u32, network: u64, reason: Reason, alike: u64) -> &mut Bucket {
        let key = mix(network ^ alike.rotate_left(17) ^ self.seed[1]);
        self.table.get(key, reason, now, &self.rules)
    }

    /// Whether a reply that is held back is replaced by a short one.
    fn slips(&mut self) -> bool {
        self.lot = self.lot.wrapping_add(0x9e37_79b9_7f4a_7c15);
        match self.config.slip {
            0 => false,
            n => mix(self.lot).is_multiple_of(n.into()),
        }
    }

    /// The network of an address as a number. IPv6 networks are at most /64.
    fn network(&self, source: IpAddr) -> u64 {
        match source {
            // Below any IPv6 network in use: 2000::/3 is beyond 2^61.
            IpAddr::V4(a) => {
                u64::from(a.to_bits()) >> (32 - u32::from(self.config.ipv4_prefix)) << 6
                    | u64::from(self.config.ipv4_prefix)
            }
            IpAddr::V6(a) => {
                (a.to_bits() >> 64) as u64 & (u64::MAX << (64 - u32::from(self.config.ipv6_prefix)))
            }
        }
    }
}

//! `[dns.dnssec]`: keys and signatures of the domains that are signed.

use crate::value::{Number, Plain, Seconds, set};
use serde::Deserialize;
use std::time::Duration;

/// Longest hold of a key: a year.
const LONGEST_HOLD_S: u64 = 366 * 24 * 3600;
/// Shortest life of a signature: two days, as answers may be kept for one.
const SHORTEST_LIFE_S: u64 = 2 * 24 * 3600;
/// Longest life of a signature: 30 days. What it was given for stays good as long, whatever is changed.
const LONGEST_LIFE_S: u64 = 30 * 24 * 3600;

/// Keys and signatures of the domains that are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnssecConfig {
    /// How long a new key is published before its DS may come: what resolvers keep key sets for, and what
    /// brokers need to hear of it.
    pub publish_hold: Duration,
    /// How long an old key stays after it is needed no more: what resolvers keep its DS for.
    pub retire_hold: Duration,
    /// How long signatures are good. The next ones are made after a seventh of that.
    pub signature_life: Duration,
}

impl Default for DnssecConfig {
    fn default() -> Self {
        let hours = |n: u64| Duration::from_secs(n * 3600);
        DnssecConfig { publish_hold: hours(2), retire_hold: hours(48), signature_life: hours(7 * 24) }
    }
}

/// `[dns.dnssec]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct DnssecSpec {
    publish_hold_s: Option<Seconds<LONGEST_HOLD_S>>,
    retire_hold_s: Option<Seconds<LONGEST_HOLD_S>>,
    signature_life_s: Option<Number<u64, SHORTEST_LIFE_S, LONGEST_LIFE_S>>,
}

impl DnssecSpec {
    pub(super) fn apply(self, dnssec: &mut DnssecConfig) {
        set(&mut dnssec.publish_hold, self.publish_hold_s);
        set(&mut dnssec.retire_hold, self.retire_hold_s);
        if let Some(life) = self.signature_life_s {
            dnssec.signature_life = Duration::from_secs(life.plain());
        }
    }
}

//! `[caution]`: how reluctantly mirrors are taken out, and how calmly they come back.

use crate::value::{Listen, Millis, Number, Text, set};
use serde::Deserialize;
use std::net::SocketAddr;
use std::time::Duration;

/// How reluctantly mirrors are taken out, and how calmly they come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CautionConfig {
    /// Addresses that answer TCP whenever the broker's own line works.
    pub references: Vec<SocketAddr>,
    /// Ask other nodes' agents before a silent mirror is taken out.
    pub witnesses: bool,
    /// Most of a domain's mirrors of one continent that are out on the broker's word alone, in percent.
    pub region_cap_percent: u8,
    /// Below this share of a domain's weight those come back, in percent.
    pub panic_below_percent: u8,
    /// The flap penalty halves in this time; zero for no damping.
    pub flap_half_life: Duration,
    /// How long a second failure in a row keeps a mirror out.
    pub flap_hold: Duration,
    /// Longest hold.
    pub flap_hold_max: Duration,
    /// Mirrors unchanged for this long are answered with the longest TTL.
    pub calm_after: Duration,
}

impl Default for CautionConfig {
    fn default() -> Self {
        CautionConfig {
            references: Vec::new(),
            witnesses: true,
            region_cap_percent: 30,
            panic_below_percent: 50,
            flap_half_life: Duration::from_secs(300),
            flap_hold: Duration::from_secs(10),
            flap_hold_max: Duration::from_secs(600),
            calm_after: Duration::from_secs(600),
        }
    }
}

/// `[caution]` in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct CautionSpec {
    references: Option<Vec<Text<Listen>>>,
    witnesses: Option<bool>,
    region_cap_percent: Option<Number<u8, 0, 100>>,
    panic_below_percent: Option<Number<u8, 0, 100>>,
    flap_half_life_ms: Option<Millis<0>>,
    flap_hold_ms: Option<Millis<0>>,
    flap_hold_max_ms: Option<Millis<0>>,
    calm_after_ms: Option<Millis>,
}

impl CautionSpec {
    pub(super) fn apply(self, caution: &mut CautionConfig) {
        set(&mut caution.references, self.references);
        if let Some(witnesses) = self.witnesses {
            caution.witnesses = witnesses;
        }
        set(&mut caution.region_cap_percent, self.region_cap_percent);
        set(&mut caution.panic_below_percent, self.panic_below_percent);
        set(&mut caution.flap_half_life, self.flap_half_life_ms);
        set(&mut caution.flap_hold, self.flap_hold_ms);
        set(&mut caution.flap_hold_max, self.flap_hold_max_ms);
        set(&mut caution.calm_after, self.calm_after_ms);
    }
}

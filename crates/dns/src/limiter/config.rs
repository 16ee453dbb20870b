//! Settings of the limits.

use ipnet::IpNet;
use std::time::Duration;

/// Most replies a second that can be set: more is no limit, and has no room in a bucket.
pub const MAX_RATE: u32 = 20_000;
/// Longest window.
pub const MAX_WINDOW: Duration = Duration::from_secs(60);

/// Limits of one thread's replies over UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitConfig {
    /// Answers that are alike toward one network; 0 for no limit. High, since one network may be a large
    /// public resolver's, which asks for one name on behalf of each of its users' networks.
    pub responses_per_second: u32,
    /// Denials (NXDOMAIN) within one domain toward one network; 0 for no limit.
    pub nxdomains_per_second: u32,
    /// Errors toward one network; 0 for no limit.
    pub errors_per_second: u32,
    /// How long a flood's debt lasts at most once it has ended.
    pub window: Duration,
    /// One of so many replies above a rate is sent without its records, the others not at all; 1 sends
    /// all of them so, 0 none. With 1 no resolver waits in vain for a reply, which also leaves no time to
    /// forge one, and nothing is amplified.
    pub slip: u32,
    /// Sources within such a prefix are one network; 1 to 32.
    pub ipv4_prefix: u8,
    /// The same of IPv6; 1 to 64.
    pub ipv6_prefix: u8,
    /// Sources that are not limited.
    pub allow: Vec<IpNet>,
    /// How many times the bytes from a network without a valid cookie it is sent at most; 0 for no limit.
    /// At least 2, so that there is always room for a reply without records. Unsigned answers are below 3
    /// times their queries, signed ones about 5, signed denials about 7.
    pub max_amplification: u32,
    /// Buckets held, of 16 bytes each; rounded up to a power of two.
    pub table_size: usize,
}

impl Default for LimitConfig {
    fn default() -> Self {
        LimitConfig {
            responses_per_second: 500,
            nxdomains_per_second: 100,
            errors_per_second: 50,
            window: Duration::from_secs(15),
            slip: 1,
            // As networks are routed, as a rule; the defaults of other servers.
            ipv4_prefix: 24,
            ipv6_prefix: 56,
            allow: Vec::new(),
            max_amplification: 8,
            table_size: 1 << 16,
        }
    }
}

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// A rate that has no room in a bucket.
    #[error("a limit of {0} replies a second; expected at most {MAX_RATE}, or 0 for no limit")]
    Rate(u32),
    /// A window that is too long or too short.
    #[error("a window of {0:?}; expected 1 s to {MAX_WINDOW:?}")]
    Window(Duration),
    /// A prefix that no network has.
    #[error("a prefix length of {0}; expected 1 to {1}")]
    Prefix(u8, u8),
    /// A ratio that leaves no room for a reply without records.
    #[error("an amplification of at most {0}; expected 2 to 1000, or 0 for no limit")]
    Amplification(u32),
    /// A table that is too small or too large.
    #[error("a table of {0} buckets; expected 64 to 16777216")]
    Table(usize),
}

impl LimitConfig {
    /// Whether they make sense.
    ///
    /// # Errors
    /// [`LimitError`] names the setting that does not.
    pub fn check(&self) -> Result<(), LimitError> {
        let rates = [self.responses_per_second, self.nxdomains_per_second, self.errors_per_second];
        if let Some(rate) = rates.into_iter().find(|r| *r > MAX_RATE) {
            return Err(LimitError::Rate(rate));
        }
        if self.window < Duration::from_secs(1) || self.window > MAX_WINDOW {
            return Err(LimitError::Window(self.window));
        }
        for (prefix, most) in [(self.ipv4_prefix, 32), (self.ipv6_prefix, 64)] {
            if !(1..=most).contains(&prefix) {
                return Err(LimitError::Prefix(prefix, most));
            }
        }
        let ratio = self.max_amplification;
        if ratio != 0 && !(2..=1000).contains(&ratio) {
            return Err(LimitError::Amplification(ratio));
        }
        if !(64..=1 << 24).contains(&self.table_size) {
            return Err(LimitError::Table(self.table_size));
        }
        Ok(())
    }
}

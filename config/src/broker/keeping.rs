//! `[audit]` and `[events]`: how long what happened is kept.

use crate::value::{Number, set};
use serde::Deserialize;

/// The longest that anything is kept, in days: a hundred years.
const MAX_DAYS: u64 = 36_500;

/// How much of the audit log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// Days; at least 1.
    pub keep_days: u32,
    /// Entries of what people and the broker did; the oldest go first.
    pub max_entries: u64,
    /// Entries of what agents and peers did of their own accord; the oldest go first.
    pub max_agent_entries: u64,
}

/// How much is kept of what became of mirrors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventsConfig {
    /// Days; at least 1.
    pub keep_days: u32,
    /// Transitions; the oldest go first.
    pub max_entries: u64,
}

impl Default for AuditConfig {
    fn default() -> Self {
        AuditConfig { keep_days: 400, max_entries: 100_000, max_agent_entries: 50_000 }
    }
}

impl Default for EventsConfig {
    fn default() -> Self {
        EventsConfig { keep_days: 30, max_entries: 200_000 }
    }
}

/// `[audit]` in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct AuditSpec {
    keep_days: Option<Number<u32, 1, MAX_DAYS>>,
    max_entries: Option<Number<u64, 100, 10_000_000>>,
    max_agent_entries: Option<Number<u64, 100, 10_000_000>>,
}

/// `[events]` in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct EventsSpec {
    keep_days: Option<Number<u32, 1, MAX_DAYS>>,
    max_entries: Option<Number<u64, 100, 10_000_000>>,
}

impl AuditSpec {
    pub(super) fn apply(self, audit: &mut AuditConfig) {
        set(&mut audit.keep_days, self.keep_days);
        set(&mut audit.max_entries, self.max_entries);
        set(&mut audit.max_agent_entries, self.max_agent_entries);
    }
}

impl EventsSpec {
    pub(super) fn apply(self, events: &mut EventsConfig) {
        set(&mut events.keep_days, self.keep_days);
        set(&mut events.max_entries, self.max_entries);
    }
}

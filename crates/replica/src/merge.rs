//! Which of two records of one key stands.
//!
//! The records of one key are totally ordered and the greatest stands, so merging is commutative,
//! associative and idempotent by construction. They are ordered by, first to last:
//!
//! 1. where the kind's [`Rule`] is that removal is final, being one;
//! 2. the hybrid logical clock: who had seen the other's write wins, or, where the first wins, loses;
//! 3. at a tie, the kind's [`Rule`];
//! 4. the author's key, then the hash: arbitrary, but alike everywhere.

use crate::hlc::Hlc;
use crate::key::PublicKey;
use crate::record::{Body, Kind, Record};
use crate::signed::SignedRecord;
use std::cmp::Ordering;
use std::time::Duration;

/// How long a tombstone is kept. A broker that was away longer must not bring back what was
/// removed meanwhile, so it starts over from a peer's full copy.
pub const TOMBSTONE_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// What wins among records of one key. It is read off the three highest bits of the kind's number; of
/// the five rules three only decide between writes of one moment of the hybrid clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `000`, and what is not named here: the later write, and at a tie removal, as what is gone is asked
    /// for again more easily than what came back is noticed.
    RemovalWins,
    /// `001`: removal, whenever it was written. What is removed comes back under another id, or once the
    /// tombstone is forgotten: a right that was taken away on one side of a split is not there because the
    /// other side renewed it later.
    RemovalFinal,
    /// `010`: the later write, and at a tie presence, for orders that restrict: drain beats undrain.
    PresenceWins,
    /// `100`: the later write, and at a tie presence, and among the present the latest expiry, for
    /// restrictions that end by themselves: a ban lasts as long as any of those who ordered it meant. In
    /// every version of these kinds the body starts with the expiry, u64 big-endian milliseconds since the
    /// Unix epoch; a body too short to hold it never expires.
    LatestExpiryWins,
    /// `110`: the earlier write, for claims.
    FirstWins,
}

impl Rule {
    /// The rule of a kind, known or not.
    pub fn of(kind: Kind) -> Rule {
        match kind.0 >> 13 {
            0b001 => Rule::RemovalFinal,
            0b010 => Rule::PresenceWins,
            0b100 => Rule::LatestExpiryWins,
            0b110 => Rule::FirstWins,
            _ => Rule::RemovalWins,
        }
    }

    /// The greater rank wins whatever the clock says.
    fn before_clock(self, record: &Record) -> bool {
        self == Rule::RemovalFinal && record.is_tombstone()
    }

    /// The greater rank wins a tie.
    fn rank(self, body: &Body) -> u64 {
        match (self, body) {
            (Rule::RemovalWins | Rule::RemovalFinal, Body::Tombstone) => 1,
            (Rule::RemovalWins | Rule::RemovalFinal | Rule::FirstWins, Body::Live { .. }) => 0,
            (Rule::PresenceWins | Rule::LatestExpiryWins | Rule::FirstWins, Body::Tombstone) => 0,
            (Rule::PresenceWins, Body::Live { .. }) => 1,
            (Rule::LatestExpiryWins, Body::Live { bytes, .. }) => expiry_unix_ms(bytes).saturating_add(1),
        }
    }
}

/// The expiry at the start of a body of a kind with [`Rule::LatestExpiryWins`], in milliseconds
/// since the Unix epoch; `u64::MAX` when there is none.
pub fn expiry_unix_ms(body: &[u8]) -> u64 {
    body.first_chunk::<8>().map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes))
}

/// What became of an incoming record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MergeOutcome {
    /// It stands now.
    Applied,
    /// It stood already.
    Duplicate,
    /// Another stands in its place.
    Superseded,
}

/// What becomes of `incoming` where `current` stands. Both have the same key.
pub fn merge(current: Option<&SignedRecord>, incoming: &SignedRecord) -> MergeOutcome {
    match current.map(|current| order(incoming, current)) {
        None | Some(Ordering::Greater) => MergeOutcome::Applied,
        Some(Ordering::Equal) => MergeOutcome::Duplicate,
        Some(Ordering::Less) => MergeOutcome::Superseded,
    }
}

/// The total order of the records of one key; the greatest stands. Equal only for equal bytes.
pub fn order(a: &SignedRecord, b: &SignedRecord) -> Ordering {
    match Rule::of(a.record().kind) {
        Rule::FirstWins => sort_key(b).cmp(&sort_key(a)),
        _ => sort_key(a).cmp(&sort_key(b)),
    }
}

fn sort_key(signed: &SignedRecord) -> (bool, Hlc, u64, PublicKey, [u8; 32]) {
    let record = signed.record();
    let rule = Rule::of(record.kind);
    (rule.before_clock(record), record.hlc, rule.rank(&record.body), record.author, signed.hash())
}

/// Whether a record is a tombstone that has lived its [`TOMBSTONE_LIFE`] and may be forgotten.
/// Its age is counted from its own clock, so that all brokers forget it at the same time. Those about rights
/// are kept.
pub fn is_collectable(record: &Record, now_unix_ms: u64) -> bool {
    let life_ms = u64::try_from(TOMBSTONE_LIFE.as_millis()).unwrap_or(u64::MAX);
    record.is_tombstone()
        && !record.kind.is_of_rights()
        && record.hlc.millis.saturating_add(life_ms) <= now_unix_ms
}

/// Whether what a collected tombstone stood above, or the tombstone itself, does not come in again. What was
/// written after the tombstone was past its life does, whatever the kind's rule.
pub fn is_buried(record: &SignedRecord, grave: &SignedRecord) -> bool {
    let life_ms = u64::try_from(TOMBSTONE_LIFE.as_millis()).unwrap_or(u64::MAX);
    let forgotten_ms = grave.record().hlc.millis.saturating_add(life_ms);
    order(record, grave).is_le() && record.record().hlc.millis < forgotten_ms
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;

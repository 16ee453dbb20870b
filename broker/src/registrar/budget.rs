//! How much an agent may change by declaring.
//!
//! Every record that is written stays in the history, and a removed one as a tombstone for a long
//! time. A node that declares other mirrors at each session would fill the store; so each node has
//! a rate of changes, and a number of mirrors that it may name within a day.

use crate::agents::rate::Bucket;
use nearmost_replica::{Kind, RecordKey};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Sets of changes at once, and the time in which one more is earned.
const BURST: u32 = 20;
const EVERY: Duration = Duration::from_secs(30);
/// So many records cost as much as one set.
const RECORDS_A_SET: usize = 16;
/// Mirrors that a node may have or have had within [`MEMORY`].
pub const MAX_MIRRORS: usize = 256;
const MEMORY: Duration = Duration::from_secs(24 * 3600);

/// The budgets of all nodes that changed something lately.
#[derive(Default)]
pub struct Budgets(HashMap<[u8; 32], Budget>);

struct Budget {
    rate: Bucket,
    /// Mirrors that were changed, and when last.
    touched: BTreeMap<RecordKey, Instant>,
}

impl Budgets {
    /// Pays for the changes that a node's declaration needs; `standing` are the mirrors that are
    /// recorded for it.
    ///
    /// # Errors
    /// A sentence for the node's operator; nothing may be written then.
    pub fn pay<'a>(
        &mut self,
        node: [u8; 32],
        changes: impl ExactSizeIterator<Item = &'a RecordKey>,
        standing: impl Iterator<Item = &'a RecordKey>,
        now: Instant,
    ) -> Result<(), String> {
        self.forget(now);
        let fresh = || Budget { rate: Bucket::new(BURST, EVERY, now), touched: BTreeMap::new() };
        let budget = self.0.entry(node).or_insert_with(fresh);
        let cost = 1 + u32::try_from(changes.len() / RECORDS_A_SET).unwrap_or(u32::MAX - 1);
        if !budget.rate.take(cost, now) {
            return Err(format!(
                "nothing was changed: this node changes its services too often; one change each {} s is taken",
                EVERY.as_secs()
            ));
        }
        let changes: Vec<_> = changes.filter(|key| key.kind == Kind::MIRROR).collect();
        let new: BTreeSet<&RecordKey> = standing.chain(changes.iter().copied()).collect();
        let named =
            budget.touched.len() + new.iter().filter(|key| !budget.touched.contains_key(**key)).count();
        if named > MAX_MIRRORS {
            return Err(format!(
                "nothing was changed: this node would have named {named} mirrors within a day; at most {MAX_MIRRORS} are taken"
            ));
        }
        budget.touched.extend(changes.into_iter().map(|key| (key.clone(), now)));
        Ok(())
    }

    /// Forgets what is older than a day, and nodes of which nothing is left: their rate is full
    /// again long since.
    fn forget(&mut self, now: Instant) {
        self.0.retain(|_, budget| {
            budget.touched.retain(|_, at| now.saturating_duration_since(*at) < MEMORY);
            !budget.touched.is_empty() || !budget.rate.is_full(now)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::mono_now;

    fn mirrors(names: std::ops::Range<usize>) -> Vec<RecordKey> {
        let key = |i| RecordKey { kind: Kind::MIRROR, scope: "a.example".into(), id: format!("m{i}") };
        names.map(key).collect()
    }

    #[test]
    fn changes_have_a_rate_for_each_node() {
        let (mut budgets, start, one) = (Budgets::default(), mono_now(), mirrors(0..1));
        let mut pay = |node: u8, after: u64| {
            budgets.pay([node; 32], one.iter(), [].iter(), start + Duration::from_secs(after)).is_ok()
        };
        assert!((0..BURST).all(|_| pay(1, 0)));
        assert!(!pay(1, 0) && !pay(1, 29));
        assert!(pay(2, 29), "others are not affected");
        assert!(pay(1, 31) && !pay(1, 31));
    }

    #[test]
    fn renaming_does_not_go_on_for_ever() {
        let (mut budgets, start) = (Budgets::default(), mono_now());
        let mut refused = 0;
        for i in 0..300 {
            let (before, next) = (mirrors(i..i + 1), mirrors(i + 1..i + 2));
            let changes: Vec<_> = before.iter().chain(&next).cloned().collect();
            let now = start + EVERY * i as u32;
            refused += u32::from(budgets.pay([1; 32], changes.iter(), before.iter(), now).is_err());
        }
        assert_eq!(refused, 300 - (MAX_MIRRORS as u32 - 1));
        let later = start + EVERY * 300 + MEMORY;
        assert!(budgets.pay([1; 32], mirrors(400..401).iter(), [].iter(), later).is_ok(), "a day later");
    }

    #[test]
    fn the_most_services_there_may_be_fit_at_once_and_nothing_is_kept_for_ever() {
        let (mut budgets, start) = (Budgets::default(), mono_now());
        assert!(budgets.pay([1; 32], mirrors(0..MAX_MIRRORS).iter(), [].iter(), start).is_ok());
        budgets.forget(start + MEMORY);
        assert!(budgets.0.is_empty());
    }
}

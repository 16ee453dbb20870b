//! How much an agent may change by declaring.
//!
//! Every record that is written stays in the history, and a removed one as a tombstone for a long
//! time. A node that declares other mirrors at each session would fill the store; so each node has
//! a rate of changes, and a number of mirrors that it may name within a day.

use crate::quic::rate::Bucket;
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

/// What the changes of one declaration cost. Nothing is spent until it is given to
/// [`Budgets::commit`].
#[must_use]
pub struct Cost {
    node: [u8; 32],
    /// The rate once it is paid.
    rate: Bucket,
    /// Mirrors that are changed.
    touched: Vec<RecordKey>,
    at: Instant,
}

impl Budgets {
    /// What the changes cost that a node's declaration needs, if it can pay; `standing` are the
    /// mirrors that are recorded for it. A declaration that is refused, here or later, costs nothing.
    ///
    /// # Errors
    /// A sentence for the node's operator; nothing may be written then.
    pub fn check<'a>(
        &mut self,
        node: [u8; 32],
        changes: impl ExactSizeIterator<Item = &'a RecordKey>,
        standing: impl Iterator<Item = &'a RecordKey>,
        now: Instant,
    ) -> Result<Cost, String> {
        self.forget(now);
        let budget = self.0.get(&node);
        let tokens = 1 + u32::try_from(changes.len() / RECORDS_A_SET).unwrap_or(u32::MAX - 1);
        let changes: Vec<_> = changes.filter(|key| key.kind == Kind::MIRROR).collect();
        let mut mirrors: BTreeSet<&RecordKey> = standing.chain(changes.iter().copied()).collect();
        mirrors.extend(budget.iter().flat_map(|b| b.touched.keys()));
        let named = mirrors.len();
        if named > MAX_MIRRORS {
            return Err(format!(
                "nothing was changed: this node would have named {named} mirrors within a day; at most {MAX_MIRRORS} are taken"
            ));
        }
        let mut rate = budget.map_or_else(|| Bucket::new(BURST, EVERY, now), |b| b.rate);
        if !rate.take(tokens, now) {
            return Err(format!(
                "nothing was changed: this node changes its services too often; one change each {} s is taken",
                EVERY.as_secs()
            ));
        }
        Ok(Cost { node, rate, touched: changes.into_iter().cloned().collect(), at: now })
    }

    /// Pays for changes that were written. At most one cost of a node may be open at a time.
    pub fn commit(&mut self, cost: Cost) {
        let Cost { node, rate, touched, at } = cost;
        let budget = self.0.entry(node).or_insert_with(|| Budget { rate, touched: BTreeMap::new() });
        budget.rate = rate;
        budget.touched.extend(touched.into_iter().map(|key| (key, at)));
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

    /// Checks, and pays if that is taken.
    fn pay(
        budgets: &mut Budgets,
        node: u8,
        changes: &[RecordKey],
        standing: &[RecordKey],
        now: Instant,
    ) -> bool {
        let cost = budgets.check([node; 32], changes.iter(), standing.iter(), now);
        cost.map(|cost| budgets.commit(cost)).is_ok()
    }

    #[test]
    fn what_is_refused_or_not_written_costs_nothing() {
        let (mut budgets, start) = (Budgets::default(), mono_now());
        // Too many names, refused before the rate is looked at, and changes that were never written.
        for i in 0..2 * BURST as usize {
            assert!(!pay(&mut budgets, 1, &mirrors(0..MAX_MIRRORS + 1), &[], start));
            let names = mirrors(1000 * i..1000 * i + MAX_MIRRORS);
            assert!(budgets.check([1; 32], names.iter(), [].iter(), start).is_ok());
        }
        assert!(budgets.0.is_empty());
        // All of the rate and of the names is there still.
        let one = mirrors(0..1);
        assert!((0..BURST).all(|_| pay(&mut budgets, 1, &one, &[], start)));
        // Refused by the rate: neither does that name anything, nor does it put the next one off.
        assert!((0..BURST).all(|_| !pay(&mut budgets, 1, &mirrors(1..MAX_MIRRORS + 1), &[], start)));
        assert!(pay(&mut budgets, 1, &one, &[], start + EVERY));
        let later = start + EVERY * (BURST + 1);
        assert!(pay(&mut budgets, 1, &mirrors(1000..1000 + MAX_MIRRORS - 1), &[], later));
        assert!(!pay(&mut budgets, 1, &mirrors(0..2), &[], later + EVERY));
    }

    #[test]
    fn changes_have_a_rate_for_each_node() {
        let (mut budgets, start, one) = (Budgets::default(), mono_now(), mirrors(0..1));
        let mut paid =
            |node: u8, after: u64| pay(&mut budgets, node, &one, &[], start + Duration::from_secs(after));
        assert!((0..BURST).all(|_| paid(1, 0)));
        assert!(!paid(1, 0) && !paid(1, 29));
        assert!(paid(2, 29), "others are not affected");
        assert!(paid(1, 31) && !paid(1, 31));
    }

    #[test]
    fn renaming_does_not_go_on_for_ever() {
        let (mut budgets, start) = (Budgets::default(), mono_now());
        let mut refused = 0;
        for i in 0..300 {
            let (before, next) = (mirrors(i..i + 1), mirrors(i + 1..i + 2));
            let changes: Vec<_> = before.iter().chain(&next).cloned().collect();
            let now = start + EVERY * i as u32;
            refused += u32::from(!pay(&mut budgets, 1, &changes, &before, now));
        }
        assert_eq!(refused, 300 - (MAX_MIRRORS as u32 - 1));
        let later = start + EVERY * 300 + MEMORY;
        assert!(pay(&mut budgets, 1, &mirrors(400..401), &[], later), "a day later");
    }

    #[test]
    fn the_most_services_there_may_be_fit_at_once_and_nothing_is_kept_for_ever() {
        let (mut budgets, start) = (Budgets::default(), mono_now());
        assert!(pay(&mut budgets, 1, &mirrors(0..MAX_MIRRORS), &[], start));
        budgets.forget(start + MEMORY);
        assert!(budgets.0.is_empty());
    }
}

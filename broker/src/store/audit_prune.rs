//! Forgetting entries of the audit log.
//!
//! What is too old, or too much, goes from the beginning; the anchor says what the rest follows. What is too
//! much of agents goes from between, where it leaves gaps, and an entry that tells which numbers they were:
//! a gap that no entry tells of was made by somebody else.

use super::Keep;
use super::audit::{Chain, anchored};
use super::tables::{self, Abort};
use crate::audit::{Act, By, Via, acts};
use nearmost_wire::api::AuditChange;
use redb::{Database, ReadableTable, ReadableTableMetadata};
use serde_json::json;

/// Most rows that one transaction prunes.
pub(crate) const MAX_PRUNED: usize = 10_000;

/// Removes the oldest entries, as far as they are not to be kept; answers how many. What agents did, and what tells
/// of such entries that went, does not count among those that are too many, and goes with what people did before
/// and after it.
pub(super) fn prune(db: &Database, keep: Keep) -> Result<u64, Abort> {
    let txn = db.begin_write()?;
    let gone = {
        let mut chain = Chain::open(&txn)?;
        let others = chain.agents.len()? + chain.prunings.len()?;
        let people = chain.rows.len()?.saturating_sub(others);
        let mut excess = people.saturating_sub(keep.most);
        let mut last = None;
        let mut gone = 0_u64;
        for row in chain.rows.iter()?.take(MAX_PRUNED) {
            let (number, row) = row?;
            let (at, _, hash) = row.value();
            if excess == 0 && at >= keep.since_unix_ms {
                break;
            }
            let other =
                chain.agents.get(number.value())?.is_some() || chain.prunings.get(number.value())?.is_some();
            excess -= u64::from(excess > 0 && !other);
            gone += 1;
            last = Some((number.value(), *hash));
        }
        if let Some((number, hash)) = last {
            chain.forget_up_to(number, hash)?;
        }
        gone
    };
    if gone == 0 {
        txn.abort()?;
    } else {
        txn.commit()?;
    }
    Ok(gone)
}

/// Removes the oldest entries of what agents did, once there are more than `most`, down to nine tenths of that, so
/// that it is not written down of each few that came; answers how many. Which ones is written down in the same
/// transaction.
pub(super) fn prune_agents(db: &Database, most: u64, now_unix_ms: u64) -> Result<u64, Abort> {
    let txn = db.begin_write()?;
    let gone = {
        let mut chain = Chain::open(&txn)?;
        let excess = match chain.agents.len()? {
            there if there > most => (there - most + most / 10).min(MAX_PRUNED as u64),
            _ => 0,
        };
        let runs = chain.oldest_of_agents(excess as usize)?;
        for run in &runs {
            chain.cut(*run)?;
        }
        if !runs.is_empty() {
            chain.append(told(&runs, excess, now_unix_ms))?;
        }
        excess
    };
    if gone == 0 {
        txn.abort()?;
    } else {
        txn.commit()?;
    }
    Ok(gone)
}

/// The entry that tells of runs that were taken out.
fn told(runs: &[(u64, u64)], entries: u64, now_unix_ms: u64) -> Act {
    let change = |(from, to): &(u64, u64)| AuditChange {
        kind: "audit".into(),
        name: format!("{from}-{to}"),
        author: None,
        before: Some(json!({ "entries": to - from + 1 })),
        after: None,
    };
    Act {
        by: By { actor: "nearmost-broker".into(), via: Via::Broker, source: None },
        code: acts::PRUNE.into(),
        at_unix_ms: now_unix_ms,
        note: format!("{entries} entries of agents, more than audit.max_agent_entries"),
        changes: runs.iter().map(change).collect(),
        ..Act::default()
    }
}

impl Chain<'_> {
    /// First and last of each run among the oldest entries of agents.
    fn oldest_of_agents(&self, count: usize) -> Result<Vec<(u64, u64)>, Abort> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for row in self.agents.iter()?.take(count) {
            let number = row?.0.value();
            match runs.last_mut() {
                Some((_, to)) if *to + 1 == number => *to = number,
                _ => runs.push((number, number)),
            }
        }
        Ok(runs)
    }

    /// Takes a run out. Nothing after it was taken out before, as the oldest go first.
    fn cut(&mut self, (from, to): (u64, u64)) -> Result<(), Abort> {
        let missing = || Abort::Damaged(format!("entry {to} of the audit log is not there"));
        let (at, hash) = {
            let row = self.rows.get(to)?.ok_or_else(missing)?;
            (row.value().0, *row.value().2)
        };
        self.rows.retain_in(from..=to, |_, _| false)?;
        self.agents.retain_in(from..=to, |_, ()| false)?;
        // One gap where it follows another.
        let from = self.gaps.remove(from - 1)?.map_or(from, |gap| gap.value().0);
        if anchored(&self.anchor)?.0 + 1 == from {
            self.anchor.insert(tables::ANCHOR, (to, &hash))?;
        } else {
            self.gaps.insert(to, (from, at, &hash))?;
        }
        Ok(())
    }

    /// Removes everything up to an entry, and the gap that comes next if there is one.
    fn forget_up_to(&mut self, number: u64, hash: [u8; 32]) -> Result<(), Abort> {
        let gap = self.gaps.range(number..)?.next().transpose()?.map(|(to, gap)| {
            let (from, _, hash) = gap.value();
            (from, to.value(), *hash)
        });
        let (number, hash) = match gap {
            Some((from, to, hash)) if from == number + 1 => (to, hash),
            _ => (number, hash),
        };
        self.rows.retain_in(..=number, |_, _| false)?;
        self.agents.retain_in(..=number, |_, ()| false)?;
        self.prunings.retain_in(..=number, |_, ()| false)?;
        self.gaps.retain_in(..=number, |_, _| false)?;
        self.anchor.insert(tables::ANCHOR, (number, &hash))?;
        Ok(())
    }
}

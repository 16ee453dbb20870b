//! The audit log's table: a chain of hashes, pruned from its beginning, and within it.
//!
//! ```text
//!   anchor (number, hash) ──> row 8 ──> gap 9 to 14 (hash of 14) ──> row 15 ──> … ──> head
//!   what was pruned last                agents' entries
//! ```
//! An entry is appended in the transaction of what it tells of. What agents and peers did of their own accord has
//! a bound of its own, so that they cannot push out what people did: `audit_prune` takes it out from between. What
//! it writes down of that counts against neither bound.

use super::tables::{self, Abort};
use super::{Beside, Outcome, StoreError, StoreHandle, WriteBatch, local};
use crate::audit::{Act, Class, Ending, Via, change, code_of, parts};
use nearmost_replica::SignedRecord;
use nearmost_wire::api::{AuditEntry, NO_ENTRY, audit_hash};
use redb::{Database, ReadTransaction, ReadableTable, Table};

/// Bytes of entries in one page, beyond which it ends.
const PAGE_BYTES: usize = 4 << 20;
/// Most rows that are looked at for one page.
const MAX_LOOKED: usize = 20_000;
/// A place in the chain: an entry's number and hash.
pub type Link = (u64, [u8; 32]);

/// Which entries are wanted; all fields narrow it.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Not before, in milliseconds since the Unix epoch.
    pub since_unix_ms: Option<u64>,
    /// Before, likewise.
    pub until_unix_ms: Option<u64>,
    /// Only of this actor, or with its signature.
    pub actor: Option<String>,
    /// Only this act, or all that begin with it and a dot.
    pub act: Option<String>,
    /// Only about this: a record's name or its kind, or what is in that domain.
    pub target: Option<String>,
    /// Only after this number: the next page.
    pub after: u64,
    /// At most so many.
    pub limit: usize,
}

/// An entry with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Its number.
    pub number: u64,
    /// Hash of the one before.
    pub previous: [u8; 32],
    /// Its hash.
    pub hash: [u8; 32],
    /// Its exact JSON; `null` for a gap.
    pub json: String,
    /// Of a gap, which ends with `number`: the number it begins with.
    pub pruned_from: Option<u64>,
}

/// Entries in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPage {
    /// Those wanted.
    pub rows: Vec<AuditRow>,
    /// Up to which number was looked.
    pub seen: u64,
    /// What the oldest that is kept follows.
    pub anchor: Link,
    /// The newest.
    pub head: Link,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// What is older goes, in milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
    /// At most so many.
    pub most: u64,
}

pub(super) type AuditTable<'txn> = Table<'txn, u64, tables::AuditRow>;
pub(super) type AnchorTable<'txn> = Table<'txn, &'static str, (u64, &'static [u8; 32])>;
pub(super) type NumbersTable<'txn> = Table<'txn, u64, ()>;
pub(super) type GapsTable<'txn> = Table<'txn, u64, tables::GapRow>;

/// The tables, open in one transaction.
pub(super) struct Chain<'txn> {
    pub(super) rows: AuditTable<'txn>,
    pub(super) anchor: AnchorTable<'txn>,
    /// Which rows count as those of agents.
    pub(super) agents: NumbersTable<'txn>,
    /// Which rows tell what was taken out.
    pub(super) prunings: NumbersTable<'txn>,
    pub(super) gaps: GapsTable<'txn>,
}

impl<'txn> Chain<'txn> {
    pub(super) fn open(txn: &'txn redb::WriteTransaction) -> Result<Self, Abort> {
        Ok(Chain {
            rows: txn.open_table(tables::AUDIT)?,
            anchor: txn.open_table(tables::AUDIT_ANCHOR)?,
            agents: txn.open_table(tables::AUDIT_AGENTS)?,
            prunings: txn.open_table(tables::AUDIT_PRUNINGS)?,
            gaps: txn.open_table(tables::AUDIT_GAPS)?,
        })
    }

    /// Appends an act; answers how many entries it has.
    pub(super) fn append(&mut self, act: Act) -> Result<u64, Abort> {
        let (at, class) = (act.at_unix_ms, act.class());
        let entries = parts(act).map_err(|e| Abort::Damaged(format!("an act has no JSON form: {e}")))?;
        let (mut number, mut hash) = head(&self.rows, &self.gaps, &self.anchor)?;
        for json in &entries {
            number += 1;
            hash = audit_hash(&hash, number, json);
            self.rows.insert(number, (at, json.as_slice(), &hash))?;
            match class {
                Class::People => {}
                Class::Agents => drop(self.agents.insert(number, ())?),
                Class::Pruning => drop(self.prunings.insert(number, ())?),
            }
        }
        Ok(entries.len() as u64)
    }

    /// Appends what a batch of this broker applied.
    pub(super) fn append_batch(
        &mut self,
        batch: &WriteBatch,
        about: (u64, u64),
        applied: &[(SignedRecord, Option<SignedRecord>)],
    ) -> Result<u64, Abort> {
        let own = batch.origin.own.as_ref();
        let told = applied.iter().map(|(signed, before)| change(signed, before.as_ref(), own));
        let changes: Vec<_> = told.collect();
        self.append(Act {
            by: batch.origin.by.clone(),
            code: code_of(batch.origin.act, &changes),
            ending: Ending::Done,
            at_unix_ms: batch.received_unix_ms,
            count: 1,
            note: batch.note.clone(),
            target: String::new(),
            version: Some(about),
            changes,
        })
    }
}

/// The newest entry, or what the next one follows where there is none.
fn head(
    rows: &impl ReadableTable<u64, tables::AuditRow>,
    gaps: &impl ReadableTable<u64, tables::GapRow>,
    anchor: &impl ReadableTable<&'static str, (u64, &'static [u8; 32])>,
) -> Result<Link, Abort> {
    let row = rows.last()?.map(|(number, row)| (number.value(), *row.value().2));
    let gap = gaps.last()?.map(|(number, row)| (number.value(), *row.value().2));
    match row.max(gap) {
        Some(link) => Ok(link),
        None => anchored(anchor),
    }
}

/// What number `first` follows, and when that was; 0 where that is not known any more.
fn before(
    first: u64,
    rows: &impl ReadableTable<u64, tables::AuditRow>,
    gaps: &impl ReadableTable<u64, tables::GapRow>,
    anchor: Link,
) -> Result<(Link, u64), Abort> {
    let row = rows.range(..first)?.next_back().transpose()?;
    let row = row.map(|(number, row)| ((number.value(), *row.value().2), row.value().0));
    let gap = gaps.range(..first)?.next_back().transpose()?;
    let gap = gap.map(|(number, row)| ((number.value(), *row.value().2), row.value().1));
    Ok(row.max(gap).unwrap_or((anchor, 0)))
}

/// Against which bound an entry counts, which is given as JSON; one that cannot be read is kept longest.
pub(super) fn class_of(json: &[u8]) -> Class {
    let Ok(entry) = serde_json::from_slice::<AuditEntry>(json) else { return Class::People };
    let of_agents = [Via::Agents, Via::Peers].iter().any(|via| via.as_str() == entry.via);
    Class::of(&entry.act, entry.outcome == Ending::Done.as_str(), of_agents)
}

pub(super) fn anchored(
    anchor: &impl ReadableTable<&'static str, (u64, &'static [u8; 32])>,
) -> Result<Link, Abort> {
    let link = anchor.get(tables::ANCHOR)?;
    Ok(link.map_or((0, NO_ENTRY), |link| (link.value().0, *link.value().1)))
}

/// Writes acts that change nothing, all or none.
pub(super) fn write_acts(db: &Database, acts: Vec<Act>) -> Result<u64, Abort> {
    let txn = db.begin_write()?;
    let mut entries = 0;
    {
        let mut chain = Chain::open(&txn)?;
        for act in acts {
            entries += chain.append(act)?;
        }
    }
    txn.commit()?;
    Ok(entries)
}

/// Writes an act, and with it what it is about, if that is to be kept.
pub(super) fn write_act(db: &Database, act: Act, beside: &Beside) -> Result<u64, Abort> {
    let txn = db.begin_write()?;
    let entries = Chain::open(&txn)?.append(act)?;
    local::keep_beside(&txn, beside)?;
    txn.commit()?;
    Ok(entries)
}

/// Reads a page, without the store's thread.
pub(super) fn read_page(txn: &ReadTransaction, filter: &AuditFilter) -> Result<AuditPage, Abort> {
    let (rows, anchor) = (txn.open_table(tables::AUDIT)?, txn.open_table(tables::AUDIT_ANCHOR)?);
    let gaps = txn.open_table(tables::AUDIT_GAPS)?;
    let head = head(&rows, &gaps, &anchor)?;
    let anchor = anchored(&anchor)?;
    let first = filter.after.max(anchor.0).saturating_add(1);
    let (mut last, mut last_at) = before(first, &rows, &gaps, anchor)?;
    let mut page = AuditPage { rows: Vec::new(), seen: filter.after, anchor, head };
    let mut bytes = 0;
    for (looked, row) in rows.range(first..)?.enumerate() {
        let (number, row) = row?;
        let (at, json, hash) = row.value();
        if page.rows.len() >= filter.limit || bytes >= PAGE_BYTES || looked >= MAX_LOOKED {
            return Ok(page);
        }
        if number.value() > last.0 + 1 {
            last = page.skip((last, last_at), number.value() - 1, &gaps, filter)?;
            if page.rows.len() >= filter.limit {
                return Ok(page);
            }
        }
        page.seen = number.value();
        last_at = at;
        let before = std::mem::replace(&mut last, (page.seen, *hash)).1;
        if filter.within(at) && filter.wants(json, page.seen)? {
            bytes += json.len();
            let json = std::str::from_utf8(json).map_err(|e| unreadable(page.seen, &e))?.to_owned();
            let row = AuditRow { number: page.seen, previous: before, hash: *hash, json, pruned_from: None };
            page.rows.push(row);
        }
    }
    if head.0 > last.0 {
        if page.rows.len() >= filter.limit {
            return Ok(page);
        }
        page.skip((last, last_at), head.0, &gaps, filter)?;
    }
    page.seen = page.seen.max(head.0);
    Ok(page)
}

impl AuditPage {
    /// Goes past the gap after `last`, an entry and when that was, that ends with `end`. It is told where it may hold
    /// what is wanted.
    fn skip(
        &mut self,
        (last, last_at): (Link, u64),
        end: u64,
        gaps: &impl ReadableTable<u64, tables::GapRow>,
        filter: &AuditFilter,
    ) -> Result<Link, Abort> {
        let missing = || Abort::Damaged(format!("entries up to {end} of the audit log are not there"));
        let row = gaps.get(end)?.ok_or_else(missing)?;
        let (_, at, hash) = row.value();
        self.seen = end;
        if filter.overlaps(last_at, at) && !filter.looks_inside() {
            self.rows.push(AuditRow {
                number: end,
                previous: last.1,
                hash: *hash,
                json: "null".into(),
                pruned_from: Some(last.0 + 1),
            });
        }
        Ok((end, *hash))
    }
}

fn unreadable(number: u64, error: &dyn std::fmt::Display) -> Abort {
    Abort::Damaged(format!("entry {number} of the audit log is unreadable: {error}"))
}

impl AuditFilter {
    /// Whether what an entry says decides; of a forgotten one nobody knows that.
    fn looks_inside(&self) -> bool {
        self.actor.is_some() || self.act.is_some() || self.target.is_some()
    }

    fn within(&self, at: u64) -> bool {
        self.since_unix_ms.is_none_or(|since| at >= since)
            && self.until_unix_ms.is_none_or(|until| at < until)
    }

    /// Whether something between these moments may be within.
    fn overlaps(&self, from: u64, to: u64) -> bool {
        self.since_unix_ms.is_none_or(|since| to >= since)
            && self.until_unix_ms.is_none_or(|until| from < until)
    }

    fn wants(&self, json: &[u8], number: u64) -> Result<bool, Abort> {
        if !self.looks_inside() {
            return Ok(true);
        }
        let entry: AuditEntry = serde_json::from_slice(json).map_err(|e| unreadable(number, &e))?;
        let actor = |actor: &str| {
            entry.actor == actor || entry.changes.iter().any(|c| c.author.as_deref() == Some(actor))
        };
        let act = |act: &str| {
            entry.act.strip_prefix(act).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let within = |name: &str, target: &str| {
            name.strip_prefix(target).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let target = |target: &str| {
            within(&entry.target, target)
                || entry.changes.iter().any(|c| c.kind == target || within(&c.name, target))
        };
        Ok(self.actor.as_deref().is_none_or(actor)
            && self.act.as_deref().is_none_or(act)
            && self.target.as_deref().is_none_or(target))
    }
}

impl WriteBatch {
    /// Whether what it applies is an act at this broker.
    pub(super) fn is_act(&self) -> bool {
        self.from_peer.is_none()
    }
}

/// What a batch did, for its entry; nothing is kept of what is no act here.
#[derive(Default)]
pub(super) struct Applied(Vec<(SignedRecord, Option<SignedRecord>)>);

impl Applied {
    pub(super) fn note(&mut self, outcome: Outcome, signed: &SignedRecord, before: Option<SignedRecord>) {
        if outcome == Outcome::Applied {
            self.0.push((signed.clone(), before));
        }
    }

    pub(super) fn all(&self) -> &[(SignedRecord, Option<SignedRecord>)] {
        &self.0
    }
}

impl StoreHandle {
    /// Writes an act to the audit log, and with it what it is about, if that is to be kept: both or none.
    pub async fn write_act(&self, act: Act, beside: Beside) -> Result<(), StoreError> {
        let entries = self.call(move |store| store.write_act(act, &beside)).await?;
        self.count_acts(entries);
        Ok(())
    }

    /// Writes acts that change nothing, in one transaction: all or none.
    pub async fn write_acts(&self, acts: Vec<Act>) -> Result<(), StoreError> {
        let entries = self.call(move |store| store.write_acts(acts)).await?;
        self.count_acts(entries);
        Ok(())
    }

    /// Entries of the audit log; the store goes on meanwhile.
    pub async fn audit(&self, filter: AuditFilter) -> Result<AuditPage, StoreError> {
        let job = self.call(move |store| store.audit_page(filter)).await?;
        self.read(job).await
    }

    /// Forgets the oldest entries of the audit log; answers how many.
    pub async fn prune_audit(&self, keep: Keep) -> Result<u64, StoreError> {
        self.call(move |store| store.prune_audit(keep)).await
    }

    /// Forgets the oldest entries of what agents did, beyond `most`, and writes that down; answers how many.
    pub async fn prune_agents(&self, most: u64, now_unix_ms: u64) -> Result<u64, StoreError> {
        self.call(move |store| store.prune_agents(most, now_unix_ms)).await
    }
}

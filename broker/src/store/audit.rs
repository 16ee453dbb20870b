//! The audit log's table: a chain of hashes, pruned from its beginning.
//!
//! ```text
//!   anchor (number, hash) ──> row 8 ──> row 9 ──> … ──> head
//!   what was pruned last
//! ```
//! Rows are numbered without gaps. An entry is appended in the transaction of what it tells of.

use super::tables::{self, Abort};
use super::{Outcome, ReadJob, StoreError, StoreHandle, TokenEntry, WriteBatch, local};
use crate::audit::{Act, Ending, change, code_of, parts};
use nearmost_replica::SignedRecord;
use nearmost_wire::api::{AuditEntry, NO_ENTRY, audit_hash};
use redb::{Database, ReadTransaction, ReadableTable, ReadableTableMetadata, Table};
use std::path::PathBuf;

/// Bytes of entries in one page, beyond which it ends.
const PAGE_BYTES: usize = 4 << 20;
/// Most rows that are looked at for one page.
const MAX_LOOKED: usize = 20_000;
/// Most rows that one transaction prunes.
pub(crate) const MAX_PRUNED: usize = 10_000;

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
    /// Its exact JSON.
    pub json: String,
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

/// The tables, open in one transaction.
pub(super) struct Chain<'txn> {
    rows: AuditTable<'txn>,
    anchor: AnchorTable<'txn>,
}

impl<'txn> Chain<'txn> {
    pub(super) fn open(txn: &'txn redb::WriteTransaction) -> Result<Self, Abort> {
        Ok(Chain { rows: txn.open_table(tables::AUDIT)?, anchor: txn.open_table(tables::AUDIT_ANCHOR)? })
    }

    /// Appends an act; answers how many entries it has.
    pub(super) fn append(&mut self, act: Act) -> Result<u64, Abort> {
        let at = act.at_unix_ms;
        let entries = parts(act).map_err(|e| Abort::Damaged(format!("an act has no JSON form: {e}")))?;
        let (mut number, mut hash) = head(&self.rows, &self.anchor)?;
        for json in &entries {
            number += 1;
            hash = audit_hash(&hash, number, json);
            self.rows.insert(number, (at, json.as_slice(), &hash))?;
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
    anchor: &impl ReadableTable<&'static str, (u64, &'static [u8; 32])>,
) -> Result<Link, Abort> {
    match rows.last()? {
        Some((number, row)) => Ok((number.value(), *row.value().2)),
        None => anchored(anchor),
    }
}

fn anchored(anchor: &impl ReadableTable<&'static str, (u64, &'static [u8; 32])>) -> Result<Link, Abort> {
    let link = anchor.get(tables::ANCHOR)?;
    Ok(link.map_or((0, NO_ENTRY), |link| (link.value().0, *link.value().1)))
}

/// Writes an act, and with it a one-time token if there is one to keep.
pub(super) fn write_act(
    db: &Database,
    act: Act,
    token: Option<(&[u8; 32], &TokenEntry)>,
) -> Result<u64, Abort> {
    let txn = db.begin_write()?;
    let entries = Chain::open(&txn)?.append(act)?;
    if let Some((hash, entry)) = token {
        local::keep_token(&txn, hash, entry)?;
    }
    txn.commit()?;
    Ok(entries)
}

/// Removes the oldest entries, as far as they are not to be kept; answers how many.
pub(super) fn prune(db: &Database, keep: Keep) -> Result<u64, Abort> {
    let txn = db.begin_write()?;
    let gone = {
        let mut chain = Chain::open(&txn)?;
        let excess = chain.rows.len()?.saturating_sub(keep.most);
        let mut last = None;
        let mut gone = 0_u64;
        for row in chain.rows.iter()?.take(MAX_PRUNED) {
            let (number, row) = row?;
            let (at, _, hash) = row.value();
            if gone >= excess && at >= keep.since_unix_ms {
                break;
            }
            gone += 1;
            last = Some((number.value(), *hash));
        }
        if let Some((number, hash)) = last {
            chain.rows.retain_in(..=number, |_, _| false)?;
            chain.anchor.insert(tables::ANCHOR, (number, &hash))?;
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

/// Reads a page, without the store's thread.
pub(super) fn page(path: PathBuf, snapshot: ReadTransaction, filter: AuditFilter) -> ReadJob<AuditPage> {
    Box::new(move || read_page(&snapshot, &filter).map_err(|abort| abort.name(&path)))
}

fn read_page(txn: &ReadTransaction, filter: &AuditFilter) -> Result<AuditPage, Abort> {
    let (rows, anchor) = (txn.open_table(tables::AUDIT)?, txn.open_table(tables::AUDIT_ANCHOR)?);
    let head = head(&rows, &anchor)?;
    let anchor = anchored(&anchor)?;
    let first = filter.after.max(anchor.0).saturating_add(1);
    let mut previous = match rows.get(first - 1)? {
        Some(row) => *row.value().2,
        None => anchor.1,
    };
    let mut page = AuditPage { rows: Vec::new(), seen: filter.after, anchor, head };
    let mut bytes = 0;
    for (looked, row) in rows.range(first..)?.enumerate() {
        let (number, row) = row?;
        let (at, json, hash) = row.value();
        if page.rows.len() >= filter.limit || bytes >= PAGE_BYTES || looked >= MAX_LOOKED {
            return Ok(page);
        }
        page.seen = number.value();
        let before = std::mem::replace(&mut previous, *hash);
        if filter.within(at) && filter.wants(json, page.seen)? {
            bytes += json.len();
            let json = std::str::from_utf8(json).map_err(|e| unreadable(page.seen, &e))?.to_owned();
            page.rows.push(AuditRow { number: page.seen, previous: before, hash: *hash, json });
        }
    }
    page.seen = page.seen.max(head.0);
    Ok(page)
}

fn unreadable(number: u64, error: &dyn std::fmt::Display) -> Abort {
    Abort::Damaged(format!("entry {number} of the audit log is unreadable: {error}"))
}

impl AuditFilter {
    fn within(&self, at: u64) -> bool {
        self.since_unix_ms.is_none_or(|since| at >= since)
            && self.until_unix_ms.is_none_or(|until| at < until)
    }

    fn wants(&self, json: &[u8], number: u64) -> Result<bool, Abort> {
        if self.actor.is_none() && self.act.is_none() && self.target.is_none() {
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
    /// Writes an act to the audit log, and with it a one-time token if there is one to keep: both or none.
    pub async fn write_act(&self, act: Act, token: Option<([u8; 32], TokenEntry)>) -> Result<(), StoreError> {
        let write = move |store: &dyn super::Store| {
            store.write_act(act, token.as_ref().map(|(hash, entry)| (hash, entry)))
        };
        let entries = self.call(write).await?;
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
}

//! A group of batches, written in one transaction.
//!
//! Each batch is first checked, which only reads, and then applied, which only fails with the file:
//! so a refused batch has written nothing, and a failing file takes back the whole group.

use super::tables::{self, Abort};
use super::{Committed, StoreError, WriteBatch, local};
use nearmost_replica::{Hlc, MergeOutcome, PublicKey, SignedRecord, merge};
use redb::{Database, ReadableTable, Table, WriteTransaction};
use std::collections::HashMap;

/// The tables that a batch touches, open for one transaction.
struct Open<'txn> {
    counters: Table<'txn, &'static str, u64>,
    records: Table<'txn, (u16, &'static str, &'static str), &'static [u8]>,
    log: Table<'txn, u64, tables::LogRow>,
    batches: Table<'txn, u64, tables::BatchRow>,
    sequences: Table<'txn, (&'static [u8; 32], u32, u64), &'static [u8; 32]>,
    authors: Table<'txn, &'static [u8; 32], (u32, u64)>,
    tokens: Table<'txn, &'static [u8; 32], tables::TokenRow>,
}

/// Writes a group and makes it durable.
pub(super) fn commit_group(
    db: &Database,
    batches: &[WriteBatch],
) -> Result<Vec<Result<Committed, StoreError>>, Abort> {
    let txn = db.begin_write()?;
    let mut answers = Vec::with_capacity(batches.len());
    {
        let mut open = Open::new(&txn)?;
        for batch in batches {
            answers.push(match open.check(batch) {
                Ok(()) => Ok(open.apply(batch)?),
                Err(Abort::Refused(refusal)) => Err(refusal),
                Err(abort) => return Err(abort),
            });
        }
    }
    if answers.iter().any(Result::is_ok) {
        txn.commit()?;
    } else {
        txn.abort()?;
    }
    Ok(answers)
}

impl<'txn> Open<'txn> {
    fn new(txn: &'txn WriteTransaction) -> Result<Self, Abort> {
        Ok(Open {
            counters: txn.open_table(tables::COUNTERS)?,
            records: txn.open_table(tables::RECORDS)?,
            log: txn.open_table(tables::LOG)?,
            batches: txn.open_table(tables::BATCHES)?,
            sequences: txn.open_table(tables::SEQUENCES)?,
            authors: txn.open_table(tables::AUTHORS)?,
            tokens: txn.open_table(tables::TOKENS)?,
        })
    }

    /// Whether the batch may be applied. Writes nothing.
    fn check(&self, batch: &WriteBatch) -> Result<(), Abort> {
        let found = tables::counter(&self.counters, tables::VERSION)?;
        if let Some(expected) = batch.expect_version.filter(|expected| *expected != found) {
            return Err(Abort::Refused(StoreError::VersionMismatch { expected, found }));
        }
        if let Some(hash) = &batch.redeem {
            local::good_token(&self.tokens, hash, batch.received_unix_ms)?;
        }
        self.check_sequences(&batch.records)
    }

    /// Whether each author used each of its numbers once, in the batch and ever.
    fn check_sequences(&self, records: &[SignedRecord]) -> Result<(), Abort> {
        let mut within: HashMap<(PublicKey, u32, u64), [u8; 32]> = HashMap::new();
        for signed in records {
            let (author, epoch, seq) = author_number(signed);
            let stored = self.sequences.get((&author.0, epoch, seq))?.map(|hash| *hash.value());
            let earlier = within.insert((author, epoch, seq), signed.hash());
            if [stored, earlier].into_iter().flatten().any(|hash| hash != signed.hash()) {
                return Err(Abort::Refused(StoreError::AuthorForked { author, epoch, seq }));
            }
        }
        Ok(())
    }

    /// Writes what was checked.
    fn apply(&mut self, batch: &WriteBatch) -> Result<Committed, Abort> {
        let first = tables::counter(&self.counters, tables::LAST_POSITION)?;
        let number = tables::counter(&self.counters, tables::LAST_BATCH)?;
        let version = tables::counter(&self.counters, tables::VERSION)?;
        let mut position = first;
        let mut outcomes = Vec::with_capacity(batch.records.len());
        for signed in &batch.records {
            let outcome = self.merge_one(signed, number + 1, position + 1)?;
            position += u64::from(outcome == MergeOutcome::Applied);
            outcomes.push(outcome);
            self.count_author(signed)?;
        }
        self.raise_clock(&batch.records)?;
        if let Some(hash) = &batch.redeem {
            local::spend_token(&mut self.tokens, hash, batch.received_unix_ms)?;
        }
        if position == first {
            return Ok(Committed { version, batch: number, outcomes });
        }
        let (number, version) = (number + 1, version + 1);
        let about =
            (version, batch.received_unix_ms, &*batch.actor, &*batch.note, first + 1, position - first);
        self.batches.insert(number, about)?;
        self.counters.insert(tables::LAST_POSITION, position)?;
        self.counters.insert(tables::LAST_BATCH, number)?;
        self.counters.insert(tables::VERSION, version)?;
        Ok(Committed { version, batch: number, outcomes })
    }

    /// Merges one record; if it stands now, it is logged at `position`.
    fn merge_one(&mut self, signed: &SignedRecord, batch: u64, position: u64) -> Result<MergeOutcome, Abort> {
        let place = tables::place(signed.record());
        let current = self.records.get(place)?.map(|bytes| tables::stored(bytes.value())).transpose()?;
        let outcome = merge(current.as_ref(), signed);
        if outcome == MergeOutcome::Applied {
            self.records.insert(place, signed.bytes())?;
            let before = current.as_ref().map(SignedRecord::bytes);
            self.log.insert(position, (batch, signed.bytes(), before))?;
        }
        Ok(outcome)
    }

    /// Remembers that the author used its number for this record.
    fn count_author(&mut self, signed: &SignedRecord) -> Result<(), Abort> {
        let (author, epoch, seq) = author_number(signed);
        self.sequences.insert((&author.0, epoch, seq), &signed.hash())?;
        let position = (epoch, seq.saturating_add(1));
        let known = self.authors.get(&author.0)?.map(|known| known.value());
        if known.is_none_or(|known| known < position) {
            self.authors.insert(&author.0, position)?;
        }
        Ok(())
    }

    /// Remembers the highest clock seen.
    fn raise_clock(&mut self, records: &[SignedRecord]) -> Result<(), Abort> {
        let known = tables::max_hlc(&self.counters)?;
        let seen = records.iter().map(|r| r.record().hlc).max().unwrap_or_default();
        if seen > known {
            let Hlc { millis, counter } = seen;
            self.counters.insert(tables::HLC_MILLIS, millis)?;
            self.counters.insert(tables::HLC_COUNTER, u64::from(counter))?;
        }
        Ok(())
    }
}

fn author_number(signed: &SignedRecord) -> (PublicKey, u32, u64) {
    let record = signed.record();
    (record.author, record.author_epoch, record.author_seq)
}

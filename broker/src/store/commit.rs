//! A group of batches, written in one transaction.
//!
//! Each batch is first checked, which only reads, and then applied, which only fails with the file:
//! so a refused batch has written nothing, and a failing file takes back the whole group.

use super::audit::{Applied, Chain};
use super::tables::{self, Abort};
use super::{Committed, Outcome, StoreError, WriteBatch, local};
use nearmost_replica::merge::{is_buried, is_collectable, order};
use nearmost_replica::{Hlc, PublicKey, SignedRecord, merge};
use redb::{Database, ReadableTable, Table, WriteTransaction};
use std::collections::HashMap;

/// The tables that a batch touches, open for one transaction.
struct Open<'txn> {
    counters: Table<'txn, &'static str, u64>,
    statements: Table<'txn, tables::StatementPlace, &'static [u8]>,
    graves: Table<'txn, tables::KeyPlace, &'static [u8]>,
    log: Table<'txn, u64, tables::LogRow>,
    batches: Table<'txn, u64, tables::BatchRow>,
    relayed: Table<'txn, u64, &'static [u8; 32]>,
    numbers: Table<'txn, tables::NumberPlace, tables::NumberRow>,
    authors: Table<'txn, &'static [u8; 32], (u32, u64)>,
    tokens: Table<'txn, &'static [u8; 32], tables::TokenRow>,
    meta: Table<'txn, &'static str, &'static [u8]>,
    audit: Chain<'txn>,
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
            statements: txn.open_table(tables::STATEMENTS)?,
            graves: txn.open_table(tables::GRAVES)?,
            log: txn.open_table(tables::LOG)?,
            batches: txn.open_table(tables::BATCHES)?,
            relayed: txn.open_table(tables::RELAYED)?,
            numbers: txn.open_table(tables::NUMBERS)?,
            authors: txn.open_table(tables::AUTHORS)?,
            tokens: txn.open_table(tables::TOKENS)?,
            meta: txn.open_table(tables::META)?,
            audit: Chain::open(txn)?,
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
        match batch.from_peer {
            Some(_) => Ok(()),
            None => self.check_numbers(&batch.records),
        }
    }

    /// Whether each author used each of its numbers once, in the batch and ever.
    fn check_numbers(&self, records: &[SignedRecord]) -> Result<(), Abort> {
        let mut within: HashMap<(PublicKey, u32, u64), [u8; 32]> = HashMap::new();
        for signed in records {
            let (author, epoch, seq) = tables::author_number(signed);
            let stored = self.known_hash(signed)?;
            let earlier = within.insert((author, epoch, seq), signed.hash());
            if [stored, earlier].into_iter().flatten().any(|hash| hash != signed.hash()) {
                return Err(Abort::Refused(StoreError::AuthorForked { author, epoch, seq }));
            }
        }
        Ok(())
    }

    /// The hash of the record for which the author is known to have used this one's number.
    fn known_hash(&self, signed: &SignedRecord) -> Result<Option<[u8; 32]>, Abort> {
        let (author, epoch, seq) = tables::author_number(signed);
        Ok(self.numbers.get((&author.0, epoch, seq))?.map(|row| *row.value().0))
    }

    /// Why a record of a peer does not come in, if it does not, and the tombstone that shows it.
    fn barred(
        &self,
        signed: &SignedRecord,
        now_unix_ms: u64,
    ) -> Result<Option<(Outcome, Option<SignedRecord>)>, Abort> {
        let known = self.known_hash(signed)?;
        if known.is_some_and(|hash| hash != signed.hash()) {
            return Ok(Some((Outcome::Forked, None)));
        }
        let record = signed.record();
        let grave = self.graves.get(tables::key_place(record))?;
        let grave = grave.map(|grave| tables::stored(grave.value())).transpose()?;
        if let Some(grave) = grave.filter(|grave| is_buried(signed, grave)) {
            return Ok(Some((Outcome::Gone, Some(grave))));
        }
        // A tombstone past its life is no statement any more, but buries what it stands above.
        if is_collectable(record, now_unix_ms) {
            return Ok(Some((Outcome::Gone, None)));
        }
        // It was here, and neither it nor what its author said instead is any longer.
        let forgotten = known.is_some() && self.statements.get(tables::place(record))?.is_none();
        Ok(forgotten.then_some((Outcome::Gone, None)))
    }

    /// Writes what was checked.
    fn apply(&mut self, batch: &WriteBatch) -> Result<Committed, Abort> {
        let first = tables::counter(&self.counters, tables::LAST_POSITION)?;
        let number = tables::counter(&self.counters, tables::LAST_BATCH)?;
        let version = tables::counter(&self.counters, tables::VERSION)?;
        let mut position = first;
        let mut outcomes = Vec::with_capacity(batch.records.len());
        let (mut graves, mut buried) = (Vec::new(), Vec::new());
        let mut applied = Applied::default();
        for (index, signed) in batch.records.iter().enumerate() {
            let barred = match batch.from_peer {
                Some(_) => self.barred(signed, batch.received_unix_ms)?,
                None => None,
            };
            let outcome = match barred {
                Some((outcome, grave)) => {
                    if grave.is_none() && is_collectable(signed.record(), batch.received_unix_ms) {
                        buried.extend(self.bury(signed)?);
                    }
                    graves.extend(grave.map(|grave| (index, grave)));
                    outcome
                }
                None => {
                    let (outcome, before) = self.merge_one(signed, number + 1, position + 1)?;
                    if batch.is_act() {
                        applied.note(outcome, signed, before);
                    }
                    outcome
                }
            };
            position += u64::from(outcome == Outcome::Applied);
            outcomes.push(outcome);
        }
        self.raise_clock(&batch.records)?;
        if let Some(hash) = &batch.redeem {
            local::spend_token(&mut self.tokens, hash, batch.received_unix_ms)?;
        }
        if let Some((name, value)) = &batch.blob {
            self.meta.insert(*name, value.as_slice())?;
        }
        if position == first {
            // What lives has changed all the same, though there is nothing to log.
            let version = version + u64::from(!buried.is_empty());
            self.counters.insert(tables::VERSION, version)?;
            return Ok(Committed { version, batch: number, outcomes, graves, buried, entries: 0 });
        }
        let (number, version) = (number + 1, version + 1);
        let about =
            (version, batch.received_unix_ms, &*batch.actor, &*batch.note, first + 1, position - first);
        self.batches.insert(number, about)?;
        if let Some(peer) = &batch.from_peer {
            self.relayed.insert(number, &peer.0)?;
        }
        self.counters.insert(tables::LAST_POSITION, position)?;
        self.counters.insert(tables::LAST_BATCH, number)?;
        self.counters.insert(tables::VERSION, version)?;
        let entries = match batch.is_act() {
            true => self.audit.append_batch(batch, (version, number), applied.all())?,
            false => 0,
        };
        Ok(Committed { version, batch: number, outcomes, graves, buried, entries })
    }

    /// Removes what a tombstone past its life stands above, and keeps it to show.
    fn bury(&mut self, grave: &SignedRecord) -> Result<Vec<SignedRecord>, Abort> {
        let mut buried = self.of_key(grave)?;
        buried.retain(|signed| is_buried(signed, grave));
        for signed in &buried {
            self.statements.remove(tables::place(signed.record()))?;
        }
        if !buried.is_empty() {
            self.graves.insert(tables::key_place(grave.record()), grave.bytes())?;
        }
        Ok(buried)
    }

    /// Merges one record with its author's statement; if it is that now, it is logged at `position`, and what
    /// stood before comes with the answer.
    fn merge_one(
        &mut self,
        signed: &SignedRecord,
        batch: u64,
        position: u64,
    ) -> Result<(Outcome, Option<SignedRecord>), Abort> {
        let place = tables::place(signed.record());
        let current = self.statements.get(place)?.map(|bytes| tables::stored(bytes.value())).transpose()?;
        let outcome = Outcome::from(merge(current.as_ref(), signed));
        let mut before = None;
        if outcome == Outcome::Applied {
            before = self.greatest(signed)?;
            self.statements.insert(place, signed.bytes())?;
            let bytes = before.as_ref().map(SignedRecord::bytes);
            self.log.insert(position, (batch, signed.bytes(), bytes))?;
        }
        self.count_number(signed, if outcome == Outcome::Applied { position } else { 0 })?;
        Ok((outcome, before))
    }

    /// The greatest statement of all authors about what `signed` is about.
    fn greatest(&self, signed: &SignedRecord) -> Result<Option<SignedRecord>, Abort> {
        Ok(self.of_key(signed)?.into_iter().max_by(order))
    }

    /// The statements of all authors about what `signed` is about.
    fn of_key(&self, signed: &SignedRecord) -> Result<Vec<SignedRecord>, Abort> {
        let (kind, scope, id) = tables::key_place(signed.record());
        let rows = self.statements.range((kind, scope, id, &[0; 32])..=(kind, scope, id, &[0xff; 32]))?;
        rows.map(|row| tables::stored(row?.1.value())).collect()
    }

    /// Remembers that the author used its number for this record, and where that is in the log.
    fn count_number(&mut self, signed: &SignedRecord, position: u64) -> Result<(), Abort> {
        let (author, epoch, seq) = tables::author_number(signed);
        let logged = self.numbers.get((&author.0, epoch, seq))?.map(|row| row.value().1);
        if logged.is_none_or(|logged| logged < position) {
            self.numbers.insert((&author.0, epoch, seq), (&signed.hash(), position))?;
        }
        let next = (epoch, seq.saturating_add(1));
        let known = self.authors.get(&author.0)?.map(|known| known.value());
        if known.is_none_or(|known| known < next) {
            self.authors.insert(&author.0, next)?;
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

//! Reading records and history, each answer from one transaction.

use super::tables::{self, Abort};
use super::{AuthorPosition, Contents, HistoryFilter, Logged};
use nearmost_replica::{LogEntry, PublicKey, SignedRecord};
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable};

/// Everything replicated, at one version.
pub(super) fn contents(db: &Database) -> Result<Contents, Abort> {
    let txn = db.begin_read()?;
    let counters = txn.open_table(tables::COUNTERS)?;
    let version = tables::counter(&counters, tables::VERSION)?;
    let max_hlc = tables::max_hlc(&counters)?;
    let mut records = Vec::new();
    for row in txn.open_table(tables::STATEMENTS)?.iter()? {
        records.push(tables::stored(row?.1.value())?);
    }
    Ok(Contents { version, max_hlc, records })
}

/// The registry's version.
pub(super) fn version(db: &Database) -> Result<u64, Abort> {
    tables::counter(&db.begin_read()?.open_table(tables::COUNTERS)?, tables::VERSION)
}

/// Where an author's own count stands.
pub(super) fn author_position(db: &Database, author: &PublicKey) -> Result<AuthorPosition, Abort> {
    let authors = db.begin_read()?.open_table(tables::AUTHORS)?;
    let (epoch, next_seq) = authors.get(&author.0)?.map_or((0, 0), |row| row.value());
    Ok(AuthorPosition { epoch, next_seq })
}

/// Log and batches of one moment.
struct Log {
    log: ReadOnlyTable<u64, tables::LogRow>,
    batches: ReadOnlyTable<u64, tables::BatchRow>,
}

impl Log {
    fn open(db: &Database) -> Result<Self, Abort> {
        let txn = db.begin_read()?;
        Ok(Log { log: txn.open_table(tables::LOG)?, batches: txn.open_table(tables::BATCHES)? })
    }

    /// A log row with what its batch says.
    fn entry(&self, position: u64, row: (u64, &[u8], Option<&[u8]>)) -> Result<LogEntry, Abort> {
        let (batch, bytes, before) = row;
        let about = self.batches.get(batch)?;
        let about = about.ok_or_else(|| Abort::Damaged(format!("log position {position} names no batch")))?;
        let (version, received_unix_ms, actor, note, _, _) = about.value();
        Ok(LogEntry {
            position,
            batch,
            version,
            received_unix_ms,
            actor: actor.to_owned(),
            note: note.to_owned(),
            record: tables::stored(bytes)?,
            previous: before.map(tables::stored).transpose()?,
        })
    }
}

/// What was applied, newest first.
pub(super) fn history(db: &Database, filter: &HistoryFilter) -> Result<Vec<LogEntry>, Abort> {
    let log = Log::open(db)?;
    let mut found = Vec::new();
    for row in log.log.range(..filter.before.unwrap_or(u64::MAX))?.rev() {
        if found.len() >= filter.limit {
            break;
        }
        let (position, row) = row?;
        let row = row.value();
        if filter.wants(&tables::stored(row.1)?) {
            found.push(log.entry(position.value(), row)?);
        }
    }
    Ok(found)
}

/// What one batch applied, in its order.
pub(super) fn batch(db: &Database, batch: u64) -> Result<Vec<LogEntry>, Abort> {
    let log = Log::open(db)?;
    let Some((first, count)) = log.batches.get(batch)?.map(|about| (about.value().4, about.value().5)) else {
        return Ok(Vec::new());
    };
    let rows = log.log.range(first..first.saturating_add(count))?;
    rows.map(|row| row.map_err(Abort::from).and_then(|(at, row)| log.entry(at.value(), row.value())))
        .collect()
}

/// Which life of the log its positions belong to.
pub(super) fn log_epoch(db: &Database) -> Result<u64, Abort> {
    tables::counter(&db.begin_read()?.open_table(tables::COUNTERS)?, tables::LOG_EPOCH)
}

/// The log's last position.
pub(super) fn log_head(db: &Database) -> Result<u64, Abort> {
    tables::counter(&db.begin_read()?.open_table(tables::COUNTERS)?, tables::LAST_POSITION)
}

/// What was applied after a log position, in order. Goes from batch to batch, so that the rows of those
/// that are not wanted are not read.
pub(super) fn log_after(
    db: &Database,
    position: u64,
    limit: usize,
    local_only: bool,
) -> Result<Vec<Logged>, Abort> {
    let txn = db.begin_read()?;
    let (log, batches) = (txn.open_table(tables::LOG)?, txn.open_table(tables::BATCHES)?);
    let relayed = txn.open_table(tables::RELAYED)?;
    let mut found = Vec::new();
    let start = position.saturating_add(1);
    let Some(next) = log.range(start..)?.next() else { return Ok(found) };
    for row in batches.range(next?.1.value().0..)? {
        let (batch, about) = row?;
        let (_, received_unix_ms, _, _, first, count) = about.value();
        if local_only && relayed.get(batch.value())?.is_some() {
            continue;
        }
        for row in log.range(first.max(start)..first.saturating_add(count))? {
            if found.len() >= limit {
                return Ok(found);
            }
            let (position, row) = row?;
            found.push((position.value(), received_unix_ms, tables::stored(row.value().1)?));
        }
    }
    Ok(found)
}

/// The record for which an author used a number, if it was ever applied.
pub(super) fn find_numbered(
    db: &Database,
    author: &PublicKey,
    epoch: u32,
    seq: u64,
) -> Result<Option<SignedRecord>, Abort> {
    let txn = db.begin_read()?;
    let numbers = txn.open_table(tables::NUMBERS)?;
    let Some(position) = numbers.get((&author.0, epoch, seq))?.map(|row| row.value().1) else {
        return Ok(None);
    };
    // Position 0, of those that were never applied, is in no log.
    let row = txn.open_table(tables::LOG)?.get(position)?;
    row.map(|row| tables::stored(row.value().1)).transpose()
}

impl HistoryFilter {
    fn wants(&self, signed: &SignedRecord) -> bool {
        let record = signed.record();
        self.kind.is_none_or(|kind| kind == record.kind)
            && self.scope.as_ref().is_none_or(|scope| *scope == record.scope)
            && self.id.as_ref().is_none_or(|id| *id == record.id)
    }
}

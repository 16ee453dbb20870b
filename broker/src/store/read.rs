//! Reading records and history, each answer from one transaction.

use super::tables::{self, Abort};
use super::{AuthorPosition, Contents, HistoryFilter};
use nearmost_replica::{LogEntry, PublicKey, SignedRecord};
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable};

/// Everything replicated, at one version.
pub(super) fn contents(db: &Database) -> Result<Contents, Abort> {
    let txn = db.begin_read()?;
    let counters = txn.open_table(tables::COUNTERS)?;
    let version = tables::counter(&counters, tables::VERSION)?;
    let max_hlc = tables::max_hlc(&counters)?;
    let mut records = Vec::new();
    for row in txn.open_table(tables::RECORDS)?.iter()? {
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

impl HistoryFilter {
    fn wants(&self, signed: &SignedRecord) -> bool {
        let record = signed.record();
        self.kind.is_none_or(|kind| kind == record.kind)
            && self.scope.as_ref().is_none_or(|scope| *scope == record.scope)
            && self.id.as_ref().is_none_or(|id| *id == record.id)
    }
}

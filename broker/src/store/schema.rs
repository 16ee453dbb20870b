//! The file's schema: making it, and bringing files of older programs up to it.

use super::StoreError;
use super::tables::{self, Abort};
use crate::audit::Class;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use std::path::Path;

/// Schema 1 kept one record for each key …
pub(super) const RECORDS_1: TableDefinition<(u16, &str, &str), &[u8]> = TableDefinition::new("records");
/// … and did not know where in the log a number was used.
pub(super) const SEQUENCES_1: TableDefinition<(&[u8; 32], u32, u64), &[u8; 32]> =
    TableDefinition::new("sequences");

/// Makes the tables of an empty file.
pub(super) fn make_tables(db: &Database) -> Result<(), Abort> {
    let txn = db.begin_write()?;
    open_all(&txn)?;
    let epoch = new_log_epoch();
    {
        let mut counters = txn.open_table(tables::COUNTERS)?;
        counters.insert(tables::SCHEMA_NAME, tables::SCHEMA)?;
        counters.insert(tables::LOG_EPOCH, epoch)?;
    }
    Ok(txn.commit()?)
}

/// Makes those tables that are not there.
fn open_all(txn: &WriteTransaction) -> Result<(), Abort> {
    txn.open_table(tables::STATEMENTS)?;
    txn.open_table(tables::GRAVES)?;
    txn.open_table(tables::LOG)?;
    txn.open_table(tables::BATCHES)?;
    txn.open_table(tables::RELAYED)?;
    txn.open_table(tables::NUMBERS)?;
    txn.open_table(tables::AUTHORS)?;
    txn.open_table(tables::PEERS)?;
    txn.open_table(tables::FORKS)?;
    txn.open_table(tables::TOKENS)?;
    txn.open_table(tables::VERDICTS)?;
    txn.open_table(tables::META)?;
    txn.open_table(tables::AUDIT)?;
    txn.open_table(tables::AUDIT_ANCHOR)?;
    txn.open_table(tables::AUDIT_AGENTS)?;
    txn.open_table(tables::AUDIT_GAPS)?;
    txn.open_table(tables::AUDIT_PRUNINGS)?;
    txn.open_table(tables::API_TOKENS)?;
    txn.open_table(tables::EVENTS)?;
    txn.open_table(tables::GAPS)?;
    Ok(())
}

/// A name for a life of the log; 0 is none.
pub(super) fn new_log_epoch() -> u64 {
    rand::random::<u64>().max(1)
}

/// Sees to it that the file has this program's schema.
///
/// # Errors
/// [`StoreError::NewerSchema`], and what a damaged file or a failing disk does.
pub(super) fn bring_up(db: &Database, path: &Path) -> Result<(), StoreError> {
    match known_to(tables::SCHEMA, db, path)? {
        tables::SCHEMA => Ok(()),
        found => {
            let brought = match found {
                1 => from_1(db),
                2 => from_2(db),
                _ => from_3(db),
            };
            brought.map_err(|abort| abort.name(path))?;
            tracing::info!(path = %path.display(), schema = tables::SCHEMA, "the store was brought up to this version");
            Ok(())
        }
    }
}

/// The file's schema, for a program that knows those up to `known`.
///
/// # Errors
/// As [`bring_up`].
pub(super) fn known_to(known: u64, db: &Database, path: &Path) -> Result<u64, StoreError> {
    match schema_of(db).map_err(|abort| abort.name(path))? {
        found if found > known => Err(StoreError::NewerSchema { path: path.to_owned(), found, known }),
        found => Ok(found),
    }
}

/// The file's schema.
fn schema_of(db: &Database) -> Result<u64, Abort> {
    match tables::counter(&db.begin_read()?.open_table(tables::COUNTERS)?, tables::SCHEMA_NAME)? {
        0 => Err(Abort::Damaged("it says no schema".to_owned())),
        schema => Ok(schema),
    }
}

/// Makes of schema 2 this one; schema 3 brought an audit log, and keeps transitions. A program that knows neither
/// would change the registry without an entry, so it is not to open the file any more.
fn from_2(db: &Database) -> Result<(), Abort> {
    let txn = db.begin_write()?;
    open_all(&txn)?;
    txn.open_table(tables::COUNTERS)?.insert(tables::SCHEMA_NAME, tables::SCHEMA)?;
    Ok(txn.commit()?)
}

/// Makes of schema 3 this one, which forgets what agents did apart from what people did, and holds tokens of
/// the API. A program that does not know gaps in the audit log would call it broken.
fn from_3(db: &Database) -> Result<(), Abort> {
    let txn = db.begin_write()?;
    open_all(&txn)?;
    {
        let mut agents = txn.open_table(tables::AUDIT_AGENTS)?;
        let mut prunings = txn.open_table(tables::AUDIT_PRUNINGS)?;
        for row in txn.open_table(tables::AUDIT)?.iter()? {
            let (number, row) = row?;
            match super::audit::class_of(row.value().1) {
                Class::Agents => drop(agents.insert(number.value(), ())?),
                Class::Pruning => drop(prunings.insert(number.value(), ())?),
                Class::People => {}
            }
        }
    }
    txn.open_table(tables::COUNTERS)?.insert(tables::SCHEMA_NAME, tables::SCHEMA)?;
    Ok(txn.commit()?)
}

/// Makes of schema 1 this one, all or nothing. Rows go over one by one.
fn from_1(db: &Database) -> Result<(), Abort> {
    let txn = db.begin_write()?;
    open_all(&txn)?;
    {
        let mut statements = txn.open_table(tables::STATEMENTS)?;
        for row in txn.open_table(RECORDS_1)?.iter()? {
            let signed = tables::stored(row?.1.value())?;
            statements.insert(tables::place(signed.record()), signed.bytes())?;
        }
        let mut numbers = txn.open_table(tables::NUMBERS)?;
        for row in txn.open_table(SEQUENCES_1)?.iter()? {
            let (number, hash) = row?;
            numbers.insert(number.value(), (hash.value(), 0))?;
        }
        for row in txn.open_table(tables::LOG)?.iter()? {
            let (position, row) = row?;
            let signed = tables::stored(row.value().1)?;
            let (author, epoch, seq) = tables::author_number(&signed);
            numbers.insert((&author.0, epoch, seq), (&signed.hash(), position.value()))?;
        }
        let mut counters = txn.open_table(tables::COUNTERS)?;
        counters.insert(tables::SCHEMA_NAME, tables::SCHEMA)?;
        counters.insert(tables::LOG_EPOCH, new_log_epoch())?;
    }
    txn.delete_table(RECORDS_1)?;
    txn.delete_table(SEQUENCES_1)?;
    Ok(txn.commit()?)
}

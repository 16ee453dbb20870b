//! Forgetting what is past its life, and dropping statements to start over.

use super::tables::{self, Abort};
use super::{Collected, StatementKey};
use nearmost_replica::merge::{is_collectable, order};
use nearmost_replica::{Hlc, SignedRecord, TOMBSTONE_LIFE};
use redb::{Database, ReadableTable, WriteTransaction};
use std::collections::HashSet;

/// How long it is remembered of a key that it was forgotten, counted from the clock of what was
/// forgotten, in milliseconds: 60 days more than a tombstone lives.
pub(super) const FLOOR_LIFE_MS: u64 = 90 * 24 * 3600 * 1000;

/// Forgets what is past its life; writes nothing when there is nothing to forget.
pub(super) fn collect(
    db: &Database,
    now_unix_ms: u64,
    hidden: &HashSet<StatementKey>,
) -> Result<Collected, Abort> {
    let txn = db.begin_write()?;
    let mut collected = Collected::default();
    let mut floors = Vec::new();
    {
        // One key's statements at a time are held.
        let mut of_key: Vec<SignedRecord> = Vec::new();
        for row in txn.open_table(tables::STATEMENTS)?.iter()? {
            let signed = tables::stored(row?.1.value())?;
            if of_key.first().is_some_and(|first| !first.record().same_key(signed.record())) {
                floors.extend(judge_key(&mut of_key, now_unix_ms, hidden, &mut collected));
            }
            of_key.push(signed);
        }
        floors.extend(judge_key(&mut of_key, now_unix_ms, hidden, &mut collected));
    }
    remove(&txn, &collected.removed)?;
    let forgotten = renew_floors(&txn, &floors, now_unix_ms)?;
    let life_ms = u64::try_from(TOMBSTONE_LIFE.as_millis()).unwrap_or(u64::MAX);
    txn.open_table(tables::TOKENS)?.retain(|_, (expires_unix_ms, ..)| {
        let past = expires_unix_ms.saturating_add(life_ms) <= now_unix_ms;
        collected.tokens += u64::from(past);
        !past
    })?;
    if collected == Collected::default() && !forgotten {
        txn.abort()?;
    } else {
        txn.commit()?;
    }
    Ok(collected)
}

/// Which of a key's statements go, and the floor that is left where all do. Leaves `of_key` empty.
fn judge_key(
    of_key: &mut Vec<SignedRecord>,
    now_unix_ms: u64,
    hidden: &HashSet<StatementKey>,
    collected: &mut Collected,
) -> Option<(SignedRecord, Hlc)> {
    let past = |signed: &SignedRecord| is_collectable(signed.record(), now_unix_ms);
    if !of_key.iter().any(past) {
        of_key.clear();
        return None;
    }
    collected.tombstones += of_key.iter().filter(|signed| past(signed)).count() as u64;
    let is_hidden =
        |s: &SignedRecord| !hidden.is_empty() && hidden.contains(&(s.record().key(), s.record().author));
    let greatest = of_key.iter().filter(|signed| !is_hidden(signed)).max_by(|a, b| order(a, b)).cloned();
    match greatest.filter(past) {
        // Statements that nobody may take for true go too, as what they say is over for all the same.
        Some(greatest) => {
            let highest = of_key.iter().map(|signed| signed.record().hlc).max().unwrap_or_default();
            collected.removed.append(of_key);
            Some((greatest, highest))
        }
        None => {
            collected.removed.extend(of_key.drain(..).filter(past));
            None
        }
    }
}

/// Removes statements.
fn remove(txn: &WriteTransaction, removed: &[SignedRecord]) -> Result<(), Abort> {
    let mut statements = txn.open_table(tables::STATEMENTS)?;
    for signed in removed {
        statements.remove(tables::place(signed.record()))?;
    }
    Ok(())
}

/// Raises the floors of keys, and forgets those that were kept long enough; whether there were any.
fn renew_floors(
    txn: &WriteTransaction,
    new: &[(SignedRecord, Hlc)],
    now_unix_ms: u64,
) -> Result<bool, Abort> {
    let mut floors = txn.open_table(tables::FLOORS)?;
    for (signed, hlc) in new {
        let place = tables::key_place(signed.record());
        let known = floors.get(place)?.map(|known| known.value());
        let floor = known.unwrap_or_default().max((hlc.millis, hlc.counter));
        floors.insert(place, floor)?;
    }
    let mut forgotten = false;
    floors.retain(|_, (millis, _)| {
        let past = millis.saturating_add(FLOOR_LIFE_MS) <= now_unix_ms;
        forgotten |= past;
        !past
    })?;
    Ok(forgotten)
}

/// Removes statements as if they had never come, with the numbers that were used for them.
pub(super) fn drop_statements(db: &Database, dropped: &[StatementKey]) -> Result<u64, Abort> {
    let txn = db.begin_write()?;
    let (version, changed) = {
        let mut statements = txn.open_table(tables::STATEMENTS)?;
        let mut numbers = txn.open_table(tables::NUMBERS)?;
        let mut changed = false;
        for (key, author) in dropped {
            let bytes = statements.remove((key.kind.0, &*key.scope, &*key.id, &author.0))?;
            if let Some(signed) = bytes.map(|bytes| tables::stored(bytes.value())).transpose()? {
                let (author, epoch, seq) = tables::author_number(&signed);
                numbers.remove((&author.0, epoch, seq))?;
                changed = true;
            }
        }
        let mut counters = txn.open_table(tables::COUNTERS)?;
        let version = tables::counter(&counters, tables::VERSION)? + u64::from(changed);
        counters.insert(tables::VERSION, version)?;
        (version, changed)
    };
    if changed {
        txn.commit()?;
    } else {
        txn.abort()?;
    }
    Ok(version)
}

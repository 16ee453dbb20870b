//! Forgetting what is past its life, and dropping statements to start over.

use super::tables::{self, Abort};
use super::{Collected, StatementKey};
use nearmost_replica::merge::{is_buried, is_collectable, order};
use nearmost_replica::{SignedRecord, TOMBSTONE_LIFE};
use redb::{Database, ReadableTable, WriteTransaction};
use std::collections::HashSet;

/// How long a tombstone is kept after it was collected, counted from its own clock, in milliseconds: 90 days
/// more than it lives. It is no statement any more, but whoever offers what it buried is shown it.
pub(super) const GRAVE_LIFE_MS: u64 = 120 * 24 * 3600 * 1000;

/// Forgets what is past its life; writes nothing when there is nothing to forget.
pub(super) fn collect(
    db: &Database,
    now_unix_ms: u64,
    hidden: &HashSet<StatementKey>,
) -> Result<Collected, Abort> {
    let txn = db.begin_write()?;
    let mut collected = Collected::default();
    let mut graves = Vec::new();
    {
        // One key's statements at a time are held.
        let mut of_key: Vec<SignedRecord> = Vec::new();
        for row in txn.open_table(tables::STATEMENTS)?.iter()? {
            let signed = tables::stored(row?.1.value())?;
            if of_key.first().is_some_and(|first| !first.record().same_key(signed.record())) {
                graves.extend(judge_key(&mut of_key, now_unix_ms, hidden, &mut collected));
            }
            of_key.push(signed);
        }
        graves.extend(judge_key(&mut of_key, now_unix_ms, hidden, &mut collected));
    }
    remove(&txn, &collected.removed)?;
    let forgotten = dig(&txn, &graves, now_unix_ms)?;
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

/// Which of a key's statements go, and the tombstone that buries them. Leaves `of_key` empty.
fn judge_key(
    of_key: &mut Vec<SignedRecord>,
    now_unix_ms: u64,
    hidden: &HashSet<StatementKey>,
    collected: &mut Collected,
) -> Option<SignedRecord> {
    let past = |signed: &SignedRecord| is_collectable(signed.record(), now_unix_ms);
    if !of_key.iter().any(past) {
        of_key.clear();
        return None;
    }
    collected.tombstones += of_key.iter().filter(|signed| past(signed)).count() as u64;
    // What nobody may take for true buries nothing.
    let is_hidden =
        |s: &SignedRecord| !hidden.is_empty() && hidden.contains(&(s.record().key(), s.record().author));
    let buries = |s: &&SignedRecord| past(s) && !is_hidden(s);
    let grave = of_key.iter().filter(buries).max_by(|a, b| order(a, b)).cloned();
    let goes = |s: &SignedRecord| past(s) || grave.as_ref().is_some_and(|grave| is_buried(s, grave));
    collected.removed.extend(of_key.drain(..).filter(goes));
    grave
}

/// Removes statements.
fn remove(txn: &WriteTransaction, removed: &[SignedRecord]) -> Result<(), Abort> {
    let mut statements = txn.open_table(tables::STATEMENTS)?;
    for signed in removed {
        statements.remove(tables::place(signed.record()))?;
    }
    Ok(())
}

/// Keeps tombstones for those who offer what they buried, and forgets those that were kept long enough;
/// whether there were any.
fn dig(txn: &WriteTransaction, new: &[SignedRecord], now_unix_ms: u64) -> Result<bool, Abort> {
    let mut graves = txn.open_table(tables::GRAVES)?;
    for signed in new {
        let place = tables::key_place(signed.record());
        let known = graves.get(place)?.map(|known| tables::stored(known.value())).transpose()?;
        if known.is_none_or(|known| order(signed, &known).is_gt()) {
            graves.insert(place, signed.bytes())?;
        }
    }
    let (mut forgotten, mut damaged) = (false, None);
    graves.retain(|_, bytes| match tables::stored(bytes) {
        Ok(signed) => {
            let past = signed.record().hlc.millis.saturating_add(GRAVE_LIFE_MS) <= now_unix_ms;
            forgotten |= past;
            !past
        }
        Err(abort) => {
            damaged = Some(abort);
            true
        }
    })?;
    damaged.map_or(Ok(forgotten), Err)
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

/// Forgets that these records were ever seen, and if asked the graves of what they are about: who removed them
/// may not do so any more.
pub(super) fn exhume(db: &Database, records: &[SignedRecord], with_graves: bool) -> Result<(), Abort> {
    let txn = db.begin_write()?;
    {
        let mut graves = txn.open_table(tables::GRAVES)?;
        let mut numbers = txn.open_table(tables::NUMBERS)?;
        for signed in records {
            if with_graves {
                graves.remove(tables::key_place(signed.record()))?;
            }
            let (author, epoch, seq) = tables::author_number(signed);
            numbers.remove((&author.0, epoch, seq))?;
        }
    }
    Ok(txn.commit()?)
}

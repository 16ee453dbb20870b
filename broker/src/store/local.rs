//! What is this broker's own and is not replicated: tokens, verdicts, blobs.

use super::tables::{self, Abort};
use super::{Beside, StoreError, TokenEntry, TokenError, apitokens};
use redb::{Database, ReadableDatabase, ReadableTable, Table, WriteTransaction};
use std::collections::BTreeMap;

/// What a token entitles to, if it is good.
pub(super) fn good_token(
    tokens: &impl ReadableTable<&'static [u8; 32], tables::TokenRow>,
    hash: &[u8; 32],
    now_unix_ms: u64,
) -> Result<TokenEntry, Abort> {
    let refuse = |error: TokenError| Abort::Refused(StoreError::Token(error));
    let row = tokens.get(hash)?.ok_or_else(|| refuse(TokenError::Unknown))?;
    let (expires_unix_ms, used, node, created_by, domains) = row.value();
    // Used before expired: who sees both wants to know that the token was taken.
    if let Some(used_unix_ms) = used {
        return Err(refuse(TokenError::Used { used_unix_ms }));
    }
    if now_unix_ms >= expires_unix_ms {
        return Err(refuse(TokenError::Expired { expired_unix_ms: expires_unix_ms }));
    }
    Ok(TokenEntry {
        domains: domains.iter().map(|d| (*d).to_owned()).collect(),
        node: node.to_owned(),
        expires_unix_ms,
        created_by: created_by.to_owned(),
    })
}

/// Marks a token as used. It was found good in the same transaction.
pub(super) fn spend_token(
    tokens: &mut Table<'_, &'static [u8; 32], tables::TokenRow>,
    hash: &[u8; 32],
    now_unix_ms: u64,
) -> Result<TokenEntry, Abort> {
    let entry = good_token(tokens, hash, now_unix_ms)?;
    write_token(tokens, hash, &entry, Some(now_unix_ms))?;
    Ok(entry)
}

fn write_token(
    tokens: &mut Table<'_, &'static [u8; 32], tables::TokenRow>,
    hash: &[u8; 32],
    entry: &TokenEntry,
    used_unix_ms: Option<u64>,
) -> Result<(), Abort> {
    let domains: Vec<&str> = entry.domains.iter().map(String::as_str).collect();
    tokens.insert(hash, (entry.expires_unix_ms, used_unix_ms, &*entry.node, &*entry.created_by, domains))?;
    Ok(())
}

/// Keeps a token.
pub(super) fn put_token(db: &Database, hash: &[u8; 32], entry: &TokenEntry) -> Result<(), Abort> {
    let txn = db.begin_write()?;
    keep_token(&txn, hash, entry)?;
    Ok(txn.commit()?)
}

/// Keeps what an act is about.
pub(super) fn keep_beside(txn: &WriteTransaction, beside: &Beside) -> Result<(), Abort> {
    match beside {
        Beside::Nothing => Ok(()),
        Beside::Token(hash, entry) => keep_token(txn, hash, entry),
        Beside::Blob(name, value) => {
            txn.open_table(tables::META)?.insert(*name, value.as_slice())?;
            Ok(())
        }
        Beside::ApiToken(token) => apitokens::keep(txn, token),
        Beside::Revoked(name) => apitokens::revoke(txn, name),
    }
}

/// The same in a transaction that does more.
fn keep_token(txn: &WriteTransaction, hash: &[u8; 32], entry: &TokenEntry) -> Result<(), Abort> {
    write_token(&mut txn.open_table(tables::TOKENS)?, hash, entry, None)
}

/// What a token entitles to, if it is good.
pub(super) fn check_token(db: &Database, hash: &[u8; 32], now_unix_ms: u64) -> Result<TokenEntry, Abort> {
    good_token(&db.begin_read()?.open_table(tables::TOKENS)?, hash, now_unix_ms)
}

/// Redeems a token. A transaction that is dropped, as when the token is not good, changes nothing.
pub(super) fn redeem_token(db: &Database, hash: &[u8; 32], now_unix_ms: u64) -> Result<TokenEntry, Abort> {
    let txn = db.begin_write()?;
    let entry = spend_token(&mut txn.open_table(tables::TOKENS)?, hash, now_unix_ms)?;
    txn.commit()?;
    Ok(entry)
}

/// Replaces the last verdicts; only differences are written, none when there are none.
pub(super) fn save_verdicts(db: &Database, verdicts: &[(String, Vec<u8>)]) -> Result<(), Abort> {
    let mut wanted: BTreeMap<&str, &[u8]> =
        verdicts.iter().map(|(k, v)| (k.as_str(), v.as_slice())).collect();
    let mut gone = Vec::new();
    for row in db.begin_read()?.open_table(tables::VERDICTS)?.iter()? {
        let (key, value) = row?;
        match wanted.get(key.value()) {
            Some(wish) if *wish == value.value() => drop(wanted.remove(key.value())),
            Some(_) => {}
            None => gone.push(key.value().to_owned()),
        }
    }
    if wanted.is_empty() && gone.is_empty() {
        return Ok(());
    }
    let txn = db.begin_write()?;
    {
        let mut table = txn.open_table(tables::VERDICTS)?;
        for key in &gone {
            table.remove(key.as_str())?;
        }
        for (key, value) in wanted {
            table.insert(key, value)?;
        }
    }
    Ok(txn.commit()?)
}

/// The last verdicts, sorted by key.
pub(super) fn load_verdicts(db: &Database) -> Result<Vec<(String, Vec<u8>)>, Abort> {
    let mut verdicts = Vec::new();
    for row in db.begin_read()?.open_table(tables::VERDICTS)?.iter()? {
        let (key, value) = row?;
        verdicts.push((key.value().to_owned(), value.value().to_vec()));
    }
    Ok(verdicts)
}

/// Keeps a named blob.
pub(super) fn put_meta(db: &Database, name: &str, value: &[u8]) -> Result<(), Abort> {
    let txn = db.begin_write()?;
    txn.open_table(tables::META)?.insert(name, value)?;
    Ok(txn.commit()?)
}

/// A named blob.
pub(super) fn get_meta(db: &Database, name: &str) -> Result<Option<Vec<u8>>, Abort> {
    let value = db.begin_read()?.open_table(tables::META)?.get(name)?;
    Ok(value.map(|value| value.value().to_vec()))
}

/// Removes a named blob.
pub(super) fn remove_meta(db: &Database, name: &str) -> Result<(), Abort> {
    let txn = db.begin_write()?;
    txn.open_table(tables::META)?.remove(name)?;
    Ok(txn.commit()?)
}

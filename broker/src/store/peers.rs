//! What this broker knows of its peers, and proofs against authors that forked.

use super::tables::{self, Abort};
use super::{Evidence, StoreError};
use nearmost_replica::{PublicKey, SignedRecord};
use redb::{Database, ReadableDatabase, ReadableTable};

/// Keeps what is known of peers; `None` removes.
pub(super) fn save_peers(db: &Database, peers: &[(PublicKey, Option<Vec<u8>>)]) -> Result<(), Abort> {
    if peers.is_empty() {
        return Ok(());
    }
    let txn = db.begin_write()?;
    {
        let mut table = txn.open_table(tables::PEERS)?;
        for (peer, known) in peers {
            match known {
                Some(known) => table.insert(&peer.0, known.as_slice())?,
                None => table.remove(&peer.0)?,
            };
        }
    }
    Ok(txn.commit()?)
}

/// What is known of peers, sorted by their keys.
pub(super) fn load_peers(db: &Database) -> Result<Vec<(PublicKey, Vec<u8>)>, Abort> {
    let mut peers = Vec::new();
    for row in db.begin_read()?.open_table(tables::PEERS)?.iter()? {
        let (peer, known) = row?;
        peers.push((PublicKey(*peer.value()), known.value().to_vec()));
    }
    Ok(peers)
}

/// Keeps two records that an author stated under one number, unless there are earlier ones.
pub(super) fn put_evidence(
    db: &Database,
    author: &PublicKey,
    a: &SignedRecord,
    b: &SignedRecord,
) -> Result<bool, Abort> {
    let number = tables::author_number(a);
    if number.0 != *author || number != tables::author_number(b) || a == b {
        return Err(Abort::Refused(StoreError::NoFork { author: *author }));
    }
    let txn = db.begin_write()?;
    let kept = {
        let mut table = txn.open_table(tables::FORKS)?;
        let known = table.get(&author.0)?.map(|row| tables::stored(row.value().0)).transpose()?;
        let first = known.is_none_or(|known| number < tables::author_number(&known));
        if first {
            table.insert(&author.0, (a.bytes(), b.bytes()))?;
        }
        first
    };
    if kept {
        txn.commit()?;
    } else {
        txn.abort()?;
    }
    Ok(kept)
}

/// The proofs against authors that forked, sorted by their keys.
pub(super) fn load_evidence(db: &Database) -> Result<Vec<Evidence>, Abort> {
    let mut evidence = Vec::new();
    for row in db.begin_read()?.open_table(tables::FORKS)?.iter()? {
        let (author, proof) = row?;
        let (a, b) = proof.value();
        evidence.push((PublicKey(*author.value()), tables::stored(a)?, tables::stored(b)?));
    }
    Ok(evidence)
}

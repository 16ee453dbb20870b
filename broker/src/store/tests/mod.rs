//! Tests of the store: what is kept, what is refused, and what a failing disk does.

mod audit;
mod backup;
mod conformance;
mod disk;
mod kept;
mod schema;
mod threaded;

use super::*;
use nearmost_replica::{Body, Record, SigningKey};

/// A month and a day after the epoch, so that ages can be subtracted.
const NOW: u64 = 31 * 24 * 3600 * 1000;

/// An author that counts its records.
struct Author {
    key: SigningKey,
    seq: u64,
}

impl Author {
    fn new(seed: u8) -> Self {
        Author { key: SigningKey::from_seed(&[seed; 32]), seq: 0 }
    }

    /// Signs the next record about a mirror; `None` removes it.
    fn write(&mut self, id: &str, millis: u64, body: Option<&[u8]>) -> SignedRecord {
        self.seq += 1;
        self.sign(self.seq, id, millis, body)
    }

    fn sign(&self, author_seq: u64, id: &str, millis: u64, body: Option<&[u8]>) -> SignedRecord {
        self.sign_as(Kind::MIRROR, author_seq, id, millis, body)
    }

    fn sign_as(
        &self,
        kind: Kind,
        author_seq: u64,
        id: &str,
        millis: u64,
        body: Option<&[u8]>,
    ) -> SignedRecord {
        let record = Record {
            kind,
            scope: "play.example".into(),
            id: id.into(),
            body: body.map_or(Body::Tombstone, |bytes| Body::Live { version: 1, bytes: bytes.to_vec() }),
            hlc: Hlc { millis, counter: 0 },
            author: self.key.public(),
            author_epoch: 1,
            author_seq,
            grants: vec![],
        };
        SignedRecord::sign(record, &self.key).unwrap()
    }
}

fn batch(records: impl Into<Vec<SignedRecord>>) -> WriteBatch {
    let (actor, note) = ("np1ada".to_owned(), "nearmost apply".to_owned());
    WriteBatch { records: records.into(), actor, note, received_unix_ms: NOW, ..WriteBatch::default() }
}

/// Delivered by a peer.
fn relayed(records: impl Into<Vec<SignedRecord>>, received_unix_ms: u64) -> WriteBatch {
    WriteBatch { from_peer: Some(PublicKey([9; 32])), received_unix_ms, ..batch(records) }
}

fn commit(store: &dyn Store, batch: WriteBatch) -> Result<Committed, StoreError> {
    store.commit_group(&[batch]).pop().unwrap()
}

fn token(expires_unix_ms: u64) -> TokenEntry {
    TokenEntry {
        domains: vec!["play.example".into(), "img.example".into()],
        node: "lon".into(),
        expires_unix_ms,
        created_by: "admin".into(),
    }
}

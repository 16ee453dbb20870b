//! Somebody who writes an application's records.

use super::DOMAIN;
use anyhow::{Context, Result};
use nearmost_client::Client;
use nearmost_client::registry::sign::{Signer, Stamp, to_view};
use nearmost_replica::merge::Rule;
use nearmost_replica::{Body, Hlc, Kind, RecordKey};
use nearmost_wire::api::CommitRequest;
use nearmost_wire::identity::KeyPair;
use nearmost_wire::registry::BODY_VERSION;

/// Bytes of a body.
const BODY: usize = 200;

/// A person that the broker knows.
pub struct Writer {
    key: KeyPair,
    kind: Kind,
    newest: Hlc,
}

impl Writer {
    /// With this key.
    pub fn new(key: &KeyPair) -> Result<Writer> {
        let kind = Kind::application(Rule::RemovalWins, 0).context("an application's kind")?;
        Ok(Writer { key: key.clone(), kind, newest: Hlc::default() })
    }

    /// The kind of what it writes.
    pub fn kind(&self) -> u16 {
        self.kind.0
    }

    /// Signs a record of each of these users; what is signed is newer than what was signed before.
    pub fn sign(&mut self, users: std::ops::Range<usize>) -> Result<CommitRequest> {
        let mut signer = Signer::new(self.newest, Stamp::now()?);
        let mut records = Vec::with_capacity(users.len());
        for user in users {
            let about = RecordKey { kind: self.kind, scope: DOMAIN.into(), id: format!("users/{user}") };
            let bytes = format!("{user:0BODY$}").into_bytes();
            let signed = signer.sign(&self.key, about, Body::Live { version: BODY_VERSION, bytes })?;
            self.newest = signed.record().hlc;
            records.push(to_view(&signed));
        }
        Ok(CommitRequest { records, expect_version: None, note: "benchmark".into() })
    }

    /// Signs and commits.
    pub async fn write(&mut self, client: &Client, users: std::ops::Range<usize>) -> Result<()> {
        let request = self.sign(users)?;
        client.commit(&request).await.context("a commit")?;
        Ok(())
    }
}

/// A registry with the domain whose records are written.
pub fn registry() -> String {
    format!("version = 1\n[[domain]]\nname = {DOMAIN:?}\n")
}

//! Tokens of the API that were made while running: who may read without being an administrator.

use super::tables::{self, Abort};
use super::{Store, StoreError, StoreHandle};
use nearmost_config::Scope;
use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction};

/// A token of the API. Of its text only the hash is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiTokenEntry {
    /// Unique.
    pub name: String,
    /// SHA-256 of its text.
    pub sha256: [u8; 32],
    /// What its holder may do.
    pub scope: Scope,
    /// Who made it, as shown to people.
    pub created_by: String,
    /// When, in milliseconds since the Unix epoch.
    pub created_unix_ms: u64,
    /// Until when it is good, likewise; `None` until it is revoked.
    pub expires_unix_ms: Option<u64>,
}

/// Keeps a token under its name.
pub(super) fn keep(txn: &WriteTransaction, token: &ApiTokenEntry) -> Result<(), Abort> {
    let ApiTokenEntry { name, sha256, scope, created_by, created_unix_ms, expires_unix_ms } = token;
    let row = (sha256, scope.as_str(), &**created_by, *created_unix_ms, expires_unix_ms.unwrap_or(0));
    txn.open_table(tables::API_TOKENS)?.insert(&**name, row)?;
    Ok(())
}

/// Removes a token.
pub(super) fn revoke(txn: &WriteTransaction, name: &str) -> Result<(), Abort> {
    txn.open_table(tables::API_TOKENS)?.remove(name)?;
    Ok(())
}

/// All of them, sorted by name.
pub(super) fn all(db: &Database) -> Result<Vec<ApiTokenEntry>, Abort> {
    let mut tokens = Vec::new();
    for row in db.begin_read()?.open_table(tables::API_TOKENS)?.iter()? {
        let (name, row) = row?;
        let (sha256, scope, created_by, created_unix_ms, until) = row.value();
        let unknown = || Abort::Damaged(format!("token {:?} has the unknown scope {scope:?}", name.value()));
        tokens.push(ApiTokenEntry {
            name: name.value().to_owned(),
            sha256: *sha256,
            scope: Scope::parse(scope).ok_or_else(unknown)?,
            created_by: created_by.to_owned(),
            created_unix_ms,
            expires_unix_ms: (until > 0).then_some(until),
        });
    }
    Ok(tokens)
}

impl StoreHandle {
    /// The tokens of the API, sorted by name.
    pub async fn api_tokens(&self) -> Result<Vec<ApiTokenEntry>, StoreError> {
        self.call(|store: &dyn Store| store.api_tokens()).await
    }
}

//! Tokens of the API that are made while running: for programs that read, such as Prometheus, and must not hold an
//! administrator's token.
//!
//! ```text
//! create, revoke ──> store (token and entry of the audit log, one transaction) ──> list in memory ──> gate
//! ```
//! Their text is told once and kept nowhere: the store has its hash. None of them changes anything, whatever the
//! configuration says: those that do stand in `http.tokens`.

use crate::admin::AdminError;
use crate::audit::{Act, Who, acts};
use crate::clock::{unix_now, utc};
use crate::store::{ApiTokenEntry, Beside, StoreError, StoreHandle};
use arc_swap::ArcSwap;
use data_encoding::HEXLOWER;
use nearmost_config::Scope;
use nearmost_wire::api::TokenRequest;
use nearmost_wire::name;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What the text of a token begins with, so that it is known for one where it should not be.
const PREFIX: &str = "nma1";
/// Most tokens at once: each request that brings one is compared with all.
const MOST: usize = 1000;
/// Longest life, in seconds: ten years.
const MAX_LIFE_S: u64 = 10 * 366 * 24 * 3600;

/// The tokens; clones share them.
#[derive(Clone)]
pub struct ApiTokens {
    store: StoreHandle,
    known: Arc<ArcSwap<Vec<ApiTokenEntry>>>,
    /// Whoever changes them.
    turn: Arc<Semaphore>,
}

impl ApiTokens {
    /// None, until they are loaded.
    pub(crate) fn new(store: StoreHandle) -> ApiTokens {
        ApiTokens { store, known: Arc::default(), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Reads them from the store.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) async fn load(&self) -> Result<(), StoreError> {
        self.known.store(Arc::new(self.store.api_tokens().await?));
        Ok(())
    }

    /// All of them, sorted by name; those that have ended too.
    pub fn all(&self) -> Arc<Vec<ApiTokenEntry>> {
        self.known.load_full()
    }

    /// Makes a token; answers its text, which is told this once. `taken` are names that the configuration has.
    ///
    /// # Errors
    /// [`AdminError::Request`] says what makes no sense, [`AdminError::TokenThere`], and those of the disk.
    pub(crate) async fn create(
        &self,
        who: &Who,
        request: &TokenRequest,
        taken: impl Fn(&str) -> bool,
    ) -> Result<(String, ApiTokenEntry), AdminError> {
        let bad = AdminError::Request;
        let name = name::short(&request.name).map_err(|e| bad(e.to_string()))?;
        let scope = match Scope::parse(&request.scope) {
            Some(scope @ (Scope::Read | Scope::Metrics)) => scope,
            _ => {
                let scope = request.scope.chars().take(40).collect::<String>();
                let where_else = "tokens of administrators stand in http.tokens of the configuration";
                return Err(bad(format!(
                    "scope = {scope:?}: expected \"read\" or \"metrics\"; {where_else}"
                )));
            }
        };
        if let Some(life) = request.expires_in_s.filter(|s| *s == 0 || *s > MAX_LIFE_S) {
            return Err(bad(format!("expires_in_s = {life}: expected 1 to {MAX_LIFE_S}")));
        }
        if taken(&name) {
            return Err(AdminError::TokenThere(name));
        }
        let (tokens, who, life_s) = (self.clone(), who.clone(), request.expires_in_s);
        // In a task of its own: what is written becomes known also where whoever asked goes away.
        let made = tokio::spawn(async move { tokens.make(&who, name, scope, life_s).await });
        made.await.map_err(|_| AdminError::Stopping)?
    }

    async fn make(
        &self,
        who: &Who,
        name: String,
        scope: Scope,
        life_s: Option<u64>,
    ) -> Result<(String, ApiTokenEntry), AdminError> {
        let bad = AdminError::Request;
        // It is never closed.
        let _turn = self.turn.acquire().await;
        let known = self.all();
        if known.iter().any(|token| token.name == name) {
            return Err(AdminError::TokenThere(name));
        }
        if known.len() >= MOST {
            return Err(bad(format!("there are {MOST} tokens; revoke some")));
        }
        let text = text()?;
        let now = unix_now().0;
        let entry = ApiTokenEntry {
            name: name.clone(),
            sha256: Sha256::digest(&text).into(),
            scope,
            created_by: who.actor.to_string(),
            created_unix_ms: now,
            expires_unix_ms: life_s.map(|s| now + s * 1000),
        };
        let until = entry
            .expires_unix_ms
            .map_or_else(|| "until it is revoked".into(), |at| format!("until {}", utc(at)));
        let act = Act {
            by: who.by(),
            code: acts::TOKEN_CREATE.into(),
            at_unix_ms: now,
            target: name,
            note: format!("scope {}; good {until}", scope.as_str()),
            ..Act::default()
        };
        self.store.write_act(act, Beside::ApiToken(entry.clone())).await?;
        let mut tokens = Vec::clone(&known);
        tokens.push(entry.clone());
        tokens.sort_by(|a, b| a.name.cmp(&b.name));
        self.known.store(Arc::new(tokens));
        Ok((text, entry))
    }

    /// Takes a token back: it is good for nothing from now on.
    ///
    /// # Errors
    /// [`AdminError::NoSuchToken`], and those of the disk.
    pub(crate) async fn revoke(&self, who: &Who, name: &str) -> Result<ApiTokenEntry, AdminError> {
        let (tokens, who, name) = (self.clone(), who.clone(), name.to_owned());
        // As in `create`: a token that was taken back is not to stay good.
        let taken = tokio::spawn(async move { tokens.take_back(&who, &name).await });
        taken.await.map_err(|_| AdminError::Stopping)?
    }

    async fn take_back(&self, who: &Who, name: &str) -> Result<ApiTokenEntry, AdminError> {
        // It is never closed.
        let _turn = self.turn.acquire().await;
        let known = self.all();
        let Some(entry) = known.iter().find(|token| token.name == name).cloned() else {
            return Err(AdminError::NoSuchToken(name.chars().take(100).collect()));
        };
        let act = Act {
            by: who.by(),
            code: acts::TOKEN_REVOKE.into(),
            at_unix_ms: unix_now().0,
            target: entry.name.clone(),
            note: format!("scope {}, made by {}", entry.scope.as_str(), entry.created_by),
            ..Act::default()
        };
        self.store.write_act(act, Beside::Revoked(entry.name.clone())).await?;
        let left = known.iter().filter(|token| token.name != entry.name).cloned().collect();
        self.known.store(Arc::new(left));
        Ok(entry)
    }
}

/// The text of a new token: 256 bits of chance.
fn text() -> Result<String, AdminError> {
    let mut secret = [0; 32];
    let failed = |_| AdminError::Request("the system's random number generator failed".into());
    SystemRandom::new().fill(&mut secret).map_err(failed)?;
    Ok(format!("{PREFIX}{}", HEXLOWER.encode(&secret)))
}

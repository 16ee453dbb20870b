//! The API's administration, typed.

use crate::client::Client;
use crate::error::ClientError;
use crate::http::{Ask, encode};
use nearmost_wire::api::{
    AuditResponse, ChallengeRequest, ChallengeResponse, ChallengesRemoved, CommitRequest, CommitResponse,
    DrainPreview, HistoryView, InviteRequest, InviteResponse, LogLevelRequest, LogLevelResponse,
    RegistryResponse, TokenRequest, TokenResponse, TokenView, TokensResponse,
};

impl Client {
    /// The visible record of every key. The numbers that the answer has for an author are not asked for: see
    /// [`crate::registry::sign`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn registry(&self) -> Result<RegistryResponse, ClientError> {
        self.transport.json(Ask::get("/v1/registry", &[])).await
    }

    /// Every statement the broker holds, hidden ones too: what rights follow from. The answer is that of
    /// [`Client::registry`], with several records of one key where several authors stated something.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn statements(&self) -> Result<RegistryResponse, ClientError> {
        self.transport.json(Ask::get("/v1/registry", &[("all", "true")])).await
    }

    /// Writes signed records, all or none.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn commit(&self, request: &CommitRequest) -> Result<CommitResponse, ClientError> {
        self.post("/v1/registry", request).await
    }

    /// The newest `limit` written records, newest first; with `key` those of one domain (and all
    /// in it), one mirror (`DOMAIN/NAME`) or one node.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn history(&self, key: Option<&str>, limit: u32) -> Result<Vec<HistoryView>, ClientError> {
        let limit = limit.to_string();
        let query: Vec<_> = key.map(|k| ("key", k)).into_iter().chain([("limit", limit.as_str())]).collect();
        self.transport.json(Ask::get("/v1/history", &query)).await
    }

    /// A one-time token for a node to join with.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn invite(&self, request: &InviteRequest) -> Result<InviteResponse, ClientError> {
        self.post("/v1/invites", request).await
    }

    /// Has a text answered at `_acme-challenge.<name>`, where a certificate authority looks for it. `name` is
    /// what the certificate is for, with or without that label.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_challenge(
        &self,
        name: &str,
        request: &ChallengeRequest,
    ) -> Result<ChallengeResponse, ClientError> {
        self.put(&challenges(name), request).await
    }

    /// Removes such a text, or without `value` all of the name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_challenges(
        &self,
        name: &str,
        value: Option<&str>,
    ) -> Result<ChallengesRemoved, ClientError> {
        let query: Vec<_> = value.map(|value| ("value", value)).into_iter().collect();
        self.transport.json(Ask::delete(&challenges(name), &query)).await
    }

    /// A page of the audit log. `query` narrows it: `since_unix_ms`, `until_unix_ms`, `actor`, `act`,
    /// `target`, `after`, `limit`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit(&self, query: &[(&str, &str)]) -> Result<AuditResponse, ClientError> {
        self.transport.json(Ask::get("/v1/audit", query)).await
    }

    /// A token for a program that reads; its text is told this once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_token(&self, request: &TokenRequest) -> Result<TokenResponse, ClientError> {
        self.post("/v1/tokens", request).await
    }

    /// All tokens, without their texts.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tokens(&self) -> Result<TokensResponse, ClientError> {
        self.transport.json(Ask::get("/v1/tokens", &[])).await
    }

    /// Takes a token back that was made so.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn revoke_token(&self, name: &str) -> Result<TokenView, ClientError> {
        self.transport.json(Ask::delete(&format!("/v1/tokens/{}", encode(name)), &[])).await
    }

    /// What the broker logs.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn log_levels(&self) -> Result<LogLevelResponse, ClientError> {
        self.transport.json(Ask::get("/v1/log-level", &[])).await
    }

    /// Has the broker log more or less.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_log_levels(&self, request: &LogLevelRequest) -> Result<LogLevelResponse, ClientError> {
        self.put("/v1/log-level", request).await
    }

    /// Where the users of mirrors (`DOMAIN/NAME`) and of nodes' mirrors would go if they were
    /// drained.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn drain_preview(
        &self,
        mirrors: &[String],
        nodes: &[String],
    ) -> Result<DrainPreview, ClientError> {
        let mirrors = mirrors.iter().map(|m| ("mirror", m.as_str()));
        let query: Vec<_> = mirrors.chain(nodes.iter().map(|n| ("node", n.as_str()))).collect();
        self.transport.json(Ask::get("/v1/drain-preview", &query)).await
    }
}

fn challenges(name: &str) -> String {
    format!("/v1/domains/{}/acme-challenge", encode(name))
}

//! Tokens of the API: who may read without being an administrator.

use serde::{Deserialize, Serialize};

api! {
/// `POST /v1/tokens`.
pub struct TokenRequest {
    /// For logs and the audit log; unique.
    pub name: String,
    /// `read`: what the API tells, but for the audit log and the tokens; `metrics`: `/metrics` alone.
    pub scope: String,
    /// In how many seconds it ends; absent: when it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u64>,
}
}

api! {
/// The answer: the token's text, which is told this once.
pub struct TokenResponse {
    /// The text, for `Authorization: Bearer`.
    pub token: String,
    /// What it is.
    pub about: TokenView,
}
}

api! {
/// A token, without its text.
pub struct TokenView {
    /// Its name.
    pub name: String,
    /// `admin`, `read` or `metrics`.
    pub scope: String,
    /// Who made it; absent where the configuration has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// When, Unix milliseconds, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_unix_ms: Option<u64>,
    /// Until when it is good, Unix milliseconds; absent: until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_unix_ms: Option<u64>,
}
}

api! {
/// `GET /v1/tokens`.
pub struct TokensResponse {
    /// Those of the configuration, then those made while running, each sorted by name.
    pub tokens: Vec<TokenView>,
}
}

//! Tokens for programs that read: made, listed, revoked.

use super::Shared;
use super::auth::Caller;
use super::changes::{asked, who};
use super::error::Problem;
use super::params::Params;
use crate::audit::acts;
use crate::store::ApiTokenEntry;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::{HeaderMap, Uri};
use nearmost_wire::api::{ErrorBody, TokenRequest, TokenResponse, TokenView, TokensResponse};
use serde::Deserialize;
use std::sync::Arc;

/// A [`TokenRequest`] as it is taken: a key that is not known is a slip.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    scope: String,
    expires_in_s: Option<u64>,
}

/// Lists tokens, those of the configuration too; their texts are not known here.
#[utoipa::path(
    get,
    path = "/v1/tokens",
    tag = "administration",
    responses((status = 200, body = TokensResponse), (status = 401, description = "Credentials are needed", body = ErrorBody))
)]
pub(super) async fn list(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
) -> Result<Json<TokensResponse>, Problem> {
    Params::read(&uri, &[])?;
    let active = shared.settings.load();
    let mut tokens: Vec<TokenView> = active
        .settings
        .tokens
        .iter()
        .map(|token| TokenView {
            name: token.name.clone(),
            scope: token.scope.as_str().into(),
            created_by: None,
            created_unix_ms: None,
            expires_unix_ms: None,
        })
        .collect();
    tokens.sort_by(|a, b| a.name.cmp(&b.name));
    tokens.extend(shared.api.admin.tokens().all().iter().map(view));
    Ok(Json(TokensResponse { tokens }))
}

/// Makes a token that reads, and changes nothing. Its text is told this once.
#[utoipa::path(
    post,
    path = "/v1/tokens",
    tag = "administration",
    request_body = TokenRequest,
    responses(
        (status = 200, body = TokenResponse),
        (status = 400, description = "Not a name, or not a scope", body = ErrorBody),
        (status = 409, description = "There is one of that name", body = ErrorBody),
    )
)]
pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<TokenResponse>, Problem> {
    let who = who(caller)?;
    let Create { name, scope, expires_in_s } = asked(&shared, (&who, acts::TOKEN_CREATE), &headers, body)?;
    let request = TokenRequest { name, scope, expires_in_s };
    let active = shared.settings.load();
    let configured = |name: &str| active.settings.tokens.iter().any(|token| token.name == name);
    let (token, entry) = shared.api.admin.create_token(who, &request, configured).await?;
    tracing::info!(name = entry.name, scope = entry.scope.as_str(), "a token of the API was made");
    Ok(Json(TokenResponse { token, about: view(&entry) }))
}

/// Takes a token back that was made so. Those of the configuration are removed there.
#[utoipa::path(
    delete,
    path = "/v1/tokens/{name}",
    tag = "administration",
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "What it was", body = TokenView),
        (status = 404, description = "None of that name was made here", body = ErrorBody),
    )
)]
pub(super) async fn revoke(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<TokenView>, Problem> {
    let (Path(name), who) = (name?, who(caller)?);
    let entry = shared.api.admin.revoke_token(who, &name).await?;
    tracing::info!(name = entry.name, "a token of the API was revoked");
    Ok(Json(view(&entry)))
}

fn view(token: &ApiTokenEntry) -> TokenView {
    TokenView {
        name: token.name.clone(),
        scope: token.scope.as_str().into(),
        created_by: Some(token.created_by.clone()),
        created_unix_ms: Some(token.created_unix_ms),
        expires_unix_ms: token.expires_unix_ms,
    }
}

//! The registry as people administer it: what a change is planned against, the change, what was
//! changed, and invitations of nodes. The registrar decides; this is its door.

use super::Shared;
use super::auth::Caller;
use super::error::Problem;
use crate::admin::Actor;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::{Extension, Json};
use http::StatusCode;
use nearmost_wire::api::{
    CommitRequest, CommitResponse, ErrorBody, HistoryView, InviteRequest, InviteResponse, RegistryResponse,
};
use nearmost_wire::identity::Id;
use serde::Deserialize;
use std::sync::Arc;

/// Entries of the history that are sent unless asked for otherwise.
const HISTORY: usize = 100;

/// Query of `GET /v1/registry`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RegistryQuery {
    author: Option<String>,
}

/// All current records, and what an author signs the next with.
#[utoipa::path(
    get,
    path = "/v1/registry",
    tag = "administration",
    params(("author" = Option<String>, Query, description = "Whose epoch and next sequence number to tell: `np1…`")),
    responses((status = 200, body = RegistryResponse), (status = 400, description = "Not an id", body = ErrorBody))
)]
pub(super) async fn registry(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<RegistryQuery>, QueryRejection>,
) -> Result<Json<RegistryResponse>, Problem> {
    let Query(query) = query?;
    let author = query.author.map(|text| text.parse::<Id>()).transpose();
    let author = author.map_err(|e| Problem::bad_request(e.to_string()))?;
    Ok(Json(shared.api.admin.registry(author).await?))
}

/// Writes signed records, all or none.
#[utoipa::path(
    post,
    path = "/v1/registry",
    tag = "administration",
    request_body = CommitRequest,
    responses(
        (status = 200, body = CommitResponse),
        (status = 400, description = "A record cannot be read", body = ErrorBody),
        (status = 409, description = "The registry has changed meanwhile", body = ErrorBody),
        (status = 413, description = "More than 4 MiB", body = ErrorBody),
        (status = 422, description = "The registry would not make sense", body = ErrorBody),
    )
)]
pub(super) async fn commit(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<CommitRequest>, JsonRejection>,
) -> Result<Json<CommitResponse>, Problem> {
    let Json(request) = body?;
    Ok(Json(shared.api.admin.commit(actor(caller)?, request).await?))
}

/// Query of `GET /v1/history`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    key: Option<String>,
    limit: Option<usize>,
}

/// Records written, newest first.
#[utoipa::path(
    get,
    path = "/v1/history",
    tag = "administration",
    params(
        ("key" = Option<String>, Query, description = "A domain, `domain/mirror`, or a node's name"),
        ("limit" = Option<usize>, Query, description = "At most this many; 100 unless given"),
    ),
    responses((status = 200, body = Vec<HistoryView>))
)]
pub(super) async fn history(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<HistoryQuery>, QueryRejection>,
) -> Result<Json<Vec<HistoryView>>, Problem> {
    let Query(query) = query?;
    Ok(Json(shared.api.admin.history(query.key, query.limit.unwrap_or(HISTORY)).await?))
}

/// Makes a one-time token that a node joins with.
#[utoipa::path(
    post,
    path = "/v1/invites",
    tag = "administration",
    request_body = InviteRequest,
    responses((status = 200, body = InviteResponse), (status = 400, description = "Nonsense asked for", body = ErrorBody))
)]
pub(super) async fn invite(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<InviteRequest>, JsonRejection>,
) -> Result<Json<InviteResponse>, Problem> {
    let Json(request) = body?;
    Ok(Json(shared.api.admin.invite(actor(caller)?, request).await?))
}

/// Who changes something; the gate admits nobody unknown, so the error is never seen.
fn actor(caller: Caller) -> Result<Actor, Problem> {
    caller.actor.ok_or_else(|| {
        Problem::new(
            StatusCode::UNAUTHORIZED,
            "credentials_missing",
            "changes need a token or a person's key",
        )
    })
}

//! The registry as people administer it: what a change is planned against, the change, what was
//! changed, copies of all of it, and invitations of nodes. The registrar decides; this is its door.

use super::Shared;
use super::auth::{Caller, ListenerKind};
use super::error::Problem;
use super::params::{self, Params};
use crate::admin::Actor;
use crate::audit::{Via, Who, acts};
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode, Uri};
use nearmost_wire::api::{
    BackupRequest, BackupResponse, CommitRequest, CommitResponse, ErrorBody, HistoryView, InviteRequest,
    InviteResponse, RecordView, RegistryResponse,
};
use nearmost_wire::identity::Id;
use serde::Deserialize;
use std::sync::Arc;

/// Entries of the history that are sent unless asked for otherwise.
const HISTORY: usize = 100;

/// All current records, and what an author signs the next with.
#[utoipa::path(
    get,
    path = "/v1/registry",
    tag = "administration",
    params(
        ("author" = Option<String>, Query, description = "Whose epoch and next sequence number to tell: `np1…`"),
        ("all" = Option<bool>, Query, description = "Every statement held, also those above which another stands"),
    ),
    responses((status = 200, body = RegistryResponse), (status = 400, description = "Not an id", body = ErrorBody))
)]
pub(super) async fn registry(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
) -> Result<Json<RegistryResponse>, Problem> {
    let query = Params::read(&uri, &["author", "all"])?;
    let author = query.parsed::<Id>("author", "an id such as np1…")?;
    let all = query.parsed("all", "true or false")?.unwrap_or(false);
    Ok(Json(shared.api.admin.registry(author, all).await?))
}

/// A [`CommitRequest`] as it is taken: a key that is not known is a slip, where in an answer it would be
/// of a newer broker.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Commit {
    records: Vec<Written>,
    expect_version: Option<u64>,
    note: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    record: String,
}

impl From<Commit> for CommitRequest {
    fn from(commit: Commit) -> CommitRequest {
        let records = commit.records.into_iter().map(|r| RecordView { record: r.record }).collect();
        CommitRequest { records, expect_version: commit.expect_version, note: commit.note }
    }
}

/// An [`InviteRequest`] as it is taken.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invite {
    domains: Vec<String>,
    name: Option<String>,
    ttl_s: u64,
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
        (status = 413, description = "More than 64 MiB", body = ErrorBody),
        (status = 422, description = "The registry would not make sense", body = ErrorBody),
    )
)]
pub(super) async fn commit(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<CommitResponse>, Problem> {
    let who = who(caller)?;
    let read = asked::<Commit>(&shared, (&who, acts::COMMIT), &headers, body)?;
    Ok(Json(shared.api.admin.commit(who, CommitRequest::from(read)).await?))
}

/// Records written, newest first.
#[utoipa::path(
    get,
    path = "/v1/history",
    tag = "administration",
    params(
        ("key" = Option<String>, Query, description = "A domain, `domain/mirror`, a node's name, or an override's prefix"),
        ("limit" = Option<usize>, Query, description = "At most this many; 100 unless given"),
    ),
    responses((status = 200, body = Vec<HistoryView>))
)]
pub(super) async fn history(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
) -> Result<Json<Vec<HistoryView>>, Problem> {
    let query = Params::read(&uri, &["key", "limit"])?;
    let limit = query.parsed("limit", "a whole number")?.unwrap_or(HISTORY);
    Ok(Json(shared.api.admin.history(query.text("key").map(Into::into), limit).await?))
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
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<InviteResponse>, Problem> {
    let who = who(caller)?;
    let Invite { domains, name, ttl_s } = asked(&shared, (&who, acts::INVITE), &headers, body)?;
    let request = InviteRequest { domains, name, ttl_s };
    Ok(Json(shared.api.admin.invite(who, request).await?))
}

/// A [`BackupRequest`] as it is taken.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Backup {
    path: String,
    #[serde(default)]
    overwrite: bool,
}

/// Copies everything that the broker holds to a file on its machine.
#[utoipa::path(
    post,
    path = "/v1/backup",
    tag = "administration",
    request_body = BackupRequest,
    responses(
        (status = 200, body = BackupResponse),
        (status = 400, description = "Not an absolute path to a file in a folder", body = ErrorBody),
        (status = 403, description = "Tokens may not", body = ErrorBody),
        (status = 409, description = "A file is there", body = ErrorBody),
    )
)]
pub(super) async fn backup(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<BackupResponse>, Problem> {
    let who = who(caller)?;
    let Backup { path, overwrite } = asked(&shared, (&who, acts::BACKUP), &headers, body)?;
    if matches!(who.actor, Actor::Token(_)) {
        shared.api.admin.refused(&who, acts::BACKUP, "person_needed", &path);
        // It writes wherever the broker may write, which is more than programs with a token are trusted with.
        let message = "copies are made by a person, or over the admin socket; not with a token";
        return Err(Problem::new(StatusCode::FORBIDDEN, "person_needed", message));
    }
    Ok(Json(shared.api.admin.backup(who, BackupRequest { path, overwrite }).await?))
}

/// Reads a request; one that cannot be read is written down as refused.
pub(super) fn asked<T: serde::de::DeserializeOwned>(
    shared: &Shared,
    (who, act): (&Who, &'static str),
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<T, Problem> {
    let read = body.map_err(Problem::from).and_then(|body| params::json(headers, &body));
    read.inspect_err(|problem| shared.api.admin.refused(who, act, problem.code, ""))
}

/// Who changes something; the gate admits nobody unknown, so the error is never seen.
pub(super) fn who(caller: Caller) -> Result<Who, Problem> {
    let missing = || {
        Problem::new(
            StatusCode::UNAUTHORIZED,
            "credentials_missing",
            "changes need a token or a person's key",
        )
    };
    let actor = caller.actor.ok_or_else(missing)?;
    // As the gate saw it: what a proxy on this machine forwards comes from elsewhere.
    let (via, source) = match caller.kind {
        ListenerKind::Unix => (Via::Socket, None),
        ListenerKind::Loopback => (Via::Loopback, Some(caller.source)),
        ListenerKind::Public | ListenerKind::Redirect => (Via::Public, Some(caller.source.to_canonical())),
    };
    Ok(Who { actor, via, source })
}

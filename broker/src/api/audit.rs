//! The audit log, page by page.

use super::Shared;
use super::error::Problem;
use super::params::Params;
use crate::store::{AuditFilter, AuditPage, AuditRow};
use axum::Json;
use axum::extract::State;
use data_encoding::HEXLOWER;
use http::{StatusCode, Uri};
use nearmost_wire::api::{AuditResponse, AuditView, ErrorBody};
use serde_json::value::RawValue;
use std::sync::Arc;

/// Entries on a page unless asked for otherwise …
const USUAL: usize = 500;
/// … and at most.
const MOST: usize = 5000;

/// Lists administrative acts, oldest first. Credentials are needed on this machine too, but for the admin
/// socket.
#[utoipa::path(
    get,
    path = "/v1/audit",
    tag = "administration",
    params(
        ("since_unix_ms" = Option<u64>, Query, description = "Not before"),
        ("until_unix_ms" = Option<u64>, Query, description = "Before"),
        ("actor" = Option<String>, Query, description = "Who did it, or whose signature it has: `np1…`, `token NAME`, `uid N`"),
        ("act" = Option<String>, Query, description = "Only this, or all that begin with it and a dot: `mirror`, `mirror.change`"),
        ("target" = Option<String>, Query, description = "About what: a kind, a domain with all in it, `domain/mirror`, a node's name"),
        ("after" = Option<u64>, Query, description = "Only after the entry of this number: the next page"),
        ("limit" = Option<usize>, Query, description = "At most this many, up to 5000; 500 unless given"),
    ),
    responses((status = 200, body = AuditResponse), (status = 401, description = "Credentials are needed", body = ErrorBody))
)]
pub(super) async fn audit(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
) -> Result<Json<AuditResponse>, Problem> {
    const KNOWN: [&str; 7] = ["since_unix_ms", "until_unix_ms", "actor", "act", "target", "after", "limit"];
    let query = Params::read(&uri, &KNOWN)?;
    let text = |name: &str| query.text(name).map(str::to_owned);
    let filter = AuditFilter {
        since_unix_ms: query.parsed("since_unix_ms", "a whole number")?,
        until_unix_ms: query.parsed("until_unix_ms", "a whole number")?,
        actor: text("actor"),
        act: text("act"),
        target: text("target"),
        after: query.parsed("after", "a whole number")?.unwrap_or(0),
        limit: query.parsed("limit", "a whole number")?.unwrap_or(USUAL).clamp(1, MOST),
    };
    // Few at a time: each keeps a core busy for a moment. It is never closed.
    let _turn = shared.histories.acquire().await;
    let page = shared.api.admin.audit(filter).await?;
    Ok(Json(view(page)?))
}

fn view(page: AuditPage) -> Result<AuditResponse, Problem> {
    let entry = |row: AuditRow| {
        let unreadable = |e: serde_json::Error| {
            let message = format!("entry {} of the audit log is not JSON: {e}", row.number);
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "storage", message)
        };
        Ok::<_, Problem>(AuditView {
            number: row.number,
            previous: HEXLOWER.encode(&row.previous),
            hash: HEXLOWER.encode(&row.hash),
            entry: RawValue::from_string(row.json).map_err(unreadable)?,
            pruned_from: row.pruned_from,
        })
    };
    Ok(AuditResponse {
        more: page.seen < page.head.0,
        next_after: page.seen,
        anchor: page.anchor.0,
        anchor_hash: HEXLOWER.encode(&page.anchor.1),
        head: page.head.0,
        head_hash: HEXLOWER.encode(&page.head.1),
        entries: page.rows.into_iter().map(entry).collect::<Result<_, _>>()?,
    })
}

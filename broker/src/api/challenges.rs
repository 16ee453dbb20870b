//! ACME challenges, for programs that fetch certificates.

use super::Shared;
use super::auth::Caller;
use super::changes::{asked, who};
use super::error::Problem;
use super::params::Params;
use crate::audit::acts;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Path, State};
use axum::{Extension, Json};
use http::{HeaderMap, Uri};
use nearmost_wire::api::{ChallengeRequest, ChallengeResponse, ChallengesRemoved, ErrorBody};
use serde::Deserialize;
use std::sync::Arc;

/// A [`ChallengeRequest`] as it is taken: a key that is not known is a slip.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    value: String,
    #[serde(default = "an_hour")]
    ttl_s: u64,
}

fn an_hour() -> u64 {
    3600
}

/// Has a TXT record answered at `_acme-challenge.<name>`, beside those that are there.
#[utoipa::path(
    put,
    path = "/v1/domains/{name}/acme-challenge",
    tag = "administration",
    params(("name" = String, Path, description = "What the certificate is for: a domain or a name below one; `*.` and `_acme-challenge.` before it make no difference")),
    request_body = ChallengeRequest,
    responses(
        (status = 200, body = ChallengeResponse),
        (status = 400, description = "No such domain, or nobody would see it there", body = ErrorBody),
        (status = 403, description = "The person, or this broker, has no right to it in the domain", body = ErrorBody),
    )
)]
pub(super) async fn set(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    name: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<ChallengeResponse>, Problem> {
    let (Path(name), who) = (name?, who(caller)?);
    let Set { value, ttl_s } = asked(&shared, (&who, acts::ACME_SET), &headers, body)?;
    let request = ChallengeRequest { value, ttl_s };
    Ok(Json(shared.api.admin.set_challenge(who, name, request).await?))
}

/// Removes one of these records, or all of a name.
#[utoipa::path(
    delete,
    path = "/v1/domains/{name}/acme-challenge",
    tag = "administration",
    params(
        ("name" = String, Path, description = "As it was set"),
        ("value" = Option<String>, Query, description = "Only this one"),
    ),
    responses(
        (status = 200, body = ChallengesRemoved),
        (status = 400, description = "Not a name", body = ErrorBody),
        (status = 403, description = "The person, or this broker, has no right to it in the domain", body = ErrorBody),
    )
)]
pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    name: Result<Path<String>, PathRejection>,
    uri: Uri,
) -> Result<Json<ChallengesRemoved>, Problem> {
    let (Path(name), who) = (name?, who(caller)?);
    let refused = |problem: &Problem| {
        shared.api.admin.refused(&who, acts::ACME_REMOVE, problem.code, &name);
    };
    let query = Params::read(&uri, &["value"]).inspect_err(refused)?;
    let value = query.text("value").map(Into::into);
    Ok(Json(shared.api.admin.remove_challenges(who, name, value).await?))
}

//! Other brokers: who they are and how it stands with them, inviting one, and joining one.

use super::Shared;
use super::auth::Caller;
use super::changes::{asked, who};
use super::error::Problem;
use super::params::Params;
use crate::audit::{Who, acts};
use crate::peers::PeersHandle;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode, Uri};
use nearmost_wire::api::{
    ErrorBody, PeerInviteRequest, PeerInviteResponse, PeerJoinRequest, PeerJoinResponse, PeersResponse,
};
use serde::Deserialize;
use std::sync::Arc;

/// Lists the members of the federation, what each was not told yet, and what should be looked at.
#[utoipa::path(
    get,
    path = "/v1/peers",
    tag = "federation",
    responses(
        (status = 200, body = PeersResponse),
        (status = 503, description = "This broker has no peers, as its configuration says", body = ErrorBody),
    )
)]
pub(super) async fn peers(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
) -> Result<Json<PeersResponse>, Problem> {
    Params::read(&uri, &[])?;
    Ok(Json(handle(&shared)?.peers().await?))
}

/// A [`PeerInviteRequest`] as it is taken: a key that is not known is a slip.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerInvite {
    name: String,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    domains: Vec<String>,
    ttl_s: u64,
}

/// A [`PeerJoinRequest`] as it is taken.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeerJoin {
    token: String,
}

/// Makes a one-time token that a broker joins with.
#[utoipa::path(
    post,
    path = "/v1/peers/invites",
    tag = "federation",
    request_body = PeerInviteRequest,
    responses(
        (status = 200, body = PeerInviteResponse),
        (status = 400, description = "Nonsense asked for", body = ErrorBody),
        (status = 503, description = "This broker has no peers, as its configuration says", body = ErrorBody),
    )
)]
pub(super) async fn invite(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<PeerInviteResponse>, Problem> {
    let who = who(caller)?;
    let PeerInvite { name, admin, domains, ttl_s } =
        asked(&shared, (&who, acts::PEER_INVITE), &headers, body)?;
    able(&shared, &who, acts::PEER_INVITE)?;
    let request = PeerInviteRequest { name, admin, domains, ttl_s };
    Ok(Json(shared.api.admin.invite_peer(who, request).await?))
}

/// Has this broker ask the one that made a token to let it in.
#[utoipa::path(
    post,
    path = "/v1/peers/join",
    tag = "federation",
    request_body = PeerJoinRequest,
    responses(
        (status = 200, description = "It is asked from now on", body = PeerJoinResponse),
        (status = 400, description = "Not a token of another broker", body = ErrorBody),
        (status = 503, description = "This broker has no peers, as its configuration says", body = ErrorBody),
    )
)]
pub(super) async fn join(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<PeerJoinResponse>, Problem> {
    let who = who(caller)?;
    let PeerJoin { token } = asked(&shared, (&who, acts::PEER_JOIN), &headers, body)?;
    able(&shared, &who, acts::PEER_JOIN)?;
    Ok(Json(shared.api.admin.join_peer(who, PeerJoinRequest { token }).await?))
}

/// That this broker has peers; where it has none, that somebody wanted some is written down.
fn able(shared: &Shared, who: &Who, act: &'static str) -> Result<(), Problem> {
    let refused = |problem: &Problem| shared.api.admin.refused(who, act, problem.code, "");
    handle(shared).inspect_err(refused).map(drop)
}

fn handle(shared: &Shared) -> Result<&PeersHandle, Problem> {
    shared.api.peers.as_ref().ok_or_else(|| {
        let message = "this broker has no peers: peers.enabled is false in its configuration";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "peers_disabled", message)
    })
}

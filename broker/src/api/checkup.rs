//! What the broker finds when it examines itself.

use super::Shared;
use super::error::Problem;
use super::params::Params;
use axum::Json;
use axum::extract::State;
use http::Uri;
use nearmost_wire::api::CheckupResponse;
use std::sync::Arc;

/// Examines the broker: limits, disk, clock, databases, certificates, peers, ports, and how to fix what is wrong.
#[utoipa::path(
    get,
    path = "/v1/checkup",
    tag = "operators",
    responses((status = 200, body = CheckupResponse))
)]
pub(super) async fn checkup(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
) -> Result<Json<CheckupResponse>, Problem> {
    Params::read(&uri, &[])?;
    // Never closed, so it is always got: whoever comes meanwhile waits, and is given the same.
    let _permit = shared.checkups.acquire().await;
    Ok(Json(shared.api.examiner.examine(&shared.api).await))
}

//! What the broker finds when it examines itself.

use super::Shared;
use super::error::Problem;
use super::params::Params;
use axum::Json;
use axum::extract::State;
use http::Uri;
use nearmost_wire::api::{CheckupResponse, ErrorBody};
use std::sync::Arc;

/// Examines the broker: limits, disk, clock, databases, certificates, peers, ports, and how to fix what is wrong.
#[utoipa::path(
    get,
    path = "/v1/checkup",
    tag = "operators",
    responses(
        (status = 200, body = CheckupResponse),
        (status = 503, description = "An examination is under way", body = ErrorBody),
    )
)]
pub(super) async fn checkup(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
) -> Result<Json<CheckupResponse>, Problem> {
    Params::read(&uri, &[])?;
    // It writes a file and asks several tasks: a few at once are plenty.
    let _permit = shared
        .checkups
        .try_acquire()
        .map_err(|_| Problem::unavailable("busy", "other examinations are under way", 1))?;
    Ok(Json(shared.api.examiner.examine(&shared.api).await))
}

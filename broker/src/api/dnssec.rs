//! What a domain is signed with.

use super::error::Problem;
use super::params::Params;
use super::{Shared, find_domain};
use crate::clock::unix_now;
use axum::Json;
use axum::extract::State;
use http::{StatusCode, Uri};
use nearmost_wire::api::{DnssecResponse, ErrorBody};
use std::sync::Arc;

/// Lists the keys of a domain, of all sites, and the next one of this broker's site.
#[utoipa::path(
    get,
    path = "/v1/dnssec",
    tag = "operators",
    params(
        ("domain" = String, Query, description = "The domain, which is a zone of its own"),
        ("generation" = Option<u32>, Query, description = "The number of the next key; one more than the last, unless given"),
    ),
    responses(
        (status = 200, body = DnssecResponse),
        (status = 404, description = "No such domain", body = ErrorBody),
        (status = 409, description = "The domain lies in another zone", body = ErrorBody),
    )
)]
pub(super) async fn dnssec(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
) -> Result<Json<DnssecResponse>, Problem> {
    let query = Params::read(&uri, &["domain", "generation"])?;
    let snapshot = shared.api.snapshot.load();
    let index = find_domain(&snapshot.registry, query.required("domain")?)?;
    let generation = query.parsed::<u32>("generation", "a number")?;
    let domain = &snapshot.registry.domain(index).name;
    let told = shared.api.signing.describe(&snapshot.registry, domain, generation, unix_now());
    told.map(Json).map_err(|e| Problem::new(StatusCode::CONFLICT, "not_a_zone", e.to_string()))
}

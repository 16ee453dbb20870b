//! For operators and their machines: the fleet, metrics, health, and the API's own description.

use super::error::Problem;
use super::{Shared, view};
use crate::clock::unix_now;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use nearmost_core::snapshot::Snapshot;
use nearmost_wire::api::{ErrorBody, FleetResponse, HealthResponse};
use prometheus::{TEXT_FORMAT, TextEncoder};
use std::sync::Arc;

/// Lists domains, nodes and mirrors with their verdicts and load. What is asked within a quarter of a second, and
/// nothing was concluded in between, is told the same.
#[utoipa::path(get, path = "/v1/fleet", tag = "operators", responses((status = 200, body = FleetResponse)))]
pub(super) async fn fleet(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let api = &shared.api;
    let make = async |snapshot: Arc<Snapshot>| {
        let evidence = api.fleet.evidence().await;
        let connected = |id: &_| api.fleet.sessions.is_connected(id);
        let told = view::fleet(&api.me.id, &snapshot, connected, &evidence, unix_now());
        serde_json::to_vec(&told).map(Bytes::from).map_err(|e| {
            let message = format!("the fleet cannot be told: {e}");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "json", message)
        })
    };
    let told = shared.fleet.or_made(|| api.snapshot.load_full(), make).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], told).into_response())
}

/// Metrics in the text format of Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operators",
    responses((status = 200, content_type = "text/plain", body = String))
)]
pub(super) async fn metrics(State(shared): State<Arc<Shared>>) -> Result<Response, Problem> {
    let text = TextEncoder::new().encode_to_string(&shared.api.registry.gather()).map_err(|e| {
        let message = format!("the metrics cannot be encoded: {e}");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "metrics", message)
    })?;
    Ok(([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response())
}

/// Says that the process is alive, and which broker it is: people sign requests for that id.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "health",
    responses((status = 200, body = HealthResponse))
)]
pub(super) async fn healthz(State(shared): State<Arc<Shared>>) -> Json<HealthResponse> {
    let clients = shared.api.me.clients.clone();
    let (broker, at_unix_ms) = (shared.api.me.id.to_string(), unix_now().0);
    Json(HealthResponse { status: "ok".into(), broker, clients, at_unix_ms })
}

/// Says whether the broker can answer: store open, registry loaded, sockets bound, not stopping.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "health",
    responses(
        (status = 200, content_type = "text/plain", body = String),
        (status = 503, description = "What is missing", body = ErrorBody),
    )
)]
pub(super) async fn readyz(State(shared): State<Arc<Shared>>) -> Result<&'static str, Problem> {
    let readiness = *shared.api.ready.borrow();
    match readiness.missing() {
        None => Ok("ready\n"),
        Some(missing) => Err(Problem::unavailable("not_ready", missing, 1)),
    }
}

/// This description.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "health",
    responses((status = 200, content_type = "application/json", body = String))
)]
pub(super) async fn openapi(State(shared): State<Arc<Shared>>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], shared.openapi.clone()).into_response()
}

//! What is near: resolve, explain, and where an address is.

use super::auth::Caller;
use super::error::Problem;
use super::explain::{self, Asked};
use super::params::Params;
use super::view::{self, Ranking};
use super::{Shared, client, find_domain};
use crate::clock::unix_now;
use crate::reports::measure::{measure_first, names};
use crate::steering::Demand;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderMap, Uri, header};
use nearmost_wire::api::{ErrorBody, ExplainResponse, GeoResponse, ResolveResponse};
use std::sync::Arc;

/// What `client=` must be.
const ADDRESS: &str = "an IP address";

/// Ranks the mirrors of a domain for the asking client: eligible ones first, nearest first. Says which
/// of them it should measure, and gives it the session to report with.
#[utoipa::path(
    get,
    path = "/v1/resolve/{domain}",
    tag = "users",
    params(
        ("domain" = String, Path, description = "A domain of this broker"),
        ("client" = Option<String>, Query, description = "Answer for this address; trusted sources only"),
    ),
    responses(
        (status = 200, body = ResolveResponse),
        (status = 403, description = "`client` from a source that is not trusted", body = ErrorBody),
        (status = 404, description = "Unknown domain", body = ErrorBody),
    )
)]
pub(super) async fn resolve(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Path(name) = path?;
    let asked = Params::read(&uri, &["client"])?.parsed("client", ADDRESS)?;
    let active = shared.settings.load();
    let client = client::on_behalf_of(asked, &caller, &headers, &active.settings.trusted_sources)?;
    let snapshot = shared.api.snapshot.load_full();
    let domain = find_domain(&snapshot.registry, &name)?;
    let now = unix_now();
    let ranking = Ranking::new(&snapshot, domain, client, now).ok_or_else(not_ranked)?;
    let mut answer = ranking.resolve();
    let first = answer.mirrors.first().filter(|m| m.eligible).map(|m| m.mirror.as_str().into());
    shared.api.fleet.demand.tell(Demand::asked((answer.domain.as_str().into(), first), client, 1));
    answer.session = shared.api.reports.session(&answer.domain, client, now);
    answer.measure = names(&snapshot, &measure_first(&snapshot, domain, client));
    let cache = format!("private, max-age={}", answer.ttl_s);
    Ok(([(header::CACHE_CONTROL, cache)], Json(answer)).into_response())
}

/// Tells why each mirror of a domain stands where it stands for a client.
#[utoipa::path(
    get,
    path = "/v1/explain",
    tag = "operators",
    params(
        ("domain" = String, Query, description = "A domain of this broker"),
        ("client" = Option<String>, Query, description = "Explain for this address; trusted sources only"),
        (
            "resolver" = Option<String>,
            Query,
            description = "Explain what this resolver is answered when it sends no client subnet; trusted sources only, \
    and not beside `client`",
        ),
    ),
    responses(
        (status = 200, body = ExplainResponse),
        (status = 403, description = "`client` from a source that is not trusted", body = ErrorBody),
        (status = 404, description = "Unknown domain", body = ErrorBody),
    )
)]
pub(super) async fn explain(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<ExplainResponse>, Problem> {
    let query = Params::read(&uri, &["domain", "client", "resolver"])?;
    let name = query.required("domain")?;
    let (of_client, of_resolver) = (query.parsed("client", ADDRESS)?, query.parsed("resolver", ADDRESS)?);
    if of_client.is_some() && of_resolver.is_some() {
        return Err(Problem::bad_request("client and resolver are both given; say one of them"));
    }
    let active = shared.settings.load();
    let trusted = &active.settings.trusted_sources;
    let whom = client::on_behalf_of(of_client.or(of_resolver), &caller, &headers, trusted)?;
    let asked = if of_resolver.is_some() { Asked::Resolver(whom) } else { Asked::Client(whom) };
    let snapshot = shared.api.snapshot.load_full();
    let domain = find_domain(&snapshot.registry, name)?;
    let ranking = Ranking::new(&snapshot, domain, asked.client(&snapshot), unix_now());
    Ok(Json(explain::explain(&ranking.ok_or_else(not_ranked)?, asked)))
}

/// The map follows the registry within one publication, so this is not seen in practice.
fn not_ranked() -> Problem {
    Problem::unavailable("not_ranked", "the domain's mirrors are not ranked yet", 1)
}

/// Tells what is known of an address, and from which source.
#[utoipa::path(
    get,
    path = "/v1/geo/{ip}",
    tag = "operators",
    params(("ip" = String, Path, description = "An IPv4 or IPv6 address")),
    responses((status = 200, body = GeoResponse), (status = 400, description = "Not an address", body = ErrorBody))
)]
pub(super) async fn geo(
    State(shared): State<Arc<Shared>>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<GeoResponse>, Problem> {
    let Path(text) = path?;
    let address = text.parse().map_err(|_| Problem::bad_request(format!("{text:?} is not an IP address")))?;
    Ok(Json(view::geo(&shared.api.snapshot.load(), address)))
}

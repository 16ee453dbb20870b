//! Round trips that clients measured.

use super::auth::Caller;
use super::error::Problem;
use super::params::{self, Params};
use super::settings::Active;
use super::{Shared, client};
use crate::clock::{mono_now, unix_now};
use crate::reports::error::retry_after_s;
use crate::reports::measure::{measure_after, names};
use crate::reports::token::TokenError;
use crate::reports::{Report, ReportError, Taken, Way};
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use nearmost_wire::api::{ErrorBody, RttRequest, RttResponse};
use std::net::IpAddr;
use std::sync::Arc;

/// Takes round trips that a client measured to the mirrors of a domain, all of them or none, and says
/// which ones it should measure next.
#[utoipa::path(
    post,
    path = "/v1/rtt",
    tag = "users",
    params(
        ("client" = Option<String>, Query, description = "Report for this address; trusted sources only"),
    ),
    request_body(
        content((RttRequest = "application/json"), (RttRequest = "text/plain")),
        description = "JSON; as text/plain too, so that scripts of other sites need no permission first",
    ),
    responses(
        (status = 200, body = RttResponse),
        (status = 400, description = "No JSON (`bad_json`), or not a session (`session_malformed`)", body = ErrorBody),
        (
            status = 403,
            description = "A session that was not given by this broker since its start (`session_forged`), not to this \
    network (`session_network`) or too long ago (`session_expired`); or `client` from a source that is not trusted \
    (`client_not_trusted`)",
            body = ErrorBody,
        ),
        (status = 404, description = "The session's domain is gone (`unknown_domain`)", body = ErrorBody),
        (status = 413, description = "More than 64 KiB (`body_too_large`)", body = ErrorBody),
        (status = 415, description = "A body of another type (`bad_json`)", body = ErrorBody),
        (
            status = 422,
            description = "JSON of another form (`bad_json`), more than 32 mirrors (`too_many_rtts`), neither \
    round trips nor mirrors not reached nor a nonce (`no_rtts`), a mirror that the domain does not have (`unknown_mirror`), a round trip that is \
    none (`rtt_range`), or a nonce that no one-time name has (`nonce_malformed`)",
            body = ErrorBody,
        ),
        (
            status = 429,
            description = "The source asks (`rate_limited`) or reports (`reports_too_often`) too often; \
    `Retry-After` says how long to wait",
            body = ErrorBody,
        ),
    )
)]
pub(super) async fn rtt(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let reports = &shared.api.reports;
    let unreadable = |problem: Problem| reports.unreadable(problem.code, problem);
    let active = shared.settings.load();
    let client = reporter(&uri, &caller, &headers, &active).map_err(unreadable)?;
    reports.admit(client)?;
    let body = body.map_err(Problem::from);
    let sent: RttRequest = body.and_then(|b| params::json_or_text(&headers, &b)).map_err(unreadable)?;
    let snapshot = shared.api.snapshot.load_full();
    let domain = reports.domain_of(&snapshot, client, &sent.session, unix_now())?;
    let rtts = sent.rtts.into_iter().map(|r| (r.mirror, r.rtt_ms)).collect();
    let report = Report { rtts, tried: sent.tried, failed: sent.failed, nonce: sent.nonce };
    let Taken { accepted, tied } = reports.take(Way::Http, &snapshot, domain, client, &report, mono_now())?;
    let accepted = u32::try_from(accepted).unwrap_or(u32::MAX);
    let measure = names(&snapshot, &measure_after(&snapshot, domain, client, &report));
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(RttResponse { accepted, tied, measure })).into_response())
}

/// The address that a report is of.
fn reporter(uri: &Uri, caller: &Caller, headers: &HeaderMap, active: &Active) -> Result<IpAddr, Problem> {
    let asked = Params::read(uri, &["client"])?.parsed("client", "an IP address")?;
    client::on_behalf_of(asked, caller, headers, &active.settings.trusted_sources)
}

impl From<ReportError> for Problem {
    fn from(error: ReportError) -> Problem {
        let status = match &error {
            ReportError::TooOften { .. } => StatusCode::TOO_MANY_REQUESTS,
            ReportError::Session(TokenError::Malformed) => StatusCode::BAD_REQUEST,
            ReportError::Session(_) => StatusCode::FORBIDDEN,
            ReportError::UnknownDomain(_) => StatusCode::NOT_FOUND,
            ReportError::TooMany(_)
            | ReportError::Empty
            | ReportError::UnknownMirror { .. }
            | ReportError::Range { .. }
            | ReportError::Nonce => StatusCode::UNPROCESSABLE_ENTITY,
        };
        let problem = Problem::new(status, error.code(), error.to_string());
        match error {
            ReportError::TooOften { wait, .. } => {
                let seconds = HeaderValue::from(retry_after_s(wait));
                Problem { header: Some((header::RETRY_AFTER, seconds)), ..problem }
            }
            _ => problem,
        }
    }
}

//! What every request passes, in this order: redirects by host name, the limit of its source, its
//! credentials, its body. Everything is counted by route template.

use super::Shared;
use super::auth::{Access, Caller, Claim, ListenerKind, Peer, access, claim};
use super::error::Problem;
use super::{client, redirect};
use crate::admin::Actor;
use crate::clock::{mono_now, unix_now};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// Largest body of a change of the registry, in bytes.
pub(super) const MAX_CHANGE: usize = 4 << 20;
/// Largest body of anything else.
const MAX_BODY: usize = 64 << 10;
/// A body not received after this long is not waited for.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Admits a request or refuses it, and counts it.
pub(super) async fn gate(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let started = mono_now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let label = route.clone();
    let response = match admit(&shared, request, route.as_ref().map(MatchedPath::as_str)).await {
        Ok(Admitted::Request(request)) => next.run(request).await,
        Ok(Admitted::Redirected(response)) => {
            shared.api.metrics.answered("host", response.status().as_u16(), started.elapsed());
            return response;
        }
        Err(problem) => problem.into_response(),
    };
    let label = label.as_ref().map_or("none", MatchedPath::as_str);
    shared.api.metrics.answered(label, response.status().as_u16(), started.elapsed());
    response
}

enum Admitted {
    Request(Request),
    Redirected(Response),
}

async fn admit(shared: &Shared, request: Request, route: Option<&str>) -> Result<Admitted, Problem> {
    let (mut parts, body) = request.into_parts();
    let peer = parts.extensions.get::<Peer>().cloned().unwrap_or(STRANGER);
    let source = client::source(&peer, &parts.headers, &shared.api.settings.trusted_sources);
    let kind = kind_of(&peer, &parts.headers);
    if matches!(kind, ListenerKind::Public | ListenerKind::Redirect) {
        limit(shared, source)?;
    }
    if kind != ListenerKind::Unix
        && let Some(response) = redirect::by_host(shared, &parts, source)
    {
        return Ok(Admitted::Redirected(response));
    }
    let actor = match (access(kind, &parts.method, route), &peer) {
        (Access::Hidden, _) => return Err(super::no_such_route(&parts.uri)),
        (Access::Open, Peer::Unix { uid }) => Some(Actor::Socket { uid: *uid }),
        (Access::Open, Peer::Tcp { .. }) => None,
        (Access::Credentials, _) => {
            let (actor, body) = prove(shared, &parts, body).await.inspect_err(|problem| {
                if matches!(problem.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                    shared.api.metrics.auth_failures.with_label_values(&[problem.code]).inc();
                }
            })?;
            parts.extensions.insert(Caller { peer, actor: Some(actor) });
            return Ok(Admitted::Request(Request::from_parts(parts, body)));
        }
    };
    parts.extensions.insert(Caller { peer, actor });
    let body = match parts.method {
        Method::POST if route.is_some_and(|r| r.starts_with("/v1/")) => collect(&parts, body).await?.into(),
        _ => body,
    };
    Ok(Admitted::Request(Request::from_parts(parts, body)))
}

/// What a connection without a peer would be: there is none, and it would have no rights.
const STRANGER: Peer = Peer::Tcp {
    kind: ListenerKind::Public,
    addr: std::net::SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
};

/// A request that a proxy on this machine forwards for someone elsewhere is a public one, whether
/// or not the proxy is trusted to say for whom.
fn kind_of(peer: &Peer, headers: &HeaderMap) -> ListenerKind {
    let local = |hop: Option<IpAddr>| hop.is_some_and(|addr| addr.is_loopback());
    match peer.kind() {
        ListenerKind::Loopback if !client::hops(headers).all(local) => ListenerKind::Public,
        kind => kind,
    }
}

fn limit(shared: &Shared, source: IpAddr) -> Result<(), Problem> {
    shared.limiter.check(source).map_err(|wait| {
        shared.api.metrics.rate_limited.inc();
        let seconds = wait.as_secs() + 1;
        let message = format!("{source} asks too often; wait {seconds} s");
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message);
        Problem { header: Some((header::RETRY_AFTER, HeaderValue::from(seconds))), ..problem }
    })
}

/// Checks the credentials; a signature covers the body, so that is read here.
async fn prove(shared: &Shared, parts: &http::request::Parts, body: Body) -> Result<(Actor, Body), Problem> {
    match claim(&parts.headers, &shared.api.settings)? {
        Claim::Token(actor) => Ok((actor, collect(parts, body).await?.into())),
        Claim::Signed(signed) => {
            let body = collect(parts, body).await?;
            shared.nonces.check(&signed, parts, &body, unix_now().0)?;
            Ok((Actor::Person(signed.person), body.into()))
        }
    }
}

async fn collect(parts: &http::request::Parts, body: Body) -> Result<Bytes, Problem> {
    let limit = match parts.uri.path() {
        "/v1/registry" => MAX_CHANGE,
        _ => MAX_BODY,
    };
    match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(e)) if is_limit(&e) => Err(Problem::too_large(limit)),
        Ok(Err(e)) => Err(Problem::bad_request(format!("the request's body broke off: {e}"))),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            format!("the request's body took longer than {} s", BODY_TIMEOUT.as_secs()),
        )),
    }
}

fn is_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|e| e.is::<http_body_util::LengthLimitError>())
}

//! What every request passes, in this order: redirects by host name, the limit of its source, its
//! credentials, its body. Everything is counted by route template.

use super::Shared;
use super::auth::{Access, AuthProblem, Caller, Claim, ListenerKind, Peer, access, claim, within};
use super::changes::who;
use super::error::Problem;
use super::{client, cors, redirect};
use crate::admin::Actor;
use crate::audit::acts;
use crate::clock::{mono_now, unix_now};
use crate::limit::SourceLimiter;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, StatusCode, header, request};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// Largest body of a change of the registry, in bytes: some 50 000 entries.
pub(super) const MAX_CHANGE: usize = 64 << 20;
/// Largest body of a change by someone who has claimed to be a person and not proven it: the signature
/// covers the body. Larger ones are taken from few at once.
const MAX_UNPROVEN: usize = 4 << 20;
/// How many larger ones at once.
pub(super) const LARGE_UNPROVEN: usize = 2;
/// Longest request target, in bytes; what is longer than 64 KiB is refused before it gets here.
const MAX_URI: usize = 32 << 10;
/// Largest body of anything else.
const MAX_BODY: usize = 64 << 10;
/// A body not received after this long is not waited for.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// The same for a change of the registry.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(300);
/// The same for a large one by someone unproven, who holds one of few places meanwhile.
const LARGE_UNPROVEN_TIMEOUT: Duration = Duration::from_secs(60);
/// How a change that is too large, or too slow, can be made all the same.
const SPLIT: &str = "; split the change: a registry file can be applied in several parts";

/// Admits a request or refuses it, and counts it.
pub(super) async fn gate(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let started = mono_now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let label = route.clone();
    let open_to_sites = route.as_ref().is_some_and(|r| cors::covers(r.as_str()));
    let mut response = match admit(&shared, request, route.as_ref().map(MatchedPath::as_str)).await {
        Ok(Admitted::Request(request)) => next.run(request).await,
        Ok(Admitted::Redirected(response)) => {
            shared.api.metrics.answered("host", response.status().as_u16(), started.elapsed());
            return response;
        }
        Err(problem) => problem.into_response(),
    };
    if open_to_sites {
        cors::allow(&mut response);
    }
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
    let active = shared.settings.load();
    let source = client::source(&peer, &parts.headers, &active.settings.trusted_sources).addr;
    let pointed = match peer.kind() {
        ListenerKind::Unix => None,
        _ => redirect::by_host(shared, &parts, source),
    };
    let kind = kind_of(&peer, &parts, pointed.is_some());
    if matches!(kind, ListenerKind::Public | ListenerKind::Redirect) {
        limit(shared, &active.limiter, source)?;
    }
    if parts.uri.path_and_query().is_some_and(|p| p.as_str().len() > MAX_URI) {
        let message = format!("the request's path and query are longer than {MAX_URI} bytes");
        return Err(Problem::new(StatusCode::URI_TOO_LONG, "uri_too_long", message));
    }
    if let Some(pointed) = pointed {
        return Ok(Admitted::Redirected(pointed.send(shared)));
    }
    let actor = match (access(kind, &parts.method, route), &peer) {
        (Access::Hidden, _) => return Err(super::no_such_route(&parts.uri)),
        (Access::Open, Peer::Unix { uid }) => Some(Actor::Socket { uid: *uid }),
        (Access::Open, Peer::Tcp { .. }) => None,
        (Access::Credentials, _) => {
            let as_caller = |actor| Caller { peer: peer.clone(), kind, source, actor: Some(actor) };
            let (actor, body) =
                prove(shared, &parts, route, as_caller, body).await.inspect_err(|problem| {
                    if matches!(problem.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                        shared.api.metrics.auth_failures.with_label_values(&[problem.code]).inc();
                    }
                })?;
            let caller = as_caller(actor);
            parts.extensions.insert(caller);
            return Ok(Admitted::Request(Request::from_parts(parts, body)));
        }
    };
    parts.extensions.insert(Caller { peer, kind, source, actor });
    let body = match parts.method {
        Method::POST | Method::PUT | Method::DELETE if route.is_some_and(|r| r.starts_with("/v1/")) => {
            collect(&parts, body, MAX_CHANGE, CHANGE_TIMEOUT).await?.into()
        }
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
/// or not the proxy is trusted to say for whom. So is one for a host that is not this machine: a web
/// page elsewhere can have its own name resolve to 127.0.0.1, and its scripts read what is answered.
fn kind_of(peer: &Peer, parts: &request::Parts, pointed: bool) -> ListenerKind {
    let stays_here = || client::stays_here(&parts.headers) && (pointed || redirect::host_is_here(parts));
    match peer.kind() {
        ListenerKind::Loopback if !stays_here() => ListenerKind::Public,
        kind => kind,
    }
}

fn limit(shared: &Shared, limiter: &SourceLimiter, source: IpAddr) -> Result<(), Problem> {
    limiter.check(source).map_err(|wait| {
        shared.api.metrics.rate_limited.inc();
        let seconds = wait.as_secs() + 1;
        let message = format!("{source} asks too often; wait {seconds} s");
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message);
        Problem { header: Some((header::RETRY_AFTER, HeaderValue::from(seconds))), ..problem }
    })
}

/// What a change by someone unproven may take.
#[derive(Debug, PartialEq, Eq)]
struct Allowance {
    /// It takes one of the few places of large ones.
    large: bool,
    /// Bytes.
    most: usize,
    /// Time until the body is there.
    patience: Duration,
}

impl Allowance {
    /// From the length announced; a body that announces none is a small one.
    fn of_unproven(announced: Option<usize>) -> Allowance {
        match announced.is_some_and(|length| length > MAX_UNPROVEN) {
            true => Allowance { large: true, most: MAX_CHANGE, patience: LARGE_UNPROVEN_TIMEOUT },
            false => Allowance { large: false, most: MAX_UNPROVEN, patience: CHANGE_TIMEOUT },
        }
    }
}

/// Checks the credentials; a signature covers the body, so that is read here.
async fn prove(
    shared: &Shared,
    parts: &request::Parts,
    route: Option<&str>,
    as_caller: impl Fn(Actor) -> Caller,
    body: Body,
) -> Result<(Actor, Body), Problem> {
    let made = shared.api.admin.tokens().all();
    match claim(&parts.headers, &shared.settings.load().settings, &made, unix_now().0)? {
        Claim::Token(actor, scope) if !within(scope, &parts.method, route) => {
            let problem = AuthProblem::beyond(&actor, scope);
            // It is known whose it is, and that it was used for what it is not for.
            if let Ok(who) = who(as_caller(actor)) {
                let asked = format!("{} {}", parts.method, route.unwrap_or("nowhere"));
                shared.api.admin.refused(&who, acts::TOKEN_BEYOND, problem.kind, &asked);
            }
            Err(problem.into())
        }
        Claim::Token(actor, _) => Ok((actor, collect(parts, body, MAX_CHANGE, CHANGE_TIMEOUT).await?.into())),
        Claim::Signed(signed) => {
            let announced =
                parts.headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
            let Allowance { large, most, patience } = Allowance::of_unproven(announced);
            let _turn = match large {
                true => Some(shared.large.try_acquire().map_err(|_| {
                    let message = "other large changes are under way; try again in a moment";
                    Problem::unavailable("busy", message, 5)
                })?),
                false => None,
            };
            let body = collect(parts, body, most, patience).await?;
            shared.nonces.check(&signed, parts, &body, unix_now().0)?;
            Ok((Actor::Person(signed.person), body.into()))
        }
    }
}

/// Reads a body; that of a change of the registry may have `most` bytes and take as long as `patience`.
async fn collect(
    parts: &request::Parts,
    body: Body,
    most: usize,
    patience: Duration,
) -> Result<Bytes, Problem> {
    let (limit, timeout, remedy) = match parts.uri.path() {
        "/v1/registry" => (most, patience, SPLIT),
        _ => (MAX_BODY, BODY_TIMEOUT, ""),
    };
    match tokio::time::timeout(timeout, to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(e)) if is_limit(&e) => Err(Problem::too_large(limit, remedy)),
        Ok(Err(_)) => Err(Problem::bad_request("the request's body broke off")),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_timeout",
            format!("the request's body took longer than {} s{remedy}", timeout.as_secs()),
        )),
    }
}

fn is_limit(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|e| e.is::<http_body_util::LengthLimitError>())
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_large_unproven_change_holds_its_place_for_a_minute_at_most() {
        for announced in [None, Some(0), Some(MAX_UNPROVEN)] {
            let small = Allowance { large: false, most: MAX_UNPROVEN, patience: CHANGE_TIMEOUT };
            assert_eq!(Allowance::of_unproven(announced), small, "{announced:?}");
        }
        let large = Allowance::of_unproven(Some(MAX_UNPROVEN + 1));
        assert!(large.large && large.most == MAX_CHANGE, "{large:?}");
        assert!(large.patience <= Duration::from_secs(60), "{large:?}");
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_given_up_when_patience_ends() {
        let (parts, ()) = http::Request::post("/v1/registry").body(()).unwrap().into_parts();
        let never = || Body::from_stream(tokio_stream::pending::<Result<Bytes, std::io::Error>>());
        let problem = collect(&parts, never(), MAX_CHANGE, Duration::from_millis(1)).await.unwrap_err();
        assert_eq!((problem.status, problem.code), (StatusCode::REQUEST_TIMEOUT, "body_timeout"));
        assert!(problem.message.ends_with(SPLIT), "{}", problem.message);
    }
}

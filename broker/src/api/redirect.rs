//! Redirects for plain HTTP users: `/go/{domain}/{path}`, and any request whose host is a domain
//! or one of its redirect hosts.
//!
//! The answer is 307, so method and body are kept, with the mirrors in ranking order as
//! `Link: <…>; rel=duplicate` (RFC 6249). The user's path is only ever appended to a registered
//! base URL, after its authority, so no request can lead anywhere else.

use super::Shared;
use super::auth::Caller;
use super::error::Problem;
use super::target::{Target, escape, targets};
use super::{client, find_domain};
use crate::steering::Demand;
use arc_swap::ArcSwap;
use axum::Extension;
use axum::extract::{OriginalUri, Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header, request};
use nearmost_core::registry::{DomainIndex, Registry};
use nearmost_core::snapshot::Snapshot;
use nearmost_wire::api::ErrorBody;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Redirects to the nearest eligible mirror, keeping path and query.
#[utoipa::path(
    method(get, head),
    path = "/go/{domain}/{path}",
    tag = "users",
    params(
        ("domain" = String, Path, description = "A domain of this broker"),
        ("path" = String, Path, description = "Path on the mirror; may hold slashes, may be left out"),
    ),
    responses(
        (status = 307, description = "To the nearest mirror; `Link: rel=duplicate` (RFC 6249) names the others"),
        (status = 404, description = "Unknown domain", body = ErrorBody),
        (status = 503, description = "No mirror to send anyone to", body = ErrorBody),
    )
)]
pub(super) async fn go(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Caller>,
    Path(params): Path<HashMap<String, String>>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let name = params.get("domain").map_or("", String::as_str);
    let snapshot = shared.api.snapshot.load_full();
    let domain = find_domain(&snapshot.registry, name)?;
    let active = shared.settings.load();
    let source = client::source(&caller.peer, &headers, &active.settings.trusted_sources).addr;
    Ok(send(&shared, &snapshot, domain, source, &below_domain(&uri)))
}

/// Path and query after `/go/{domain}`, exactly as they came.
fn below_domain(uri: &Uri) -> String {
    let path = uri.path().strip_prefix("/go/").and_then(|rest| rest.find('/').map(|at| &rest[at..]));
    with_query(path.unwrap_or("/"), uri)
}

fn with_query(path: &str, uri: &Uri) -> String {
    // `*` of an OPTIONS request is no path.
    let path = if path.starts_with('/') { path } else { "/" };
    let query = uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    escape(&format!("{path}{query}"))
}

/// A request whose host is a domain's.
pub(super) struct Pointed {
    snapshot: Arc<Snapshot>,
    domain: DomainIndex,
    source: IpAddr,
    path: String,
}

impl Pointed {
    /// Its redirect.
    pub(super) fn send(&self, shared: &Shared) -> Response {
        send(shared, &self.snapshot, self.domain, self.source, &self.path)
    }
}

/// The domain that a request's host leads to; `None` for every other host.
pub(super) fn by_host(shared: &Shared, parts: &request::Parts, source: IpAddr) -> Option<Pointed> {
    let header = || parts.headers.get(header::HOST).and_then(|h| h.to_str().ok());
    let host = parts.uri.host().or_else(header)?;
    let snapshot = shared.api.snapshot.load_full();
    let domain = shared.hosts.find(&snapshot.registry, host)?;
    Some(Pointed { snapshot, domain, source, path: with_query(parts.uri.path(), &parts.uri) })
}

/// Whether every host that a request names is this machine to itself: a loopback address or `localhost`; or
/// it names none. Any other address is one that a proxy on this machine is reached by from elsewhere.
pub(super) fn host_is_here(parts: &request::Parts) -> bool {
    let headers = parts.headers.get_all(header::HOST).iter().map(|h| h.to_str().ok());
    headers.chain(parts.uri.authority().map(|a| Some(a.as_str()))).all(|h| h.is_some_and(is_here))
}

fn is_here(host: &str) -> bool {
    let bare = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    let inner = bare.strip_prefix('[').and_then(|b| b.strip_suffix(']'));
    let addr = inner.unwrap_or(bare).parse::<IpAddr>();
    bare.eq_ignore_ascii_case("localhost") || addr.is_ok_and(|addr| addr.to_canonical().is_loopback())
}

fn send(shared: &Shared, snapshot: &Snapshot, domain: DomainIndex, source: IpAddr, path: &str) -> Response {
    let targets = targets(snapshot, domain, source);
    let result = match targets.first() {
        Some(first) if first.mirror.is_some() => "mirror",
        Some(_) => "fallback",
        None => "none",
    };
    shared.api.metrics.redirects.with_label_values(&[result]).inc();
    if let Some(mirror) = targets.first().and_then(|first| first.mirror) {
        let registry = &snapshot.registry;
        let names = (registry.domain(domain).name.clone(), Some(registry.mirror(mirror).name.clone()));
        shared.api.fleet.demand.tell(Demand::asked(names, source, 1));
    }
    respond(&targets, path).unwrap_or_else(|| {
        let name = &snapshot.registry.domain(domain).name;
        let message = format!("no mirror of {name} can be used now");
        Problem::unavailable("no_mirror", message, 5).into_response()
    })
}

/// `None` when there is nowhere to go.
fn respond(targets: &[Target], path: &str) -> Option<Response> {
    let url = |t: &Target| format!("{}{path}", t.base);
    let location = HeaderValue::try_from(url(targets.first()?)).ok()?;
    let mut headers = HeaderMap::new();
    headers.insert(header::LOCATION, location);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    for (at, target) in targets.iter().enumerate() {
        let geo =
            target.country.map(|c| format!("; geo={}", c.as_str().to_ascii_lowercase())).unwrap_or_default();
        let link = format!("<{}>; rel=duplicate; pri={}{geo}", url(target), at + 1);
        if let Ok(link) = HeaderValue::try_from(link) {
            headers.append(header::LINK, link);
        }
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    let body = format!("{}\n", url(targets.first()?));
    Some((StatusCode::TEMPORARY_REDIRECT, headers, body).into_response())
}

/// Host names that lead to a domain, of one version of the registry.
#[derive(Default)]
pub(super) struct Hosts(ArcSwap<HostMap>);

#[derive(Default)]
struct HostMap {
    version: u64,
    redirect: HashMap<Arc<str>, DomainIndex>,
}

impl Hosts {
    /// The domain that a `Host` (any case, with or without port) leads to.
    fn find(&self, registry: &Registry, host: &str) -> Option<DomainIndex> {
        let host = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        if let Some(own) = registry.domain_by_name.get(host.as_str()) {
            return Some(*own);
        }
        let mut map = self.0.load();
        if map.version != registry.version {
            self.0.store(Arc::new(HostMap::of(registry)));
            map = self.0.load();
        }
        // Another request may have stored the map of another version; an index of it is checked.
        map.redirect.get(host.as_str()).copied().filter(|d| {
            let domain = registry.domains.get(d.0 as usize);
            domain.is_some_and(|d| d.redirect_hosts.iter().any(|h| **h == *host))
        })
    }
}

impl HostMap {
    fn of(registry: &Registry) -> HostMap {
        let mut redirect = HashMap::new();
        for (domain, i) in registry.domains.iter().zip(0..) {
            for host in &domain.redirect_hosts {
                redirect.entry(host.clone()).or_insert(DomainIndex(i));
            }
        }
        HostMap { version: registry.version, redirect }
    }
}

#[cfg(test)]
mod unit {
    use super::is_here;

    #[test]
    fn only_loopback_and_localhost_are_here() {
        for host in [
            "localhost",
            "LOCALHOST:80",
            "localhost.",
            "127.0.0.1",
            "127.0.10.1:8053",
            "[::1]",
            "[::1]:8053",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(is_here(host), "{host}");
        }
        for host in [
            "",
            "192.0.2.1",
            "192.0.2.1:8053",
            "0.0.0.0",
            "[2001:db8::1]:8053",
            "evil.test",
            "evil.test:8053",
            "localhost.evil.test",
            "127.0.0.1.evil.test",
            "user@127.0.0.1",
        ] {
            assert!(!is_here(host), "{host}");
        }
    }
}

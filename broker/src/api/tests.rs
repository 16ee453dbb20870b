//! The router in process, and its listeners over real sockets.

mod access;
mod answers;
mod audit;
mod challenges;
mod federation;
mod listeners;
mod reading;
mod redirects;
mod reports;
mod streaming;
mod tokens;

use super::testing::{Fixture, TestApi};
use super::*;
use axum::body::{Body, to_bytes};
use http::request::Builder;
use http::{HeaderMap, Method, Request, StatusCode};
use nearmost_config::Scope;
use nearmost_wire::api::ErrorBody;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
use tower::ServiceExt;

/// An API in process.
struct Api {
    router: Router,
    api: TestApi,
    fixture: Fixture,
    closing: CancellationToken,
}

/// An answer, read to its end.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// Status and code of a refusal; every refusal must be an [`ErrorBody`].
    fn refusal(&self) -> (u16, String) {
        let body: ErrorBody = self.json();
        assert!(!body.message.is_empty());
        assert_eq!(self.header("content-type"), "application/json");
        (self.status.as_u16(), body.code)
    }
}

/// A peer of a kind of listener, at an address.
fn peer(kind: ListenerKind, addr: &str) -> Peer {
    match kind {
        ListenerKind::Unix => Peer::Unix { uid: 1000 },
        kind => Peer::Tcp { kind, addr: SocketAddr::new(addr.parse().unwrap(), 40_000) },
    }
}

fn public() -> Peer {
    peer(ListenerKind::Public, "203.0.113.9")
}

fn local() -> Peer {
    peer(ListenerKind::Loopback, "127.0.0.1")
}

fn admin() -> Peer {
    peer(ListenerKind::Unix, "")
}

fn settings() -> ApiSettings {
    ApiSettings {
        trusted_sources: vec!["127.0.0.0/8".parse().unwrap(), "10.0.0.0/8".parse().unwrap()],
        max_event_streams: 2,
        ..ApiSettings::default()
    }
}

impl Api {
    async fn new() -> Api {
        Api::with(settings(), |_| ()).await
    }

    async fn with(settings: ApiSettings, change: impl FnOnce(&mut Fixture)) -> Api {
        let mut fixture = Fixture::five_mirrors();
        change(&mut fixture);
        let api = fixture.api(settings).await;
        let closing = CancellationToken::new();
        let router = router(api.state.clone(), closing.clone());
        Api { router, api, fixture, closing }
    }

    async fn send(&self, peer: Peer, request: Builder, body: impl Into<Body>) -> Answer {
        let mut request: Request<Body> = request.body(body.into()).unwrap();
        request.extensions_mut().insert(peer);
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, peer: Peer, uri: &str) -> Answer {
        self.send(peer, Request::get(uri).header("host", "127.0.0.1:8053"), Body::empty()).await
    }

    fn count(&self, name: &str) -> u64 {
        let text =
            prometheus::TextEncoder::new().encode_to_string(&self.api.state.registry.gather()).unwrap();
        let line =
            text.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name} is not in {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

#[tokio::test]
async fn every_documented_operation_is_served_and_every_schema_is_there() {
    let api = Api::new().await;
    let description: serde_json::Value = api.get(local(), "/openapi.json").await.json();
    let paths = description["paths"].as_object().unwrap();
    assert!(paths.len() >= 14, "{paths:?}");
    for (path, operations) in paths {
        let path =
            path.replace("{domain}", testing::DOMAIN).replace("{ip}", "198.51.100.1").replace("{path}", "x");
        for method in operations.as_object().unwrap().keys().filter(|m| ["get", "post"].contains(&&***m)) {
            if path == "/v1/events" {
                // It never ends; its tests are elsewhere.
                continue;
            }
            let method: Method = method.to_uppercase().parse().unwrap();
            let request = Request::builder().method(method.clone()).uri(&path);
            let answer = api.send(admin(), request, Body::empty()).await;
            let unknown =
                answer.status == StatusCode::NOT_FOUND || answer.status == StatusCode::METHOD_NOT_ALLOWED;
            assert!(!unknown, "{method} {path}: {answer:?}");
        }
    }
    let fleet = &description["paths"]["/v1/fleet"]["get"];
    assert_eq!(fleet["security"], serde_json::json!([{ "token": [] }, { "person": [] }]));
    assert!(["401", "403", "429"].iter().all(|status| fleet["responses"].get(status).is_some()), "{fleet}");
    let resolve = &description["paths"]["/v1/resolve/{domain}"]["get"];
    assert!(resolve.get("security").is_none() && resolve["responses"].get("429").is_some(), "{resolve}");
    let rtt = &description["paths"]["/v1/rtt"]["post"];
    assert!(rtt.get("security").is_none() && rtt["parameters"][0]["name"] == "client", "{rtt}");
    assert!(
        ["200", "400", "403", "404", "413", "415", "422", "429"]
            .iter()
            .all(|s| rtt["responses"].get(s).is_some())
    );
    let kinds = rtt["requestBody"]["content"].as_object().unwrap();
    assert_eq!(kinds.keys().collect::<Vec<_>>(), ["application/json", "text/plain"]);
    let go = &description["paths"]["/go/{domain}/{path}"];
    assert!(go.get("get").is_some() && go.get("head").is_some(), "{go}");
    assert_eq!(description["components"]["securitySchemes"]["person"]["type"], "apiKey");
    let schemas = description["components"]["schemas"].as_object().unwrap();
    for name in [
        "ResolveResponse",
        "ExplainResponse",
        "FleetResponse",
        "DrainPreview",
        "ErrorBody",
        "VerdictView",
        "RttRequest",
        "RttEntry",
        "RttResponse",
    ] {
        assert!(schemas.contains_key(name), "{name}");
    }
}

#[tokio::test]
async fn refusals_are_always_json() {
    let api = Api::new().await;
    assert_eq!(api.get(local(), "/nothing").await.refusal(), (404, "no_such_path".into()));
    let wrong = api.send(local(), Request::delete("/v1/fleet"), Body::empty()).await;
    assert_eq!(wrong.refusal(), (405, "method_not_allowed".into()), "before anyone is asked who it is");
    let wrong = api.send(admin(), Request::delete("/v1/fleet"), Body::empty()).await;
    assert_eq!(wrong.refusal(), (405, "method_not_allowed".into()));
    assert_eq!(wrong.header("allow"), "GET,HEAD");
    let answer = api.get(local(), "/v1/explain").await;
    assert_eq!(answer.refusal(), (400, "bad_request".into()));
    assert!(answer.text().contains("domain"), "{}", answer.text());
    assert_eq!(api.get(local(), "/v1/explain?domain=x&client=nonsense").await.refusal().0, 400);
    assert_eq!(api.get(local(), "/v1/resolve/x?who=1").await.refusal(), (400, "bad_request".into()));
    assert_eq!(api.get(local(), "/v1/resolve/%ff").await.refusal().0, 400);
    assert_eq!(api.get(local(), "/v1/geo/300.1.1.1").await.refusal(), (400, "bad_request".into()));
    let bad = |body: &'static str| {
        let request = Request::post("/v1/registry").header("content-type", "application/json");
        api.send(admin(), request, body)
    };
    assert_eq!(bad("{").await.refusal(), (400, "bad_json".into()));
    assert_eq!(bad("{\"records\":3}").await.refusal(), (422, "bad_json".into()));
    let untyped = api.send(admin(), Request::post("/v1/registry"), "{}").await;
    assert_eq!(untyped.refusal(), (415, "bad_json".into()));
    let unknown = bad("{\"records\":[],\"note\":\"\",\"notes\":1}").await;
    assert_eq!(unknown.refusal(), (422, "bad_json".into()));
    assert!(unknown.text().contains("unknown key \\\"notes\\\""), "{}", unknown.text());
    let large = api.send(admin(), Request::post("/v1/registry"), vec![b' '; gate::MAX_CHANGE + 1]).await;
    assert_eq!(large.refusal(), (413, "body_too_large".into()));
    assert!(large.text().contains("split the change"), "{}", large.text());
    let long = api.get(local(), &format!("/v1/resolve/{}", "x".repeat(40_000))).await;
    assert_eq!(long.refusal(), (414, "uri_too_long".into()));
    let large = api.send(admin(), Request::post("/v1/invites"), vec![b' '; 100_000]).await;
    assert_eq!(large.refusal(), (413, "body_too_large".into()));
}

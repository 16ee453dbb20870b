//! Who may do what.

use super::*;
use nearmost_wire::api::{CommitRequest, HistoryView, InviteRequest, InviteResponse, RegistryResponse};
use nearmost_wire::auth::Signable;
use nearmost_wire::identity::{KeyPair, Role};
use sha2::{Digest, Sha256};

const TOKEN: &str = "a long secret of an operator";

fn person() -> KeyPair {
    KeyPair::from_seed(Role::Person, &[7; 32])
}

async fn guarded() -> Api {
    let token = ApiToken { name: "ops".into(), sha256: Sha256::digest(TOKEN).into(), scope: Scope::Admin };
    Api::with(ApiSettings { tokens: vec![token], persons: vec![person().id()], ..settings() }, |_| ()).await
}

/// Signed for the fixture's broker.
fn sign(key: &KeyPair, method: &str, path: &str, time_ms: u64, nonce: &str, body: &[u8]) -> String {
    let broker = KeyPair::from_seed(Role::Broker, &[1; 32]).id();
    let asked = Signable { broker: &broker, method, path_and_query: path, body };
    nearmost_wire::auth::sign(key, &asked, time_ms, nonce)
}

fn signed(key: &KeyPair, method: &str, path: &str, nonce: &str, body: &[u8]) -> Builder {
    let value = sign(key, method, path, crate::clock::unix_now().0, nonce, body);
    Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", value)
        .header("content-type", "application/json")
}

fn with(path: &str, authorization: &str) -> Builder {
    Request::get(path).header("authorization", authorization)
}

#[tokio::test]
async fn beyond_this_machine_operators_need_credentials_and_users_none() {
    let api = guarded().await;
    for path in [
        "/v1/fleet",
        "/metrics",
        "/v1/events",
        "/v1/registry",
        "/v1/history",
        "/openapi.json",
        "/v1/geo/192.0.2.1",
    ] {
        let answer = api.get(public(), path).await;
        assert_eq!(answer.refusal(), (401, "credentials_missing".into()), "{path}");
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{path}");
    }
    let path = format!("/v1/resolve/{}", testing::DOMAIN);
    // What a browser sends to everyone is not looked at where nothing is needed.
    assert_eq!(api.send(public(), with(&path, "Basic eDp5"), Body::empty()).await.status, StatusCode::OK);
    assert_eq!(api.count("nearmost_http_auth_failures_total{kind=\"credentials_missing\"}"), 7);
}

#[tokio::test]
async fn a_token_opens_everything_and_a_wrong_one_nothing() {
    let api = guarded().await;
    let ask = |authorization: String| {
        let request = with("/v1/fleet", &authorization);
        let api = &api;
        async move { api.send(public(), request, Body::empty()).await }
    };
    assert_eq!(ask(format!("Bearer {TOKEN}")).await.status, StatusCode::OK);
    assert_eq!(ask(format!("bearer {TOKEN}")).await.status, StatusCode::OK);
    assert_eq!(ask("Bearer wrong".into()).await.refusal(), (401, "token_unknown".into()));
    assert_eq!(ask("Bearer".into()).await.refusal(), (401, "token_unknown".into()));
    assert_eq!(ask("Basic eDp5".into()).await.refusal(), (401, "scheme_unknown".into()));
    assert_eq!(ask("Nearmost nonsense".into()).await.refusal(), (401, "signature_format".into()));
    let explain = format!("/v1/explain?domain={}&client=198.51.100.1", testing::DOMAIN);
    let answer = api.send(public(), with(&explain, &format!("Bearer {TOKEN}")), Body::empty()).await;
    assert_eq!(answer.status, StatusCode::OK, "who is known may ask for others");
}

#[tokio::test]
async fn a_persons_signature_covers_the_request_and_is_good_once() {
    let api = guarded().await;
    let send = |request: Builder, body: &'static str| api.send(public(), request, body);
    let path = "/v1/registry?author=none";
    assert_eq!(send(signed(&person(), "GET", "/v1/fleet", "1", b""), "").await.status, StatusCode::OK);
    assert_eq!(
        send(signed(&person(), "GET", "/v1/fleet", "1", b""), "").await.refusal().1,
        "signature_replayed"
    );
    assert_eq!(send(signed(&person(), "GET", path, "2", b""), "").await.refusal().1, "bad_request");
    let other_body = send(signed(&person(), "POST", "/v1/invites", "3", b"{}"), "{ }").await;
    assert_eq!(other_body.refusal(), (401, "signature_wrong".into()));
    let stranger = KeyPair::from_seed(Role::Person, &[8; 32]);
    let refused = send(signed(&stranger, "GET", "/v1/fleet", "4", b""), "").await;
    assert_eq!(refused.refusal(), (403, "person_unknown".into()));
    assert!(refused.text().contains(&stranger.id().to_string()));
    let late = sign(&person(), "GET", "/v1/fleet", 1_000, "5", b"");
    assert_eq!(send(with("/v1/fleet", &late), "").await.refusal(), (401, "signature_time".into()));
}

#[tokio::test]
async fn changing_needs_credentials_even_here_but_not_on_the_admin_socket() {
    let api = guarded().await;
    let body = serde_json::to_string(&InviteRequest { domains: Vec::new(), name: None, ttl_s: 60 }).unwrap();
    let post = || Request::post("/v1/invites").header("content-type", "application/json");
    assert_eq!(api.send(local(), post(), body.clone()).await.refusal(), (401, "credentials_missing".into()));
    let commit = serde_json::to_string(&CommitRequest {
        records: Vec::new(),
        expect_version: None,
        note: String::new(),
    })
    .unwrap();
    let registry = || Request::post("/v1/registry").header("content-type", "application/json");
    assert_eq!(api.send(local(), registry(), commit.clone()).await.refusal().0, 401);
    // The registrar is reached: it has nothing to do.
    assert_eq!(api.send(admin(), registry(), commit).await.refusal(), (400, "bad_request".into()));
    let read: RegistryResponse = api.get(local(), "/v1/registry").await.json();
    assert_eq!((read.version, read.broker), (0, api.api.state.me.id.to_string()));
    let history: Vec<HistoryView> =
        api.get(local(), "/v1/history?key=play.nearmost.test&limit=5").await.json();
    assert!(history.is_empty());
    assert_eq!(api.get(local(), "/v1/registry?author=me").await.refusal(), (400, "bad_request".into()));

    let named = InviteRequest { domains: vec!["nowhere.test".into()], name: Some("n1".into()), ttl_s: 60 };
    let invited = api.send(admin(), post(), serde_json::to_string(&named).unwrap()).await;
    match invited.status {
        StatusCode::OK => assert!(invited.json::<InviteResponse>().token.starts_with("nmt1")),
        // The registrar may want the domain to be there.
        _ => assert!((400..500).contains(&invited.refusal().0)),
    }
}

#[tokio::test]
async fn what_a_local_proxy_forwards_is_public() {
    let api = guarded().await;
    let via = |forwarded: &str| {
        let request = Request::get("/v1/fleet").header("x-forwarded-for", forwarded);
        let api = &api;
        async move { api.send(local(), request, Body::empty()).await.status.as_u16() }
    };
    assert_eq!(via("198.51.100.1").await, 401);
    assert_eq!(via("127.0.0.1, 198.51.100.1").await, 401);
    assert_eq!(via("unknown").await, 401);
    assert_eq!(via("127.0.0.1").await, 200);
    let both = |forwarded: &str| {
        let request = Request::get("/v1/fleet").header("x-forwarded-for", "203.0.113.5");
        let request = request.header("forwarded", forwarded);
        let api = &api;
        async move { api.send(local(), request, Body::empty()).await.status.as_u16() }
    };
    assert_eq!(both("for=127.0.0.1").await, 401, "a second header takes nothing back");
    assert_eq!(both("for=203.0.113.5").await, 401);
}

#[tokio::test]
async fn a_page_elsewhere_that_resolves_to_this_machine_reads_nothing() {
    let api = guarded().await;
    for (host, status) in [
        ("evil.test", 401),
        ("evil.test:8053", 401),
        ("127.0.0.1.evil.test", 401),
        ("localhost:8053", 200),
        ("127.0.0.1:8053", 200),
        ("[::1]:8053", 200),
        (testing::DOMAIN, 307),
        (testing::REDIRECT_HOST, 307),
    ] {
        let answer = api.send(local(), Request::get("/v1/fleet").header("host", host), Body::empty()).await;
        assert_eq!(answer.status.as_u16(), status, "{host}");
    }
}

#[tokio::test]
async fn a_client_is_named_only_by_a_trusted_source_and_not_through_a_trusted_proxy() {
    let api = guarded().await;
    let ask = |forwarded: &'static str| {
        let path = format!("/v1/resolve/{}?client=198.51.100.1", testing::DOMAIN);
        let request = Request::get(path).header("x-forwarded-for", forwarded);
        let api = &api;
        async move { api.send(peer(ListenerKind::Public, "10.0.0.1"), request, Body::empty()).await }
    };
    assert_eq!(ask("203.0.113.5").await.refusal(), (403, "client_not_trusted".into()));
    assert_eq!(ask("10.0.0.9").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_reload_replaces_tokens_and_the_limit() {
    let api = guarded().await;
    let active = super::super::settings::ActiveSettings::new(settings());
    let router = super::super::router_with(api.api.state.clone(), active.clone(), CancellationToken::new());
    let ask = || {
        let mut request = with("/v1/fleet", &format!("Bearer {TOKEN}")).body(Body::empty()).unwrap();
        request.extensions_mut().insert(public());
        let router = router.clone();
        async move { router.oneshot(request).await.unwrap().status().as_u16() }
    };
    assert_eq!(ask().await, 401);
    active.replace(api.api.state.settings.clone());
    assert_eq!(ask().await, 200);
    active.replace(ApiSettings { rate: RateLimit { per_second: 1, burst: 1 }, ..settings() });
    assert_eq!((ask().await, ask().await), (401, 429));
}

#[tokio::test]
async fn a_source_that_asks_too_often_is_refused_and_counted() {
    let api =
        Api::with(ApiSettings { rate: RateLimit { per_second: 1, burst: 2 }, ..settings() }, |_| ()).await;
    for expected in [200, 200, 429] {
        assert_eq!(api.get(public(), "/healthz").await.status.as_u16(), expected);
    }
    let refused = api.get(public(), "/healthz").await;
    assert_eq!(refused.refusal(), (429, "rate_limited".into()));
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(api.get(peer(ListenerKind::Public, "198.51.100.9"), "/healthz").await.status, StatusCode::OK);
    for _ in 0..5 {
        assert_eq!(api.get(local(), "/healthz").await.status, StatusCode::OK, "this machine is not limited");
    }
    assert_eq!(api.count("nearmost_http_rate_limited_total"), 2);
}

#[tokio::test]
async fn a_request_of_unknown_origin_has_no_rights() {
    let api = guarded().await;
    let request = Request::get("/v1/fleet").body(Body::empty()).unwrap();
    let response = api.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
}

/// The page tells nothing, so everyone may have it; a listener of redirects has nothing but redirects.
#[tokio::test]
async fn the_page_is_open_and_its_data_is_not() {
    let api = guarded().await;
    for peer in [public(), local(), admin()] {
        for path in ["/", "/page/main.js", "/page/world.json"] {
            let answer = api.get(peer.clone(), path).await;
            assert_eq!(answer.status, StatusCode::OK, "{path}");
            assert!(answer.header("content-security-policy").starts_with("default-src 'none'"), "{path}");
        }
    }
    assert_eq!(api.get(public(), "/v1/traffic").await.refusal().0, 401);
    assert_eq!(api.get(public(), "/page/none").await.refusal(), (404, "no_such_path".into()));
    let posted = api.send(public(), Request::post("/").header("host", "127.0.0.1"), Body::empty()).await;
    assert_eq!(posted.refusal(), (405, "method_not_allowed".into()));
    let redirects = peer(ListenerKind::Redirect, "203.0.113.9");
    for path in ["/", "/page/main.js"] {
        assert_eq!(api.get(redirects.clone(), path).await.refusal(), (404, "no_such_path".into()), "{path}");
    }
    // A host that is a domain is sent to its mirror, as before.
    let request = Request::get("/").header("host", testing::DOMAIN);
    assert_eq!(api.send(public(), request, Body::empty()).await.status, StatusCode::TEMPORARY_REDIRECT);
}

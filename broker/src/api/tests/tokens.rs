//! Tokens for programs that read, and what is told of refused attempts.

use super::*;
use nearmost_wire::api::{AuditEntry, AuditResponse, TokenResponse, TokenView, TokensResponse};
use sha2::{Digest, Sha256};
use std::net::IpAddr;

const ADMIN: &str = "a long secret of an administrator";

async fn guarded() -> Api {
    let token = ApiToken { name: "ops".into(), sha256: Sha256::digest(ADMIN).into(), scope: Scope::Admin };
    Api::with(ApiSettings { tokens: vec![token], ..settings() }, |_| ()).await
}

fn bearer(request: Builder, token: &str) -> Builder {
    request.header("authorization", format!("Bearer {token}")).header("content-type", "application/json")
}

/// Has the administrator's token make one.
async fn make(api: &Api, body: &str) -> Answer {
    api.send(public(), bearer(Request::post("/v1/tokens"), ADMIN), body.to_owned()).await
}

async fn read(api: &Api, path: &str, token: &str) -> Answer {
    api.send(public(), bearer(Request::get(path), token), Body::empty()).await
}

/// Entries of the audit log, once there are so many: refused ones are written beside the answer.
async fn entries(api: &Api, wanted: usize) -> Vec<AuditEntry> {
    loop {
        let page: AuditResponse = api.get(admin(), "/v1/audit").await.json();
        if page.entries.len() >= wanted {
            return page.entries.iter().map(|view| view.read().unwrap()).collect();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_may_read_reads_and_changes_nothing_until_the_token_is_taken_back() {
    let api = guarded().await;
    let made: TokenResponse = make(&api, r#"{"name":"prometheus","scope":"read"}"#).await.json();
    assert!(made.token.starts_with("nma1") && made.token.len() == 68, "{}", made.token);
    for path in ["/v1/fleet", "/metrics", "/v1/registry", "/v1/peers"] {
        let status = read(&api, path, &made.token).await.status.as_u16();
        assert!(status == 200 || path == "/v1/peers" && status == 503, "{path}: {status}");
    }
    // Streams too: this one is refused for its question, and not for who asks.
    assert_eq!(read(&api, "/v1/events?nonsense=1", &made.token).await.refusal().0, 400);
    let metrics: TokenResponse = make(&api, r#"{"name":"scraper","scope":"metrics"}"#).await.json();
    assert_eq!(read(&api, "/metrics", &metrics.token).await.status, 200);
    assert_eq!(read(&api, "/v1/fleet", &metrics.token).await.refusal(), (403, "scope_insufficient".into()));

    let change = bearer(Request::post("/v1/registry"), &made.token);
    let refused = api.send(public(), change, r#"{"records":[],"note":""}"#).await;
    assert_eq!(refused.refusal(), (403, "scope_insufficient".into()));
    assert!(
        refused.text().contains("prometheus") && refused.text().contains("read only"),
        "{}",
        refused.text()
    );
    // A token makes no other, also on this machine.
    let another = bearer(Request::post("/v1/tokens").header("host", "127.0.0.1:8053"), &made.token);
    let refused = api.send(local(), another, r#"{"name":"x","scope":"read"}"#).await;
    assert_eq!(refused.refusal(), (403, "scope_insufficient".into()));
    assert_eq!(api.count("nearmost_http_auth_failures_total{kind=\"scope_insufficient\"}"), 3);

    let gone = bearer(Request::delete("/v1/tokens/prometheus"), ADMIN);
    assert_eq!(api.send(public(), gone, Body::empty()).await.json::<TokenView>().name, "prometheus");
    assert_eq!(read(&api, "/v1/fleet", &made.token).await.refusal(), (401, "token_unknown".into()));
    let told: TokensResponse = api.get(admin(), "/v1/tokens").await.json();
    let told: Vec<_> = told.tokens.iter().map(|t| (t.name.as_str(), t.scope.as_str())).collect();
    assert_eq!(told, [("ops", "admin"), ("scraper", "metrics")]);

    // Made, made, beyond (three attempts of two tokens; the second of one waits for its fellows), revoked.
    let log = entries(&api, 5).await;
    let of = |act: &str| log.iter().filter(|e| e.act == act).count();
    assert_eq!((of("token.create"), of("token.revoke")), (2, 1), "{log:?}");
    let beyond: Vec<_> = log.iter().filter(|e| e.act == "token.beyond").collect();
    let first = beyond.iter().find(|e| e.actor == "token prometheus").unwrap();
    assert_eq!((first.target.as_str(), first.outcome.as_str()), ("POST /v1/registry", "refused"));
    assert_eq!(beyond.iter().find(|e| e.actor == "token scraper").unwrap().target, "GET /v1/fleet");
    let text = api.get(admin(), "/v1/audit").await.text();
    let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(&made.token));
    assert!(!text.contains(&made.token) && !text.contains(&hash), "{text}");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_name_and_a_token_ends() {
    let api = guarded().await;
    for (body, refusal) in [
        (r#"{"name":"a","scope":"admin"}"#, (400, "bad_request")),
        (r#"{"name":"a b","scope":"read"}"#, (400, "bad_request")),
        (r#"{"name":"a","scope":"read","expires_in_s":0}"#, (400, "bad_request")),
        (r#"{"name":"ops","scope":"read"}"#, (409, "already_there")),
        (r#"{"name":"a","scope":"read","more":1}"#, (422, "bad_json")),
    ] {
        assert_eq!(make(&api, body).await.refusal(), (refusal.0, refusal.1.into()), "{body}");
    }
    let gone = bearer(Request::delete("/v1/tokens/nobody"), ADMIN);
    assert_eq!(api.send(public(), gone, Body::empty()).await.refusal(), (404, "no_such_token".into()));
    let made: TokenResponse = make(&api, r#"{"name":"a","scope":"read","expires_in_s":60}"#).await.json();
    let until = made.about.expires_unix_ms.unwrap();
    let active = api.api.state.admin.tokens().all();
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer {}", made.token).parse().unwrap());
    let claim = |now| auth::claim(&headers, &settings(), &active, now).map(drop).map_err(|e| e.kind);
    assert_eq!((claim(until - 1), claim(until)), (Ok(()), Err("token_expired")));
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_in_the_audit_log_whatever_it_is_for() {
    let api = guarded().await;
    let path = format!("/v1/domains/{}/acme-challenge", testing::DOMAIN);
    for request in [Request::put(&path), Request::post("/v1/peers/invites"), Request::post("/v1/peers/join")]
    {
        assert_eq!(api.send(public(), bearer(request, ADMIN), "{").await.refusal(), (400, "bad_json".into()));
    }
    let asked = bearer(Request::delete(format!("{path}?nonsense=1")), ADMIN);
    assert_eq!(api.send(public(), asked, Body::empty()).await.refusal().0, 400);
    let told = entries(&api, 4).await;
    let mut told: Vec<_> = told.iter().map(|e| (e.act.as_str(), e.code.as_deref().unwrap())).collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            ("acme.remove", "bad_request"),
            ("acme.set", "bad_json"),
            ("peer.invite", "bad_json"),
            ("peer.join", "bad_json")
        ]
    );
}

#[tokio::test]
async fn tokens_that_are_good_for_nothing_are_in_the_audit_log_and_a_flood_of_them_is_not() {
    let api = guarded().await;
    let source: IpAddr = "192.0.2.77".parse().unwrap();
    let admin = &api.api.state.admin;
    for _ in 0..50 {
        admin.join(([3; 32], source), [9; 16], Some("lon1".into())).await.unwrap_err();
    }
    let peer = nearmost_replica::PublicKey([4; 32]);
    let join = nearmost_wire::peer::Join { secret: [8; 16], addresses: Vec::new() };
    admin.admit_peer((peer, source), join).await.unwrap_err();
    let told = entries(&api, 2).await;
    assert_eq!(told.len(), 2, "the first of each kind: {told:?}");
    assert_eq!((told[0].act.as_str(), told[0].via.as_str()), ("node.join", "agents"));
    assert_eq!((told[0].target.as_str(), told[0].code.as_deref()), ("lon1", Some("unknown_token")));
    assert_eq!(told[0].source.as_deref(), Some("192.0.2.77"));
    assert!(told[0].actor.starts_with("nn1"), "{}", told[0].actor);
    assert_eq!((told[1].act.as_str(), told[1].via.as_str()), ("peer.admit", "peers"));
    assert_eq!(told[1].code.as_deref(), Some("unknown_token"));
    assert!(told[1].actor.starts_with("nb1"), "{}", told[1].actor);
}

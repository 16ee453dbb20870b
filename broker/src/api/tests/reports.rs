//! What clients report, and which scripts may.

use super::*;
use crate::api::testing::DOMAIN;
use crate::clock::mono_now;
use crate::learning::Lesson;
use nearmost_wire::api::{ResolveResponse, RttEntry, RttRequest, RttResponse};

const NONCE: &str = "abcdefghij234567";

fn other() -> Peer {
    peer(ListenerKind::Public, "198.51.100.9")
}

async fn session(api: &Api, peer: Peer) -> String {
    api.get(peer, &format!("/v1/resolve/{DOMAIN}")).await.json::<ResolveResponse>().session
}

fn report(session: &str, rtts: &[(&str, f64)]) -> RttRequest {
    let rtts = rtts.iter().map(|(m, ms)| RttEntry { mirror: (*m).into(), rtt_ms: *ms }).collect();
    RttRequest { session: session.into(), nonce: None, rtts, tried: Vec::new(), failed: Vec::new() }
}

async fn send(api: &Api, peer: Peer, body: &RttRequest) -> Answer {
    let request = Request::post("/v1/rtt").header("content-type", "text/plain;charset=UTF-8");
    api.send(peer, request, serde_json::to_string(body).unwrap()).await
}

#[tokio::test]
async fn resolve_gives_a_session_and_says_whom_to_measure() {
    let api = Api::new().await;
    let resolved: ResolveResponse = api.get(public(), &format!("/v1/resolve/{DOMAIN}")).await.json();
    assert_eq!(resolved.measure, ["nyc", "lon", "sao"]);
    assert!((80..400).contains(&resolved.session.len()), "{}", resolved.session);
    let taken = send(&api, public(), &report(&resolved.session, &[("nyc", 3.5)])).await;
    assert_eq!((taken.status, taken.header("cache-control")), (StatusCode::OK, "no-store"));
    let next: RttResponse = taken.json();
    assert_eq!(next.measure, ["lon", "sao"]);
    let tried = ["nyc", "lon"].map(String::from).to_vec();
    let last = RttRequest { tried, ..report(&resolved.session, &[("sao", 120.0), ("sin", 230.0)]) };
    let last: RttResponse = send(&api, public(), &last).await.json();
    assert_eq!(last.measure, ["syd"], "five in all");
}

#[tokio::test]
async fn what_users_report_reaches_the_learner() {
    let mut api = Api::new().await;
    let session = session(&api, public()).await;
    let nonce = nearmost_dns::Nonce::parse(NONCE).unwrap();
    api.api.state.reports.nonces().note(&nonce, "192.0.2.53".parse().unwrap(), mono_now());
    let body =
        RttRequest { nonce: Some(NONCE.to_uppercase()), ..report(&session, &[("lon", 80.0), ("nyc", 3.5)]) };
    for tied in [true, false] {
        let taken: RttResponse = send(&api, public(), &body).await.json();
        assert_eq!((taken.accepted, taken.tied), (2, tied));
        assert_eq!(taken.measure, ["sao", "syd"]);
    }
    let Some(Lesson::Observed(observed)) = api.api.lessons.recv().await else { panic!("no observation") };
    assert!(observed.iter().all(|o| o.network.to_string() == "203.0.113.0/24"), "{observed:?}");
    let Some(Lesson::Behind { resolver, network, .. }) = api.api.lessons.recv().await else {
        panic!("no tie")
    };
    assert_eq!((resolver.to_string(), network.to_string()), ("192.0.2.53".into(), "203.0.113.0/24".into()));
    assert!(matches!(api.api.lessons.try_recv(), Ok(Lesson::Observed(_))));
    assert!(api.api.lessons.try_recv().is_err(), "a name ties once");
    assert_eq!(api.count("nearmost_rtt_reports_total{way=\"http\"}"), 2);
}

#[tokio::test]
async fn every_refusal_has_its_status_code_and_counter() {
    let api = Api::new().await;
    let good = session(&api, public()).await;
    let gone = api.api.state.reports.session("gone.test", "203.0.113.9".parse().unwrap(), unix_now());
    let old = nearmost_core::time::UnixMillis(unix_now().0 - 600_000);
    let old = api.api.state.reports.session(DOMAIN, "203.0.113.9".parse().unwrap(), old);
    let with = |nonce: &str| RttRequest { nonce: Some(nonce.into()), ..report(&good, &[("lon", 1.0)]) };
    let cases = [
        (report("", &[("lon", 1.0)]), 400, "session_malformed"),
        (report(&good.replacen(|c| c != 'A', "A", 1), &[("lon", 1.0)]), 403, "session_forged"),
        (report(&old, &[("lon", 1.0)]), 403, "session_expired"),
        (report(&session(&api, other()).await, &[("lon", 1.0)]), 403, "session_network"),
        (report(&gone, &[("lon", 1.0)]), 404, "unknown_domain"),
        (report(&good, &[]), 422, "no_rtts"),
        (report(&good, &[("lon", 1.0); 33]), 422, "too_many_rtts"),
        (report(&good, &[("lon", 1.0), ("paris", 1.0)]), 422, "unknown_mirror"),
        (report(&good, &[("lon", 0.0)]), 422, "rtt_range"),
        (with("abc"), 422, "nonce_malformed"),
    ];
    for (body, status, code) in cases {
        // Each from a source of its own, but in one network: reports are few.
        let from = peer(ListenerKind::Public, &format!("203.0.113.{}", code.len()));
        let answer = send(&api, from, &body).await;
        assert_eq!(answer.refusal(), (status, code.into()), "{}", answer.text());
        assert_eq!(api.count(&format!("nearmost_rtt_reports_refused_total{{reason=\"{code}\"}}")), 1);
    }
    let raw = |kind: &'static str, body: &'static str, host: u8| {
        let request = Request::post("/v1/rtt").header("content-type", kind);
        api.send(peer(ListenerKind::Public, &format!("203.0.113.{host}")), request, body)
    };
    assert_eq!(raw("text/plain", "{", 100).await.refusal(), (400, "bad_json".into()));
    assert_eq!(raw("application/json", "{\"rtts\":[]}", 101).await.refusal(), (422, "bad_json".into()));
    assert_eq!(raw("text/html", "{}", 102).await.refusal(), (415, "bad_json".into()));
    let infinite =
        raw("text/plain", r#"{"session":"x","rtts":[{"mirror":"lon","rtt_ms":1e999}]}"#, 103).await;
    assert_eq!(infinite.refusal().1, "bad_json");
    assert_eq!(api.count("nearmost_rtt_reports_refused_total{reason=\"bad_json\"}"), 4);
    let named = send(&api, public(), &report(&good, &[("paris", 1.0)])).await;
    assert!(named.text().contains("paris") && named.text().contains(DOMAIN), "{}", named.text());
    assert_eq!(api.get(public(), "/v1/rtt").await.refusal(), (405, "method_not_allowed".into()));
}

#[tokio::test]
async fn a_source_that_reports_too_often_waits() {
    let api = Api::new().await;
    let body = report(&session(&api, public()).await, &[("nyc", 3.5)]);
    for _ in 0..5 {
        assert_eq!(send(&api, public(), &body).await.status, StatusCode::OK);
    }
    let refused = send(&api, public(), &body).await;
    assert_eq!(refused.refusal(), (429, "reports_too_often".into()));
    assert!((1..=11).contains(&refused.header("retry-after").parse().unwrap()), "{refused:?}");
    assert_eq!(refused.header("access-control-allow-origin"), "*");
    let neighbour = peer(ListenerKind::Public, "203.0.113.77");
    assert_eq!(send(&api, neighbour, &body).await.status, StatusCode::OK);
}

#[tokio::test]
async fn the_usual_rules_say_whose_report_it_is() {
    let mut api = Api::new().await;
    let resolved = |answer: Answer| answer.json::<ResolveResponse>().session;
    let named = format!("/v1/resolve/{DOMAIN}?client=198.51.100.9");
    let session = resolved(api.get(local(), &named).await);
    let body = serde_json::to_string(&report(&session, &[("lon", 2.0)])).unwrap();
    let post = |peer: Peer, path: &str, forwarded: Option<&str>| {
        let mut request =
            Request::post(path).header("content-type", "application/json").header("host", "127.0.0.1");
        if let Some(hop) = forwarded {
            request = request.header("x-forwarded-for", hop);
        }
        api.send(peer, request, body.clone())
    };
    let proxy = || peer(ListenerKind::Public, "10.0.0.1");
    assert_eq!(post(local(), "/v1/rtt?client=198.51.100.9", None).await.status, StatusCode::OK);
    assert_eq!(post(admin(), "/v1/rtt?client=198.51.100.10", None).await.status, StatusCode::OK);
    assert_eq!(post(proxy(), "/v1/rtt", Some("198.51.100.11")).await.status, StatusCode::OK);
    assert_eq!(post(local(), "/v1/rtt", None).await.refusal().1, "session_network");
    assert_eq!(
        post(other(), "/v1/rtt", Some("203.0.113.1")).await.status,
        StatusCode::OK,
        "it says so itself"
    );
    let claimed = post(public(), "/v1/rtt?client=198.51.100.9", None).await;
    assert_eq!(claimed.refusal(), (403, "client_not_trusted".into()));
    assert_eq!(api.count("nearmost_rtt_reports_refused_total{reason=\"client_not_trusted\"}"), 1);
    let mut reporters = std::collections::BTreeSet::new();
    while let Ok(Lesson::Observed(observed)) = api.api.lessons.try_recv() {
        assert_eq!(observed[0].network.to_string(), "198.51.100.0/24");
        reporters.insert(observed[0].reporter);
    }
    assert_eq!(reporters.len(), 3, "one address, one vote");
}

#[tokio::test]
async fn scripts_of_other_sites_may_resolve_and_report_and_nothing_else() {
    let api = Api::new().await;
    let resolve = format!("/v1/resolve/{DOMAIN}");
    let preflight = |path: &str| {
        let request = Request::options(path)
            .header("host", "broker.test")
            .header("origin", "https://www.play.test")
            .header("access-control-request-method", "POST");
        api.send(public(), request, Body::empty())
    };
    for path in [resolve.as_str(), "/v1/rtt"] {
        for from in [public(), local(), admin()] {
            let request = Request::options(path).header("host", "127.0.0.1:8053");
            let answer = api.send(from, request, Body::empty()).await;
            assert_eq!((answer.status, answer.body.len()), (StatusCode::NO_CONTENT, 0), "{path}");
        }
        let answer = preflight(path).await;
        assert_eq!(answer.header("access-control-allow-origin"), "*");
        assert!(answer.header("access-control-allow-methods").contains("POST"));
        assert_eq!(answer.header("access-control-allow-headers"), "content-type");
    }
    for path in [resolve.as_str(), "/v1/resolve/nowhere.test", "/v1/rtt"] {
        let answer = api.get(public(), path).await;
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{path}: a script reads refusals too");
    }
    for path in ["/healthz", "/v1/fleet", "/v1/registry", "/openapi.json", "/v1/nothing"] {
        let answer = preflight(path).await;
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{path}");
        assert!(!answer.status.is_success(), "{path}: {answer:?}");
        let answer = api.get(local(), path).await;
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{path}");
    }
}

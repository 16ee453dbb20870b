//! What users and operators read.

use super::*;
use crate::api::testing::{DOMAIN, Fixture};
use nearmost_core::health::State;
use nearmost_wire::api::{
    CheckupResponse, DrainPreview, ExplainResponse, FleetResponse, GeoResponse, ResolveResponse,
};

#[tokio::test]
async fn resolve_answers_the_asking_client_and_others_for_trusted_sources() {
    let api = Api::new().await;
    let path = format!("/v1/resolve/{DOMAIN}");
    let answer = api.get(public(), &path).await;
    assert_eq!((answer.status, answer.header("cache-control")), (StatusCode::OK, "private, max-age=20"));
    let resolved: ResolveResponse = answer.json();
    assert_eq!((&*resolved.mirrors[0].mirror, &*resolved.client.to_string()), ("nyc", "203.0.113.9"));

    let refused = api.get(public(), &format!("{path}?client=198.51.100.1")).await;
    assert_eq!(refused.refusal(), (403, "client_not_trusted".into()));
    for trusted in [local(), admin()] {
        let resolved: ResolveResponse =
            api.get(trusted, &format!("{path}?client=::ffff:198.51.100.1")).await.json();
        assert_eq!((&*resolved.mirrors[0].mirror, &*resolved.client.to_string()), ("lon", "198.51.100.1"));
    }
    let proxied = Request::get(&path).header("x-forwarded-for", "198.51.100.7");
    let resolved: ResolveResponse =
        api.send(peer(ListenerKind::Public, "10.0.0.1"), proxied, Body::empty()).await.json();
    assert_eq!(&*resolved.client.to_string(), "198.51.100.7");
}

#[tokio::test]
async fn the_broker_examines_itself_for_operators() {
    let api = Api::new().await;
    let told: CheckupResponse = api.get(admin(), "/v1/checkup").await.json();
    assert_eq!(told.domains, [DOMAIN]);
    assert!(told.at_unix_ms > 0 && !told.version.is_empty(), "{told:?}");
    let of = |subject: &str| told.findings.iter().find(|f| f.subject == subject).unwrap();
    // Nobody drives this fixture's fleet.
    assert_eq!((&*of("snapshot").level, &*of("disk").level), ("fail", "ok"));
    let wrong = |f: &&nearmost_wire::api::FindingView| f.level != "ok";
    assert!(told.findings.iter().filter(wrong).all(|f| !f.fix.is_empty()), "{told:?}");
    for peer in [local(), public()] {
        assert_eq!(api.get(peer, "/v1/checkup").await.refusal().0, 401);
    }
    assert_eq!(api.get(admin(), "/v1/checkup?a=b").await.refusal().0, 400);
}

#[tokio::test]
async fn an_unknown_domain_names_the_nearest_known() {
    let api = Api::new().await;
    let answer = api.get(public(), "/v1/resolve/play.nearmost.tset").await;
    assert_eq!(answer.refusal(), (404, "unknown_domain".into()));
    assert!(answer.text().contains("did you mean play.nearmost.test?"), "{}", answer.text());
    assert_eq!(api.get(public(), "/v1/resolve/other.example").await.refusal().0, 404);
    assert_eq!(api.get(public(), "/v1/resolve/PLAY.nearmost.TEST.").await.status, StatusCode::OK);
}

#[tokio::test]
async fn explain_fleet_and_geo_tell_what_is_known() {
    let api = Api::with(settings(), |f| f.set_state("lon", State::Draining)).await;
    let explained: ExplainResponse =
        api.get(local(), &format!("/v1/explain?domain={DOMAIN}&client=198.51.100.1")).await.json();
    assert_eq!(explained.mirrors.len(), 5);
    assert!(explained.mirrors.iter().all(|m| m.ranked.reasons.len() >= 3), "{explained:?}");
    assert!(explained.mirrors[0].ranked.reasons.iter().any(|r| r.contains("drained_by_order")));
    assert_eq!(explained.network.cell, "198.51.100.0/24");
    let fleet: FleetResponse = api.get(local(), "/v1/fleet").await.json();
    assert_eq!(fleet.mirrors[0].verdicts[0].state, "draining");
    assert_eq!((fleet.mirrors[0].connections, fleet.domains.len()), (7, 1));
    let geo: GeoResponse = api.get(local(), "/v1/geo/198.51.100.77").await.json();
    assert_eq!((geo.place.country.as_deref(), &*geo.place.source), (Some("GB"), "testdb"));
}

#[tokio::test]
async fn a_drain_is_previewed() {
    let api = Api::new().await;
    let preview: DrainPreview =
        api.get(local(), &format!("/v1/drain-preview?mirror={DOMAIN}/lon")).await.json();
    assert_eq!((preview.rows.len(), preview.addresses), (2, 512));
    let all = format!("/v1/drain-preview?mirror={DOMAIN}/lon&node=nyc-node");
    let preview: DrainPreview = api.get(local(), &all).await.json();
    assert_eq!(preview.rows.iter().map(|r| &*r.mirror).collect::<Vec<_>>(), ["lon", "nyc", "sao"]);
    assert_eq!(api.get(local(), "/v1/drain-preview").await.refusal(), (400, "bad_request".into()));
}

#[tokio::test]
async fn health_and_readiness_are_two_things() {
    let api = Api::new().await;
    let health: nearmost_wire::api::HealthResponse = api.get(public(), "/healthz").await.json();
    assert_eq!((&*health.status, health.broker), ("ok", api.api.state.me.id.to_string()));
    assert_eq!(api.get(public(), "/readyz").await.status, StatusCode::OK);
    api.api.ready.send_modify(|r| r.registry_loaded = false);
    let answer = api.get(public(), "/readyz").await;
    assert_eq!(answer.refusal(), (503, "not_ready".into()));
    assert!(answer.text().contains("the registry is not loaded yet"));
    assert_eq!(api.get(public(), "/healthz").await.status, StatusCode::OK);
    api.api.ready.send_modify(|r| *r = Readiness { stopping: true, ..Readiness::READY });
    assert!(api.get(public(), "/readyz").await.text().contains("stopping"));
}

#[tokio::test]
async fn metrics_count_requests_by_template() {
    let api = Api::new().await;
    for name in ["a", "b", DOMAIN] {
        api.get(local(), &format!("/v1/resolve/{name}")).await;
    }
    api.get(local(), "/no/such/thing").await;
    let answer = api.get(local(), "/metrics").await;
    assert!(answer.header("content-type").starts_with("text/plain; version=0.0.4"));
    let text = answer.text();
    for line in [
        "nearmost_http_requests_total{code=\"4xx\",route=\"/v1/resolve/{domain}\"} 2",
        "nearmost_http_requests_total{code=\"2xx\",route=\"/v1/resolve/{domain}\"} 1",
        "nearmost_http_requests_total{code=\"4xx\",route=\"none\"} 1",
        "nearmost_http_request_duration_seconds_count{route=\"/v1/resolve/{domain}\"} 3",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}

#[tokio::test]
async fn the_answers_follow_the_snapshot() {
    let mut api = Api::new().await;
    let path = format!("/v1/resolve/{DOMAIN}?client=198.51.100.1");
    let nearest = |answer: Answer| answer.json::<ResolveResponse>().mirrors[0].mirror.clone();
    assert_eq!(nearest(api.get(local(), &path).await), "lon");
    Fixture::set_state(&mut api.fixture, "lon", State::Down);
    assert_eq!(nearest(api.get(local(), &path).await), "nyc");
}

//! Plain HTTP users.

use super::*;
use crate::api::testing::{DOMAIN, REDIRECT_HOST};
use nearmost_core::health::State;
use nearmost_core::registry::AllDown;

fn plain() -> Peer {
    peer(ListenerKind::Redirect, "198.51.100.1")
}

async fn to_host(api: &Api, host: &str, uri: &str) -> Answer {
    api.send(plain(), Request::get(uri).header("host", host), Body::empty()).await
}

#[tokio::test]
async fn go_leads_to_the_nearest_mirror_and_names_the_others() {
    let api = Api::new().await;
    let answer = api.get(plain(), &format!("/go/{DOMAIN}/a%20b/c?x=1&y=%2F")).await;
    assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(answer.header("location"), "http://192.0.2.1:8080/a%20b/c?x=1&y=%2F");
    assert_eq!(answer.header("cache-control"), "private, no-store");
    let links: Vec<_> = answer.headers.get_all("link").iter().map(|v| v.to_str().unwrap()).collect();
    assert_eq!(links.len(), 5);
    assert_eq!(links[0], "<http://192.0.2.1:8080/a%20b/c?x=1&y=%2F>; rel=duplicate; pri=1; geo=gb");
    assert_eq!(links[1], "<http://192.0.2.2:8080/a%20b/c?x=1&y=%2F>; rel=duplicate; pri=2; geo=us");
    assert_eq!(api.get(plain(), &format!("/go/{DOMAIN}")).await.header("location"), "http://192.0.2.1:8080/");
    assert_eq!(
        api.get(plain(), &format!("/go/{DOMAIN}/")).await.header("location"),
        "http://192.0.2.1:8080/"
    );
    for method in [Method::HEAD, Method::POST, Method::PUT] {
        let request = Request::builder().method(method).uri(format!("/go/{DOMAIN}/x"));
        let answer = api.send(plain(), request, Body::empty()).await;
        assert_eq!(answer.header("location"), "http://192.0.2.1:8080/x");
    }
    assert_eq!(api.count("nearmost_http_redirects_total{result=\"mirror\"}"), 6);
}

#[tokio::test]
async fn a_pointed_host_name_is_redirected_whatever_the_path() {
    let api = Api::new().await;
    for host in [DOMAIN, REDIRECT_HOST, "WWW.Play.Test.:8080"] {
        let answer = to_host(&api, host, "/v1/fleet?q").await;
        assert_eq!(answer.header("location"), "http://192.0.2.1:8080/v1/fleet?q", "{host}");
    }
    assert_eq!(to_host(&api, "other.test", "/x").await.refusal(), (404, "no_such_path".into()));
    assert_eq!(to_host(&api, "[::1]:80", "/v1/fleet").await.refusal(), (404, "no_such_path".into()));
    let absolute = api.send(plain(), Request::get(format!("http://{DOMAIN}/p")), Body::empty()).await;
    assert_eq!(absolute.header("location"), "http://192.0.2.1:8080/p");
    let star = Request::builder().method(Method::OPTIONS).uri("*").header("host", DOMAIN);
    assert_eq!(api.send(plain(), star, Body::empty()).await.header("location"), "http://192.0.2.1:8080/");
}

#[tokio::test]
async fn no_path_leads_anywhere_else() {
    let api = Api::new().await;
    for path in [
        "//evil.test/x",
        "/@evil.test",
        "/\\evil.test",
        "/%0d%0aSet-Cookie:x",
        "/..//evil",
        "/:99/x",
        "/a\"b{c}|d",
    ] {
        let Ok(request) = Request::get(path).header("host", DOMAIN).body(Body::empty()) else { continue };
        let answer = to_host(&api, DOMAIN, &request.uri().to_string()).await;
        let location = answer.header("location");
        assert!(location.starts_with("http://192.0.2.1:8080/"), "{path}: {location}");
        assert_eq!(location.parse::<Uri>().unwrap().authority().unwrap(), "192.0.2.1:8080");
        assert!(!answer.header("link").trim_start_matches('<').contains('<'), "{path}");
    }
    let answer = api.get(plain(), &format!("/go/{DOMAIN}//evil.test")).await;
    assert_eq!(answer.header("location"), "http://192.0.2.1:8080//evil.test");
    assert_eq!(api.get(plain(), "/go/evil.test/x").await.refusal(), (404, "unknown_domain".into()));
}

#[tokio::test]
async fn without_a_mirror_the_user_is_told_when_to_come_back() {
    let api = Api::with(settings(), |f| {
        for mirror in ["lon", "nyc", "sao", "sin", "syd"] {
            f.set_state(mirror, State::Down);
        }
        f.policy(|p| p.failover.all_down = AllDown::NoAnswer);
    })
    .await;
    let answer = to_host(&api, DOMAIN, "/").await;
    assert_eq!(answer.refusal(), (503, "no_mirror".into()));
    assert_eq!(answer.header("retry-after"), "5");
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn a_listener_of_redirects_gives_nothing_else() {
    let api = Api::new().await;
    assert_eq!(api.get(plain(), "/healthz").await.status, StatusCode::OK);
    for path in ["/metrics", "/v1/fleet", "/readyz", "/openapi.json", "/v1/resolve/x", "/"] {
        assert_eq!(api.get(plain(), path).await.refusal(), (404, "no_such_path".into()), "{path}");
    }
}

#[tokio::test]
async fn users_of_unknown_place_are_not_all_sent_to_one_mirror() {
    let api = Api::new().await;
    let mut seen = std::collections::BTreeSet::new();
    for network in 0..32 {
        let user = || peer(ListenerKind::Redirect, &format!("192.168.{network}.1"));
        let go = api.get(user(), &format!("/go/{DOMAIN}/x")).await;
        let host = api.send(user(), Request::get("/x").header("host", DOMAIN), Body::empty()).await;
        let path = format!("/v1/resolve/{DOMAIN}?client=192.168.{network}.77");
        let resolved: nearmost_wire::api::ResolveResponse = api.get(admin(), &path).await.json();
        assert!(resolved.mirrors[0].chosen);
        assert_eq!(go.header("location"), format!("{}x", resolved.mirrors[0].url));
        assert_eq!(go.header("location"), host.header("location"));
        seen.insert(go.header("location").to_owned());
    }
    assert_eq!(seen.len(), 5, "{seen:?}");
}

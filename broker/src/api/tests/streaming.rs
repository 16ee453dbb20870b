//! The stream of events.

use super::*;
use http_body_util::BodyExt;
use nearmost_wire::api::EventView;

fn event(mirror: &str) -> EventView {
    EventView {
        number: 0,
        at_unix_ms: 1,
        domain: testing::DOMAIN.into(),
        mirror: mirror.into(),
        family: "v4".into(),
        from: "up".into(),
        to: "down".into(),
        reason: "session_lost".into(),
        vantage: "broker".into(),
        evidence: String::new(),
    }
}

async fn open(api: &Api, last: Option<&str>) -> http::Response<Body> {
    let mut request = Request::get("/v1/events");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let mut request = request.body(Body::empty()).unwrap();
    request.extensions_mut().insert(local());
    api.router.clone().oneshot(request).await.unwrap()
}

/// The next event's text; `None` at the end.
async fn next(body: &mut Body) -> Option<String> {
    let frame = body.frame().await?.unwrap();
    Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
}

#[tokio::test]
async fn what_is_retained_is_told_and_that_is_the_end() {
    let api = Api::new().await;
    assert_eq!(api.get(local(), "/v1/events?follow=false").await.text(), "");
    for mirror in ["lon", "nyc"] {
        api.api.state.events.publish(event(mirror));
    }
    let all = api.get(local(), "/v1/events?follow=false").await.text();
    assert!(all.contains("id: 1\n") && all.contains("id: 2\n") && !all.contains("lagged"), "{all}");
    let after = Request::get("/v1/events?follow=false").header("last-event-id", "1");
    let newer = api.send(local(), after, Body::empty()).await.text();
    assert!(!newer.contains("id: 1\n") && newer.contains("id: 2\n"), "{newer}");
    assert_eq!(api.get(local(), "/v1/events?follow=perhaps").await.refusal().0, 400);
}

#[tokio::test]
async fn transitions_are_streamed_and_resumed_and_end_with_the_broker() {
    let api = Api::new().await;
    let log = &api.api.state.events;
    log.publish(event("lon"));
    log.publish(event("nyc"));
    let response = open(&api, Some("1")).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let resumed = next(&mut body).await.unwrap();
    assert!(resumed.contains("id: 2\n") && resumed.contains("event: transition\n"), "{resumed}");
    let data = resumed.lines().find_map(|l| l.strip_prefix("data: ")).unwrap();
    assert_eq!(serde_json::from_str::<EventView>(data).unwrap(), EventView { number: 2, ..event("nyc") });
    log.publish(event("sao"));
    assert!(next(&mut body).await.unwrap().contains("id: 3\n"));
    assert_eq!(api.count("nearmost_http_event_streams"), 1);
    api.closing.cancel();
    assert_eq!(next(&mut body).await, None);
    drop(body);
    assert_eq!(api.count("nearmost_http_event_streams"), 0);
}

#[tokio::test]
async fn what_is_lost_is_said() {
    let api = Api::new().await;
    let log = &api.api.state.events;
    let mut slow = open(&api, None).await.into_body();
    for _ in 0..crate::events::RETAINED + 5 {
        log.publish(event("lon"));
    }
    let first = next(&mut slow).await.unwrap();
    assert!(first.contains("event: lagged\n") && first.contains("{\"missed\":5}"), "{first}");
    assert_eq!(api.count("nearmost_http_events_lagged_total"), 5);
    let mut late = open(&api, Some("2")).await.into_body();
    assert!(next(&mut late).await.unwrap().contains("{\"missed\":null}"));
    assert!(next(&mut late).await.unwrap().contains("id: 6\n"));
}

#[tokio::test]
async fn readers_are_bounded_and_their_places_free_again() {
    let api = Api::new().await;
    let (first, second) = (open(&api, None).await, open(&api, None).await);
    let refused = open(&api, None).await;
    assert_eq!(
        (first.status().as_u16(), second.status().as_u16(), refused.status().as_u16()),
        (200, 200, 503)
    );
    drop(first);
    assert_eq!(open(&api, None).await.status(), StatusCode::OK);
    assert_eq!(open(&api, Some("x")).await.status(), StatusCode::BAD_REQUEST);
}

/// A compressor would hold back what a reader waits for.
#[tokio::test]
async fn streams_are_not_compressed_and_what_happens_is_told_at_once() {
    let api = Api::new().await;
    for path in ["/v1/events".to_owned(), format!("/v1/records/watch?domain={}", testing::DOMAIN)] {
        let request = Request::get(&path).header("accept-encoding", "gzip, deflate, br, zstd");
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(admin());
        let response = api.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert!(!response.headers().contains_key("content-encoding"), "{path}: {:?}", response.headers());
        api.api.state.events.publish(event("lon"));
        let told = next(&mut response.into_body()).await.unwrap();
        assert!(told.contains("event: transition\n") || told.contains("event: current\n"), "{path}: {told}");
    }
}

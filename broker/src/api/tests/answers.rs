//! What is sent small, and what is made once for many.

use super::*;

#[tokio::test]
async fn what_is_large_is_sent_small_to_those_who_take_it_and_the_fleet_is_told_alike_for_a_moment() {
    let mut api = Api::new().await;
    let ask = |path: &'static str| Request::get(path).header("accept-encoding", "gzip");
    let small = api.send(admin(), ask("/v1/fleet"), Body::empty()).await;
    let plain = api.get(admin(), "/v1/fleet").await;
    assert_eq!((small.header("content-encoding"), plain.header("content-encoding")), ("gzip", ""));
    assert!(small.header("vary").contains("accept-encoding"), "{:?}", small.headers);
    assert!(small.body.len() * 3 < plain.body.len(), "{} of {}", small.body.len(), plain.body.len());
    assert_eq!(api.send(admin(), ask("/healthz"), Body::empty()).await.header("content-encoding"), "");
    // Ages are in it, so that it would be another if it were made anew.
    let told = tokio::time::timeout(std::time::Duration::from_secs(20), async {
        loop {
            let (one, other) = (api.get(admin(), "/v1/fleet").await, api.get(admin(), "/v1/fleet").await);
            if one.body == other.body {
                return one.body;
            }
        }
    });
    let told = told.await.expect("two within a quarter of a second");
    // What was concluded since is told at once.
    api.fixture.set_state("lon", nearmost_core::health::State::Down);
    let now = api.get(admin(), "/v1/fleet").await;
    assert_ne!(now.body, told);
    assert!(now.text().contains("\"down\""));
}

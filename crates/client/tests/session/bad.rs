//! Mirrors that are not who they should be, or say what they should not.

use super::hub::ToHub;
use super::mirror::Mirror;
use super::world::{builder, echoed, event, mirrors, settled, soon, until};
use nearmost_client::identity::{KeyPair, Role};
use nearmost_client::session::{Count, Event, SessionError};
use nearmost_wire::frame;
use nearmost_wire::ingress::close::Refusal;
use nearmost_wire::ingress::control::{self, Accepted, ToClient};
use std::time::Duration;

#[tokio::test]
async fn a_mirror_with_another_key_is_never_attached() {
    let mirrors = mirrors(1..3);
    let mut imposter = mirrors[0].known();
    imposter.node = KeyPair::from_seed(Role::Node, &[99; 32]).id();
    let alone = builder(&[]).mirror(imposter.clone()).within(Duration::from_millis(1500)).connect().await;
    let Err(SessionError::NotAttached { problems, .. }) = alone else { panic!("attached") };
    assert!(problems[0].0 == imposter.node && problems[0].1.contains("another node"), "{problems:?}");
    let session = builder(&mirrors[1..]).mirror(imposter).connect().await.unwrap();
    let primary = soon(session.attached()).await.unwrap();
    // Tried as a standby, where it was not tried before.
    let tried = async {
        while session.count(Count::WrongKey) == 0 {
            tokio::task::yield_now().await;
        }
    };
    soon(tried).await;
    assert_eq!(primary, mirrors[1].id());
    assert_eq!(mirrors[0].attached.borrow().all, 0);
}

/// The primary says something bad: it is left for the other one, and told why.
async fn left_for(bad: ToHub, refusal: Refusal) {
    let mirrors: Vec<Mirror> = mirrors(1..3);
    let session = builder(&mirrors).connect().await.unwrap();
    let mut events = session.events();
    let (primary, standby) = settled(&session, &mirrors).await;
    mirrors[primary].tell(bad).await;
    let moved = event(&mut events, |event| matches!(event, Event::Moved { .. })).await;
    let to = mirrors[standby].id();
    assert!(matches!(moved, Event::Moved { to: is, .. } if is == to), "{moved:?}");
    let code = until(&mirrors[primary].closed, Option::is_some).await;
    assert_eq!(code.and_then(Refusal::from_code), Some(refusal));
    assert_eq!(session.count(Count::BadInput), 1);
    echoed(&session, 1, b"still here").await;
}

#[tokio::test]
async fn a_mirror_that_sends_garbage_is_left() {
    left_for(ToHub::Garbage(vec![0xff; 30]), Refusal::BadDatagram).await;
}

#[tokio::test]
async fn a_mirror_that_speaks_out_of_order_is_left() {
    let again = Accepted { role: control::Role::Primary, udp: true, tcp: true, max_flows: 1 };
    let again = frame::encode(&ToClient::Accepted(again)).unwrap();
    left_for(ToHub::Say(again), Refusal::OutOfOrder).await;
}

#[tokio::test]
async fn a_mirror_of_another_version_is_left() {
    left_for(ToHub::Say(vec![0, 0, 0, 2, 99, 0]), Refusal::BadMessage).await;
}

//! A session is attached, and work is done.

use super::hub::COPIED;
use super::world::{builder, echoed, mirrors, settled, soon, until};
use nearmost_client::session::{COMMANDS, Count, MOST_MIRRORS, SendError, Session, SessionError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn packets_and_streams_are_echoed_and_a_standby_is_kept_warm() {
    let mirrors = mirrors(1..4);
    let session = builder(&mirrors).connect().await.unwrap();
    let (primary, _) = settled(&session, &mirrors).await;
    assert_eq!(session.primary(), Some(mirrors[primary].id()));
    for (flow, payload) in [(1, &b"one"[..]), (2, b"two"), (1, b""), (u64::from(u32::MAX), b"far")] {
        echoed(&session, flow, payload).await;
    }
    let mut stream = soon(session.open_stream()).await.unwrap();
    assert_eq!(stream.mirror(), mirrors[primary].id());
    stream.write_all(b"over TCP").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = Vec::new();
    soon(stream.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"over TCP");
    drop(stream);
    assert_eq!(until(&mirrors[primary].streams, |(ended, broken)| ended + broken == 1).await, (1, 0));
    assert_eq!(session.count(Count::BadInput) + session.count(Count::NoTripwire), 0);
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_by_name() {
    let mirrors = mirrors(1..2);
    let session = builder(&mirrors).start().unwrap();
    assert_eq!(session.send(1, b"early"), Err(SendError::NotAttached));
    soon(session.attached()).await.unwrap();
    let large = vec![0; 4000];
    assert!(matches!(session.send(1, &large), Err(SendError::TooLarge { have: 4000, .. })));
    assert_eq!(session.send(1 << 62, b"nowhere"), Err(SendError::Flow(1 << 62)));
    // The driver has this thread no sooner than it is waited for.
    for _ in 0..COMMANDS {
        session.send(1, b"many").unwrap();
    }
    assert_eq!(session.send(1, b"one more"), Err(SendError::Full));
    let other = session.clone();
    soon(session.close()).await;
    assert_eq!(other.send(1, b"late"), Err(SendError::Closed));
    while soon(other.recv()).await.is_some() {}
    assert_eq!(other.primary(), None);
    // Told, for all that had to leave before; a mirror that is not waits for 15 s.
    let told = until(&mirrors[0].attached, |attached| attached.all == 0);
    tokio::time::timeout(Duration::from_secs(5), told).await.unwrap();
}

#[tokio::test]
async fn mirrors_that_make_no_session_are_refused_by_name() {
    let one = mirrors(1..2);
    let known = one[0].known();
    let none = Session::builder("play.example").start();
    assert!(matches!(none, Err(SessionError::NoMirrors(domain)) if domain == "play.example"));
    let twice = Session::builder("play.example").mirror(known.clone()).mirror(known.clone()).start();
    assert!(matches!(twice, Err(SessionError::Twice(node)) if node == known.node));
    let many = (0..=MOST_MIRRORS)
        .fold(Session::builder("play.example"), |builder, _| builder.mirror(known.clone()))
        .start();
    assert!(matches!(many, Err(SessionError::TooManyMirrors(65))));
    assert!(matches!(Session::builder("no name").mirror(known).start(), Err(SessionError::Domain(_))));
}

#[tokio::test]
async fn a_copy_is_taken_once() {
    let mirrors = mirrors(1..2);
    let session = builder(&mirrors).connect().await.unwrap();
    session.send(1, COPIED).unwrap();
    assert_eq!(soon(session.recv()).await.unwrap().payload, COPIED);
    // Came behind the copy, by the same connection.
    session.send(1, b"next").unwrap();
    assert_eq!(soon(session.recv()).await.unwrap().payload, b"next");
    assert_eq!(session.count(Count::Duplicates), 1);
}

#[tokio::test]
async fn a_stream_that_is_dropped_is_one_that_broke() {
    let mirrors = mirrors(1..2);
    let session = builder(&mirrors).connect().await.unwrap();
    let mut stream = soon(session.open_stream()).await.unwrap();
    stream.write_all(b"the first half of").await.unwrap();
    drop(stream);
    assert_eq!(until(&mirrors[0].streams, |(ended, broken)| ended + broken == 1).await, (0, 1));
}

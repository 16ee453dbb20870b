//! A primary dies, drains or is joined by nobody.

use super::hub::ToHub;
use super::mirror::Mirror;
use super::world::{builder, echoed, event, mirrors, place, settled, soon, until};
use nearmost_client::clock::mono_now;
use nearmost_client::session::{Count, Duplicate, Event, Mode, MoveReason, Session};
use nearmost_wire::frame;
use nearmost_wire::ingress::control::ToClient;
use std::collections::HashSet;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Sends a numbered packet each 10 ms and collects what comes back, until `enough` says so of the numbers
/// sent and received. Says the longest time between two packets that came, too.
async fn streamed(
    session: &Session,
    mut enough: impl FnMut(u64, &HashSet<u64>) -> bool,
) -> (HashSet<u64>, Duration) {
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    let (mut sent, mut received) = (0u64, HashSet::new());
    let (mut last, mut longest) = (mono_now(), Duration::ZERO);
    let run = async {
        while !enough(sent, &received) {
            tokio::select! {
                _ = tick.tick() => {
                    // Refused while there is no primary: then it is lost.
                    let _ = session.send(9, &sent.to_be_bytes());
                    sent += 1;
                }
                Some(packet) = session.recv() => {
                    let number = <[u8; 8]>::try_from(&packet.payload[..]);
                    received.insert(u64::from_be_bytes(number.expect("a number")));
                    let now = mono_now();
                    longest = longest.max(now - last);
                    last = now;
                }
            }
        }
    };
    soon(run).await;
    (received, longest)
}

#[tokio::test]
async fn a_killed_primary_costs_less_than_a_second() {
    let mut mirrors = mirrors(1..4);
    let session = builder(&mirrors).connect().await.unwrap();
    let mut events = session.events();
    let (primary, standby) = settled(&session, &mirrors).await;
    let mut stream = soon(session.open_stream()).await.unwrap();
    stream.write_all(b"half").await.unwrap();
    stream.read_exact(&mut [0; 4]).await.unwrap();
    let (from, to) = (mirrors[primary].id(), mirrors[standby].id());
    let mut killed_at = None;
    let (received, longest) = streamed(&session, |sent, received| {
        if killed_at.is_none() && received.len() >= 30 {
            mirrors[primary].kill();
            killed_at = Some(sent);
        }
        killed_at.is_some_and(|at| received.iter().filter(|n| **n > at).count() >= 50)
    })
    .await;
    let moved = event(&mut events, |event| matches!(event, Event::Moved { .. })).await;
    println!("killed: {moved:?}; longest silence of a 10 ms stream {longest:?}, {} back", received.len());
    let Event::Moved { from: was, to: is, reason, gap } = moved else { unreachable!() };
    assert_eq!((was, is, reason), (from, to, MoveReason::Tripwire));
    assert!(gap < Duration::from_secs(1) && longest < Duration::from_secs(1));
    assert_eq!(session.primary(), Some(to));
    // The stream died with its mirror, and says so.
    let end = soon(stream.read(&mut [0; 4])).await;
    assert!(end.is_err(), "{end:?}");
}

#[tokio::test]
async fn a_drain_loses_nothing() {
    let mirrors = mirrors(1..4);
    let session = builder(&mirrors).connect().await.unwrap();
    let mut events = session.events();
    let (primary, _) = settled(&session, &mirrors).await;
    let from = mirrors[primary].id();
    let hub = mirrors[primary].hub.clone();
    let mut drained = false;
    let (received, longest) = streamed(&session, |sent, received| {
        if !drained && sent >= 50 {
            drained = hub.try_send(ToHub::Drain(Duration::from_secs(10))).is_ok();
        }
        received.contains(&199) || sent > 400
    })
    .await;
    let lost: Vec<u64> = (0..199).filter(|number| !received.contains(number)).collect();
    let moved = event(&mut events, |event| matches!(event, Event::Moved { .. })).await;
    println!("drained: {moved:?}; longest silence of a 10 ms stream {longest:?}");
    assert!(matches!(moved, Event::Moved { from: was, reason: MoveReason::Drain, .. } if was == from));
    assert_eq!(lost, [0; 0]);
    until(&mirrors[primary].attached, |attached| attached.all == 0).await;
}

#[tokio::test]
async fn when_all_are_dead_the_session_is_lost_and_comes_back() {
    let mut mirrors = mirrors(1..3);
    let session = builder(&mirrors).connect().await.unwrap();
    let mut events = session.events();
    settled(&session, &mirrors).await;
    mirrors.iter_mut().for_each(Mirror::kill);
    let lost = event(&mut events, |event| matches!(event, Event::Lost { .. })).await;
    assert_eq!(session.primary(), None);
    assert!(soon(session.open_stream()).await.is_err());
    mirrors[0] = soon(mirrors[0].again()).await;
    let back = event(&mut events, |event| matches!(event, Event::Attached { .. } | Event::Moved { .. }));
    let back = back.await;
    println!("{lost:?}; {back:?}");
    let (Event::Attached { to } | Event::Moved { to, .. }) = back else { unreachable!() };
    assert_eq!(place(&mirrors, to), 0);
    echoed(&session, 3, b"again").await;
    assert_eq!(session.count(Count::BadInput), 0);
}

/// The primary stands still in the middle of a stream. Says which of the packets sent until then and long
/// after came back.
async fn stopped(duplicate: Duplicate) -> Vec<u64> {
    let mut mirrors = mirrors(1..4);
    let session = builder(&mirrors).mode(Mode::Datagram(duplicate)).connect().await.unwrap();
    let mut events = session.events();
    let (primary, standby) = settled(&session, &mirrors).await;
    let mut stopped = None;
    let (received, longest) = streamed(&session, |sent, received| {
        if stopped.is_none() && received.len() >= 30 {
            mirrors[primary].hang();
            stopped = Some(sent);
        }
        stopped.is_some_and(|at| received.iter().filter(|n| **n > at + 100).count() >= 20)
    })
    .await;
    let moved = event(&mut events, |event| matches!(event, Event::Moved { .. })).await;
    let (last, to) = (received.iter().max().copied().unwrap_or(0), mirrors[standby].id());
    let lost: Vec<u64> = (0..last).filter(|number| !received.contains(number)).collect();
    println!("stopped, {duplicate:?}: {moved:?}; longest silence {longest:?}, {} lost", lost.len());
    assert!(matches!(moved, Event::Moved { to: is, reason: MoveReason::Silence, .. } if is == to));
    assert!(longest < Duration::from_secs(1));
    lost
}

#[tokio::test]
async fn a_primary_that_stands_still_is_left_for_its_silence() {
    let lost = stopped(Duplicate::WhileDegraded).await;
    assert!(!lost.is_empty(), "a packet that went to a primary not yet in doubt is lost");
    stopped(Duplicate::Never).await;
}

#[tokio::test]
async fn what_always_goes_both_ways_is_not_lost_with_one() {
    assert_eq!(stopped(Duplicate::Always).await, [0; 0]);
}

#[tokio::test]
async fn streams_of_a_mirror_that_drains_end_there_in_peace() {
    for mode in [Mode::Stream, Mode::Datagram(Duplicate::default())] {
        drained_with_a_stream(mode).await;
    }
}

async fn drained_with_a_stream(mode: Mode) {
    let mirrors = mirrors(1..4);
    let session = builder(&mirrors).mode(mode).connect().await.unwrap();
    let mut events = session.events();
    let (primary, _) = settled(&session, &mirrors).await;
    let mut stream = soon(session.open_stream()).await.unwrap();
    mirrors[primary].tell(ToHub::Drain(Duration::from_secs(60))).await;
    event(&mut events, |event| matches!(event, Event::Moved { .. })).await;
    let other = soon(session.open_stream()).await.unwrap();
    // Longer than what a packet that is under way may take.
    let _ = tokio::time::timeout(Duration::from_millis(600), stream.read(&mut [0; 1])).await;
    assert!(stream.mirror() == mirrors[primary].id() && other.mirror() != stream.mirror());
    stream.write_all(b"the rest").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = String::new();
    soon(stream.read_to_string(&mut all)).await.unwrap();
    assert_eq!(all, "the rest");
    assert_eq!(mirrors[primary].attached.borrow().all, 1, "it was waited for");
    drop(stream);
    until(&mirrors[primary].attached, |attached| attached.all == 0).await;
}

#[tokio::test]
async fn a_mirror_that_drains_names_where_to_go() {
    let mirrors = mirrors(1..4);
    let session = builder(&mirrors).connect().await.unwrap();
    let mut events = session.events();
    let (primary, standby) = settled(&session, &mirrors).await;
    let third = (0..3).find(|at| ![primary, standby].contains(at)).unwrap();
    let drain = ToClient::Drain { go_to: mirrors[third].known().name, within_ms: 10_000 };
    mirrors[primary].tell(ToHub::Say(frame::encode(&drain).unwrap())).await;
    let moved = event(&mut events, |event| matches!(event, Event::Moved { .. })).await;
    let to = mirrors[third].id();
    assert!(matches!(moved, Event::Moved { to: is, reason: MoveReason::Drain, .. } if is == to), "{moved:?}");
}

#[tokio::test]
async fn a_primary_that_pauses_is_doubted_and_kept() {
    let mut mirrors = mirrors(1..2);
    let session = builder(&mirrors).connect().await.unwrap();
    let mut events = session.events();
    let primary = mirrors[0].id();
    echoed(&session, 1, b"before").await;
    mirrors[0].hang();
    assert_eq!(soon(events.next()).await, Some(Event::Degraded { primary }));
    mirrors[0].resume();
    assert_eq!(soon(events.next()).await, Some(Event::Restored { primary }));
    echoed(&session, 1, b"after").await;
    assert_eq!(session.primary(), Some(primary));
}

#[tokio::test]
async fn after_a_change_of_network_the_primary_is_asked_at_once() {
    let mirrors = mirrors(1..2);
    let session = builder(&mirrors).connect().await.unwrap();
    let mut events = session.events();
    let primary = mirrors[0].id();
    echoed(&session, 1, b"before").await;
    soon(session.network_changed()).await;
    assert_eq!(soon(events.next()).await, Some(Event::Degraded { primary }));
    assert_eq!(soon(events.next()).await, Some(Event::Restored { primary }));
}

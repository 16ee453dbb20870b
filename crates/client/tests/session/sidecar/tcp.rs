//! TCP: each connection is a stream.

use super::{Running, streams};
use crate::hub::ToHub;
use crate::mirror::{Mirror, Service};
use crate::world::{event, mirrors, soon, until};
use nearmost_client::clock::mono_now;
use nearmost_client::session::{Event, Mode, MoveReason, Session};
use nearmost_client::sidecar::tcp::{Settings, serve};
use nearmost_client::sidecar::{Count, Notice};
use nearmost_wire::ingress::flow::{OpenAnswer, OpenError};
use quinn::{RecvStream, SendStream};
use ring::digest::{SHA256, digest};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

async fn sidecar(session: &Session, settings: Settings) -> Running {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (address, session) = (listener.local_addr().unwrap(), session.clone());
    Running::run(address, move |counters, notices, stop| {
        serve(listener, session, settings, counters, notices, stop)
    })
}

/// A connection over which something was said and heard.
async fn talking(sidecar: &Running) -> TcpStream {
    let mut program = TcpStream::connect(sidecar.address).await.unwrap();
    program.write_all(b"hello").await.unwrap();
    soon(program.read_exact(&mut [0; 5])).await.unwrap();
    program
}

/// Bytes that differ from connection to connection.
fn bytes(of: usize, len: usize) -> Vec<u8> {
    (0..len).map(|n| ((n * 31 + of * 7919) ^ (n >> 8)) as u8).collect()
}

#[tokio::test]
async fn bytes_are_whole_over_many_connections() {
    let mirrors = mirrors(1..3);
    let (session, ..) = streams(&mirrors).await;
    let sidecar = sidecar(&session, Settings::default()).await;
    let address = sidecar.address;
    let mut programs = JoinSet::new();
    for n in 0..50 {
        programs.spawn(async move {
            let (sent, mut heard) = (bytes(n, 100_000 + n * 1000), Vec::new());
            let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
            let said = async {
                write.write_all(&sent).await.unwrap();
                // The end of the one way leaves the other open.
                write.shutdown().await.unwrap();
            };
            let ((), all) = tokio::join!(said, read.read_to_end(&mut heard));
            all.unwrap();
            assert_eq!(digest(&SHA256, &heard).as_ref(), digest(&SHA256, &sent).as_ref());
        });
    }
    soon(programs.join_all()).await;
    sidecar.counted(Count::Ended, 50).await;
    assert_eq!(sidecar.counters.get(Count::Broken), 0);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_connection_dies_with_its_mirror_and_new_ones_go_on() {
    let mut mirrors = mirrors(1..4);
    let (session, primary, standby) = streams(&mirrors).await;
    let mut events = session.events();
    let sidecar = sidecar(&session, Settings::default()).await;
    let mut programs = Vec::new();
    for _ in 0..10 {
        programs.push(talking(&sidecar).await);
    }
    mirrors[primary].kill();
    let moved = event(&mut events, |event| matches!(event, Event::Moved { .. })).await;
    let at = mono_now();
    for program in &mut programs {
        let end = soon(program.read(&mut [0; 5])).await;
        assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset, "not an end");
    }
    println!("reset {:?} after {moved:?}", at.elapsed());
    assert!(at.elapsed() < Duration::from_secs(1));
    talking(&sidecar).await;
    assert_eq!(session.primary(), Some(mirrors[standby].id()));
    sidecar.counted(Count::Broken, 10).await;
    sidecar.stop().await;
}

#[tokio::test]
async fn a_connection_at_a_mirror_that_stands_still_is_reset_when_it_is_left() {
    let mut mirrors = mirrors(1..3);
    let (session, primary, _) = streams(&mirrors).await;
    let mut events = session.events();
    let sidecar = sidecar(&session, Settings::default()).await;
    let mut program = talking(&sidecar).await;
    mirrors[primary].hang();
    event(&mut events, |event| matches!(event, Event::Moved { reason: MoveReason::Silence, .. })).await;
    let end = soon(program.read(&mut [0; 5])).await;
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    talking(&sidecar).await;
    sidecar.stop().await;
}

#[tokio::test]
async fn a_connection_at_a_mirror_that_drains_ends_there_in_peace() {
    let mirrors = mirrors(1..3);
    let (session, primary, standby) = streams(&mirrors).await;
    let mut events = session.events();
    let sidecar = sidecar(&session, Settings::default()).await;
    let mut program = talking(&sidecar).await;
    mirrors[primary].tell(ToHub::Drain(Duration::from_secs(60))).await;
    event(&mut events, |event| matches!(event, Event::Moved { .. })).await;
    let other = talking(&sidecar).await;
    assert_eq!(session.primary(), Some(mirrors[standby].id()));
    program.write_all(b"the rest").await.unwrap();
    program.shutdown().await.unwrap();
    let mut rest = String::new();
    soon(program.read_to_string(&mut rest)).await.unwrap();
    assert_eq!(rest, "the rest");
    drop(other);
    until(&mirrors[primary].attached, |attached| attached.all == 0).await;
    sidecar.stop().await;
}

#[tokio::test]
async fn a_program_that_breaks_is_broken_to_the_service() {
    let mirrors = mirrors(1..2);
    let session = crate::world::builder(&mirrors).connect().await.unwrap();
    let sidecar = sidecar(&session, Settings::default()).await;
    let program = talking(&sidecar).await;
    socket2::SockRef::from(&program).set_linger(Some(Duration::ZERO)).unwrap();
    drop(program);
    assert_eq!(until(&mirrors[0].streams, |(ended, broken)| ended + broken == 1).await, (0, 1));
    sidecar.stop().await;
}

/// Takes the first connections for nothing, as a service that restarts does; then hears and says nothing.
struct Restarts(AtomicUsize);

impl Service for Restarts {
    fn open(&self) -> OpenAnswer {
        match self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => OpenAnswer::Failed { code: OpenError::Refused },
            Err(_) => OpenAnswer::Opened,
        }
    }

    fn serve(&self, mut send: SendStream, mut recv: RecvStream) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let _ = tokio::io::copy(&mut recv, &mut send).await;
        })
    }
}

#[tokio::test]
async fn a_program_that_dies_after_it_said_its_end_is_noticed() {
    // The service never ends its side.
    struct Silent;
    impl Service for Silent {
        fn open(&self) -> OpenAnswer {
            OpenAnswer::Opened
        }
        fn serve(
            &self,
            mut send: SendStream,
            mut recv: RecvStream,
        ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(async move {
                let _ = recv.read_to_end(100).await;
                let _ = send.write_all(b"heard").await;
                let _ = send.stopped().await;
            })
        }
    }
    let mirrors = [Mirror::serving(1, Arc::new(Silent))];
    let session = crate::world::builder(&mirrors).connect().await.unwrap();
    let sidecar = sidecar(&session, Settings::default()).await;
    let mut program = TcpStream::connect(sidecar.address).await.unwrap();
    program.write_all(b"all").await.unwrap();
    program.shutdown().await.unwrap();
    soon(program.read_exact(&mut [0; 5])).await.unwrap();
    socket2::SockRef::from(&program).set_linger(Some(Duration::ZERO)).unwrap();
    drop(program);
    sidecar.counted(Count::Broken, 1).await;
    sidecar.stop().await;
}

#[tokio::test]
async fn a_program_that_dies_after_the_service_said_its_end_is_noticed() {
    // The service hears nothing more either, so that nothing that is written moves.
    struct Deaf;
    impl Service for Deaf {
        fn open(&self) -> OpenAnswer {
            OpenAnswer::Opened
        }
        fn serve(&self, mut send: SendStream, recv: RecvStream) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(async move {
                let _ = send.finish();
                std::future::pending::<()>().await;
                drop(recv);
            })
        }
    }
    let mirrors = [Mirror::serving(1, Arc::new(Deaf))];
    let session = crate::world::builder(&mirrors).connect().await.unwrap();
    let sidecar = sidecar(&session, Settings::default()).await;
    let mut program = TcpStream::connect(sidecar.address).await.unwrap();
    assert_eq!(soon(program.read(&mut [0])).await.unwrap(), 0);
    // Until everything in between is full, which nothing tells.
    let chunk = [0; 65536];
    while tokio::time::timeout(Duration::from_millis(300), program.write(&chunk)).await.is_ok() {}
    socket2::SockRef::from(&program).set_linger(Some(Duration::ZERO)).unwrap();
    drop(program);
    sidecar.counted(Count::Broken, 1).await;
    sidecar.stop().await;
}

#[tokio::test]
async fn a_mirror_whose_service_takes_nobody_is_left_for_another() {
    let services = [0, 1].map(|_| Arc::new(Restarts(AtomicUsize::new(0))));
    let mirrors = [1, 2].map(|seed| Mirror::serving(seed, services[usize::from(seed) - 1].clone()));
    let (session, primary, standby) = streams(&mirrors).await;
    let sidecar = sidecar(&session, Settings::default()).await;
    services[primary].0.store(usize::MAX, Ordering::SeqCst);
    talking(&sidecar).await;
    assert_eq!(session.primary(), Some(mirrors[standby].id()));
    assert_eq!(sidecar.counters.get(Count::Unreached), 0);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_mirror_without_a_service_over_tcp_is_left_for_another() {
    let mut mirrors = mirrors(1..3);
    mirrors[1].kill();
    mirrors[0].tell(ToHub::NoTcp).await;
    let session = crate::world::builder(&mirrors).mode(Mode::Stream).connect().await.unwrap();
    assert_eq!(session.primary(), Some(mirrors[0].id()));
    let sidecar = sidecar(&session, Settings::default()).await;
    mirrors[1] = mirrors[1].again().await;
    talking(&sidecar).await;
    assert_eq!(session.primary(), Some(mirrors[1].id()));
    sidecar.stop().await;
}

#[tokio::test]
async fn a_service_that_restarts_is_tried_again_and_one_that_does_not_return_is_a_reset() {
    let mirrors = [Mirror::serving(1, Arc::new(Restarts(AtomicUsize::new(3))))];
    let session = crate::world::builder(&mirrors).connect().await.unwrap();
    let sidecar = sidecar(&session, Settings::default()).await;
    talking(&sidecar).await;
    sidecar.stop().await;

    let mirrors = [Mirror::serving(2, Arc::new(Restarts(AtomicUsize::new(usize::MAX))))];
    let session = crate::world::builder(&mirrors).connect().await.unwrap();
    let mut sidecar = self::sidecar(&session, Settings::default()).await;
    let mut program = TcpStream::connect(sidecar.address).await.unwrap();
    let end = soon(program.read(&mut [0])).await;
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let notice = soon(sidecar.notices.recv()).await.unwrap().to_string();
    assert!(notice.contains("refused") && notice.contains("nothing was sent"), "{notice}");
    assert_eq!(sidecar.counters.get(Count::Unreached), 1);
    sidecar.stop().await;
}

#[tokio::test]
async fn one_connection_too_many_is_reset_and_the_others_stay() {
    let mirrors = mirrors(1..2);
    let session = crate::world::builder(&mirrors).connect().await.unwrap();
    let settings = Settings { most_connections: 2, ..Settings::default() };
    let mut sidecar = sidecar(&session, settings).await;
    let (mut one, two) = (talking(&sidecar).await, talking(&sidecar).await);
    let mut third = TcpStream::connect(sidecar.address).await.unwrap();
    assert!(soon(third.read(&mut [0])).await.is_err());
    assert!(matches!(soon(sidecar.notices.recv()).await, Some(Notice::TooMany { most: 2, .. })));
    one.write_all(b"stays").await.unwrap();
    soon(one.read_exact(&mut [0; 5])).await.unwrap();
    drop((one, two));
    sidecar.counted(Count::Ended, 2).await;
    talking(&sidecar).await;
    sidecar.stop().await;
}

#[tokio::test]
async fn what_is_open_may_end_within_the_grace_and_is_reset_after_it() {
    let mirrors = mirrors(1..2);
    let session = crate::world::builder(&mirrors).connect().await.unwrap();
    let settings = Settings { grace: Duration::from_secs(2), ..Settings::default() };
    let sidecar = sidecar(&session, settings).await;
    let (mut ends, mut stays) = (talking(&sidecar).await, talking(&sidecar).await);
    let address = sidecar.address;
    let stopped = tokio::spawn(sidecar.stop());
    soon(async { while TcpStream::connect(address).await.is_ok() {} }).await;
    ends.write_all(b"bye").await.unwrap();
    ends.shutdown().await.unwrap();
    let mut said = String::new();
    soon(ends.read_to_string(&mut said)).await.unwrap();
    assert_eq!(said, "bye");
    assert!(soon(stays.read(&mut [0])).await.is_err());
    soon(stopped).await.unwrap();
}

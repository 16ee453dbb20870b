//! HTTP connections of programs: how long one may be silent, and how one ends.

use super::http::{settings, sidecar};
use super::{Running, streams};
use crate::mirror::{Mirror, Service};
use crate::world::soon;
use nearmost_client::sidecar::Count;
use nearmost_wire::ingress::flow::OpenAnswer;
use quinn::{RecvStream, SendStream};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_millis(400);

/// Hears requests and answers none.
struct Silent;

impl Service for Silent {
    fn open(&self) -> OpenAnswer {
        OpenAnswer::Opened
    }

    fn serve(&self, send: SendStream, mut recv: RecvStream) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            while let Ok(Some(_)) = recv.read_chunk(4096, true).await {}
            drop(send);
        })
    }
}

async fn patient(patience: Duration, most: usize) -> (Vec<Mirror>, Running) {
    let mirrors: Vec<_> = (1..3).map(|seed| Mirror::serving(seed, Arc::new(Silent))).collect();
    let (session, ..) = streams(&mirrors).await;
    let mut settings = settings();
    settings.patience = patience;
    settings.port.most_connections = most;
    let sidecar = sidecar(&session, settings).await;
    (mirrors, sidecar)
}

/// What is heard until the end, however it comes.
async fn to_the_end(program: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let _ = soon(program.read_to_end(&mut heard)).await;
    heard
}

#[tokio::test]
async fn who_asks_for_nothing_holds_no_place_for_long() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let empty_settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let with_settings = [&preface[..], &empty_settings].concat();
    let (_mirrors, sidecar) = patient(PATIENCE, 1).await;
    for says in [&b""[..], b"PRI", b"GET", b"GET / HTTP/1.1\r\nHost: a", preface, &with_settings] {
        let taken = sidecar.counters.get(Count::Connections);
        // There is one place; whoever is refused comes again.
        let comes = async {
            while sidecar.counters.get(Count::Connections) == taken {
                let mut program = TcpStream::connect(sidecar.address).await.unwrap();
                let _ = program.write_all(says).await;
                to_the_end(&mut program).await;
            }
        };
        soon(comes).await;
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn a_short_body_has_as_long_to_come_and_an_answer_all_the_time() {
    let (_mirrors, sidecar) = patient(PATIENCE, 10).await;
    let mut slow = TcpStream::connect(sidecar.address).await.unwrap();
    slow.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf").await.unwrap();
    let heard = String::from_utf8(to_the_end(&mut slow).await).unwrap();
    assert!(heard.starts_with("HTTP/1.1 408"), "{heard}");
    assert_eq!(sidecar.counters.get(Count::GivenUp), 1);
    let mut waits = TcpStream::connect(sidecar.address).await.unwrap();
    waits.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let answer = tokio::time::timeout(PATIENCE * 5, waits.read(&mut [0])).await;
    assert!(answer.is_err(), "it waits on: {answer:?}");
    sidecar.stop().await;
}

#[tokio::test]
async fn who_closes_its_side_before_the_answer_gives_its_request_up() {
    let (_mirrors, sidecar) = patient(Duration::from_secs(60), 10).await;
    let mut program = TcpStream::connect(sidecar.address).await.unwrap();
    program.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    sidecar.counted(Count::Requests, 1).await;
    program.shutdown().await.unwrap();
    assert!(to_the_end(&mut program).await.is_empty());
    sidecar.counted(Count::GivenUp, 1).await;
    sidecar.stop().await;
}

//! HTTP bodies and what frames them, through services that say exactly what they are told to.

use super::http::{settings, sidecar};
use super::{Running, streams};
use crate::mirror::{Mirror, Service};
use crate::world::soon;
use nearmost_client::sidecar::{Count, Notice};
use nearmost_wire::ingress::flow::{OpenAnswer, OpenError};
use quinn::{RecvStream, SendStream};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Says the same whenever a request is whole, and keeps what it heard.
struct Raw {
    /// How a request ends.
    until: &'static str,
    says: &'static str,
    heard: Arc<Mutex<String>>,
}

impl Service for Raw {
    fn open(&self) -> OpenAnswer {
        OpenAnswer::Opened
    }

    fn serve(&self, mut send: SendStream, mut recv: RecvStream) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (until, says, all) = (self.until, self.says, self.heard.clone());
        Box::pin(async move {
            let mut request = String::new();
            while let Ok(Some(chunk)) = recv.read_chunk(4096, true).await {
                request.push_str(std::str::from_utf8(&chunk.bytes).expect("UTF-8"));
                if request.ends_with(until) {
                    all.lock().unwrap().push_str(&std::mem::take(&mut request));
                    let _ = send.write_all(says.as_bytes()).await;
                }
            }
            let _ = send.finish();
            let _ = send.stopped().await;
        })
    }
}

struct Scene {
    _mirrors: Vec<Mirror>,
    sidecar: Running,
    heard: Arc<Mutex<String>>,
}

async fn scene(until: &'static str, says: &'static str) -> Scene {
    let heard = Arc::<Mutex<String>>::default();
    let raw = |seed| Mirror::serving(seed, Arc::new(Raw { until, says, heard: heard.clone() }));
    let mirrors: Vec<_> = (1..3).map(raw).collect();
    let (session, ..) = streams(&mirrors).await;
    let sidecar = sidecar(&session, settings()).await;
    Scene { _mirrors: mirrors, sidecar, heard }
}

impl Scene {
    async fn program(&self) -> TcpStream {
        TcpStream::connect(self.sidecar.address).await.unwrap()
    }

    /// All whole requests, in lower case.
    fn heard(&self) -> String {
        self.heard.lock().unwrap().to_lowercase()
    }
}

/// Says a request and reads until something is heard.
async fn asked(program: &mut TcpStream, says: &str, until: &str) -> String {
    program.write_all(says.as_bytes()).await.unwrap();
    let mut heard = String::new();
    let mut bytes = [0; 4096];
    while !heard.contains(until) {
        let n = soon(program.read(&mut bytes)).await.unwrap();
        assert!(n > 0, "it ended: {heard}");
        heard.push_str(std::str::from_utf8(&bytes[..n]).unwrap());
    }
    heard
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn an_answer_with_trailers_is_whole_and_its_connection_goes_on() {
    let says = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
                3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n";
    let scene = scene("\r\n\r\n", says).await;
    let mut program = scene.program().await;
    for n in 1..4 {
        let heard = asked(&mut program, GET, "\r\n0\r\n\r\n").await;
        assert!(heard.contains("abc"), "{heard}");
        scene.sidecar.counted(Count::Answered, n).await;
    }
    assert_eq!(scene.sidecar.counters.get(Count::GivenUp), 0);
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn a_get_has_its_body_also_where_no_length_is_said() {
    let scene = scene("0\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n").await;
    let get = "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    asked(&mut scene.program().await, get, "204").await;
    let heard = scene.heard();
    assert!(heard.contains("transfer-encoding: chunked\r\n") && heard.contains("abc"), "{heard}");
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn a_length_beside_chunks_says_nothing_and_is_not_handed_on() {
    let scene = scene("0\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n").await;
    for fields in
        ["Content-Length: 3\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 3"]
    {
        let post = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n5\r\nabcde\r\n0\r\n\r\n");
        asked(&mut scene.program().await, &post, "204").await;
    }
    let heard = scene.heard();
    assert_eq!((heard.matches("abcde").count(), heard.contains("content-length")), (2, false), "{heard}");
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn other_codings_than_chunked_are_refused_both_ways() {
    for says in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    ] {
        let scene = scene("\r\n\r\n", says).await;
        let heard = asked(&mut scene.program().await, GET, "\r\n\r\n").await;
        assert!(heard.starts_with("HTTP/1.1 502") && heard.contains("coding"), "{heard}");
        scene.sidecar.stop().await;
    }
    let scene = scene("\r\n\r\n", "").await;
    let post = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    let heard = asked(&mut scene.program().await, post, "\r\n\r\n").await;
    assert!(heard.starts_with("HTTP/1.1 501"), "{heard}");
    assert_eq!((scene.heard().as_str(), scene.sidecar.counters.get(Count::Bad)), ("", 1));
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn an_answer_of_many_fields_is_an_answer() {
    let fields: String = (0..300).map(|n| format!("x-{n}: {n}\r\n")).collect();
    let says = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{fields}\r\nok");
    let scene = scene("\r\n\r\n", says.leak()).await;
    let heard = asked(&mut scene.program().await, GET, "\r\n\r\nok").await;
    assert!(heard.starts_with("HTTP/1.1 200") && heard.contains("x-299: 299"), "{heard}");
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    asked(&mut scene.program().await, &many, "\r\n\r\nok").await;
    assert!(scene.heard().contains("x-299: 299"));
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn answers_without_a_body_leave_the_connection_for_the_next() {
    for (method, says) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n"),
    ] {
        let scene = scene("\r\n\r\n", says).await;
        let mut program = scene.program().await;
        for n in 1..6 {
            let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
            let heard = asked(&mut program, &request, "\r\n\r\n").await;
            assert!(heard.starts_with(&says[..12]), "{heard}");
            scene.sidecar.counted(Count::Answered, n).await;
        }
        assert_eq!(scene.sidecar.counters.get(Count::GivenUp), 0, "{method} {says}");
        scene.sidecar.stop().await;
    }
}

#[tokio::test]
async fn a_program_that_gives_up_before_the_answer_is_counted_and_nobody_is_warned() {
    let mut scene = scene("never", "").await;
    let mut program = scene.program().await;
    program.write_all(GET.as_bytes()).await.unwrap();
    scene.sidecar.counted(Count::Requests, 1).await;
    drop(program);
    scene.sidecar.counted(Count::GivenUp, 1).await;
    // In the middle of a body that is handed on as it comes.
    for head in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let before = scene.sidecar.counters.get(Count::GivenUp);
        let mut program = scene.program().await;
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n5\r\nabcde\r\n");
        program.write_all(head.as_bytes()).await.unwrap();
        scene.sidecar.counted(Count::Requests, before + 1).await;
        drop(program);
        scene.sidecar.counted(Count::GivenUp, before + 1).await;
    }
    assert!(scene.sidecar.notices.try_recv().is_err());
    let counted = [Count::Unknown, Count::Unreached, Count::Retried].map(|c| scene.sidecar.counters.get(c));
    assert_eq!(counted, [0, 0, 0]);
    scene.sidecar.stop().await;
}

/// A frame of h2 (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[tokio::test]
async fn a_body_of_h2_that_is_reset_does_not_end() {
    let scene = scene("0\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n").await;
    let mut program = scene.program().await;
    program.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    program.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    let streams = (0..20).map(|n| n * 2 + 1);
    for stream in streams.clone() {
        // :method POST, :scheme http, :path /, :authority a
        let head = frame(1, 4, stream, &[0x83, 0x86, 0x84, 0x41, 1, b'a']);
        program.write_all(&[head, frame(0, 0, stream, b"half of it")].concat()).await.unwrap();
    }
    scene.sidecar.counted(Count::Requests, 20).await;
    for stream in streams {
        // RST_STREAM with NO_ERROR.
        program.write_all(&frame(3, 0, stream, &[0; 4])).await.unwrap();
    }
    scene.sidecar.counted(Count::GivenUp, 20).await;
    assert_eq!(scene.heard(), "", "no request came to its end");
    drop(program);
    scene.sidecar.stop().await;
}

/// Takes one connection, reads of it and drops it; then takes none.
struct Once(AtomicBool);

impl Service for Once {
    fn open(&self) -> OpenAnswer {
        match self.0.swap(true, Ordering::SeqCst) {
            true => OpenAnswer::Failed { code: OpenError::Refused },
            false => OpenAnswer::Opened,
        }
    }

    fn serve(&self, mut send: SendStream, mut recv: RecvStream) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            let _ = recv.read_chunk(4096, true).await;
            let _ = send.finish();
            let _ = send.stopped().await;
        })
    }
}

#[tokio::test]
async fn what_was_sent_once_is_never_said_to_be_unsent() {
    let mirrors = [Mirror::serving(1, Arc::new(Once(AtomicBool::new(false))))];
    let session = crate::world::builder(&mirrors).connect().await.unwrap();
    let mut sidecar = sidecar(&session, settings()).await;
    let mut program = TcpStream::connect(sidecar.address).await.unwrap();
    let heard = asked(&mut program, GET, "\r\n\r\n").await;
    assert!(heard.starts_with("HTTP/1.1 502"), "{heard}");
    let notice = soon(sidecar.notices.recv()).await.unwrap();
    assert!(matches!(&notice, Notice::Unknown { at, .. } if *at == mirrors[0].id()), "{notice}");
    assert!(sidecar.notices.try_recv().is_err());
    let counted = [Count::Unknown, Count::Unreached].map(|what| sidecar.counters.get(what));
    assert_eq!(counted, [1, 0]);
    sidecar.stop().await;
}

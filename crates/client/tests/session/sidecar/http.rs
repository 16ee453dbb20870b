//! HTTP: each request goes where it may.

use super::site::{Answered, Site, half, whole};
use super::{Running, streams};
use crate::hub::ToHub;
use crate::mirror::{Mirror, Service};
use crate::world::{event, soon, until};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nearmost_client::session::{Event, Session};
use nearmost_client::sidecar::http::{PATIENCE, Settings, serve};
use nearmost_client::sidecar::{Count, Notice, tcp};
use nearmost_wire::ingress::flow::OpenAnswer;
use quinn::{RecvStream, SendStream};
use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub fn settings() -> Settings {
    let port = tcp::Settings::default();
    Settings { port, domain: "play.example".into(), idempotency_keys: false, patience: PATIENCE }
}

pub async fn sidecar(session: &Session, settings: Settings) -> Running {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (address, session) = (listener.local_addr().unwrap(), session.clone());
    Running::run(address, move |counters, notices, stop| {
        serve(listener, session, settings, counters, notices, stop)
    })
}

/// What the path says.
async fn answer(mut request: Request<Incoming>) -> Answered {
    match request.uri().path() {
        "/echo" => {
            let headers = request.headers().clone();
            let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
            let mut response = whole(body)?;
            for (name, value) in &headers {
                let name = format!("got-{name}");
                response
                    .headers_mut()
                    .append(name.parse::<hyper::header::HeaderName>().unwrap(), value.clone());
            }
            response.headers_mut().insert("keep-alive", "timeout=9".parse().unwrap());
            Ok(response)
        }
        "/close" => {
            let _ = request.into_body().collect().await;
            Err(io::Error::other("closed"))
        }
        "/half" => half(true),
        "/stuck" => half(false),
        "/never" => std::future::pending().await,
        "/tunnel" => {
            let protocol = request.headers()["upgrade"].clone();
            let upgraded = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded.await.unwrap()));
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
            let mut response = whole("")?;
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("connection", "upgrade".parse().unwrap());
            response.headers_mut().insert("upgrade", protocol);
            Ok(response)
        }
        other => panic!("{other}"),
    }
}

struct Scene {
    mirrors: Vec<Mirror>,
    sites: Vec<Arc<Site>>,
    session: Session,
    primary: usize,
    sidecar: Running,
}

async fn scene() -> Scene {
    let sites = vec![Site::new(answer), Site::new(answer)];
    let mirrors: Vec<_> = (1..).zip(&sites).map(|(seed, site)| Mirror::serving(seed, site.clone())).collect();
    let (session, primary, _) = streams(&mirrors).await;
    let sidecar = sidecar(&session, settings()).await;
    Scene { mirrors, sites, session, primary, sidecar }
}

type Sender = hyper::client::conn::http1::SendRequest<Full<Bytes>>;

async fn program(sidecar: &Running) -> Sender {
    let stream = TcpStream::connect(sidecar.address).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "a.example")
        .body(Full::new(body.into()))
        .unwrap()
}

async fn asked(program: &mut Sender, request: Request<Full<Bytes>>) -> (Response<()>, Bytes) {
    soon(program.ready()).await.unwrap();
    let (parts, body) = soon(program.send_request(request)).await.unwrap().into_parts();
    (Response::from_parts(parts, ()), soon(body.collect()).await.unwrap().to_bytes())
}

/// Writes something by hand, and reads until the end.
async fn by_hand(sidecar: &Running, says: &str) -> (String, io::Result<()>) {
    let mut program = TcpStream::connect(sidecar.address).await.unwrap();
    program.write_all(says.as_bytes()).await.unwrap();
    let mut heard = Vec::new();
    let end = soon(program.read_to_end(&mut heard)).await.map(|_| ());
    (String::from_utf8_lossy(&heard).into_owned(), end)
}

/// Reads until it ends like this.
async fn heard_to(program: &mut TcpStream, end: &str) -> String {
    let mut heard = Vec::new();
    while !heard.ends_with(end.as_bytes()) {
        let n = soon(program.read_buf(&mut heard)).await.unwrap();
        assert!(n > 0, "it ended: {}", String::from_utf8_lossy(&heard));
    }
    String::from_utf8(heard).unwrap()
}

#[tokio::test]
async fn requests_share_connections_and_lose_what_belongs_to_them() {
    let scene = scene().await;
    let mut program = program(&scene.sidecar).await;
    for n in 0..20 {
        let mut request = request("POST", "/echo", format!("no {n}"));
        request.headers_mut().insert("x-mine", "1".parse().unwrap());
        request.headers_mut().insert("connection", "x-mine".parse().unwrap());
        let (response, body) = asked(&mut program, request).await;
        assert_eq!((response.status(), &body[..]), (StatusCode::OK, format!("no {n}").as_bytes()));
        let got = |name: &str| response.headers().get(format!("got-{name}")).map(|v| v.to_str().unwrap());
        assert_eq!((got("host"), got("via"), got("x-mine")), (Some("a.example"), Some("1.1 nearmost"), None));
        assert_eq!((got("x-forwarded-for"), response.headers().get("keep-alive")), (None, None));
    }
    assert!(scene.sites[scene.primary].opened.load(Ordering::SeqCst) < 10, "they are used again");
    assert_eq!(scene.sidecar.counters.get(Count::Answered), 20);
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn long_bodies_are_handed_on_as_they_come() {
    let scene = scene().await;
    let mut program = program(&scene.sidecar).await;
    let long: Vec<u8> = (0..3_000_000u32).map(|n| (n ^ (n >> 7)) as u8).collect();
    let (response, body) = asked(&mut program, request("POST", "/echo", long.clone())).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(body == long);
    let chunked = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
                   3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let (heard, _) = by_hand(&scene.sidecar, chunked).await;
    assert!(heard.starts_with("HTTP/1.1 200") && heard.contains("abcde"), "{heard}");
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn h2_in_clear_text_has_many_requests_on_one_connection() {
    let scene = scene().await;
    let stream = TcpStream::connect(scene.sidecar.address).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut asking = JoinSet::new();
    for n in 0..30 {
        let mut sender = sender.clone();
        asking.spawn(async move {
            let uri = "http://a.example:8080/echo";
            let request = Request::builder().method("POST").uri(uri).version(Version::HTTP_2);
            let request = request.body(Full::new(Bytes::from(format!("no {n}")))).unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.headers()["got-host"], "a.example:8080");
            assert_eq!(response.headers()["got-via"], "2 nearmost");
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), format!("no {n}"));
        });
    }
    soon(asking.join_all()).await;
    // A cut answer is an error of its stream, and the connection goes on.
    let get = |path| Request::get(format!("http://a{path}")).body(Full::<Bytes>::default()).unwrap();
    let mut sender = sender;
    let cut = soon(sender.send_request(get("/half"))).await.unwrap().into_body().collect().await;
    assert!(cut.is_err());
    let after = soon(sender.send_request(get("/echo"))).await.unwrap();
    assert_eq!(after.status(), StatusCode::OK);
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn who_expects_100_gets_it_before_the_body() {
    let scene = scene().await;
    let mut program = TcpStream::connect(scene.sidecar.address).await.unwrap();
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
    program.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    soon(program.read_exact(&mut interim)).await.unwrap();
    assert_eq!(&interim[..], b"HTTP/1.1 100 Continue\r\n\r\n");
    program.write_all(b"body").await.unwrap();
    let mut heard = String::new();
    soon(program.read_to_string(&mut heard)).await.unwrap();
    assert!(heard.starts_with("HTTP/1.1 200") && heard.ends_with("body") && !heard.contains("got-expect"));
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_counted() {
    let scene = scene().await;
    for (says, status) in [
        ("CONNECT b.example:443 HTTP/1.1\r\nHost: b.example:443\r\nConnection: close\r\n\r\n", "501"),
        ("GET /echo HTTP/1.1\r\nConnection: close\r\n\r\n", "400"),
        ("GET /echo HTTP/1.1\r\nHost: a\r\nExpect: much\r\nConnection: close\r\n\r\n", "417"),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1} what a browser says with TLS \r\n\r\n", "400"),
    ] {
        let bad = scene.sidecar.counters.get(Count::Bad);
        let (heard, _) = by_hand(&scene.sidecar, says).await;
        assert!(heard.starts_with(&format!("HTTP/1.1 {status}")), "{says:?}: {heard}");
        scene.sidecar.counted(Count::Bad, bad + 1).await;
    }
    let opened = scene.sites.iter().map(|site| site.opened.load(Ordering::SeqCst)).sum::<usize>();
    assert_eq!(opened, 0, "nothing of it came to a service");
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn a_service_that_closes_without_an_answer_leaves_an_honest_502() {
    let mut scene = scene().await;
    let mut program = program(&scene.sidecar).await;
    let (response, text) = asked(&mut program, request("POST", "/close", "once")).await;
    let text = String::from_utf8_lossy(&text).into_owned();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert!(text.contains("POST") && text.contains("may have been carried out"), "{text}");
    assert_eq!(scene.sidecar.counters.get(Count::Retried), 0);
    let notice = soon(scene.sidecar.notices.recv()).await.unwrap();
    assert!(matches!(&notice, Notice::Unknown { method, .. } if method == "POST"), "{notice}");
    let (response, _) = asked(&mut program, request("GET", "/close", "")).await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(scene.sidecar.counters.get(Count::Retried), 4, "five in all");
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_never_ends() {
    let mut scene = scene().await;
    let (heard, end) = by_hand(&scene.sidecar, "GET /half HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(heard.contains("HTTP/1.1 200") || heard.is_empty(), "{heard}");
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(scene.sidecar.counters.get(Count::Cut), 1);
    // The same with a mirror that dies.
    let mut program = TcpStream::connect(scene.sidecar.address).await.unwrap();
    program.write_all(b"GET /stuck HTTP/1.0\r\n\r\n").await.unwrap();
    heard_to(&mut program, "half").await;
    scene.mirrors[scene.primary].kill();
    let end = soon(program.read(&mut [0; 10])).await;
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(scene.sidecar.counters.get(Count::Cut), 2);
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn a_body_that_lasts_to_the_end_of_the_connection_is_not_ended_by_a_death() {
    /// Says a head without a length, and then nothing.
    struct Endless;
    impl Service for Endless {
        fn open(&self) -> OpenAnswer {
            OpenAnswer::Opened
        }
        fn serve(
            &self,
            mut send: SendStream,
            mut recv: RecvStream,
        ) -> Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(async move {
                let _ = recv.read_chunk(4096, true).await;
                let _ = send.write_all(b"HTTP/1.0 200 OK\r\n\r\nso far").await;
                std::future::pending().await
            })
        }
    }
    let mut mirrors = vec![Mirror::serving(1, Arc::new(Endless)), Mirror::serving(2, Arc::new(Endless))];
    let (session, primary, _) = streams(&mirrors).await;
    let sidecar = sidecar(&session, settings()).await;
    let mut program = TcpStream::connect(sidecar.address).await.unwrap();
    program.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    heard_to(&mut program, "so far").await;
    mirrors[primary].kill();
    let end = soon(program.read(&mut [0; 10])).await;
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset, "not an end");
    sidecar.stop().await;
}

/// Says what is no HTTP, unasked or as an answer.
struct Talks {
    unasked: bool,
}

impl Service for Talks {
    fn open(&self) -> OpenAnswer {
        OpenAnswer::Opened
    }

    fn serve(&self, mut send: SendStream, mut recv: RecvStream) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let unasked = self.unasked;
        Box::pin(async move {
            if !unasked {
                let _ = recv.read_chunk(4096, true).await;
            }
            let _ = send.write_all(b"220 mail.example ESMTP\r\n\r\n").await;
            let _ = send.finish();
            let _ = send.stopped().await;
        })
    }
}

#[tokio::test]
async fn a_service_that_speaks_no_http_is_a_502() {
    for unasked in [false, true] {
        let mirrors = [Mirror::serving(1, Arc::new(Talks { unasked }))];
        let session = crate::world::builder(&mirrors).connect().await.unwrap();
        let sidecar = sidecar(&session, settings()).await;
        let (response, text) = asked(&mut program(&sidecar).await, request("POST", "/", "x")).await;
        let text = String::from_utf8_lossy(&text).into_owned();
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        // Unasked it may come before or after the request left; what is said of it must be true.
        assert!(text.contains("may have been") || (unasked && text.contains("was not sent")), "{text}");
        sidecar.stop().await;
    }
}

#[tokio::test]
async fn an_upgraded_connection_is_a_tunnel_that_dies_with_its_mirror() {
    let mut scene = scene().await;
    for dies in [false, true] {
        let mut program = TcpStream::connect(scene.sidecar.address).await.unwrap();
        let asks = "GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly";
        program.write_all(asks.as_bytes()).await.unwrap();
        let heard = heard_to(&mut program, "early").await;
        assert!(heard.starts_with("HTTP/1.1 101") && heard.contains("upgrade: echo"), "{heard}");
        if dies {
            scene.mirrors[scene.primary].kill();
            let end = soon(program.read(&mut [0; 10])).await;
            assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
            scene.sidecar.counted(Count::Broken, 1).await;
        } else {
            program.write_all(b"later").await.unwrap();
            program.shutdown().await.unwrap();
            let mut rest = String::new();
            soon(program.read_to_string(&mut rest)).await.unwrap();
            assert_eq!(rest, "later");
            scene.sidecar.counted(Count::Ended, 1).await;
        }
    }
    assert_eq!(scene.sidecar.counters.get(Count::Tunnels), 2);
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn an_unsafe_request_is_not_asked_again_when_its_mirror_dies() {
    let mut scene = scene().await;
    let sites = [scene.primary, 1 - scene.primary].map(|n| scene.sites[n].clone());
    let mut waiting = program(&scene.sidecar).await;
    let waits = tokio::spawn(async move { waiting.send_request(request("POST", "/never", "x")).await });
    let came = async {
        while sites[0].asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    soon(came).await;
    scene.mirrors[scene.primary].kill();
    let refused = soon(waits).await.unwrap().unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_GATEWAY);
    let mut program = program(&scene.sidecar).await;
    let (response, _) = asked(&mut program, request("POST", "/echo", "new")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(sites[1].asked.load(Ordering::SeqCst), 1, "only the new one came there");
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn a_mirror_that_drains_is_not_held_by_connections_that_wait() {
    let scene = scene().await;
    let mut events = scene.session.events();
    let mut program = program(&scene.sidecar).await;
    asked(&mut program, request("GET", "/echo", "")).await;
    scene.mirrors[scene.primary].tell(ToHub::Drain(Duration::from_secs(60))).await;
    event(&mut events, |event| matches!(event, Event::Moved { .. })).await;
    until(&scene.mirrors[scene.primary].attached, |attached| attached.all == 0).await;
    let (response, _) = asked(&mut program, request("GET", "/echo", "")).await;
    assert_eq!(response.status(), StatusCode::OK);
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn a_service_that_takes_nobody_is_a_502_that_says_that_nothing_was_sent() {
    let scene = scene().await;
    scene.sites.iter().for_each(|site| site.refuses.store(usize::MAX, Ordering::SeqCst));
    let mut program = program(&scene.sidecar).await;
    let (response, text) = asked(&mut program, request("POST", "/echo", "x")).await;
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(response.status() == StatusCode::BAD_GATEWAY && text.contains("was not sent"), "{text}");
    assert_eq!(response.headers()["proxy-status"], "nearmost; error=destination_unavailable");
    assert_eq!(scene.sidecar.counters.get(Count::Unreached), 1);
    scene.sidecar.stop().await;
}

//! DNS checks against servers that answer, lie, stay silent and cut short.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in helpers too")]

mod common;

use common::*;
use hickory_proto::op::{Message, MessageType, ResponseCode as Code};
use hickory_proto::rr::rdata::{A, AAAA, TXT};
use hickory_proto::rr::{RData, Record};
use nearmost_core::check::{CheckKind, DnsCheck, RecordType, ResponseCode};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

fn asks(name: &str, record_type: &str, answer: Option<&str>) -> DnsCheck {
    DnsCheck {
        name: name.into(),
        record_type: RecordType::parse(record_type).expect("a type"),
        rcode: ResponseCode::NOERROR,
        answer: answer.map(str::to_string),
    }
}

async fn check(addr: SocketAddr, check: DnsCheck) -> nearmost_core::check::CheckOutcome {
    run(addr, CheckKind::Dns(check), LONG).await
}

fn answer(query: &[u8]) -> Message {
    let mut message = Message::from_vec(query).expect("a query");
    message.metadata.message_type = MessageType::Response;
    let asked = message.queries[0].clone();
    if !asked.name().to_ascii().to_ascii_lowercase().starts_with("play.") {
        message.metadata.response_code = Code::NXDomain;
        return message;
    }
    let data = match u16::from(asked.query_type()) {
        1 => vec![RData::A(A::new(192, 0, 2, 1)), RData::A(A::new(192, 0, 2, 2))],
        28 => vec![RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))],
        16 => vec![RData::TXT(TXT::new(vec!["v=1 all well".into()]))],
        _ => vec![],
    };
    for data in data {
        message.add_answer(Record::from_rdata(asked.name().clone(), 60, data));
    }
    message
}

/// Answers over UDP with each of `replies` of the query.
async fn server<F>(replies: F) -> SocketAddr
where
    F: Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
{
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let addr = socket.local_addr().expect("its address");
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((n, from)) = socket.recv_from(&mut buffer).await {
            for reply in replies(&buffer[..n]) {
                let _ = socket.send_to(&reply, from).await;
            }
        }
    });
    addr
}

fn bytes(message: Message) -> Vec<u8> {
    message.to_vec().expect("bytes")
}

#[tokio::test]
async fn code_and_answers_are_judged() {
    let addr = server(|q| vec![bytes(answer(q))]).await;
    for (record_type, wanted) in [
        ("A", None),
        ("A", Some("192.0.2.2")),
        ("AAAA", Some("2001:DB8:0::1")),
        ("TXT", Some("all well")),
        ("MX", None),
    ] {
        assert_pass(&check(addr, asks("Play.example", record_type, wanted)).await);
    }
    let outcome = check(addr, asks("play.example.", "A", Some("192.0.2.20"))).await;
    assert_fail(&outcome, &["expected an answer with \"192.0.2.20\"", "\"192.0.2.1, 192.0.2.2\""]);
    let outcome = check(addr, asks("play.example", "MX", Some("mail"))).await;
    assert_fail(&outcome, &["expected an answer with \"mail\", found none"]);
    let outcome = check(addr, asks("other.example", "A", None)).await;
    assert_answered(&outcome, &["expected response code NOERROR, found NXDOMAIN"]);
    let absent = ResponseCode::parse("NXDOMAIN").expect("a code");
    assert_pass(&check(addr, DnsCheck { rcode: absent, ..asks("other.example", "A", None) }).await);
    assert_fail(&check(addr, asks("a..b", "A", None)).await, &["expected a name to ask for", "\"a..b\""]);
}

#[tokio::test]
async fn what_does_not_answer_is_waited_past_and_named() {
    let addr = server(|q| {
        let mut forged = answer(q);
        forged.metadata.id ^= 1;
        vec![vec![0xff; 30], q.to_vec(), bytes(forged), bytes(answer(q))]
    })
    .await;
    assert_pass(&check(addr, asks("play.example", "A", None)).await);
    let short = |addr| run(addr, CheckKind::Dns(asks("play.example", "A", None)), SHORT);
    let garbage = server(|_| vec![vec![1, 2, 3]]).await;
    assert_answered(&short(garbage).await, &["expected a DNS answer", "3 bytes that are no DNS message"]);
    let mirror = server(|q| vec![q.to_vec()]).await;
    assert_answered(&short(mirror).await, &["a message that does not answer the query"]);
    let mute = server(|_| vec![]).await;
    assert_silence(&short(mute).await, &["none within 200 ms"]);
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let closed = socket.local_addr().expect("its address");
    socket.connect(closed).await.expect("connected");
    assert_answered(&check(closed, asks("play.example", "A", None)).await, &["connection refused"]);
}

/// Cuts every answer over UDP short; what is said over TCP, at the same port, is up to `by_tcp`.
async fn cutting(by_tcp: fn(Vec<u8>) -> Vec<u8>) -> SocketAddr {
    let addr = server(|q| {
        let mut cut = answer(q);
        cut.metadata.truncation = true;
        cut.answers.clear();
        vec![bytes(cut)]
    })
    .await;
    let listener = TcpListener::bind(addr).await.expect("the same port");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut query = vec![0; stream.read_u16().await.expect("a length").into()];
            stream.read_exact(&mut query).await.expect("a query");
            let _ = stream.write_all(&by_tcp(query)).await;
        }
    });
    addr
}

fn framed(message: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("short");
    [&length.to_be_bytes(), message.as_slice()].concat()
}

#[tokio::test]
async fn an_answer_cut_short_is_asked_for_over_tcp() {
    let wants = || asks("play.example", "A", Some("192.0.2.2"));
    let addr = cutting(|q| framed(bytes(answer(&q)))).await;
    assert_pass(&check(addr, wants()).await);
    let addr = cutting(|_| vec![]).await;
    assert_fail(&check(addr, wants()).await, &["over TCP"]);
    let addr = cutting(|_| vec![0xff, 0xff, 1]).await;
    assert_fail(&check(addr, wants()).await, &["over TCP"]);
    let addr = cutting(framed).await;
    assert_fail(&check(addr, wants()).await, &["over TCP, found a message that does not answer"]);
    // Nobody listens on TCP.
    let addr = server(|q| {
        let mut cut = answer(q);
        cut.metadata.truncation = true;
        vec![bytes(cut)]
    })
    .await;
    assert_fail(&check(addr, wants()).await, &["expected a TCP connection", "connection refused"]);
}

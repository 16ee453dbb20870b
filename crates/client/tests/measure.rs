//! Measuring and reporting, over HTTP and over QUIC.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use nearmost_client::identity::{Id, KeyPair, Role};
use nearmost_client::measure::{self, Measured, Options, QuicError, Taken};
use nearmost_client::{Auth, Client, ClientError, Endpoint};
use nearmost_wire::client::{Declined, Mirror, Refusal, Resolved, ToBroker, ToClient};
use nearmost_wire::frame;
use nearmost_wire::tls::{self, ALPN_CLIENT};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use support::{FakeBroker, ranked};
use tokio::net::TcpListener;

/// No name is looked up where the test's machine may have no resolver.
const QUIETLY: Options = Options { look_up: false };

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    (listener, at)
}

fn nothing() -> Taken {
    Taken { accepted: 0, tied: false, measure: Vec::new(), refused: None }
}

fn seen(measured: &Measured) -> Vec<(&str, bool)> {
    measured.rounds.iter().map(|r| (r.mirror.as_str(), r.rtt.is_ok())).collect()
}

#[tokio::test]
async fn round_trips_are_measured_and_reported_over_http() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, path) = FakeBroker::unix(dir.path()).await;
    let (_open, at) = listener().await;
    let (gone, closed) = listener().await;
    drop(gone);
    let mirror = |name: &str, at: SocketAddr| nearmost_client::api::RankedMirror {
        mirror: name.into(),
        addresses: vec!["not an address".into(), at.ip().to_string()],
        port: at.port(),
        ..ranked()
    };
    broker.store.lock().unwrap().ranked = Some(vec![mirror("near", at), mirror("gone", closed)]);
    let client = Client::new(Endpoint::Unix(path), Auth::None);
    let measured = measure::over_http(&client, "Play.example.com", QUIETLY).await.unwrap();
    assert_eq!(seen(&measured), [("near", true), ("gone", false)]);
    assert_eq!(measured.taken, Taken { accepted: 1, tied: true, ..nothing() });
    assert_eq!((measured.rounds[0].at, measured.rounds[0].predicted_ms), (Some(at), 12.34));
    let sent = broker.store.lock().unwrap().reports.pop().unwrap();
    assert_eq!((&*sent.session, sent.nonce, &*sent.rtts[0].mirror), ("a session", None, "near"));
    assert!(sent.rtts[0].rtt_ms > 0.0 && sent.rtts[0].rtt_ms < 1000.0);

    // What is named in the answer is measured next, until nothing is.
    {
        let mut store = broker.store.lock().unwrap();
        let names = ["one", "two", "three", "four", "five", "six"];
        store.ranked = Some(names.iter().map(|n| mirror(n, if *n == "two" { closed } else { at })).collect());
        store.measure = vec![vec!["one", "two"], vec!["four", "one", "nobody"], vec!["three", "five", "six"]];
    }
    let measured = measure::over_http(&client, "play.example.com", QUIETLY).await.unwrap();
    let all = [("one", true), ("two", false), ("four", true), ("three", true), ("five", true)];
    assert_eq!(seen(&measured), all, "five at most");
    assert_eq!(measured.taken, Taken { accepted: 4, tied: true, ..nothing() });
    let sent = std::mem::take(&mut broker.store.lock().unwrap().reports);
    let tried: Vec<Vec<String>> = sent.into_iter().map(|r| r.tried).collect();
    assert_eq!(tried, [vec!["two"], vec!["one", "two"], vec!["one", "two", "four"]]);

    // With nothing to measure nothing is sent; a mirror that is not reached is told of, and so is a
    // one-time name.
    broker.store.lock().unwrap().ranked = Some(Vec::new());
    let unsaid = measure::over_http(&client, "play.example.com", QUIETLY).await.unwrap();
    assert_eq!(unsaid.taken, nothing());
    assert!(broker.store.lock().unwrap().reports.is_empty());
    broker.store.lock().unwrap().ranked = Some(vec![mirror("gone", closed)]);
    measure::over_http(&client, "play.example.com", QUIETLY).await.unwrap();
    let sent = broker.store.lock().unwrap().reports.pop().unwrap();
    assert!(sent.rtts.is_empty() && sent.failed == ["gone"], "{sent:?}");
    let named = measure::over_http(&client, "play.example.com", Options::default()).await.unwrap();
    assert_eq!(named.taken.refused.unwrap().code, "reports_too_often");
    let nonce = broker.store.lock().unwrap().reports.pop().unwrap().nonce.unwrap();
    assert!((16..=32).contains(&nonce.len()) && nonce.bytes().all(|b| b.is_ascii_alphanumeric()), "{nonce}");

    let unknown = measure::over_http(&client, "nope.example", QUIETLY).await.unwrap_err();
    assert!(matches!(unknown, ClientError::Api { status: 404, .. }), "{unknown}");
}

/// A broker as far as clients' sessions go.
struct QuicBroker {
    endpoint: quinn::Endpoint,
    id: Id,
    heard: Arc<Mutex<Vec<ToBroker>>>,
}

impl QuicBroker {
    /// Answers in turn with what is given, then ends the session with a refusal.
    fn start(answers: Vec<ToClient>) -> QuicBroker {
        let key = KeyPair::from_seed(Role::Broker, &[1; 32]);
        let crypto = Arc::new(tls::server_config(&key, ALPN_CLIENT).unwrap());
        let config = quinn::ServerConfig::with_crypto(crypto);
        let endpoint = quinn::Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (accepting, hearing) = (endpoint.clone(), heard.clone());
        tokio::spawn(async move {
            let connection = accepting.accept().await.unwrap().await.unwrap();
            let (mut send, mut receive) = connection.accept_bi().await.unwrap();
            for answer in answers {
                let Ok(message) = frame::read(&mut receive).await else { return };
                hearing.lock().unwrap().push(message);
                frame::write(&mut send, &answer).await.unwrap();
            }
            if frame::read::<ToBroker>(&mut receive).await.is_ok() {
                connection.close(Refusal::UnknownDomain.code().into(), b"no domain \"x\"");
            }
        });
        QuicBroker { endpoint, id: key.id(), heard }
    }

    fn at(&self) -> String {
        self.endpoint.local_addr().unwrap().to_string()
    }
}

fn resolved(at: SocketAddr) -> ToClient {
    let mirror = |name: &str| Mirror {
        name: name.into(),
        addresses: vec![at.ip()],
        port: at.port(),
        rtt_ms: 20.0,
        eligible: true,
    };
    ToClient::Resolved(Resolved {
        domain: "play.example.com".into(),
        observed: IpAddr::V4(Ipv4Addr::LOCALHOST),
        ttl_s: 20,
        mirrors: vec![mirror("other"), mirror("near")],
        measure: vec!["near".into()],
    })
}

#[tokio::test]
async fn round_trips_are_measured_and_reported_over_quic() {
    let (_open, at) = listener().await;
    let taken =
        Taken { refused: Some(Declined { code: "rtt_range".into(), message: "no".into() }), ..nothing() };
    let next = Mirror {
        name: "next".into(),
        addresses: vec![at.ip()],
        port: at.port(),
        rtt_ms: 9.0,
        eligible: true,
    };
    let first = Taken { accepted: 1, measure: vec![next], ..nothing() };
    let broker =
        QuicBroker::start(vec![resolved(at), ToClient::Taken(first), ToClient::Taken(taken.clone())]);
    let measured = measure::over_quic(&broker.at(), broker.id, "Play.example.com.", QUIETLY).await.unwrap();
    assert_eq!(seen(&measured), [("near", true), ("next", true)]);
    assert_eq!((measured.taken.accepted, &measured.taken.refused), (1, &taken.refused));
    let heard = broker.heard.lock().unwrap().clone();
    assert_eq!(heard[0], ToBroker::Resolve { domain: "play.example.com".into() });
    let ToBroker::Rtt(rtt) = &heard[1] else { panic!("{heard:?}") };
    assert_eq!((&*rtt.domain, &*rtt.rtts[0].mirror, rtt.rtts.len()), ("play.example.com", "near", 1));
    let ToBroker::Rtt(rtt) = &heard[2] else { panic!("{heard:?}") };
    assert_eq!((&*rtt.rtts[0].mirror, &rtt.tried[..]), ("next", &["near".to_owned()][..]));
}

#[tokio::test]
async fn what_goes_wrong_over_quic_is_named() {
    let ask = async |broker: &QuicBroker, id: Id| {
        measure::over_quic(&broker.at(), id, "play.example.com", QUIETLY).await.unwrap_err()
    };
    let broker = QuicBroker::start(Vec::new());
    let refused = ask(&broker, broker.id).await;
    assert!(matches!(refused, QuicError::Refused { refusal: Refusal::UnknownDomain, .. }), "{refused}");
    assert!(refused.to_string().contains("no domain") && refused.to_string().contains(&broker.at()));

    let broker = QuicBroker::start(Vec::new());
    let other = KeyPair::from_seed(Role::Broker, &[2; 32]).id();
    let wrong = ask(&broker, other).await;
    assert!(matches!(wrong, QuicError::WrongKey { .. }), "{wrong}");

    let taken = ToClient::Taken(nothing());
    let broker = QuicBroker::start(vec![taken]);
    let order = ask(&broker, broker.id).await;
    assert!(order.to_string().contains("Resolve"), "{order}");

    let name = measure::over_quic("127.0.0.1:1", broker.id, "a b", QUIETLY).await.unwrap_err();
    assert!(matches!(name, QuicError::Name(_)), "{name}");
    let lookup = measure::over_quic("no port", broker.id, "a.test", QUIETLY).await.unwrap_err();
    assert!(matches!(lookup, QuicError::LookUp { .. }), "{lookup}");
}

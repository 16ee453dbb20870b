//! The client against a broker on a socket: questions, changes, streams, and what goes wrong.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use nearmost_client::events::Notice;
use nearmost_client::identity::{KeyPair, Role};
use nearmost_client::registry::commit::{Author, ChangeError, change};
use nearmost_client::registry::{
    Content, DomainBody, Edit, EntryKey, Plan, PlanError, RegistryFile, RegistryView, file, undo,
};
use nearmost_client::{Auth, Client, ClientError, Endpoint};
use std::path::Path;
use support::FakeBroker;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn on(path: &Path) -> Client {
    Client::new(Endpoint::Unix(path.into()), Auth::None)
}

fn person(seed: u8) -> KeyPair {
    KeyPair::from_seed(Role::Person, &[seed; 32])
}

fn author(key: &KeyPair) -> Author<'_> {
    Author { key, name: "ada", note: "a test" }
}

fn put(name: &str) -> impl FnMut(&RegistryView) -> Result<Plan, PlanError> {
    let key = EntryKey::domain(name).unwrap();
    move |view| Plan::of_edits(view, vec![Edit::put(key.clone(), Content::Domain(DomainBody::default()))])
}

#[tokio::test]
async fn questions_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, path) = FakeBroker::unix(dir.path()).await;
    let client = on(&path);
    let ip = "2001:db8::1".parse().unwrap();
    assert_eq!(client.resolve("Play.Example.com.", Some(ip)).await.unwrap().client, ip);
    assert_eq!(client.explain("play.example.com", ip).await.unwrap().client, ip);
    assert_eq!(client.fleet().await.unwrap().mirrors.len(), 1);
    assert_eq!(client.geo(ip).await.unwrap().address, ip);
    let mirrors = ["play.example.com/lon".to_string()];
    let preview = client.drain_preview(&mirrors, &["lon1".into()]).await.unwrap();
    assert_eq!(preview.rows.len(), 2);
    let requests = broker.store.lock().unwrap().requests.clone();
    assert_eq!(requests[0], ("GET /v1/resolve/play.example.com?client=2001%3Adb8%3A%3A1".into(), None));
    assert_eq!(requests[4].0, "GET /v1/drain-preview?mirror=play.example.com%2Flon&node=lon1");
}

#[tokio::test]
async fn what_goes_wrong_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (_broker, path) = FakeBroker::unix(dir.path()).await;
    let refused = on(&path).resolve("nope.example", None).await.unwrap_err();
    assert!(refused.has_code("unknown_domain"));
    assert_eq!(refused.to_string(), "no domain \"nope.example\" (unknown_domain)");
    let name = on(&path).resolve("a b", None).await.unwrap_err().to_string();
    assert!(name.contains("' '"), "{name}");

    let absent = dir.path().join("absent.sock");
    let error = on(&absent).fleet().await.unwrap_err().to_string();
    assert!(error.contains("no broker listens on") && error.contains("absent.sock"), "{error}");
    assert!(error.contains("is nearmost-broker running"), "{error}");

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = Client::new(url.parse().unwrap(), Auth::None).fleet().await.unwrap_err().to_string();
    assert!(error.contains(&url), "{error}");
}

/// One connection that gets `answer` whatever it asks.
async fn answering(answer: &'static [u8]) -> Client {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let _ = stream.write_all(answer).await;
    });
    Client::new(url.parse().unwrap(), Auth::None)
}

#[tokio::test]
async fn answers_that_are_none_are_errors() {
    let html = answering(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 6\r\n\r\n<html>").await;
    let error = html.fleet().await.unwrap_err().to_string();
    assert!(error.contains("502") && error.contains("<html>"), "{error}");
    let other = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    assert!(matches!(other.fleet().await, Err(ClientError::Answer { .. })));
    let cut = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{").await;
    assert!(matches!(cut.fleet().await, Err(ClientError::Protocol { .. })));
    let noise = answering(b"SSH-2.0-OpenSSH\r\n\r\n").await;
    assert!(matches!(noise.fleet().await, Err(ClientError::Protocol { .. })));
    let huge = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{").await;
    assert!(matches!(huge.fleet().await, Err(ClientError::TooLong { .. })));
}

#[tokio::test]
async fn the_first_change_over_the_socket_makes_the_person_known() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, path) = FakeBroker::unix(dir.path()).await;
    let (client, me) = (on(&path), person(1));
    let first = change(&client, &author(&me), put("a.example")).await.unwrap();
    assert!(first.enrolled);
    assert_eq!(first.response.unwrap().applied, 2);
    assert_eq!(broker.view().persons().next().unwrap().1.name, "ada");
    let second = change(&client, &author(&me), put("b.example")).await.unwrap();
    assert!(!second.enrolled);
    let third = change(&client, &author(&me), put("b.example")).await.unwrap();
    assert!(third.response.is_none(), "nothing to do");
    assert_eq!(broker.store.lock().unwrap().commits, 2);
}

#[tokio::test]
async fn a_conflict_is_planned_anew_ten_times_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, path) = FakeBroker::unix(dir.path()).await;
    let (client, me) = (on(&path), person(1));
    broker.store.lock().unwrap().conflicts = 9;
    change(&client, &author(&me), put("a.example")).await.unwrap();
    assert_eq!(broker.store.lock().unwrap().commits, 10);
    broker.store.lock().unwrap().conflicts = 10;
    let busy = change(&client, &author(&me), put("b.example")).await.unwrap_err();
    assert!(matches!(busy, ChangeError::Busy), "{busy}");
}

#[tokio::test]
async fn those_who_change_at_once_all_get_their_turn() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, path) = FakeBroker::unix(dir.path()).await;
    let me = person(1);
    change(&on(&path), &author(&me), put("a.example")).await.unwrap();
    let all = (0..8).map(|n| {
        let (client, me) = (on(&path), me.clone());
        tokio::spawn(async move {
            change(&client, &author(&me), put(&format!("d{n}.example"))).await.map_err(|e| e.to_string())
        })
    });
    for one in all.collect::<Vec<_>>() {
        one.await.unwrap().unwrap();
    }
    assert_eq!(broker.view().domains().count(), 9);
}

#[tokio::test]
async fn over_the_network_requests_are_signed_and_strangers_refused() {
    let (broker, url) = FakeBroker::tcp().await;
    let me = person(1);
    let client = Client::new(url.parse().unwrap(), Auth::person(me.clone()));
    let refused = change(&client, &author(&me), put("a.example")).await.unwrap_err().to_string();
    assert!(refused.contains("unknown_person"), "{refused}");
    let token = Client::new(url.parse().unwrap(), Auth::Token("secret".into()));
    token.fleet().await.unwrap();
    let requests = broker.store.lock().unwrap().requests.clone();
    assert_eq!(requests[0], ("GET /healthz".into(), None), "whom it signs for is asked first");
    let authorization = requests[1].1.as_ref().unwrap();
    assert!(authorization.starts_with(&format!("Nearmost id={}", me.id())));
    let pinned = client.with_broker_id(Some(KeyPair::from_seed(Role::Broker, &[200; 32]).id()));
    pinned.fleet().await.unwrap();
    let asked = broker.store.lock().unwrap().requests.last().unwrap().0.clone();
    assert_eq!(asked, "GET /v1/fleet", "a broker that is known is not asked who it is");
    assert_eq!(requests.last().unwrap().1.as_deref(), Some("Bearer secret"));
}

#[tokio::test]
async fn a_file_is_applied_exported_and_taken_back() {
    const FILE: &str = "version = 1\n[[domain]]\nname = \"a.example\"\n[[mirror]]\ndomain = \"a.example\"\n\
                        name = \"lon\"\naddresses = [\"192.0.2.1\"]\nhealth = \"probe\"\n";
    let dir = tempfile::tempdir().unwrap();
    let (broker, path) = FakeBroker::unix(dir.path()).await;
    let (client, me) = (on(&path), person(1));
    let wanted = RegistryFile::parse("reg.toml", FILE).unwrap();
    let apply = |file: RegistryFile| {
        let id = me.id();
        move |view: &RegistryView| Plan::of_file(&file, view, &id, true)
    };
    change(&client, &author(&me), apply(wanted.clone())).await.unwrap();
    let again = change(&client, &author(&me), apply(wanted)).await.unwrap();
    assert!(again.response.is_none());

    let view = broker.view();
    let text = file::export(view.entries.iter().filter_map(|(k, c)| Some((k, c.content.as_ref()?))));
    let exported = RegistryFile::parse("exported.toml", &text).unwrap();
    assert!(change(&client, &author(&me), apply(exported)).await.unwrap().response.is_none(), "{text}");

    let history = client.history(None, undo::HISTORY_LIMIT).await.unwrap();
    let last = undo::last_own(&history, &me.id()).unwrap();
    let id = me.id();
    change(&client, &author(&me), |view: &RegistryView| undo::plan(&history, last, view, &id)).await.unwrap();
    assert_eq!(broker.view().mirrors().count(), 0);
    assert!(broker.view().knows_person(&me.id()));
    assert_eq!(client.history(Some("a.example/lon"), 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn events_go_on_after_a_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, path) = FakeBroker::unix(dir.path()).await;
    let mut events = on(&path).events(Some(7));
    let mut seen = Vec::new();
    let (mut missed, mut cuts) = (Vec::new(), 0);
    while seen.len() < 3 {
        match events.next().await.unwrap() {
            Notice::Event(event) => seen.push(event.number),
            Notice::Missed(how_many) => missed.push(how_many),
            Notice::Lost { .. } => cuts += 1,
        }
    }
    assert_eq!(seen, [8, 9, 10]);
    assert_eq!(missed, [Some(12), None], "what was lost is said, and resuming goes on behind what was seen");
    assert_eq!((cuts, events.last_id()), (1, Some(10)));
    assert_eq!(broker.store.lock().unwrap().requests.len(), 2);

    let mut absent = on(&dir.path().join("absent.sock")).events(None);
    assert!(matches!(absent.next().await, Err(ClientError::Socket { .. })));
}

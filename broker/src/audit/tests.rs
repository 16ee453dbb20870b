use super::desk::{Window, Windows};
use super::*;
use nearmost_replica::{Body, Hlc, Kind, Record, SignedRecord, SigningKey};
use nearmost_wire::api::AuditEntry;

fn signed(kind: Kind, id: &str, body: Option<&[u8]>) -> SignedRecord {
    let key = SigningKey::from_seed(&[1; 32]);
    let record = Record {
        kind,
        scope: "play.example".into(),
        id: id.into(),
        body: body.map_or(Body::Tombstone, |bytes| Body::Live { version: 1, bytes: bytes.to_vec() }),
        hlc: Hlc { millis: 1, counter: 0 },
        author: key.public(),
        author_epoch: 1,
        author_seq: 1,
        grants: Vec::new(),
    };
    SignedRecord::sign(record, &key).unwrap()
}

#[test]
fn values_are_shown_as_records_have_them() {
    let before = signed(Kind::MIRROR, "lon", Some(br#"{"port":80}"#));
    let after = signed(Kind::MIRROR, "lon", Some(br#"{"port":443}"#));
    let told = change(&after, Some(&before), None);
    assert_eq!((&*told.kind, &*told.name), ("mirror", "play.example/lon"));
    assert_eq!(told.before.unwrap()["port"], 80);
    assert_eq!(told.after.unwrap()["port"], 443);
    assert!(told.author.unwrap().starts_with("np1"));
    let own = change(&after, None, Some(&after.record().author));
    assert!(own.author.unwrap().starts_with("nb1") && own.before.is_none());
}

#[test]
fn secrets_are_not_in_it() {
    const SECRET: &str = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0";
    let challenge = signed(
        Kind::CHALLENGE,
        &format!("_acme-challenge.www/{SECRET}"),
        Some(format!(r#"{{"until_unix_ms":9,"more":"{SECRET}"}}"#).as_bytes()),
    );
    let app = Kind::application(nearmost_replica::merge::Rule::RemovalWins, 7).unwrap();
    let of_app = signed(app, "key", Some(SECRET.as_bytes()));
    // A kind that only a newer program knows may hold anything.
    let unknown = signed(Kind(0x0fff), "x", Some(format!(r#"{{"token":"{SECRET}"}}"#).as_bytes()));
    let changes = [&challenge, &of_app, &unknown].map(|signed| change(signed, Some(signed), None));
    let text = serde_json::to_string(&changes).unwrap();
    assert!(!text.contains(SECRET), "{text}");
    assert_eq!(changes[0].name, "play.example/_acme-challenge.www");
    assert_eq!(changes[0].after.as_ref().unwrap()["until_unix_ms"], 9);
    assert_eq!(changes[1].after.as_ref().unwrap()["bytes"], SECRET.len());
}

#[test]
fn an_act_is_called_by_what_it_did_to_what() {
    let lon = |body| signed(Kind::MIRROR, "lon", body);
    let (live, gone) = (lon(Some(b"{}")), lon(None));
    let add = change(&live, None, None);
    let remove = change(&gone, Some(&live), None);
    let drain = change(&signed(Kind::DRAIN, "lon", Some(b"{}")), None, None);
    assert_eq!(code_of("", &[add.clone(), add.clone()]), "mirror.add");
    assert_eq!(code_of(acts::COMMIT, &[change(&live, Some(&live), None)]), "mirror.change");
    assert_eq!(code_of("", std::slice::from_ref(&remove)), "mirror.remove");
    assert_eq!(code_of("", &[add.clone(), remove]), acts::COMMIT);
    assert_eq!(code_of("", &[add, drain.clone()]), acts::COMMIT);
    assert_eq!(code_of(acts::ACME_SET, &[drain]), acts::ACME_SET);
}

#[test]
fn a_large_act_has_several_entries_and_loses_nothing() {
    let body = format!(r#"{{"name":"{}"}}"#, "x".repeat(3000));
    let changes: Vec<AuditChange> = (0..100)
        .map(|n| change(&signed(Kind::PERSON, &format!("p{n}"), Some(body.as_bytes())), None, None))
        .collect();
    let act = Act { code: "person.add".into(), changes: changes.clone(), ..Act::default() };
    let entries: Vec<AuditEntry> =
        parts(act).unwrap().iter().map(|json| serde_json::from_slice(json).unwrap()).collect();
    assert!(entries.len() > 1);
    let last = format!("{0}/{0}", entries.len());
    assert_eq!(entries.last().unwrap().part.as_deref(), Some(&*last));
    let together: Vec<AuditChange> = entries.into_iter().flat_map(|e| e.changes).collect();
    assert_eq!(together, changes);
}

#[test]
fn refused_attempts_that_repeat_are_written_once_and_counted() {
    let attempt = |actor: &str, at_unix_ms| Act {
        by: By { actor: actor.into(), ..By::default() },
        code: acts::COMMIT.into(),
        ending: Ending::Refused("invalid"),
        at_unix_ms,
        ..Act::default()
    };
    let mut window = Window::default();
    assert_eq!(window.take(attempt("ada", 1)).unwrap().count, 1);
    for at in 2..=1000 {
        assert_eq!(window.take(attempt("ada", at)), None);
    }
    // Another's are not hidden by a flood, until there are more others than anyone would read.
    assert!(window.take(attempt("bob", 5)).is_some());
    let written = (0..500).filter(|n| window.take(attempt(&format!("p{n}"), 6)).is_some()).count();
    assert!(written < 60, "{written}");
    let told = window.end(2000, Via::Broker);
    let ada = told.iter().find(|act| act.by.actor == "ada").unwrap();
    assert_eq!((ada.count, ada.at_unix_ms), (999, 1000));
    assert_eq!(told.last().unwrap().count, 500 - written as u64);
    assert!(told.len() + written <= 62);
    assert!(window.end(3000, Via::Broker).is_empty());
    assert!(window.take(attempt("ada", 3001)).is_some(), "a new window");
    // A day's worth, and then one entry a minute that counts them; the next day begins anew.
    let mut day = 0;
    for n in 0..5000 {
        day += u64::from(window.take(attempt(&format!("q{n}"), 4000)).is_some());
        day += window.end(5000, Via::Broker).len() as u64;
        if window.take(attempt("again", 4000)).is_none() {
            break;
        }
        day += 1;
    }
    assert!((1900..2100).contains(&day), "{day}");
    assert_eq!(window.end(6000, Via::Broker).len(), 1, "one that counts");
    assert!(window.take(attempt("ada", 86_400_001)).is_some());
}

#[test]
fn a_flood_of_agents_leaves_room_for_what_people_are_refused() {
    let attempt = |n: usize, via| Act {
        by: By { actor: format!("nn1{n}"), via, source: None },
        code: acts::NODE_JOIN.into(),
        ending: Ending::Refused("used_token"),
        at_unix_ms: 1,
        ..Act::default()
    };
    let mut windows = Windows::default();
    let written = (0..10_000).filter(|n| windows.take(attempt(*n, Via::Agents)).is_some()).count();
    assert!(written < 60, "{written}");
    assert!(windows.take(attempt(0, Via::Public)).is_some(), "a person's is written");
    let told = windows.end(2);
    let others = told.last().unwrap();
    assert_eq!((others.by.via, others.count), (Via::Agents, 10_000 - written as u64));
    assert_eq!(told.len(), 1);
}

#[tokio::test]
async fn a_flood_of_agents_does_not_fill_the_queue_of_what_people_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::store::RedbStore::open(dir.path()).unwrap();
    let (store, _) = crate::store::StoreThread::spawn(Box::new(store)).unwrap();
    let metrics = AuditMetrics::register(&prometheus::Registry::new()).unwrap();
    let (desk, task) = Desk::new(store.clone(), metrics.clone());
    let ending = Ending::Refused("unknown_token");
    for n in 0..2000 {
        let by = By { actor: format!("nn1{n}"), via: Via::Agents, source: None };
        desk.refused_of(by, acts::NODE_JOIN, ending, "", "");
    }
    let dropped = metrics.dropped.get();
    assert!(dropped > 0);
    desk.refused(&Actor::Token("ci".into()).into(), acts::BACKUP, ending, "", "");
    assert_eq!(metrics.dropped.get(), dropped);
    // What waits is written at the end.
    let cancel = tokio_util::sync::CancellationToken::new();
    cancel.cancel();
    task.run(cancel).await;
    let filter = crate::store::AuditFilter { limit: 1000, ..Default::default() };
    let page = store.audit(filter).await.unwrap();
    assert!(page.rows[0].json.contains("\"token ci\""), "people's come first: {}", page.rows[0].json);
    assert!(page.rows.last().unwrap().json.contains("refused.others"));
}

//! The audit log and transitions in the store.

use super::*;
use crate::audit::{By, Via, acts};
use data_encoding::HEXLOWER;
use nearmost_wire::api::{AuditEntry, AuditView, ChainCheck};
use serde_json::value::RawValue;
use std::collections::BTreeSet;

fn store() -> (tempfile::TempDir, RedbStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = RedbStore::open(dir.path()).unwrap();
    (dir, store)
}

fn page(store: &dyn Store, filter: AuditFilter) -> AuditPage {
    store.audit_page(filter).unwrap()().unwrap()
}

fn all(store: &dyn Store) -> AuditPage {
    page(store, AuditFilter { limit: 10_000, ..AuditFilter::default() })
}

fn entries(page: &AuditPage) -> Vec<AuditEntry> {
    page.rows.iter().map(|row| serde_json::from_str(&row.json).unwrap()).collect()
}

/// Whether the chain is whole from its anchor to its head.
fn check(page: &AuditPage) {
    let mut check = ChainCheck::after(page.anchor.0, HEXLOWER.encode(&page.anchor.1));
    for row in &page.rows {
        let view = AuditView {
            number: row.number,
            previous: HEXLOWER.encode(&row.previous),
            hash: HEXLOWER.encode(&row.hash),
            entry: RawValue::from_string(row.json.clone()).unwrap(),
        };
        check.next(&view).unwrap();
    }
    let head = check.head().map(|(number, hash)| (number, hash.to_owned()));
    assert_eq!(head, Some((page.head.0, HEXLOWER.encode(&page.head.1))));
}

fn by(actor: &str, act: &'static str, batch: WriteBatch) -> WriteBatch {
    let by = By { actor: actor.into(), via: Via::Socket, source: None };
    WriteBatch { origin: Origin::new(by, act), ..batch }
}

fn act(code: &str, at_unix_ms: u64) -> Act {
    Act { code: code.into(), at_unix_ms, ..Act::default() }
}

#[test]
fn there_is_an_entry_if_and_only_if_something_was_changed_here() {
    let (_dir, store) = store();
    let (mut ada, mut bob) = (Author::new(1), Author::new(2));
    let first = ada.write("lon", 5, Some(br#"{"port":80}"#));
    let done = commit(&store, by("uid 0", acts::COMMIT, batch([first.clone()]))).unwrap();
    assert_eq!(done.entries, 1);
    // Nothing new, refused, and of a peer: none of these is an act here.
    assert_eq!(commit(&store, batch([first.clone()])).unwrap().entries, 0);
    let late = WriteBatch { expect_version: Some(9), ..batch([ada.write("lon", 6, None)]) };
    commit(&store, late).unwrap_err();
    assert_eq!(commit(&store, relayed([bob.write("fra", 6, Some(b"{}"))], NOW)).unwrap().entries, 0);
    let second = ada.write("lon", 7, Some(br#"{"port":443}"#));
    commit(&store, by("token ci", acts::COMMIT, batch([second, first]))).unwrap();
    let page = all(&store);
    check(&page);
    let entries = entries(&page);
    let told: Vec<_> =
        entries.iter().map(|e| (e.actor.as_str(), e.act.as_str(), e.batch, e.version)).collect();
    assert_eq!(
        told,
        [("uid 0", "mirror.add", Some(1), Some(1)), ("token ci", "mirror.change", Some(3), Some(3))]
    );
    let change = &entries[1].changes[..];
    assert_eq!(change.len(), 1, "what changed nothing is not told");
    assert_eq!(change[0].before.as_ref().unwrap()["port"], 80);
    assert_eq!(change[0].after.as_ref().unwrap()["port"], 443);
    assert_eq!(entries[1].note, "nearmost apply");
}

#[test]
fn a_token_is_kept_with_its_entry_and_its_secret_is_in_neither() {
    let (_dir, store) = store();
    assert_eq!(store.write_act(act(acts::INVITE, NOW), Some((&[7; 32], &token(NOW + 1)))), Ok(1));
    assert!(store.check_token(&[7; 32], NOW).is_ok());
    assert_eq!(entries(&all(&store))[0].act, acts::INVITE);
}

#[test]
fn the_oldest_entries_go_and_the_chain_stays_one() {
    let (_dir, store) = store();
    for at in 1..=20 {
        store.write_act(act("backup", at * 100), None).unwrap();
    }
    assert_eq!(store.prune_audit(Keep { since_unix_ms: 0, most: 100 }), Ok(0));
    assert_eq!(store.prune_audit(Keep { since_unix_ms: 501, most: 100 }), Ok(5));
    let page = all(&store);
    assert_eq!((page.anchor.0, page.rows[0].number, page.head.0), (5, 6, 20));
    check(&page);
    assert_eq!(store.prune_audit(Keep { since_unix_ms: 0, most: 3 }), Ok(12));
    check(&all(&store));
    // Also where nothing is left.
    assert_eq!(store.prune_audit(Keep { since_unix_ms: u64::MAX, most: 100 }), Ok(3));
    store.write_act(act("backup", NOW), None).unwrap();
    let page = all(&store);
    assert_eq!((page.anchor.0, page.rows.len(), page.head.0), (20, 1, 21));
    check(&page);
}

#[test]
fn pages_hold_what_is_asked_for_and_go_on_where_they_ended() {
    let (_dir, store) = store();
    let mut ada = Author::new(1);
    for n in 0..10_u64 {
        let at =
            WriteBatch { received_unix_ms: n * 10, ..batch([ada.write(&format!("m{n}"), n, Some(b"{}"))]) };
        commit(&store, by(if n % 2 == 0 { "even" } else { "odd" }, acts::COMMIT, at)).unwrap();
        store.write_act(act(acts::BACKUP, n * 10 + 1), None).unwrap();
    }
    let numbers = |filter: AuditFilter| -> Vec<u64> {
        page(&store, AuditFilter { limit: 100, ..filter }).rows.iter().map(|row| row.number).collect()
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(numbers(AuditFilter { actor: text("even"), ..AuditFilter::default() }), [1, 5, 9, 13, 17]);
    assert_eq!(numbers(AuditFilter { act: text("mirror"), after: 16, ..AuditFilter::default() }), [17, 19]);
    assert!(numbers(AuditFilter { act: text("mir"), ..AuditFilter::default() }).is_empty());
    assert_eq!(numbers(AuditFilter { target: text("play.example/m3"), ..AuditFilter::default() }), [7]);
    assert_eq!(numbers(AuditFilter { target: text("play.example"), ..AuditFilter::default() }).len(), 10);
    assert!(numbers(AuditFilter { target: text("play.ex"), ..AuditFilter::default() }).is_empty());
    let within = AuditFilter { since_unix_ms: Some(50), until_unix_ms: Some(61), ..AuditFilter::default() };
    assert_eq!(numbers(within), [11, 12, 13]);
    // In steps of three everything comes once.
    let (mut after, mut seen) = (0, Vec::new());
    loop {
        let page = page(&store, AuditFilter { after, limit: 3, ..AuditFilter::default() });
        seen.extend(page.rows.iter().map(|row| row.number));
        after = page.seen;
        if page.seen >= page.head.0 {
            break;
        }
    }
    assert_eq!(seen, (1..=20).collect::<Vec<_>>());
}

#[test]
fn an_act_too_large_for_an_entry_has_several() {
    let (_dir, store) = store();
    let mut ada = Author::new(1);
    let body = format!("{{\"x\":\"{}\"}}", "y".repeat(3000));
    let records: Vec<_> = (0..100).map(|n| ada.write(&format!("m{n}"), 5, Some(body.as_bytes()))).collect();
    let done = commit(&store, batch(records)).unwrap();
    let page = all(&store);
    assert!(done.entries > 1);
    assert_eq!(page.rows.len() as u64, done.entries);
    check(&page);
    let names: BTreeSet<String> =
        entries(&page).into_iter().flat_map(|e| e.changes).map(|change| change.name).collect();
    assert_eq!(names.len(), 100);
}

fn event(number: u64, at_unix_ms: u64, mirror: &str, to: &str) -> EventView {
    EventView {
        number,
        at_unix_ms,
        domain: "play.example".into(),
        mirror: mirror.into(),
        family: "v4".into(),
        from: "up".into(),
        to: to.into(),
        reason: "probe_failed".into(),
        vantage: "broker".into(),
        evidence: String::new(),
    }
}

#[test]
fn transitions_outlive_the_process_and_are_found() {
    let (dir, store) = store();
    let events = [
        event(5, 100, "lon", "down"),
        event(6, 200, "nyc", "down"),
        event(7, 300, "lon", "up"),
        event(8, 400, "lon", "down"),
    ];
    store.append_events(&events).unwrap();
    store.add_gap(320, 350).unwrap();
    drop(store);
    let store = RedbStore::open(dir.path()).unwrap();
    assert_eq!(store.newest_event(), Ok(8));
    let read = |filter: EventFilter| store.events_page(filter).unwrap()().unwrap();
    let numbers = |events: &[EventView]| events.iter().map(|e| e.number).collect::<Vec<_>>();
    let since = EventFilter { since_unix_ms: Some(250), limit: 1, ..EventFilter::default() };
    let first = read(since.clone());
    assert_eq!((numbers(&first.events), first.more), (vec![7], true));
    assert_eq!(numbers(&first.before), [5, 6], "of each mirror the last one before");
    assert_eq!(first.gaps, [(320, 350)]);
    let next = read(EventFilter { after: Some(7), ..since });
    assert_eq!((numbers(&next.events), next.more, next.before.len()), (vec![8], false, 0));
    let mirror = EventFilter { mirror: Some("nyc".into()), limit: 9, ..EventFilter::default() };
    assert_eq!(numbers(&read(mirror).events), [6]);
    let until = EventFilter { until_unix_ms: Some(300), limit: 9, ..EventFilter::default() };
    assert_eq!(read(until.clone()).events.len(), 2);
    assert!(read(until).gaps.is_empty());
    assert_eq!(store.prune_events(Keep { since_unix_ms: 250, most: 1 }), Ok(3));
    let left = read(EventFilter { limit: 9, ..EventFilter::default() });
    assert_eq!((numbers(&left.events), left.gaps), (vec![8], vec![(320, 350)]));
}

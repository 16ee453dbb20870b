//! The audit log and transitions in the store.

use super::*;
use crate::audit::{By, Ending, Via, acts};
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
            pruned_from: row.pruned_from,
        };
        check.next(&view).unwrap();
    }
    check.all_told().unwrap();
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
    assert_eq!(store.write_act(act(acts::INVITE, NOW), &Beside::Token([7; 32], token(NOW + 1))), Ok(1));
    assert!(store.check_token(&[7; 32], NOW).is_ok());
    assert_eq!(entries(&all(&store))[0].act, acts::INVITE);
}

#[test]
fn the_oldest_entries_go_and_the_chain_stays_one() {
    let (_dir, store) = store();
    for at in 1..=20 {
        store.write_act(act("backup", at * 100), &Beside::Nothing).unwrap();
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
    store.write_act(act("backup", NOW), &Beside::Nothing).unwrap();
    let page = all(&store);
    assert_eq!((page.anchor.0, page.rows.len(), page.head.0), (20, 1, 21));
    check(&page);
}

fn act_of(via: Via, at_unix_ms: u64) -> Act {
    Act { by: By { actor: "nn1a".into(), via, source: None }, ..act(acts::NODE_DECLARE, at_unix_ms) }
}

#[test]
fn what_agents_did_pushes_out_nothing_that_people_did_and_what_went_is_told() {
    let (_dir, store) = store();
    for n in 1..=20 {
        store.write_act(act(acts::BACKUP, n * 10), &Beside::Nothing).unwrap();
        for _ in 0..3 {
            store.write_act(act_of(Via::Agents, n * 10 + 1), &Beside::Nothing).unwrap();
        }
    }
    // However many agents' there are: twenty of people are not too many.
    assert_eq!(store.prune_audit(Keep { since_unix_ms: 0, most: 20 }), Ok(0));
    assert_eq!(store.prune_agents(60, NOW), Ok(0));
    // Somewhat more go than there are too many, so that not each few that come have an entry that tells of it; that
    // entry is not one too many of people's.
    assert_eq!(store.prune_agents(55, NOW), Ok(10));
    assert_eq!(store.prune_agents(55, NOW), Ok(0));
    assert_eq!(store.prune_audit(Keep { since_unix_ms: 0, most: 20 }), Ok(0));
    let page = all(&store);
    check(&page);
    assert_eq!((page.anchor.0, page.head.0), (0, 81));
    let gaps: Vec<_> = page.rows.iter().filter_map(|r| Some((r.pruned_from?, r.number))).collect();
    assert_eq!(gaps, [(2, 4), (6, 8), (10, 12), (14, 14)]);
    let last: AuditEntry = serde_json::from_str(&page.rows.last().unwrap().json).unwrap();
    assert_eq!((last.act.as_str(), last.changes[3].name.as_str()), (acts::PRUNE, "14-14"));
    let people = page.rows.iter().filter(|r| r.json.contains("\"backup\"")).count();
    assert_eq!(people, 20);
    // What follows a gap joins it.
    assert_eq!(store.prune_agents(49, NOW), Ok(5));
    let page = all(&store);
    check(&page);
    assert!(page.rows.iter().any(|r| r.pruned_from == Some(14) && r.number == 16));
    // Pages that begin or end at a gap miss nothing and tell nothing twice.
    let (mut after, mut numbers) = (0, Vec::new());
    while after < page.head.0 {
        let step = self::page(&store, AuditFilter { after, limit: 1, ..AuditFilter::default() });
        numbers.extend(step.rows.iter().map(|r| (r.pruned_from.unwrap_or(r.number), r.number)));
        after = step.seen;
    }
    let whole: Vec<_> = page.rows.iter().map(|r| (r.pruned_from.unwrap_or(r.number), r.number)).collect();
    assert_eq!(numbers, whole);
    let of_people = AuditFilter { act: Some(acts::BACKUP.into()), limit: 100, ..AuditFilter::default() };
    assert_eq!(self::page(&store, of_people).rows.len(), 20, "a gap may hold none of these");
}

#[test]
fn who_was_let_in_is_not_pushed_out_by_those_who_were_not() {
    let (_dir, store) = store();
    for (code, via) in [(acts::NODE_JOIN, Via::Agents), (acts::PEER_ADMIT, Via::Peers)] {
        for ending in [Ending::Done, Ending::Refused("unknown_token")] {
            store.write_act(Act { code: code.into(), ending, ..act_of(via, 10) }, &Beside::Nothing).unwrap();
        }
    }
    assert_eq!(store.prune_agents(0, NOW), Ok(2));
    let page = all(&store);
    check(&page);
    let gaps: Vec<_> = page.rows.iter().filter_map(|r| Some((r.pruned_from?, r.number))).collect();
    assert_eq!(gaps, [(2, 2), (4, 4)]);
}

#[test]
fn a_gap_is_told_whenever_a_part_of_it_was_in_the_time_asked_for() {
    let (_dir, store) = store();
    store.write_act(act(acts::BACKUP, 10), &Beside::Nothing).unwrap();
    for at in [20, 30, 40] {
        store.write_act(act_of(Via::Agents, at), &Beside::Nothing).unwrap();
    }
    store.write_act(act(acts::BACKUP, 50), &Beside::Nothing).unwrap();
    assert_eq!(store.prune_agents(0, NOW), Ok(3));
    let gaps = |since, until| {
        let (since_unix_ms, until_unix_ms) = (Some(since), Some(until));
        let page =
            page(&store, AuditFilter { since_unix_ms, until_unix_ms, limit: 9, ..AuditFilter::default() });
        page.rows.iter().filter_map(|r| Some((r.pruned_from?, r.number))).collect::<Vec<_>>()
    };
    // Its last was at 40.
    assert_eq!(gaps(15, 35), [(2, 4)]);
    assert_eq!(gaps(40, 45), [(2, 4)]);
    assert!(gaps(41, 60).is_empty() && gaps(0, 10).is_empty());
}

#[test]
fn a_store_from_before_it_was_noted_what_tells_of_prunings_is_copied_and_goes_on() {
    let (dir, store) = store();
    store.write_act(act_of(Via::Agents, 10), &Beside::Nothing).unwrap();
    drop(store);
    let db = redb::Builder::new().open(dir.path().join(FILE_NAME)).unwrap();
    let txn = db.begin_write().unwrap();
    txn.delete_table(tables::AUDIT_PRUNINGS).unwrap();
    txn.commit().unwrap();
    drop(db);
    let store = RedbStore::open(dir.path()).unwrap();
    store.backup(&dir.path().join("copy"), false).unwrap()().unwrap();
    store.write_act(act(acts::BACKUP, 20), &Beside::Nothing).unwrap();
    check(&all(&store));
}

#[test]
fn gaps_go_with_what_is_around_them_and_the_chain_stays_one() {
    let (_dir, store) = store();
    for via in [Via::Agents, Via::Agents, Via::Socket, Via::Peers, Via::Socket, Via::Agents, Via::Agents] {
        store.write_act(act_of(via, 10), &Beside::Nothing).unwrap();
    }
    // The two at the beginning leave no gap.
    assert_eq!(store.prune_agents(3, NOW), Ok(2));
    let page = all(&store);
    assert_eq!((page.anchor.0, page.rows[0].number), (2, 3));
    check(&page);
    // 4 is a gap now, and goes when 3 does.
    assert_eq!(store.prune_agents(2, NOW), Ok(1));
    check(&all(&store));
    // People: 3 and 5; what tells of the two prunings, 8 and 9, is nobody's.
    assert_eq!(store.prune_audit(Keep { since_unix_ms: 0, most: 2 }), Ok(0));
    assert_eq!(store.prune_audit(Keep { since_unix_ms: 0, most: 1 }), Ok(1));
    let page = all(&store);
    assert_eq!((page.anchor.0, page.rows[0].number), (4, 5));
    check(&page);
    // A gap at the end: nothing but agents' came since.
    store.write_act(act_of(Via::Agents, 10), &Beside::Nothing).unwrap();
    assert_eq!(store.prune_agents(0, NOW), Ok(3));
    check(&all(&store));
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy");
    store.backup(&copy, false).unwrap()().unwrap();
    restore(&copy, dir.path(), false, NOW).unwrap();
    check(&all(&RedbStore::open(dir.path()).unwrap()));
    assert_eq!(store.prune_audit(Keep { since_unix_ms: NOW + 1, most: 100 }).map(|gone| gone > 0), Ok(true));
    let page = all(&store);
    assert_eq!((page.rows.len(), page.anchor), (0, page.head));
}

#[test]
fn tokens_of_the_api_are_kept_with_their_entries() {
    let (dir, store) = store();
    let token = |name: &str, expires_unix_ms| ApiTokenEntry {
        name: name.into(),
        sha256: [7; 32],
        scope: nearmost_config::Scope::Metrics,
        created_by: "uid 0".into(),
        created_unix_ms: 5,
        expires_unix_ms,
    };
    for made in [token("b", None), token("a", Some(9))] {
        assert_eq!(store.write_act(act(acts::TOKEN_CREATE, 5), &Beside::ApiToken(made)), Ok(1));
    }
    drop(store);
    let store = RedbStore::open(dir.path()).unwrap();
    assert_eq!(store.api_tokens().unwrap(), [token("a", Some(9)), token("b", None)]);
    store.write_act(act(acts::TOKEN_REVOKE, 6), &Beside::Revoked("a".into())).unwrap();
    assert_eq!(store.api_tokens().unwrap(), [token("b", None)]);
    assert_eq!(all(&store).rows.len(), 3);
}

#[test]
fn a_blob_is_written_with_its_batch_or_not_at_all() {
    let (_dir, store) = store();
    let mut ada = Author::new(1);
    let first = ada.write("lon", 5, Some(b"{}"));
    let with =
        |value: &[u8], batch: WriteBatch| WriteBatch { blob: Some(("joins", value.to_vec())), ..batch };
    commit(&store, with(b"a", batch([first.clone()]))).unwrap();
    assert_eq!(store.get_meta("joins"), Ok(Some(b"a".to_vec())));
    // Nothing new in the registry, and the blob all the same.
    assert_eq!(commit(&store, with(b"b", batch([first]))).unwrap().entries, 0);
    assert_eq!(store.get_meta("joins"), Ok(Some(b"b".to_vec())));
    let late = WriteBatch { expect_version: Some(9), ..batch([ada.write("lon", 6, None)]) };
    commit(&store, with(b"c", late)).unwrap_err();
    assert_eq!(store.get_meta("joins"), Ok(Some(b"b".to_vec())));
}

#[test]
fn pages_hold_what_is_asked_for_and_go_on_where_they_ended() {
    let (_dir, store) = store();
    let mut ada = Author::new(1);
    for n in 0..10_u64 {
        let at =
            WriteBatch { received_unix_ms: n * 10, ..batch([ada.write(&format!("m{n}"), n, Some(b"{}"))]) };
        commit(&store, by(if n % 2 == 0 { "even" } else { "odd" }, acts::COMMIT, at)).unwrap();
        store.write_act(act(acts::BACKUP, n * 10 + 1), &Beside::Nothing).unwrap();
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

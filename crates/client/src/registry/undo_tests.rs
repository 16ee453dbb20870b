//! Tests of [`super`].

use super::*;
use crate::registry::sign::{Stamp, sign, to_view};
use nearmost_wire::api::{RecordView, RegistryResponse};
use nearmost_wire::identity::{KeyPair, Role};
use nearmost_wire::registry::{DomainBody, OverrideBody, PersonBody};
use std::collections::BTreeMap;

fn person(seed: u8) -> KeyPair {
    KeyPair::from_seed(Role::Person, &[seed; 32])
}

/// A broker's store, as far as history goes.
#[derive(Default)]
struct Store {
    records: BTreeMap<EntryKey, String>,
    history: Vec<HistoryView>,
    batch: u64,
    seq: u64,
}

impl Store {
    fn view(&self) -> RegistryView {
        let response = RegistryResponse {
            broker: KeyPair::from_seed(Role::Broker, &[200; 32]).id().to_string(),
            version: self.batch,
            hlc_millis: 1_000 + self.batch,
            hlc_counter: 0,
            author_epoch: 1,
            author_next_seq: self.seq,
            records: self.records.values().map(|r| RecordView { record: r.clone() }).collect(),
        };
        RegistryView::decode(&response).unwrap()
    }

    fn write(&mut self, plan: &Plan, by: &KeyPair, enrol: Option<&str>) -> u64 {
        self.batch += 1;
        let stamp = Stamp { now_unix_ms: 0, first_seq: self.seq };
        for signed in sign(plan, &self.view(), by, enrol, stamp).unwrap() {
            self.seq += 1;
            let key = EntryKey::of_record(signed.record().key()).unwrap();
            let record = to_view(&signed).record;
            let previous = self.records.insert(key, record.clone());
            self.history.push(HistoryView {
                batch: self.batch,
                version: self.batch,
                at_unix_ms: 0,
                actor: by.id().to_string(),
                note: String::new(),
                record,
                previous,
            });
        }
        self.batch
    }

    fn put(&mut self, by: &KeyPair, name: &str, answers: u8) -> u64 {
        let content = Content::Domain(DomainBody { answers, ..DomainBody::default() });
        let plan =
            Plan::of_edits(&self.view(), vec![Edit::put(EntryKey::domain(name).unwrap(), content)]).unwrap();
        self.write(&plan, by, None)
    }

    fn undo(&mut self, batch: u64, by: &KeyPair) -> Result<u64, UndoError> {
        let plan = plan(&self.history, batch, &self.view(), &by.id())?;
        Ok(self.write(&plan, by, None))
    }

    fn answers(&self, name: &str) -> Option<u8> {
        match self.view().content(&EntryKey::domain(name).unwrap()) {
            Some(Content::Domain(body)) => Some(body.answers),
            _ => None,
        }
    }
}

#[test]
fn a_change_an_addition_and_a_removal_are_taken_back_and_done_again() {
    let me = person(1);
    let mut store = Store::default();
    let added = store.put(&me, "a.example", 1);
    let changed = store.put(&me, "a.example", 5);
    let undone = store.undo(changed, &me).unwrap();
    assert_eq!(store.answers("a.example"), Some(1));
    store.undo(undone, &me).unwrap();
    assert_eq!(store.answers("a.example"), Some(5));

    let refused = store.undo(added, &me).unwrap_err().to_string();
    assert_eq!(
        refused,
        format!("change {added} cannot be undone: domain a.example was changed since, by {}", me.id())
    );

    let mut store = Store::default();
    let added = store.put(&me, "a.example", 1);
    let removed = store.undo(added, &me).unwrap();
    assert_eq!(store.answers("a.example"), None);
    store.undo(removed, &me).unwrap();
    assert_eq!(store.answers("a.example"), Some(1));
}

#[test]
fn a_corrected_place_is_taken_back_and_corrected_again() {
    let (me, other) = (person(1), person(2));
    let mut store = Store::default();
    let key = EntryKey::place_override("192.0.2.0/24").unwrap();
    let put = |store: &mut Store, asn: u32| {
        let content = Content::Override(OverrideBody { asn: Some(asn), ..OverrideBody::default() });
        let plan = Plan::of_edits(&store.view(), vec![Edit::put(key.clone(), content)]).unwrap();
        store.write(&plan, &me, None)
    };
    let added = put(&mut store, 7);
    let changed = put(&mut store, 8);
    assert!(matches!(store.undo(added, &me), Err(UndoError::ChangedSince { .. })));
    store.undo(changed, &other).unwrap();
    let asn = |store: &Store| store.view().overrides().map(|(_, body)| body.asn).collect::<Vec<_>>();
    assert_eq!(asn(&store), [Some(7)]);
    assert_eq!(store.view().maker(&key).unwrap().key, me.id().key);

    let mut store = Store::default();
    let added = put(&mut store, 7);
    let removed = store.undo(added, &me).unwrap();
    assert!(asn(&store).is_empty());
    store.undo(removed, &me).unwrap();
    assert_eq!(asn(&store), [Some(7)]);
}

#[test]
fn the_last_own_change_is_found_and_becoming_known_is_none() {
    let (me, other) = (person(1), person(2));
    let mut store = Store::default();
    assert!(matches!(last_own(&store.history, &me.id()), Err(UndoError::NothingOwn(_))));
    let mine = store.put(&me, "a.example", 1);
    store.put(&other, "b.example", 1);
    let known = Edit::put(EntryKey::person(&me.id()), Content::Person(PersonBody::default()));
    let plan = Plan::of_edits(&store.view(), vec![known]).unwrap();
    let known = store.write(&plan, &me, None);
    assert_eq!(last_own(&store.history, &me.id()).unwrap(), mine);
    assert!(matches!(store.undo(known, &me), Err(UndoError::Nothing(_))));
    assert!(matches!(store.undo(99, &me), Err(UndoError::NoBatch(99))));
}

#[test]
fn the_person_stays_known_when_their_first_change_is_taken_back() {
    let me = person(1);
    let mut store = Store::default();
    let content = Content::Domain(DomainBody::default());
    let first =
        Plan::of_edits(&store.view(), vec![Edit::put(EntryKey::domain("a.example").unwrap(), content)])
            .unwrap();
    let batch = store.write(&first, &me, Some("ada"));
    store.undo(batch, &me).unwrap();
    assert_eq!(store.answers("a.example"), None);
    assert!(store.view().knows_person(&me.id()));
}

#[test]
fn the_history_tells_what_each_change_did() {
    let me = person(1);
    let mut store = Store::default();
    store.put(&me, "a.example", 1);
    let changed = store.put(&me, "a.example", 5);
    store.undo(changed, &me).unwrap();
    let batches = crate::registry::history::batches(&store.history).unwrap();
    let shown: Vec<String> = batches.iter().flat_map(|b| b.changes.iter().map(ToString::to_string)).collect();
    assert_eq!(
        shown,
        [
            "~ domain a.example  answers: 5 → 1",
            "~ domain a.example  answers: 1 → 5",
            "+ domain a.example  answers: 1"
        ]
    );
    assert_eq!(batches[0].number, 3);
}

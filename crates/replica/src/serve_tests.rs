//! Tests of [`super`]: bounds on what is asked, and on how fast it is sent.

use super::*;
use crate::authority::Open;
use crate::key::SigningKey;
use crate::message::{MAX_ASKED, MAX_BATCH_BYTES, MAX_FETCHED};
use crate::record::{Body, Kind, Record};
use std::collections::BTreeSet;
use std::time::Duration;

fn set(records: usize, bytes: usize) -> StatementSet<Open> {
    let key = SigningKey::from_seed(&[5; 32]);
    let record = |n: usize| Record {
        kind: Kind::MIRROR,
        scope: "play.example".into(),
        id: n.to_string(),
        body: Body::Live { version: 1, bytes: vec![0; bytes] },
        hlc: crate::Hlc { millis: 1, counter: 0 },
        author: key.public(),
        author_epoch: 1,
        author_seq: n as u64,
        grants: vec![],
    };
    let all = (0..records).map(|n| SignedRecord::sign(record(n), &key).unwrap());
    StatementSet::new(Open, all, [], Duration::from_secs(300))
}

fn all_slots(set: &StatementSet<Open>) -> Vec<Slot> {
    set.range(Tree::Rest, Prefix::ROOT, Prefix::ROOT.first(), usize::MAX)
}

/// Everything that is sent, with when: as soon as it may be.
fn sent(serving: &mut Serving, set: &StatementSet<Open>, rate: u64) -> Vec<(u64, Vec<Vec<u8>>, bool)> {
    let mut out = Vec::new();
    let mut now_ms = 0;
    while let Some(at) = serving.next_load_ms() {
        now_ms = at.max(now_ms);
        let Some(Message::Records { records, done, .. }) = serving.next_load(set, now_ms, rate) else {
            panic!("it was due");
        };
        out.push((now_ms, records, done));
    }
    out
}

#[test]
fn all_of_a_part_is_sent_once_in_batches_within_bounds() {
    let set = set(700, 120);
    let mut serving = Serving::default();
    serving.take(Tree::Rest, Prefix::ROOT).unwrap();
    let sent = sent(&mut serving, &set, u64::MAX / 4000);
    assert!(sent.iter().all(|(_, r, _)| r.iter().map(Vec::len).sum::<usize>() <= MAX_BATCH_BYTES));
    assert!(sent.iter().all(|(_, r, _)| r.len() <= MAX_BATCH));
    let done: Vec<bool> = sent.iter().map(|s| s.2).collect();
    assert!(done.last() == Some(&true) && done.iter().filter(|d| **d).count() == 1);
    let all: Vec<_> = sent.into_iter().flat_map(|s| s.1).collect();
    assert_eq!((all.len(), all.into_iter().collect::<BTreeSet<_>>().len()), (700, 700));
}

#[test]
fn what_is_fetched_and_not_there_is_passed_over() {
    let set = set(10, 0);
    let there = all_slots(&set);
    let missing = |n: usize| Slot((n as u128 + 1).to_be_bytes());
    for slots in [
        (0..MAX_FETCHED).map(missing).collect::<Vec<_>>(),
        vec![],
        (0..600).map(missing).chain(there.clone()).chain((600..700).map(missing)).collect(),
        there.clone(),
    ] {
        let wanted = slots.iter().filter(|slot| there.contains(slot)).count();
        let mut serving = Serving::default();
        serving.fetch(Tree::Rest, slots).unwrap();
        let sent = sent(&mut serving, &set, 1 << 30);
        assert_eq!(sent.iter().map(|s| s.1.len()).sum::<usize>(), wanted);
        assert!(sent.len() <= 4 && sent.last().is_some_and(|s| s.2));
    }
}

#[test]
fn no_more_is_sent_than_the_rate_allows_but_for_a_burst() {
    let set = set(400, 1000);
    let rate = 50_000;
    let mut serving = Serving::default();
    (0..MAX_OPEN_REQUESTS).for_each(|_| serving.take(Tree::Rest, Prefix::ROOT).unwrap());
    let mut bytes = 0;
    for (at_ms, records, _) in sent(&mut serving, &set, rate) {
        let earned = rate * (at_ms + BURST_MS) / 1000;
        assert!(bytes <= earned, "{bytes} bytes before {at_ms} ms");
        bytes += records.iter().map(|r| r.len() as u64).sum::<u64>();
    }
    assert!(bytes > 4 * 400 * 1000);
}

#[test]
fn more_requests_at_once_than_there_may_be_are_a_breach() {
    let mut serving = Serving::default();
    (0..MAX_OPEN_REQUESTS).for_each(|_| serving.fetch(Tree::Rest, vec![]).unwrap());
    let most = Err(Breach::Requests { most: MAX_OPEN_REQUESTS });
    assert_eq!(serving.fetch(Tree::Rest, vec![]), most);
    assert_eq!(serving.take(Tree::Rest, Prefix::ROOT), most);
    let asked = || vec![Prefix::ROOT; MAX_ASKED];
    (0..MAX_OPEN_PARTS / MAX_ASKED).for_each(|_| serving.ask(Tree::Rest, asked()).unwrap());
    assert_eq!(serving.ask(Tree::Rest, vec![Prefix::ROOT]), Err(Breach::Requests { most: MAX_OPEN_PARTS }));
}

#[test]
fn a_comparison_that_begins_takes_the_place_of_what_was_asked_before() {
    let set = set(3, 0);
    let mut serving = Serving::default();
    serving.ask(Tree::Rest, vec![Prefix::ROOT; 9]).unwrap();
    serving.take(Tree::Rest, Prefix::ROOT).unwrap();
    serving.compare(&set, Tree::Rest, set.tree(Tree::Rest).root());
    assert_eq!(serving.next_load_ms(), None);
    assert_eq!(serving.next_words(&set), Some(Message::Same { tree: Tree::Rest }));
    assert_eq!(serving.next_words(&set), None);
    serving.compare(&set, Tree::Rest, [1; 16]);
    assert!(matches!(serving.next_words(&set), Some(Message::Told { part: Prefix::ROOT, .. })));
}

//! What every store does, whatever it keeps its rows in.

use super::Outcome::*;
use super::*;
use nearmost_replica::merge::Rule;
use std::cell::RefCell;

/// How long a tombstone lives, and how long it is remembered that it was forgotten, in milliseconds.
const LIFE: u64 = 30 * 24 * 3600 * 1000;
const GRAVE_LIFE: u64 = 4 * LIFE;

/// Runs every check on a new, empty store each.
pub(super) fn conforms(new: &dyn Fn() -> Box<dyn Store>) {
    let checks: &[fn(&dyn Store)] = &[
        each_author_has_its_statement,
        merging_is_within_one_author,
        a_refused_batch_is_alone_and_whole,
        a_fork_of_a_peer_hinders_nothing_else,
        a_peer_brings_no_tombstone_past_its_life,
        a_forgotten_key_stays_forgotten,
        a_grave_is_forgotten_in_the_end,
        a_tombstone_goes_with_what_it_stands_above,
        an_old_tombstone_buries_what_it_stands_above,
        what_is_exhumed_comes_in_again,
        a_hidden_tombstone_decides_nothing,
        final_removal_takes_later_statements_with_it,
        the_log_is_in_order_and_knows_what_is_local,
        numbers_are_found,
        dropped_statements_may_come_again,
        peers_are_kept,
        evidence_is_the_earliest,
        tokens_are_good_once,
        blobs_are_kept_until_removed,
    ];
    for check in checks {
        check(&*new());
    }
}

#[test]
fn the_redb_store_conforms() {
    let dirs = RefCell::new(Vec::new());
    conforms(&|| {
        let dir = tempfile::tempdir().unwrap();
        let store = RedbStore::open(dir.path()).unwrap();
        dirs.borrow_mut().push(dir);
        Box::new(store)
    });
}

fn outcomes(store: &dyn Store, batch: WriteBatch) -> Vec<Outcome> {
    commit(store, batch).unwrap().outcomes
}

fn records(store: &dyn Store) -> Vec<SignedRecord> {
    store.contents().unwrap().records
}

fn collect(store: &dyn Store, now: u64) -> Vec<SignedRecord> {
    store.collect(now, &HashSet::new()).unwrap().removed
}

/// Three authors, in the order of their keys.
fn authors() -> [Author; 3] {
    let mut authors = [Author::new(1), Author::new(2), Author::new(3)];
    authors.sort_by_key(|author| author.key.public());
    authors
}

fn each_author_has_its_statement(store: &dyn Store) {
    let [mut ada, mut bob, mut eve] = authors();
    let (a, b) = (ada.write("lon", 9, Some(b"a")), bob.write("lon", 5, Some(b"b")));
    let e = eve.write("alb", 1, None);
    assert_eq!(outcomes(store, batch([b.clone(), e.clone()])), [Applied, Applied]);
    assert_eq!(outcomes(store, relayed([a.clone()], 9)), [Applied]);
    assert_eq!(records(store), [e, a.clone(), b], "sorted by key, then author");
    // Before in the log is what was greatest of all authors.
    let c = bob.write("lon", 7, None);
    assert_eq!(outcomes(store, batch([c.clone()])), [Applied]);
    let newest = store.history(&HistoryFilter { limit: 1, ..Default::default() }).unwrap();
    assert_eq!((&newest[0].record, &newest[0].previous), (&c, &Some(a)));
    assert_eq!(store.version(), Ok(3));
}

fn merging_is_within_one_author(store: &dyn Store) {
    let [mut ada, mut bob, _] = authors();
    let (old, new) = (ada.write("lon", 5, Some(b"old")), ada.write("lon", 6, Some(b"new")));
    let other = bob.write("lon", 50, Some(b"b"));
    let first = commit(store, relayed([other.clone(), new.clone(), old.clone(), new.clone()], 60)).unwrap();
    assert_eq!(first.outcomes, [Applied, Applied, Superseded, Duplicate]);
    let again = commit(store, relayed([old, new.clone()], 61)).unwrap();
    assert_eq!((again.version, again.outcomes), (1, vec![Superseded, Duplicate]));
    assert_eq!(records(store), [new, other]);
    assert_eq!(store.contents().unwrap().max_hlc.millis, 50);
    assert_eq!(store.author_position(&ada.key.public()).unwrap().next_seq, 3);
}

fn a_refused_batch_is_alone_and_whole(store: &dyn Store) {
    let [mut ada, mut bob, mut eve] = authors();
    let first = ada.write("lon", 5, Some(b"a"));
    commit(store, batch([first.clone()])).unwrap();
    let forked = [bob.write("nyc", 6, Some(b"b")), ada.sign(1, "syd", 6, None)];
    let late = WriteBatch { expect_version: Some(7), ..batch([bob.write("fra", 6, None)]) };
    let good = eve.write("par", 6, Some(b"e"));
    let answers = store.commit_group(&[batch(forked), late, batch([good.clone()])]);
    let fork = StoreError::AuthorForked { author: ada.key.public(), epoch: 1, seq: 1 };
    assert_eq!(answers[0], Err(fork));
    assert_eq!(answers[1], Err(StoreError::VersionMismatch { expected: 7, found: 1 }));
    assert_eq!(answers[2].as_ref().unwrap().version, 2);
    assert_eq!(records(store), [first, good]);
    assert_eq!(store.author_position(&bob.key.public()), Ok(AuthorPosition::default()));
}

fn a_fork_of_a_peer_hinders_nothing_else(store: &dyn Store) {
    let [mut ada, mut bob, _] = authors();
    let first = ada.write("lon", 5, Some(b"a"));
    commit(store, batch([first.clone()])).unwrap();
    let (b, c) = (bob.write("lon", 6, Some(b"b")), bob.write("nyc", 6, Some(b"c")));
    let elsewhere = ada.sign(1, "syd", 6, None);
    let instead = ada.sign(1, "lon", 7, Some(b"x"));
    let within = bob.sign(2, "fra", 7, None);
    let delivered = [b.clone(), elsewhere, instead, c.clone(), within, first.clone()];
    let told = commit(store, relayed(delivered, 9)).unwrap();
    assert_eq!(told.outcomes, [Applied, Forked, Forked, Applied, Forked, Duplicate]);
    assert_eq!(records(store), [first.clone(), b, c]);
    assert_eq!(store.find_numbered(&ada.key.public(), 1, 1), Ok(Some(first)));
}

fn a_peer_brings_no_tombstone_past_its_life(store: &dyn Store) {
    let [mut ada, ..] = authors();
    let (old, young) = (ada.write("old", 10, None), ada.write("young", 11, None));
    let told = outcomes(store, relayed([old.clone(), young.clone()], 10 + LIFE));
    assert_eq!(told, [Gone, Applied]);
    // With a clock that is right again it comes in: refusing it left nothing behind.
    assert_eq!(outcomes(store, relayed([old.clone()], 9 + LIFE)), [Applied]);
    assert_eq!(records(store), [old, young]);
}

fn a_forgotten_key_stays_forgotten(store: &dyn Store) {
    let [mut ada, mut bob, mut eve] = authors();
    let (a, b) = (ada.write("lon", 5, Some(b"a")), bob.write("lon", 6, Some(b"b")));
    let removal = ada.write("lon", 10, None);
    let other = eve.write("nyc", 7, Some(b"n"));
    commit(store, batch([a.clone(), b.clone(), removal.clone(), other.clone()])).unwrap();
    assert_eq!(collect(store, 9 + LIFE), []);
    let collected = store.collect(10 + LIFE, &HashSet::new()).unwrap();
    assert_eq!(collected, Collected { removed: vec![removal.clone(), b.clone()], tombstones: 1, tokens: 0 });
    assert_eq!(store.collect(10 + LIFE, &HashSet::new()), Ok(Collected::default()));
    assert_eq!(records(store), [other]);
    assert_eq!(store.version(), Ok(1));

    let now = 11 + LIFE;
    let unseen = [eve.write("lon", 9, Some(b"e")), eve.write("lon", 10, Some(b"e"))];
    assert_eq!(outcomes(store, relayed([a, b.clone(), removal], now)), [Gone, Gone, Gone]);
    assert_eq!(outcomes(store, relayed(unseen, now)), [Gone, Gone]);
    assert_eq!(store.contents().unwrap().version, 1);
    let later = eve.write("lon", 11, Some(b"e"));
    assert_eq!(outcomes(store, relayed([later], now)), [Applied]);
    // Who is here may say it again.
    assert_eq!(outcomes(store, batch([b])), [Applied]);
}

fn a_grave_is_forgotten_in_the_end(store: &dyn Store) {
    let [mut ada, mut bob, mut eve] = authors();
    let b = bob.write("lon", 6, Some(b"b"));
    commit(store, batch([b.clone(), ada.write("lon", 10, None)])).unwrap();
    assert_eq!(collect(store, 10 + LIFE).len(), 2);
    let unseen = eve.write("lon", 9, Some(b"e"));
    collect(store, 9 + GRAVE_LIFE);
    assert_eq!(outcomes(store, relayed([unseen.clone()], 9 + GRAVE_LIFE)), [Gone]);
    collect(store, 10 + GRAVE_LIFE);
    // Numbers are known for ever.
    assert_eq!(outcomes(store, relayed([unseen, b], 10 + GRAVE_LIFE)), [Applied, Gone]);
}

fn a_tombstone_goes_with_what_it_stands_above(store: &dyn Store) {
    let [mut ada, mut bob, mut eve] = authors();
    let a = ada.write("lon", 5, Some(b"a"));
    let removal = ada.write("lon", 10, None);
    let b = bob.write("lon", 20, Some(b"b"));
    let below = eve.write("lon", 8, Some(b"e"));
    commit(store, batch([a.clone(), removal.clone(), b.clone(), below.clone()])).unwrap();
    assert_eq!(collect(store, 10 + LIFE).len(), 2);
    let told = commit(store, relayed([removal.clone(), a, b.clone(), below], 10 + LIFE)).unwrap();
    assert_eq!(told.outcomes, [Gone, Gone, Duplicate, Gone]);
    let shown: Vec<usize> = told.graves.iter().map(|grave| grave.0).collect();
    assert!(shown == [0, 1, 3] && told.graves.iter().all(|grave| grave.1 == removal), "why they are gone");
    let e = eve.write("lon", 9, Some(b"e"));
    assert_eq!(outcomes(store, relayed([e], 10 + LIFE)), [Gone], "it is below the grave");
    assert_eq!(records(store), [b]);
}

fn an_old_tombstone_buries_what_it_stands_above(store: &dyn Store) {
    let [mut ada, mut bob, mut eve] = authors();
    let b = bob.write("lon", 5, Some(b"b"));
    commit(store, batch([b.clone()])).unwrap();
    let removal = ada.write("lon", 10, None);
    // Its author has said something since, as others know that did not see the removal.
    let later = ada.write("lon", 20, Some(b"a"));
    let e = eve.write("lon", 9, Some(b"e"));
    assert_eq!(outcomes(store, relayed([later.clone(), e.clone()], 11 + LIFE)), [Applied, Applied]);
    let told = commit(store, relayed([removal.clone()], 11 + LIFE)).unwrap();
    assert_eq!(told.outcomes, [Gone]);
    assert_eq!(told.buried.len(), 2);
    assert_eq!(records(store), [later]);
    assert_eq!(outcomes(store, relayed([b, removal, e], 11 + LIFE)), [Gone, Gone, Gone]);
}

fn what_is_exhumed_comes_in_again(store: &dyn Store) {
    let [mut ada, mut bob, _] = authors();
    let b = bob.write("lon", 5, Some(b"b"));
    commit(store, batch([b.clone(), ada.write("lon", 10, None)])).unwrap();
    assert_eq!(collect(store, 10 + LIFE).len(), 2);
    assert_eq!(outcomes(store, relayed([b.clone()], 10 + LIFE)), [Gone]);
    store.exhume(std::slice::from_ref(&b), false).unwrap();
    assert_eq!(outcomes(store, relayed([b.clone()], 10 + LIFE)), [Gone], "its grave is there");
    store.exhume(std::slice::from_ref(&b), true).unwrap();
    assert_eq!(outcomes(store, relayed([b], 10 + LIFE)), [Applied]);
}

fn a_hidden_tombstone_decides_nothing(store: &dyn Store) {
    let [mut ada, mut bob, mut eve] = authors();
    let (removal, b) = (ada.write("lon", 30, None), bob.write("lon", 20, Some(b"b")));
    commit(store, batch([removal.clone(), b.clone()])).unwrap();
    let hidden = HashSet::from([(removal.record().key(), ada.key.public())]);
    assert_eq!(store.collect(30 + LIFE, &hidden).unwrap().removed, [removal]);
    let e = eve.write("lon", 10, Some(b"e"));
    assert_eq!(outcomes(store, relayed([e.clone()], 30 + LIFE)), [Applied], "there is no grave");
    assert_eq!(records(store), [b, e]);
}

fn final_removal_takes_later_statements_with_it(store: &dyn Store) {
    let [ada, bob, eve] = authors();
    let kind = Kind::application(Rule::RemovalFinal, 1).unwrap();
    let removal = ada.sign_as(kind, 1, "x", 10, None);
    let later = bob.sign_as(kind, 1, "x", 20, Some(b"b"));
    commit(store, batch([later.clone(), removal.clone()])).unwrap();
    assert_eq!(collect(store, 10 + LIFE), [removal, later.clone()]);
    let between = eve.sign_as(kind, 1, "x", 15, Some(b"e"));
    let told = outcomes(store, relayed([later, between], 10 + LIFE));
    assert_eq!(told, [Gone, Gone], "what was written before the tombstone is past its life");
}

fn the_log_is_in_order_and_knows_what_is_local(store: &dyn Store) {
    let [mut ada, mut bob, mut eve] = authors();
    let mut written = Vec::new();
    for round in 1..=3 {
        let own = [ada.write("lon", round, Some(b"a")), ada.write("nyc", round, Some(b"a"))];
        let others = [bob.write("lon", round, Some(b"b")), eve.write("syd", round, None)];
        commit(store, WriteBatch { received_unix_ms: round, ..batch(own.clone()) }).unwrap();
        commit(store, relayed(others.clone(), round + 10)).unwrap();
        written.extend(own.map(|r| (round, r)).into_iter().chain(others.map(|r| (round + 10, r))));
    }
    let all: Vec<_> = (1..).zip(written).map(|(at, (received, record))| (at, received, record)).collect();
    assert_eq!(store.log_head(), Ok(12));
    assert_eq!(store.log_after(0, 100, false).unwrap(), all);
    assert_eq!(store.log_after(5, 4, false).unwrap(), all[5..9]);
    assert_eq!(store.log_after(12, 4, false), Ok(vec![]));
    assert_eq!(store.log_after(u64::MAX, 4, false), Ok(vec![]));
    let local: Vec<_> = all.iter().filter(|(_, received, _)| *received < 10).cloned().collect();
    assert_eq!(store.log_after(0, 100, true).unwrap(), local);
    assert_eq!(store.log_after(1, 2, true).unwrap(), local[1..3]);
    assert_eq!(store.log_after(10, 100, true), Ok(vec![]));
    assert_eq!(store.log_after(0, 0, true), Ok(vec![]));
    let epoch = store.log_epoch().unwrap();
    assert_ne!(epoch, 0);
    assert_eq!(store.log_epoch(), Ok(epoch));
}

fn numbers_are_found(store: &dyn Store) {
    let [mut ada, mut bob, _] = authors();
    let author = ada.key.public();
    let (one, two, three) =
        (ada.write("lon", 5, Some(b"a")), ada.write("lon", 9, None), ada.write("lon", 7, None));
    commit(store, batch([bob.write("lon", 6, None), one.clone(), two.clone(), three])).unwrap();
    commit(store, batch([one.clone()])).unwrap();
    assert_eq!(store.find_numbered(&author, 1, 1), Ok(Some(one)), "though it does not stand any more");
    assert_eq!(store.find_numbered(&author, 1, 2), Ok(Some(two)));
    assert_eq!(store.find_numbered(&author, 1, 3), Ok(None), "it was never applied");
    assert_eq!(store.find_numbered(&author, 2, 1), Ok(None));
}

fn dropped_statements_may_come_again(store: &dyn Store) {
    let [mut ada, mut bob, eve] = authors();
    let (a, b) = (ada.write("lon", 5, Some(b"a")), bob.write("lon", 6, Some(b"b")));
    commit(store, batch([a.clone(), b.clone()])).unwrap();
    let key = a.record().key();
    let absent = (key.clone(), eve.key.public());
    assert_eq!(store.drop_statements(std::slice::from_ref(&absent)), Ok(1));
    assert_eq!(store.drop_statements(&[(key, ada.key.public()), absent]), Ok(2));
    assert_eq!(store.version(), Ok(2));
    assert_eq!(records(store), std::slice::from_ref(&b));
    assert_eq!(store.log_head(), Ok(2));
    assert_eq!(store.find_numbered(&ada.key.public(), 1, 1), Ok(None));
    let again = commit(store, relayed([a.clone()], 9)).unwrap();
    assert_eq!((again.version, again.outcomes), (3, vec![Applied]));
    assert_eq!(records(store), [a, b]);
}

fn peers_are_kept(store: &dyn Store) {
    let (one, two) = (PublicKey([1; 32]), PublicKey([2; 32]));
    assert_eq!(store.load_peers(), Ok(vec![]));
    store.save_peers(&[(two, Some(vec![2])), (one, Some(vec![]))]).unwrap();
    store.save_peers(&[(two, Some(vec![3]))]).unwrap();
    assert_eq!(store.load_peers(), Ok(vec![(one, vec![]), (two, vec![3])]));
    store.save_peers(&[(one, None), (PublicKey([3; 32]), None)]).unwrap();
    store.save_peers(&[]).unwrap();
    assert_eq!(store.load_peers(), Ok(vec![(two, vec![3])]));
}

fn evidence_is_the_earliest(store: &dyn Store) {
    let [ada, bob, _] = authors();
    let (author, other) = (ada.key.public(), bob.key.public());
    let fork = |seq, id| (ada.sign(seq, id, 5, None), ada.sign(seq, id, 6, None));
    let (second, third, again) = (fork(2, "b"), fork(3, "c"), fork(2, "d"));
    for (name, a, b) in [
        (author, &second.0, &second.0),
        (author, &second.0, &third.1),
        (other, &second.0, &second.1),
        (author, &second.0, &bob.sign(2, "b", 7, None)),
    ] {
        assert_eq!(store.put_evidence(&name, a, b), Err(StoreError::NoFork { author: name }));
    }
    assert_eq!(store.load_evidence(), Ok(vec![]));
    assert_eq!(store.put_evidence(&author, &third.0, &third.1), Ok(true));
    assert_eq!(store.put_evidence(&author, &second.0, &second.1), Ok(true));
    assert_eq!(store.put_evidence(&author, &third.0, &third.1), Ok(false));
    assert_eq!(store.put_evidence(&author, &again.0, &again.1), Ok(false));
    let theirs = (bob.sign(1, "x", 5, None), bob.sign(1, "y", 5, None));
    assert_eq!(store.put_evidence(&other, &theirs.0, &theirs.1), Ok(true));
    let kept = vec![(author, second.0, second.1), (other, theirs.0, theirs.1)];
    assert_eq!(store.load_evidence(), Ok(kept));
}

fn tokens_are_good_once(store: &dyn Store) {
    let [mut ada, ..] = authors();
    let refused = |e| StoreError::Token(e);
    store.put_token(&[1; 32], &token(NOW + 1)).unwrap();
    assert_eq!(store.check_token(&[1; 32], NOW), Ok(token(NOW + 1)));
    let expired = TokenError::Expired { expired_unix_ms: NOW + 1 };
    assert_eq!(store.check_token(&[1; 32], NOW + 1), Err(refused(expired)));
    let joining = WriteBatch { redeem: Some([1; 32]), ..batch([ada.write("lon", 5, Some(b"a"))]) };
    assert!(commit(store, joining.clone()).unwrap().changed());
    let used = TokenError::Used { used_unix_ms: NOW };
    assert_eq!(commit(store, joining), Err(refused(used)));
    assert_eq!(store.redeem_token(&[1; 32], NOW), Err(refused(used)));
    assert_eq!(store.redeem_token(&[2; 32], NOW), Err(refused(TokenError::Unknown)));
    assert_eq!(store.collect(NOW + 1 + LIFE, &HashSet::new()).unwrap().tokens, 1);
    assert_eq!(store.check_token(&[1; 32], NOW), Err(refused(TokenError::Unknown)));
}

fn blobs_are_kept_until_removed(store: &dyn Store) {
    store.put_meta("a", b"1").unwrap();
    store.put_meta("a", b"2").unwrap();
    assert_eq!(store.get_meta("a"), Ok(Some(b"2".to_vec())));
    store.remove_meta("a").unwrap();
    store.remove_meta("a").unwrap();
    assert_eq!(store.get_meta("a"), Ok(None));
}

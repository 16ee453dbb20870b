//! Tests of [`super`], most of them against a model that knows only what was acknowledged.

use super::*;
use crate::key::SigningKey;
use crate::record::{Body, Kind, Record};
use crate::time::Now;
use proptest::prelude::*;

const SLOTS: usize = 6;
const MOST: usize = 5;

/// Gives the statement in each slot of the tests.
fn finder() -> impl Fn(Slot) -> Option<SignedRecord> {
    let key = SigningKey::from_seed(&[7; 32]);
    let record = |n: usize| Record {
        kind: Kind::MIRROR,
        scope: "play.example".into(),
        id: n.to_string(),
        body: Body::Live { version: 1, bytes: vec![0; 100] },
        hlc: crate::Hlc { millis: 1, counter: 0 },
        author: key.public(),
        author_epoch: 1,
        author_seq: n as u64,
        grants: vec![],
    };
    let records: Vec<_> = (0..SLOTS).map(|n| SignedRecord::sign(record(n), &key).unwrap()).collect();
    move |slot| records.get(usize::from(slot.0[0])).cloned()
}

fn slot(n: usize) -> Slot {
    Slot([n as u8; 16])
}

/// The slot of a statement of [`finder`].
fn index(signed: &SignedRecord) -> usize {
    signed.record().author_seq as usize
}

fn at(mono_ms: u64) -> Now {
    Now { mono_ms, unix_ms: mono_ms }
}

fn answer(outbox: &mut Outbox, batch: u64, answers: &[Answer], now_ms: u64) -> Result<Taken, Breach> {
    outbox.answered(batch, answers, at(now_ms), &Backoff::default(), &mut Random::new(now_ms))
}

#[test]
fn a_later_write_takes_the_place_of_one_that_waits_and_keeps_its_age() {
    let find = finder();
    let mut outbox = Outbox::new(10, 8);
    assert!(outbox.push_local(11, slot(0), 100) && outbox.push_local(12, slot(1), 200));
    assert!(outbox.push_local(13, slot(0), 300));
    assert_eq!((outbox.len(), outbox.acked(), outbox.oldest_unix_ms()), (2, 11, Some(100)));
    let (batch, records) = outbox.next_batch(0, &find).unwrap();
    assert_eq!(records.iter().map(index).collect::<Vec<_>>(), [1, 0]);
    assert!(outbox.next_batch(0, &find).is_none());
    let taken = answer(&mut outbox, batch, &[Answer::Applied, Answer::Duplicate], 0).unwrap();
    assert_eq!((taken.settled, outbox.acked(), outbox.in_flight_bytes()), (2, 13, 0));
}

#[test]
fn what_expires_is_what_has_waited_longest_whatever_was_written_last() {
    let mut outbox = Outbox::new(0, 8);
    assert!(outbox.push_local(1, slot(0), 100) && outbox.push_local(2, slot(1), 200));
    assert!(outbox.push_local(3, slot(0), 300) && outbox.push_repair(slot(2), 150));
    assert_eq!(outbox.expire(150), 1);
    assert_eq!((outbox.len(), outbox.oldest_unix_ms(), outbox.acked()), (2, Some(150), 1));
    assert_eq!(outbox.expire(201), 2);
    assert_eq!((outbox.len(), outbox.oldest_unix_ms(), outbox.acked()), (0, None, 3));
}

#[test]
fn what_is_not_there_any_more_needs_no_sending() {
    let mut outbox = Outbox::new(0, 8);
    assert!(outbox.push_local(1, slot(0), 0));
    assert!(outbox.next_batch(0, |_| None).is_none());
    assert_eq!((outbox.len(), outbox.acked()), (0, 1));
}

#[test]
fn answers_to_nothing_and_of_another_number_are_breaches_and_change_nothing() {
    let find = finder();
    let mut outbox = Outbox::new(0, 8);
    assert!(outbox.push_local(1, slot(0), 0));
    let (batch, _) = outbox.next_batch(0, &find).unwrap();
    for (batch, answers) in [(batch + 1, 1), (batch, 0), (batch, 2)] {
        let answers = vec![Answer::Applied; answers];
        assert!(matches!(answer(&mut outbox, batch, &answers, 0), Err(Breach::Unasked(_))));
    }
    assert_eq!((outbox.len(), outbox.acked()), (1, 0));
    answer(&mut outbox, batch, &[Answer::Applied], 0).unwrap();
    assert!(answer(&mut outbox, batch, &[Answer::Applied], 0).is_err(), "the same answers again");
}

#[test]
fn answers_to_what_was_dropped_meanwhile_are_no_breach() {
    let find = finder();
    let mut outbox = Outbox::new(0, 8);
    assert!(outbox.push_local(1, slot(0), 0));
    let (batch, _) = outbox.next_batch(0, &find).unwrap();
    assert_eq!(outbox.clear(), 1);
    assert!(outbox.push_local(2, slot(0), 0));
    answer(&mut outbox, batch, &[Answer::MissingGrant], 0).unwrap();
    assert_eq!((outbox.len(), outbox.paused(), outbox.acked()), (1, 0, 1));
}

#[test]
fn a_repair_does_not_stand_for_a_write_of_our_own() {
    let find = finder();
    for retried in [false, true] {
        let mut outbox = Outbox::new(0, 8);
        assert!(outbox.push_local(1, slot(0), 0));
        let (batch, _) = outbox.next_batch(0, &find).unwrap();
        assert!(outbox.push_repair(slot(0), 0));
        match retried {
            true => drop(answer(&mut outbox, batch, &[Answer::Overloaded], 0).unwrap()),
            false => outbox.link_lost(),
        }
        // Repairs are not kept over a restart: the position has to say that the write is not there.
        assert_eq!((outbox.acked(), outbox.len()), (0, 1), "{retried}");
    }
}

#[test]
fn refusals_are_counted_the_latest_are_told_and_long_reasons_cut() {
    let find = finder();
    let mut outbox = Outbox::new(0, 1000);
    for position in 1..=40 {
        assert!(outbox.push_local(position, slot(0), 0));
        let (batch, _) = outbox.next_batch(0, &find).unwrap();
        answer(&mut outbox, batch, &[Answer::Unauthorised { why: "ü".repeat(150) }], position).unwrap();
    }
    let (latest, all) = outbox.refused();
    let latest: Vec<_> = latest.collect();
    assert_eq!((latest.len(), all, latest[0].at_unix_ms), (32, 40, 9));
    assert!(matches!(&latest[0].answer, Answer::Unauthorised { why } if why.len() == MAX_WHY));
    assert_eq!((outbox.len(), outbox.acked()), (0, 40));
}

#[test]
fn the_window_bounds_what_is_under_way() {
    let find = finder();
    let mut outbox = Outbox::new(0, 1 << 20);
    let mut position = 0;
    loop {
        position += 1;
        assert!(outbox.push_local(position, slot((position % SLOTS as u64) as usize), 0));
        if outbox.next_batch(0, &find).is_none() {
            break;
        }
    }
    assert_eq!(position, WINDOW_BATCHES as u64 + 1);
}

#[derive(Clone, Debug)]
enum Op {
    Local(usize),
    Repair(usize),
    Send,
    Gone(usize),
    Answer(usize, Vec<u8>),
    LinkLost,
    Pass(u64),
    Wake,
    Expire(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0..SLOTS).prop_map(Op::Local),
        3 => (0..SLOTS).prop_map(Op::Repair),
        5 => Just(Op::Send),
        1 => (0..SLOTS).prop_map(Op::Gone),
        5 => (0..3usize, prop::collection::vec(0..4u8, SLOTS)).prop_map(|(b, a)| Op::Answer(b, a)),
        1 => Just(Op::LinkLost),
        2 => (0..4000u64).prop_map(Op::Pass),
        1 => Just(Op::Wake),
        1 => (0..8000u64).prop_map(Op::Expire),
    ];
    prop::collection::vec(op, 0..80)
}

/// Which position of each slot was written last, and up to which the peer has it.
#[derive(Default)]
struct Model {
    position: u64,
    written: [u64; SLOTS],
    has: [u64; SLOTS],
    /// Batches under way: for each record its slot and the position that it covers.
    flight: Vec<(u64, Vec<(usize, u64)>)>,
    now_ms: u64,
}

impl Model {
    fn step(&mut self, outbox: &mut Outbox, op: Op, find: &impl Fn(Slot) -> Option<SignedRecord>) {
        match op {
            Op::Local(n) => {
                self.position += 1;
                self.written[n] = self.position;
                if !outbox.push_local(self.position, slot(n), self.now_ms) {
                    // The peer is behind: a comparison brings all.
                    outbox.clear();
                    self.has = self.written;
                }
            }
            Op::Repair(n) => drop(outbox.push_repair(slot(n), self.now_ms)),
            Op::Send => self.send(outbox, None, find),
            Op::Gone(n) => self.send(outbox, Some(n), find),
            Op::Answer(which, said) => self.answer(outbox, which, &said),
            Op::LinkLost => {
                outbox.link_lost();
                for (batch, sent) in self.flight.drain(..) {
                    let late = vec![Answer::Applied; sent.len()];
                    assert!(answer(outbox, batch, &late, self.now_ms).is_err(), "of a line that is lost");
                }
            }
            Op::Pass(ms) => self.now_ms += ms,
            Op::Wake => outbox.wake_all(),
            Op::Expire(age) => {
                if outbox.expire(self.now_ms.saturating_sub(age)) > 0 {
                    self.has = self.written;
                }
            }
        }
    }

    fn send(
        &mut self,
        outbox: &mut Outbox,
        gone: Option<usize>,
        find: &impl Fn(Slot) -> Option<SignedRecord>,
    ) {
        let there = |s: Slot| find(s).filter(|r| Some(index(r)) != gone);
        outbox.wake(self.now_ms);
        let queued =
            gone.is_some_and(|n| outbox.by_slot.get(&slot(n)).is_some_and(|i| outbox.waiting.contains(i)));
        let sent = outbox.next_batch(self.now_ms, there);
        if let Some(n) = gone.filter(|_| queued) {
            self.has[n] = self.written[n];
        }
        let Some((batch, records)) = sent else { return };
        assert!(self.flight.last().is_none_or(|(last, _)| *last < batch));
        let covers = records.iter().map(index).map(|n| (n, self.written[n])).collect();
        self.flight.push((batch, covers));
    }

    fn answer(&mut self, outbox: &mut Outbox, which: usize, said: &[u8]) {
        if self.flight.is_empty() {
            return;
        }
        let (batch, sent) = self.flight.remove(which % self.flight.len());
        let mut answers = Vec::new();
        for (i, (n, covers)) in sent.iter().enumerate() {
            answers.push(match said[i % said.len()] {
                0 => Answer::MissingGrant,
                1 => Answer::Forked,
                _ => Answer::Applied,
            });
            if said[i % said.len()] != 0 {
                self.has[*n] = self.has[*n].max(*covers);
            }
        }
        answer(outbox, batch, &answers, self.now_ms).expect("they were asked for");
    }

    fn check(&self, outbox: &Outbox) {
        assert!(outbox.len() <= MOST);
        for n in 0..SLOTS {
            let lacks = self.has[n] < self.written[n];
            assert!(!lacks || outbox.acked() < self.written[n], "slot {n}, acked {}", outbox.acked());
        }
        let in_flight = outbox.items.values().filter(|i| i.state == State::InFlight).count();
        assert_eq!(outbox.items.len(), outbox.waiting.len() + outbox.paused.len() + in_flight);
        let bytes: usize = outbox.flight.batches.values().map(|sent| sent.bytes).sum();
        assert_eq!(bytes, outbox.flight.bytes);
        let ages = outbox.items.iter().map(|(number, item)| (item.queued_unix_ms, *number)).collect();
        assert_eq!(outbox.by_age, ages);
        assert!(outbox.by_slot.values().all(|number| outbox.items.contains_key(number)));
    }
}

proptest! {
    #[test]
    fn the_position_never_passes_what_the_peer_lacks_and_all_is_delivered_in_the_end(ops in ops()) {
        let find = finder();
        let (mut outbox, mut model) = (Outbox::new(0, MOST), Model::default());
        for op in ops {
            model.step(&mut outbox, op, &find);
            model.check(&outbox);
        }
        model.step(&mut outbox, Op::LinkLost, &find);
        for _ in 0..4 * SLOTS {
            model.step(&mut outbox, Op::Wake, &find);
            model.step(&mut outbox, Op::Send, &find);
            model.step(&mut outbox, Op::Answer(0, vec![2]), &find);
            model.check(&outbox);
        }
        prop_assert!(outbox.is_empty());
        prop_assert_eq!(outbox.acked(), model.position);
        prop_assert_eq!(model.has, model.written);
    }
}

//! What one peer has not acknowledged.
//!
//! Items are numbered: those of our own writes by their position in our log, those that a comparison found
//! missing from `1 << 63` on. A later write to a slot takes the place of one that waits, so the queue is
//! never longer than there are statements.
//!
//! ```text
//!            push            next_batch             Settled
//!   (none) ────────▶ waiting ──────────▶ in flight ──────────▶ (none)
//!                      ▲  ▲                 │ │ │   Refused
//!                      │  └── link lost ────┘ │ └────────────▶ told, counted, dropped
//!                      │                      │ Retry
//!                      └── pause is over ── paused
//!        any state, older than the life ──▶ dropped, the peer is behind
//! ```

use crate::backoff::{Backoff, Random};
use crate::digest::Slot;
use crate::message::{Answer, Breach, Follow, MAX_WHY, fitting};
use crate::signed::SignedRecord;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

/// From here on items are not our log's.
const REPAIRS: u64 = 1 << 63;
/// Most bytes that wait for answers: a second of 32 Mbit/s.
const WINDOW_BYTES: usize = 4 << 20;
/// Most batches that wait for answers.
const WINDOW_BATCHES: usize = 1024;
/// Refusals that are remembered for people.
const REMEMBERED: usize = 32;

/// What a peer refused for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedItem {
    /// Which statement.
    pub slot: Slot,
    /// What the peer said.
    pub answer: Answer,
    /// When, in milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    InFlight,
    Paused { until_ms: u64 },
}

#[derive(Clone, Debug)]
struct Item {
    slot: Slot,
    queued_unix_ms: u64,
    attempts: u32,
    state: State,
}

#[derive(Clone, Copy, Debug)]
struct Numbers {
    /// The highest position of our log that was queued, or was there before.
    head: u64,
    next_repair: u64,
}

#[derive(Debug, Default)]
struct Flight {
    batches: BTreeMap<u64, Sent>,
    bytes: usize,
    next: u64,
}

#[derive(Debug)]
struct Sent {
    items: Vec<u64>,
    bytes: usize,
}

/// The queue of one peer.
#[derive(Debug)]
pub struct Outbox {
    items: BTreeMap<u64, Item>,
    by_slot: HashMap<Slot, u64>,
    waiting: BTreeSet<u64>,
    paused: BTreeSet<(u64, u64)>,
    /// Since when each waits, and its number. Numbers alone do not tell: a later write has the age of the one
    /// whose place it took.
    by_age: BTreeSet<(u64, u64)>,
    flight: Flight,
    numbers: Numbers,
    most: usize,
    refused: VecDeque<RefusedItem>,
    /// Items refused for good, ever.
    refusals: u64,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Items that are settled.
    pub settled: usize,
    /// Items to be tried again.
    pub retried: usize,
    /// Items refused for good.
    pub refused: usize,
}

impl Outbox {
    /// An empty queue of at most `most` items, whose peer has our log up to `head`.
    pub fn new(head: u64, most: usize) -> Outbox {
        Outbox {
            items: BTreeMap::new(),
            by_slot: HashMap::new(),
            waiting: BTreeSet::new(),
            paused: BTreeSet::new(),
            by_age: BTreeSet::new(),
            flight: Flight::default(),
            numbers: Numbers { head, next_repair: REPAIRS },
            most,
            refused: VecDeque::new(),
            refusals: 0,
        }
    }

    /// How many items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Since when the oldest item waits, in milliseconds since the Unix epoch.
    pub fn oldest_unix_ms(&self) -> Option<u64> {
        self.by_age.first().map(|(since, _)| *since)
    }

    /// Bytes that wait for answers.
    pub fn in_flight_bytes(&self) -> usize {
        self.flight.bytes
    }

    /// Items that wait for their pause to be over.
    pub fn paused(&self) -> usize {
        self.paused.len()
    }

    /// Up to which position of our log the peer needs nothing more.
    pub fn acked(&self) -> u64 {
        match self.items.keys().next() {
            Some(first) if *first < REPAIRS => first - 1,
            _ => self.numbers.head,
        }
    }

    /// The latest refusals, oldest first, and how many there ever were.
    pub fn refused(&self) -> (impl Iterator<Item = &RefusedItem>, u64) {
        (self.refused.iter(), self.refusals)
    }

    /// Queues a write of our own. Returns whether there was room.
    #[must_use]
    pub fn push_local(&mut self, position: u64, slot: Slot, queued_unix_ms: u64) -> bool {
        if position <= self.numbers.head {
            return true;
        }
        self.numbers.head = position;
        self.push(position, slot, queued_unix_ms)
    }

    /// Queues what a comparison found missing. Returns whether there was room.
    #[must_use]
    pub fn push_repair(&mut self, slot: Slot, queued_unix_ms: u64) -> bool {
        let queued = self.by_slot.get(&slot).and_then(|n| self.items.get(n));
        if queued.is_some_and(|item| item.state != State::InFlight) {
            return true;
        }
        self.numbers.next_repair += 1;
        self.push(self.numbers.next_repair, slot, queued_unix_ms)
    }

    fn push(&mut self, number: u64, slot: Slot, queued_unix_ms: u64) -> bool {
        let mut since = queued_unix_ms;
        if let Some(&earlier) = self.by_slot.get(&slot)
            && let Some(item) = self.items.get(&earlier)
            && item.state != State::InFlight
        {
            // The peer has been waiting for news of this since the earlier write.
            since = since.min(item.queued_unix_ms);
            self.remove(earlier);
        }
        if self.items.len() >= self.most {
            return false;
        }
        self.items.insert(number, Item { slot, queued_unix_ms: since, attempts: 0, state: State::Waiting });
        self.by_slot.insert(slot, number);
        self.by_age.insert((since, number));
        self.waiting.insert(number);
        true
    }

    fn remove(&mut self, number: u64) {
        let Some(item) = self.items.remove(&number) else { return };
        if self.by_slot.get(&item.slot) == Some(&number) {
            self.by_slot.remove(&item.slot);
        }
        self.by_age.remove(&(item.queued_unix_ms, number));
        self.waiting.remove(&number);
        if let State::Paused { until_ms } = item.state {
            self.paused.remove(&(until_ms, number));
        }
    }

    /// The next batch to send, if the window has room: its number and records. `find` gives the statement
    /// in a slot; what is no longer there needs no sending.
    pub fn next_batch(
        &mut self,
        now_ms: u64,
        find: impl Fn(Slot) -> Option<SignedRecord>,
    ) -> Option<(u64, Vec<SignedRecord>)> {
        self.wake(now_ms);
        if self.flight.bytes >= WINDOW_BYTES || self.flight.batches.len() >= WINDOW_BATCHES {
            return None;
        }
        let (mut numbers, mut records, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for &number in self.waiting.iter().take(crate::message::MAX_BATCH) {
            match self.items.get(&number).and_then(|item| find(item.slot)) {
                Some(signed) => {
                    numbers.push(number);
                    records.push(signed);
                }
                None => gone.push(number),
            }
        }
        gone.into_iter().for_each(|number| self.remove(number));
        let fits = fitting(records.iter().map(|r: &SignedRecord| r.bytes().len()));
        numbers.truncate(fits);
        records.truncate(fits);
        if numbers.is_empty() {
            return None;
        }
        let bytes = records.iter().map(|r| r.bytes().len()).sum();
        for number in &numbers {
            self.waiting.remove(number);
            if let Some(item) = self.items.get_mut(number) {
                item.state = State::InFlight;
            }
        }
        let batch = self.flight.next;
        self.flight.next += 1;
        self.flight.bytes += bytes;
        self.flight.batches.insert(batch, Sent { items: numbers, bytes });
        Some((batch, records))
    }

    /// Takes the answers to a batch.
    ///
    /// # Errors
    /// [`Breach`]: there is no such batch, or not as many answers as records.
    pub fn answered(
        &mut self,
        batch: u64,
        answers: &[Answer],
        now: crate::time::Now,
        backoff: &Backoff,
        random: &mut Random,
    ) -> Result<Taken, Breach> {
        let sent = self.flight.batches.get(&batch).ok_or(Breach::Unasked("answers"))?;
        if sent.items.len() != answers.len() {
            return Err(Breach::Unasked("another number of answers than there were records"));
        }
        let Some(sent) = self.flight.batches.remove(&batch) else { return Err(Breach::Unasked("answers")) };
        self.flight.bytes -= sent.bytes;
        let mut taken = Taken::default();
        for (number, answer) in sent.items.into_iter().zip(answers) {
            match answer.follow() {
                Follow::Settled => taken.settled += 1,
                Follow::Retry => {
                    taken.retried += 1;
                    self.pause(number, now.mono_ms, backoff, random);
                    continue;
                }
                Follow::Refused => {
                    taken.refused += 1;
                    self.note_refusal(number, answer, now.unix_ms);
                }
            }
            self.remove(number);
        }
        Ok(taken)
    }

    fn pause(&mut self, number: u64, now_ms: u64, backoff: &Backoff, random: &mut Random) {
        if !self.is_wanted(number) {
            return self.remove(number);
        }
        let Some(item) = self.items.get_mut(&number) else { return };
        item.attempts = item.attempts.saturating_add(1);
        let until_ms = now_ms + backoff.pause_ms(item.attempts, random.bits());
        item.state = State::Paused { until_ms };
        self.paused.insert((until_ms, number));
    }

    /// Whether an item that was under way is to be sent again. It is not where a later one of its slot is
    /// queued, but a repair is not later than a write of our own: only that keeps the position back that the
    /// peer is said to have.
    fn is_wanted(&mut self, number: u64) -> bool {
        let Some(slot) = self.items.get(&number).map(|item| item.slot) else { return false };
        match self.by_slot.get(&slot).copied() {
            Some(other) if other != number && (other < REPAIRS || number >= REPAIRS) => false,
            Some(repair) if repair != number => {
                if self.items.get(&repair).is_some_and(|item| item.state != State::InFlight) {
                    self.remove(repair);
                }
                self.by_slot.insert(slot, number);
                true
            }
            _ => {
                self.by_slot.insert(slot, number);
                true
            }
        }
    }

    fn note_refusal(&mut self, number: u64, answer: &Answer, at_unix_ms: u64) {
        let Some(item) = self.items.get(&number) else { return };
        self.refusals += 1;
        if self.refused.len() == REMEMBERED {
            self.refused.pop_front();
        }
        let mut answer = answer.clone();
        if let Answer::Unauthorised { why } | Answer::Malformed { why } = &mut answer {
            let cut = (0..=MAX_WHY.min(why.len())).rev().find(|at| why.is_char_boundary(*at)).unwrap_or(0);
            why.truncate(cut);
        }
        self.refused.push_back(RefusedItem { slot: item.slot, answer, at_unix_ms });
    }

    /// When a pause is over next, on the monotonic clock.
    pub fn next_wake_ms(&self) -> Option<u64> {
        self.paused.first().map(|(until_ms, _)| *until_ms)
    }

    fn wake(&mut self, now_ms: u64) {
        while let Some(&(until_ms, number)) = self.paused.first().filter(|(until_ms, _)| *until_ms <= now_ms)
        {
            self.paused.remove(&(until_ms, number));
            if let Some(item) = self.items.get_mut(&number) {
                item.state = State::Waiting;
                self.waiting.insert(number);
            }
        }
    }

    /// Whatever pauses is tried again now.
    pub fn wake_all(&mut self) {
        self.wake(u64::MAX);
    }

    /// The link is lost: what was under way may not have arrived.
    pub fn link_lost(&mut self) {
        let flight = std::mem::take(&mut self.flight);
        // Batches keep their numbers apart, so that no late answer is taken for another's.
        self.flight.next = flight.next;
        for number in flight.batches.into_values().flat_map(|sent| sent.items) {
            if !self.is_wanted(number) {
                self.remove(number);
            } else if let Some(item) = self.items.get_mut(&number) {
                item.state = State::Waiting;
                self.waiting.insert(number);
            }
        }
    }

    /// Drops what was queued before `before_unix_ms`; how many.
    pub fn expire(&mut self, before_unix_ms: u64) -> usize {
        let gone: Vec<u64> =
            self.by_age.iter().take_while(|(since, _)| *since < before_unix_ms).map(|(_, n)| *n).collect();
        gone.iter().for_each(|number| self.remove(*number));
        gone.len()
    }

    /// Drops everything; how much. Batches under way are still waited for: the peer will answer them.
    pub fn clear(&mut self) -> usize {
        let dropped = self.items.len();
        let (numbers, refusals) = (self.numbers, self.refusals);
        let (refused, flight) = (std::mem::take(&mut self.refused), std::mem::take(&mut self.flight));
        *self = Outbox { numbers, refused, refusals, flight, ..Outbox::new(numbers.head, self.most) };
        dropped
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;

//! One comparison of two stores, at the side that began it.
//!
//! ```text
//!            Compare ▶             ◀ Told: parts differ
//!   (none) ───────────▶ asking ───────────────────────▶ walking ◀──┐ Told, Records
//!                         │ ◀ Same                         │ └─────┘
//!                         ▼                                ▼ nothing is open any more
//!                      finished ◀──────────────────────────┘ Finished ▶
//! ```
//! The walk goes down first, so that what is open stays small however large the stores are. What the other
//! lacks is queued in its outbox as it is found. A walk that was cut off begins anew: what it has brought in
//! line is equal by then, and passed over.

use crate::digest::{DigestTree, Prefix, Slot, View, differences};
use crate::message::{Breach, MAX_ASKED, MAX_FETCHED, Message};
use crate::set::Tree;
use std::collections::{BTreeSet, VecDeque};

/// Parts asked about at once at most.
pub const MAX_OPEN_PARTS: usize = 256;
/// Requests for records at once at most: with [`MAX_FETCHED`] each they keep 150 ms of line busy.
pub const MAX_OPEN_REQUESTS: usize = 4;
/// Slots to fetch, above which nothing more is asked about.
const MANY_TO_FETCH: usize = 16 * MAX_FETCHED;
/// Parts to take, above which nothing more is asked about: a peer that tells of parts without end is not
/// remembered without end.
const MANY_TO_TAKE: usize = 4096;

/// A comparison that we began.
#[derive(Debug)]
pub struct Comparison {
    tree: Tree,
    begun: bool,
    told: bool,
    ask: Vec<Prefix>,
    open: BTreeSet<Prefix>,
    take: Vec<Prefix>,
    fetch: VecDeque<Slot>,
    requests: usize,
    /// Records received and not stored yet.
    storing: usize,
    /// Steps that the other took since it was last asked whether it does.
    steps: u64,
    /// What it has found so far.
    pub found: Found,
}

/// What a comparison found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// When it began, on the monotonic clock.
    pub began_ms: u64,
    /// Records received.
    pub received: u64,
    /// Of them applied.
    pub applied: u64,
    /// Of them refused because something that would allow them was not here.
    pub missing_grants: u64,
    /// Statements that the other lacked.
    pub offered: u64,
}

impl Comparison {
    /// Begins: the message to send first is [`Comparison::opening`].
    pub fn new(tree: Tree, now_ms: u64) -> Comparison {
        Comparison {
            tree,
            begun: false,
            told: false,
            ask: Vec::new(),
            open: BTreeSet::from([Prefix::ROOT]),
            take: Vec::new(),
            fetch: VecDeque::new(),
            requests: 0,
            storing: 0,
            steps: 0,
            found: Found { began_ms: now_ms, ..Found::default() },
        }
    }

    /// Of which tree.
    pub fn tree(&self) -> Tree {
        self.tree
    }

    /// Whether the other has told nothing yet.
    pub fn is_fresh(&self) -> bool {
        !self.told
    }

    /// Whether it is to be begun now: true once.
    pub fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.begun, true)
    }

    /// The message that begins it.
    pub fn opening(&self, ours: &DigestTree) -> Message {
        Message::Compare { tree: self.tree, root: ours.root() }
    }

    /// The hashes are equal.
    ///
    /// # Errors
    /// [`Breach::Unasked`].
    pub fn same(&mut self) -> Result<(), Breach> {
        if self.told || !self.open.remove(&Prefix::ROOT) {
            return Err(Breach::Unasked("that the hashes are equal"));
        }
        self.told = true;
        Ok(())
    }

    /// What the other told of a part. Returns what it lacks.
    ///
    /// # Errors
    /// [`Breach`].
    pub fn told(&mut self, ours: &DigestTree, part: Prefix, view: &View) -> Result<Vec<Slot>, Breach> {
        if !self.open.remove(&part) {
            return Err(Breach::Unasked("what is in a part"));
        }
        self.told = true;
        self.steps += 1;
        let found = differences(ours, part, view).ok_or(Breach::View)?;
        self.ask.extend(found.ask);
        self.take.extend(found.take);
        self.fetch.extend(found.fetch);
        self.found.offered += found.offer.len() as u64;
        Ok(found.offer)
    }

    /// Records arrived, to be stored.
    ///
    /// # Errors
    /// [`Breach::Unasked`].
    pub fn received(&mut self, records: usize, done: bool) -> Result<(), Breach> {
        if self.requests == 0 {
            return Err(Breach::Unasked("records"));
        }
        self.requests -= usize::from(done);
        self.steps += 1;
        self.storing += records;
        self.found.received += records as u64;
        Ok(())
    }

    /// So many of the records were stored or refused.
    pub fn stored(&mut self, records: usize, applied: usize, missing_grants: usize) {
        self.steps += 1;
        self.storing = self.storing.saturating_sub(records);
        self.found.applied += applied as u64;
        self.found.missing_grants += missing_grants as u64;
    }

    /// Whether the other, or the store, has taken a step since this was last asked.
    pub fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.steps) > 0
    }

    /// Whether nothing is open.
    pub fn is_finished(&self) -> bool {
        self.ask.is_empty()
            && self.open.is_empty()
            && self.take.is_empty()
            && self.fetch.is_empty()
            && self.requests == 0
            && self.storing == 0
    }

    /// The next request, if there is one to make now.
    pub fn next_request(&mut self) -> Option<Message> {
        let tree = self.tree;
        let room = MAX_OPEN_PARTS - self.open.len().min(MAX_OPEN_PARTS);
        if !self.told {
            return None;
        }
        let enough = self.fetch.len() >= MANY_TO_FETCH || self.take.len() >= MANY_TO_TAKE;
        if !self.ask.is_empty() && room >= MAX_ASKED.min(self.ask.len()) && !enough {
            let parts = self.ask.split_off(self.ask.len() - MAX_ASKED.min(self.ask.len()));
            self.open.extend(&parts);
            return Some(Message::Ask { tree, parts });
        }
        if self.requests >= MAX_OPEN_REQUESTS {
            return None;
        }
        if let Some(part) = self.take.pop() {
            self.requests += 1;
            return Some(Message::Take { tree, part });
        }
        let all_told = self.ask.is_empty() && self.open.is_empty();
        if self.fetch.len() >= MAX_FETCHED || (all_told && !self.fetch.is_empty()) {
            self.requests += 1;
            let slots = self.fetch.drain(..MAX_FETCHED.min(self.fetch.len())).collect();
            return Some(Message::Fetch { tree, slots });
        }
        None
    }
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;

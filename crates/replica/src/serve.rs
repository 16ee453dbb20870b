//! The other side of a comparison: answering what a peer asks. Nothing is made before it can be sent, so a
//! peer that asks for everything costs a few words of memory.

use crate::authority::Authority;
use crate::compare::{MAX_OPEN_PARTS, MAX_OPEN_REQUESTS};
use crate::digest::{Prefix, Slot};
use crate::message::{Breach, MAX_BATCH, Message, fitting};
use crate::set::{StatementSet, Tree};
use crate::signed::SignedRecord;
use std::collections::VecDeque;

/// A burst that the bound on bytes a second allows, in milliseconds of it.
const BURST_MS: u64 = 1000;

#[derive(Debug)]
enum Words {
    Same(Tree),
    Part(Tree, Prefix),
}

#[derive(Debug)]
enum Load {
    Part { tree: Tree, part: Prefix, from: Slot },
    Slots { tree: Tree, slots: VecDeque<Slot> },
}

/// What a peer has asked and was not answered.
#[derive(Debug, Default)]
pub struct Serving {
    words: VecDeque<Words>,
    loads: VecDeque<Load>,
    /// The bound on bytes a second is used up until then, on the monotonic clock.
    paid_until_ms: u64,
}

impl Serving {
    /// The peer begins a comparison.
    pub fn compare<A: Authority>(&mut self, set: &StatementSet<A>, tree: Tree, root: [u8; 16]) {
        // Whatever it asked in an earlier one it has given up.
        self.words.clear();
        self.loads.clear();
        let equal = set.tree(tree).root() == root;
        self.words.push_back(if equal { Words::Same(tree) } else { Words::Part(tree, Prefix::ROOT) });
    }

    /// The peer asks about parts.
    ///
    /// # Errors
    /// [`Breach::Requests`].
    pub fn ask(&mut self, tree: Tree, parts: Vec<Prefix>) -> Result<(), Breach> {
        if self.words.len() + parts.len() > MAX_OPEN_PARTS {
            return Err(Breach::Requests { most: MAX_OPEN_PARTS });
        }
        self.words.extend(parts.into_iter().map(|part| Words::Part(tree, part)));
        Ok(())
    }

    /// The peer wants all of a part.
    ///
    /// # Errors
    /// [`Breach::Requests`].
    pub fn take(&mut self, tree: Tree, part: Prefix) -> Result<(), Breach> {
        self.load(Load::Part { tree, part, from: part.first() })
    }

    /// The peer wants these.
    ///
    /// # Errors
    /// [`Breach::Requests`].
    pub fn fetch(&mut self, tree: Tree, slots: Vec<Slot>) -> Result<(), Breach> {
        self.load(Load::Slots { tree, slots: slots.into() })
    }

    fn load(&mut self, load: Load) -> Result<(), Breach> {
        if self.loads.len() >= MAX_OPEN_REQUESTS {
            return Err(Breach::Requests { most: MAX_OPEN_REQUESTS });
        }
        self.loads.push_back(load);
        Ok(())
    }

    /// The next short answer.
    pub fn next_words<A: Authority>(&mut self, set: &StatementSet<A>) -> Option<Message> {
        Some(match self.words.pop_front()? {
            Words::Same(tree) => Message::Same { tree },
            Words::Part(tree, part) => Message::Told { tree, part, view: set.tree(tree).view(part) },
        })
    }

    /// When the next records may be sent, on the monotonic clock, if any are wanted.
    pub fn next_load_ms(&self) -> Option<u64> {
        (!self.loads.is_empty()).then(|| self.paid_until_ms.saturating_sub(BURST_MS))
    }

    /// The next records, if at most `bytes_per_s` are sent.
    pub fn next_load<A: Authority>(
        &mut self,
        set: &StatementSet<A>,
        now_ms: u64,
        bytes_per_s: u64,
    ) -> Option<Message> {
        if self.next_load_ms()? > now_ms {
            return None;
        }
        let (tree, records, done) = match self.loads.front_mut()? {
            Load::Part { tree, part, from } => {
                // One more than fits tells whether there is more.
                let slots = set.range(*tree, *part, *from, MAX_BATCH + 1);
                let found: Vec<&SignedRecord> = slots.iter().filter_map(|slot| set.get(*slot)).collect();
                let fits = fitting(found.iter().map(|r| r.bytes().len()));
                let next = slots.get(fits).copied();
                if let Some(next) = next {
                    *from = next;
                }
                (*tree, bytes_of(&found[..fits]), next.is_none())
            }
            Load::Slots { tree, slots } => {
                let found: Vec<&SignedRecord> =
                    slots.iter().take(MAX_BATCH).filter_map(|slot| set.get(*slot)).collect();
                let fits = fitting(found.iter().map(|r| r.bytes().len()));
                // Those that are no longer there are passed over with the ones around them.
                let mut left = fits;
                while let Some(slot) = slots.front() {
                    let there = set.get(*slot).is_some();
                    if there && left == 0 {
                        break;
                    }
                    left -= usize::from(there);
                    slots.pop_front();
                }
                (*tree, bytes_of(&found[..fits]), slots.is_empty())
            }
        };
        if done {
            self.loads.pop_front();
        }
        let bytes: u64 = records.iter().map(|r| r.len() as u64).sum();
        self.paid_until_ms = self.paid_until_ms.max(now_ms) + (bytes * 1000).div_ceil(bytes_per_s.max(1));
        Some(Message::Records { tree, records, done })
    }
}

fn bytes_of(records: &[&SignedRecord]) -> Vec<Vec<u8>> {
    records.iter().map(|r| r.bytes().to_vec()).collect()
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;

//! What two stores say to each other.
//!
//! `R` is a record as it travels, its exact bytes; once they were checked it is what came of that.
//!
//! ```text
//!  delivery, each way                        comparison, from whoever begins one
//!   Deliver{batch, records} ────▶             Compare{tree, root} ────▶
//!   ◀──── Answers{batch, …}                   ◀──── Same | Told{part, view}
//!                                             Ask{parts} ────▶   ◀──── Told …
//!                                             Take{part} | Fetch{slots} ────▶   ◀──── Records … done
//!                                             Finished ────▶
//! ```

use crate::codec::{MAX_RECORD_BYTES, RecordError};
use crate::digest::{Hash, Prefix, Slot, View};
use crate::key::PublicKey;
use crate::set::Tree;
use crate::signed::SignedRecord;
use serde::{Deserialize, Serialize};

/// Most bytes of records in one message.
pub const MAX_BATCH_BYTES: usize = 48 * 1024;
/// Most records in one message.
pub const MAX_BATCH: usize = 512;
/// Most parts asked about in one message: their answers are a message each.
pub const MAX_ASKED: usize = 64;
/// Most slots fetched with one message.
pub const MAX_FETCHED: usize = 1024;
/// Most peers told of in one message.
pub const MAX_SEEN: usize = 512;
/// Longest reason in an answer, in bytes.
pub const MAX_WHY: usize = 200;

/// A record as it came, once its bytes were checked.
pub type Checked = Result<SignedRecord, RecordError>;

/// One message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message<R = Vec<u8>> {
    /// News, to be answered item by item.
    Deliver {
        /// The sender's number of this batch.
        batch: u64,
        /// At most [`MAX_BATCH`], [`MAX_BATCH_BYTES`].
        records: Vec<R>,
    },
    /// What became of each record of a batch.
    Answers {
        /// Which batch.
        batch: u64,
        /// One for each record, in their order.
        answers: Vec<Answer>,
    },
    /// Begins a comparison: this is the hash of all of mine.
    Compare {
        /// Of which tree.
        tree: Tree,
        /// The hash.
        root: Hash,
    },
    /// The hashes are equal.
    Same {
        /// Of which tree.
        tree: Tree,
    },
    /// What is in these parts of yours? At most [`MAX_ASKED`].
    Ask {
        /// Of which tree.
        tree: Tree,
        /// The parts.
        parts: Vec<Prefix>,
    },
    /// This is in a part.
    Told {
        /// Of which tree.
        tree: Tree,
        /// The part.
        part: Prefix,
        /// What is in it.
        view: View,
    },
    /// Send all of a part.
    Take {
        /// Of which tree.
        tree: Tree,
        /// The part.
        part: Prefix,
    },
    /// Send these; at most [`MAX_FETCHED`].
    Fetch {
        /// Of which tree.
        tree: Tree,
        /// Which.
        slots: Vec<Slot>,
    },
    /// What was taken or fetched, in the order of the requests.
    Records {
        /// Of which tree.
        tree: Tree,
        /// At most [`MAX_BATCH`], [`MAX_BATCH_BYTES`].
        records: Vec<R>,
        /// Whether the request is answered with it.
        done: bool,
    },
    /// The comparison is over: what differed was fetched, or is being delivered.
    Finished {
        /// Of which tree.
        tree: Tree,
    },
    /// I am back, or there still.
    Announce {
        /// Grows with each start of the sender.
        boot: u64,
    },
    /// One author, one number, two records.
    Fork {
        /// One of them.
        a: R,
        /// The other.
        b: R,
    },
    /// Peers that the sender is connected with, at most [`MAX_SEEN`].
    Seen {
        /// Which.
        peers: Vec<PublicKey>,
    },
    /// Tombstones long collected here, which show why something of yours is [`Answer::Gone`]; at most
    /// [`MAX_BATCH`], [`MAX_BATCH_BYTES`].
    Proofs {
        /// They.
        records: Vec<R>,
    },
}

/// What became of a delivered record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Answer {
    /// It is kept.
    Applied,
    /// It was here.
    Duplicate,
    /// Its author has said something greater since.
    Superseded,
    /// It was removed long ago.
    Gone,
    /// Nothing here says that its author may. To be tried again: what says so may be under way.
    MissingGrant,
    /// Its clock is too far ahead of ours. To be tried again.
    TooNew {
        /// By how much, in milliseconds.
        ahead_ms: u64,
    },
    /// Not now. To be tried again.
    Overloaded,
    /// Its author may not.
    Unauthorised {
        /// Why; at most [`MAX_WHY`] bytes are kept.
        why: String,
    },
    /// Its author is refused for a while.
    Banned {
        /// Until when, in milliseconds since the Unix epoch.
        until_unix_ms: u64,
    },
    /// Its author stated something else under the same number.
    Forked,
    /// It is no record, or not its author's.
    Malformed {
        /// Why; at most [`MAX_WHY`] bytes are kept.
        why: String,
    },
}

/// What a sender does about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Follow {
    /// Nothing: the other has it, or what is greater.
    Settled,
    /// Try again later.
    Retry,
    /// Give up, and tell people.
    Refused,
}

impl Answer {
    /// What a sender does about it.
    pub fn follow(&self) -> Follow {
        match self {
            Answer::Applied | Answer::Duplicate | Answer::Superseded | Answer::Gone => Follow::Settled,
            Answer::MissingGrant | Answer::TooNew { .. } | Answer::Overloaded => Follow::Retry,
            Answer::Unauthorised { .. }
            | Answer::Banned { .. }
            | Answer::Forked
            | Answer::Malformed { .. } => Follow::Refused,
        }
    }

    /// What [`Answer::label`] may say.
    pub const LABELS: [&'static str; 11] = [
        "applied",
        "duplicate",
        "superseded",
        "gone",
        "missing_grant",
        "too_new",
        "overloaded",
        "unauthorised",
        "banned",
        "forked",
        "malformed",
    ];

    /// A snake-case label for logs and counters.
    pub fn label(&self) -> &'static str {
        match self {
            Answer::Applied => "applied",
            Answer::Duplicate => "duplicate",
            Answer::Superseded => "superseded",
            Answer::Gone => "gone",
            Answer::MissingGrant => "missing_grant",
            Answer::TooNew { .. } => "too_new",
            Answer::Overloaded => "overloaded",
            Answer::Unauthorised { .. } => "unauthorised",
            Answer::Banned { .. } => "banned",
            Answer::Forked => "forked",
            Answer::Malformed { .. } => "malformed",
        }
    }
}

/// A message that breaks the rules; whoever sends one is hung up on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// Too many of something.
    #[error("{found} {what} in one message: at most {most} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        found: usize,
        /// The bound.
        most: usize,
    },
    /// A part of the tree that cannot be.
    #[error("a part of the tree that cannot be")]
    Part,
    /// A part was told of that does not hold together.
    #[error("what was told of a part of the tree does not fit it")]
    View,
    /// An answer to nothing.
    #[error("{0} without being asked")]
    Unasked(&'static str),
    /// More requests at once than there may be.
    #[error("more than {most} requests at once")]
    Requests {
        /// The bound.
        most: usize,
    },
}

impl<R> Message<R> {
    /// What [`Message::label`] may say.
    pub const LABELS: [&'static str; 14] = [
        "deliver", "answers", "proofs", "compare", "same", "ask", "told", "take", "fetch", "records",
        "finished", "announce", "seen", "fork",
    ];

    /// A snake-case label for logs and counters.
    pub fn label(&self) -> &'static str {
        match self {
            Message::Deliver { .. } => "deliver",
            Message::Answers { .. } => "answers",
            Message::Proofs { .. } => "proofs",
            Message::Compare { .. } => "compare",
            Message::Same { .. } => "same",
            Message::Ask { .. } => "ask",
            Message::Told { .. } => "told",
            Message::Take { .. } => "take",
            Message::Fetch { .. } => "fetch",
            Message::Records { .. } => "records",
            Message::Finished { .. } => "finished",
            Message::Announce { .. } => "announce",
            Message::Seen { .. } => "seen",
            Message::Fork { .. } => "fork",
        }
    }

    /// Whether it keeps the bounds.
    ///
    /// # Errors
    /// [`Breach`] names the bound.
    pub fn check_bounds(&self) -> Result<(), Breach> {
        let most = |what, found, most| match found > most {
            true => Err(Breach::TooMany { what, found, most }),
            false => Ok(()),
        };
        match self {
            Message::Deliver { records, .. }
            | Message::Records { records, .. }
            | Message::Proofs { records } => most("records", records.len(), MAX_BATCH),
            Message::Answers { answers, .. } => most("answers", answers.len(), MAX_BATCH),
            Message::Ask { parts, .. } => {
                most("parts", parts.len(), MAX_ASKED)?;
                parts.iter().all(Prefix::is_valid).then_some(()).ok_or(Breach::Part)
            }
            Message::Told { part, view, .. } => {
                if !part.is_valid() {
                    return Err(Breach::Part);
                }
                match view {
                    View::Leaf(items) => most("slots", items.len(), crate::digest::LEAF),
                    View::Inner(_) => Ok(()),
                }
            }
            Message::Take { part, .. } => part.is_valid().then_some(()).ok_or(Breach::Part),
            Message::Fetch { slots, .. } => most("slots", slots.len(), MAX_FETCHED),
            Message::Seen { peers } => most("peers", peers.len(), MAX_SEEN),
            Message::Compare { .. }
            | Message::Same { .. }
            | Message::Finished { .. }
            | Message::Announce { .. }
            | Message::Fork { .. } => Ok(()),
        }
    }

    /// The same with each record turned into something else.
    pub fn map<S>(self, mut f: impl FnMut(R) -> S) -> Message<S> {
        match self {
            Message::Deliver { batch, records } => {
                Message::Deliver { batch, records: records.into_iter().map(f).collect() }
            }
            Message::Proofs { records } => Message::Proofs { records: records.into_iter().map(f).collect() },
            Message::Answers { batch, answers } => Message::Answers { batch, answers },
            Message::Records { tree, records, done } => {
                Message::Records { tree, records: records.into_iter().map(f).collect(), done }
            }
            Message::Fork { a, b } => Message::Fork { a: f(a), b: f(b) },
            Message::Compare { tree, root } => Message::Compare { tree, root },
            Message::Same { tree } => Message::Same { tree },
            Message::Ask { tree, parts } => Message::Ask { tree, parts },
            Message::Told { tree, part, view } => Message::Told { tree, part, view },
            Message::Take { tree, part } => Message::Take { tree, part },
            Message::Fetch { tree, slots } => Message::Fetch { tree, slots },
            Message::Finished { tree } => Message::Finished { tree },
            Message::Announce { boot } => Message::Announce { boot },
            Message::Seen { peers } => Message::Seen { peers },
        }
    }
}

impl Message {
    /// The same with its records read and their signatures checked. Slow: about 75 µs a record.
    pub fn check(self) -> Message<Checked> {
        self.map(|bytes| SignedRecord::decode_verified(&bytes))
    }

    /// How many records are in it.
    pub fn records(&self) -> usize {
        match self {
            Message::Deliver { records, .. }
            | Message::Records { records, .. }
            | Message::Proofs { records } => records.len(),
            Message::Fork { .. } => 2,
            _ => 0,
        }
    }
}

/// The records that fit one message, from the front of `records`.
pub(crate) fn fitting(sizes: impl IntoIterator<Item = usize>) -> usize {
    let mut bytes = 0;
    let fits = |size: &usize| {
        bytes += *size;
        bytes <= MAX_BATCH_BYTES
    };
    sizes.into_iter().take(MAX_BATCH).take_while(fits).count()
}

/// At least one record fits always.
const _: () = assert!(MAX_RECORD_BYTES < MAX_BATCH_BYTES);

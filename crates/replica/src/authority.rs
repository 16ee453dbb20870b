//! Who may state what: the question that a store asks of those who know the bodies.
//!
//! The answer may depend only on the statements of the kinds that decide ([`Authority::decides`]) and on
//! what is fixed for a store, never on the order in which statements came. Whatever two stores learnt in
//! whatever order, once they hold the same deciding statements they admit the same set, so that their
//! digests can be equal.
//!
//! Three questions are kept apart:
//!
//! | question | depends on time | what follows from a no |
//! |---|---|---|
//! | [`Authority::admits`]: is its author one of those who state this sort of thing? | no | it is not taken from others, and not offered to them; one that is held already is kept, hidden |
//! | [`Authority::banned`]: is its author refused for now? | yes | it is not taken from others while that lasts |
//! | [`Authority::in_force`]: does what entitles its author hold today? | yes | it is kept and offered, and hidden |

use crate::key::PublicKey;
use crate::record::{Kind, Record};
use crate::signed::SignedRecord;

/// Whether a statement is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Judgement {
    /// Its author may state it.
    Admitted,
    /// Nothing that is held here says that its author may; what does may be under way.
    MissingGrant,
    /// Something that is held here says that its author may not, and why.
    Unauthorised(&'static str),
}

impl Judgement {
    /// Whether it is taken.
    pub fn is_admitted(self) -> bool {
        self == Judgement::Admitted
    }
}

/// Knows who may state what.
pub trait Authority {
    /// Whether statements of this kind decide about others.
    fn decides(&self, kind: Kind) -> bool;

    /// Forms its opinion anew from all held statements of the kinds that decide, in any order, and from
    /// the authors that are proven to have stated two things under one number, each with the first such
    /// number (epoch, sequence).
    fn learn(&mut self, deciding: &[SignedRecord], forked: &[(PublicKey, (u32, u64))]);

    /// Whether this statement is taken.
    fn admits(&self, record: &Record) -> Judgement;

    /// Until when statements of this author about this scope are refused, in milliseconds since the Unix
    /// epoch; `None` when they are not at `now_unix_ms`.
    fn banned(&self, author: &PublicKey, scope: &str, now_unix_ms: u64) -> Option<u64>;

    /// Whether what entitles the author of an admitted statement holds at `now_unix_ms`.
    fn in_force(&self, record: &Record, now_unix_ms: u64) -> bool;

    /// When [`Authority::in_force`] or [`Authority::banned`] may next answer otherwise for any statement, in milliseconds since the
    /// Unix epoch; always after `now_unix_ms`.
    fn next_change(&self, now_unix_ms: u64) -> Option<u64>;
}

/// Everybody may state everything: for one operator alone, and for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open;

impl Authority for Open {
    fn decides(&self, _: Kind) -> bool {
        false
    }

    fn learn(&mut self, _: &[SignedRecord], _: &[(PublicKey, (u32, u64))]) {}

    fn admits(&self, _: &Record) -> Judgement {
        Judgement::Admitted
    }

    fn banned(&self, _: &PublicKey, _: &str, _: u64) -> Option<u64> {
        None
    }

    fn in_force(&self, _: &Record, _: u64) -> bool {
        true
    }

    fn next_change(&self, _: u64) -> Option<u64> {
        None
    }
}

//! What a client tells its broker of how its session fares: for dashboards, and believed by nobody else.
//!
//! The client writes on a unidirectional stream of its own, beside the conversation of [`crate::client`].
//! A broker that knows nothing of it allows no such stream, so the client never gets to open one and tells
//! nothing; a client that knows nothing of it opens none. What cannot be read ends that stream, and the
//! conversation goes on.
//!
//! ```text
//! client                                 broker
//!   | -- Fare{attached,standby,…} ----->  |   at first, and when something changed,
//!   | -- Fare{…,moves} ---------------->  |   at most once in TELL_EVERY
//! ```

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Largest message in bytes, version included.
pub const MAX_MESSAGE: usize = 256;
/// Most moves of one message.
pub const MAX_MOVES: usize = 16;
/// Longest gap that is told, in milliseconds.
pub const MAX_GAP_MS: u32 = 600_000;
/// Time between two messages of one client.
pub const TELL_EVERY: Duration = Duration::from_secs(5);

/// How a session stands, and what happened to it since it was told last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fare {
    /// A mirror serves it.
    pub attached: bool,
    /// Another is ready to take over.
    pub standby: bool,
    /// Moves, at most [`MAX_MOVES`].
    pub moves: Vec<Move>,
    /// Moves that there was no room for.
    pub left_out: u32,
    /// Times that the mirror was gone and nobody was there to take over.
    pub lost: u32,
}

/// One move to another mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Why.
    pub cause: Cause,
    /// For how long nothing was heard, in milliseconds.
    pub gap_ms: u32,
}

/// Why a session moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// The mirror fell silent.
    Silence,
    /// Its tripwire closed, or its connection ended.
    Tripwire,
    /// It drains.
    Drain,
    /// The list says that it is down, or no longer has it.
    Unlisted,
    /// It had no room.
    Refused,
    /// Another was clearly nearer.
    Better,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Cause; 6] =
        [Cause::Silence, Cause::Tripwire, Cause::Drain, Cause::Unlisted, Cause::Refused, Cause::Better];

    /// A snake-case label for counters.
    pub fn label(self) -> &'static str {
        match self {
            Cause::Silence => "silence",
            Cause::Tripwire => "tripwire",
            Cause::Drain => "drain",
            Cause::Unlisted => "unlisted",
            Cause::Refused => "refused",
            Cause::Better => "better",
        }
    }
}

/// A message that says what cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FareError {
    /// Too many moves at once.
    #[error("{0} moves in one message; at most {MAX_MOVES} are allowed")]
    Moves(usize),
    /// A gap beyond all bounds.
    #[error("a gap of {0} ms; at most {MAX_GAP_MS} are told")]
    Gap(u32),
    /// Nobody serves it, but somebody is ready to take over.
    #[error("a standby without a mirror that serves")]
    Standby,
}

impl Fare {
    /// Whether it can be.
    ///
    /// # Errors
    /// [`FareError`] says what cannot.
    pub fn check(&self) -> Result<(), FareError> {
        if self.moves.len() > MAX_MOVES {
            return Err(FareError::Moves(self.moves.len()));
        }
        if let Some(long) = self.moves.iter().find(|m| m.gap_ms > MAX_GAP_MS) {
            return Err(FareError::Gap(long.gap_ms));
        }
        if self.standby && !self.attached {
            return Err(FareError::Standby);
        }
        Ok(())
    }

    /// Takes down a move.
    pub fn moved(&mut self, cause: Cause, gap: Duration) {
        if self.moves.len() == MAX_MOVES {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        let gap_ms = u32::try_from(gap.as_millis()).unwrap_or(u32::MAX).min(MAX_GAP_MS);
        self.moves.push(Move { cause, gap_ms });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;
    use proptest::prelude::*;

    #[test]
    fn the_largest_message_fits_and_more_moves_are_left_out() {
        let mut fare = Fare { attached: true, standby: true, lost: u32::MAX, ..Fare::default() };
        for _ in 0..MAX_MOVES + 3 {
            fare.moved(Cause::Better, Duration::from_secs(10_000_000));
        }
        assert_eq!((fare.moves.len(), fare.left_out), (MAX_MOVES, 3));
        fare.check().unwrap();
        fare.left_out = u32::MAX;
        assert!(frame::encode(&fare).unwrap().len() <= MAX_MESSAGE + 4);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let fare = Fare { attached: true, ..Fare::default() };
        let of = |gap_ms| Move { cause: Cause::Drain, gap_ms };
        let moves = vec![of(0); MAX_MOVES + 1];
        assert_eq!(Fare { moves, ..fare.clone() }.check(), Err(FareError::Moves(17)));
        let moves = vec![of(MAX_GAP_MS + 1)];
        assert_eq!(Fare { moves, ..fare.clone() }.check(), Err(FareError::Gap(MAX_GAP_MS + 1)));
        let alone = Fare { attached: false, standby: true, ..fare };
        assert_eq!(alone.check(), Err(FareError::Standby));
    }

    #[test]
    fn labels_are_distinct() {
        let labels: std::collections::HashSet<_> = Cause::ALL.map(Cause::label).into();
        assert_eq!(labels.len(), Cause::ALL.len());
    }

    proptest! {
        #[test]
        fn messages_round_trip(attached: bool, standby: bool, gaps in prop::collection::vec((0..6_usize, any::<u32>()), 0..20), lost: u32) {
            let moves = gaps.into_iter().map(|(c, gap_ms)| Move { cause: Cause::ALL[c], gap_ms }).collect();
            let fare = Fare { attached, standby, moves, left_out: lost / 2, lost };
            let bytes = frame::encode(&fare).unwrap();
            prop_assert_eq!(frame::decode::<Fare>(&bytes[4..]).unwrap(), fare);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = frame::decode::<Fare>(&bytes).map(|fare| fare.check());
        }
    }
}

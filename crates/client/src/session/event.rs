//! What the application is told.

use nearmost_core::session::client::MoveReason;
use nearmost_wire::identity::Id;
use std::time::Duration;
use tokio::sync::broadcast;

/// What happened to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A first primary, or the same one again after nothing was left.
    Attached {
        /// Its node.
        to: Id,
    },
    /// Another primary answers.
    Moved {
        /// Who it was.
        from: Id,
        /// Who it is.
        to: Id,
        /// Why.
        reason: MoveReason,
        /// Between the last packet of the old primary and the first of the new, less the period in which
        /// packets come anyway.
        gap: Duration,
    },
    /// The primary is in doubt.
    Degraded {
        /// Its node.
        primary: Id,
    },
    /// The primary is no longer in doubt.
    Restored {
        /// Its node.
        primary: Id,
    },
    /// The primary is gone, and nobody is there to take over yet.
    Lost {
        /// Its node.
        primary: Id,
    },
}

/// A session's events from the moment it was asked for. It keeps no session alive.
pub struct Events {
    pub(super) events: broadcast::Receiver<Event>,
    pub(super) missed: u64,
}

impl Events {
    /// The next event; `None` once the session has ended. Cancel-safe. Who falls behind by more than
    /// [`super::EVENTS`] misses the oldest.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.events.recv().await {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(missed)) => self.missed += missed,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    /// Events that were missed so far.
    pub fn missed(&self) -> u64 {
        self.missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_wire::identity::Role;

    #[tokio::test]
    async fn who_falls_behind_misses_the_oldest_and_is_told_how_many() {
        let (sender, receiver) = broadcast::channel(2);
        let mut events = Events { events: receiver, missed: 0 };
        let of = |n| Event::Attached { to: Id { role: Role::Node, key: [n; 32] } };
        for n in 1..=5 {
            sender.send(of(n)).unwrap();
        }
        drop(sender);
        assert_eq!([events.next().await, events.next().await], [Some(of(4)), Some(of(5))]);
        assert_eq!((events.next().await, events.missed()), (None, 3));
    }
}

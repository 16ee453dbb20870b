//! What a person should know of at once.

use crate::clock::mono_now;
use nearmost_wire::identity::Id;
use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Notices that wait to be read.
const WAIT: usize = 64;
/// Between two notices of a kind.
const QUIET: Duration = Duration::from_secs(1);

/// Something that went wrong for a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Notice {
    /// A packet is larger than the path to the mirror takes.
    #[error("dropped a packet of {have} bytes from {peer}: the path to the mirror takes at most {most}")]
    TooLarge {
        /// Whose.
        peer: SocketAddr,
        /// Its bytes.
        have: usize,
        /// What the path takes.
        most: usize,
    },
    /// All flows are in use.
    #[error("dropped a packet from {peer}: all {most} flows are in use")]
    NoFlow {
        /// Whose.
        peer: SocketAddr,
        /// How many flows there are.
        most: usize,
    },
    /// All connections are in use.
    #[error("reset a connection from {peer}: {most} are open")]
    TooMany {
        /// Whose.
        peer: SocketAddr,
        /// How many may be.
        most: usize,
    },
    /// There was no way to the service.
    #[error("{why}; nothing was sent to the service")]
    Unreached {
        /// What was wrong the last time.
        why: String,
    },
    /// A request may have been carried out, and its answer is lost.
    #[error("{method} may have been carried out at {at}, and its answer is lost: {why}")]
    Unknown {
        /// Its method.
        method: String,
        /// At which mirror.
        at: Id,
        /// What happened.
        why: String,
    },
    /// A local socket cannot take anyone in.
    #[error("cannot take a connection in: {why}")]
    Accept {
        /// What the system said.
        why: String,
    },
}

/// Where notices go; of each kind one a second, and what nobody reads in time is dropped. Counters have all.
#[derive(Clone, Debug)]
pub struct Notices {
    to: mpsc::Sender<Notice>,
    /// When something of a kind was told last.
    last: Arc<Mutex<HashMap<Discriminant<Notice>, Instant>>>,
}

impl Notices {
    /// Tells it, unless the like was told just now: whoever floods a port does not flood a terminal.
    pub(super) fn tell(&self, notice: Notice) {
        let now = mono_now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let at = last.get(&discriminant(&notice));
        if at.is_none_or(|at| now.saturating_duration_since(*at) >= QUIET) {
            last.insert(discriminant(&notice), now);
            let _ = self.to.try_send(notice);
        }
    }
}

/// A place for notices, and the end from which they are read.
pub fn notices() -> (Notices, mpsc::Receiver<Notice>) {
    let (sender, receiver) = mpsc::channel(WAIT);
    (Notices { to: sender, last: Arc::default() }, receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_kind_is_one_notice_and_hides_no_other() {
        let (notices, mut read) = notices();
        let unreached = Notice::Unreached { why: "gone".into() };
        for _ in 0..1000 {
            notices.clone().tell(unreached.clone());
        }
        let accept = Notice::Accept { why: "full".into() };
        notices.tell(accept.clone());
        assert_eq!((read.try_recv(), read.try_recv()), (Ok(unreached), Ok(accept)));
        assert!(read.try_recv().is_err());
    }
}

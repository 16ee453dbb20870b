//! What a person should know of at once.

use nearmost_wire::identity::Id;
use std::net::SocketAddr;
use tokio::sync::mpsc;

/// Notices that wait to be read.
const WAIT: usize = 64;

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

/// Where notices go; what nobody reads in time is dropped.
#[derive(Clone, Debug)]
pub struct Notices(mpsc::Sender<Notice>);

impl Notices {
    pub(super) fn tell(&self, notice: Notice) {
        // The counters have it too.
        let _ = self.0.try_send(notice);
    }
}

/// A place for notices, and the end from which they are read.
pub fn notices() -> (Notices, mpsc::Receiver<Notice>) {
    let (sender, receiver) = mpsc::channel(WAIT);
    (Notices(sender), receiver)
}

//! What goes into the mirror's machine and what comes out, and its settings.

use crate::session::{Ack, MirrorKey, Role, SessionId};
use std::time::Duration;

/// The key that a client proved to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub [u8; 32]);

/// A session at a mirror. Its number alone names none: every mirror of a session learns it, and could
/// attach under it elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey {
    /// Who proved to hold this key.
    pub client: ClientId,
    /// The client's number for it.
    pub session: SessionId,
}

/// Where a session stands at a mirror; the diagram is above [`super::Sessions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SessionPhase {
    /// Kept warm.
    Standby,
    /// Served from the first.
    Primary,
    /// Served since its former primary failed or was left.
    Promoted,
    /// Told to leave.
    Draining,
}

/// A client wants to attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttachRequest {
    /// Its session, with who it says it is.
    pub session: SessionKey,
    /// As what.
    pub role: Role,
    /// It has proved to hold that key, on this connection.
    pub proven: bool,
}

/// What a client's beacon says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// Answer at once.
    pub ask: bool,
    /// What the mirror is to the session.
    pub role: Role,
    /// How often it wants to hear.
    pub period: Duration,
}

/// What can happen at a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorInput {
    /// A client wants to attach.
    Attach(AttachRequest),
    /// An authentic packet of an attached client.
    Packet {
        /// Whose.
        session: SessionKey,
        /// Its number.
        seq: u64,
        /// `None` for data.
        beacon: Option<Beacon>,
    },
    /// The service has so much work of a session under way: requests, streams, live flows.
    Work {
        /// Whose.
        session: SessionKey,
        /// How much.
        open: u32,
    },
    /// The client sends new work elsewhere. What is under way, and what the service pushes, goes on
    /// until the client detaches.
    Retired(SessionKey),
    /// The client's connection ended.
    Detach(SessionKey),
    /// The mirror is to be left.
    Drain {
        /// At the latest.
        within: Duration,
    },
    /// It stays after all.
    Undrain,
    /// Time passed.
    Tick,
}

/// What the driver is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorOutput {
    /// Tell a client that it is attached.
    Accept {
        /// Whose.
        session: SessionKey,
        /// As what.
        role: Role,
    },
    /// Tell a client that it is not attached, or not promoted.
    Refuse {
        /// Whose.
        session: SessionKey,
        /// Why.
        reason: RefuseReason,
        /// Not to be tried before.
        retry_after: Duration,
        /// Where there is room.
        go_to: Option<MirrorKey>,
    },
    /// The session's work is done here from now on.
    Promoted(SessionKey),
    /// Send a beacon.
    Beacon {
        /// To whom.
        session: SessionKey,
        /// Its number.
        seq: u64,
        /// What came from the client.
        ack: Option<Ack>,
    },
    /// Tell a client to leave.
    TellDrain {
        /// Whom.
        session: SessionKey,
        /// Where there is room.
        go_to: Option<MirrorKey>,
    },
    /// Close a client's connection.
    Close {
        /// Whose.
        session: SessionKey,
        /// Why.
        reason: CloseReason,
    },
    /// The drain is over: nobody is left.
    Drained,
}

/// Why a client is not attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefuseReason {
    /// No room.
    Full,
    /// The mirror is being left.
    Draining,
    /// It has not proved who it is.
    Unproven,
}

/// Why a session was closed from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// Nothing came for too long.
    Idle,
    /// It drained in time.
    Drained,
    /// The drain's deadline passed.
    DrainDeadline,
}

/// Settings of a mirror's sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MirrorConfig {
    /// Sessions that are served.
    pub capacity: usize,
    /// Sessions that are kept warm.
    pub standbys: usize,
    /// A session that says nothing for so long is closed.
    pub idle: Duration,
    /// What those who are refused are told.
    pub retry_after: Duration,
    /// A retired session without work is closed after so long, if its client has not done so.
    pub linger: Duration,
    /// Beacons until a client asks for another period, to whom it serves …
    pub steady: Duration,
    /// … and whom it keeps warm.
    pub standby: Duration,
}

impl Default for MirrorConfig {
    fn default() -> Self {
        let ms = Duration::from_millis;
        MirrorConfig {
            capacity: 10_000,
            standbys: 40_000,
            idle: ms(15_000),
            retry_after: ms(2000),
            linger: ms(12_000),
            steady: ms(50),
            standby: ms(250),
        }
    }
}

/// What was refused or ignored, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MirrorTally {
    /// No room.
    pub full: u64,
    /// Came while the mirror drained.
    pub draining: u64,
    /// Without proof.
    pub unproven: u64,
    /// A client attached again.
    pub taken_over: u64,
    /// About sessions that are not attached.
    pub unknown: u64,
}

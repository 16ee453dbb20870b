//! What is kept of one peer.
//!
//! ```text
//!             it is due, or the peer knocked            connected
//!   down ───────────────────────────────▶ dialling ───────────────▶ up
//!    ▲ ▲                                     │ failed                │ lost
//!    │ └─────────────────────────────────────┘                       │
//!    └───────────────────────────────────────────────────────────────┘
//! ```
//! A peer that is *behind* may lack more than its queue holds: it is new, its queue expired or ran over, or
//! our log began anew. Nothing of the queue is sent to it before a comparison is over.

use crate::compare::Comparison;
use crate::key::PublicKey;
use crate::message::Message;
use crate::outbox::Outbox;
use crate::serve::Serving;
use std::collections::{BTreeSet, VecDeque};

/// What outlives the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PeerState {
    /// Which log `acked` is of.
    pub log_epoch: u64,
    /// Up to which position of our log the peer needs nothing more.
    pub acked: u64,
    /// Since when it may lack more than its queue holds, and why.
    pub behind: Option<Behind>,
    /// When it was last connected, in milliseconds since the Unix epoch; 0 for never.
    pub last_contact_unix_ms: u64,
    /// When a comparison with it was last over, in milliseconds since the Unix epoch; 0 for never.
    pub last_compared_unix_ms: u64,
    /// Items that expired, ever.
    pub expired: u64,
}

/// Why a peer may lack more than its queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Behind {
    /// It never had our records.
    New,
    /// What it was sent waited for too long.
    Expired,
    /// There was more for it than the queue holds.
    Overflowed,
    /// Our log began anew.
    LogBegun,
}

impl Behind {
    /// A snake-case label.
    pub fn label(self) -> &'static str {
        match self {
            Behind::New => "new",
            Behind::Expired => "expired",
            Behind::Overflowed => "overflowed",
            Behind::LogBegun => "log_begun",
        }
    }
}

/// Whether we are connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Not connected.
    Down {
        /// When to dial, on the monotonic clock.
        dial_ms: u64,
    },
    /// A connection is being made.
    Dialling,
    /// Connected since then, on the wall clock.
    Up {
        /// In milliseconds since the Unix epoch.
        since_unix_ms: u64,
    },
}

/// Attempts at connecting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dialling {
    /// Failed ones since it was last connected.
    pub attempts: u32,
    /// Why the last one failed, or the last connection ended.
    pub last_error: Option<String>,
}

/// One peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub link: Link,
    pub dialling: Dialling,
    pub outbox: Outbox,
    pub talk: Talk,
    pub state: PeerState,
    pub saved: PeerState,
    /// Peers that it says it is connected with.
    pub sees: BTreeSet<PublicKey>,
}

/// What ends with the connection.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    pub control: VecDeque<Message>,
    pub comparison: Option<Comparison>,
    pub serving: Serving,
    /// Records handed to the store and not answered yet.
    pub storing: usize,
    /// Whether it was records' turn last, rather than the outbox's.
    pub loads_last: bool,
    /// Comparisons of rights in a row that were not enough.
    pub rounds: u32,
}

impl Peer {
    pub fn new(state: PeerState, head: u64, most: usize, now_ms: u64) -> Peer {
        Peer {
            link: Link::Down { dial_ms: now_ms },
            dialling: Dialling::default(),
            outbox: Outbox::new(state.acked.min(head), most),
            talk: Talk::default(),
            saved: state.clone(),
            state,
            sees: BTreeSet::new(),
        }
    }

    pub fn is_up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    /// It may lack more than its queue holds from now on.
    pub fn fall_behind(&mut self, why: Behind) {
        self.state.behind.get_or_insert(why);
    }
}

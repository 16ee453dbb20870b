//! One store among its peers: what to send to whom when, and what follows from what came.
//!
//! Pure: messages, stored records and moments go in, messages, records to store and orders to dial come out.
//! The statements themselves stay outside, with whoever stores them, and are looked at when needed.
//!
//! ```text
//!  own writes ──on_local──▶ ┌────────────┐ ──poll_output──▶ Dial, Store, Save, told events
//!  links ─on_up, on_down──▶ │ Federation │
//!  messages ──on_message──▶ │            │ ──poll_message──▶ one peer's line, whenever it has room
//!  store ──────on_stored──▶ └────────────┘
//! ```
//! Nothing is queued for a line beyond short answers: what is to be sent is made when there is room for it.
//! What is received is handed to the store in tickets; a peer whose tickets pile up is not read from
//! ([`Federation::wants_input`]).
//!
//! Every write of our own goes to every peer. What a peer delivered is passed on to those that it does not
//! say it is connected with, so that a change gets around a broken line at once; what that misses, comparisons
//! find.

mod incoming;
mod links;
mod outgoing;
mod status;

pub use status::{PeerStatus, Standing};

use crate::backoff::{Backoff, Random};
use crate::compare::Found;
use crate::digest::Slot;
use crate::key::PublicKey;
use crate::message::Answer;
use crate::outbox::RefusedItem;
use crate::peer::{Behind, Peer, PeerState};
use crate::set::Tree;
use crate::signed::SignedRecord;
use crate::time::Now;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Bounds and periods.
#[derive(Clone, Debug)]
pub struct FederationConfig {
    /// Between attempts at connecting, and at delivering what was not taken.
    pub backoff: Backoff,
    /// How long an item waits for its peer.
    pub queue_life: Duration,
    /// Most items in one peer's queue.
    pub queue_items: usize,
    /// Between two comparisons with a peer picked at random.
    pub compare_every: Duration,
    /// Between two announcements.
    pub announce_every: Duration,
    /// Records a second that a comparing peer is sent, in bytes.
    pub serve_bytes_per_s: u64,
    /// Between two looks for what waited too long, and for what is to be kept of peers.
    pub look_every: Duration,
}

impl Default for FederationConfig {
    fn default() -> Self {
        FederationConfig {
            backoff: Backoff::default(),
            queue_life: Duration::from_secs(72 * 3600),
            queue_items: 200_000,
            compare_every: Duration::from_secs(60),
            announce_every: Duration::from_secs(300),
            serve_bytes_per_s: 32 << 20,
            look_every: Duration::from_secs(1),
        }
    }
}

/// Records that were handed to the store; given back with what became of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What became of one record.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// For the sender.
    pub answer: Answer,
    /// The tombstone, long collected, for which it is [`Answer::Gone`].
    pub proof: Option<SignedRecord>,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Connect to a peer, then [`Federation::on_up`] or [`Federation::on_dial_failed`].
    Dial(PublicKey),
    /// Store these, then [`Federation::on_stored`] with one [`Stored`] for each.
    Store {
        /// For the result.
        ticket: Ticket,
        /// Who delivered them.
        peer: PublicKey,
        /// Checked and admitted.
        records: Vec<SignedRecord>,
    },
    /// Keep a peer's state.
    Save(PublicKey, PeerState),
    /// Two records of one author with one number: keep them, and have the set know it.
    Forked {
        /// One.
        a: SignedRecord,
        /// The other.
        b: SignedRecord,
    },
    /// Tell people.
    Event(PublicKey, Event),
}

/// What people are told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Connected.
    Up,
    /// The connection ended.
    Down(String),
    /// So many items waited for too long, or did not fit, and were dropped; the peer will be compared with.
    FellBehind(Behind, usize),
    /// The peer refused a statement for good.
    Refused(RefusedItem),
    /// A comparison is over.
    Compared(Tree, Found),
}

struct Claim {
    peer: PublicKey,
    occasion: Occasion,
    slots: Vec<Slot>,
}

/// Why records were handed to the store.
enum Occasion {
    /// A batch to answer, with the answers known already; `None` in the places of those handed to the store.
    Batch(u64, Vec<Option<Answer>>),
    /// A comparison of ours.
    Comparison,
    /// The peer showed why something is gone.
    Proof,
}

/// One store among its peers.
pub struct Federation {
    own: PublicKey,
    config: FederationConfig,
    log: LogHead,
    peers: BTreeMap<PublicKey, Peer>,
    claims: BTreeMap<Ticket, Claim>,
    next_ticket: u64,
    random: Random,
    /// When to compare with somebody, and to announce, on the monotonic clock.
    rounds: Rounds,
    outputs: VecDeque<Output>,
    /// Proven forks, to tell every peer of.
    forks: BTreeMap<PublicKey, (SignedRecord, SignedRecord)>,
}

/// Where our log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogHead {
    /// Which log: another after a restore from a backup.
    pub epoch: u64,
    /// Its last position.
    pub position: u64,
}

#[derive(Clone, Copy, Debug)]
struct Rounds {
    boot: u64,
    compare_ms: u64,
    announce_ms: u64,
    look_ms: u64,
}

/// How often the last contact with a peer that is up is kept: nothing depends on seconds.
const CONTACT_EVERY_MS: u64 = 60_000;

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Federation {
    /// Of a store that has no peers yet. `boot` grows with each start; `seed` is for jitter and choices.
    pub fn new(
        own: PublicKey,
        config: FederationConfig,
        log: LogHead,
        boot: u64,
        seed: u64,
        now: Now,
    ) -> Self {
        let rounds = Rounds {
            boot,
            compare_ms: now.mono_ms + millis(config.compare_every),
            announce_ms: now.mono_ms + millis(config.announce_every),
            look_ms: now.mono_ms,
        };
        Federation {
            own,
            config,
            log,
            peers: BTreeMap::new(),
            claims: BTreeMap::new(),
            next_ticket: 0,
            random: Random::new(seed),
            rounds,
            outputs: VecDeque::new(),
            forks: BTreeMap::new(),
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Federation::on_deadline`] wants to be called at the latest.
    pub fn next_deadline_ms(&self) -> u64 {
        let rounds = &self.rounds;
        let fixed = [rounds.compare_ms, rounds.announce_ms, rounds.look_ms];
        let of_peer = |peer: &Peer| match &peer.link {
            crate::peer::Link::Down { dial_ms } => Some(*dial_ms),
            crate::peer::Link::Dialling => None,
            crate::peer::Link::Up { .. } => {
                [peer.outbox.next_wake_ms(), peer.talk.serving.next_load_ms()].into_iter().flatten().min()
            }
        };
        fixed.into_iter().chain(self.peers.values().filter_map(of_peer)).min().unwrap_or(u64::MAX)
    }

    /// Does what is due.
    pub fn on_deadline(&mut self, now: Now) {
        self.dial_due(now);
        let rounds = self.rounds;
        if rounds.look_ms <= now.mono_ms {
            self.rounds.look_ms = now.mono_ms + millis(self.config.look_every);
            self.expire(now);
            self.save_changed(now);
        }
        if rounds.compare_ms <= now.mono_ms {
            // Half of the period is jitter, so that brokers do not all compare at once.
            let period = millis(self.config.compare_every);
            let jitter = self.random.below(usize::try_from(period).unwrap_or(usize::MAX).max(1)) as u64;
            self.rounds.compare_ms = now.mono_ms + period / 2 + jitter;
            self.compare_with_somebody(now);
        }
        if rounds.announce_ms <= now.mono_ms {
            self.rounds.announce_ms = now.mono_ms + millis(self.config.announce_every);
            self.announce();
        }
    }

    /// Every peer's key.
    pub fn peers(&self) -> impl Iterator<Item = PublicKey> + '_ {
        self.peers.keys().copied()
    }

    /// Where our log is.
    pub fn log(&self) -> LogHead {
        self.log
    }

    /// Keeps what of the peers' states has changed.
    pub fn save_changed(&mut self, now: Now) {
        for (key, peer) in &mut self.peers {
            peer.state.acked = peer.outbox.acked();
            if peer.is_up() {
                let stale = now.unix_ms.saturating_sub(peer.state.last_contact_unix_ms) >= CONTACT_EVERY_MS;
                if stale {
                    peer.state.last_contact_unix_ms = now.unix_ms;
                }
            }
            if peer.state != peer.saved {
                peer.saved = peer.state.clone();
                self.outputs.push_back(Output::Save(*key, peer.state.clone()));
            }
        }
    }

    fn event(&mut self, peer: PublicKey, event: Event) {
        self.outputs.push_back(Output::Event(peer, event));
    }
}

#[cfg(test)]
mod tests;

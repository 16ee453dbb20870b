//! What people are told of a peer.

use super::Federation;
use crate::compare::Found;
use crate::key::PublicKey;
use crate::outbox::RefusedItem;
use crate::peer::{Dialling, Link, PeerState};
use crate::set::Tree;
use crate::time::Now;

/// A peer at one moment.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Who.
    pub key: PublicKey,
    /// Whether we are connected.
    pub link: Link,
    /// Attempts at it.
    pub dialling: Dialling,
    /// In how many milliseconds it is dialled next, if it is not connected.
    pub dial_in_ms: Option<u64>,
    /// What of it outlives the process.
    pub state: PeerState,
    /// What it lacks.
    pub standing: Standing,
    /// A comparison under way.
    pub comparing: Option<(Tree, Found)>,
    /// Peers that it is connected with, as it says.
    pub sees: Vec<PublicKey>,
    /// What it refused for good lately, oldest first.
    pub refused: Vec<RefusedItem>,
}

/// A peer's queue at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Items.
    pub queued: usize,
    /// Of them pausing after a refusal that may pass.
    pub paused: usize,
    /// Bytes under way.
    pub in_flight_bytes: usize,
    /// Age of the oldest item, in milliseconds.
    pub oldest_ms: Option<u64>,
    /// Items refused for good since the start.
    pub refusals: u64,
}

impl Federation {
    /// Items in the longest queue.
    pub fn longest_queue(&self) -> usize {
        self.peers.values().map(|peer| peer.outbox.len()).max().unwrap_or(0)
    }

    /// Every peer, by key.
    pub fn status(&self, now: Now) -> Vec<PeerStatus> {
        let of = |(key, peer): (&PublicKey, &crate::peer::Peer)| {
            let (latest, refusals) = peer.outbox.refused();
            PeerStatus {
                key: *key,
                link: peer.link.clone(),
                dialling: peer.dialling.clone(),
                dial_in_ms: match peer.link {
                    Link::Down { dial_ms } => Some(dial_ms.saturating_sub(now.mono_ms)),
                    _ => None,
                },
                state: peer.state.clone(),
                standing: Standing {
                    queued: peer.outbox.len(),
                    paused: peer.outbox.paused(),
                    in_flight_bytes: peer.outbox.in_flight_bytes(),
                    oldest_ms: peer.outbox.oldest_unix_ms().map(|at| now.unix_ms.saturating_sub(at)),
                    refusals,
                },
                comparing: peer.talk.comparison.as_ref().map(|c| (c.tree(), c.found)),
                sees: peer.sees.iter().copied().collect(),
                refused: latest.cloned().collect(),
            }
        };
        self.peers.iter().map(of).collect()
    }
}

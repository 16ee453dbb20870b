//! What a peer's line carries next.

use super::Federation;
use crate::authority::Authority;
use crate::key::PublicKey;
use crate::message::Message;
use crate::peer::Peer;
use crate::set::StatementSet;
use crate::time::Now;

/// Records handed to the store for one peer, above which the peer is not read from.
pub(super) const MAX_STORING: usize = 16 * 1024;
/// The same for requests of a comparison, which ask for more to come.
const MANY_STORING: usize = MAX_STORING / 2;
/// The same in tickets, each of which costs something of its own.
const MAX_TICKETS: usize = 64;
/// Messages that wait for the line, above which the peer is not read from.
const MAX_CONTROL: usize = 1024;

impl Federation {
    /// The next message for a peer. To be called when its line has room, until there is none, after every
    /// call of another method.
    pub fn poll_message<A: Authority>(
        &mut self,
        key: PublicKey,
        set: &StatementSet<A>,
        now: Now,
    ) -> Option<Message> {
        let peer = self.peers.get_mut(&key).filter(|peer| peer.is_up())?;
        if let Some(message) = peer.talk.control.pop_front() {
            return Some(message);
        }
        if let Some(message) = peer.talk.serving.next_words(set) {
            return Some(message);
        }
        if let Some(message) = request(peer, set) {
            return Some(message);
        }
        // In turn, so that neither news nor whoever catches up waits for the other.
        let bytes_per_s = self.config.serve_bytes_per_s;
        let loads_first = !peer.talk.loads_last;
        for loads in [loads_first, !loads_first] {
            let message = match loads {
                true => peer.talk.serving.next_load(set, now.mono_ms, bytes_per_s),
                false => news(peer, set, now),
            };
            if message.is_some() {
                peer.talk.loads_last = loads;
                return message;
            }
        }
        None
    }

    /// Whether to go on reading from a peer.
    pub fn wants_input(&self, key: &PublicKey) -> bool {
        let talk = self.peers.get(key).map(|peer| &peer.talk);
        let tickets = self.claims.values().filter(|claim| claim.peer == *key).count();
        tickets < MAX_TICKETS
            && talk.is_none_or(|talk| talk.storing < MAX_STORING && talk.control.len() < MAX_CONTROL)
    }
}

/// What our own comparison asks next.
fn request<A: Authority>(peer: &mut Peer, set: &StatementSet<A>) -> Option<Message> {
    let storing = peer.talk.storing;
    let comparison = peer.talk.comparison.as_mut()?;
    if comparison.is_fresh() && comparison.begin() {
        return Some(comparison.opening(set.tree(comparison.tree())));
    }
    if storing > MANY_STORING { None } else { comparison.next_request() }
}

fn news<A: Authority>(peer: &mut Peer, set: &StatementSet<A>, now: Now) -> Option<Message> {
    // What it may lack beyond its queue goes first.
    if peer.state.behind.is_some() {
        return None;
    }
    let (batch, records) = peer.outbox.next_batch(now.mono_ms, |slot| set.get(slot).cloned())?;
    Some(Message::Deliver { batch, records: records.iter().map(|r| r.bytes().to_vec()).collect() })
}

//! Peers, connections to them, and what is queued for them.

use super::{Event, Federation, millis};
use crate::compare::Comparison;
use crate::digest::Slot;
use crate::key::PublicKey;
use crate::message::{MAX_SEEN, Message};
use crate::peer::{Behind, Link, Peer, PeerState, Talk};
use crate::set::Tree;
use crate::signed::SignedRecord;
use crate::time::Now;

impl Federation {
    /// A store is a peer from now on. `state` is what was kept of it, if it was one before; `backlog` are our
    /// own writes after the position it acknowledged: position, slot, and when it was written.
    pub fn add_peer(
        &mut self,
        key: PublicKey,
        state: Option<PeerState>,
        backlog: impl IntoIterator<Item = (u64, Slot, u64)>,
        now: Now,
    ) {
        if key == self.own || self.peers.contains_key(&key) {
            return;
        }
        let log = self.log;
        let fresh = |behind| PeerState {
            log_epoch: log.epoch,
            acked: log.position,
            behind: Some(behind),
            ..PeerState::default()
        };
        let state = match state {
            None => fresh(Behind::New),
            Some(old) if old.log_epoch != log.epoch || old.acked > log.position => PeerState {
                last_contact_unix_ms: old.last_contact_unix_ms,
                last_compared_unix_ms: old.last_compared_unix_ms,
                expired: old.expired,
                ..fresh(Behind::LogBegun)
            },
            Some(state) => state,
        };
        let mut peer = Peer::new(state, log.position, self.config.queue_items, now.mono_ms);
        let mut fits = true;
        for (position, slot, at) in backlog {
            fits &= peer.outbox.push_local(position, slot, at);
        }
        if !fits {
            peer.outbox.clear();
            peer.fall_behind(Behind::Overflowed);
        }
        self.peers.insert(key, peer);
    }

    /// A store is no peer any more: what was queued for it is dropped.
    pub fn remove_peer(&mut self, key: &PublicKey) {
        self.peers.remove(key);
        self.claims.retain(|_, claim| claim.peer != *key);
        self.see();
    }

    /// Whether a store is a peer.
    pub fn is_peer(&self, key: &PublicKey) -> bool {
        self.peers.contains_key(key)
    }

    /// A write of our own is in the log.
    pub fn on_local(&mut self, position: u64, slot: Slot, now: Now) {
        self.log.position = self.log.position.max(position);
        for key in self.peers().collect::<Vec<_>>() {
            let Some(peer) = self.peers.get_mut(&key) else { continue };
            if !peer.outbox.push_local(position, slot, now.unix_ms) {
                self.drop_queue(key, Behind::Overflowed);
                self.compare_if_behind(key, now);
            }
        }
    }

    /// Something is in the log that was not written here.
    pub fn on_logged(&mut self, position: u64) {
        self.log.position = self.log.position.max(position);
    }

    /// Connected with a peer.
    pub fn on_up(&mut self, key: PublicKey, now: Now) {
        let boot = self.rounds.boot;
        let forks: Vec<Message> = self.forks.values().map(fork_message).collect();
        let begin = self.begins_with(&key);
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.link = Link::Up { since_unix_ms: now.unix_ms };
        peer.dialling = Default::default();
        peer.outbox.link_lost();
        peer.talk = Talk::default();
        peer.state.last_contact_unix_ms = now.unix_ms;
        peer.talk.control.push_back(Message::Announce { boot });
        peer.talk.control.extend(forks);
        if begin {
            peer.talk.comparison = Some(Comparison::new(Tree::Rights, now.mono_ms));
        }
        self.see();
        self.event(key, Event::Up);
    }

    /// Whether we begin the comparison when connected with this peer: one of the two does, and whoever needs
    /// it for its queue.
    fn begins_with(&self, key: &PublicKey) -> bool {
        self.own < *key || self.peers.get(key).is_some_and(|peer| peer.state.behind.is_some())
    }

    /// The connection ended.
    pub fn on_down(&mut self, key: PublicKey, why: &str, now: Now) {
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.is_up()) else { return };
        peer.outbox.link_lost();
        peer.talk = Talk::default();
        peer.sees.clear();
        peer.state.last_contact_unix_ms = now.unix_ms;
        peer.dialling.last_error = Some(why.to_owned());
        peer.link = Link::Down { dial_ms: now.mono_ms + self.config.backoff.pause_ms(1, self.random.bits()) };
        self.claims.retain(|_, claim| claim.peer != key);
        self.see();
        self.event(key, Event::Down(why.to_owned()));
    }

    /// An attempt failed.
    pub fn on_dial_failed(&mut self, key: PublicKey, why: &str, now: Now) {
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| !peer.is_up()) else { return };
        peer.dialling.attempts = peer.dialling.attempts.saturating_add(1);
        peer.dialling.last_error = Some(why.to_owned());
        let pause = self.config.backoff.pause_ms(peer.dialling.attempts, self.random.bits());
        peer.link = Link::Down { dial_ms: now.mono_ms + pause };
    }

    /// There is a sign that a peer lives: it is dialled once, now; its count of failures stays.
    pub fn on_knock(&mut self, key: PublicKey, now: Now) {
        if let Some(peer) = self.peers.get_mut(&key)
            && let Link::Down { dial_ms } = &mut peer.link
        {
            *dial_ms = (*dial_ms).min(now.mono_ms);
        }
    }

    pub(super) fn dial_due(&mut self, now: Now) {
        for (key, peer) in &mut self.peers {
            if matches!(peer.link, Link::Down { dial_ms } if dial_ms <= now.mono_ms) {
                peer.link = Link::Dialling;
                self.outputs.push_back(super::Output::Dial(*key));
            }
        }
    }

    /// An author has forked: everybody is told, unless a fork of it at the same number or an earlier one is
    /// known. All must end up with the earliest, as what counts of the author follows from it.
    pub fn on_forked(&mut self, a: SignedRecord, b: SignedRecord) {
        if self.is_fork_known(&a) {
            return;
        }
        let message = fork_message(&(a.clone(), b.clone()));
        self.forks.insert(a.record().author, (a, b));
        for peer in self.peers.values_mut().filter(|peer| peer.is_up()) {
            peer.talk.control.push_back(message.clone());
        }
    }

    /// Whether it is known that the author of this record forked at its number or earlier.
    pub(super) fn is_fork_known(&self, signed: &SignedRecord) -> bool {
        let number = |signed: &SignedRecord| (signed.record().author_epoch, signed.record().author_seq);
        let known = self.forks.get(&signed.record().author);
        known.is_some_and(|known| number(&known.0) <= number(signed))
    }

    /// Drops what waited for too long.
    pub(super) fn expire(&mut self, now: Now) {
        let before = now.unix_ms.saturating_sub(millis(self.config.queue_life));
        let mut fell = Vec::new();
        for (key, peer) in &mut self.peers {
            let dropped = peer.outbox.expire(before);
            if dropped > 0 {
                peer.state.expired += dropped as u64;
                peer.fall_behind(Behind::Expired);
                fell.push((*key, dropped));
            }
        }
        for (key, dropped) in fell {
            self.event(key, Event::FellBehind(Behind::Expired, dropped));
            self.compare_if_behind(key, now);
        }
    }

    pub(super) fn drop_queue(&mut self, key: PublicKey, why: Behind) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let dropped = peer.outbox.clear();
        peer.fall_behind(why);
        self.event(key, Event::FellBehind(why, dropped));
    }

    /// A peer that is up and behind is compared with at once: nothing of its queue is sent before.
    pub(super) fn compare_if_behind(&mut self, key: PublicKey, now: Now) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.is_up() && peer.state.behind.is_some() && peer.talk.comparison.is_none() {
            peer.talk.comparison = Some(Comparison::new(Tree::Rights, now.mono_ms));
        }
    }

    /// Gives up comparisons in which nothing has happened since this was last done.
    fn give_up_stalled(&mut self) {
        for peer in self.peers.values_mut() {
            // While the store stands still the other cannot move.
            let waits = peer.talk.storing == 0;
            if waits && peer.talk.comparison.as_mut().is_some_and(|c| !c.is_fresh() && !c.has_moved()) {
                peer.talk.comparison = None;
            }
        }
    }

    /// Begins a comparison with a peer picked at random.
    pub(super) fn compare_with_somebody(&mut self, now: Now) {
        self.give_up_stalled();
        let idle = |peer: &&mut Peer| peer.is_up() && peer.talk.comparison.is_none();
        let mut idle: Vec<&mut Peer> = self.peers.values_mut().filter(idle).collect();
        if idle.is_empty() {
            return;
        }
        let chosen = self.random.below(idle.len());
        idle[chosen].talk.rounds = 0;
        idle[chosen].talk.comparison = Some(Comparison::new(Tree::Rights, now.mono_ms));
    }

    pub(super) fn announce(&mut self) {
        let message = Message::Announce { boot: self.rounds.boot };
        for peer in self.peers.values_mut().filter(|peer| peer.is_up()) {
            peer.talk.control.push_back(message.clone());
        }
    }

    /// Tells every peer whom we are connected with.
    fn see(&mut self) {
        let up = |(key, peer): (&PublicKey, &Peer)| peer.is_up().then_some(*key);
        let peers: Vec<PublicKey> = self.peers.iter().filter_map(up).take(MAX_SEEN).collect();
        for peer in self.peers.values_mut().filter(|peer| peer.is_up()) {
            // Only the latest counts.
            peer.talk.control.retain(|message| !matches!(message, Message::Seen { .. }));
            peer.talk.control.push_back(Message::Seen { peers: peers.clone() });
        }
    }
}

fn fork_message((a, b): &(SignedRecord, SignedRecord)) -> Message {
    Message::Fork { a: a.bytes().to_vec(), b: b.bytes().to_vec() }
}

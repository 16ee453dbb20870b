//! What a peer said, and what the store made of it.

use super::outgoing::MAX_STORING;
use super::{Claim, Event, Federation, Occasion, Output, Stored, Ticket};
use crate::authority::Authority;
use crate::compare::{Comparison, Found};
use crate::digest::{Prefix, Slot, View};
use crate::key::PublicKey;
use crate::message::{Answer, Breach, Checked, Message};
use crate::set::{StatementSet, Tree, slot_of_record};
use crate::signed::SignedRecord;
use crate::time::Now;
use std::collections::BTreeSet;

/// Comparisons in a row for one occasion: each brings what the grants of the one before allow.
const MAX_ROUNDS: u32 = 8;
/// An announcement has a peer compared with, unless that was done so shortly before.
const COMPARED_LATELY_MS: u64 = 30_000;
/// Messages with proofs that wait for a line: they are large, and told again when their victims are offered.
const MAX_PROOFS: usize = 8;
/// Forks that are told of at once; more are told again.
const MAX_TELLING: usize = 16;
/// Forks that are kept and told of.
const MAX_FORKS: usize = 1024;

impl Federation {
    /// Takes a message of a peer that is up; its records were checked.
    ///
    /// # Errors
    /// [`Breach`]: the peer breaks the rules and is to be hung up on.
    pub fn on_message<A: Authority>(
        &mut self,
        key: PublicKey,
        message: Message<Checked>,
        set: &StatementSet<A>,
        now: Now,
    ) -> Result<(), Breach> {
        message.check_bounds()?;
        if !self.peers.get(&key).is_some_and(|peer| peer.is_up()) {
            return Ok(());
        }
        match message {
            Message::Deliver { batch, records } => self.on_deliver(key, batch, records, set, now),
            Message::Answers { batch, answers } => self.on_answers(key, batch, &answers, now)?,
            Message::Proofs { records } => self.on_proofs(key, records, set, now),
            Message::Compare { tree, root } => self.on_compare(key, tree, root, set),
            Message::Records { tree, records, done } => {
                if self.comparison(key, tree).is_some_and(|c| c.received(records.len(), done).is_err()) {
                    return Err(Breach::Unasked("records"));
                }
                self.on_records(key, records, set, now);
            }
            Message::Told { tree, part, view } => self.on_told(key, tree, part, &view, set, now)?,
            Message::Same { tree } => self.comparison(key, tree).map_or(Ok(()), Comparison::same)?,
            Message::Finished { tree } => self.on_finished(key, tree, now),
            Message::Announce { .. } => self.on_announced(key, now),
            Message::Fork { a, b } => self.on_told_fork(a, b, set),
            asked => {
                let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
                match asked {
                    Message::Ask { tree, parts } => peer.talk.serving.ask(tree, parts)?,
                    Message::Take { tree, part } => peer.talk.serving.take(tree, part)?,
                    Message::Fetch { tree, slots } => peer.talk.serving.fetch(tree, slots)?,
                    Message::Seen { peers } => self.on_seen(key, peers.into_iter().collect(), now),
                    _ => {}
                }
            }
        }
        self.conclude(key, now);
        Ok(())
    }

    fn comparison(&mut self, key: PublicKey, tree: Tree) -> Option<&mut Comparison> {
        self.peers.get_mut(&key)?.talk.comparison.as_mut().filter(|c| c.tree() == tree)
    }

    fn on_deliver<A: Authority>(
        &mut self,
        key: PublicKey,
        batch: u64,
        records: Vec<Checked>,
        set: &StatementSet<A>,
        now: Now,
    ) {
        let storing = self.peers.get(&key).map_or(0, |peer| peer.talk.storing);
        let full = storing >= 2 * MAX_STORING;
        let mut answers = Vec::with_capacity(records.len());
        let mut kept = Vec::new();
        for record in records {
            let judged = match record {
                _ if full => Err(Answer::Overloaded),
                Err(error) => Err(Answer::Malformed { why: error.to_string() }),
                Ok(signed) => set.judge(&signed, now.unix_ms).map(|()| signed),
            };
            match judged {
                Ok(signed) => {
                    kept.push(signed);
                    answers.push(None);
                }
                Err(answer) => answers.push(Some(answer)),
            }
        }
        self.store(key, Occasion::Batch(batch, answers), kept);
    }

    /// What of ours is gone, says the peer, and why.
    fn on_proofs<A: Authority>(
        &mut self,
        key: PublicKey,
        records: Vec<Checked>,
        set: &StatementSet<A>,
        now: Now,
    ) {
        let proven = |signed: &SignedRecord| {
            signed.record().is_tombstone() && set.judge_right(signed, now.unix_ms).is_ok()
        };
        let kept: Vec<SignedRecord> = records.into_iter().flatten().filter(proven).collect();
        if !kept.is_empty() {
            self.store(key, Occasion::Proof, kept);
        }
    }

    /// What came by a comparison.
    fn on_records<A: Authority>(
        &mut self,
        key: PublicKey,
        records: Vec<Checked>,
        set: &StatementSet<A>,
        now: Now,
    ) {
        let all = records.len();
        let mut missing = 0;
        let mut kept = Vec::new();
        for signed in records.into_iter().flatten() {
            match set.judge(&signed, now.unix_ms) {
                Ok(()) => kept.push(signed),
                Err(answer) => missing += usize::from(answer == Answer::MissingGrant),
            }
        }
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if let Some(comparison) = &mut peer.talk.comparison {
            comparison.stored(all - kept.len(), 0, missing);
        }
        if !kept.is_empty() {
            self.store(key, Occasion::Comparison, kept);
        }
    }

    /// Hands records to the store, or answers at once where there is none to store.
    fn store(&mut self, key: PublicKey, occasion: Occasion, records: Vec<SignedRecord>) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.talk.storing += records.len();
        let slots: Vec<Slot> = records.iter().map(|r| slot_of_record(r.record())).collect();
        let claim = Claim { peer: key, occasion, slots };
        if records.is_empty() {
            return self.settle(claim, Vec::new());
        }
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.claims.insert(ticket, claim);
        self.outputs.push_back(Output::Store { ticket, peer: key, records });
    }

    /// What the store made of a ticket's records; one result for each.
    pub fn on_stored(&mut self, ticket: Ticket, results: Vec<Stored>, now: Now) {
        let Some(claim) = self.claims.remove(&ticket) else { return };
        let key = claim.peer;
        let applied: Vec<Slot> = results
            .iter()
            .zip(&claim.slots)
            .filter(|(stored, _)| stored.answer == Answer::Applied)
            .map(|(_, slot)| *slot)
            .collect();
        self.pass_on(key, &applied, now);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.talk.storing = peer.talk.storing.saturating_sub(claim.slots.len());
            if matches!(claim.occasion, Occasion::Comparison)
                && let Some(comparison) = &mut peer.talk.comparison
            {
                comparison.stored(claim.slots.len(), applied.len(), 0);
            }
        }
        self.settle(claim, results);
        self.conclude(key, now);
    }

    /// Tells the sender what became of its batch, and why what is gone is.
    fn settle(&mut self, claim: Claim, results: Vec<Stored>) {
        let Some(peer) = self.peers.get_mut(&claim.peer) else { return };
        let (answers, proofs): (Vec<_>, Vec<_>) = results.into_iter().map(|s| (s.answer, s.proof)).unzip();
        if let Occasion::Batch(batch, known) = claim.occasion {
            let mut answers = answers.into_iter();
            let mut of_store = || answers.next().unwrap_or(Answer::Overloaded);
            let answers = known.into_iter().map(|answer| answer.unwrap_or_else(&mut of_store)).collect();
            peer.talk.control.push_back(Message::Answers { batch, answers });
        }
        let mut proofs: Vec<_> = proofs.into_iter().flatten().map(|proof| proof.bytes().to_vec()).collect();
        // Those that do not fit are told when their victims are offered again.
        proofs.truncate(crate::message::fitting(proofs.iter().map(Vec::len)));
        let waiting = peer.talk.control.iter().filter(|m| matches!(m, Message::Proofs { .. })).count();
        if !proofs.is_empty() && waiting < MAX_PROOFS {
            peer.talk.control.push_back(Message::Proofs { records: proofs });
        }
    }

    /// Queues what a peer delivered for those that are connected with us and, as it says, not with it.
    fn pass_on(&mut self, from: PublicKey, applied: &[Slot], now: Now) {
        let sees = match self.peers.get(&from) {
            Some(peer) if !applied.is_empty() => peer.sees.clone(),
            _ => return,
        };
        let lacks = |key: &PublicKey| *key != from && !sees.contains(key);
        for (_, peer) in self.peers.iter_mut().filter(|(key, peer)| lacks(key) && peer.is_up()) {
            for slot in applied {
                // Where there is no room, comparisons bring it.
                let _ = peer.outbox.push_repair(*slot, now.unix_ms);
            }
        }
    }

    /// Whom a peer is connected with. What it delivered to us just before it lost another did perhaps not get
    /// there, and was not passed on: the other is compared with.
    fn on_seen(&mut self, key: PublicKey, sees: BTreeSet<PublicKey>, now: Now) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let before = std::mem::replace(&mut peer.sees, sees);
        let lost: Vec<PublicKey> = before.difference(&peer.sees).copied().collect();
        for lost in lost {
            if let Some(other) = self.peers.get_mut(&lost).filter(|other| other.is_up()) {
                other.talk.comparison.get_or_insert_with(|| Comparison::new(Tree::Rights, now.mono_ms));
            }
        }
    }

    fn on_answers(&mut self, key: PublicKey, batch: u64, answers: &[Answer], now: Now) -> Result<(), Breach> {
        let (backoff, random) = (&self.config.backoff, &mut self.random);
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        let taken = peer.outbox.answered(batch, answers, now, backoff, random)?;
        let refused: Vec<_> = {
            let (latest, _) = peer.outbox.refused();
            let latest: Vec<_> = latest.cloned().collect();
            let skip = latest.len().saturating_sub(taken.refused);
            latest.into_iter().skip(skip).collect()
        };
        for item in refused {
            self.event(key, Event::Refused(item));
        }
        Ok(())
    }

    fn on_compare<A: Authority>(
        &mut self,
        key: PublicKey,
        tree: Tree,
        root: [u8; 16],
        set: &StatementSet<A>,
    ) {
        let own_first = self.own < key;
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.talk.comparison.as_ref().is_some_and(Comparison::is_fresh) {
            // Both began: the one with the smaller key goes on, and both know which that is.
            if own_first {
                return;
            }
            peer.talk.comparison = None;
        }
        peer.talk.serving.compare(set, tree, root);
    }

    fn on_told<A: Authority>(
        &mut self,
        key: PublicKey,
        tree: Tree,
        part: Prefix,
        view: &View,
        set: &StatementSet<A>,
        now: Now,
    ) -> Result<(), Breach> {
        let Some(comparison) = self.comparison(key, tree) else { return Ok(()) };
        let offer = comparison.told(set.tree(tree), part, view)?;
        let Some(peer) = self.peers.get_mut(&key) else { return Ok(()) };
        for slot in offer {
            // Where there is no room, the next comparison brings it.
            let _ = peer.outbox.push_repair(slot, now.unix_ms);
        }
        Ok(())
    }

    /// Goes on to what follows when a comparison of ours is over.
    fn conclude(&mut self, key: PublicKey, now: Now) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let Some(comparison) = peer.talk.comparison.take_if(|c| c.is_finished()) else { return };
        let (tree, found) = (comparison.tree(), comparison.found);
        peer.talk.control.push_back(Message::Finished { tree });
        let again = |found: &Found| found.missing_grants > 0 && found.applied > 0;
        peer.talk.rounds += 1;
        let next = match tree {
            Tree::Rights if again(&found) && peer.talk.rounds < MAX_ROUNDS => Some(Tree::Rights),
            Tree::Rights => Some(Tree::Rest),
            Tree::Rest if again(&found) && peer.talk.rounds < MAX_ROUNDS => Some(Tree::Rights),
            Tree::Rest => None,
        };
        match next {
            Some(tree) => peer.talk.comparison = Some(Comparison::new(tree, now.mono_ms)),
            None => {
                peer.talk.rounds = 0;
                peer.state.behind = None;
                peer.state.last_compared_unix_ms = now.unix_ms;
            }
        }
        self.event(key, Event::Compared(tree, found));
    }

    fn on_finished(&mut self, key: PublicKey, tree: Tree, now: Now) {
        if let Some(peer) = self.peers.get_mut(&key).filter(|_| tree == Tree::Rest) {
            peer.state.behind = None;
            peer.state.last_compared_unix_ms = now.unix_ms;
        }
    }

    /// A peer is back, or there still: what pauses for it is tried again.
    fn on_announced(&mut self, key: PublicKey, now: Now) {
        let own_first = self.own < key;
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.outbox.wake_all();
        let ago_ms = now.unix_ms.saturating_sub(peer.state.last_compared_unix_ms);
        if own_first && peer.talk.comparison.is_none() && ago_ms > COMPARED_LATELY_MS {
            peer.talk.comparison = Some(Comparison::new(Tree::Rights, now.mono_ms));
        }
    }

    fn on_told_fork<A: Authority>(&mut self, a: Checked, b: Checked, set: &StatementSet<A>) {
        let (Ok(a), Ok(b)) = (a, b) else { return };
        // A key that says nothing here may say what it likes: else keys made for it would fill the table.
        let telling = self.outputs.iter().filter(|output| matches!(output, Output::Forked { .. })).count();
        if !set.has_author(&a.record().author) || telling >= MAX_TELLING {
            return;
        }
        let number = |signed: &SignedRecord| {
            let record = signed.record();
            (record.author, record.author_epoch, record.author_seq)
        };
        let (author, known) = (a.record().author, self.is_fork_known(&a));
        // An earlier fork of an author takes the place of what is known of it.
        let room = self.forks.len() < MAX_FORKS || self.forks.contains_key(&author);
        if number(&a) == number(&b) && a != b && !known && room {
            self.outputs.push_back(Output::Forked { a, b });
        }
    }
}

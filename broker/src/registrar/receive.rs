//! What peers deliver: stored as it comes, shown soon after.
//!
//! A delivery is never refused for what the registry makes of it: in what order things come is nobody's
//! fault. The registry is made anew once for many deliveries, as that costs the same for one as for all.

use super::{Registrar, Reply};
use crate::audit::Origin;
use crate::clock::{mono_now, unix_now};
use crate::store::{Committed, Outcome, StoreError, WriteBatch};
use nearmost_replica::authority::Authority;
use nearmost_replica::federation::Stored;
use nearmost_replica::message::Answer;
use nearmost_replica::set::Changes;
use nearmost_replica::{PublicKey, SignedRecord};
use nearmost_wire::identity::{Id, Role};
use std::time::{Duration, Instant};

/// The registry is made anew this long after a delivery …
const SOON: Duration = Duration::from_millis(10);
/// … unless that takes long: it has at most this part of the registrar's time.
const SHARE: u32 = 4;

/// What became of a delivery.
#[derive(Debug, Default)]
pub struct Received {
    /// For each record.
    pub results: Vec<Stored>,
    /// Authors that are proven to have stated two things under one number.
    pub forks: Vec<(SignedRecord, SignedRecord)>,
}

/// What a peer delivered, and who waits for what becomes of it.
pub(crate) struct Delivery {
    pub peer: PublicKey,
    pub records: Vec<SignedRecord>,
    pub reply: Reply<Result<Received, StoreError>>,
}

fn batch_of(peer: PublicKey, records: &[SignedRecord], now: u64) -> WriteBatch {
    WriteBatch {
        records: records.to_vec(),
        actor: Id { role: Role::Broker, key: peer.0 }.to_string(),
        note: String::new(),
        received_unix_ms: now,
        expect_version: None,
        redeem: None,
        blob: None,
        from_peer: Some(peer),
        origin: Origin::default(),
    }
}

/// Changes that the registry does not show yet.
#[derive(Debug)]
pub(super) struct Unshown {
    changes: Changes,
    due: Option<Instant>,
    took: Duration,
}

impl Default for Unshown {
    fn default() -> Self {
        Unshown { changes: Changes::default(), due: None, took: Duration::ZERO }
    }
}

impl Unshown {
    fn note(&mut self, changes: Changes) {
        if changes.all || !changes.keys.is_empty() {
            self.changes.all |= changes.all;
            self.changes.keys.extend(changes.keys);
            self.due.get_or_insert_with(|| mono_now() + SOON.max(self.took * SHARE));
        }
    }

    /// When the registry is to be made anew.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }
}

impl Registrar {
    /// Stores what peers delivered, all in one transaction, and answers each. Checked before: signatures,
    /// bounds, and that it is admitted.
    pub(super) async fn receive_all(&mut self, deliveries: Vec<Delivery>) {
        let now = unix_now().0;
        let written = self.write_all(deliveries, now).await;
        let (mut held, mut buried, mut applied) = (Vec::new(), Vec::new(), 0);
        for (delivery, committed) in &written {
            let Ok(committed) = committed else { continue };
            self.take_in(&delivery.records, committed, now, &mut held);
            buried.extend(committed.buried.iter().map(|r| (r.record().key(), r.record().author)));
            applied += committed.outcomes.iter().filter(|o| **o == Outcome::Applied).count();
        }
        let (changes, gone) = {
            let mut set = self.held.set.lock();
            let changes = set.apply(&held);
            (changes, set.remove(buried.iter().map(|(key, author)| (key, *author))))
        };
        self.unshown.note(changes);
        self.unshown.note(gone);
        // Only now, as whoever is told looks into the set.
        self.logged(applied);
        for (delivery, committed) in written {
            self.answer(delivery, committed).await;
        }
    }

    /// Writes deliveries side by side, so that the store makes them durable together.
    async fn write_all(
        &mut self,
        deliveries: Vec<Delivery>,
        now: u64,
    ) -> Vec<(Delivery, Result<Committed, StoreError>)> {
        let mut written = Vec::with_capacity(deliveries.len());
        let mut writes = Vec::with_capacity(deliveries.len());
        for delivery in &deliveries {
            if let Err(error) = self.displace(&delivery.records).await {
                tracing::warn!(%error, "what counts no longer could not be dropped");
            }
            let store = self.store.clone();
            let batch = batch_of(delivery.peer, &delivery.records, now);
            writes.push(tokio::spawn(async move { store.write(batch).await }));
        }
        for (delivery, write) in deliveries.into_iter().zip(writes) {
            let committed = write.await.unwrap_or(Err(StoreError::Stopped));
            let committed = match committed {
                Ok(committed) => self.without_powerless_graves(&delivery, committed, now).await,
                failed => failed,
            };
            written.push((delivery, committed));
        }
        written
    }

    /// Takes note of what was written: the clock, our own numbers, and what belongs into the set: also what the
    /// store had and the set perhaps not, after an error.
    fn take_in(
        &mut self,
        records: &[SignedRecord],
        committed: &Committed,
        now: u64,
        held: &mut Vec<SignedRecord>,
    ) {
        self.held.version = committed.version.max(self.held.version);
        for (signed, outcome) in records.iter().zip(&committed.outcomes) {
            // Judged before: what is too far ahead was not taken.
            let _ = self.clock.observe(signed.record().hlc, now);
            if *outcome == Outcome::Applied {
                self.note_own(signed);
            }
            if matches!(outcome, Outcome::Applied | Outcome::Duplicate) {
                held.push(signed.clone());
            }
        }
    }

    /// Answers whoever handed a delivery in.
    async fn answer(&mut self, delivery: Delivery, committed: Result<Committed, StoreError>) {
        let committed = match committed {
            Ok(committed) => committed,
            Err(error) => {
                // Who asked may have gone.
                let _ = delivery.reply.send(Err(error));
                return;
            }
        };
        let mut received = Received::default();
        let mut graves = committed.graves.into_iter().peekable();
        for (index, (signed, outcome)) in delivery.records.iter().zip(&committed.outcomes).enumerate() {
            let proof = graves.next_if(|grave| grave.0 == index).map(|grave| grave.1);
            received.results.push(Stored { answer: answer(*outcome), proof });
            if *outcome == Outcome::Forked {
                match self.evidence(signed).await {
                    Ok(fork) => received.forks.extend(fork),
                    Err(error) => tracing::warn!(%error, "a fork was seen, and the proof not kept"),
                }
            }
        }
        let _ = delivery.reply.send(Ok(received));
    }

    /// Writes a delivery again without the graves of those who may not bury any more, if any were in its way.
    async fn without_powerless_graves(
        &mut self,
        delivery: &Delivery,
        committed: Committed,
        now: u64,
    ) -> Result<Committed, StoreError> {
        let powerless: Vec<SignedRecord> = {
            let set = self.held.set.lock();
            let admits = |grave: &SignedRecord| set.authority().admits(grave.record()).is_admitted();
            let powerless = committed.graves.iter().filter(|grave| !admits(&grave.1));
            powerless.map(|grave| delivery.records[grave.0].clone()).collect()
        };
        if powerless.is_empty() {
            return Ok(committed);
        }
        let again = async {
            self.store.exhume(powerless, true).await?;
            self.store.write(batch_of(delivery.peer, &delivery.records, now)).await
        };
        let mut again = match again.await {
            Ok(again) => again,
            Err(error) => {
                tracing::warn!(%error, "a grave of somebody who has lost the right could not be opened");
                return Ok(committed);
            }
        };
        // What the first attempt applied is a duplicate to the second.
        for (second, first) in again.outcomes.iter_mut().zip(&committed.outcomes) {
            if *first == Outcome::Applied {
                *second = Outcome::Applied;
            }
        }
        again.buried.extend(committed.buried);
        Ok(again)
    }

    /// Drops statements that count no longer and stand in the way of what does.
    async fn displace(&mut self, records: &[SignedRecord]) -> Result<(), StoreError> {
        let (displaced, displacing): (Vec<_>, Vec<_>) = {
            let set = self.held.set.lock();
            let pair = |signed: &SignedRecord| Some((set.displaced(signed)?, signed.clone()));
            records.iter().filter_map(pair).unzip()
        };
        if !displaced.is_empty() {
            self.store.drop_statements(displaced.clone()).await?;
            // What displaces it may have been here before, and gone in its favour.
            self.store.exhume(displacing, false).await?;
            let changes = self.held.set.lock().remove(displaced.iter().map(|(key, author)| (key, *author)));
            self.unshown.note(changes);
        }
        Ok(())
    }

    /// Our own statement from elsewhere, which this disk did not know: it was set back, and its numbers are
    /// used. A new epoch has numbers of its own.
    fn note_own(&mut self, signed: &SignedRecord) {
        let record = signed.record();
        if record.author == self.author.key.public() && record.author_epoch >= self.author.epoch {
            self.author.epoch = record.author_epoch.saturating_add(1);
            self.author.next_seq = 0;
            tracing::warn!(
                epoch = self.author.epoch,
                "peers know writes of this broker that it does not: its disk was set back; a new epoch begins"
            );
        }
    }

    /// The other record with the number of one that is forked, kept as evidence with it.
    async fn evidence(
        &mut self,
        signed: &SignedRecord,
    ) -> Result<Option<(SignedRecord, SignedRecord)>, StoreError> {
        let record = signed.record();
        let other = self.store.find_numbered(record.author, record.author_epoch, record.author_seq).await?;
        match other {
            Some(other) if self.forked(&other, signed).await? => Ok(Some((other, signed.clone()))),
            _ => Ok(None),
        }
    }

    /// Two records show that their author forked: nothing of it counts from that number on. Returns whether
    /// that is new.
    pub(super) async fn forked(&mut self, a: &SignedRecord, b: &SignedRecord) -> Result<bool, StoreError> {
        let record = a.record();
        let new = match self.store.put_evidence(record.author, a.clone(), b.clone()).await {
            Err(StoreError::NoFork { .. }) => return Ok(false),
            stored => stored?,
        };
        if new {
            tracing::error!(author = %record.author, epoch = record.author_epoch, seq = record.author_seq,
                "an author has stated two things under one number; what it states from there on counts no longer");
            let number = (record.author_epoch, record.author_seq);
            let changes = self.held.set.lock().fork(record.author, number);
            self.unshown.note(changes);
        }
        Ok(new)
    }

    /// Makes the registry anew if anything changed that it does not show.
    pub(super) fn show(&mut self) {
        let began = mono_now();
        self.unshown.due = None;
        let changes = std::mem::take(&mut self.unshown.changes);
        let now = unix_now().0;
        if self.held.look_again(&changes, now) | self.held.has_ended(now) {
            self.held.rebuild(now);
            self.publish();
        }
        if changes.all {
            self.publish_members();
        } else if changes.keys.iter().any(|key| key.kind.is_application()) {
            self.out.touched();
        }
        self.unshown.took = mono_now().saturating_duration_since(began);
    }

    /// The passing of time has changed who may state what, or ended a challenge.
    pub(super) fn time_passed(&mut self) {
        self.unshown.note(Changes { all: true, ..Changes::default() });
        self.show();
    }

    /// Forgets tombstones and tokens past their life.
    pub(super) async fn collect(&mut self) {
        self.bury_challenges().await;
        let hidden = self.held.set.lock().hidden().collect();
        match self.store.collect(unix_now().0, hidden).await {
            Ok(collected) => {
                let keys: Vec<_> =
                    collected.removed.iter().map(|r| (r.record().key(), r.record().author)).collect();
                let changes = self.held.set.lock().remove(keys.iter().map(|(key, author)| (key, *author)));
                self.unshown.note(changes);
                tracing::debug!(
                    statements = keys.len(),
                    tokens = collected.tokens,
                    "what is past its life is forgotten"
                );
            }
            Err(error) => tracing::warn!(%error, "old tombstones and tokens stay"),
        }
    }
}

fn answer(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Applied => Answer::Applied,
        Outcome::Duplicate => Answer::Duplicate,
        Outcome::Superseded => Answer::Superseded,
        Outcome::Gone => Answer::Gone,
        Outcome::Forked => Answer::Forked,
    }
}

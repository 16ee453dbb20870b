//! What peers deliver: stored as it comes, shown soon after.
//!
//! A delivery is never refused for what the registry makes of it: in what order things come is nobody's
//! fault. The registry is made anew once for many deliveries, as that costs the same for one as for all.

use super::Registrar;
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
    /// Stores what a peer delivered. Checked before: signatures, bounds, and that it is admitted.
    pub(super) async fn receive(
        &mut self,
        peer: PublicKey,
        records: Vec<SignedRecord>,
    ) -> Result<Received, StoreError> {
        let now = unix_now().0;
        self.displace(&records).await?;
        let committed = self.write_received(peer, &records, now).await?;
        self.held.version = committed.version;
        let mut received = Received::default();
        let mut graves = committed.graves.into_iter().peekable();
        for (index, (signed, outcome)) in records.iter().zip(&committed.outcomes).enumerate() {
            // Judged before: what is too far ahead was not taken.
            let _ = self.clock.observe(signed.record().hlc, now);
            let proof = graves.next_if(|grave| grave.0 == index).map(|grave| grave.1);
            received.results.push(Stored { answer: answer(*outcome), proof });
            match outcome {
                Outcome::Applied => self.note_own(signed),
                Outcome::Forked => received.forks.extend(self.evidence(signed).await?),
                _ => {}
            }
        }
        let applied = records.iter().zip(&committed.outcomes);
        let applied: Vec<_> = applied.filter(|(_, o)| **o == Outcome::Applied).map(|(r, _)| r).collect();
        self.logged(applied.len());
        let buried: Vec<_> = committed.buried.iter().map(|r| (r.record().key(), r.record().author)).collect();
        let mut set = self.held.set.lock();
        let changes = set.apply(applied);
        let gone = set.remove(buried.iter().map(|(key, author)| (key, *author)));
        drop(set);
        self.unshown.note(changes);
        self.unshown.note(gone);
        Ok(received)
    }

    /// Writes it; again without the graves of those who may not bury any more, if any are in its way.
    async fn write_received(
        &mut self,
        peer: PublicKey,
        records: &[SignedRecord],
        now: u64,
    ) -> Result<Committed, StoreError> {
        let batch = WriteBatch {
            records: records.to_vec(),
            actor: Id { role: Role::Broker, key: peer.0 }.to_string(),
            note: String::new(),
            received_unix_ms: now,
            expect_version: None,
            redeem: None,
            from_peer: Some(peer),
        };
        let committed = self.store.write(batch.clone()).await?;
        let powerless: Vec<SignedRecord> = {
            let set = self.held.set.lock();
            let powerless = committed
                .graves
                .iter()
                .filter(|grave| !set.authority().admits(grave.1.record()).is_admitted());
            powerless.map(|grave| records[grave.0].clone()).collect()
        };
        if powerless.is_empty() {
            return Ok(committed);
        }
        self.store.exhume(powerless).await?;
        let mut again = self.store.write(batch).await?;
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
        let displaced: Vec<_> = {
            let set = self.held.set.lock();
            records.iter().filter_map(|signed| set.displaced(signed)).collect()
        };
        if !displaced.is_empty() {
            self.store.drop_statements(displaced.clone()).await?;
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
        if self.held.look_again(&changes, unix_now().0) {
            self.held.rebuild();
            self.publish();
        }
        if changes.all {
            self.publish_members();
        } else if changes.keys.iter().any(|key| key.kind.is_application()) {
            self.out.touched();
        }
        self.unshown.took = mono_now().saturating_duration_since(began);
    }

    /// The passing of time has changed who may state what.
    pub(super) fn time_passed(&mut self) {
        self.unshown.note(Changes { all: true, ..Changes::default() });
        self.show();
    }

    /// Forgets tombstones and tokens past their life.
    pub(super) async fn collect(&mut self) {
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

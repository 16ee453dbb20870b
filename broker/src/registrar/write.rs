//! Changes made at this broker: by people, and the broker's own.

use super::Registrar;
use crate::admin::{Actor, AdminError, author_id};
use crate::audit::{By, Origin, Via, Who, acts};
use crate::clock::unix_now;
use crate::store::{Committed, Outcome, WriteBatch};
use nearmost_replica::authority::{Authority, Judgement};
use nearmost_replica::{Body, Kind, PublicKey, Record, RecordKey, SignedRecord};
use nearmost_wire::api::CommitResponse;
use nearmost_wire::identity::{Id, Role};
use nearmost_wire::registry::BODY_VERSION;
use std::collections::BTreeSet;

impl Registrar {
    pub(super) async fn commit(
        &mut self,
        who: &Who,
        mut records: Vec<SignedRecord>,
        note: String,
        expect_version: Option<u64>,
    ) -> Result<CommitResponse, AdminError> {
        let wanted = records.len();
        self.authorise(&who.actor, &records)?;
        let now = unix_now().0;
        let ahead = records.iter().map(|r| r.record().hlc).max();
        if let Some(hlc) = ahead {
            self.clock.clone().observe(hlc, now)?;
        }
        let vouching = self.vouching(&records);
        let (own, next_seq) = self.sign_own(vouching, now)?;
        records.extend(own);
        let batch = WriteBatch {
            actor: who.actor.to_string(),
            note,
            received_unix_ms: now,
            expect_version,
            redeem: None,
            blob: None,
            from_peer: None,
            origin: self.signed_here(Origin::new(who.by(), acts::COMMIT)),
            records,
        };
        let committed = self.write(batch).await?;
        self.author.next_seq = next_seq;
        let outcomes = &committed.outcomes[..wanted];
        let applied = outcomes.iter().filter(|o| **o == Outcome::Applied).count() as u64;
        Ok(CommitResponse {
            version: committed.version,
            batch: committed.batch,
            applied,
            unchanged: wanted as u64 - applied,
        })
    }

    /// Every author is a person whom a member vouches for, or enrols with this very batch over the admin
    /// socket; and each may state what it states.
    fn authorise(&self, actor: &Actor, records: &[SignedRecord]) -> Result<(), AdminError> {
        let enrolling: BTreeSet<&str> = match actor {
            Actor::Socket { .. } => enrolled(records).collect(),
            _ => BTreeSet::new(),
        };
        let set = self.held.set.lock();
        let (rights, now) = (set.authority(), unix_now().0);
        for (index, signed) in records.iter().enumerate() {
            let record = signed.record();
            let author = author_id(&record.author, &self.author.id);
            let known = rights.person(&record.author).is_some();
            let enrols = enrolling.contains(author.to_string().as_str());
            let owner = rights.owner(&record.scope);
            // The owner of a domain may be known nowhere else.
            let owns = owner == Some(record.author);
            if author.role != Role::Person || !(known || enrols || owns) {
                return Err(AdminError::UnknownPerson(author));
            }
            if let Some(until) = rights.banned(&record.author, &record.scope, now) {
                return Err(AdminError::Banned { author, until_unix_ms: until });
            }
            if enrols && !known && owner.is_none_or(|owner| owner == record.author) {
                continue;
            }
            if let why @ (Judgement::Unauthorised(_) | Judgement::MissingGrant) = rights.admits(record) {
                let why = match why {
                    Judgement::Unauthorised(why) => why,
                    _ => "nothing entitles its author",
                };
                return Err(AdminError::Unauthorised { index, key: record.key(), author, why });
            }
        }
        Ok(())
    }

    /// What this broker says of the people that a batch enrols or removes: others believe it, not them.
    fn vouching(&self, records: &[SignedRecord]) -> Vec<(RecordKey, Option<Vec<u8>>)> {
        let own = self.author.key.public();
        let set = self.held.set.lock();
        let says = |signed: &SignedRecord| {
            let record = signed.record();
            let id = Id::parse(&record.id, Role::Person).ok()?;
            let person = set.authority().person(&PublicKey(id.key));
            let vouched = person.is_some_and(|person| person.homes.contains(&own));
            match &record.body {
                Body::Live { bytes, .. } if !vouched => Some((record.key(), Some(bytes.clone()))),
                Body::Tombstone if person.is_some() => Some((record.key(), None)),
                _ => None,
            }
        };
        records.iter().filter(|r| r.record().kind == Kind::PERSON).filter_map(says).collect()
    }

    /// People who enrolled before brokers vouched for them.
    pub(super) async fn vouch_for_old(&mut self) -> Result<(), AdminError> {
        let old: Vec<SignedRecord> = {
            let set = self.held.set.lock();
            if set.authority().members().len() > 1 {
                // What is here may be a stranger's.
                return Ok(());
            }
            let is_old = |s: &&SignedRecord| {
                let record = s.record();
                record.kind == Kind::PERSON
                    && !record.is_tombstone()
                    && Id::parse(&record.id, Role::Person).is_ok_and(|id| id.key == record.author.0)
                    && set.authority().person(&record.author).is_none()
            };
            set.statements().filter(is_old).cloned().collect()
        };
        let changes = self.vouching(&old);
        match changes.is_empty() {
            true => Ok(()),
            false => {
                let origin = self.of_its_own(acts::OWN);
                self.write_own(changes, "people who enrolled here".into(), None, origin).await
            }
        }
    }

    /// Merges, builds, refuses what makes no sense, stores, and publishes.
    pub(super) async fn write(&mut self, batch: WriteBatch) -> Result<Committed, AdminError> {
        // What was received and is not shown yet is looked at first: problems are told from the result.
        if self.unshown.due().is_some() {
            self.show();
        }
        let new = self.held.new_problems(&batch.records);
        if !new.is_empty() {
            return Err(AdminError::Invalid(new));
        }
        let records = batch.records.clone();
        let highest = batch.records.iter().map(|r| r.record().hlc).max();
        let now = batch.received_unix_ms;
        let committed = self.store.write(batch).await?;
        if let Some(hlc) = highest {
            // Checked before by those who take records from others; our own are never ahead.
            let _ = self.clock.observe(hlc, now);
        }
        if committed.changed() {
            self.held.version = committed.version;
            let applied = records.iter().zip(&committed.outcomes).filter(|(_, o)| **o == Outcome::Applied);
            let applied: Vec<&SignedRecord> = applied.map(|(record, _)| record).collect();
            let changes = self.held.set.lock().apply(applied.iter().copied());
            self.logged(applied.len());
            if self.held.look_again(&changes, now) {
                self.held.rebuild(now);
                self.publish();
            } else {
                self.out.touched();
            }
            if changes.all {
                self.publish_members();
            }
        }
        Ok(committed)
    }

    /// So many records more are in the log.
    pub(super) fn logged(&self, records: usize) {
        if records > 0 {
            self.out.head.send_modify(|head| *head += records as u64);
        }
    }

    /// Tells everybody of the registry.
    pub(super) fn publish(&mut self) {
        self.held.built.registry.version = self.held.version;
        self.out.registry.send_replace(std::sync::Arc::new(self.held.built.registry.clone()));
        self.out.touched();
    }

    /// Signs with the broker's key, from the next number on; the number after them is only taken once they
    /// are written. `None` bodies remove.
    fn sign_own(
        &mut self,
        changes: Vec<(RecordKey, Option<Vec<u8>>)>,
        now: u64,
    ) -> Result<(Vec<SignedRecord>, u64), AdminError> {
        let mut seq = self.author.next_seq;
        let mut records = Vec::with_capacity(changes.len());
        for (index, (key, body)) in changes.into_iter().enumerate() {
            let record = Record {
                kind: key.kind,
                scope: key.scope,
                id: key.id,
                body: body.map_or(Body::Tombstone, |bytes| Body::Live { version: BODY_VERSION, bytes }),
                hlc: self.clock.tick(now),
                author: self.author.key.public(),
                author_epoch: self.author.epoch,
                author_seq: seq,
                grants: Vec::new(),
            };
            seq += 1;
            let signed = SignedRecord::sign(record, &self.author.key);
            records.push(signed.map_err(|source| AdminError::Record { index, source })?);
        }
        Ok((records, seq))
    }

    /// An act of the broker itself.
    pub(super) fn of_its_own(&self, act: &'static str) -> Origin {
        Origin::new(By::key(&self.author.id, Via::Broker), act)
    }

    /// An act in which this broker's signatures are known as such.
    fn signed_here(&self, origin: Origin) -> Origin {
        Origin { own: Some(self.author.key.public()), ..origin }
    }

    /// Signs with the broker's key and writes. `None` bodies remove.
    pub(super) async fn write_own(
        &mut self,
        changes: Vec<(RecordKey, Option<Vec<u8>>)>,
        note: String,
        redeem: Option<[u8; 32]>,
        origin: Origin,
    ) -> Result<(), AdminError> {
        self.write_own_with(changes, note, Extra { redeem, blob: None }, origin).await
    }

    /// The same, with more in the transaction.
    pub(super) async fn write_own_with(
        &mut self,
        changes: Vec<(RecordKey, Option<Vec<u8>>)>,
        note: String,
        Extra { redeem, blob }: Extra,
        origin: Origin,
    ) -> Result<(), AdminError> {
        let now = unix_now().0;
        let (records, next_seq) = self.sign_own(changes, now)?;
        for (index, signed) in records.iter().enumerate() {
            let record = signed.record();
            let judged = self.held.set.lock().authority().admits(record);
            if let Judgement::Unauthorised(_) | Judgement::MissingGrant = judged {
                let why = match judged {
                    Judgement::Unauthorised(why) => why,
                    _ => "nothing entitles this broker",
                };
                let author = self.author.id;
                return Err(AdminError::Unauthorised { index, key: record.key(), author, why });
            }
        }
        let batch = WriteBatch {
            records,
            actor: self.author.id.to_string(),
            note,
            received_unix_ms: now,
            expect_version: None,
            redeem,
            blob,
            from_peer: None,
            origin: self.signed_here(origin),
        };
        self.write(batch).await?;
        self.author.next_seq = next_seq;
        Ok(())
    }
}

/// What is written with the broker's own statements, all or none.
#[derive(Default)]
pub(super) struct Extra {
    /// The one-time token of this hash is spent.
    pub(super) redeem: Option<[u8; 32]>,
    /// A named blob of the store.
    pub(super) blob: Option<(&'static str, Vec<u8>)>,
}

/// Ids of the people that records enrol.
fn enrolled(records: &[SignedRecord]) -> impl Iterator<Item = &str> {
    let persons = records.iter().map(|r| r.record()).filter(|r| r.kind == Kind::PERSON && !r.is_tombstone());
    persons.map(|r| r.id.as_str())
}

//! ACME challenges: set and removed over the HTTP API, signed by this broker, federated like all records.

use super::Registrar;
use crate::admin::{Actor, AdminError};
use crate::audit::{Origin, Who, acts};
use crate::clock::unix_now;
use nearmost_replica::authority::{Authority, Judgement};
use nearmost_replica::{Kind, PublicKey, RecordKey, SignedRecord};
use nearmost_wire::api::{ChallengeRequest, ChallengeResponse, ChallengesRemoved};
use nearmost_wire::registry::{Challenge, ChallengeBody, challenge_owner};

/// Longest life of a challenge, in seconds: authorities give up within days.
const MAX_LIFE_S: u64 = 7 * 24 * 3600;

impl Registrar {
    /// Has a text answered where a certificate authority looks for it.
    pub(super) async fn set_challenge(
        &mut self,
        who: &Who,
        name: &str,
        request: &ChallengeRequest,
    ) -> Result<ChallengeResponse, AdminError> {
        let bad = AdminError::Request;
        let ChallengeRequest { value, ttl_s } = request;
        if *ttl_s == 0 || *ttl_s > MAX_LIFE_S {
            return Err(bad(format!("ttl_s = {ttl_s}: expected 1 to {MAX_LIFE_S}")));
        }
        self.look_before();
        let expires_unix_ms = unix_now().0 + ttl_s * 1000;
        let registry = &self.held.built.registry;
        let placed = Challenge::place(registry, name, value, expires_unix_ms);
        let challenge = placed.map_err(|e| bad(e.to_string()))?;
        let key = challenge.key();
        self.may_challenge(&who.actor, &key)?;
        let body = serde_json::to_vec(&ChallengeBody { until_unix_ms: expires_unix_ms });
        let body = body.map_err(|e| bad(e.to_string()))?;
        let note = format!("ACME challenge of {}, set by {}", challenge.owner(), who.actor);
        let origin = Origin::new(who.by(), acts::ACME_SET);
        self.write_own(vec![(key, Some(body))], note, None, origin).await?;
        Ok(ChallengeResponse { domain: challenge.domain.clone(), name: challenge.owner(), expires_unix_ms })
    }

    /// Removes one challenge of a name, or all of them.
    pub(super) async fn remove_challenges(
        &mut self,
        who: &Who,
        name: &str,
        value: Option<&str>,
    ) -> Result<ChallengesRemoved, AdminError> {
        self.look_before();
        let owner = challenge_owner(name).map_err(|e| AdminError::Request(e.to_string()))?;
        let keys: Vec<RecordKey> = self
            .challenges()
            .filter(|(_, c)| c.owner() == owner && value.is_none_or(|value| value == c.value))
            .map(|(signed, _)| signed.record().key())
            .collect();
        for key in &keys {
            self.may_challenge(&who.actor, key)?;
        }
        let removed = keys.len() as u64;
        if removed > 0 {
            let note = format!("ACME challenges of {owner}, removed by {}", who.actor);
            let origin = Origin::new(who.by(), acts::ACME_REMOVE);
            let changes = keys.into_iter().map(|key| (key, None)).collect();
            self.write_own(changes, note, None, origin).await?;
        }
        Ok(ChallengesRemoved { name: owner, removed })
    }

    /// Removes what this broker set and what has ended, so that it is forgotten in time.
    pub(super) async fn bury_challenges(&mut self) {
        let (now, own) = (unix_now().0, self.author.key.public());
        let ended: Vec<_> = self
            .challenges()
            .filter(|(signed, c)| c.until_unix_ms <= now && signed.record().author == own)
            .map(|(signed, _)| (signed.record().key(), None))
            .collect();
        if ended.is_empty() {
            return;
        }
        let origin = self.of_its_own(acts::OWN);
        let note = "ACME challenges that have ended".into();
        if let Err(error) = self.write_own(ended, note, None, origin).await {
            tracing::warn!(%error, "challenges that have ended stay");
        }
    }

    /// Those that are held, also where they have ended.
    fn challenges(&self) -> impl Iterator<Item = (&SignedRecord, Challenge)> {
        // Sorted by kind first.
        let first = RecordKey { kind: Kind::CHALLENGE, scope: String::new(), id: String::new() };
        let of_kind = self.held.records.range(first..).take_while(|(key, _)| key.kind == Kind::CHALLENGE);
        of_kind.filter_map(|(_, signed)| Some((signed, Challenge::of_record(signed.record())?.ok()?)))
    }

    /// What was received and is not shown yet decides too.
    fn look_before(&mut self) {
        if self.unshown.due().is_some() {
            self.show();
        }
    }

    /// The broker signs, so a person who asks must be somebody who could have signed it.
    fn may_challenge(&self, actor: &Actor, key: &RecordKey) -> Result<(), AdminError> {
        let Actor::Person(person) = actor else { return Ok(()) };
        let set = self.held.set.lock();
        let (rights, author) = (set.authority(), PublicKey(person.key));
        if let Some(until_unix_ms) = rights.banned(&author, &key.scope, unix_now().0) {
            return Err(AdminError::Banned { author: *person, until_unix_ms });
        }
        let record = nearmost_replica::Record {
            kind: key.kind,
            scope: key.scope.clone(),
            id: key.id.clone(),
            body: nearmost_replica::Body::Tombstone,
            hlc: self.clock.last(),
            author,
            author_epoch: 0,
            author_seq: 0,
            grants: Vec::new(),
        };
        let why = match rights.admits(&record) {
            Judgement::Admitted if rights.in_force(&record, unix_now().0) => return Ok(()),
            Judgement::Admitted => "its grant is not in force",
            Judgement::Unauthorised(why) => why,
            Judgement::MissingGrant => "nothing entitles this person",
        };
        Err(AdminError::Unauthorised { index: 0, key: key.clone(), author: *person, why })
    }
}

//! Every statement that a broker holds, and what follows from them there: who may state what, and which
//! statement of each thing is visible.

use super::view::{ViewError, decode_record};
use crate::text::printable;
use nearmost_replica::hlc::{self, Hlc};
use nearmost_replica::{Authority, Kind, PublicKey, RecordKey, SignedRecord, StatementSet};
use nearmost_wire::api::RegistryResponse;
use nearmost_wire::authority::Rights;
use nearmost_wire::identity::{Id, Role};

/// What statements are planned against.
pub struct Held {
    /// The broker: the root of the rights.
    pub broker: Id,
    /// Registry version.
    pub version: u64,
    /// Newest moment the broker has seen.
    pub hlc: Hlc,
    /// When it was asked, Unix milliseconds.
    pub now_unix_ms: u64,
    set: StatementSet<Rights>,
}

impl Held {
    /// From a broker's answer.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn decode(response: &RegistryResponse, now_unix_ms: u64) -> Result<Held, ViewError> {
        let broker = Id::parse(&response.broker, Role::Broker)?;
        let records = response.records.iter().enumerate();
        let statements: Vec<SignedRecord> =
            records.map(|(index, view)| decode_record(&view.record, index)).collect::<Result<_, _>>()?;
        let rights = Rights::new(PublicKey(broker.key));
        Ok(Held {
            broker,
            version: response.version,
            hlc: Hlc { millis: response.hlc_millis, counter: response.hlc_counter },
            now_unix_ms,
            set: StatementSet::new(rights, statements, [], hlc::DEFAULT_MAX_AHEAD),
        })
    }

    /// Who may state what.
    pub fn rights(&self) -> &Rights {
        self.set.authority()
    }

    /// The visible statement of a thing, a tombstone too.
    pub fn visible(&self, about: &RecordKey) -> Option<&SignedRecord> {
        self.set.visible(about, self.now_unix_ms)
    }

    /// The visible statement of a thing that is there.
    pub fn live(&self, about: &RecordKey) -> Option<&SignedRecord> {
        self.visible(about).filter(|signed| !signed.record().is_tombstone())
    }

    /// The visible statements of everything in a scope.
    pub fn in_scope<'a>(&'a self, scope: &'a str) -> impl Iterator<Item = &'a SignedRecord> {
        self.set.all_visible(self.now_unix_ms).map(|(_, signed)| signed).filter(move |signed| {
            let record = signed.record();
            record.scope == scope
        })
    }

    /// Whether somebody else says of a removed thing that it is there, so that it would be back if the
    /// removal counted no longer.
    pub fn would_return(&self, removal: &SignedRecord) -> bool {
        let removed = removal.record();
        let others = self.set.statements().map(SignedRecord::record);
        let mut others = others.filter(|r| r.same_key(removed) && r.author != removed.author);
        others.any(|r| !r.is_tombstone() && self.rights().admits(r).is_admitted())
    }

    /// Whether records of a person are accepted.
    pub fn knows_person(&self, person: &Id) -> bool {
        let about = RecordKey { kind: Kind::PERSON, scope: String::new(), id: person.to_string() };
        self.live(&about).is_some()
    }

    /// A key's id: a broker's where it is one that is known, else a person's.
    pub fn id_of(&self, key: &PublicKey) -> Id {
        let broker = key.0 == self.broker.key || self.rights().is_member(key);
        Id { role: if broker { Role::Broker } else { Role::Person }, key: key.0 }
    }

    /// What a member or a person is called.
    pub fn name_of(&self, key: &PublicKey) -> Option<String> {
        let member = self.rights().members().into_iter().find(|m| m.key == *key).map(|m| &m.body.name);
        let person = || self.rights().person(key).map(|p| &p.name);
        member.or_else(person).filter(|name| !name.is_empty()).map(|name| printable(name))
    }

    /// A key as people read it: `ada (np1…)`, or the id alone where no name is known.
    pub fn called(&self, key: &PublicKey) -> String {
        let id = self.id_of(key);
        self.name_of(key).map_or(id.to_string(), |name| format!("{name} ({id})"))
    }
}

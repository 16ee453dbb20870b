//! One entry of the registry: its key as people write it, and its typed content.

use super::shown;
use nearmost_replica::{Kind, RecordKey};
use nearmost_wire::identity::{Id, Role};
use nearmost_wire::registry::{
    DomainBody, DrainBody, EntryKind, ForceBody, MirrorBody, NodeBody, OverrideBody, PersonBody, ZoneKeyBody,
    zone_key_id,
};
use nearmost_wire::{name, prefix};
use serde_json::Value;
use std::fmt;

/// Which entry. Shown as `mirror play.example.com/lon`, `node lon1`, `drain play.example.com/lon`,
/// `override 192.0.2.0/24`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryKey {
    /// What it is of.
    pub kind: EntryKind,
    /// The domain; empty for nodes, their drains, persons and overrides.
    pub scope: String,
    /// The name within the scope, or an override's prefix; empty for domains.
    pub id: String,
}

/// Why a text names no entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A name in it is none.
    #[error(transparent)]
    Name(#[from] name::NameError),
    /// A prefix is none.
    #[error(transparent)]
    Prefix(#[from] prefix::PrefixError),
    /// A mirror's name is not `DOMAIN/NAME`.
    #[error("mirror {0:?}: expected DOMAIN/NAME, e.g. play.example.com/lon")]
    Mirror(String),
}

impl EntryKey {
    fn new(kind: EntryKind, scope: &str, id: &str) -> EntryKey {
        EntryKey { kind, scope: scope.into(), id: id.into() }
    }

    /// A domain, its name made canonical.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn domain(text: &str) -> Result<EntryKey, KeyError> {
        Ok(EntryKey::new(EntryKind::Domain, &name::domain(text)?, ""))
    }

    /// A node, its name made canonical.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn node(text: &str) -> Result<EntryKey, KeyError> {
        Ok(EntryKey::new(EntryKind::Node, "", &name::short(text)?))
    }

    /// A mirror written `DOMAIN/NAME`, both made canonical.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn mirror(text: &str) -> Result<EntryKey, KeyError> {
        let (domain, id) = text.split_once('/').ok_or_else(|| KeyError::Mirror(text.into()))?;
        Ok(EntryKey::new(EntryKind::Mirror, &name::domain(domain)?, &name::short(id)?))
    }

    /// A person.
    pub fn person(id: &Id) -> EntryKey {
        EntryKey::new(EntryKind::Person, "", &id.to_string())
    }

    /// The corrected place of a prefix, which is made canonical.
    ///
    /// # Errors
    /// [`KeyError::Prefix`].
    pub fn place_override(text: &str) -> Result<EntryKey, KeyError> {
        Ok(EntryKey::new(EntryKind::Override, "", &prefix::parse(text)?.to_string()))
    }

    /// A site's key of a domain, whose name is made canonical.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn zone_key(domain: &str, site: &str, generation: u32) -> Result<EntryKey, KeyError> {
        let id = zone_key_id(&name::short(site)?, generation);
        Ok(EntryKey::new(EntryKind::ZoneKey, &name::domain(domain)?, &id))
    }

    /// The drain order of this mirror or node.
    #[must_use]
    pub fn drain(&self) -> EntryKey {
        EntryKey { kind: EntryKind::Drain, ..self.clone() }
    }

    /// The forced verdict of this mirror.
    #[must_use]
    pub fn force(&self) -> EntryKey {
        EntryKey { kind: EntryKind::Force, ..self.clone() }
    }

    /// The name without the kind: `play.example.com/lon`.
    pub fn name(&self) -> String {
        match (self.scope.as_str(), self.id.as_str()) {
            (scope, "") => scope.into(),
            ("", id) => id.into(),
            (scope, id) => format!("{scope}/{id}"),
        }
    }

    /// The key of its record.
    pub fn record_key(&self) -> RecordKey {
        let kind = match self.kind {
            EntryKind::Domain => Kind::DOMAIN,
            EntryKind::Node => Kind::NODE,
            EntryKind::Mirror => Kind::MIRROR,
            EntryKind::Drain => Kind::DRAIN,
            EntryKind::Force => Kind::FORCE,
            EntryKind::Person => Kind::PERSON,
            EntryKind::Override => Kind::OVERRIDE,
            EntryKind::ZoneKey => Kind::ZONE_KEY,
        };
        RecordKey { kind, scope: self.scope.clone(), id: self.id.clone() }
    }

    /// The entry of a record's key; `None` for kinds this build does not know.
    pub fn of_record(key: RecordKey) -> Option<EntryKey> {
        let kind = match key.kind {
            Kind::DOMAIN => EntryKind::Domain,
            Kind::NODE => EntryKind::Node,
            Kind::MIRROR => EntryKind::Mirror,
            Kind::DRAIN => EntryKind::Drain,
            Kind::FORCE => EntryKind::Force,
            Kind::PERSON => EntryKind::Person,
            Kind::OVERRIDE => EntryKind::Override,
            Kind::ZONE_KEY => EntryKind::ZoneKey,
            _ => return None,
        };
        Some(EntryKey { kind, scope: key.scope, id: key.id })
    }

    /// The person, where it is one.
    pub fn person_id(&self) -> Option<Id> {
        (self.kind == EntryKind::Person).then(|| Id::parse(&self.id, Role::Person).ok()).flatten()
    }
}

impl fmt::Display for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.noun(), self.name())
    }
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A domain.
    Domain(DomainBody),
    /// A node.
    Node(NodeBody),
    /// A mirror.
    Mirror(MirrorBody),
    /// A drain order.
    Drain(DrainBody),
    /// A forced verdict.
    Force(ForceBody),
    /// A person.
    Person(PersonBody),
    /// A corrected place.
    Override(OverrideBody),
    /// A public key that a domain is signed with.
    ZoneKey(ZoneKeyBody),
}

impl Content {
    /// From a record's body.
    ///
    /// # Errors
    /// What is wrong with the JSON.
    pub fn parse(kind: EntryKind, body: &[u8]) -> Result<Content, serde_json::Error> {
        Ok(match kind {
            EntryKind::Domain => Content::Domain(serde_json::from_slice(body)?),
            EntryKind::Node => Content::Node(serde_json::from_slice(body)?),
            EntryKind::Mirror => Content::Mirror(serde_json::from_slice(body)?),
            EntryKind::Drain => Content::Drain(serde_json::from_slice(body)?),
            EntryKind::Force => Content::Force(serde_json::from_slice(body)?),
            EntryKind::Person => Content::Person(serde_json::from_slice(body)?),
            EntryKind::Override => Content::Override(serde_json::from_slice(body)?),
            EntryKind::ZoneKey => Content::ZoneKey(serde_json::from_slice(body)?),
        })
    }

    /// As a record's body.
    ///
    /// # Errors
    /// A number that JSON has no form for.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        match self {
            Content::Domain(b) => serde_json::to_vec(b),
            Content::Node(b) => serde_json::to_vec(b),
            Content::Mirror(b) => serde_json::to_vec(b),
            Content::Drain(b) => serde_json::to_vec(b),
            Content::Force(b) => serde_json::to_vec(b),
            Content::Person(b) => serde_json::to_vec(b),
            Content::Override(b) => serde_json::to_vec(b),
            Content::ZoneKey(b) => serde_json::to_vec(b),
        }
    }

    /// As a JSON value, for diffs; who made it is no part of what people change.
    pub(crate) fn to_value(&self) -> Value {
        let value: Option<Value> = self.to_json().ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut value = value.unwrap_or(Value::Null);
        if let Value::Object(fields) = &mut value {
            fields.remove("made_by");
            match self {
                Content::Domain(body) => shown::domain(body, fields),
                Content::Drain(body) => shown::drain(body, fields),
                Content::Force(body) => shown::force(body, fields),
                Content::Node(_)
                | Content::Mirror(_)
                | Content::Person(_)
                | Content::Override(_)
                | Content::ZoneKey(_) => {}
            }
        }
        value
    }

    /// Id of whoever made the entry, where its kind says so.
    pub fn made_by(&self) -> Option<&str> {
        match self {
            Content::Domain(DomainBody { made_by, .. })
            | Content::Node(NodeBody { made_by, .. })
            | Content::Mirror(MirrorBody { made_by, .. })
            | Content::Override(OverrideBody { made_by, .. }) => made_by.as_deref(),
            Content::Drain(_) | Content::Force(_) | Content::Person(_) | Content::ZoneKey(_) => None,
        }
    }

    /// Sets who made it; of no effect for kinds that do not say so.
    #[must_use]
    pub(crate) fn with_maker(mut self, id: Option<String>) -> Content {
        match &mut self {
            Content::Domain(DomainBody { made_by, .. })
            | Content::Node(NodeBody { made_by, .. })
            | Content::Mirror(MirrorBody { made_by, .. })
            | Content::Override(OverrideBody { made_by, .. }) => *made_by = id,
            Content::Drain(_) | Content::Force(_) | Content::Person(_) | Content::ZoneKey(_) => {}
        }
        self
    }

    /// What a new entry of the kind says where nothing is given, for diffs.
    pub(crate) fn defaults(kind: EntryKind) -> Value {
        match kind {
            EntryKind::Domain => Content::Domain(DomainBody::default()).to_value(),
            EntryKind::Node => Content::Node(NodeBody::default()).to_value(),
            EntryKind::Mirror => Content::Mirror(MirrorBody::default()).to_value(),
            EntryKind::Drain => Content::Drain(DrainBody::default()).to_value(),
            EntryKind::Person => Content::Person(PersonBody::default()).to_value(),
            EntryKind::Override => Content::Override(OverrideBody::default()).to_value(),
            EntryKind::Force | EntryKind::ZoneKey => Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_shown_and_carried_by_records() {
        let mirror = EntryKey::mirror("Play.Example.com./LON").unwrap();
        assert_eq!(mirror.to_string(), "mirror play.example.com/lon");
        assert_eq!(mirror.drain().to_string(), "drain play.example.com/lon");
        let node = EntryKey::node("Lon1").unwrap();
        let domain = EntryKey::domain("play.example.com").unwrap();
        let prefix = EntryKey::place_override("::ffff:192.0.2.0/120").unwrap();
        assert_eq!(prefix.to_string(), "override 192.0.2.0/24");
        let zone_key = EntryKey::zone_key("Play.example.com", "a2b3", 7).unwrap();
        assert_eq!(zone_key.to_string(), "zone-key play.example.com/a2b3-7");
        for key in
            [mirror.clone(), mirror.drain(), mirror.force(), node.drain(), node, domain, prefix, zone_key]
        {
            assert_eq!(EntryKey::of_record(key.record_key()), Some(key));
        }
        assert_eq!(EntryKey::of_record(RecordKey { kind: Kind::BAN, scope: "".into(), id: "".into() }), None);
    }

    #[test]
    fn wrong_keys_say_what_is_wrong() {
        assert_eq!(EntryKey::mirror("lon"), Err(KeyError::Mirror("lon".into())));
        assert!(EntryKey::mirror("a b/lon").unwrap_err().to_string().contains("' '"));
        assert!(EntryKey::mirror("a.example/lon/x").unwrap_err().to_string().contains("'/'"));
        assert!(EntryKey::node("lon.1").is_err());
        let bits = EntryKey::place_override("192.0.2.7/24").unwrap_err().to_string();
        assert!(bits.ends_with("as in 192.0.2.0/24"), "{bits}");
        assert!(EntryKey::domain("b\u{0}ad").unwrap_err().to_string().contains("\\0"));
    }
}

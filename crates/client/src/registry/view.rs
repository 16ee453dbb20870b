//! The registry as a broker holds it now, decoded.

use super::entry::{Content, EntryKey};
use data_encoding::BASE64;
use nearmost_replica::{Body, Hlc, PublicKey, RecordError, SignedRecord};
use nearmost_wire::api::RegistryResponse;
use nearmost_wire::identity::{Id, IdError, Role};
use nearmost_wire::registry::{
    BuildDefaults, DomainBody, Entry, EntryKind, MirrorBody, NodeBody, OverrideBody, PersonBody, Problem,
    ZoneKeyBody, build,
};
use std::collections::{BTreeMap, BTreeSet};

/// Why an answer is not a registry.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The broker's id is none.
    #[error("the broker's answer: {0}")]
    Broker(#[from] IdError),
    /// A record is not base64.
    #[error("record {index} of the broker's answer is not base64")]
    Base64 {
        /// Its position, from 0.
        index: usize,
    },
    /// A record is none.
    #[error("record {index} of the broker's answer: {source}")]
    Record {
        /// Its position, from 0.
        index: usize,
        /// What is wrong with it.
        source: RecordError,
    },
}

/// One live entry.
#[derive(Clone, Debug)]
pub struct Current {
    /// What it says; `None` when a newer program wrote what this one cannot read.
    pub content: Option<Content>,
    /// Its record.
    pub signed: SignedRecord,
}

impl Current {
    /// Who wrote it.
    pub fn author(&self) -> PublicKey {
        self.signed.record().author
    }
}

/// What a change is planned against.
#[derive(Clone, Debug)]
pub struct RegistryView {
    /// The broker; what it authored was made for nodes that joined.
    pub broker: Id,
    /// Registry version.
    pub version: u64,
    /// Newest moment the broker has seen.
    pub hlc: Hlc,
    /// Live entries.
    pub entries: BTreeMap<EntryKey, Current>,
    /// Newest record of every key, tombstones included.
    pub records: BTreeMap<EntryKey, SignedRecord>,
}

/// A record from its base64.
///
/// # Errors
/// [`ViewError`], naming `index`.
pub fn decode_record(text: &str, index: usize) -> Result<SignedRecord, ViewError> {
    let bytes = BASE64.decode(text.as_bytes()).map_err(|_| ViewError::Base64 { index })?;
    SignedRecord::decode(&bytes).map_err(|source| ViewError::Record { index, source })
}

impl RegistryView {
    /// From a broker's answer. Kinds that this build does not know are passed over.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn decode(response: &RegistryResponse) -> Result<RegistryView, ViewError> {
        let mut view = RegistryView {
            broker: Id::parse(&response.broker, Role::Broker)?,
            version: response.version,
            hlc: Hlc { millis: response.hlc_millis, counter: response.hlc_counter },
            entries: BTreeMap::new(),
            records: BTreeMap::new(),
        };
        for (index, record) in response.records.iter().enumerate() {
            let signed = decode_record(&record.record, index)?;
            let Some(key) = EntryKey::of_record(signed.record().key()) else { continue };
            if let Body::Live { bytes, .. } = &signed.record().body {
                let content = Content::parse(key.kind, bytes).ok();
                view.entries.insert(key.clone(), Current { content, signed: signed.clone() });
            }
            view.records.insert(key, signed);
        }
        Ok(view)
    }

    /// The live entries as [`build`] takes them.
    pub fn live(&self) -> impl Iterator<Item = (&EntryKey, &[u8])> {
        self.entries.iter().filter_map(|(key, current)| match &current.signed.record().body {
            Body::Live { bytes, .. } => Some((key, bytes.as_slice())),
            Body::Tombstone => None,
        })
    }

    /// What of the current registry makes no sense.
    pub fn problems(&self) -> Vec<Problem> {
        problems(self.live())
    }

    /// Whether records of `person` are accepted.
    pub fn knows_person(&self, person: &Id) -> bool {
        self.entries.contains_key(&EntryKey::person(person))
    }

    /// An author's id, with the right prefix.
    pub fn author_id(&self, author: PublicKey) -> Id {
        let role = if author.0 == self.broker.key { Role::Broker } else { Role::Person };
        Id { role, key: author.0 }
    }

    /// Who made an entry: whoever it says, else the author of its record.
    pub fn maker(&self, key: &EntryKey) -> Option<Id> {
        let current = self.entries.get(key)?;
        let said = current.content.as_ref().and_then(Content::made_by).and_then(|id| id.parse().ok());
        Some(said.unwrap_or_else(|| self.author_id(current.author())))
    }

    /// What an entry says.
    pub fn content(&self, key: &EntryKey) -> Option<&Content> {
        self.entries.get(key).and_then(|c| c.content.as_ref())
    }

    /// Whether an entry is there.
    pub fn has(&self, key: &EntryKey) -> bool {
        self.entries.contains_key(key)
    }

    fn of_kind(&self, kind: EntryKind) -> impl Iterator<Item = (&EntryKey, &Content)> {
        let all = self.entries.iter().filter(move |(key, _)| key.kind == kind);
        all.filter_map(|(key, current)| Some((key, current.content.as_ref()?)))
    }

    /// All domains that can be read, sorted.
    pub fn domains(&self) -> impl Iterator<Item = (&EntryKey, &DomainBody)> {
        self.of_kind(EntryKind::Domain).filter_map(|(k, c)| match c {
            Content::Domain(b) => Some((k, b)),
            _ => None,
        })
    }

    /// All nodes that can be read, sorted.
    pub fn nodes(&self) -> impl Iterator<Item = (&EntryKey, &NodeBody)> {
        self.of_kind(EntryKind::Node).filter_map(|(k, c)| match c {
            Content::Node(b) => Some((k, b)),
            _ => None,
        })
    }

    /// All mirrors that can be read, sorted.
    pub fn mirrors(&self) -> impl Iterator<Item = (&EntryKey, &MirrorBody)> {
        self.of_kind(EntryKind::Mirror).filter_map(|(k, c)| match c {
            Content::Mirror(b) => Some((k, b)),
            _ => None,
        })
    }

    /// All persons that can be read, sorted by id.
    pub fn persons(&self) -> impl Iterator<Item = (&EntryKey, &PersonBody)> {
        self.of_kind(EntryKind::Person).filter_map(|(k, c)| match c {
            Content::Person(b) => Some((k, b)),
            _ => None,
        })
    }

    /// All overrides that can be read, sorted by their prefixes' text.
    pub fn overrides(&self) -> impl Iterator<Item = (&EntryKey, &OverrideBody)> {
        self.of_kind(EntryKind::Override).filter_map(|(k, c)| match c {
            Content::Override(b) => Some((k, b)),
            _ => None,
        })
    }

    /// Keys of a domain that can be read, each with its record's id.
    pub fn zone_keys<'a>(&'a self, domain: &'a str) -> impl Iterator<Item = (&'a EntryKey, &'a ZoneKeyBody)> {
        let all = self.of_kind(EntryKind::ZoneKey).filter(move |(k, _)| k.scope == domain);
        all.filter_map(|(k, c)| match c {
            Content::ZoneKey(b) => Some((k, b)),
            _ => None,
        })
    }

    /// Mirrors of a domain.
    pub fn mirrors_of<'a>(&'a self, domain: &'a str) -> impl Iterator<Item = &'a EntryKey> {
        self.entries.keys().filter(move |k| k.kind == EntryKind::Mirror && k.scope == domain)
    }
}

/// What makes no sense among `entries`.
pub(crate) fn problems<'a>(entries: impl Iterator<Item = (&'a EntryKey, &'a [u8])>) -> Vec<Problem> {
    let entries = entries.map(|(k, body)| Entry { kind: k.kind, scope: &k.scope, id: &k.id, body });
    without_followers(build(0, entries, &BuildDefaults::default()).problems)
}

/// Leaves out that mirrors do not know a domain which is there and itself wrong: once that is right,
/// so are they.
fn without_followers(mut problems: Vec<Problem>) -> Vec<Problem> {
    let domains = problems.iter().filter(|p| p.kind == EntryKind::Domain.noun());
    let wrong: BTreeSet<String> = domains.map(|p| format!("unknown domain {:?}", p.name)).collect();
    problems.retain(|p| !wrong.contains(&p.problem));
    problems
}

//! What those with full rights in a domain gave to others.

use super::statements::{keep_greatest, key_of};
use crate::identity::Role;
use crate::registry::{GrantBody, GrantRole, read};
use nearmost_replica::{Kind, PublicKey, SignedRecord};
use std::collections::{HashMap, HashSet};

/// A grant that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Whose it is.
    pub to: PublicKey,
    /// Who gave it.
    pub by: PublicKey,
    /// What it says.
    pub body: GrantBody,
    /// From when it holds, Unix milliseconds …
    pub from_unix_ms: u64,
    /// … until when; `u64::MAX` is for ever. Narrower than the body's dates where what entitles its giver
    /// is.
    pub until_unix_ms: u64,
    kinds: HashSet<u16>,
}

impl Granted {
    fn new(to: PublicKey, by: PublicKey, body: GrantBody) -> Granted {
        let until_unix_ms = if body.until_unix_ms == 0 { u64::MAX } else { body.until_unix_ms };
        let kinds = match body.role {
            GrantRole::Writer => body.kinds.iter().copied().filter(|k| Kind(*k).is_application()).collect(),
            _ => HashSet::new(),
        };
        Granted { to, by, from_unix_ms: body.from_unix_ms, until_unix_ms, body, kinds }
    }

    /// Whether its dates allow it.
    pub fn holds_at(&self, now_unix_ms: u64) -> bool {
        (self.from_unix_ms..self.until_unix_ms).contains(&now_unix_ms)
    }

    /// Whether its holder may state things of this kind.
    pub(super) fn allows(&self, kind: Kind) -> bool {
        let operates = matches!(kind, Kind::MIRROR | Kind::DRAIN | Kind::FORCE);
        match self.body.role {
            GrantRole::Admin => {
                operates
                    || matches!(kind, Kind::DOMAIN | Kind::GRANT | Kind::CHALLENGE | Kind::ZONE_KEY)
                    || kind.is_application()
            }
            GrantRole::Operator => operates,
            GrantRole::Writer => self.kinds.contains(&kind.0),
            GrantRole::Auditor => false,
        }
    }

    fn within(mut self, giver: &Granted) -> Granted {
        self.from_unix_ms = self.from_unix_ms.max(giver.from_unix_ms);
        self.until_unix_ms = self.until_unix_ms.min(giver.until_unix_ms);
        self
    }
}

/// What became of a grant.
#[derive(Clone, Debug)]
enum Fate {
    Stands(Granted),
    Revoked,
    /// It is there, and this build does not understand it.
    Unread,
}

/// The grants of a domain.
#[derive(Clone, Debug, Default)]
pub(super) struct Grants {
    fates: HashMap<PublicKey, Fate>,
    /// Grantees that somebody with full rights decided about.
    by_full: HashSet<PublicKey>,
}

impl Grants {
    /// What these statements give, where `is_full` says who has full rights.
    pub(super) fn of(statements: &[&SignedRecord], is_full: impl Fn(&PublicKey) -> bool) -> Grants {
        let (full, others): (Vec<&SignedRecord>, Vec<_>) =
            statements.iter().copied().partition(|s| is_full(&s.record().author));
        let mut grants = Grants::default();
        for (to, signed) in greatest(full.into_iter()) {
            grants.by_full.insert(to);
            grants.fates.insert(to, fate(to, signed));
        }
        let by_admins = others.into_iter().filter(|s| grants.counts_by_admin(s));
        let decided: Vec<_> = greatest(by_admins).into_iter().collect();
        let fates: Vec<_> = decided
            .into_iter()
            .filter_map(|(to, signed)| {
                let giver = grants.held(&signed.record().author)?;
                Some((
                    to,
                    match fate(to, signed) {
                        Fate::Stands(granted) => Fate::Stands(granted.within(giver)),
                        other => other,
                    },
                ))
            })
            .collect();
        grants.fates.extend(fates);
        grants
    }

    /// Whether a statement counts as one of an admin of the domain.
    fn counts_by_admin(&self, signed: &SignedRecord) -> bool {
        let record = signed.record();
        let Some(to) = grantee(&record.id) else { return false };
        let giver = self.held(&record.author).is_some_and(|g| g.body.role == GrantRole::Admin);
        let given = || read::<GrantBody>(record).is_some_and(|body| body.role != GrantRole::Admin);
        giver && !self.by_full.contains(&to) && (record.is_tombstone() || given())
    }

    /// The grant that a key holds.
    pub(super) fn held(&self, key: &PublicKey) -> Option<&Granted> {
        match self.fates.get(key)? {
            Fate::Stands(granted) => Some(granted),
            Fate::Revoked | Fate::Unread => None,
        }
    }

    /// Whether a key's grant was taken back.
    pub(super) fn is_revoked(&self, key: &PublicKey) -> bool {
        matches!(self.fates.get(key), Some(Fate::Revoked))
    }

    /// Whether somebody with full rights decided about a grantee.
    pub(super) fn is_by_full(&self, grantee: &PublicKey) -> bool {
        self.by_full.contains(grantee)
    }

    /// Those that stand, in the order of their grantees.
    pub(super) fn standing(&self) -> Vec<&Granted> {
        let mut all: Vec<&Granted> = self.fates.keys().filter_map(|key| self.held(key)).collect();
        all.sort_by_key(|g| g.to);
        all
    }
}

/// The key that a grant's id names. A broker and a person with one key are one grantee, so that what is
/// taken from the one is not left to the other.
pub(super) fn grantee(id: &str) -> Option<PublicKey> {
    key_of(id, &[Role::Broker, Role::Person])
}

fn greatest<'a>(statements: impl Iterator<Item = &'a SignedRecord>) -> HashMap<PublicKey, &'a SignedRecord> {
    let mut all = HashMap::new();
    for signed in statements {
        if let Some(to) = grantee(&signed.record().id) {
            keep_greatest(&mut all, to, signed);
        }
    }
    all
}

fn fate(to: PublicKey, signed: &SignedRecord) -> Fate {
    let record = signed.record();
    match read::<GrantBody>(record) {
        Some(body) => Fate::Stands(Granted::new(to, record.author, body)),
        None if record.is_tombstone() => Fate::Revoked,
        None => Fate::Unread,
    }
}

//! Whose the domains are, and who has which rights in them.

use super::grants::Grants;
use super::members::Federation;
use super::statements::{InDomains, Statements, key_of};
use crate::identity::Role;
use crate::registry::{ClaimBody, RollBody, read};
use nearmost_replica::merge::order;
use nearmost_replica::{PublicKey, Record, SignedRecord};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Most rolls that are followed from one claim.
const MAX_ROLLS: usize = 64;

/// A domain that several claim who may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contest {
    /// Which.
    pub domain: String,
    /// The authors of the claims, the one that stands first.
    pub claimants: Vec<PublicKey>,
}

/// What is known of a domain.
#[derive(Clone, Debug, Default)]
pub(super) struct Domain {
    /// The keys that owned it, the owner last; empty while nobody does.
    line: Vec<PublicKey>,
    /// Old key → new key, each agreed to.
    rolls: HashMap<PublicKey, PublicKey>,
    pub(super) grants: Grants,
}

impl Domain {
    pub(super) fn owner(&self) -> Option<PublicKey> {
        self.line.last().copied()
    }

    /// Whether this key owns it or did.
    pub(super) fn in_line(&self, key: &PublicKey) -> bool {
        self.line.contains(key)
    }

    /// Whether rolls lead from this key to one that may create the domain.
    pub(super) fn leads_to_entitled(&self, federation: &Federation, key: PublicKey, domain: &str) -> bool {
        line_from(key, &self.rolls).iter().any(|k| federation.covers(k, domain))
    }
}

/// The domains that somebody claimed, rolled or granted.
#[derive(Clone, Debug, Default)]
pub(super) struct Domains {
    by_name: HashMap<String, Domain>,
    contested: BTreeMap<String, Contest>,
    /// When a grant begins or ends, Unix milliseconds, sorted.
    changes: Vec<u64>,
}

impl Domains {
    /// What the statements say, of members and persons that are known.
    pub(super) fn of(
        federation: &Federation,
        statements: &Statements<'_>,
        agreed: &HashMap<[u8; 32], Option<PublicKey>>,
    ) -> Domains {
        let mut all = Domains::default();
        let Statements { claims, rolls, grants, .. } = statements;
        let names: HashSet<&str> = claims.keys().chain(rolls.keys()).chain(grants.keys()).copied().collect();
        for name in names {
            let mut domain = Domain { rolls: rolls_of(in_domain(rolls, name), agreed), ..Domain::default() };
            let claims = counting(federation, name, in_domain(claims, name), &domain);
            if let Some(first) = claims.first() {
                domain.line = line_from(first.record().author, &domain.rolls);
                all.contested.extend(contest(name, &claims, &domain).map(|c| (name.to_owned(), c)));
            }
            let owner = domain.owner();
            domain.grants = Grants::of(in_domain(grants, name), |key| match owner {
                Some(owner) => owner == *key,
                None => federation.covers(key, name),
            });
            all.by_name.insert(name.to_owned(), domain);
        }
        all.changes = all.dates();
        all
    }

    pub(super) fn get(&self, domain: &str) -> Option<&Domain> {
        self.by_name.get(domain)
    }

    /// Whether a key has full rights in a domain.
    pub(super) fn is_full(&self, federation: &Federation, key: &PublicKey, domain: &str) -> bool {
        match self.get(domain).and_then(Domain::owner) {
            Some(owner) => owner == *key,
            None => !domain.is_empty() && federation.covers(key, domain),
        }
    }

    pub(super) fn contested(&self) -> Vec<&Contest> {
        self.contested.values().collect()
    }

    /// When the next grant begins or ends after this moment.
    pub(super) fn next_change(&self, now_unix_ms: u64) -> Option<u64> {
        let next = self.changes.partition_point(|at| *at <= now_unix_ms);
        self.changes.get(next).copied()
    }

    fn dates(&self) -> Vec<u64> {
        let granted = self.by_name.values().flat_map(|d| d.grants.standing());
        let mut dates: Vec<u64> = granted
            .filter(|g| g.from_unix_ms < g.until_unix_ms)
            .flat_map(|g| [g.from_unix_ms, g.until_unix_ms])
            // What never ends has no end to wait for.
            .filter(|at| *at != u64::MAX)
            .collect();
        dates.sort_unstable();
        dates.dedup();
        dates
    }
}

fn in_domain<'s, 'a>(all: &'s InDomains<'a>, domain: &str) -> &'s [&'a SignedRecord] {
    all.get(domain).map_or(&[], Vec::as_slice)
}

/// The claims that count, the one that stands first.
fn counting<'a>(
    federation: &Federation,
    name: &str,
    claims: &[&'a SignedRecord],
    domain: &Domain,
) -> Vec<&'a SignedRecord> {
    let counts = |signed: &&SignedRecord| {
        let record = signed.record();
        read::<ClaimBody>(record).is_some() && domain.leads_to_entitled(federation, record.author, name)
    };
    let mut counting: Vec<&SignedRecord> = claims.iter().copied().filter(counts).collect();
    counting.sort_by(|a, b| order(b, a));
    counting
}

/// A later claim of a key that took the place of the first one's is no second opinion.
fn contest(name: &str, claims: &[&SignedRecord], domain: &Domain) -> Option<Contest> {
    let (first, rest) = claims.split_first()?;
    let others = rest.iter().map(|s| s.record().author).filter(|author| !domain.in_line(author));
    let claimants: Vec<PublicKey> = std::iter::once(first.record().author).chain(others).collect();
    (claimants.len() > 1).then(|| Contest { domain: name.to_owned(), claimants })
}

/// The key and those that it was rolled to, one after the other, each once.
fn line_from(key: PublicKey, rolls: &HashMap<PublicKey, PublicKey>) -> Vec<PublicKey> {
    let mut line = vec![key];
    let mut at = key;
    while let Some(next) = rolls.get(&at).filter(|next| line.len() <= MAX_ROLLS && !line.contains(next)) {
        line.push(*next);
        at = *next;
    }
    line
}

fn rolls_of(
    rolls: &[&SignedRecord],
    agreed: &HashMap<[u8; 32], Option<PublicKey>>,
) -> HashMap<PublicKey, PublicKey> {
    let new = |s: &SignedRecord| agreed.get(&s.hash()).copied().flatten();
    rolls.iter().filter_map(|s| Some((s.record().author, new(s)?))).collect()
}

/// The new key of a roll, where the old one says so and the new one agrees.
pub(super) fn new_key(record: &Record) -> Option<PublicKey> {
    let of_itself = key_of(&record.id, &[Role::Broker, Role::Person]) == Some(record.author);
    let body: RollBody = read(record).filter(|_| of_itself)?;
    body.verify(&record.scope, &record.author.0).ok().map(PublicKey)
}

/// The rolls of these statements by their hash, each with its new key, as far as one agreed. `known` is
/// what was found before.
pub(super) fn agreed(
    statements: &Statements<'_>,
    known: HashMap<[u8; 32], Option<PublicKey>>,
) -> HashMap<[u8; 32], Option<PublicKey>> {
    let all = statements.rolls.values().flatten();
    all.map(|signed| {
        let hash = signed.hash();
        (hash, known.get(&hash).copied().unwrap_or_else(|| new_key(signed.record())))
    })
    .collect()
}

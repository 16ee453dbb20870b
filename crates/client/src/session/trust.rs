//! Whom a session believes: opens what brokers sign, and drops mirrors that nobody granted.
//!
//! A list counts when the broker that it was asked of signed it, for this domain. Where the session knows
//! the domain's owner, each of its mirrors must be granted besides by a broker that the owner chose
//! ([`nearmost_wire::grant`]); one that is not is left out and counted, whatever its broker says. What the
//! machine takes for the time of signing is never so late that a mirror would be used beyond its grant.

use super::counters::{Count, Counters};
use super::known::Known;
use super::table::Mirrors;
use nearmost_core::session::MirrorKey;
use nearmost_core::session::client::Input;
use nearmost_core::session::list::{self, FailureDomain, HARD_TTL, ListVersion, Listed, MirrorList};
use nearmost_core::time::UnixMillis;
use nearmost_wire::grant::{Delegation, GrantError};
use nearmost_wire::identity::{Id, Role};
use nearmost_wire::list::{Change, Entry, List, ListError, Signed, Standing, Version, Word};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// With less left of a grant, the whole list is asked for again.
const RENEW_MS: u64 = 12 * 3600 * 1000;

/// Why a broker's word is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UntrustedList {
    /// Not the broker's, or not readable.
    #[error(transparent)]
    List(#[from] ListError),
    /// It is of something else.
    #[error("a list of {0}, which was not asked for")]
    Domain(String),
    /// The owner chose no broker that this list names.
    #[error("the owner's word is asked for, and {}", .0.as_ref().map_or("the list has none".into(), ToString::to_string))]
    Owner(Option<GrantError>),
}

/// What a session holds of brokers' words.
pub(super) struct Trust {
    domain: String,
    owner: Option<Id>,
    delegations: Vec<Delegation>,
    /// Until when each mirror of the list is granted; nothing where no owner is known.
    granted: HashMap<String, u64>,
}

impl Trust {
    pub fn new(domain: String, owner: Option<Id>) -> Trust {
        Trust { domain, owner, delegations: Vec::new(), granted: HashMap::new() }
    }

    /// Whether grants end so soon that the whole list is to be asked for.
    pub fn renew(&self, now_ms: u64) -> bool {
        self.granted.values().any(|until| *until < now_ms.saturating_add(RENEW_MS))
    }

    /// What a broker signed, for the machine.
    ///
    /// # Errors
    /// [`UntrustedList`]; nothing of it was taken then.
    pub fn open(
        &mut self,
        signed: &Signed,
        broker: &Id,
        mirrors: &mut Mirrors,
        counters: &Counters,
        now_ms: u64,
    ) -> Result<Input, UntrustedList> {
        let word = signed.open(&broker.key)?;
        let (Word::List(List { domain, .. }) | Word::Change(Change { domain, .. })) = &word;
        if *domain != self.domain {
            return Err(UntrustedList::Domain(domain.clone()));
        }
        match word {
            Word::List(list) => self.list(list, mirrors, counters, now_ms),
            Word::Change(change) => Ok(self.change(change, mirrors, counters, now_ms)),
        }
    }

    fn list(
        &mut self,
        list: List,
        mirrors: &mut Mirrors,
        counters: &Counters,
        now_ms: u64,
    ) -> Result<Input, UntrustedList> {
        if let Some(owner) = &self.owner {
            let verified =
                list.delegations.into_iter().map(|d| d.verify(owner, &self.domain, now_ms).map(|()| d));
            let (good, bad): (Vec<_>, Vec<_>) = verified.partition(Result::is_ok);
            if good.is_empty() {
                return Err(UntrustedList::Owner(bad.into_iter().find_map(Result::err)));
            }
            self.delegations = good.into_iter().flatten().collect();
        }
        self.granted.clear();
        let listed = self.listed(list.mirrors, mirrors, counters, now_ms);
        let issued = self.terms(list.issued_ms);
        let version = version(list.version);
        Ok(Input::ListArrived(MirrorList { version, issued, mirrors: listed }))
    }

    fn change(&mut self, change: Change, mirrors: &mut Mirrors, counters: &Counters, now_ms: u64) -> Input {
        let mut removed: Vec<MirrorKey> = Vec::new();
        for name in &change.removed {
            self.granted.remove(name);
            removed.extend(mirrors.named(name));
        }
        let names: Vec<String> = change.put.iter().map(|entry| entry.name.clone()).collect();
        let before: Vec<Option<MirrorKey>> = names.iter().map(|name| mirrors.named(name)).collect();
        let put = self.listed(change.put, mirrors, counters, now_ms);
        // What is at another node now, or no longer granted, is gone as what it was.
        let gone = before.into_iter().flatten().filter(|key| !put.iter().any(|m| m.key == *key));
        removed.extend(gone);
        let issued = self.terms(change.issued_ms);
        Input::Changed(list::Change { from: change.from, to: version(change.to), issued, put, removed })
    }

    fn listed(
        &mut self,
        entries: Vec<Entry>,
        mirrors: &mut Mirrors,
        counters: &Counters,
        now_ms: u64,
    ) -> Vec<Listed> {
        let mut listed = Vec::with_capacity(entries.len());
        for entry in entries {
            if self.owner.is_some() {
                match self.granted(&entry, now_ms) {
                    Ok(until) => drop(self.granted.insert(entry.name.clone(), until)),
                    Err(_) => {
                        counters.add(Count::Ungranted);
                        continue;
                    }
                }
            }
            let (known, standing, tier) = (known(&entry), standing(entry.standing), entry.tier);
            let number = mirrors.put(known.clone());
            listed.push(Listed { standing, tier, ..known.listed(number) });
        }
        listed
    }

    fn granted(&self, entry: &Entry, now_ms: u64) -> Result<u64, GrantError> {
        let grant = entry.grant.ok_or_else(|| GrantError::Missing(entry.name.clone()))?;
        grant.verify(entry.granted(&self.domain), &self.delegations, now_ms)?;
        Ok(grant.until_ms)
    }

    /// When something signed then is taken to be signed: its terms end with the first grant.
    fn terms(&self, issued_ms: u64) -> UnixMillis {
        let day = u64::try_from(HARD_TTL.as_millis()).unwrap_or(u64::MAX);
        let first = self.granted.values().min().map(|until| until.saturating_sub(day));
        UnixMillis(first.map_or(issued_ms, |first| issued_ms.min(first)))
    }
}

fn version(version: Version) -> ListVersion {
    ListVersion { source: version.source, number: version.number }
}

fn known(entry: &Entry) -> Known {
    let v4 = entry.at.v4.map(IpAddr::V4);
    Known {
        node: Id { role: Role::Node, key: entry.node },
        name: Some(entry.name.clone()),
        addresses: v4.into_iter().chain(entry.at.v6.map(IpAddr::V6)).collect(),
        port: entry.at.port,
        predicted: Duration::from_micros(entry.rtt_us.into()),
        weight: f64::from(entry.weight),
        domain: FailureDomain { site: entry.fate.site, asn: entry.fate.asn, region: entry.fate.region },
    }
}

fn standing(standing: Standing) -> list::Standing {
    match standing {
        Standing::Eligible => list::Standing::Eligible,
        Standing::Endangered => list::Standing::Endangered,
        Standing::Draining => list::Standing::Draining,
        Standing::Down => list::Standing::Down,
    }
}

//! Whom a session believes: opens what brokers sign, and drops mirrors that nobody granted.
//!
//! A list counts when the broker that it was asked of signed it, for this domain. Where the session knows
//! the domain's owner, each of its mirrors must be granted besides by a broker that the owner chose
//! ([`nearmost_wire::grant`]); one that is not is left out and counted, whatever its broker says, and a list of
//! which nothing is left is not taken: another broker may have more. A grant holds no longer than the
//! delegation that it stands on, and a list no longer than the first of its grants.

use super::counters::{Count, Counters};
use super::known::Known;
use super::table::Mirrors;
use nearmost_core::session::MirrorKey;
use nearmost_core::session::client::Input;
use nearmost_core::session::list::{self, FailureDomain, ListVersion, Listed, MirrorList};
use nearmost_core::time::UnixMillis;
use nearmost_wire::grant::{Delegation, GrantError};
use nearmost_wire::identity::{Id, Role};
use nearmost_wire::list::{Change, Entry, List, ListError, Signed, Standing, Version, Word};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

/// With less left of a grant, the whole list is asked for again …
const RENEW_MS: u64 = 12 * 3600 * 1000;
/// … but not oftener than this.
const RENEW_EVERY_MS: u64 = 3600 * 1000;

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
    /// Nothing of it is granted.
    #[error(
        "the owner's word is asked for, and no broker of the owner's choice granted any mirror of the list"
    )]
    Ungranted,
}

/// What a session holds of brokers' words.
pub(super) struct Trust {
    domain: String,
    owner: Option<Id>,
    delegations: Vec<Delegation>,
    /// Until when each mirror of the list is granted; nothing where no owner is known.
    granted: HashMap<MirrorKey, u64>,
    /// When the last whole list was taken.
    whole_ms: u64,
}

impl Trust {
    pub fn new(domain: String, owner: Option<Id>) -> Trust {
        Trust { domain, owner, delegations: Vec::new(), granted: HashMap::new(), whole_ms: 0 }
    }

    /// Whether grants end so soon that the whole list is to be asked for.
    pub fn renew(&self, now_ms: u64) -> bool {
        let rested = now_ms >= self.whole_ms.saturating_add(RENEW_EVERY_MS);
        rested && self.granted.values().any(|until| *until < now_ms.saturating_add(RENEW_MS))
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
            Word::Change(change) => self.change(change, mirrors, counters, now_ms),
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
            // None of what was delegated before counts, unless it is in this list again.
            let verified =
                list.delegations.into_iter().map(|d| d.verify(owner, &self.domain, now_ms).map(|()| d));
            let (good, bad): (Vec<_>, Vec<_>) = verified.partition(Result::is_ok);
            if good.is_empty() {
                return Err(UntrustedList::Owner(bad.into_iter().find_map(Result::err)));
            }
            self.delegations = good.into_iter().flatten().collect();
        }
        let given = list.mirrors.len();
        let before = std::mem::take(&mut self.granted);
        let listed = self.listed(list.mirrors, mirrors, counters, now_ms);
        if given > 0 && listed.is_empty() {
            self.granted = before;
            return Err(UntrustedList::Ungranted);
        }
        self.whole_ms = now_ms;
        let (version, issued) = (version(list.version), UnixMillis(list.issued_ms));
        Ok(Input::ListArrived(MirrorList { version, issued, ends: self.ends(), mirrors: listed }))
    }

    fn change(
        &mut self,
        change: Change,
        mirrors: &mut Mirrors,
        counters: &Counters,
        now_ms: u64,
    ) -> Result<Input, UntrustedList> {
        let mut removed: Vec<MirrorKey> =
            change.removed.iter().filter_map(|name| mirrors.named(name)).collect();
        let names: Vec<String> = change.put.iter().map(|entry| entry.name.clone()).collect();
        let before: Vec<Option<MirrorKey>> = names.iter().map(|name| mirrors.named(name)).collect();
        let put = self.listed(change.put, mirrors, counters, now_ms);
        // What is at another node now, or no longer granted, is gone as what it was.
        let gone = before.into_iter().flatten().filter(|key| !put.iter().any(|m| m.key == *key));
        removed.extend(gone);
        let held = !self.granted.is_empty();
        self.granted.retain(|key, _| !removed.contains(key));
        if held && self.granted.is_empty() && !names.is_empty() {
            return Err(UntrustedList::Ungranted);
        }
        let (to, issued) = (version(change.to), UnixMillis(change.issued_ms));
        Ok(Input::Changed(list::Change { from: change.from, to, issued, ends: self.ends(), put, removed }))
    }

    /// Each name once; those that are not granted are left out.
    fn listed(
        &mut self,
        entries: Vec<Entry>,
        mirrors: &mut Mirrors,
        counters: &Counters,
        now_ms: u64,
    ) -> Vec<Listed> {
        let mut listed = Vec::with_capacity(entries.len());
        let mut names = HashSet::new();
        for entry in entries {
            let until = match self.owner.is_some().then(|| self.granted(&entry, now_ms)) {
                Some(Err(_)) => {
                    counters.add(Count::Ungranted);
                    continue;
                }
                Some(Ok(until)) => Some(until),
                None => None,
            };
            if !names.insert(entry.name.clone()) {
                continue;
            }
            let (known, standing, tier) = (known(&entry), standing(entry.standing), entry.tier);
            let number = mirrors.put(known.clone());
            self.granted.extend(until.map(|until| (number, until)));
            listed.push(Listed { standing, tier, ..known.listed(number) });
        }
        listed
    }

    /// Until when a mirror is granted: no longer than the delegation holds that its grant stands on.
    fn granted(&self, entry: &Entry, now_ms: u64) -> Result<u64, GrantError> {
        let grant = entry.grant.ok_or_else(|| GrantError::Missing(entry.name.clone()))?;
        grant.verify(entry.granted(&self.domain), &self.delegations, now_ms)?;
        let delegated = self.delegations.iter().filter(|d| d.to == grant.by).map(|d| d.until_ms).max();
        match delegated.filter(|until| now_ms < *until) {
            Some(until) => Ok(grant.until_ms.min(until)),
            None => Err(GrantError::Time),
        }
    }

    /// When what is held ends: with its first grant.
    fn ends(&self) -> Option<UnixMillis> {
        self.granted.values().min().map(|until| UnixMillis(*until))
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

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_wire::grant::{GRANT_MS, Grant};
    use nearmost_wire::identity::KeyPair;
    use nearmost_wire::list::{Fate, Reach};

    const DOMAIN: &str = "play.example";
    const NOW: u64 = 100 * GRANT_MS;

    fn key(role: Role, seed: u8) -> KeyPair {
        KeyPair::from_seed(role, &[seed; 32])
    }

    struct World {
        trust: Trust,
        mirrors: Mirrors,
        counters: Counters,
        number: u64,
    }

    impl World {
        fn new() -> World {
            let trust = Trust::new(DOMAIN.into(), Some(key(Role::Person, 1).id()));
            World { trust, mirrors: Mirrors::default(), counters: Counters::default(), number: 0 }
        }

        fn open(&mut self, by: u8, word: &Word, now: u64) -> Result<Input, UntrustedList> {
            let broker = key(Role::Broker, by);
            let signed = Signed::sign(&broker, word);
            self.trust.open(&signed, &broker.id(), &mut self.mirrors, &self.counters, now)
        }

        fn list(
            &mut self,
            by: u8,
            until: u64,
            mirrors: Vec<Entry>,
            now: u64,
        ) -> Result<Input, UntrustedList> {
            let owner = key(Role::Person, 1);
            let delegation = Delegation::sign(&owner, DOMAIN, &key(Role::Broker, 2).id(), 0, until).unwrap();
            self.number += 1;
            let version = Version { source: 1, number: self.number };
            let delegations = vec![delegation];
            let list = List { domain: DOMAIN.into(), version, issued_ms: now, delegations, mirrors };
            self.open(by, &Word::List(list), now)
        }

        fn change(&mut self, put: Vec<Entry>, removed: &[&str], now: u64) -> Result<Input, UntrustedList> {
            self.number += 1;
            let to = Version { source: 1, number: self.number };
            let removed = removed.iter().map(|name| (*name).to_owned()).collect();
            let from = self.number - 1;
            let change = Change { domain: DOMAIN.into(), from, to, issued_ms: now, put, removed };
            self.open(2, &Word::Change(change), now)
        }
    }

    fn ends(input: &Input) -> Option<u64> {
        match input {
            Input::ListArrived(list) => list.ends.map(|e| e.0),
            Input::Changed(change) => change.ends.map(|e| e.0),
            other => panic!("{other:?}"),
        }
    }

    fn changed(input: Result<Input, UntrustedList>) -> list::Change {
        match input {
            Ok(Input::Changed(change)) => change,
            other => panic!("{other:?}"),
        }
    }

    /// Granted by the broker of seed 2.
    fn entry(name: &str, node: u8, until: u64) -> Entry {
        let at = Reach { v4: Some([192, 0, 2, node].into()), v6: None, port: 7850 };
        let entry = Entry {
            name: name.into(),
            node: [node; 32],
            at,
            rtt_us: 1000,
            weight: 100,
            tier: 0,
            fate: Fate::default(),
            standing: Standing::Eligible,
            grant: None,
        };
        let grant = Some(Grant::sign(&key(Role::Broker, 2), entry.granted(DOMAIN), until));
        Entry { grant, ..entry }
    }

    #[test]
    fn a_list_ends_with_its_first_grant_and_that_with_its_delegation() {
        let mut world = World::new();
        let day = NOW + GRANT_MS;
        let list =
            world.list(2, NOW + 90 * GRANT_MS, vec![entry("a", 1, day), entry("b", 2, NOW + 500)], NOW);
        assert_eq!(ends(&list.unwrap()), Some(NOW + 500));
        let list = world.list(2, NOW + 300, vec![entry("a", 1, day)], NOW).unwrap();
        assert_eq!(ends(&list), Some(NOW + 300));
        // Once the delegation is over its broker can neither add nor prolong.
        let late = world.change(vec![entry("c", 3, day)], &[], NOW + 300).unwrap();
        assert!(matches!(&late, Input::Changed(change) if change.put.is_empty()), "{late:?}");
        assert_eq!(world.counters.get(Count::Ungranted), 1);
        let over = world.list(2, NOW + 300, vec![entry("a", 1, day)], NOW + 300);
        assert_eq!(over, Err(UntrustedList::Owner(Some(GrantError::Time))));
    }

    #[test]
    fn a_list_of_which_nothing_is_granted_is_not_taken_and_takes_nothing_away() {
        let mut world = World::new();
        let until = NOW + 90 * GRANT_MS;
        world.list(2, until, vec![entry("a", 1, NOW + 500)], NOW).unwrap();
        let bare = Entry { grant: None, ..entry("a", 1, 0) };
        // The delegation is the owner's, and to another broker than the one that asks to be believed.
        assert_eq!(world.list(3, until, vec![bare.clone()], NOW), Err(UntrustedList::Ungranted));
        assert_eq!(ends(&world.change(Vec::new(), &[], NOW).unwrap()), Some(NOW + 500));
        assert_eq!(world.change(vec![bare], &[], NOW), Err(UntrustedList::Ungranted));
        assert!(world.list(3, until, Vec::new(), NOW).is_ok(), "there are none");
    }

    #[test]
    fn a_name_that_goes_to_another_node_and_back_can_be_removed() {
        let mut world = World::new();
        let day = NOW + GRANT_MS;
        world.list(2, NOW + 90 * GRANT_MS, vec![entry("a", 1, day), entry("b", 9, day)], NOW).unwrap();
        let first = world.mirrors.named("a").unwrap();
        let moved = changed(world.change(vec![entry("a", 2, day)], &[], NOW));
        assert_eq!((moved.removed, moved.put.len()), (vec![first], 1));
        let back = changed(world.change(vec![entry("a", 1, day)], &[], NOW));
        assert_eq!(back.put[0].key, first);
        assert_eq!(changed(world.change(Vec::new(), &["a"], NOW)).removed, [first]);
    }

    #[test]
    fn grants_that_end_soon_have_the_list_asked_for_now_and_then() {
        let mut world = World::new();
        world.list(2, NOW + 90 * GRANT_MS, vec![entry("a", 1, NOW + RENEW_MS - 1)], NOW).unwrap();
        assert!(!world.trust.renew(NOW + 1) && world.trust.renew(NOW + RENEW_EVERY_MS));
    }
}

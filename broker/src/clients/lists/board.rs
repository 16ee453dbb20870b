//! Who is subscribed, what each holds, and who is due: no I/O, time handed in.
//!
//! ```text
//!  news ─▶ a domain's conditions differ ─▶ its groups are queued: urgent | rest ─▶ step ─▶ frames
//! ```

use super::content::{self, Compared, Conditions};
use super::due::{Due, Urgency};
use super::grants::Grants;
use nearmost_core::registry::DomainIndex;
use nearmost_core::snapshot::Snapshot;
use nearmost_core::time::UnixMillis;
use nearmost_wire::client::ToClient;
use nearmost_wire::frame;
use nearmost_wire::identity::KeyPair;
use nearmost_wire::list::{Change, Entry, List, Signed, Version, Word};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A signed message as it is written.
pub type Frame = Arc<[u8]>;

/// Versions remembered after their last subscriber left, for those that come back.
const REMEMBERED: usize = 4096;
/// A frame made for one subscriber serves others that ask within so long, in milliseconds.
const REUSED_MS: u64 = 5000;
/// A group that asks again is ranked anew only after so long, in milliseconds: ranking looks at all mirrors.
const RANKED_MS: u64 = 5000;

/// Whose list it is: a domain for a client network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupKey {
    /// The domain's name.
    pub domain: Arc<str>,
    /// The client network's address.
    pub network: IpAddr,
}

/// What one version says; grants are put in when it is signed.
struct Issue {
    number: u64,
    entries: Vec<Entry>,
}

/// Versions that nobody has any more, for those that come back.
#[derive(Default)]
struct Remembered {
    by_number: HashMap<u64, Arc<Issue>>,
    order: VecDeque<u64>,
}

impl Remembered {
    fn put(&mut self, issue: Arc<Issue>) {
        if self.order.len() >= REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_number.remove(&oldest);
        }
        self.order.push_back(issue.number);
        self.by_number.insert(issue.number, issue);
    }
}

struct Group {
    issue: Arc<Issue>,
    /// [`Conditions::shape`] that it was ranked under.
    shape: u64,
    /// When it was ranked last.
    ranked: UnixMillis,
    subscribers: HashMap<u64, mpsc::Sender<Frame>>,
    whole: Option<(UnixMillis, Frame)>,
    holds: Option<(UnixMillis, Frame)>,
}

impl Group {
    fn new(issue: Issue, shape: u64, ranked: UnixMillis) -> Group {
        let subscribers = HashMap::new();
        Group { issue: Arc::new(issue), shape, ranked, subscribers, whole: None, holds: None }
    }
}

struct Followed {
    /// Of what the conditions were made.
    stamp: u64,
    conditions: Arc<Conditions>,
    groups: usize,
}

impl Followed {
    fn new(snapshot: &Snapshot, domain: DomainIndex) -> Followed {
        let conditions = Arc::new(Conditions::of(snapshot, domain));
        Followed { stamp: Conditions::stamp(snapshot, domain), conditions, groups: 0 }
    }
}

/// What a subscriber asks for.
pub struct Ask {
    /// Tells it apart from others.
    pub id: u64,
    /// The domain's name.
    pub domain: Arc<str>,
    /// Where the client is.
    pub client: IpAddr,
    /// The version that it holds.
    pub have: Option<Version>,
    /// Its queue.
    pub queue: mpsc::Sender<Frame>,
}

/// What became of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Handed to the queue of a subscriber.
    pub taken: usize,
    /// Subscribers whose queue was full, who are none any more.
    pub dropped: usize,
    /// When that was published which they were told of.
    pub since: UnixMillis,
}

/// Every subscriber of this broker.
pub struct Board {
    key: KeyPair,
    source: u64,
    last: u64,
    grants: Grants,
    domains: HashMap<Arc<str>, Followed>,
    groups: HashMap<GroupKey, Group>,
    of: HashMap<u64, GroupKey>,
    due: Due,
    remembered: Remembered,
}

impl Board {
    /// Signs with the broker's key; `source` is of this run of it.
    pub fn new(key: KeyPair, source: u64) -> Board {
        Board {
            grants: Grants::new(key.clone()),
            key,
            source,
            last: 0,
            domains: HashMap::new(),
            groups: HashMap::new(),
            of: HashMap::new(),
            due: Due::default(),
            remembered: Remembered::default(),
        }
    }

    /// Subscribers.
    pub fn subscribers(&self) -> usize {
        self.of.len()
    }

    /// Client networks and domains that are told apart.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    /// Groups that are due.
    pub fn due(&self) -> usize {
        self.due.count()
    }

    /// A new subscriber; it is answered at once. One whose domain is not there has its queue dropped.
    pub fn subscribe(&mut self, ask: Ask, snapshot: &Snapshot, now: UnixMillis) {
        if snapshot.registry.find_domain(&ask.domain).is_none() {
            return;
        }
        let key = GroupKey { domain: ask.domain, network: network(ask.client) };
        self.rank(&key, snapshot, now);
        if !self.groups.contains_key(&key) {
            // Its last subscriber was gone, which showed when it was told.
            self.rank(&key, snapshot, now);
        }
        if let Some(have) = ask.have.filter(|have| have.source == self.source) {
            self.outgrow(&key, have.number, snapshot, now);
        }
        if let Some(group) = self.groups.get_mut(&key) {
            group.subscribers.insert(ask.id, ask.queue);
            self.of.insert(ask.id, key);
            self.answer(ask.id, ask.have, snapshot, now);
        }
    }

    /// A subscriber asks once more: whatever became nearer or farther is looked at now.
    pub fn again(&mut self, id: u64, have: Option<Version>, snapshot: &Snapshot, now: UnixMillis) {
        let Some(key) = self.of.get(&id).cloned() else { return };
        let held = self.groups.get(&key).map(|g| self.version(g));
        // Whoever had the version before was just told what leads on from it.
        if !self.rank(&key, snapshot, now) || have != held {
            self.answer(id, have, snapshot, now);
        }
    }

    fn answer(&mut self, id: u64, have: Option<Version>, snapshot: &Snapshot, now: UnixMillis) {
        let Some(key) = self.of.get(&id).cloned() else { return };
        let frame = match have.filter(|have| have.source == self.source) {
            Some(have) => self.since(&key, have.number, snapshot, now),
            None => self.whole(&key, snapshot, now),
        };
        let queue = self.groups.get(&key).and_then(|group| group.subscribers.get(&id));
        if frame.zip(queue).is_some_and(|(frame, queue)| queue.try_send(frame).is_err()) {
            self.leave(id);
        }
    }

    /// Forgets subscribers that are gone without a word, and frames that serve nobody any more.
    pub fn sweep(&mut self, now: UnixMillis) {
        let old = |kept: &Option<(UnixMillis, Frame)>| {
            kept.as_ref().is_some_and(|(at, _)| now.0.saturating_sub(at.0) >= REUSED_MS)
        };
        for group in self.groups.values_mut() {
            if old(&group.whole) {
                group.whole = None;
            }
            if old(&group.holds) {
                group.holds = None;
            }
        }
        let closed = |group: &Group, id: &u64| group.subscribers.get(id).is_none_or(|q| q.is_closed());
        let gone: Vec<u64> = self
            .of
            .iter()
            .filter(|(id, key)| self.groups.get(*key).is_none_or(|group| closed(group, id)))
            .map(|(id, _)| *id)
            .collect();
        gone.into_iter().for_each(|id| self.leave(id));
    }

    fn version(&self, group: &Group) -> Version {
        Version { source: self.source, number: group.issue.number }
    }

    /// A subscriber is gone.
    pub fn leave(&mut self, id: u64) {
        let Some(key) = self.of.remove(&id) else { return };
        let Some(group) = self.groups.get_mut(&key) else { return };
        group.subscribers.remove(&id);
        if group.subscribers.is_empty() {
            self.forget(&key);
        }
    }

    fn forget(&mut self, key: &GroupKey) {
        let Some(group) = self.groups.remove(key) else { return };
        self.remembered.put(group.issue);
        if let Some(followed) = self.domains.get_mut(&key.domain) {
            followed.groups -= 1;
            if followed.groups == 0 {
                self.domains.remove(&key.domain);
            }
        }
    }

    /// Looks at a new snapshot, and queues the groups that are to be told of something.
    pub fn news(&mut self, snapshot: &Snapshot) {
        let mut changed: HashMap<Arc<str>, Arc<Conditions>> = HashMap::new();
        for (name, followed) in &mut self.domains {
            let domain = snapshot.registry.find_domain(name);
            let stamp = domain.map_or(0, |domain| Conditions::stamp(snapshot, domain));
            if followed.stamp == stamp {
                continue;
            }
            followed.stamp = stamp;
            let conditions = domain.map(|domain| Conditions::of(snapshot, domain)).unwrap_or_default();
            if *followed.conditions != conditions {
                followed.conditions = Arc::new(conditions);
                changed.insert(name.clone(), followed.conditions.clone());
            }
        }
        if changed.is_empty() {
            return;
        }
        for (key, group) in &self.groups {
            let Some(conditions) = changed.get(&key.domain) else { continue };
            let Compared { different, endangered } = content::compare(&group.issue.entries, conditions);
            if endangered {
                self.due.push(key, Urgency::Urgent, snapshot.published);
            } else if different || group.shape != conditions.shape {
                self.due.push(key, Urgency::Rest, snapshot.published);
            }
        }
    }

    /// Tells the group that is due next, those that are endangered first; `None` when none is.
    pub fn step(&mut self, snapshot: &Snapshot, now: UnixMillis) -> Option<Sent> {
        let (key, since) = self.due.pop()?;
        let nothing = Sent { since, ..Sent::default() };
        let Some(was) = self.groups.get(&key).map(|group| group.issue.clone()) else { return Some(nothing) };
        match snapshot.registry.find_domain(&key.domain) {
            Some(domain) => self.renew(&key, domain, snapshot, now),
            // The domain is gone: so are its mirrors.
            None => self.issue(&key, Vec::new(), 0),
        }
        let Some(is) = self.groups.get(&key).map(|group| group.issue.clone()) else { return Some(nothing) };
        if is.number == was.number {
            return Some(nothing);
        }
        let frame = self.change(&key, &was, &is, snapshot, now);
        let sent = frame.map_or_else(Sent::default, |frame| self.send(&key, &frame));
        Some(Sent { since, ..sent })
    }

    fn send(&mut self, key: &GroupKey, frame: &Frame) -> Sent {
        let mut sent = Sent::default();
        let Some(group) = self.groups.get_mut(key) else { return sent };
        let mut gone = Vec::new();
        for (id, queue) in &group.subscribers {
            match queue.try_send(frame.clone()) {
                Ok(()) => sent.taken += 1,
                Err(_) => gone.push(*id),
            }
        }
        sent.dropped = gone.len();
        gone.into_iter().for_each(|id| self.leave(id));
        sent
    }

    /// Makes the group if there is none, and ranks its mirrors as they are now, if that was not done lately.
    /// Whether its subscribers were told of a change; those of a group that is due are told in their turn.
    fn rank(&mut self, key: &GroupKey, snapshot: &Snapshot, now: UnixMillis) -> bool {
        let Some(domain) = snapshot.registry.find_domain(&key.domain) else { return false };
        let rested = |group: &Group| now.0 >= group.ranked.0.saturating_add(RANKED_MS);
        if self.groups.get(key).is_some_and(|group| self.due.has(key) || !rested(group)) {
            return false;
        }
        let followed = self.domains.entry(key.domain.clone());
        let followed = followed.or_insert_with(|| Followed::new(snapshot, domain));
        let conditions = followed.conditions.clone();
        let entries = content::entries(snapshot, &conditions, domain, key.network);
        let Some(group) = self.groups.get_mut(key) else {
            followed.groups += 1;
            self.last += 1;
            let group = Group::new(Issue { number: self.last, entries }, conditions.shape, now);
            self.groups.insert(key.clone(), group);
            return false;
        };
        group.ranked = now;
        let was = group.issue.clone();
        self.issue(key, content::settled(&was.entries, entries), conditions.shape);
        self.tell_from(key, &was, snapshot, now)
    }

    /// Tells a group what leads on from a version; whether there was something to tell, and somebody.
    fn tell_from(&mut self, key: &GroupKey, was: &Issue, snapshot: &Snapshot, now: UnixMillis) -> bool {
        let Some(is) = self.groups.get(key).map(|g| g.issue.clone()) else { return false };
        if was.number == is.number {
            return false;
        }
        let frame = self.change(key, was, &is, snapshot, now);
        frame.is_some_and(|frame| self.send(key, &frame).taken > 0)
    }

    /// Numbers only grow for a client, also for one that comes from another network with a number beyond that of
    /// this group.
    fn outgrow(&mut self, key: &GroupKey, number: u64, snapshot: &Snapshot, now: UnixMillis) {
        let Some(group) = self.groups.get_mut(key) else { return };
        if number <= group.issue.number || number > self.last {
            return;
        }
        self.last += 1;
        let entries = group.issue.entries.clone();
        let was = std::mem::replace(&mut group.issue, Arc::new(Issue { number: self.last, entries }));
        (group.whole, group.holds) = (None, None);
        self.remembered.put(was.clone());
        self.tell_from(key, &was, snapshot, now);
    }

    /// The group's list as it is now: ranked anew only where it must be.
    fn renew(&mut self, key: &GroupKey, domain: DomainIndex, snapshot: &Snapshot, now: UnixMillis) {
        let Some(conditions) = self.domains.get(&key.domain).map(|f| f.conditions.clone()) else { return };
        let Some(group) = self.groups.get_mut(key) else { return };
        let mut entries = group.issue.entries.clone();
        content::refresh(&mut entries, &conditions);
        if group.shape != conditions.shape || content::is_thin(&entries, &conditions) {
            group.ranked = now;
            entries = content::entries(snapshot, &conditions, domain, key.network);
        }
        self.issue(key, entries, conditions.shape);
    }

    /// A new version of a group, if its content is another.
    fn issue(&mut self, key: &GroupKey, entries: Vec<Entry>, shape: u64) {
        let Some(group) = self.groups.get_mut(key) else { return };
        if group.shape != shape {
            // Delegations may be others.
            (group.whole, group.shape) = (None, shape);
        }
        if group.issue.entries == entries {
            return;
        }
        self.last += 1;
        let issue = Arc::new(Issue { number: self.last, entries });
        let was = std::mem::replace(&mut group.issue, issue);
        (group.whole, group.holds) = (None, None);
        self.remembered.put(was);
    }

    /// What a subscriber is told that holds a version of this run.
    fn since(&mut self, key: &GroupKey, number: u64, snapshot: &Snapshot, now: UnixMillis) -> Option<Frame> {
        let is = self.groups.get(key)?.issue.clone();
        if number == is.number {
            return self.holds(key, now);
        }
        match self.remembered.by_number.get(&number).cloned() {
            Some(was) => self.change(key, &was, &is, snapshot, now),
            None => self.whole(key, snapshot, now),
        }
    }

    /// Word that nothing is different, for everyone in the group.
    fn holds(&mut self, key: &GroupKey, now: UnixMillis) -> Option<Frame> {
        let group = self.groups.get_mut(key)?;
        if let Some((at, frame)) = &group.holds
            && now.0.saturating_sub(at.0) < REUSED_MS
        {
            return Some(frame.clone());
        }
        let number = group.issue.number;
        let to = Version { source: self.source, number };
        let (put, removed) = (Vec::new(), Vec::new());
        let word =
            Change { domain: key.domain.to_string(), from: number, to, issued_ms: now.0, put, removed };
        let frame = sign(&self.key, &Word::Change(word))?;
        group.holds = Some((now, frame.clone()));
        Some(frame)
    }

    fn whole(&mut self, key: &GroupKey, snapshot: &Snapshot, now: UnixMillis) -> Option<Frame> {
        let domain = snapshot.registry.find_domain(&key.domain)?;
        let group = self.groups.get_mut(key)?;
        if let Some((at, frame)) = &group.whole
            && now.0.saturating_sub(at.0) < REUSED_MS
        {
            return Some(frame.clone());
        }
        let trust = &snapshot.registry.domain(domain).trust;
        let delegations = Grants::delegations(trust, now);
        let mut mirrors = group.issue.entries.clone();
        self.grants.grant(&key.domain, &delegations, &mut mirrors, now);
        let version = Version { source: self.source, number: group.issue.number };
        let domain = key.domain.to_string();
        let word = List { domain, version, issued_ms: now.0, delegations, mirrors };
        let frame = sign(&self.key, &Word::List(word))?;
        group.whole = Some((now, frame.clone()));
        Some(frame)
    }

    fn change(
        &mut self,
        key: &GroupKey,
        was: &Issue,
        is: &Issue,
        snapshot: &Snapshot,
        now: UnixMillis,
    ) -> Option<Frame> {
        let before: HashMap<&str, &Entry> = was.entries.iter().map(|e| (e.name.as_str(), e)).collect();
        let differs = |e: &&Entry| before.get(e.name.as_str()) != Some(e);
        let mut put: Vec<Entry> = is.entries.iter().filter(differs).cloned().collect();
        let stays = |e: &&Entry| !is.entries.iter().any(|now| now.name == e.name);
        let removed = was.entries.iter().filter(stays).map(|e| e.name.clone()).collect();
        let trust = snapshot.registry.find_domain(&key.domain).map(|d| &snapshot.registry.domain(d).trust);
        let delegations = trust.map(|t| Grants::delegations(t, now)).unwrap_or_default();
        self.grants.grant(&key.domain, &delegations, &mut put, now);
        let to = Version { source: self.source, number: is.number };
        let domain = key.domain.to_string();
        sign(
            &self.key,
            &Word::Change(Change { domain, from: was.number, to, issued_ms: now.0, put, removed }),
        )
    }
}

fn sign(key: &KeyPair, word: &Word) -> Option<Frame> {
    match frame::encode(&ToClient::List(Signed::sign(key, word))) {
        Ok(bytes) => Some(bytes.into()),
        // Lists are bounded well below what a frame holds.
        Err(error) => {
            tracing::error!(%error, "a list cannot be written");
            None
        }
    }
}

/// The network that an address is in: what lists are told apart by, /24 or /48.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) & (!0 << 8)).into()),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & (!0 << 80)).into()),
    }
}

//! Who the members are and which persons they vouch for.

use super::patterns::Patterns;
use super::removals;
use super::statements::{Statements, keep_greatest};
use crate::name;
use crate::registry::{PeerBody, PersonBody, read};
use nearmost_replica::{PublicKey, SignedRecord};
use std::collections::{HashMap, HashSet};

/// A broker of the federation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its key.
    pub key: PublicKey,
    /// What it may do; the root is an admin whatever its own statement says.
    pub body: PeerBody,
    /// Whose statement made it one; the root's own key for the root.
    pub via: PublicKey,
    /// How many members the word for it went through; 0 for the root.
    pub depth: u32,
    patterns: Patterns,
    /// Its name as names of nodes are written; none where it is no such name.
    namespace: Option<String>,
}

impl Member {
    fn new(key: PublicKey, mut body: PeerBody, via: PublicKey, depth: u32) -> Member {
        body.admin |= depth == 0;
        let patterns = Patterns::new(&body.domains);
        let namespace = name::short(&body.name).ok();
        Member { key, body, via, depth, patterns, namespace }
    }

    /// Whether this is the name of one of its nodes.
    fn names(&self, node: &str) -> bool {
        let rest = self.namespace.as_ref().and_then(|own| node.strip_prefix(own.as_str()));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }
}

/// A person that members vouch for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Its key.
    pub key: PublicKey,
    /// As it says itself, or else as the nearest home says that says something.
    pub name: String,
    /// The brokers that vouch for it, nearest to the root first.
    pub homes: Vec<PublicKey>,
}

/// What a key may do as a member or as a person of members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) admin: bool,
    homes: Vec<PublicKey>,
}

/// How a broker or a person came to have no rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// A broker, by who decides about members.
    Member,
    /// A person, by an admin.
    ByAdmin,
    /// A person, by all that were its homes.
    ByHome,
}

impl Removal {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Removal::Member => "this broker was removed from the federation",
            Removal::ByAdmin => "an admin removed this person",
            Removal::ByHome => "its home removed this person",
        }
    }
}

/// Members and persons.
#[derive(Clone, Debug, Default)]
pub(super) struct Federation {
    members: HashMap<PublicKey, Member>,
    persons: HashMap<PublicKey, Person>,
    standings: HashMap<PublicKey, Standing>,
    /// Who decides about members.
    voices: HashSet<PublicKey>,
    removed: HashMap<PublicKey, Removal>,
}

impl Federation {
    /// What the statements say, seen from `root`.
    pub(super) fn of(root: PublicKey, statements: &Statements<'_>) -> Federation {
        let walk = removals::walk(root, statements);
        let removed = walk.removed.into_iter().map(|key| (key, Removal::Member)).collect();
        let mut federation =
            Federation { members: walk.members, voices: walk.voices, removed, ..Federation::default() };
        federation.find_persons(statements);
        federation.give_standings();
        federation
    }

    fn find_persons(&mut self, statements: &Statements<'_>) {
        let mut homes: HashMap<PublicKey, Vec<(&Member, &SignedRecord)>> = HashMap::new();
        let mut ended: HashMap<PublicKey, Removal> = HashMap::new();
        for (author, about) in &statements.persons {
            let Some(home) = self.members.get(author) else { continue };
            for (person, signed) in about {
                match (signed.record().is_tombstone(), home.body.admin) {
                    (true, true) => drop(ended.insert(*person, Removal::ByAdmin)),
                    (true, false) => drop(ended.entry(*person).or_insert(Removal::ByHome)),
                    (false, _) if vouches(signed) => homes.entry(*person).or_default().push((home, signed)),
                    (false, _) => {}
                }
            }
        }
        for (key, vouched) in homes {
            if ended.get(&key) != Some(&Removal::ByAdmin) {
                ended.remove(&key);
                self.persons.insert(key, person(key, vouched, statements));
            }
        }
        self.removed.extend(ended);
    }

    /// A key may be a member's and a person's at once; it then has the rights of both.
    fn give_standings(&mut self) {
        for member in self.members.values() {
            let standing = Standing { admin: member.body.admin, homes: vec![member.key] };
            self.standings.insert(member.key, standing);
        }
        for person in self.persons.values() {
            let standing = self.standings.entry(person.key).or_default();
            standing.admin |= person.homes.iter().any(|h| self.members.get(h).is_some_and(|m| m.body.admin));
            standing.homes.extend(&person.homes);
        }
    }

    pub(super) fn member(&self, key: &PublicKey) -> Option<&Member> {
        self.members.get(key)
    }

    pub(super) fn members(&self) -> Vec<&Member> {
        let mut all: Vec<&Member> = self.members.values().collect();
        all.sort_by_key(|m| (m.depth, m.key));
        all
    }

    pub(super) fn person(&self, key: &PublicKey) -> Option<&Person> {
        self.persons.get(key)
    }

    pub(super) fn persons(&self) -> Vec<&Person> {
        let mut all: Vec<&Person> = self.persons.values().collect();
        all.sort_by_key(|p| p.key);
        all
    }

    /// What a key may do; `None` for whoever is neither a member nor a person of one.
    pub(super) fn standing(&self, key: &PublicKey) -> Option<&Standing> {
        self.standings.get(key)
    }

    /// Whether what a key says about members counts.
    pub(super) fn is_voice(&self, key: &PublicKey) -> bool {
        self.voices.contains(key)
    }

    /// How it came that a key has no standing, where that was said.
    pub(super) fn removal(&self, key: &PublicKey) -> Option<Removal> {
        self.removed.get(key).copied()
    }

    /// Whether a key may create this domain.
    pub(super) fn covers(&self, key: &PublicKey, domain: &str) -> bool {
        self.standing(key).is_some_and(|s| s.admin || self.homes(s).any(|m| m.patterns.covers(domain)))
    }

    /// Whether a key may have a node of this name.
    pub(super) fn names(&self, key: &PublicKey, node: &str) -> bool {
        self.standing(key).is_some_and(|s| s.admin || self.homes(s).any(|m| m.names(node)))
    }

    fn homes<'a>(&'a self, standing: &'a Standing) -> impl Iterator<Item = &'a Member> {
        standing.homes.iter().filter_map(|home| self.members.get(home))
    }
}

/// Whether a home's statement about a person is live and understood.
fn vouches(signed: &SignedRecord) -> bool {
    read::<PersonBody>(signed.record()).is_some()
}

fn person(key: PublicKey, mut vouched: Vec<(&Member, &SignedRecord)>, statements: &Statements<'_>) -> Person {
    vouched.sort_by_key(|(home, _)| (home.depth, home.key));
    let own = statements.persons.get(&key).into_iter().flatten().filter(|(about, _)| *about == key);
    let said = own.map(|(_, signed)| *signed).chain(vouched.iter().map(|(_, signed)| *signed));
    let mut names = said.filter_map(|s| read::<PersonBody>(s.record())).map(|body| body.name);
    let name = names.find(|name| !name.is_empty()).unwrap_or_default();
    Person { key, name, homes: vouched.iter().map(|(home, _)| home.key).collect() }
}

/// The way through the members, from the root outwards.
pub(super) struct Walk {
    root: PublicKey,
    /// Who was removed by words that outweigh nearer ones.
    outweighed: HashSet<PublicKey>,
    members: HashMap<PublicKey, Member>,
    voices: HashSet<PublicKey>,
    removed: HashSet<PublicKey>,
    /// Brokers that nothing farther away decides about, members or not.
    settled: HashSet<PublicKey>,
    /// Persons removed by admins passed so far.
    silenced: HashSet<PublicKey>,
    /// The admin members found last.
    level: Vec<PublicKey>,
    depth: u32,
}

impl Walk {
    /// The whole way, past those that are removed whatever is said of them.
    pub(super) fn of(root: PublicKey, outweighed: HashSet<PublicKey>, statements: &Statements<'_>) -> Walk {
        let mut walk = Walk { outweighed, ..Walk::from(root) };
        while walk.step(statements) {}
        walk
    }

    /// Who decides about members.
    pub(super) fn voices(&self) -> &HashSet<PublicKey> {
        &self.voices
    }

    /// Whether a broker is a member.
    pub(super) fn has(&self, broker: &PublicKey) -> bool {
        self.members.contains_key(broker)
    }

    fn from(root: PublicKey) -> Walk {
        let own = Member::new(root, PeerBody::default(), root, 0);
        Walk {
            root,
            outweighed: HashSet::new(),
            members: HashMap::from([(root, own)]),
            voices: HashSet::new(),
            removed: HashSet::new(),
            settled: HashSet::from([root]),
            silenced: HashSet::new(),
            level: vec![root],
            depth: 0,
        }
    }

    /// Takes what the admin members found last, and their persons, say about members; whether there are
    /// more to hear.
    fn step(&mut self, statements: &Statements<'_>) -> bool {
        let voices = self.hear(statements);
        let mut said = HashMap::new();
        for (target, signed) in voices.iter().filter_map(|v| statements.peers.get(v)).flatten() {
            keep_greatest(&mut said, *target, signed);
        }
        self.voices.extend(voices);
        self.depth += 1;
        self.level.clear();
        for (target, signed) in said {
            if target == self.root {
                self.describe_root(signed);
            } else if self.settled.insert(target) {
                self.settle(target, signed);
            }
        }
        !self.level.is_empty()
    }

    /// Who speaks at this distance.
    fn hear(&mut self, statements: &Statements<'_>) -> HashSet<PublicKey> {
        let about = || self.level.iter().filter_map(|b| statements.persons.get(b)).flatten();
        let removed = about().filter(|(_, s)| s.record().is_tombstone()).map(|(person, _)| *person);
        let vouched = about().filter(|(_, s)| vouches(s)).map(|(person, _)| *person);
        let (removed, mut heard): (HashSet<_>, HashSet<_>) = (removed.collect(), vouched.collect());
        self.silenced.extend(removed);
        heard.retain(|person| !self.silenced.contains(person));
        heard.extend(&self.level);
        heard
    }

    fn settle(&mut self, target: PublicKey, signed: &SignedRecord) {
        let record = signed.record();
        if record.is_tombstone() || self.outweighed.contains(&target) {
            self.removed.insert(target);
        } else if let Some(body) = read::<PeerBody>(record) {
            if body.admin {
                self.level.push(target);
            }
            self.members.insert(target, Member::new(target, body, record.author, self.depth));
        }
    }

    /// The root's name, and what else it says of itself; from elsewhere it is not taken.
    fn describe_root(&mut self, signed: &SignedRecord) {
        if let (1, Some(body)) = (self.depth, read::<PeerBody>(signed.record())) {
            self.members.insert(self.root, Member::new(self.root, body, self.root, 0));
        }
    }
}

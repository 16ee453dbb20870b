//! Who may state what in a federation: the rights that follow from the statements a broker holds.
//!
//! Every statement is signed by its author. [`Rights`] answers, for one broker, whose count. It is a pure
//! function of the broker's own key (the *root* of its trust) and of the set of statements of the kinds
//! that decide; it knows no clock but the one that is handed in, and their order makes no difference.
//!
//! # Members
//!
//! | statement | who makes it count | what it says |
//! |---|---|---|
//! | peer, live | an admin member, or a person whose home that is | this broker is a member, with these rights |
//! | peer, tombstone | the same | it is none |
//! | person, live | a member broker, its *home* | this person has the rights of its home |
//! | person, tombstone | a home | it is this person's home no longer |
//! | person, tombstone | an admin broker | no broker is this person's home |
//! | person, any | the person itself, while it has a home | what it is called; it is vouched for by nobody |
//!
//! Members are found from the root breadth first. The root is an admin always; whatever others say of it
//! counts for nothing here. What is said nearer to the root outweighs what is said farther away, and of what
//! is said equally near the greatest by [`nearmost_replica::merge::order`] stands. So nobody decides about
//! itself, and who was removed is not brought back by those whom it brought. For the same reason a person
//! speaks for its home about members unless an admin as near as the home, or nearer, removed it; for all
//! else any admin's removal ends its rights.
//!
//! A removal outweighs whatever was said before it, however near: who vouched for somebody long ago did not
//! know why it would be removed. Removals are gone through by their clocks; each counts if those who are
//! members without the removed, the ones removed by earlier ones left out, have said nothing later in its
//! favour. So of two admins that remove each other the earlier prevails, but nobody is removed at home.
//!
//! # The whole federation (empty scope)
//!
//! | kind | by |
//! |---|---|
//! | peer, override, ban, kinds not known | admin members and their persons |
//! | node, drain of a node | the same, and of a member `bob` and its persons those named `bob` and `bob-…` |
//! | person | member brokers; the person itself; persons of admin members, whose broker then vouches |
//! | endpoint | the member whose it is |
//!
//! # A domain
//!
//! Who may create it: admin members and members one of whose patterns covers it, and the persons of both.
//! Of the claims that these make the earliest stands. Rolls are followed from its author, each agreed to by
//! the new key, and where they end is the owner. A claim counts as well where a later key of its author's
//! may create the domain, so that the old key can be removed. A domain with an owner is the owner's alone;
//! without one, everybody who may create it has full rights in it.
//!
//! | kind | full rights | admin | operator | writer | auditor |
//! |---|---|---|---|---|---|
//! | domain, challenge, zone-key | yes | yes | | | |
//! | mirror, drain, force | yes | yes | yes | | |
//! | grant | yes | of other roles, to whom no full right has decided about | | | |
//! | kinds of applications | yes | yes | | those listed | |
//! | ban, kinds not known | yes | | | | |
//! | claim | who may create the domain | | | | |
//! | roll | the owner's keys, each its own; keys replaced by one that may create the domain | | | | |
//!
//! A grant is to one key and no other. A tombstone revokes it altogether: whatever its holder stated under
//! it counts no longer, whenever it says that it did. The dates of a grant are no reason to refuse a
//! statement, only to hide it ([`Authority::in_force`]); what is granted by an admin holds no longer than
//! the admin's own grant.

mod bans;
mod domains;
mod grants;
mod judge;
mod members;
mod patterns;
mod removals;
mod statements;

#[cfg(test)]
mod tests;

pub use domains::Contest;
pub use grants::Granted;
pub use members::{Member, Person};

use bans::Bans;
use domains::Domains;
use members::Federation;
use nearmost_replica::{Authority, Judgement, Kind, PublicKey, Record, SignedRecord};
use statements::{Forks, Statements};
use std::collections::HashMap;

/// Admins from whose side is looked at most.
const MAX_ASKED: usize = 8;

/// What the statements that a broker holds say about whose count.
#[derive(Clone, Debug)]
pub struct Rights {
    root: PublicKey,
    forks: Forks,
    federation: Federation,
    domains: Domains,
    bans: Bans,
    /// Rolls seen before, by their hash, with the new key where it agreed: signatures are verified once.
    rolls: HashMap<[u8; 32], Option<PublicKey>>,
    /// The same seen from the nearest other admin, where the root is no admin in its eyes.
    abroad: Option<Box<Rights>>,
}

impl Rights {
    /// What follows from no statement at all, for the broker with this key.
    pub fn new(own: PublicKey) -> Rights {
        let nothing = Statements::default();
        let federation = Federation::of(own, &nothing);
        Rights {
            root: own,
            forks: Forks::default(),
            domains: Domains::default(),
            federation,
            bans: Bans::default(),
            rolls: HashMap::new(),
            abroad: None,
        }
    }

    /// The members, the own broker among them, nearest first.
    pub fn members(&self) -> Vec<&Member> {
        self.federation.members()
    }

    /// Whether a broker with this key is a member.
    pub fn is_member(&self, broker: &PublicKey) -> bool {
        self.federation.member(broker).is_some()
    }

    /// The persons that have a home, in the order of their keys.
    pub fn persons(&self) -> Vec<&Person> {
        self.federation.persons()
    }

    /// The person with this key, while it has a home.
    pub fn person(&self, key: &PublicKey) -> Option<&Person> {
        self.federation.person(key)
    }

    /// Whether this key has an admin member's rights: it is one, or one is its home.
    pub fn is_admin(&self, key: &PublicKey) -> bool {
        self.federation.standing(key).is_some_and(|s| s.admin)
    }

    /// Whether this key may create this domain, as far as it has no owner.
    pub fn may_create(&self, key: &PublicKey, domain: &str) -> bool {
        self.federation.covers(key, domain)
    }

    /// Whether this key has full rights in this domain.
    pub fn has_full_rights(&self, key: &PublicKey, domain: &str) -> bool {
        self.domains.is_full(&self.federation, key, domain)
    }

    /// The owner of this domain.
    pub fn owner(&self, domain: &str) -> Option<PublicKey> {
        self.domains.get(domain)?.owner()
    }

    /// Grants in this domain that stand, whatever their dates, in the order of their grantees.
    pub fn grants(&self, domain: &str) -> Vec<&Granted> {
        self.domains.get(domain).map(|d| d.grants.standing()).unwrap_or_default()
    }

    /// Domains that several claim who may, in the order of their names.
    pub fn contested(&self) -> Vec<&Contest> {
        self.domains.contested()
    }

    /// Whether this key may read what is in this domain and not public: who has full rights, and who holds
    /// a grant of any role at `now_unix_ms`.
    pub fn may_read(&self, key: &PublicKey, domain: &str, now_unix_ms: u64) -> bool {
        let held = || self.domains.get(domain).and_then(|d| d.grants.held(key));
        self.has_full_rights(key, domain) || held().is_some_and(|g| g.holds_at(now_unix_ms))
    }
}

impl Rights {
    fn form(&mut self, deciding: &[SignedRecord], forked: &[(PublicKey, (u32, u64))]) {
        self.forks = Forks::new(forked);
        let statements = Statements::new(deciding, &self.forks);
        self.rolls = domains::agreed(&statements, std::mem::take(&mut self.rolls));
        self.federation = Federation::of(self.root, &statements);
        self.domains = Domains::of(&self.federation, &statements, &self.rolls);
        self.bans = Bans::of(self.root, &self.federation, &self.domains, &statements);
    }

    /// What others admit, where the root is an admin at home only: as one of those sees it whom the root
    /// itself calls an admin. `None` where one of them calls the root an admin too, and where none knows it.
    fn seen_abroad(&self, deciding: &[SignedRecord], forked: &[(PublicKey, (u32, u64))]) -> Option<Rights> {
        let nearest = self.federation.members().into_iter().filter(|m| m.depth == 1 && m.body.admin);
        let mut seen: Option<Rights> = None;
        for other in nearest.take(MAX_ASKED) {
            let mut abroad = Rights::new(other.key);
            abroad.form(deciding, forked);
            if abroad.is_admin(&self.root) {
                return None;
            }
            // One that has not heard of the root yet, as far as is known here, is told all: how else would it?
            if seen.is_none() && abroad.is_member(&self.root) {
                seen = Some(abroad);
            }
        }
        seen
    }
}

impl Authority for Rights {
    fn decides(&self, kind: Kind) -> bool {
        statements::DECIDING.contains(&kind)
    }

    fn learn(&mut self, deciding: &[SignedRecord], forked: &[(PublicKey, (u32, u64))]) {
        self.form(deciding, forked);
        self.abroad = self.seen_abroad(deciding, forked).map(Box::new);
    }

    fn is_shared(&self, record: &Record) -> bool {
        self.abroad.as_ref().is_none_or(|abroad| abroad.admits(record).is_admitted())
    }

    fn admits(&self, record: &Record) -> Judgement {
        if self.forks.covers(record) {
            return Judgement::Unauthorised(judge::FORKED);
        }
        match record.scope.as_str() {
            "" => judge::federation_wide(&self.federation, record),
            domain => judge::in_domain(&self.federation, &self.domains, domain, record),
        }
    }

    fn banned(&self, author: &PublicKey, scope: &str, now_unix_ms: u64) -> Option<u64> {
        self.bans.until(author, scope, now_unix_ms)
    }

    fn in_force(&self, record: &Record, now_unix_ms: u64) -> bool {
        let Some(domain) = self.domains.get(&record.scope) else { return true };
        // Claims and rolls need no grant, and neither do those with full rights.
        if matches!(record.kind, Kind::CLAIM | Kind::ROLL)
            || self.domains.is_full(&self.federation, &record.author, &record.scope)
        {
            return true;
        }
        domain.grants.held(&record.author).is_none_or(|grant| grant.holds_at(now_unix_ms))
    }

    fn next_change(&self, now_unix_ms: u64) -> Option<u64> {
        let changes = [self.domains.next_change(now_unix_ms), self.bans.next_end(now_unix_ms)];
        changes.into_iter().flatten().min()
    }
}

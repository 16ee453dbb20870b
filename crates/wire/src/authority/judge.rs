//! Whether one statement is taken.

use super::bans;
use super::domains::{self, Domain, Domains};
use super::grants::{Granted, grantee};
use super::members::{Federation, Removal};
use super::statements::key_of;
use crate::identity::Role;
use crate::registry::{GrantBody, GrantRole, read};
use nearmost_replica::{Judgement, Kind, PublicKey, Record};

pub(super) const FORKED: &str = "its author's key is forked: it signed two statements under one number";

const BAN_OF_ITSELF: Judgement = Judgement::Unauthorised("nobody decides about a ban of its own key");

/// A statement about the whole federation.
pub(super) fn federation_wide(federation: &Federation, record: &Record) -> Judgement {
    let author = &record.author;
    let standing = federation.standing(author);
    let admin = standing.is_some_and(|s| s.admin);
    match record.kind {
        Kind::PEER => peer(federation, record),
        Kind::PERSON => person(federation, record),
        Kind::ENDPOINT => endpoint(federation, record),
        Kind::NODE | Kind::DRAIN if federation.names(author, &record.id) => Judgement::Admitted,
        Kind::NODE | Kind::DRAIN if standing.is_some() => {
            Judgement::Unauthorised("a member's nodes have its name, or begin with its name and a hyphen")
        }
        Kind::BAN if !bans::may_say(record) => BAN_OF_ITSELF,
        _ if admin => Judgement::Admitted,
        _ => stranger(federation, author),
    }
}

fn peer(federation: &Federation, record: &Record) -> Judgement {
    let about = key_of(&record.id, &[Role::Broker]);
    match federation.is_voice(&record.author) {
        _ if about.is_none() => Judgement::Unauthorised("its id is not that of a broker"),
        true => Judgement::Admitted,
        false if about == Some(record.author) => Judgement::Unauthorised("nobody vouches for itself"),
        false => stranger(federation, &record.author),
    }
}

fn person(federation: &Federation, record: &Record) -> Judgement {
    let author = &record.author;
    let Some(about) = key_of(&record.id, &[Role::Person]) else {
        return Judgement::Unauthorised("its id is not that of a person");
    };
    let of_itself = about == *author && federation.person(author).is_some();
    let admin = federation.standing(author).is_some_and(|s| s.admin);
    match of_itself || admin || federation.member(author).is_some() {
        true => Judgement::Admitted,
        false => stranger(federation, author),
    }
}

fn endpoint(federation: &Federation, record: &Record) -> Judgement {
    let author = &record.author;
    match key_of(&record.id, &[Role::Broker]) {
        None => Judgement::Unauthorised("its id is not that of a broker"),
        Some(broker) if broker != *author => {
            Judgement::Unauthorised("where a broker is reached says it itself")
        }
        Some(_) if federation.member(author).is_some() => Judgement::Admitted,
        Some(_) => stranger(federation, author),
    }
}

/// A statement in a domain.
pub(super) fn in_domain(
    federation: &Federation,
    domains: &Domains,
    name: &str,
    record: &Record,
) -> Judgement {
    let author = &record.author;
    let domain = domains.get(name);
    match record.kind {
        Kind::CLAIM => claim(federation, domain, name, record),
        Kind::ROLL => roll(federation, domain, name, record),
        Kind::GRANT if grantee(&record.id).is_none() => {
            Judgement::Unauthorised("its id is not that of a broker or a person")
        }
        Kind::BAN if !bans::may_say(record) => BAN_OF_ITSELF,
        _ if domains.is_full(federation, author, name) => Judgement::Admitted,
        _ => match domain.and_then(|d| Some((d, d.grants.held(author)?))) {
            Some((domain, granted)) => under_grant(domain, granted, record),
            None => without_grant(federation, domain, author),
        },
    }
}

fn claim(federation: &Federation, domain: Option<&Domain>, name: &str, record: &Record) -> Judgement {
    let author = record.author;
    let rolled = || domain.is_some_and(|d| d.leads_to_entitled(federation, author, name));
    match federation.covers(&author, name) || rolled() {
        _ if !record.id.is_empty() => Judgement::Unauthorised("a claim has no id"),
        true => Judgement::Admitted,
        false => without_grant(federation, domain, &author),
    }
}

/// Besides the owner's keys, those that may not create the domain themselves and were replaced by one that
/// may: their claim counts by that one's standing, and may come after the roll.
fn roll(federation: &Federation, domain: Option<&Domain>, name: &str, record: &Record) -> Judgement {
    let author = record.author;
    if key_of(&record.id, &[Role::Broker, Role::Person]) != Some(author) {
        return Judgement::Unauthorised("a key gives only its own place to another");
    }
    let in_line = domain.is_some_and(|d| d.in_line(&author));
    if in_line && record.is_tombstone() {
        return Judgement::Admitted;
    }
    if !in_line && federation.covers(&author, name) {
        return without_grant(federation, domain, &author);
    }
    let entitled = |new| match domain {
        Some(domain) => domain.leads_to_entitled(federation, new, name),
        None => federation.covers(&new, name),
    };
    match domains::new_key(record) {
        Some(_) if in_line => Judgement::Admitted,
        None if in_line => Judgement::Unauthorised("the new key did not agree to take its place"),
        Some(new) if entitled(new) => Judgement::Admitted,
        _ => without_grant(federation, domain, &author),
    }
}

/// A statement of somebody who holds a grant in the domain.
fn under_grant(domain: &Domain, granted: &Granted, record: &Record) -> Judgement {
    if !granted.allows(record.kind) {
        return Judgement::MissingGrant;
    }
    if record.kind != Kind::GRANT {
        return Judgement::Admitted;
    }
    if grantee(&record.id).is_some_and(|to| domain.grants.is_by_full(&to)) {
        return Judgement::Unauthorised("who has full rights in the domain decided about this grantee");
    }
    match read::<GrantBody>(record).map(|body| body.role) {
        Some(GrantRole::Admin) => Judgement::Unauthorised("an admin of a domain makes no other admin"),
        Some(_) => Judgement::Admitted,
        None if record.is_tombstone() => Judgement::Admitted,
        None => Judgement::MissingGrant,
    }
}

/// A statement in a domain of somebody who holds no grant there and has no full rights.
fn without_grant(federation: &Federation, domain: Option<&Domain>, author: &PublicKey) -> Judgement {
    let Some(domain) = domain else { return stranger(federation, author) };
    if domain.grants.is_revoked(author) {
        return Judgement::Unauthorised("its grant was revoked");
    }
    if domain.in_line(author) {
        return Judgement::Unauthorised("this key gave its place as the owner to another");
    }
    // Keys that are not known may hold a grant that is under way; of members and their persons it is
    // known that the domain is another's.
    if domain.owner().is_some() && federation.standing(author).is_some() {
        return Judgement::Unauthorised("the domain has another owner");
    }
    stranger(federation, author)
}

fn stranger(federation: &Federation, author: &PublicKey) -> Judgement {
    match federation.removal(author).map(Removal::reason) {
        Some(reason) => Judgement::Unauthorised(reason),
        None => Judgement::MissingGrant,
    }
}

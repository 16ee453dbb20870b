//! Members of the federation and bans, as people change them.

use super::held::Held;
use super::statements::{StateError, StatementPlan, about_id, live};
use crate::text::printable;
use nearmost_replica::{Kind, PublicKey, SignedRecord};
use nearmost_wire::authority::Member;
use nearmost_wire::identity::{Id, Role};
use nearmost_wire::registry::{BanBody, PeerBody};

/// What of a member is to change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberFields {
    /// Whether it may state what concerns the whole federation.
    pub admin: Option<bool>,
    /// The domains that it may create and run, in the place of those that it has.
    pub domains: Option<Vec<String>>,
}

/// The member of this name or id.
///
/// # Errors
/// [`StateError::NoPeer`], [`StateError::Ambiguous`].
pub fn find<'a>(held: &'a Held, text: &str) -> Result<&'a Member, StateError> {
    let members: Vec<&Member> =
        held.rights().members().into_iter().filter(|m| m.key.0 != held.broker.key).collect();
    let id = text.parse::<Id>().ok();
    let named = |m: &&&Member| match id {
        Some(id) => m.key.0 == id.key,
        None => m.body.name.eq_ignore_ascii_case(text),
    };
    let found: Vec<&Member> = members.iter().filter(named).copied().collect();
    match found[..] {
        [one] => Ok(one),
        [] => {
            let members = members.iter().map(|m| printable(&m.body.name)).collect();
            Err(StateError::NoPeer { name: text.into(), members })
        }
        _ => {
            let ids = found.iter().map(|m| id_of(&m.key).to_string()).collect();
            Err(StateError::Ambiguous { name: text.into(), ids })
        }
    }
}

fn id_of(broker: &PublicKey) -> Id {
    Id { role: Role::Broker, key: broker.0 }
}

fn what(held: &Held, member: &Member) -> String {
    format!("peer {}", held.called(&member.key))
}

/// Changes what a member may do.
///
/// # Errors
/// [`StateError`].
pub fn set(held: &Held, text: &str, fields: &MemberFields) -> Result<StatementPlan, StateError> {
    let member = find(held, text)?;
    let body = PeerBody {
        admin: fields.admin.unwrap_or(member.body.admin),
        domains: fields.domains.clone().unwrap_or_else(|| member.body.domains.clone()),
        // Whoever changes the entry did not make it.
        made_by: member.body.made_by.clone().or_else(|| Some(held.id_of(&member.via).to_string())),
        ..member.body.clone()
    };
    body.check()?;
    let mut plan = StatementPlan::default();
    if same_rights(&body, &member.body) {
        return Ok(plan);
    }
    let what = what(held, member);
    let json = |body: &PeerBody| {
        serde_json::to_vec(body).map_err(|source| StateError::Body { what: what.clone(), source })
    };
    let (before, bytes) = (live(json(&member.body)?), json(&body)?);
    if member.body.admin && !body.admin {
        plan.warnings.extend(followers(held, member, "are no members any more either"));
    }
    // What stands is what is said nearest to this broker, and not always what is visible.
    plan.put_over(Some(&before), about_id(Kind::PEER, "", &id_of(&member.key)), what, bytes);
    Ok(plan)
}

fn same_rights(a: &PeerBody, b: &PeerBody) -> bool {
    a.admin == b.admin && a.domains == b.domains
}

/// Ends a membership.
///
/// # Errors
/// [`StateError`].
pub fn remove(held: &Held, text: &str) -> Result<StatementPlan, StateError> {
    let member = find(held, text)?;
    let mut plan = StatementPlan::default();
    plan.warnings.extend(followers(held, member, "go with it"));
    plan.end(about_id(Kind::PEER, "", &id_of(&member.key)), what(held, member));
    Ok(plan)
}

/// Who is a member on this one's word, or on that of persons whose only home it is.
fn followers(held: &Held, member: &Member, happens: &str) -> Option<String> {
    let rights = held.rights();
    let speaks = |via: &PublicKey| {
        let person = rights.person(via).is_some_and(|p| p.homes == [member.key]);
        *via == member.key || person
    };
    let members = rights.members().into_iter().filter(|m| m.key != member.key && speaks(&m.via));
    let names: Vec<String> = members.map(|m| held.called(&m.key)).collect();
    let told =
        || format!("members on the word of {}: {} {happens}", held.called(&member.key), names.join(", "));
    (!names.is_empty()).then(told)
}

/// Whom a ban is about: a member by its name, or any id.
fn banned(held: &Held, text: &str) -> Result<Id, StateError> {
    match text.parse::<Id>() {
        Ok(id) => Ok(id),
        Err(_) => find(held, text).map(|member| id_of(&member.key)),
    }
}

fn what_ban(held: &Held, id: &Id) -> String {
    match held.name_of(&PublicKey(id.key)) {
        Some(name) => format!("ban {name} ({id})"),
        None => format!("ban {id}"),
    }
}

/// Refuses everything that a key states, until then.
///
/// # Errors
/// [`StateError`].
pub fn ban(held: &Held, text: &str, until_unix_ms: u64, reason: &str) -> Result<StatementPlan, StateError> {
    let id = banned(held, text)?;
    if id.key == held.broker.key {
        return Err(StateError::Refused("a broker does not ban itself; ask another one to".into()));
    }
    let body = BanBody { until_unix_ms, reason: reason.into() };
    let mut plan = StatementPlan::default();
    plan.put(held, about_id(Kind::BAN, "", &id), what_ban(held, &id), body.encode());
    Ok(plan)
}

/// Lifts a ban.
///
/// # Errors
/// [`StateError`].
pub fn unban(held: &Held, text: &str) -> Result<StatementPlan, StateError> {
    let id = banned(held, text)?;
    let mut plan = StatementPlan::default();
    plan.remove(held, about_id(Kind::BAN, "", &id), what_ban(held, &id))?;
    Ok(plan)
}

/// Bans of the whole federation that stand: whom, until when (Unix milliseconds), and why.
pub fn bans(held: &Held) -> Vec<(String, u64, String)> {
    let bans = held.in_scope("").map(SignedRecord::record).filter(|r| r.kind == Kind::BAN);
    let shown = bans.filter_map(|record| match &record.body {
        nearmost_replica::Body::Live { bytes, .. } => {
            let until = nearmost_replica::merge::expiry_unix_ms(bytes);
            let reason = BanBody::decode(bytes).map(|ban| ban.reason).unwrap_or_default();
            Some((record.id.clone(), until, reason))
        }
        nearmost_replica::Body::Tombstone => None,
    });
    shown.filter(|(_, until, _)| *until > held.now_unix_ms).collect()
}

#[cfg(test)]
#[path = "members_tests.rs"]
mod tests;

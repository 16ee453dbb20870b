//! Whose a domain is and what its owner gives: claims, grants, rolls, and what follows from them.

use super::app::AppKind;
use super::held::Held;
use super::statements::{By, StateError, StatementPlan, about, about_id, noun};
use nearmost_replica::{Kind, PublicKey, Record, SignedRecord};
use nearmost_wire::authority::Granted;
use nearmost_wire::identity::{Id, KeyPair, Role};
use nearmost_wire::registry::{ClaimBody, GrantBody, GrantRole, RollBody};
use serde::Serialize;

/// Most names that a warning lists.
const TOLD: usize = 8;

fn json(what: &str, body: &impl Serialize) -> Result<Vec<u8>, StateError> {
    serde_json::to_vec(body).map_err(|source| StateError::Body { what: what.into(), source })
}

/// Makes a domain the author's; nothing is stated where it is already.
///
/// # Errors
/// [`StateError::Owned`].
pub fn claim(held: &Held, me: &Id, domain: &str) -> Result<StatementPlan, StateError> {
    let domain = nearmost_wire::name::domain(domain)?;
    let (own, mut plan) = (PublicKey(me.key), StatementPlan::default());
    match held.rights().owner(&domain) {
        Some(owner) if owner == own => return Ok(plan),
        Some(owner) => return Err(StateError::Owned { domain, owner: held.called(&owner) }),
        None => {}
    }
    let what = format!("claim {domain}");
    let others: Vec<String> =
        held.rights().grants(&domain).iter().map(|granted| held.called(&granted.to)).collect();
    if !others.is_empty() {
        plan.warnings.push(format!(
            "grants in {domain} that others gave hold no longer once it is yours: to {}",
            few(&others)
        ));
    }
    let bytes = json(&what, &ClaimBody {})?;
    plan.put(held, about(Kind::CLAIM, &domain, ""), what, bytes);
    Ok(plan)
}

/// Gives somebody a role in a domain, in the place of what they had.
///
/// # Errors
/// [`StateError`]: dates or kinds make no sense, or the grantee is the owner.
pub fn grant(
    held: &Held,
    me: &Id,
    domain: &str,
    to: &Id,
    body: &GrantBody,
) -> Result<StatementPlan, StateError> {
    let domain = nearmost_wire::name::domain(domain)?;
    body.check()?;
    if to.role == Role::Node {
        return Err(StateError::Refused(format!("{to} is a node's; grants are to persons and brokers")));
    }
    let (own, grantee) = (PublicKey(me.key), PublicKey(to.key));
    let rights = held.rights();
    if rights.owner(&domain) == Some(grantee) {
        return Err(StateError::Refused(format!(
            "{} owns {domain} and needs no grant",
            held.called(&grantee)
        )));
    }
    let mut plan = StatementPlan::default();
    if body.until_unix_ms != 0 && body.until_unix_ms <= held.now_unix_ms {
        plan.warnings.push("the grant has ended already".into());
    }
    if let Some(why) = not_entitled(held, &own, &domain, body.role) {
        plan.warnings.push(why);
    }
    let what = format!("grant {domain} to {}", held.called(&grantee));
    let bytes = json(&what, body)?;
    plan.put(held, about_id(Kind::GRANT, &domain, to), what, bytes);
    Ok(plan)
}

/// Why a grant of this role would count for nothing.
fn not_entitled(held: &Held, own: &PublicKey, domain: &str, role: GrantRole) -> Option<String> {
    let rights = held.rights();
    if rights.has_full_rights(own, domain) {
        return None;
    }
    let held_grant = rights.grants(domain).into_iter().find(|granted| granted.to == *own);
    match held_grant.map(|granted| granted.body.role) {
        Some(GrantRole::Admin) if role == GrantRole::Admin => {
            Some(format!("an admin of {domain} makes no other admin; only its owner does"))
        }
        Some(GrantRole::Admin) => None,
        _ => Some(format!("your key gives no rights in {domain}, as far as this broker knows")),
    }
}

/// Takes back what somebody was granted: all that they stated in the domain counts no longer. With `keep`
/// the author states anew what of it is visible.
///
/// # Errors
/// [`StateError::NotThere`].
pub fn revoke(held: &Held, domain: &str, from: &Id, keep: bool) -> Result<StatementPlan, StateError> {
    let domain = nearmost_wire::name::domain(domain)?;
    let grantee = PublicKey(from.key);
    let mut plan = StatementPlan::default();
    let what = format!("grant {domain} to {}", held.called(&grantee));
    // The same key may be named as a broker and as a person.
    let about = held
        .in_scope(&domain)
        .map(SignedRecord::record)
        .filter(|r| r.kind == Kind::GRANT && !r.is_tombstone())
        .find(|r| r.id.parse::<Id>().is_ok_and(|id| id.key == from.key))
        .map_or_else(|| about_id(Kind::GRANT, &domain, from), Record::key);
    // One whose time is over, or whose giver's is, is visible no longer and can be revoked all the same.
    match held.rights().grants(&domain).iter().any(|granted| granted.to == grantee) {
        true => plan.end(about, what),
        false => plan.remove(held, about, what)?,
    }
    let stated = stated_by(held, &domain, &grantee);
    match keep {
        true => stated.iter().for_each(|signed| plan.keep(signed, By::Author)),
        false => plan.warnings.extend(lost(held, &grantee, &stated)),
    }
    Ok(plan)
}

/// What is visible in a domain because this key stated it, and what is gone because it removed it and would
/// be back without its word.
fn stated_by<'a>(held: &'a Held, domain: &'a str, key: &PublicKey) -> Vec<&'a SignedRecord> {
    let key = *key;
    let stated = held.in_scope(domain).filter(|signed| {
        let record = signed.record();
        // Whose the domain is nobody takes over from anybody.
        record.author == key && !matches!(record.kind, Kind::CLAIM | Kind::ROLL)
    });
    stated.filter(|signed| !signed.record().is_tombstone() || held.would_return(signed)).collect()
}

fn lost(held: &Held, key: &PublicKey, stated: &[&SignedRecord]) -> Option<String> {
    let names: Vec<String> = stated.iter().map(|signed| noun(&signed.record().key())).collect();
    let told = || {
        format!("what {} stated counts no longer: {}; --keep states it anew", held.called(key), few(&names))
    };
    (!names.is_empty()).then(told)
}

fn few(names: &[String]) -> String {
    match names.len() {
        n if n > TOLD => format!("{} and {} more", names[..TOLD].join(", "), n - TOLD),
        _ => names.join(", "),
    }
}

/// Gives the author's place as the owner to another key, which agrees. With `keep` the new key states anew
/// what the old one did.
///
/// # Errors
/// [`StateError::Owned`], and [`StateError::Refused`] where nobody owns it or both keys are one.
pub fn roll(
    held: &Held,
    me: &KeyPair,
    domain: &str,
    new: &KeyPair,
    keep: bool,
) -> Result<StatementPlan, StateError> {
    let domain = nearmost_wire::name::domain(domain)?;
    let own = PublicKey(me.id().key);
    let mut plan = StatementPlan::default();
    let owner = held.rights().owner(&domain);
    match owner {
        _ if me.id().key == new.id().key => {
            return Err(StateError::Refused("the new key is the one that you have".into()));
        }
        None => return Err(StateError::Refused(format!("nobody owns {domain}; claim it with the new key"))),
        Some(owner) if owner.0 == new.id().key => return Ok(plan),
        Some(owner) if owner != own => {
            return Err(StateError::Owned { domain, owner: held.called(&owner) });
        }
        Some(_) => {}
    }
    let what = format!("roll {domain} from {} to {}", me.id(), new.id());
    let bytes = json(&what, &RollBody::sign(&domain, &own.0, new))?;
    plan.put(held, about_id(Kind::ROLL, &domain, &me.id()), what, bytes);
    // The new key is a part of the name already.
    plan.statements.iter_mut().for_each(|roll| roll.differences.clear());
    let stated = stated_by(held, &domain, &own);
    match keep {
        true => stated.iter().for_each(|signed| plan.keep(signed, By::Heir)),
        false => plan.warnings.extend(lost(held, &own, &stated)),
    }
    Ok(plan)
}

/// Who may do what in a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DomainRights {
    /// The domain.
    pub domain: String,
    /// Its owner; without one, those who may create it have full rights.
    pub owner: Option<Holder>,
    /// Members that may create it, as far as it has no owner.
    pub creators: Vec<Holder>,
    /// Whose claims there are, where there are several that could stand; the one that does first.
    pub contested: Vec<Holder>,
    /// Grants, also those whose time has not come or is over.
    pub grants: Vec<GrantView>,
}

/// A key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Its id.
    pub id: String,
    /// What it is called, where that is known.
    pub name: Option<String>,
}

/// A grant that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GrantView {
    /// To whom.
    pub to: Holder,
    /// What.
    pub role: GrantRole,
    /// Of a writer: the applications' kinds.
    pub kinds: Vec<String>,
    /// From when, Unix milliseconds; 0 is from ever.
    pub from_unix_ms: u64,
    /// Until when, Unix milliseconds; nothing is for ever.
    pub until_unix_ms: Option<u64>,
    /// By whom.
    pub by: Holder,
    /// `in force`, `planned` or `over`.
    pub state: &'static str,
}

/// What the statements of a broker say about a domain.
///
/// # Errors
/// [`StateError::Name`].
pub fn of_domain(held: &Held, domain: &str) -> Result<DomainRights, StateError> {
    let domain = nearmost_wire::name::domain(domain)?;
    let holder = |key: &PublicKey| Holder { id: held.id_of(key).to_string(), name: held.name_of(key) };
    let rights = held.rights();
    let creators = rights.members().into_iter().filter(|m| rights.may_create(&m.key, &domain));
    let contested = rights.contested().into_iter().find(|contest| contest.domain == domain);
    let grants =
        rights.grants(&domain).into_iter().map(|granted| grant_view(granted, held, &holder)).collect();
    Ok(DomainRights {
        owner: rights.owner(&domain).as_ref().map(holder),
        creators: creators.map(|m| holder(&m.key)).collect(),
        contested: contested.map(|c| c.claimants.iter().map(holder).collect()).unwrap_or_default(),
        grants,
        domain,
    })
}

fn grant_view(granted: &Granted, held: &Held, holder: &impl Fn(&PublicKey) -> Holder) -> GrantView {
    let kind = |number: &u16| AppKind::of_number(*number).map_or(format!("{number:#06x}"), |k| k.to_string());
    let state = match () {
        () if granted.holds_at(held.now_unix_ms) => "in force",
        () if granted.from_unix_ms > held.now_unix_ms && granted.from_unix_ms < granted.until_unix_ms => {
            "planned"
        }
        () => "over",
    };
    GrantView {
        to: holder(&granted.to),
        role: granted.body.role,
        kinds: granted.body.kinds.iter().map(kind).collect(),
        from_unix_ms: granted.from_unix_ms,
        until_unix_ms: Some(granted.until_unix_ms).filter(|until| *until != u64::MAX),
        by: holder(&granted.by),
        state,
    }
}

#[cfg(test)]
#[path = "rights_tests.rs"]
mod tests;

//! A domain's owner and its delegations as people write them → plain data.

use super::bodies::DomainBody;
use crate::grant::{Delegation, GrantError};
use crate::identity::{Id, Role};
use crate::list::MAX_DELEGATIONS;
use nearmost_core::registry::Trust;
use std::sync::Arc;

/// The owner's key, and delegations that are signed with it. When they hold is looked at when they are used:
/// one that is over must not take the domain out.
pub(super) fn trust(domain: &str, body: &DomainBody) -> Result<Trust, String> {
    let owner = body.owner.as_deref().map(|text| Id::parse(text, Role::Person)).transpose();
    let owner = owner.map_err(|e| format!("owner: {e}"))?;
    if body.delegations.len() > MAX_DELEGATIONS {
        return Err(format!(
            "{} delegations: at most {MAX_DELEGATIONS} are handed to clients",
            body.delegations.len()
        ));
    }
    let Some(owner) = owner else {
        return match body.delegations.is_empty() {
            true => Ok(Trust::default()),
            false => Err("delegations need the owner who signed them".into()),
        };
    };
    let delegation = |text: &String| {
        let delegation = Delegation::decode(text)?;
        // At a moment within it, so that only owner and domain are looked at.
        delegation.verify(&owner, domain, delegation.from_ms)?;
        Ok(Arc::from(delegation.encode()))
    };
    let delegations: Result<_, GrantError> = body.delegations.iter().map(delegation).collect();
    Ok(Trust { owner: Some(owner.key), delegations: delegations.map_err(|e| e.to_string())? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::KeyPair;

    #[test]
    fn only_the_owners_delegations_of_the_domain_are_taken() {
        let key = |role, seed: u8| KeyPair::from_seed(role, &[seed; 32]);
        let (owner, broker) = (key(Role::Person, 1), key(Role::Broker, 2));
        let by = |owner: &KeyPair, domain: &str| {
            Delegation::sign(owner, domain, &broker.id(), 5, 6).unwrap().encode()
        };
        let body = |owner: Option<&KeyPair>, delegations: &[String]| DomainBody {
            owner: owner.map(|k| k.id().to_string()),
            delegations: delegations.to_vec(),
            ..DomainBody::default()
        };
        let good = by(&owner, "a.example");
        let taken = trust("a.example", &body(Some(&owner), std::slice::from_ref(&good))).unwrap();
        assert_eq!((taken.owner, taken.delegations.len()), (Some(owner.id().key), 1));
        assert_eq!(trust("a.example", &body(None, &[])), Ok(Trust::default()));
        for (body, wrong) in [
            (body(None, std::slice::from_ref(&good)), "need the owner"),
            (body(Some(&key(Role::Person, 9)), std::slice::from_ref(&good)), "not signed by the owner"),
            (body(Some(&owner), &[by(&owner, "b.example")]), "is of b.example"),
            (body(Some(&owner), &["nmd1".into()]), "cut short"),
            (body(Some(&owner), &vec![good; MAX_DELEGATIONS + 1]), "at most 4"),
            (DomainBody { owner: Some("np1".into()), ..DomainBody::default() }, "owner:"),
        ] {
            let said = trust("a.example", &body).unwrap_err();
            assert!(said.contains(wrong), "{said}");
        }
    }
}

//! Names that must not mean two things: mirrors' own names, domains, static records, redirect hosts.

use nearmost_core::registry::{DomainIndex, Registry, StaticData};
use std::collections::HashMap;
use std::sync::Arc;

/// Whether `<mirror>.<domain>` is free for the mirror's own addresses.
///
/// # Errors
/// Names what stands there already.
pub(super) fn check_mirror(registry: &Registry, domain: DomainIndex, mirror: &str) -> Result<(), String> {
    let domain = registry.domain(domain);
    let name = format!("{mirror}.{}", domain.name);
    if registry.domain_by_name.contains_key(name.as_str()) {
        return Err(format!("its name {name} is that of a domain; choose another"));
    }
    let taken = domain.records.iter().find_map(|r| match r.data {
        _ if *r.name != *name => None,
        StaticData::A(_) => Some("A"),
        StaticData::Aaaa(_) => Some("AAAA"),
        StaticData::Cname(_) => Some("CNAME"),
        StaticData::Ns(_) => Some("NS"),
        StaticData::Ds { .. } => Some("DS"),
        _ => None,
    });
    match taken {
        Some(kind) => Err(format!("its name {name} has a static {kind} record; choose another")),
        None => Ok(()),
    }
}

/// Takes redirect hosts from domains whose they cannot be, and tells which and why: a domain's own
/// name is its own, and any other host is the first's that claims it, in order of names.
pub(super) fn settle_redirect_hosts(registry: &mut Registry) -> Vec<(Arc<str>, String)> {
    let mut problems = Vec::new();
    let mut claimed: HashMap<Arc<str>, Arc<str>> = HashMap::new();
    let domains = &registry.domain_by_name;
    for domain in &mut registry.domains {
        let name = &domain.name;
        domain.redirect_hosts.retain(|host| {
            let problem = if host != name && domains.contains_key(host) {
                Some(format!("redirect host {host} is a domain itself"))
            } else {
                let first = claimed.entry(host.clone()).or_insert_with(|| name.clone());
                match first == name {
                    true => None,
                    false => Some(format!("redirect host {host} is domain {first}'s already")),
                }
            };
            let keep = problem.is_none();
            problems.extend(problem.map(|p| (name.clone(), p)));
            keep
        });
    }
    problems
}

//! ACME challenges (RFC 8555 §8.4): TXT records that end by themselves.
//!
//! A certificate authority looks for a value at `_acme-challenge.<name>`. Each value is a record of its own, so
//! that programs which fetch certificates at the same time, at whichever brokers, do not undo each other's:
//! of kind challenge, its scope the domain, its id the owner's part below the domain and the value,
//! `_acme-challenge.www/LHDh…`, its body a [`ChallengeBody`]. From its end on it is answered no longer; its
//! author removes it later.

use super::bodies::BODY_VERSION;
use super::build::{Built, Problem};
use crate::name::{self, NameError};
use nearmost_core::registry::{DomainIndex, Registry, StaticData, StaticRecord};
use nearmost_replica::{Body, Kind, Record, RecordKey};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The label before the name that a certificate is for.
pub const LABEL: &str = "_acme-challenge";
/// TTL of the answers, in seconds: the next challenge of the same name has another value.
const TTL_S: u32 = 10;
/// Most challenges of one domain at a time; of more the last ones, in the order of their ids, are left out.
pub const MAX_CHALLENGES: usize = 100;
/// Longest value, in characters. Those of `dns-01` have 43 (RFC 8555 §8.4).
pub const MAX_VALUE: usize = 128;

/// The body of a challenge's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChallengeBody {
    /// From when on it is answered no longer, Unix milliseconds.
    pub until_unix_ms: u64,
}

/// A challenge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The domain it is in.
    pub domain: String,
    /// Its owner's labels before the domain, e.g. `_acme-challenge.www`.
    pub below: String,
    /// What the certificate authority looks for.
    pub value: String,
    /// From when on it is answered no longer, Unix milliseconds.
    pub until_unix_ms: u64,
}

/// Why there can be no such challenge.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    /// The name of the certificate is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// None of our domains has it.
    #[error("no domain here is {0} or above it")]
    NoDomain(String),
    /// The value is of another form.
    #[error("value: expected 1 to {MAX_VALUE} letters, digits, '-' and '_' (base64url without padding)")]
    Value,
    /// Nobody would see it.
    #[error("{owner} is delegated at {cut}: the challenge belongs on the servers of that")]
    Delegated {
        /// Where the challenge would stand.
        owner: String,
        /// Where static NS records stand.
        cut: String,
    },
    /// An alias is alone at its name.
    #[error("{0} has a static CNAME record: the challenge belongs where that leads")]
    Alias(String),
    /// As many as there may be.
    #[error("{0} has {MAX_CHALLENGES} challenges already")]
    Full(String),
}

impl Challenge {
    /// A challenge for a certificate of a name in one of our domains. The name may be given as certificates
    /// have it, `*.` included, or as the challenge's owner, with the label.
    ///
    /// # Errors
    /// [`ChallengeError`].
    pub fn place(
        registry: &Registry,
        certificate: &str,
        value: &str,
        until_unix_ms: u64,
    ) -> Result<Challenge, ChallengeError> {
        let owner = owner(certificate)?;
        let (domain, below) = split(registry, &owner).ok_or(ChallengeError::NoDomain(owner.clone()))?;
        let challenge = Challenge {
            domain: registry.domain(domain).name.to_string(),
            below: below.to_owned(),
            value: value.to_owned(),
            until_unix_ms,
        };
        if !is_value(value) {
            return Err(ChallengeError::Value);
        }
        let standing = challenge.standing(registry, domain)?;
        match standing >= MAX_CHALLENGES {
            true => Err(ChallengeError::Full(challenge.domain)),
            false => Ok(challenge),
        }
    }

    /// Its full name.
    pub fn owner(&self) -> String {
        format!("{}.{}", self.below, self.domain)
    }

    /// The key of its record.
    pub fn key(&self) -> RecordKey {
        let id = format!("{}/{}", self.below, self.value);
        RecordKey { kind: Kind::CHALLENGE, scope: self.domain.clone(), id }
    }

    /// The challenge of a live record of this kind; the error says what makes no sense in it.
    pub fn of_record(record: &Record) -> Option<Result<Challenge, String>> {
        match &record.body {
            Body::Live { version: BODY_VERSION, bytes } if record.kind == Kind::CHALLENGE => {
                Some(read(record, bytes))
            }
            _ => None,
        }
    }

    /// How many challenges its domain has besides it.
    fn standing(&self, registry: &Registry, domain: DomainIndex) -> Result<usize, ChallengeError> {
        let owner = self.owner();
        let at_or_below =
            |cut: &str| owner.strip_suffix(cut).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        if let Some(cut) = registry.cuts(domain).iter().find(|cut| at_or_below(cut)) {
            return Err(ChallengeError::Delegated { cut: cut.to_string(), owner });
        }
        let records = &registry.domain(domain).records;
        if records.iter().any(|r| *r.name == *owner && matches!(r.data, StaticData::Cname(_))) {
            return Err(ChallengeError::Alias(owner));
        }
        let own = |r: &StaticRecord| *r.name == *owner && r.data == self.data();
        Ok(records.iter().filter(|r| is_challenge(r) && !own(r)).count())
    }

    fn data(&self) -> StaticData {
        StaticData::Txt(vec![self.value.clone()])
    }
}

/// The name at which a certificate authority looks, in its canonical form.
///
/// # Errors
/// [`NameError`].
pub fn owner(certificate: &str) -> Result<String, NameError> {
    let plain = certificate.strip_prefix("*.").unwrap_or(certificate);
    let name = name::domain(plain)?;
    match name.split('.').next() {
        Some(LABEL) => Ok(name),
        _ => name::domain(&format!("{LABEL}.{name}")),
    }
}

/// The deepest domain strictly above a name, and what stands before it.
fn split<'n>(registry: &Registry, owner: &'n str) -> Option<(DomainIndex, &'n str)> {
    owner.match_indices('.').find_map(|(dot, _)| {
        let domain = registry.find_domain(&owner[dot + 1..])?;
        Some((domain, &owner[..dot]))
    })
}

fn is_value(text: &str) -> bool {
    (1..=MAX_VALUE).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// A TXT record as challenges make them; people's own at such names are counted like them.
fn is_challenge(record: &StaticRecord) -> bool {
    matches!(record.data, StaticData::Txt(_)) && record.name.starts_with(LABEL)
}

fn read(record: &Record, bytes: &[u8]) -> Result<Challenge, String> {
    let body: ChallengeBody = serde_json::from_slice(bytes).map_err(|e| format!("body: {e}"))?;
    let (below, value) = record.id.split_once('/').ok_or("its id is not NAME/VALUE")?;
    if !is_value(value) {
        return Err(ChallengeError::Value.to_string());
    }
    let challenge = Challenge {
        domain: record.scope.clone(),
        below: below.to_owned(),
        value: value.to_owned(),
        until_unix_ms: body.until_unix_ms,
    };
    match name::domain(&challenge.owner()) {
        Ok(owner) if owner == challenge.owner() && below.split('.').next() == Some(LABEL) => Ok(challenge),
        Ok(_) => Err(format!("its name does not begin with {LABEL}, in lower case")),
        Err(e) => Err(e.to_string()),
    }
}

impl Built {
    /// Adds the challenges among records that have not ended at `now_unix_ms` to the static records of
    /// their domains. Returns when the first of them ends, Unix milliseconds. What makes no sense is left
    /// out and among the problems.
    pub fn add_challenges<'a>(
        &mut self,
        records: impl IntoIterator<Item = &'a Record>,
        now_unix_ms: u64,
    ) -> Option<u64> {
        let mut next: Option<u64> = None;
        let mut counts: HashMap<DomainIndex, usize> = HashMap::new();
        for record in records {
            let challenge = match Challenge::of_record(record) {
                None => continue,
                Some(Ok(challenge)) if challenge.until_unix_ms <= now_unix_ms => continue,
                Some(read) => read,
            };
            let added = challenge.and_then(|challenge| self.add_challenge(&challenge, &mut counts));
            match added {
                Ok(until) => next = Some(next.map_or(until, |next| next.min(until))),
                Err(problem) => {
                    let name = format!("{}/{}", record.scope, record.id);
                    self.problems.push(Problem { kind: "challenge", name, problem });
                }
            }
        }
        self.problems.sort();
        next
    }

    fn add_challenge(
        &mut self,
        challenge: &Challenge,
        counts: &mut HashMap<DomainIndex, usize>,
    ) -> Result<u64, String> {
        let domain = self.registry.find_domain(&challenge.domain);
        let domain = domain.ok_or_else(|| format!("unknown domain {:?}", challenge.domain))?;
        let count = counts.entry(domain).or_default();
        if *count == MAX_CHALLENGES {
            return Err(ChallengeError::Full(challenge.domain.clone()).to_string());
        }
        challenge.standing(&self.registry, domain).map_err(|e| e.to_string())?;
        *count += 1;
        let record = StaticRecord { name: challenge.owner().into(), ttl_s: TTL_S, data: challenge.data() };
        // The index of the registry is from the domain's own records, and has what this one is.
        if let Some(domain) = self.registry.domains.get_mut(domain.0 as usize)
            && !domain.records.iter().any(|r| r.name == record.name && r.data == record.data)
        {
            domain.records.push(record);
        }
        Ok(challenge.until_unix_ms)
    }
}

#[cfg(test)]
#[path = "challenge_tests.rs"]
mod tests;

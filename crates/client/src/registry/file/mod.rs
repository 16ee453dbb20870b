//! The registry file: what should be there, as people write and review it.
//!
//! ```toml
//! version = 1
//!
//! [[domain]]
//! name = "play.example.com"
//! ttl_s = 20                  # ttl_min_s and ttl_max_s bound it by how soon an answer may change
//! failback = "manual"         # or "auto" (the default): who failed comes back by itself
//! records = [{ name = "@", type = "MX", value = "10 mail.example.com." }]
//! strategy = "failover"       # or "nearest", "balanced" (the default), "weighted"
//! order = ["lon", "nyc"]      # only beside "failover"
//!
//! [[domain.rules]]
//! effect = "pin"              # or "exclude"
//! country = "CN"              # or asn = 64496, or prefix = "192.0.2.0/24"
//! mirrors = ["sha", "hkg"]
//!
//! [[node]]
//! name = "lon1"
//! domains = ["play.example.com"]
//! place = { latitude = 51.5, longitude = -0.1, country = "GB" }
//!
//! [[mirror]]
//! domain = "play.example.com"
//! name = "lon"
//! node = "lon1"
//! addresses = ["203.0.113.1", "2001:db8::1"]
//! health = "agent"            # or "probe", or "manual" with state = "up" or "down"
//! probe = { kind = "tcp" }    # interval_ms, rise and fall of it count beside "probe" only
//!
//! [[person]]
//! id = "np1…"
//! name = "ada"
//!
//! [[override]]
//! prefix = "192.0.2.0/24"
//! country = "GB"              # and latitude with longitude, and asn: at least one of these
//! ```
//!
//! Fields are those of the record bodies ([`nearmost_wire::registry`]); what is not given takes
//! the default. Unknown keys are errors. Drain orders and forced verdicts are acts of the moment:
//! they are not part of the file, and applying one leaves them as they are.
//!
//! A file may name domains and nodes that it does not hold, if the broker knows them: nodes that
//! joined with a token need not be written down. An order and rules may name mirrors that nobody has
//! yet: the plan warns of them, and of a pace of probes that has no effect.

mod error;
mod parse;
mod reader;
mod render;

pub use error::{FileError, FileErrors, Position};
pub use parse::FILE_VERSION;
pub use render::export;

use super::entry::{Content, EntryKey};
use super::view::{RegistryView, problems};
use nearmost_wire::registry::EntryKind;
use reader::MAX_ERRORS;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// An entry with its place in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct FileEntry {
    /// What it says.
    pub content: Content,
    /// Where it begins.
    pub at: Position,
    /// A node whose `revoked` is written down; else the current one stays.
    revoked_given: bool,
}

/// A registry file that reads well by itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RegistryFile {
    file: String,
    /// Its entries.
    pub entries: BTreeMap<EntryKey, FileEntry>,
}

impl RegistryFile {
    /// Reads a file's text; `file` is its name in messages.
    ///
    /// # Errors
    /// [`FileErrors`]: all mistakes that show without knowing the registry.
    pub fn parse(file: &str, text: &str) -> Result<RegistryFile, FileErrors> {
        parse::parse(file, text)
    }

    /// Reads a file and checks it as a whole registry of its own.
    ///
    /// # Errors
    /// [`FileErrors`].
    pub fn parse_complete(file: &str, text: &str) -> Result<RegistryFile, FileErrors> {
        let parsed = RegistryFile::parse(file, text)?;
        parsed.check(None)?;
        Ok(parsed)
    }

    /// What each entry should say, given what is there: a node keeps the id and the revocation
    /// about which the file is silent.
    pub fn desired(&self, view: &RegistryView) -> Vec<(EntryKey, Content)> {
        let each = self.entries.iter().map(|(key, entry)| {
            let mut content = entry.content.clone();
            if let (Content::Node(node), Some(Content::Node(current))) = (&mut content, view.content(key)) {
                node.id = node.id.take().or_else(|| current.id.clone());
                node.revoked = if entry.revoked_given { node.revoked } else { current.revoked };
            }
            (key.clone(), content)
        });
        each.collect()
    }

    /// Checks how its entries go together with one another and with those of `view` that it does
    /// not replace.
    ///
    /// # Errors
    /// [`FileErrors`]: unknown domains and nodes, and whatever a broker would refuse.
    pub fn check(&self, view: Option<&RegistryView>) -> Result<(), FileErrors> {
        let mut errors = self.unknown_names(view);
        let named: BTreeSet<EntryKey> = errors.iter().map(|(key, _)| key.clone()).collect();
        let mut all: BTreeMap<EntryKey, Vec<u8>> = match view {
            Some(view) => view.live().map(|(k, body)| (k.clone(), body.to_vec())).collect(),
            None => BTreeMap::new(),
        };
        for (key, entry) in &self.entries {
            match entry.content.to_json() {
                Ok(body) => drop(all.insert(key.clone(), body)),
                Err(e) => errors.push((key.clone(), e.to_string())),
            }
        }
        let problems = problems(all.iter().map(|(k, body)| (k, body.as_slice())));
        let by_name: HashMap<(&str, String), &EntryKey> = match problems.is_empty() {
            true => HashMap::new(),
            false => self.entries.keys().map(|k| ((k.kind.noun(), k.name()), k)).collect(),
        };
        for problem in problems {
            let key = by_name.get(&(problem.kind, problem.name)).copied().filter(|k| !named.contains(*k));
            errors.extend(key.map(|k| (k.clone(), problem.problem.clone())));
        }
        self.report(errors)
    }

    fn unknown_names(&self, view: Option<&RegistryView>) -> Vec<(EntryKey, String)> {
        let known = |key: &EntryKey| self.entries.contains_key(key) || view.is_some_and(|v| v.has(key));
        let mut errors = Vec::new();
        for (key, entry) in &self.entries {
            // Each is compared with all names there are, and more would not be read.
            if errors.len() >= MAX_ERRORS {
                break;
            }
            let mut domain = |name: &str| {
                let wanted = EntryKey { kind: EntryKind::Domain, scope: name.into(), id: String::new() };
                if !known(&wanted) {
                    errors.push((key.clone(), self.unknown(&wanted, view)));
                }
            };
            match &entry.content {
                Content::Node(node) => node.domains.iter().for_each(|d| domain(d)),
                Content::Mirror(mirror) => {
                    domain(&key.scope);
                    let node = mirror.node.as_ref();
                    let wanted =
                        node.map(|n| EntryKey { kind: EntryKind::Node, scope: String::new(), id: n.clone() });
                    if let Some(wanted) = wanted.filter(|w| !known(w)) {
                        errors.push((key.clone(), self.unknown(&wanted, view)));
                    }
                }
                _ => {}
            }
        }
        errors
    }

    /// `unknown domain "ply.example": …; did you mean "play.example"?`
    fn unknown(&self, wanted: &EntryKey, view: Option<&RegistryView>) -> String {
        let (kind, name) = (wanted.kind.noun(), wanted.name());
        let there = view.into_iter().flat_map(|v| v.entries.keys());
        let candidates =
            self.entries.keys().chain(there).filter(|k| k.kind == wanted.kind).map(EntryKey::name);
        let near = candidates.map(|c| (strsim::damerau_levenshtein(&c, &name), c)).min();
        let hint = match near {
            Some((distance, near)) if distance <= 3 => format!("; did you mean {near:?}?"),
            _ => String::new(),
        };
        let place = if view.is_some() {
            "neither this file nor the broker has it"
        } else {
            "this file does not have it"
        };
        format!("unknown {kind} {name:?}: {place}{hint}")
    }

    fn report(&self, errors: Vec<(EntryKey, String)>) -> Result<(), FileErrors> {
        let mut errors: Vec<FileError> = errors
            .into_iter()
            .map(|(key, problem)| FileError {
                file: self.file.clone(),
                at: self.entries.get(&key).map_or_else(Position::default, |e| e.at),
                entry: Some(key.to_string()),
                problem,
            })
            .collect();
        errors.sort_by_key(|e| e.at);
        errors.truncate(MAX_ERRORS);
        if errors.is_empty() { Ok(()) } else { Err(FileErrors(errors)) }
    }
}

#[cfg(test)]
mod sharing_tests;
#[cfg(test)]
mod tests;

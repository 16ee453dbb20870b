//! Patterns of domains.

use crate::name;
use std::collections::HashSet;

/// Which domains a member may create: exact names, names with all below them, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Patterns {
    all: bool,
    exact: HashSet<String>,
    below: HashSet<String>,
}

impl Patterns {
    /// Patterns as they are written; one that is none covers nothing.
    pub(super) fn new(patterns: &[String]) -> Patterns {
        let mut read = Patterns::default();
        for pattern in patterns {
            match pattern.strip_prefix("*.") {
                None if pattern == "*" => read.all = true,
                None => read.exact.extend(name::domain(pattern)),
                Some(rest) => read.below.extend(name::domain(rest)),
            }
        }
        read
    }

    /// Whether one covers this domain, which is in its canonical form.
    pub(super) fn covers(&self, domain: &str) -> bool {
        self.all || self.exact.contains(domain) || self.below(domain)
    }

    fn below(&self, domain: &str) -> bool {
        if self.below.is_empty() {
            return false;
        }
        let parents = std::iter::successors(Some(domain), |d| d.split_once('.').map(|(_, rest)| rest));
        parents.into_iter().any(|d| self.below.contains(d))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_whole_labels() {
        let covers = |pattern: &str, domain: &str| Patterns::new(&[pattern.into()]).covers(domain);
        for (pattern, covered, not) in [
            ("a.example", &["a.example"][..], &["b.a.example", "example", "xa.example", ""][..]),
            ("*.a.example", &["a.example", "b.a.example", "c.b.a.example"], &["xa.example", "example"]),
            ("*", &["a.example", "x"], &[]),
            ("A.Example.", &["a.example"], &["A.Example"]),
            ("*.A.Example.", &["x.a.example"], &[]),
            ("", &[], &["", "a.example"]),
            ("*.", &[], &["", "a.example"]),
            ("*a.example", &[], &["a.example", "xa.example"]),
            ("a.*.example", &[], &["a.b.example"]),
        ] {
            for domain in covered {
                assert!(covers(pattern, domain), "{pattern} {domain}");
            }
            for domain in not {
                assert!(!covers(pattern, domain), "{pattern} {domain}");
            }
        }
    }
}

//! Names of brokers, and patterns of domains.

use super::text::DomainName;
use super::{Parsed, TextKind, or_expected};

/// A broker's name: one label, in lower case, since the names of its nodes begin with it.
pub(crate) struct ShortName;

impl TextKind for ShortName {
    type Value = String;
    const EXPECTED: &'static str =
        "a name of 1 to 63 letters, digits, - and _, without - at its beginning or end";

    fn parse(text: &str) -> Parsed<String> {
        let good = (1..=63).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !text.starts_with('-')
            && !text.ends_with('-');
        or_expected::<Self>(good.then(|| text.to_ascii_lowercase()))
    }
}

/// As [`ShortName`], or nothing for a default.
pub(crate) struct ShortNameOrDefault;

impl TextKind for ShortNameOrDefault {
    type Value = String;
    const EXPECTED: &'static str = "a name of up to 63 letters, digits, - and _, without - at its beginning or end; \"\" for the machine's";

    fn parse(text: &str) -> Parsed<String> {
        let name = if text.is_empty() { Some(String::new()) } else { ShortName::parse(text).ok() };
        or_expected::<Self>(name)
    }
}

/// Which domains: one, one with all below it, or all.
pub(crate) struct DomainPattern;

impl TextKind for DomainPattern {
    type Value = String;
    const EXPECTED: &'static str =
        "a domain name such as play.example.com, *.example.com for that and all below it, or * for all";

    fn parse(text: &str) -> Parsed<String> {
        let pattern = match text.strip_prefix("*.") {
            None if text == "*" => Some(text.to_owned()),
            None => DomainName::parse(text).ok(),
            Some(rest) => DomainName::parse(rest).ok().map(|rest| format!("*.{rest}")),
        };
        or_expected::<Self>(pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_brokers_are_labels() {
        for (text, name) in [("bob", "bob"), ("Lon-1", "lon-1"), ("a_b", "a_b"), ("7", "7")] {
            assert_eq!(ShortName::parse(text).unwrap(), name);
            assert_eq!(ShortNameOrDefault::parse(text).unwrap(), name);
        }
        for text in ["a.b", "-a", "a-", "a b", "bücher", "a\0", &"a".repeat(64)] {
            assert!(ShortName::parse(text).is_err() && ShortNameOrDefault::parse(text).is_err(), "{text:?}");
        }
        assert!(ShortName::parse("").is_err());
        assert_eq!(ShortNameOrDefault::parse("").unwrap(), "");
    }

    #[test]
    fn patterns_are_a_domain_one_with_all_below_or_all() {
        for (text, pattern) in
            [("A.Example.", "a.example"), ("*.A.Example", "*.a.example"), ("*", "*"), ("*.x", "*.x")]
        {
            assert_eq!(DomainPattern::parse(text).unwrap(), pattern);
        }
        for text in ["", "*.", "*a.example", "a.*.example", "**", "*.*", "a b", "192.0.2.1"] {
            assert!(DomainPattern::parse(text).is_err(), "{text:?}");
        }
    }
}

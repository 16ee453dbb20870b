//! What the tests of both configurations share.

use crate::keys::keys_of;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;

/// Pairs of owned strings.
pub(crate) fn pairs(given: &[(&str, &str)]) -> Vec<(String, String)> {
    given.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// An annotated file with its settings that are off turned on: `#key` and `#[table]` lose the `#`.
pub(crate) fn uncommented(text: &str) -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => rest.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(|line| on(line) + "\n").collect()
}

/// Paths of all keys in a TOML text, list positions left out.
fn keys_in(text: &str) -> BTreeSet<String> {
    fn collect(value: &toml::Value, path: &str, keys: &mut BTreeSet<String>) {
        match value {
            toml::Value::Table(table) => {
                for (key, value) in table {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    keys.insert(path.clone());
                    collect(value, &path, keys);
                }
            }
            toml::Value::Array(items) => items.iter().for_each(|item| collect(item, path, keys)),
            _ => {}
        }
    }
    let mut keys = BTreeSet::new();
    collect(&toml::Value::Table(toml::from_str(text).unwrap()), "", &mut keys);
    keys
}

/// Asserts that the annotated file shows every key of `S`, but those below the given tables, whose
/// keys are said to be those of another table.
pub(crate) fn assert_shows_every_key<S: DeserializeOwned>(annotated: &str, same_as_another: &[&str]) {
    let shown = keys_in(&uncommented(annotated));
    for key in keys_of::<S>() {
        let key = key.join(".");
        let elsewhere = same_as_another.iter().any(|table| key.starts_with(&format!("{table}.")));
        assert!(shown.contains(&key) || elsewhere, "{key} is not in the annotated file");
    }
}

/// Asserts that every setting of the annotated file, on or off, follows a comment in its block.
pub(crate) fn assert_annotated(annotated: &str) {
    let mut explained = false;
    for line in annotated.lines() {
        let setting = line.trim_start_matches('#').split(" = ").next().unwrap_or_default();
        match line {
            "" => explained = false,
            _ if line.starts_with("# ") => explained = true,
            _ if line == "#" || line.starts_with('[') => {}
            _ => assert!(explained, "{setting} has no comment"),
        }
    }
}

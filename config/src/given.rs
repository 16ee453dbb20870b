//! What was said, key by key, so that two configurations can be compared and the difference shown to people.
//!
//! Only what file, environment and flags say is here, and no default: a newer program with other defaults was not
//! configured otherwise.

use figment::value::{Dict, Num, Value};
use std::collections::BTreeMap;

/// Keys, wherever they stand, whose values are shown to nobody.
const SECRET: [&str; 1] = ["sha256"];
/// What stands in their place.
const HIDDEN: &str = "…";

/// Every key that was given, as people write it (`dns.listen`), with its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given(pub BTreeMap<String, GivenValue>);

/// A value as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenValue {
    /// For people: without secrets.
    pub shown: String,
    /// All of it, to compare with. Not to be shown, written or logged.
    pub whole: String,
}

impl Given {
    /// Of merged values.
    pub(crate) fn of(values: &Dict) -> Given {
        let mut given = Given::default();
        given.add("", values);
        given
    }

    fn add(&mut self, above: &str, values: &Dict) {
        for (name, value) in values {
            let key = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
            match value {
                // The version is of the file, not of the broker.
                _ if key == "version" => {}
                Value::Dict(_, table) if !table.is_empty() => self.add(&key, table),
                value => {
                    let [mut shown, mut whole] = [String::new(), String::new()];
                    write(&mut shown, name, value, true);
                    write(&mut whole, name, value, false);
                    self.0.insert(key, GivenValue { shown, whole });
                }
            }
        }
    }
}

/// Writes a value as TOML has it.
fn write(out: &mut String, name: &str, value: &Value, hide: bool) {
    match value {
        _ if hide && SECRET.contains(&name) => out.push_str(HIDDEN),
        Value::String(_, text) => out.push_str(&format!("{text:?}")),
        Value::Char(_, char) => out.push_str(&format!("{char:?}")),
        Value::Bool(_, truth) => out.push_str(&truth.to_string()),
        Value::Num(_, number) => out.push_str(&show(number)),
        Value::Empty(..) => out.push_str("nothing"),
        Value::Array(_, items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                write(out, name, item, hide);
            }
            out.push(']');
        }
        Value::Dict(_, table) => {
            out.push('{');
            for (at, (name, value)) in table.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { " " });
                out.push_str(&format!("{name} = "));
                write(out, name, value, hide);
            }
            out.push_str(" }");
        }
    }
}

fn show(number: &Num) -> String {
    let whole = number.to_i128().map(|n| n.to_string()).or_else(|| number.to_u128().map(|n| n.to_string()));
    whole.or_else(|| number.to_f64().map(|n| n.to_string())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::BrokerConfig;

    #[test]
    fn what_is_given_is_told_by_key_and_secrets_are_compared_but_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("broker.toml");
        let text = |sha: &str| {
            format!(
                "version = 1\n[dns]\nlisten = [\"127.0.0.1:53\"]\nworkers = 2\n[[http.tokens]]\nname = \"ci\"\n\
                 sha256 = \"{}\"\n",
                sha.repeat(32)
            )
        };
        let read = |sha: &str, flags: &[(&str, &str)]| {
            std::fs::write(&file, text(sha)).unwrap();
            let flags: Vec<_> = flags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            BrokerConfig::load_with_given(Some(&file), [], &flags).unwrap().1
        };
        let (one, other) = (read("ab", &[]), read("cd", &[("dns.workers", "3")]));
        let keys: Vec<_> = one.0.keys().map(String::as_str).collect();
        assert_eq!(keys, ["dns.listen", "dns.workers", "http.tokens"]);
        assert_eq!(one.0["dns.listen"].shown, "[\"127.0.0.1:53\"]");
        assert_eq!((&*one.0["dns.workers"].shown, &*other.0["dns.workers"].shown), ("2", "3"));
        assert_eq!(one.0["http.tokens"].shown, "[{ name = \"ci\", sha256 = … }]");
        assert_eq!(one.0["http.tokens"].shown, other.0["http.tokens"].shown);
        assert_ne!(one.0["http.tokens"].whole, other.0["http.tokens"].whole);
        assert!(!one.0.values().any(|value| value.shown.contains("abab")));
    }
}

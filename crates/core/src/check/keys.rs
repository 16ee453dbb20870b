//! Which keys checks of which kind have, as people write them: in agents' files, in registry files and on
//! the command line alike.

/// A key and the kinds of check that have it. Keys that all kinds have are not here.
const KEYS: [(&str, &[&str]); 16] = [
    ("path", HTTP),
    ("host", &["http", "https", "h2", "h2c", "tls", "quic"]),
    ("status", HTTP),
    ("body_contains", HTTP),
    ("verify", TLS),
    ("min_days_to_expiry", TLS),
    ("alpn", &["tls", "quic"]),
    ("send", &["tcp", "tls", "udp"]),
    ("expect", &["tcp", "tls", "udp"]),
    ("steps", &["tcp", "tls"]),
    ("query", DNS),
    ("query_type", DNS),
    ("rcode", DNS),
    ("answer", DNS),
    ("argv", &["command"]),
    ("max_output_bytes", &["command"]),
];

const HTTP: &[&str] = &["http", "https", "h2", "h2c"];
const TLS: &[&str] = &["https", "h2", "tls", "quic"];
const DNS: &[&str] = &["dns"];

/// The kinds of check that have this key.
pub fn kinds_with(key: &str) -> &'static [&'static str] {
    KEYS.iter().find(|(k, _)| *k == key).map_or(&[], |(_, kinds)| kinds)
}

/// The first of the keys that are given and that checks of this kind do not have, and what is wrong with
/// it: it would be without effect.
pub fn foreign_key<'k>(kind: &str, keys: &[(&'k str, bool)]) -> Option<(&'k str, String)> {
    let foreign = |(key, given): &&(&str, bool)| *given && !kinds_with(key).contains(&kind);
    let (key, _) = keys.iter().find(foreign)?;
    let kinds = kinds_with(key).join(" or ");
    Some((key, format!("only checks of kind {kinds} have this key, and this one is {kind}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_other_kinds_are_named() {
        assert_eq!(foreign_key("udp", &[("path", false), ("send", true)]), None);
        let (key, message) = foreign_key("tcp", &[("send", true), ("verify", true)]).expect("foreign");
        assert_eq!(key, "verify");
        let expected = "only checks of kind https or h2 or tls or quic have this key, and this one is tcp";
        assert_eq!(message, expected);
    }
}

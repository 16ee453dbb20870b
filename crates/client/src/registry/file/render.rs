//! Entries → TOML that reads back as the same entries. Only what is not as by default is written.

use super::parse::FILE_VERSION;
use crate::registry::entry::{Content, EntryKey};
use nearmost_wire::registry::{
    AllDownBody, DomainBody, EntryKind, HealthBody, MirrorBody, NodeBody, OverrideBody, PlaceBody, ProbeBody,
    RecordBody, RuleBody, SharingBody, StepBody,
};
use std::fmt::Display;

/// A registry file of these entries; orders (drains, forced verdicts) and keys are left out.
pub fn export<'a>(entries: impl IntoIterator<Item = (&'a EntryKey, &'a Content)>) -> String {
    let mut entries: Vec<_> = entries.into_iter().collect();
    entries.sort_by_key(|(key, _)| (key.kind, &key.scope, &key.id));
    let mut out = format!("version = {FILE_VERSION}\n");
    for (key, content) in entries {
        let section = match content {
            Content::Domain(body) => domain(key, body),
            Content::Node(body) => node(key, body),
            Content::Mirror(body) => mirror(key, body),
            Content::Person(body) => {
                let mut s = Section::new(EntryKind::Person);
                s.line("id", text(&key.id));
                s.unless(body.name.is_empty(), "name", || text(&body.name));
                s
            }
            Content::Override(body) => place_override(key, body),
            Content::Drain(_) | Content::Force(_) | Content::ZoneKey(_) => continue,
        };
        out.push('\n');
        out.push_str(&section.0);
    }
    out
}

/// The text of one entry.
struct Section(String);

impl Section {
    fn new(kind: EntryKind) -> Section {
        Section(format!("[[{}]]\n", kind.noun()))
    }

    fn line(&mut self, key: &str, value: impl Display) {
        self.0.push_str(&format!("{key} = {value}\n"));
    }

    fn unless<T: Display>(&mut self, default: bool, key: &str, value: impl FnOnce() -> T) {
        if !default {
            self.line(key, value());
        }
    }

    fn some<T>(&mut self, key: &str, value: &Option<T>, show: impl FnOnce(&T) -> String) {
        if let Some(value) = value {
            self.line(key, show(value));
        }
    }
}

/// A TOML string in one line.
fn text(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if crate::text::is_harmful(c) => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn list<T>(items: &[T], show: impl Fn(&T) -> String) -> String {
    format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", "))
}

fn inline(fields: Vec<(&str, Option<String>)>) -> String {
    let fields: Vec<String> =
        fields.into_iter().filter_map(|(k, v)| v.map(|v| format!("{k} = {v}"))).collect();
    if fields.is_empty() { "{}".into() } else { format!("{{ {} }}", fields.join(", ")) }
}

fn address(ip: &std::net::IpAddr) -> String {
    text(&ip.to_string())
}

fn domain(key: &EntryKey, body: &DomainBody) -> Section {
    let default = DomainBody::default();
    let mut s = Section::new(EntryKind::Domain);
    s.line("name", text(&key.scope));
    s.unless(body.answers == default.answers, "answers", || body.answers);
    s.unless(body.ttl_s == default.ttl_s, "ttl_s", || body.ttl_s);
    s.unless(body.negative_ttl_s == default.negative_ttl_s, "negative_ttl_s", || body.negative_ttl_s);
    s.unless(body.all_down == default.all_down, "all_down", || match &body.all_down {
        AllDownBody::LastKnown => text("last_known"),
        AllDownBody::All => text("all"),
        AllDownBody::NoAnswer => text("no_answer"),
        AllDownBody::Fallback(list_of) => inline(vec![("fallback", Some(list(list_of, address)))]),
    });
    s.some("ttl_min_s", &body.failover.ttl_min_s, ToString::to_string);
    s.some("ttl_max_s", &body.failover.ttl_max_s, ToString::to_string);
    let failback = body.failover.failback;
    s.unless(failback == default.failover.failback, "failback", || text(failback.as_str()));
    s.unless(body.alpn.is_empty(), "alpn", || list(&body.alpn, |a| text(a)));
    s.unless(body.redirect_hosts.is_empty(), "redirect_hosts", || list(&body.redirect_hosts, |h| text(h)));
    s.some("owner", &body.owner, |o| text(o));
    s.unless(body.delegations.is_empty(), "delegations", || list(&body.delegations, |d| text(d)));
    s.unless(body.records.is_empty(), "records", || {
        let lines: Vec<String> = body.records.iter().map(|r| format!("    {},\n", record(r))).collect();
        format!("[\n{}]", lines.concat())
    });
    sharing(&mut s, &body.sharing);
    s
}

/// Comes last: what follows the first rule's heading is the rule's.
fn sharing(s: &mut Section, body: &SharingBody) {
    let default = SharingBody::default();
    // Debug forms of floats are the shortest that read back alike, and always TOML.
    let mut number = |key, value: f32, usual: f32| s.unless(value == usual, key, || format!("{value:?}"));
    number("tie_band_ms", body.tie_band_ms, default.tie_band_ms);
    number("tie_band_percent", body.tie_band_percent, default.tie_band_percent);
    number("explore_percent", body.explore_percent, default.explore_percent);
    s.unless(body.strategy == default.strategy, "strategy", || text(body.strategy.as_str()));
    s.unless(body.order.is_empty(), "order", || list(&body.order, |name| text(name)));
    body.rules.iter().for_each(|r| rule(s, r));
}

fn rule(s: &mut Section, body: &RuleBody) {
    s.0.push_str("[[domain.rules]]\n");
    s.line("effect", text(body.effect.as_str()));
    s.some("country", &body.country, country);
    s.some("asn", &body.asn, ToString::to_string);
    s.some("prefix", &body.prefix, |p| text(p));
    s.line("mirrors", list(&body.mirrors, |name| text(name)));
}

fn record(body: &RecordBody) -> String {
    inline(vec![
        ("name", Some(text(&body.name))),
        ("type", Some(text(&body.kind))),
        ("ttl_s", Some(body.ttl_s.to_string())),
        ("value", Some(text(&body.value))),
    ])
}

fn country(letters: &[u8; 2]) -> String {
    text(&String::from_utf8_lossy(letters))
}

fn parts_of_place(body: &PlaceBody) -> Vec<(&'static str, Option<String>)> {
    vec![
        ("latitude", body.latitude.map(|v| format!("{v:?}"))),
        ("longitude", body.longitude.map(|v| format!("{v:?}"))),
        ("country", body.country.as_ref().map(country)),
        ("asn", body.asn.map(|v| v.to_string())),
    ]
}

fn place(body: &PlaceBody) -> String {
    inline(parts_of_place(body))
}

fn place_override(key: &EntryKey, body: &OverrideBody) -> Section {
    let mut s = Section::new(EntryKind::Override);
    s.line("prefix", text(&key.id));
    for (part, value) in parts_of_place(&body.place()) {
        s.some(part, &value, Clone::clone);
    }
    s
}

fn node(key: &EntryKey, body: &NodeBody) -> Section {
    let mut s = Section::new(EntryKind::Node);
    s.line("name", text(&key.id));
    s.some("id", &body.id, |id| text(id));
    s.unless(body.domains.is_empty(), "domains", || list(&body.domains, |d| text(d)));
    s.unless(!body.revoked, "revoked", || body.revoked);
    s.some("place", &body.place, place);
    s
}

fn mirror(key: &EntryKey, body: &MirrorBody) -> Section {
    let default = MirrorBody::default();
    let mut s = Section::new(EntryKind::Mirror);
    s.line("domain", text(&key.scope));
    s.line("name", text(&key.id));
    s.some("node", &body.node, |n| text(n));
    s.unless(body.addresses.is_empty(), "addresses", || list(&body.addresses, address));
    s.some("hostname", &body.hostname, |h| text(h));
    s.unless(body.port == default.port, "port", || body.port);
    s.unless(body.weight == default.weight, "weight", || body.weight);
    let (health, state) = match body.health {
        HealthBody::Agent => ("agent", None),
        HealthBody::Probe => ("probe", None),
        HealthBody::ManualUp => ("manual", Some("up")),
        HealthBody::ManualDown => ("manual", Some("down")),
    };
    s.line("health", text(health));
    s.some("state", &state, |t| text(t));
    s.unless(body.probe == default.probe, "probe", || probe(&body.probe));
    s.some("url", &body.url, |u| text(u));
    s.some("ingress", &body.ingress, u16::to_string);
    s.some("place", &body.place, place);
    s
}

fn probe(body: &ProbeBody) -> String {
    let texts = |value: &Option<String>| value.as_ref().map(|v| text(v));
    inline(vec![
        ("kind", Some(text(body.kind.as_str()))),
        ("interval_ms", body.interval_ms.map(|v| v.to_string())),
        ("timeout_ms", body.timeout_ms.map(|v| v.to_string())),
        ("rise", body.rise.map(|v| v.to_string())),
        ("fall", body.fall.map(|v| v.to_string())),
        ("path", texts(&body.path)),
        ("host", texts(&body.host)),
        ("status", body.status.map(|(a, b)| format!("[{a}, {b}]"))),
        ("body_contains", texts(&body.body_contains)),
        ("verify", body.verify.map(|v| v.to_string())),
        ("min_days_to_expiry", body.min_days_to_expiry.map(|v| v.to_string())),
        ("alpn", body.alpn.as_ref().map(|names| list(names, |name| text(name)))),
        ("send", texts(&body.send)),
        ("expect", texts(&body.expect)),
        ("steps", body.steps.as_ref().map(|steps| list(steps, step))),
        ("query", texts(&body.query)),
        ("query_type", texts(&body.query_type)),
        ("rcode", texts(&body.rcode)),
        ("answer", texts(&body.answer)),
    ])
}

fn step(body: &StepBody) -> String {
    let texts = |value: &Option<String>| value.as_ref().map(|v| text(v));
    inline(vec![("send", texts(&body.send)), ("expect", texts(&body.expect))])
}

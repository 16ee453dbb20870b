//! TOML → entries. Each entry's fields are checked by themselves; how entries go together is
//! checked in [`super::RegistryFile::check`].

use super::error::FileErrors;
use super::reader::{At, Fields, Source, shown};
use super::{FileEntry, RegistryFile};
use crate::registry::entry::{Content, EntryKey};
use nearmost_wire::identity::{Id, Role};
use nearmost_wire::registry::{
    AllDownBody, DomainBody, FailbackBody, FailoverBody, HealthBody, MirrorBody, NodeBody, OverrideBody,
    PersonBody, PlaceBody, ProbeBody, ProbeKind, RecordBody, RuleBody, RuleEffectBody, SharingBody, StepBody,
    StrategyBody,
};
use nearmost_wire::{name, prefix};
use std::collections::BTreeMap;
use std::net::IpAddr;
use toml::de::{DeTable, DeValue};

/// The version of the file's format.
pub const FILE_VERSION: u64 = 1;

/// A table's reader with everything it borrows.
type Table<'s, 'a, 't> = Fields<'s, 'a, 't>;

pub(super) fn parse(file: &str, text: &str) -> Result<RegistryFile, FileErrors> {
    let mut source = Source::new(file, text);
    let root = match DeTable::parse(text) {
        Ok(root) => root,
        Err(e) => {
            let at = e.span().map_or(0, |s| s.start);
            source.fail(at, None, format!("not TOML: {}", e.message()));
            return source.finish(RegistryFile::default());
        }
    };
    let span = root.span();
    let mut fields = Fields::new(&mut source, None, "", (root.get_ref(), span));
    version(&mut fields);
    let kinds: [(&'static str, Reader); 5] = [
        ("domain", domain),
        ("node", node),
        ("mirror", mirror),
        ("person", person),
        ("override", place_override),
    ];
    let mut out = Entries { map: BTreeMap::new() };
    for (noun, read) in kinds {
        for (index, table) in fields.tables(noun).into_iter().enumerate() {
            let entry = Some(format!("{noun} number {}", index + 1));
            let start = table.1.start;
            let mut inner = Fields::new(fields.source, entry, "", table);
            let read = read(&mut inner);
            let entry = inner.entry.clone();
            inner.finish();
            out.add(fields.source, start, entry, read);
        }
    }
    fields.finish();
    let entries = out.map;
    source.finish(RegistryFile { file: file.into(), entries })
}

type Reader = for<'s, 'a, 't, 'x> fn(&'x mut Fields<'s, 'a, 't>) -> Option<Read>;

/// An entry that was read.
struct Read {
    key: EntryKey,
    content: Content,
    revoked_given: bool,
}

impl Read {
    fn new(key: EntryKey, content: Content) -> Option<Read> {
        Some(Read { key, content, revoked_given: false })
    }
}

struct Entries {
    map: BTreeMap<EntryKey, FileEntry>,
}

impl Entries {
    fn add(&mut self, source: &mut Source<'_>, start: usize, entry: Option<String>, read: Option<Read>) {
        let Some(Read { key, content, revoked_given }) = read else { return };
        let at = source.position(start);
        match self.map.get(&key) {
            Some(first) => {
                let problem = format!("given twice; the first is at line {}", first.at.line);
                source.fail(start, entry.as_deref(), problem);
            }
            None => drop(self.map.insert(key, FileEntry { content, at, revoked_given })),
        }
    }
}

fn version(fields: &mut Table<'_, '_, '_>) {
    match fields.any("version") {
        None => fields.fail(0, format!("version is missing; begin the file with: version = {FILE_VERSION}")),
        Some((DeValue::Integer(i), _)) if i.to_string() == FILE_VERSION.to_string() => {}
        Some((other, span)) => {
            fields.fail_value(
                "version",
                &span,
                format!("found {}, this program reads {FILE_VERSION}", shown(other)),
            );
        }
    }
}

/// Passes a checked value on, or reports why there is none.
fn checked<T, E: std::fmt::Display>(
    fields: &mut Table<'_, '_, '_>,
    key: &str,
    (text, span): At<&str>,
    check: impl Fn(&str) -> Result<T, E>,
) -> Option<T> {
    check(text).map_err(|e| fields.fail_value(key, &span, e)).ok()
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not an IP address, e.g. 203.0.113.1 or 2001:db8::1"))
}

fn addresses(fields: &mut Table<'_, '_, '_>, key: &str, texts: Vec<At<&str>>) -> Vec<IpAddr> {
    texts.into_iter().filter_map(|text| checked(fields, key, text, address)).collect()
}

fn one_of<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let names = || choices.iter().map(|(n, _)| format!("{n:?}")).collect::<Vec<_>>().join(", ");
    let found = choices.iter().find(|(n, _)| *n == text).map(|(_, v)| *v);
    found.ok_or_else(|| format!("found {text:?}, expected one of {}", names()))
}

fn domain(fields: &mut Table<'_, '_, '_>) -> Option<Read> {
    let key = fields.required("name").and_then(|n| checked(fields, "name", n, EntryKey::domain));
    fields.entry = key.as_ref().map(ToString::to_string).or(fields.entry.take());
    let default = DomainBody::default();
    let body = DomainBody {
        answers: fields.int("answers", 1..=8).map_or(default.answers, |v| v.0),
        ttl_s: fields.int("ttl_s", 1..=86_400).map_or(default.ttl_s, |v| v.0),
        negative_ttl_s: fields.int("negative_ttl_s", 1..=86_400).map_or(default.negative_ttl_s, |v| v.0),
        all_down: all_down(fields).unwrap_or(default.all_down),
        failover: failover(fields),
        alpn: fields.strings("alpn").unwrap_or_default().into_iter().map(|(t, _)| t.into()).collect(),
        sharing: sharing(fields),
        records: records(fields),
        redirect_hosts: hosts(fields, "redirect_hosts"),
        owner: fields.string("owner").map(|(t, _)| t.into()),
        delegations: fields
            .strings("delegations")
            .unwrap_or_default()
            .into_iter()
            .map(|(t, _)| t.into())
            .collect(),
        made_by: None,
    };
    Read::new(key?, Content::Domain(body))
}

fn failover(fields: &mut Table<'_, '_, '_>) -> FailoverBody {
    let ways = FailbackBody::ALL.map(|f| (f.as_str(), f));
    let failback = fields.string("failback");
    let failback = failback.and_then(|t| checked(fields, "failback", t, |t| one_of(t, &ways)));
    FailoverBody {
        ttl_min_s: fields.int("ttl_min_s", 1..=86_400).map(|v| v.0),
        ttl_max_s: fields.int("ttl_max_s", 1..=86_400).map(|v| v.0),
        failback: failback.unwrap_or_default(),
    }
}

fn sharing(fields: &mut Table<'_, '_, '_>) -> SharingBody {
    let default = SharingBody::default();
    let strategies = StrategyBody::ALL.map(|s| (s.as_str(), s));
    let strategy = fields.string("strategy");
    let strategy = strategy.and_then(|t| checked(fields, "strategy", t, |t| one_of(t, &strategies)));
    SharingBody {
        tie_band_ms: fields.number("tie_band_ms").unwrap_or(default.tie_band_ms),
        tie_band_percent: fields.number("tie_band_percent").unwrap_or(default.tie_band_percent),
        strategy: strategy.unwrap_or(default.strategy),
        order: mirror_names(fields, "order"),
        explore_percent: fields.number("explore_percent").unwrap_or(default.explore_percent),
        rules: rules(fields),
    }
}

fn mirror_names(fields: &mut Table<'_, '_, '_>, key: &'static str) -> Vec<String> {
    let texts = fields.strings(key).unwrap_or_default();
    texts.into_iter().filter_map(|t| checked(fields, key, t, name::short)).collect()
}

fn rules(fields: &mut Table<'_, '_, '_>) -> Vec<RuleBody> {
    let effects = RuleEffectBody::ALL.map(|e| (e.as_str(), e));
    let mut out = Vec::new();
    for table in fields.tables("rules") {
        let entry = fields.entry.clone();
        let mut inner = Fields::new(fields.source, entry, "rules.", table);
        let effect = inner.required("effect");
        let effect = effect.and_then(|t| checked(&mut inner, "effect", t, |t| one_of(t, &effects)));
        let country = inner.string("country").and_then(|t| checked(&mut inner, "country", t, country));
        let asn = inner.int("asn", 1..=u64::from(u32::MAX)).map(|v| v.0);
        let text = inner.string("prefix");
        let prefix = text.and_then(|t| checked(&mut inner, "prefix", t, prefix::parse));
        let mirrors = mirror_names(&mut inner, "mirrors");
        inner.finish();
        if let Some(effect) = effect {
            out.push(RuleBody { effect, country, asn, prefix: prefix.map(|p| p.to_string()), mirrors });
        }
    }
    out
}

fn hosts(fields: &mut Table<'_, '_, '_>, key: &'static str) -> Vec<String> {
    let texts = fields.strings(key).unwrap_or_default();
    let read = |t| checked(fields, key, t, |h| name::domain(h).map(|_| h.to_owned()));
    texts.into_iter().filter_map(read).collect()
}

fn all_down(fields: &mut Table<'_, '_, '_>) -> Option<AllDownBody> {
    const KEY: &str = "all_down";
    const EXPECTED: &str = "\"last_known\", \"all\", \"no_answer\" or { fallback = [\"203.0.113.1\"] }";
    let (value, span) = fields.any(KEY)?;
    match value {
        DeValue::String(text) => match text.as_ref() {
            "last_known" => return Some(AllDownBody::LastKnown),
            "all" => return Some(AllDownBody::All),
            "no_answer" => return Some(AllDownBody::NoAnswer),
            _ => {}
        },
        DeValue::Table(table) => {
            let entry = fields.entry.clone();
            let mut inner = Fields::new(fields.source, entry, "all_down.", (table, span.clone()));
            let texts = inner.strings("fallback").unwrap_or_default();
            let list = addresses(&mut inner, "fallback", texts);
            inner.finish();
            return Some(AllDownBody::Fallback(list));
        }
        _ => {}
    }
    fields.fail_value(KEY, &span, format!("found {}, expected {EXPECTED}", shown(value)));
    None
}

fn records(fields: &mut Table<'_, '_, '_>) -> Vec<RecordBody> {
    let mut out = Vec::new();
    for table in fields.tables("records") {
        let entry = fields.entry.clone();
        let mut inner = Fields::new(fields.source, entry, "records.", table);
        let (owner, kind) = (inner.string("name"), inner.required("type"));
        let ttl_s = inner.int("ttl_s", 0..=2_147_483_647).map_or(3600, |v| v.0);
        let value = inner.required("value");
        inner.finish();
        if let (Some((kind, _)), Some((value, _))) = (kind, value) {
            let name = owner.map_or("@", |o| o.0).into();
            out.push(RecordBody { name, kind: kind.into(), ttl_s, value: value.into() });
        }
    }
    out
}

fn place(fields: &mut Table<'_, '_, '_>) -> Option<PlaceBody> {
    let table = fields.table("place")?;
    let entry = fields.entry.clone();
    let mut inner = Fields::new(fields.source, entry, "place.", table);
    let place = parts_of_place(&mut inner);
    inner.finish();
    Some(place)
}

fn parts_of_place(fields: &mut Table<'_, '_, '_>) -> PlaceBody {
    PlaceBody {
        latitude: fields.number("latitude"),
        longitude: fields.number("longitude"),
        country: fields.string("country").and_then(|c| checked(fields, "country", c, country)),
        asn: fields.int("asn", 1..=u64::from(u32::MAX)).map(|v| v.0),
    }
}

fn country(text: &str) -> Result<[u8; 2], String> {
    match text.to_ascii_uppercase().as_bytes() {
        [a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok([*a, *b]),
        _ => Err(format!("found {text:?}, expected two letters such as \"GB\"")),
    }
}

fn node(fields: &mut Table<'_, '_, '_>) -> Option<Read> {
    let key = fields.required("name").and_then(|n| checked(fields, "name", n, EntryKey::node));
    fields.entry = key.as_ref().map(ToString::to_string).or(fields.entry.take());
    let id = fields.string("id");
    let domains = fields.strings("domains").unwrap_or_default();
    let revoked = fields.bool("revoked");
    let body = NodeBody {
        id: id.and_then(|t| checked(fields, "id", t, |t| Id::parse(t, Role::Node).map(|id| id.to_string()))),
        domains: domains.into_iter().filter_map(|t| checked(fields, "domains", t, name::domain)).collect(),
        revoked: revoked.unwrap_or_default(),
        place: place(fields),
        made_by: None,
    };
    Some(Read { key: key?, content: Content::Node(body), revoked_given: revoked.is_some() })
}

fn mirror(fields: &mut Table<'_, '_, '_>) -> Option<Read> {
    let domain = fields.required("domain").and_then(|d| checked(fields, "domain", d, name::domain));
    let short = fields.required("name").and_then(|n| checked(fields, "name", n, name::short));
    let key = domain.zip(short).and_then(|(d, n)| EntryKey::mirror(&format!("{d}/{n}")).ok());
    fields.entry = key.as_ref().map(ToString::to_string).or(fields.entry.take());
    let default = MirrorBody::default();
    let node = fields.string("node");
    let texts = fields.strings("addresses").unwrap_or_default();
    let hostname = fields.string("hostname");
    let body = MirrorBody {
        node: node.and_then(|t| checked(fields, "node", t, name::short)),
        addresses: addresses(fields, "addresses", texts),
        hostname: hostname
            .and_then(|t| checked(fields, "hostname", t, |h| name::domain(h).map(|_| h.to_owned()))),
        port: fields.int("port", 1..=65_535).map_or(default.port, |v| v.0),
        weight: fields.int("weight", 0..=u64::from(u32::MAX)).map_or(default.weight, |v| v.0),
        health: health(fields).unwrap_or(default.health),
        probe: probe(fields).map_or(default.probe, Box::new),
        url: fields.string("url").map(|(u, _)| u.into()),
        ingress: fields.int("ingress", 1..=65_535).map(|v| v.0),
        place: place(fields),
        made_by: None,
    };
    Read::new(key?, Content::Mirror(body))
}

/// `health = "agent" | "probe" | "manual"`; with `"manual"`, `state` is required, else it is none.
fn health(fields: &mut Table<'_, '_, '_>) -> Option<HealthBody> {
    let health = fields.string("health");
    let state = fields.string("state");
    let choices = [("agent", Some(HealthBody::Agent)), ("probe", Some(HealthBody::Probe)), ("manual", None)];
    let mode = match health {
        Some(text) => checked(fields, "health", text, |t| one_of(t, &choices))?,
        None => Some(HealthBody::Agent),
    };
    match (mode, state) {
        (Some(mode), None) => Some(mode),
        (Some(_), Some((_, span))) => {
            fields.fail_value("state", &span, "stands only beside health = \"manual\"");
            None
        }
        (None, Some(text)) => {
            let choices = [("up", HealthBody::ManualUp), ("down", HealthBody::ManualDown)];
            checked(fields, "state", text, |t| one_of(t, &choices))
        }
        (None, None) => {
            let start = fields.start;
            fields.fail(start, "health = \"manual\" needs state = \"up\" or state = \"down\"".into());
            None
        }
    }
}

fn probe(fields: &mut Table<'_, '_, '_>) -> Option<ProbeBody> {
    let table = fields.table("probe")?;
    let entry = fields.entry.clone();
    let mut inner = Fields::new(fields.source, entry, "probe.", table);
    let kinds = ProbeKind::ALL.map(|kind| (kind.as_str(), kind));
    let kind = inner.string("kind");
    let (millis, count) = (u64::from(u32::MAX), 255);
    let text = |f: &mut Table<'_, '_, '_>, key| f.string(key).map(|(t, _)| t.to_owned());
    let probe = ProbeBody {
        kind: kind
            .and_then(|k| checked(&mut inner, "kind", k, |t| one_of(t, &kinds)))
            .unwrap_or(ProbeKind::Tcp),
        interval_ms: inner.int("interval_ms", 100..=millis).map(|v| v.0),
        timeout_ms: inner.int("timeout_ms", 10..=millis).map(|v| v.0),
        rise: inner.int("rise", 1..=count).map(|v| v.0),
        fall: inner.int("fall", 1..=count).map(|v| v.0),
        path: text(&mut inner, "path"),
        host: text(&mut inner, "host"),
        status: inner.pair("status"),
        body_contains: text(&mut inner, "body_contains"),
        verify: inner.bool("verify"),
        min_days_to_expiry: inner.int("min_days_to_expiry", 0..=u64::from(u32::MAX)).map(|v| v.0),
        alpn: inner.strings("alpn").map(|names| names.into_iter().map(|(name, _)| name.to_owned()).collect()),
        send: text(&mut inner, "send"),
        expect: text(&mut inner, "expect"),
        steps: steps(&mut inner),
        query: text(&mut inner, "query"),
        query_type: text(&mut inner, "query_type"),
        rcode: text(&mut inner, "rcode"),
        answer: text(&mut inner, "answer"),
    };
    inner.finish();
    Some(probe)
}

fn steps(fields: &mut Table<'_, '_, '_>) -> Option<Vec<StepBody>> {
    // No list is not an empty one.
    let given = fields.has("steps");
    let mut out = Vec::new();
    for table in fields.tables("steps") {
        let entry = fields.entry.clone();
        let mut inner = Fields::new(fields.source, entry, "probe.steps.", table);
        let (send, expect) = (inner.string("send"), inner.string("expect"));
        inner.finish();
        out.push(StepBody {
            send: send.map(|(t, _)| t.to_owned()),
            expect: expect.map(|(t, _)| t.to_owned()),
        });
    }
    given.then_some(out)
}

fn person(fields: &mut Table<'_, '_, '_>) -> Option<Read> {
    let id = fields.required("id").and_then(|t| checked(fields, "id", t, |t| Id::parse(t, Role::Person)));
    let key = id.map(|id| EntryKey::person(&id));
    fields.entry = key.as_ref().map(ToString::to_string).or(fields.entry.take());
    let name = fields.string("name").map(|(n, _)| n.to_owned()).unwrap_or_default();
    Read::new(key?, Content::Person(PersonBody { name }))
}

fn place_override(fields: &mut Table<'_, '_, '_>) -> Option<Read> {
    let prefix = fields.required("prefix");
    let key = prefix.and_then(|t| checked(fields, "prefix", t, EntryKey::place_override));
    fields.entry = key.as_ref().map(ToString::to_string).or(fields.entry.take());
    let body = OverrideBody::from(parts_of_place(fields));
    Read::new(key?, Content::Override(body))
}

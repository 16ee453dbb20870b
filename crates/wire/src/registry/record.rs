//! Static records as people write them → plain data.

use super::bodies::RecordBody;
use crate::name;
use data_encoding::HEXLOWER_PERMISSIVE;
use nearmost_core::registry::{StaticData, StaticRecord};
use std::collections::{HashMap, HashSet};
use std::str::FromStr;

/// Longest TTL: the highest bit has another meaning (RFC 2181 §8).
const MAX_TTL_S: u32 = i32::MAX as u32;
/// Most bytes of one string of a TXT record (RFC 1035 §3.3).
const MAX_STRING: usize = 255;
/// Most bytes of one TXT record: far more than anyone publishes, and it fits a message over TCP.
const MAX_TEXT: usize = 16 * 1024;
/// Most bytes of the digest of a DS record; the longest in use has 48.
const MAX_DIGEST: usize = 64;

/// A static record of a domain; the error names the record.
pub(super) fn static_record(domain: &str, body: &RecordBody) -> Result<StaticRecord, String> {
    let owner = owner(domain, &body.name)?;
    let named = |e: String| format!("record {} {} {:?}: {e}", body.name, body.kind, body.value);
    if body.ttl_s > MAX_TTL_S {
        return Err(named(format!("ttl_s = {}: expected at most {MAX_TTL_S}", body.ttl_s)));
    }
    let data = data(body).map_err(named)?;
    check_place(domain, &owner, &data).map_err(named)?;
    Ok(StaticRecord { name: owner.into(), ttl_s: body.ttl_s, data })
}

/// The full name of an owner as people write it; its first label may be `*`.
fn owner(domain: &str, written: &str) -> Result<String, String> {
    let named = |e: name::NameError| format!("record {written}: {e}");
    if matches!(written, "@" | "") {
        return Ok(domain.to_owned());
    }
    check_owner(domain, written)?;
    if !written.contains('*') {
        return name::domain(&format!("{written}.{domain}")).map_err(named);
    }
    let above = match written.strip_prefix('*') {
        Some("") => domain.to_owned(),
        Some(rest) => match rest.strip_prefix('.') {
            Some(rest) if !rest.contains('*') => format!("{rest}.{domain}"),
            _ => return Err(wildcard_form(written)),
        },
        None => return Err(wildcard_form(written)),
    };
    let above = name::domain(&above).map_err(named)?;
    let full = format!("*.{above}");
    match full.len() > name::MAX_CHARS {
        true => Err(named(name::NameError::TooLong(full))),
        false => Ok(full),
    }
}

fn wildcard_form(written: &str) -> String {
    format!("record {written}: \"*\" is the whole first label of a name, or there is none")
}

/// Records that cannot stand everywhere.
fn check_place(domain: &str, owner: &str, data: &StaticData) -> Result<(), String> {
    let kind = match data {
        StaticData::Ns(_) => "NS",
        StaticData::Ds { .. } => "DS",
        _ => return Ok(()),
    };
    if owner.starts_with("*.") {
        // RFC 4592 §4.2 leaves open what it would mean.
        return Err(format!("{kind} at a wildcard delegates nothing; name the part"));
    }
    match (kind, owner == domain) {
        ("DS", true) => Err("the keys of the domain itself are told by the zone above it".into()),
        _ => Ok(()),
    }
}

/// What holds among the records of a domain.
///
/// # Errors
/// Names the record that breaks it.
pub(super) fn check(domain: &str, records: &[StaticRecord]) -> Result<(), String> {
    let twice = records
        .iter()
        .enumerate()
        .find(|(at, r)| records[..*at].iter().any(|o| o.name == r.name && o.data == r.data));
    if let Some((_, record)) = twice {
        return Err(format!("record {} is there twice: {:?}", record.name, record.data));
    }
    check_delegations(records)?;
    check_cnames(domain, records)
}

/// DS stands where the domain delegates (RFC 4035 §2.4), and nowhere else.
fn check_delegations(records: &[StaticRecord]) -> Result<(), String> {
    let of = |wanted: fn(&StaticData) -> bool| records.iter().filter(move |r| wanted(&r.data));
    let cuts: HashSet<&str> = of(|d| matches!(d, StaticData::Ns(_))).map(|r| &*r.name).collect();
    match of(|d| matches!(d, StaticData::Ds { .. })).find(|r| !cuts.contains(&*r.name)) {
        Some(r) => Err(format!("record DS at {}: no NS record delegates that name", r.name)),
        None => Ok(()),
    }
}

/// A CNAME must be alone at its owner (RFC 1034 §3.6.2), never at the domain itself, and lead
/// somewhere.
fn check_cnames(domain: &str, records: &[StaticRecord]) -> Result<(), String> {
    for r in records.iter().filter(|r| matches!(r.data, StaticData::Cname(_))) {
        if *r.name == *domain {
            return Err("record CNAME at @: the domain itself has other records".into());
        }
        if records.iter().filter(|o| o.name == r.name).count() > 1 {
            return Err(format!("record CNAME at {}: other records stand at the same name", r.name));
        }
    }
    let aliases: HashMap<&str, &str> = records
        .iter()
        .filter_map(|r| match &r.data {
            StaticData::Cname(target) => Some((&*r.name, target.as_str())),
            _ => None,
        })
        .collect();
    for (owner, target) in &aliases {
        let mut at = *target;
        // Whoever has followed more aliases than there are goes in circles.
        for _ in 0..=aliases.len() {
            match aliases.get(at) {
                Some(next) if at != *owner => at = next,
                _ => break,
            }
        }
        if aliases.contains_key(at) {
            return Err(format!("record CNAME at {owner}: it leads back to {at} for ever"));
        }
    }
    Ok(())
}

/// An owner that was written in full by mistake.
fn check_owner(domain: &str, relative: &str) -> Result<(), String> {
    let written = relative.to_ascii_lowercase();
    let Some(rest) = written.strip_suffix(domain) else { return Ok(()) };
    match rest.strip_suffix('.') {
        Some(short) => Err(format!(
            "record {relative}: names are relative to {domain}, so this is {relative}.{domain}; write {short:?}"
        )),
        None if rest.is_empty() => Err(format!("record {relative}: write \"@\" for the domain itself")),
        None => Ok(()),
    }
}

fn data(body: &RecordBody) -> Result<StaticData, String> {
    let words: Vec<&str> = body.value.split_whitespace().collect();
    let host = |text: &str| name::domain(text).map_err(|e| e.to_string());
    // The root says that there is no such service (RFC 7505 §3, RFC 2782).
    let host_or_none = |text: &str| if text == "." { Ok(".".to_owned()) } else { host(text) };
    Ok(match (body.kind.to_ascii_uppercase().as_str(), words.as_slice()) {
        ("A", [addr]) => StaticData::A(parse(addr, "an IPv4 address")?),
        ("AAAA", [addr]) => StaticData::Aaaa(parse(addr, "an IPv6 address")?),
        ("CNAME", [target]) => StaticData::Cname(host(target)?),
        ("NS", [target]) => StaticData::Ns(host(target)?),
        ("MX", [preference, exchange]) => {
            let preference = parse(preference, "a preference")?;
            StaticData::Mx { preference, exchange: host_or_none(exchange)? }
        }
        ("TXT", _) => StaticData::Txt(texts(&body.value)?),
        ("DS", [key_tag, algorithm, digest_type, digest @ ..]) if !digest.is_empty() => StaticData::Ds {
            key_tag: parse(key_tag, "a key tag")?,
            algorithm: parse(algorithm, "an algorithm's number")?,
            digest_type: parse(digest_type, "a digest type's number")?,
            // Zone files may break it up (RFC 4034 §5.3).
            digest: digest_of(digest_type, &digest.concat())?,
        },
        ("CAA", [flags, tag, _, ..]) => caa(flags, tag, &body.value)?,
        ("SRV", [priority, weight, port, target]) => StaticData::Srv {
            priority: parse(priority, "a priority")?,
            weight: parse(weight, "a weight")?,
            port: parse(port, "a port")?,
            target: host_or_none(target)?,
        },
        ("A" | "AAAA" | "CNAME" | "NS", _) => return Err("expected one word".into()),
        ("MX", _) => return Err("expected a preference and a host name".into()),
        ("DS", _) => return Err("expected key tag, algorithm, digest type and digest".into()),
        ("CAA", _) => return Err("expected flags, a tag and a value".into()),
        ("SRV", _) => return Err("expected priority, weight, port and target".into()),
        _ => return Err("unknown type; expected A, AAAA, CNAME, MX, TXT, NS, DS, CAA or SRV".into()),
    })
}

fn parse<T: FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not {what}"))
}

/// A digest in hexadecimal, of the length that its type has.
fn digest_of(digest_type: &str, text: &str) -> Result<Vec<u8>, String> {
    let digest = HEXLOWER_PERMISSIVE
        .decode(text.as_bytes())
        .map_err(|_| format!("digest {text:?} is not hexadecimal, two digits a byte"))?;
    // SHA-1, SHA-256 and SHA-384 (RFC 4034 §5.1.3, RFC 4509, RFC 6605).
    let expected = match digest_type {
        "1" => Some(20),
        "2" => Some(32),
        "4" => Some(48),
        _ => None,
    };
    match expected {
        Some(expected) if digest.len() != expected => {
            Err(format!("a digest of {} bytes; type {digest_type} has {expected}", digest.len()))
        }
        None if digest.len() > MAX_DIGEST => {
            Err(format!("a digest of {} bytes; at most {MAX_DIGEST}", digest.len()))
        }
        _ => Ok(digest),
    }
}

/// The strings of a TXT record. What is longer than a string may be is split: whoever reads the record
/// puts the pieces together again (RFC 7208 §3.3 says so of SPF, RFC 6376 §3.6.2.2 of DKIM).
fn texts(value: &str) -> Result<Vec<String>, String> {
    let mut pieces = Vec::new();
    for string in strings(value)? {
        let mut rest = string.as_str();
        while rest.len() > MAX_STRING {
            // Characters have at most four bytes.
            let end =
                (MAX_STRING - 3..=MAX_STRING).rfind(|at| rest.is_char_boundary(*at)).unwrap_or(MAX_STRING);
            let (piece, after) = rest.split_at(end);
            pieces.push(piece.to_owned());
            rest = after;
        }
        pieces.push(rest.to_owned());
    }
    let bytes: usize = pieces.iter().map(|p| p.len() + 1).sum();
    match bytes > MAX_TEXT {
        true => Err(format!("a text of {bytes} bytes; at most {MAX_TEXT}")),
        false => Ok(pieces),
    }
}

/// One string without quotes, or any number of quoted ones with `\"` and `\\` within.
fn strings(value: &str) -> Result<Vec<String>, String> {
    let value = value.trim();
    if !value.starts_with('"') {
        return Ok(vec![value.to_owned()]);
    }
    let mut strings = Vec::new();
    let mut rest = value.chars().peekable();
    while let Some(open) = rest.next() {
        if open.is_whitespace() {
            continue;
        }
        if open != '"' {
            return Err(format!("found {open:?} between quoted strings"));
        }
        strings.push(quoted(&mut rest)?);
    }
    Ok(strings)
}

fn quoted(rest: &mut impl Iterator<Item = char>) -> Result<String, String> {
    let mut text = String::new();
    while let Some(c) = rest.next() {
        match c {
            '"' => return Ok(text),
            '\\' => text.push(rest.next().ok_or("an unfinished escape")?),
            other => text.push(other),
        }
    }
    Err("a quote is not closed".into())
}

/// The only flag of a CAA record (RFC 8659 §4.1).
const CRITICAL: u8 = 128;

fn caa(flags: &str, tag: &str, value: &str) -> Result<StaticData, String> {
    let flags: u8 = parse(flags, "a flag byte")?;
    if flags & !CRITICAL != 0 {
        return Err(format!("flags {flags}: 0, or {CRITICAL} for critical; the others mean nothing yet"));
    }
    if tag.is_empty() || tag.len() > MAX_STRING || !tag.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(format!("tag {tag:?}: expected letters and digits"));
    }
    // The value is all that follows the second word, with or without quotes.
    let after = value.trim_start().split_once(char::is_whitespace).map_or("", |(_, r)| r.trim_start());
    let after = after.split_once(char::is_whitespace).map_or("", |(_, r)| r.trim());
    match strings(after)?.as_slice() {
        [value] if value.len() > MAX_TEXT => {
            Err(format!("a value of {} bytes; at most {MAX_TEXT}", value.len()))
        }
        [value] => {
            Ok(StaticData::Caa { critical: flags & CRITICAL != 0, tag: tag.into(), value: value.clone() })
        }
        _ => Err("expected one value".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, value: &str) -> Result<StaticData, String> {
        let body = RecordBody { name: "@".into(), kind: kind.into(), ttl_s: 60, value: value.into() };
        static_record("example.com", &body).map(|r| r.data)
    }

    #[test]
    fn every_type_is_read() {
        assert_eq!(read("a", "192.0.2.1"), Ok(StaticData::A([192, 0, 2, 1].into())));
        assert!(matches!(read("AAAA", "2001:db8::1"), Ok(StaticData::Aaaa(_))));
        assert_eq!(
            read("MX", "10 Mail.Example.com."),
            Ok(StaticData::Mx { preference: 10, exchange: "mail.example.com".into() })
        );
        assert_eq!(read("TXT", "v=spf1 -all"), Ok(StaticData::Txt(vec!["v=spf1 -all".into()])));
        assert_eq!(read("TXT", r#""a b" "c\"d""#), Ok(StaticData::Txt(vec!["a b".into(), "c\"d".into()])));
        assert_eq!(
            read("CAA", r#"128 issue "ca.example""#),
            Ok(StaticData::Caa { critical: true, tag: "issue".into(), value: "ca.example".into() })
        );
        assert_eq!(
            read("SRV", "1 2 443 a.example"),
            Ok(StaticData::Srv { priority: 1, weight: 2, port: 443, target: "a.example".into() })
        );
        assert_eq!(read("NS", "ns1.example."), Ok(StaticData::Ns("ns1.example".into())));
    }

    #[test]
    fn wrong_records_say_what_is_wrong() {
        for (kind, value, says) in [
            ("A", "2001:db8::1", "is not an IPv4 address"),
            ("A", "1.2.3.4 5.6.7.8", "expected one word"),
            ("MX", "mail.example", "preference"),
            ("TXT", "\"open", "not closed"),
            ("SRV", "1 2 99999 a.example", "is not a port"),
            ("NAPTR", "x", "unknown type"),
            ("CAA", "0 issue", "expected flags"),
            ("CAA", "1 issue x", "flags 1"),
        ] {
            let error = read(kind, value).unwrap_err();
            assert!(error.contains(says) && error.contains(kind), "{kind} {value}: {error}");
        }
    }

    #[test]
    fn long_texts_are_split_where_characters_end() {
        let lengths = |value: &str| match read("TXT", value).unwrap() {
            StaticData::Txt(strings) => strings.iter().map(String::len).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(lengths(&"x".repeat(255)), [255]);
        assert_eq!(lengths(&"x".repeat(256)), [255, 1]);
        assert_eq!(lengths(&format!("\"{}\" \"b\"", "x".repeat(600))), [255, 255, 90, 1]);
        assert_eq!(lengths(&"é".repeat(128)), [254, 2]);
        assert_eq!(lengths(""), [0]);
        assert!(read("TXT", &"x".repeat(MAX_TEXT)).unwrap_err().contains("at most 16384"));
        let long = format!("0 issue \"{}\"", "x".repeat(300));
        assert!(matches!(read("CAA", &long), Ok(StaticData::Caa { value, .. }) if value.len() == 300));
    }

    #[test]
    fn names_may_begin_with_a_wildcard() {
        let at = |name: &str, kind: &str, value: &str| {
            let body = RecordBody { name: name.into(), kind: kind.into(), ttl_s: 60, value: value.into() };
            static_record("example.com", &body).map(|r| r.name.to_string())
        };
        assert_eq!(at("*", "A", "192.0.2.1"), Ok("*.example.com".into()));
        assert_eq!(at("*.Sub.a", "CNAME", "x.example"), Ok("*.sub.a.example.com".into()));
        for bad in ["a.*", "*a", "a*.b", "*.*", "**", "*.", "*..a", "*.a.*", "x.*.y"] {
            let error = at(bad, "A", "192.0.2.1").unwrap_err();
            assert!(error.contains(bad), "{bad}: {error}");
        }
        for (kind, value) in [("NS", "ns.example"), ("DS", "1 13 2 00")] {
            assert!(at("*.b", kind, value).is_err(), "{kind}");
        }
        let labels = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(47)].join(".");
        assert_eq!(format!("*.{labels}.example.com").len(), 253);
        assert!(at(&format!("*.{labels}"), "A", "192.0.2.1").is_ok());
        let error = at(&format!("*.{labels}e"), "A", "192.0.2.1").unwrap_err();
        assert!(error.contains("253"), "{error}");
    }

    #[test]
    fn no_service_is_told_by_the_root() {
        assert_eq!(read("MX", "0 ."), Ok(StaticData::Mx { preference: 0, exchange: ".".into() }));
        let none = StaticData::Srv { priority: 0, weight: 0, port: 0, target: ".".into() };
        assert_eq!(read("SRV", "0 0 0 ."), Ok(none));
        assert!(read("CNAME", ".").is_err() && read("NS", ".").is_err());
    }

    #[test]
    fn ttls_have_31_bits() {
        let with = |ttl_s| {
            let body = RecordBody { name: "a".into(), kind: "A".into(), ttl_s, value: "192.0.2.1".into() };
            static_record("example.com", &body).map(|r| r.ttl_s)
        };
        assert_eq!((with(0), with(MAX_TTL_S)), (Ok(0), Ok(2_147_483_647)));
        assert!(with(MAX_TTL_S + 1).unwrap_err().contains("2147483648"));
    }

    #[test]
    fn keys_are_vouched_for_only_where_a_part_is_delegated() {
        let at = |name: &str, kind: &str, value: &str| {
            let body = RecordBody { name: name.into(), kind: kind.into(), ttl_s: 60, value: value.into() };
            static_record("example.com", &body)
        };
        let sha256 = "ab".repeat(32);
        let ds = at("sub", "ds", &format!("60485 13 2 {} {}", &sha256[..10], &sha256[10..].to_uppercase()));
        let expected =
            StaticData::Ds { key_tag: 60485, algorithm: 13, digest_type: 2, digest: vec![0xab; 32] };
        assert_eq!(ds.as_ref().map(|r| &r.data), Ok(&expected));
        let ns = at("sub", "NS", "ns.example").unwrap();
        assert_eq!(check("example.com", &[ns, ds.clone().unwrap()]), Ok(()));
        let alone = check("example.com", &[ds.unwrap()]).unwrap_err();
        assert!(alone.contains("sub.example.com") && alone.contains("delegates"), "{alone}");
        for (name, value, says) in [
            ("@", format!("1 13 2 {sha256}"), "zone above"),
            ("sub", "1 13 2 abcd".to_owned(), "2 bytes; type 2 has 32"),
            ("sub", format!("1 13 9 {}", "ab".repeat(65)), "at most 64"),
            ("sub", "1 13 2 xy".to_owned(), "hexadecimal"),
            ("sub", "65536 13 2 ab".to_owned(), "key tag"),
            ("sub", "1 13 2".to_owned(), "expected key tag"),
        ] {
            let error = at(name, "DS", &value).unwrap_err();
            assert!(error.contains(says), "{value}: {error}");
        }
    }

    #[test]
    fn a_cname_is_alone() {
        let at = |name: &str, kind: &str, value: &str| {
            static_record(
                "example.com",
                &RecordBody { name: name.into(), kind: kind.into(), ttl_s: 60, value: value.into() },
            )
            .unwrap()
        };
        let alone = [at("www", "CNAME", "example.com")];
        assert_eq!(check_cnames("example.com", &alone), Ok(()));
        let both = [at("www", "CNAME", "example.com"), at("www", "TXT", "x")];
        assert!(check_cnames("example.com", &both).unwrap_err().contains("www.example.com"));
        assert!(check_cnames("example.com", &[at("@", "CNAME", "a.example")]).is_err());
    }

    #[test]
    fn sets_of_records_that_make_no_sense() {
        let at = |name: &str, kind: &str, value: &str| {
            static_record(
                "a.test",
                &RecordBody { name: name.into(), kind: kind.into(), ttl_s: 60, value: value.into() },
            )
        };
        let all = |records: &[(&str, &str, &str)]| {
            let records: Vec<_> = records.iter().map(|(n, k, v)| at(n, k, v).unwrap()).collect();
            check("a.test", &records)
        };
        assert_eq!(all(&[("www", "A", "192.0.2.1"), ("www", "A", "192.0.2.2")]), Ok(()));
        let twice = all(&[("www", "A", "192.0.2.1"), ("WWW", "a", "192.0.2.1")]).unwrap_err();
        assert!(twice.contains("www.a.test") && twice.contains("twice"), "{twice}");
        let chain = [("x", "CNAME", "y.a.test"), ("y", "CNAME", "z.a.test"), ("z", "CNAME", "a.test")];
        assert_eq!(all(&chain), Ok(()));
        for circle in [
            &[("x", "CNAME", "x.a.test")][..],
            &[("x", "CNAME", "y.a.test"), ("y", "CNAME", "X.a.test.")],
            &[("w", "CNAME", "x.a.test"), ("x", "CNAME", "y.a.test"), ("y", "CNAME", "x.a.test")],
        ] {
            assert!(all(circle).unwrap_err().contains("for ever"), "{circle:?}");
        }
        let full = at("www.a.test", "A", "192.0.2.1").unwrap_err();
        assert!(full.contains("write \"www\""), "{full}");
        assert!(at("A.test", "A", "192.0.2.1").unwrap_err().contains("\"@\""));
        assert!(at("xa.test", "A", "192.0.2.1").is_ok(), "another label that ends alike");
    }
}

//! Static records as people write them → plain data.

use super::bodies::RecordBody;
use crate::name;
use nearmost_core::registry::{StaticData, StaticRecord};
use std::collections::HashMap;
use std::str::FromStr;

/// A static record of a domain; the error names the record.
pub(super) fn static_record(domain: &str, body: &RecordBody) -> Result<StaticRecord, String> {
    let owner = match body.name.as_str() {
        "@" | "" => domain.to_owned(),
        relative => {
            check_owner(domain, relative)?;
            name::domain(&format!("{relative}.{domain}")).map_err(|e| format!("record: {e}"))?
        }
    };
    let data = data(body).map_err(|e| format!("record {} {} {:?}: {e}", body.name, body.kind, body.value))?;
    Ok(StaticRecord { name: owner.into(), ttl_s: body.ttl_s, data })
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
    check_cnames(domain, records)
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
    Ok(match (body.kind.to_ascii_uppercase().as_str(), words.as_slice()) {
        ("A", [addr]) => StaticData::A(parse(addr, "an IPv4 address")?),
        ("AAAA", [addr]) => StaticData::Aaaa(parse(addr, "an IPv6 address")?),
        ("CNAME", [target]) => StaticData::Cname(host(target)?),
        ("NS", [target]) => StaticData::Ns(host(target)?),
        ("MX", [preference, exchange]) => {
            StaticData::Mx { preference: parse(preference, "a preference")?, exchange: host(exchange)? }
        }
        ("TXT", _) => StaticData::Txt(texts(&body.value)?),
        ("CAA", [flags, tag, _, ..]) => caa(flags, tag, &body.value)?,
        ("SRV", [priority, weight, port, target]) => StaticData::Srv {
            priority: parse(priority, "a priority")?,
            weight: parse(weight, "a weight")?,
            port: parse(port, "a port")?,
            target: host(target)?,
        },
        ("A" | "AAAA" | "CNAME" | "NS", _) => return Err("expected one word".into()),
        ("MX", _) => return Err("expected a preference and a host name".into()),
        ("CAA", _) => return Err("expected flags, a tag and a value".into()),
        ("SRV", _) => return Err("expected priority, weight, port and target".into()),
        _ => return Err("unknown type; expected A, AAAA, CNAME, MX, TXT, NS, CAA or SRV".into()),
    })
}

fn parse<T: FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not {what}"))
}

/// One string without quotes, or any number of quoted ones with `\"` and `\\` within.
fn texts(value: &str) -> Result<Vec<String>, String> {
    let value = value.trim();
    let mut strings = Vec::new();
    if !value.starts_with('"') {
        strings.push(value.to_owned());
    } else {
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
    }
    match strings.iter().find(|s| s.len() > 255) {
        Some(long) => {
            Err(format!("a string of {} bytes; at most 255, split it into quoted strings", long.len()))
        }
        None => Ok(strings),
    }
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

fn caa(flags: &str, tag: &str, value: &str) -> Result<StaticData, String> {
    let flags: u8 = parse(flags, "a flag byte")?;
    if tag.is_empty() || !tag.chars().all(|c| c.is_ascii_alphanumeric()) {
        return Err(format!("tag {tag:?}: expected letters and digits"));
    }
    // The value is all that follows the second word, with or without quotes.
    let after = value.trim_start().split_once(char::is_whitespace).map_or("", |(_, r)| r.trim_start());
    let after = after.split_once(char::is_whitespace).map_or("", |(_, r)| r.trim());
    match texts(after)?.as_slice() {
        [value] => Ok(StaticData::Caa { critical: flags & 128 != 0, tag: tag.into(), value: value.clone() }),
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
        ] {
            let error = read(kind, value).unwrap_err();
            assert!(error.contains(says) && error.contains(kind), "{kind} {value}: {error}");
        }
        assert!(read("TXT", &"x".repeat(256)).unwrap_err().contains("256 bytes"));
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

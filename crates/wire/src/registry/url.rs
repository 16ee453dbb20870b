//! Base URLs of mirrors (RFC 3986), as strictly as redirects need.

use crate::name;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Checks `http://host[:port][/path]`: no user, query or fragment, since paths are appended to it.
///
/// # Errors
/// Says which part is wrong.
pub(super) fn check(text: &str) -> Result<(), String> {
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(format!("character {bad:?} is not allowed"));
    }
    let scheme_ends = text.find("://").map(|at| (text[..at].to_ascii_lowercase(), &text[at + 3..]));
    let rest = match scheme_ends {
        Some((scheme, rest)) if scheme == "http" || scheme == "https" => rest,
        _ => return Err("expected http:// or https://".into()),
    };
    if let Some(bad) =
        rest.chars().find(|c| matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}'))
    {
        return Err(format!("character {bad:?} is not allowed"));
    }
    if let Some(part) = rest.chars().find(|c| matches!(c, '?' | '#')) {
        let what = if part == '?' { "query" } else { "fragment" };
        return Err(format!("a {what} is not allowed: the path asked for is appended"));
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("a user name or password is not allowed".into());
    }
    let (host, port) = host_and_port(authority)?;
    check_host(host)?;
    if let Some(port) = port
        && !(port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p != 0))
    {
        return Err(format!("port {port:?}: expected 1 to 65535"));
    }
    check_escapes(path)
}

fn host_and_port(authority: &str) -> Result<(&str, Option<&str>), String> {
    let after = match authority.strip_prefix('[') {
        // A literal holds colons of its own.
        Some(literal) => literal.find(']').map(|at| at + 2).ok_or("host: a bracket is not closed")?,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(after);
    match (rest, rest.strip_prefix(':')) {
        ("", _) => Ok((host, None)),
        (_, Some(port)) => Ok((host, Some(port))),
        _ => Err(format!("host: {rest:?} after the address")),
    }
}

fn check_host(host: &str) -> Result<(), String> {
    if let Some(literal) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return match literal.parse::<Ipv6Addr>() {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("host {literal:?} is no IPv6 address")),
        };
    }
    let numeric =
        host.rsplit('.').find(|l| !l.is_empty()).is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    if numeric {
        // Browsers take a name whose last label is a number for an address (URL standard).
        return host.parse::<Ipv4Addr>().map(drop).map_err(|_| format!("host {host:?} is no IPv4 address"));
    }
    name::domain(host).map(drop).map_err(|e| format!("host: {e}"))
}

/// A percent sign begins two hexadecimal digits.
fn check_escapes(path: &str) -> Result<(), String> {
    let mut escapes = path.split('%');
    escapes.next();
    match escapes.find(|e| !e.as_bytes().get(..2).is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit))) {
        Some(_) => Err("a '%' is not followed by two hexadecimal digits".into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn base_urls() {
        for good in [
            "http://a.example",
            "https://a.example/",
            "HTTPS://A.example:8443/base/%20x/",
            "http://192.0.2.1:80",
            "http://[2001:db8::1]",
            "http://[2001:db8::1]:8080/x",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (bad, says) in [
            ("ftp://a.example", "http://"),
            ("a.example", "http://"),
            ("", "http://"),
            ("http://", "empty"),
            ("http:///x", "empty"),
            ("http://:80", "empty"),
            ("http://a..b/", "1 to 63"),
            ("http://a_b c/", "' '"),
            ("http://a.example/\r\nX: y", "'\\r'"),
            ("http://u:p@a.example", "user name"),
            ("http://a.example/?q=1", "query"),
            ("http://a.example/#x", "fragment"),
            ("http://a.example:", "port"),
            ("http://a.example:0", "port"),
            ("http://a.example:65536", "port"),
            ("http://a.example:+80", "port"),
            ("http://a.example:x", "port"),
            ("http://192.0.2.300", "IPv4"),
            ("http://1.2", "IPv4"),
            ("http://[::g]", "IPv6"),
            ("http://[::1", "bracket"),
            ("http://[::1]x", "after"),
            ("http://2001:db8::1/", "IPv4"),
            ("http://a.example/%2", "hexadecimal"),
            ("http://a.example/<b>", "'<'"),
            ("http://é.example/", "'é'"),
        ] {
            let error = check(bad).expect_err(bad);
            assert!(error.contains(says), "{bad}: {error}");
        }
    }
}

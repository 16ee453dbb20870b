//! The kinds of text that keys hold.

use super::{Parsed, TextKind, or_expected};
use ipnet::IpNet;
use nearmost_core::check::{RecordType, ResponseCode, payload};
use nearmost_core::geo::CountryCode;
use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// An address and a port to listen on or send to.
pub(crate) struct Listen;

impl TextKind for Listen {
    type Value = SocketAddr;
    const EXPECTED: &'static str = "an address and port such as 192.0.2.1:53 or [2001:db8::1]:53";

    fn parse(text: &str) -> Parsed<SocketAddr> {
        or_expected::<Self>(text.parse().ok())
    }
}

/// As [`Listen`], or nothing at all for "off".
pub(crate) struct ListenOrOff;

impl TextKind for ListenOrOff {
    type Value = Option<SocketAddr>;
    const EXPECTED: &'static str = "an address and port such as 127.0.0.1:9754, or \"\" for none";

    fn parse(text: &str) -> Parsed<Option<SocketAddr>> {
        match text {
            "" => Ok(None),
            _ => or_expected::<Self>(text.parse().ok().map(Some)),
        }
    }
}

/// A DNS server: an address, with a port unless it is 53.
pub(crate) struct DnsServer;

impl TextKind for DnsServer {
    type Value = SocketAddr;
    const EXPECTED: &'static str =
        "an address such as 192.0.2.53, with a port (192.0.2.53:5353) unless it is 53";

    fn parse(text: &str) -> Parsed<SocketAddr> {
        let bare = || text.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, 53));
        or_expected::<Self>(text.parse().ok().or_else(bare))
    }
}

/// An address without a port.
pub(crate) struct Address;

impl TextKind for Address {
    type Value = IpAddr;
    const EXPECTED: &'static str = "an address such as 192.0.2.1 or 2001:db8::1";

    fn parse(text: &str) -> Parsed<IpAddr> {
        or_expected::<Self>(text.parse().ok())
    }
}

/// A prefix of addresses.
pub(crate) struct Prefix;

impl TextKind for Prefix {
    type Value = IpNet;
    const EXPECTED: &'static str = "a prefix such as 192.0.2.0/24";

    fn parse(text: &str) -> Parsed<IpNet> {
        let net: IpNet = or_expected::<Self>(text.parse().ok())?;
        match net == net.trunc() {
            true => Ok(net),
            false => Err(Cow::Owned(format!("no bits beyond the prefix length, as in {}", net.trunc()))),
        }
    }
}

/// A domain name in its DNS form: lower case, no final dot.
pub(crate) struct DomainName;

impl TextKind for DomainName {
    type Value = String;
    const EXPECTED: &'static str = "a domain name such as play.example.com (labels of 1 to 63 letters, digits, - and _; other scripts as xn--)";

    fn parse(text: &str) -> Parsed<String> {
        or_expected::<Self>(dns_name(text, |b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'))
    }
}

/// The name of a host: as a domain name, without underscores (RFC 1123 section 2.1).
pub(crate) struct HostName;

impl TextKind for HostName {
    type Value = String;
    const EXPECTED: &'static str = "a host name such as ns1.example.com";

    fn parse(text: &str) -> Parsed<String> {
        or_expected::<Self>(dns_name(text, |b| b.is_ascii_alphanumeric() || b == b'-'))
    }
}

/// Lower case and without the final dot, if the labels and the whole have legal lengths and bytes.
fn dns_name(text: &str, allowed: impl Fn(u8) -> bool) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let good = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(&allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // No top-level label is a number (RFC 1123 section 2.1): that is an address, or one mistyped.
    let number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    // 253 characters are 255 bytes on the wire (RFC 1035 section 2.3.4).
    (!number && name.len() <= 253 && name.split('.').all(good)).then(|| name.to_ascii_lowercase())
}

/// A host name or address, and a port: kept as text, resolved when it is used.
pub(crate) struct HostPort;

impl TextKind for HostPort {
    type Value = String;
    const EXPECTED: &'static str = "a host and port such as broker.example.com:7841 or [2001:db8::1]:7841";

    fn parse(text: &str) -> Parsed<String> {
        or_expected::<Self>(host_port(text).then(|| text.to_owned()))
    }
}

fn host_port(text: &str) -> bool {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return address.port() != 0 && !address.ip().is_unspecified();
    }
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    HostName::parse(host).is_ok() && port.parse::<u16>().is_ok_and(|p| p != 0)
}

/// The mailbox of who keeps the zones; empty for the default.
pub(crate) struct Mailbox;

impl TextKind for Mailbox {
    type Value = String;
    const EXPECTED: &'static str = "a mailbox such as hostmaster@example.com";

    fn parse(text: &str) -> Parsed<String> {
        let good = match text.rsplit_once('@') {
            Some((local, domain)) => {
                let legal = |b: u8| b.is_ascii_graphic() && b != b'@' && b != b'\\' && b != b'"';
                (1..=63).contains(&local.len()) && local.bytes().all(legal) && HostName::parse(domain).is_ok()
            }
            None => text.is_empty(),
        };
        or_expected::<Self>(good.then(|| text.to_owned()))
    }
}

/// A country.
pub(crate) struct Country;

impl TextKind for Country {
    type Value = CountryCode;
    const EXPECTED: &'static str = "a country's two letters such as GB (ISO 3166-1)";

    fn parse(text: &str) -> Parsed<CountryCode> {
        or_expected::<Self>(CountryCode::new(text))
    }
}

/// A broker's id.
pub(crate) struct BrokerId;

impl TextKind for BrokerId {
    type Value = String;
    const EXPECTED: &'static str = "a broker's id: nb1 and 52 letters a-z and digits 2-7";

    fn parse(text: &str) -> Parsed<String> {
        or_expected::<Self>(key_id(text, "nb1"))
    }
}

/// A person's id.
pub(crate) struct PersonId;

impl TextKind for PersonId {
    type Value = String;
    const EXPECTED: &'static str = "a person's id: np1 and 52 letters a-z and digits 2-7";

    fn parse(text: &str) -> Parsed<String> {
        or_expected::<Self>(key_id(text, "np1"))
    }
}

/// A prefix and the base32 (RFC 4648, lower case, no padding) of 32 bytes.
fn key_id(text: &str, prefix: &str) -> Option<String> {
    let base32 = text.strip_prefix(prefix)?;
    let alphabet = |b: u8| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b);
    // 52 characters are 260 bits; the last four are zero, which leaves two last characters.
    let good = base32.len() == 52 && base32.bytes().all(alphabet) && base32.ends_with(['a', 'q']);
    good.then(|| text.to_owned())
}

/// A SHA-256 hash in hexadecimal.
pub(crate) struct Sha256;

impl TextKind for Sha256 {
    type Value = [u8; 32];
    const EXPECTED: &'static str = "a SHA-256 hash: 64 hexadecimal digits";

    fn parse(text: &str) -> Parsed<[u8; 32]> {
        or_expected::<Self>(hex(text).and_then(|bytes| bytes.try_into().ok()))
    }
}

/// The bytes of an even number of hexadecimal digits.
fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    if rest.is_empty() { bytes.collect() } else { None }
}

/// A file or folder.
pub(crate) struct FilePath;

impl TextKind for FilePath {
    type Value = PathBuf;
    const EXPECTED: &'static str = "a path";

    fn parse(text: &str) -> Parsed<PathBuf> {
        or_expected::<Self>((!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text)))
    }
}

/// A name that people chose.
pub(crate) struct Name;

impl TextKind for Name {
    type Value = String;
    const EXPECTED: &'static str = "a name: 1 to 255 bytes without control characters";

    fn parse(text: &str) -> Parsed<String> {
        let good = (1..=255).contains(&text.len()) && !text.contains(char::is_control);
        or_expected::<Self>(good.then(|| text.to_owned()))
    }
}

/// What a server says of itself, or nothing.
pub(crate) struct ServerText;

impl TextKind for ServerText {
    type Value = String;
    const EXPECTED: &'static str = "at most 128 bytes without control characters";

    fn parse(text: &str) -> Parsed<String> {
        let good = text.len() <= 128 && !text.contains(char::is_control);
        or_expected::<Self>(good.then(|| text.to_owned()))
    }
}

/// As [`Name`], or nothing for a default.
pub(crate) struct NameOrDefault;

impl TextKind for NameOrDefault {
    type Value = String;
    const EXPECTED: &'static str = "a name: up to 255 bytes without control characters";

    fn parse(text: &str) -> Parsed<String> {
        let good = text.len() <= 255 && !text.contains(char::is_control);
        or_expected::<Self>(good.then(|| text.to_owned()))
    }
}

/// Where a mirror's users are sent by redirects.
pub(crate) struct BaseUrl;

impl TextKind for BaseUrl {
    type Value = String;
    const EXPECTED: &'static str = "a URL such as https://lon.example.com/";

    fn parse(text: &str) -> Parsed<String> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let host = rest.and_then(|rest| rest.split('/').next());
        let good = host.is_some_and(url_host)
            && text.bytes().all(|b| b.is_ascii_graphic())
            && !text.contains(['?', '#', '"', '<', '>', '\\']);
        or_expected::<Self>(good.then(|| text.to_owned()))
    }
}

/// A host name or address, with or without a port.
fn url_host(text: &str) -> bool {
    let v6 = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
    if let Some(v6) = v6 {
        return v6.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let v4 = || text.parse::<std::net::Ipv4Addr>().is_ok();
    host_port(text) || v4() || HostName::parse(text).is_ok()
}

/// Path and query of a request.
pub(crate) struct RequestPath;

impl TextKind for RequestPath {
    type Value = String;
    const EXPECTED: &'static str = "a path such as /healthz";

    fn parse(text: &str) -> Parsed<String> {
        let good = text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        or_expected::<Self>(good.then(|| text.to_owned()))
    }
}

/// Bytes that are sent or looked for: text as it is, or `hex:` and digits.
pub(crate) struct Bytes;

impl TextKind for Bytes {
    type Value = Vec<u8>;
    const EXPECTED: &'static str = "text, or hex: and pairs of hexadecimal digits";

    fn parse(text: &str) -> Parsed<Vec<u8>> {
        or_expected::<Self>(payload(text))
    }
}

/// A protocol's name in TLS (ALPN).
pub(crate) struct Protocol;

impl TextKind for Protocol {
    type Value = String;
    const EXPECTED: &'static str = "a protocol's name of 1 to 255 bytes such as h2";

    fn parse(text: &str) -> Parsed<String> {
        or_expected::<Self>((1..=255).contains(&text.len()).then(|| text.to_owned()))
    }
}

/// A type of DNS records.
pub(crate) struct DnsType;

impl TextKind for DnsType {
    type Value = RecordType;
    const EXPECTED: &'static str = RecordType::EXPECTED;

    fn parse(text: &str) -> Parsed<RecordType> {
        or_expected::<Self>(RecordType::parse(text))
    }
}

/// A response code of DNS.
pub(crate) struct DnsCode;

impl TextKind for DnsCode {
    type Value = ResponseCode;
    const EXPECTED: &'static str = ResponseCode::EXPECTED;

    fn parse(text: &str) -> Parsed<ResponseCode> {
        or_expected::<Self>(ResponseCode::parse(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good<K: TextKind>(texts: &[&str]) {
        for text in texts {
            assert!(K::parse(text).is_ok(), "{text:?} should be {}", K::EXPECTED);
        }
    }

    fn bad<K: TextKind>(texts: &[&str]) {
        for text in texts {
            assert!(K::parse(text).is_err(), "{text:?} should not be {}", K::EXPECTED);
        }
    }

    #[test]
    fn each_kind_takes_what_it_says_and_nothing_else() {
        good::<Listen>(&["0.0.0.0:53", "[::]:0", "[fe80::1%2]:53"]);
        bad::<Listen>(&["", "53", ":53", "0.0.0.0", "localhost:53", "1.2.3.4:65536", "::1:53 "]);
        good::<DnsServer>(&["9.9.9.9", "2620:fe::fe", "9.9.9.9:5353", "[2620:fe::fe]:53"]);
        bad::<DnsServer>(&["", "dns.example", "9.9.9"]);
        good::<Prefix>(&["10.0.0.0/8", "::/0", "2001:db8::/48"]);
        bad::<Prefix>(&["10.0.0.0", "10.0.0.0/33", "10.0.0.1/8", "x/8"]);
        good::<DomainName>(&["play.example.com", "Example.COM.", "_dns.x", "xn--mnchen-3ya.de", "test"]);
        bad::<DomainName>(&[
            "",
            ".",
            "a..b",
            "-a.b",
            "a-.b",
            "a b",
            "münchen.de",
            "a.b/c",
            "*.x",
            &"a".repeat(64),
        ]);
        bad::<DomainName>(&[&["a".repeat(63).as_str(); 4].join(".")]);
        good::<HostName>(&["ns1.example.com"]);
        bad::<HostName>(&["_ns.example.com", "192.0.2.1", "192.0.2.300", "7"]);
        good::<HostPort>(&["b.example.com:7841", "192.0.2.1:1", "[::1]:7841", "localhost:9"]);
        bad::<HostPort>(&[
            "b.example.com",
            "b:0",
            "0.0.0.0:1",
            "[::]:1",
            "::1:7841",
            "300.1.1.1:1",
            ":1",
            "1.2.3.4:0",
        ]);
        good::<Mailbox>(&["", "hostmaster@example.com", "first.last@x.org"]);
        bad::<Mailbox>(&["hostmaster", "@x", "a b@x", "a@", "a@b@c"]);
        good::<Country>(&["GB", "gb"]);
        bad::<Country>(&["", "G", "GBR", "1A"]);
        good::<BaseUrl>(&[
            "https://a.example/",
            "http://192.0.2.1:8080/x",
            "https://[2001:db8::1]/",
            "http://[::1]:80",
        ]);
        bad::<BaseUrl>(&[
            "",
            "a.example",
            "ftp://a/",
            "https:///x",
            "https://a b/",
            "https://a/?x",
            "http://a:0/",
        ]);
        good::<RequestPath>(&["/", "/a?b=c"]);
        bad::<RequestPath>(&["", "a", "/a b", "/a\r\nX: y", "/a#b"]);
        bad::<FilePath>(&["", "a\0b"]);
        bad::<Name>(&["", "a\nb", &"x".repeat(256)]);
        good::<NameOrDefault>(&["", "london 1"]);
    }

    #[test]
    fn ids_are_prefix_and_base32_of_32_bytes() {
        let body = "a".repeat(52);
        good::<BrokerId>(&[&format!("nb1{body}")]);
        good::<PersonId>(&[&format!("np1{}q", "7".repeat(51))]);
        bad::<BrokerId>(&[
            &format!("np1{body}"),
            &format!("nb1{body}a"),
            "nb1",
            &format!("nb1{}", "A".repeat(52)),
        ]);
        bad::<BrokerId>(&[&format!("nb1{}b", "a".repeat(51)), &format!("nb1{}1", "a".repeat(51))]);
    }

    #[test]
    fn bytes_come_as_text_or_hex() {
        assert_eq!(Bytes::parse("ping").unwrap(), b"ping");
        assert_eq!(Bytes::parse("hex:00 ff 10").unwrap(), [0, 255, 16]);
        assert_eq!(Bytes::parse("hex:").unwrap(), [0u8; 0]);
        bad::<Bytes>(&["hex:0", "hex:zz", "hex:é"]);
        assert_eq!(Sha256::parse(&"aB".repeat(32)).unwrap(), [0xab; 32]);
        bad::<Sha256>(&["", &"a".repeat(63), &"a".repeat(65), &"g".repeat(64)]);
    }

    #[test]
    fn names_are_normalised() {
        assert_eq!(DomainName::parse("Play.Example.COM.").unwrap(), "play.example.com");
        assert_eq!(DnsServer::parse("::1").unwrap().to_string(), "[::1]:53");
    }
}

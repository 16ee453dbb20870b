//! DNS checks: what is asked and what must be answered.

use std::fmt;

/// A DNS query and what its answer must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsCheck {
    /// The name asked for.
    pub name: String,
    /// Which records.
    pub record_type: RecordType,
    /// The response code that is good.
    pub rcode: ResponseCode,
    /// An address that one of the answers must be, or text that the data of one must contain, written
    /// as in zone files.
    pub answer: Option<String>,
}

/// A type of records, by its number (RFC 1035 section 3.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordType(pub u16);

/// A response code (RFC 1035 section 4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseCode(pub u8);

const TYPES: [(&str, u16); 14] = [
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("PTR", 12),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("SRV", 33),
    ("DS", 43),
    ("DNSKEY", 48),
    ("SVCB", 64),
    ("HTTPS", 65),
    ("CAA", 257),
];

const CODES: [(&str, u8); 6] =
    [("NOERROR", 0), ("FORMERR", 1), ("SERVFAIL", 2), ("NXDOMAIN", 3), ("NOTIMP", 4), ("REFUSED", 5)];

impl RecordType {
    /// Addresses of IPv4.
    pub const A: RecordType = RecordType(1);
    /// What belongs there, for people.
    pub const EXPECTED: &str = "a record type such as A, AAAA, TXT or TYPE65";

    /// By name in either case, or as `TYPE` and a number (RFC 3597 section 5).
    pub fn parse(text: &str) -> Option<RecordType> {
        let upper = text.to_ascii_uppercase();
        let named = TYPES.iter().find(|(name, _)| *name == upper).map(|(_, number)| *number);
        named.or_else(|| upper.strip_prefix("TYPE")?.parse().ok()).map(RecordType)
    }
}

impl ResponseCode {
    /// No error.
    pub const NOERROR: ResponseCode = ResponseCode(0);
    /// What belongs there, for people.
    pub const EXPECTED: &str =
        "\"NOERROR\", \"FORMERR\", \"SERVFAIL\", \"NXDOMAIN\", \"NOTIMP\" or \"REFUSED\"";

    /// By name in either case.
    pub fn parse(text: &str) -> Option<ResponseCode> {
        let upper = text.to_ascii_uppercase();
        CODES.iter().find(|(name, _)| *name == upper).map(|(_, number)| ResponseCode(*number))
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match TYPES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

impl fmt::Display for ResponseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match CODES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "RCODE{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_go_both_ways() {
        for number in [1, 28, 65, 257, 9999] {
            let record_type = RecordType(number);
            assert_eq!(RecordType::parse(&record_type.to_string()), Some(record_type));
        }
        assert_eq!(RecordType::parse("type1"), Some(RecordType::A));
        for wrong in ["", "TYPE", "TYPE65536", "B"] {
            assert_eq!(RecordType::parse(wrong), None, "{wrong}");
        }
        for (name, number) in CODES {
            assert_eq!(ResponseCode::parse(name), Some(ResponseCode(number)));
            assert_eq!(ResponseCode(number).to_string(), name);
        }
        assert_eq!((ResponseCode::parse("RCODE9"), ResponseCode(9).to_string()), (None, "RCODE9".into()));
    }
}

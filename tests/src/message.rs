//! A reader of DNS messages of the tests' own: what the broker encodes with a library is not read back by
//! the same one. It fails the test where a message is malformed.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A record, its data in presentation form.
#[derive(Clone, Debug)]
pub struct Record {
    /// Owner, without the final dot, as written; `.` is the root.
    pub owner: String,
    /// Its type.
    pub kind: String,
    /// Its class.
    pub class: u16,
    /// Its TTL in seconds.
    pub ttl: u32,
    /// Its data. Of signatures only the type covered is told, of keys no key, of an SOA no serial.
    pub data: String,
}

/// The OPT record of a message (RFC 6891 §6.1.2).
#[derive(Clone, Debug)]
pub struct Opt {
    /// Largest datagram that the sender takes.
    pub payload: u16,
    /// Upper bits of the response code.
    pub extended_rcode: u8,
    /// EDNS version.
    pub version: u8,
    /// DO and the reserved bits.
    pub flags: u16,
    /// Codes and data of the options.
    pub options: Vec<(u16, Vec<u8>)>,
}

/// A message.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its id.
    pub id: u16,
    /// The header's flags, opcode and response code.
    pub flags: u16,
    /// The question's bytes.
    pub question: Vec<u8>,
    /// Answer, authority, and additional records without OPT.
    pub sections: [Vec<Record>; 3],
    /// The OPT record.
    pub opt: Option<Opt>,
    /// Its length in bytes.
    pub length: usize,
}

/// Names of types and their numbers.
const TYPES: [(&str, u16); 28] = [
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("PTR", 12),
    ("HINFO", 13),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("SRV", 33),
    ("NAPTR", 35),
    ("DNAME", 39),
    ("OPT", 41),
    ("DS", 43),
    ("RRSIG", 46),
    ("NSEC", 47),
    ("DNSKEY", 48),
    ("NSEC3PARAM", 51),
    ("CDS", 59),
    ("CDNSKEY", 60),
    ("SVCB", 64),
    ("HTTPS", 65),
    ("NXNAME", 128),
    ("IXFR", 251),
    ("AXFR", 252),
    ("MAILB", 253),
    ("ANY", 255),
    ("CAA", 257),
];

/// Response codes (RFC 6895 §2.3) with names.
const RCODES: [(&str, u16); 8] = [
    ("NOERROR", 0),
    ("FORMERR", 1),
    ("SERVFAIL", 2),
    ("NXDOMAIN", 3),
    ("NOTIMP", 4),
    ("REFUSED", 5),
    ("BADVERS", 16),
    ("BADCOOKIE", 23),
];

/// The number of a type, by its name or as `TYPE123` (RFC 3597 §5).
pub fn type_number(name: &str) -> u16 {
    let known = TYPES.iter().find(|(n, _)| *n == name).map(|(_, number)| *number);
    let generic = || name.strip_prefix("TYPE")?.parse().ok();
    known.or_else(generic).unwrap_or_else(|| panic!("{name} is no type"))
}

/// The name of a type.
pub fn type_name(number: u16) -> String {
    let known = TYPES.iter().find(|(_, n)| *n == number).map(|(name, _)| (*name).to_owned());
    known.unwrap_or_else(|| format!("TYPE{number}"))
}

/// Reads a message from its front.
struct Reader<'m> {
    message: &'m [u8],
    at: usize,
}

impl<'m> Reader<'m> {
    fn take(&mut self, n: usize) -> &'m [u8] {
        let taken = self.message.get(self.at..self.at + n).expect("the message ends too early");
        self.at += n;
        taken
    }

    fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().expect("two bytes"))
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().expect("four bytes"))
    }

    /// A name; pointers point backwards, so this ends.
    fn name(&mut self) -> String {
        let mut text = String::new();
        loop {
            let start = self.at;
            match usize::from(self.u8()) {
                0 => break,
                high @ 0xc0.. => {
                    let to = (high & 0x3f) << 8 | usize::from(self.u8());
                    assert!(to < start, "a pointer that points forward");
                    let rest = Reader { message: self.message, at: to }.name();
                    text.push_str(if rest == "." { "" } else { &rest });
                    break;
                }
                length @ ..64 => {
                    for byte in self.take(length) {
                        match byte {
                            b'!'..=b'~' if *byte != b'.' => text.push(char::from(*byte)),
                            _ => text.push_str(&format!("\\{byte:03}")),
                        }
                    }
                    text.push('.');
                }
                other => panic!("a label of the reserved length {other}"),
            }
        }
        let text = text.trim_end_matches('.');
        if text.is_empty() { ".".into() } else { text.into() }
    }

    /// A character string (RFC 1035 §3.3) in quotes; long ones by their start and length.
    fn string(&mut self) -> String {
        let length = usize::from(self.u8());
        quoted(self.take(length))
    }

    fn record(&mut self) -> (Record, u16, &'m [u8]) {
        let owner = self.name();
        let (kind, class, ttl, length) = (self.u16(), self.u16(), self.u32(), usize::from(self.u16()));
        let start = self.at;
        let data = presented(kind, &mut Reader { message: self.message, at: start }, start + length);
        let bytes = self.take(length);
        (Record { owner, kind: type_name(kind), class, ttl, data }, kind, bytes)
    }
}

fn quoted(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(24) {
        Some((at, _)) => format!("\"{}...{}\"", &text[..at], bytes.len()),
        None => format!("\"{text}\""),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn presented(kind: u16, r: &mut Reader<'_>, end: usize) -> String {
    let text = match type_name(kind).as_str() {
        "A" => Ipv4Addr::from(r.u32()).to_string(),
        "AAAA" => Ipv6Addr::from(<[u8; 16]>::try_from(r.take(16)).expect("16 bytes")).to_string(),
        "CNAME" | "NS" => r.name(),
        "MX" => format!("{} {}", r.u16(), r.name()),
        "SRV" => format!("{} {} {} {}", r.u16(), r.u16(), r.u16(), r.name()),
        "SOA" => {
            let (primary, hostmaster, _serial) = (r.name(), r.name(), r.u32());
            format!("{primary} {hostmaster} {} {} {} {}", r.u32(), r.u32(), r.u32(), r.u32())
        }
        "TXT" | "HINFO" => {
            let mut all = Vec::new();
            while r.at < end {
                all.push(r.string());
            }
            all.join(" ")
        }
        "CAA" => {
            let (flags, length) = (r.u8(), usize::from(r.u8()));
            let tag = String::from_utf8_lossy(r.take(length)).into_owned();
            format!("{flags} {tag} {}", quoted(r.take(end - r.at)))
        }
        "DS" | "CDS" => {
            let numbers = format!("{} {} {}", r.u16(), r.u8(), r.u8());
            let digest = hex(r.take(end - r.at));
            // Of keys that differ in each run only the form is told.
            if kind == 43 { format!("{numbers} {digest}") } else { format!("{} bytes", digest.len() / 2) }
        }
        "DNSKEY" | "CDNSKEY" => {
            let numbers = format!("{} {} {}", r.u16(), r.u8(), r.u8());
            r.take(end - r.at);
            numbers
        }
        "RRSIG" => {
            let covered = type_name(r.u16());
            r.take(16);
            let signer = r.name();
            r.take(end - r.at);
            format!("{covered} {signer}")
        }
        "NSEC" => {
            let next = r.name();
            format!("{next} {}", bitmap(r, end))
        }
        "SVCB" | "HTTPS" => service(r, end),
        _ => hex(r.take(end - r.at)),
    };
    assert!(kind == 41 || r.at == end, "data of {} of another length than it says", type_name(kind));
    text
}

/// The types of a bitmap (RFC 4034 §4.1.2).
fn bitmap(r: &mut Reader<'_>, end: usize) -> String {
    let mut all = Vec::new();
    while r.at < end {
        let (block, length) = (u16::from(r.u8()), usize::from(r.u8()));
        let bits = r.take(length);
        for (at, byte) in bits.iter().enumerate() {
            all.extend((0..8u16).filter(|bit| byte & (0x80 >> bit) != 0).map(|bit| {
                // At most 32 bytes.
                type_name(block << 8 | (at as u16 * 8 + bit))
            }));
        }
    }
    all.join(" ")
}

/// Data of SVCB and HTTPS (RFC 9460 §2.2).
fn service(r: &mut Reader<'_>, end: usize) -> String {
    let mut text = format!("{} {}", r.u16(), r.name());
    let mut last = None;
    while r.at < end {
        let (key, length) = (r.u16(), usize::from(r.u16()));
        assert!(last < Some(key), "keys in increasing order");
        last = Some(key);
        let value = r.take(length);
        let addresses = |size: usize| -> Vec<String> {
            let one = |a: &[u8]| match <[u8; 4]>::try_from(a) {
                Ok(v4) => Ipv4Addr::from(v4).to_string(),
                Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(a).expect("an address")).to_string(),
            };
            value.chunks(size).map(one).collect()
        };
        text += &match key {
            1 => {
                let (mut rest, mut ids) = (value, Vec::new());
                while let [n, after @ ..] = rest {
                    let (id, next) = after.split_at(usize::from(*n));
                    ids.push(String::from_utf8_lossy(id).into_owned());
                    rest = next;
                }
                format!(" alpn={}", ids.join(","))
            }
            3 => format!(" port={}", u16::from_be_bytes(value.try_into().expect("a port"))),
            4 => format!(" ipv4hint={}", addresses(4).join(",")),
            6 => format!(" ipv6hint={}", addresses(16).join(",")),
            _ => format!(" key{key}={}", hex(value)),
        };
    }
    text
}

impl Reply {
    /// Reads a whole message.
    pub fn read(message: &[u8]) -> Reply {
        let mut r = Reader { message, at: 0 };
        let (id, flags) = (r.u16(), r.u16());
        let counts = [r.u16(), r.u16(), r.u16(), r.u16()];
        let start = r.at;
        for _ in 0..counts[0] {
            r.name();
            r.take(4);
        }
        let question = message[start..r.at].to_vec();
        let (mut sections, mut opt) = ([Vec::new(), Vec::new(), Vec::new()], None);
        for (section, count) in sections.iter_mut().zip(&counts[1..]) {
            for _ in 0..*count {
                let (record, kind, data) = r.record();
                match kind {
                    41 => {
                        assert!(opt.is_none() && record.owner == ".", "one OPT record, at the root");
                        opt = Some(Opt::read(&record, data));
                    }
                    _ => section.push(record),
                }
            }
        }
        assert_eq!(r.at, message.len(), "nothing after the last record");
        Reply { id, flags, question, sections, opt, length: message.len() }
    }

    /// The response code's name, its upper bits included.
    pub fn rcode(&self) -> String {
        let upper = self.opt.as_ref().map_or(0, |o| u16::from(o.extended_rcode) << 4);
        let code = upper | self.flags & 15;
        let known = RCODES.iter().find(|(_, c)| *c == code).map(|(name, _)| (*name).to_owned());
        known.unwrap_or_else(|| format!("RCODE{code}"))
    }

    /// The data of an option of the OPT record; at most one of each code.
    pub fn option(&self, code: u16) -> Option<&[u8]> {
        let mut all = self.opt.iter().flat_map(|o| &o.options).filter(|(c, _)| *c == code);
        let first = all.next().map(|(_, data)| &data[..]);
        assert!(all.next().is_none(), "option {code} twice");
        first
    }
}

impl Opt {
    fn read(record: &Record, data: &[u8]) -> Opt {
        let [extended_rcode, version, high, low] = record.ttl.to_be_bytes();
        let (mut r, mut options) = (Reader { message: data, at: 0 }, Vec::new());
        while r.at < data.len() {
            let (code, length) = (r.u16(), usize::from(r.u16()));
            options.push((code, r.take(length).to_vec()));
        }
        let flags = u16::from_be_bytes([high, low]);
        Opt { payload: record.class, extended_rcode, version, flags, options }
    }
}

//! Writing a reply: header, question, records in order of sections, OPT; and what is left out when
//! it does not fit.
//!
//! The record data of common answers is written here, into the caller's buffer and without allocating:
//! addresses, aliases, name servers, SOA, MX and SRV. What is rarer hickory-proto encodes. Names are compressed
//! (RFC 1035 §4.1.4) as owners and in the data of the types for which that is allowed (RFC 3597 §4).

use crate::dnssec::SetSigner;
use crate::name::{WireName, labels};
use crate::outcome::Rcode;
use crate::query::HEADER_LEN;
use arrayvec::ArrayVec;
use hickory_proto::ProtoError;
use hickory_proto::rr::RData;
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};
use std::net::IpAddr;

/// Names that later ones can point to; what comes after so many is written in full.
const TARGETS: usize = 64;
/// Offsets that a pointer can hold.
const REACH: usize = 0x4000;
/// Class IN.
const IN: u16 = 1;

/// Why a record is not in the reply.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReplyError {
    /// The reply is full.
    Full,
    /// A registered record that cannot be put on the wire, or aliases that go in circles.
    Unanswerable,
}

/// The sections of a reply, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Answer = 0,
    Authority = 1,
    Additional = 2,
}

/// Record data. A delegation is DS (RFC 4034 §5.1): key tag, algorithm and digest type, then the digest.
#[derive(Debug)]
pub(crate) enum Data<'d> {
    Address(IpAddr),
    Alias(&'d WireName),
    NameServer(&'d WireName),
    Exchange {
        preference: u16,
        host: &'d WireName,
    },
    Server {
        priority: u16,
        weight: u16,
        port: u16,
        target: &'d WireName,
    },
    Delegation {
        numbers: (u16, u8, u8),
        digest: &'d [u8],
    },
    Soa(Soa<'d>),
    Other(RData),
    /// Record data as it stands on the wire, without names that could be compressed.
    Raw {
        rtype: u16,
        data: &'d [u8],
    },
}

/// Start of authority (RFC 1035 §3.3.13), times in seconds.
#[derive(Debug)]
pub(crate) struct Soa<'d> {
    pub(crate) primary: &'d WireName,
    pub(crate) hostmaster: &'d WireName,
    pub(crate) serial: u32,
    pub(crate) refresh: u32,
    pub(crate) retry: u32,
    pub(crate) expire: u32,
    pub(crate) minimum: u32,
}

impl Data<'_> {
    /// Its type's number.
    pub(crate) fn record_type(&self) -> u16 {
        match self {
            Data::Address(IpAddr::V4(_)) => 1,
            Data::NameServer(_) => 2,
            Data::Alias(_) => 5,
            Data::Soa(_) => 6,
            Data::Exchange { .. } => 15,
            Data::Address(IpAddr::V6(_)) => 28,
            Data::Server { .. } => 33,
            Data::Delegation { .. } => 43,
            Data::Other(data) => data.record_type().into(),
            Data::Raw { rtype, .. } => *rtype,
        }
    }

    /// It in canonical form (RFC 4034 §6.2): names whole and, in the types listed there, in lower case.
    pub(crate) fn canonical(&self) -> Result<Vec<u8>, ReplyError> {
        let numbers = |all: &[u16]| all.iter().flat_map(|n| n.to_be_bytes()).collect::<Vec<u8>>();
        let lower = |name: &WireName| name.wire().to_ascii_lowercase();
        Ok(match self {
            Data::Address(IpAddr::V4(a)) => a.octets().to_vec(),
            Data::Address(IpAddr::V6(a)) => a.octets().to_vec(),
            Data::Alias(name) | Data::NameServer(name) => lower(name),
            Data::Exchange { preference, host } => [numbers(&[*preference]), lower(host)].concat(),
            Data::Server { priority, weight, port, target } => {
                [numbers(&[*priority, *weight, *port]), lower(target)].concat()
            }
            Data::Soa(soa) => {
                let numbers = [soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum];
                let numbers = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
                [lower(soa.primary), lower(soa.hostmaster), numbers].concat()
            }
            Data::Other(data) => {
                let mut out = Vec::new();
                let mut encoder = BinEncoder::new(&mut out);
                encoder.set_canonical_form(true);
                encoder.set_name_encoding(NameEncoding::Uncompressed);
                data.emit(&mut encoder).map_err(|_| ReplyError::Unanswerable)?;
                out
            }
            Data::Delegation { numbers: (tag, algorithm, kind), digest } => {
                [&numbers(&[*tag])[..], &[*algorithm, *kind], digest].concat()
            }
            Data::Raw { data, .. } => data.to_vec(),
        })
    }
}

/// Writes records after a question, and never more than fits.
pub(crate) struct Reply<'o> {
    out: &'o mut Vec<u8>,
    limit: usize,
    counts: [u16; 3],
    body: usize,
    /// Where names stand that later ones can point to, ascending.
    targets: ArrayVec<u16, TARGETS>,
    /// Where the zone is signed and the client wants to see it.
    pub(crate) signer: Option<SetSigner>,
}

impl<'o> Reply<'o> {
    /// Starts after a header's room with the question (its name, type and class as received), in a
    /// buffer that is empty. `limit` bounds everything but the OPT record, and holds the question.
    pub(crate) fn new(out: &'o mut Vec<u8>, question: &[u8], limit: u16) -> Self {
        out.extend_from_slice(&[0; HEADER_LEN]);
        let mut reply = Reply {
            out,
            limit: limit.into(),
            counts: [0; 3],
            body: 0,
            targets: ArrayVec::new(),
            signer: None,
        };
        let (name, fields) = question.split_at(question.len().saturating_sub(4));
        reply.whole_name(name);
        reply.out.extend_from_slice(fields);
        reply.body = reply.out.len();
        reply
    }

    /// Adds a record whole or not at all. Those of one set come one after the other; behind the last stand
    /// the set's signatures, if there are any.
    pub(crate) fn add(
        &mut self,
        section: Section,
        name: &WireName,
        ttl: u32,
        data: Data<'_>,
    ) -> Result<(), ReplyError> {
        let (signed, rtype) = (self.before(section, name, &data)?, data.record_type());
        self.write(section, name, ttl, data)?;
        if let Some(canonical) = signed {
            self.after(section, name, rtype, ttl, canonical);
        }
        Ok(())
    }

    /// Writes a record whole or not at all.
    pub(crate) fn write(
        &mut self,
        section: Section,
        name: &WireName,
        ttl: u32,
        data: Data<'_>,
    ) -> Result<(), ReplyError> {
        let before = self.out.len();
        let written = match self.record(name, ttl, data) {
            Ok(()) if self.out.len() > self.limit => Err(ReplyError::Full),
            written => written,
        };
        match &written {
            Ok(()) => self.counts[section as usize] += 1,
            Err(_) => self.back_to(before),
        }
        written
    }

    fn record(&mut self, name: &WireName, ttl: u32, data: Data<'_>) -> Result<(), ReplyError> {
        self.name(name);
        for half in [data.record_type(), IN] {
            self.out.extend_from_slice(&half.to_be_bytes());
        }
        self.out.extend_from_slice(&ttl.to_be_bytes());
        let length_at = self.out.len();
        self.out.extend_from_slice(&[0; 2]);
        self.data(data)?;
        let length = u16::try_from(self.out.len() - length_at - 2).map_err(|_| ReplyError::Full)?;
        self.out[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    fn data(&mut self, data: Data<'_>) -> Result<(), ReplyError> {
        match data {
            Data::Address(IpAddr::V4(a)) => self.out.extend_from_slice(&a.octets()),
            Data::Address(IpAddr::V6(a)) => self.out.extend_from_slice(&a.octets()),
            Data::Alias(name) | Data::NameServer(name) => self.name(name),
            Data::Exchange { preference, host } => {
                self.out.extend_from_slice(&preference.to_be_bytes());
                self.name(host);
            }
            Data::Server { priority, weight, port, target } => {
                for number in [priority, weight, port] {
                    self.out.extend_from_slice(&number.to_be_bytes());
                }
                self.whole_name(target.wire());
            }
            Data::Delegation { numbers: (key_tag, algorithm, digest_type), digest } => {
                self.out.extend_from_slice(&key_tag.to_be_bytes());
                self.out.extend_from_slice(&[algorithm, digest_type]);
                self.out.extend_from_slice(digest);
            }
            Data::Soa(soa) => {
                self.name(soa.primary);
                self.name(soa.hostmaster);
                for number in [soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum] {
                    self.out.extend_from_slice(&number.to_be_bytes());
                }
            }
            Data::Other(data) => return self.other(&data),
            Data::Raw { data, .. } => self.out.extend_from_slice(data),
        }
        Ok(())
    }

    /// Data of other types; the names in them must not be compressed.
    fn other(&mut self, data: &RData) -> Result<(), ReplyError> {
        // What fits in a reply is never longer than 16 bits tell.
        let mut encoder = BinEncoder::with_offset(self.out, self.out.len() as u32);
        encoder.set_max_size(self.limit.try_into().unwrap_or(u16::MAX));
        encoder.set_name_encoding(NameEncoding::Uncompressed);
        data.emit(&mut encoder).map_err(|e| match e {
            ProtoError::MaxBufferSizeExceeded(_) => ReplyError::Full,
            _ => ReplyError::Unanswerable,
        })
    }

    /// Appends a name, as far as it is not there yet.
    fn name(&mut self, name: &WireName) {
        let mut rest = name.wire();
        while let [length @ 1..=u8::MAX, tail @ ..] = rest {
            if let Some(at) = self.targets.iter().find(|at| self.stands_at(usize::from(**at), rest)) {
                let pointer = 0xc000 | at;
                return self.out.extend_from_slice(&pointer.to_be_bytes());
            }
            self.point_at(self.out.len());
            let (label, after) = tail.split_at(usize::from(*length).min(tail.len()));
            self.out.push(*length);
            self.out.extend_from_slice(label);
            rest = after;
        }
        self.out.push(0);
    }

    /// Appends a name in full; later ones can point to it.
    fn whole_name(&mut self, wire: &[u8]) {
        let mut at = self.out.len();
        for label in labels(wire) {
            self.point_at(at);
            at += 1 + label.len();
        }
        self.out.extend_from_slice(wire);
    }

    /// Whether the name at an offset has just these uncompressed bytes. Pointers point backwards, so
    /// this ends.
    fn stands_at(&self, mut at: usize, mut wire: &[u8]) -> bool {
        loop {
            match self.out.get(at..) {
                Some([high @ 0xc0..=u8::MAX, low, ..]) => {
                    at = usize::from(u16::from_be_bytes([high & 0x3f, *low]))
                }
                Some([0, ..]) => return wire == [0],
                Some(here @ [length, ..]) => {
                    let whole = usize::from(*length) + 1;
                    match (here.get(..whole), wire.split_at_checked(whole)) {
                        (Some(own), Some((label, rest))) if own == label => (at, wire) = (at + whole, rest),
                        _ => return false,
                    }
                }
                _ => return false,
            }
        }
    }

    fn point_at(&mut self, at: usize) {
        if at < REACH {
            // Names beyond the room for them are written in full: longer, and as right.
            let _ = self.targets.try_push(at as u16);
        }
    }

    fn back_to(&mut self, length: usize) {
        self.out.truncate(length);
        let kept = self.targets.partition_point(|at| usize::from(*at) < length);
        self.targets.truncate(kept);
    }

    /// Takes all records out again.
    pub(crate) fn clear(&mut self) {
        self.back_to(self.body);
        self.counts = [0; 3];
        if let Some(signer) = &mut self.signer {
            signer.clear();
        }
    }

    /// How many records each section has.
    pub(crate) fn counts(&self) -> [u16; 3] {
        self.counts
    }
}

/// The header of a reply.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Header {
    pub(crate) id: u16,
    pub(crate) opcode: u8,
    pub(crate) rd: bool,
    pub(crate) authoritative: bool,
    pub(crate) truncated: bool,
    pub(crate) rcode: Rcode,
    pub(crate) question: bool,
    /// Answer, authority and additional records, OPT not counted.
    pub(crate) counts: [u16; 3],
    pub(crate) opt: bool,
}

impl Header {
    /// The wire form; RA is never set, since nothing is resolved here for others.
    pub(crate) fn bytes(&self) -> [u8; HEADER_LEN] {
        let flags = 0x80
            | (self.opcode & 15) << 3
            | u8::from(self.authoritative) << 2
            | u8::from(self.truncated) << 1
            | u8::from(self.rd);
        let [answers, authority, additional] = self.counts;
        let additional = additional + u16::from(self.opt);
        let mut bytes = [0; HEADER_LEN];
        let words = [
            self.id,
            u16::from_be_bytes([flags, (self.rcode.code() & 15) as u8]),
            u16::from(self.question),
            answers,
            authority,
            additional,
        ];
        for (to, word) in bytes.chunks_exact_mut(2).zip(words) {
            to.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }
}

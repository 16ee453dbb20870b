//! Writing a reply: header, question, records in order of sections, OPT; and what is left out when
//! it does not fit.

use crate::ecs::Ecs;
use crate::outcome::Rcode;
use crate::query::HEADER_LEN;
use hickory_proto::ProtoError;
use hickory_proto::rr::{Name, RData, Record};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

/// Bytes of an OPT record without options.
const OPT_LEN: usize = 11;

/// Why a record is not in the reply.
#[derive(Debug)]
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

/// Encodes records after a question, and never more than fits.
pub(crate) struct Reply<'o> {
    encoder: BinEncoder<'o>,
    counts: [u16; 3],
    body: usize,
}

impl<'o> Reply<'o> {
    /// Starts after a header's room with the question, in a buffer that is empty. `limit` bounds
    /// everything but the OPT record.
    pub(crate) fn new(
        out: &'o mut Vec<u8>,
        name: &Name,
        fields: &[u8],
        limit: u16,
    ) -> Result<Self, ReplyError> {
        let mut encoder = BinEncoder::new(out);
        encoder.set_max_size(limit);
        let start = encoder
            .emit_vec(&[0; HEADER_LEN])
            .and_then(|()| name.emit(&mut encoder))
            .and_then(|()| encoder.emit_vec(fields));
        start.map_err(|_| ReplyError::Unanswerable)?;
        let body = encoder.offset();
        Ok(Reply { encoder, counts: [0; 3], body })
    }

    /// Adds a record whole or not at all.
    pub(crate) fn add(
        &mut self,
        section: Section,
        name: &Name,
        ttl: u32,
        data: RData,
    ) -> Result<(), ReplyError> {
        let before = self.encoder.offset();
        let record = Record::from_rdata(name.clone(), ttl, data);
        match record.emit(&mut self.encoder) {
            Ok(()) => {
                self.counts[section as usize] += 1;
                Ok(())
            }
            Err(e) => {
                self.encoder.set_offset(before);
                self.encoder.trim();
                Err(match e {
                    ProtoError::MaxBufferSizeExceeded(_) => ReplyError::Full,
                    _ => ReplyError::Unanswerable,
                })
            }
        }
    }

    /// Takes all records out again.
    pub(crate) fn clear(&mut self) {
        self.encoder.set_offset(self.body);
        self.encoder.trim();
        self.counts = [0; 3];
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

/// The OPT record of a reply (RFC 6891 §6.1.2).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opt {
    /// The largest datagram taken here.
    pub(crate) payload: u16,
    /// Echoed (RFC 3225 §3).
    pub(crate) dnssec_ok: bool,
    /// The client subnet to echo.
    pub(crate) ecs: Option<Ecs>,
}

impl Opt {
    /// Bytes on the wire.
    pub(crate) fn len(&self) -> usize {
        OPT_LEN + self.ecs.map_or(0, |e| e.encoded_len())
    }

    /// Appends the record.
    pub(crate) fn encode(&self, rcode: Rcode, scope: u8, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 0, 41]);
        out.extend_from_slice(&self.payload.to_be_bytes());
        out.extend_from_slice(&[(rcode.code() >> 4) as u8, 0, u8::from(self.dnssec_ok) << 7, 0]);
        // At most one option of at most 24 bytes.
        out.extend_from_slice(&((self.len() - OPT_LEN) as u16).to_be_bytes());
        if let Some(ecs) = self.ecs {
            ecs.encode(scope, out);
        }
    }
}

//! The strict query parser. It reads the message where it lies, allocates nothing, and accepts
//! exactly this:
//!
//! ```text
//! header    QR=0, opcode QUERY, one question, no answers
//! question  an uncompressed name, type, class
//! authority nothing; of IXFR the SOA that the client has (RFC 1995 §3)
//! additional  any records; at most one OPT: root owner, version 0, options that fill it exactly,
//!           at most one client subnet, well formed; the first cookie, well formed
//! end       nothing after the last record
//! ```
//!
//! A query with a cookie may have no question: it asks for a cookie (RFC 7873 §5.4). Unknown options and
//! flags are passed over (RFC 6891 §6.1.2, §6.1.4).
//!
//! What else comes is a [`Rejection`], which carries enough of the message to answer it. Whether it has an
//! OPT record, which its reply needs as well (RFC 6891 §6.1.1), is looked for behind what is wrong, too.

use crate::cookie::{self, Cookie};
use crate::ecs::{self, Ecs};
use crate::error::{ErrorKind, QueryError};
use crate::name::QueryName;

/// Bytes of a header.
pub const HEADER_LEN: usize = 12;
/// The type of OPT records (RFC 6891 §6.1.1).
pub(crate) const TYPE_OPT: u16 = 41;
/// The type of SOA records.
const TYPE_SOA: u16 = 6;
/// The type of queries for incremental transfers (RFC 1995).
const TYPE_IXFR: u16 = 251;
/// Bits of an OPT record's flags: of DNSSEC (RFC 3225), and of compact answers (RFC 9824 §5.1).
const DO: u16 = 0x8000;
const CO: u16 = 0x4000;
/// The option that asks for the server's name (RFC 5001).
pub(crate) const NSID: u16 = 3;
/// The option that asks for the timeout of idle connections (RFC 7828).
pub(crate) const KEEPALIVE: u16 = 11;
/// The option that makes messages alike in length (RFC 7830).
pub(crate) const PADDING: u16 = 12;

/// A query that was well formed.
#[derive(Clone, Debug)]
pub struct Query<'m> {
    /// The message's id.
    pub id: u16,
    /// Recursion desired: echoed, never honoured.
    pub rd: bool,
    /// The question's bytes exactly as received: name, type and class. Resolvers randomise the case
    /// of names and compare, so it is echoed byte for byte. Empty when only a cookie is asked for.
    pub question: &'m [u8],
    /// The question's name in lower case.
    pub name: QueryName,
    /// The type asked for.
    pub qtype: u16,
    /// The class asked for.
    pub qclass: u16,
    /// The OPT record, if there was one.
    pub edns: Option<Edns>,
}

/// What an OPT record said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// The largest datagram that the sender can take, as it says.
    pub payload: u16,
    /// The DO bit (RFC 3225).
    pub dnssec_ok: bool,
    /// The CO bit beside DO: a signed denial may say NXDOMAIN (RFC 9824 §5.1).
    pub compact_ok: bool,
    /// What its options said.
    pub options: Options,
}

/// The options of a query that mean something here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The client subnet option, if there was one.
    pub ecs: Option<Ecs>,
    /// The first cookie option.
    pub cookie: Option<Cookie>,
    /// Whether the server's name is asked for (RFC 5001).
    pub nsid: bool,
    /// The first keepalive option. It means something over TCP only.
    pub keepalive: Option<Keepalive>,
    /// Whether the query was padded (RFC 7830).
    pub padding: bool,
}

/// A keepalive option (RFC 7828).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Offset of its data in the message.
    pub at: usize,
    /// Whether it has no data, as it must not in a query.
    pub empty: bool,
}

/// A message that is not accepted as a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection<'m> {
    /// What is wrong, and where.
    pub error: QueryError,
    /// The message's id; 0 when it has none.
    pub id: u16,
    /// Its opcode.
    pub opcode: u8,
    /// Recursion desired.
    pub rd: bool,
    /// Its question's bytes, if that much was well formed.
    pub question: Option<&'m [u8]>,
    /// Whether there is an OPT record, as far as can be seen, so that the reply needs one.
    pub opt: bool,
}

impl<'m> Query<'m> {
    /// The same query, refused for something that is wrong with it on its transport.
    pub(crate) fn rejected(&self, error: QueryError) -> Rejection<'m> {
        let question = Some(self.question).filter(|q| !q.is_empty());
        Rejection { error, id: self.id, opcode: 0, rd: self.rd, question, opt: self.edns.is_some() }
    }

    /// Name bytes of the question as received.
    pub(crate) fn name_bytes(&self) -> &[u8] {
        &self.question[..self.question.len().saturating_sub(4)]
    }
}

/// Parses a message as a query.
///
/// # Errors
/// A [`Rejection`] that says what is wrong at which offset, and what a reply needs.
pub fn parse(message: &[u8]) -> Result<Query<'_>, Rejection<'_>> {
    let mut seen = Rejection {
        error: ErrorKind::Short.at(message.len()),
        id: 0,
        opcode: 0,
        rd: false,
        question: None,
        opt: false,
    };
    match read(message, &mut seen) {
        Ok(query) => Ok(query),
        Err(error) => {
            let opt = seen.opt || error.kind.rcode().is_some() && has_opt(message).unwrap_or(false);
            Err(Rejection { error, opt, ..seen })
        }
    }
}

/// Whether there is an OPT record in a message that is not a query, of whatever opcode: all have sections
/// of the same form. `None` when something malformed stands before one. The end of the message bounds it,
/// whatever the counts say.
fn has_opt(message: &[u8]) -> Option<bool> {
    let count = |at| u16_at(message, at).ok().map(|(count, _)| u32::from(count));
    let mut at = HEADER_LEN;
    for _ in 0..count(4)? {
        at = skip_name(message, at).ok()? + 4;
    }
    for _ in 0..count(6)? + count(8)? + count(10)? {
        let record = Record::read(message, at).ok()?;
        if record.rtype == TYPE_OPT && message.get(at) == Some(&0) {
            return Some(true);
        }
        at = record.end();
    }
    Some(false)
}

/// Reads front to back and leaves in `seen` what was understood so far.
fn read<'m>(message: &'m [u8], seen: &mut Rejection<'m>) -> Result<Query<'m>, QueryError> {
    let Some(&[i0, i1, f0, _, q0, q1, an0, an1, ns0, ns1, ar0, ar1]) = message.first_chunk() else {
        return Err(ErrorKind::Short.at(message.len()));
    };
    seen.id = u16::from_be_bytes([i0, i1]);
    seen.opcode = (f0 >> 3) & 15;
    seen.rd = f0 & 1 != 0;
    if f0 & 0x80 != 0 {
        return Err(ErrorKind::Response.at(2));
    }
    if seen.opcode != 0 {
        return Err(ErrorKind::Opcode.at(2));
    }
    let additionals = u16::from_be_bytes([ar0, ar1]);
    match [q0, q1] {
        [0, 1] => {}
        [0, 0] if [an0, an1, ns0, ns1] == [0; 4] => return cookie_only(message, additionals, seen),
        _ => return Err(ErrorKind::QuestionCount.at(4)),
    }
    let (name, name_end) = QueryName::parse(message, HEADER_LEN)?;
    let (qtype, at) = u16_at(message, name_end)?;
    let (qclass, at) = u16_at(message, at)?;
    let question = &message[HEADER_LEN..at];
    seen.question = Some(question);
    if [an0, an1] != [0, 0] {
        return Err(ErrorKind::UnexpectedRecords.at(6));
    }
    let at = match [ns0, ns1] {
        [0, 0] => at,
        [0, 1] if qtype == TYPE_IXFR => match Record::read(message, at)? {
            soa if soa.rtype == TYPE_SOA => soa.end(),
            _ => return Err(ErrorKind::UnexpectedRecords.at(at)),
        },
        _ => return Err(ErrorKind::UnexpectedRecords.at(8)),
    };
    if matches!(qtype, 0 | TYPE_OPT) {
        return Err(ErrorKind::QuestionType.at(name_end));
    }
    let (edns, at) = additional(message, at, additionals, &mut seen.opt)?;
    if at != message.len() {
        return Err(ErrorKind::TrailingBytes.at(at));
    }
    Ok(Query { id: seen.id, rd: seen.rd, question, name, qtype, qclass, edns })
}

/// Reads a message without a question: it must have a cookie.
fn cookie_only<'m>(
    message: &'m [u8],
    additionals: u16,
    seen: &mut Rejection<'m>,
) -> Result<Query<'m>, QueryError> {
    let (edns, at) = additional(message, HEADER_LEN, additionals, &mut seen.opt)?;
    if edns.is_none_or(|e| e.options.cookie.is_none()) {
        return Err(ErrorKind::QuestionCount.at(4));
    }
    if at != message.len() {
        return Err(ErrorKind::TrailingBytes.at(at));
    }
    Ok(Query { id: seen.id, rd: seen.rd, question: &[], name: QueryName::root(), qtype: 0, qclass: 0, edns })
}

/// Walks the additional section. The end of the message bounds it, whatever the count says.
fn additional(
    message: &[u8],
    mut at: usize,
    count: u16,
    opt: &mut bool,
) -> Result<(Option<Edns>, usize), QueryError> {
    let mut edns = None;
    for _ in 0..count {
        let owner = at;
        let record = Record::read(message, at)?;
        at = record.end();
        let Record { rtype, class, ttl_high, ttl_low, data, data_at } = record;
        if rtype != TYPE_OPT {
            continue;
        }
        if message.get(owner) != Some(&0) {
            return Err(ErrorKind::OptName.at(owner));
        }
        if std::mem::replace(opt, true) {
            return Err(ErrorKind::OptTwice.at(owner));
        }
        // The TTL of an OPT record: extended RCODE, version, DO, CO and reserved bits (RFC 6891 §6.1.3).
        if ttl_high & 0xff != 0 {
            return Err(ErrorKind::EdnsVersion.at(data_at - 5));
        }
        let options = options(data, data_at)?;
        let dnssec_ok = ttl_low & DO != 0;
        edns = Some(Edns { payload: class, dnssec_ok, compact_ok: dnssec_ok && ttl_low & CO != 0, options });
    }
    Ok((edns, at))
}

/// A record, its owner's name aside.
struct Record<'m> {
    rtype: u16,
    class: u16,
    ttl_high: u16,
    ttl_low: u16,
    data: &'m [u8],
    /// Where the data stands in the message.
    data_at: usize,
}

impl<'m> Record<'m> {
    /// The one that begins at an offset.
    fn read(message: &'m [u8], at: usize) -> Result<Record<'m>, QueryError> {
        let owner_end = skip_name(message, at)?;
        let (rtype, at) = u16_at(message, owner_end)?;
        let (class, at) = u16_at(message, at)?;
        let (ttl_high, at) = u16_at(message, at)?;
        let (ttl_low, at) = u16_at(message, at)?;
        let (length, data_at) = u16_at(message, at)?;
        let data = message.get(data_at..data_at + usize::from(length));
        let data = data.ok_or(ErrorKind::Truncated.at(data_at))?;
        Ok(Record { rtype, class, ttl_high, ttl_low, data, data_at })
    }

    /// The offset after it.
    fn end(&self) -> usize {
        self.data_at + self.data.len()
    }
}

/// Walks the options of an OPT record whose data stands at `at`.
pub(crate) fn options(data: &[u8], at: usize) -> Result<Options, QueryError> {
    let mut seen = Options::default();
    let mut rest = data;
    while !rest.is_empty() {
        let here = at + data.len() - rest.len();
        let Some((&[c0, c1, l0, l1], after)) = rest.split_first_chunk::<4>() else {
            return Err(ErrorKind::OptionLength.at(here));
        };
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let Some((value, after)) = after.split_at_checked(length) else {
            return Err(ErrorKind::OptionLength.at(here + 2));
        };
        rest = after;
        match u16::from_be_bytes([c0, c1]) {
            ecs::OPTION_CODE if seen.ecs.is_some() => return Err(ErrorKind::EcsTwice.at(here)),
            ecs::OPTION_CODE => seen.ecs = Some(Ecs::parse(value, here + 4)?),
            // Of several only the first counts (RFC 7873 §5).
            cookie::OPTION_CODE if seen.cookie.is_none() => {
                seen.cookie = Some(Cookie::parse(value, here + 4)?);
            }
            NSID => seen.nsid = true,
            KEEPALIVE if seen.keepalive.is_none() => {
                seen.keepalive = Some(Keepalive { at: here + 4, empty: value.is_empty() });
            }
            PADDING => seen.padding = true,
            _ => {}
        }
    }
    Ok(seen)
}

/// The offset after a record's owner name; compression is allowed here, but not followed.
fn skip_name(message: &[u8], start: usize) -> Result<usize, QueryError> {
    let mut at = start;
    loop {
        match *message.get(at).ok_or(ErrorKind::Truncated.at(at))? {
            0 => return Ok(at + 1),
            0xc0.. => return u16_at(message, at).map(|(_, end)| end),
            64.. => return Err(ErrorKind::Label.at(at)),
            length if at + 1 + usize::from(length) > message.len() => return Err(ErrorKind::Truncated.at(at)),
            length => at += 1 + usize::from(length),
        }
        if at + 1 - start > crate::name::MAX_WIRE {
            return Err(ErrorKind::NameLength.at(start));
        }
    }
}

/// A number and the offset after it.
fn u16_at(message: &[u8], at: usize) -> Result<(u16, usize), QueryError> {
    match message.get(at..at + 2) {
        Some(&[a, b]) => Ok((u16::from_be_bytes([a, b]), at + 2)),
        _ => Err(ErrorKind::Truncated.at(at)),
    }
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;

//! The hot path: the common query answered straight from its bytes.
//!
//! ```text
//! bytes ─► one question of class IN, A or AAAA, plain EDNS ─► name known? ─► choice ─► bytes
//!            │ anything else                                    │ looked up by the general path's rules once,
//!            ▼                                                  ▼ then kept until the registry changes
//!          Responder::answer, the general path, which is the rule: both give equal bytes (tests/hot.rs)
//! ```
//!
//! What it knows of names is a table of one slot a name, of a thread's own. A slot holds a domain that
//! answers addresses by choice and by nothing else: no static record of the type, no alias, no delegation.
//! Only registered domains get into the table, so a flood of made-up names finds nothing to wash out.
//! Signed answers are kept whole, by what makes them (`signed`). Of queries that come together, what each will look
//! up is told to the processor beforehand (`ahead`).

mod ahead;
mod signed;

use crate::answer::Responder;
use crate::cookie::CookieState;
use crate::edns::{Ending, Extended};
use crate::name::{self, LookupName, MAX_WIRE};
use crate::outcome::{Account, ChosenFor, Client, Outcome, Rcode};
use crate::query::{self, Edns, HEADER_LEN, TYPE_OPT};
use crate::reply::Header;
use crate::zone::{self, NodeKind};
use crate::{alike, choosing, dnssec, records};
use ahead::Guesses;
use nearmost_core::health::Family;
use nearmost_core::ranking::Choice;
use nearmost_core::registry::{DomainIndex, Registry};
use nearmost_core::snapshot::Snapshot;
use nearmost_core::time::UnixMillis;
use signed::{Made, Piece, Pieces};
use std::net::IpAddr;
use std::sync::{Arc, Weak};

/// Longest name that is common, in bytes on the wire.
const ROOM: usize = 64;
/// Most slots: 8 MiB. More domains than half of that share slots, and the less asked for of two is found
/// again each time.
const MOST_SLOTS: usize = 1 << 16;
/// Fewest slots.
const LEAST_SLOTS: usize = 1 << 8;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

/// A domain that answers addresses by choice.
#[derive(Clone, Copy)]
struct Slot {
    /// Lower-cased wire bytes, zero beyond their end; all zero for an empty slot.
    name: [u8; ROOM],
    /// The registry that it was found in, by [`HotPath::met`].
    met: u64,
    domain: DomainIndex,
    /// By [`Family::index`]: what such answers count as, where addresses of the family are answered by
    /// choice alone.
    alike: [Option<u64>; 2],
    /// The zone has keys: answers may be signed, or withheld from those who validate.
    signed: bool,
    /// When what is known here may be otherwise, in milliseconds since 1970: a key of the zone changes then.
    until: u64,
}

/// One thread's hot path.
pub struct HotPath {
    responder: Arc<Responder>,
    /// The registry that was met last. A weak pointer keeps its place from being taken by another, so that
    /// the pointer tells registries apart, and leaves it to the writer to drop it.
    registry: Weak<Registry>,
    /// How many were met: what was found in one is not used in another.
    met: u64,
    /// A power of two of them.
    slots: Box<[Slot]>,
    pieces: Pieces,
    guesses: Guesses,
}

impl std::fmt::Debug for HotPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HotPath({} slots)", self.slots.len())
    }
}

/// A query that may be common.
struct Common<'m> {
    id: [u8; 2],
    rd: bool,
    question: &'m [u8],
    /// Lower-cased, zero beyond its end.
    name: [u8; ROOM],
    qtype: u16,
    edns: Option<Edns>,
}

impl HotPath {
    /// With room for so many domains.
    pub fn new(responder: Arc<Responder>, domains: usize) -> HotPath {
        let (registry, guesses) = (Weak::new(), Guesses::default());
        HotPath { responder, registry, met: 0, slots: empty(domains), pieces: Pieces::default(), guesses }
    }

    /// The general path.
    pub fn responder(&self) -> &Arc<Responder> {
        &self.responder
    }

    /// Answers one message as [`Responder::answer`] does, byte for byte.
    pub fn answer(
        &mut self,
        snapshot: &Snapshot,
        message: &[u8],
        client: &Client,
        out: &mut Vec<u8>,
    ) -> Outcome {
        match self.common(snapshot, message, client, out) {
            Some(outcome) => outcome,
            None => self.responder.answer(snapshot, message, client, out),
        }
    }

    /// Answers the common query; `None`, with anything in `out`, for every other message.
    pub fn common(
        &mut self,
        snapshot: &Snapshot,
        message: &[u8],
        client: &Client,
        out: &mut Vec<u8>,
    ) -> Option<Outcome> {
        let query = Common::read(message)?;
        self.meet(&snapshot.registry);
        let family = if query.qtype == TYPE_A { Family::V4 } else { Family::V6 };
        let slot = self.slot(snapshot, &query.name, client.now)?;
        let (domain, alike) = (slot.domain, slot.alike[family.index()]?);
        let responder = &*self.responder;
        let (opt, cookie) = match &query.edns {
            None => (None, CookieState::Absent),
            Some(edns) => {
                let (opt, cookie) = responder.opt(edns, client);
                (Some(opt), cookie)
            }
        };
        if responder.config.edns.require_cookie && !matches!(cookie, CookieState::Absent | CookieState::Valid)
        {
            return None;
        }
        let ecs = opt.and_then(|o| o.ecs);
        let used = ecs.filter(|e| e.source > 0);
        let address = used.map_or_else(|| choosing::users_of(snapshot, client.source), |e| e.address);
        let (choice, depends) = choosing::choose(snapshot, domain, address, family)?;
        let scope = used.filter(|_| depends).map_or(0, |e| e.scope(choice.part.cell));
        let ttl = choosing::ttl(snapshot, domain, &[(family, &choice)]);
        let most = usize::from(responder.limit(query.edns, client));
        let room = most - opt.map_or(0, |o| o.len());
        if opt.is_some_and(|o| o.dnssec_ok) && slot.signed {
            let made = Made { met: slot.met, domain, ttl, addrs: choice.addrs.clone() };
            match self.pieces.get(&made, client.now) {
                Some(piece) => write_signed(&query, piece, room, out)?,
                None => return Some(self.sign(snapshot, message, client, (slot, made), out)),
            }
        } else {
            write(&query, &choice, ttl, room, out)?;
        }
        let mut outcome = Outcome {
            qtype: query.qtype,
            account: Account {
                ecs: query.edns.is_some_and(|e| e.options.ecs.is_some()),
                cookie,
                alike,
                ..Account::default()
            },
            scope: ecs.map(|_| scope),
            domain: Some(domain),
            chosen: Some(ChosenFor { basis: choice.basis, client: address }),
            ..Outcome::default()
        };
        outcome.mirrors.extend(choice.mirrors.iter().map(|m| m.mirror));
        if let Some(opt) = opt {
            let error = Extended::of(&outcome);
            opt.encode(&Ending { rcode: Rcode::NoError, scope, error, most }, out);
        }
        // At most what a datagram holds.
        outcome.account.reply_bytes = out.len() as u16;
        Some(outcome)
    }

    /// Notes that answers come from this registry now.
    fn meet(&mut self, registry: &Arc<Registry>) {
        if !std::ptr::eq(self.registry.as_ptr(), Arc::as_ptr(registry)) {
            self.registry = Arc::downgrade(registry);
            self.met += 1;
        }
    }

    /// Answers by the general path, and keeps what it signed.
    fn sign(
        &mut self,
        snapshot: &Snapshot,
        message: &[u8],
        client: &Client,
        (slot, made): (Slot, Made),
        out: &mut Vec<u8>,
    ) -> Outcome {
        let outcome = self.responder.answer(snapshot, message, client, out);
        let query = Common::read(message);
        let end = query.as_ref().and_then(|q| {
            let (opt, _) = self.responder.opt(q.edns.as_ref()?, client);
            // What is said besides has a length that is not known beforehand.
            let plain = !opt.padded && Extended::of(&outcome).is_none();
            plain.then(|| out.len().saturating_sub(opt.len()))
        });
        // No authority, and nothing additional but OPT.
        let alone = out.get(8..HEADER_LEN) == Some(&[0, 0, 0, 1]);
        let usable = !outcome.truncated && outcome.rcode == Rcode::NoError && alone;
        let begin = HEADER_LEN + query.map_or(0, |q| q.question.len());
        let records = end.filter(|_| usable).and_then(|end| out.get(begin..end));
        if let (Some(records), Some(signer)) = (records, &self.responder.signer) {
            let change = (slot.until < u64::MAX).then_some(UnixMillis(slot.until));
            self.pieces.keep(made, records, signer.times(), change, client.now);
        }
        outcome
    }

    /// What is known of a domain's name.
    fn slot(&mut self, snapshot: &Snapshot, name: &[u8; ROOM], now: UnixMillis) -> Option<Slot> {
        let at = hash(name) as usize & (self.slots.len() - 1);
        let slot = self.slots[at];
        if slot.met == self.met && slot.name == *name && now.0 < slot.until {
            return Some(slot);
        }
        let found = self.look_up(snapshot, name, now)?;
        self.make_room(snapshot.registry.domains.len());
        let at = hash(name) as usize & (self.slots.len() - 1);
        self.slots[at] = found;
        Some(found)
    }

    /// Finds out what stands at a name, by the rules of the general path.
    fn look_up(&self, snapshot: &Snapshot, name: &[u8; ROOM], now: UnixMillis) -> Option<Slot> {
        let registry = &snapshot.registry;
        let text = LookupName::from_wire(name);
        let zone = zone::find(registry, &self.responder.prepared, &text, 0)?;
        let node = zone::node(registry, &self.responder.prepared, &zone, &text);
        let NodeKind::Domain(domain) = node.kind else { return None };
        if node.cut(registry, &zone).is_some() || node.alias().is_some() {
            return None;
        }
        let keys = dnssec::keys_of(registry, &zone);
        let signed = !keys.is_empty();
        let changes = keys.iter().filter_map(|k| k.life.change()).map(|(at, _)| at.0);
        let until = changes.filter(|at| *at > now.0).min().unwrap_or(u64::MAX);
        let met = self.met;
        let mut slot = Slot { name: *name, met, domain, alike: [None; 2], signed, until };
        for (family, qtype) in [(Family::V4, TYPE_A), (Family::V6, TYPE_AAAA)] {
            if node.statics().all(|r| u16::from(records::record_type(&r.data)) != qtype) {
                let length = name::labels(name).map(|l| l.len() + 1).sum::<usize>() + 1;
                slot.alike[family.index()] = Some(alike::named(&name[..length], qtype));
            }
        }
        Some(slot)
    }

    /// Grows the table with the registry.
    fn make_room(&mut self, domains: usize) {
        if self.slots.len() < MOST_SLOTS && self.slots.len() < 2 * domains {
            self.slots = empty(domains);
        }
    }
}

fn empty(domains: usize) -> Box<[Slot]> {
    let slots = domains.saturating_mul(2).next_power_of_two().clamp(LEAST_SLOTS, MOST_SLOTS);
    let (domain, alike) = (DomainIndex(0), [None; 2]);
    let none = Slot { name: [0; ROOM], met: 0, domain, alike, signed: false, until: 0 };
    vec![none; slots].into_boxed_slice()
}

/// Spreads names over slots. Nobody but who registers domains can make two share one.
fn hash(name: &[u8; ROOM]) -> u64 {
    let mut hash = 0_u64;
    for word in name.as_chunks::<8>().0 {
        hash = (hash.rotate_left(5) ^ u64::from_le_bytes(*word)).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
    hash ^ hash >> 32
}

impl<'m> Common<'m> {
    /// The header of a reply with so many answers.
    fn header(&self, answers: u16) -> Header {
        Header {
            id: u16::from_be_bytes(self.id),
            rd: self.rd,
            authoritative: true,
            question: true,
            counts: [answers, 0, 0],
            opt: self.edns.is_some(),
            ..Header::default()
        }
    }

    /// Reads a message that the general path's parser would accept, too; `None` for many that it would.
    fn read(message: &'m [u8]) -> Option<Common<'m>> {
        let &[i0, i1, f0, _, 0, 1, 0, 0, 0, 0, 0, more] = message.first_chunk::<HEADER_LEN>()? else {
            return None;
        };
        // QR and opcode; what else is there is of no importance in a query.
        if f0 & 0xf8 != 0 || more > 1 {
            return None;
        }
        let end = name_end(message)?;
        let [t0, t1, c0, c1] = *message.get(end..)?.first_chunk::<4>()?;
        let qtype = u16::from_be_bytes([t0, t1]);
        if !matches!(qtype, TYPE_A | TYPE_AAAA) || [c0, c1] != [0, 1] {
            return None;
        }
        let mut name = [0; ROOM];
        name[..end - HEADER_LEN].copy_from_slice(&message[HEADER_LEN..end]);
        // Length bytes are below 64, so they are no upper-case letters.
        name.make_ascii_lowercase();
        let rest = &message[end + 4..];
        let edns = match more {
            0 if rest.is_empty() => None,
            1 => Some(opt(rest, end + 4)?),
            _ => return None,
        };
        Some(Common {
            id: [i0, i1],
            rd: f0 & 1 != 0,
            question: &message[HEADER_LEN..end + 4],
            name,
            qtype,
            edns,
        })
    }
}

/// The offset after the question's name, if that is common.
fn name_end(message: &[u8]) -> Option<usize> {
    let mut at = HEADER_LEN;
    loop {
        match *message.get(at)? {
            0 => break,
            length @ 1..64 => at += 1 + usize::from(length),
            _ => return None,
        }
        if at >= HEADER_LEN + ROOM {
            return None;
        }
    }
    Some(at + 1)
}

/// An OPT record that is all that follows.
fn opt(record: &[u8], at: usize) -> Option<Edns> {
    let (fixed, data) = record.split_first_chunk::<11>()?;
    let [0, t0, t1, p0, p1, _, 0, z0, _, l0, l1] = *fixed else { return None };
    if u16::from_be_bytes([t0, t1]) != TYPE_OPT || usize::from(u16::from_be_bytes([l0, l1])) != data.len() {
        return None;
    }
    let options = query::options(data, at + 11).ok()?;
    // Right or wrong by the transport: rare either way.
    let plain = options.keepalive.is_none();
    let (payload, dnssec_ok) = (u16::from_be_bytes([p0, p1]), z0 & 0x80 != 0);
    plain.then_some(Edns { payload, dnssec_ok, compact_ok: dnssec_ok && z0 & 0x40 != 0, options })
}

/// Header, question and addresses; `None` when there are none, or not enough room for them.
fn write(query: &Common<'_>, choice: &Choice, ttl: u32, room: usize, out: &mut Vec<u8>) -> Option<()> {
    let count = choice.addrs.len();
    if count == 0 || HEADER_LEN + query.question.len() + 28 * count > room {
        return None;
    }
    // At most `MAX_ANSWERS`.
    let header = query.header(count as u16);
    out.clear();
    out.extend_from_slice(&header.bytes());
    out.extend_from_slice(query.question);
    for addr in &choice.addrs {
        // The owner is the question's name, which stands after the header.
        let [t0, t1, t2, t3] = ttl.to_be_bytes();
        match addr {
            IpAddr::V4(a) => {
                out.extend_from_slice(&[0xc0, HEADER_LEN as u8, 0, 1, 0, 1, t0, t1, t2, t3, 0, 4]);
                out.extend_from_slice(&a.octets());
            }
            IpAddr::V6(a) => {
                out.extend_from_slice(&[0xc0, HEADER_LEN as u8, 0, 28, 0, 1, t0, t1, t2, t3, 0, 16]);
                out.extend_from_slice(&a.octets());
            }
        }
    }
    Some(())
}

/// Header, question and the records of an answer given before; `None` when there is not enough room.
fn write_signed(query: &Common<'_>, piece: &Piece, room: usize, out: &mut Vec<u8>) -> Option<()> {
    if HEADER_LEN + query.question.len() + piece.records.len() > room {
        return None;
    }
    out.clear();
    out.extend_from_slice(&query.header(piece.count).bytes());
    out.extend_from_slice(query.question);
    out.extend_from_slice(&piece.records);
    Some(())
}

const _: () = assert!(ROOM < MAX_WIRE);

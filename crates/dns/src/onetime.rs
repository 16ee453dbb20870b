//! One-time names: `<nonce>.probe.<domain>`.
//!
//! A network whose resolver sends no client subnet is only known by the resolver's address. A client
//! in it looks up a name that nobody else asks for, and then reports under that nonce: whoever asked
//! us for the name is the resolver that the client's network is behind. The answer is the domain's
//! own, so that what looks the name up sees nothing unusual.

use crate::name::WireName;
use crate::records;
use crate::reply::{ReplyError, Section};
use crate::resolve::Resolver;
use arrayvec::ArrayString;
use nearmost_core::registry::DomainIndex;

/// The label above one-time names.
pub(crate) const LABEL: &str = "probe";
/// Fewest characters of a nonce: 80 bits of base32, which nobody guesses within its minute.
pub const MIN_NONCE: usize = 16;
/// Most characters of a nonce.
pub const MAX_NONCE: usize = 32;
/// TTL of the answers, in seconds. A name is asked for once, so a cached answer would serve nobody
/// and only push out others. It is not 0, since the stub, a forwarder and the resolver of one client
/// ask in a row, and some resolvers keep what has a TTL of 0 for a minimum of their own.
const TTL_S: u32 = 1;

/// What makes a one-time name: 16 to 32 letters and digits, in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nonce(ArrayString<MAX_NONCE>);

impl Nonce {
    /// The nonce of a text in any case; resolvers mix it (draft-vixie-dnsext-dns0x20).
    pub fn parse(text: &str) -> Option<Nonce> {
        let well_formed =
            (MIN_NONCE..=MAX_NONCE).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        let mut nonce = ArrayString::from(text).ok().filter(|_| well_formed)?;
        nonce.make_ascii_lowercase();
        Some(Nonce(nonce))
    }

    /// Its text, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a name that is this much below a domain is among one-time names.
pub(crate) enum Place {
    /// `probe`: it exists above them.
    Above,
    /// One of them.
    Name(Nonce),
}

/// Finds out whether `prefix`, which stands before a domain, makes a one-time name.
pub(crate) fn place(prefix: &str) -> Option<Place> {
    match prefix.strip_suffix(LABEL)? {
        "" => Some(Place::Above),
        rest => rest.strip_suffix('.').and_then(Nonce::parse).map(Place::Name),
    }
}

impl Resolver<'_, '_> {
    /// Addresses as at the domain's own name, and the nonce for whoever keeps it.
    pub(crate) fn one_time(
        &mut self,
        domain: DomainIndex,
        nonce: Nonce,
        owner: &WireName,
    ) -> Result<bool, ReplyError> {
        self.outcome.nonce = Some(nonce);
        let (own, qtype) = (self.snapshot.registry.domain(domain), self.qtype);
        // What is fixed at the domain's name wins over its mirrors there, and so here.
        let fixed = own.records.iter().filter(|r| r.name == own.name);
        let mut fixed = fixed.filter(|r| records::record_type(&r.data) == qtype).peekable();
        if fixed.peek().is_none() {
            let Some(choice) = self.choose(domain, self.family()) else { return Ok(false) };
            return self.each(Section::Answer, owner, TTL_S, choice.addrs);
        }
        for record in fixed {
            records::add_static(&mut self.reply, Section::Answer, owner, TTL_S, &record.data)?;
        }
        Ok(true)
    }
}

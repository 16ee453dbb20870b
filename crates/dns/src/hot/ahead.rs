//! What the queries of a batch will look up, guessed from their bytes before the first is answered.
//!
//! ```text
//! expect(query) × n ─► slot of the name ┐
//! look_ahead()      ─► index of its cells ├ each brought to the cache while the others are told
//!                   ─► ranges            ┘
//! answer(query) × n    finds them there
//! ```
//!
//! A guess reads only what the common query has, and checks nothing: a wrong one costs a line of the cache. An
//! answer never depends on it.

use super::{HotPath, ROOM, hash, name_end};
use crate::query::HEADER_LEN;
use arrayvec::ArrayVec;
use nearmost_core::ahead;
use nearmost_core::map::Step;
use nearmost_core::snapshot::Snapshot;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most guesses that are kept: of more queries at once, the last are looked up without.
const MOST: usize = 64;
/// Code of the client subnet (RFC 7871 §6).
const CLIENT_SUBNET: u16 = 8;
/// Bytes from the end of the name to the first option: type and class, then OPT without its data.
const TO_OPTIONS: usize = 4 + 11;

/// One query's.
#[derive(Clone, Copy, Debug)]
struct Guess {
    /// Of its name.
    hash: u64,
    /// Whom the answer is for.
    client: IpAddr,
}

/// Of a batch.
#[derive(Debug, Default)]
pub(super) struct Guesses(ArrayVec<Guess, MOST>);

impl HotPath {
    /// Of fewer queries together than this none can wait for another: to tell of them is of no use.
    pub const FEWEST: usize = 3;

    /// Guesses what a query will look up, as one of several that are answered together; then
    /// [`HotPath::look_ahead`].
    pub fn expect(&mut self, message: &[u8], source: IpAddr) {
        let Some(guess) = guess(message, source) else { return };
        ahead::fetch(&self.slots, guess.slot(self.slots.len()));
        // Beyond the room there is, it does without.
        let _ = self.guesses.0.try_push(guess);
    }

    /// Has what was guessed brought to the cache.
    pub fn look_ahead(&mut self, snapshot: &Snapshot) {
        self.meet(&snapshot.registry);
        for step in [Step::First, Step::Second].into_iter().filter(|_| self.guesses.0.len() >= Self::FEWEST) {
            for guess in &self.guesses.0 {
                let slot = &self.slots[guess.slot(self.slots.len())];
                if slot.met == self.met {
                    snapshot.map.expect(slot.domain, guess.client, step);
                }
            }
        }
        self.guesses.0.clear();
    }
}

impl Guess {
    /// Where its name is looked for, among a power of two of slots.
    fn slot(&self, slots: usize) -> usize {
        self.hash as usize & (slots - 1)
    }
}

/// Of a query that looks common.
fn guess(message: &[u8], source: IpAddr) -> Option<Guess> {
    let end = name_end(message)?;
    let mut name = [0; ROOM];
    name.get_mut(..end - HEADER_LEN)?.copy_from_slice(message.get(HEADER_LEN..end)?);
    name.make_ascii_lowercase();
    let subnet = message.get(end + TO_OPTIONS..).and_then(client_subnet);
    Some(Guess { hash: hash(&name), client: subnet.unwrap_or(source) })
}

/// The address in the first client subnet among options.
fn client_subnet(mut options: &[u8]) -> Option<IpAddr> {
    while let Some((&[c0, c1, l0, l1], rest)) = options.split_first_chunk::<4>() {
        let data = rest.get(..usize::from(u16::from_be_bytes([l0, l1])))?;
        if u16::from_be_bytes([c0, c1]) == CLIENT_SUBNET {
            // Family, lengths of source and scope, address (RFC 7871 §6).
            let (&[_, family, source, _], address) = data.split_first_chunk::<4>()?;
            return match (source, family) {
                (0, _) => None,
                (_, 1) => Some(Ipv4Addr::from(padded::<4>(address)).into()),
                (_, 2) => Some(Ipv6Addr::from(padded::<16>(address)).into()),
                _ => None,
            };
        }
        options = &rest[data.len()..];
    }
    None
}

/// An address that was cut after its last byte that is not zero, or later.
fn padded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut whole = [0; N];
    for (byte, known) in whole.iter_mut().zip(bytes) {
        *byte = *known;
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn query(name: &[u8], options: &[u8]) -> Vec<u8> {
        let mut query = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
        query.extend_from_slice(name);
        query.extend_from_slice(&[0, 1, 0, 1, 0, 0, 41, 4, 208, 0, 0, 0, 0, 0, options.len() as u8]);
        query.extend_from_slice(options);
        query
    }

    #[test]
    fn the_client_is_whom_the_subnet_names_else_who_asks() {
        let source = IpAddr::from([192, 0, 2, 7]);
        let client = |options: &[u8]| guess(&query(b"\x04Play\x04test\0", options), source).unwrap().client;
        assert_eq!(client(&[]), source);
        assert_eq!(client(&[0, 8, 0, 7, 0, 1, 24, 0, 198, 51, 100]), IpAddr::from([198, 51, 100, 0]));
        let cookie_first = [0, 10, 0, 2, 9, 9, 0, 8, 0, 6, 0, 2, 16, 0, 0x20, 1];
        assert_eq!(client(&cookie_first), "2001::".parse::<IpAddr>().unwrap());
        assert_eq!(client(&[0, 8, 0, 4, 0, 1, 0, 0]), source, "a source of no bits");
        assert_eq!(client(&[0, 8, 0, 9, 0, 1, 24, 0, 198]), source, "cut short");
    }

    #[test]
    fn names_are_guessed_alike_however_they_are_written() {
        let source = IpAddr::from([192, 0, 2, 7]);
        let of = |name: &[u8]| guess(&query(name, &[]), source).unwrap().hash;
        assert_eq!(of(b"\x04Play\x04test\0"), of(b"\x04pLAY\x04TEST\0"));
        assert_ne!(of(b"\x04play\x04test\0"), of(b"\x04plax\x04test\0"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..160)) {
            guess(&bytes, IpAddr::from([192, 0, 2, 7]));
            client_subnet(&bytes);
        }
    }
}

//! DNS cookies (RFC 7873) in the form that all servers of a name can check (RFC 9018).
//!
//! ```text
//!  option    | client cookie, 8 | server cookie, 0 or 8 … 32 |
//!  ours                         | 1 | 0 0 0 | timestamp, 4 | SipHash-2-4, 8 |
//!                                 of client cookie, what stands left of the hash, source address
//! ```
//!
//! The secret of the hash is another one each day. It derives from the site's key and the day of the
//! cookie's own timestamp, so that the brokers of a site accept each other's cookies without a word
//! between them, across midnight too, and nothing is kept. What a broker derives it with
//! (SipHash-2-4 with 128 bits) is a keyed function like the hash itself.
//!
//! | query's cookie       | reply                                                        |
//! |----------------------|--------------------------------------------------------------|
//! | none                 | without a cookie                                             |
//! | client's only        | with a new server cookie; BADCOOKIE when they are required    |
//! | valid                | with the same one, or a new one after half an hour           |
//! | expired, forged, …   | like the client's only                                       |

use crate::error::{ErrorKind, QueryError};
use nearmost_core::time::UnixMillis;
use siphasher::{sip, sip128};
use std::net::IpAddr;

/// The option's code.
pub const OPTION_CODE: u16 = 10;
/// Bytes of a client's cookie.
const CLIENT: usize = 8;
/// Bytes of a server cookie of ours.
const SERVER: usize = 16;
/// Bytes of both.
pub(crate) const WHOLE: usize = CLIENT + SERVER;
/// The version of server cookies that are made and accepted (RFC 9018 §4.1).
const VERSION: u8 = 1;
/// Seconds for which a server cookie is valid (RFC 9018 §4.3).
const LIFETIME: i32 = 3600;
/// Seconds by which the clock of another broker may be ahead (RFC 9018 §4.3).
const AHEAD: i32 = 300;
/// Seconds after which a new server cookie is given (RFC 9018 §4.3).
const RENEW: i32 = 1800;
/// Seconds for which cookies are made with one secret.
const PERIOD: u32 = 86_400;

/// A cookie option that was well formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// The client's cookie, which the reply repeats.
    pub client: [u8; CLIENT],
    /// The server cookie beside it.
    pub server: ServerPart,
}

/// The server's part of a query's cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerPart {
    /// None: the client knows none yet.
    Absent,
    /// One that is as long as ours.
    Whole([u8; SERVER]),
    /// One of another length, which cannot be ours.
    Foreign,
}

/// What a query's cookie says about its source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum CookieState {
    /// No cookie, or cookies are off: the source may be forged.
    #[default]
    Absent,
    /// A client's cookie only: the source may be forged.
    ClientOnly,
    /// The source has had a reply of this site within the hour.
    Valid,
    /// A server cookie that this site did not give to this source within the hour.
    Bad,
}

impl CookieState {
    /// All, in the order of their discriminants.
    pub const ALL: [CookieState; 4] =
        [CookieState::Absent, CookieState::ClientOnly, CookieState::Valid, CookieState::Bad];

    /// Label for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            CookieState::Absent => "absent",
            CookieState::ClientOnly => "client_only",
            CookieState::Valid => "valid",
            CookieState::Bad => "bad",
        }
    }
}

impl Cookie {
    /// Decodes an option's data that stands at offset `at` of its message.
    ///
    /// # Errors
    /// [`ErrorKind::CookieLength`] for every length but 8 and 16 to 40 (RFC 7873 §5.2.2).
    pub fn parse(data: &[u8], at: usize) -> Result<Cookie, QueryError> {
        let Some((&client, server)) = data.split_first_chunk::<CLIENT>() else {
            return Err(ErrorKind::CookieLength.at(at));
        };
        let server = match server.len() {
            0 => ServerPart::Absent,
            8..=32 => server.try_into().map_or(ServerPart::Foreign, ServerPart::Whole),
            _ => return Err(ErrorKind::CookieLength.at(at)),
        };
        Ok(Cookie { client, server })
    }
}

/// What the server cookies of a site are made with: 128 secret bits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CookieKey([u8; 16]);

impl std::fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CookieKey(secret)")
    }
}

impl CookieKey {
    /// From secret bytes that all brokers of a site share, and nothing else uses.
    pub fn new(bytes: [u8; 16]) -> CookieKey {
        CookieKey(bytes)
    }

    /// What a cookie says of its source at a time, and the whole cookie that the reply has.
    pub(crate) fn check(
        &self,
        cookie: &Cookie,
        source: IpAddr,
        now: UnixMillis,
    ) -> (CookieState, [u8; WHOLE]) {
        // Cut to 32 bits, which are compared by serial arithmetic (RFC 9018 §4.3).
        let now = (now.0 / 1000) as u32;
        let fresh = || join(cookie.client, self.server_cookie(cookie.client, now, source));
        let known = match cookie.server {
            ServerPart::Absent => return (CookieState::ClientOnly, fresh()),
            ServerPart::Foreign => return (CookieState::Bad, fresh()),
            ServerPart::Whole(known) => known,
        };
        match self.age(cookie.client, known, source, now) {
            None => (CookieState::Bad, fresh()),
            Some(age) if age > RENEW => (CookieState::Valid, fresh()),
            Some(_) => (CookieState::Valid, join(cookie.client, known)),
        }
    }

    /// How many seconds ago a server cookie was made, if it is valid.
    fn age(&self, client: [u8; CLIENT], server: [u8; SERVER], source: IpAddr, now: u32) -> Option<i32> {
        let [version, r0, r1, r2, t0, t1, t2, t3, hash @ ..] = server;
        let made = u32::from_be_bytes([t0, t1, t2, t3]);
        let age = now.wrapping_sub(made) as i32;
        if version != VERSION || !(-AHEAD..=LIFETIME).contains(&age) {
            return None;
        }
        // The reserved bytes are hashed as they came (RFC 9018 §4.2).
        let wanted = hashed(&self.secret(made), client, [version, r0, r1, r2], made, source);
        (u64::from_le_bytes(hash) == wanted).then_some(age)
    }

    /// A new server cookie.
    fn server_cookie(&self, client: [u8; CLIENT], now: u32, source: IpAddr) -> [u8; SERVER] {
        made_with(&self.secret(now), client, now, source)
    }

    /// The secret of the day in which a timestamp lies.
    fn secret(&self, timestamp: u32) -> [u8; 16] {
        let period = (timestamp / PERIOD).to_be_bytes();
        sip128::SipHasher24::new_with_key(&self.0).hash(&period).as_bytes()
    }
}

/// A server cookie of a secret.
fn made_with(secret: &[u8; 16], client: [u8; CLIENT], now: u32, source: IpAddr) -> [u8; SERVER] {
    let head = [VERSION, 0, 0, 0];
    let mut cookie = [0; SERVER];
    cookie[..4].copy_from_slice(&head);
    cookie[4..8].copy_from_slice(&now.to_be_bytes());
    cookie[8..].copy_from_slice(&hashed(secret, client, head, now, source).to_le_bytes());
    cookie
}

/// The hash of a server cookie (RFC 9018 §4.4); its bytes are little-endian on the wire.
fn hashed(secret: &[u8; 16], client: [u8; CLIENT], head: [u8; 4], made: u32, source: IpAddr) -> u64 {
    let mut input = [0; CLIENT + 8 + 16];
    input[..8].copy_from_slice(&client);
    input[8..12].copy_from_slice(&head);
    input[12..16].copy_from_slice(&made.to_be_bytes());
    // Sockets of both families tell of IPv4 clients by mapped addresses.
    let length = match source.to_canonical() {
        IpAddr::V4(a) => {
            input[16..20].copy_from_slice(&a.octets());
            20
        }
        IpAddr::V6(a) => {
            input[16..].copy_from_slice(&a.octets());
            32
        }
    };
    sip::SipHasher24::new_with_key(secret).hash(&input[..length])
}

fn join(client: [u8; CLIENT], server: [u8; SERVER]) -> [u8; WHOLE] {
    let mut whole = [0; WHOLE];
    whole[..CLIENT].copy_from_slice(&client);
    whole[CLIENT..].copy_from_slice(&server);
    whole
}

#[cfg(test)]
#[path = "cookie_tests.rs"]
mod tests;

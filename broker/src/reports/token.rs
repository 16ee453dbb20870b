//! Sessions of clients that come over HTTP: what `GET /v1/resolve` gives and `POST /v1/rtt` takes.
//!
//! A token says for which domain and client network it was given, and when. It is sealed, so nothing
//! is remembered for those who never report, and what is reported comes from where it says: whoever
//! wants to speak for a network must have received an answer in it.
//!
//! ```text
//! base64url of: 1 | issued | expires | 4 or 6 | network      | domain | HMAC-SHA-256
//!               1   8        8         1        3 or 6 bytes   ≤ 253    32
//! ```
//!
//! Times are Unix milliseconds, big-endian. The key is made at start and kept nowhere: a restart ends
//! all sessions, and their clients resolve again.

use data_encoding::BASE64URL_NOPAD;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nearmost_core::rtt::Coarseness;
use nearmost_core::time::UnixMillis;
use nearmost_wire::identity::KeyError;
use ring::hmac;
use ring::rand::SystemRandom;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The only version there is.
const VERSION: u8 = 1;
/// How long a session lasts, in milliseconds.
const LIFE_MS: u64 = 10 * 60 * 1000;
/// A clock that was set back by more than this ends the sessions that it gave out before.
const SET_BACK_MS: u64 = 60 * 1000;
/// Longest text that is looked at, in bytes.
const MAX_TEXT: usize = 512;
/// Bytes of the seal.
const SEAL: usize = 32;

/// Why a text is not a session of this client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not even the form of one.
    #[error("the session is cut short, too long or no base64url; it is taken as it was given")]
    Malformed,
    /// Not sealed by this process.
    #[error("the session was not given by this broker, or before its last start; resolve again")]
    Forged,
    /// Its time is over.
    #[error("the session has expired; resolve again")]
    Expired,
    /// Given to a client elsewhere.
    #[error("the session was given to another network than {0}; resolve again")]
    Network(IpNet),
}

impl TokenError {
    /// A bounded, snake-case code.
    pub fn code(&self) -> &'static str {
        match self {
            TokenError::Malformed => "session_malformed",
            TokenError::Forged => "session_forged",
            TokenError::Expired => "session_expired",
            TokenError::Network(_) => "session_network",
        }
    }
}

/// Seals sessions.
pub struct TokenKey(hmac::Key);

impl TokenKey {
    /// A new key.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn generate() -> Result<TokenKey, KeyError> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        key.map(TokenKey).map_err(|_| KeyError::Random)
    }

    /// A session of a domain for a client, from now on.
    pub fn seal(&self, domain: &str, client: IpAddr, now: UnixMillis) -> String {
        let claims = Claims {
            issued: now,
            expires: UnixMillis(now.0.saturating_add(LIFE_MS)),
            network: Coarseness::default().network(client),
            domain: domain.into(),
        };
        let mut bytes = claims.encode();
        let seal = hmac::sign(&self.0, &bytes);
        bytes.extend_from_slice(seal.as_ref());
        BASE64URL_NOPAD.encode(&bytes)
    }

    /// The domain of a client's session.
    ///
    /// # Errors
    /// [`TokenError`] says what is wrong with it.
    pub fn open(&self, text: &str, client: IpAddr, now: UnixMillis) -> Result<String, TokenError> {
        if text.len() > MAX_TEXT {
            return Err(TokenError::Malformed);
        }
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| TokenError::Malformed)?;
        let (body, seal) = bytes
            .len()
            .checked_sub(SEAL)
            .and_then(|at| bytes.split_at_checked(at))
            .ok_or(TokenError::Malformed)?;
        hmac::verify(&self.0, body, seal).map_err(|_| TokenError::Forged)?;
        let claims = Claims::decode(body).ok_or(TokenError::Malformed)?;
        if now >= claims.expires || claims.issued.0 > now.0.saturating_add(SET_BACK_MS) {
            return Err(TokenError::Expired);
        }
        let network = Coarseness::default().network(client);
        match claims.network == network {
            true => Ok(claims.domain),
            false => Err(TokenError::Network(network)),
        }
    }
}

/// What a session says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Claims {
    issued: UnixMillis,
    expires: UnixMillis,
    network: IpNet,
    domain: String,
}

impl Claims {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.issued.0.to_be_bytes());
        bytes.extend_from_slice(&self.expires.0.to_be_bytes());
        match self.network {
            IpNet::V4(n) => {
                bytes.push(4);
                bytes.extend_from_slice(&n.addr().octets()[..3]);
            }
            IpNet::V6(n) => {
                bytes.push(6);
                bytes.extend_from_slice(&n.addr().octets()[..6]);
            }
        }
        bytes.extend_from_slice(self.domain.as_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Claims> {
        let (&[VERSION], rest) = bytes.split_first_chunk::<1>()? else { return None };
        let (issued, rest) = rest.split_first_chunk::<8>()?;
        let (expires, rest) = rest.split_first_chunk::<8>()?;
        let (network, domain) = match rest.split_first()? {
            (4, rest) => {
                let (&[a, b, c], domain) = rest.split_first_chunk::<3>()?;
                (IpNet::V4(Ipv4Net::new(Ipv4Addr::new(a, b, c, 0), 24).ok()?), domain)
            }
            (6, rest) => {
                let (prefix, domain) = rest.split_first_chunk::<6>()?;
                let mut octets = [0; 16];
                octets[..6].copy_from_slice(prefix);
                (IpNet::V6(Ipv6Net::new(Ipv6Addr::from(octets), 48).ok()?), domain)
            }
            _ => return None,
        };
        Some(Claims {
            issued: UnixMillis(u64::from_be_bytes(*issued)),
            expires: UnixMillis(u64::from_be_bytes(*expires)),
            network,
            domain: String::from_utf8(domain.to_vec()).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DOMAIN: &str = "play.example.com";
    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    fn key() -> TokenKey {
        TokenKey::generate().unwrap()
    }

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn after(ms: u64) -> UnixMillis {
        UnixMillis(NOW.0 + ms)
    }

    #[test]
    fn a_session_is_good_in_its_network_for_ten_minutes() {
        let key = key();
        let token = key.seal(DOMAIN, at("192.0.2.7"), NOW);
        for client in ["192.0.2.7", "192.0.2.200", "::ffff:192.0.2.1"] {
            assert_eq!(key.open(&token, at(client), after(LIFE_MS - 1)), Ok(DOMAIN.into()), "{client}");
        }
        assert_eq!(key.open(&token, at("192.0.2.7"), after(LIFE_MS)), Err(TokenError::Expired));
        let elsewhere = key.open(&token, at("192.0.3.7"), NOW);
        assert_eq!(elsewhere, Err(TokenError::Network("192.0.3.0/24".parse().unwrap())));
        assert_eq!(key.open(&token, at("2001:db8::1"), NOW).unwrap_err().code(), "session_network");

        let token = key.seal(DOMAIN, at("2001:db8:1:2::3"), NOW);
        assert_eq!(key.open(&token, at("2001:db8:1:ffff::"), NOW), Ok(DOMAIN.into()));
        assert!(matches!(key.open(&token, at("2001:db8:2::"), NOW), Err(TokenError::Network(_))));
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_make_sessions_last() {
        let key = key();
        let token = key.seal(DOMAIN, at("192.0.2.7"), NOW);
        assert!(key.open(&token, at("192.0.2.7"), UnixMillis(NOW.0 - SET_BACK_MS)).is_ok());
        let back = UnixMillis(NOW.0 - SET_BACK_MS - 1);
        assert_eq!(key.open(&token, at("192.0.2.7"), back), Err(TokenError::Expired));
    }

    #[test]
    fn what_this_process_did_not_seal_is_refused() {
        let (key, other) = (key(), key());
        let client = at("192.0.2.7");
        let token = key.seal(DOMAIN, client, NOW);
        assert_eq!(other.open(&token, client, NOW), Err(TokenError::Forged));
        // Another domain, another network, a longer life: the seal is over all of it.
        let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).unwrap();
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            let forged = BASE64URL_NOPAD.encode(&bytes);
            assert_eq!(key.open(&forged, client, NOW), Err(TokenError::Forged), "byte {at}");
        }
        for end in 0..token.len() {
            let cut = key.open(&token[..end], client, NOW).unwrap_err();
            assert!(matches!(cut, TokenError::Forged | TokenError::Malformed), "{end}: {cut}");
        }
        assert_eq!(key.open(&"A".repeat(MAX_TEXT + 1), client, NOW), Err(TokenError::Malformed));
        assert_eq!(key.open(&format!("{token}="), client, NOW), Err(TokenError::Malformed));
        assert_eq!(key.open("", client, NOW), Err(TokenError::Malformed));
    }

    #[test]
    fn the_longest_name_fits() {
        let (key, client) = (key(), at("2001:db8::1"));
        let domain = "d".repeat(253);
        assert_eq!(key.open(&key.seal(&domain, client, NOW), client, NOW), Ok(domain));
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_refused_and_never_panics(text in "\\PC{0,80}|[A-Za-z0-9_-]{0,600}") {
            prop_assert!(key().open(&text, at("192.0.2.7"), NOW).is_err());
        }

        #[test]
        fn arbitrary_claims_never_panic_and_come_back(bytes: Vec<u8>, v6: bool, domain in "[a-z.]{0,40}", client: u128) {
            let _ = Claims::decode(&bytes);
            let client: IpAddr = if v6 { Ipv6Addr::from_bits(client).into() } else { Ipv4Addr::from_bits(client as u32).into() };
            let network = Coarseness::default().network(client);
            let claims = Claims { issued: NOW, expires: after(1), network, domain };
            prop_assert_eq!(Claims::decode(&claims.encode()), Some(claims));
        }
    }
}

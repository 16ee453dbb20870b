//! A person's signature on an HTTP request.
//!
//! ```text
//! Authorization: Nearmost id=np1…, time=1760000000000, nonce=…, signature=…
//! ```
//! The signature (Ed25519, base64url without padding) is over [`signed_text`]: the broker's id, method,
//! path with query, time, nonce and the SHA-256 of the body. The server accepts times within
//! [`MAX_SKEW_MS`] and not before its own start (it forgets nonces when it ends), and each nonce once
//! in that window. With the id a request made to one broker is of no use at another, provided that the
//! signer knows whom it signs for: a client that asks the other side for its id must have verified that
//! side by TLS, or pin the id.

use crate::identity::{Id, KeyPair, Role, verify};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use sha2::{Digest, Sha256};

/// How far a request's time may be from the server's, in milliseconds.
pub const MAX_SKEW_MS: u64 = 60_000;
const SCHEME: &str = "Nearmost ";

/// What a signed request says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRequest {
    /// Who.
    pub person: Id,
    /// When, Unix milliseconds.
    pub time_ms: u64,
    /// Different in each request.
    pub nonce: String,
    signature: [u8; 64],
}

/// Why a request's signature is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Not of this scheme.
    #[error("the Authorization header is not of the form: Nearmost id=…, time=…, nonce=…, signature=…")]
    Format,
    /// The time is too far off.
    #[error("the request was signed {0} ms away from this broker's time; at most {MAX_SKEW_MS} are accepted")]
    Skew(u64),
    /// The signature does not fit.
    #[error("the signature does not fit the request, or is meant for another broker")]
    Signature,
}

/// A request as its signature covers it.
#[derive(Clone, Copy, Debug)]
pub struct Signable<'a> {
    /// Id of the broker that is asked.
    pub broker: &'a Id,
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// As in the request line.
    pub path_and_query: &'a str,
    /// Exact bytes.
    pub body: &'a [u8],
}

/// What is signed.
pub fn signed_text(request: &Signable<'_>, time_ms: u64, nonce: &str) -> Vec<u8> {
    let Signable { broker, method, path_and_query, body } = request;
    let body = HEXLOWER.encode(&Sha256::digest(body));
    format!("nearmost http v2\n{broker}\n{method}\n{path_and_query}\n{time_ms}\n{nonce}\n{body}\n")
        .into_bytes()
}

/// The value of the `Authorization` header.
pub fn sign(key: &KeyPair, request: &Signable<'_>, time_ms: u64, nonce: &str) -> String {
    let signature = key.sign(&signed_text(request, time_ms, nonce));
    let signature = BASE64URL_NOPAD.encode(&signature);
    format!("{SCHEME}id={}, time={time_ms}, nonce={nonce}, signature={signature}", key.id())
}

impl SignedRequest {
    /// From an `Authorization` header.
    pub fn parse(header: &str) -> Result<SignedRequest, AuthError> {
        let rest = header.strip_prefix(SCHEME).ok_or(AuthError::Format)?;
        let mut parts = [None; 4];
        for part in rest.split(',') {
            let (key, value) = part.trim().split_once('=').ok_or(AuthError::Format)?;
            let at = ["id", "time", "nonce", "signature"]
                .iter()
                .position(|k| *k == key)
                .ok_or(AuthError::Format)?;
            if parts[at].replace(value).is_some() {
                return Err(AuthError::Format);
            }
        }
        let [Some(id), Some(time), Some(nonce), Some(signature)] = parts else {
            return Err(AuthError::Format);
        };
        if nonce.is_empty() || nonce.len() > 64 {
            return Err(AuthError::Format);
        }
        let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).map_err(|_| AuthError::Format)?;
        Ok(SignedRequest {
            person: Id::parse(id, Role::Person).map_err(|_| AuthError::Format)?,
            time_ms: time.parse().map_err(|_| AuthError::Format)?,
            nonce: nonce.into(),
            signature: signature.try_into().map_err(|_| AuthError::Format)?,
        })
    }

    /// Checks time and signature; that the nonce is new is the server's to check.
    pub fn check(&self, request: &Signable<'_>, now_ms: u64) -> Result<(), AuthError> {
        let skew = self.time_ms.abs_diff(now_ms);
        if skew > MAX_SKEW_MS {
            return Err(AuthError::Skew(skew));
        }
        let text = signed_text(request, self.time_ms, &self.nonce);
        match verify(&self.person.key, &text, &self.signature) {
            true => Ok(()),
            false => Err(AuthError::Signature),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(seed: u8) -> Id {
        KeyPair::from_seed(Role::Broker, &[seed; 32]).id()
    }

    #[test]
    fn a_signed_request_is_accepted_and_every_change_is_not() {
        let key = KeyPair::from_seed(Role::Person, &[5; 32]);
        let (here, elsewhere) = (broker(1), broker(2));
        let asked =
            Signable { broker: &here, method: "POST", path_and_query: "/v1/registry?x=1", body: b"body" };
        let request = SignedRequest::parse(&sign(&key, &asked, 1_000_000, "n1")).unwrap();
        assert_eq!(request.person, key.id());
        assert_eq!(request.check(&asked, 1_030_000), Ok(()));
        for other in [
            Signable { broker: &elsewhere, ..asked },
            Signable { method: "PUT", ..asked },
            Signable { path_and_query: "/v1/registry", ..asked },
            Signable { body: b"other", ..asked },
        ] {
            assert_eq!(request.check(&other, 1_000_000), Err(AuthError::Signature), "{other:?}");
        }
        assert_eq!(request.check(&asked, 1_060_001), Err(AuthError::Skew(60_001)));
        let mut late = request.clone();
        late.time_ms += 1;
        assert_eq!(late.check(&asked, 1_000_000), Err(AuthError::Signature));
    }

    #[test]
    fn other_headers_are_refused() {
        let key = KeyPair::from_seed(Role::Person, &[5; 32]);
        let asked = Signable { broker: &broker(1), method: "GET", path_and_query: "/", body: b"" };
        let good = sign(&key, &asked, 1, "n");
        for bad in
            ["", "Bearer x", "Nearmost ", "Nearmost id=1", &good[..good.len() - 3], &format!("{good}, id=x")]
        {
            assert_eq!(SignedRequest::parse(bad), Err(AuthError::Format), "{bad}");
        }
    }
}

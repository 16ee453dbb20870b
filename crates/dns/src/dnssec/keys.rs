//! Zone keys: what DNSKEY and DS say of the public part, and signatures of the private one.

use data_encoding::{BASE64, HEXUPPER};
use p256::ecdsa::Signature;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use ring::{digest, hkdf};

/// ECDSAP256SHA256 (RFC 6605 §2).
pub const ALGORITHM: u8 = 13;
/// Zone key and secure entry point (RFC 4034 §2.1.1): one key is both.
const FLAGS: u16 = 257;
/// The only protocol of a DNSKEY (RFC 4034 §2.1.2).
const PROTOCOL: u8 = 3;
/// SHA-256 (RFC 4509).
const DIGEST_SHA256: u8 = 2;
/// Bytes of record data of DNSKEY.
const DNSKEY_LEN: usize = 68;
/// How often another scalar is tried; one in 2^32 is none.
const ATTEMPTS: u8 = 8;

/// The public part of a zone's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// Both coordinates (RFC 6605 §4).
    point: [u8; 64],
}

/// What a parent holds of a key (RFC 4034 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ds {
    /// The key's tag.
    pub tag: u16,
    /// SHA-256 of the zone's name and the key.
    pub digest: [u8; 32],
}

impl PublicKey {
    /// From both coordinates, big-endian.
    pub fn new(point: [u8; 64]) -> PublicKey {
        PublicKey { point }
    }

    /// Record data of DNSKEY and CDNSKEY.
    pub fn dnskey(&self) -> [u8; DNSKEY_LEN] {
        let mut data = [0; DNSKEY_LEN];
        data[..2].copy_from_slice(&FLAGS.to_be_bytes());
        data[2] = PROTOCOL;
        data[3] = ALGORITHM;
        data[4..].copy_from_slice(&self.point);
        data
    }

    /// The key tag (RFC 4034 appendix B).
    pub fn tag(&self) -> u16 {
        let words = self.dnskey();
        let words = words.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(w[1]));
        let sum: u32 = words.sum();
        (sum + (sum >> 16)) as u16
    }

    /// The DS of a zone, whose name is given as text without escapes; `None` when that is no name.
    pub fn ds(&self, zone: &str) -> Option<Ds> {
        let name = crate::name::WireName::from_text(&zone.to_ascii_lowercase())?;
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(name.wire());
        hash.update(&self.dnskey());
        let mut ds = Ds { tag: self.tag(), digest: [0; 32] };
        ds.digest.copy_from_slice(hash.finish().as_ref());
        Some(ds)
    }

    /// Record data of DNSKEY as zone files have it.
    pub fn text(&self) -> String {
        format!("{FLAGS} {PROTOCOL} {ALGORITHM} {}", BASE64.encode(&self.point))
    }
}

impl Ds {
    /// Record data of DS and CDS.
    pub fn data(&self) -> [u8; 36] {
        let mut data = [0; 36];
        data[..2].copy_from_slice(&self.tag.to_be_bytes());
        data[2] = ALGORITHM;
        data[3] = DIGEST_SHA256;
        data[4..].copy_from_slice(&self.digest);
        data
    }

    /// The same as zone files and registrars' forms have it.
    pub fn text(&self) -> String {
        format!("{} {ALGORITHM} {DIGEST_SHA256} {}", self.tag, HEXUPPER.encode(&self.digest))
    }
}

/// Both parts of a zone's key.
#[derive(Clone)]
pub struct SigningKey {
    secret: p256::ecdsa::SigningKey,
    public: PublicKey,
}

impl SigningKey {
    /// From a secret scalar, big-endian; `None` when it is 0 or beyond the curve's order.
    pub fn from_scalar(scalar: &[u8; 32]) -> Option<SigningKey> {
        let secret = p256::ecdsa::SigningKey::from_slice(scalar).ok()?;
        let point = secret.verifying_key().to_sec1_point(false);
        // Uncompressed: 4, then both coordinates (SEC 1 §2.3.3).
        let (_, coordinates) = point.as_bytes().split_first()?;
        Some(SigningKey { public: PublicKey::new(coordinates.try_into().ok()?), secret })
    }

    /// The public part.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// Signs a SHA-256 hash: both numbers, big-endian (RFC 6605 §4). The same hash gives the same bytes.
    pub fn sign(&self, hash: &[u8; 32]) -> Option<[u8; 64]> {
        let signature: Signature = self.secret.sign_prehash(hash).ok()?;
        Some(signature.to_bytes().into())
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the secret.
        f.debug_tuple("SigningKey").field(&self.public.tag()).finish()
    }
}

/// Makes a site's keys from its secret.
#[derive(Clone)]
pub struct KeyDerivation {
    secret: hkdf::Prk,
}

/// Bytes that a derivation gives.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl KeyDerivation {
    /// From 32 bytes that only the brokers of one site know.
    pub fn new(secret: &[u8; 32]) -> KeyDerivation {
        KeyDerivation { secret: hkdf::Salt::new(hkdf::HKDF_SHA256, b"nearmost zone keys v1").extract(secret) }
    }

    /// What the site is called: eight characters that tell nothing of the secret.
    pub fn site(&self) -> String {
        let mut bytes = [0; 5];
        self.fill(&[b"site"], &mut bytes);
        data_encoding::BASE32_NOPAD.encode(&bytes).to_ascii_lowercase()
    }

    /// The site's key of a zone (lower case, no final dot) with this number.
    pub fn key(&self, zone: &str, generation: u32) -> Option<SigningKey> {
        (0..ATTEMPTS).find_map(|attempt| {
            let mut scalar = [0; 32];
            self.fill(&[b"key", &generation.to_be_bytes(), &[attempt], zone.as_bytes()], &mut scalar);
            SigningKey::from_scalar(&scalar)
        })
    }

    fn fill(&self, info: &[&[u8]], out: &mut [u8]) {
        // At most 32 bytes, far below HKDF's limit of 255 blocks: neither step can fail. If one did, zeros
        // are no key.
        if let Ok(okm) = self.secret.expand(info, Length(out.len())) {
            let _ = okm.fill(out);
        }
    }
}

impl std::fmt::Debug for KeyDerivation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyDerivation")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6605 §6.1.
    const SECRET: &str = "GU6SnQ/Ou+xC5RumuIUIuJZteXT2z0O/ok1s38Et6mQ=";
    const PUBLIC: &str =
        "GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==";

    fn example() -> SigningKey {
        let scalar: [u8; 32] = BASE64.decode(SECRET.as_bytes()).unwrap().try_into().unwrap();
        SigningKey::from_scalar(&scalar).unwrap()
    }

    #[test]
    fn the_key_of_rfc_6605() {
        let public = example().public();
        assert_eq!(public.text(), format!("257 3 13 {PUBLIC}"));
        assert_eq!(public.tag(), 55648);
        // There the digest is SHA-256 too: `example.net. 3600 IN DS 55648 13 2 (b4c8c1fe…)`.
        let expected = "55648 13 2 B4C8C1FE2E7477127B27115656AD6256F424625BF5C1E2770CE6D6E37DF61D17";
        assert_eq!(public.ds("Example.net.").unwrap().text(), expected);
        assert_eq!(public.ds("a..b"), None);
    }

    #[test]
    fn zero_and_what_is_beyond_the_order_are_no_keys() {
        assert!(SigningKey::from_scalar(&[0; 32]).is_none());
        assert!(SigningKey::from_scalar(&[0xff; 32]).is_none());
    }

    #[test]
    fn every_zone_number_and_site_has_its_own_key() {
        let (a, b) = (KeyDerivation::new(&[1; 32]), KeyDerivation::new(&[2; 32]));
        let all = [
            a.key("example.com", 1),
            a.key("example.com", 2),
            a.key("example.net", 1),
            b.key("example.com", 1),
        ];
        let all = all.map(|k| k.unwrap().public());
        for (i, key) in all.iter().enumerate() {
            assert!(!all[..i].contains(key));
        }
        assert_eq!(a.key("example.com", 1).unwrap().public(), all[0]);
        assert_ne!(a.site(), b.site());
        assert_eq!(a.site().len(), 8);
    }

    #[test]
    fn signatures_are_deterministic_and_no_secret_is_shown() {
        let key = example();
        assert_eq!(key.sign(&[7; 32]), key.sign(&[7; 32]));
        assert_ne!(key.sign(&[7; 32]), key.sign(&[8; 32]));
        assert_eq!(format!("{key:?}"), "SigningKey(55648)");
    }
}

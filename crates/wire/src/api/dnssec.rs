//! Keys that a domain is signed with.

use serde::{Deserialize, Serialize};

api! {
/// What a domain is signed with.
pub struct DnssecResponse {
    /// The domain.
    pub domain: String,
    /// What the broker's site is called.
    pub site: String,
    /// Its keys, of all sites.
    pub keys: Vec<DnssecKeyView>,
    /// Number of the site's key that would be next …
    pub next_generation: u32,
    /// … and its public part, in base64.
    pub next_public: String,
    /// How long the site publishes a new key before its DS may come, in seconds.
    pub publish_hold_s: u64,
    /// How long it keeps an old one, in seconds.
    pub retire_hold_s: u64,
}
}

api! {
/// One key.
pub struct DnssecKeyView {
    /// Its site and number.
    pub id: String,
    /// Whose it is.
    pub site: String,
    /// Whether the broker signs with it.
    pub own: bool,
    /// Its tag (RFC 4034 appendix B).
    pub tag: u16,
    /// How far it is: `published`, `ready`, `active`, `retiring`, `leaving`, `left` or `removed`.
    pub stage: String,
    /// When the stage ends by itself, Unix milliseconds.
    pub until_unix_ms: Option<u64>,
    /// What comes then.
    pub next_stage: Option<String>,
    /// Record data of DNSKEY.
    pub dnskey: String,
    /// Record data of DS; empty before the parent may have it.
    pub ds: String,
}
}

//! Peers, and the records of applications.

use serde::{Deserialize, Serialize};

api! {
/// The federation as this broker sees it.
pub struct PeersResponse {
    /// This broker's id.
    pub broker: String,
    /// Which life of its log positions belong to.
    pub log_epoch: u64,
    /// Its log's last position.
    pub log_position: u64,
    /// Statements that it holds.
    pub statements: u64,
    /// Hash of the statements that decide about rights, in hexadecimal.
    pub rights_digest: String,
    /// Hash of all others, in hexadecimal: equal on brokers that hold the same.
    pub digest: String,
    /// Every other member, by name.
    pub peers: Vec<PeerView>,
    /// Pairs of members that do not see each other, as far as they tell.
    pub splits: Vec<SplitView>,
    /// What a person should look at: domains claimed twice, authors that forked.
    pub alarms: Vec<String>,
}
}

api! {
/// Two members that are not connected.
pub struct SplitView {
    /// One's id.
    pub a: String,
    /// The other's.
    pub b: String,
    /// Since when this broker knows it, Unix milliseconds.
    pub since_unix_ms: u64,
}
}

api! {
/// One peer.
pub struct PeerView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it may change members and everything else that concerns all.
    pub admin: bool,
    /// Domains that it may create and run.
    pub domains: Vec<String>,
    /// Id of the broker on whose word it is a member.
    pub via: Option<String>,
    /// Where it is reached, `host:port`.
    pub addresses: Vec<String>,
    /// `up`, `dialling` or `down`.
    pub state: String,
    /// When it was last connected, Unix milliseconds; 0 for never.
    pub last_contact_unix_ms: u64,
    /// Since when the connection is up, Unix milliseconds.
    pub up_since_unix_ms: Option<u64>,
    /// Failed attempts at connecting since then.
    pub attempts: u32,
    /// Why the last one failed.
    pub last_error: Option<String>,
    /// In how long the next is made, in milliseconds.
    pub next_try_ms: Option<u64>,
    /// The round trip to it, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// What it was not told yet.
    pub queue: PeerQueueView,
    /// Why it may lack more than the queue holds: `new`, `expired`, `overflowed`, `log_begun`.
    pub behind: Option<String>,
    /// When all was last compared with it, Unix milliseconds; 0 for never.
    pub last_compared_unix_ms: u64,
    /// Records received in a comparison that is under way.
    pub comparing: Option<u64>,
    /// Ids of members that it is connected with.
    pub sees: Vec<String>,
    /// What it refused for good lately, oldest first.
    pub refusals: Vec<RefusedRecordView>,
}
}

api! {
/// What a peer was not told yet.
pub struct PeerQueueView {
    /// Records.
    pub records: u64,
    /// Of them waiting after a refusal that may pass.
    pub paused: u64,
    /// Bytes that are under way.
    pub in_flight_bytes: u64,
    /// Age of the oldest, in milliseconds.
    pub oldest_ms: Option<u64>,
    /// Records that waited for too long and were dropped, ever.
    pub expired: u64,
    /// Records refused for good since the broker's start.
    pub refused: u64,
}
}

api! {
/// A record that a peer refused for good.
pub struct RefusedRecordView {
    /// What it is about.
    pub record: String,
    /// The peer's answer: `unauthorised`, `banned`, `forked`, `malformed`.
    pub answer: String,
    /// The peer's reason.
    pub why: String,
    /// When, Unix milliseconds.
    pub at_unix_ms: u64,
}
}

api! {
/// Asks for a one-time token with which a broker joins.
pub struct PeerInviteRequest {
    /// The new member's name; its nodes are named `NAME` or `NAME-…` unless it is an admin.
    pub name: String,
    /// Whether it may change members and everything else that concerns all.
    pub admin: bool,
    /// Domains that it may create and run: `a.example`, `*.a.example` or `*`.
    pub domains: Vec<String>,
    /// How long the token may be used, in seconds.
    pub ttl_s: u64,
}
}

api! {
/// A one-time token.
pub struct PeerInviteResponse {
    /// Its text.
    pub token: String,
    /// Until when it may be used, Unix milliseconds.
    pub expires_unix_ms: u64,
}
}

api! {
/// Asks to join a federation.
pub struct PeerJoinRequest {
    /// The token.
    pub token: String,
}
}

api! {
/// Whom the broker asks to be let in.
pub struct PeerJoinResponse {
    /// The inviting broker's id.
    pub peer: String,
    /// Where it is asked.
    pub addresses: Vec<String>,
}
}

api! {
/// An application's record.
pub struct AppRecordView {
    /// The domain.
    pub domain: String,
    /// Its kind's number, with the bits that say how it merges.
    pub kind: u16,
    /// Which one.
    pub id: String,
    /// The body in base64; absent where it was removed.
    pub body: Option<String>,
    /// The author's id.
    pub author: String,
    /// When it was written, on the hybrid clock, Unix milliseconds.
    pub hlc_millis: u64,
    /// The hybrid clock's counter.
    pub hlc_counter: u16,
}
}

api! {
/// Applications' records, in the order of kind and id.
pub struct AppRecordsResponse {
    /// The registry's version that they are of.
    pub version: u64,
    /// They.
    pub records: Vec<AppRecordView>,
}
}

api! {
/// Asks for a copy of everything the broker holds.
pub struct BackupRequest {
    /// Where to, on the broker's machine.
    pub path: String,
    /// Whether a file that is there may be replaced.
    pub overwrite: bool,
}
}

api! {
/// A copy was made.
pub struct BackupResponse {
    /// Statements in it.
    pub statements: u64,
}
}

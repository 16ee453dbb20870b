//! The session of a client: what it knows, what it is attached to, when it moves, and the mirror's side.
//!
//! A client holds a ranked [`list`] of the domain's mirrors, is attached to a **primary** and keeps a
//! warm **standby** in another failure domain, on a socket of its own. Both machines are sans-IO:
//!
//! ```text
//!   broker ── list, changes ──▶ ┌────────────────┐ ── probe, attach, promote ──▶ ┌──────────────────┐
//!          ◀── resolve ──────── │ client::Client │ ◀─ accepted, refused, drain ─ │ mirror::Sessions │
//!   application ◀── events ──── └────────────────┘ ◀──── beacons, data ────────▶ └──────────────────┘
//! ```
//!
//! | file | its part |
//! |---|---|
//! | [`list`] | ranked mirrors, versions, changes, soft and hard expiry |
//! | [`rtt`], [`loss`] | round trip, loss, and the bound on silence that follows from it |
//! | [`window`] | which packets of a duplicated flow were seen |
//! | [`client`] | resolving, probing, racing, attached, degraded, moving, draining |
//! | [`mirror`] | admission, promotion, drain and takeover at the mirror |
//!
//! **Beacons.** Either side numbers its packets to the other, data and beacons alike, and every packet
//! of a mirror carries an [`Ack`]: the highest number it has from the client and how long ago that
//! came. So each beacon proves both directions and gives a round trip. A beacon that *asks* is answered
//! at once. Beacons of a client also carry the role that it wants of the mirror: a promotion that is
//! lost comes again with the next one.
//!
//! **Tripwires.** Beside its QUIC connection a client holds a TCP connection to each mirror, on which
//! nobody says anything. It closes with the mirror's process, and while the mirror does not call itself
//! well. Nobody vouches for it: routers and attackers can close it too. So its end means one thing:
//!
//! > Send new work elsewhere, now if a standby is fresh, else as soon as one answers. Nothing ends by it.
//!
//! | what closes | what follows |
//! |---|---|
//! | a primary's, the standby is fresh | the standby is promoted at once; the old link is left like any other and counts as dead, and is reported, only when it is silent as well |
//! | a primary's, no fresh standby | doubt: all are asked. A standby that answers is promoted, a primary that answers stays; one that is silent for the bound as well is no longer primary, whether or not there is another |
//! | a standby's | another standby is looked for, and replaces it |
//! | one of a mirror that is being left | nothing: a mirror that drains may close them or not |
//! | one just opened | the mirror does not call itself well, or something between ends such connections: nobody moves there unforced, and that is all |
//!
//! A mirror that has no room for a tripwire says a byte before it closes it, which means that there is none.
//! The end of the QUIC connection itself is another matter: that link is gone.
//!
//! **Modes.** [`Mode::Datagram`] may send a packet twice and over two mirrors; the receiver's [`window`]
//! drops copies. In [`Mode::Stream`] new streams go to the primary, and streams of a mirror that is left
//! end there: in order when it drains, with it when it dies. A third mode, *Message*, is reserved:
//! messages that the client keeps until the service acknowledges them and replays to the next mirror,
//! with numbers by which services drop what they have applied. Its place is here, as a `Mode`, with its
//! log between the application and [`client::Output::Promote`]; nothing else of the machine changes.
//!
//! Signatures and proofs are checked outside, before anything is handed in.

pub mod client;
#[cfg(test)]
mod leave_tests;
pub mod list;
pub mod loss;
pub mod mirror;
#[cfg(test)]
mod rough_tests;
pub mod rtt;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod sim_tests;
pub mod window;

use std::time::Duration;

/// A mirror, as the shell numbers it: the same number for the same mirror as long as the session lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MirrorKey(pub u64);

/// A client's session: a random number of the client's, the same at every mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What a mirror is to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// New work goes to it.
    Primary,
    /// It is kept warm.
    Standby,
}

/// When datagrams are sent over the standby as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Duplicate {
    /// Never: the service cannot bear copies.
    Never,
    /// While the primary is in doubt.
    #[default]
    WhileDegraded,
    /// Always.
    Always,
}

/// What the application's packets may suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Each packet stands alone.
    Datagram(Duplicate),
    /// Streams that live and end with one mirror.
    Stream,
}

/// What a mirror has of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The highest number that came.
    pub seq: u64,
    /// How long before this packet left.
    pub held: Duration,
}

/// Randomness of one machine, from the seed that its driver hands in (splitmix64).
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        crate::hash::mix(self.0)
    }

    /// Evenly between `low` and `high` times `of`.
    fn between(&mut self, of: Duration, low: f64, high: f64) -> Duration {
        of.mul_f64(low + (high - low) * crate::hash::unit(self.next()))
    }
}

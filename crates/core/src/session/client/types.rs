//! What goes into a client's machine and what comes out, and its settings.

use crate::health::Family;
use crate::session::list::{Change, ListVersion, MirrorList};
use crate::session::loss::Patience;
use crate::session::{Ack, MirrorKey, Role};
use std::net::SocketAddr;
use std::time::Duration;

/// Where a session stands; the diagram is above [`super::Client`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// A broker is being asked for mirrors.
    Resolving,
    /// Mirrors are being asked for a sign of life, or the next attempt is waited for.
    Probing,
    /// Mirrors that answered are being attached, the nearest first.
    Racing,
    /// Attached, with or without a warm standby.
    Attached,
    /// Attached to a primary in doubt.
    Degraded,
    /// Attached, and on the way to a better mirror.
    Moving,
    /// Attached to a primary that must be left, and on the way to another.
    Draining,
    /// Ended by the application.
    Closed,
}

/// What can happen to a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A broker sent a whole list.
    ListArrived(MirrorList),
    /// A broker sent a change, or one without content: that what is held still holds.
    Changed(Change),
    /// The broker cannot be reached, or the connection to it ended.
    BrokerLost,
    /// The connection to the broker stands (again).
    BrokerBack,
    /// A mirror answered a probe.
    ProbeAnswered {
        /// Which.
        mirror: MirrorKey,
        /// Over which family.
        family: Family,
        /// There and back.
        rtt: Duration,
    },
    /// A probe came to nothing.
    ProbeFailed {
        /// Which mirror.
        mirror: MirrorKey,
        /// Over which family.
        family: Family,
    },
    /// A mirror accepted.
    Accepted(MirrorKey),
    /// A mirror refused: to be attached, or to be promoted.
    Refused {
        /// Which.
        mirror: MirrorKey,
        /// Not to be tried before.
        retry_after: Duration,
        /// Where it says there is room.
        go_to: Option<MirrorKey>,
    },
    /// An attempt failed, or the connection of an attached mirror ended.
    Failed(MirrorKey),
    /// An authentic packet of a mirror, beacon or data, over the connection last attached to it: a new
    /// connection numbers anew.
    Heard {
        /// Whose.
        mirror: MirrorKey,
        /// Its number.
        seq: u64,
        /// What the mirror has of this client.
        ack: Option<Ack>,
    },
    /// The tripwire connection to a mirror, which had held for a while, closed.
    TripwireClosed(MirrorKey),
    /// The tripwire connection to a mirror was closed as soon as it was opened.
    TripwireRefused(MirrorKey),
    /// A mirror says that it drains.
    Drains {
        /// Which.
        mirror: MirrorKey,
        /// Where it says there is room.
        go_to: Option<MirrorKey>,
    },
    /// The application found that the service behind a mirror takes nobody, although the mirror serves.
    Unserved(MirrorKey),
    /// No stream is open any more over a mirror that was [retired](Output::Retire).
    Finished(MirrorKey),
    /// The machine's addresses or routes changed.
    NetworkChanged,
    /// The application ends the session.
    Close,
    /// Time passed.
    Tick,
}

/// What the shell is to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Output {
    /// Ask the broker of this index for what is newer than `have`, and for changes from then on.
    Resolve {
        /// Index into the brokers that the shell knows.
        broker: usize,
        /// What is held; `None` asks for the whole list.
        have: Option<ListVersion>,
    },
    /// Ask for a sign of life.
    Probe {
        /// Of which mirror.
        mirror: MirrorKey,
        /// Where.
        address: SocketAddr,
    },
    /// Attach, on a socket of its own, with a tripwire beside it.
    Attach {
        /// To which mirror.
        mirror: MirrorKey,
        /// Where.
        address: SocketAddr,
        /// As what.
        role: Role,
    },
    /// New work goes there from now on, and no more to the one before.
    Promote(MirrorKey),
    /// Tell a mirror that new work goes elsewhere; what it still sends is taken. [`Input::Finished`] is
    /// wanted as soon as no stream is open over it.
    Retire(MirrorKey),
    /// Close the connection.
    Detach {
        /// To which mirror.
        mirror: MirrorKey,
        /// Why.
        reason: Leave,
    },
    /// Send each datagram over this mirror as well; `None` ends it.
    Duplicate(Option<MirrorKey>),
    /// Send a beacon.
    Beacon {
        /// To which mirror.
        mirror: MirrorKey,
        /// Its number.
        seq: u64,
        /// It is to be answered at once.
        ask: bool,
        /// What the mirror is to the session.
        role: Role,
        /// How often the mirror is to send.
        period: Duration,
    },
    /// Tell the broker that a mirror failed.
    ReportFailed(MirrorKey),
    /// Tell the application.
    Event(Event),
}

/// What the application is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A first primary, or one after nothing was left.
    Attached(MirrorKey),
    /// The primary is in doubt.
    Degraded(MirrorKey),
    /// The primary is no longer in doubt.
    Restored(MirrorKey),
    /// The primary is gone, and no standby is there to take over.
    Lost(MirrorKey),
    /// Another primary answers.
    Moved {
        /// Who it was.
        from: MirrorKey,
        /// Who it is.
        to: MirrorKey,
        /// Why.
        reason: MoveReason,
        /// Between the last packet of the old primary and the first of the new, less the period
        /// in which packets come anyway.
        gap: Duration,
    },
}

/// Why a session moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MoveReason {
    /// The primary fell silent and the standby did not.
    Silence,
    /// Its tripwire closed or its connection ended.
    Tripwire,
    /// It drains, or its service takes nobody.
    Drain,
    /// The broker's list says that it is down, or no longer has it.
    Unlisted,
    /// It has no room.
    Refused,
    /// Another has been clearly nearer for long enough.
    Better,
}

impl MoveReason {
    /// Whether the old primary still serves until the new one does.
    pub fn orderly(self) -> bool {
        matches!(self, MoveReason::Drain | MoveReason::Unlisted | MoveReason::Better)
    }
}

/// Why a mirror is detached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leave {
    /// Another was faster, or it is no longer needed.
    Unneeded,
    /// It took too long.
    TimedOut,
    /// It counts as dead.
    Dead,
    /// It refused.
    Refused,
    /// The list forbids it.
    Unlisted,
    /// It drains.
    Drained,
    /// The session has moved and what was under way is done.
    Moved,
    /// The application ended the session.
    Closed,
}

/// What was ignored, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lists and changes that are older than what is held.
    pub stale: u64,
    /// Changes that left a gap.
    pub gaps: u64,
    /// Lists and changes past their hard TTL.
    pub expired: u64,
    /// Acknowledgements of packets never sent.
    pub false_acks: u64,
    /// Inputs about mirrors that they cannot be about.
    pub unexpected: u64,
}

/// How often packets are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between a client and its primary.
    pub steady: Duration,
    /// The same where more than one packet in a hundred is lost.
    pub brisk: Duration,
    /// Between a client and its standby.
    pub standby: Duration,
    /// While the primary is in doubt.
    pub doubting: Duration,
    /// Until a new primary is known to have been promoted.
    pub proving: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Pace { steady: ms(50), brisk: ms(25), standby: ms(250), doubting: ms(20), proving: ms(10) }
    }
}

/// How a first mirror is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gaining {
    /// Mirrors that are probed first.
    pub probes: usize,
    /// The longest wait for an answer.
    pub probe: Duration,
    /// The longest time between two attempts (RFC 8305 §5).
    pub stagger: Duration,
    /// Wait after a round without success, doubling …
    pub first_rest: Duration,
    /// … up to this, with full jitter.
    pub most_rest: Duration,
    /// After so many rounds the brokers are asked again.
    pub rounds: u32,
    /// How long a broker may take.
    pub resolve: Duration,
}

impl Default for Gaining {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Gaining {
            probes: 5,
            probe: ms(1000),
            stagger: ms(250),
            first_rest: ms(250),
            most_rest: ms(30_000),
            rounds: 3,
            resolve: ms(5000),
        }
    }
}

/// When a mirror that serves well is left for a better one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shifting {
    /// Better by so much at least …
    pub margin: Duration,
    /// … and by this share of the primary's round trip.
    pub share: f64,
    /// For so long, doubled by each move of late but the first …
    pub hold: Duration,
    /// … up to this.
    pub most_hold: Duration,
    /// Moves older than this no longer count.
    pub memory: Duration,
    /// How often others are probed.
    pub check: Duration,
}

impl Default for Shifting {
    fn default() -> Self {
        let s = Duration::from_secs;
        Shifting {
            margin: Duration::from_millis(10),
            share: 0.2,
            hold: s(30),
            most_hold: s(1800),
            memory: s(3600),
            check: s(10),
        }
    }
}

/// A setting that no session can keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("session setting {name} must be {bounds}")]
pub struct SettingError {
    /// Which.
    pub name: &'static str,
    /// What it may be.
    pub bounds: &'static str,
}

/// All settings of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClientConfig {
    /// How often packets are sent.
    pub pace: Pace,
    /// What silence may cost.
    pub patience: Patience,
    /// How a first mirror is found.
    pub gaining: Gaining,
    /// When a mirror is left for a better one.
    pub shifting: Shifting,
}

impl ClientConfig {
    /// Whether a session can keep to these settings.
    ///
    /// # Errors
    /// [`SettingError`] names the first that it cannot.
    pub fn check(&self) -> Result<(), SettingError> {
        let ClientConfig { pace, patience, gaining, shifting } = self;
        let day = Duration::from_secs(24 * 3600);
        let (least, most) = (Duration::from_millis(1), Duration::from_secs(10));
        let fits = |name, value: Duration, least: Duration, most: Duration, bounds| {
            if (least..=most).contains(&value) { Ok(()) } else { Err(SettingError { name, bounds }) }
        };
        for (name, value) in [
            ("pace.steady", pace.steady),
            ("pace.brisk", pace.brisk),
            ("pace.standby", pace.standby),
            ("pace.doubting", pace.doubting),
            ("pace.proving", pace.proving),
        ] {
            fits(name, value, least, most, "1 ms to 10 s")?;
        }
        for (name, value) in [
            ("patience.pause", patience.pause),
            ("patience.most_for_pause", patience.most_for_pause),
            ("patience.most_for_loss", patience.most_for_loss),
            ("gaining.probe", gaining.probe),
            ("gaining.stagger", gaining.stagger),
            ("gaining.first_rest", gaining.first_rest),
            ("gaining.most_rest", gaining.most_rest),
            ("gaining.resolve", gaining.resolve),
            ("shifting.margin", shifting.margin),
            ("shifting.hold", shifting.hold),
            ("shifting.most_hold", shifting.most_hold),
            ("shifting.memory", shifting.memory),
        ] {
            fits(name, value, Duration::ZERO, day, "a day at most")?;
        }
        fits("shifting.check", shifting.check, Duration::from_millis(100), day, "100 ms to a day")?;
        for (name, value, least) in [
            ("patience.pauses", patience.pauses, 0.0),
            ("patience.by_pause", patience.by_pause, 1e-9),
            ("patience.by_loss", patience.by_loss, 1e-9),
            ("shifting.share", shifting.share, 0.0),
        ] {
            if !(least..=1e6).contains(&value) {
                return Err(SettingError {
                    name,
                    bounds: "a number from 0 to a million, and some allowance not 0",
                });
            }
        }
        match gaining.probes {
            0 => Err(SettingError { name: "gaining.probes", bounds: "1 or more" }),
            _ => Ok(()),
        }
    }
}

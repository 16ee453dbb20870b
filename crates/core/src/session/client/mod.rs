//! The client's machine: one session with one domain.
//!
//! | file | its part |
//! |---|---|
//! | `types` | inputs, outputs, settings |
//! | `book` | the list, what was learnt of its mirrors, whom to choose |
//! | `link` | one attached mirror: numbers, acknowledgements, doubt |
//! | `broker` | which broker is asked, and when again |
//! | `gain` | probing and racing |
//! | `join` | attempts to attach, and how they end |
//! | `hold` | primary and standby: beacons, doubt, promotion |
//! | `leave` | mirrors that are being left, and the way back |
//! | `shift` | leaving in order, and moving to a better mirror |
//!
//! The driver's loop: [`Client::handle`] an input, [`Client::poll_output`] until it is empty, sleep
//! until [`Client::next_deadline`] or the next event; at the deadline hand in [`Input::Tick`]. A packet
//! of data takes its number from [`Client::stamp`].
//!
//! When the driver itself was held up, nothing that was missed meanwhile counts.

mod book;
mod broker;
mod gain;
mod hold;
mod join;
mod leave;
mod link;
#[cfg(test)]
mod prop_tests;
#[cfg(test)]
mod rule_tests;
mod shift;
#[cfg(test)]
mod tests;
mod types;

pub use types::{
    ClientConfig, Event, Gaining, Input, Leave, MoveReason, Output, Pace, Phase, SettingError, Shifting,
    Tally,
};

use super::list::{Change, Held, MirrorList, Taken};
use super::{Dice, MirrorKey, Mode, SessionId};
use crate::time::{MonoTime, Now};
use book::Book;
use broker::Broker;
use gain::Gain;
use hold::Links;
use join::Joins;
use link::Cause;
use shift::Shift;
use std::collections::VecDeque;
use std::time::Duration;

/// Between a call and the next deadline that it names.
const SOONEST: Duration = Duration::from_millis(1);
/// A driver that is this much late was held up.
const HELD_UP: Duration = Duration::from_millis(50);

/// The session of one client.
///
/// ```text
///                 list                first answer           accepted
///  RESOLVING ───────────▶ PROBING ───────────────▶ RACING ─────────────▶ ATTACHED ◀────────────┐
///      ▲                  ▲ │  ▲   or a moment      │                   │  │  ▲   │            │
///      │  three rounds    │ │  └────────────────────┘                   │  │  │   │ better     │
///      └── in vain ───────┼─┘    all refused or failed         a beacon │  │  │   │ for long   │
///                         │                                    missed   │  │  │   ▼            │
///                         │ ended, or silent without tripwire           ▼  │  │  MOVING ───────┤
///                         └───────── or for long; no standby ── DEGRADED   │  │    attached,   │
///                                                                 │  │     │  │    promoted    │
///                       standby answers and silence lasts,        │  └─────┼──┘                │
///                       or tripwire closed: PROMOTE ──────────────┼────────┼──────────────────▶│
///                                                       heard     │        ▼ drain, unlisted   │
///                                                                 └──▶ DRAINING ───────────────┘
///  any ── application closes ──▶ CLOSED                                   attached, promoted
/// ```
///
/// The phase is derived from what is held: no primary means *resolving* (no list, or brokers asked
/// after rounds in vain), *probing* or *racing*; a primary in doubt is *degraded*, one to be left is
/// *draining* or *moving*. So no two parts can disagree on it. With a warm standby an orderly move
/// takes no time and shows as *attached* throughout.
///
/// One mirror is primary: the field holds one, and new work goes there and nowhere else. The one before
/// is *leaving* until nothing is under way over it:
///
/// ```text
///   promoted another ──▶ LEAVING, untold ── the new one serves: RETIRE ──▶ LEAVING ──▶ detached
///                             │                               finished, silent or ended: ▲
///   PRIMARY again ◀───────────┘ the new one refuses, ends or is silent, and this one lives
/// ```
pub struct Client {
    config: ClientConfig,
    me: Me,
    broker: Broker,
    book: Book,
    gain: Gain,
    joins: Joins,
    links: Links,
    shift: Shift,
    due: Option<MonoTime>,
    outputs: VecDeque<Output>,
}

/// Who the session is, and what it counts.
struct Me {
    session: SessionId,
    mode: Mode,
    dice: Dice,
    closed: bool,
    tally: Tally,
}

impl Client {
    /// A session that knows nothing but how many brokers there are (at least one is assumed); `seed`
    /// drives its jitter. It begins with the first input. Settings that do not pass
    /// [`ClientConfig::check`] may overflow.
    pub fn new(config: ClientConfig, session: SessionId, mode: Mode, brokers: usize, seed: u64) -> Client {
        let me = Me { session, mode, dice: Dice(seed), closed: false, tally: Tally::default() };
        Client {
            config,
            me,
            broker: Broker::new(brokers),
            book: Book::default(),
            gain: Gain::default(),
            joins: Joins::default(),
            links: Links::default(),
            shift: Shift::default(),
            due: None,
            outputs: VecDeque::new(),
        }
    }

    /// Takes an input and does what is due.
    pub fn handle(&mut self, input: Input, now: Now) {
        if self.me.closed {
            return;
        }
        self.attend(now.mono);
        self.take(input, now);
        if !self.me.closed {
            self.settle(now.mono);
        }
        self.due = self.deadline(now.mono).map(|due| due.max(now.mono + SOONEST));
    }

    /// The next thing for the driver to do. Take all after each input: nothing else bounds the queue.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Tick`] is wanted at the latest; `None` before the first input and when closed.
    pub fn next_deadline(&self) -> Option<MonoTime> {
        self.due
    }

    /// The number of a packet of data that leaves now for an attached mirror.
    pub fn stamp(&mut self, mirror: MirrorKey, now: MonoTime) -> Option<u64> {
        let link = self.links.get_mut(mirror)?;
        link.sent_data(now);
        Some(link.stamp(now))
    }

    /// The number of a packet of data that waits behind others: when it leaves, and so how long its
    /// acknowledgement took, is not known.
    pub fn stamp_behind(&mut self, mirror: MirrorKey) -> Option<u64> {
        Some(self.links.get_mut(mirror)?.number())
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        let Some(primary) = &self.links.primary else {
            return match (self.me.closed, self.book.held.is_none()) {
                (true, _) => Phase::Closed,
                (_, true) => Phase::Resolving,
                _ => self.gain.phase(),
            };
        };
        match (primary.doubt, self.shift.reason()) {
            (Some(_), _) => Phase::Degraded,
            (None, Some(MoveReason::Better)) => Phase::Moving,
            (None, Some(_)) => Phase::Draining,
            (None, None) => Phase::Attached,
        }
    }

    /// Where new work goes.
    pub fn primary(&self) -> Option<MirrorKey> {
        self.links.primary.as_ref().map(|link| link.mirror)
    }

    /// Who is kept warm.
    pub fn standby(&self) -> Option<MirrorKey> {
        self.links.standby.as_ref().map(|link| link.mirror)
    }

    /// Whether a mirror is of the list that is held.
    pub fn lists(&self, mirror: MirrorKey) -> bool {
        self.book.get(mirror).is_some()
    }

    /// The round trip to an attached mirror.
    pub fn rtt(&self, mirror: MirrorKey) -> Option<Duration> {
        self.links.get(mirror).map(|link| link.rtt.smoothed())
    }

    /// What was ignored.
    pub fn tally(&self) -> Tally {
        self.me.tally
    }

    fn attend(&mut self, now: MonoTime) {
        if self.due.is_some_and(|due| now > due + HELD_UP) {
            self.links.excuse(now);
        }
    }

    fn take(&mut self, input: Input, now: Now) {
        match input {
            Input::ListArrived(list) => self.list_arrived(list, now),
            Input::Changed(change) => self.changed(change, now),
            Input::BrokerLost => self.broker_lost(now.mono),
            Input::BrokerBack => self.broker_back(now.mono),
            Input::ProbeAnswered { mirror, family, rtt } => {
                if !self.book.answered(mirror, family, rtt, now.mono) {
                    self.me.tally.unexpected += 1;
                }
                self.gain.answered(mirror, family, now.mono);
            }
            Input::ProbeFailed { mirror, family } => {
                self.book.unanswered(mirror, family);
                self.gain.unanswered(mirror, family);
            }
            Input::Accepted(mirror) => self.accepted(mirror, now.mono),
            Input::Refused { mirror, retry_after, go_to } => {
                self.refused(mirror, retry_after, go_to, now.mono);
            }
            Input::Failed(mirror) => self.attempt_failed(mirror, now.mono),
            Input::Heard { mirror, seq, ack } => self.heard(mirror, seq, ack, now.mono),
            Input::TripwireClosed(mirror) => self.tripwire_closed(mirror, now.mono),
            Input::TripwireRefused(mirror) => self.tripwire_refused(mirror),
            Input::Drains { mirror, go_to } => self.drains(mirror, go_to, now.mono),
            Input::Unserved(mirror) => self.unserved(mirror, now.mono),
            Input::Finished(mirror) => self.links.leaving.finished(mirror),
            Input::NetworkChanged => self.network_changed(now.mono),
            Input::Close => self.close(),
            Input::Tick => {}
        }
    }

    fn list_arrived(&mut self, list: MirrorList, now: Now) {
        let taken = Held::take(&mut self.book.held, list, self.broker.awaits_list(), now);
        if taken != Taken::Gap {
            self.broker.answered();
        }
        self.taken(taken, now.mono);
    }

    fn changed(&mut self, change: Change, now: Now) {
        let taken = match &mut self.book.held {
            Some(held) => held.apply(change, now),
            None => Taken::Gap,
        };
        if taken != Taken::Gap {
            self.broker.answered();
        }
        self.taken(taken, now.mono);
    }

    fn taken(&mut self, taken: Taken, now: MonoTime) {
        match taken {
            Taken::Applied => {
                self.book.prune();
                self.gain.list_changed();
                self.reconcile(now);
            }
            Taken::Stale => self.me.tally.stale += 1,
            Taken::Expired => self.me.tally.expired += 1,
            Taken::Gap => {
                self.me.tally.gaps += 1;
                self.resolve(None, now);
            }
        }
    }

    fn network_changed(&mut self, now: MonoTime) {
        self.book.forgive();
        self.gain.again();
        for link in [&mut self.links.primary, &mut self.links.standby].into_iter().flatten() {
            link.rtt.forget();
        }
        self.doubt_primary(Cause::Silence, now);
    }

    fn close(&mut self) {
        let joining = self.joins.all().into_iter();
        for mirror in joining.chain(self.links.all()) {
            self.outputs.push_back(Output::Detach { mirror, reason: Leave::Closed });
        }
        (self.joins, self.links) = (Joins::default(), Links::default());
        self.me.closed = true;
    }

    /// Does all that is due.
    fn settle(&mut self, now: MonoTime) {
        if self.book.held.as_ref().is_some_and(|held| held.expires_at() <= now) {
            self.book.held = None;
            self.book.prune();
            self.drop_joins();
        }
        self.drive_broker(now);
        self.expire_joins(now);
        self.watch(now);
        self.drive_gain(now);
        self.drive_shift(now);
        self.keep_standby(now);
        self.send_beacons(now);
        self.keep_left(now);
        self.duplicate();
    }

    fn deadline(&self, now: MonoTime) -> Option<MonoTime> {
        if self.me.closed {
            return None;
        }
        let attached = self.links.primary.is_some();
        [
            self.book.held.as_ref().map(|held| held.expires_at()),
            self.broker.deadline(self.book.held.as_ref()),
            self.joins.deadline(),
            if attached { self.links.deadline(&self.config, now) } else { None },
            self.links.leaving.deadline(&self.config),
            if attached { self.shift.deadline(now) } else { None },
            self.gain.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

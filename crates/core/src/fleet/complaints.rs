//! Clients that report they do not reach a mirror.
//!
//! Reports are cheap to send and easy to forge, so they only ask questions. The first has the mirror
//! probed by everyone who can; reports from [`MANY`] networks also pause new assignments while that is
//! going on. When the probes pass, the mirror is deaf for a while to the networks that complained, twice as
//! long each time: whoever floods a broker with reports has a mirror probed now and then, and nothing more.
//! Meanwhile others are heard again soon, once [`MANY`] of them complain: one liar silences nobody else. What fails
//! for some networks only is learned as theirs (see [`crate::rtt`]).
//!
//! ```text
//!            report              reports from MANY networks
//!   quiet ───────────▶ asking ──────────────────────────────▶ asking, paused ── PATIENCE over ─▶ asking
//!     ▲                  │ probes pass                          │ probes pass
//!     └── deaf is over ─ deaf ◀─────────────────────────────────┘
//!                          └── reports from MANY others ────────▶ asking, paused
//! ```

use super::Fleet;
use super::links::Neighbourhood;
use super::mirror::Burst;
use crate::health::Family;
use crate::health::machine::Input;
use crate::registry::MirrorIndex;
use crate::time::{MonoTime, Now};
use arrayvec::ArrayVec;
use std::net::IpAddr;
use std::time::Duration;

/// Networks that complain at once and pause new assignments.
const MANY: usize = 3;
/// How long a complaint counts.
const WINDOW: Duration = Duration::from_secs(10);
/// Longest pause.
const PATIENCE: Duration = Duration::from_secs(3);
/// Shortest and longest deafness.
const DEAF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

/// Networks whose complaints turned out wrong that are remembered at a time.
const MOST_REFUTED: usize = 16;

/// Of one mirror in one family.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    recent: ArrayVec<(Neighbourhood, MonoTime), MANY>,
    paused_until: Option<MonoTime>,
    /// To whom it is deaf, and until when; the newest last.
    refuted: ArrayVec<Neighbourhood, MOST_REFUTED>,
    refuted_at: MonoTime,
    deaf_until: MonoTime,
    deafness: Duration,
}

/// What a complaint asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing new.
    Nothing,
    /// To be probed.
    Probe,
}

impl Complaints {
    /// A client of a network complains.
    pub fn hear(&mut self, from: Neighbourhood, now: MonoTime) -> Heard {
        let deaf = now < self.deaf_until;
        let just_refuted = now < self.refuted_at + DEAF.0;
        if deaf && (just_refuted || self.refuted.contains(&from)) {
            return Heard::Nothing;
        }
        self.recent.retain(|(_, at)| now.since(*at) < WINDOW);
        let first = self.recent.is_empty();
        let many = self.recent.iter().all(|(n, _)| *n != from) && !self.recent.is_full() && {
            self.recent.push((from, now));
            self.recent.is_full()
        };
        if many {
            self.paused_until = Some(now + PATIENCE);
        }
        if first && !deaf || many && deaf { Heard::Probe } else { Heard::Nothing }
    }

    /// It was reached from outside: the complaints are not about it.
    pub fn refuted(&mut self, now: MonoTime) {
        if self.recent.is_empty() {
            return;
        }
        // Whoever was left alone for long starts afresh.
        let rested = now.since(self.deaf_until) > DEAF.1;
        let longer = if rested { DEAF.0 } else { self.deafness * 2 };
        self.deafness = longer.clamp(DEAF.0, DEAF.1);
        self.refuted_at = now;
        self.deaf_until = now + self.deafness;
        if rested {
            self.refuted.clear();
        }
        for (from, _) in self.recent.drain(..) {
            self.refuted.retain(|n| *n != from);
            if self.refuted.is_full() {
                self.refuted.remove(0);
            }
            self.refuted.push(from);
        }
        self.paused_until = None;
    }

    /// Whether new users are kept away meanwhile.
    pub fn paused(&self, now: MonoTime) -> bool {
        self.paused_until.is_some_and(|until| now < until)
    }

    /// When a pause ends by itself.
    pub fn deadline(&self, now: MonoTime) -> Option<MonoTime> {
        self.paused_until.filter(|until| now < *until)
    }

    /// Networks that complained lately.
    pub fn count(&self) -> u32 {
        self.recent.len() as u32
    }
}

impl Fleet {
    /// A client at `client` could not reach a mirror in a family. Whether that asks for anything.
    pub fn on_client_failure(
        &mut self,
        mirror: MirrorIndex,
        family: Family,
        client: IpAddr,
        now: Now,
    ) -> bool {
        self.attend(now);
        let Some(slot) = self.mirrors.slot(mirror) else { return false };
        let Some(state) = self.mirrors.slots.get_mut(slot) else { return false };
        let side = &mut state.sides[family.index()];
        if state.spec.is_none() || side.addr.is_none() || !side.machine.verdict().state.eligible() {
            return false;
        }
        let heard = side.complaints.hear(Neighbourhood::of(client), now.mono);
        let (inputs, burst): (&[Input], Burst) = match heard {
            Heard::Probe => (&[Input::ClientsFail], Burst::Now),
            Heard::Nothing => (&[], Burst::AsWanted),
        };
        self.drive(slot, family, inputs, burst, now);
        heard == Heard::Probe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(n: u8) -> Neighbourhood {
        Neighbourhood::of([10, n, 0, 1].into())
    }

    fn at(ms: u64) -> MonoTime {
        MonoTime::from_millis(ms)
    }

    #[test]
    fn one_network_has_it_probed_and_pauses_nothing() {
        let mut complaints = Complaints::default();
        assert_eq!(complaints.hear(net(1), at(0)), Heard::Probe);
        for ms in 1..9000 {
            assert_eq!(complaints.hear(net(1), at(ms)), Heard::Nothing);
            assert!(!complaints.paused(at(ms)));
        }
    }

    #[test]
    fn many_networks_pause_it_until_probes_pass_or_patience_ends() {
        let mut complaints = Complaints::default();
        for n in 0..3 {
            complaints.hear(net(n), at(u64::from(n)));
        }
        assert!(complaints.paused(at(100)) && !complaints.paused(at(3002)));
        complaints.refuted(at(200));
        assert!(!complaints.paused(at(200)));
    }

    /// Probes, and tenths of a second in which it was paused, in an hour of a report each 100 ms from so many
    /// networks in turn, where every probe passes at once.
    fn flood(complaints: &mut Complaints, networks: u64) -> (u32, u32) {
        let (mut probes, mut paused) = (0, 0);
        for tick in 0..36_000u64 {
            let now = at(tick * 100);
            probes += u32::from(complaints.hear(net((tick % networks) as u8), now) == Heard::Probe);
            paused += u32::from(complaints.paused(now));
            if tick % 3 == 2 {
                complaints.refuted(now);
            }
        }
        (probes, paused)
    }

    #[test]
    fn a_flood_is_listened_to_less_and_less() {
        let mut complaints = Complaints::default();
        let (probes, paused) = flood(&mut complaints, 3);
        assert!(probes <= 12 && paused <= 12, "{probes} {paused}");
        // Whoever has hundreds of networks has it probed now and then, and paused for no longer than that takes.
        let (probes, paused) = flood(&mut Complaints::default(), 200);
        assert!(probes <= 360 && paused <= 360, "{probes} {paused}");
        // Left alone for long, it is heard again.
        assert_eq!(complaints.hear(net(1), at(10_000_000)), Heard::Probe);
    }

    #[test]
    fn a_liar_silences_nobody_else() {
        let mut complaints = Complaints::default();
        for minute in 0..60 {
            complaints.hear(net(9), at(minute * 60_000));
            complaints.refuted(at(minute * 60_000 + 100));
        }
        // Its word is not heard now, nor is that of one other; that of three is.
        let now = 59 * 60_000 + 20_000;
        let heard = [9, 1, 1, 2, 3].map(|n| complaints.hear(net(n), at(now)));
        assert_eq!(heard, [Heard::Nothing, Heard::Nothing, Heard::Nothing, Heard::Nothing, Heard::Probe]);
        assert!(complaints.paused(at(now + 1)));
    }
}

//! Whether the broker itself is connected: its self-doubt.
//!
//! A broker whose own line is cut sees everyone silent. What it alone concludes of a mirror counts
//! only while something else proves its line: a beacon or an answered probe from another network
//! within the last [`RECENT`], word of another broker, or an answer of one of its reference addresses. References are asked
//! only when nothing else proves it, and mirrors that were well are probed then every [`PULSE`], since where
//! no agents send beacons nothing may be heard for longer than [`RECENT`]. When its line was dead for a while, whoever was not heard meanwhile
//! gets [`SETTLE`] from then on. A broker that has nothing to compare with (one network, no
//! references) cannot doubt itself, and does not.

use crate::time::MonoTime;
use std::net::IpAddr;
use std::time::Duration;

/// How long a sign of life from elsewhere proves the broker's own line.
const RECENT: Duration = Duration::from_millis(600);
/// How long after the line was dead silence says nothing.
const SETTLE: Duration = Duration::from_millis(1_500);
/// A network that was not heard for so long while another was is no longer compared with.
const FORGOTTEN: Duration = Duration::from_secs(300);
/// How long an answer about references counts.
const REFERENCES_COUNT: Duration = Duration::from_secs(4);
/// Time between two askings of the references.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Time between two probes of mirrors that were well: less than [`RECENT`], with an answer's way.
const PULSE: Duration = Duration::from_millis(250);
/// How long that goes on after the line was last in doubt.
const PULSING: Duration = Duration::from_secs(5);

/// A network that fails as one: an IPv4 /16 or IPv6 /32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Neighbourhood(u64);

impl Neighbourhood {
    pub fn of(addr: IpAddr) -> Neighbourhood {
        Neighbourhood(match addr.to_canonical() {
            IpAddr::V4(a) => u64::from(u32::from(a) >> 16),
            IpAddr::V6(a) => 1 << 32 | (u128::from(a) >> 96) as u64,
        })
    }
}

/// What the broker knows of its own line.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// The two networks heard last.
    heard: [Option<(Neighbourhood, MonoTime)>; 2],
    asked: Option<MonoTime>,
    /// Whether any reference answered, and when that was known.
    answered: Option<(bool, MonoTime)>,
    /// When another broker was heard, unless that is long ago while others were.
    peer: Option<MonoTime>,
    /// Whether it last concluded to be cut off.
    doubting: bool,
    /// When anything last proved the line, and until when nothing counts since it was dead before.
    alive: Option<MonoTime>,
    settled: MonoTime,
    /// Until when its line is watched, and when it is looked at next.
    watched: Option<MonoTime>,
    pulse: MonoTime,
    /// The networks in question.
    about: [Option<Neighbourhood>; 2],
}

/// What the broker may believe of what it alone sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Its line works, or there is nothing to compare with.
    Itself,
    /// It may be cut off; `ask` the references now.
    Nothing {
        /// Whether to ask.
        ask: bool,
    },
}

impl Links {
    /// Something came from a network.
    #[inline]
    pub fn heard(&mut self, from: Neighbourhood, now: MonoTime) {
        self.doubting = false;
        if self.alive.replace(now).is_some_and(|last| now.since(last) > RECENT) {
            self.settled = now + SETTLE;
        }
        self.peer = self.peer.filter(|at| now.since(*at) < FORGOTTEN);
        for other in &mut self.heard {
            *other = other.filter(|(_, at)| now.since(*at) < FORGOTTEN);
        }
        match &mut self.heard {
            [Some((n, at)), _] | [_, Some((n, at))] if *n == from => *at = now,
            [first, second] => {
                let older = if second.map(|s| s.1) < first.map(|f| f.1) { second } else { first };
                *older = Some((from, now));
            }
        }
    }

    /// The references were asked; how many of them answered.
    pub fn references(&mut self, answered: u32, now: MonoTime) {
        self.answered = Some((answered > 0, now));
        if answered > 0 {
            self.alive = Some(now);
            if self.doubting {
                // The line may have come back just now: what was asked before then says nothing.
                self.settled = now + SETTLE;
            }
        }
        self.doubting &= answered == 0;
    }

    /// Something came from another broker: it counts like a reference that answered, but proves nothing of
    /// the time since. So it must come while the broker doubts itself, or go on coming.
    pub fn peer(&mut self, now: MonoTime) {
        let goes_on = self.answered.is_some_and(|(yes, at)| yes && now.since(at) <= REFERENCES_COUNT);
        if self.doubting || goes_on {
            self.references(1, now);
        }
        self.peer = Some(now);
    }

    /// Whether it concluded to be cut off and has heard nothing since.
    pub fn doubting(&self) -> bool {
        self.doubting
    }

    /// Whether what it alone sees of a mirror may be believed, given the networks of the mirror and of
    /// its agent; `references` says whether there are any.
    pub fn trust(&mut self, about: &[Neighbourhood], references: bool, now: MonoTime) -> Trust {
        let others = self.heard.iter().flatten().filter(|(n, _)| !about.contains(n));
        let latest = others.map(|(_, at)| *at).chain(self.peer).max();
        if latest.is_none() && !references {
            return Trust::Itself;
        }
        let trust = self.compared(latest, references, now);
        if trust != Trust::Itself {
            if self.watched.is_none() {
                self.pulse = now;
            }
            self.watched = Some(now + PULSING);
            self.about = [about.first().copied(), about.get(1).copied()];
        }
        trust
    }

    /// Whether what is heard from a network proves anything about those in question.
    pub fn proves(&self, from: Neighbourhood) -> bool {
        !self.about.contains(&Some(from))
    }

    /// When mirrors that were well are to be probed, while the line is watched.
    pub fn deadline(&self) -> Option<MonoTime> {
        self.watched.map(|_| self.pulse)
    }

    /// Whether they are to be probed now.
    pub fn pulse(&mut self, now: MonoTime) -> bool {
        let due = self.watched.is_some() && self.pulse <= now;
        if due {
            self.pulse = now + PULSE;
            self.watched = self.watched.filter(|until| *until > now);
        }
        due
    }

    /// `latest`: when another network was heard last, if one ever was.
    fn compared(&mut self, latest: Option<MonoTime>, references: bool, now: MonoTime) -> Trust {
        if now < self.settled {
            return Trust::Nothing { ask: false };
        }
        if latest.is_some_and(|at| now.since(at) <= RECENT) {
            return Trust::Itself;
        }
        let known = self.answered.filter(|(_, at)| now.since(*at) <= REFERENCES_COUNT);
        if known.is_some_and(|(answered, _)| answered) {
            return Trust::Itself;
        }
        self.doubting = true;
        let ask = references && self.asked.is_none_or(|at| now.since(at) >= ASK_EVERY);
        if ask {
            self.asked = Some(now);
        }
        Trust::Nothing { ask }
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
    fn neighbourhoods_are_sixteens_and_thirty_twos() {
        assert_eq!(net(1), Neighbourhood::of([10, 1, 9, 9].into()));
        assert_ne!(net(1), net(2));
        let v6 = |text: &str| Neighbourhood::of(text.parse().unwrap());
        assert_eq!(v6("2001:db8::1"), v6("2001:db8:ffff::1"));
        assert_ne!(v6("2001:db8::1"), v6("2001:db9::1"));
        assert_eq!(v6("::ffff:10.1.0.1"), net(1));
    }

    #[test]
    fn one_network_and_no_references_leave_nothing_to_doubt() {
        let mut links = Links::default();
        assert_eq!(links.trust(&[net(1)], false, at(0)), Trust::Itself);
        links.heard(net(1), at(5));
        assert_eq!(links.trust(&[net(1)], false, at(9000)), Trust::Itself);
    }

    #[test]
    fn another_network_proves_the_line_while_it_is_heard() {
        let mut links = Links::default();
        links.heard(net(1), at(0));
        links.heard(net(2), at(100));
        links.heard(net(1), at(200));
        assert_eq!(links.trust(&[net(1)], false, at(700)), Trust::Itself, "by net 2");
        assert_eq!(links.trust(&[net(1)], false, at(1700)), Trust::Nothing { ask: false });
        assert!(links.doubting());
        links.heard(net(3), at(1800));
        assert!(!links.doubting());
        // The line was dead: others must have time to be heard again.
        assert_eq!(links.trust(&[net(1)], false, at(1800)), Trust::Nothing { ask: false });
        for ms in (2000..=3400).step_by(200) {
            links.heard(net(3), at(ms));
        }
        assert_eq!(links.trust(&[net(1)], false, at(3400)), Trust::Itself);
        // The latest two are kept.
        assert_eq!(links.trust(&[net(3)], false, at(3400)), Trust::Nothing { ask: false });
    }

    #[test]
    fn a_network_of_long_ago_is_nothing_to_compare_with() {
        let mut links = Links::default();
        links.heard(net(2), at(0));
        links.heard(net(1), at(100));
        assert_eq!(links.trust(&[net(1)], false, at(2_000)), Trust::Nothing { ask: false });
        // Cut off for however long: it stays.
        assert_eq!(links.trust(&[net(1)], false, at(2_000_000)), Trust::Nothing { ask: false });
        links.heard(net(1), at(2_000_100));
        assert_eq!(links.trust(&[net(1)], false, at(2_000_200)), Trust::Itself);
    }

    #[test]
    fn a_broker_that_is_heard_while_in_doubt_ends_it_after_a_while() {
        let mut links = Links::default();
        links.peer(at(0));
        assert_eq!(links.trust(&[net(1)], false, at(500)), Trust::Itself, "heard just now");
        assert_eq!(links.trust(&[net(1)], false, at(2_000)), Trust::Nothing { ask: false });
        assert!(links.doubting(), "what was heard before the doubt ends none");
        links.peer(at(2_500));
        assert!(!links.doubting());
        assert_eq!(links.trust(&[net(1)], false, at(3_000)), Trust::Nothing { ask: false }, "settling");
        assert_eq!(links.trust(&[net(1)], false, at(4_100)), Trust::Itself);
        // While it goes on speaking nothing is in doubt; when it stops, all is.
        links.peer(at(6_000));
        assert_eq!(links.trust(&[net(1)], false, at(9_900)), Trust::Itself);
        assert_eq!(links.trust(&[net(1)], false, at(10_100)), Trust::Nothing { ask: false });
        // One of long ago is nothing to compare with, once others were heard.
        links.heard(net(1), at(400_000));
        assert_eq!(links.trust(&[net(1)], false, at(500_000)), Trust::Itself);
    }

    #[test]
    fn references_decide_where_nothing_is_heard() {
        let mut links = Links::default();
        assert_eq!(links.trust(&[net(1)], true, at(0)), Trust::Nothing { ask: true });
        assert_eq!(links.trust(&[net(1)], true, at(500)), Trust::Nothing { ask: false }, "asked just now");
        links.references(0, at(600));
        assert_eq!(links.trust(&[net(1)], true, at(1100)), Trust::Nothing { ask: true });
        links.references(1, at(1200));
        assert!(!links.doubting());
        assert_eq!(
            links.trust(&[net(1)], true, at(1300)),
            Trust::Nothing { ask: false },
            "it may be back just now"
        );
        assert_eq!(links.trust(&[net(1)], true, at(2700)), Trust::Itself);
        assert_eq!(links.trust(&[net(1)], true, at(9000)), Trust::Nothing { ask: true }, "that was long ago");
    }
}

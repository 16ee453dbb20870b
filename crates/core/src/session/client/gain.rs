//! Finding a first mirror: rounds of probing and racing.
//!
//! A round probes the first five, the next ones all. The race begins with the first answer, unless a
//! mirror that should be nearer has not answered yet: that one is given the time that it should take.
//! Attempts are staggered as in RFC 8305 §5, by two round trips, 250 ms at most.

use super::Client;
use super::types::{Gaining, Output, Phase};
use crate::health::Family;
use crate::session::MirrorKey;
use crate::session::list::MOST_MIRRORS;
use crate::time::MonoTime;
use std::time::Duration;

/// Attempts under way at a time.
const MOST_ATTEMPTS: usize = 4;
/// What an answer may take longer than it should.
const SLACK: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// A round is to begin.
    #[default]
    Idle,
    /// Answers are awaited.
    Probing,
    /// Attempts are made.
    Racing { next: MonoTime },
    /// Nothing until then.
    Resting { until: MonoTime },
    /// Brokers are asked; at the latest then there is a round with what is known.
    Asking { until: MonoTime },
}

#[derive(Default)]
pub(super) struct Gain {
    stage: Stage,
    /// Rounds in vain.
    rounds: u32,
    began: MonoTime,
    /// Probes under way.
    waiting: Vec<(MirrorKey, Family)>,
    first_answer: Option<MonoTime>,
    until: MonoTime,
    ready: Option<MonoTime>,
}

impl Gain {
    pub fn phase(&self) -> Phase {
        match self.stage {
            Stage::Racing { .. } => Phase::Racing,
            Stage::Asking { .. } => Phase::Resolving,
            Stage::Idle | Stage::Probing | Stage::Resting { .. } => Phase::Probing,
        }
    }

    pub fn answered(&mut self, mirror: MirrorKey, family: Family, now: MonoTime) {
        if self.unanswered(mirror, family) {
            self.first_answer.get_or_insert(now);
        }
    }

    /// Whether it was awaited.
    pub fn unanswered(&mut self, mirror: MirrorKey, family: Family) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|probe| *probe != (mirror, family));
        self.waiting.len() < before
    }

    /// What was waited for may be there.
    pub fn list_changed(&mut self) {
        if matches!(self.stage, Stage::Asking { .. }) {
            self.again();
        }
    }

    /// A round at once.
    pub fn again(&mut self) {
        self.stage = Stage::Idle;
    }

    /// A primary was found, or there is nothing to find one in.
    fn end(&mut self) {
        *self = Gain::default();
    }

    pub fn deadline(&self) -> Option<MonoTime> {
        match self.stage {
            Stage::Idle => None,
            Stage::Probing => Some(self.ready.map_or(self.until, |ready| ready.min(self.until))),
            Stage::Racing { next } => Some(next),
            Stage::Resting { until } | Stage::Asking { until } => Some(until),
        }
    }

    /// The wait after a round in vain: full jitter over a doubling time.
    fn rest(&self, config: &Gaining) -> Duration {
        (config.first_rest * (1 << self.rounds.min(16))).min(config.most_rest)
    }
}

impl Client {
    pub(super) fn drive_gain(&mut self, now: MonoTime) {
        let served = self.links.primary.is_some() && !self.links.is_forsaken(&self.config, now);
        if served || self.book.held.is_none() {
            return self.gain.end();
        }
        match self.gain.stage {
            Stage::Idle => self.begin_round(now),
            Stage::Probing => self.probing(now),
            Stage::Racing { next } => self.racing(next, now),
            Stage::Resting { until } | Stage::Asking { until } if now >= until => self.begin_round(now),
            Stage::Resting { .. } | Stage::Asking { .. } => {}
        }
    }

    fn begin_round(&mut self, now: MonoTime) {
        let most = if self.gain.rounds == 0 { self.config.gaining.probes } else { MOST_MIRRORS };
        let all = self.book.mirrors().iter().filter(|m| m.standing.attachable());
        // In a first round those that just failed give way to others, if there are others.
        let mut targets: Vec<_> = all.copied().collect();
        targets.sort_by_key(|m| !self.book.usable(m.key, now));
        targets.truncate(most);
        let longest = targets.iter().map(|m| self.book.rtt(m)).max().unwrap_or_default();
        let gain = &mut self.gain;
        (gain.stage, gain.began, gain.first_answer) = (Stage::Probing, now, None);
        (gain.ready, gain.until) = (None, now + (longest * 3 + SLACK).min(self.config.gaining.probe));
        gain.waiting.clear();
        for mirror in &targets {
            for family in Family::ALL {
                if let Some(address) = mirror.address(family) {
                    self.gain.waiting.push((mirror.key, family));
                    self.outputs.push_back(Output::Probe { mirror: mirror.key, address });
                }
            }
        }
        if self.gain.waiting.is_empty() {
            self.round_failed(now);
        }
    }

    fn probing(&mut self, now: MonoTime) {
        self.gain.ready = self.ready_at();
        let ready = self.gain.ready.is_some_and(|at| now >= at);
        if ready || now >= self.gain.until || self.gain.waiting.is_empty() {
            self.gain.stage = Stage::Racing { next: now };
            self.racing(now, now);
        }
    }

    /// When the race may begin; `None` without an answer.
    fn ready_at(&self) -> Option<MonoTime> {
        let first = self.gain.first_answer?;
        let best = self.answered().map(|(key, rtt)| (self.book.tier(key), rtt)).min()?;
        let awaited = self.gain.waiting.iter().filter_map(|(key, _)| self.book.get(*key));
        let nearer = awaited.filter(|m| (m.tier, m.predicted) < best).map(|m| m.predicted).max();
        let until = nearer.map_or(first, |rtt| self.gain.began + rtt + rtt / 2 + SLACK);
        Some(until.min(first + self.config.gaining.stagger))
    }

    /// Who answered in this round, may be attached and was not tried in it, with its round trip.
    fn answered(&self) -> impl Iterator<Item = (MirrorKey, Duration)> {
        let began = self.gain.began;
        self.book.mirrors().iter().filter(|m| m.standing.attachable()).filter_map(move |m| {
            let known = self.book.known(m.key)?;
            let open = known.answered? >= began && known.tried.is_none_or(|tried| tried < began);
            open.then(|| (m.key, self.book.rtt(m)))
        })
    }

    fn racing(&mut self, next: MonoTime, now: MonoTime) {
        let under_way = self.joins.len();
        if now < next && under_way > 0 {
            return;
        }
        let usable =
            |(key, _): &(MirrorKey, Duration)| self.book.usable(*key, now) && self.is_open(*key, now);
        let left = |key| self.links.leaving.has(key);
        let nearest =
            self.answered().filter(usable).min_by_key(|(key, rtt)| (left(*key), self.book.tier(*key), *rtt));
        match nearest {
            Some((mirror, rtt)) if under_way < MOST_ATTEMPTS => {
                self.race(mirror, now);
                let stagger = (rtt * 2 + SLACK).min(self.config.gaining.stagger);
                self.gain.stage = Stage::Racing { next: now + stagger };
            }
            // Others may answer yet.
            _ if under_way == 0 && !self.gain.waiting.is_empty() && now < self.gain.until => {
                (self.gain.stage, self.gain.ready) = (Stage::Probing, None);
            }
            _ if under_way == 0 => self.round_failed(now),
            // A join that ends, or its deadline, leads on; answers that come late are looked for.
            _ => self.gain.stage = Stage::Racing { next: now + self.config.gaining.stagger },
        }
    }

    /// Whether it is not attached, or may be attached anew.
    fn is_open(&self, mirror: MirrorKey, now: MonoTime) -> bool {
        let left = self.links.primary.is_none() && self.links.leaving.has(mirror);
        let attached = self.joins.has(mirror) || self.links.has(mirror);
        !attached || left || self.links.is_deaf(mirror, &self.config, now)
    }

    fn round_failed(&mut self, now: MonoTime) {
        let rest = self.gain.rest(&self.config.gaining);
        self.gain.rounds = self.gain.rounds.saturating_add(1);
        if self.gain.rounds.is_multiple_of(self.config.gaining.rounds.max(1)) {
            self.resolve(self.have(), now);
            let until = now + self.config.gaining.resolve.min(rest + Duration::from_secs(1));
            self.gain.stage = Stage::Asking { until };
        } else {
            let until = now + self.me.dice.between(rest, 0.1, 1.0);
            self.gain.stage = Stage::Resting { until };
        }
    }
}

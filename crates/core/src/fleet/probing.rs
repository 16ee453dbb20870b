//! Asking one address: bursts of attempts, each with its own time limit.
//!
//! A burst starts its attempts by the schedule, whether or not earlier ones were answered, and is
//! concluded by the first pass or by the last failure. An attempt whose result never comes fails by
//! itself a little after its time limit, so a lost result wedges nothing. Results of attempts that
//! no longer matter are passed over.

use super::config::FleetConfig;
use super::panel::Broker;
use super::types::{ProbeAnswer, ProbeOrder, ProbeToken};
use crate::check::CheckSpec;
use crate::health::Family;
use crate::registry::MirrorIndex;
use crate::time::MonoTime;
use arrayvec::ArrayVec;
use std::net::IpAddr;
use std::time::Duration;

/// Most attempts in one burst.
pub(super) const MAX_ATTEMPTS: usize = 16;
/// How much later than its time limit a result may come.
const RESULT_GRACE: Duration = Duration::from_millis(250);
/// Least time between attempts past the end of the schedule.
const SHORTEST_GAP: Duration = Duration::from_millis(30);
/// How much longer than the usual answer an urgent one may take, …
const MARGIN: Duration = Duration::from_millis(100);
/// … and how long it may take at least.
const LEAST_WAIT: Duration = Duration::from_millis(150);
/// A probe that the driver could not carry out is ordered again after this.
const SKIPPED_RETRY: Duration = Duration::from_millis(200);

/// What all probing shares: the schedule, jitter, numbers of tokens, and orders to hand out.
pub(super) struct Prober {
    pub config: FleetConfig,
    pub orders: Vec<ProbeOrder>,
    /// How long answers of all mirrors take.
    pub usual: Usual,
    serial: u64,
    random: u64,
}

impl Prober {
    pub fn new(config: &FleetConfig, seed: u64) -> Prober {
        Prober {
            config: config.clone(),
            orders: Vec::new(),
            usual: Usual::default(),
            serial: 0,
            random: seed,
        }
    }

    /// A number that was not given out before.
    pub fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// `d`, up to a fifth shorter or longer.
    pub fn jittered(&mut self, d: Duration) -> Duration {
        d.mul_f64(0.8 + 0.4 * self.unit())
    }

    /// Any part of `d`.
    pub fn part_of(&mut self, d: Duration) -> Duration {
        d.mul_f64(self.unit())
    }

    /// Uniform in `0..1`.
    fn unit(&mut self) -> f64 {
        (self.random() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Any number.
    pub fn random(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014): one addition and a finalizer; plenty for jitter.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// When attempt `i` starts, from the burst's beginning.
    fn offset(&self, i: usize) -> Duration {
        let plan = &self.config.burst;
        if let Some(at) = plan.get(i) {
            return *at;
        }
        // Past the schedule's end its last gap goes on.
        let last = plan.last().copied().unwrap_or_default();
        let before = plan.iter().rev().nth(1).copied().unwrap_or_default();
        let gap = last.saturating_sub(before).max(SHORTEST_GAP);
        last + gap * (i + 1 - plan.len()) as u32
    }
}

/// Where and how to ask.
pub(super) struct Target<'a> {
    pub slot: u32,
    pub mirror: MirrorIndex,
    pub family: Family,
    pub addr: IpAddr,
    pub port: u16,
    pub spec: &'a CheckSpec,
}

/// How a burst ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Concluded {
    Passed,
    /// A regular probe failed, which alone concludes nothing.
    Missed,
    /// Every attempt of a burst failed.
    Failed(Broker),
}

/// Why and how thoroughly to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// One regular attempt.
    Once,
    /// A burst of so many attempts.
    Burst(usize),
    /// The same, with the time limits of suspicion.
    Urgently(usize),
}

/// The probing of one mirror in one family.
#[derive(Default)]
pub(super) struct Probing {
    /// When to probe next if nothing happens.
    pub next: Option<MonoTime>,
    running: Option<Running>,
    /// How long answers take, quick to rise and slow to fall.
    took: Duration,
}

struct Running {
    began: MonoTime,
    ask: Ask,
    attempts: usize,
    sent: usize,
    outstanding: ArrayVec<(u64, MonoTime), MAX_ATTEMPTS>,
    /// Every attempt that failed so far was answered, and badly.
    refused: bool,
}

impl Probing {
    /// Whether it asks with the time limits of suspicion.
    pub fn is_urgent(&self) -> bool {
        matches!(self.running, Some(Running { ask: Ask::Urgently(_), .. }))
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Starts asking. What is under way and as thorough goes on instead.
    pub fn start(&mut self, ask: Ask, now: MonoTime) {
        let rank = |ask: Ask| match ask {
            Ask::Once => 0,
            Ask::Burst(_) => 1,
            Ask::Urgently(_) => 2,
        };
        if self.running.as_ref().is_some_and(|r| rank(r.ask) >= rank(ask)) {
            return;
        }
        let attempts = match ask {
            Ask::Once => 1,
            Ask::Burst(n) | Ask::Urgently(n) => n.clamp(1, MAX_ATTEMPTS),
        };
        self.next = None;
        self.running =
            Some(Running { began: now, ask, attempts, sent: 0, outstanding: ArrayVec::new(), refused: true });
    }

    /// Asks again from the beginning what is being asked.
    pub fn again(&mut self, now: MonoTime) {
        if let Some(running) = &mut self.running {
            running.began = now;
            running.sent = 0;
            running.refused = true;
            running.outstanding.clear();
        }
    }

    /// Stops asking.
    pub fn stop(&mut self) {
        self.running = None;
        self.next = None;
    }

    /// Takes a result; `None` when it no longer matters or concludes nothing.
    pub fn result(&mut self, token: ProbeToken, answer: ProbeAnswer) -> Option<Concluded> {
        let running = self.running.as_mut()?;
        let at = running.outstanding.iter().position(|(serial, _)| *serial == token.serial)?;
        running.outstanding.remove(at);
        running.refused &= answer == ProbeAnswer::Refused;
        if let ProbeAnswer::Passed(took) = answer {
            self.took = took.max(self.took * 7 / 8 + took / 8);
            self.running = None;
            return Some(Concluded::Passed);
        }
        self.failed_all()
    }

    /// The driver did not carry the attempt out: it says nothing, and the burst is asked again.
    pub fn skipped(&mut self, token: ProbeToken, now: MonoTime) {
        if let Some(running) = &mut self.running
            && running.outstanding.iter().any(|(serial, _)| *serial == token.serial)
        {
            running.began = now + SKIPPED_RETRY;
            running.sent = 0;
            running.outstanding.clear();
        }
    }

    fn failed_all(&mut self) -> Option<Concluded> {
        let running = self.running.as_ref()?;
        if running.sent < running.attempts || !running.outstanding.is_empty() {
            return None;
        }
        let how = if running.refused { Broker::Refused } else { Broker::Silent };
        let concluded = if running.ask == Ask::Once { Concluded::Missed } else { Concluded::Failed(how) };
        self.running = None;
        Some(concluded)
    }

    /// Orders the attempts that are due and gives up those whose time is over.
    pub fn advance(&mut self, target: &Target<'_>, prober: &mut Prober, now: MonoTime) -> Option<Concluded> {
        let timeout = self.timeout(target.spec, &prober.config);
        let running = self.running.as_mut()?;
        let waiting = running.outstanding.len();
        running.outstanding.retain(|(_, until)| *until > now);
        running.refused &= running.outstanding.len() == waiting;
        while running.sent < running.attempts && running.began + prober.offset(running.sent) <= now {
            let token = ProbeToken { slot: target.slot, family: target.family, serial: prober.serial() };
            running.outstanding.push((token.serial, now + timeout + RESULT_GRACE));
            running.sent += 1;
            prober.orders.push(ProbeOrder {
                token,
                mirror: target.mirror,
                family: target.family,
                addr: target.addr,
                port: target.port,
                spec: CheckSpec { timeout, ..target.spec.clone() },
            });
        }
        self.failed_all()
    }

    fn timeout(&self, spec: &CheckSpec, config: &FleetConfig) -> Duration {
        match &self.running {
            Some(Running { ask: Ask::Urgently(_), .. }) => {
                let usual = (self.took * 2).max(self.took + MARGIN).max(LEAST_WAIT);
                spec.timeout.min(if self.took.is_zero() { config.burst_timeout } else { usual })
            }
            _ => spec.timeout,
        }
    }

    /// When to look again.
    pub fn deadline(&self, prober: &Prober) -> Option<MonoTime> {
        let Some(running) = &self.running else { return self.next };
        let attempt = (running.sent < running.attempts).then(|| running.began + prober.offset(running.sent));
        running.outstanding.iter().map(|(_, until)| *until).chain(attempt).min()
    }
}

/// How long answers take: a histogram over all mirrors, of which old ones count less and less.
pub(super) struct Usual {
    /// Answers of up to 1.25^i milliseconds.
    counts: [u32; Usual::BUCKETS],
    all: u32,
}

impl Default for Usual {
    fn default() -> Self {
        Usual { counts: [0; Usual::BUCKETS], all: 0 }
    }
}

impl Usual {
    const BUCKETS: usize = 40;
    const BASE: f64 = 1.25;
    /// Fewer answers say nothing of the slowest in a hundred.
    const ENOUGH: u32 = 20;
    const MEMORY: u32 = 100_000;

    pub fn answered(&mut self, took: Duration) {
        let ms = (took.as_secs_f64() * 1000.0).max(1.0);
        let bucket = (ms.ln() / Usual::BASE.ln()).ceil() as usize;
        self.counts[bucket.min(Usual::BUCKETS - 1)] += 1;
        self.all += 1;
        if self.all >= Usual::MEMORY {
            self.counts.iter_mut().for_each(|c| *c /= 2);
            self.all = self.counts.iter().sum();
        }
    }

    /// What 99 of 100 answers do not exceed; `None` while few were seen.
    pub fn p99(&self) -> Option<Duration> {
        if self.all < Usual::ENOUGH {
            return None;
        }
        let mut left = self.all / 100;
        for (bucket, count) in self.counts.iter().enumerate().rev() {
            if *count > left {
                return Some(Duration::from_secs_f64(Usual::BASE.powi(bucket as i32) / 1000.0));
            }
            left -= count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_in_a_hundred_do_not_set_the_pace() {
        let mut usual = Usual::default();
        assert_eq!(usual.p99(), None);
        for _ in 0..1000 {
            usual.answered(Duration::from_millis(40));
        }
        for _ in 0..8 {
            usual.answered(Duration::from_secs(3));
        }
        let p99 = usual.p99().unwrap();
        assert!(p99 >= Duration::from_millis(40) && p99 <= Duration::from_millis(51), "{p99:?}");
        for _ in 0..300_000 {
            usual.answered(Duration::from_millis(200));
        }
        assert!(usual.p99().unwrap() >= Duration::from_millis(200), "old answers count less");
    }
}

//! Asking one address: bursts of attempts, each with its own time limit.
//!
//! A burst starts its attempts by the schedule, whether or not earlier ones were answered, and is
//! concluded by the first pass or by the last failure. Where nothing is urgent one attempt goes ahead, and
//! the burst follows only if that fails. An attempt whose result never comes fails by itself a little
//! after its time limit, so a lost result wedges nothing; one that the driver had no room for is ordered
//! again, and holds up no other. Results of attempts that no longer matter are passed over.

use super::config::FleetConfig;
use super::panel::Broker;
use super::timing::{self, Took};
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
/// Least time between attempts past the end of the schedule.
const SHORTEST_GAP: Duration = Duration::from_millis(30);
/// A patient asking goes on with so many attempts after its burst, …
const STRAGGLERS: usize = 3;
/// … with this time between them: longer in all than bursts of loss usually are.
const STRAGGLING: Duration = Duration::from_millis(300);
/// A probe that the driver could not carry out is ordered again after this, twice as long each time …
const SKIPPED_RETRY: Duration = Duration::from_millis(200);
/// … for so many times.
const MOST_DOUBLINGS: u32 = 4;

/// What all probing shares: the schedule, jitter, numbers of tokens, and orders to hand out.
pub(super) struct Prober {
    pub config: FleetConfig,
    pub orders: Vec<ProbeOrder>,
    serial: u64,
    random: u64,
}

impl Prober {
    pub fn new(config: &FleetConfig, seed: u64) -> Prober {
        Prober { config: config.clone(), orders: Vec::new(), serial: 0, random: seed }
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

    /// When attempt `i` starts, from the beginning.
    fn offset(&self, ask: Ask, i: usize) -> Duration {
        match ask {
            Ask::Patiently(n) if i >= n.max(1) => {
                self.burst_offset(n.max(1) - 1) + STRAGGLING * (i + 1 - n.max(1)) as u32
            }
            _ => self.burst_offset(i),
        }
    }

    fn burst_offset(&self, i: usize) -> Duration {
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
    Missed(Broker),
    /// Every attempt of a burst failed.
    Failed(Broker),
}

/// Why and how thoroughly to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// One regular attempt.
    Once,
    /// One attempt, and a burst of so many if it fails.
    Look(usize),
    /// A burst of so many attempts.
    Burst(usize),
    /// The same, with the time limits of suspicion, …
    Briskly(usize),
    /// … and witnesses that are asked at the same time.
    Urgently(usize),
    /// The same, with attempts that go on after the burst and more time for each.
    Patiently(usize),
}

/// The probing of one mirror in one family.
#[derive(Default)]
pub(super) struct Probing {
    /// When to probe next if nothing happens.
    pub next: Option<MonoTime>,
    running: Option<Running>,
    /// How long answers take.
    pub took: Took,
}

struct Running {
    began: MonoTime,
    ask: Ask,
    attempts: usize,
    sent: usize,
    outstanding: ArrayVec<(u64, MonoTime), MAX_ATTEMPTS>,
    /// Attempts that the driver had no room for, and when they are ordered again.
    owed: usize,
    owed_at: MonoTime,
    skips: u32,
    /// Every attempt that failed so far was answered, and badly.
    refused: bool,
}

impl Running {
    fn new(ask: Ask, now: MonoTime) -> Running {
        let attempts = match ask {
            Ask::Once | Ask::Look(_) => 1,
            Ask::Burst(n) | Ask::Briskly(n) | Ask::Urgently(n) => n.clamp(1, MAX_ATTEMPTS),
            Ask::Patiently(n) => (n + STRAGGLERS).clamp(1, MAX_ATTEMPTS),
        };
        Running {
            began: now,
            ask,
            attempts,
            sent: 0,
            outstanding: ArrayVec::new(),
            owed: 0,
            owed_at: now,
            skips: 0,
            refused: true,
        }
    }

    /// Whether nothing more comes of it.
    fn is_over(&self) -> bool {
        self.sent >= self.attempts && self.owed == 0 && self.outstanding.is_empty()
    }
}

impl Probing {
    /// Whether witnesses are to be asked at the same time.
    pub fn is_urgent(&self) -> bool {
        matches!(self.running, Some(Running { ask: Ask::Urgently(_) | Ask::Patiently(_), .. }))
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// How to ask where nothing is urgent. While it is not known how long answers take, one alone could be
    /// that to a repeated packet, and be taken for usual.
    pub fn look(&self, attempts: usize) -> Ask {
        if self.took.usual().is_some() { Ask::Look(attempts) } else { Ask::Burst(attempts) }
    }

    /// Starts asking. What is under way and as thorough goes on instead.
    pub fn start(&mut self, ask: Ask, now: MonoTime) {
        let rank = |ask: Ask| match ask {
            Ask::Once | Ask::Look(_) => 0,
            Ask::Burst(_) => 1,
            Ask::Briskly(_) => 2,
            Ask::Urgently(_) | Ask::Patiently(_) => 3,
        };
        if self.running.as_ref().is_some_and(|r| rank(r.ask) >= rank(ask)) {
            return;
        }
        self.next = None;
        self.running = Some(Running::new(ask, now));
    }

    /// Asks again from the beginning what is being asked.
    pub fn again(&mut self, now: MonoTime) {
        if let Some(running) = &mut self.running {
            *running = Running::new(running.ask, now);
        }
    }

    /// Stops asking.
    pub fn stop(&mut self) {
        self.running = None;
        self.next = None;
    }

    /// Takes a result; `None` when it no longer matters or concludes nothing.
    pub fn result(&mut self, token: ProbeToken, answer: ProbeAnswer, now: MonoTime) -> Option<Concluded> {
        let running = self.running.as_mut()?;
        let at = running.outstanding.iter().position(|(serial, _)| *serial == token.serial)?;
        running.outstanding.remove(at);
        running.refused &= answer == ProbeAnswer::Refused;
        if let ProbeAnswer::Passed(took) = answer {
            self.took.answered(took);
            self.running = None;
            return Some(Concluded::Passed);
        }
        self.failed_all(now)
    }

    /// The driver did not carry the attempt out: it says nothing, and is ordered again a little later.
    pub fn skipped(&mut self, token: ProbeToken, now: MonoTime) {
        let Some(running) = &mut self.running else { return };
        let before = running.outstanding.len();
        running.outstanding.retain(|(serial, _)| *serial != token.serial);
        if running.outstanding.len() < before {
            running.owed += 1;
            running.owed_at = now + SKIPPED_RETRY * (1 << running.skips.min(MOST_DOUBLINGS));
            running.skips = running.skips.saturating_add(1);
        }
    }

    fn failed_all(&mut self, now: MonoTime) -> Option<Concluded> {
        let running = self.running.as_mut().filter(|running| running.is_over())?;
        let how = if running.refused { Broker::Refused } else { Broker::Silent };
        let concluded = match running.ask {
            Ask::Look(n) => {
                *running = Running::new(Ask::Burst(n), now);
                return None;
            }
            Ask::Once => Concluded::Missed(how),
            _ => Concluded::Failed(how),
        };
        self.running = None;
        Some(concluded)
    }

    /// Orders the attempts that are due and gives up those whose time is over.
    pub fn advance(&mut self, target: &Target<'_>, prober: &mut Prober, now: MonoTime) -> Option<Concluded> {
        let timeout = self.timeout(target.spec, &prober.config);
        // A driver that was held up for less than counts as a pause still has results to hand over.
        let grace = prober.config.pause();
        let running = self.running.as_mut()?;
        let waiting = running.outstanding.len();
        running.outstanding.retain(|(_, until)| *until > now);
        running.refused &= running.outstanding.len() == waiting;
        if running.is_over() && matches!(running.ask, Ask::Look(_)) {
            // Becomes a burst, whose first attempt is due now.
            self.failed_all(now);
        }
        let running = self.running.as_mut()?;
        let urgent = matches!(running.ask, Ask::Briskly(_) | Ask::Urgently(_) | Ask::Patiently(_));
        let mut due = 0;
        while running.sent < running.attempts
            && running.began + prober.offset(running.ask, running.sent) <= now
        {
            running.sent += 1;
            due += 1;
        }
        // One at a time, so that those that find no room do not come back as a crowd.
        if running.owed > 0 && running.owed_at <= now {
            running.owed -= 1;
            running.owed_at = now + SKIPPED_RETRY;
            due += 1;
        }
        for _ in 0..due {
            let token = ProbeToken { slot: target.slot, family: target.family, serial: prober.serial() };
            running.outstanding.push((token.serial, now + timeout + grace));
            prober.orders.push(ProbeOrder {
                token,
                mirror: target.mirror,
                family: target.family,
                addr: target.addr,
                port: target.port,
                spec: CheckSpec { timeout, ..target.spec.clone() },
                urgent,
            });
        }
        self.failed_all(now)
    }

    fn timeout(&self, spec: &CheckSpec, config: &FleetConfig) -> Duration {
        let usual = self.took.usual();
        match self.running.as_ref().map(|running| running.ask) {
            Some(Ask::Briskly(_) | Ask::Urgently(_)) => {
                usual.map_or(config.burst_timeout, timing::brisk).min(spec.timeout)
            }
            Some(Ask::Look(_)) => usual.map_or(spec.timeout, timing::patient).min(spec.timeout),
            Some(Ask::Patiently(_)) => usual.map_or(config.burst_timeout, timing::patient).min(spec.timeout),
            _ => spec.timeout,
        }
    }

    /// When to look again.
    pub fn deadline(&self, prober: &Prober) -> Option<MonoTime> {
        let Some(running) = &self.running else { return self.next };
        let attempt = (running.sent < running.attempts)
            .then(|| running.began + prober.offset(running.ask, running.sent));
        let owed = (running.owed > 0).then_some(running.owed_at);
        running.outstanding.iter().map(|(_, until)| *until).chain(attempt).chain(owed).min()
    }
}

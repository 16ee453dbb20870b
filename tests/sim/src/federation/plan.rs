//! What is written and what goes wrong, drawn from a seed.

use super::broker::{Broker, EPOCH_MS, Time};
use super::oracle::Oracle;
use super::world::World;
use crate::rng::Rng;
use nearmost_replica::authority::{Authority, Open};
use nearmost_replica::backoff::Backoff;
use nearmost_replica::federation::FederationConfig;
use nearmost_replica::{Body, Kind, PublicKey, RecordKey, SignedRecord, SigningKey};
use std::time::Duration;

const MINUTE: Time = 60_000;
const HOUR: Time = 60 * MINUTE;
/// A day in milliseconds.
pub const DAY: Time = 24 * HOUR;

/// What a run is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// An hour of everything at once.
    Storm,
    /// One or two brokers are away for 73 hours, others write on.
    Away73Hours,
    /// The same for 31 days.
    Away31Days,
    /// A storm among brokers and people whose rights are given and taken.
    Rights,
}

/// The periods that suit how long a run is.
pub(super) fn config(theme: Theme) -> FederationConfig {
    let (compare, look) = match theme {
        Theme::Storm | Theme::Rights => (MINUTE, 10_000),
        Theme::Away73Hours => (HOUR, 10 * MINUTE),
        Theme::Away31Days => (6 * HOUR, HOUR),
    };
    let most = if matches!(theme, Theme::Storm | Theme::Rights) { MINUTE } else { HOUR };
    FederationConfig {
        backoff: Backoff { first: Duration::from_secs(1), most: Duration::from_millis(most) },
        compare_every: Duration::from_millis(compare),
        announce_every: Duration::from_millis(compare * 3),
        look_every: Duration::from_millis(look),
        // So small that some queues run over.
        queue_items: 40,
        ..FederationConfig::default()
    }
}

/// Runs a theme with a seed; panics where something does not hold.
pub fn run(theme: Theme, seed: u64) -> super::world::Counts {
    let rng = Rng::new(seed);
    if theme == Theme::Rights {
        return super::rights::run(rng);
    }
    let mut plan = Plan::new(theme, rng, |_| Box::new(|_| Open), write);
    plan.go();
    plan.world.counts
}

/// Makes the authorities of brokers with these keys.
type Authorities<A> = fn(Vec<PublicKey>) -> Box<dyn Fn(usize) -> A>;

/// What happens in one run.
pub(super) struct Plan<A> {
    theme: Theme,
    pub(super) world: World<A>,
    pub(super) rng: Rng,
    pub(super) persons: Vec<SigningKey>,
    backups: Vec<Option<super::disk::Disk>>,
    next_number: u64,
    write: fn(&mut Plan<A>, usize),
    /// What people do for a broker whose disk was lost.
    pub(super) rejoin: fn(&mut Plan<A>, usize),
}

impl<A: Authority> Plan<A> {
    pub(super) fn new(
        theme: Theme,
        rng: Rng,
        authorities: Authorities<A>,
        write: fn(&mut Plan<A>, usize),
    ) -> Plan<A> {
        let mut draw = rng.fork(1);
        let n = draw.between(3, if theme == Theme::Storm { 16 } else { 6 }) as usize;
        let brokers: Vec<_> = (0..n)
            .map(|i| {
                let mut seed = [0; 32];
                seed[..8].copy_from_slice(&draw.bits().to_be_bytes());
                seed[8] = i as u8;
                let skew = if draw.chance(0.3) { draw.between(0, 1_200_000) as i64 - 600_000 } else { 0 };
                Broker::new(SigningKey::from_seed(&seed), skew, draw.bits())
            })
            .collect();
        let authorities = authorities(brokers.iter().map(Broker::id).collect());
        let world = World::new(brokers, config(theme), rng.fork(2), authorities);
        let persons = (0..3).map(|i| SigningKey::from_seed(&[200 + i; 32])).collect();
        Plan {
            theme,
            world,
            rng: rng.fork(3),
            persons,
            backups: vec![None; n],
            next_number: 0,
            write,
            rejoin: |_, _| {},
        }
    }

    fn go(&mut self) {
        let n = self.world.brokers.len();
        (0..n).for_each(|i| self.world.start(i));
        self.world.run_until(10_000);
        match self.theme {
            Theme::Storm | Theme::Rights => self.storm(),
            Theme::Away73Hours => self.away(73 * HOUR, 20),
            Theme::Away31Days => self.away(31 * DAY, 40),
        }
        self.heal();
    }

    pub(super) fn storm(&mut self) {
        let steps = self.rng.between(20, 80);
        self.world.crash_at_write = if self.rng.chance(0.3) { 0.02 } else { 0.0 };
        for _ in 0..steps {
            let pause = self.rng.exponential(20_000.0);
            self.world.run_until(self.world.time + pause);
            match self.rng.below(10) {
                0..5 => self.write_some(),
                5 => self.fault(),
                6 => self.start_somebody(),
                7 => self.mend_somebody(),
                8 => self.disk_trouble(),
                _ => self.collect(),
            }
        }
        self.world.crash_at_write = 0.0;
    }

    fn away(&mut self, long: Time, writes: u64) {
        let n = self.world.brokers.len();
        (0..12).for_each(|_| self.write_some());
        self.world.run_until(self.world.time + 5 * MINUTE);
        let gone = self.rng.between(1, 3) as usize;
        // Either they are off, or cut off and go on writing.
        let off = self.rng.chance(0.5);
        let away: Vec<usize> = (0..gone.min(n - 1)).collect();
        for a in &away {
            match off {
                true => self.world.kill(*a),
                false => (0..n).filter(|b| !away.contains(b)).for_each(|b| {
                    self.world.cut(*a, b, true);
                    self.world.cut(b, *a, true);
                }),
            }
        }
        for _ in 0..writes {
            self.world.run_until(self.world.time + long / writes);
            self.write_some();
            self.collect();
        }
    }

    fn write_some(&mut self) {
        for _ in 0..self.rng.between(1, 4) {
            let broker = self.rng.below(self.world.brokers.len() as u64) as usize;
            (self.write)(self, broker);
        }
    }

    /// A broker writes, with its own key or a person's.
    pub(super) fn state(
        &mut self,
        broker: usize,
        key: RecordKey,
        body: Body,
        person: Option<usize>,
    ) -> Option<SignedRecord> {
        self.next_number += 1;
        let person = person.map(|p| (self.persons[p].clone(), self.next_number));
        let person = person.as_ref().map(|(key, number)| (key, *number));
        let signed = self.world.brokers[broker].write(key, body, person, self.world.time)?;
        self.world.oracle.acknowledged(&signed);
        self.world.pump(broker);
        Some(signed)
    }

    fn pair(&mut self) -> (usize, usize) {
        let n = self.world.brokers.len() as u64;
        let a = self.rng.below(n);
        let b = (a + self.rng.between(1, n)) % n;
        (a as usize, b as usize)
    }

    fn fault(&mut self) {
        let (a, b) = self.pair();
        match self.rng.below(4) {
            0 => self.world.kill(a),
            1 => self.world.cut(a, b, true),
            2 => self.world.reset(a, b),
            _ => {
                // A split: one side does not reach the other.
                let n = self.world.brokers.len();
                for x in 0..n {
                    for y in 0..n {
                        if (x <= a.min(n - 2)) != (y <= a.min(n - 2)) {
                            self.world.cut(x, y, true);
                        }
                    }
                }
            }
        }
    }

    fn start_somebody(&mut self) {
        let (a, _) = self.pair();
        self.world.start(a);
    }

    fn mend_somebody(&mut self) {
        if self.rng.chance(0.3) {
            return self.mend_all();
        }
        let (a, b) = self.pair();
        self.world.cut(a, b, false);
        self.world.cut(b, a, false);
    }

    fn mend_all(&mut self) {
        let pairs: Vec<_> = self.world.paths.keys().copied().collect();
        pairs.into_iter().for_each(|(a, b)| self.world.cut(a, b, false));
    }

    /// A backup is made, a disk is set back to one, or a disk is lost.
    fn disk_trouble(&mut self) {
        let (a, _) = self.pair();
        match self.rng.below(4) {
            0 | 1 => self.backups[a] = Some(self.world.brokers[a].disk.clone()),
            2 => {
                let Some(mut disk) = self.backups[a].clone() else { return };
                self.world.kill(a);
                if self.rng.chance(0.5) {
                    // Restored with the tool, which gives the log a new epoch; else a virtual machine was
                    // rolled back, and nobody knows.
                    disk.log_epoch = self.rng.bits();
                }
                self.lose(a, disk);
            }
            _ => {
                self.world.kill(a);
                let disk = super::disk::Disk::new(self.rng.bits());
                self.lose(a, disk);
            }
        }
    }

    fn lose(&mut self, broker: usize, disk: super::disk::Disk) {
        self.world.brokers[broker].disk = disk;
        self.world.oracle.forget(broker);
        let now = EPOCH_MS + self.world.time;
        self.world.oracle.disk_lost(&self.world.brokers, now);
        self.world.start(broker);
        (self.rejoin)(self, broker);
    }

    fn collect(&mut self) {
        let time = self.world.time;
        self.world.brokers.iter_mut().for_each(|b| b.collect(time));
    }

    pub(super) fn heal(&mut self) {
        self.mend_all();
        let n = self.world.brokers.len();
        (0..n).for_each(|i| self.world.start(i));
        let (step, most) = match self.theme {
            Theme::Storm | Theme::Rights => (MINUTE, 120 * MINUTE),
            Theme::Away73Hours => (HOUR, 2 * DAY),
            Theme::Away31Days => (6 * HOUR, 8 * DAY),
        };
        let until = self.world.time + most;
        // Twice: what is equal now may hold things that are past their life.
        for _ in 0..2 {
            self.world.run_until(self.world.time + step);
            while !Oracle::is_equal(&self.world.brokers) && self.world.time < until {
                self.world.run_until(self.world.time + step);
            }
            self.collect();
        }
        let time = self.world.time;
        self.world.oracle.check_converged(&self.world.brokers, EPOCH_MS + time);
    }
}

fn write(plan: &mut Plan<Open>, broker: usize) {
    let restrictive = Kind(0x9001);
    let kinds = [Kind::DOMAIN, Kind::MIRROR, Kind::DRAIN, Kind::BAN, Kind(0x1001), restrictive, Kind(77)];
    let kind = kinds[plan.rng.below(kinds.len() as u64) as usize];
    let id = format!("k{}", plan.rng.below(6));
    let key = RecordKey { kind, scope: "play.example".into(), id };
    let until = EPOCH_MS + plan.world.time + plan.rng.below(HOUR);
    let body = match plan.rng.chance(0.35) {
        true => Body::Tombstone,
        false => {
            let bytes = [&until.to_be_bytes()[..], &plan.rng.bits().to_be_bytes()].concat();
            Body::Live { version: 1, bytes }
        }
    };
    let person = plan.rng.below(3) as usize;
    let person = plan.rng.chance(0.4).then_some(person);
    plan.state(broker, key, body, person);
}

//! The φ accrual failure detector (Hayashibara et al. 2004) on the agents' beacons.
//!
//! Two forms are in wide use. Akka's takes the intervals between beacons as normally distributed:
//! φ(t) = −log₁₀(1 − F(t)), from the last 1000 intervals, with a standard deviation of at least 100 ms
//! and, by default, a pause of 3 s that is always put up with. Cassandra's takes them as exponentially
//! distributed: φ(t) = t / mean × log₁₀ e. Both conclude at φ > 8.

use crate::agent::BEACON_US;
use crate::probe::{Outcome, Target};
use crate::world::{Arrival, Detector, Ground};
use std::collections::VecDeque;

/// How intervals between beacons are taken to be distributed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    /// Normally, as Akka has it, with a pause in microseconds that is always put up with.
    Normal {
        /// In microseconds.
        pause_us: f64,
    },
    /// Exponentially, as Cassandra has it.
    Exponential,
}

const THRESHOLD: f64 = 8.0;
const WINDOW: usize = 1000;
const LEAST_DEVIATION_US: f64 = 100_000.0;

/// One host as the detector hears it.
#[derive(Clone, Debug, Default)]
pub struct Phi {
    intervals: VecDeque<u64>,
    sum: f64,
    squares: f64,
    last: Option<u64>,
}

impl Phi {
    /// A beacon came.
    pub fn beacon(&mut self, now: u64) {
        if let Some(last) = self.last {
            self.add(now - last);
        } else {
            // A first estimate with a deviation of a quarter, as Akka makes it.
            let (mean, deviation) = (BEACON_US, BEACON_US / 4);
            self.add(mean - deviation);
            self.add(mean + deviation);
        }
        self.last = Some(now);
    }

    fn add(&mut self, interval: u64) {
        if self.intervals.len() == WINDOW
            && let Some(old) = self.intervals.pop_front()
        {
            self.sum -= old as f64;
            self.squares -= (old as f64).powi(2);
        }
        self.intervals.push_back(interval);
        self.sum += interval as f64;
        self.squares += (interval as f64).powi(2);
    }

    /// How suspicious the host is at `now`.
    pub fn phi(&self, form: Form, now: u64) -> f64 {
        let Some(last) = self.last else { return 0.0 };
        let since = (now - last) as f64;
        let n = self.intervals.len().max(1) as f64;
        let mean = self.sum / n;
        match form {
            Form::Exponential => since / mean.max(1.0) * std::f64::consts::LOG10_E,
            Form::Normal { pause_us } => {
                let deviation = (self.squares / n - mean * mean).max(0.0).sqrt().max(LEAST_DEVIATION_US);
                normal(since, mean + pause_us, deviation)
            }
        }
    }

    /// Whether it is concluded to be dead at `now`.
    pub fn is_dead(&self, form: Form, now: u64) -> bool {
        self.phi(form, now) > THRESHOLD
    }
}

/// Akka's logistic approximation of the normal distribution's tail.
fn normal(since: f64, mean: f64, deviation: f64) -> f64 {
    let y = (since - mean) / deviation;
    let e = (-y * (1.5976 + 0.070566 * y * y)).exp();
    if since > mean { -(e / (1.0 + e)).log10() } else { -(1.0 - 1.0 / (1.0 + e)).log10() }
}

/// What happens to φ's beacons.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "a host each")]
pub enum Beacon {
    /// A host sends one.
    Due(u32),
    /// One reaches the broker.
    Arrives(u32),
    /// The broker looks at a host.
    Look(u32),
}

/// How often the broker looks at each host, in microseconds.
const LOOK_US: u64 = 50_000;

/// φ on the beacons of all hosts.
pub struct Accrual {
    form: Form,
    hosts: Vec<(Phi, bool)>,
}

impl Accrual {
    /// Hears so many hosts.
    pub fn new(form: Form, hosts: u32) -> Accrual {
        Accrual { form, hosts: vec![(Phi::default(), true); hosts as usize] }
    }
}

impl Detector for Accrual {
    type Event = Beacon;

    fn start(&mut self, ground: &mut Ground<Beacon>) {
        for host in 0..self.hosts.len() as u32 {
            let (first, look) = (ground.rng.below(BEACON_US), ground.rng.below(LOOK_US));
            ground.after(first, Beacon::Due(host));
            ground.after(look, Beacon::Look(host));
        }
    }

    fn handle(&mut self, event: Beacon, ground: &mut Ground<Beacon>) {
        match event {
            Beacon::Due(h) => {
                let host = &ground.hosts[h as usize];
                if host.paused_until > ground.now {
                    return ground.after(host.paused_until - ground.now, event);
                }
                if host.has_agent() {
                    let broker = ground.broker();
                    ground.send(h, broker, Beacon::Arrives(h));
                }
                ground.after(BEACON_US, event);
            }
            Beacon::Arrives(h) => {
                let (phi, up) = &mut self.hosts[h as usize];
                phi.beacon(ground.now);
                if !std::mem::replace(up, true) {
                    ground.tell(h, true);
                }
            }
            Beacon::Look(h) => {
                let (phi, up) = &mut self.hosts[h as usize];
                if *up && phi.is_dead(self.form, ground.now) {
                    *up = false;
                    ground.tell(h, false);
                }
                ground.after(LOOK_US, event);
            }
        }
    }

    fn arrival(&self, event: &Beacon) -> Arrival {
        match event {
            Beacon::Due(_) => Arrival::Elsewhere,
            Beacon::Arrives(_) => Arrival::Datagram,
            Beacon::Look(_) => Arrival::Timer,
        }
    }

    fn probed(&mut self, _: Target, _: Outcome, _: &mut Ground<Beacon>) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After regular beacons: how long until φ passes 8, in milliseconds.
    fn patience(form: Form) -> u64 {
        let mut phi = Phi::default();
        (0..2000).for_each(|i| phi.beacon(i * BEACON_US));
        let last = 1999 * BEACON_US;
        (0..).find(|ms| phi.is_dead(form, last + ms * 1000)).expect("at last")
    }

    #[test]
    fn each_form_is_as_patient_as_its_formula_says() {
        // The mean and 5.6 deviations of 100 ms.
        let normal = patience(Form::Normal { pause_us: 0.0 });
        assert!((700..800).contains(&normal), "{normal}");
        let akka = patience(Form::Normal { pause_us: 3_000_000.0 });
        assert!((akka - normal).abs_diff(3000) < 5, "{akka}");
        // 8 × ln 10 = 18.4 means.
        let cassandra = patience(Form::Exponential);
        assert!((3670..3700).contains(&cassandra), "{cassandra}");
    }

    #[test]
    fn what_is_uneven_is_put_up_with_for_longer() {
        let mut phi = Phi::default();
        (0..500).for_each(|i| phi.beacon(i * BEACON_US + if i % 2 == 0 { 0 } else { 150_000 }));
        let since = 499 * BEACON_US + 150_000 + 780_000;
        assert!(!phi.is_dead(Form::Normal { pause_us: 0.0 }, since));
        assert_eq!(Phi::default().phi(Form::Exponential, 9), 0.0, "never heard");
    }
}

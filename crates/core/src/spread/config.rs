//! How the allocator weighs room against rest.

use std::time::Duration;

/// Share of its users that a mirror gets at once when it comes back.
const COLD: f32 = 0.1;
/// Room above the mean load that makes it possible to place parts, which are not divided.
const SLACK: f32 = 0.1;

/// Marks, rates and bounds. What is nonsensical (not a number, out of range) counts as the nearest
/// that makes sense.
#[derive(Clone, Debug, PartialEq)]
pub struct SpreadConfig {
    /// Which loads are too much.
    pub marks: Marks,
    /// How fast offers change.
    pub rates: Rates,
    /// Time between two plans of a domain that has something to decide; domains with much room are
    /// planned a third as often.
    pub period: Duration,
    /// How long a mirror that comes back takes to get its whole share; zero for not at all.
    pub slow_start: Duration,
    /// After the first plan, mirrors that become eligible within this time were up before the broker
    /// was, and get their whole share at once.
    pub start_grace: Duration,
    /// Users of a failed mirror are on their way for so long: TTLs, and the time to notice.
    pub settle: Duration,
    /// Half of the users stay connected for so long, about: who was sent elsewhere may still be there.
    pub stay: Duration,
    /// How demand is remembered.
    pub demand: DemandConfig,
}

/// How reports of demand fade, and how many networks are remembered.
#[derive(Clone, Debug, PartialEq)]
pub struct DemandConfig {
    /// After this time a report counts half.
    pub half_life: Duration,
    /// Time between two reports of one network, about.
    pub period: Duration,
    /// Most networks of a domain that are planned with …
    pub samples: usize,
    /// … and of all domains together, at least 64 each. Twice as many are held.
    pub total_samples: usize,
}

/// Loads as shares of the declared capacity, ascending.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Marks {
    /// Below it a mirror takes back what it sheds, …
    pub low: f32,
    /// … up to here.
    pub refill: f32,
    /// The high-water mark: above it a mirror sheds more, gradually.
    pub high: f32,
    /// No plan goes above it while another mirror has room, whatever has to move at once.
    pub hard: f32,
}

/// Greatest change a minute in ordinary times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// How much more of its parts a mirror sheds, as a share of all.
    pub rise: f32,
    /// How much less.
    pub fall: f32,
    /// By which share of itself a mirror's weight among equals follows its free capacity.
    pub weight: f32,
    /// A weight that is right to within this share stays.
    pub deadband: f32,
}

impl Default for Marks {
    fn default() -> Self {
        Marks { low: 0.76, refill: 0.78, high: 0.80, hard: 0.95 }
    }
}

impl Default for Rates {
    fn default() -> Self {
        Rates { rise: 0.30, fall: 0.10, weight: 0.20, deadband: 0.25 }
    }
}

impl Default for SpreadConfig {
    fn default() -> Self {
        SpreadConfig {
            marks: Marks::default(),
            rates: Rates::default(),
            period: Duration::from_secs(10),
            slow_start: Duration::from_secs(60),
            start_grace: Duration::from_secs(30),
            settle: Duration::from_secs(30),
            stay: Duration::from_secs(300),
            demand: DemandConfig::default(),
        }
    }
}

impl Default for DemandConfig {
    fn default() -> Self {
        DemandConfig {
            half_life: Duration::from_secs(120),
            period: Duration::from_secs(10),
            samples: 4096,
            total_samples: 1 << 18,
        }
    }
}

impl SpreadConfig {
    /// The share that a mirror gets so long after it came back.
    pub(super) fn warmth(&self, since: Duration) -> f32 {
        if since >= self.slow_start {
            return 1.0;
        }
        COLD + (1.0 - COLD) * since.as_secs_f32() / self.slow_start.as_secs_f32()
    }
}

impl Marks {
    /// Numbers, and ascending.
    pub(super) fn sensible(self) -> Marks {
        let known = Marks::default();
        let or = |mark: f32, default: f32| if mark.is_finite() { mark.clamp(0.01, 1.0) } else { default };
        let hard = or(self.hard, known.hard);
        let high = or(self.high, known.high).min(hard);
        let refill = or(self.refill, known.refill).min(high);
        Marks { low: or(self.low, known.low).min(refill), refill, high, hard }
    }
}

impl Marks {
    /// For mirrors whose loads are this share of their capacity on the whole: when that comes near the
    /// high mark, marks rise, as there would be nowhere to go.
    pub(super) fn under(self, load: f64) -> Marks {
        let least = (load as f32 + SLACK).min(self.hard);
        let by = (least - self.high).max(0.0);
        Marks { low: self.low + by, refill: self.refill + by, high: self.high + by, hard: self.hard }
    }
}

impl Rates {
    /// Numbers, and not negative.
    pub(super) fn sensible(self) -> Rates {
        let known = Rates::default();
        let or = |rate: f32, default: f32| if rate.is_finite() { rate.clamp(0.0, 1e3) } else { default };
        Rates {
            rise: or(self.rise, known.rise),
            fall: or(self.fall, known.fall),
            weight: or(self.weight, known.weight),
            deadband: or(self.deadband, known.deadband),
        }
    }
}

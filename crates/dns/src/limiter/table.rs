//! Buckets of a fixed number, found by a hash.
//!
//! Four buckets share a place (a line of the processor's cache). A key that is new there takes the bucket
//! that has least to say: an empty one, else the one that is fullest, since forgetting a full bucket
//! changes nothing. So a flood keeps its debt while others come and go, and however many floods share a
//! place, somebody new always gets a bucket of its own there, a full one.

use super::Reason;
use std::time::Duration;

/// What a token, or a byte, is in a bucket's balance.
pub(super) const UNIT: i32 = 1000;
/// Readings of the clock that are less than a minute back.
const BACK: u32 = u32::MAX - 60_000;
/// Buckets of one place.
const WAYS: usize = 4;

/// How buckets of one kind fill.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// Added in a thousand milliseconds.
    per_second: i32,
    /// The fullest.
    most: i32,
    /// The deepest debt; not above 0.
    least: i32,
}

impl Rule {
    /// So many replies a second. The settings' bounds keep all of it within 32 bits.
    pub(super) fn rate(per_second: u32, window: Duration) -> Rule {
        let most = per_second as i32 * UNIT;
        let debt = i64::from(most) * window.as_millis() as i64 / 1000;
        Rule { per_second: most, most, least: -(debt.min(i64::from(i32::MAX)) as i32) }
    }

    /// So many bytes that come back within so many milliseconds.
    pub(super) fn budget(bytes: u32, refill_ms: u32) -> Rule {
        let most = bytes as i32 * UNIT;
        Rule { per_second: (i64::from(most) * 1000 / i64::from(refill_ms)) as i32, most, least: 0 }
    }

    /// What is there at `now` of what was there at `then`.
    fn filled(&self, balance: i32, then: u32, now: u32) -> i32 {
        // The clock wraps around after 49 days: what is older fills less than it should, once. A reading
        // that is a little older than the one before brings nothing.
        let elapsed = match now.wrapping_sub(then) {
            BACK.. => 0,
            elapsed => i64::from(elapsed),
        };
        let filled = i64::from(balance) + elapsed * i64::from(self.per_second) / 1000;
        filled.min(self.most.into()) as i32
    }
}

/// A balance toward one network.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    /// The key, its lowest bits replaced by the [`Reason`]; 0 while unused.
    key: u64,
    /// In [`UNIT`]s.
    balance: i32,
    /// When that was, in milliseconds.
    at: u32,
}

impl Bucket {
    /// Lets time pass.
    pub(super) fn refill(&mut self, rule: &Rule, now: u32) {
        let filled = rule.filled(self.balance, self.at, now);
        // Parts of a unit are not lost: time is only taken note of when it has brought something.
        if filled != self.balance || filled == rule.most {
            (self.balance, self.at) = (filled, now);
        }
    }

    /// Takes one token, if there is one; else goes deeper into debt.
    pub(super) fn take(&mut self, rule: &Rule) -> bool {
        let enough = self.balance >= UNIT;
        self.balance = self.balance.saturating_sub(UNIT).max(rule.least);
        enough
    }

    /// Adds units.
    pub(super) fn add(&mut self, rule: &Rule, units: i64) {
        self.balance = i64::from(self.balance).saturating_add(units).min(rule.most.into()) as i32;
    }

    /// Takes bytes, if there are as many.
    pub(super) fn pay(&mut self, bytes: usize) -> bool {
        let price = i64::try_from(bytes).unwrap_or(i64::MAX).saturating_mul(UNIT.into());
        let left = i64::from(self.balance).saturating_sub(price);
        if left >= 0 {
            // Not above what it was.
            self.balance = left as i32;
        }
        left >= 0
    }
}

/// All buckets of one thread.
#[derive(Debug)]
pub(super) struct Table {
    places: Box<[[Bucket; WAYS]]>,
}

impl Table {
    /// At least so many buckets.
    pub(super) fn new(buckets: usize) -> Table {
        let places = buckets.div_ceil(WAYS).next_power_of_two();
        Table { places: vec![[Bucket::default(); WAYS]; places].into() }
    }

    /// The bucket of a key, which is a full one if it was not there.
    pub(super) fn get(
        &mut self,
        key: u64,
        reason: Reason,
        now: u32,
        rules: &[Option<Rule>; Reason::ALL.len()],
    ) -> &mut Bucket {
        let key = key & !KIND | KIND_SET | reason as u64;
        let at = (key >> 32) as usize & (self.places.len() - 1);
        let place = &mut self.places[at];
        let way = match place.iter().position(|b| b.key == key) {
            Some(way) => way,
            None => {
                let way = fullest(place, now, rules);
                let most = rules[reason as usize].map_or(0, |r| r.most);
                place[way] = Bucket { key, balance: most, at: now };
                way
            }
        };
        &mut place[way]
    }
}

/// The bits of a key that are not the hash's: the reason, and one that is set in every key.
const KIND: u64 = 7;
const KIND_SET: u64 = 4;

/// The bucket that is best forgotten.
fn fullest(place: &[Bucket; WAYS], now: u32, rules: &[Option<Rule>; Reason::ALL.len()]) -> usize {
    let fullness = |bucket: &Bucket| {
        let rule = rules.get((bucket.key & (KIND - KIND_SET)) as usize).copied().flatten();
        match rule {
            Some(rule) if bucket.key != 0 => {
                let filled = i64::from(rule.filled(bucket.balance, bucket.at, now));
                // In thousandths of the way from the deepest debt.
                let (least, most) = (i64::from(rule.least), i64::from(rule.most));
                (filled - least) * 1000 / (most - least).max(1)
            }
            _ => i64::MAX,
        }
    };
    let (mut best, mut most) = (0, fullness(&place[0]));
    for (way, bucket) in place.iter().enumerate().skip(1) {
        let here = fullness(bucket);
        if here > most {
            (best, most) = (way, here);
        }
    }
    best
}

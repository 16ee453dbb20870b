//! Randomness from a seed.

use nearmost_core::hash;
use std::time::Duration;

/// Numbers that follow from a seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    pub fn new(seed: u64) -> Dice {
        Dice(hash::mix(seed))
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        hash::mix(self.0)
    }

    /// Whether something of this probability happens. Draws only where the answer is open.
    pub fn happens(&mut self, probability: f64) -> bool {
        probability > 0.0 && (probability >= 1.0 || hash::unit(self.draw()) < probability)
    }

    /// Evenly from nothing up to `most`.
    pub fn up_to(&mut self, most: Duration) -> Duration {
        if most.is_zero() { most } else { most.mul_f64(hash::unit(self.draw())) }
    }
}

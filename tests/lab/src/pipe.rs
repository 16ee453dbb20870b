//! One direction of a way between two hosts: when a packet arrives at the other end, if it does.
//!
//! ```text
//!  packet ─▶ blackhole? ─▶ too large? ─▶ lost? ─▶ queue and rate ─▶ delay + jitter ─▶ due
//! ```
//!
//! Packets leave in the order in which they came, jitter or not, but for those that are chosen to be late.

use crate::dice::Dice;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How a pipe treats packets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// From one end to the other.
    pub delay: Duration,
    /// Evenly distributed, on top of the delay.
    pub jitter: Duration,
    /// Share of packets that are lost, each independent of others.
    pub loss: f64,
    /// Losses that come together.
    pub burst: Option<Burst>,
    /// Packets that are overtaken by later ones.
    pub late: Option<Late>,
    /// Bits a second and the queue before them.
    pub limit: Option<Limit>,
    /// Longer packets do not pass; bytes with the IP header.
    pub mtu: Option<u16>,
    /// Nothing passes.
    pub blackhole: bool,
}

/// Losses of the Gilbert-Elliott model: a state that loses packets, entered and left by chance at each
/// packet.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Burst {
    /// Probability that a packet begins a burst.
    pub enter: f64,
    /// Probability that a packet ends it.
    pub leave: f64,
    /// Share of packets that are lost within.
    pub loss: f64,
}

/// Reordering.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Late {
    /// Share of packets.
    pub share: f64,
    /// How much later than their turn.
    pub by: Duration,
}

/// A bottleneck.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Bits a second.
    pub rate: u64,
    /// Bytes that may wait.
    pub queue: u64,
}

impl Shape {
    /// Delays, and does nothing else.
    pub fn delay(delay: Duration) -> Shape {
        Shape {
            delay,
            jitter: Duration::ZERO,
            loss: 0.0,
            burst: None,
            late: None,
            limit: None,
            mtu: None,
            blackhole: false,
        }
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives then.
    Due(Duration),
    /// It does not.
    Dropped(Why),
}

/// Why a packet does not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing passes.
    Blackhole,
    /// It is longer than what passes.
    TooLong {
        /// What passes.
        mtu: u16,
    },
    /// By chance.
    Lost,
    /// Too much waits before the bottleneck.
    QueueFull,
}

/// One direction.
#[derive(Clone, Debug)]
pub struct Pipe {
    shape: Shape,
    dice: Dice,
    in_burst: bool,
    /// The bottleneck is busy until then.
    busy: Duration,
    /// When the last packet that was not made late is due.
    last: Duration,
}

impl Pipe {
    /// With its own randomness.
    pub fn new(shape: Shape, seed: u64) -> Pipe {
        Pipe { shape, dice: Dice::new(seed), in_burst: false, busy: Duration::ZERO, last: Duration::ZERO }
    }

    /// How it treats packets now.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Treats later packets otherwise. Those under way stay so, and are not overtaken.
    pub fn set(&mut self, shape: Shape) {
        self.in_burst &= shape.burst.is_some();
        self.shape = shape;
    }

    /// A packet of so many bytes comes in.
    pub fn push(&mut self, bytes: usize, now: Duration) -> Fate {
        if self.shape.blackhole {
            return Fate::Dropped(Why::Blackhole);
        }
        if let Some(mtu) = self.shape.mtu.filter(|mtu| bytes > usize::from(*mtu)) {
            return Fate::Dropped(Why::TooLong { mtu });
        }
        if self.is_lost() {
            return Fate::Dropped(Why::Lost);
        }
        let Some(leaves) = self.leaves(bytes as u64, now) else {
            return Fate::Dropped(Why::QueueFull);
        };
        let due = leaves + self.shape.delay + self.dice.up_to(self.shape.jitter);
        if let Some(late) = self.shape.late
            && self.dice.happens(late.share)
        {
            return Fate::Due(due + late.by);
        }
        self.last = self.last.max(due);
        Fate::Due(self.last)
    }

    fn is_lost(&mut self) -> bool {
        let mut share = self.shape.loss;
        if let Some(burst) = self.shape.burst {
            let turns = if self.in_burst { burst.leave } else { burst.enter };
            self.in_burst ^= self.dice.happens(turns);
            if self.in_burst {
                share = share.max(burst.loss);
            }
        }
        self.dice.happens(share)
    }

    /// When it has passed the bottleneck.
    fn leaves(&mut self, bytes: u64, now: Duration) -> Option<Duration> {
        let Some(Limit { rate, queue }) = self.shape.limit else { return Some(now) };
        let takes = |bytes: u64| Duration::from_secs_f64(bytes as f64 * 8.0 / rate.max(1) as f64);
        if self.busy.saturating_sub(now) > takes(queue) {
            return None;
        }
        self.busy = self.busy.max(now) + takes(bytes);
        Some(self.busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn pipe(change: impl Fn(&mut Shape)) -> Pipe {
        let mut shape = Shape::delay(10 * MS);
        change(&mut shape);
        Pipe::new(shape, 7)
    }

    fn lost(pipe: &mut Pipe, packets: u32) -> Vec<bool> {
        (0..packets).map(|n| pipe.push(100, n * MS) == Fate::Dropped(Why::Lost)).collect()
    }

    #[test]
    fn delays_and_nothing_else() {
        let mut pipe = pipe(|_| {});
        assert_eq!(pipe.push(1500, 5 * MS), Fate::Due(15 * MS));
        assert_eq!(pipe.push(60, 5 * MS), Fate::Due(15 * MS));
    }

    #[test]
    fn a_blackhole_and_a_small_mtu_drop() {
        let mut hole = pipe(|s| s.blackhole = true);
        assert_eq!(hole.push(60, MS), Fate::Dropped(Why::Blackhole));
        let mut small = pipe(|s| s.mtu = Some(1280));
        assert_eq!(small.push(1280, MS), Fate::Due(11 * MS));
        assert_eq!(small.push(1281, MS), Fate::Dropped(Why::TooLong { mtu: 1280 }));
    }

    #[test]
    fn a_bottleneck_spaces_packets_and_drops_what_does_not_fit() {
        // A byte each millisecond.
        let mut pipe = pipe(|s| s.limit = Some(Limit { rate: 8000, queue: 20 }));
        assert_eq!(pipe.push(10, MS), Fate::Due(21 * MS));
        assert_eq!(pipe.push(15, MS), Fate::Due(36 * MS));
        assert_eq!(pipe.push(10, MS), Fate::Dropped(Why::QueueFull));
        assert_eq!(pipe.push(10, 30 * MS), Fate::Due(50 * MS));
    }

    #[test]
    fn as_many_are_lost_as_was_asked_for() {
        let count = lost(&mut pipe(|s| s.loss = 0.3), 10_000).into_iter().filter(|l| *l).count();
        assert!((2800..3200).contains(&count), "{count}");
    }

    #[test]
    fn bursts_lose_neighbours() {
        let burst = Burst { enter: 0.01, leave: 0.1, loss: 1.0 };
        let lost = lost(&mut pipe(|s| s.burst = Some(burst)), 20_000);
        let share = lost.iter().filter(|l| **l).count() as f64 / lost.len() as f64;
        // enter / (enter + leave)
        assert!((0.06..0.13).contains(&share), "{share}");
        let pairs = lost.windows(2).filter(|w| w[0]).count() as f64;
        let both = lost.windows(2).filter(|w| w[0] && w[1]).count() as f64;
        assert!(both / pairs > 0.8, "after a loss comes a loss: {}", both / pairs);
    }

    #[test]
    fn late_packets_are_overtaken() {
        let mut pipe = pipe(|s| s.late = Some(Late { share: 0.5, by: 5 * MS }));
        let due: Vec<_> = (0..100).map(|n| pipe.push(60, n * MS)).collect();
        let overtaken = due.windows(2).filter(|w| matches!(w, [Fate::Due(a), Fate::Due(b)] if a > b)).count();
        assert!(overtaken > 10, "{overtaken}");
    }

    proptest! {
        #[test]
        fn order_and_bounds_hold(
            jitter in 0u64..20, loss in 0.0..0.9f64, seed: u64,
            packets in prop::collection::vec((0u64..5, 40usize..1500), 1..200),
        ) {
            let mut shape = Shape::delay(10 * MS);
            shape.jitter = Duration::from_millis(jitter);
            shape.loss = loss;
            let (mut pipe, mut twin) = (Pipe::new(shape, seed), Pipe::new(shape, seed));
            let (mut now, mut last) = (Duration::ZERO, Duration::ZERO);
            for (pause, bytes) in packets {
                now += Duration::from_millis(pause);
                let fate = pipe.push(bytes, now);
                prop_assert_eq!(fate, twin.push(bytes, now), "the same seed, the same fate");
                if let Fate::Due(due) = fate {
                    prop_assert!(due >= last && due >= now + shape.delay);
                    prop_assert!(due <= last.max(now + shape.delay + shape.jitter));
                    last = due;
                }
            }
        }
    }
}

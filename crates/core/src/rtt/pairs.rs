//! Which node measures the round trip to which target, and when.
//!
//! Brokers cannot time the way between two mirrors; the mirrors' own nodes can. Every node with a
//! session measures every target but itself, each pair once in an interval, as long as the rates
//! allow it. Where there are more pairs than that, a node takes turns between the nearest targets and
//! a walk through all of them, so that the near ones are known well and the others in the end.
//!
//! ```text
//!   targets on a ring, by seeded hash       a node's time, in slots of one turn
//!
//!           b   e                           |    x      |  x        |         x |
//!        d         a   ◀── node 1           └ slot ─────┘           ▲
//!           f   c                             a turn at random in each, and never sooner than
//!             ▲── node 2                      the rate allows after the one before
//! ```
//!
//! All nodes walk the same ring and begin at different places, so no target is measured by many at
//! once, and one that comes or goes changes nobody's place. A node that came, and every node after a
//! target came, walks one round in haste: at the pace that the rates allow. Turns that were missed
//! because nobody polled are not made up for.
//!
//! With `n` targets besides itself, a node's slots are `interval / (n + 2)` long: two orders of one pair
//! are at most `n + 1` of them apart, however the turns lie in their slots, and there is one to spare
//! for the wait at the beginning, which spreads the slots of nodes that came together.

use super::Target;
use crate::geo::Position;
use crate::id::NodeId;
use crate::time::MonoTime;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// A turn that is late by more, and by more than the rates' gap, was missed.
const LATE: Duration = Duration::from_secs(1);

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairConfig {
    /// Each pair is measured once in this time, where the rates allow it.
    pub interval: Duration,
    /// Shortest time between two orders to one node.
    pub node_gap: Duration,
    /// Time between two orders to anyone, on average at least.
    pub gap: Duration,
}

/// A node that can be given orders.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairNode {
    /// Its key.
    pub id: NodeId,
    /// Where it is.
    pub position: Option<Position>,
}

/// Something to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct PairTarget {
    /// What.
    pub target: Target,
    /// Where it is.
    pub position: Option<Position>,
}

/// A turn: this node is to measure that target now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairOrder {
    /// Who measures.
    pub node: NodeId,
    /// Whom.
    pub target: Target,
}

/// The schedule of all pairs.
///
/// ```text
///             set_nodes                    due
///  unknown ────────────▶ present, waiting ────▶ an order, and the next turn
///     ▲                   │         ▲
///     │ an interval later │ left    │ came back: goes on where it was
///     └────────────── absent ───────┘
/// ```
pub struct Pairs {
    config: PairConfig,
    seed: u64,
    random: u64,
    targets: Vec<PairTarget>,
    /// Hash and position in `targets`, sorted.
    ring: Vec<(u64, usize)>,
    /// Grows with every change of `targets`.
    version: u64,
    /// Sorted, so that the same inputs give the same schedule.
    nodes: BTreeMap<NodeId, Walker>,
    present: usize,
    /// Turns that may be due; only those that the walker agrees with count.
    turns: BinaryHeap<Reverse<(MonoTime, NodeId)>>,
}

/// One node on its way around the ring.
struct Walker {
    position: Option<Position>,
    /// Hash of the target that it measured last on the ring.
    at: u64,
    /// Turns left at the pace that the rates allow.
    haste: usize,
    near: Near,
    pace: Pace,
    /// Since when it has had no session.
    absent: Option<MonoTime>,
}

/// When a node's turns are.
#[derive(Default)]
struct Pace {
    /// The next turn; `None` without anything to measure, or when it passed while the node was absent.
    due: Option<MonoTime>,
    /// Begin of the slot that it lies in.
    slot: MonoTime,
    /// Length of that slot.
    spacing: Duration,
    /// The turn before.
    last: Option<MonoTime>,
}

/// A node's nearest targets, measured in turn.
#[derive(Default)]
struct Near {
    /// Positions in the targets of `version`.
    targets: Vec<usize>,
    version: u64,
    next: usize,
    /// The next turn is one of these.
    turn: bool,
}

impl Pairs {
    /// Nobody to measure and nothing; `seed` orders the ring and drives the jitter.
    pub fn new(config: PairConfig, seed: u64) -> Pairs {
        Pairs {
            config,
            seed,
            random: seed,
            targets: Vec::new(),
            ring: Vec::new(),
            version: 1,
            nodes: BTreeMap::new(),
            present: 0,
            turns: BinaryHeap::new(),
        }
    }

    /// What is to be measured from now on. Of targets that are given twice the first counts.
    pub fn set_targets(&mut self, mut targets: Vec<PairTarget>, now: MonoTime) {
        targets.sort_by(|a, b| a.target.cmp(&b.target));
        targets.dedup_by(|later, first| later.target == first.target);
        if targets == self.targets {
            return;
        }
        let known: HashSet<&Target> = self.targets.iter().map(|t| &t.target).collect();
        let grown = targets.iter().any(|t| !known.contains(&t.target));
        let hashes = targets.iter().map(|t| hash(self.seed, &t.target));
        self.ring = hashes.enumerate().map(|(i, h)| (h, i)).collect();
        self.ring.sort_unstable();
        self.targets = targets;
        self.version += 1;
        if grown {
            let round = self.targets.len();
            self.nodes.values_mut().for_each(|walker| walker.haste = round);
        }
        self.reschedule(now);
    }

    /// Who can be given orders from now on. Of nodes that are given twice the last counts.
    pub fn set_nodes(&mut self, nodes: impl IntoIterator<Item = PairNode>, now: MonoTime) {
        let nodes: BTreeMap<NodeId, PairNode> = nodes.into_iter().map(|n| (n.id, n)).collect();
        for (id, walker) in &mut self.nodes {
            if !nodes.contains_key(id) {
                walker.absent.get_or_insert(now);
            }
        }
        let interval = self.config.interval;
        self.nodes.retain(|_, walker| walker.absent.is_none_or(|since| now.since(since) < interval));
        let round = self.targets.len();
        for node in nodes.values() {
            let start = hash(self.seed, &node.id);
            let walker = self.nodes.entry(node.id).or_insert_with(|| Walker::starting(start, round));
            walker.absent = None;
            if walker.position != node.position {
                walker.position = node.position;
                walker.near.version = 0;
            }
        }
        self.present = nodes.len();
        self.reschedule(now);
    }

    /// An order that is due, if any. Take all, then sleep until [`Pairs::next_deadline`].
    pub fn poll(&mut self, now: MonoTime) -> Option<PairOrder> {
        while let Some(Reverse((at, id))) = self.turns.peek().copied()
            && at <= now
        {
            self.turns.pop();
            let Some(mut walker) = self.nodes.remove(&id) else { continue };
            let mut order = None;
            if walker.pace.due == Some(at) {
                match walker.absent {
                    // It missed its turn.
                    Some(_) => walker.pace.due = None,
                    None => order = self.turn(&id, &mut walker, at, now),
                }
            }
            self.nodes.insert(id, walker);
            if order.is_some() {
                return order;
            }
        }
        None
    }

    /// When [`Pairs::poll`] may have something. It may be early, never late.
    pub fn next_deadline(&self) -> Option<MonoTime> {
        self.turns.peek().map(|Reverse((at, _))| *at)
    }

    /// How many ordered pairs of a node and a target there are.
    pub fn pairs(&self) -> usize {
        let own = |t: &&PairTarget| match &t.target {
            Target::Node(id) => self.nodes.get(id).is_some_and(|w| w.absent.is_none()),
            Target::Address(_) | Target::Mirror { .. } => false,
        };
        self.present.saturating_mul(self.targets.len()) - self.targets.iter().filter(own).count()
    }

    /// A node's turn that was due `at`: what it measures, and when it is its turn again.
    fn turn(&mut self, id: &NodeId, walker: &mut Walker, at: MonoTime, now: MonoTime) -> Option<PairOrder> {
        // After a pause of the driver all are due at once; they begin anew instead.
        let missed = now.since(at) > self.gap().max(LATE);
        let order = if missed { None } else { self.choose(id, walker) };
        if order.is_some() {
            walker.haste = walker.haste.saturating_sub(1);
            walker.pace.last = Some(now);
        }
        if missed {
            self.begin(id, walker, now);
        } else {
            self.schedule(id, walker, walker.pace.slot + walker.pace.spacing);
        }
        order
    }

    fn choose(&self, id: &NodeId, walker: &mut Walker) -> Option<PairOrder> {
        let mut near = None;
        if self.share(self.others(id)) < self.gap() {
            walker.near.turn = !walker.near.turn;
            near = walker.near.turn.then(|| self.nearest(id, walker)).flatten();
        }
        let target = near.or_else(|| self.walk(id, walker))?;
        Some(PairOrder { node: *id, target: target.target.clone() })
    }

    /// The next target on the ring.
    fn walk(&self, id: &NodeId, walker: &mut Walker) -> Option<&PairTarget> {
        let from = self.ring.partition_point(|(hash, _)| *hash <= walker.at);
        let (behind, ahead) = self.ring.split_at(from);
        let mut others = ahead.iter().chain(behind).filter_map(|(h, i)| Some((*h, self.targets.get(*i)?)));
        let (hash, target) = others.find(|(_, t)| t.target != Target::Node(*id))?;
        walker.at = hash;
        Some(target)
    }

    /// The next of the nearest ones; none when the node's place or all others are unknown.
    fn nearest(&self, id: &NodeId, walker: &mut Walker) -> Option<&PairTarget> {
        if walker.near.version != self.version {
            walker.near.targets = self.nearest_of(id, walker.position);
            walker.near.version = self.version;
        }
        let near = &mut walker.near;
        let at = near.next.checked_rem(near.targets.len())?;
        near.next = at + 1;
        self.targets.get(*near.targets.get(at)?)
    }

    /// As many of the nearest as half of a node's turns in an interval, at least one.
    fn nearest_of(&self, id: &NodeId, position: Option<Position>) -> Vec<usize> {
        let Some(position) = position else { return Vec::new() };
        let distance = |(i, t): (usize, &PairTarget)| {
            let other = t.target != Target::Node(*id);
            t.position.filter(|_| other).map(|p| (position.distance_km(p), i))
        };
        let mut near: Vec<(f64, usize)> = self.targets.iter().enumerate().filter_map(distance).collect();
        let turns = self.config.interval.div_duration_f64(self.gap());
        // A float beyond the type's range becomes its end.
        let wanted = (turns / 2.0).max(1.0) as usize;
        if near.len() > wanted {
            near.select_nth_unstable_by(wanted, |a, b| a.0.total_cmp(&b.0));
            near.truncate(wanted);
        }
        near.sort_by(|a, b| a.0.total_cmp(&b.0));
        near.into_iter().map(|(_, i)| i).collect()
    }

    /// Shortest time between two turns of one node: its own rate, and its part of the whole one.
    fn gap(&self) -> Duration {
        let nodes = u32::try_from(self.present).unwrap_or(u32::MAX);
        // Without any gap a node would be due again and again in one moment.
        self.config.node_gap.max(self.config.gap.saturating_mul(nodes)).max(Duration::from_millis(1))
    }

    /// Targets besides the node itself.
    fn others(&self, id: &NodeId) -> usize {
        let own = self.targets.binary_search_by(|t| t.target.cmp(&Target::Node(*id))).is_ok();
        self.targets.len() - usize::from(own)
    }

    /// The length of turns when so many targets share the interval.
    fn share(&self, others: usize) -> Duration {
        self.config.interval / u32::try_from(others.saturating_add(2)).unwrap_or(u32::MAX)
    }

    /// Time between two turns of a node; `None` when there is nothing for it to measure.
    fn spacing(&self, id: &NodeId, walker: &Walker) -> Option<Duration> {
        let gap = self.gap();
        match (self.others(id), walker.haste) {
            (0, _) => None,
            (_, 1..) => Some(gap),
            (n, 0) => Some(self.share(n).max(gap)),
        }
    }

    /// The first turn, in a slot that begins within a slot's length.
    fn begin(&mut self, id: &NodeId, walker: &mut Walker, now: MonoTime) {
        let wait = self.spacing(id, walker).unwrap_or_default().mul_f64(self.uniform());
        self.schedule(id, walker, now + wait);
    }

    /// The next turn, somewhere in the slot that begins at `slot`.
    fn schedule(&mut self, id: &NodeId, walker: &mut Walker, slot: MonoTime) {
        let Some(spacing) = self.spacing(id, walker) else {
            walker.pace.due = None;
            return;
        };
        let earliest = walker.pace.last.map_or(MonoTime::ZERO, |last| last + self.gap());
        let due = earliest.max(slot + spacing.mul_f64(self.uniform()));
        walker.pace = Pace { due: Some(due), slot, spacing, last: walker.pace.last };
        self.turns.push(Reverse((due, *id)));
    }

    /// Brings forward the turns that lie far off for how close they should be by now. Small changes
    /// wait for the turn itself: each draw anew would bring it nearer.
    fn reschedule(&mut self, now: MonoTime) {
        let mut nodes = std::mem::take(&mut self.nodes);
        for (id, walker) in nodes.iter_mut().filter(|(_, w)| w.absent.is_none()) {
            match self.spacing(id, walker) {
                None => walker.pace.due = None,
                Some(spacing)
                    if walker.pace.due.is_none() || spacing.saturating_mul(2) <= walker.pace.spacing =>
                {
                    self.begin(id, walker, now);
                }
                Some(_) => {}
            }
        }
        self.nodes = nodes;
        // Those that were brought forward left a turn behind.
        if self.turns.len() > 2 * self.nodes.len() + 16 {
            let nodes = &self.nodes;
            let due = |at: &MonoTime, id: &NodeId| nodes.get(id).is_some_and(|w| w.pace.due == Some(*at));
            self.turns.retain(|Reverse((at, id))| due(at, id));
        }
    }

    /// In `0..1`.
    fn uniform(&mut self) -> f64 {
        // SplitMix64 (Steele, Lea, Flood 2014): one addition and a finalizer; plenty for jitter.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Walker {
    fn starting(at: u64, haste: usize) -> Walker {
        let (near, pace) = (Near::default(), Pace::default());
        Walker { position: None, at, haste, near, pace, absent: None }
    }
}

/// A place on the ring.
fn hash(seed: u64, what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, what).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
#[path = "pairs_tests.rs"]
mod tests;

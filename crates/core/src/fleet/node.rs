//! Hearing one agent: the replay window of its beacons, their loss, what they say, and silence.

use super::config::FleetConfig;
use super::links::Neighbourhood;
use super::sessions::Sessions;
use super::slots::Slots;
use super::types::{BeaconOutcome, BeaconTally};
use crate::health::machine::Input;
use crate::id::NodeId;
use crate::time::MonoTime;
use std::collections::{HashMap, HashSet};

/// All nodes that have a key and are not revoked.
#[derive(Default)]
pub(super) struct NodeTable {
    pub slots: Slots<Node>,
    pub by_id: HashMap<NodeId, u32>,
    /// Of all beacons: what the broker's own line is like.
    pub loss: Loss,
}

impl NodeTable {
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    #[inline]
    pub fn find(&mut self, id: &NodeId) -> Option<(u32, &mut Node)> {
        let slot = *self.by_id.get(id)?;
        Some((slot, self.slots.get_mut(slot)?))
    }

    pub fn insert(&mut self, id: NodeId) {
        let slot = self.slots.insert(Node::new(id));
        self.by_id.insert(id, slot);
    }

    /// Their slots and keys.
    pub fn all(&self) -> Vec<(u32, NodeId)> {
        self.by_id.iter().map(|(id, slot)| (*slot, *id)).collect()
    }

    /// Forgets those that are not among `kept`.
    pub fn retain(&mut self, kept: &HashSet<NodeId>) {
        let slots = &mut self.slots;
        self.by_id.retain(|id, slot| {
            let keep = kept.contains(id);
            if !keep {
                slots.remove(*slot);
            }
            keep
        });
    }
}

/// What is known of one agent.
pub(super) struct Node {
    pub id: NodeId,
    pub window: ReplayWindow,
    pub loss: Loss,
    pub tally: BeaconTally,
    pub hearing: Hearing,
    pub drain: DrainFlag,
    pub sessions: Sessions,
    /// Slots of its mirrors.
    pub mirrors: Vec<u32>,
    pub armed: Option<MonoTime>,
    /// Where it was heard from.
    pub net: Option<Neighbourhood>,
}

impl Node {
    fn new(id: NodeId) -> Node {
        Node {
            id,
            window: ReplayWindow::default(),
            loss: Loss::default(),
            tally: BeaconTally::default(),
            hearing: Hearing::default(),
            drain: DrainFlag::default(),
            sessions: Sessions::default(),
            mirrors: Vec::new(),
            armed: None,
            net: None,
        }
    }

    /// When something is to be looked at: missing beacons, addresses given up.
    pub fn deadline(&self, config: &FleetConfig, attentive: MonoTime) -> Option<MonoTime> {
        let hearing = self.hearing.deadline(config, attentive);
        [hearing, self.sessions.deadline(attentive)].into_iter().flatten().min()
    }
}

/// What the beacons say of draining.
///
/// Reports and beacons overtake each other. A report that clears a drain overrules the beacons
/// that are still under way with the flag, until one without it has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum DrainFlag {
    /// The last beacon or report did not say so.
    #[default]
    Clear,
    /// It did.
    Set,
    /// A beacon did, and a report since then does not.
    Overruled,
}

impl DrainFlag {
    /// A beacon that was not overtaken; whether its agent has just begun to drain.
    #[inline]
    #[must_use]
    pub fn beacon(&mut self, draining: bool) -> bool {
        let began = draining && *self == DrainFlag::Clear;
        match (draining, *self) {
            (false, _) => *self = DrainFlag::Clear,
            (true, DrainFlag::Clear) => *self = DrainFlag::Set,
            (true, _) => {}
        }
        began
    }

    /// A report, whose word stands.
    pub fn report(&mut self, draining: bool) {
        *self = match (draining, *self) {
            (true, _) => DrainFlag::Set,
            (false, DrainFlag::Clear) => DrainFlag::Clear,
            (false, _) => DrainFlag::Overruled,
        };
    }
}

/// Which beacons were seen: within a boot each number counts once. By beacons alone, boots only go
/// up; a session may begin any boot, since an agent's clock may have been set back.
///
/// A bitmap of the last 64 numbers, as in RFC 4303 §3.4.3.
#[derive(Default)]
pub(super) struct ReplayWindow {
    boot: Option<u64>,
    /// The highest boot ever; a recorded beacon of it must not end a lower one that a session began.
    latest: u64,
    highest: u64,
    /// Zero until the boot's first beacon.
    seen: u64,
}

/// A beacon that may count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fresh {
    /// The first of a node never heard before, or of the boot that its session told of.
    First,
    /// The first of a later boot.
    NewBoot,
    /// Ahead of all others, leaving this many out.
    Ahead(u64),
    /// Overtaken by others.
    Late,
}

impl ReplayWindow {
    /// A session told of its agent's boot, and sessions are authenticated. Whether the agent is
    /// another than the one heard before.
    pub fn restart(&mut self, boot: u64) -> bool {
        let other = self.boot.is_some_and(|known| known != boot);
        if self.boot != Some(boot) {
            *self = ReplayWindow { boot: Some(boot), latest: self.latest.max(boot), highest: 0, seen: 0 };
        }
        other
    }

    pub fn accept(&mut self, boot: u64, seq: u64) -> Result<Fresh, BeaconOutcome> {
        match self.boot {
            Some(known) if boot == known && self.seen != 0 => return self.accept_seq(seq),
            Some(known) if boot != known && boot <= self.latest => return Err(BeaconOutcome::Stale),
            _ => {}
        }
        let fresh = if self.boot.is_none_or(|known| known == boot) { Fresh::First } else { Fresh::NewBoot };
        *self = ReplayWindow { boot: Some(boot), latest: boot.max(self.latest), highest: seq, seen: 1 };
        Ok(fresh)
    }

    fn accept_seq(&mut self, seq: u64) -> Result<Fresh, BeaconOutcome> {
        if let Some(ahead) = seq.checked_sub(self.highest).filter(|n| *n > 0) {
            self.seen = if ahead < 64 { self.seen << ahead | 1 } else { 1 };
            self.highest = seq;
            return Ok(Fresh::Ahead(ahead - 1));
        }
        let behind = self.highest - seq;
        if behind >= 64 {
            return Err(BeaconOutcome::Stale);
        }
        let bit = 1u64 << behind;
        if self.seen & bit != 0 {
            return Err(BeaconOutcome::Replayed);
        }
        self.seen |= bit;
        Ok(Fresh::Late)
    }
}

impl BeaconTally {
    #[inline]
    pub(super) fn on(&mut self, fresh: Fresh) {
        match fresh {
            Fresh::First | Fresh::NewBoot => self.heard += 1,
            Fresh::Ahead(gap) => {
                self.heard += 1;
                self.missed = self.missed.saturating_add(gap);
            }
            Fresh::Late => self.late += 1,
        }
    }
}

/// How many beacons get lost, from gaps in their numbers; old ones count less and less.
#[derive(Default)]
pub(super) struct Loss {
    sent: u32,
    lost: u32,
    /// Gaps, and those of more than one beacon.
    gaps: u32,
    long: u32,
}

/// Longer gaps are an outage or a pause, not loss.
const LONGEST_GAP: u64 = 20;
/// Fewer beacons say nothing about loss.
const ENOUGH: u32 = 100;
/// At this many, all counts are halved.
const MEMORY: u32 = 4096;
/// Missing beacons that evict while loss is not known.
const DEFAULT_K: u32 = 10;
/// Chance that loss alone looks like silence.
const FALSE_SILENCE: f64 = 1e-9;

/// Fewer long gaps say nothing of how losses come.
const FEW_LONG: u32 = 4;
/// With more than this lost, a network is lossy, …
const LOSSY_SHARE: f64 = 0.01;
/// … and rough with more than this.
const ROUGH_SHARE: f64 = 0.1;
/// Chance that loss alone fails a whole burst.
const FALSE_BURST: f64 = 2e-3;
/// Most attempts of a burst.
const MOST_ATTEMPTS: usize = 8;

impl Loss {
    pub fn on(&mut self, fresh: Fresh) {
        match fresh {
            Fresh::Ahead(gap) if gap <= LONGEST_GAP => {
                self.sent += 1 + gap as u32;
                self.lost += gap as u32;
                self.gaps += u32::from(gap > 0);
                self.long += u32::from(gap > 1);
            }
            Fresh::Late => self.lost = self.lost.saturating_sub(1),
            _ => {}
        }
        if self.sent >= MEMORY {
            for count in [&mut self.sent, &mut self.lost, &mut self.gaps, &mut self.long] {
                *count /= 2;
            }
        }
    }

    /// Whether so much is lost that messages are often late.
    pub fn is_lossy(&self) -> bool {
        self.sent >= ENOUGH && self.share() > LOSSY_SHARE
    }

    fn share(&self) -> f64 {
        f64::from(self.lost) / f64::from(self.sent.max(1))
    }

    /// Whether so much is lost, or losses come together so often, that attempts close to each other
    /// may all be lost: they must be spread out.
    pub fn is_rough(&self) -> bool {
        if self.long < FEW_LONG {
            return false;
        }
        // Of losses that know nothing of each other, the next beacon is lost as often as any; two
        // standard deviations beyond that, and a little, is no chance.
        let expected = f64::from(self.gaps) * (1.5 * self.share() + 0.01);
        self.share() > ROUGH_SHARE || f64::from(self.long) > expected + 2.0 * expected.sqrt()
    }

    /// How many attempts a burst needs so that loss alone, both ways, hardly ever fails them all.
    pub fn attempts(&self, least: usize) -> usize {
        if self.sent < ENOUGH {
            return least;
        }
        let loss = (f64::from(self.lost) / f64::from(self.sent)).clamp(1e-6, 0.9);
        let failed = 1.0 - (1.0 - loss) * (1.0 - loss);
        let enough = (FALSE_BURST.ln() / failed.ln()).ceil() as usize;
        enough.clamp(least, MOST_ATTEMPTS.max(least))
    }

    /// How many missing beacons loss does not explain, within bounds.
    pub fn k(&self, (least, most): (u32, u32)) -> u32 {
        let most = most.max(least);
        if self.sent < ENOUGH {
            return DEFAULT_K.clamp(least, most);
        }
        let loss = (f64::from(self.lost) / f64::from(self.sent)).clamp(1e-6, 0.99);
        let k = (FALSE_SILENCE.ln() / loss.ln()).ceil();
        (k as u32).clamp(least, most)
    }
}

/// Whether the agent is heard.
///
/// ```text
///           session, beacon                 beacons missed, session lost
///   Never ──────────────────▶ Present ─────────────────────────────────▶ Silent
///                              ▲  │ ▲   beacon, session                   │  │ k missed
///           session, new boot  │  │ └─────────────────────────────────────┘  ▼
///                              │  │ goodbye   beacon, session             Silent, long
///                             Left ◀┘       (from here as from Silent)
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    /// Neither beacon nor session yet.
    #[default]
    Never,
    /// It is heard.
    Present,
    /// It is not; `long` when loss no longer explains it.
    Silent { long: bool },
    /// It said goodbye.
    Left,
}

/// The stage and the moment from which missing beacons are counted.
#[derive(Default)]
pub(super) struct Hearing {
    pub stage: Stage,
    last: MonoTime,
    k: u32,
}

impl Hearing {
    /// A beacon came. Whether the next is due earlier than was thought: the grace of a new session
    /// is over, and the timer that was armed for it would come too late.
    #[inline]
    #[must_use]
    pub fn beacon(&mut self, now: MonoTime) -> bool {
        let grace_is_over = now < self.last;
        self.last = now;
        grace_is_over
    }

    /// When it was last heard; in the future during the grace of a new session.
    pub fn last(&self) -> Option<MonoTime> {
        (self.stage != Stage::Never).then_some(self.last)
    }

    /// Expects the next beacon within `patience`.
    pub fn expect(&mut self, config: &FleetConfig, patience: std::time::Duration, now: MonoTime) {
        let spare = patience.saturating_sub(config.silence(config.missed_for_suspect));
        self.stage = Stage::Present;
        self.last = now + spare;
    }

    /// The session was lost: silence begins, and its length counts from the last beacon.
    pub fn lost(&mut self) {
        self.stage = Stage::Silent { long: false };
    }

    /// Takes note of how many missing beacons mean long silence.
    pub fn set_k(&mut self, k: u32) {
        self.k = k;
    }

    /// When to look whether beacons are missing. `attentive` is since when the driver has been
    /// looking without a pause.
    pub fn deadline(&self, config: &FleetConfig, attentive: MonoTime) -> Option<MonoTime> {
        let from = self.last.max(attentive);
        match self.stage {
            Stage::Present => Some(from + config.silence(config.missed_for_suspect)),
            Stage::Silent { long: false } => {
                Some(from + config.silence(self.k.max(config.missed_for_suspect)))
            }
            _ => None,
        }
    }

    /// What silence means by now.
    pub fn due(&mut self, config: &FleetConfig, attentive: MonoTime, now: MonoTime) -> Option<Input> {
        if self.deadline(config, attentive)? > now {
            return None;
        }
        let (stage, input) = match self.stage {
            Stage::Present => (Stage::Silent { long: false }, Input::SecondBeaconMissed),
            _ => (Stage::Silent { long: true }, Input::SilenceConfirmedLong),
        };
        self.stage = stage;
        Some(input)
    }
}

//! The network: where every end is, how long packets take, and which of them are lost.
//!
//! An end is a host, the broker, or a place of an observer. Each directed path between two ends has
//! losses of its own: what a witness sees does not depend on the broker's path. Faults come on top:
//! paths that are dark for a while, regions that are cut off.

use crate::rng::Rng;
use nearmost_core::geo::Position;
use std::collections::HashMap;

/// Number of an end: hosts first, then the broker, then observers.
pub type End = u32;

/// Light in fibre covers about 200 km in a millisecond, and cables make detours of about a half.
const US_PER_KM: f64 = 7.5;
/// Least delay of any path, one way.
const ACCESS_US: u64 = 1_000;
/// Most that a reordered packet is late.
const REORDERED_US: u64 = 400_000;

/// Loss in bursts: a Gilbert-Elliott channel in continuous time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bursts {
    /// Mean time between bursts, in microseconds.
    pub apart_us: f64,
    /// Mean length of a burst, in microseconds.
    pub length_us: f64,
    /// Share of packets lost within a burst.
    pub loss: f64,
}

impl Bursts {
    /// Bursts of so long on average, in which everything is lost, that make this loss in all.
    pub fn of_share(share: f64, length_us: f64) -> Bursts {
        Bursts { apart_us: length_us * (1.0 - share) / share.max(1e-9), length_us, loss: 1.0 }
    }
}

/// How the whole network behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conditions {
    /// Share of packets lost, each by itself.
    pub loss: f64,
    /// Losses in bursts, beside those.
    pub bursts: Option<Bursts>,
    /// Most that a packet is delayed beyond its path's delay, in microseconds.
    pub jitter_us: u64,
    /// Share of packets that others overtake.
    pub reordered: f64,
    /// Share of packets that arrive twice.
    pub duplicated: f64,
}

impl Default for Conditions {
    fn default() -> Self {
        Conditions { loss: 0.0, bursts: None, jitter_us: 15_000, reordered: 0.0, duplicated: 0.0 }
    }
}

impl Conditions {
    /// Independent losses and nothing else.
    pub fn lossy(loss: f64) -> Conditions {
        Conditions { loss, ..Conditions::default() }
    }

    /// Losses in bursts of 200 ms on average and nothing else.
    pub fn bursty(share: f64) -> Conditions {
        Conditions { bursts: Some(Bursts::of_share(share, 200_000.0)), ..Conditions::default() }
    }
}

/// From whom a region is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// From every other region, users included.
    Everyone,
    /// From the broker alone.
    Broker,
}

/// What becomes of a packet: how long it takes, if it arrives, and its duplicate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// Delay in microseconds.
    pub first: Option<u64>,
    /// Delay of a duplicate.
    pub second: Option<u64>,
}

/// One end.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// Where it is.
    pub position: Position,
    /// Its region; regions are cut off as a whole.
    pub region: u16,
}

/// The channel of one directed path.
#[derive(Clone, Copy, Debug, Default)]
struct Channel {
    /// When its state changes next.
    until: u64,
    bad: bool,
    /// Everything is lost until then.
    dark_until: u64,
    /// Share lost on this path, beside everyone's.
    loss: f64,
}

/// The channels of all paths.
struct Paths {
    broker: End,
    /// Of each end, its paths to the broker and from it.
    near: Vec<[Channel; 2]>,
    /// All other paths that were ever used.
    far: HashMap<(End, End), Channel>,
}

impl Paths {
    fn get(&mut self, from: End, to: End) -> &mut Channel {
        if to == self.broker {
            &mut self.near[from as usize][0]
        } else if from == self.broker {
            &mut self.near[to as usize][1]
        } else {
            self.far.entry((from, to)).or_default()
        }
    }
}

/// The network.
pub struct Net {
    /// How it behaves at the moment.
    pub conditions: Conditions,
    sites: Vec<Site>,
    /// Delay between each end and the broker.
    to_broker: Vec<u64>,
    paths: Paths,
    /// Regions that are cut off.
    cuts: Vec<(u16, Cut)>,
    rng: Rng,
}

impl Net {
    /// A network of these ends; `broker` is the number of the broker's.
    pub fn new(sites: Vec<Site>, broker: End, rng: Rng) -> Net {
        let home = sites[broker as usize].position;
        let to_broker = sites.iter().map(|s| delay_us(s.position, home)).collect();
        let near = vec![[Channel::default(); 2]; sites.len()];
        let paths = Paths { broker, near, far: HashMap::new() };
        Net { conditions: Conditions::default(), sites, to_broker, paths, cuts: Vec::new(), rng }
    }

    /// The broker's end.
    pub fn broker(&self) -> End {
        self.paths.broker
    }

    /// How many ends there are.
    pub fn ends(&self) -> u32 {
        self.sites.len() as u32
    }

    /// The region of an end.
    pub fn region(&self, end: End) -> u16 {
        self.sites[end as usize].region
    }

    /// Delay of a path without jitter, one way, in microseconds.
    pub fn delay_us(&self, from: End, to: End) -> u64 {
        if to == self.broker() {
            self.to_broker[from as usize]
        } else if from == self.broker() {
            self.to_broker[to as usize]
        } else {
            delay_us(self.sites[from as usize].position, self.sites[to as usize].position)
        }
    }

    /// What becomes of a packet that is sent now.
    pub fn send(&mut self, from: End, to: End, now: u64) -> Fate {
        if self.is_cut(from, to) || self.loses(from, to, now) {
            return Fate::default();
        }
        let mut delay = self.delay_us(from, to) + self.rng.below(self.conditions.jitter_us + 1);
        if self.rng.chance(self.conditions.reordered) {
            delay += self.rng.below(REORDERED_US);
        }
        let twice = self.rng.chance(self.conditions.duplicated);
        let second = twice.then(|| delay + self.rng.below(REORDERED_US));
        Fate { first: Some(delay), second }
    }

    /// Whether a cut lies between two ends.
    pub fn is_cut(&self, a: End, b: End) -> bool {
        self.cuts.iter().any(|(region, cut)| {
            let (inside_a, inside_b) = (self.region(a) == *region, self.region(b) == *region);
            let concerns = *cut == Cut::Everyone || a == self.broker() || b == self.broker();
            inside_a != inside_b && concerns
        })
    }

    /// Whether users in other regions can reach an end's region.
    pub fn is_reached_by_users(&self, end: End) -> bool {
        let region = self.region(end);
        !self.cuts.iter().any(|(cut, from)| *cut == region && *from == Cut::Everyone)
    }

    /// Cuts a region off.
    pub fn cut(&mut self, region: u16, from: Cut) {
        self.cuts.push((region, from));
    }

    /// Ends all cuts of a region.
    pub fn heal(&mut self, region: u16) {
        self.cuts.retain(|(cut, _)| *cut != region);
    }

    /// Loses everything on one path until `until`.
    pub fn darken(&mut self, from: End, to: End, until: u64) {
        let channel = self.paths.get(from, to);
        channel.dark_until = channel.dark_until.max(until);
    }

    /// Loses a share on one path, beside what all paths lose.
    pub fn set_path_loss(&mut self, from: End, to: End, loss: f64) {
        self.paths.get(from, to).loss = loss;
    }

    fn loses(&mut self, from: End, to: End, now: u64) -> bool {
        let Conditions { loss, bursts, .. } = self.conditions;
        let channel = self.paths.get(from, to);
        let rng = &mut self.rng;
        let burst = bursts.map_or(0.0, |bursts| channel.burst(&bursts, rng, now));
        now < channel.dark_until || rng.chance(loss) || rng.chance(channel.loss) || rng.chance(burst)
    }
}

impl Channel {
    /// The share of packets that bursts lose now.
    fn burst(&mut self, bursts: &Bursts, rng: &mut Rng, now: u64) -> f64 {
        let cycle = bursts.apart_us + bursts.length_us;
        if (now.saturating_sub(self.until)) as f64 > 20.0 * cycle {
            // Long unused: its past no longer matters.
            self.bad = rng.chance(bursts.length_us / cycle);
            self.until = now;
        }
        while self.until <= now {
            self.bad = !self.bad;
            self.until += 1 + rng.exponential(if self.bad { bursts.length_us } else { bursts.apart_us });
        }
        if self.bad { bursts.loss } else { 0.0 }
    }
}

fn delay_us(a: Position, b: Position) -> u64 {
    ACCESS_US + (a.distance_km(b) * US_PER_KM) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(seed: u64) -> Net {
        let at = |lat, lon| Position::from_degrees(lat, lon).expect("on the globe");
        let site = |lat, lon, region| Site { position: at(lat, lon), region };
        let sites = vec![site(48.0, 2.0, 0), site(50.0, 8.0, 0), site(40.0, -74.0, 1), site(51.0, 0.0, 2)];
        Net::new(sites, 3, Rng::new(seed))
    }

    fn lost(net: &mut Net, from: End, to: End) -> f64 {
        let sent = 40_000;
        let lost = (0..sent).filter(|i| net.send(from, to, i * 10_000).first.is_none()).count();
        lost as f64 / sent as f64
    }

    #[test]
    fn losses_are_what_was_asked_for() {
        for conditions in [Conditions::lossy(0.05), Conditions::bursty(0.05)] {
            for (from, to) in [(0, 3), (3, 0), (0, 1)] {
                let mut net = net(1);
                net.conditions = conditions;
                let share = lost(&mut net, from, to);
                assert!((0.035..0.065).contains(&share), "{conditions:?} {from}→{to}: {share}");
            }
        }
    }

    #[test]
    fn losses_in_bursts_come_together() {
        let mut net = net(2);
        net.conditions = Conditions::bursty(0.05);
        let lost: Vec<bool> = (0..40_000).map(|i| net.send(0, 3, i * 10_000).first.is_none()).collect();
        let (after, both) = lost.windows(2).fold((0, 0), |(after, both), pair| match pair {
            [true, true] => (after + 1, both + 1),
            [true, false] => (after + 1, both),
            _ => (after, both),
        });
        assert!(f64::from(both) / f64::from(after) > 0.9, "{both} of {after}");
    }

    #[test]
    fn one_way_loss_leaves_the_other_way_alone() {
        let mut net = net(3);
        net.set_path_loss(0, 3, 1.0);
        net.darken(1, 2, 5);
        assert_eq!(net.send(0, 3, 0).first, None);
        assert!(net.send(3, 0, 0).first.is_some());
        assert_eq!(net.send(1, 2, 4).first, None);
        assert!(net.send(2, 1, 4).first.is_some() && net.send(1, 2, 5).first.is_some());
    }

    #[test]
    fn cuts_part_regions_from_everyone_or_from_the_broker() {
        let mut net = net(4);
        net.cut(0, Cut::Broker);
        assert!(net.is_cut(0, 3) && !net.is_cut(0, 2) && !net.is_cut(2, 3));
        assert!(net.is_reached_by_users(0));
        net.cut(0, Cut::Everyone);
        assert!(net.is_cut(0, 2) && !net.is_cut(0, 1) && !net.is_reached_by_users(1));
        net.heal(0);
        assert!(!net.is_cut(0, 3) && !net.is_cut(0, 2));
    }

    #[test]
    fn packets_are_doubled_and_overtaken_when_asked() {
        let mut net = net(5);
        assert!(net.send(0, 3, 0).second.is_none());
        net.conditions = Conditions { reordered: 1.0, duplicated: 1.0, ..Conditions::default() };
        let fates: Vec<Fate> = (0..50).map(|_| net.send(0, 3, 0)).collect();
        assert!(fates.iter().all(|f| f.second.is_some()));
        assert!(fates.iter().any(|f| f.first > Some(200_000)));
        // Paris to New York: some 5 800 km.
        assert!((40_000..50_000).contains(&net.delay_us(0, 2)));
    }
}

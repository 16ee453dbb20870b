//! What changes by the second: address, verdict and load of each mirror. A health change copies
//! only this part of the snapshot.

use crate::health::{Family, Verdict};
use crate::registry::{DomainIndex, MirrorIndex, Pace, Registry};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The live part of a snapshot; entry *i* belongs to mirror *i* of the registry of the same snapshot.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// One entry a mirror.
    pub mirrors: Vec<LiveMirror>,
    /// Counts up every few minutes: which networks try out mirrors changes with it.
    pub window: u64,
    /// What [`Live::tally`] counted, by domain.
    tallies: Vec<Tally>,
    /// Beside `mirrors`, what [`Live::tally`] made of each: a query looks at all mirrors of a ranking
    /// but at the addresses of few, and of many mirrors only these fit into a core's cache.
    briefs: Vec<Brief>,
}

/// What decides whether a mirror is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Brief {
    /// Has an address, by [`Family::index`].
    addressed: [bool; 2],
    /// Is eligible, by [`Family::index`].
    eligible: [bool; 2],
    offer: Offer,
}

impl From<&LiveMirror> for Brief {
    fn from(mirror: &LiveMirror) -> Brief {
        Brief {
            addressed: Family::ALL.map(|f| mirror.addr(f).is_some()),
            eligible: Family::ALL.map(|f| mirror.eligible(f)),
            offer: mirror.offer,
        }
    }
}

/// Counts of one domain's mirrors, so that queries need not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    /// Mirrors with an address, by [`Family::index`].
    addressed: [u32; 2],
    /// Mirrors that are eligible in any family.
    eligible: u32,
}

/// The live facts of one mirror.
#[derive(Clone, Copy, Debug, Default)]
pub struct LiveMirror {
    /// Its IPv4 address: declared, resolved or observed.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// Verdicts, by [`Family::index`].
    pub verdicts: [Verdict; 2],
    /// Whether it was eligible the last time any mirror of its domain was, by [`Family::index`].
    pub last_known: [bool; 2],
    /// Load as last reported.
    pub load: Load,
    /// How much of its share of users it is offered.
    pub offer: Offer,
    /// How soon answers with it may change, by [`Family::index`].
    pub pace: [Pace; 2],
    /// Clients' failure reports are being looked into: no new users meanwhile where others can take
    /// them, by [`Family::index`].
    pub paused: [bool; 2],
}

/// How much of its share of users a mirror is offered; decided by the writer, read when answering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Share of its weight among equals that it does not get, in 65 535ths.
    pub withheld: u16,
    /// Share of the parts it would be first for that go on to the next, in 65 535ths: those whose
    /// turn ([`crate::map::Part::turn`]) is below it.
    pub shed: u16,
}

impl Offer {
    /// A share of 0..=1 as it is kept.
    pub fn share(share: f32) -> u16 {
        (share.clamp(0.0, 1.0) * f32::from(u16::MAX)).round() as u16
    }

    /// Whether the part of a turn goes on to the next mirror.
    pub fn sheds(&self, turn: u16) -> bool {
        turn < self.shed
    }

    /// What is left of a weight.
    pub fn weight(&self, weight: u32) -> f64 {
        let left = 1.0 - f64::from(self.withheld) / f64::from(u16::MAX);
        // Never nothing: the only one left gets all.
        (f64::from(weight.max(1)) * left).max(1e-3)
    }
}

/// Load that an agent reports. Zero capacity means none was declared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// CPU in use on the machine, 0..=1.
    pub cpu: f32,
    /// Memory in use on the machine, 0..=1.
    pub memory: f32,
    /// Established connections on the service's port.
    pub connections: u32,
    /// How many connections the operator declared it can carry.
    pub capacity: u32,
}

impl LiveMirror {
    /// Its address in a family.
    pub fn addr(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4.map(IpAddr::V4),
            Family::V6 => self.v6.map(IpAddr::V6),
        }
    }

    /// Its verdict in a family.
    pub fn verdict(&self, family: Family) -> &Verdict {
        &self.verdicts[family.index()]
    }

    /// Whether new users of this family may be sent there.
    pub fn eligible(&self, family: Family) -> bool {
        self.addr(family).is_some() && self.verdict(family).state.eligible()
    }

    /// Eligible in at least one family.
    pub fn eligible_any(&self) -> bool {
        Family::ALL.into_iter().any(|f| self.eligible(f))
    }
}

impl Live {
    /// One entry a mirror, nothing counted yet.
    pub fn new(mirrors: Vec<LiveMirror>) -> Live {
        Live { mirrors, ..Live::default() }
    }

    /// Counts each domain's mirrors and makes queries cheap; to be called when the entries are complete,
    /// and again when one was changed. What was not counted is counted when asked for.
    pub fn tally(&mut self, registry: &Registry) {
        self.briefs = self.mirrors.iter().map(Brief::from).collect();
        let domains = (0..registry.domains.len() as u32).map(DomainIndex);
        self.tallies = domains.map(|d| self.count(registry, d)).collect();
    }

    fn count(&self, registry: &Registry, domain: DomainIndex) -> Tally {
        let mut tally = Tally::default();
        for (i, _) in registry.mirrors_of(domain) {
            let mirror = self.mirror(i);
            for family in Family::ALL {
                tally.addressed[family.index()] += u32::from(mirror.addr(family).is_some());
            }
            tally.eligible += u32::from(mirror.eligible_any());
        }
        tally
    }

    fn counted(&self, registry: &Registry, domain: DomainIndex) -> Tally {
        let known = self.tallies.get(domain.0 as usize).copied();
        known.unwrap_or_else(|| self.count(registry, domain))
    }

    /// Mirrors of a domain that have an address in a family.
    pub fn addressed(&self, registry: &Registry, domain: DomainIndex, family: Family) -> u32 {
        self.counted(registry, domain).addressed[family.index()]
    }

    /// Mirrors of a domain that are eligible in any family.
    pub fn eligible(&self, registry: &Registry, domain: DomainIndex) -> u32 {
        self.counted(registry, domain).eligible
    }

    fn brief(&self, i: MirrorIndex) -> Brief {
        match self.briefs.get(i.0 as usize) {
            Some(brief) => *brief,
            None => self.mirrors.get(i.0 as usize).map(Brief::from).unwrap_or_default(),
        }
    }

    /// Whether a mirror has an address in a family; false for one that is not known.
    pub(crate) fn is_addressed(&self, i: MirrorIndex, family: Family) -> bool {
        self.brief(i).addressed[family.index()]
    }

    /// Whether new users of a family may be sent to a mirror.
    pub(crate) fn is_eligible(&self, i: MirrorIndex, family: Family) -> bool {
        self.brief(i).eligible[family.index()]
    }

    /// How much of its share of users a mirror is offered.
    pub(crate) fn offer(&self, i: MirrorIndex) -> Offer {
        self.brief(i).offer
    }

    /// How soon an answer with these mirrors may change; as ever where there are none.
    pub fn pace(&self, mirrors: impl IntoIterator<Item = MirrorIndex>, family: Family) -> Pace {
        let pace =
            |i: MirrorIndex| self.mirrors.get(i.0 as usize).map_or(Pace::Usual, |m| m.pace[family.index()]);
        mirrors.into_iter().map(pace).min().unwrap_or_default()
    }

    /// The entry of a mirror.
    pub fn mirror(&self, i: MirrorIndex) -> &LiveMirror {
        &self.mirrors[i.0 as usize]
    }
}

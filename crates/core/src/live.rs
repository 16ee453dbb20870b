//! What changes by the second: address, verdict and load of each mirror. A health change copies
//! only this part of the snapshot.

use crate::health::{Family, Verdict};
use crate::registry::MirrorIndex;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The live part of a snapshot; entry *i* belongs to mirror *i* of the registry of the same snapshot.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// One entry a mirror.
    pub mirrors: Vec<LiveMirror>,
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
    /// The entry of a mirror.
    pub fn mirror(&self, i: MirrorIndex) -> &LiveMirror {
        &self.mirrors[i.0 as usize]
    }
}

//! The sessions of one agent, and the addresses that they come from.
//!
//! A mirror that follows its agent is where the agent's sessions come from, in each family. When
//! the agent goes on without a family, its address there is given up after [`GRACE`]. An agent that
//! has no session at all has left no family: its mirror may be serving well.

use super::events::family_of;
use crate::health::Family;
use crate::time::MonoTime;
use std::net::IpAddr;
use std::time::Duration;

/// Sessions of one node kept at a time; an agent has one, two while it reconnects.
const MAX_SESSIONS: usize = 8;
/// How long the address of a family stays that the agent goes on without.
pub(super) const GRACE: Duration = Duration::from_secs(10);

/// The sessions of one node.
#[derive(Default)]
pub(super) struct Sessions {
    /// Number and family, ordered by number; the last is the newest.
    open: Vec<(u64, Family)>,
    /// Source of the latest session of each family.
    pub remote: [Option<IpAddr>; 2],
    /// Since when the agent goes on without a family.
    left: [Option<MonoTime>; 2],
}

impl Sessions {
    /// A session began; the family and the address it comes from.
    pub fn began(&mut self, session: u64, remote: IpAddr, now: MonoTime) -> (Family, IpAddr) {
        let (family, addr) = family_of(remote);
        self.open.retain(|(s, _)| *s != session);
        self.open.push((session, family));
        self.open.sort_unstable();
        if self.open.len() > MAX_SESSIONS {
            self.open.remove(0);
        }
        self.remote[family.index()] = Some(addr);
        self.look(now);
        (family, addr)
    }

    /// Whether a session is going on.
    pub fn has(&self, session: u64) -> bool {
        self.open.iter().any(|(s, _)| *s == session)
    }

    /// Whether a session is the newest of those going on.
    pub fn is_newest(&self, session: u64) -> bool {
        self.open.last().is_none_or(|(s, _)| *s <= session)
    }

    /// Takes a session off; whether it was known.
    pub fn ended(&mut self, session: u64, now: MonoTime) -> bool {
        let known = self.has(session);
        self.open.retain(|(s, _)| *s != session);
        self.look(now);
        known
    }

    /// Takes all sessions off.
    pub fn clear(&mut self) {
        self.open.clear();
        self.left = [None; 2];
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn look(&mut self, now: MonoTime) {
        for family in Family::ALL {
            let left = &mut self.left[family.index()];
            if self.open.is_empty() || self.open.iter().any(|(_, f)| *f == family) {
                *left = None;
            } else {
                left.get_or_insert(now);
            }
        }
    }

    /// When the first address is to be given up. `attentive` is since when the driver has been
    /// looking without a pause.
    pub fn deadline(&self, attentive: MonoTime) -> Option<MonoTime> {
        self.left.iter().flatten().map(|left| *left.max(&attentive) + GRACE).min()
    }

    /// The families whose addresses are to be given up now; each is told once.
    pub fn due(&mut self, attentive: MonoTime, now: MonoTime) -> impl Iterator<Item = Family> + use<> {
        let over = |left: &mut Option<MonoTime>| {
            let over = left.is_some_and(|left| left.max(attentive) + GRACE <= now);
            if over {
                // Not asked again until a session changes; by then nothing is left to give up.
                *left = None;
            }
            over
        };
        let families = Family::ALL.map(|f| over(&mut self.left[f.index()]).then_some(f));
        for family in families.into_iter().flatten() {
            self.remote[family.index()] = None;
        }
        families.into_iter().flatten()
    }
}

//! What may be taken out on the broker's word alone: the regional cap and panic.
//!
//! Both govern only what nobody but this broker saw. What witnesses found, what an agent said and what
//! people ordered is never held up, and never brought back.

use super::Fleet;
use super::mirror::MirrorState;
use crate::geo::countries::{self, Continent};
use crate::health::machine::Input;
use crate::health::{Family, Reason};
use crate::registry::{DomainIndex, MirrorIndex};
use crate::time::Now;

impl Fleet {
    /// Why a mirror must not be taken out on the broker's word alone, if anything speaks against it.
    pub(super) fn withheld(&self, slot: u32, family: Family) -> Option<Reason> {
        let mirror = self.mirrors.slots.get(slot)?;
        if mirror.sides[family.index()].machine.uncorroborated() {
            return None;
        }
        let domain = self.registry.mirror(mirror.index).domain;
        if self.cap_reached(domain, slot, family) {
            return Some(Reason::CapReached);
        }
        let (eligible, all) = self.weights(domain, family, Some(mirror.index));
        (self.panics(eligible, all)).then_some(Reason::Panic)
    }

    /// Whether as many of the domain's mirrors on the mirror's continent are out on the broker's word
    /// alone as may be.
    fn cap_reached(&self, domain: DomainIndex, slot: u32, family: Family) -> bool {
        let region = self.region(slot, family);
        let (mut all, mut out) = (0usize, 0usize);
        for (index, _) in self.registry.mirrors_of(domain) {
            let Some(other) = self.mirrors.slot(index) else { continue };
            let Some(state) = self.mirrors.slots.get(other) else { continue };
            let side = &state.sides[family.index()];
            if side.addr.is_some() && self.region(other, family) == region {
                all += 1;
                out += usize::from(side.machine.uncorroborated());
            }
        }
        let most = ((all as f64 * self.config.caution.region_cap).floor() as usize).max(1);
        out >= most
    }

    /// The continent where a mirror is, by its given place, else by its address.
    fn region(&self, slot: u32, family: Family) -> Option<Continent> {
        let state = self.mirrors.slots.get(slot)?;
        let given = self.registry.mirror(state.index).place.country;
        let country = match (given, state.sides[family.index()].addr) {
            (Some(country), _) => Some(country),
            (None, Some(addr)) => self.places.locate(addr.to_canonical()).place.country,
            (None, None) => None,
        };
        country.and_then(countries::find).map(|c| c.continent)
    }

    /// The weight of a domain's eligible mirrors in a family, `without` one of them, and of all those
    /// that nobody withdrew.
    fn weights(&self, domain: DomainIndex, family: Family, without: Option<MirrorIndex>) -> (u64, u64) {
        let (mut eligible, mut all) = (0, 0);
        for (index, mirror) in self.registry.mirrors_of(domain) {
            let Some(live) = self.live.mirrors.get(index.0 as usize) else { continue };
            if live.addr(family).is_none() || live.verdict(family).withdrawn() {
                continue;
            }
            let weight = u64::from(mirror.weight.max(1));
            all += weight;
            if live.eligible(family) && Some(index) != without {
                eligible += weight;
            }
        }
        (eligible, all)
    }

    /// Too little is left. Where nothing is, the owner's policy for that case decides instead.
    fn panics(&self, eligible: u64, all: u64) -> bool {
        eligible > 0 && (eligible as f64) < self.config.caution.panic_below * all as f64
    }

    /// Brings back what is out on the broker's word alone, where too little of a domain is left.
    pub(super) fn return_if_panicking(&mut self, domain: DomainIndex, family: Family, now: Now) {
        let (eligible, all) = self.weights(domain, family, None);
        if !self.panics(eligible, all) {
            return;
        }
        let alone = |m: &MirrorState| m.sides[family.index()].machine.uncorroborated();
        let slots: Vec<u32> = (self.registry.mirrors_of(domain))
            .filter_map(|(index, _)| self.mirrors.slot(index))
            .filter(|slot| self.mirrors.slots.get(*slot).is_some_and(alone))
            .collect();
        for slot in slots {
            self.drive(slot, family, &[Input::Returned], super::mirror::Burst::AsWanted, now);
        }
    }
}

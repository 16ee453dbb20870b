//! What queries read of the fleet: addresses, verdicts, load, and who was eligible last.

use super::Fleet;
use super::types::{Output, Transition};
use crate::health::{Family, Verdict};
use crate::live::LiveMirror;
use crate::registry::DomainIndex;
use std::net::IpAddr;

impl Fleet {
    /// Shows a changed verdict to queries and to people.
    pub(super) fn show(&mut self, slot: u32, family: Family, from: Verdict, to: Verdict) {
        let Some(mirror) = self.mirrors.slots.get(slot) else { return };
        let (domain, name) = mirror.key.clone();
        let index = mirror.index;
        self.outputs.push_back(Output::Transition(Transition { domain, mirror: name, family, from, to }));
        let Some(live) = self.live.mirrors.get_mut(index.0 as usize) else { return };
        live.verdicts[family.index()] = to;
        self.live_version += 1;
        if from.state.eligible() != to.state.eligible() || from.withdrawn() != to.withdrawn() {
            self.remember(self.registry.mirror(index).domain, family);
        }
    }

    /// Shows an address to queries.
    pub(super) fn show_address(&mut self, slot: u32, family: Family, addr: Option<IpAddr>) {
        let Some(index) = self.mirrors.slots.get(slot).map(|m| m.index) else { return };
        let Some(live) = self.live.mirrors.get_mut(index.0 as usize) else { return };
        set_address(live, family, addr);
        self.live_version += 1;
        self.remember(self.registry.mirror(index).domain, family);
    }

    /// Keeps who was eligible while anyone is; when nobody is, forgets only those that people
    /// withdrew.
    pub(super) fn remember(&mut self, domain: DomainIndex, family: Family) {
        let range = self.registry.domain(domain).mirrors.clone();
        let range = range.start as usize..range.end as usize;
        let Some(mirrors) = self.live.mirrors.get_mut(range) else { return };
        let any = mirrors.iter().any(|m| m.eligible(family));
        for mirror in mirrors {
            let eligible = mirror.eligible(family);
            let gone = mirror.verdict(family).withdrawn();
            let known = &mut mirror.last_known[family.index()];
            *known = if any { eligible } else { *known && !gone };
        }
    }
}

/// Sets the address of a family; one of the other family counts as none.
pub(super) fn set_address(live: &mut LiveMirror, family: Family, addr: Option<IpAddr>) {
    match (family, addr) {
        (Family::V4, Some(IpAddr::V4(a))) => live.v4 = Some(a),
        (Family::V4, _) => live.v4 = None,
        (Family::V6, Some(IpAddr::V6(a))) => live.v6 = Some(a),
        (Family::V6, _) => live.v6 = None,
    }
}

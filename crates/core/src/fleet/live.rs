//! What queries read of the fleet: addresses, verdicts, load, and who was eligible last.

use super::Fleet;
use super::types::{BeaconTally, Evidence, Output, Transition};
use crate::health::{Family, Verdict};
use crate::id::NodeId;
use crate::live::LiveMirror;
use crate::registry::{DomainIndex, MirrorIndex, Pace};
use crate::time::{Now, UnixMillis};
use std::net::IpAddr;
use std::time::Duration;

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

    /// Shows how soon a mirror's answer may change, and whether new users are kept away meanwhile.
    pub(super) fn keep_pace(&mut self, slot: u32, family: Family, now: Now) {
        let Some(mirror) = self.mirrors.slots.get(slot) else { return };
        let side = &mirror.sides[family.index()];
        let soon = side.machine.unsettled(now.mono) || mirror.standing.about_to_change(now.unix);
        let pace = match soon {
            true => Pace::Quick,
            false if now.mono.since(side.changed) >= self.config.caution.calm_after => Pace::Calm,
            false => Pace::Usual,
        };
        let paused = side.complaints.paused(now.mono);
        let Some(live) = self.live.mirrors.get_mut(mirror.index.0 as usize) else { return };
        let i = family.index();
        if (live.pace[i], live.paused[i]) != (pace, paused) {
            (live.pace[i], live.paused[i]) = (pace, paused);
            self.live_version += 1;
        }
    }

    /// What is known of a mirror in a family, by who measured it.
    pub fn evidence(&self, mirror: MirrorIndex, family: Family, now: Now) -> Option<Evidence> {
        let state = self.mirrors.slots.get(self.mirrors.slot(mirror)?)?;
        let side = &state.sides[family.index()];
        let node = state.node.and_then(|id| self.nodes.by_id.get(&id)).and_then(|n| self.nodes.slots.get(*n));
        let heard = node.and_then(|n| n.hearing.last()).map(|at| now.mono.since(at));
        Some(Evidence {
            agent_heard: heard.map(|ago| UnixMillis(now.unix.0.saturating_sub(ago.as_millis() as u64))),
            broker: side.inquiry.last.map(|(reached, at)| (reached, at.unix)),
            witnesses: side.inquiry.said.iter().map(|(w, said, at)| (*w, *said, at.unix)).collect(),
            peers: side
                .abroad
                .looks(now.mono)
                .map(|(broker, look)| (broker, look.reached, look.unix))
                .collect(),
            complaints: side.complaints.count(),
            penalty: side.machine.penalty(now.mono),
        })
    }

    /// Of each node: its beacons, and how long ago it was heard.
    pub fn beacons(&self, now: Now) -> impl Iterator<Item = (NodeId, BeaconTally, Option<Duration>)> + '_ {
        self.nodes.slots.from(0).map(move |node| {
            let heard = node.hearing.last().map(|at| now.mono.since(at));
            (node.id, node.tally, heard)
        })
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

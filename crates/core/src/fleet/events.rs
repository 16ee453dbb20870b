//! What the driver saw: sessions, beacons, reports, results of probes, addresses.

use super::Fleet;
use super::links::Neighbourhood;
use super::mirror::{Burst, MirrorState};
use super::node::{DrainFlag, Fresh, Stage};
use super::types::{BeaconOutcome, NodeReport, ProbeAnswer, ProbeToken, ServiceReport};
use crate::health::Family;
use crate::health::machine::Input;
use crate::id::NodeId;
use crate::live::Load;
use crate::registry::{MirrorAddress, MirrorIndex};
use crate::time::Now;
use std::net::IpAddr;

/// The family of an address, IPv4-mapped ones unmapped.
pub(super) fn family_of(addr: IpAddr) -> (Family, IpAddr) {
    match addr.to_canonical() {
        v4 @ IpAddr::V4(_) => (Family::V4, v4),
        v6 @ IpAddr::V6(_) => (Family::V6, v6),
    }
}

impl Fleet {
    /// A node's session began. `session` numbers grow from session to session: while an agent
    /// reconnects, two of them overlap. `boot` is when the agent says that it started, the epoch of
    /// its beacons; the newest session's stands, even when it is lower than those before. Nodes that
    /// are not registered are ignored.
    pub fn on_session_up(&mut self, id: NodeId, session: u64, boot: u64, remote: IpAddr, now: Now) {
        self.attend(now);
        let Some((slot, node)) = self.nodes.find(&id) else { return };
        let restarted = node.sessions.is_newest(session) && node.window.restart(boot);
        let (family, addr) = node.sessions.began(session, remote, now.mono);
        node.net = Some(Neighbourhood::of(addr));
        let started = restarted || node.hearing.stage != Stage::Present;
        if restarted {
            node.drain = DrainFlag::default();
        }
        if started {
            node.hearing.expect(&self.config, self.config.first_beacon(), now.mono);
        }
        self.arm_node(slot, now);
        self.observed(slot, family, Some(addr), now);
        if started {
            self.drive_node(slot, &[Input::AgentStarted], now);
        }
    }

    /// A session goes on from another address. Sessions that are not known are ignored.
    pub fn on_session_moved(&mut self, id: NodeId, session: u64, remote: IpAddr, now: Now) {
        self.attend(now);
        let Some((slot, node)) = self.nodes.find(&id) else { return };
        if node.sessions.has(session) {
            let (family, addr) = node.sessions.began(session, remote, now.mono);
            node.net = Some(Neighbourhood::of(addr));
            self.arm_node(slot, now);
            self.observed(slot, family, Some(addr), now);
        }
    }

    /// A session ended without a goodbye. The agent counts as silent unless another session goes on.
    pub fn on_session_lost(&mut self, id: NodeId, session: u64, now: Now) {
        self.attend(now);
        let Some((slot, node)) = self.nodes.find(&id) else { return };
        let last = node.sessions.ended(session, now.mono) && node.sessions.is_empty();
        if !last || node.hearing.stage != Stage::Present {
            // The agent may go on without a family.
            return self.arm_node(slot, now);
        }
        node.hearing.set_k(node.loss.k(self.config.silence_k));
        node.hearing.lost();
        self.arm_node(slot, now);
        self.drive_node(slot, &[Input::SessionLost], now);
    }

    /// The agent said goodbye in a session; ignored when a newer session goes on.
    pub fn on_session_left(&mut self, id: NodeId, session: u64, now: Now) {
        self.attend(now);
        let Some((slot, node)) = self.nodes.find(&id) else { return };
        let known = node.sessions.ended(session, now.mono);
        if !known || !node.sessions.is_newest(session) {
            return self.arm_node(slot, now);
        }
        node.sessions.clear();
        node.hearing.stage = Stage::Left;
        self.drive_node(slot, &[Input::AgentLeft], now);
    }

    /// A beacon whose MAC was verified. `draining` takes effect when it is new; only a report ends
    /// a drain, since only a report says what is served then.
    pub fn on_beacon(&mut self, id: NodeId, boot: u64, seq: u64, draining: bool, now: Now) -> BeaconOutcome {
        self.attend(now);
        let Some((slot, node)) = self.nodes.find(&id) else { return BeaconOutcome::UnknownNode };
        let fresh = match node.window.accept(boot, seq) {
            Ok(fresh) => fresh,
            Err(outcome) => return outcome,
        };
        node.loss.on(fresh);
        node.tally.on(fresh);
        self.nodes.loss.on(fresh);
        let Some(node) = self.nodes.slots.get_mut(slot) else { return BeaconOutcome::UnknownNode };
        if let Some(net) = node.net {
            self.links.heard(net, now.mono);
        }
        let earlier = node.hearing.beacon(now.mono);
        if node.hearing.stage != Stage::Present || fresh == Fresh::NewBoot {
            self.first_beacon(slot, fresh, now);
        } else if earlier {
            self.arm_node(slot, now);
        }
        if fresh != Fresh::Late {
            self.drain_flag(slot, draining, now);
        }
        BeaconOutcome::Accepted
    }

    #[inline]
    fn drain_flag(&mut self, slot: u32, draining: bool, now: Now) {
        let Some(node) = self.nodes.slots.get_mut(slot) else { return };
        if node.hearing.stage == Stage::Present && node.drain.beacon(draining) {
            self.drive_node(slot, &[Input::AgentDraining], now);
        }
    }

    /// A beacon that changes what is known of its agent.
    fn first_beacon(&mut self, slot: u32, fresh: Fresh, now: Now) {
        let Some(node) = self.nodes.slots.get_mut(slot) else { return };
        let input = match (node.hearing.stage, fresh) {
            // One that the goodbye overtook.
            (Stage::Left, fresh) if fresh != Fresh::NewBoot => return,
            (_, Fresh::NewBoot) | (Stage::Never, _) => Input::AgentStarted,
            _ => Input::BeaconsResumed,
        };
        node.hearing.stage = Stage::Present;
        if fresh == Fresh::NewBoot {
            node.drain = DrainFlag::default();
        }
        self.arm_node(slot, now);
        self.drive_node(slot, &[input], now);
    }

    /// An agent's report. Returns how many of its services are no mirror of that node.
    pub fn on_report(&mut self, id: NodeId, report: &NodeReport, now: Now) -> usize {
        self.attend(now);
        let Some((_, node)) = self.nodes.find(&id) else { return report.services.len() };
        if node.hearing.stage == Stage::Left {
            return 0;
        }
        node.drain.report(report.draining);
        let mut unlisted = node.mirrors.clone();
        let mut unknown = 0;
        for service in &report.services {
            let Some(mirror) = self.mirror_of(id, service) else {
                unknown += 1;
                continue;
            };
            unlisted.retain(|m| *m != mirror);
            self.report_mirror(mirror, report, service, now);
        }
        for mirror in unlisted {
            self.drive_mirror(mirror, &[drain(report), Input::ReportNotReady], now);
        }
        unknown
    }

    /// The mirror that a service is, if its node is the one that says so.
    fn mirror_of(&self, id: NodeId, service: &ServiceReport) -> Option<u32> {
        let domain = self.registry.find_domain(&service.domain)?;
        let slot = self.mirrors.slot(self.registry.find_mirror(domain, &service.mirror)?)?;
        (self.mirrors.slots.get(slot)?.node == Some(id)).then_some(slot)
    }

    fn report_mirror(&mut self, slot: u32, report: &NodeReport, service: &ServiceReport, now: Now) {
        let Some(mirror) = self.mirrors.slots.get(slot) else { return };
        let load = Load { connections: service.connections, capacity: service.capacity, ..report.load };
        if let Some(live) = self.live.mirrors.get_mut(mirror.index.0 as usize)
            && live.load != load
        {
            live.load = load;
            self.live_version += 1;
        }
        let said = match (service.healthy, service.ready) {
            _ if service.stopped => Input::ReportStopped,
            (false, _) => Input::ReportFailing,
            (true, false) => Input::ReportNotReady,
            (true, true) => Input::ReportHealthy,
        };
        self.drive_mirror(slot, &[drain(report), said], now);
    }

    /// The result of a probe that was ordered.
    pub fn on_probe_result(&mut self, token: ProbeToken, answer: ProbeAnswer, now: Now) {
        self.attend(now);
        let Some(mirror) = self.mirrors.slots.get_mut(token.slot) else { return };
        let concluded = mirror.result(token, answer, now.mono);
        // After one that failed the next may be due.
        if concluded || !matches!(answer, ProbeAnswer::Passed(_)) {
            self.drive(token.slot, token.family, &[], Burst::AsWanted, now);
        }
    }

    /// A probe that was ordered and could not be carried out, because the broker had no room for
    /// it: it says nothing of the mirror, and is ordered again a little later.
    pub fn on_probe_skipped(&mut self, token: ProbeToken, now: Now) {
        self.attend(now);
        let Some(mirror) = self.mirrors.slots.get_mut(token.slot) else { return };
        mirror.sides[token.family.index()].probing.skipped(token, now.mono);
        self.drive(token.slot, token.family, &[], Burst::AsWanted, now);
    }

    /// The address of a mirror given by host name, as resolved. Declared addresses come from the
    /// registry and observed ones from sessions; an address of the other family counts as none.
    pub fn set_address(&mut self, mirror: MirrorIndex, family: Family, addr: Option<IpAddr>, now: Now) {
        self.attend(now);
        if let Some(slot) = self.mirrors.slot(mirror) {
            self.put_address(slot, family, addr, now);
        }
    }

    pub(super) fn put_address(&mut self, slot: u32, family: Family, addr: Option<IpAddr>, now: Now) {
        let addr = addr.map(family_of).filter(|(f, _)| *f == family).map(|(_, addr)| addr);
        let Some(mirror) = self.mirrors.slots.get_mut(slot) else { return };
        let side = &mut mirror.sides[family.index()];
        if side.addr == addr {
            return;
        }
        side.addr = addr;
        // What the old address is being asked says nothing of the new one.
        side.probing.stop();
        side.inquiry.stop();
        side.inquiry.last = None;
        let input = if addr.is_some() { Input::AddressKnown } else { Input::AddressLost };
        self.show_address(slot, family, addr);
        self.drive(slot, family, &[input], Burst::AsWanted, now);
    }

    /// A node's sessions come from this address of a family, or from none of it any more: its
    /// mirrors that follow it are there now.
    pub(super) fn observed(&mut self, node: u32, family: Family, addr: Option<IpAddr>, now: Now) {
        let Some(id) = self.nodes.slots.get(node).map(|n| n.id) else { return };
        let follows = |m: &MirrorState| m.node == Some(id) && m.address == MirrorAddress::Observed;
        let slots = self.nodes.slots.get(node).map(|n| n.mirrors.clone()).unwrap_or_default();
        for slot in slots {
            if self.mirrors.slots.get(slot).is_some_and(follows) {
                self.put_address(slot, family, addr, now);
            }
        }
    }
}

fn drain(report: &NodeReport) -> Input {
    if report.draining { Input::AgentDraining } else { Input::AgentUndrained }
}

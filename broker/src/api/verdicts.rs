//! Verdicts and orders in sentences.

use super::view::Ranking;
use nearmost_core::health::{Family, Reason, Vantage, Verdict};
use nearmost_core::registry::{ForcedTo, HealthMode, MirrorIndex};
use nearmost_core::time::UnixMillis;

/// "IPv4 down: its agent is silent and … (silent_and_unreachable), seen by the broker 3 s ago".
pub(super) fn health(verdict: &Verdict, family: Family, now: UnixMillis) -> String {
    let mut text = format!(
        "{} {}: {} ({})",
        family_name(family),
        verdict.state.as_str(),
        reason(verdict.reason),
        verdict.reason.code()
    );
    if let Some(who) = vantage(verdict.vantage) {
        text.push_str(&format!(", {who}"));
    }
    if verdict.since != UnixMillis::default() {
        text.push_str(&format!(" {} ago", span(now.0.saturating_sub(verdict.since.0))));
    }
    if verdict.stale {
        text.push_str("; from before a restart, not confirmed yet");
    }
    text
}

/// What people ordered of a mirror.
pub(super) fn orders(ranking: &Ranking<'_>, at: MirrorIndex) -> Vec<String> {
    let mirror = ranking.snapshot.registry.mirror(at);
    let mut out = Vec::new();
    if mirror.orders.drained {
        out.push("drained by order: it or its node gets no new users".into());
    }
    if let Some(force) = mirror.orders.force.filter(|f| f.until > ranking.now) {
        let what = match force.to {
            ForcedTo::Up => "forced up",
            ForcedTo::Down => "forced down",
            ForcedTo::AsItWas => "frozen as it was",
        };
        out.push(format!("{what} by a person for another {}", span(force.until.0 - ranking.now.0)));
    }
    if let Some(window) =
        mirror.orders.windows.iter().filter(|w| w.until > ranking.now).min_by_key(|w| w.from)
    {
        out.push(match window.from.0.checked_sub(ranking.now.0) {
            Some(ms) if ms > 0 => format!("maintenance is planned in {}", span(ms)),
            _ => format!("in maintenance for another {}", span(window.until.0 - ranking.now.0)),
        });
    }
    if let HealthMode::Manual { up } = mirror.health {
        out.push(format!("its health is set by hand: {}", if up { "up" } else { "down" }));
    }
    let node = mirror.node.and_then(|n| ranking.snapshot.registry.nodes.get(n.0 as usize));
    if let Some(node) = node.filter(|n| n.revoked) {
        out.push(format!("its node {} is revoked", node.name));
    }
    out
}

/// `IPv4` or `IPv6`.
pub(super) fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

fn vantage(vantage: Vantage) -> Option<&'static str> {
    match vantage {
        Vantage::None => None,
        Vantage::Agent => Some("said by its agent"),
        Vantage::Broker => Some("seen by the broker"),
        Vantage::AgentAndBroker => Some("seen by its agent and the broker"),
        Vantage::Operator => Some("ordered by a person"),
        Vantage::Witnesses => Some("seen by agents in other networks"),
        Vantage::BrokerAndWitnesses => Some("seen by the broker and agents in other networks"),
        Vantage::Clients => Some("said by clients"),
    }
}

fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::NothingHeard => "nothing was heard of it yet",
        Reason::NoAddress => "its address is not known",
        Reason::AwaitingProbe => "its agent says healthy, an outside probe has not succeeded yet",
        Reason::Proven => "proven to work",
        Reason::MissedBeacons => "beacons of its agent are missing",
        Reason::SessionLost => "its agent's session ended without a goodbye",
        Reason::ServiceFailing => "its agent reports failing checks",
        Reason::ProbeFailed => "probes from outside fail",
        Reason::SilentAndUnreachable => "its agent is silent and probes from outside fail",
        Reason::SilentButAnswering => "its agent is silent, the service answers probes from outside",
        Reason::DrainedByAgent => "its agent drains",
        Reason::DrainedByOrder => "drained by order",
        Reason::AgentLeft => "its agent said goodbye",
        Reason::Forced => "forced",
        Reason::Manual => "set by hand",
        Reason::Revoked => "its node is revoked",
        Reason::Resumed => "known from before a restart",
        Reason::NotReady => "its agent says the service is not ready",
        Reason::ProcessEnded => "its agent says the service's process has ended",
        Reason::PartlyReachable => "the broker does not reach it, agents in other networks do",
        Reason::ClientsFail => "clients say they do not reach it; it is being probed",
        Reason::SelfDoubt => "it seems dead, and so does everything else: the broker may be cut off",
        Reason::CapReached => "it seems dead to the broker alone, and as many as may be are out like that",
        Reason::Panic => "it seems dead to the broker alone, and too little of the domain is left",
        Reason::HeldDown => "it is good again, kept out a while as it failed too often lately",
        Reason::AwaitingRelease => "it is good again and waits for a person to let it back",
        Reason::Maintenance => "in a planned maintenance window",
        Reason::Frozen => "a person froze it as it was",
    }
}

/// A span of time for people: `40 ms`, `3 s`, `5 min`, `2 h`, `3 d`.
fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

//! Other brokers: down, behind, at odds.

use super::{fail, ok, span, warn};
use crate::api::ApiState;
use nearmost_core::time::UnixMillis;
use nearmost_wire::api::{FindingView, PeerView, PeersResponse};

/// Fewer failed attempts at a peer are no outage yet: it may be restarting, or this broker just did.
const FEW: u32 = 3;
/// A peer that was not heard for so long, in milliseconds, is not just starting.
const LONG_MS: u64 = 60_000;

pub(super) async fn judge(api: &ApiState, now: UnixMillis) -> Vec<FindingView> {
    let Some(handle) = &api.peers else { return Vec::new() };
    match handle.peers().await {
        Ok(all) => judge_all(&all, now),
        Err(e) => vec![fail("peers", e.to_string(), "restart the broker, and keep its log")],
    }
}

fn judge_all(all: &PeersResponse, now: UnixMillis) -> Vec<FindingView> {
    let mut findings: Vec<FindingView> = all.peers.iter().filter_map(|peer| judge_one(peer, now)).collect();
    for alarm in &all.alarms {
        findings.push(fail(
            "peers",
            alarm.clone(),
            "`nearmost peer list` and docs/operating-federation.md say more",
        ));
    }
    for split in &all.splits {
        let message = format!("{} and {} do not see each other", split.a, split.b);
        findings.push(warn("peers", message, "open udp/7843 between the two in both directions"));
    }
    if findings.is_empty() {
        let message = match all.peers.len() {
            0 => "this broker is alone".into(),
            n => format!("all {n} are up and hold the same"),
        };
        findings.push(ok("peers", message));
    }
    findings
}

fn judge_one(peer: &PeerView, now: UnixMillis) -> Option<FindingView> {
    let name = if peer.name.is_empty() { &peer.id } else { &peer.name };
    if peer.state != "up" {
        let since = match peer.last_contact_unix_ms {
            0 => "was never reached".into(),
            at => format!("is down for {}", span(now.0.saturating_sub(at))),
        };
        let why = peer.last_error.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let gone = format!("a member that is gone for good is removed with `nearmost peer remove {name}`");
        let fix = match peer.addresses.is_empty() {
            true => format!(
                "no address of it is known, so only it can call: set peers.advertise there, or open the way from it to \
                 here; {gone}"
            ),
            false => format!(
                "is the broker at {} running, and is its UDP port open from here? `nearmost peer show {name}` says more; \
                 {gone}",
                peer.addresses.join(", ")
            ),
        };
        let message = format!("{name} {since}{why}");
        let gone_long =
            peer.last_contact_unix_ms > 0 && now.0.saturating_sub(peer.last_contact_unix_ms) > LONG_MS;
        return Some(match peer.state.as_str() {
            "down" => fail("peers", message, fix),
            _ if peer.attempts >= FEW || gone_long => fail("peers", message, fix),
            _ => warn("peers", message, fix),
        });
    }
    if let Some(why) = peer.behind.as_deref() {
        let fix = "it is compared with by itself; look again in a minute";
        return Some(warn("peers", format!("{name} may lack records ({why})"), fix));
    }
    let refused = peer.refusals.last()?;
    let message = format!("{name} refused {}: {}: {}", refused.record, refused.answer, refused.why);
    Some(warn("peers", message, format!("`nearmost peer show {name}` lists what it refused, and why")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_wire::api::PeerQueueView;

    fn peer(state: &str, behind: Option<&str>) -> PeerView {
        PeerView {
            id: "nb1x".into(),
            name: "bob".into(),
            admin: false,
            domains: Vec::new(),
            via: None,
            addresses: vec!["192.0.2.1:7843".into()],
            state: state.into(),
            last_contact_unix_ms: 1000,
            up_since_unix_ms: None,
            attempts: 3,
            last_error: Some("timed out".into()),
            next_try_ms: None,
            rtt_ms: None,
            queue: PeerQueueView {
                records: 0,
                paused: 0,
                in_flight_bytes: 0,
                oldest_ms: None,
                expired: 0,
                refused: 0,
            },
            behind: behind.map(Into::into),
            last_compared_unix_ms: 0,
            comparing: None,
            sees: Vec::new(),
            refusals: Vec::new(),
        }
    }

    #[test]
    fn peers_that_are_down_or_behind_are_told() {
        let all = |peers: Vec<PeerView>| {
            let all = PeersResponse {
                broker: "nb1me".into(),
                log_epoch: 1,
                log_position: 1,
                statements: 1,
                rights_digest: String::new(),
                digest: String::new(),
                peers,
                splits: Vec::new(),
                alarms: Vec::new(),
            };
            judge_all(&all, UnixMillis(301_000))
        };
        let down = all(vec![peer("down", None), peer("up", None)]);
        assert_eq!(
            (down.len(), &*down[0].level, &*down[0].message),
            (1, "fail", "bob is down for 5 min: timed out")
        );
        let dialling = |attempts, last_contact_unix_ms| {
            let peer = PeerView { attempts, last_contact_unix_ms, ..peer("dialling", None) };
            all(vec![peer])[0].level.clone()
        };
        assert_eq!([0, 2, 3].map(|attempts| dialling(attempts, 300_000)), ["warn", "warn", "fail"]);
        assert_eq!(dialling(2, 200_000), "fail", "it is not just starting");
        assert_eq!(dialling(2, 0), "warn", "it was never reached");
        let unknown = all(vec![PeerView { addresses: Vec::new(), ..peer("down", None) }]);
        assert!(unknown[0].fix.starts_with("no address of it is known"), "{unknown:?}");
        assert_eq!(all(vec![peer("up", Some("new"))])[0].level, "warn");
        assert_eq!(all(vec![peer("up", None)])[0].message, "all 1 are up and hold the same");
    }
}

//! What was known of a mirror when its state changed, in a sentence that is kept with the transition.

use nearmost_core::fleet::{Evidence, Witnessed};
use nearmost_core::time::UnixMillis;

/// "agent heard 0.6 s before; this broker: not reached 0.1 s before; witnesses: 0 of 3 reached it".
pub fn sentence(evidence: &Evidence, now: UnixMillis) -> String {
    let ago = |at: UnixMillis| format!("{:.1} s before", now.0.saturating_sub(at.0) as f64 / 1000.0);
    let reached = |reached: bool| if reached { "reached" } else { "not reached" };
    let mut parts = Vec::new();
    if let Some(heard) = evidence.agent_heard {
        parts.push(format!("agent heard {}", ago(heard)));
    }
    if let Some((said, at)) = evidence.broker {
        parts.push(format!("this broker: {} {}", reached(said), ago(at)));
    }
    let answered = evidence.witnesses.iter().filter(|(_, said, _)| *said != Witnessed::Declined);
    let passed = evidence.witnesses.iter().filter(|(_, said, _)| matches!(said, Witnessed::Passed(_)));
    let (answered, passed) = (answered.count(), passed.count());
    if answered > 0 {
        parts.push(format!("witnesses: {passed} of {answered} reached it"));
    }
    let peers = evidence.peers.len();
    if peers > 0 {
        let passed = evidence.peers.iter().filter(|(_, said, _)| *said).count();
        parts.push(format!("other brokers: {passed} of {peers} reached it"));
    }
    if evidence.complaints > 0 {
        parts.push(format!("{} networks' clients complained", evidence.complaints));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_core::id::NodeId;
    use std::time::Duration;

    #[test]
    fn everyone_who_measured_it_is_named() {
        let at = UnixMillis(9_400);
        let witness = |n, said| (NodeId([n; 32]), said, at);
        let evidence = Evidence {
            agent_heard: Some(at),
            broker: Some((false, UnixMillis(9_900))),
            witnesses: vec![
                witness(1, Witnessed::Failed),
                witness(2, Witnessed::Passed(Duration::from_millis(1))),
                witness(3, Witnessed::Declined),
            ],
            complaints: 2,
            ..Evidence::default()
        };
        assert_eq!(
            sentence(&evidence, UnixMillis(10_000)),
            "agent heard 0.6 s before; this broker: not reached 0.1 s before; witnesses: 1 of 2 reached it; \
             2 networks' clients complained"
        );
        assert_eq!(sentence(&Evidence::default(), UnixMillis(1)), "");
    }
}

//! What can go wrong, and random plans of it.

use crate::host::Service;
use crate::net::{Conditions, Cut, End};
use crate::rng::Rng;

/// One thing that happens to the world.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// A host loses its power: nothing is refused, everything is swallowed.
    HostDies(u32),
    /// A dead host is started; its service answers, its agent begins anew.
    HostReturns(u32),
    /// An agent's process ends without a goodbye.
    AgentDies(u32),
    /// An agent starts, with a new boot.
    AgentStarts(u32),
    /// An agent says goodbye and ends.
    AgentLeaves(u32),
    /// A service, in both families, answers, refuses or hangs.
    Service(u32, Service),
    /// An agent's process stands still for so many microseconds.
    AgentPauses(u32, u64),
    /// The broker's process stands still for so many microseconds.
    BrokerPauses(u64),
    /// One path loses everything for so many microseconds.
    PathDark(End, End, u64),
    /// One path, in one direction, loses a share of its packets, beside what all paths lose.
    PathLossy(End, End, f64),
    /// All paths from and to the broker lose everything for so many microseconds.
    BrokerDark(u64),
    /// A region is cut off.
    RegionCut(u16, Cut),
    /// A region's cuts end.
    RegionHeals(u16),
    /// An agent's wall clock jumps by so many microseconds.
    AgentClockJumps(u32, i64),
    /// The broker's wall clock jumps by so many microseconds.
    BrokerClockJumps(i64),
    /// The whole network behaves otherwise.
    Weather(Conditions),
}

/// Pauses of 200 ms to 5 s: of each agent about every `agents_us`, of the broker about every
/// `broker_us` (0: never), from `from` to `to`.
pub fn pauses(
    rng: &mut Rng,
    hosts: u32,
    span: (u64, u64),
    agents_us: u64,
    broker_us: u64,
) -> Vec<(u64, Fault)> {
    const LEAST: u64 = 200_000;
    const MOST: u64 = 5_000_000;
    let mut plan = Vec::new();
    let mut every = |mean: u64, fault: &dyn Fn(u64) -> Fault| {
        let mut at = span.0 + rng.exponential(mean as f64);
        while mean > 0 && at < span.1 {
            let length = rng.between(LEAST, MOST);
            plan.push((at, fault(length)));
            at += length + rng.exponential(mean as f64);
        }
    };
    for host in 0..hosts {
        every(agents_us, &|length| Fault::AgentPauses(host, length));
    }
    every(broker_us, &Fault::BrokerPauses);
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_keep_to_their_span_and_never_overlap() {
        let plan = pauses(&mut Rng::new(3), 2, (1_000_000, 600_000_000), 20_000_000, 60_000_000);
        let lengths = |host: u32| {
            plan.iter().filter_map(move |(at, f)| match f {
                Fault::AgentPauses(h, us) if *h == host => Some((*at, *us)),
                _ => None,
            })
        };
        assert!(lengths(0).count() > 10 && lengths(1).count() > 10);
        let mut end = 1_000_000;
        for (at, us) in lengths(1) {
            assert!(at >= end && at < 600_000_000 && (200_000..5_000_000).contains(&us));
            end = at + us;
        }
        assert!(plan.iter().any(|(_, f)| matches!(f, Fault::BrokerPauses(_))));
        assert!(pauses(&mut Rng::new(3), 2, (0, 1_000_000_000), 0, 0).is_empty());
    }
}

//! Whether what really happened explains a verdict: its reason, and who is said to have seen it.

use crate::fleet_of::mirror_name;
use crate::session::Body;
use nearmost_core::fleet::Transition;
use nearmost_core::health::{Family, Reason, State, Vantage};

/// How long a failed probe may explain that the broker did not reach a host, in microseconds.
const MISSED_US: u64 = 60_000_000;

/// How long what a witness said may explain a verdict, in microseconds: rounds and their pauses.
const TESTIFIED_US: u64 = 30_000_000;

/// What reached the broker of one host.
#[derive(Clone, Debug, Default)]
struct Heard {
    last_beacon: u64,
    /// The last report: healthy, ready, draining.
    report: Option<(bool, bool, bool)>,
    draining: bool,
    left: bool,
    /// The broker's own probes that failed since the last one that passed, by [`Family::index`].
    failed: [u32; 2],
    /// When the last of its probes failed.
    failed_at: [u64; 2],
    /// What each witness last said of it, and when: witness, family, whether it reached it.
    testified: Vec<(u32, Family, bool, u64)>,
    /// When a witness last reached it, by [`Family::index`].
    reached_at: [Option<u64>; 2],
}

impl Heard {
    /// Witnesses that did not reach it lately.
    fn against(&self, family: Family, now: u64) -> usize {
        let recent = self.testified.iter().filter(|t| now - t.3 < TESTIFIED_US);
        recent.filter(|t| t.1 == family && !t.2).count()
    }
}

/// Keeps what reached the broker, and finds verdicts that it does not explain.
#[derive(Default)]
pub struct Evidence {
    hosts: Vec<Heard>,
    /// Verdicts that nothing explains, for people.
    pub unexplained: Vec<String>,
}

impl Evidence {
    /// Nothing of so many hosts.
    pub fn new(hosts: usize) -> Evidence {
        Evidence { hosts: vec![Heard::default(); hosts], unexplained: Vec::new() }
    }

    pub(crate) fn beacon(&mut self, host: u32, draining: bool, now: u64) {
        let heard = &mut self.hosts[host as usize];
        heard.last_beacon = now;
        heard.draining = draining;
    }

    pub(crate) fn said(&mut self, host: u32, body: Body) {
        let heard = &mut self.hosts[host as usize];
        match body {
            Body::Up { .. } => heard.left = false,
            Body::Left => heard.left = true,
            Body::Report { healthy, ready, draining } => heard.report = Some((healthy, ready, draining)),
            Body::Order(_) | Body::Answer(..) => {}
        }
    }

    pub(crate) fn probed(&mut self, host: u32, family: Family, passed: bool, now: u64) {
        let heard = &mut self.hosts[host as usize];
        let failed = &mut heard.failed[family.index()];
        *failed = if passed { 0 } else { *failed + 1 };
        if !passed {
            heard.failed_at[family.index()] = now;
        }
    }

    pub(crate) fn testified(&mut self, host: u32, witness: u32, family: Family, reached: bool, now: u64) {
        let heard = &mut self.hosts[host as usize];
        heard.testified.retain(|t| (t.0, t.1) != (witness, family));
        heard.testified.push((witness, family, reached, now));
        if reached {
            heard.reached_at[family.index()] = Some(now);
        }
    }

    /// Looks at a verdict that has just changed. `silence_us` is the shortest silence that counts,
    /// and `lost_results` says that results of probes get lost on the way to the fleet.
    pub(crate) fn check(&mut self, host: u32, t: &Transition, now: u64, silence_us: u64, lost_results: bool) {
        let heard = &self.hosts[host as usize];
        // Who is down already may be found down for another reason, by what was seen before.
        let already = t.from.state == State::Down;
        let failed = already || lost_results || heard.failed[t.family.index()] > 0;
        let at = heard.failed_at[t.family.index()];
        let missed = lost_results || at > 0 && now - at < MISSED_US;
        let silent = now - heard.last_beacon >= silence_us;
        let by_broker = t.to.vantage == Vantage::Broker;
        let by_agent = t.to.vantage == Vantage::Agent;
        let against = heard.against(t.family, now);
        // Two who do not reach it, or one in two rounds of the broker's, who is all there is to ask.
        let corroborated = already || t.to.vantage != Vantage::BrokerAndWitnesses || against > 0;
        let by_others = heard.reached_at[t.family.index()].is_some_and(|at| now - at < MISSED_US);
        let report = heard.report.unwrap_or((true, true, false));
        let explained = match (t.to.state, t.to.reason) {
            (State::Down, Reason::ServiceFailing) => by_agent && !report.0,
            (State::Down, Reason::NotReady) => by_agent && !report.1,
            (State::Down, Reason::AgentLeft) => by_agent && heard.left,
            (State::Down, Reason::MissedBeacons) => by_broker && silent,
            // Whoever joins the broker, its own probes failed too.
            (State::Down, Reason::ProbeFailed) => !by_agent && failed && corroborated,
            (State::Down, Reason::SilentAndUnreachable) => {
                // A session that ended is silence too; who was out already may be said to be out for it.
                !by_agent && failed && corroborated && (silent || already)
            }
            (State::Suspect, Reason::MissedBeacons) => by_broker && silent,
            // What was held back is shown later than it was found.
            _ if matches!(t.from.reason, Reason::HeldDown | Reason::AwaitingRelease) => true,
            // Who is reached by others only was not reached by the broker, a moment ago at least.
            (State::Unattended, _) if t.to.vantage == Vantage::Witnesses => missed && by_others,
            (State::Unattended, _) => by_broker && heard.failed[t.family.index()] == 0,
            (_, Reason::PartlyReachable) => t.to.vantage == Vantage::Witnesses && missed && by_others,
            (State::Draining, Reason::DrainedByAgent) => by_agent && (heard.draining || report.2),
            (State::Up | State::Warming, Reason::Proven) => !report.2 && report.0 && report.1,
            // What people ordered and how mirrors are set up is not of this world.
            _ => t.to.state != State::Down || already || t.to.vantage == Vantage::Operator,
        };
        if !explained {
            self.unexplained.push(format!("{now} µs {}: {t:?} after {heard:?}", mirror_name(host)));
        }
    }
}

//! What is wrong with domains and mirrors, worst first.

use crate::reason::is_wanted;
use crate::time::age;
use nearmost_client::api::{EvidenceView, FleetMirror, FleetResponse, VerdictView};
use std::collections::BTreeMap;

/// What is wrong.
pub struct Trouble<'a> {
    /// Domains without a mirror that takes users, with how many they have.
    pub dead: Vec<(&'a str, usize)>,
    /// Mirrors that are not simply up, the worst first.
    pub out: Vec<Out<'a>>,
    /// Mirrors that are.
    pub well: usize,
}

/// A mirror that is not simply up, in one family or in all where they agree.
pub struct Out<'a> {
    /// The mirror.
    pub mirror: &'a FleetMirror,
    /// `v4`, `v6`, both, or `-` where it has no address.
    pub families: String,
    /// Its verdict; `None` where it has no address.
    pub verdict: Option<&'a VerdictView>,
    /// The smaller the worse.
    rank: u8,
}

impl Out<'_> {
    /// Whether a person should be woken: out although nobody ordered it.
    pub fn is_wrong(&self) -> bool {
        self.verdict.is_none_or(|v| !v.eligible && !is_wanted(&v.reason))
    }
}

impl Trouble<'_> {
    /// All of it.
    pub fn of(fleet: &FleetResponse) -> Trouble<'_> {
        let mut out: Vec<Out<'_>> = fleet.mirrors.iter().flat_map(not_simply_up).collect();
        // Stable: what is equally bad stays in the order of names.
        out.sort_by_key(|o| o.rank);
        let well = fleet.mirrors.iter().filter(|m| not_simply_up(m).is_empty()).count();
        Trouble { dead: dead_domains(fleet), out, well }
    }

    /// Whether `--check` fails.
    pub fn is_wrong(&self) -> bool {
        self.dead.iter().any(|(_, mirrors)| *mirrors > 0) || self.out.iter().any(Out::is_wrong)
    }
}

fn dead_domains(fleet: &FleetResponse) -> Vec<(&str, usize)> {
    // One without any mirror serves nobody either.
    let mut mirrors: BTreeMap<&str, (usize, bool)> =
        fleet.domains.iter().map(|domain| (domain.as_str(), (0, false))).collect();
    for mirror in &fleet.mirrors {
        let (count, alive) = mirrors.entry(&mirror.domain).or_default();
        *count += 1;
        *alive |= mirror.verdicts.iter().any(|v| v.eligible);
    }
    let dead = mirrors.into_iter().filter(|(_, (_, alive))| !alive);
    dead.map(|(domain, (count, _))| (domain, count)).collect()
}

fn not_simply_up(mirror: &FleetMirror) -> Vec<Out<'_>> {
    if mirror.verdicts.is_empty() {
        return vec![Out { mirror, families: "-".into(), verdict: None, rank: 1 }];
    }
    let mut out: Vec<Out<'_>> = Vec::new();
    for verdict in mirror.verdicts.iter().filter(|v| !is_simply_up(v)) {
        let same = |o: &&mut Out<'_>| {
            o.verdict.is_some_and(|v| {
                (&v.state, &v.reason, v.stale) == (&verdict.state, &verdict.reason, verdict.stale)
            })
        };
        match out.iter_mut().find(same) {
            Some(both) => both.families = format!("{}+{}", both.families, verdict.family),
            None => out.push(Out {
                mirror,
                families: verdict.family.clone(),
                verdict: Some(verdict),
                rank: rank(verdict),
            }),
        }
    }
    out
}

fn is_simply_up(verdict: &VerdictView) -> bool {
    verdict.state == "up" && !verdict.stale && matches!(verdict.reason.as_str(), "proven" | "manual")
}

/// The worst first: out of service, then in service against the evidence, then doubtful, then as people
/// want it.
fn rank(verdict: &VerdictView) -> u8 {
    match (verdict.state.as_str(), verdict.reason.as_str()) {
        (_, reason) if is_wanted(reason) => 7,
        ("down", _) => 0,
        ("unknown", _) => 1,
        (_, "self_doubt" | "cap_reached" | "panic") => 2,
        ("suspect", _) => 3,
        ("unattended", _) => 4,
        (_, "partly_reachable" | "clients_fail") => 5,
        _ => 6,
    }
}

/// `down`, `up (stale)`.
pub fn state(verdict: &VerdictView) -> String {
    format!("{}{}", verdict.state, if verdict.stale { " (stale)" } else { "" })
}

/// `agent heard 3s ago, broker failed 1s ago, 2 of 3 witnesses failed 1s ago`
pub fn evidence(evidence: &EvidenceView) -> String {
    let mut parts = Vec::new();
    parts.extend(evidence.agent_heard_ms_ago.map(|ms| format!("agent heard {} ago", age(ms))));
    parts.extend(evidence.broker.as_ref().map(|said| {
        let what = if said.reached { "reached it" } else { "failed" };
        format!("broker {what} {} ago", age(said.ms_ago))
    }));
    let witnesses = &evidence.witnesses;
    if let Some(newest) = witnesses.iter().map(|w| w.ms_ago).min() {
        let failed = witnesses.iter().filter(|w| w.said == "failed").count();
        parts.push(format!("{failed} of {} witnesses failed {} ago", witnesses.len(), age(newest)));
    }
    match evidence.complaints {
        0 => {}
        1 => parts.push("clients of 1 network complain".into()),
        n => parts.push(format!("clients of {n} networks complain")),
    }
    // Less than this would be shown as none.
    if evidence.penalty >= 0.05 {
        parts.push(format!("penalty {:.1}", evidence.penalty));
    }
    parts.join(", ")
}

//! What is wrong, worst first.

use crate::ask::place;
use crate::broker::Context;
use crate::output::{emit, emit_json};
use crate::reason::{is_wanted, words};
use crate::table::Table;
use crate::time::age;
use nearmost_client::api::{EvidenceView, FleetMirror, FleetResponse, VerdictView};
use std::collections::BTreeMap;

/// Most verdicts and domains told each: more would scroll the worst ones away.
const TOLD: usize = 30;

/// Prints what is wrong, or with `all` every mirror with its place and addresses.
pub async fn status(context: &Context, all: bool) -> anyhow::Result<()> {
    let fleet = context.client.fleet().await?;
    if context.json {
        return emit_json(&serde_json::to_value(&fleet)?);
    }
    emit(&head(&fleet))?;
    if all {
        let headings = ["MIRROR", "PLACE", "FAMILY", "ADDRESS", "STATE", "REASON", "VANTAGE", "SINCE"];
        let mut table = Table::new(&headings);
        fleet.mirrors.iter().flat_map(rows).for_each(|row| table.row(row));
        return table.print("no mirrors");
    }
    emit(&trouble(&fleet))
}

fn head(fleet: &FleetResponse) -> String {
    let doubt = match fleet.doubts_itself {
        true => {
            "this broker doubts itself: it may be cut off, and takes no mirror out for silence meanwhile\n"
        }
        false => "",
    };
    format!(
        "broker {}, registry version {}: {} domains, {} nodes, {} mirrors\n{doubt}",
        fleet.broker,
        fleet.version,
        fleet.domains.len(),
        fleet.nodes.len(),
        fleet.mirrors.len()
    )
}

/// Domains without a mirror that takes users, verdicts that are not simply up, and how many are.
fn trouble(fleet: &FleetResponse) -> String {
    let mut out = String::new();
    let dead = dead_domains(fleet);
    for (domain, mirrors) in dead.iter().take(TOLD) {
        out.push_str(&format!("{domain}: none of its {mirrors} mirrors takes new users\n"));
    }
    if dead.len() > TOLD {
        out.push_str(&format!("and {} more domains like these\n", dead.len() - TOLD));
    }
    let mut wrong: Vec<(u8, &FleetMirror, Option<&VerdictView>)> =
        fleet.mirrors.iter().flat_map(not_simply_up).collect();
    // Stable: what is equally bad stays in the order of names.
    wrong.sort_by_key(|(rank, ..)| *rank);
    if !wrong.is_empty() {
        let mut table =
            Table::new(&["MIRROR", "FAMILY", "STATE", "NEW USERS", "WHY", "VANTAGE", "SINCE", "EVIDENCE"]);
        wrong.iter().take(TOLD).for_each(|(_, mirror, verdict)| table.row(row(mirror, *verdict)));
        out.push_str(&table.render());
    }
    if wrong.len() > TOLD {
        out.push_str(&format!("and {} more; --all shows all\n", wrong.len() - TOLD));
    }
    let well = fleet.mirrors.iter().filter(|m| not_simply_up(m).next().is_none()).count();
    out.push_str(&match fleet.mirrors.len() {
        0 => "no mirrors\n".into(),
        all => format!("{well} of {all} mirrors are well\n"),
    });
    out
}

/// With how many mirrors each has.
fn dead_domains(fleet: &FleetResponse) -> Vec<(&str, usize)> {
    let mut mirrors: BTreeMap<&str, (usize, bool)> = BTreeMap::new();
    for mirror in &fleet.mirrors {
        let (count, alive) = mirrors.entry(&mirror.domain).or_default();
        *count += 1;
        *alive |= mirror.verdicts.iter().any(|v| v.eligible);
    }
    let dead = mirrors.into_iter().filter(|(_, (_, alive))| !alive);
    dead.map(|(domain, (count, _))| (domain, count)).collect()
}

/// Verdicts worth telling, with how bad they are; `None` stands for a mirror without any.
fn not_simply_up(
    mirror: &FleetMirror,
) -> impl Iterator<Item = (u8, &FleetMirror, Option<&VerdictView>)> + '_ {
    let none = mirror.verdicts.is_empty().then_some((1, mirror, None));
    let worth = mirror.verdicts.iter().filter(|v| !is_simply_up(v)).map(move |v| (rank(v), mirror, Some(v)));
    none.into_iter().chain(worth)
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

fn row(mirror: &FleetMirror, verdict: Option<&VerdictView>) -> Vec<String> {
    let name = format!("{}/{}", mirror.domain, mirror.mirror);
    let Some(v) = verdict else {
        let why = words("no_address");
        return vec![name, "-".into(), "unknown".into(), "no".into(), why];
    };
    vec![
        name,
        v.family.clone(),
        state(v),
        if v.eligible { "yes" } else { "no" }.into(),
        words(&v.reason),
        v.vantage.clone(),
        age(v.age_ms),
        v.evidence.as_ref().map(evidence).unwrap_or_default(),
    ]
}

fn state(verdict: &VerdictView) -> String {
    format!("{}{}", verdict.state, if verdict.stale { " (stale)" } else { "" })
}

/// `agent heard 3s ago, broker failed 1s ago, 2 of 3 witnesses failed 1s ago`
fn evidence(evidence: &EvidenceView) -> String {
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

fn rows(mirror: &FleetMirror) -> Vec<Vec<String>> {
    let name = format!("{}/{}", mirror.domain, mirror.mirror);
    let place = place(&mirror.place);
    if mirror.verdicts.is_empty() {
        return vec![vec![name, place, "-".into(), "-".into(), "unknown".into()]];
    }
    let row = |(i, v): (usize, &VerdictView)| {
        let (name, place) = if i == 0 { (name.clone(), place.clone()) } else { Default::default() };
        let address = v.address.clone().unwrap_or("-".into());
        let family = v.family.clone();
        vec![name, place, family, address, state(v), v.reason.clone(), v.vantage.clone(), age(v.age_ms)]
    };
    mirror.verdicts.iter().enumerate().map(row).collect()
}

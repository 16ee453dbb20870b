//! Why a client is sent where it is sent.

use crate::ask::{place, ranked};
use crate::broker::Context;
use crate::output::{emit, emit_json};
use crate::table::Table;
use crate::time::age;
use anyhow::bail;
use nearmost_client::api::{
    AnswerView, ExplainResponse, ExplainedMirror, NetworkView, PredictionView, ResolverView, SharingView,
    SourceShares,
};
use std::net::IpAddr;

/// Prints why each mirror stands where it stands for a client, or for whoever asks through a resolver.
pub async fn explain(
    context: &Context,
    domain: &str,
    client: Option<IpAddr>,
    resolver: Option<IpAddr>,
) -> anyhow::Result<()> {
    let answer = match (client, resolver) {
        (Some(client), None) => context.client.explain(domain, client).await?,
        (None, Some(resolver)) => context.client.explain_resolver(domain, resolver).await?,
        // The command line takes exactly one.
        _ => bail!("say either --client or --resolver"),
    };
    if context.json {
        return emit_json(&serde_json::to_value(&answer)?);
    }
    emit(&head(&answer))?;
    answers(&answer.answers).print("no answer")?;
    emit("\n")?;
    mirrors(&answer.mirrors).print("no mirrors")?;
    emit("\n")?;
    reasons(&answer.mirrors).print("no mirrors")
}

/// Who is explained, where that is and how it is told apart.
fn head(answer: &ExplainResponse) -> String {
    let overridden = answer.network.overridden.as_ref().map(|net| format!(" of {net}")).unwrap_or_default();
    let source = answer.place.source.replace('_', " ");
    let mut lines = vec![
        format!("{} for {}, list {}", answer.domain, answer.client, answer.list),
        format!("place     {}, from {source}{overridden}", place(&answer.place)),
        format!("network   {}", network(&answer.network)),
    ];
    lines.extend(answer.resolver.as_ref().map(resolver));
    lines.into_iter().map(|line| format!("{line}\n")).chain(["\n".into()]).collect()
}

fn network(network: &NetworkView) -> String {
    let mut parts = vec![format!("cell {}", network.cell), format!("in the geo table's {}", network.range)];
    parts.extend(network.measured.as_ref().map(|net| format!("{net} measured round trips itself")));
    let groups = [network.prefix.clone(), network.asn.map(|asn| format!("AS{asn}")), network.country.clone()];
    let groups: Vec<String> = groups.into_iter().flatten().collect();
    if !groups.is_empty() {
        parts.push(format!("others in {} count", groups.join(" and ")));
    }
    if network.misplaced {
        parts.push("measurements contradict its place".into());
    }
    parts.join(", ")
}

fn resolver(resolver: &ResolverView) -> String {
    let address = resolver.address;
    let what = match (resolver.users, resolver.asked) {
        (Some(users), true) => format!("its users were found around {users}, which is explained"),
        (Some(users), false) => {
            format!("queries without a client subnet are answered for its users around {users} instead")
        }
        (None, _) => "its users are not known, so it is answered for itself".into(),
    };
    format!("resolver  {address}: {what}")
}

fn answers(answers: &[AnswerView]) -> Table {
    let mut table =
        Table::new(&["ANSWER", "ADDRESSES", "BASIS", "HOW", "TIE BAND ms", "SCOPE", "TTL s", "WHY"]);
    for answer in answers {
        let addresses: Vec<String> = answer.addresses.iter().map(ToString::to_string).collect();
        table.row(vec![
            answer.family.clone(),
            if addresses.is_empty() { "-".into() } else { addresses.join(" ") },
            answer.basis.clone(),
            answer.how.clone(),
            answer.tie_band_ms.map_or("-".into(), |ms| format!("{ms:.1}")),
            answer.scope.clone(),
            answer.ttl_s.to_string(),
            format!("scope: {}", answer.scope_reason),
        ]);
        let mut more = vec![String::new(); 7];
        more.push(format!("TTL: {}", answer.ttl_reason));
        table.row(more);
    }
    table
}

fn mirrors(mirrors: &[ExplainedMirror]) -> Table {
    let headings = [
        "",
        "MIRROR",
        "RTT ms",
        "KM",
        "STATE",
        "CABLE KM",
        "DISTANCE ms",
        "OWN ms",
        "FROM",
        "USERS %",
        "SHARING",
    ];
    let mut table = Table::new(&headings);
    for (i, mirror) in mirrors.iter().enumerate() {
        let prediction = &mirror.prediction;
        let mut row = ranked(i, &mirror.ranked);
        row.extend([
            prediction.route_km.map_or("-".into(), |km| format!("{km:.0}")),
            format!("{:.1}", prediction.distance_ms),
            prediction.own_ms.map_or("-".into(), |ms| format!("{ms:.1}")),
            from(prediction),
            users(&mirror.sharing),
            sharing(&mirror.sharing),
        ]);
        table.row(row);
    }
    table
}

/// Where a prediction comes from, and that the client's network does not reach the mirror.
fn from(prediction: &PredictionView) -> String {
    let sources = sources(&prediction.shares);
    if prediction.missed { format!("{sources}; not reached") } else { sources }
}

/// `95 % network, 3 % AS, 2 % distance`.
fn sources(shares: &SourceShares) -> String {
    let all = [
        (shares.network_percent, "network"),
        (shares.prefix_percent, "prefix"),
        (shares.asn_percent, "AS"),
        (shares.country_percent, "country"),
        (shares.region_percent, "region"),
        (shares.distance_percent, "distance"),
    ];
    let told = all.iter().filter(|(percent, _)| *percent >= 0.5);
    told.map(|(percent, name)| format!("{percent:.0} % {name}")).collect::<Vec<_>>().join(", ")
}

/// `75.0`, or `v4 75.0, v6 0.0` where the families differ.
fn users(sharing: &SharingView) -> String {
    let (v4, v6) = (sharing.share_v4_percent, sharing.share_v6_percent);
    if v4 == v6 { format!("{v4:.1}") } else { format!("v4 {v4:.1}, v6 {v6:.1}") }
}

/// What lies behind its share.
fn sharing(sharing: &SharingView) -> String {
    let flag = |set: bool, text: &str| set.then(|| text.to_owned());
    let percent = |percent: f32, text: &str| (percent > 0.0).then(|| format!("{percent:.0} % {text}"));
    let parts = [
        Some(format!("weight {}", sharing.weight)),
        percent(sharing.withheld_percent, "withheld"),
        percent(sharing.shed_percent, "shed"),
        flag(sharing.pinned, "pinned"),
        flag(sharing.excluded, "excluded"),
        flag(sharing.misplaced, "misplaced"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The verdicts with reason and age, then the sentences.
fn reasons(mirrors: &[ExplainedMirror]) -> Table {
    let mut table = Table::new(&["MIRROR", "WHY"]);
    for mirror in mirrors {
        let verdicts = mirror.ranked.verdicts.iter().map(|v| {
            let eligible = if v.eligible { "eligible" } else { "not eligible" };
            format!(
                "{} {eligible}: {}, {} ({}) for {}",
                v.family,
                v.state,
                v.reason,
                v.vantage,
                age(v.age_ms)
            )
        });
        let mut name = mirror.ranked.mirror.clone();
        for why in verdicts.chain(mirror.ranked.reasons.iter().cloned()) {
            table.row(vec![std::mem::take(&mut name), why]);
        }
    }
    table
}

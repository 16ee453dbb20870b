//! How far the mirrors are from here, and what the broker took of it.

use crate::args::Global;
use crate::broker::Context;
use crate::output::{emit, emit_json};
use crate::progress::during;
use crate::table::Table;
use anyhow::Context as _;
use nearmost_client::measure::{self, Measured, Options, Round};
use serde_json::json;

/// Measures and reports over HTTP.
pub async fn over_http(context: &Context, domain: &str, options: Options) -> anyhow::Result<()> {
    let measuring = measure::over_http(&context.client, domain, options);
    let measured = during(context.json, "measuring round trips", measuring).await?;
    show(&measured, context.json)
}

/// The same over QUIC.
pub async fn over_quic(global: &Global, at: &str, domain: &str, options: Options) -> anyhow::Result<()> {
    let broker = global.broker_id.context(
        "--quic needs --broker-id nb1…: whoever answers must prove to be that broker; `nearmost status` and \
         /healthz tell a broker's id",
    )?;
    let measuring = measure::over_quic(at, broker, domain, options);
    let measured = during(global.json, "measuring round trips", measuring).await?;
    show(&measured, global.json)
}

fn show(measured: &Measured, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return emit_json(&to_json(measured));
    }
    emit(&format!("{} from {}\n", measured.domain, measured.client))?;
    let mut table = Table::new(&["MIRROR", "RTT ms", "PREDICTED ms", "MEASURED AT"]);
    for round in &measured.rounds {
        table.row(row(round));
    }
    table.print("nothing to measure: the broker knows what this network's round trips are")?;
    emit(&format!("{}\n", verdict(measured)))
}

fn row(round: &Round) -> Vec<String> {
    let (rtt, at) = match (&round.rtt, round.at) {
        (Ok(rtt), Some(at)) => (format!("{:.3}", rtt.as_secs_f64() * 1e3), at.to_string()),
        (Ok(rtt), None) => (format!("{:.3}", rtt.as_secs_f64() * 1e3), "-".into()),
        (Err(error), _) => ("-".into(), error.clone()),
    };
    vec![round.mirror.clone(), rtt, format!("{:.1}", round.predicted_ms), at]
}

/// What the broker took, in a sentence.
fn verdict(measured: &Measured) -> String {
    let taken = &measured.taken;
    match &taken.refused {
        Some(refused) if taken.accepted == 0 => {
            format!("the broker took nothing: {} ({})", refused.message, refused.code)
        }
        Some(refused) => {
            format!(
                "the broker took {}, then no more: {} ({})",
                taken.accepted, refused.message, refused.code
            )
        }
        None => {
            let resolver = if taken.tied { "knows" } else { "does not know" };
            let trips = if taken.accepted == 1 { "round trip" } else { "round trips" };
            format!("the broker took {} {trips}, and {resolver} the resolver of this network", taken.accepted)
        }
    }
}

fn to_json(measured: &Measured) -> serde_json::Value {
    let round = |r: &Round| {
        json!({
            "mirror": r.mirror,
            "predicted_ms": r.predicted_ms,
            "at": r.at.map(|a| a.to_string()),
            "rtt_ms": r.rtt.as_ref().ok().map(|rtt| rtt.as_secs_f64() * 1e3),
            "error": r.rtt.as_ref().err(),
        })
    };
    let taken = &measured.taken;
    json!({
        "domain": measured.domain,
        "client": measured.client.to_string(),
        "rounds": measured.rounds.iter().map(round).collect::<Vec<_>>(),
        "accepted": taken.accepted,
        "tied": taken.tied,
        "refused": taken.refused.as_ref().map(|r| json!({ "code": r.code, "message": r.message })),
    })
}

//! Questions: resolve, geo.

use crate::broker::Context;
use crate::output::{emit, emit_json};
use crate::table::Table;
use nearmost_client::api::{PlaceView, RankedMirror, VerdictView};
use std::net::IpAddr;

/// Prints the mirrors of a domain, best first.
pub async fn resolve(context: &Context, domain: &str, client: Option<IpAddr>) -> anyhow::Result<()> {
    let answer = context.client.resolve(domain, client).await?;
    if context.json {
        return emit_json(&serde_json::to_value(&answer)?);
    }
    emit(&format!("{} for {}, good for {} s\n", answer.domain, answer.client, answer.ttl_s))?;
    let mut table = Table::new(&["", "MIRROR", "RTT ms", "KM", "STATE", "ADDRESSES", "URL"]);
    for (i, mirror) in answer.mirrors.iter().enumerate() {
        let mut row = ranked(i, mirror);
        row.extend([mirror.addresses.join(" "), mirror.url.clone()]);
        table.row(row);
    }
    table.print("no mirrors")
}

/// Rank, name, round trip, distance, state.
pub fn ranked(index: usize, mirror: &RankedMirror) -> Vec<String> {
    vec![
        format!("{}{}", index + 1, if mirror.chosen { "*" } else { "" }),
        mirror.mirror.clone(),
        format!("{:.1}", mirror.rtt_ms),
        mirror.distance_km.map_or("-".into(), |km| format!("{km:.0}")),
        states(&mirror.verdicts),
    ]
}

/// `up`, or `v4 up, v6 down` where the families differ.
fn states(verdicts: &[VerdictView]) -> String {
    match verdicts {
        [] => "-".into(),
        [first, rest @ ..] if rest.iter().all(|v| v.state == first.state) => first.state.clone(),
        all => all.iter().map(|v| format!("{} {}", v.family, v.state)).collect::<Vec<_>>().join(", "),
    }
}

/// Country, position and AS, as far as they are known.
pub fn place(place: &PlaceView) -> String {
    let position = place.latitude.zip(place.longitude).map(|(lat, lon)| format!("{lat:.2},{lon:.2}"));
    let country = place.country_name.clone().or_else(|| place.country.clone());
    let asn = place.asn.map(|asn| format!("AS{asn}"));
    let parts: Vec<String> = [country, position, asn].into_iter().flatten().collect();
    if parts.is_empty() { "unknown".into() } else { parts.join(" ") }
}

/// Prints what is known of an address.
pub async fn geo(context: &Context, address: IpAddr) -> anyhow::Result<()> {
    let answer = context.client.geo(address).await?;
    if context.json {
        return emit_json(&serde_json::to_value(&answer)?);
    }
    let place_of = &answer.place;
    let shown = |text: Option<String>| text.unwrap_or("unknown".into());
    let position = place_of.latitude.zip(place_of.longitude);
    let country = place_of.country_name.clone().map(|name| match &place_of.country {
        Some(code) => format!("{name} ({code})"),
        None => name,
    });
    emit(&format!(
        "address   {}\ncountry   {}\nposition  {}\nAS        {}\nprefix    {}\nsource    {}\n",
        answer.address,
        shown(country.or_else(|| place_of.country.clone())),
        shown(position.map(|(lat, lon)| format!("{lat:.4}, {lon:.4}"))),
        shown(place_of.asn.map(|asn| asn.to_string())),
        answer.cell,
        place_of.source
    ))
}

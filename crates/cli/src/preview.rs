//! Where users would go.

use crate::broker::Context;
use crate::output::{emit, emit_json};
use crate::table::Table;

/// Prints where the users of these mirrors and nodes would go if they were drained.
pub async fn drain(context: &Context, mirrors: &[String], nodes: &[String]) -> anyhow::Result<()> {
    let preview = context.client.drain_preview(mirrors, nodes).await?;
    if context.json {
        return emit_json(&serde_json::to_value(&preview)?);
    }
    let mut table = Table::new(&["DOMAIN", "MIRROR", "NOW %", "THEN %", "RTT NOW ms", "RTT THEN ms"]);
    for row in &preview.rows {
        table.row(vec![
            row.domain.clone(),
            row.mirror.clone(),
            format!("{:.1}", row.before_percent),
            format!("{:.1}", row.after_percent),
            rtt(row.before_percent, row.before_rtt_ms),
            rtt(row.after_percent, row.after_rtt_ms),
        ]);
    }
    table.print("nobody would go elsewhere")?;
    emit(&format!("of {} addresses; nothing was written\n", preview.addresses))
}

/// Nobody's round trip is none, and not a short one.
fn rtt(percent: f64, ms: f64) -> String {
    if percent > 0.0 { format!("{ms:.1}") } else { "-".into() }
}

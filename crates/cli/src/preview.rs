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
    let mut table = Table::new(&["MIRROR", "NOW %", "THEN %", "RTT NOW ms", "RTT THEN ms"]);
    for row in &preview.rows {
        table.row(vec![
            format!("{}/{}", row.domain, row.mirror),
            format!("{:.1}", row.before_percent),
            format!("{:.1}", row.after_percent),
            format!("{:.1}", row.before_rtt_ms),
            format!("{:.1}", row.after_rtt_ms),
        ]);
    }
    table.print("nobody would go elsewhere")?;
    emit(&format!("of {} addresses; nothing was written\n", preview.addresses))
}

//! What people ordered of mirrors and nodes.

use crate::broker::Context;
use crate::change::view;
use crate::output::emit_json;
use crate::table::Table;
use nearmost_client::clock::now_unix_ms;
use nearmost_client::moment;
use nearmost_client::registry::{Content, DrainBody, EntryKey, ForceBody, ForceBodyTo, RegistryView};
use serde_json::{Value, json};

/// One order, or one window of it.
#[derive(Debug, PartialEq)]
struct Order {
    /// `mirror play.example.com/lon`, `node lon1`
    of: String,
    /// `drained`, `maintenance`, `forced up`, …
    what: &'static str,
    from_unix_ms: Option<u64>,
    until_unix_ms: Option<u64>,
    note: Option<String>,
}

impl Order {
    /// Where it stands between beginning and end.
    fn state(&self, now_unix_ms: u64) -> &'static str {
        match () {
            () if self.until_unix_ms.is_some_and(|until| until <= now_unix_ms) => "over",
            () if self.from_unix_ms.is_some_and(|from| from > now_unix_ms) => "planned",
            () => "in force",
        }
    }
}

/// Prints drains, maintenance windows and forced verdicts: all, or those of a domain, a mirror or a node.
pub async fn orders(context: &Context, name: Option<&str>) -> anyhow::Result<()> {
    let name = name.map(|n| n.trim_end_matches('.').to_ascii_lowercase());
    let orders = of_view(&view(context).await?, name.as_deref());
    let now = now_unix_ms();
    if context.json {
        return emit_json(&orders.iter().map(|order| as_json(order, now)).collect());
    }
    let mut table = Table::new(&["OF", "ORDER", "STATE", "FROM", "UNTIL", "NOTE"]);
    for order in &orders {
        let shown = |ms: Option<u64>| ms.map_or("-".into(), moment::show);
        table.row(vec![
            order.of.clone(),
            order.what.into(),
            order.state(now).into(),
            shown(order.from_unix_ms),
            shown(order.until_unix_ms),
            order.note.clone().unwrap_or_default(),
        ]);
    }
    table.print("no orders")
}

fn as_json(order: &Order, now_unix_ms: u64) -> Value {
    json!({
        "of": order.of,
        "order": order.what,
        "state": order.state(now_unix_ms),
        "from_unix_ms": order.from_unix_ms,
        "until_unix_ms": order.until_unix_ms,
        "note": order.note,
    })
}

fn of_view(view: &RegistryView, name: Option<&str>) -> Vec<Order> {
    let wanted = |key: &EntryKey| name.is_none_or(|n| key.name() == n || key.scope == n);
    let wanted = view.entries.iter().filter(|(key, _)| wanted(key));
    let mut orders: Vec<Order> =
        wanted.flat_map(|(key, current)| of_entry(key, current.content.as_ref())).collect();
    // What one thing was ordered stands together.
    orders.sort_by(|a, b| a.of.cmp(&b.of));
    orders
}

fn of_entry(key: &EntryKey, content: Option<&Content>) -> Vec<Order> {
    let of = format!("{} {}", if key.scope.is_empty() { "node" } else { "mirror" }, key.name());
    match content {
        Some(Content::Drain(body)) => drains(&of, body),
        Some(Content::Force(body)) => vec![force(of, body)],
        _ => Vec::new(),
    }
}

fn drains(of: &str, body: &DrainBody) -> Vec<Order> {
    let order = |what, from_unix_ms, until_unix_ms| Order {
        of: of.into(),
        what,
        from_unix_ms,
        until_unix_ms,
        note: body.note.clone(),
    };
    match body.windows.as_slice() {
        [] => vec![order("drained", None, None)],
        all => {
            all.iter().map(|w| order("maintenance", Some(w.from_unix_ms), Some(w.until_unix_ms))).collect()
        }
    }
}

/// A release is over at its moment: it is about what was before.
fn force(of: String, body: &ForceBody) -> Order {
    let what = match body.to {
        ForceBodyTo::Up => "forced up",
        ForceBodyTo::Down => "forced down",
        ForceBodyTo::Freeze => "frozen",
        ForceBodyTo::Release => "released",
    };
    Order { of, what, from_unix_ms: None, until_unix_ms: Some(body.until_unix_ms), note: None }
}

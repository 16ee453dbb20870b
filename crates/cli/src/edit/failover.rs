//! What happens when a domain's mirrors fail and come back, as options.

use crate::args::Item;
use clap::Args;
use nearmost_client::registry::{FailbackBody, FailoverBody};

/// What happens when mirrors fail and come back.
#[derive(Debug, Default, Args)]
pub struct FailoverFields {
    /// TTL while an answer may change within seconds, in seconds, at most the TTL; an empty text clears
    #[arg(long, value_name = "SECONDS", value_parser = seconds_item, allow_hyphen_values = true)]
    ttl_min: Option<Item<u32>>,
    /// TTL once nothing has changed for long, in seconds, at least the TTL; an empty text clears
    #[arg(long, value_name = "SECONDS", value_parser = seconds_item, allow_hyphen_values = true)]
    ttl_max: Option<Item<u32>>,
    /// How a mirror that was evicted comes back: auto, or manual, by `mirror release`
    #[arg(long, value_parser = failback)]
    failback: Option<FailbackBody>,
}

impl FailoverFields {
    /// Puts what was given into a body.
    pub fn patch(&self, body: &mut FailoverBody) {
        body.ttl_min_s = self.ttl_min.as_ref().map_or(body.ttl_min_s, |item| item.0);
        body.ttl_max_s = self.ttl_max.as_ref().map_or(body.ttl_max_s, |item| item.0);
        body.failback = self.failback.unwrap_or(body.failback);
    }
}

fn seconds_item(text: &str) -> Result<Item<u32>, String> {
    Item::read(text, |t| t.parse().map_err(|_| format!("{t:?} is not a TTL in seconds")))
}

fn failback(text: &str) -> Result<FailbackBody, String> {
    let found = FailbackBody::ALL.into_iter().find(|f| f.as_str() == text);
    found.ok_or_else(|| format!("expected {}", FailbackBody::ALL.map(FailbackBody::as_str).join(" or ")))
}

//! What the broker logs, while it runs.

use crate::broker::Context;
use crate::output::{emit, emit_json};
use crate::time::parse_duration;
use clap::Args;
use nearmost_client::api::{LogLevelRequest, LogLevelResponse};
use nearmost_client::moment;
use std::time::Duration;

/// `nearmost log-level`.
#[derive(Debug, Args)]
pub struct LogLevelArgs {
    /// A module and its level, such as nearmost_broker::peers=debug, or a level for everything else
    #[arg(value_name = "TARGET=LEVEL")]
    pub levels: Vec<String>,
    /// Go back after this time
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration, requires = "levels")]
    pub lasting: Option<Duration>,
    /// Forget what was set before: as configured
    #[arg(long)]
    pub reset: bool,
}

/// Sets what was given, and prints what is in force.
pub async fn levels(context: &Context, wanted: &LogLevelArgs) -> anyhow::Result<()> {
    let told = match wanted.levels.is_empty() && !wanted.reset {
        true => context.client.log_levels().await?,
        false => {
            let one = |text: &String| match text.split_once('=') {
                Some((target, level)) => (target.to_owned(), level.to_owned()),
                None => (String::new(), text.clone()),
            };
            let request = LogLevelRequest {
                levels: wanted.levels.iter().map(one).collect(),
                for_s: wanted.lasting.map(|lasting| lasting.as_secs()),
                reset: wanted.reset,
            };
            context.client.set_log_levels(&request).await?
        }
    };
    if context.json {
        return emit_json(&serde_json::to_value(&told)?);
    }
    emit(&shown(&told))
}

fn shown(told: &LogLevelResponse) -> String {
    let until = |target: &str| {
        let set = told.set.iter().find(|set| set.target == target);
        set.map_or_else(String::new, |set| match set.until_unix_ms {
            Some(until) => format!("  set until {}", moment::show(until)),
            None => "  set until it is reset".into(),
        })
    };
    let mut text = String::new();
    match &told.environment {
        Some(filter) => {
            text.push_str(&format!("{filter}  (NEARMOST_LOG stands in place of the file)\n"));
            // What the file says is not in force; what was set while running is.
            if told.set.iter().any(|set| set.target.is_empty()) {
                text.push_str(&format!("{}{}\n", told.level, until("")));
            }
        }
        None => text.push_str(&format!("{}{}\n", told.level, until(""))),
    }
    let in_force =
        |target: &str| told.environment.is_none() || told.set.iter().any(|set| set.target == target);
    for (target, level) in told.levels.iter().filter(|(target, _)| in_force(target)) {
        text.push_str(&format!("{target}={level}{}\n", until(target)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_client::api::LogLevelSet;

    #[test]
    fn what_was_set_is_told_with_its_end() {
        let set = LogLevelSet { target: "quinn".into(), level: "debug".into(), until_unix_ms: Some(60_000) };
        let levels = [("quinn", "debug"), ("rustls", "warn")].map(|(t, l)| (t.into(), l.into())).into();
        let mut told = LogLevelResponse { level: "info".into(), levels, set: vec![set], environment: None };
        assert_eq!(shown(&told), "info\nquinn=debug  set until 1970-01-01 00:01:00 UTC\nrustls=warn\n");
        told.environment = Some("trace".into());
        let said = shown(&told);
        assert!(said.starts_with("trace  (NEARMOST_LOG"), "{said}");
        assert!(said.contains("quinn=debug") && !said.contains("rustls"), "{said}");
    }
}

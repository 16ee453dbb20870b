//! `nearmost events`: changes of state, those that were and those that come.

use crate::args::EventsArgs;
use crate::broker::Context;
use crate::colour::{of_state, paint};
use crate::output::{emit, emit_json_line, emit_painted, notice};
use crate::reason::words;
use nearmost_client::api::EventView;
use nearmost_client::events::Notice;
use nearmost_client::moment;
use nearmost_client::text::printable;
use serde_json::json;

/// Most events that are printed of those that a broker wrote down.
const HISTORY: usize = 20_000;

/// Prints changes of state: what the broker remembers, and with `--follow` what comes, until interrupted.
pub async fn events(context: &Context, args: &EventsArgs) -> anyhow::Result<()> {
    let filter = Filter::new(args)?;
    if args.follow {
        return follow(context, args.after, &filter).await;
    }
    let written = match args.after {
        None => context
            .client
            .events_since(0, HISTORY, &filter.query())
            .await?
            .filter(|events| !events.is_empty()),
        Some(_) => None,
    };
    let events = match written {
        Some(events) => events,
        None => {
            let retained = context.client.events_retained(args.after).await?;
            if retained.incomplete {
                missed(context, None)?;
            }
            retained.events
        }
    };
    events.iter().filter(|event| filter.takes(event)).try_for_each(|event| tell(context, event))
}

async fn follow(context: &Context, after: Option<u64>, filter: &Filter) -> anyhow::Result<()> {
    // Without a number all that is retained comes first, and nothing before it was missed.
    let mut events = context.client.events(Some(after.unwrap_or(0)));
    let mut begun = after.is_some();
    loop {
        match events.next().await? {
            Notice::Event(event) => {
                begun = true;
                if filter.takes(&event) {
                    tell(context, &event)?;
                }
            }
            Notice::Missed(None) if !begun => begun = true,
            Notice::Missed(number) => missed(context, number)?,
            Notice::Lost { why, retry_in } => {
                begun = true;
                let why = why.map_or("the broker ended the stream".into(), |e| e.to_string());
                let message = format!(
                    "{}; trying again in {:.1} s, from event {} on",
                    printable(&why),
                    retry_in.as_secs_f64(),
                    events.last_id().unwrap_or_default()
                );
                notice(context.json, &message);
            }
        }
    }
}

fn missed(context: &Context, number: Option<u64>) -> anyhow::Result<()> {
    if context.json {
        return emit_json_line(&json!({ "missed": number }));
    }
    let number = number.map_or("some".into(), |n| n.to_string());
    emit(&format!("{number} events were missed\n"))
}

fn tell(context: &Context, event: &EventView) -> anyhow::Result<()> {
    match context.json {
        true => emit_json_line(&serde_json::to_value(event)?),
        false => emit_painted(&line(event)),
    }
}

/// `2026-…  play.example.com/lon v4  up → down  probes from outside fail (broker)`
pub fn line(event: &EventView) -> String {
    let state = |state: &str| paint(of_state(state), &printable(state));
    format!(
        "{}  {}/{} {}  {} → {}  {} ({})\n",
        moment::show(event.at_unix_ms),
        printable(&event.domain),
        printable(&event.mirror),
        printable(&event.family),
        state(&event.from),
        state(&event.to),
        printable(&words(&event.reason)),
        printable(&event.vantage)
    )
}

/// Which events are shown.
struct Filter {
    domain: Option<String>,
    mirror: Option<String>,
}

impl Filter {
    fn new(args: &EventsArgs) -> anyhow::Result<Filter> {
        let domain = args.domain.as_deref().map(nearmost_client::name::domain).transpose()?;
        let lower = args.mirror.as_ref().map(|m| m.to_ascii_lowercase());
        match lower.as_deref().and_then(|m| m.split_once('/')) {
            Some((of, mirror)) => {
                let of = nearmost_client::name::domain(of)?;
                // Two different domains have no event in common, and none is shown.
                let domain = domain.filter(|d| *d != of).map_or(of, |_| String::new());
                Ok(Filter { domain: Some(domain), mirror: Some(mirror.into()) })
            }
            None => Ok(Filter { domain, mirror: lower }),
        }
    }

    /// As the broker is asked; it may tell of more.
    fn query(&self) -> Vec<(&str, &str)> {
        let domain = self.domain.as_deref().filter(|d| !d.is_empty()).map(|d| ("domain", d));
        let mirror = self.mirror.as_deref().filter(|m| !m.is_empty()).map(|m| ("mirror", m));
        domain.into_iter().chain(mirror).collect()
    }

    fn takes(&self, event: &EventView) -> bool {
        self.domain.as_ref().is_none_or(|d| *d == event.domain)
            && self.mirror.as_ref().is_none_or(|m| *m == event.mirror)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> EventView {
        EventView {
            number: 7,
            at_unix_ms: 0,
            domain: "play.example.com".into(),
            mirror: "lon".into(),
            family: "v4".into(),
            from: "up".into(),
            to: "down".into(),
            reason: "probe_failed".into(),
            vantage: "broker\u{1b}".into(),
            evidence: String::new(),
        }
    }

    #[test]
    fn a_line_says_what_changed_and_why() {
        assert_eq!(
            line(&event()),
            "1970-01-01 00:00:00 UTC  play.example.com/lon v4  up → down  probes from outside fail \
             (broker\\u{1b})\n"
        );
    }

    #[test]
    fn events_are_filtered_by_domain_and_mirror() {
        let takes = |domain: Option<&str>, mirror: Option<&str>| {
            let args = EventsArgs {
                domain: domain.map(Into::into),
                mirror: mirror.map(Into::into),
                ..EventsArgs::default()
            };
            Filter::new(&args).unwrap().takes(&event())
        };
        assert!(takes(None, None) && takes(Some("Play.Example.com."), None) && takes(None, Some("LON")));
        assert!(takes(None, Some("play.example.com/lon")));
        assert!(!takes(None, Some("other.example/lon")) && !takes(None, Some("nyc")));
        assert!(
            !takes(Some("other.example"), None)
                && !takes(Some("other.example"), Some("play.example.com/lon"))
        );
    }
}

//! Which mirrors were out, for how long, and why.

use crate::broker::Context;
use crate::output::{emit, emit_json};
use crate::reason;
use crate::table::Table;
use crate::time::parse_duration;
use clap::Args;
use nearmost_client::api::{EventView, EventsHistoryResponse};
use nearmost_client::clock::now_unix_ms;
use nearmost_client::moment;
use nearmost_client::outages::{End, Moment, Outage, Told, outages as tell};
use std::time::Duration;

/// Transitions asked for at once.
const PAGE: &str = "5000";
/// Times without a broker that are told.
const GAPS: usize = 10;

/// `nearmost outages`.
#[derive(Debug, Args)]
pub struct OutagesArgs {
    /// From when on: 24h ago, say, or 2026-11-29T22:00 (UTC)
    #[arg(long, default_value = "24h", value_name = "TIME", value_parser = Past::parse)]
    pub since: Past,
    /// Until when; default: now
    #[arg(long, value_name = "TIME", value_parser = Past::parse)]
    pub until: Option<Past>,
    /// Only of this domain
    #[arg(long)]
    pub domain: Option<String>,
    /// Only of mirrors of this name
    #[arg(long)]
    pub mirror: Option<String>,
}

/// A moment that has been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// Unix milliseconds.
    At(u64),
    /// So long ago.
    Ago(Duration),
}

impl Past {
    /// `24h`, `2026-11-29T22:00`, with or without `Z` and seconds, or `2026-11-29`; all in UTC.
    pub fn parse(text: &str) -> Result<Past, String> {
        if let Ok(ago) = parse_duration(text) {
            return Ok(Past::Ago(ago));
        }
        let ways = [text.to_owned(), format!("{text}Z"), format!("{text}T00:00Z")];
        let read = ways.iter().find_map(|way| moment::parse(way).ok());
        read.map(Past::At).ok_or_else(|| {
            format!("{text:?} is neither how long ago (24h, 7d) nor a moment in UTC (2026-11-29T22:00)")
        })
    }

    /// Milliseconds since the Unix epoch.
    pub fn unix_ms(self, now_unix_ms: u64) -> u64 {
        match self {
            Past::At(unix_ms) => unix_ms,
            Past::Ago(ago) => now_unix_ms.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// Prints the outages of a time, the earliest first.
pub async fn outages(context: &Context, wanted: &OutagesArgs) -> anyhow::Result<()> {
    let now = now_unix_ms();
    let window = (wanted.since.unix_ms(now), wanted.until.map_or(now, |until| until.unix_ms(now)));
    let history = history(context, wanted, window).await?;
    let mut fleet = context.client.fleet().await?.mirrors;
    let domain = wanted.domain.as_deref().map(canonical);
    let mirror = wanted.mirror.as_deref().map(canonical);
    fleet.retain(|m| {
        domain.as_ref().is_none_or(|d| *d == m.domain) && mirror.as_ref().is_none_or(|n| *n == m.mirror)
    });
    let told = Told {
        events: &history.events,
        before: &history.before,
        gaps: &history.gaps,
        // Of a time that is over the present says nothing but what has been removed or ended since.
        fleet: Some(&fleet),
    };
    let found = tell(told, window, reason::is_wanted);
    if context.json {
        return emit_json(&serde_json::to_value(&found)?);
    }
    let mut table = Table::new(&["FROM", "UNTIL", "FOR", "MIRROR", "IP", "WHY"]);
    found.iter().for_each(|outage| table.row(row(outage, now)));
    table.print("no outages")?;
    let gaps: Vec<_> = history.gaps.iter().filter(|gap| gap.from_unix_ms < window.1).collect();
    if gaps.len() > GAPS {
        emit(&format!("the broker did not run {} times; the last of these:\n", gaps.len()))?;
    }
    for gap in &gaps[gaps.len().saturating_sub(GAPS)..] {
        emit(&format!(
            "the broker did not run from {} until {}: what happened then nobody saw\n",
            moment::show(gap.from_unix_ms),
            moment::show(gap.until_unix_ms)
        ))?;
    }
    Ok(())
}

fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// All transitions that count, page by page.
async fn history(
    context: &Context,
    wanted: &OutagesArgs,
    (since, _): (u64, u64),
) -> anyhow::Result<EventsHistoryResponse> {
    let since = since.to_string();
    let mut query = vec![("since_unix_ms", since.as_str()), ("limit", PAGE)];
    query.extend(wanted.domain.as_deref().map(|domain| ("domain", domain)));
    query.extend(wanted.mirror.as_deref().map(|mirror| ("mirror", mirror)));
    let mut all = context.client.events_history(&query).await?;
    let mut asked: Option<u64> = None;
    while all.more {
        // Brokers that do not tell how far they looked end a page only where it is full.
        let last = all.events.last().map(|event: &EventView| event.number);
        let Some(last) = all.next_after.or(last) else { break };
        // A broker that tells the same again is not asked for ever.
        if asked.is_some_and(|before| last <= before) {
            break;
        }
        asked = Some(last);
        let last = last.to_string();
        let mut next = query.clone();
        next.push(("after", &last));
        let page = context.client.events_history(&next).await?;
        all.more = page.more && (!page.events.is_empty() || page.next_after > all.next_after);
        all.next_after = page.next_after;
        for event in page.before {
            let same = |e: &EventView| {
                (&e.domain, &e.mirror, &e.family) == (&event.domain, &event.mirror, &event.family)
            };
            all.before.retain(|e| !same(e));
            all.before.push(event);
        }
        all.events.extend(page.events);
    }
    Ok(all)
}

fn row(outage: &Outage, now: u64) -> Vec<String> {
    let lasted = outage.lasted_ms(now).map_or("?".into(), span);
    let until = match outage.until {
        End::At(at) => moment::show(at.at_unix_ms),
        End::Still => "still".into(),
        End::Removed => "no longer registered".into(),
    };
    vec![
        outage.from.map_or("before anything is kept".into(), |from| moment::show(from.at_unix_ms)),
        until,
        lasted,
        format!("{}/{}", outage.domain, outage.mirror),
        outage.family.clone(),
        why(outage),
    ]
}

/// The reason in words, who said it, and what is not known.
fn why(outage: &Outage) -> String {
    let mut text = if outage.planned { "planned: ".to_owned() } else { String::new() };
    text.push_str(&reason::words(&outage.reason));
    if outage.vantage != "none" {
        let said_by: Vec<&str> = outage.vantage.split('+').map(who).collect();
        text.push_str(&format!(" (said by {})", said_by.join(" and ")));
    }
    let early = |moment: Moment| {
        let ms = moment.at_unix_ms.saturating_sub(moment.not_before_unix_ms?);
        Some(span(ms))
    };
    if let Some(by) = outage.from.and_then(early) {
        text.push_str(&format!("; began up to {by} earlier, the broker did not run"));
    }
    if let End::At(end) = outage.until
        && let Some(by) = early(end)
    {
        text.push_str(&format!("; ended up to {by} earlier, the broker did not run"));
    }
    text
}

/// Who measured it; one that a newer broker has is shown as it is.
fn who(vantage: &str) -> &str {
    match vantage {
        "agent" => "its agent",
        "broker" => "the broker",
        "operator" => "a person",
        "witnesses" => "agents in other networks",
        other => other,
    }
}

/// `1d 3h`, `2h 5m`, `5m 40s`, `12.3s`.
pub fn span(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{}.{}s", s, ms % 1000 / 100),
        60..3600 => format!("{}m {}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {}m", s / 3600, s / 60 % 60),
        _ => format!("{}d {}h", s / 86_400, s / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_that_have_been_are_read() {
        assert_eq!(Past::parse("24h").unwrap().unix_ms(86_400_005), 5);
        let night = Past::parse("2026-11-29T22:00");
        assert_eq!(night, Past::parse("2026-11-29T22:00:00Z"));
        assert!(matches!(night, Ok(Past::At(_))));
        assert_eq!(Past::parse("1970-01-02"), Ok(Past::At(86_400_000)));
        assert!(Past::parse("last night").unwrap_err().contains("24h"));
    }

    #[test]
    fn an_outage_is_a_line_that_says_what_is_not_known() {
        let exact = |at_unix_ms| Moment { at_unix_ms, not_before_unix_ms: None };
        let outage = Outage {
            domain: "play.test".into(),
            mirror: "lon".into(),
            family: "v4".into(),
            planned: false,
            from: Some(exact(0)),
            until: End::At(Moment { at_unix_ms: 340_000, not_before_unix_ms: Some(100_000) }),
            reason: "probe_failed".into(),
            vantage: "broker+witnesses".into(),
            evidence: String::new(),
            unwatched_ms: 0,
        };
        let cells = row(&outage, 999_000);
        assert_eq!(cells[..3], ["1970-01-01 00:00:00 UTC", "1970-01-01 00:05:40 UTC", "5m 40s"]);
        assert_eq!(
            cells[5],
            "probes from outside fail (said by the broker and agents in other networks); ended up to 4m 0s earlier, \
             the broker did not run"
        );
        let still = Outage { until: End::Still, planned: true, reason: "maintenance".into(), ..outage };
        let cells = row(&still, 7_500_000);
        assert_eq!((cells[1].as_str(), cells[2].as_str()), ("still", "2h 5m"));
        assert!(cells[5].starts_with("planned: in a planned maintenance"), "{}", cells[5]);
        assert_eq!([span(12_340), span(97_200_000)], ["12.3s", "1d 3h"]);
    }
}

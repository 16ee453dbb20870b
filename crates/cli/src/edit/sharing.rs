//! How a domain's mirrors are shared out, as options.

use crate::args::{Item, country};
use clap::Args;
use nearmost_client::registry::{RuleBody, RuleEffectBody, SharingBody, StrategyBody};
use nearmost_client::{name, prefix};

/// How a domain's mirrors are shared out.
#[derive(Debug, Default, Args)]
pub struct SharingFields {
    /// Mirrors this much slower than the best are as good as it, in milliseconds …
    #[arg(long, value_name = "MS", allow_hyphen_values = true)]
    tie_band_ms: Option<f32>,
    /// … or in percent of the best
    #[arg(long, value_name = "PERCENT", allow_hyphen_values = true)]
    tie_band_percent: Option<f32>,
    /// By what mirrors are chosen: nearest, balanced, weighted or failover
    #[arg(long, value_parser = strategy)]
    strategy: Option<StrategyBody>,
    /// Mirror to fail over to, first the first; only beside failover; replaces all, an empty text clears
    #[arg(long, value_name = "NAME", value_parser = name_item)]
    order: Vec<Item<String>>,
    /// Share of client networks that try a mirror which may be better, in percent, 0 to 20
    #[arg(long, value_name = "PERCENT", allow_hyphen_values = true)]
    explore_percent: Option<f32>,
    /// Rule "EFFECT WHO MIRRORS": pin or exclude; country=CC, asn=NUMBER or prefix=PREFIX; names
    /// separated by commas, e.g. "pin country=CN sha,hkg"; replaces all, an empty text clears
    #[arg(long, value_parser = rule_item)]
    rule: Vec<Item<RuleBody>>,
}

impl SharingFields {
    /// Puts what was given into a body.
    pub fn patch(&self, body: &mut SharingBody) {
        body.tie_band_ms = self.tie_band_ms.unwrap_or(body.tie_band_ms);
        body.tie_band_percent = self.tie_band_percent.unwrap_or(body.tie_band_percent);
        body.strategy = self.strategy.unwrap_or(body.strategy);
        body.explore_percent = self.explore_percent.unwrap_or(body.explore_percent);
        Item::replace(&mut body.order, &self.order);
        Item::replace(&mut body.rules, &self.rule);
    }
}

fn strategy(text: &str) -> Result<StrategyBody, String> {
    let found = StrategyBody::ALL.into_iter().find(|s| s.as_str() == text);
    found.ok_or_else(|| format!("expected {}", StrategyBody::ALL.map(StrategyBody::as_str).join(", ")))
}

fn name_item(text: &str) -> Result<Item<String>, String> {
    Item::read(text, |t| name::short(t).map_err(|e| e.to_string()))
}

fn rule_item(text: &str) -> Result<Item<RuleBody>, String> {
    Item::read(text, rule)
}

fn rule(text: &str) -> Result<RuleBody, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [effect, who, mirrors] = words[..] else {
        return Err(format!(
            "found {} words, expected three as in \"pin country=CN sha,hkg\": effect, who, mirrors",
            words.len()
        ));
    };
    let found = RuleEffectBody::ALL.into_iter().find(|e| e.as_str() == effect);
    let effect = found.ok_or_else(|| format!("found {effect:?}, expected pin or exclude"))?;
    let mirrors = mirrors.split(',').map(name::short).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let mut rule = RuleBody { effect, country: None, asn: None, prefix: None, mirrors };
    match who.split_once('=') {
        Some(("country", code)) => rule.country = Some(country(code)?),
        Some(("asn", number)) => {
            let asn = number.parse().map_err(|_| format!("asn={number}: expected a number such as 64496"))?;
            rule.asn = Some(asn);
        }
        Some(("prefix", text)) => {
            rule.prefix = Some(prefix::parse(text).map_err(|e| format!("prefix: {e}"))?.to_string());
        }
        _ => return Err(format!("found {who:?}, expected country=CC, asn=NUMBER or prefix=PREFIX")),
    }
    Ok(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_from_one_text() {
        for (text, same) in [
            ("pin country=cn SHA,hkg", "pin country=CN sha,hkg"),
            (" exclude   prefix=::ffff:192.0.2.0/120 lon ", "exclude prefix=192.0.2.0/24 lon"),
            ("pin asn=64496 lon", "pin asn=64496 lon"),
        ] {
            assert_eq!(rule(text).map(|r| r.to_string()), Ok(same.into()), "{text}");
        }
    }

    #[test]
    fn wrong_rules_say_what_is_wrong() {
        for (text, says) in [
            ("pin", "found 1 words, expected three as in \"pin country=CN sha,hkg\""),
            ("pin country=CN sha hkg", "found 4 words"),
            ("keep country=CN sha", "found \"keep\", expected pin or exclude"),
            ("pin China sha", "found \"China\", expected country=CC, asn=NUMBER or prefix=PREFIX"),
            ("pin county=CN sha", "found \"county=CN\", expected country=CC"),
            ("pin country=CHN sha", "expected two letters such as GB"),
            ("pin asn=AS7 sha", "asn=AS7: expected a number such as 64496"),
            ("pin prefix=192.0.2.7/24 sha", "as in 192.0.2.0/24"),
            ("pin country=CN sha,", "a name is empty"),
        ] {
            let said = rule(text).unwrap_err();
            assert!(said.contains(says), "{text}: {said}");
        }
    }

    #[test]
    fn strategies_are_read() {
        assert_eq!(strategy("failover"), Ok(StrategyBody::Failover));
        assert_eq!(strategy("magic"), Err("expected nearest, balanced, weighted, failover".into()));
    }
}

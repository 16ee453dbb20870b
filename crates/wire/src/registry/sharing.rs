//! How a domain's mirrors are shared out, as JSON and as people write it → plain data.

use super::bodies::country;
use super::build::range;
use crate::{name, prefix};
use nearmost_core::geo::{CountryCode, countries};
use nearmost_core::registry::{Rule, RuleEffect, Strategy, Who};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A domain's record, of at most 4096 bytes, may be full before.
pub use nearmost_core::registry::MAX_RULES;
/// Highest share of client networks that explore, in percent.
const MAX_EXPLORE_PERCENT: f64 = 20.0;

/// How a domain's mirrors are shared out; part of a domain's body. Of what older readers do not know
/// nothing is written where it is as by default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SharingBody {
    /// Tie band in milliseconds …
    pub tie_band_ms: f32,
    /// … or in percent of the best round trip.
    pub tie_band_percent: f32,
    /// By what mirrors are chosen.
    #[serde(skip_serializing_if = "is_usual_strategy")]
    pub strategy: StrategyBody,
    /// With [`StrategyBody::Failover`], and only there: names of mirrors from first to last. They need
    /// not be there yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<String>,
    /// Share of client networks that try a mirror which may be better, in percent, 0 to 20.
    #[serde(skip_serializing_if = "is_usual_share")]
    pub explore_percent: f32,
    /// Who is sent to, or kept from, which mirrors; at most [`MAX_RULES`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleBody>,
}

impl Default for SharingBody {
    fn default() -> Self {
        SharingBody {
            tie_band_ms: 3.0,
            tie_band_percent: 5.0,
            strategy: StrategyBody::default(),
            order: Vec::new(),
            explore_percent: 1.0,
            rules: Vec::new(),
        }
    }
}

fn is_usual_strategy(strategy: &StrategyBody) -> bool {
    *strategy == StrategyBody::default()
}

fn is_usual_share(percent: &f32) -> bool {
    *percent == SharingBody::default().explore_percent
}

/// By what mirrors are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StrategyBody {
    /// The lowest predicted round trip and nothing else.
    Nearest,
    /// Mirrors about as near as the nearest share users by weight and room.
    #[default]
    Balanced,
    /// All mirrors share users by weight.
    Weighted,
    /// The first of a list.
    Failover,
}

impl StrategyBody {
    /// Every strategy.
    pub const ALL: [StrategyBody; 4] =
        [StrategyBody::Nearest, StrategyBody::Balanced, StrategyBody::Weighted, StrategyBody::Failover];

    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            StrategyBody::Nearest => "nearest",
            StrategyBody::Balanced => "balanced",
            StrategyBody::Weighted => "weighted",
            StrategyBody::Failover => "failover",
        }
    }
}

/// A rule of a domain: about exactly one of a country, an autonomous system and a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleBody {
    /// What it does.
    pub effect: RuleEffectBody,
    /// Clients in this country: two letters (ISO 3166-1).
    #[serde(default, with = "country", skip_serializing_if = "Option::is_none")]
    pub country: Option<[u8; 2]>,
    /// Clients in this autonomous system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// Clients in this prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Names of mirrors of the domain, at least one. They need not be there yet.
    #[serde(default)]
    pub mirrors: Vec<String>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleEffectBody {
    /// These mirrors before all others.
    Pin,
    /// Never these mirrors.
    Exclude,
}

impl RuleEffectBody {
    /// Every effect.
    pub const ALL: [RuleEffectBody; 2] = [RuleEffectBody::Pin, RuleEffectBody::Exclude];

    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            RuleEffectBody::Pin => "pin",
            RuleEffectBody::Exclude => "exclude",
        }
    }
}

impl RuleBody {
    /// All but the mirrors, in one line: `pin country=CN`.
    pub fn head(&self) -> String {
        let country = self.country.map(|c| format!(" country={}", String::from_utf8_lossy(&c)));
        let asn = self.asn.map(|asn| format!(" asn={asn}"));
        let prefix = self.prefix.as_ref().map(|prefix| format!(" prefix={prefix}"));
        let who: String = [country, asn, prefix].into_iter().flatten().collect();
        format!("{}{who}", self.effect.as_str())
    }

    fn who(&self) -> Result<Who, String> {
        match (self.country, self.asn, &self.prefix) {
            (Some(letters), None, None) => {
                let text = String::from_utf8_lossy(&letters);
                let code = CountryCode::new(&text).filter(|c| countries::find(*c).is_some());
                let code = code
                    .ok_or_else(|| format!("{text:?} is no country; expected its two letters such as GB"))?;
                Ok(Who::Country(code))
            }
            (None, Some(0), None) => Err(format!("asn = 0: expected 1 to {}", u32::MAX)),
            (None, Some(asn), None) => Ok(Who::Asn(asn)),
            (None, None, Some(text)) => {
                prefix::parse(text).map(Who::Prefix).map_err(|e| format!("prefix: {e}"))
            }
            (None, None, None) => Err("says of nobody; give one of country, asn and prefix".into()),
            _ => Err("says of several; give one of country, asn and prefix, and make a rule of each".into()),
        }
    }

    fn plain(&self) -> Result<Rule, String> {
        let who = self.who()?;
        if self.mirrors.is_empty() {
            return Err("mirrors: expected the name of at least one".into());
        }
        let effect = match self.effect {
            RuleEffectBody::Pin => RuleEffect::Pin,
            RuleEffectBody::Exclude => RuleEffect::Exclude,
        };
        Ok(Rule { who, effect, mirrors: mirrors("mirrors", &self.mirrors)? })
    }
}

impl fmt::Display for RuleBody {
    /// `pin country=CN sha,hkg`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.head(), self.mirrors.join(","))
    }
}

/// Names of mirrors, each once.
fn mirrors(field: &str, names: &[String]) -> Result<Vec<Arc<str>>, String> {
    let mut out: Vec<Arc<str>> = Vec::with_capacity(names.len());
    for text in names {
        let name = name::short(text).map_err(|e| format!("{field}: {e}"))?;
        if out.iter().any(|there| **there == name) {
            return Err(format!("{field}: {name:?} is there twice"));
        }
        out.push(name.into());
    }
    Ok(out)
}

/// The plain forms of a body's parts.
pub(super) struct Sharing {
    pub(super) tie_band_ms: f32,
    /// 0..=1
    pub(super) tie_band_share: f32,
    pub(super) strategy: Strategy,
    pub(super) rules: Vec<Rule>,
    /// 0..=1
    pub(super) explore: f32,
}

/// How a domain's mirrors are shared out; the error says what is wrong with it.
pub(super) fn sharing(body: &SharingBody) -> Result<Sharing, String> {
    range("tie_band_ms", body.tie_band_ms, 0.0, 1000.0)?;
    range("tie_band_percent", body.tie_band_percent, 0.0, 100.0)?;
    range("explore_percent", body.explore_percent, 0.0, MAX_EXPLORE_PERCENT)?;
    Ok(Sharing {
        tie_band_ms: body.tie_band_ms,
        tie_band_share: body.tie_band_percent / 100.0,
        strategy: strategy(body)?,
        rules: rules(&body.rules)?,
        explore: body.explore_percent / 100.0,
    })
}

fn strategy(body: &SharingBody) -> Result<Strategy, String> {
    match (body.strategy, body.order.is_empty()) {
        (StrategyBody::Failover, true) => {
            Err("strategy = \"failover\" needs order, the names of mirrors from first to last".into())
        }
        (StrategyBody::Failover, false) => Ok(Strategy::Failover(mirrors("order", &body.order)?)),
        (other, false) => Err(format!(
            "order stands only beside strategy = \"failover\", and strategy is {:?}; clear one of them",
            other.as_str()
        )),
        (StrategyBody::Nearest, true) => Ok(Strategy::Nearest),
        (StrategyBody::Balanced, true) => Ok(Strategy::Balanced),
        (StrategyBody::Weighted, true) => Ok(Strategy::Weighted),
    }
}

fn rules(bodies: &[RuleBody]) -> Result<Vec<Rule>, String> {
    if bodies.len() > MAX_RULES {
        return Err(format!("rules: there are {}, expected at most {MAX_RULES}", bodies.len()));
    }
    let mut out: Vec<Rule> = Vec::with_capacity(bodies.len());
    for (body, number) in bodies.iter().zip(1..) {
        let at = |problem: String| format!("rule {number} ({}): {problem}", body.head());
        let rule = body.plain().map_err(at)?;
        let same = |other: &Rule| other.effect == RuleEffect::Pin && other.who == rule.who;
        if rule.effect == RuleEffect::Pin
            && let Some(first) = out.iter().position(same)
        {
            let problem = format!("rule {} pins the same clients; write all mirrors into one", first + 1);
            return Err(at(problem));
        }
        out.push(rule);
    }
    Ok(out)
}

//! What happens when a domain's mirrors fail and come back, as JSON and as people write it → plain data.

use super::bodies::AllDownBody;
use super::build::range;
use nearmost_core::registry::{AllDown, Failover};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Lowest TTL where none is given, in seconds.
const USUAL_LEAST_S: u32 = 5;
/// Highest TTL where none is given, in seconds.
const USUAL_MOST_S: u32 = 60;

/// What happens when mirrors fail and come back; part of a domain's body. Of what older readers do not
/// know nothing is written where it is as by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailoverBody {
    /// TTL while an answer may change within seconds, in seconds, at most `ttl_s`. Absent: 5, or `ttl_s`
    /// where that is lower.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_min_s: Option<u32>,
    /// TTL once nothing has changed for long, in seconds, at least `ttl_s`. Absent: 60, or `ttl_s` where
    /// that is higher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_max_s: Option<u32>,
    /// How a mirror that was evicted comes back.
    #[serde(skip_serializing_if = "is_usual_failback")]
    pub failback: FailbackBody,
}

fn is_usual_failback(failback: &FailbackBody) -> bool {
    *failback == FailbackBody::default()
}

/// How a mirror that was evicted comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailbackBody {
    /// Once it is proven good.
    #[default]
    Auto,
    /// Once it is proven good and a person lets it back.
    Manual,
}

impl FailbackBody {
    /// Both.
    pub const ALL: [FailbackBody; 2] = [FailbackBody::Auto, FailbackBody::Manual];

    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            FailbackBody::Auto => "auto",
            FailbackBody::Manual => "manual",
        }
    }
}

/// What happens when mirrors fail and come back, in a domain of this TTL; the error says what is wrong
/// with it.
pub(super) fn failover(body: &FailoverBody, all_down: &AllDownBody, ttl_s: u32) -> Result<Failover, String> {
    let least = body.ttl_min_s.unwrap_or(USUAL_LEAST_S.min(ttl_s));
    let most = body.ttl_max_s.unwrap_or(USUAL_MOST_S.max(ttl_s));
    range("ttl_min_s", least, 1.0, 86_400.0)?;
    range("ttl_max_s", most, 1.0, 86_400.0)?;
    if least > ttl_s {
        return Err(format!("ttl_min_s = {least}: expected at most ttl_s, which is {ttl_s}"));
    }
    if most < ttl_s {
        return Err(format!("ttl_max_s = {most}: expected at least ttl_s, which is {ttl_s}"));
    }
    Ok(Failover {
        all_down: when_all_are_down(all_down)?,
        ttl_least: Duration::from_secs(least.into()),
        ttl_most: Duration::from_secs(most.into()),
        manual_failback: body.failback == FailbackBody::Manual,
    })
}

fn when_all_are_down(body: &AllDownBody) -> Result<AllDown, String> {
    match body {
        AllDownBody::LastKnown => Ok(AllDown::LastKnown),
        AllDownBody::All => Ok(AllDown::All),
        AllDownBody::Fallback(addrs) if addrs.is_empty() => {
            Err("all_down: fallback without an address".into())
        }
        AllDownBody::Fallback(addrs) => Ok(AllDown::Fallback(addrs.clone())),
        AllDownBody::NoAnswer => Ok(AllDown::NoAnswer),
    }
}

//! Who uses which mirror, read at each scrape.
//!
//! Series are bounded: the largest flows have their own, and each mirror's others are one with the country
//! `other`, as far as there is room; what then is left is told as one number without a mirror's name. The
//! limits of `[metrics]` hold here, too: where no mirror or no domain may have series, none is named.

use crate::steering::TrafficHandle;
use nearmost_config::MetricsConfig;
use nearmost_core::geo::CountryCode;
use nearmost_core::traffic::{Flow, MirrorName, MirrorUsers};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Error, GaugeVec, IntCounter, Opts, Registry};
use std::collections::BTreeMap;

/// Series of users, at most.
const MOST_SERIES: usize = 2000;
/// Mirrors whose users' round trips are told, by region, at most.
const MOST_MIRRORS: usize = 500;
/// Stands for what has no series of its own.
const OTHER: &str = "other";

/// Registers what is read from `traffic`.
///
/// # Errors
/// When it is registered already.
pub fn register(registry: &Registry, traffic: TrafficHandle, most: MetricsConfig) -> Result<(), Error> {
    let mirrors = if most.max_domains == 0 { 0 } else { most.max_mirrors };
    registry.register(Box::new(TrafficCollector { traffic, mirrors, descs: Families::new()?.descs() }))
}

struct TrafficCollector {
    traffic: TrafficHandle,
    /// Mirrors that may have series.
    mirrors: usize,
    descs: Vec<Desc>,
}

struct Families {
    users: GaugeVec,
    rtt: GaugeVec,
    left_out: IntCounter,
}

impl Families {
    fn new() -> Result<Families, Error> {
        let users =
            "Users now: connections that the agent counts, or answers of half a minute, whichever are more.";
        let rtt = "Round trips of the mirror's users, by region and by whether they were measured: this share of them is nearer.";
        let left_out = "Sightings of users that found no room.";
        Ok(Families {
            users: GaugeVec::new(Opts::new("nearmost_users", users), &["domain", "mirror", "country"])?,
            rtt: GaugeVec::new(
                Opts::new("nearmost_user_rtt_seconds", rtt),
                &["domain", "mirror", "region", "basis", "share"],
            )?,
            left_out: IntCounter::new("nearmost_users_left_out_total", left_out)?,
        })
    }

    fn all(&self) -> [&dyn Collector; 3] {
        [&self.users, &self.rtt, &self.left_out]
    }

    fn descs(&self) -> Vec<Desc> {
        self.all().iter().flat_map(|f| f.desc()).cloned().collect()
    }

    fn set(&self, flows: &[Flow], mirrors: &BTreeMap<MirrorName, MirrorUsers>, most: usize) {
        for ((domain, mirror, country), users) in bounded(flows, most.saturating_mul(2).min(MOST_SERIES)) {
            self.users.with_label_values(&[&*domain, &*mirror, &*country]).set(users);
        }
        let mut busiest: Vec<_> = mirrors.iter().collect();
        busiest.sort_by(|a, b| b.1.users.total_cmp(&a.1.users));
        for (name, users) in busiest.into_iter().take(most.min(MOST_MIRRORS)) {
            let told = users.rtts.iter().filter_map(|(of, h)| Some((of, h.quantiles()?)));
            for ((region, basis), quantiles) in told {
                for (quantile, ms) in [("0.5", quantiles.p50_ms), ("0.95", quantiles.p95_ms)] {
                    let labels = [&*name.domain, &*name.mirror, region, basis.as_str(), quantile];
                    self.rtt.with_label_values(&labels).set(f64::from(ms) / 1000.0);
                }
            }
        }
    }
}

/// Domain, mirror and country.
type Labels = (String, String, String);

/// Users by labels: of at most `most` flows as they are, and of the rest by mirror, at most as many again.
fn bounded(flows: &[Flow], most: usize) -> BTreeMap<Labels, f64> {
    let mut flows: Vec<&Flow> = flows.iter().collect();
    flows.sort_by(|a, b| b.users.total_cmp(&a.users));
    let mut series = BTreeMap::new();
    let country = |c: Option<CountryCode>| c.map_or_else(|| "unknown".to_owned(), |c| c.to_string());
    let mut rest = 0;
    for (at, flow) in flows.into_iter().enumerate() {
        let (domain, mirror) = (flow.mirror.domain.to_string(), flow.mirror.mirror.to_string());
        let mut labels = (domain, mirror, country(flow.country));
        if at >= most {
            labels.2 = OTHER.into();
            if !series.contains_key(&labels) && rest >= most {
                labels = (OTHER.into(), OTHER.into(), OTHER.into());
            } else if !series.contains_key(&labels) {
                rest += 1;
            }
        }
        *series.entry(labels).or_default() += flow.users;
    }
    series
}

impl Collector for TrafficCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Ok(families) = Families::new() else { return Vec::new() };
        let told = self.traffic.told();
        families.set(&told.flows, &told.mirrors, self.mirrors);
        families.left_out.inc_by(told.left_out);
        let all = families.all().into_iter().flat_map(Collector::collect);
        // A family without a series cannot be written down.
        all.filter(|f| !f.get_metric().is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_bounded_and_no_user_is_lost() {
        let flow = |n: u16, country: &str| Flow {
            mirror: MirrorName { domain: "a.test".into(), mirror: format!("m{n}").into() },
            country: CountryCode::new(country),
            users: f64::from(n) + 1.0,
        };
        let flows: Vec<Flow> = (0..40).flat_map(|n| [flow(n, "GB"), flow(n, "US"), flow(n, "")]).collect();
        let all: f64 = flows.iter().map(|f| f.users).sum();
        let series = bounded(&flows, 6);
        assert_eq!(series.len(), 6 + 6 + 1);
        assert!((series.values().sum::<f64>() - all).abs() < 1e-9);
        let labels = |d: &str, m: &str, c: &str| (d.to_owned(), m.to_owned(), c.to_owned());
        assert_eq!(series[&labels("a.test", "m39", "unknown")], 40.0);
        assert!(series.contains_key(&labels("a.test", "m37", OTHER)));
        assert!(series.contains_key(&labels(OTHER, OTHER, OTHER)));
        let none = bounded(&[flow(1, "GB"), flow(2, "US")], 0);
        assert_eq!(none, BTreeMap::from([(labels(OTHER, OTHER, OTHER), 5.0)]));
    }
}

//! The broker examines itself: `GET /v1/checkup`, for `nearmost doctor`.
//!
//! ```text
//! gather (files, sockets, /proc, tasks) ──► facts ──► judge (pure) ──► findings: ok, warn, fail + how to fix
//! ```
//! One file a subject. What is gathered is cheap enough for an SRE who asks again and again: one file is
//! written and removed in the data directory, a few are read, and nothing is asked of other machines.

mod access;
mod buffers;
mod certificates;
mod clock;
mod config;
mod disk;
mod dnssec;
mod fleet;
mod geo;
mod limits;
mod listeners;
mod memory;
mod peers;
mod store;

use crate::api::ApiState;
use crate::clock::unix_now;
use crate::geoip::GeoStatus;
use crate::server::Addresses;
use nearmost_config::BrokerConfig;
use nearmost_wire::api::{CheckupResponse, FindingView, ListenerView};
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// What the examination needs that the API does not have anyway.
#[derive(Clone)]
pub struct Examiner {
    config: Arc<BrokerConfig>,
    /// Of the geo databases; `None` in a broker that has none.
    geo: Option<watch::Receiver<GeoStatus>>,
    /// Known once all sockets are bound.
    addresses: Arc<OnceLock<Addresses>>,
}

impl Examiner {
    /// Of a broker with this configuration.
    pub fn new(config: &BrokerConfig, geo: Option<watch::Receiver<GeoStatus>>) -> Examiner {
        Examiner { config: Arc::new(config.clone()), geo, addresses: Arc::default() }
    }

    /// Tells it where the broker is bound; only the first word counts.
    pub fn bound(&self, addresses: &Addresses) {
        let _ = self.addresses.set(addresses.clone());
    }

    /// Looks at everything.
    pub async fn examine(&self, api: &ApiState) -> CheckupResponse {
        let now = unix_now();
        let snapshot = api.snapshot.load_full();
        let config = &self.config;
        let mut findings = Vec::new();
        findings.push(fleet::judge(api.fleet.answers().await, snapshot.published, now));
        findings.push(store::judge(&store::Errors::gather(&api.registry)));
        findings.extend(self.on_files().await);
        findings.extend(clock::judge(&clock::gather(api).await));
        findings.extend(self.geo.as_ref().map(|geo| geo::judge(&geo.borrow(), now)).unwrap_or_default());
        findings.extend(peers::judge(api, now).await);
        findings.extend(dnssec::judge(&dnssec::gather(api, &snapshot.registry, now)));
        findings.extend(config::judge(config, &api.settings));
        if let Some(at) = self.addresses.get() {
            findings.extend(listeners::judge(at));
        }
        let listeners = self.addresses.get().map(listeners::views).unwrap_or_default();
        self.response(api, findings, listeners)
    }

    /// What waits for the disk or the kernel.
    async fn on_files(&self) -> Vec<FindingView> {
        let config = self.config.clone();
        let now = unix_now();
        let looked = tokio::task::spawn_blocking(move || {
            let mut findings = vec![limits::judge(&limits::gather(&config))];
            findings.extend(disk::judge(&disk::gather(&config.data_dir)));
            findings.extend(certificates::judge(&certificates::gather(&config), now));
            findings.extend(memory::judge(&memory::gather()));
            findings.extend(buffers::judge(buffers::gather()));
            findings.extend(access::judge(&access::gather(&config.admin.socket)));
            findings
        });
        looked.await.unwrap_or_else(|e| {
            vec![fail(
                "checkup",
                format!("the examination of files failed: {e}"),
                "look into the broker's log",
            )]
        })
    }

    fn response(
        &self,
        api: &ApiState,
        findings: Vec<FindingView>,
        listeners: Vec<ListenerView>,
    ) -> CheckupResponse {
        let zone = &self.config.dns.zone;
        let domains = &api.snapshot.load().registry.domains;
        CheckupResponse {
            broker: api.me.id.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            at_unix_ms: unix_now().0,
            findings,
            listeners,
            nameservers: zone.nameservers.clone(),
            zones: zone.zones.clone(),
            domains: domains.iter().map(|d| d.name.to_string()).collect(),
        }
    }
}

fn ok(subject: &str, message: impl Into<String>) -> FindingView {
    finding(subject, "ok", message.into(), String::new())
}

fn warn(subject: &str, message: impl Into<String>, fix: impl Into<String>) -> FindingView {
    finding(subject, "warn", message.into(), fix.into())
}

fn fail(subject: &str, message: impl Into<String>, fix: impl Into<String>) -> FindingView {
    finding(subject, "fail", message.into(), fix.into())
}

fn finding(subject: &str, level: &str, message: String, fix: String) -> FindingView {
    FindingView { subject: subject.into(), level: level.into(), message, fix }
}

/// Bytes for people.
fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (n as f64, 0);
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} bytes") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A span for people, in its largest whole unit.
fn span(ms: u64) -> String {
    match ms / 1000 {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s @ 7200..172_800 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_for_people() {
        assert_eq!([bytes(5), bytes(1536), bytes(3 << 30)], ["5 bytes", "1.5 KiB", "3.0 GiB"]);
        assert_eq!([span(1500), span(180_000), span(86_400_000 * 3)], ["1 s", "3 min", "3 days"]);
    }
}

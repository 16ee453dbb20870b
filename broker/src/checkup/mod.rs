//! The broker examines itself: `GET /v1/checkup`, for `nearmost doctor`.
//!
//! ```text
//! gather (files, sockets, /proc, tasks) ──► facts ──► judge (pure) ──► findings: ok, warn, fail + how to fix
//! ```
//! One file a subject. All are looked at at once, each for a second at most: one that does not answer is a
//! finding itself, and keeps nobody from the others. There is one examination at a time, and its result stands
//! for some seconds: whoever asks again and again, or together with others, costs no more.

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
pub mod stopped;
mod store;

use crate::api::ApiState;
use crate::clock::{mono_now, unix_now};
use crate::driver::DriverInput;
use crate::geoip::GeoStatus;
use crate::server::Addresses;
use nearmost_config::BrokerConfig;
use nearmost_core::time::UnixMillis;
use nearmost_wire::api::{CheckupResponse, FindingView, ListenerView};
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot, watch};

/// How long each part may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a result stands.
const KEPT: Duration = Duration::from_secs(5);

/// What the examination needs that the API does not have anyway.
#[derive(Clone)]
pub struct Examiner {
    config: Arc<BrokerConfig>,
    /// Of the geo databases; `None` in a broker that has none.
    geo: Option<watch::Receiver<GeoStatus>>,
    /// Known once all sockets are bound.
    addresses: Arc<OnceLock<Addresses>>,
    under_way: Arc<UnderWay>,
}

/// What keeps examinations from piling up.
struct UnderWay {
    /// Held by the one examination.
    turn: Semaphore,
    /// Its result, and of when it is.
    last: Mutex<Option<(Instant, CheckupResponse)>>,
    /// Each held by a look that waits for the disk, for as long as it does.
    disk: Arc<Semaphore>,
    certificates: Arc<Semaphore>,
    system: Arc<Semaphore>,
    /// Failures of the store, and when one was counted last.
    store: Mutex<store::Errors>,
}

impl Default for UnderWay {
    fn default() -> UnderWay {
        let one = || Arc::new(Semaphore::new(1));
        UnderWay {
            turn: Semaphore::new(1),
            last: Mutex::default(),
            disk: one(),
            certificates: one(),
            system: one(),
            store: Mutex::default(),
        }
    }
}

impl UnderWay {
    fn last(&self) -> Option<CheckupResponse> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let young = |(at, _): &&(Instant, CheckupResponse)| mono_now().saturating_duration_since(*at) < KEPT;
        last.as_ref().filter(young).map(|(_, found)| found.clone())
    }

    /// The failures so far; remembers when their number grew.
    fn store(&self, api: &ApiState, now: UnixMillis) -> store::Errors {
        let mut known = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        *known = store::Errors::gather(&api.registry, &known, now);
        *known
    }

    fn keep(&self, found: &CheckupResponse) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((mono_now(), found.clone()));
    }
}

impl Examiner {
    /// Of a broker with this configuration.
    pub fn new(config: &BrokerConfig, geo: Option<watch::Receiver<GeoStatus>>) -> Examiner {
        Examiner {
            config: Arc::new(config.clone()),
            geo,
            addresses: Arc::default(),
            under_way: Arc::default(),
        }
    }

    /// Tells it where the broker is bound; only the first word counts.
    pub fn bound(&self, addresses: &Addresses) {
        let _ = self.addresses.set(addresses.clone());
    }

    /// Looks at everything, or says what was found a moment ago. Waits while somebody else looks.
    pub async fn examine(&self, api: &ApiState) -> CheckupResponse {
        // Never closed, so it is always got.
        let _turn = self.under_way.turn.acquire().await;
        if let Some(found) = self.under_way.last() {
            return found;
        }
        let found = self.look(api).await;
        self.under_way.keep(&found);
        found
    }

    async fn look(&self, api: &ApiState) -> CheckupResponse {
        let now = unix_now();
        let snapshot = api.snapshot.load_full();
        let config = &self.config;
        let driver = async { vec![fleet::judge(driver_answers(api).await, snapshot.published, now)] };
        let clocks = async { clock::judge(&clock::gather(api, now).await).into_iter().collect() };
        let (driver, on_files, clocks, peers) = tokio::join!(
            driver,
            self.on_files(now),
            part("clock", clocks),
            part("peers", peers::judge(api, now))
        );
        let mut findings = driver;
        findings.push(store::judge(&self.under_way.store(api, now)));
        findings.extend(on_files);
        findings.extend(clocks);
        findings.extend(self.geo.as_ref().map(|geo| geo::judge(&geo.borrow(), now)).unwrap_or_default());
        findings.extend(peers);
        findings.extend(dnssec::judge(&dnssec::gather(api, &snapshot.registry, now)));
        let serves = config::Serves {
            domains: snapshot.registry.domains.len(),
            world: self.addresses.get().is_some_and(|at| at.dns.iter().any(|a| !a.ip().is_loopback())),
        };
        findings.extend(config::judge(config, &api.settings, serves));
        if let Some(at) = self.addresses.get() {
            findings.extend(listeners::judge(at));
        }
        let listeners = self.addresses.get().map(listeners::views).unwrap_or_default();
        self.response(api, findings, listeners)
    }

    /// What waits for the disk or the kernel.
    async fn on_files(&self, now: UnixMillis) -> Vec<FindingView> {
        let UnderWay { disk, certificates, system, .. } = &*self.under_way;
        let config = || self.config.clone();
        let (of_disk, of_certificates, of_system) = (config(), config(), config());
        let (disk, certificates, system) = tokio::join!(
            blocking("disk", disk, move || disk::judge(&disk::gather(&of_disk.data_dir))),
            blocking("certificate", certificates, move || {
                certificates::judge(&certificates::gather(&of_certificates), now)
            }),
            blocking("system", system, move || {
                let mut findings = vec![limits::judge(&limits::gather(&of_system))];
                findings.push(memory::judge(&memory::gather()));
                findings.push(buffers::judge(buffers::gather()));
                findings.extend(access::judge(&access::gather(&of_system.admin.socket)));
                findings
            })
        );
        [system, disk, certificates].concat()
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

/// Whether the task that decides about mirrors turns.
async fn driver_answers(api: &ApiState) -> bool {
    let (alive, said) = oneshot::channel();
    api.fleet.driver.try_send(DriverInput::Alive(alive))
        && matches!(tokio::time::timeout(PATIENCE, said).await, Ok(Ok(())))
}

/// A part of the examination, within its time.
async fn part(subject: &str, look: impl Future<Output = Vec<FindingView>>) -> Vec<FindingView> {
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| vec![silent(subject)])
}

fn silent(subject: &str) -> FindingView {
    fail(
        subject,
        format!("whoever knows did not answer within {} s", PATIENCE.as_secs()),
        "is the machine out of CPU (`top`) or its disk stuck (`dmesg`, `iostat -x 1`)? If not, restart the broker and \
         keep its log",
    )
}

/// A part that may hang in the kernel. It keeps its permit until it comes back, so that a disk that is stuck
/// costs one thread, however often somebody asks.
async fn blocking(
    subject: &str,
    one: &Arc<Semaphore>,
    look: impl FnOnce() -> Vec<FindingView> + Send + 'static,
) -> Vec<FindingView> {
    let Ok(permit) = one.clone().try_acquire_owned() else { return vec![silent(subject)] };
    let looked = tokio::task::spawn_blocking(move || {
        let found = look();
        drop(permit);
        found
    });
    match tokio::time::timeout(PATIENCE, looked).await {
        Ok(Ok(found)) => found,
        Ok(Err(e)) => {
            vec![fail(subject, format!("the look at it failed: {e}"), "look into the broker's log")]
        }
        Err(_) => vec![silent(subject)],
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

    #[tokio::test]
    async fn a_look_that_hangs_is_told_and_not_begun_again() {
        let one = Arc::new(Semaphore::new(1));
        let hangs = one.clone().try_acquire_owned().unwrap();
        let found = blocking("disk", &one, Vec::new).await;
        assert_eq!((&*found[0].subject, &*found[0].level), ("disk", "fail"));
        drop(hangs);
        assert!(blocking("disk", &one, Vec::new).await.is_empty());
        let found = part("peers", std::future::pending()).await;
        assert_eq!((&*found[0].subject, &*found[0].level), ("peers", "fail"));
    }

    #[test]
    fn figures_are_for_people() {
        assert_eq!([bytes(5), bytes(1536), bytes(3 << 30)], ["5 bytes", "1.5 KiB", "3.0 GiB"]);
        assert_eq!([span(1500), span(180_000), span(86_400_000 * 3)], ["1 s", "3 min", "3 days"]);
    }
}

//! The table follows its files; a broken one changes nothing.

use super::*;
use crate::geoip::load::{EMBEDDED_NAME, GeoSettings};
use crate::geoip::testing::nested_city;
use crate::geoip::{GeoMetrics, GeoService, GeoStatus, ReloadError};
use nearmost_core::geo::{Place, PlaceSource};
use prometheus::Registry;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

fn city(country: &'static str) -> Vec<u8> {
    TestDatabase::new("City", &[("192.0.2.0/24", nested_city(country, 51.5, -0.1))]).bytes()
}

/// As downloaders do: a new file renamed over the old one.
fn replace(file: &Path, bytes: &[u8]) {
    let new = file.with_extension("new");
    std::fs::write(&new, bytes).unwrap();
    std::fs::rename(&new, file).unwrap();
}

fn settings(file: &Path) -> GeoSettings {
    GeoSettings { embedded: false, databases: vec![file.to_path_buf()], watch: true, overrides: vec![] }
}

struct Started {
    service: GeoService,
    tables: watch::Receiver<Arc<PlaceTable>>,
    status: watch::Receiver<GeoStatus>,
    registry: Registry,
    cancel: CancellationToken,
}

async fn start(settings: GeoSettings) -> Started {
    let registry = Registry::new();
    let metrics = GeoMetrics::new(&registry).unwrap();
    let cancel = CancellationToken::new();
    let (service, tables) = GeoService::start(settings, metrics, cancel.clone()).await.unwrap();
    Started { status: service.status(), service, tables, registry, cancel }
}

impl Started {
    /// Awaits a state; a minute is for slow machines, not a delay.
    async fn until(&mut self, reached: impl FnMut(&GeoStatus) -> bool) -> GeoStatus {
        let waiting = tokio::time::timeout(Duration::from_secs(60), self.status.wait_for(reached));
        waiting.await.expect("reached within a minute").expect("the service runs").clone()
    }

    fn country(&self) -> Option<String> {
        country(&self.tables.borrow(), "192.0.2.1")
    }

    /// The value of a metric's only series whose labels hold `label`.
    fn metric(&self, name: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == name).unwrap_or_else(|| panic!("no {name}"));
        let of = |m: &prometheus::proto::Metric| m.get_counter().get_value() + m.get_gauge().get_value();
        let labelled = |m: &&prometheus::proto::Metric| {
            label.is_empty() || m.get_label().iter().any(|l| l.value() == label)
        };
        family.get_metric().iter().find(labelled).map_or(0.0, of)
    }
}

#[tokio::test]
async fn a_changed_file_is_compiled_and_a_broken_one_in_between_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("city.mmdb");
    let name = file.display().to_string();
    replace(&file, &city("GB"));
    let mut geo = start(settings(&file)).await;
    assert_eq!(geo.country().as_deref(), Some("GB"));
    assert_eq!(geo.metric("nearmost_geo_watching", ""), 1.0);

    replace(&file, &city("FR")[..100]);
    let status = geo.until(|s| s.refused == 1).await;
    assert!(status.last_error.is_some_and(|e| e.starts_with(&name)));
    assert_eq!((geo.country().as_deref(), status.compiled), (Some("GB"), 1));
    assert_eq!(geo.metric("nearmost_geo_databases_refused_total", &name), 1.0);
    assert_eq!(geo.metric("nearmost_geo_reloads_total", "refused"), 1.0);

    replace(&file, &city("DE"));
    let status = geo.until(|s| s.compiled == 2).await;
    assert_eq!((geo.country().as_deref(), status.last_error), (Some("DE"), None));

    // Written in place, not renamed.
    std::fs::write(&file, city("NL")).unwrap();
    geo.until(|s| s.compiled >= 3).await;
    assert_eq!(geo.country().as_deref(), Some("NL"));

    // Gone, and back.
    std::fs::remove_file(&file).unwrap();
    geo.until(|s| s.last_error.is_some()).await;
    assert_eq!(geo.country().as_deref(), Some("NL"));
    replace(&file, &city("SE"));
    geo.until(|s| s.last_error.is_none()).await;
    assert_eq!(geo.country().as_deref(), Some("SE"));
    assert_eq!(geo.metric("nearmost_geo_database_build_timestamp_seconds", &name), 1_700_000_000.0);
}

#[tokio::test]
async fn a_replaced_symbolic_link_is_a_changed_file() {
    let dir = tempfile::tempdir().unwrap();
    let releases = tempfile::tempdir().unwrap();
    let link = dir.path().join("city.mmdb");
    let point_to = |release: &str, country| {
        let target = releases.path().join(release);
        std::fs::write(&target, city(country)).unwrap();
        let new = dir.path().join("new");
        std::os::unix::fs::symlink(&target, &new).unwrap();
        std::fs::rename(&new, &link).unwrap();
    };
    point_to("1", "GB");
    let mut geo = start(settings(&link)).await;
    point_to("2", "FR");
    geo.until(|s| s.compiled == 2).await;
    assert_eq!(geo.country().as_deref(), Some("FR"));
}

#[tokio::test]
async fn reload_tells_its_outcome_and_takes_other_settings_only_if_they_work() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (dir.path().join("good.mmdb"), dir.path().join("bad.mmdb"));
    replace(&good, &city("GB"));
    replace(&bad, b"");
    let mut geo = start(settings(&good)).await;
    geo.service.reload().await.unwrap();
    assert_eq!(geo.status.borrow().compiled, 2);

    let refused = geo.service.reload_with(settings(&bad)).await.unwrap_err();
    assert!(matches!(&refused, ReloadError::Refused(GeoError::Empty { .. })), "{refused}");
    assert_eq!(geo.country().as_deref(), Some("GB"));

    // The old file is the one still watched.
    replace(&good, &city("FR"));
    geo.until(|s| s.compiled == 3).await;
    assert_eq!(geo.country().as_deref(), Some("FR"));

    let japan = Place { country: Some(code("JP")), ..Place::default() };
    let corrected =
        GeoSettings { overrides: vec![("192.0.2.0/25".parse().unwrap(), japan)], ..settings(&good) };
    geo.service.reload_with(corrected).await.unwrap();
    let report = geo.service.lookup(ip("::ffff:192.0.2.1"));
    assert_eq!(report.address, ip("192.0.2.1"));
    assert_eq!((report.country_name, report.continent), (Some("Japan"), Some("AS")));
    assert_eq!((report.source.as_str(), report.located.source), ("override", PlaceSource::Override));
    assert_eq!(report.located.cell.to_string(), "192.0.2.0/25");

    geo.cancel.cancel();
    // The task has ended when it no longer holds the status.
    while geo.status.changed().await.is_ok() {}
    assert!(matches!(geo.service.reload().await, Err(ReloadError::Stopped)));
}

#[tokio::test]
async fn a_broken_database_refuses_the_start_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("city.mmdb");
    std::fs::write(&file, b"").unwrap();
    let metrics = GeoMetrics::new(&Registry::new()).unwrap();
    let settings = GeoSettings { embedded: true, ..settings(&file) };
    let error = GeoService::start(settings, metrics, CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("{}: is empty (zero bytes)", file.display()));
}

#[tokio::test]
async fn without_databases_the_embedded_one_answers_and_nothing_is_watched() {
    let geo = start(GeoSettings::default()).await;
    let report = geo.service.lookup(ip("193.0.6.139"));
    assert_eq!((report.country_name, report.source.as_str()), (Some("Netherlands"), EMBEDDED_NAME));
    assert_eq!(geo.metric("nearmost_geo_watching", ""), 0.0);
    assert!(geo.metric("nearmost_geo_ranges", "") > 100_000.0);
}

#[tokio::test]
async fn files_that_are_not_watched_change_nothing_until_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("city.mmdb");
    replace(&file, &city("GB"));
    let mut geo = start(GeoSettings { watch: false, ..settings(&file) }).await;
    assert_eq!(geo.metric("nearmost_geo_watching", ""), 0.0);
    replace(&file, &city("FR"));
    // From now on it is watched; that alone reads the file once.
    geo.service.reload_with(settings(&file)).await.unwrap();
    assert_eq!(geo.status.borrow().compiled, 2, "the change was not followed before");
    assert_eq!(geo.country().as_deref(), Some("FR"));
    assert_eq!(geo.metric("nearmost_geo_watching", ""), 1.0);
    replace(&file, &city("JP"));
    geo.until(|s| s.compiled == 3).await;
    assert_eq!(geo.country().as_deref(), Some("JP"));
}

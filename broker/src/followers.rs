//! Small tasks that pass on what changed from one part of the broker to another.

use crate::api::Readiness;
use crate::driver::{DriverHandle, DriverInput};
use crate::geoip::GeoService;
use ipnet::IpNet;
use nearmost_core::geo::Place;
use nearmost_core::geo::table::PlaceTable;
use nearmost_core::registry::Registry;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Pause before corrections that were not taken are tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// Tells the driver of every geo table.
pub async fn follow_places(
    mut places: watch::Receiver<Arc<PlaceTable>>,
    driver: DriverHandle,
    cancel: CancellationToken,
) {
    loop {
        // The driver has the table of when it was made, and takes no table twice.
        let table = places.borrow_and_update().clone();
        driver.send(DriverInput::Places(table)).await;
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = places.changed() => if changed.is_err() { return },
        }
    }
}

/// Lays corrected places over the geo table; says whether they are in use. Why not is in the log.
pub async fn correct(geo: &GeoService, overrides: &[(IpNet, Place)]) -> bool {
    geo.correct(overrides.to_vec()).await.is_ok()
}

/// Lays the registry's corrected places over the geo table whenever they change, and again after a while
/// where that failed.
pub async fn follow_corrections(mut registry: watch::Receiver<Arc<Registry>>, geo: GeoService) {
    let mut laid = None;
    loop {
        let overrides = registry.borrow_and_update().overrides.clone();
        if laid.as_ref() != Some(&overrides) {
            laid = correct(&geo, &overrides).await.then_some(overrides);
        }
        match laid {
            Some(_) if registry.changed().await.is_err() => return std::future::pending().await,
            Some(_) => {}
            // Whether it changed or not, it is tried.
            None => drop(tokio::time::timeout(AGAIN, registry.changed()).await),
        }
    }
}

/// Says that the broker is ready once the configured geo databases are in use.
pub async fn follow_readiness(geo: GeoService, ready: watch::Sender<Readiness>) {
    let mut status = geo.status();
    let complete = status.wait_for(|s| s.complete).await.is_ok();
    ready.send_modify(|r| r.places_complete |= complete);
    std::future::pending().await
}

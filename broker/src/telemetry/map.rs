//! What is told of the map's cells.

use super::{gauge, registered};
use crate::mapping::Totals;
use prometheus::{Error, Histogram, HistogramOpts, IntGauge, Registry};

/// Upper bounds of the time to build the cells of one set, in seconds.
const BUILD_SECONDS: [f64; 9] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How far the cells of the map are built.
#[derive(Clone)]
pub struct MapMetrics {
    /// `nearmost_map_sets`: different sets of mirrors; domains whose mirrors are the same share one.
    sets: IntGauge,
    /// `nearmost_map_sets_built`: sets whose cells are built.
    built: IntGauge,
    /// `nearmost_map_sets_waiting`: sets that are asked for and whose cells are not built yet, or
    /// not for the newest model and geo table.
    waiting: IntGauge,
    /// `nearmost_map_cells`: cells of all sets.
    cells: IntGauge,
    /// `nearmost_map_cell_bytes`: memory of the cells.
    bytes: IntGauge,
    /// `nearmost_map_building`: 1 while cells are being built.
    pub building: IntGauge,
    /// `nearmost_map_build_seconds`: time to build the cells of one set.
    pub build_seconds: Histogram,
}

impl MapMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(registry: &Registry) -> Result<MapMetrics, Error> {
        let build_seconds = HistogramOpts::new(
            "nearmost_map_build_seconds",
            "Time to build the cells of one set of mirrors.",
        );
        Ok(MapMetrics {
            sets: gauge(registry, "nearmost_map_sets", "Different sets of mirrors.")?,
            built: gauge(registry, "nearmost_map_sets_built", "Sets of mirrors whose cells are built.")?,
            waiting: gauge(
                registry,
                "nearmost_map_sets_waiting",
                "Sets of mirrors whose cells are to be built, or built anew.",
            )?,
            cells: gauge(registry, "nearmost_map_cells", "Cells of all sets of mirrors.")?,
            bytes: gauge(registry, "nearmost_map_cell_bytes", "Memory of the cells.")?,
            building: gauge(registry, "nearmost_map_building", "1 while cells are being built.")?,
            build_seconds: registered(
                registry,
                Histogram::with_opts(build_seconds.buckets(BUILD_SECONDS.to_vec()))?,
            )?,
        })
    }

    pub(crate) fn show(&self, totals: &Totals) {
        let set = |gauge: &IntGauge, n: usize| gauge.set(i64::try_from(n).unwrap_or(i64::MAX));
        set(&self.sets, totals.sets);
        set(&self.built, totals.built);
        set(&self.waiting, totals.waiting);
        set(&self.cells, totals.cells);
        set(&self.bytes, totals.bytes);
    }
}

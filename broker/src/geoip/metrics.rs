//! What the geo subsystem tells of itself.

use super::load::Compiled;
use nearmost_core::geo::table::PlaceTable;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// Metrics of the geo table. The label `database` is a configured path or `embedded`.
#[derive(Clone, Debug)]
pub struct GeoMetrics {
    /// `nearmost_geo_reloads_total{result}`: compilations of the table, `ok` or `refused`; the one
    /// at the start counts.
    pub reloads: IntCounterVec,
    /// `nearmost_geo_databases_refused_total{database}`: times a database was refused.
    pub refused: IntCounterVec,
    /// `nearmost_geo_ranges`: address ranges in the table, both families.
    pub ranges: IntGauge,
    /// `nearmost_geo_places`: distinct places in the table.
    pub places: IntGauge,
    /// `nearmost_geo_table_bytes`: memory the table holds.
    pub table_bytes: IntGauge,
    /// `nearmost_geo_database_networks{database}`: networks a database gives a part of a place for.
    pub database_networks: IntGaugeVec,
    /// `nearmost_geo_database_build_timestamp_seconds{database}`: when its maker built a database.
    pub database_build: IntGaugeVec,
    /// `nearmost_geo_watching`: 1 while changes of database files are noticed, 0 when only an
    /// explicit reload reads them again (or no file is configured).
    pub watching: IntGauge,
    /// `nearmost_geo_compile_seconds`: time to read and compile all databases.
    pub compile_seconds: Histogram,
    /// `nearmost_geo_compiling`: 1 while databases are being read and compiled.
    pub compiling: IntGauge,
    /// `nearmost_geo_compiling_networks`: networks read by the compilation under way, or the last one.
    pub networks_read: IntGauge,
    /// `nearmost_geo_corrections`: prefixes whose places people corrected.
    pub corrections: IntGauge,
}

impl GeoMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When a metric of the same name is registered already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = GeoMetrics {
            reloads: IntCounterVec::new(
                Opts::new("nearmost_geo_reloads_total", "Compilations of the geo table by result."),
                &["result"],
            )?,
            refused: IntCounterVec::new(
                Opts::new("nearmost_geo_databases_refused_total", "Times a geo database was refused."),
                &["database"],
            )?,
            ranges: IntGauge::new("nearmost_geo_ranges", "Address ranges in the geo table.")?,
            places: IntGauge::new("nearmost_geo_places", "Distinct places in the geo table.")?,
            table_bytes: IntGauge::new("nearmost_geo_table_bytes", "Memory the geo table holds.")?,
            database_networks: IntGaugeVec::new(
                Opts::new("nearmost_geo_database_networks", "Networks a geo database places."),
                &["database"],
            )?,
            database_build: IntGaugeVec::new(
                Opts::new(
                    "nearmost_geo_database_build_timestamp_seconds",
                    "When a geo database was built, in seconds since 1970.",
                ),
                &["database"],
            )?,
            watching: IntGauge::new("nearmost_geo_watching", "1 while geo database files are watched.")?,
            compile_seconds: Histogram::with_opts(
                HistogramOpts::new("nearmost_geo_compile_seconds", "Time to compile the geo table.")
                    .buckets(vec![0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0]),
            )?,
            compiling: IntGauge::new(
                "nearmost_geo_compiling",
                "1 while geo databases are being read and compiled.",
            )?,
            networks_read: IntGauge::new(
                "nearmost_geo_compiling_networks",
                "Networks read by the compilation under way, or by the last one.",
            )?,
            corrections: IntGauge::new(
                "nearmost_geo_corrections",
                "Prefixes whose places people corrected.",
            )?,
        };
        // What never happened is seen not to have happened.
        ["ok", "refused"].iter().for_each(|result| metrics.reloads.with_label_values(&[result]).inc_by(0));
        metrics.register(registry)?;
        Ok(metrics)
    }

    fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.reloads.clone()))?;
        registry.register(Box::new(self.refused.clone()))?;
        registry.register(Box::new(self.ranges.clone()))?;
        registry.register(Box::new(self.places.clone()))?;
        registry.register(Box::new(self.table_bytes.clone()))?;
        registry.register(Box::new(self.database_networks.clone()))?;
        registry.register(Box::new(self.database_build.clone()))?;
        registry.register(Box::new(self.watching.clone()))?;
        registry.register(Box::new(self.compile_seconds.clone()))?;
        registry.register(Box::new(self.compiling.clone()))?;
        registry.register(Box::new(self.networks_read.clone()))?;
        registry.register(Box::new(self.corrections.clone()))
    }

    /// A table came into use, with what was corrected.
    pub(super) fn on_published(&self, table: &PlaceTable) {
        self.ranges.set(gauge(table.ranges()));
        self.places.set(gauge(table.places()));
        self.table_bytes.set(gauge(table.memory_bytes()));
    }

    /// The databases were compiled.
    pub(super) fn on_compiled(&self, compiled: &Compiled) {
        self.reloads.with_label_values(&["ok"]).inc();
        // Databases no longer configured must not be told of.
        self.database_networks.reset();
        self.database_build.reset();
        for info in &compiled.databases {
            let label = [info.name.as_str()];
            self.refused.with_label_values(&label).inc_by(0);
            self.database_networks.with_label_values(&label).set(gauge(info.networks));
            let built = i64::try_from(info.build_epoch_s).unwrap_or(i64::MAX);
            self.database_build.with_label_values(&label).set(built);
        }
    }

    /// A database was refused.
    pub(super) fn on_refused(&self, database: &str) {
        self.reloads.with_label_values(&["refused"]).inc();
        self.refused.with_label_values(&[database]).inc();
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

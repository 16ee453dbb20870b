//! Cells of sets of mirrors, built in the background for the sets that are asked for.
//!
//! ```text
//!  snapshot (sets, who asked) ─▶ planner: what next? ─▶ build, in a blocking thread ─▶ driver: next map
//!            ▲                                                                            │
//!            └──────────────────────────── published ─────────────────────────────────────┘
//! ```
//!
//! Until a set's cells are there, and where there is no memory for them, queries rank by themselves:
//! the answers are as good, and hold for smaller networks. So nothing waits for this task.

mod planner;

pub(crate) use self::planner::Totals;
use self::planner::{Planner, Step};
use crate::clock::{mono_now, unix_now};
use crate::driver::{DriverHandle, DriverInput};
use crate::publish::{News, SnapshotReader};
use crate::telemetry::MapMetrics;
use nearmost_core::map::{CellTable, Map};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout;

/// How often sets are looked at for whether somebody asked.
const LOOK: Duration = Duration::from_secs(1);
/// How often progress is told while many sets wait.
const TELL: Duration = Duration::from_secs(2);

/// What the task works with.
pub struct MappingParts {
    /// Maps are read from it.
    pub snapshot: SnapshotReader,
    /// Tells of new maps.
    pub news: watch::Receiver<News>,
    /// Cells go there.
    pub driver: DriverHandle,
    /// Bytes that the cells of all sets together may take.
    pub memory: usize,
    /// Counters.
    pub metrics: MapMetrics,
}

/// Sets built since the last time that none waited.
struct Round {
    began: Instant,
    told: Instant,
    built: usize,
}

/// Builds cells for as long as it is let.
pub async fn run(mut parts: MappingParts) {
    let mut planner = Planner::new(parts.memory);
    let mut round: Option<Round> = None;
    loop {
        parts.news.mark_unchanged();
        let map = parts.snapshot.load().map.clone();
        let step = planner.next(&map, unix_now(), mono_now());
        parts.metrics.show(&planner.totals(&map));
        match step {
            Step::Build(at) => {
                let round = round.get_or_insert_with(|| Round::begin(mono_now()));
                parts.metrics.building.set(1);
                build(&mut parts, &mut planner, &map, at).await;
                round.built += 1;
                round.tell(planner.waiting());
            }
            Step::GiveUp(sets) => {
                let sets = sets.into_iter().filter_map(|at| map.sets.entries().get(at));
                let gone = sets.map(|entry| (entry.set.clone(), None)).collect();
                hand_over(&mut parts, gone).await;
            }
            Step::Rest => {
                parts.metrics.building.set(0);
                if let Some(round) = round.take() {
                    round.end(&planner.totals(&map));
                }
                // Whether a new map came or a second passed: look again. Without a driver there is no
                // next map; who notices that it is gone says so.
                if let Ok(Err(_)) = timeout(LOOK, parts.news.changed()).await {
                    return std::future::pending().await;
                }
            }
        }
    }
}

async fn build(parts: &mut MappingParts, planner: &mut Planner, map: &Arc<Map>, at: usize) {
    let Some(entry) = map.sets.entries().get(at).cloned() else { return };
    let (places, set) = (map.places.clone(), entry.set.clone());
    let began = mono_now();
    let work = move || CellTable::build(&set, &places, entry.cells.as_deref(), unix_now());
    let built = tokio::task::spawn_blocking(work).await;
    let took = mono_now() - began;
    let Ok(cells) = built.inspect_err(|error| tracing::error!(%error, "cells were not built")) else {
        return planner.failed(map, at, mono_now());
    };
    parts.metrics.build_seconds.observe(took.as_secs_f64());
    tracing::debug!(cells = cells.cells(), bytes = cells.memory_bytes(), ?took, "cells of a set built");
    if planner.built(map, at, cells.memory_bytes(), mono_now(), took) {
        let set = cells.set().clone();
        hand_over(parts, vec![(set, Some(Arc::new(cells)))]).await;
    }
}

type Built = Vec<(Arc<nearmost_core::map::MirrorSet>, Option<Arc<CellTable>>)>;

/// Waits until a map has them, unless it has moved on meanwhile.
async fn hand_over(parts: &mut MappingParts, built: Built) {
    let version = parts.snapshot.load().map.version;
    parts.driver.send(DriverInput::Cells(built)).await;
    let _ = timeout(LOOK, parts.news.wait_for(|news| news.map > version)).await;
}

impl Round {
    fn begin(now: Instant) -> Round {
        tracing::info!("building cells of mirrors that are asked for");
        Round { began: now, told: now, built: 0 }
    }

    fn tell(&mut self, waiting: usize) {
        let now = mono_now();
        if waiting > 0 && now - self.told >= TELL {
            self.told = now;
            tracing::info!(built = self.built, waiting, "building cells");
        }
    }

    fn end(self, totals: &planner::Totals) {
        tracing::info!(
            built = self.built,
            sets = totals.built,
            cells = totals.cells,
            bytes = totals.bytes,
            seconds = (mono_now() - self.began).as_secs_f64(),
            "cells built"
        );
    }
}

//! The one writer of the snapshot that queries read (DESIGN §3.2).
//!
//! Readers load an `Arc` and never wait. The writer keeps every snapshot it replaced until no
//! reader holds it, so the memory of a large one is freed on the writer's side, never on a query.

use arc_swap::ArcSwap;
use nearmost_core::live::Live;
use nearmost_core::map::Map;
use nearmost_core::registry::Registry;
use nearmost_core::snapshot::Snapshot;
use nearmost_core::time::UnixMillis;
use std::sync::Arc;
use tokio::sync::watch;

/// What readers hold.
pub type SnapshotReader = Arc<ArcSwap<Snapshot>>;

/// Owned by the fleet's driver.
pub struct Publisher {
    reader: SnapshotReader,
    retired: Vec<Arc<Snapshot>>,
    news: watch::Sender<News>,
}

/// What a snapshot changed, for tasks that follow: they read the snapshot itself when they have time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Snapshots published so far.
    pub published: u64,
    /// Version of the map.
    pub map: u64,
    /// Version of the registry.
    pub registry: u64,
}

impl Default for Publisher {
    fn default() -> Self {
        let empty = Snapshot {
            registry: Arc::new(Registry::default()),
            map: Arc::new(Map::default()),
            live: Arc::new(Live::default()),
            published: UnixMillis::default(),
        };
        let (news, _) = watch::channel(News::default());
        Publisher { reader: Arc::new(ArcSwap::from_pointee(empty)), retired: Vec::new(), news }
    }
}

impl Publisher {
    /// For queries.
    pub fn reader(&self) -> SnapshotReader {
        self.reader.clone()
    }

    /// Tells of every snapshot.
    pub fn news(&self) -> watch::Receiver<News> {
        self.news.subscribe()
    }

    /// Replaces the snapshot. `live` must have one entry for each mirror of `registry`.
    pub fn publish(&mut self, snapshot: Snapshot) {
        debug_assert_eq!(snapshot.live.mirrors.len(), snapshot.registry.mirrors.len());
        let (map, registry) = (snapshot.map.version, snapshot.registry.version);
        self.retired.push(self.reader.swap(Arc::new(snapshot)));
        self.retired.retain(|old| Arc::strong_count(old) > 1);
        self.news.send_modify(|news| *news = News { published: news.published + 1, map, registry });
    }

    /// Replaced snapshots that some reader still holds.
    pub fn retired(&self) -> usize {
        self.retired.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(version: u64) -> Snapshot {
        Snapshot {
            registry: Arc::new(Registry { version, ..Registry::default() }),
            map: Arc::new(Map::default()),
            live: Arc::new(Live::default()),
            published: UnixMillis(version),
        }
    }

    #[test]
    fn a_snapshot_held_by_a_reader_is_freed_by_the_writer() {
        let mut publisher = Publisher::default();
        let reader = publisher.reader();
        publisher.publish(snapshot(1));
        let held = reader.load_full();
        publisher.publish(snapshot(2));
        publisher.publish(snapshot(3));
        assert_eq!(publisher.retired(), 1);
        assert_eq!(held.registry.version, 1);
        drop(held);
        publisher.publish(snapshot(4));
        assert_eq!(publisher.retired(), 0);
    }
}

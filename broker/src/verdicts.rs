//! The last verdicts, kept in the store over a restart.

use crate::backoff::Backoff;
use crate::driver::VerdictSink;
use crate::store::{StoreError, StoreHandle};
use nearmost_core::fleet::PersistedVerdict;
use std::time::Duration;
use tokio::sync::watch;

/// Pauses between attempts to write.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// Writes the newest set of verdicts; sets that come faster than the disk takes them are skipped.
pub struct StoredVerdicts {
    newest: watch::Sender<Vec<PersistedVerdict>>,
}

impl StoredVerdicts {
    /// The sink, and the task that writes until the sink is dropped.
    pub fn new(store: StoreHandle) -> (StoredVerdicts, impl Future<Output = ()> + Send + 'static) {
        let (newest, changes) = watch::channel(Vec::new());
        let save = move |verdicts: Vec<PersistedVerdict>| {
            let store = store.clone();
            async move { store.save_verdicts(encode(&verdicts)).await }
        };
        (StoredVerdicts { newest }, write(changes, save, RETRY))
    }
}

/// Writes every change, or the newest of several; what cannot be written is tried again. The last
/// set gets one attempt more when nobody can change it any longer.
async fn write<F>(
    mut changes: watch::Receiver<Vec<PersistedVerdict>>,
    save: impl Fn(Vec<PersistedVerdict>) -> F,
    mut backoff: Backoff,
) where
    F: Future<Output = Result<(), StoreError>>,
{
    let mut open = changes.changed().await.is_ok();
    while open {
        let verdicts = changes.borrow_and_update().clone();
        match save(verdicts).await {
            Ok(()) => {
                backoff.reset();
                open = changes.changed().await.is_ok();
            }
            Err(error) => {
                tracing::error!(%error, "verdicts are not kept; a restart would start from older ones");
                if !pause(&mut changes, backoff.pause()).await {
                    let last = changes.borrow_and_update().clone();
                    // Its failure is as the one just told.
                    let _ = save(last).await;
                    return;
                }
            }
        }
    }
}

/// Waits; `false` as soon as no more changes can come.
async fn pause(changes: &mut watch::Receiver<Vec<PersistedVerdict>>, pause: Duration) -> bool {
    let closed = async { while changes.changed().await.is_ok() {} };
    tokio::select! {
        () = tokio::time::sleep(pause) => true,
        () = closed => false,
    }
}
impl VerdictSink for StoredVerdicts {
    fn save(&self, verdicts: Vec<PersistedVerdict>) {
        self.newest.send_replace(verdicts);
    }
}

fn encode(verdicts: &[PersistedVerdict]) -> Vec<(String, Vec<u8>)> {
    let one = |v: &PersistedVerdict| {
        let key = format!("{}/{}/{}", v.domain, v.mirror, v.family.as_str());
        // Plain data always encodes as JSON; were it not so, this verdict would start as unknown.
        serde_json::to_vec(v).ok().map(|json| (key, json))
    };
    verdicts.iter().filter_map(one).collect()
}

/// What was kept; entries that cannot be read are named in the log and start as unknown.
pub async fn load(store: &StoreHandle) -> Result<Vec<PersistedVerdict>, StoreError> {
    let kept = store.load_verdicts().await?;
    let one = |(key, json): (String, Vec<u8>)| match serde_json::from_slice(&json) {
        Ok(verdict) => Some(verdict),
        Err(error) => {
            tracing::warn!(key, %error, "a kept verdict cannot be read");
            None
        }
    };
    Ok(kept.into_iter().filter_map(one).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_core::health::{Family, Verdict};
    use std::sync::Mutex;
    use tokio::sync::mpsc;

    fn set(mirror: &str) -> Vec<PersistedVerdict> {
        let (domain, mirror) = ("d.example".into(), mirror.into());
        vec![PersistedVerdict {
            domain,
            mirror,
            family: Family::V4,
            verdict: Verdict::default(),
            addr: None,
            awaits_release: false,
            frozen: None,
            flaps: None,
        }]
    }

    /// A writer whose first `failures` attempts fail; what it was asked to write.
    fn writer(failures: usize) -> (StoredVerdicts, mpsc::UnboundedReceiver<String>) {
        let (newest, changes) = watch::channel(Vec::new());
        let (tell, told) = mpsc::unbounded_channel();
        let left = Mutex::new(failures);
        let save = move |verdicts: Vec<PersistedVerdict>| {
            let fails = {
                let mut left = left.lock().unwrap();
                let fails = *left > 0;
                *left = left.saturating_sub(1);
                fails
            };
            tell.send(verdicts[0].mirror.clone()).unwrap();
            async move { if fails { Err(StoreError::Stopped) } else { Ok(()) } }
        };
        let backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(4));
        tokio::spawn(write(changes, save, backoff));
        (StoredVerdicts { newest }, told)
    }

    #[tokio::test]
    async fn a_failed_write_is_repeated_with_the_newest_set() {
        let (sink, mut told) = writer(3);
        sink.save(set("first"));
        assert_eq!(told.recv().await.as_deref(), Some("first"));
        sink.save(set("second"));
        // Whatever was being tried, the newest is written in the end, and only once more.
        let mut tries = 1;
        let mut last = String::new();
        while tries < 4 {
            last = told.recv().await.unwrap();
            tries += 1;
        }
        assert_eq!(last, "second");
        sink.save(set("third"));
        assert_eq!(told.recv().await.as_deref(), Some("third"));
    }

    #[tokio::test]
    async fn the_last_set_gets_another_attempt_at_the_end() {
        let (sink, mut told) = writer(1);
        sink.save(set("only"));
        drop(sink);
        assert_eq!(told.recv().await.as_deref(), Some("only"));
        assert_eq!(told.recv().await.as_deref(), Some("only"));
        assert_eq!(told.recv().await, None);
    }
}

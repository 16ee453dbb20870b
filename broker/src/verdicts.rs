//! The last verdicts, kept in the store over a restart.

use crate::driver::VerdictSink;
use crate::store::{StoreError, StoreHandle};
use nearmost_core::fleet::PersistedVerdict;
use tokio::sync::watch;

/// Writes the newest set of verdicts; sets that come faster than the disk takes them are skipped.
pub struct StoredVerdicts {
    newest: watch::Sender<Vec<PersistedVerdict>>,
}

impl StoredVerdicts {
    /// The sink, and the task that writes until the sink is dropped.
    pub fn new(store: StoreHandle) -> (StoredVerdicts, impl Future<Output = ()> + Send + 'static) {
        let (newest, mut changes) = watch::channel(Vec::new());
        let write = async move {
            while changes.changed().await.is_ok() {
                let verdicts = changes.borrow_and_update().clone();
                if let Err(error) = store.save_verdicts(encode(&verdicts)).await {
                    tracing::error!(%error, "verdicts are not kept; a restart would start from older ones");
                }
            }
        };
        (StoredVerdicts { newest }, write)
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

//! This broker's clock against those that signed what it was told lately.
//!
//! A record bears the hybrid clock of its author, which is never behind its author's own clock: one that is
//! ahead of ours when it comes in means that some machine is ahead of this one.

use super::{fail, ok, warn};
use crate::api::ApiState;
use data_encoding::BASE64;
use nearmost_core::time::UnixMillis;
use nearmost_replica::SignedRecord;
use nearmost_wire::api::{FindingView, HistoryView};

/// Records looked at.
const RECORDS: usize = 100;
/// So much ahead is to be looked at, or wrong.
const WARN_MS: u64 = 2_000;
const FAIL_MS: u64 = 30_000;
/// Records that came in so long ago say nothing of clocks now.
const LATELY_MS: u64 = 86_400_000;

/// How far the clocks of records were ahead of ours when we took them, at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ahead {
    ms: u64,
    records: usize,
}

pub(super) async fn gather(api: &ApiState, now: UnixMillis) -> Ahead {
    let mut history = api.admin.history(None, RECORDS).await.unwrap_or_default();
    history.retain(|view| now.0.saturating_sub(view.at_unix_ms) < LATELY_MS);
    let ahead = |view: &HistoryView| {
        let bytes = BASE64.decode(view.record.as_bytes()).ok()?;
        let record = SignedRecord::decode(&bytes).ok()?;
        Some(record.record().hlc.millis.saturating_sub(view.at_unix_ms))
    };
    Ahead { ms: history.iter().filter_map(ahead).max().unwrap_or(0), records: history.len() }
}

pub(super) fn judge(ahead: &Ahead) -> Option<FindingView> {
    if ahead.records == 0 {
        return None;
    }
    let by = ahead.ms as f64 / 1000.0;
    let message = format!(
        "of the {} records of the last day one was {by:.1} s ahead of this broker's clock",
        ahead.records
    );
    let fix = "this clock is behind, or that of a person or peer is ahead: run `timedatectl` on the machines and switch on \
               NTP where it is off";
    Some(match ahead.ms {
        FAIL_MS.. => fail("clock", message, fix),
        WARN_MS.. => warn("clock", message, fix),
        _ => ok(
            "clock",
            format!("agrees with those that signed the {} records of the last day", ahead.records),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_ahead_are_told() {
        let level = |ms| judge(&Ahead { ms, records: 3 }).unwrap().level;
        assert_eq!([level(5), level(5_000), level(60_000)], ["ok", "warn", "fail"]);
        assert_eq!(judge(&Ahead::default()), None);
    }
}

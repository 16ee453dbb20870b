//! The store: calls that failed because of the disk, the file or its thread.

use super::{fail, ok, warn};
use nearmost_core::time::UnixMillis;
use nearmost_wire::api::FindingView;

/// The metric that counts them.
const ERRORS: &str = "nearmost_store_errors_total";
const REFUSED: &str = "nearmost_store_batches_refused_total";
/// One of so long ago is over, though worth a look.
const FRESH_MS: u64 = 600_000;

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Errors {
    errors: f64,
    refused: f64,
    /// When an examination first saw the last of them.
    seen: UnixMillis,
    now: UnixMillis,
}

impl Errors {
    /// The counts now, after those that were known before.
    pub(super) fn gather(registry: &prometheus::Registry, before: &Errors, now: UnixMillis) -> Errors {
        let families = registry.gather();
        let count = |name: &str| {
            let family = families.iter().find(|f| f.name() == name);
            family.and_then(|f| f.get_metric().first()).map_or(0.0, |m| m.get_counter().get_value())
        };
        let errors = count(ERRORS);
        let seen = if errors > before.errors { now } else { before.seen };
        Errors { errors, refused: count(REFUSED), seen, now }
    }
}

pub(super) fn judge(errors: &Errors) -> FindingView {
    let fix = "the log says which file and why (`journalctl -u nearmost-broker | grep -i store`): a full disk heals by \
               itself once there is room, a broken file needs `nearmost-broker restore`";
    match errors.errors {
        0.0 => ok(
            "store",
            format!("no call has failed since the start; {} batches were refused", errors.refused),
        ),
        n if errors.now.0.saturating_sub(errors.seen.0) < FRESH_MS => fail(
            "store",
            format!("{n} calls have failed since the broker's start, the last of them lately"),
            fix,
        ),
        n => warn(
            "store",
            format!("{n} calls have failed since the broker's start, and none in the last 10 minutes"),
            fix,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_from_the_metrics() {
        let registry = prometheus::Registry::new();
        let look = |before: &Errors, now| Errors::gather(&registry, before, UnixMillis(now));
        let first = look(&Errors::default(), 1_000);
        assert_eq!(judge(&first).level, "ok");
        let errors = prometheus::IntCounter::new(ERRORS, "x").unwrap();
        registry.register(Box::new(errors.clone())).unwrap();
        errors.inc_by(2);
        let second = look(&first, 2_000);
        let said = judge(&second);
        assert!(said.level == "fail" && said.message.starts_with("2 calls"), "{said:?}");
        let later = look(&second, 2_000 + FRESH_MS);
        assert_eq!(judge(&later).level, "warn");
        errors.inc();
        assert_eq!(judge(&look(&later, 3_000 + FRESH_MS)).level, "fail");
    }
}

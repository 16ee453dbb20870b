//! The store: calls that failed because of the disk, the file or its thread.

use super::{fail, ok};
use nearmost_wire::api::FindingView;

/// The metric that counts them.
const ERRORS: &str = "nearmost_store_errors_total";
const REFUSED: &str = "nearmost_store_batches_refused_total";

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Errors {
    errors: f64,
    refused: f64,
}

impl Errors {
    pub(super) fn gather(registry: &prometheus::Registry) -> Errors {
        let families = registry.gather();
        let count = |name: &str| {
            let family = families.iter().find(|f| f.name() == name);
            family.and_then(|f| f.get_metric().first()).map_or(0.0, |m| m.get_counter().get_value())
        };
        Errors { errors: count(ERRORS), refused: count(REFUSED) }
    }
}

pub(super) fn judge(errors: &Errors) -> FindingView {
    match errors.errors {
        0.0 => ok(
            "store",
            format!("no call has failed since the start; {} batches were refused", errors.refused),
        ),
        n => fail(
            "store",
            format!("{n} calls have failed since the broker's start"),
            "the log says which file and why (`journalctl -u nearmost-broker | grep -i store`): a full disk heals by \
             itself once there is room, a broken file needs `nearmost-broker restore`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_from_the_metrics() {
        let registry = prometheus::Registry::new();
        assert_eq!(judge(&Errors::gather(&registry)).level, "ok");
        let errors = prometheus::IntCounter::new(ERRORS, "x").unwrap();
        registry.register(Box::new(errors.clone())).unwrap();
        errors.inc_by(2);
        let said = judge(&Errors::gather(&registry));
        assert!(said.level == "fail" && said.message.starts_with("2 calls"), "{said:?}");
    }
}

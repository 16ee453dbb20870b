//! The task that decides about mirrors, and the snapshot that queries read.

use super::{fail, ok, span};
use nearmost_core::time::UnixMillis;
use nearmost_wire::api::FindingView;

/// A snapshot stands as long as nothing changes: only a driver that does not answer makes it stale.
pub(super) fn judge(answers: bool, published: UnixMillis, now: UnixMillis) -> FindingView {
    let age = span(now.0.saturating_sub(published.0));
    match answers {
        true => ok("snapshot", format!("last changed {age} ago; the task that keeps it answers")),
        false => fail(
            "snapshot",
            format!(
                "of {age} ago, and the task that keeps it does not answer: what is answered may be stale"
            ),
            "is the machine out of CPU (`top`, nearmost_queue_length)? If not, restart the broker and keep its log",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_does_not_answer_is_wrong() {
        let judge = |answers| judge(answers, UnixMillis(0), UnixMillis(10_000));
        assert_eq!(judge(true).level, "ok");
        assert!(judge(false).level == "fail" && judge(false).message.contains("10 s"));
    }
}

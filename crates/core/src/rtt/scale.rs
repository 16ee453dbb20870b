//! The scale on which round trips are compared and averaged.
//!
//! Errors of predicted round trips grow with the round trip: half of them lie within about a tenth of
//! it plus 3 ms, at 10 ms as at 300 ms. So residuals are kept as differences of `ln(ms + 33)`: on
//! that scale they are alike everywhere, a path that is a third slower than expected counts as much
//! on a short way as on a long one, and small round trips do not drown in their own relative noise.

/// Added before the logarithm, in milliseconds.
const SHIFT_MS: f32 = 33.0;

/// A round trip on the scale; less than nothing counts as nothing.
pub(crate) fn stretch(ms: f32) -> f32 {
    (ms.max(0.0) + SHIFT_MS).ln()
}

/// The round trip of a point on the scale, in milliseconds, at least a tenth of one.
pub(crate) fn millis(point: f32) -> f32 {
    (point.exp() - SHIFT_MS).max(0.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_come_back() {
        for ms in [0.1, 1.0, 20.0, 350.0, 10_000.0] {
            assert!((millis(stretch(ms)) / ms - 1.0).abs() < 1e-2, "{ms}");
        }
        assert_eq!(millis(-50.0), 0.1);
        assert_eq!(stretch(-1.0), stretch(0.0));
    }
}

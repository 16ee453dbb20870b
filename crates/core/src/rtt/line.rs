//! The distance prior: a line from kilometres of route to milliseconds.

/// `base_ms + ms_per_km × route`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// At no distance: access networks and equipment.
    pub base_ms: f32,
    /// For each kilometre of route; light in fibre alone needs 0.0100.
    pub ms_per_km: f32,
}

/// Fewest pairs that a line is fitted to.
const MIN_PAIRS: usize = 12;
/// Rounds of reweighting; the fit moves less than a thousandth after twenty.
const ROUNDS: usize = 25;
/// Residuals below this count alike, in milliseconds.
const SMALL_MS: f64 = 0.5;
/// Range of base and slope that make sense: nothing is faster than light in fibre.
const BASE_MS: (f64, f64) = (0.0, 30.0);
const MS_PER_KM: (f64, f64) = (0.0100, 0.0250);

impl Default for Line {
    /// The line of least absolute deviations of mean round trips over the routes between one half of
    /// 122 servers around the world (a public day of pings, WonderProxy, 2020-07-19); the other half
    /// of the servers is what BENCHMARKS.md reports on.
    fn default() -> Self {
        Line { base_ms: 6.4, ms_per_km: 0.0148 }
    }
}

impl Line {
    /// The round trip over a route.
    pub fn ms(&self, route_km: f32) -> f32 {
        self.base_ms + self.ms_per_km * route_km
    }

    /// Fits to `(route in kilometres, round trip in milliseconds)` by least absolute deviations
    /// (reweighted least squares), so that wrong places and odd paths count little; the default when
    /// there are too few pairs, or they say nothing.
    pub fn fit(pairs: &[(f32, f32)]) -> Line {
        if pairs.len() < MIN_PAIRS {
            return Line::default();
        }
        let mut line = (0.0, 0.0);
        for round in 0..ROUNDS {
            let weight = |x: f64, y: f64| match round {
                0 => 1.0,
                _ => 1.0 / (y - line.0 - line.1 * x).abs().max(SMALL_MS),
            };
            let Some(next) = weighted(pairs, weight) else { return Line::default() };
            line = next;
        }
        Line {
            base_ms: line.0.clamp(BASE_MS.0, BASE_MS.1) as f32,
            ms_per_km: line.1.clamp(MS_PER_KM.0, MS_PER_KM.1) as f32,
        }
    }
}

/// Weighted least squares; `None` when all routes are equally long.
fn weighted(pairs: &[(f32, f32)], weight: impl Fn(f64, f64) -> f64) -> Option<(f64, f64)> {
    let [mut sw, mut sx, mut sy, mut sxx, mut sxy] = [0.0; 5];
    for &(x, y) in pairs {
        let (x, y) = (f64::from(x), f64::from(y));
        let w = weight(x, y);
        sw += w;
        sx += w * x;
        sy += w * y;
        sxx += w * x * x;
        sxy += w * x * y;
    }
    let determinant = sw * sxx - sx * sx;
    if determinant <= 1e-6 * sw * sxx {
        return None;
    }
    let slope = (sw * sxy - sx * sy) / determinant;
    Some(((sy - slope * sx) / sw, slope))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_nonsense_does_not_bend_the_line() {
        let mut pairs: Vec<(f32, f32)> =
            (1..40).map(|i| (i as f32 * 400.0, 5.0 + i as f32 * 400.0 * 0.015)).collect();
        pairs.extend((0..9).map(|i| (15_000.0 - i as f32, 1.0)));
        let line = Line::fit(&pairs);
        assert!((line.base_ms - 5.0).abs() < 1.0 && (line.ms_per_km - 0.015).abs() < 0.0005, "{line:?}");
    }

    #[test]
    fn what_says_nothing_gives_the_default() {
        assert_eq!(Line::fit(&[(1.0, 1.0); 5]), Line::default());
        assert_eq!(Line::fit(&[(1000.0, 30.0); 50]), Line::default());
    }

    #[test]
    fn the_line_is_never_faster_than_light_in_fibre() {
        let pairs: Vec<(f32, f32)> = (1..40).map(|i| (i as f32 * 400.0, i as f32)).collect();
        assert_eq!(Line::fit(&pairs).ms_per_km, 0.01);
    }
}

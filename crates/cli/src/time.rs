//! Durations and moments as people read and write them.

use std::time::Duration;

/// Longest duration accepted.
const MOST: Duration = Duration::from_secs(366 * 86_400);

/// `90s`, `10m`, `24h`, `7d`, or several such parts: `1h30m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration; write 90s, 10m, 24h or 7d");
    if text.starts_with('-') {
        return Err(format!("{text:?} lies in the past; write 90s, 10m, 24h or 7d"));
    }
    let mut total = Duration::ZERO;
    let mut digits = String::new();
    for c in text.chars() {
        let unit_s = match c {
            '0'..='9' => {
                digits.push(c);
                continue;
            }
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let count: u64 = digits.parse().map_err(|_| wrong())?;
        digits.clear();
        let part = count.checked_mul(unit_s).map(Duration::from_secs).filter(|d| *d <= MOST);
        total += part.ok_or_else(|| format!("{text:?} is more than a year"))?;
    }
    match () {
        () if !digits.is_empty() || total.is_zero() => Err(wrong()),
        () if total > MOST => Err(format!("{text:?} is more than a year")),
        () => Ok(total),
    }
}

/// `4s`, `3m`, `2h`, `5d`: the largest whole unit.
pub fn age(ms: u64) -> String {
    match ms / 1000 {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s @ 3600..86_400 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

/// `2026-11-21 02:14:56 UTC`, by the civil calendar (H. Hinnant, "chrono-compatible low-level date
/// algorithms").
pub fn moment(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01; a year begins in March, so that the leap day is its last.
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("24h", 86_400), ("7d", 604_800), ("1h30m", 5400)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "10", "m", "1x", "-1s", "0s", "1h30", "367d", "99999999999999999999s", "300d300d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn moments_are_shown() {
        for (ms, shown) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400_000, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199_999, "2024-02-29 23:59:59 UTC"),
            (1_740_787_200_000, "2025-03-01 00:00:00 UTC"),
            (4_102_444_800_000, "2100-01-01 00:00:00 UTC"),
        ] {
            assert_eq!(moment(ms), shown);
        }
    }

    #[test]
    fn ages_are_shown_in_the_largest_unit() {
        assert_eq!([0, 59_999, 60_000, 3_600_000, 172_800_000].map(age), ["0s", "59s", "1m", "1h", "2d"]);
    }
}

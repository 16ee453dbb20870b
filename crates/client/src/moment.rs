//! Moments as people read and write them, always in UTC, by the civil calendar (H. Hinnant,
//! "chrono-compatible low-level date algorithms").

const DAY_S: u64 = 86_400;
/// Days from 0000-03-01, where the calendar's cycle of 400 years begins, to 1970-01-01.
const TO_UNIX_DAYS: u64 = 719_468;

/// `2026-11-21 02:14:56 UTC`
pub fn show(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (days, second) = (seconds / DAY_S, seconds % DAY_S);
    // A year begins in March, so that the leap day is its last.
    let z = days + TO_UNIX_DAYS;
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

/// Milliseconds since the Unix epoch of a moment in UTC as RFC 3339 has it, `2026-12-01T02:00:00Z`; the
/// seconds may be left out.
///
/// # Errors
/// A sentence that names the text and what was expected.
pub fn parse(text: &str) -> Result<u64, String> {
    let upper = text.to_ascii_uppercase();
    let wrong = || format!("{text:?} is no moment in UTC; write it as in 2026-12-01T02:00Z");
    let (date, time) = upper.strip_suffix('Z').and_then(|t| t.split_once('T')).ok_or_else(wrong)?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2]).ok_or_else(wrong)?;
    let with_seconds = if time.len() == 5 { format!("{time}:00") } else { time.into() };
    let [hour, minute, second] = numbers(&with_seconds, ':', [2, 2, 2]).ok_or_else(wrong)?;
    if hour > 23 || minute > 59 || second > 59 {
        return Err(format!("{text:?}: there is no such time of day"));
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    if !(1..=longest).contains(&day) {
        return Err(format!("{text:?}: there is no such day"));
    }
    if year < 1970 {
        return Err(format!("{text:?} lies before 1970"));
    }
    let seconds = days(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second;
    Ok(seconds * 1000)
}

/// Three numbers of exactly so many digits.
fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<[u64; 3]> {
    let mut parts = text.split(separator);
    let mut out = [0; 3];
    for (out, digits) in out.iter_mut().zip(digits) {
        let part = parts.next().filter(|p| p.len() == digits && p.bytes().all(|b| b.is_ascii_digit()))?;
        *out = part.parse().ok()?;
    }
    parts.next().is_none().then_some(out)
}

/// Days since 1970-01-01 of a day that is not before it.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - TO_UNIX_DAYS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn moments_are_shown() {
        for (ms, shown) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400_000, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199_999, "2024-02-29 23:59:59 UTC"),
            (1_740_787_200_000, "2025-03-01 00:00:00 UTC"),
            (4_102_444_800_000, "2100-01-01 00:00:00 UTC"),
        ] {
            assert_eq!(show(ms), shown);
        }
    }

    #[test]
    fn moments_are_read() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T00:00Z", 951_782_400_000),
            ("2024-02-29t23:59:59z", 1_709_251_199_000),
            ("2100-01-01T00:00Z", 4_102_444_800_000),
        ] {
            assert_eq!(parse(text), Ok(ms), "{text}");
        }
        for (text, says) in [
            ("", "is no moment in UTC; write it as in 2026-12-01T02:00Z"),
            ("2026-12-01", "is no moment"),
            ("2026-12-01T02:00", "is no moment"),
            ("2026-12-01T02:00+01:00", "is no moment"),
            ("2026-12-01T2:00Z", "is no moment"),
            ("2026-12-01T02:00:00:00Z", "is no moment"),
            ("2026-12-01-01T02:00Z", "is no moment"),
            ("2026-12-01T+2:00Z", "is no moment"),
            ("é026-12-01T02:00Z", "is no moment"),
            ("2026-12-01T24:00Z", "no such time of day"),
            ("2026-12-01T02:60Z", "no such time of day"),
            ("2026-02-29T02:00Z", "no such day"),
            ("2100-02-29T02:00Z", "no such day"),
            ("2026-13-01T02:00Z", "no such day"),
            ("2026-00-01T02:00Z", "no such day"),
            ("2026-04-31T02:00Z", "no such day"),
            ("2026-04-00T02:00Z", "no such day"),
            ("1969-12-31T23:59Z", "before 1970"),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(says) && said.contains(text), "{text}: {said}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(seconds in 0u64..253_402_300_800) {
            let shown = show(seconds * 1000);
            let written = shown.replace(" UTC", "Z").replace(' ', "T");
            prop_assert_eq!(parse(&written), Ok(seconds * 1000), "{}", shown);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,24}") {
            let _ = parse(&text);
        }
    }
}

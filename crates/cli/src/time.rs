//! Durations and moments as people write them on a command line.

use nearmost_client::moment;
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

/// A moment that a command names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Unix milliseconds.
    At(u64),
    /// So long after now.
    In(Duration),
}

impl When {
    /// `2026-12-01T02:00Z`, `+2h`
    pub fn parse(text: &str) -> Result<When, String> {
        match text.strip_prefix('+') {
            Some(duration) => parse_duration(duration).map(When::In),
            None => moment::parse(text).map(When::At).map_err(|e| format!("{e}, or +2h")),
        }
    }

    /// The same, or the beginning of a day: `2027-01-01`
    pub fn parse_day(text: &str) -> Result<When, String> {
        if let Ok(midnight) = moment::parse(&format!("{text}T00:00Z")) {
            return Ok(When::At(midnight));
        }
        When::parse(text)
    }

    /// Milliseconds since the Unix epoch.
    pub fn unix_ms(self, now_unix_ms: u64) -> u64 {
        match self {
            When::At(unix_ms) => unix_ms,
            When::In(duration) => {
                now_unix_ms.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
            }
        }
    }
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
    fn moments_are_absolute_or_from_now_on() {
        assert_eq!(When::parse("1970-01-01T00:01Z"), Ok(When::At(60_000)));
        assert_eq!(When::parse("+1h30m").map(|w| w.unix_ms(5)), Ok(5_400_005));
        assert_eq!(When::parse_day("1970-01-02"), Ok(When::At(86_400_000)));
        assert_eq!(When::parse_day("1970-01-01T00:01Z"), Ok(When::At(60_000)));
        assert!(When::parse_day("1970-02-30").unwrap_err().contains("\"1970-02-30\""));
        for (text, says) in [
            ("2h", "is no moment in UTC; write it as in 2026-12-01T02:00Z, or +2h"),
            ("-2h", "\"-2h\" is no moment"),
            ("+-2h", "lies in the past"),
            ("+", "is not a duration"),
        ] {
            assert!(When::parse(text).unwrap_err().contains(says), "{text}");
        }
    }

    #[test]
    fn ages_are_shown_in_the_largest_unit() {
        assert_eq!([0, 59_999, 60_000, 3_600_000, 172_800_000].map(age), ["0s", "59s", "1m", "1h", "2d"]);
    }
}

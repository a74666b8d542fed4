//! Durations in requests and options.

use std::time::Duration;

use crate::{Code, Refusal};

/// The most digits of a number in a duration, before and after the point.
const MOST_DIGITS: usize = 9;

/// Reads a duration as Go formats it: `90s`, `1m30s`, `500ms`, `1.5h`.
///
/// # Errors
/// `invalid_request` with the rule.
pub fn parse_duration(text: &str) -> Result<Duration, Refusal> {
    let fail = || {
        Refusal::new(
            Code::InvalidRequest,
            format!("invalid duration {text:?}"),
            "use a duration such as 30s, 2m or 1m30s",
        )
    };
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(fail)?;
        let (number, after) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        // More digits are no duration that anyone means.
        if whole.len() > MOST_DIGITS || fraction.len() > MOST_DIGITS {
            return Err(fail());
        }
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let number: f64 = number.parse().map_err(|_| fail())?;
        let seconds = match unit {
            "ns" => number / 1e9,
            "us" | "µs" => number / 1e6,
            "ms" => number / 1e3,
            "s" => number,
            "m" => number * 60.0,
            "h" => number * 3600.0,
            _ => return Err(fail()),
        };
        let part = Duration::try_from_secs_f64(seconds).map_err(|_| fail())?;
        total = total.saturating_add(part);
        rest = next;
    }
    if text.is_empty() { Err(fail()) } else { Ok(total) }
}

/// Writes a duration as Go formats it: `1m30s`, `500ms`, `1h0m0s`. Fractions of a millisecond are left out.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    if seconds == 0 && millis > 0 {
        return format!("{millis}ms");
    }
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = format!(".{millis:03}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, _) => format!("{minutes}m{seconds}{fraction}s"),
        _ => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_writes_them() {
        for (text, millis) in [
            ("60s", 60_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1.5h", 5_400_000),
            (".5s.5s", 1_000),
        ] {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for text in [
            "60",
            "s",
            "-1s",
            "1x",
            "1.2.3s",
            "99999999999999999999999h",
            "1234567890s",
            ".",
            "soon",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_is_read_as_it_is_written() {
        for (millis, text) in [
            (0, "0s"),
            (500, "500ms"),
            (1_500, "1.5s"),
            (90_000, "1m30s"),
            (3_600_000, "1h0m0s"),
            (3_661_050, "1h1m1.05s"),
        ] {
            let duration = Duration::from_millis(millis);
            assert_eq!(format_duration(duration), text);
            assert_eq!(parse_duration(text).unwrap(), duration);
        }
    }
}

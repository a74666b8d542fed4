//! Times for people: how long ago, and the local time.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// How long ago a time was (RFC 3339): `40 s`, `3 min`, `5 h`, `12 d`. A text that is no time stays as it is.
pub fn age(time: &str, now: Timestamp) -> String {
    let Ok(time) = time.parse::<Timestamp>() else { return time.to_owned() };
    let seconds = now.duration_since(time).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A time (RFC 3339) in this machine's time zone, and how long ago it was: `2026-11-29 21:33:44 (3 min ago)`.
pub fn local(time: &str, now: Timestamp, zone: &TimeZone) -> String {
    match time.parse::<Timestamp>() {
        Ok(at) => {
            let shown = at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S");
            format!("{shown} ({} ago)", age(time, now))
        }
        Err(_) => time.to_owned(),
    }
}

/// The same now, in this machine's time zone.
pub fn shown(time: &str) -> String {
    local(time, Timestamp::now(), &TimeZone::system())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_one_unit() {
        let now: Timestamp = "2026-11-29T12:00:00Z".parse().unwrap();
        for (time, shown) in [
            ("2026-11-29T11:59:59.5Z", "0 s"),
            ("2026-11-29T11:59:01Z", "59 s"),
            ("2026-11-29T11:57:00Z", "3 min"),
            ("2026-11-29T10:30:00Z", "1 h"),
            ("2026-11-27T13:00:00Z", "47 h"),
            ("2026-11-20T12:00:00Z", "9 d"),
            ("2026-11-29T13:00:00Z", "0 s"),
            ("soon", "soon"),
        ] {
            assert_eq!(age(time, now), shown, "{time}");
        }
        assert_eq!(
            local("2026-11-29T11:56:59.5Z", now, &TimeZone::UTC),
            "2026-11-29 11:56:59 (3 min ago)"
        );
        assert_eq!(local("", now, &TimeZone::UTC), "");
    }
}

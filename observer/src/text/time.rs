//! Times and spans as text.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use observer_core::BootTime;

/// A boot time as RFC 3339 in UTC with milliseconds. `wall_offset_ns` is realtime minus boot time.
pub fn rfc3339(at: BootTime, wall_offset_ns: i64) -> String {
    match timestamp(at, wall_offset_ns) {
        Some(time) => format!("{time:.3}"),
        None => String::from("1970-01-01T00:00:00.000Z"),
    }
}

/// A wall-clock time, ns since 1970, as RFC 3339; `None` if it is out of range.
pub fn unix_rfc3339(unix_ns: i64) -> Option<String> {
    Timestamp::from_nanosecond(i128::from(unix_ns)).ok().map(|time| format!("{time:.3}"))
}

/// The ns since 1970 of an RFC 3339 time; `None` if the text is not a time.
pub fn unix_ns(rfc3339: &str) -> Option<i64> {
    i64::try_from(rfc3339.parse::<Timestamp>().ok()?.as_nanosecond()).ok()
}

fn timestamp(at: BootTime, wall_offset_ns: i64) -> Option<Timestamp> {
    Timestamp::from_nanosecond(i128::from(at.0) + i128::from(wall_offset_ns)).ok()
}

/// The time of day of an RFC 3339 time in this machine's time zone, `15:04:05.678`; the text itself, made harmless, if it
/// is not a time.
pub fn time_of_day(rfc3339: &str) -> String {
    match rfc3339.parse::<Timestamp>() {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime("%H:%M:%S%.3f").to_string(),
        Err(_) => super::bytes::to_line(rfc3339.as_bytes()).into_owned(),
    }
}

/// Seconds from an RFC 3339 time to `now_unix_ns` (ns since 1970); 0 if the text is not a time or lies in the future.
pub fn age_s(rfc3339: &str, now_unix_ns: i128) -> u64 {
    let started = rfc3339.parse::<Timestamp>().map(Timestamp::as_nanosecond);
    let age_ns = started.map_or(0, |started| now_unix_ns - started);
    u64::try_from(age_ns / 1_000_000_000).unwrap_or(0)
}

/// A span of time in its two largest units: `3d 4h`, `12m 5s`, `7s`.
pub fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_milliseconds() {
        assert_eq!(rfc3339(BootTime(1_500_000_000), 1_700_000_000_000_000_000), "2023-11-14T22:13:21.500Z");
    }

    #[test]
    fn spans_have_two_units() {
        let shown: Vec<_> = [0, 59, 60, 3_599, 3_600, 86_399, 86_400, 900_000].map(span).into();
        assert_eq!(shown, ["0s", "59s", "1m 0s", "59m 59s", "1h 0m", "23h 59m", "1d 0h", "10d 10h"]);
    }
}

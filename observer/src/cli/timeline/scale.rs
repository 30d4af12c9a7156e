//! Maps moments to places: a window of time that is divided into equal parts, and round moments in it.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const SECOND_NS: i64 = 1_000_000_000;
/// Steps between labels, s.
const STEPS_S: [i64; 18] = [
    1, 5, 15, 60, 300, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600,
    2_592_000, 31_536_000,
];
const DAY_S: i64 = 86_400;

/// A window of time, ns since 1970: from `since` to before `until`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) since_ns: i64,
    pub(super) until_ns: i64,
}

impl Window {
    /// How long it is; 1 at least.
    pub(super) fn span_ns(self) -> i64 {
        self.until_ns.saturating_sub(self.since_ns).max(1)
    }

    /// The part of `parts` in which a moment lies, if the window is divided into so many; moments outside lie in the first or
    /// the last one.
    pub(super) fn part(self, at_ns: i64, parts: u32) -> u32 {
        let within = at_ns.max(self.since_ns).saturating_sub(self.since_ns);
        let part = i128::from(within) * i128::from(parts) / i128::from(self.span_ns());
        u32::try_from(part).unwrap_or(u32::MAX).min(parts.saturating_sub(1))
    }

    /// Whether a moment lies in it.
    pub(super) fn has(self, at_ns: i64) -> bool {
        (self.since_ns..self.until_ns).contains(&at_ns)
    }

    /// The part of the span that lies in it; `None`: nothing does.
    pub(super) fn clip(self, from_ns: i64, to_ns: i64) -> Option<(i64, i64)> {
        let (from, to) = (from_ns.max(self.since_ns), to_ns.min(self.until_ns));
        (from <= to && from_ns <= self.until_ns && to_ns >= self.since_ns).then_some((from, to))
    }

    /// Round moments with their labels, at most `labels_max`, in this time zone.
    pub(super) fn ticks(self, labels_max: u32, zone: &TimeZone) -> Vec<Tick> {
        let enough = |step: &i64| self.span_ns() / (step * SECOND_NS) <= i64::from(labels_max.max(1));
        let step = STEPS_S.into_iter().find(enough).unwrap_or(31_536_000);
        // Labels are round by the local clock, whose midnights need not be whole steps of the epoch.
        let local = |at_ns: i64| {
            Timestamp::from_nanosecond(at_ns.into()).ok().map(|at| at.to_zoned(zone.clone()).datetime())
        };
        let Some(since) = local(self.since_ns) else { return Vec::new() };
        let mut at = first(since, step);
        let mut ticks: Vec<Tick> = Vec::new();
        while let Some(moment) = at {
            let zoned = moment.to_zoned(zone.clone()).ok();
            let ns = zoned.and_then(|zoned| i64::try_from(zoned.timestamp().as_nanosecond()).ok());
            let Some(ns) = ns.filter(|&ns| ns < self.until_ns) else { break };
            // An hour that a change of the clock repeats or leaves out has one label.
            if self.has(ns) && ticks.last().is_none_or(|last| last.at_ns < ns) {
                ticks.push(Tick { at_ns: ns, label: label(moment, step) });
            }
            at = moment.checked_add(jiff::SignedDuration::from_secs(step)).ok();
        }
        ticks.truncate(usize::try_from(labels_max).unwrap_or(usize::MAX));
        ticks
    }
}

/// A labelled moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tick {
    pub(super) at_ns: i64,
    pub(super) label: String,
}

/// The first round moment at `since` or after it.
fn first(since: DateTime, step_s: i64) -> Option<DateTime> {
    let midnight = since.date().to_datetime(jiff::civil::Time::midnight());
    if step_s >= DAY_S {
        return if since == midnight {
            Some(midnight)
        } else {
            midnight.checked_add(jiff::SignedDuration::from_secs(DAY_S)).ok()
        };
    }
    let past = since.duration_since(midnight);
    let steps = past.as_secs() / step_s + i64::from(past.as_secs() % step_s != 0 || past.subsec_nanos() != 0);
    midnight.checked_add(jiff::SignedDuration::from_secs(steps * step_s)).ok()
}

fn label(at: DateTime, step_s: i64) -> String {
    let format = match step_s {
        _ if at.hour() == 0 && at.minute() == 0 && at.second() == 0 && step_s >= 60 => "%d %b",
        _ if step_s >= 60 => "%H:%M",
        _ => "%H:%M:%S",
    };
    at.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        crate::text::time::unix_ns(text).unwrap()
    }

    fn labels(since: &str, until: &str, max: u32, zone: &TimeZone) -> Vec<String> {
        let window = Window { since_ns: at(since), until_ns: at(until) };
        let ticks = window.ticks(max, zone);
        assert!(ticks.iter().all(|tick| window.has(tick.at_ns)), "{ticks:?}");
        ticks.into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn moments_have_parts_and_those_outside_the_first_or_the_last() {
        let window = Window { since_ns: 1_000, until_ns: 2_000 };
        let parts = [-5, 1_000, 1_099, 1_100, 1_999, 2_000, i64::MAX].map(|at| window.part(at, 10));
        assert_eq!(parts, [0, 0, 0, 1, 9, 9, 9]);
        assert_eq!((window.part(1_500, 0), window.part(1_500, 1)), (0, 0));
        assert_eq!(window.clip(0, 1_500), Some((1_000, 1_500)));
        assert_eq!((window.clip(0, 999), window.clip(2_001, 3_000)), (None, None));
        let empty = Window { since_ns: i64::MAX, until_ns: i64::MIN };
        assert_eq!(
            (empty.span_ns(), empty.part(0, 10), window.part(i64::MAX, u32::MAX)),
            (1, 0, u32::MAX - 1)
        );
    }

    #[test]
    fn labels_are_round_by_the_local_clock() {
        let day = labels("2026-11-20T08:07:30Z", "2026-11-21T08:07:30Z", 6, &TimeZone::UTC);
        assert_eq!(day, ["12:00", "18:00", "21 Nov", "06:00"]);
        let india = TimeZone::fixed(jiff::tz::offset(5).saturating_add(jiff::Span::new().minutes(30)));
        let local = labels("2026-11-20T08:07:30Z", "2026-11-21T08:07:30Z", 6, &india);
        assert_eq!(local, ["18:00", "21 Nov", "06:00", "12:00"]);
        assert_eq!(
            labels("2026-11-20T08:00:00Z", "2026-11-20T08:00:10Z", 3, &TimeZone::UTC),
            ["08:00:00", "08:00:05"]
        );
        let months = labels("2026-01-01T00:00:00Z", "2026-11-01T00:00:00Z", 12, &TimeZone::UTC);
        assert_eq!(months.first().map(String::as_str), Some("01 Jan"));
        assert!(months.len() <= 12, "{months:?}");
        for max in 0..30 {
            assert!(labels("1970-01-01T00:00:00Z", "2200-11-01T00:00:00Z", max, &TimeZone::UTC).len() <= 30);
        }
    }
}

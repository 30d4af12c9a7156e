//! Keeps lines that repeat out of the log, and counts them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::log_fields::LogFields;

/// Lines from one place of the source that are written within [`WINDOW`].
const LINES_MAX: u32 = 10;
/// After this time, what was left out is reported, and lines are written again.
const WINDOW: Duration = Duration::from_secs(10);
/// The target of the report, which is not bounded itself: it has one line for each place.
const REPORT: &str = "observer::log_repeats";

static REPEATS: LazyLock<RepeatLimit> = LazyLock::new(RepeatLimit::default);

/// Lines that were left out since the daemon's start.
pub fn left_out() -> u64 {
    REPEATS.left_out.load(Ordering::Relaxed)
}

/// Reports what is left out, for as long as the future lives.
pub async fn report() {
    loop {
        REPEATS.begun.notified().await;
        tokio::time::sleep(WINDOW).await;
        for LeftOut { count, first } in REPEATS.take(Instant::now()) {
            warn!(target: REPORT, count, "{count} lines were left out that repeat; the first is: {first}");
        }
    }
}

/// Leaves out lines of all threads.
pub struct RepeatFilter;

impl<S: Subscriber> Layer<S> for RepeatFilter {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // Who asks for details gets them all.
        if *metadata.level() > Level::INFO || metadata.target() == REPORT {
            return true;
        }
        REPEATS.allows(metadata.callsite(), Instant::now(), || LogFields::of(event).line())
    }
}

/// What was left out of the lines from one place.
#[derive(Debug, PartialEq, Eq)]
struct LeftOut {
    count: u64,
    /// The first line.
    first: String,
}

/// The lines from one place of the source.
struct Lines {
    since: Instant,
    written: u32,
    left_out: Option<LeftOut>,
}

/// What was written lately. There are as many entries as places of the source that emit lines.
#[derive(Default)]
struct RepeatLimit {
    lines: Mutex<HashMap<Identifier, Lines>>,
    left_out: AtomicU64,
    /// Something is left out that is to be reported.
    begun: Notify,
}

impl RepeatLimit {
    fn lines(&self) -> MutexGuard<'_, HashMap<Identifier, Lines>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a line from this place may be written.
    fn allows(&self, place: Identifier, now: Instant, line: impl FnOnce() -> String) -> bool {
        let mut all = self.lines();
        let lines = all.entry(place).or_insert(Lines { since: now, written: 0, left_out: None });
        if lines.left_out.is_none() && now.saturating_duration_since(lines.since) >= WINDOW {
            (lines.since, lines.written) = (now, 0);
        }
        if lines.written < LINES_MAX {
            lines.written += 1;
            return true;
        }
        lines.left_out.get_or_insert_with(|| LeftOut { count: 0, first: line() }).count += 1;
        self.left_out.fetch_add(1, Ordering::Relaxed);
        self.begun.notify_one();
        false
    }

    /// Takes what was left out until now. Lines from these places are written again.
    fn take(&self, now: Instant) -> Vec<LeftOut> {
        let mut all = self.lines();
        let taken = all.values_mut().filter_map(|lines| {
            let left_out = lines.left_out.take()?;
            (lines.since, lines.written) = (now, 0);
            Some(left_out)
        });
        taken.collect()
    }
}

#[cfg(test)]
mod tests {
    use tracing::callsite::Callsite;
    use tracing::metadata::Kind;
    use tracing::subscriber::Interest;
    use tracing::{Metadata, metadata};

    use super::*;

    struct Place;

    impl Callsite for Place {
        fn set_interest(&self, _: Interest) {}

        fn metadata(&self) -> &Metadata<'_> {
            &METADATA
        }
    }

    static PLACE: Place = Place;
    static METADATA: Metadata<'static> = metadata! {
        name: "a place",
        target: "observer",
        level: Level::WARN,
        fields: &[],
        callsite: &PLACE,
        kind: Kind::EVENT
    };

    #[test]
    fn lines_that_repeat_are_left_out_and_counted_and_then_written_again() {
        let (limit, start) = (RepeatLimit::default(), Instant::now());
        let place = || tracing::callsite::Identifier(&PLACE);
        let written = |from: u64, to: u64, at| {
            (from..to).filter(|number| limit.allows(place(), at, || format!("line {number}"))).count()
        };
        assert_eq!(written(0, 10, start), 10);
        assert_eq!(limit.take(start), [], "nothing was left out yet");
        assert_eq!(written(10, 110, start), 0);
        assert_eq!(limit.left_out.load(Ordering::Relaxed), 100);
        let later = start + WINDOW;
        assert_eq!(limit.take(later), [LeftOut { count: 100, first: "line 10".into() }]);
        assert_eq!(written(110, 121, later), 10);
        assert_eq!(limit.take(later), [LeftOut { count: 1, first: "line 120".into() }]);
        assert_eq!(limit.left_out.load(Ordering::Relaxed), 101);
    }

    #[test]
    fn lines_that_come_slowly_are_all_written() {
        let (limit, start) = (RepeatLimit::default(), Instant::now());
        for number in 0..100 {
            let at = start + WINDOW / 10 * number;
            assert!(limit.allows(Identifier(&PLACE), at, || unreachable!("it is written")), "{number}");
        }
    }
}

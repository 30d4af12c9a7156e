//! Keeps lines that repeat out of the log, and counts them.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::log_fields::LogFields;

/// Lines from one place of the source that are written within [`WINDOW`].
const LINES_MAX: u32 = 10;
/// Messages of one place of which the first line is written also beyond [`LINES_MAX`]. All that the mirror reports comes from one
/// place for each level, and so do the records of libraries: what repeats must not hide what does not.
const MESSAGES_MAX: usize = 16;
/// The same of errors, which a person must act on: each of them is written until a place has this many in [`WINDOW`].
const ERRORS_MAX: usize = 256;
/// After this time, what was left out is reported, and lines are written again.
const WINDOW: Duration = Duration::from_secs(10);
/// The target of the report, which is not bounded itself: it has one line for each place.
const REPORT: &str = "observer::log_repeats";

static REPEATS: LazyLock<RepeatLimit> = LazyLock::new(RepeatLimit::default);

/// Lines that were left out since the daemon's start.
pub fn left_out() -> u64 {
    REPEATS.left_out.load(Ordering::Relaxed)
}

/// Counts a line that its source left out by a limit of its own.
pub fn count_left_out() {
    REPEATS.left_out.fetch_add(1, Ordering::Relaxed);
}

/// Reports what is left out, for as long as the future lives.
pub async fn report() {
    loop {
        REPEATS.begun.notified().await;
        tokio::time::sleep(WINDOW).await;
        report_pending();
    }
}

/// Reports what was left out and is not reported yet: at the end of the daemon nothing reports it later.
pub fn report_pending() {
    for LeftOut { count, first } in REPEATS.take(Instant::now()) {
        warn!(target: REPORT, part = "log", count, "{count} lines were left out that repeat; the first is: {first}");
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
        REPEATS.allows(metadata, Instant::now(), LogFields::of(event).line())
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
    /// Hashes of the messages that were written, as many as [`messages_max`] allows.
    messages: Vec<u64>,
    left_out: Option<LeftOut>,
}

impl Lines {
    fn new(since: Instant) -> Self {
        Self { since, written: 0, messages: Vec::new(), left_out: None }
    }
}

/// The hash of a line without its numbers, such as counts and pids, by which lines with the same message differ.
fn message_hash(line: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    for part in line.split(|char: char| char.is_ascii_digit()).filter(|part| !part.is_empty()) {
        part.hash(&mut hasher);
    }
    hasher.finish()
}

/// Messages of one place of this level of which the first line is always written.
fn messages_max(level: Level) -> usize {
    if level == Level::ERROR { ERRORS_MAX } else { MESSAGES_MAX }
}

/// What was written lately. There are as many entries as places of the source that emit lines; each place has one level.
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

    /// Whether a line from the place with this metadata may be written.
    fn allows(&self, place: &Metadata<'_>, now: Instant, line: String) -> bool {
        let message = message_hash(&line);
        let mut all = self.lines();
        let lines = all.entry(place.callsite()).or_insert_with(|| Lines::new(now));
        if lines.left_out.is_none() && now.saturating_duration_since(lines.since) >= WINDOW {
            *lines = Lines::new(now);
        }
        let is_new =
            lines.messages.len() < messages_max(*place.level()) && !lines.messages.contains(&message);
        if is_new {
            lines.messages.push(message);
        }
        if lines.written < LINES_MAX {
            lines.written += 1;
            return true;
        }
        if is_new {
            return true;
        }
        lines.left_out.get_or_insert(LeftOut { count: 0, first: line }).count += 1;
        self.left_out.fetch_add(1, Ordering::Relaxed);
        self.begun.notify_one();
        false
    }

    /// Takes what was left out until now. Lines from these places are written again.
    fn take(&self, now: Instant) -> Vec<LeftOut> {
        let mut all = self.lines();
        let taken = all.values_mut().filter_map(|lines| {
            let left_out = lines.left_out.take()?;
            *lines = Lines::new(now);
            Some(left_out)
        });
        taken.collect()
    }
}

#[cfg(test)]
mod tests {
    use tracing::callsite::Callsite;
    use tracing::metadata;
    use tracing::metadata::Kind;
    use tracing::subscriber::Interest;

    use super::*;

    /// A place of the source that emits lines of one level.
    macro_rules! place {
        ($place:ident, $metadata:ident, $level:expr) => {
            struct $place;

            impl Callsite for $place {
                fn set_interest(&self, _: Interest) {}

                fn metadata(&self) -> &Metadata<'_> {
                    &$metadata
                }
            }

            static $metadata: Metadata<'static> = metadata! {
                name: "a place",
                target: "observer",
                level: $level,
                fields: &[],
                callsite: &$place,
                kind: Kind::EVENT
            };
        };
    }

    place!(WarningPlace, WARNING, Level::WARN);
    place!(ErrorPlace, ERROR, Level::ERROR);

    #[test]
    fn lines_that_repeat_are_left_out_and_counted_and_then_written_again() {
        let (limit, start) = (RepeatLimit::default(), Instant::now());
        let written = |from: u64, to: u64, at| {
            (from..to).filter(|number| limit.allows(&WARNING, at, format!("line {number}"))).count()
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
            assert!(limit.allows(&WARNING, at, "a line".into()), "{number}");
        }
    }

    #[test]
    fn lines_that_repeat_hide_no_other_message_from_the_same_place() {
        let (limit, start) = (RepeatLimit::default(), Instant::now());
        let is_written = |line: String| limit.allows(&WARNING, start, line);
        let rejected = |number: u64| format!("entry {number} of 2026 was rejected");
        assert_eq!((0..100).filter(|&number| is_written(rejected(number))).count(), 10);
        assert!(is_written("the password is wrong".into()));
        assert!(!is_written("the password is wrong".into()), "it repeats");
        let others = (b'a'..=b'z').filter(|&other| is_written(char::from(other).to_string()));
        assert_eq!(others.count(), MESSAGES_MAX - 2, "messages without end are bounded");
        let left_out = 90 + 1 + 26 - (MESSAGES_MAX - 2) as u64;
        assert_eq!(limit.take(start), [LeftOut { count: left_out, first: rejected(10) }]);
    }
    #[test]
    fn an_error_is_held_back_by_no_other_message() {
        let (limit, start) = (RepeatLimit::default(), Instant::now());
        let message = |number: usize| {
            // Numbers do not tell messages apart.
            let letter = |place: usize| char::from(b'a' + u8::try_from(place % 26).unwrap());
            format!("the {}{} server refuses", letter(number), letter(number / 26))
        };
        for number in 0..ERRORS_MAX {
            limit.allows(&WARNING, start, message(number));
            assert!(limit.allows(&ERROR, start, message(number)), "error {number}");
        }
        assert!((0..ERRORS_MAX).all(|number| !limit.allows(&ERROR, start, message(number))), "these repeat");
        assert!(!limit.allows(&ERROR, start, message(ERRORS_MAX)), "messages without end are bounded");
    }
}

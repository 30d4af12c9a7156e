//! The log: events that any layer emits with `tracing`, and records of libraries that use `log`. They are lines on standard
//! error, or entries of systemd's journal where the service manager connected standard error to it.

use std::fmt;
use std::io;

use anyhow::{Context as _, Result};
use nix::sys::stat::fstat;
use serde::Serialize;
use serde_json::{Map, Value};
use tracing::{Event, Level, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::log_fields::LogFields;
use super::log_repeats::RepeatFilter;
use crate::text::time::unix_rfc3339;
use crate::{clock, kernel};

/// Prefix of the fields of an entry in systemd's journal.
const FIELD_PREFIX: &str = "OBSERVER";

/// The least severe events that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// A person must act.
    Error,
    /// A fact was lost or a limit was reached.
    Warn,
    /// A part of the daemon starts or stops.
    #[default]
    Info,
    /// Details for whoever looks for a cause.
    Debug,
}

/// What the log looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Entries of systemd's journal where standard error is connected to it, lines elsewhere.
    #[default]
    Auto,
    /// Lines on standard error.
    Lines,
    /// JSON objects on standard error, one on a line.
    Json,
}

/// Starts the log. `with_programs`: the kernel programs' diagnostics are written whatever the level is.
pub fn start(level: LogLevel, format: LogFormat, with_programs: bool) -> Result<()> {
    let journal = (format == LogFormat::Auto && stderr_is_journal()).then(journal_layer).flatten();
    // Without `log_internal_errors`, a standard error that cannot be written is reported on standard error, which panics.
    let json = (format == LogFormat::Json).then(|| {
        let layer = tracing_subscriber::fmt::layer().event_format(JsonLines).with_writer(io::stderr);
        layer.log_internal_errors(false)
    });
    let lines = (journal.is_none() && json.is_none()).then(|| {
        let layer = tracing_subscriber::fmt::layer().event_format(Lines).with_writer(io::stderr);
        layer.log_internal_errors(false)
    });
    tracing_subscriber::registry()
        .with(filter(level, with_programs))
        .with(RepeatFilter)
        .with(journal)
        .with(json)
        .with(lines)
        .try_init()
        .context("cannot start the log; report this")
}

/// What a library informs of is a detail here. Its own details are left out: aya has thousands of them in a start, and those of
/// tokio-postgres have the arguments and directories of processes.
fn filter(level: LogLevel, with_programs: bool) -> Targets {
    let (own, libraries) = match level {
        LogLevel::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
        LogLevel::Warn => (LevelFilter::WARN, LevelFilter::WARN),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::WARN),
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::INFO),
    };
    let programs = if with_programs { LevelFilter::DEBUG } else { own };
    Targets::new()
        .with_default(libraries)
        .with_target(env!("CARGO_PKG_NAME"), own)
        .with_target(kernel::PROGRAM_LOG_TARGET, programs)
}

/// Whether standard error is a stream to systemd's journal. `JOURNAL_STREAM` alone does not say so: a process of the service
/// that redirects its standard error inherits the variable.
fn stderr_is_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    fstat(io::stderr()).is_ok_and(|stat| is_stream(&stream, stat.st_dev, stat.st_ino))
}

/// Whether `stream`, a value of `JOURNAL_STREAM` (systemd.exec(5)), names the file with this device and inode.
fn is_stream(stream: &str, device: u64, inode: u64) -> bool {
    stream.split_once(':').is_some_and(|(dev, ino)| dev.parse() == Ok(device) && ino.parse() == Ok(inode))
}

/// `None` if the journal cannot be reached.
fn journal_layer() -> Option<tracing_journald::Layer> {
    let priorities = PriorityMappings {
        error: Priority::Error,
        warn: Priority::Warning,
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
    };
    let layer = tracing_journald::layer().ok()?;
    Some(layer.with_field_prefix(Some(FIELD_PREFIX.into())).with_priority_mappings(priorities))
}

/// One line for each event: the program, the level and the message. A message has its values, so fields are left out.
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = word(*event.metadata().level());
        writeln!(writer, "observer: {level}: {}", LogFields::of(event).line())
    }
}

/// One JSON object for each event, on a line (docs/json.md).
struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let LogFields { library, message, others } = LogFields::of(event);
        let object = LogLine {
            at: i64::try_from(clock::realtime_ns()).ok().and_then(unix_rfc3339).unwrap_or_default(),
            level: word(*event.metadata().level()),
            message,
            library: Some(library).filter(|library| !library.is_empty()),
            fields: others,
        };
        writeln!(writer, "{}", serde_json::to_string(&object).map_err(|_| fmt::Error)?)
    }
}

/// A line of the log as JSON.
#[derive(Serialize)]
struct LogLine {
    at: String,
    level: &'static str,
    message: String,
    library: Option<String>,
    fields: Map<String, Value>,
}

fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{debug, error, info, warn};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written to standard error as JSON by `emit`.
    fn json(emit: impl FnOnce()) -> Vec<Value> {
        let written = Written::default();
        let writer = written.clone();
        let lines =
            tracing_subscriber::fmt::layer().event_format(JsonLines).with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry()
            .with(filter(LogLevel::Debug, false))
            .with(RepeatFilter)
            .with(lines);
        tracing::subscriber::with_default(subscriber, emit);
        let bytes = written.0.lock().unwrap().clone();
        bytes
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    /// What is written to standard error at this level by `emit`.
    fn written(level: LogLevel, with_programs: bool, emit: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        let lines = tracing_subscriber::fmt::layer().event_format(Lines).with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(filter(level, with_programs)).with(lines);
        tracing::subscriber::with_default(subscriber, emit);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn each_level() {
        error!("a person must act");
        warn!(entries = 3, "{} entries were lost", 3);
        info!("SIGTERM: stopping");
        debug!("a detail");
        info!(target: "aya::bpf", "a library has a detail");
        debug!(target: "tokio_postgres::query", "executing statement with parameters");
        debug!(target: kernel::PROGRAM_LOG_TARGET, "program: exec of 7");
    }

    #[test]
    fn a_line_has_the_program_the_level_and_the_message() {
        let lines = written(LogLevel::Info, false, each_level);
        let expected = "observer: error: a person must act\n\
                        observer: warning: 3 entries were lost\n\
                        observer: info: SIGTERM: stopping\n";
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_level_leaves_out_what_is_less_severe() {
        let counts = [(LogLevel::Error, 1), (LogLevel::Warn, 2), (LogLevel::Info, 3), (LogLevel::Debug, 6)];
        for (level, count) in counts {
            assert_eq!(written(level, false, each_level).lines().count(), count, "{level:?}");
        }
    }

    #[test]
    fn the_programs_diagnostics_are_written_at_every_level_if_asked_for() {
        let lines = written(LogLevel::Error, true, each_level);
        assert!(lines.ends_with("observer: debug: program: exec of 7\n"), "{lines}");
    }

    #[test]
    fn hostile_values_stay_in_their_line() {
        let comm = "evil\nobserver: error: forged\x1b[2J\u{202e}";
        let lines = written(LogLevel::Info, false, || warn!("{comm} was lost"));
        assert_eq!(lines, "observer: warning: evil\\nobserver: error: forged\\x1b[2J\\u{202e} was lost\n");
        let escaped = written(LogLevel::Info, false, || warn!("{} was lost", r"a\nb"));
        assert_eq!(escaped, "observer: warning: a\\nb was lost\n", "what is escaped is not escaped again");
    }

    #[test]
    fn json_has_time_level_message_and_fields() {
        let lines = json(|| {
            warn!(entries = 3, "{} entries were lost", 3);
            error!(reason = "disk_full", ok = false, "evil\n\u{202e}");
            info!(target: "aya::bpf", "a library has a detail");
        });
        let without_time = |mut line: Value| {
            let at = line.as_object_mut().unwrap().remove("at").unwrap();
            assert!(at.as_str().unwrap().ends_with('Z'), "{at}");
            line
        };
        let lines: Vec<_> = lines.into_iter().map(without_time).collect();
        let expected = [
            serde_json::json!({"level": "warning", "message": "3 entries were lost", "library": null, "fields": {"entries": 3}}),
            serde_json::json!({"level": "error", "message": "evil\n\u{202e}", "library": null,
                               "fields": {"reason": "disk_full", "ok": false}}),
            serde_json::json!({"level": "info", "message": "a library has a detail", "library": null, "fields": {}}),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_repeats_is_left_out_unless_it_is_a_detail() {
        let before = super::super::log_repeats::left_out();
        let lines = json(|| {
            for number in 0..100 {
                warn!("{number} entries were lost");
                debug!("detail {number}");
            }
        });
        let of = |level: &str| lines.iter().filter(|line| line["level"] == level).count();
        assert_eq!((of("warning"), of("debug")), (10, 100));
        assert!(super::super::log_repeats::left_out() >= before + 90);
    }

    #[test]
    fn the_journal_is_used_only_where_the_variable_names_this_standard_error() {
        assert!(is_stream("9:31337", 9, 31337));
        for stream in ["", "9", "9:", ":31337", "9:31338", "8:31337", "9:31337:1", "9:31337 "] {
            assert!(!is_stream(stream, 9, 31337), "{stream:?}");
        }
    }
}

//! The log: events that any layer emits with `tracing`, and records of libraries that use `log`. They are lines on standard
//! error, or entries of systemd's journal where the service manager connected standard error to it.

use std::fmt::{self, Debug, Write as _};
use std::io;

use anyhow::{Context as _, Result};
use nix::sys::stat::fstat;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::kernel;
use crate::text::bytes::to_one_line;

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

/// Starts the log. `with_programs`: the kernel programs' diagnostics are written whatever the level is.
pub fn start(level: LogLevel, with_programs: bool) -> Result<()> {
    let journal = stderr_is_journal().then(journal_layer).flatten();
    let lines = journal.is_none().then(|| {
        let layer = tracing_subscriber::fmt::layer().event_format(Lines).with_writer(io::stderr);
        // Without this, a standard error that cannot be written is reported on standard error, which panics.
        layer.log_internal_errors(false)
    });
    tracing_subscriber::registry()
        .with(filter(level, with_programs))
        .with(journal)
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
        let mut line = LineFields::default();
        event.record(&mut line);
        let LineFields { library, message } = line;
        let level = word(*event.metadata().level());
        writeln!(writer, "observer: {level}: {library}{}", to_one_line(&message))
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        Level::DEBUG | Level::TRACE => "debug",
    }
}

/// The fields of an event that its line shows.
#[derive(Default)]
struct LineFields {
    /// Module of the library that made the record, and a colon; empty for observer's own events.
    library: String,
    message: String,
}

impl Visit for LineFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            "log.target" => self.library = format!("{value}: "),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            // Writing to a String cannot fail.
            let _ = write!(self.message, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{debug, error, info, warn};

    use super::*;

    /// What is written to standard error at this level by `emit`.
    fn written(level: LogLevel, with_programs: bool, emit: impl FnOnce()) -> String {
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
    fn the_journal_is_used_only_where_the_variable_names_this_standard_error() {
        assert!(is_stream("9:31337", 9, 31337));
        for stream in ["", "9", "9:", ":31337", "9:31338", "8:31337", "9:31337:1", "9:31337 "] {
            assert!(!is_stream(stream, 9, 31337), "{stream:?}");
        }
    }
}

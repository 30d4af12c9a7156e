//! `observer history`

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anstyle::Style;
use clap::Args;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::{Exit, Failure, JOURNAL_NAME, STATE_DIR_DEFAULT, term};
use crate::clock;
use crate::config::span;
use crate::journal::Gap;
use crate::journal::reader::{Filter, Reader, Stored};
use crate::show::bytes::{Text, to_line};
use crate::show::change::journaled;
use crate::show::death::DeathJson;
use crate::show::style::{BAD, FAINT, GOOD, NOTICE, STRONG};
use crate::show::table::{Align, Cell, Table};

/// Entries read at a time, and their bytes.
const READ_MAX: usize = 1_024;
const READ_BYTES_MAX: usize = 4 << 20;

/// Reads the journal's file: with a daemon or without. Needs root, or the group observer.
#[derive(Args)]
pub struct History {
    /// Only this session's name, or the absolute path of its home
    #[arg(value_name = "NAME|HOME")]
    session: Option<OsString>,
    /// No earlier: a span before now (24h, 7d), a date, or an RFC 3339 moment
    #[arg(long, value_name = "WHEN", value_parser = when)]
    since: Option<i64>,
    /// Earlier than this
    #[arg(long, value_name = "WHEN", value_parser = when)]
    until: Option<i64>,
    /// Only sessions that a signal or the lack of memory ended
    #[arg(long = "killed")]
    violent: bool,
    /// JSON: an object a line (docs/json.md)
    #[arg(long)]
    json: bool,
    /// The journal's file
    #[arg(long, value_name = "FILE")]
    journal_path: Option<PathBuf>,
    /// The daemon's state directory
    #[arg(long, value_name = "DIR", conflicts_with = "journal_path")]
    state_dir: Option<PathBuf>,
}

/// A moment, ns since 1970; a date is its first moment in this machine's zone.
fn when(text: &str) -> Result<i64, String> {
    let text = text.trim();
    let now = clock::realtime_ns();
    let ago = || span(text).map(|span| now - span.as_nanos().cast_signed());
    let moment = || text.parse::<Timestamp>().ok().map(Timestamp::as_nanosecond);
    let local = || {
        let time = text.parse::<DateTime>().ok().or_else(|| text.parse::<Date>().ok().map(DateTime::from))?;
        time.to_zoned(TimeZone::system()).ok().map(|time| time.timestamp().as_nanosecond())
    };
    ago().or_else(moment).or_else(local).and_then(|ns| i64::try_from(ns).ok()).ok_or_else(|| {
        format!("{text:?} is no moment: write for instance 24h, 2026-11-21 or 2026-11-21T08:00:00Z")
    })
}

impl History {
    /// 0 found, 1 certainly nothing, 3 the name is that of several homes, 4 the journal cannot be read.
    pub fn run(self) -> anyhow::Result<Exit> {
        let path = self.journal_path.clone().unwrap_or_else(|| {
            self.state_dir.clone().unwrap_or_else(|| STATE_DIR_DEFAULT.into()).join(JOURNAL_NAME)
        });
        let reader = Reader::open(&path)?;
        let mut filter =
            Filter { since_ns: self.since, until_ns: self.until, ends: self.violent, ..Filter::default() };
        let wanted = self.session.as_ref().map(|session| session.as_bytes());
        match wanted {
            Some(home) if home.starts_with(b"/") => {
                let end = home.iter().rposition(|&byte| byte != b'/').map_or(1, |last| last + 1);
                filter.home = home.get(..end).map(<[u8]>::to_vec);
            }
            Some(name) => {
                let homes = reader.homes(name)?;
                if homes.len() > 1 {
                    eprintln!("observer: {} homes are called {}; name one:", homes.len(), to_line(name));
                    for home in homes {
                        eprintln!("  {}", to_line(&home));
                    }
                    return Ok(Exit::Ambiguous);
                }
                filter.name = Some(name.to_vec());
            }
            None => {}
        }
        let found =
            if self.json { self.print_json(&reader, &filter)? } else { self.print(&reader, &filter)? };
        if found > 0 {
            return Ok(Exit::Found);
        }
        let of = wanted.map(|name| format!(" of {}", to_line(name))).unwrap_or_default();
        let what = if self.violent { "nothing that was killed" } else { "nothing" };
        eprintln!(
            "observer: the journal holds {what}{of} in that time; `observer history` shows all it holds"
        );
        Ok(Exit::None)
    }

    /// Calls `show` with each entry that is wanted; how many of them speak of sessions.
    fn each(
        &self,
        reader: &Reader,
        filter: &Filter,
        mut show: impl FnMut(&Stored, &Shown<'_>) -> io::Result<()>,
    ) -> anyhow::Result<u64> {
        let (mut after, mut found) = (0, 0);
        loop {
            let batch = reader.read_after(after, filter, READ_MAX, READ_BYTES_MAX)?;
            let Some(last) = batch.last() else { return Ok(found) };
            after = last.seq;
            for stored in &batch {
                let shown: Shown<'_> =
                    serde_json::from_str(&stored.entry.detail).map_err(|error| Failure {
                        exit: Exit::Unknown,
                        message: format!(
                            "entry {} of the journal makes no sense ({error}); report this",
                            stored.seq
                        ),
                    })?;
                let session = stored.entry.name.is_some();
                if session && self.violent && !shown.violent() {
                    continue;
                }
                found += u64::from(session);
                show(stored, &shown)?;
            }
        }
    }

    fn print_json(&self, reader: &Reader, filter: &Filter) -> anyhow::Result<u64> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        let stream_id = reader.stream_id();
        let found = self.each(reader, filter, |stored, _| {
            let body = journaled(stored.entry.detail.as_bytes(), Some(stored.seq));
            write!(out, "{{\"stream_id\":\"{stream_id}\",")?;
            out.write_all(body.get(1..).unwrap_or_default())?;
            out.write_all(b"\n")
        })?;
        out.flush()?;
        Ok(found)
    }

    /// A table for each thousand entries: their columns are as wide as they need.
    fn print(&self, reader: &Reader, filter: &Filter) -> anyhow::Result<u64> {
        let columns = [
            ("WHEN", Align::Left),
            ("EVENT", Align::Left),
            ("NAME", Align::Left),
            ("PID", Align::Right),
            ("COMMAND", Align::Left),
            ("HOW", Align::Left),
            ("HOME", Align::Left),
        ];
        let mut rows: Vec<Vec<Cell>> = Vec::new();
        let mut first = true;
        let mut flush = |rows: &mut Vec<Vec<Cell>>| -> io::Result<()> {
            let mut table = Table::new(&columns);
            rows.drain(..).for_each(|row| table.push(row));
            let skip = usize::from(!std::mem::take(&mut first));
            term::print_lines(table.lines(term::width()).skip(skip))
        };
        let found = self.each(reader, filter, |stored, shown| {
            rows.push(shown.row(stored));
            if rows.len() >= READ_MAX { flush(&mut rows) } else { Ok(()) }
        })?;
        if !rows.is_empty() {
            flush(&mut rows)?;
        }
        Ok(found)
    }
}

/// What a person is shown of an entry.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Shown<'a> {
    comm: Text<'a>,
    state: String,
    roots: u32,
    death: Option<DeathJson<'a>>,
    end_reason: Option<String>,
    lost: u64,
    corrected: u64,
    #[serde(flatten)]
    gap: Gap,
}

impl Shown<'_> {
    fn violent(&self) -> bool {
        self.death.as_ref().is_some_and(|death| matches!(death.kind.as_str(), "signaled" | "oom_killed"))
    }

    fn row(&self, stored: &Stored) -> Vec<Cell> {
        let entry = &stored.entry;
        let (event, style, how) = match entry.kind.as_str() {
            "session_started" => ("started", GOOD, String::new()),
            "session_changed" if self.state == "live" => ("changed", NOTICE, self.others()),
            "session_changed" => (self.state.as_str(), NOTICE, String::new()),
            "session_ended" => ("ended", BAD, self.end()),
            "gap_opened" => ("gap", BAD, "events were lost; the kernel was read again".into()),
            "gap_closed" => {
                ("healed", NOTICE, format!("{} events lost, {} corrections", self.lost, self.corrected))
            }
            "gap" => ("missing", BAD, self.missing()),
            other => (other, FAINT, String::new()),
        };
        let text = |bytes: &Option<Vec<u8>>| to_line(bytes.as_deref().unwrap_or_default()).into_owned();
        vec![
            Cell::new(local(entry.at_unix_ns)).styled(FAINT),
            Cell::new(to_line(event.as_bytes())).styled(style),
            Cell::new(text(&entry.name)).styled(STRONG),
            Cell::new(entry.pid.map(|pid| pid.to_string()).unwrap_or_default()),
            Cell::new(to_line(self.comm.as_bytes())),
            Cell::new(to_line(how.as_bytes())).styled(if style == BAD { BAD } else { Style::new() }),
            Cell::new(text(&entry.home)),
        ]
    }

    fn others(&self) -> String {
        if self.roots > 1 { format!("+{} more", self.roots - 1) } else { String::new() }
    }

    fn end(&self) -> String {
        match (&self.death, self.end_reason.as_deref()) {
            (Some(death), _) => death.words(),
            (None, Some("execed_away")) => "became another program".into(),
            (None, Some("replaced")) => "its home was replaced".into(),
            _ => String::new(),
        }
    }

    /// What a gap of the journal itself is.
    fn missing(&self) -> String {
        let count = self.gap.count.map(|count| count.to_string()).unwrap_or_default();
        match self.gap.reason.as_str() {
            "retention_size" | "retention_age" => format!("{count} older entries were removed"),
            "not_running" => {
                let from = self.gap.from.as_deref().unwrap_or_default();
                let from = from.parse::<Timestamp>().map(Timestamp::as_nanosecond);
                let from = from.ok().and_then(|ns| i64::try_from(ns).ok()).map(local).unwrap_or_default();
                format!("{} from {from}", self.gap.message.as_deref().unwrap_or("observer did not run"))
            }
            reason if self.gap.count.is_some() => format!("{count} entries lost: {reason}"),
            reason => {
                let message = self.gap.message.as_deref().unwrap_or_default();
                format!("a new journal begins: {reason}: {message}")
            }
        }
    }
}

/// Date and time in this machine's zone.
fn local(unix_ns: i64) -> String {
    match Timestamp::from_nanosecond(i128::from(unix_ns)) {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        Err(_) => "?".into(),
    }
}

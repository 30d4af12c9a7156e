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

use super::database::DatabaseFlags;
use super::fleet_history::{self, Form};
use super::{Exit, Failure, JOURNAL_NAME, STATE_DIR_DEFAULT, home, term};
use crate::api::change::journaled;
use crate::api::death::DeathJson;
use crate::clock;
use crate::config::span;
use crate::journal::Gap;
use crate::journal::reader::{Filter, Reader, Stored};
use crate::mirror::connect::Purpose;
use crate::mirror::history::EventQuery;
use crate::text::bytes::{Text, to_json, to_line};
use crate::text::style::{BAD, FAINT, GOOD, NOTICE, STRONG};
use crate::text::table::{Align, Cell, LongTable};

/// Entries read at a time, and their bytes.
const READ_MAX: usize = 1_024;
const READ_BYTES_MAX: usize = 4 << 20;

/// Of [`Shown::row`].
pub const COLUMNS: [(&str, Align); 7] = [
    ("WHEN", Align::Left),
    ("EVENT", Align::Left),
    ("NAME", Align::Left),
    ("PID", Align::Right),
    ("COMMAND", Align::Left),
    ("HOW", Align::Left),
    ("HOME", Align::Left),
];

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
    /// Instead of the journal: what all hosts mirrored to this database
    #[command(flatten)]
    database: DatabaseFlags,
    /// Of the mirror only this host, by its name or host_id
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
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
    /// 0 found, 1 certainly nothing, 2 no time is meant, 3 the name is that of several homes, 4 the journal cannot be
    /// read.
    pub fn run(self) -> anyhow::Result<Exit> {
        let mut out = io::BufWriter::new(anstream::AutoStream::auto(io::stdout().lock()));
        let exit = self.tell(&mut out, &mut io::stderr().lock(), term::width())?;
        out.flush()?;
        Ok(exit)
    }

    fn tell(&self, out: &mut impl Write, err: &mut impl Write, width: Option<usize>) -> anyhow::Result<Exit> {
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since >= until
        {
            let (since, until) = (local(since), local(until));
            let message =
                format!("--since ({since}) must be earlier than --until ({until}); correct one of them");
            return Err(Failure { exit: Exit::Usage, message }.into());
        }
        if self.database.url()?.is_some() {
            return self.tell_mirrored(out, err, width);
        }
        if self.host.is_some() {
            let message = "--host is of the mirror: name its database, with --database-url-file FILE";
            return Err(Failure { exit: Exit::Usage, message: message.into() }.into());
        }
        let path = self.journal_path.clone().unwrap_or_else(|| {
            self.state_dir.clone().unwrap_or_else(|| STATE_DIR_DEFAULT.into()).join(JOURNAL_NAME)
        });
        let reader = Reader::open(&path)?;
        let mut filter =
            Filter { since_ns: self.since, until_ns: self.until, ends: self.violent, ..Filter::default() };
        let wanted = self.session.as_ref().map(|session| session.as_bytes());
        match wanted {
            Some(home) if home.starts_with(b"/") => filter.home = Some(known_home(&reader, home)?),
            Some(name) => {
                filter.name = Some(name.to_vec());
                let homes = reader.homes(&filter)?;
                if homes.len() > 1 {
                    writeln!(err, "observer: {} homes are called {}; name one:", homes.len(), to_line(name))?;
                    for home in homes {
                        writeln!(err, "  {}", to_line(&home))?;
                    }
                    return Ok(Exit::Ambiguous);
                }
            }
            None => {}
        }
        let found = if self.json {
            self.print_json(&reader, &filter, out)?
        } else {
            self.print(&reader, &filter, out, width)?
        };
        if found > 0 {
            return Ok(Exit::Found);
        }
        let of = wanted.map(|name| format!(" of {}", to_line(name))).unwrap_or_default();
        let what = if self.violent { "nothing that was killed" } else { "nothing" };
        writeln!(
            err,
            "observer: the journal holds {what}{of} in that time; `observer history` shows all it holds"
        )?;
        Ok(Exit::None)
    }

    /// The same from the database; a name may be that of several homes there.
    fn tell_mirrored(
        &self,
        out: &mut impl Write,
        err: &mut impl Write,
        width: Option<usize>,
    ) -> anyhow::Result<Exit> {
        if self.journal_path.is_some() || self.state_dir.is_some() {
            let message = "a journal and a database cannot both be read: leave one out";
            return Err(Failure { exit: Exit::Usage, message: message.into() }.into());
        }
        let text = |bytes: &[u8]| to_json(bytes).into_owned();
        let (home, name) = match self.session.as_ref().map(|session| session.as_bytes()) {
            Some(home) if home.starts_with(b"/") => (Some(text(home::plain(home))), None),
            name => (None, name.map(text)),
        };
        let wanted = EventQuery {
            host: self.host.clone(),
            since_us: self.since.map(|ns| ns.div_euclid(1_000)),
            until_us: self.until.map(|ns| ns.div_euclid(1_000)),
            name,
            home,
            ends: self.violent,
        };
        let form = Form { json: self.json, violent: self.violent, width };
        let found = self.database.with(Purpose::Read, async |connected| {
            fleet_history::tell(connected, &wanted, &form, out).await
        })?;
        if found > 0 {
            return Ok(Exit::Found);
        }
        writeln!(
            err,
            "observer: the mirror holds nothing of that; see SELECT host, host_id FROM observer.hosts"
        )?;
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

    fn print_json(&self, reader: &Reader, filter: &Filter, out: &mut impl Write) -> anyhow::Result<u64> {
        let stream_id = reader.stream_id();
        self.each(reader, filter, |stored, _| {
            let body = journaled(stored.entry.detail.as_bytes(), Some(stored.seq));
            write!(out, "{{\"stream_id\":\"{stream_id}\",")?;
            out.write_all(body.get(1..).unwrap_or_default())?;
            out.write_all(b"\n")
        })
    }

    fn print(
        &self,
        reader: &Reader,
        filter: &Filter,
        out: &mut impl Write,
        width: Option<usize>,
    ) -> anyhow::Result<u64> {
        let mut table = LongTable::new(&COLUMNS, width);
        let found = self.each(reader, filter, |stored, shown| table.push(shown.row(stored), out))?;
        table.flush(out)?;
        Ok(found)
    }
}

/// A home as the journal has it: what was typed, or where that leads by a symlink.
fn known_home(reader: &Reader, typed: &[u8]) -> anyhow::Result<Vec<u8>> {
    let plain = home::plain(typed);
    if reader.knows_home(plain)? {
        return Ok(plain.to_vec());
    }
    Ok(home::resolved(plain).unwrap_or_else(|| plain.to_vec()))
}

/// What a person is shown of an entry.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Shown<'a> {
    comm: Text<'a>,
    state: String,
    roots: u32,
    death: Option<DeathJson<'a>>,
    end_reason: Option<String>,
    found_at: Option<String>,
    lost: u64,
    corrected: u64,
    #[serde(flatten)]
    gap: Gap,
}

impl Shown<'_> {
    /// A signal or the lack of memory ended it.
    pub fn violent(&self) -> bool {
        self.death.as_ref().is_some_and(|death| matches!(death.kind.as_str(), "signaled" | "oom_killed"))
    }

    /// Cells of its line.
    pub fn row(&self, stored: &Stored) -> Vec<Cell> {
        let entry = &stored.entry;
        let (event, style, how) = match entry.kind.as_str() {
            "session_started" if self.found_at.is_some() => ("started", GOOD, "found later".into()),
            "session_started" => ("started", GOOD, String::new()),
            "session_changed" if self.state == "live" => ("changed", NOTICE, self.others()),
            "session_changed" => (self.state.as_str(), NOTICE, String::new()),
            "session_ended" => ("ended", BAD, self.end()),
            "process_ended" => ("died", BAD, format!("{}; another stands for the home", self.end())),
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
        DeathJson::end_words(self.death.as_ref(), self.end_reason.as_deref())
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
            "queue_full" | "disk_full" | "write_failed" | "too_large" | "rejected" => {
                format!("{count} entries lost: {}", self.gap.reason)
            }
            reason => {
                let message = self.gap.message.as_deref().unwrap_or_default();
                let lost = if count.is_empty() { count } else { format!(" ({count} entries in no mirror)") };
                format!("a new journal begins: {reason}: {message}{lost}")
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

#[cfg(test)]
mod tests;

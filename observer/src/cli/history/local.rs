//! `observer history`: entries of this machine's journal.

use std::io::{self, Write};

use super::lines::Lines;
use super::shown::{EntryLine, Form, Shown};
use crate::api::change::journaled;
use crate::api::entry::NumberedEntry;
use crate::api::words::EntryKind;
use crate::cli::exit::{Exit, Failure};
use crate::cli::home;
use crate::journal::{EntryFilter, JournalReader};
use crate::text::bytes::to_line;

/// Entries read at a time, and their bytes.
const READ_MAX: usize = 1_024;
const READ_BYTES_MAX: usize = 4 << 20;

/// The entries of a journal that a filter selects.
pub struct LocalHistory {
    reader: JournalReader,
    filter: EntryFilter,
}

/// What a session's name or home in the arguments selects.
enum Selected {
    /// Entries of one home, or of all.
    Entries,
    /// The name of several homes.
    Homes(Vec<Vec<u8>>),
}

impl LocalHistory {
    /// Entries that `reader` finds with `filter`.
    pub fn new(reader: JournalReader, filter: EntryFilter) -> Self {
        Self { reader, filter }
    }

    /// Prints entries of `session` (a name, or the absolute path of a home), or of all sessions.
    pub fn print(
        mut self,
        session: Option<&[u8]>,
        form: Form,
        out: &mut impl Write,
        err: &mut impl Write,
    ) -> anyhow::Result<Exit> {
        if let Some(session) = session
            && let Selected::Homes(homes) = self.select(session)?
        {
            writeln!(err, "observer: {} homes are called {}; name one:", homes.len(), to_line(session))?;
            homes.iter().try_for_each(|home| writeln!(err, "  {}", to_line(home)))?;
            return Ok(Exit::Ambiguous);
        }
        let found = if form.json { self.print_json(form, out)? } else { self.print_lines(form, out)? };
        if found > 0 {
            return Ok(Exit::Found);
        }
        let of = session.map(|name| format!(" of {}", to_line(name))).unwrap_or_default();
        let what = if form.forced { "nothing that was killed" } else { "nothing" };
        writeln!(
            err,
            "observer: the journal holds {what}{of} in that time; `observer history` shows all it holds"
        )?;
        Ok(Exit::None)
    }

    /// Restricts the filter to `session`.
    fn select(&mut self, session: &[u8]) -> anyhow::Result<Selected> {
        if session.starts_with(b"/") {
            self.filter.home = Some(self.known_home(session)?);
            return Ok(Selected::Entries);
        }
        self.filter.name = Some(session.to_vec());
        let homes = self.reader.homes(&self.filter)?;
        Ok(if homes.len() > 1 { Selected::Homes(homes) } else { Selected::Entries })
    }

    /// The home as the journal has it: the path as it was typed, or the path to which its symlinks lead.
    fn known_home(&self, typed: &[u8]) -> anyhow::Result<Vec<u8>> {
        let plain = home::plain(typed);
        if self.reader.knows_home(plain)? {
            return Ok(plain.to_vec());
        }
        Ok(home::resolved(plain).unwrap_or_else(|| plain.to_vec()))
    }

    /// Calls `show` with each selected entry. Returns how many of them concern sessions.
    fn each(
        &self,
        form: Form,
        mut show: impl FnMut(&NumberedEntry, &Shown<'_>) -> io::Result<()>,
    ) -> anyhow::Result<u64> {
        let (mut after, mut found) = (0, 0);
        loop {
            let batch = self.reader.read_after(after, &self.filter, READ_MAX, READ_BYTES_MAX)?;
            let Some(last) = batch.last() else { return Ok(found) };
            after = last.seq;
            for stored in &batch {
                let shown = decode(stored)?;
                let is_session = stored.entry.subject.is_some();
                if is_session && form.forced && !shown.is_forced_end() {
                    continue;
                }
                found += u64::from(is_session);
                show(stored, &shown)?;
            }
        }
    }

    fn print_json(&self, form: Form, out: &mut impl Write) -> anyhow::Result<u64> {
        let stream_id = self.reader.stream_id();
        self.each(form, |stored, _| {
            let body = journaled(stored.entry.detail.as_bytes(), Some(stored.seq));
            write!(out, "{{\"stream_id\":\"{stream_id}\",")?;
            out.write_all(body.get(1..).unwrap_or_default())?;
            out.write_all(b"\n")
        })
    }

    /// Prints the entries for people. Removals with nothing in between are one line.
    fn print_lines(&self, form: Form, out: &mut impl Write) -> anyhow::Result<u64> {
        let mut lines = Lines::new(form, false);
        let mut removal: Option<Removal> = None;
        let found = self.each(form, |stored, shown| {
            let entry = &stored.entry;
            if let Some(count) = shown.removed() {
                let count = count + removal.map_or(0, |before| before.count);
                removal = Some(Removal { at_unix_ns: entry.at_unix_ns, count });
                return Ok(());
            }
            removal.take().map_or(Ok(()), |removal| removal.print(&mut lines, out))?;
            let subject = entry.subject.as_ref();
            let line = EntryLine {
                at_unix_ns: entry.at_unix_ns,
                kind: entry.kind.clone(),
                home: subject.map(|it| it.home.as_slice()).unwrap_or_default(),
                name: subject.map(|it| it.name.as_slice()).unwrap_or_default(),
                pid: subject.map(|it| it.process.tgid.0),
            };
            lines.push(shown, &line, None, out)
        })?;
        removal.map_or(Ok(()), |removal| removal.print(&mut lines, out))?;
        lines.flush(out)?;
        Ok(found)
    }
}

/// Entries that bounds removed, and when the last of them happened, ns since 1970.
#[derive(Clone, Copy)]
struct Removal {
    at_unix_ns: i64,
    count: u64,
}

impl Removal {
    fn print(self, lines: &mut Lines, out: &mut impl Write) -> io::Result<()> {
        let line =
            EntryLine { at_unix_ns: self.at_unix_ns, kind: EntryKind::Gap, home: &[], name: &[], pid: None };
        lines.push(&Shown::removal(self.count), &line, None, out)
    }
}

fn decode(stored: &NumberedEntry) -> Result<Shown<'_>, Failure> {
    serde_json::from_str(&stored.entry.detail).map_err(|error| Failure {
        exit: Exit::Unknown,
        message: format!("entry {} of the journal makes no sense ({error}); report this", stored.seq),
    })
}

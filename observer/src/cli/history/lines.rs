//! Writes entries for people: as a table, or those of killed sessions as sentences.

use std::io::{self, Write};

use super::sentence::paragraph;
use super::shown::{COLUMNS, EntryLine, Form, Shown};
use crate::text::bytes::to_line;
use crate::text::style::FAINT;
use crate::text::table::{Align, Cell, LongTable};
use crate::text::wrap::{hanging, wrap};

/// Columns of the table of all hosts.
const FLEET_COLUMNS: [(&str, Align); 8] = {
    let [when, event, name, pid, program, how, home] = COLUMNS;
    [("HOST", Align::Left), when, event, name, pid, program, how, home]
};
/// Cells before the text of a sentence: date, time, and a gap.
const INDENT: usize = 21;
/// Lines that are narrower than this have no indent.
const INDENTED_CELLS: usize = 60;

/// What is written.
pub enum Lines {
    /// A line each.
    Table(LongTable<'static>),
    /// A paragraph each, in lines of this width; `None`: one line.
    Sentences(Option<usize>),
}

impl Lines {
    /// Lines in this form, of this host or, with `fleet`, of several.
    pub fn new(form: Form, fleet: bool) -> Self {
        match form.forced {
            true => Self::Sentences(form.width),
            false if fleet => Self::Table(LongTable::new(&FLEET_COLUMNS, form.width)),
            false => Self::Table(LongTable::new(&COLUMNS, form.width)),
        }
    }

    /// Adds an entry; `host`: the raw name of the host that it is of, where there are several.
    pub fn push(
        &mut self,
        shown: &Shown<'_>,
        line: &EntryLine<'_>,
        host: Option<&str>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let host = host.map(|host| to_line(host.as_bytes()));
        match self {
            Self::Table(table) => {
                let mut row: Vec<_> = host.map(Cell::new).into_iter().collect();
                row.extend(shown.row(line));
                table.push(row, out)
            }
            Self::Sentences(width) => {
                let (when, text) = paragraph(shown, line, host.as_deref());
                let lines = match *width {
                    Some(width) if width >= INDENTED_CELLS => hanging(&when, INDENT, &text, width),
                    Some(width) => wrap(&format!("{when}  {text}"), width.max(1)),
                    None => vec![format!("{when}  {text}")],
                };
                lines.iter().try_for_each(|line| match line.strip_prefix(when.as_str()) {
                    Some(rest) => writeln!(out, "{FAINT}{when}{FAINT:#}{rest}"),
                    None => writeln!(out, "{line}"),
                })
            }
        }
    }

    /// Writes what was collected.
    pub fn flush(&mut self, out: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Table(table) => table.flush(out),
            Self::Sentences(_) => Ok(()),
        }
    }
}

//! Standard output: lines, styles where it is a terminal, and the end of a program whose output is no longer read.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Write};

use serde::Serialize;

use crate::text::table::{Table, cut_middle};

/// Cells of the narrowest lines to which text is wrapped.
const NARROWEST_COLUMNS: usize = 40;

/// Cells to which a name is cut at most, however narrow the terminal is.
const FITTED_CELLS: usize = 24;

/// Writes lines. Styles are removed where standard output is not a terminal or NO_COLOR is set.
pub fn print_lines(lines: impl IntoIterator<Item = String>) -> io::Result<()> {
    let mut out = BufWriter::new(anstream::AutoStream::auto(io::stdout().lock()));
    for line in lines {
        writeln!(out, "{line}")?;
    }
    out.flush()
}

/// Writes text without a change.
pub fn print_text(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes a table; on a terminal, lines are cut to its width.
pub fn print_table(table: &Table) -> io::Result<()> {
    print_lines(table.lines(width()))
}

/// Writes `value` as a JSON document.
pub fn print_json(value: &impl Serialize) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    out.flush()
}

/// Cells of the terminal's line; `None` if standard output is not a terminal.
pub fn width() -> Option<usize> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    terminal_size::terminal_size_of(&out).map(|(width, _)| usize::from(width.0))
}

/// Cells of a line of standard error; `None` if that is not a terminal.
pub fn error_width() -> Option<usize> {
    let err = io::stderr();
    if !err.is_terminal() {
        return None;
    }
    terminal_size::terminal_size_of(&err).map(|(width, _)| usize::from(width.0))
}

/// `text`, cut in its middle where it does not fit into a line of `width` cells that has `beside` cells of other text.
pub fn fitted(text: &str, beside: usize, width: Option<usize>) -> Cow<'_, str> {
    match width {
        Some(width) => cut_middle(text, width.saturating_sub(beside).max(FITTED_CELLS)),
        None => text.into(),
    }
}

/// Cells of a line of wrapped text: at most `max`, and at most those of the terminal, as far as that is of use.
pub fn width_within(max: usize) -> usize {
    width().map_or(max, |width| width.clamp(NARROWEST_COLUMNS, max))
}

/// Ends this process as SIGPIPE ends other tools. Rust starts programs with the signal ignored.
pub fn die_of_broken_pipe() -> ! {
    use nix::sys::signal::{SigHandler, Signal, raise, signal};
    // SAFETY: the default action runs no code of ours.
    let restored = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    if restored.is_ok() {
        let _ = raise(Signal::SIGPIPE);
    }
    std::process::exit(141)
}

//! The lines of `list --long` on a terminal that is too narrow for its columns: those of `list`, and below each the rest.

use unicode_width::UnicodeWidthStr as _;

use super::columns::{COLUMNS, Column, table};
use crate::api::session::SessionJson;
use crate::text::style::FAINT;
use crate::text::table::cut_middle;

/// What stands before the lines below a session.
const INDENT: &str = "    ";
/// What stands between two values.
const GAP: &str = "  ";

/// The lines of `columns`, each of at most `width` cells. The pid and the key are never cut, and values that are not there
/// are left out.
pub(super) fn lines(columns: &[Column], sessions: &[&SessionJson<'_>], width: usize) -> Vec<String> {
    let (first, rest): (Vec<Column>, Vec<Column>) =
        columns.iter().partition(|column| COLUMNS.contains(column));
    let table = table(&first, sessions);
    let mut rows = table.lines(Some(width));
    let mut lines: Vec<String> = rows.by_ref().take(1).collect();
    for (row, session) in rows.zip(sessions) {
        lines.push(row);
        lines.extend(details(&rest, session, width));
    }
    lines
}

/// The values of `columns`, each behind its name, in as many lines as they need.
fn details(columns: &[Column], session: &SessionJson<'_>, width: usize) -> Vec<String> {
    let room = width.saturating_sub(INDENT.len());
    let mut lines = Vec::new();
    let (mut line, mut used) = (String::new(), 0);
    for column in columns {
        let (name, cell) = (column.header().0.to_lowercase(), column.cell(session));
        if matches!(cell.text(), "-" | "") {
            continue;
        }
        let left = room.saturating_sub(name.len() + 1);
        let value = match column {
            Column::Key => cell.text().into(),
            _ => cut_middle(cell.text(), left),
        };
        let wide = name.len() + 1 + value.width();
        if used > 0 && used + GAP.len() + wide > room {
            lines.push(format!("{INDENT}{}", std::mem::take(&mut line)));
            used = 0;
        }
        let gap = if used > 0 { GAP } else { "" };
        line.push_str(&format!("{gap}{FAINT}{name}{FAINT:#} {value}"));
        used += gap.len() + wide;
    }
    if used > 0 {
        lines.push(format!("{INDENT}{line}"));
    }
    lines
}

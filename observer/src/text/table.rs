//! Aligned columns for people. Widths are cells of a terminal, not bytes or characters.

use std::io::{self, Write};

use anstyle::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Rows of a long table that are collected before they are written.
const TABLE_ROWS: usize = 1_024;
/// Cells between two columns.
const GAP: usize = 2;

/// One cell: text without control characters (see [`super::bytes::to_line`]), and its style.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A plain cell.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), style: Style::new() }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The same text, with a style.
    pub fn styled(self, style: Style) -> Self {
        Self { style, ..self }
    }
}

/// The alignment of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// For text.
    Left,
    /// For numbers.
    Right,
}

/// How the text of a column is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shorten {
    /// At the end.
    End,
    /// In the middle, where both ends say something.
    Middle,
}

/// A column that may become narrower than its text.
#[derive(Clone, Copy, Debug)]
struct Flexible {
    width_min: usize,
    shorten: Shorten,
}

/// Rows below a header.
#[derive(Debug)]
pub struct Table {
    aligns: Vec<Align>,
    flexible: Vec<Option<Flexible>>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with these columns.
    pub fn new(columns: &[(&str, Align)]) -> Self {
        let header = columns.iter().map(|(name, _)| Cell::new(*name).styled(Style::new().bold())).collect();
        Self {
            aligns: columns.iter().map(|&(_, align)| align).collect(),
            flexible: vec![None; columns.len()],
            rows: vec![header],
        }
    }

    /// The same table, in which the column with this name may be cut to no fewer than `width_min` cells where the lines
    /// would be wider than the terminal. The widest of such columns is cut first.
    pub fn shortened(mut self, column: &str, shorten: Shorten, width_min: usize) -> Self {
        let header = self.rows.iter().take(1).flatten();
        for (cell, flexible) in header.zip(&mut self.flexible) {
            if cell.text == column {
                *flexible = Some(Flexible { width_min, shorten });
            }
        }
        self
    }

    /// Adds a row.
    pub fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// The lines. If `width` is given, columns are cut as [`Table::shortened`] says, and then each line is cut to `width`
    /// cells. The last column is not padded.
    pub fn lines(&self, width: Option<usize>) -> impl Iterator<Item = String> + '_ {
        let mut widths = self.widest();
        if let Some(width) = width {
            self.shorten(&mut widths, width);
        }
        self.rows.iter().map(move |row| self.line(row, &widths, width.unwrap_or(usize::MAX)))
    }

    /// The cells of a line in which every column is as narrow as it may be.
    pub fn width_min(&self) -> usize {
        let columns = self.widest().into_iter().zip(&self.flexible);
        let widths =
            columns.map(|(wide, flexible)| flexible.map_or(wide, |flexible| wide.min(flexible.width_min)));
        widths.sum::<usize>() + GAP * self.aligns.len().saturating_sub(1)
    }

    /// The cells of the widest text of each column.
    fn widest(&self) -> Vec<usize> {
        let columns = 0..self.aligns.len();
        let widest = columns.map(|column| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.text.width()).max()
        });
        widest.map(|widest| widest.unwrap_or(0)).collect()
    }

    /// Makes the widest flexible columns narrower until a line has at most `room` cells, as far as they may be.
    fn shorten(&self, widths: &mut [usize], room: usize) {
        let gaps = GAP * widths.len().saturating_sub(1);
        let excess = (widths.iter().sum::<usize>() + gaps).saturating_sub(room);
        for _ in 0..excess {
            let columns = widths.iter_mut().zip(&self.flexible);
            let able = columns
                .filter(|(width, flexible)| flexible.is_some_and(|flexible| **width > flexible.width_min));
            let Some((widest, _)) = able.max_by_key(|(width, _)| **width) else { return };
            *widest -= 1;
        }
    }

    fn line(&self, row: &[Cell], widths: &[usize], mut room: usize) -> String {
        let mut line = String::new();
        let mut padding = 0;
        let columns = self.aligns.iter().zip(&self.flexible).zip(widths);
        for (column, (cell, ((&align, flexible), &wide))) in row.iter().zip(columns).enumerate() {
            let text = match flexible.map(|flexible| flexible.shorten) {
                Some(Shorten::End) => cut(&cell.text, wide),
                Some(Shorten::Middle) => cut_middle(&cell.text, wide),
                None => cell.text.as_str().into(),
            };
            let missing = wide.saturating_sub(text.width());
            let gap = if column == 0 { 0 } else { GAP };
            let before = padding + gap + if align == Align::Right { missing } else { 0 };
            padding = if align == Align::Left { missing } else { 0 };
            if before >= room || text.is_empty() {
                padding += before;
                continue;
            }
            room -= before;
            line.extend(std::iter::repeat_n(' ', before));
            let shown = cut(&text, room);
            room -= shown.width();
            let style = cell.style;
            line.push_str(&format!("{style}{shown}{style:#}"));
        }
        line
    }
}

/// A table of any length. Rows are written in groups; the columns of each group are as wide as its rows need.
pub struct LongTable<'a> {
    columns: &'a [(&'a str, Align)],
    width: Option<usize>,
    rows: Vec<Vec<Cell>>,
    /// Whether the header was written.
    begun: bool,
}

impl<'a> LongTable<'a> {
    /// A table with these columns; lines are cut to `width`.
    pub fn new(columns: &'a [(&'a str, Align)], width: Option<usize>) -> Self {
        Self { columns, width, rows: Vec::new(), begun: false }
    }

    /// Adds a row, and writes the collected rows if there are [`TABLE_ROWS`].
    pub fn push(&mut self, row: Vec<Cell>, out: &mut impl Write) -> io::Result<()> {
        self.rows.push(row);
        if self.rows.len() >= TABLE_ROWS { self.flush(out) } else { Ok(()) }
    }

    /// Writes the collected rows.
    pub fn flush(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut table = Table::new(self.columns);
        self.rows.drain(..).for_each(|row| table.push(row));
        let skip = usize::from(std::mem::replace(&mut self.begun, true));
        table.lines(self.width).skip(skip).try_for_each(|line| writeln!(out, "{line}"))
    }
}

/// `text` cut to `width` cells, with `…` at the end if it was cut.
pub fn cut(text: &str, width: usize) -> std::borrow::Cow<'_, str> {
    if text.width() <= width {
        return text.into();
    }
    let mut used = 0;
    let mut end = 0;
    for (at, c) in text.char_indices() {
        used += c.width().unwrap_or(0);
        if used + 1 > width {
            break;
        }
        end = at + c.len_utf8();
    }
    let mark = if width == 0 { "" } else { "…" };
    format!("{}{mark}", text.get(..end).unwrap_or_default()).into()
}

/// `text` cut to `width` cells, with `…` in place of its middle if it was cut: of a path, both ends say something.
pub fn cut_middle(text: &str, width: usize) -> std::borrow::Cow<'_, str> {
    if text.width() <= width {
        return text.into();
    }
    let mut begin = cut(text, width.div_ceil(2)).into_owned();
    let mut used = begin.width();
    let mut end = text.len();
    for (at, c) in text.char_indices().rev() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        end = at;
    }
    begin.push_str(text.get(end..).unwrap_or_default());
    begin.into()
}

#[cfg(test)]
mod tests {
    use super::super::bytes::to_line;
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(&[("NAME", Align::Left), ("PID", Align::Right), ("CWD", Align::Left)]);
        let hostile: [&[u8]; 4] = ["日本".as_bytes(), b"evil\n\x1b[2J", b"\xff\t", "a\u{202e}b".as_bytes()];
        for (row, name) in hostile.iter().enumerate() {
            let pid = Cell::new((10_usize.pow(row as u32)).to_string());
            table.push(vec![Cell::new(to_line(name)), pid, Cell::new("/srv")]);
        }
        table
    }

    #[test]
    fn hostile_names_keep_columns_and_lines() {
        let lines: Vec<_> =
            sample().lines(None).map(|line| anstream::adapter::strip_str(&line).to_string()).collect();
        let expected = [
            "NAME            PID  CWD",
            "日本              1  /srv",
            r"evil\n\x1b[2J    10  /srv",
            r"\xff\t          100  /srv",
            r"a\u{202e}b     1000  /srv",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn lines_are_cut_to_the_terminal() {
        for width in 0..40 {
            for line in sample().lines(Some(width)) {
                let plain = anstream::adapter::strip_str(&line).to_string();
                assert!(plain.width() <= width, "{plain:?} in {width}");
            }
        }
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("abc", 3), "abc");
    }

    #[test]
    fn the_middle_is_cut_where_both_ends_matter() {
        assert_eq!(cut_middle("/srv/agents/alpha/src/lib", 13), "/srv/a…rc/lib");
        assert_eq!(cut_middle("/srv", 4), "/srv");
        assert_eq!(cut_middle("日本語日本語", 7), "日…本語");
        for width in 0..20 {
            assert!(cut_middle("/srv/日本/agents/alpha", width).width() <= width, "{width}");
        }
    }

    #[test]
    fn flexible_columns_are_cut_and_others_are_whole() {
        let mut table = Table::new(&[("NAME", Align::Left), ("PID", Align::Right), ("HOME", Align::Left)])
            .shortened("NAME", Shorten::End, 6)
            .shortened("HOME", Shorten::Middle, 8);
        let row = |name: &str, home: &str| vec![Cell::new(name), Cell::new("4194304"), Cell::new(home)];
        table.push(row("日本語日本語日本語", "/srv/agents/日本語/alpha"));
        table.push(row(&to_line(b"evil\n\x1b[2J\xff"), "/"));
        let shown = |width| -> Vec<String> {
            table.lines(width).map(|line| anstream::adapter::strip_str(&line).to_string()).collect()
        };
        assert_eq!(
            shown(Some(30)),
            ["NAME            PID  HOME", "日本語日…   4194304  /srv…lpha", "evil\\n\\x1…  4194304  /",]
        );
        for width in 0..60 {
            for line in shown(Some(width)) {
                assert!(line.width() <= width, "{line:?} in {width}");
                assert!(
                    width < 15 || line.contains("PID") || line.contains("4194304"),
                    "{line:?} in {width}"
                );
            }
        }
        assert!(shown(None)[1].ends_with("/srv/agents/日本語/alpha"), "{:?}", shown(None));
        assert_eq!(shown(None), shown(Some(60)));
    }

    #[test]
    fn a_long_table_has_one_header_and_every_row() {
        let mut table = LongTable::new(&[("N", Align::Right)], None);
        let mut out = Vec::new();
        table.flush(&mut out).unwrap();
        assert!(out.is_empty());
        for row in 0..=TABLE_ROWS {
            table.push(vec![Cell::new(row.to_string())], &mut out).unwrap();
        }
        table.flush(&mut out).unwrap();
        let text = anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string();
        let words: Vec<_> = text.split_whitespace().collect();
        assert_eq!((words[0], words.len()), ("N", TABLE_ROWS + 2));
        assert_eq!(words.last(), Some(&"1024"));
    }
}

//! Draws the state of `observer top` into cells.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::{Position, Rect};
use ratatui_core::style::{Color, Modifier, Style};
use unicode_width::UnicodeWidthStr;

use super::areas::TopPane;
use super::asked::ASK_PAUSE_MAX;
use super::event::Scope;
use super::model::TopModel;
use super::rows::{Tone, TopColumn, TopRow, columns};
use crate::api::words::SessionState;
use crate::text::bytes::to_one_line;
use crate::text::table::{cut, cut_middle};
use crate::text::time::{time_of_day, unix_rfc3339};

/// How long no answer may come before the screen says so, ns: longer than between two that are slow.
const LATE_NS: i128 = 30_000_000_000;
const _: () = assert!(LATE_NS > ASK_PAUSE_MAX.as_nanos().cast_signed() * 5 / 4);

/// How a column takes its place.
struct Fitting {
    column: TopColumn,
    /// Cells that it has at least, or is not shown.
    width_min: usize,
    /// Columns with a larger number go first where there is no room.
    rank: u8,
    is_right: bool,
}

/// Draws the state. The position is that of the cursor, where there is one. Nothing is drawn outside of the buffer, also where
/// the state is of a screen of another size.
pub(super) fn draw(model: &TopModel, buffer: &mut Buffer) -> Option<Position> {
    let areas = model.areas().within(buffer.area);
    let pen = Pen { colour: model.setting.colour };
    title(model, &pen, areas.title, buffer);
    table(model, &pen, areas.table, areas.rows(), buffer);
    pane(model, &pen, areas.pane, areas.pane_rows(), buffer);
    let foot = model.foot();
    let style = pen.style(foot.tone());
    let mut end = areas.foot.as_position();
    for (line, y) in foot.wrapped(areas.foot.width).iter().zip(areas.foot.y..areas.foot.bottom()) {
        pen.put(buffer, areas.foot, y, 0, line, style);
        let x = u16::try_from(line.width()).unwrap_or(u16::MAX).min(areas.foot.width.saturating_sub(1));
        end = Position::new(x, y);
    }
    foot.is_typed.then_some(end).filter(|_| !areas.foot.is_empty())
}

/// Writes text with styles, and never beyond its area.
struct Pen {
    colour: bool,
}

impl Pen {
    /// The style of a tone. Without colours, tones differ by weight.
    fn style(&self, tone: Tone) -> Style {
        let coloured = |color: Color, modifier| match self.colour {
            true => Style::new().fg(color),
            false => Style::new().add_modifier(modifier),
        };
        match tone {
            Tone::Plain => Style::new(),
            Tone::Good => coloured(Color::Green, Modifier::empty()),
            Tone::Notice => coloured(Color::Yellow, Modifier::BOLD),
            Tone::Bad => coloured(Color::Red, Modifier::BOLD),
            Tone::Faint => Style::new().add_modifier(Modifier::DIM),
            Tone::Strong => Style::new().add_modifier(Modifier::BOLD),
        }
    }

    /// Writes `text` at `x` cells from the left of `area`; returns the cell behind it. Whatever the text has, what is written
    /// is one line without control characters.
    fn put(&self, buffer: &mut Buffer, area: Rect, y: u16, x: u16, text: &str, style: Style) -> u16 {
        let area = area.intersection(buffer.area);
        let room = area.width.saturating_sub(x);
        if room == 0 || y < area.y || y >= area.bottom() {
            return x;
        }
        let end = buffer.set_stringn(area.x + x, y, to_one_line(text), room.into(), style).0;
        end.saturating_sub(area.x)
    }
}

/// The time of day of a moment, ns since 1970.
fn clock(unix_ns: i128) -> String {
    let at = i64::try_from(unix_ns).ok().and_then(unix_rfc3339);
    let time = at.map(|at| time_of_day(&at)).unwrap_or_default();
    time.get(..8).unwrap_or("?").to_owned()
}

fn title(model: &TopModel, pen: &Pen, area: Rect, buffer: &mut Buffer) {
    let strong = pen.style(Tone::Strong);
    let x = pen.put(buffer, area, area.y, 0, "observer top  ", strong);
    if let Some((since, why)) = &model.away {
        let text = format!("{} is away since {}: {why}", model.setting.scope.source(), clock(*since));
        pen.put(buffer, area, area.y, x, &cut(&text, room(area, x)), pen.style(Tone::Bad));
        return;
    }
    let lives = |row: &&TopRow| !row.seen.has_ended();
    let all = model.rows.iter().filter(lives).count();
    let sessions = if all == 1 { "session" } else { "sessions" };
    let mut text = match model.filter.is_empty() && !model.ended {
        true => format!("{all} {sessions}"),
        false => format!("{} shown, {all} {sessions}", model.shown.len()),
    };
    for (state, word) in [(SessionState::Detached, "detached"), (SessionState::Left, "left")] {
        let count = model.rows.iter().filter(|row| row.seen.session.state == state).count();
        if count > 0 {
            text.push_str(&format!(", {count} {word}"));
        }
    }
    let order = if model.reversed { ", reversed" } else { "" };
    text.push_str(&format!("  by {}{order}", model.column.header()));
    let x = pen.put(buffer, area, area.y, x, &cut(&text, room(area, x)), Style::new());
    let (note, tone) = match model.read_at_ns {
        None => (format!("asking {} …", model.setting.scope.source()), Tone::Faint),
        Some(at) if model.setting.scope == Scope::Local && model.now_ns - at > LATE_NS => {
            (format!("no answer since {}", clock(at)), Tone::Bad)
        }
        Some(_) if !model.is_certain => ("events were lost and are read again".into(), Tone::Bad),
        Some(at) => (clock(at), Tone::Faint),
    };
    // At the right, where that does not cover the rest.
    let left = room(area, x).saturating_sub(note.width());
    if left >= 2 {
        let x = x.saturating_add(u16::try_from(left).unwrap_or(u16::MAX));
        pen.put(buffer, area, area.y, x, &note, pen.style(tone));
    }
}

/// Cells from `x` to the end of the line.
fn room(area: Rect, x: u16) -> usize {
    area.width.saturating_sub(x).into()
}

fn fitting(column: TopColumn) -> Fitting {
    let (width_min, rank, is_right) = match column {
        TopColumn::Name => (10, 0, false),
        TopColumn::Host => (8, 1, false),
        TopColumn::State => (8, 2, false),
        TopColumn::Up => (7, 3, true),
        TopColumn::Cpu => (5, 4, true),
        TopColumn::Memory => (7, 5, true),
        TopColumn::Quiet => (7, 6, true),
        TopColumn::Starts => (6, 7, true),
        TopColumn::Death => (18, 8, false),
        TopColumn::Program => (9, 9, false),
        TopColumn::Home => (14, 10, false),
    };
    Fitting { column, width_min, rank, is_right }
}

/// Cells to which a column may grow where its texts are as wide.
fn width_max(column: TopColumn) -> usize {
    match column {
        TopColumn::Name | TopColumn::Host => 28,
        TopColumn::State => 12,
        TopColumn::Program => 20,
        TopColumn::Death | TopColumn::Home => usize::MAX,
        _ => 0,
    }
}

/// The columns that a line of `width` cells has room for, from left to right, with their cells. `texts`: the widest text of
/// each column that there is.
fn fit(scope: Scope, width: usize, widest: impl Fn(TopColumn) -> usize) -> Vec<(Fitting, usize)> {
    let mut chosen: Vec<Fitting> = columns(scope).iter().copied().map(fitting).collect();
    let needs =
        |chosen: &[Fitting]| chosen.iter().map(|it| it.width_min + 1).sum::<usize>().saturating_sub(1);
    while needs(&chosen) > width && chosen.len() > 1 {
        let last = chosen.iter().map(|it| it.rank).max();
        chosen.retain(|it| Some(it.rank) != last);
    }
    let mut free = width.saturating_sub(needs(&chosen));
    let mut order: Vec<usize> = (0..chosen.len()).collect();
    order.sort_by_key(|&at| chosen.get(at).map(|it| it.rank));
    let mut widths: Vec<usize> = chosen.iter().map(|it| it.width_min.min(width)).collect();
    for at in order {
        let (Some(it), Some(cells)) = (chosen.get(at), widths.get_mut(at)) else { continue };
        let more = widest(it.column).min(width_max(it.column)).saturating_sub(*cells).min(free);
        *cells += more;
        free -= more;
    }
    chosen.into_iter().zip(widths).collect()
}

fn table(model: &TopModel, pen: &Pen, area: Rect, rows: usize, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let shown = model.shown.iter().skip(model.offset).take(rows);
    let visible: Vec<&TopRow> = shown.filter_map(|&at| model.rows.get(at)).collect();
    let cell = |row: &TopRow, column| row.cell(column, model.now_ns, model.is_host_away(row));
    let widest = |column: TopColumn| {
        let texts = visible.iter().map(|row| cell(row, column).0.width());
        texts.max().unwrap_or(0).max(column.header().width())
    };
    let columns = fit(model.setting.scope, area.width.into(), widest);
    let mut x = 0;
    for (it, width) in &columns {
        let mut style = pen.style(Tone::Strong);
        if it.column == model.column {
            style = style.add_modifier(Modifier::UNDERLINED);
        }
        x = put_cell(pen, buffer, area, area.y, x, it, *width, it.column.header(), style);
    }
    for (row, y) in visible.iter().zip(area.y.saturating_add(1)..area.bottom()) {
        let is_chosen = model.selected.as_ref().is_some_and(|selected| row.is(selected));
        let faint = model.away.is_some() || row.seen.has_ended();
        let mut x = 0;
        for (it, width) in &columns {
            let (text, tone) = cell(row, it.column);
            let style = pen.style(if faint { Tone::Faint } else { tone });
            x = put_cell(pen, buffer, area, y, x, it, *width, &text, style);
        }
        if is_chosen {
            let line = Rect::new(area.x, y, area.width, 1);
            buffer.set_style(line, Style::new().add_modifier(Modifier::REVERSED));
        }
    }
    if visible.is_empty() && rows > 0 {
        let text = match (model.read_at_ns, model.rows.is_empty()) {
            (None, _) => "",
            (Some(_), true) => "no sessions",
            (Some(_), false) => "no session matches the filter: Esc shows all",
        };
        pen.put(buffer, area, area.y + 1, 0, text, pen.style(Tone::Faint));
    }
}

/// Writes one cell of the table, and returns where the next one begins.
#[expect(clippy::too_many_arguments, reason = "one call writes one cell: where, how wide, what and how")]
fn put_cell(
    pen: &Pen,
    buffer: &mut Buffer,
    area: Rect,
    y: u16,
    x: u16,
    it: &Fitting,
    width: usize,
    text: &str,
    style: Style,
) -> u16 {
    let is_path =
        matches!(it.column, TopColumn::Name | TopColumn::Home | TopColumn::Program | TopColumn::Host);
    let text = if is_path { cut_middle(text, width) } else { cut(text, width) };
    let padding = if it.is_right { width.saturating_sub(text.width()) } else { 0 };
    let cells = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
    pen.put(buffer, area, y, x.saturating_add(cells(padding)), &text, style);
    x.saturating_add(cells(width + 1))
}

fn pane(model: &TopModel, pen: &Pen, area: Rect, rows: usize, buffer: &mut Buffer) {
    if area.is_empty() || model.pane == TopPane::Closed {
        return;
    }
    let lines = model.pane_lines();
    let name = if model.pane == TopPane::Help { "keys" } else { "details" };
    let more = match lines.len() > rows {
        true => format!(
            ", lines {}-{} of {}",
            model.scroll + 1,
            (model.scroll + rows).min(lines.len()),
            lines.len()
        ),
        false => String::new(),
    };
    let title = format!("── {name}{more} ");
    let title = format!("{title}{}", "─".repeat(usize::from(area.width).saturating_sub(title.width())));
    pen.put(buffer, area, area.y, 0, &title, pen.style(Tone::Faint));
    for (line, y) in lines.iter().skip(model.scroll).zip(area.y.saturating_add(1)..area.bottom()) {
        let mut x = 0;
        for (text, tone) in line {
            let text = cut(text, room(area, x));
            x = pen.put(buffer, area, y, x, &text, pen.style(*tone));
        }
    }
}

#[cfg(test)]
mod tests;

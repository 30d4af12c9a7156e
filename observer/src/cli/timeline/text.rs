//! Lifetimes as lines of a terminal: one row a session, one character for each part of the window.

use anstyle::Style;
use jiff::tz::TimeZone;
use unicode_width::UnicodeWidthStr as _;

use super::labels::labels;
use super::lives::{EndMark, LifeRow, Lives, RowKey, Span};
use super::scale::Window;
use crate::text::style::{BAD, FAINT, GOOD, NOTICE, STRONG};
use crate::text::table::cut_middle;
use crate::text::wrap::wrap;

/// Cells of the longest name.
const NAME_CELLS_MAX: usize = 24;
/// Cells between a label of the axis and the next one, the label included.
const LABEL_CELLS: u32 = 10;
const LIVES: char = '━';
const LIVES_IN_GAP: char = '┅';
const NOT_KNOWN: char = '░';

/// The character of an end. All differ without colours as well.
fn character(end: EndMark) -> char {
    match end {
        EndMark::ExitZero => '○',
        EndMark::ExitOther => '●',
        EndMark::Signal => '×',
        EndMark::Oom => '◆',
        EndMark::Unobserved => '?',
        EndMark::Other => '┤',
    }
}

fn style(end: EndMark) -> Style {
    match end {
        EndMark::ExitZero | EndMark::Other => STRONG,
        EndMark::ExitOther | EndMark::Unobserved => NOTICE,
        EndMark::Signal | EndMark::Oom => BAD,
    }
}

/// The rows in the order in which they are shown.
pub(super) fn ordered(lives: &Lives) -> Vec<(&RowKey, &LifeRow)> {
    let mut rows: Vec<_> = lives.rows.iter().collect();
    rows.sort_by_key(|(key, row)| (&key.host, &key.host_id, &row.name, &key.home, key.instance, key.uid));
    rows
}

/// The lines, none of them wider than `width` cells as far as that is possible.
pub(super) fn lines(lives: &Lives, width: usize, zone: &TimeZone) -> Vec<String> {
    let rows = ordered(lives);
    let labels = labels(&rows);
    let widest = labels.iter().map(|label| label.width()).max().unwrap_or(0);
    let name_cells = widest.min(NAME_CELLS_MAX).min(width / 3).max(1);
    let cells = u32::try_from(width.saturating_sub(name_cells + 1)).unwrap_or(u32::MAX).max(1);
    let indent = " ".repeat(name_cells + 1);
    let mut lines = vec![format!("{indent}{FAINT}{}{FAINT:#}", axis(lives.window, cells, zone))];
    let no_gaps = Vec::new();
    for ((key, row), label) in rows.iter().zip(&labels) {
        let label = cut_middle(label, name_cells);
        let pad = " ".repeat(name_cells.saturating_sub(label.width()) + 1);
        let gaps = lives.gaps.get(&key.host_id).unwrap_or(&no_gaps);
        lines.push(format!("{STRONG}{label}{STRONG:#}{pad}{}", track(row, gaps, lives.window, cells)));
    }
    lines.extend(legend(lives, width).into_iter().map(|line| format!("{FAINT}{line}{FAINT:#}")));
    lines
}

/// Round moments at their places.
fn axis(window: Window, cells: u32, zone: &TimeZone) -> String {
    let (mut line, mut used) = (String::new(), 0);
    for tick in window.ticks((cells / LABEL_CELLS).max(1), zone) {
        let text = format!("╷{}", tick.label);
        let place = window.part(tick.at_ns, cells) as usize;
        if place < used || place + text.width() > cells as usize {
            continue;
        }
        line.push_str(&" ".repeat(place - used));
        line.push_str(&text);
        used = place + text.width() + 1;
        line.push(' ');
    }
    line.trim_end().to_owned()
}

/// What a part of the window has of one row.
#[derive(Clone, Copy, Default)]
struct Part {
    lives: bool,
    is_gap: bool,
    end: Option<EndMark>,
}

fn track(row: &LifeRow, gaps: &[Span], window: Window, cells: u32) -> String {
    let mut parts = vec![Part::default(); cells as usize];
    let mut each = |from: i64, to: i64, set: fn(&mut Part)| {
        let (from, to) = (window.part(from, cells) as usize, window.part(to, cells) as usize);
        parts.iter_mut().take(to + 1).skip(from).for_each(set);
    };
    for gap in gaps.iter().chain(&row.unseen) {
        each(gap.from_ns, gap.to_ns, |part| part.is_gap = true);
    }
    for bar in &row.bars {
        each(bar.from_ns, bar.to_ns.unwrap_or(window.until_ns), |part| part.lives = true);
    }
    for mark in &row.marks {
        if let Some(part) = parts.get_mut(window.part(mark.at_ns, cells) as usize) {
            part.end = part.end.max(Some(mark.end));
        }
    }
    let (mut line, mut styled) = (String::new(), Style::new());
    for part in parts {
        let (shown, style) = match part {
            Part { end: Some(end), .. } => (character(end), style(end)),
            Part { lives: true, is_gap: false, .. } => (LIVES, GOOD),
            Part { lives: true, is_gap: true, .. } => (LIVES_IN_GAP, GOOD),
            Part { is_gap: true, .. } => (NOT_KNOWN, FAINT),
            Part { .. } => (' ', Style::new()),
        };
        if style != styled {
            line.push_str(&format!("{styled:#}{style}"));
            styled = style;
        }
        line.push(shown);
    }
    format!("{line}{styled:#}")
}

/// What the characters that are used mean, and what is not shown.
fn legend(lives: &Lives, width: usize) -> Vec<String> {
    let mut words = vec![format!("{LIVES} lives")];
    for end in EndMark::ALL {
        let is_used = lives.rows.values().any(|row| row.marks.iter().any(|mark| mark.end == end));
        words.extend(is_used.then(|| format!("{} {}", character(end), end.words())));
    }
    let has_gaps = !lives.gaps.is_empty() || lives.rows.values().any(|row| !row.unseen.is_empty());
    words.extend(has_gaps.then(|| format!("{NOT_KNOWN} {LIVES_IN_GAP} not all is known")));
    if lives.left_out > 0 {
        words.push(format!("{} entries of further sessions are left out", lives.left_out));
    }
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.width() + 3 + word.width() <= width => line.push_str(&format!("   {word}")),
            _ => lines.extend(wrap(&word, width.max(1))),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::lives::tests::{BASE, HOUR, death, entry, rfc3339, window};
    use super::*;

    fn shown(lives: &Lives, width: usize) -> Vec<String> {
        let lines = lines(lives, width, &TimeZone::UTC);
        lines
            .iter()
            .map(|line| anstream::adapter::strip_str(line).to_string().trim_end().to_owned())
            .collect()
    }

    fn sample() -> Lives {
        let mut lives = Lives::new(window());
        let killed = death("signaled", r#","signal":9,"signal_name":"SIGKILL""#);
        lives.take(entry(2, "session_started", "/srv/beta", "{}"));
        lives.take(entry(6, "session_ended", "/srv/beta", &killed));
        lives.take(entry(7, "session_started", "/srv/beta", "{}"));
        lives.take(entry(8, "session_started", "/srv/alpha", "{}"));
        let gap =
            format!(r#"{{"from":"{}","to":"{}"}}"#, rfc3339(BASE + 10 * HOUR), rfc3339(BASE + 12 * HOUR));
        lives.take(entry(12, "gap", "", &gap));
        lives.take(entry(16, "session_ended", "/srv/alpha", &death("exited", r#","code":0"#)));
        lives.take(entry(18, "session_started", "/srv/alpha", "{}"));
        lives.take(entry(19, "session_ended", "/srv/alpha", &death("oom_killed", "")));
        lives
    }

    #[test]
    fn lives_ends_and_gaps_have_characters_of_their_own() {
        assert_eq!(
            shown(&sample(), 54),
            [
                "      ╷21 Nov     ╷06:00      ╷12:00      ╷18:00",
                "alpha                 ━━━━┅┅┅┅┅━━━━━━━○   ━━◆",
                "beta      ━━━━━━━━× ━━━━━━┅┅┅┅┅━━━━━━━━━━━━━━━━━━━━━━━",
                "━ lives   ○ exit 0   × signal   ◆ lack of memory",
                "░ ┅ not all is known",
            ]
        );
    }

    #[test]
    fn no_line_is_wider_than_it_may_be_and_hostile_names_are_escaped() {
        let mut lives = sample();
        lives.take(entry(3, "session_started", "/srv/\x1b[2J\u{202e}語語語語語語語語語語語語語語", "{}"));
        lives.left_out = 3;
        for width in 12..200 {
            for line in shown(&lives, width) {
                assert!(line.width() <= width, "{width}: {line}");
                assert!(line.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{line:?}");
            }
        }
        let text = shown(&lives, 120).join(" ");
        assert!(text.contains(r"\x1b[2J") && text.contains("3 entries of further sessions"), "{text}");
        for width in 0..12 {
            shown(&lives, width);
        }
    }

    #[test]
    fn an_empty_history_has_an_axis_alone() {
        let lines = shown(&Lives::new(window()), 40);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains("╷21 Nov"), "{lines:?}");
    }
}

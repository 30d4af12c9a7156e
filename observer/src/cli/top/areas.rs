//! Which part of the screen of `observer top` shows what.

use ratatui_core::layout::Rect;

/// Lines from which on the details stand below the table; on smaller screens they take its place.
const SPLIT_LINES: u16 = 16;
/// Lines of the last area at most.
pub(super) const FOOT_LINES_MAX: u16 = 4;

/// What is shown beside the table, or in its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TopPane {
    #[default]
    Closed,
    Details,
    Help,
}

/// The parts of a screen. A part without lines is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Areas {
    /// What is shown, of whom and of when.
    pub(super) title: Rect,
    /// Headers and rows of the table.
    pub(super) table: Rect,
    /// Details or help.
    pub(super) pane: Rect,
    /// The filter, a note or the most important keys.
    pub(super) foot: Rect,
}

impl Areas {
    /// The parts of a screen of this size, whose last part needs `foot_lines`.
    pub(super) fn new(width: u16, height: u16, pane: TopPane, foot_lines: u16) -> Self {
        let title = height.min(1);
        let foot = foot_lines.clamp(1, FOOT_LINES_MAX).min(height.saturating_sub(3));
        let middle = height - title - foot;
        let table = match pane {
            TopPane::Closed => middle,
            TopPane::Details if height >= SPLIT_LINES => (middle / 3).max(4),
            TopPane::Details | TopPane::Help => 0,
        };
        let part = |y, lines| Rect::new(0, y, width, lines);
        Self {
            title: part(0, title),
            table: part(title, table),
            pane: part(title + table, middle - table),
            foot: part(height - foot, foot),
        }
    }

    /// What of the parts lies within `screen`.
    pub(super) fn within(self, screen: Rect) -> Self {
        let Self { title, table, pane, foot } = self;
        let [title, table, pane, foot] = [title, table, pane, foot].map(|part| part.intersection(screen));
        Self { title, table, pane, foot }
    }

    /// Rows of the table below its headers.
    pub(super) fn rows(&self) -> usize {
        usize::from(self.table.height.saturating_sub(1))
    }

    /// Lines of the pane below its title.
    pub(super) fn pane_rows(&self) -> usize {
        usize::from(self.pane.height.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_cover_the_screen_and_do_not_overlap() {
        for pane in [TopPane::Closed, TopPane::Details, TopPane::Help] {
            for (width, height) in
                (0..200).step_by(13).flat_map(|width| (0..60).map(move |height| (width, height)))
            {
                for foot_lines in [0, 1, 3, 50] {
                    let areas = Areas::new(width, height, pane, foot_lines);
                    let Areas { title, table, pane: beside, foot } = areas;
                    let lines: u16 = [title, table, beside, foot].iter().map(|part| part.height).sum();
                    assert_eq!(lines, height, "{areas:?}");
                    assert_eq!(
                        [table.y, beside.y, foot.y],
                        [title.bottom(), table.bottom(), beside.bottom()]
                    );
                }
            }
        }
    }
}

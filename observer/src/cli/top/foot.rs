//! The last lines of `observer top`: a note, the filter, or the most important keys.

use super::rows::Tone;
use crate::text::bytes::to_line;
use crate::text::wrap::wrap;

const KEYS: &str = "?help  /filter  ←→sort  Enter details  g pane  q quit";

/// What the last lines say.
pub(super) struct Foot {
    text: String,
    tone: Tone,
    /// The cell behind the text is where typed characters go.
    pub(super) is_typed: bool,
}

impl Foot {
    /// `note` first, else the filter, else the keys.
    pub(super) fn new(note: Option<&str>, filter: &str, is_typing: bool) -> Self {
        let filter_line = || format!("/{}", to_line(filter.as_bytes()));
        match note {
            _ if is_typing => Self { text: filter_line(), tone: Tone::Strong, is_typed: true },
            Some(note) => Self { text: note.into(), tone: Tone::Notice, is_typed: false },
            None if !filter.is_empty() => Self {
                text: format!("{}  Esc shows all", filter_line()),
                tone: Tone::Notice,
                is_typed: false,
            },
            None => Self { text: KEYS.into(), tone: Tone::Faint, is_typed: false },
        }
    }

    /// The lines on a screen of this width. Of the filter the end is shown, since that is where it is typed.
    pub(super) fn wrapped(&self, width: u16) -> Vec<String> {
        let width = usize::from(width.max(1));
        let mut lines = wrap(&self.text, width);
        if self.tone == Tone::Faint || self.is_typed {
            let kept = if self.is_typed { lines.len().saturating_sub(1) } else { 0 };
            lines = lines.into_iter().skip(kept).take(1).collect();
        }
        lines
    }

    /// How many lines that are.
    pub(super) fn lines(&self, width: u16) -> u16 {
        u16::try_from(self.wrapped(width).len()).unwrap_or(u16::MAX)
    }

    pub(super) fn tone(&self) -> Tone {
        self.tone
    }
}

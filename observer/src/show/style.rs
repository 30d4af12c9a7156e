//! Colours. They are written always and taken out by the output where it is no terminal or NO_COLOR is set.

use anstyle::{AnsiColor, Style};

/// What is well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// What wants a look.
pub const NOTICE: Style = AnsiColor::Yellow.on_default();
/// What is wrong.
pub const BAD: Style = AnsiColor::Red.on_default();
/// What matters less.
pub const FAINT: Style = Style::new().dimmed();
/// What a line is about.
pub const STRONG: Style = Style::new().bold();

/// The look of a session's state.
pub fn state(state: &str) -> Style {
    match state {
        "live" => GOOD,
        "detached" | "left" => NOTICE,
        "ended" => BAD,
        _ => FAINT,
    }
}

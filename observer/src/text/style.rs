//! Styles of terminal output. Styled text is always written; the output stream removes the styles where it is not a
//! terminal or NO_COLOR is set.

use anstyle::{AnsiColor, Style};

/// Something works as it should.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Something deserves attention.
pub const NOTICE: Style = AnsiColor::Yellow.on_default();
/// Something is wrong.
pub const BAD: Style = AnsiColor::Red.on_default();
/// Less important text.
pub const FAINT: Style = Style::new().dimmed();
/// The subject of a line.
pub const STRONG: Style = Style::new().bold();

//! The keys of `observer top`.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// A key that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopKey {
    Char(char),
    Enter,
    Esc,
    Backspace,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Left,
    Right,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-Z.
    Suspend,
    /// Ctrl-L.
    Redraw,
    /// Ctrl-U.
    Clear,
}

impl TopKey {
    /// What a key of the keyboard means; `None`: nothing.
    pub(super) fn of(key: KeyEvent) -> Option<Self> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Some(Self::Interrupt),
                KeyCode::Char('z') => Some(Self::Suspend),
                KeyCode::Char('l') => Some(Self::Redraw),
                KeyCode::Char('u') => Some(Self::Clear),
                // What Backspace sends on some terminals, and Enter on others.
                KeyCode::Char('h') => Some(Self::Backspace),
                KeyCode::Char('j') => Some(Self::Enter),
                _ => None,
            };
        }
        Some(match key.code {
            KeyCode::Char(c) if !key.modifiers.contains(KeyModifiers::ALT) => Self::Char(c),
            KeyCode::Enter => Self::Enter,
            KeyCode::Esc => Self::Esc,
            KeyCode::Backspace => Self::Backspace,
            KeyCode::Up => Self::Up,
            KeyCode::Down => Self::Down,
            KeyCode::PageUp => Self::PageUp,
            KeyCode::PageDown => Self::PageDown,
            KeyCode::Home => Self::First,
            KeyCode::End => Self::Last,
            KeyCode::Left => Self::Left,
            KeyCode::Right => Self::Right,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_is_written_on_them_and_others_nothing() {
        let plain = |code| TopKey::of(KeyEvent::new(code, KeyModifiers::NONE));
        let with = |c, modifiers| TopKey::of(KeyEvent::new(KeyCode::Char(c), modifiers));
        assert_eq!(plain(KeyCode::Char('q')), Some(TopKey::Char('q')));
        assert_eq!(with('G', KeyModifiers::SHIFT), Some(TopKey::Char('G')));
        assert_eq!(with('c', KeyModifiers::CONTROL), Some(TopKey::Interrupt));
        assert_eq!(with('c', KeyModifiers::ALT), None);
        assert_eq!((plain(KeyCode::F(1)), with('q', KeyModifiers::CONTROL)), (None, None));
        let release = KeyEvent::new_with_kind(KeyCode::Enter, KeyModifiers::NONE, KeyEventKind::Release);
        assert_eq!(TopKey::of(release), None);
    }
}

//! The terminal of `observer top`: taken for the screen, and given back as it was, whatever ends the program.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, TryLockError};
use std::time::Duration;

use crossterm::event::{self, Event};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use ratatui_core::backend::{Backend, ClearType, WindowSize};
use ratatui_core::buffer::Cell;
use ratatui_core::layout::{Position, Size};
use ratatui_core::style::{Color, Modifier, Style};
use ratatui_core::terminal::Terminal;
use std::os::fd::AsFd as _;

use crate::cli::exit::{Exit, Failure};

/// Takes the other screen, whose lines are not kept, and hides the cursor.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[0m\x1b[2J";
/// Gives all that back.
const LEAVE: &[u8] = b"\x1b[0m\x1b[?25h\x1b[?1049l";
/// The size of a terminal that does not know its own.
const SIZE_DEFAULT: (u16, u16) = (80, 24);

/// How the terminal was set before; `None`: it is as it was.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal, from [`Screen::take`] to its drop.
pub(super) struct Screen {
    pub(super) terminal: Terminal<AnsiBackend>,
}

/// Fails where standard input and output are not a terminal that can place text.
pub(super) fn check() -> Result<(), Failure> {
    let fault = |what: String| Err(Failure { exit: Exit::Usage, message: what });
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let what = "top draws on a terminal, and standard input or output is none: use `observer list` or `observer watch`";
        return fault(what.into());
    }
    match std::env::var_os("TERM") {
        Some(term) if !["", "dumb", "unknown"].contains(&term.to_string_lossy().as_ref()) => Ok(()),
        term => {
            let term = term.unwrap_or_default();
            let is = if term.is_empty() { "empty".into() } else { term.to_string_lossy().into_owned() };
            fault(format!(
                "top places text on the screen, and TERM is {is}: set TERM, or use `observer list` or `observer watch`"
            ))
        }
    }
}

impl Screen {
    /// Takes the terminal. From here on a panic gives it back before its message is written.
    pub(super) fn take() -> io::Result<Self> {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            report(panic);
        }));
        enter()?;
        let terminal = Terminal::new(AnsiBackend::default()).inspect_err(|_| give_back())?;
        Ok(Self { terminal })
    }

    /// Takes the terminal again after a stop, and forgets what it showed.
    pub(super) fn retake(&mut self) -> io::Result<()> {
        enter()?;
        self.terminal.clear()
    }

    /// Cells of a line, and lines.
    pub(super) fn size(&self) -> (u16, u16) {
        size()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn size() -> (u16, u16) {
    let found = terminal_size::terminal_size_of(io::stdout());
    found.map_or(SIZE_DEFAULT, |(width, height)| (width.0, height.0))
}

/// Sets the terminal. How it was before is kept from the first time on.
fn enter() -> io::Result<()> {
    let input = io::stdin();
    let mut before = BEFORE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut raw = tcgetattr(&input)?;
    if before.is_none() {
        *before = Some(raw.clone());
    }
    cfmakeraw(&mut raw);
    tcsetattr(&input, SetArg::TCSANOW, &raw)?;
    let mut out = io::stdout().lock();
    out.write_all(ENTER)?;
    out.flush()
}

/// Gives the terminal back; does nothing where it was not taken. Waits for nothing but a terminal that takes no output, and for
/// that not long: nobody sees what is written to it.
pub(super) fn give_back() {
    let mut before = match BEFORE.try_lock() {
        Ok(before) => before,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        // It is being taken by the thread that fails.
        Err(TryLockError::WouldBlock) => return,
    };
    let Some(before) = before.take() else { return };
    let output = io::stdout();
    let mut ready = [PollFd::new(output.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut ready, PollTimeout::from(100_u16)).is_ok_and(|ready| ready > 0) {
        // Not through the lock of standard output, which a thread that fails may have.
        let _ = nix::unistd::write(output.as_fd(), LEAVE);
    }
    let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &before);
}

/// Whether nobody is at the other end of the terminal.
pub(super) fn is_hung_up() -> bool {
    let input = io::stdin();
    let mut found = [PollFd::new(input.as_fd(), PollFlags::empty())];
    let polled = poll(&mut found, PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
    let ends = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
    polled && found.iter().any(|it| it.revents().is_some_and(|revents| revents.intersects(ends)))
}

/// Waits for a key or another size.
pub(super) fn next_event() -> io::Result<Event> {
    loop {
        if event::poll(Duration::from_secs(3_600))? {
            return event::read();
        }
    }
}

/// Writes cells as ANSI sequences, those of one frame by one write.
#[derive(Default)]
pub(super) struct AnsiBackend {
    out: Vec<u8>,
}

impl AnsiBackend {
    fn push(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn place(&mut self, x: u16, y: u16) {
        self.push(&format!("\x1b[{};{}H", u32::from(y) + 1, u32::from(x) + 1));
    }
}

/// The sequence that sets a style, whatever it was before.
fn sequence(style: Style) -> String {
    let mut codes = String::from("\x1b[0");
    let modifiers =
        [(Modifier::BOLD, 1), (Modifier::DIM, 2), (Modifier::UNDERLINED, 4), (Modifier::REVERSED, 7)];
    for (_, code) in modifiers.iter().filter(|(modifier, _)| style.add_modifier.contains(*modifier)) {
        codes.push_str(&format!(";{code}"));
    }
    let colour = match style.fg {
        Some(Color::Red) => ";31",
        Some(Color::Green) => ";32",
        Some(Color::Yellow) => ";33",
        _ => "",
    };
    format!("{codes}{colour}m")
}

impl Backend for AnsiBackend {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        let (mut style, mut next) = (None, None);
        for (x, y, cell) in content {
            // Behind a character that terminals may give another width, the place is named again.
            if next != Some((x, y)) {
                self.place(x, y);
            }
            if style != Some(cell.style()) {
                self.push(&sequence(cell.style()));
                style = Some(cell.style());
            }
            self.push(cell.symbol());
            next = cell.symbol().is_ascii().then_some((x.saturating_add(1), y));
        }
        if style.is_some() {
            self.push("\x1b[0m");
        }
        Ok(())
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.push("\x1b[?25l");
        Ok(())
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.push("\x1b[?25h");
        Ok(())
    }

    /// Nobody asks for it on a screen that is drawn as a whole.
    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(Position::ORIGIN)
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        let Position { x, y } = position.into();
        self.place(x, y);
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.push("\x1b[0m\x1b[2J");
        Ok(())
    }

    fn clear_region(&mut self, region: ClearType) -> io::Result<()> {
        self.push(match region {
            ClearType::All => "\x1b[2J",
            ClearType::AfterCursor => "\x1b[J",
            ClearType::BeforeCursor => "\x1b[1J",
            ClearType::CurrentLine => "\x1b[2K",
            ClearType::UntilNewLine => "\x1b[K",
        });
        Ok(())
    }

    fn size(&self) -> io::Result<Size> {
        let (width, height) = size();
        Ok(Size::new(width, height))
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size()?, pixels: Size::new(0, 0) })
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(&self.out)?;
        self.out.clear();
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_written_with_places_and_styles() {
        let mut backend = AnsiBackend::default();
        let mut bad = Cell::new("x");
        bad.set_style(Style::new().fg(Color::Red).add_modifier(Modifier::BOLD | Modifier::REVERSED));
        let (wide, plain) = (Cell::new("語"), Cell::new("y"));
        let cells = [(0, 0, &bad), (1, 0, &bad), (7, 4, &wide), (9, 4, &plain), (0, 5, &plain)];
        backend.draw(cells.into_iter()).unwrap();
        let written = String::from_utf8(backend.out).unwrap();
        assert_eq!(written, "\x1b[1;1H\x1b[0;1;7;31mxx\x1b[5;8H\x1b[0m語\x1b[5;10Hy\x1b[6;1Hy\x1b[0m");
    }

    #[test]
    fn a_terminal_that_was_not_taken_is_not_touched() {
        give_back();
        assert!(BEFORE.lock().unwrap().is_none());
    }
}

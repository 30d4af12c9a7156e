//! The columns of `observer list`.

use anstyle::Style;

use super::super::naming::home_with_numbers;
use super::super::user;
use crate::api::cost::CostJson;
use crate::api::death::DeathJson;
use crate::api::session::SessionJson;
use crate::api::words::SessionState;
use crate::clock;
use crate::text::bytes::{Text, to_line};
use crate::text::style::{BAD, FAINT, GOOD, NOTICE, STRONG};
use crate::text::table::{Align, Cell, Shorten, Table};
use crate::text::time::{age_s, span};

/// Cells to which names and paths may be cut in `--long`.
const LONG_NAME_WIDTH: usize = 24;

/// The text for a line of a terminal.
pub(super) fn shown(text: &Text<'_>) -> String {
    to_line(text.as_bytes()).into_owned()
}

/// A column of the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Name,
    Pid,
    State,
    Tty,
    Pane,
    User,
    Up,
    /// How long ago the session ended.
    Ended,
    Starts,
    /// CPU time of the primary and of its descendants.
    Cpu,
    /// The most memory that one of them had.
    Memory,
    /// Descendants that were born.
    Processes,
    Program,
    Home,
    Cwd,
    /// The systemd unit of the primary.
    Unit,
    /// The container of the primary.
    Container,
    Labels,
    /// The life of the primary as one word, for scripts.
    Key,
}

/// The columns that fit a terminal of 80 cells.
pub(super) const COLUMNS: &[Column] = {
    use Column::{Ended, Home, Name, Pid, Program, State, Tty, Up};
    &[Name, Pid, State, Tty, Up, Ended, Program, Home]
};

/// The columns of `--long`.
pub(super) const LONG_COLUMNS: &[Column] = {
    use Column::{
        Container, Cpu, Cwd, Ended, Home, Key, Labels, Memory, Name, Pane, Pid, Processes, Program, Starts,
        State, Tty, Unit, Up, User,
    };
    &[
        Name, Pid, State, Tty, Pane, User, Up, Ended, Starts, Cpu, Memory, Processes, Program, Home, Cwd,
        Unit, Container, Labels, Key,
    ]
};

impl Column {
    pub(super) fn header(self) -> (&'static str, Align) {
        match self {
            Self::Name => ("NAME", Align::Left),
            Self::Pid => ("PID", Align::Right),
            Self::State => ("STATE", Align::Left),
            Self::Tty => ("TTY", Align::Left),
            Self::Pane => ("PANE", Align::Left),
            Self::User => ("USER", Align::Left),
            Self::Up => ("UP", Align::Right),
            Self::Ended => ("ENDED", Align::Right),
            Self::Starts => ("STARTS", Align::Right),
            Self::Cpu => ("CPU", Align::Right),
            Self::Memory => ("MEMORY", Align::Right),
            Self::Processes => ("BORN", Align::Right),
            Self::Program => ("PROGRAM", Align::Left),
            Self::Home => ("HOME", Align::Left),
            Self::Cwd => ("CWD", Align::Left),
            Self::Unit => ("UNIT", Align::Left),
            Self::Container => ("CONTAINER", Align::Left),
            Self::Labels => ("LABELS", Align::Left),
            Self::Key => ("KEY", Align::Left),
        }
    }

    pub(super) fn cell(self, session: &SessionJson<'_>) -> Cell {
        let primary = &session.primary;
        match self {
            Self::Name => Cell::new(shown(&session.name)).styled(STRONG),
            Self::Pid => Cell::new(primary.pid.to_string()),
            Self::State => state_cell(session),
            Self::Tty => Cell::new(primary.tty.as_ref().map_or("-".into(), shown)),
            Self::Pane => Cell::new(match &primary.pane {
                Some(pane) => shown(pane),
                None if primary.pane_stale => "stale".into(),
                None => "-".into(),
            }),
            Self::User => Cell::new(user::shown(primary.uid)),
            Self::Up => Cell::new(lived(session)).styled(FAINT),
            Self::Ended => Cell::new(ended_ago(session)).styled(FAINT),
            Self::Starts => Cell::new(session.starts_counted()),
            Self::Cpu => of_cost(session, |cost| Some(cpu(cost))),
            Self::Memory => of_cost(session, |cost| cost.max_rss_bytes.map(mebibytes)),
            Self::Processes => of_cost(session, |cost| cost.processes.map(|born| born.to_string())),
            Self::Program => Cell::new(shown(primary.shown_program())),
            Self::Home => Cell::new(home(session)),
            Self::Cwd => Cell::new(primary.cwd.as_ref().map_or("?".into(), shown)),
            Self::Unit => Cell::new(primary.unit.as_ref().map_or("-".into(), shown)),
            Self::Container => Cell::new(primary.container.as_ref().map_or("-".into(), shown)),
            Self::Labels => Cell::new(labels(session)),
            Self::Key => Cell::new(&*primary.key).styled(FAINT),
        }
    }
}

/// The labels, as `agent_session=1b2c task=3`.
fn labels(session: &SessionJson<'_>) -> String {
    let labels =
        session.labels.iter().map(|(name, value)| format!("{}={}", to_line(name.as_bytes()), shown(value)));
    labels.collect::<Vec<_>>().join(" ")
}

/// The table with these columns. On a terminal that is too narrow, what is long is shortened, and the pid never is.
pub(super) fn table(columns: &[Column], sessions: &[&SessionJson<'_>]) -> Table {
    let headers: Vec<_> = columns.iter().map(|column| column.header()).collect();
    let is_long = columns.contains(&Column::Cwd);
    let least = |width| if is_long { LONG_NAME_WIDTH } else { width };
    let mut table = Table::new(&headers)
        .shortened("NAME", Shorten::Middle, least(8))
        .shortened("STATE", Shorten::End, 8)
        .shortened("TTY", Shorten::Middle, 7)
        .shortened("PANE", Shorten::Middle, 7)
        .shortened("USER", Shorten::Middle, 8)
        .shortened("PROGRAM", Shorten::Middle, least(7))
        .shortened("HOME", Shorten::Middle, least(10))
        .shortened("CWD", Shorten::Middle, least(10))
        .shortened("UNIT", Shorten::Middle, 10)
        .shortened("CONTAINER", Shorten::End, 12)
        .shortened("LABELS", Shorten::End, 10);
    for session in sessions {
        table.push(columns.iter().map(|column| column.cell(session)).collect());
    }
    table
}

/// The state, with the number of other processes that could be the primary, whether it is in a home of another user, and
/// whether a signal stopped the primary.
/// Of a session that ended, how it did.
fn state_cell(session: &SessionJson<'_>) -> Cell {
    let mut note = match session.roots {
        0 | 1 => String::new(),
        roots => format!(" (+{})", roots - 1),
    };
    if session.foreign == Some(true) {
        note.push_str(" (foreign)");
    }
    if session.primary.stopped {
        note.push_str(" (stopped)");
    }
    let death = session.session_death.as_ref();
    let end = DeathJson::describe_end(death.map(DeathJson::describe), session.end_reason);
    let left = death.and_then(|death| death.left.as_ref()?.describe());
    let left = left.map(|left| format!("; {left}")).unwrap_or_default();
    let text = match session.state {
        SessionState::Ended if !end.is_empty() => format!("ended: {end}{left}"),
        state => format!("{state}{note}"),
    };
    Cell::new(text).styled(state_style(session.state))
}

/// The home, with the number of its mount namespace where `pid` needs that.
fn home(session: &SessionJson<'_>) -> String {
    let home = home_with_numbers(session, false);
    match &session.moved_to {
        Some(moved) => format!("{home} → {}", shown(moved)),
        None if session.home_deleted => format!("{home} (deleted)"),
        None => home,
    }
}

/// The lifetime of the primary, so far or until its death.
fn lived(session: &SessionJson<'_>) -> String {
    match &session.session_death {
        Some(death) => death.lifetime_ms.map_or("?".into(), |ms| span(ms / 1000)),
        None => span(age_s(&session.primary.started_at, clock::realtime_ns())),
    }
}

/// A value of the cost, of the session so far or until its end.
fn of_cost(session: &SessionJson<'_>, value: impl FnOnce(&CostJson) -> Option<String>) -> Cell {
    let of_death = || session.session_death.as_ref().and_then(|death| death.cost.as_ref());
    Cell::new(session.cost.as_ref().or_else(of_death).and_then(value).unwrap_or_else(|| "?".into()))
}

/// CPU time: `0.42s` below a minute, `1h 3m` above.
fn cpu(cost: &CostJson) -> String {
    let ms = cost.cpu_ms.saturating_add(cost.cpu_children_ms);
    if ms < 60_000 { format!("{}.{:02}s", ms / 1000, ms % 1000 / 10) } else { span(ms / 1000) }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// How long ago the session ended.
pub(super) fn ended_ago(session: &SessionJson<'_>) -> String {
    match session.state {
        SessionState::Ended => span(age_s(&session.since, clock::realtime_ns())),
        _ => "-".into(),
    }
}

fn state_style(state: SessionState) -> Style {
    match state {
        SessionState::Live => GOOD,
        SessionState::Detached | SessionState::Left => NOTICE,
        SessionState::Ended => BAD,
        SessionState::Unknown => FAINT,
    }
}

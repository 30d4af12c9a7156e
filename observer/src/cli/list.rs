//! `observer list`

use std::path::Path;

use anstyle::Style;
use clap::Args;

use super::exit::{Exit, Failure};
use super::flags::BtfFlag;
use super::once::StandaloneMap;
use super::places::PlaceFlags;
use super::which::say_undecided;
use super::{term, user};
use crate::api::answer::ListAnswer;
use crate::api::death::DeathJson;
use crate::api::session::SessionJson;
use crate::api::words::SessionState;
use crate::clock;
use crate::socket::client::{Client, ClientError, decode};
use crate::socket::frame::ClientRequest;
use crate::socket::hub::{FrameScope, WatchFilter};
use crate::text::bytes::{Text, to_line};
use crate::text::style::{BAD, FAINT, GOOD, NOTICE, STRONG};
use crate::text::table::{Align, Cell, Shorten, Table};
use crate::text::time::{age_s, span};

/// Cells to which names may be cut in `--long`.
const LONG_NAME_WIDTH: usize = 24;

/// Without a daemon: one snapshot of the kernel (needs root).
#[derive(Args)]
pub struct ListArgs {
    /// Only sessions whose name matches; with a `/` in it, those whose home does
    glob: Option<String>,
    /// Only sessions in this state
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<SessionState>,
    /// JSON: an array of sessions (docs/json.md)
    #[arg(long, conflicts_with = "porcelain")]
    json: bool,
    /// Also the pane, the user and the working directory
    #[arg(long)]
    long: bool,
    /// For scripts: name<TAB>pid<TAB>cwd, a line a session; with --long also home, namespace, user, foreign, state, program,
    /// tty and pane
    #[arg(long)]
    porcelain: bool,
    /// Also sessions that have ended, with the cause and how long ago that was
    #[arg(long)]
    ended: bool,
    #[command(flatten)]
    places: PlaceFlags,
    #[command(flatten)]
    btf: BtfFlag,
}

fn state(word: &str) -> Result<SessionState, String> {
    match SessionState::from(word) {
        SessionState::Unknown => Err("expected live, detached, left or ended".into()),
        state => Ok(state),
    }
}

impl ListArgs {
    /// 0 some, 1 certainly none, 2 wrong usage, 4 not certain.
    pub fn run(mut self, socket: &Path) -> anyhow::Result<Exit> {
        let filter = WatchFilter::new(false, self.glob.as_deref())
            .map_err(|message| Failure { exit: Exit::Usage, message })?;
        self.ended |= self.state == Some(SessionState::Ended);
        match Client::connect(socket) {
            Ok(mut client) => {
                self.places.say_unused(socket);
                let line = client.ask(&ClientRequest::List { ended: self.ended })?;
                self.show(&filter, &decode(&line)?)
            }
            Err(ClientError::NoDaemon(_)) => {
                let places = self.places.without_daemon(socket)?;
                let sentence = places.sentence.clone();
                let map = StandaloneMap::take_at(places, self.btf.btf.as_deref())?;
                if !self.json && !self.porcelain {
                    anstream::eprintln!("observer: {sentence}");
                }
                let ended = self.ended.then(|| map.ended()).transpose()?;
                self.show(&filter, &map.list(ended.as_deref()))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn show(&self, filter: &WatchFilter, answer: &ListAnswer<'_>) -> anyhow::Result<Exit> {
        let sessions: Vec<_> = answer.sessions.iter().filter(|session| self.wants(filter, session)).collect();
        if self.json {
            term::print_json(&sessions)?;
        } else if self.porcelain {
            let line = if self.long { long_porcelain } else { porcelain };
            term::print_lines(sessions.iter().map(|session| line(session)))?;
        } else if !sessions.is_empty() {
            let columns = if self.long { LONG_COLUMNS } else { COLUMNS };
            let columns: Vec<Column> =
                columns.iter().copied().filter(|&it| self.ended || it != Column::Ended).collect();
            term::print_table(&table(&columns, &sessions))?;
        }
        if !answer.head.certain {
            anstream::eprintln!(
                "observer: not certain: events were lost and the kernel is read again; ask again in a second"
            );
            return Ok(Exit::Unknown);
        }
        let undecided = answer.undecided.iter().find(|it| {
            filter.wants(FrameScope::Session { name: it.name.as_bytes(), home: it.home.as_bytes() })
        });
        // Whether a home has a session says nothing of those that ended.
        if let Some(undecided) = undecided.filter(|_| self.state != Some(SessionState::Ended)) {
            say_undecided(undecided);
            return Ok(if sessions.is_empty() { Exit::Unknown } else { Exit::Found });
        }
        if answer.sessions.is_empty() {
            anstream::eprintln!(
                "observer: no sessions: no process matches a session rule (see [[session]] in the configuration; \
                 without one, what runs on a pty for a second and is no shell)"
            );
            return Ok(Exit::None);
        }
        if sessions.is_empty() {
            anstream::eprintln!(
                "observer: none of {} sessions matches: `observer list` shows them",
                answer.sessions.len()
            );
            return Ok(Exit::None);
        }
        Ok(Exit::Found)
    }

    fn wants(&self, filter: &WatchFilter, session: &SessionJson<'_>) -> bool {
        let scope = FrameScope::Session { name: session.name.as_bytes(), home: session.home.as_bytes() };
        self.state.is_none_or(|state| state == session.state) && filter.wants(scope)
    }
}

fn shown(text: &Text<'_>) -> String {
    to_line(text.as_bytes()).into_owned()
}

/// The lifetime of the primary, so far or until its death.
fn lived(session: &SessionJson<'_>) -> String {
    match &session.session_death {
        Some(death) => death.lifetime_ms.map_or("?".into(), |ms| span(ms / 1000)),
        None => span(age_s(&session.primary.started_at, clock::realtime_ns())),
    }
}

/// How long ago the session ended.
fn ended_ago(session: &SessionJson<'_>) -> String {
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

fn porcelain(session: &SessionJson<'_>) -> String {
    let cwd = session.primary.cwd.as_ref().map(shown).unwrap_or_default();
    format!("{}\t{}\t{cwd}", shown(&session.name), session.primary.pid)
}

/// The line of `--porcelain --long`. What is not known or not there is empty.
fn long_porcelain(session: &SessionJson<'_>) -> String {
    let SessionJson { home_mnt_ns, foreign, primary, .. } = session;
    let or_empty = |text: &Option<Text<'_>>| text.as_ref().map(shown).unwrap_or_default();
    [
        porcelain(session),
        shown(&session.home),
        home_mnt_ns.map(|number| number.to_string()).unwrap_or_default(),
        user::shown(primary.uid),
        foreign.map(|foreign| foreign.to_string()).unwrap_or_default(),
        session.state.to_string(),
        shown(primary.shown_program()),
        or_empty(&primary.tty),
        or_empty(&primary.pane),
    ]
    .join("\t")
}

/// A column of the table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Column {
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
    Program,
    Home,
    Cwd,
}

/// The columns that fit a terminal of 80 cells.
const COLUMNS: &[Column] = {
    use Column::{Ended, Home, Name, Pid, Program, State, Tty, Up};
    &[Name, Pid, State, Tty, Up, Ended, Program, Home]
};

/// The columns of `--long`.
const LONG_COLUMNS: &[Column] = {
    use Column::{Cwd, Ended, Home, Name, Pane, Pid, Program, Starts, State, Tty, Up, User};
    &[Name, Pid, State, Tty, Pane, User, Up, Ended, Starts, Program, Home, Cwd]
};

impl Column {
    fn header(self) -> (&'static str, Align) {
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
            Self::Program => ("PROGRAM", Align::Left),
            Self::Home => ("HOME", Align::Left),
            Self::Cwd => ("CWD", Align::Left),
        }
    }

    fn cell(self, session: &SessionJson<'_>) -> Cell {
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
            Self::Starts => Cell::new(session.starts.len().to_string()),
            Self::Program => Cell::new(shown(primary.shown_program())),
            Self::Home => Cell::new(home(session)),
            Self::Cwd => Cell::new(primary.cwd.as_ref().map_or("?".into(), shown)),
        }
    }
}

/// The table with these columns. On a terminal that is too narrow, what is long is shortened, and the pid never is.
fn table(columns: &[Column], sessions: &[&SessionJson<'_>]) -> Table {
    let headers: Vec<_> = columns.iter().map(|column| column.header()).collect();
    let is_long = columns.contains(&Column::Cwd);
    let mut table = Table::new(&headers)
        .shortened("NAME", Shorten::Middle, if is_long { LONG_NAME_WIDTH } else { 8 })
        .shortened("STATE", Shorten::End, 8)
        .shortened("TTY", Shorten::Middle, 7)
        .shortened("PANE", Shorten::Middle, 7)
        .shortened("USER", Shorten::Middle, 8)
        .shortened("PROGRAM", Shorten::Middle, 7)
        .shortened("HOME", Shorten::Middle, 10)
        .shortened("CWD", Shorten::Middle, 10);
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
    let end =
        DeathJson::describe_end(session.session_death.as_ref().map(DeathJson::describe), session.end_reason);
    let text = match session.state {
        SessionState::Ended if !end.is_empty() => format!("ended: {end}"),
        state => format!("{state}{note}"),
    };
    Cell::new(text).styled(state_style(session.state))
}

fn home(session: &SessionJson<'_>) -> String {
    match &session.moved_to {
        Some(moved) => format!("{} → {}", shown(&session.home), shown(moved)),
        None if session.home_deleted => format!("{} (deleted)", shown(&session.home)),
        None => shown(&session.home),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use unicode_width::UnicodeWidthStr as _;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        list: ListArgs,
    }

    fn shown_by(words: &[&str]) -> Vec<String> {
        let Line { list } = Line::try_parse_from([&["list"], words].concat()).unwrap();
        let filter = WatchFilter::new(false, list.glob.as_deref()).unwrap();
        let session = |name: &'static str, home: &'static str, state| SessionJson {
            name: Text::from(name.as_bytes()),
            home: Text::from(home.as_bytes()),
            state,
            ..SessionJson::default()
        };
        let sessions = [
            session("alpha", "/srv/a/alpha", SessionState::Live),
            session("beta", "/srv/b/beta", SessionState::Left),
        ];
        sessions.iter().filter(|it| list.wants(&filter, it)).map(|it| shown(&it.name)).collect()
    }

    fn lines(columns: &[Column], session: &SessionJson<'_>, width: Option<usize>) -> Vec<String> {
        let lines = table(columns, &[session]);
        let lines = lines.lines(width).map(|line| anstream::adapter::strip_str(&line).to_string());
        lines.collect()
    }

    /// A session of which every column is as wide as it can be.
    fn wide(name: &[u8], state: SessionState) -> SessionJson<'static> {
        let text = |bytes: &[u8]| Text::from(bytes.to_vec());
        let home = [b"/srv/agents/", name].concat();
        SessionJson {
            name: text(name),
            home: text(&home),
            state,
            since: "2026-01-01T00:00:00.000Z".into(),
            foreign: Some(true),
            roots: 3,
            session_death: (state == SessionState::Ended).then(|| DeathJson {
                kind: crate::api::words::DeathCause::Unobserved,
                between: Some(["2026-01-01T00:00:00Z".into(), "2026-01-01T00:00:01Z".into()]),
                ..DeathJson::default()
            }),
            primary: crate::api::process::ProcessJson {
                pid: 4_194_304,
                stopped: true,
                tty: Some(text(b"pts/1048575")),
                program: Some(text(name)),
                started_at: "2025-01-01T00:00:00.000Z".into(),
                ..Default::default()
            },
            ..SessionJson::default()
        }
    }

    #[test]
    fn a_line_fits_the_terminal_and_the_pid_is_whole() {
        let names =
            [b"n".repeat(200), "日本語".repeat(30).into_bytes(), b"\n\x1b[2J\xff\xe2\x80\xae".repeat(9)];
        let states = [SessionState::Live, SessionState::Detached, SessionState::Ended];
        for (name, state) in names.iter().flat_map(|name| states.map(|state| (name, state))) {
            let session = wide(name, state);
            for (width, columns) in [(80, COLUMNS), (40, COLUMNS), (40, LONG_COLUMNS)] {
                let [header, line] = &lines(columns, &session, Some(width))[..] else { panic!() };
                assert!(header.width() <= width && line.width() <= width, "{width}: {line}");
                assert!(line.contains("  4194304  ") && !line.contains('\n'), "{line}");
                let has_all =
                    ["STATE", "TTY", "UP", "ENDED", "PROGRAM", "HOME"].iter().all(|it| header.contains(it));
                assert!(width < 80 || (has_all && line.contains("  /srv")), "{line}");
            }
            let whole = lines(COLUMNS, &session, None).remove(1);
            assert!(whole.ends_with(&format!("/srv/agents/{}", to_line(name))), "{whole}");
        }
        // Both ends of a home show.
        let line = lines(COLUMNS, &wide(&b"x".repeat(90), SessionState::Live), Some(100)).remove(1);
        assert!(line.contains("  /srv/") && line.ends_with("…xxxxxxx"), "{line}");
    }

    #[test]
    fn an_ended_session_says_how_long_ago_that_was() {
        let second_ns = 1_000_000_000;
        let hour_ago = i64::try_from(clock::realtime_ns() / second_ns - 3_630).unwrap() * 1_000_000_000;
        let ended = SessionJson {
            since: crate::text::time::unix_rfc3339(hour_ago).unwrap(),
            ..wide(b"alpha", SessionState::Ended)
        };
        let lines = lines(COLUMNS, &ended, None);
        let at = lines[0].find("ENDED").unwrap();
        assert_eq!(lines[1].get(at..at + 5), Some("1h 0m"), "{lines:?}");
        assert_eq!(ended_ago(&wide(b"alpha", SessionState::Live)), "-");
    }

    #[test]
    fn a_session_in_the_home_of_another_user_is_marked() {
        let foreign = SessionJson {
            name: Text::from(&b"alpha"[..]),
            home: Text::from(&b"/srv/a"[..]),
            state: SessionState::Live,
            foreign: Some(true),
            ..SessionJson::default()
        };
        let lines = lines(COLUMNS, &foreign, None);
        assert!(lines[1].contains("live (foreign)"), "{lines:?}");
        assert_eq!(long_porcelain(&foreign), "alpha\t0\t\t/srv/a\t\troot\ttrue\tlive\t\t\t");
    }

    #[test]
    fn an_ended_session_says_how_it_ended() {
        let moved = SessionJson {
            state: SessionState::Ended,
            end_reason: Some(crate::api::words::SessionEndReason::Moved),
            ..SessionJson::default()
        };
        let lines = lines(COLUMNS, &moved, None);
        assert!(lines[1].contains("ended: it moved to another home"), "{lines:?}");
    }

    #[test]
    fn a_list_is_narrowed_by_name_home_and_state() {
        assert_eq!(shown_by(&[]), ["alpha", "beta"]);
        assert_eq!(shown_by(&["al*"]), ["alpha"]);
        assert_eq!(shown_by(&["/srv/b/*"]), ["beta"]);
        assert_eq!(shown_by(&["--state", "left"]), ["beta"]);
        assert!(shown_by(&["al*", "--state", "left"]).is_empty());
        assert!(Line::try_parse_from(["list", "--state", "paused"]).is_err());
    }
}

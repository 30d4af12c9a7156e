//! `observer list`

use std::path::{Path, PathBuf};

use anstyle::Style;
use clap::Args;

use super::exit::{Exit, Failure};
use super::flags::BtfFlag;
use super::once::{StandaloneMap, say_one_look};
use super::which::say_undecided;
use super::{term, user};
use crate::api::answer::ListAnswer;
use crate::api::death::DeathJson;
use crate::api::session::SessionJson;
use crate::api::words::SessionState;
use crate::clock;
use crate::daemon::answers;
use crate::socket::client::{Client, ClientError, decode};
use crate::socket::frame::ClientRequest;
use crate::socket::hub::{FrameScope, WatchFilter};
use crate::text::bytes::{Text, to_line};
use crate::text::style::{BAD, FAINT, GOOD, NOTICE, STRONG};
use crate::text::table::{Align, Cell, Table, cut_middle};
use crate::text::time::{age_s, span};

/// Cells that a name takes at most, and a program.
const NAME_WIDTH: usize = 24;
const PROGRAM_WIDTH: usize = 14;

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
    /// Also the pane, the user and the working directory, and names in full
    #[arg(long)]
    long: bool,
    /// For scripts: name<TAB>pid<TAB>cwd, a line a session; with --long also home, namespace, user, foreign, state, program,
    /// tty and pane
    #[arg(long)]
    porcelain: bool,
    /// Also sessions that have ended
    #[arg(long)]
    ended: bool,
    /// Session rules for the case that no daemon runs
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
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
                let line = client.ask(&ClientRequest::List { ended: self.ended })?;
                self.show(&filter, &decode(&line)?)
            }
            Err(ClientError::NoDaemon(_)) => {
                let map = StandaloneMap::take(self.config.as_deref(), self.btf.btf.as_deref())?;
                if !self.json && !self.porcelain {
                    say_one_look(socket, self.config.as_deref());
                }
                self.show(&filter, &answers::list(&map.core, map.answer_time(), self.ended))
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
            term::print_table(&if self.long { long_table(&sessions) } else { table(&sessions) })?;
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
        if let Some(undecided) = undecided {
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

/// The table that fits a terminal of 80 columns, where the home is not very long. A pid is never cut.
fn table(sessions: &[&SessionJson<'_>]) -> Table {
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("PID", Align::Right),
        ("STATE", Align::Left),
        ("TTY", Align::Left),
        ("UP", Align::Right),
        ("PROGRAM", Align::Left),
        ("HOME", Align::Left),
    ]);
    for session in sessions {
        let primary = &session.primary;
        table.push(vec![
            Cell::new(cut_middle(&shown(&session.name), NAME_WIDTH)).styled(STRONG),
            Cell::new(primary.pid.to_string()),
            state_cell(session),
            Cell::new(primary.tty.as_ref().map_or("-".into(), shown)),
            Cell::new(lived(session)).styled(FAINT),
            Cell::new(cut_middle(&shown(primary.shown_program()), PROGRAM_WIDTH)),
            Cell::new(home(session)),
        ]);
    }
    table
}

/// The table of `--long`: more columns, and nothing is shortened but by the terminal.
fn long_table(sessions: &[&SessionJson<'_>]) -> Table {
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("PID", Align::Right),
        ("STATE", Align::Left),
        ("TTY", Align::Left),
        ("PANE", Align::Left),
        ("USER", Align::Left),
        ("UP", Align::Right),
        ("STARTS", Align::Right),
        ("PROGRAM", Align::Left),
        ("HOME", Align::Left),
        ("CWD", Align::Left),
    ]);
    for session in sessions {
        let primary = &session.primary;
        let pane = match &primary.pane {
            Some(pane) => shown(pane),
            None if primary.pane_stale => "stale".into(),
            None => "-".into(),
        };
        table.push(vec![
            Cell::new(shown(&session.name)).styled(STRONG),
            Cell::new(primary.pid.to_string()),
            state_cell(session),
            Cell::new(primary.tty.as_ref().map_or("-".into(), shown)),
            Cell::new(pane),
            Cell::new(user::shown(primary.uid)),
            Cell::new(lived(session)).styled(FAINT),
            Cell::new(session.starts.len().to_string()),
            Cell::new(shown(primary.shown_program())),
            Cell::new(home(session)),
            Cell::new(primary.cwd.as_ref().map_or("?".into(), shown)),
        ]);
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

    #[test]
    fn a_long_name_leaves_the_pid_within_80_columns() {
        let primary = crate::api::process::ProcessJson { pid: 4_194_304, ..Default::default() };
        let long = Text::from(vec![b'n'; 200]);
        let session = SessionJson { name: long.clone(), home: long, primary, ..SessionJson::default() };
        let lines: Vec<String> = table(&[&session]).lines(Some(80)).collect();
        let plain = anstream::adapter::strip_str(&lines[1]).to_string();
        assert!(plain.contains("4194304") && plain.contains("nn…nn"), "{plain}");
        let whole: Vec<String> = long_table(&[&session]).lines(None).collect();
        assert!(whole[1].contains(&"n".repeat(200)), "{whole:?}");
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
        let lines: Vec<String> = table(&[&foreign]).lines(None).collect();
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
        let lines: Vec<String> = table(&[&moved]).lines(None).collect();
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

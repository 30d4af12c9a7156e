//! `observer list`

use std::path::{Path, PathBuf};

use anstyle::Style;
use clap::Args;

use super::exit::Exit;
use super::flags::BtfFlag;
use super::once::StandaloneMap;
use super::term;
use crate::api::answer::ListAnswer;
use crate::api::session::SessionJson;
use crate::api::words::SessionState;
use crate::clock;
use crate::daemon::answers;
use crate::socket::client::{Client, ClientError, decode};
use crate::socket::frame::ClientRequest;
use crate::text::bytes::{Text, to_line};
use crate::text::style::{BAD, FAINT, GOOD, NOTICE, STRONG};
use crate::text::table::{Align, Cell, Table};
use crate::text::time::{age_s, span};

/// Without a daemon: one snapshot of the kernel (needs root).
#[derive(Args)]
pub struct ListArgs {
    /// JSON: an array of sessions (docs/json.md)
    #[arg(long, conflicts_with = "porcelain")]
    json: bool,
    /// For scripts: name<TAB>pid<TAB>cwd, a line a session
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

impl ListArgs {
    /// 0 some, 1 certainly none, 4 not certain.
    pub fn run(self, socket: &Path) -> anyhow::Result<Exit> {
        match Client::connect(socket) {
            Ok(mut client) => {
                let line = client.ask(&ClientRequest::List { ended: self.ended })?;
                self.show(&decode(&line)?)
            }
            Err(ClientError::NoDaemon(_)) => {
                let map = StandaloneMap::take(self.config.as_deref(), self.btf.btf.as_deref())?;
                if !self.json && !self.porcelain {
                    anstream::eprintln!(
                        "observer: no daemon on {}: this is one look at the kernel",
                        socket.display()
                    );
                }
                self.show(&answers::list(&map.core, map.answer_time(), self.ended))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn show(&self, answer: &ListAnswer<'_>) -> anyhow::Result<Exit> {
        if self.json {
            term::print_json(&answer.sessions)?;
        } else if self.porcelain {
            term::print_lines(answer.sessions.iter().map(porcelain))?;
        } else if !answer.sessions.is_empty() {
            term::print_table(&table(&answer.sessions))?;
        }
        if !answer.head.certain {
            anstream::eprintln!(
                "observer: not certain: events were lost and the kernel is read again; ask again in a second"
            );
            return Ok(Exit::Unknown);
        }
        if answer.sessions.is_empty() {
            anstream::eprintln!(
                "observer: no sessions: no process matches a session rule (see [[session]] in the configuration; \
                 without one, what runs on a pty for a second and is no shell)"
            );
            return Ok(Exit::None);
        }
        Ok(Exit::Found)
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

fn table(sessions: &[SessionJson<'_>]) -> Table {
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
        let note = match session.roots {
            0 | 1 => String::new(),
            roots => format!(" (+{})", roots - 1),
        };
        let home = match &session.moved_to {
            Some(moved) => format!("{} → {}", shown(&session.home), shown(moved)),
            None if session.home_deleted => format!("{} (deleted)", shown(&session.home)),
            None => shown(&session.home),
        };
        table.push(vec![
            Cell::new(shown(&session.name)).styled(STRONG),
            Cell::new(primary.pid.to_string()),
            Cell::new(format!("{}{note}", session.state)).styled(state_style(session.state)),
            Cell::new(primary.tty.as_ref().map_or("-".into(), shown)),
            Cell::new(lived(session)).styled(FAINT),
            Cell::new(shown(primary.shown_program())),
            Cell::new(home),
        ]);
    }
    table
}

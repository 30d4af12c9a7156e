//! `observer list`

mod columns;
mod details;

use std::io;
use std::path::Path;

use clap::Args;

use self::columns::{COLUMNS, Column, LONG_COLUMNS, shown, table};
use super::doubt::{say_too_many, say_undecided, say_undecided_user};
use super::exit::{Exit, Failure};
use super::flags::BtfFlag;
use super::once::StandaloneMap;
use super::places::PlaceFlags;
use super::{term, user};
use crate::api::answer::ListAnswer;
use crate::api::doubt::UndecidedJson;
use crate::api::session::SessionJson;
use crate::api::words::SessionState;
use crate::socket::client::{Client, ClientError, decode};
use crate::socket::frame::ClientRequest;
use crate::socket::hub::{FrameScope, WatchFilter};
use crate::text::bytes::Text;

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
    /// Also the pane, the user, what it cost (CPU, MEMORY, BORN), the working directory, the unit, the container and labels if
    /// there are any, and the key
    #[arg(long)]
    long: bool,
    /// For scripts: name<TAB>pid<TAB>cwd, a line a session; with --long also home, namespace, user, foreign, state, program,
    /// tty, pane and key
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
                anstream::eprintln!("observer: {sentence}");
                self.show(&filter, &map.list(self.ended))
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
            self.print_table(&sessions)?;
        }
        if !answer.head.certain {
            anstream::eprintln!(
                "observer: not certain: events were lost and the kernel is read again; ask again in a second (`observer status` says more)"
            );
            return Ok(Exit::Unknown);
        }
        let is_wanted = |it: &&UndecidedJson<'_>| {
            filter.wants(FrameScope::Session { name: it.name.as_bytes(), home: it.home.as_bytes() })
        };
        let undecided = answer.undecided.iter().find(is_wanted);
        // Whether a home has a session says nothing of those that ended.
        if let Some(undecided) = undecided.filter(|_| self.state != Some(SessionState::Ended)) {
            say_undecided(undecided);
            return Ok(if sessions.is_empty() { Exit::Unknown } else { Exit::Found });
        }
        let over_limit = answer.over_limit.iter().find(is_wanted).map(|it| it.uid);
        if sessions.is_empty()
            && self.state != Some(SessionState::Ended)
            && let Some(uid) = over_limit.or_else(|| answer.too_many_sessions.first().copied())
        {
            say_too_many(uid);
            return Ok(Exit::Unknown);
        }
        let undecided_user = answer.undecided_users.first().filter(|_| sessions.is_empty());
        if let Some(user) = undecided_user.filter(|_| self.state != Some(SessionState::Ended)) {
            say_undecided_user(user);
            return Ok(Exit::Unknown);
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

    fn print_table(&self, sessions: &[&SessionJson<'_>]) -> io::Result<()> {
        let has = |is_there: fn(&SessionJson<'_>) -> bool| sessions.iter().any(|session| is_there(session));
        let (has_labels, has_unit, has_container) = (
            has(|session| !session.labels.is_empty()),
            has(|session| session.primary.unit.is_some()),
            has(|session| session.primary.container.is_some()),
        );
        let is_shown = |column: &Column| match column {
            Column::Ended => self.ended,
            Column::Labels => has_labels,
            Column::Unit => has_unit,
            Column::Container => has_container,
            _ => true,
        };
        let columns = if self.long { LONG_COLUMNS } else { COLUMNS };
        let columns: Vec<Column> = columns.iter().copied().filter(is_shown).collect();
        let table = table(&columns, sessions);
        match term::width().filter(|&width| self.long && table.width_min() > width) {
            Some(width) => term::print_lines(details::lines(&columns, sessions, width)),
            None => term::print_table(&table),
        }
    }

    fn wants(&self, filter: &WatchFilter, session: &SessionJson<'_>) -> bool {
        let scope = FrameScope::Session { name: session.name.as_bytes(), home: session.home.as_bytes() };
        self.state.is_none_or(|state| state == session.state) && filter.wants(scope)
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
        primary.key.clone(),
    ]
    .join("\t")
}

#[cfg(test)]
mod tests;

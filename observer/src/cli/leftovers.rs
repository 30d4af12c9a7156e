//! `observer leftovers`

use std::cmp::Reverse;
use std::ffi::OsString;
use std::path::Path;

use clap::Args;

use super::exit::{Exit, Failure};
use super::former::{FormerWanted, age};
use super::{term, user};
use crate::api::leftovers::{LeftoverJson, LeftoversAnswer};
use crate::clock;
use crate::socket::client::{Client, ClientError, decode};
use crate::socket::frame::ClientRequest;
use crate::text::bytes::{Text, to_line};
use crate::text::size::size;
use crate::text::style::{FAINT, STRONG};
use crate::text::table::{Align, Cell, Shorten, Table};

/// What was born in a session and outlives it: servers, watchers and the like that nobody ended. Those with the most memory come
/// first. `observer signal --leftovers` ends them. Needs the daemon, which alone knows who was born where.
#[derive(Args)]
#[command(after_help = "\
Examples:
  observer leftovers                           # of all sessions that are over
  observer leftovers alpha --json              # of those called alpha (docs/json.md)
  observer signal --leftovers alpha TERM       # end them

Exit codes:
  0  some
  1  certainly none
  2  wrong usage
  4  can't know: no daemon, events were lost, or a daemon was killed before the present one")]
pub struct LeftoversArgs {
    /// Only those of this session: its name, its home, or the key of its last process (`key` in --json)
    #[arg(value_name = "NAME|HOME|KEY")]
    session: Option<OsString>,
    /// Only those of sessions of this user, by name or number
    #[arg(long, value_name = "USER", value_parser = user::parse)]
    user: Option<u32>,
    /// JSON: an array of processes (docs/json.md)
    #[arg(long)]
    json: bool,
}

/// Asks the daemon for the leftovers.
pub(super) fn no_daemon(path: &Path) -> Failure {
    let message = format!(
        "no daemon listens on {}, and it alone knows which processes sessions left: start it with `observer run`, or name its \
         socket with --socket",
        path.display()
    );
    Failure { exit: Exit::Unknown, message }
}

impl LeftoversArgs {
    /// 0 some, 1 certainly none, 4 not certain.
    pub fn run(self, socket: &Path) -> anyhow::Result<Exit> {
        let wanted = self.session.as_ref().map(|typed| FormerWanted::new(typed, self.user, None));
        let wanted = wanted.transpose()?;
        let mut client = Client::connect(socket).map_err(|error| match error {
            ClientError::NoDaemon(path) => anyhow::Error::from(no_daemon(&path)),
            error => error.into(),
        })?;
        let line = client.ask(&ClientRequest::Leftovers {})?;
        let mut answer: LeftoversAnswer<'_> = decode(&line)?;
        match &wanted {
            Some(wanted) => answer.leftovers = wanted.named(&answer.leftovers).into_iter().cloned().collect(),
            None => answer.leftovers.retain(|it| self.user.is_none_or(|uid| uid == it.session.uid)),
        }
        answer.leftovers.sort_by_key(|it| Reverse(it.rss_bytes));
        if self.json {
            term::print_json(&answer.leftovers)?;
        } else if !answer.leftovers.is_empty() {
            term::print_table(&table(&answer.leftovers, clock::realtime_ns()))?;
        }
        if !answer.head.certain {
            anstream::eprintln!(
                "observer: not certain: events were lost and the kernel is read again; ask again in a second (`observer status` says more)"
            );
            return Ok(Exit::Unknown);
        }
        if !answer.leftovers.is_empty() {
            return Ok(Exit::Found);
        }
        if answer.births_unknown_until_boottime_ns.is_some() {
            say_unknown_births(wanted.as_ref());
            return Ok(Exit::Unknown);
        }
        match &wanted {
            Some(wanted) => anstream::eprintln!(
                "observer: no leftovers of {}: `observer leftovers` shows those of all sessions",
                wanted.shown()
            ),
            None => anstream::eprintln!(
                "observer: no leftovers: nothing that was born in a session outlives it, as far as is known"
            ),
        }
        Ok(Exit::None)
    }
}

/// Says on standard error that nothing is known to be left, and why that is not certain.
pub(super) fn say_unknown_births(wanted: Option<&FormerWanted>) {
    let of = wanted.map_or(String::new(), |wanted| format!(" of {}", wanted.shown()));
    anstream::eprintln!(
        "observer: can't know: no leftovers{of} are known, but a daemon before the present one ended without leaving what it \
         knew of births (it was killed, its journal is gone, or there was no room): see what `observer ps` shows that was \
         started before the daemon"
    );
}

fn table(leftovers: &[LeftoverJson<'_>], now: i128) -> Table {
    let columns = [
        ("PID", Align::Right),
        ("MEMORY", Align::Right),
        ("AGE", Align::Right),
        ("PROGRAM", Align::Left),
        ("SESSION", Align::Left),
        ("KEY", Align::Left),
    ];
    let mut table = Table::new(&columns).shortened("PROGRAM", Shorten::Middle, 7).shortened(
        "SESSION",
        Shorten::Middle,
        7,
    );
    let shown = |text: &Text<'_>| to_line(text.as_bytes()).into_owned();
    for LeftoverJson { session, rss_bytes, process, .. } in leftovers {
        table.push(vec![
            Cell::new(process.pid.to_string()),
            Cell::new(rss_bytes.map_or("?".into(), size)),
            Cell::new(age(&process.started_at, now)).styled(FAINT),
            Cell::new(shown(process.shown_program())),
            Cell::new(shown(&session.name)).styled(STRONG),
            Cell::new(&*process.key).styled(FAINT),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::leftovers::FormerSessionJson;
    use crate::api::process::ProcessJson;

    #[test]
    fn the_lines_fit_a_terminal_of_80_cells() {
        let leftover = |pid: u32, rss_bytes, program: &'static str| LeftoverJson {
            session: FormerSessionJson {
                name: Text::from(&b"a-session-with-a-long-name"[..]),
                ..Default::default()
            },
            rss_bytes,
            runs_session: false,
            process: ProcessJson {
                pid,
                key: format!("7f3e90ab-{pid}-1a2b3c4d5e6f"),
                program: Some(Text::from(program.as_bytes())),
                started_at: "2026-01-01T00:00:00Z".into(),
                ..ProcessJson::default()
            },
        };
        let leftovers =
            [leftover(4_194_304, Some(2_500_000_000), "mcp-server-everything"), leftover(42, None, "sh")];
        // 2026-01-01 and 100 days.
        let now = (1_767_225_600 + 100 * 86_400) * 1_000_000_000;
        let lines: Vec<String> = table(&leftovers, now).lines(Some(80)).collect();
        let plain = |line: &String| anstream::adapter::strip_str(line).to_string();
        let lines: Vec<String> = lines.iter().map(plain).collect();
        assert_eq!(
            lines,
            [
                "    PID  MEMORY      AGE  PROGRAM      SESSION     KEY",
                "4194304  2.5 GB  100d 0h  mcp-s…thing  a-se…-name  7f3e90ab-4194304-1a2b3c4d5e6f",
                "     42       ?  100d 0h  sh           a-se…-name  7f3e90ab-42-1a2b3c4d5e6f",
            ]
        );
    }
}

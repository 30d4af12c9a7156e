//! `observer rules`: prints the built-in rule, checks a configuration, and shows what it would change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anstyle::Style;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::exit::Exit;
use super::flags::BtfFlag;
use super::naming::home_with_numbers;
use super::once::StandaloneMap;
use super::places::{journal_of, say_unused, warn_of};
use super::term;
use crate::api::answer::ListAnswer;
use crate::api::session::SessionJson;
use crate::config::{Config, builtin_rules};
use crate::journal::JournalReader;
use crate::socket::client::{Client, ClientError, decode};
use crate::socket::frame::ClientRequest;
use crate::text::bytes::{Text, to_line};
use crate::text::style::{BAD, GOOD, NOTICE, STRONG};
use crate::text::table::{Align, Cell, Shorten, Table};

/// Print the built-in rules, check a configuration, or try one.
#[derive(Args)]
pub struct RulesArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print the rule that applies without a configuration, with the lists that every rule begins with
    Defaults,
    /// Check a configuration: errors with line and column, and warnings about what can never match
    Check {
        /// The configuration
        file: PathBuf,
    },
    /// Show what `list` would show under a configuration, beside what it shows now (needs root)
    Try(TryArgs),
}

#[derive(Args)]
struct TryArgs {
    /// The configuration to try
    file: PathBuf,
    /// JSON: {"now": [session], "then": [session]}
    #[arg(long)]
    json: bool,
    /// The present rules, for the case that no daemon runs
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    btf: BtfFlag,
}

/// Both answers, as `--json` prints them.
#[derive(Serialize)]
struct Comparison<'a> {
    now: &'a [SessionJson<'a>],
    then: &'a [SessionJson<'a>],
}

impl RulesArgs {
    /// 0 fine; 2 a configuration that cannot be used; 4 the kernel could not be read.
    pub fn run(self, socket: &Path) -> anyhow::Result<Exit> {
        match self.action {
            Action::Defaults => {
                term::print_text(&builtin_rules())?;
                Ok(Exit::Found)
            }
            Action::Check { file } => check(&file),
            Action::Try(arguments) => arguments.run(socket),
        }
    }
}

fn check(file: &Path) -> anyhow::Result<Exit> {
    let config = Config::load(Some(file))?;
    warn_of(&config);
    let count = match config.rules.len() {
        1 => "1 session rule".to_owned(),
        count => format!("{count} session rules"),
    };
    let verdict = match config.warnings.len() {
        0 => "fine".to_owned(),
        1 => "1 warning".to_owned(),
        count => format!("{count} warnings"),
    };
    term::print_lines([format!("{}: {count}, {verdict}", to_line(file.as_os_str().as_encoded_bytes()))])?;
    Ok(Exit::Found)
}

impl TryArgs {
    fn run(self, socket: &Path) -> anyhow::Result<Exit> {
        match Client::connect(socket) {
            Ok(mut client) => {
                let journal = self.journal(None, socket);
                let then_map = self.map(Some(&self.file), journal)?;
                let then = then_map.list(false);
                if let Some(file) = &self.config {
                    say_unused("--config", file, socket);
                }
                let line = client.ask(&ClientRequest::List { ended: false })?;
                self.show(&decode(&line)?, &then)
            }
            Err(ClientError::NoDaemon(_)) => {
                if !self.json {
                    let rules = self.config.as_deref().map_or("the built-in rule".into(), |file| {
                        to_line(file.as_os_str().as_encoded_bytes())
                    });
                    anstream::eprintln!(
                        "observer: no daemon on {}: \"now\" is under {rules}",
                        socket.display()
                    );
                }
                let found = self.journal(self.config.clone(), socket);
                let again = found.as_ref().and_then(|_| journal_of(self.config.clone(), socket).ok());
                let (now_map, then_map) =
                    (self.map(self.config.as_deref(), found)?, self.map(Some(&self.file), again)?);
                self.show(&now_map.list(false), &then_map.list(false))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The journal that says what the sessions were: of the daemon on `socket`, or without a daemon of the configuration
    /// `config`. Says on standard error if there is none.
    fn journal(&self, config: Option<PathBuf>, socket: &Path) -> Option<JournalReader> {
        let journal = journal_of(config, socket).inspect_err(|error| {
            anstream::eprintln!(
                "observer: without a journal ({error:#}): what is detached or has left its home may be shown as gone, and \
                 sessions of one home with other numbers"
            );
        });
        journal.ok()
    }

    /// The map under `rules`, in which sessions go on as in a daemon that is started again with this journal.
    fn map(&self, rules: Option<&Path>, journal: Option<JournalReader>) -> anyhow::Result<StandaloneMap> {
        StandaloneMap::take_with(Config::load(rules)?, journal, self.btf.btf.as_deref())
    }

    fn show(&self, now: &ListAnswer<'_>, then: &ListAnswer<'_>) -> anyhow::Result<Exit> {
        if self.json {
            term::print_json(&Comparison { now: &now.sessions, then: &then.sessions })?;
        } else {
            let compared = compare(&now.sessions, &then.sessions);
            if compared.is_empty() {
                anstream::eprintln!("observer: no sessions, now or under these rules");
            } else {
                term::print_table(&table(&compared))?;
            }
        }
        if now.head.certain && then.head.certain {
            return Ok(Exit::Found);
        }
        anstream::eprintln!(
            "observer: not certain: events were lost and the kernel is read again; try again in a second (`observer status` says more)"
        );
        Ok(Exit::Unknown)
    }
}

/// What a configuration changes about a home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Difference {
    /// The same process is the session.
    Same,
    /// A session that there is not now.
    New,
    /// A session that there would not be.
    Gone,
    /// Another process would be the session; this one is now.
    Was(u32),
}

/// Pairs the sessions of each home, in the order of homes.
fn compare<'a>(
    now: &'a [SessionJson<'a>],
    then: &'a [SessionJson<'a>],
) -> Vec<(Difference, &'a SessionJson<'a>)> {
    let by_home = |sessions: &'a [SessionJson<'a>]| -> BTreeMap<_, &'a SessionJson<'a>> {
        let home = |session: &'a SessionJson<'a>| {
            (session.home.as_bytes().to_vec(), session.home_mnt_ns, session.primary.uid, session.instance)
        };
        sessions.iter().map(|session| (home(session), session)).collect()
    };
    let mut before = by_home(now);
    let mut compared = BTreeMap::new();
    for (home, session) in by_home(then) {
        let difference = match before.remove(&home) {
            None => Difference::New,
            Some(old) if old.primary.pid == session.primary.pid => Difference::Same,
            Some(old) => Difference::Was(old.primary.pid),
        };
        compared.insert(home, (difference, session));
    }
    compared.extend(before.into_iter().map(|(home, session)| (home, (Difference::Gone, session))));
    compared.into_values().collect()
}

fn table(compared: &[(Difference, &SessionJson<'_>)]) -> Table {
    let shown = |text: &Text<'_>| to_line(text.as_bytes()).into_owned();
    let mut table = Table::new(&[
        ("CHANGE", Align::Left),
        ("NAME", Align::Left),
        ("PID", Align::Right),
        ("STATE", Align::Left),
        ("TTY", Align::Left),
        ("PROGRAM", Align::Left),
        ("HOME", Align::Left),
    ])
    .shortened("NAME", Shorten::Middle, 8)
    .shortened("PROGRAM", Shorten::Middle, 7)
    .shortened("HOME", Shorten::Middle, 10);
    for (difference, session) in compared {
        let (change, style) = match difference {
            Difference::Same => ("same".to_owned(), Style::new()),
            Difference::New => ("new".to_owned(), GOOD),
            Difference::Gone => ("gone".to_owned(), BAD),
            Difference::Was(pid) => (format!("pid was {pid}"), NOTICE),
        };
        let primary = &session.primary;
        table.push(vec![
            Cell::new(change).styled(style),
            Cell::new(shown(&session.name)).styled(STRONG),
            Cell::new(primary.pid.to_string()),
            Cell::new(session.state.to_string()),
            Cell::new(primary.tty.as_ref().map_or("-".into(), shown)),
            Cell::new(shown(primary.shown_program())),
            Cell::new(home_with_numbers(session, false)),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(home: &'static str, pid: u32) -> SessionJson<'static> {
        let mut session = SessionJson { home: Text::from(home.as_bytes()), ..SessionJson::default() };
        session.primary.pid = pid;
        session
    }

    #[test]
    fn each_home_is_the_same_or_new_or_gone_or_has_another_pid() {
        let now = [session("/a", 1), session("/b", 2), session("/d", 4)];
        let then = [session("/a", 1), session("/c", 3), session("/d", 5)];
        let compared = compare(&now, &then);
        let pids: Vec<_> = compared.iter().map(|(difference, it)| (*difference, it.primary.pid)).collect();
        use Difference::{Gone, New, Same, Was};
        assert_eq!(pids, [(Same, 1), (Gone, 2), (New, 3), (Was(4), 5)]);
    }

    #[test]
    fn one_home_in_two_mount_namespaces_is_two_homes() {
        let inside = SessionJson { home_mnt_ns: Some(7), ..session("/a", 2) };
        let compared = [session("/a", 1)];
        let then = [session("/a", 1), inside];
        assert_eq!(compare(&compared, &then).len(), 2);
    }
}

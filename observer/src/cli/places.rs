//! Which configuration and which journal a command uses that asks no daemon for both.

use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::exit::{Exit, Failure};
use super::paths::journal_path;
use crate::api::status::StatusAnswer;
use crate::config::Config;
use crate::daemon::PathChoice;
use crate::journal::JournalReader;
use crate::socket::client::{Client, ClientError, decode};
use crate::socket::frame::ClientRequest;
use crate::text::bytes::{from_json, to_line};

/// A journal, and why it is this one.
pub struct FoundJournal {
    /// Path of its file.
    pub path: PathBuf,
    /// Why, as the end of a sentence; `None`: a flag names it.
    pub why: Option<String>,
    /// The daemon on the socket has named it.
    is_of_daemon: bool,
}

impl FoundJournal {
    /// Whether the daemon on `socket` writes it. A journal that a flag names may be another's.
    pub fn is_written_by(&self, socket: &Path) -> bool {
        let of_daemon = || Client::connect(socket).ok().and_then(|client| of_daemon(client, socket).ok());
        let file = |path: &Path| path.metadata().map(|found| (found.dev(), found.ino())).ok();
        let is_same = |found: &Self| file(&self.path).is_some_and(|named| file(&found.path) == Some(named));
        self.is_of_daemon || of_daemon().is_some_and(|found| is_same(&found))
    }
}

/// Flags that name a configuration and a journal.
#[derive(Args)]
pub struct PlaceFlags {
    /// The configuration: the rules and the journal of a daemon that does not run
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The state directory, which has the journal
    #[arg(long, value_name = "DIR", conflicts_with = "journal_path")]
    state_dir: Option<PathBuf>,
    /// The journal's file
    #[arg(long, value_name = "FILE")]
    journal_path: Option<PathBuf>,
}

/// What a command uses that answers without a daemon.
pub struct Places {
    /// The configuration.
    pub config: Config,
    /// The journal; `None`: there is none, or it cannot be read.
    pub journal: Option<JournalReader>,
    /// The sentence that says what is used.
    pub sentence: String,
}

impl PlaceFlags {
    /// Finds the journal that the flags name, else that of the daemon on `socket`, else the default one.
    pub fn journal(&self, socket: &Path) -> anyhow::Result<FoundJournal> {
        if self.given().is_some() {
            return Ok(self.named_journal(&Config::load(self.config.as_deref())?));
        }
        match Client::connect(socket) {
            Ok(client) => of_daemon(client, socket),
            Err(error) => {
                let answer = match error {
                    ClientError::NoDaemon(_) => "there is no daemon on",
                    _ => "nothing can be asked on",
                };
                let why = Some(format!("the default one: {answer} {}", shown(socket)));
                Ok(FoundJournal { path: journal_path(None, None), why, is_of_daemon: false })
            }
        }
    }

    /// The configuration that a flag names.
    pub fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// Whether a flag names a journal or a configuration.
    pub fn are_given(&self) -> bool {
        self.given().is_some()
    }

    /// The configuration and the journal of a command that answers without a daemon: those that the flags name, else the
    /// default ones. A journal that a flag names has to be readable.
    pub fn without_daemon(&self, socket: &Path) -> anyhow::Result<Places> {
        let config = Config::load(self.config.as_deref())?;
        let found = self.named_journal(&config);
        let path = shown(&found.path);
        let is_missing = !found.path.exists();
        let opened = JournalReader::open(&found.path);
        let opened = opened.and_then(|journal| journal.of_this_version().map(|()| journal));
        let (journal, of_journal) = match opened {
            Ok(journal) => (Some(journal), format!("the journal {path}")),
            Err(error) if self.choice() == PathChoice::Explicit => return Err(error),
            Err(_) if is_missing => (None, format!("without a journal, because there is no {path}")),
            Err(error) => (None, format!("without the journal {path}: {error:#}")),
        };
        let rules = self
            .config
            .as_ref()
            .map_or("the built-in rule".into(), |file| format!("the rules of {}", shown(file)));
        let join = if journal.is_some() { " and" } else { "," };
        let sentence = format!(
            "no daemon on {}: this is one look at the kernel, by {rules}{join} {of_journal}",
            shown(socket)
        );
        Ok(Places { config, journal, sentence })
    }

    /// Says on standard error that the daemon on `socket` answers by its own configuration and journal, if flags name
    /// others.
    pub fn say_unused(&self, socket: &Path) {
        if let Some((flag, path)) = self.given() {
            say_unused(flag, path, socket);
        }
    }

    /// The first flag that is given.
    fn given(&self) -> Option<(&'static str, &Path)> {
        let flags = [
            ("--config", &self.config),
            ("--state-dir", &self.state_dir),
            ("--journal-path", &self.journal_path),
        ];
        flags.into_iter().find_map(|(flag, path)| Some((flag, path.as_deref()?)))
    }

    fn choice(&self) -> PathChoice {
        match self.state_dir.is_some() || self.journal_path.is_some() {
            true => PathChoice::Explicit,
            false => PathChoice::Default,
        }
    }

    /// The journal of a daemon that was started with these flags.
    pub fn named_journal(&self, config: &Config) -> FoundJournal {
        let path = self.journal_path.as_deref().or(config.journal.path.as_deref());
        let dir = self.state_dir.as_deref().or(config.state_dir.as_deref());
        let is_flag =
            self.journal_path.is_some() || (self.state_dir.is_some() && config.journal.path.is_none());
        let file = self.config.as_ref().filter(|_| !is_flag);
        FoundJournal {
            path: journal_path(path, dir),
            why: file.map(|file| format!("as {} has it", shown(file))),
            is_of_daemon: false,
        }
    }
}

/// Opens the journal of the daemon on `socket`, or without a daemon that of one with the configuration `config`.
///
/// # Errors
///
/// The daemon keeps no journal, or it cannot be read.
pub fn journal_of(config: Option<PathBuf>, socket: &Path) -> anyhow::Result<JournalReader> {
    let found = PlaceFlags { config, state_dir: None, journal_path: None }.journal(socket)?;
    let journal = JournalReader::open(&found.path)?;
    journal.of_this_version()?;
    Ok(journal)
}

/// Says on standard error what of a configuration is probably wrong.
pub fn warn_of(config: &Config) {
    for warning in &config.warnings {
        anstream::eprintln!("observer: warning: {warning}");
    }
}

/// Says on standard error that the daemon on `socket` answers, and so the value of a flag is not used.
pub fn say_unused(flag: &str, path: &Path, socket: &Path) {
    anstream::eprintln!(
        "observer: {flag} {} is not used: the daemon on {} answers, by its own configuration and journal; `observer rules \
         try FILE` shows what other rules would change",
        shown(path),
        shown(socket)
    );
}

fn of_daemon(mut client: Client, socket: &Path) -> anyhow::Result<FoundJournal> {
    let line = client.ask(&ClientRequest::Status {})?;
    let StatusAnswer { journal, .. } = decode(&line)?;
    let Some(path) = journal.path else {
        let why = journal.last_error.unwrap_or_else(|| "it is off".into());
        let message = format!(
            "the daemon on {} keeps no journal ({why}); name another one with --journal-path",
            shown(socket)
        );
        return Err(Failure { exit: Exit::Unknown, message }.into());
    };
    let path = PathBuf::from(std::ffi::OsString::from_vec(from_json(&path)));
    Ok(FoundJournal { path, why: Some(format!("of the daemon on {}", shown(socket))), is_of_daemon: true })
}

fn shown(path: &Path) -> String {
    to_line(path.as_os_str().as_encoded_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        places: PlaceFlags,
    }

    fn flags(words: &[&str]) -> PlaceFlags {
        Line::parse_from([&["list"], words].concat()).places
    }

    #[test]
    fn the_journal_is_that_of_a_daemon_with_the_same_flags() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("observer.toml");
        let file = file.to_str().unwrap();
        let path = |words: &[&str]| flags(words).journal(Path::new("/nonexistent/o.sock")).unwrap().path;
        std::fs::write(file, "[daemon]\nstate_dir = \"/of-file\"\n").unwrap();
        assert_eq!(path(&["--config", file]), Path::new("/of-file/journal.sqlite"));
        assert_eq!(
            path(&["--config", file, "--state-dir", "/of-flag"]),
            Path::new("/of-flag/journal.sqlite")
        );
        assert_eq!(path(&["--config", file, "--journal-path", "/j"]), Path::new("/j"));
        std::fs::write(file, "[journal]\npath = \"/of-file/j\"\n").unwrap();
        assert_eq!(path(&["--config", file, "--state-dir", "/of-flag"]), Path::new("/of-file/j"));
        assert_eq!(path(&[]), Path::new("/var/lib/observer/journal.sqlite"));
        assert!(Line::try_parse_from(["list", "--state-dir", "/a", "--journal-path", "/b"]).is_err());
    }

    #[test]
    fn a_journal_that_a_flag_names_has_to_be_readable_and_another_one_need_not() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().to_str().unwrap();
        let error =
            flags(&["--state-dir", state_dir]).without_daemon(Path::new("/s")).err().unwrap().to_string();
        assert!(error.contains("there is no journal") && error.contains(state_dir), "{error}");
        let file = dir.path().join("observer.toml");
        std::fs::write(&file, format!("[daemon]\nstate_dir = {state_dir:?}\n")).unwrap();
        let places = flags(&["--config", file.to_str().unwrap()]).without_daemon(Path::new("/s")).unwrap();
        let expected = format!(
            "no daemon on /s: this is one look at the kernel, by the rules of {}, without a journal, because there is no {state_dir}/journal.sqlite",
            file.display()
        );
        assert!(places.journal.is_none());
        assert_eq!(places.sentence, expected);
        let old = rusqlite::Connection::open(dir.path().join("journal.sqlite")).unwrap();
        old.execute_batch(
            "PRAGMA user_version = 2; CREATE TABLE meta (key, value); INSERT INTO meta VALUES ('stream_id', 'x');",
        )
        .unwrap();
        let places = flags(&["--config", file.to_str().unwrap()]).without_daemon(Path::new("/s")).unwrap();
        assert!(places.journal.is_none() && places.sentence.contains("of version 2"), "{}", places.sentence);
        let error =
            flags(&["--state-dir", state_dir]).without_daemon(Path::new("/s")).err().unwrap().to_string();
        assert!(error.contains("of version 2"), "{error}");
    }
}

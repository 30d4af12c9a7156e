//! Which journal `observer history` reads.

use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::api::status::StatusAnswer;
use crate::cli::exit::{Exit, Failure};
use crate::cli::paths::{JOURNAL_NAME, STATE_DIR_DEFAULT};
use crate::config::Config;
use crate::socket::client::{Client, ClientError, decode};
use crate::socket::frame::ClientRequest;
use crate::text::bytes::{from_json, to_line};

/// A journal, and why it is this one.
pub struct FoundJournal {
    /// Path of its file.
    pub path: PathBuf,
    /// Why, as the end of a sentence; `None`: a flag names it.
    pub why: Option<String>,
}

/// Flags that name a journal.
#[derive(Args)]
pub struct JournalFlags {
    /// The journal's file
    #[arg(long, value_name = "FILE")]
    journal_path: Option<PathBuf>,
    /// The daemon's state directory
    #[arg(long, value_name = "DIR", conflicts_with = "journal_path")]
    state_dir: Option<PathBuf>,
    /// The configuration that names the journal
    #[arg(long, value_name = "FILE", conflicts_with_all = ["journal_path", "state_dir"])]
    config: Option<PathBuf>,
}

impl JournalFlags {
    /// Whether one is given.
    pub fn are_given(&self) -> bool {
        [&self.journal_path, &self.state_dir, &self.config].into_iter().any(Option::is_some)
    }
}

impl FoundJournal {
    /// Finds the journal that the flags name, else that of the daemon on `socket`, else the default one.
    pub fn find(flags: &JournalFlags, socket: &Path) -> anyhow::Result<Self> {
        if let Some(path) = &flags.journal_path {
            return Ok(Self { path: path.clone(), why: None });
        }
        if let Some(dir) = &flags.state_dir {
            return Ok(Self { path: dir.join(JOURNAL_NAME), why: None });
        }
        if let Some(file) = &flags.config {
            let config = Config::load(Some(file))?;
            let dir = config.state_dir.unwrap_or_else(|| STATE_DIR_DEFAULT.into());
            let path = config.journal.path.unwrap_or_else(|| dir.join(JOURNAL_NAME));
            return Ok(Self { path, why: Some(format!("as {} has it", shown(file))) });
        }
        match Client::connect(socket) {
            Ok(client) => Self::of_daemon(client, socket),
            Err(error) => {
                let answer = match error {
                    ClientError::NoDaemon(_) => "there is no daemon on",
                    _ => "nothing can be asked on",
                };
                let path = Path::new(STATE_DIR_DEFAULT).join(JOURNAL_NAME);
                Ok(Self { path, why: Some(format!("the default one: {answer} {}", shown(socket))) })
            }
        }
    }

    fn of_daemon(mut client: Client, socket: &Path) -> anyhow::Result<Self> {
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
        Ok(Self { path, why: Some(format!("of the daemon on {}", shown(socket))) })
    }
}

fn shown(path: &Path) -> String {
    to_line(path.as_os_str().as_encoded_bytes()).into_owned()
}

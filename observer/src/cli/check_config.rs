//! `observer check-config`

use std::fs::File;
use std::path::{Path, PathBuf};

use clap::Args;
use nix::unistd::geteuid;

use super::exit::Exit;
use super::{places, readable, term, user};
use crate::config::Config;
use crate::mirror::target::{ConnectionTarget, DatabaseUrl};
use crate::text::bytes::to_line;

const EXIT_CODES: &str = "\
Exit codes:
  0  the daemon can use it; warnings are on standard error
  2  it cannot be used: the message has the line and the column, or names a file that the daemon's user cannot read
  4  nothing is known to be wrong, and it cannot be known whether the daemon's user can read the files that it names: run it as root";

/// Below this, systemd has what it provides to services while they run (`LoadCredential=`).
const CREDENTIALS: &str = "/run/credentials";
/// What the package's unit hides from the daemon (`PrivateTmp=`).
const PRIVATE_DIRS: [&str; 2] = ["/tmp", "/var/tmp"];

/// Errors have line and column, and warnings say what can never match. Files that the configuration names are read as the
/// daemon's user. `observer rules try FILE` shows which sessions there would be.
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub struct CheckConfigArgs {
    /// The configuration
    file: PathBuf,
    /// The user that the daemon runs as, by name or number. Default: `observer`, if there is such a user, else who calls
    /// this
    #[arg(long, value_name = "USER", value_parser = user::parse)]
    user: Option<u32>,
}

impl CheckConfigArgs {
    /// 0 fine, 2 a configuration that cannot be used, 4 not known.
    pub fn run(self) -> anyhow::Result<Exit> {
        let config = Config::load(Some(&self.file))?;
        places::warn_of(&config);
        let uid = self.user.or_else(user::of_service).unwrap_or_else(|| geteuid().as_raw());
        self.warn_of_itself(uid);
        let checked = CheckedFiles::of(&config, uid);
        for warning in &checked.warnings {
            anstream::eprintln!("observer: warning: {warning}");
        }
        for problem in checked.problems.iter().chain(&checked.not_known) {
            anstream::eprintln!("observer: {problem}");
        }
        term::print_lines(summary(&self.file, &config, &checked))?;
        Ok(checked.exit())
    }

    /// Warns where the daemon could not read the configuration at the place where it is.
    fn warn_of_itself(&self, uid: u32) {
        let Ok(file) = std::path::absolute(&self.file) else { return };
        // Whether it stays there is not known, nor what this process cannot try.
        let Ok(opened) = readable::open_as(uid, &[file]) else { return };
        for unreadable in opened.into_iter().filter_map(Result::err) {
            anstream::eprintln!(
                "observer: warning: {} cannot read the configuration where it is: {}",
                user::named(uid),
                unreadable.reason()
            );
        }
    }
}

/// What came of reading the files that a configuration names.
#[derive(Default)]
struct CheckedFiles {
    problems: Vec<String>,
    warnings: Vec<String>,
    /// Why it is not known whether the daemon can read them.
    not_known: Option<String>,
    /// Who read them, if there are any.
    read_as: Option<String>,
}

impl CheckedFiles {
    /// Reads the files of `config` as the user `uid`.
    fn of(config: &Config, uid: u32) -> Self {
        let mut checked = Self::default();
        let Some(database) = &config.mirror.database else { return checked };
        let target = match database {
            DatabaseUrl::Text(_) => Some(database.target()),
            DatabaseUrl::File(path) => {
                let opened = checked.open(vec![path.clone()], uid).pop();
                // What that user cannot read, this one may.
                let opened = opened.or_else(|| readable::open(path).ok());
                opened.map(|opened| ConnectionTarget::read(path, opened))
            }
        };
        match target {
            Some(Ok(target)) => drop(checked.open(target.files(), uid)),
            Some(Err(error)) => checked.problems.push(format!("{error:#}")),
            None => {}
        }
        checked
    }

    /// Opens those of `files` that are there when the daemon does not run, and says what is wrong with the others.
    fn open(&mut self, mut files: Vec<PathBuf>, uid: u32) -> Vec<File> {
        files.retain(|file| !file.starts_with(CREDENTIALS));
        if files.is_empty() {
            return Vec::new();
        }
        self.warnings.extend(files.iter().filter(|file| is_hidden(file)).map(|file| {
            format!(
                "the service of the package cannot see {}, because systemd gives it empty /tmp and /var/tmp of its own \
                 (PrivateTmp=yes): move the file, such as to /etc/observer",
                line(file)
            )
        }));
        let tried = match readable::open_as(uid, &files) {
            Ok(tried) => tried,
            Err(error) => {
                let own = user::named(geteuid().as_raw());
                self.not_known.get_or_insert_with(|| {
                    format!(
                        "can't know whether {} can read {}: this runs as {own} ({error}); run it as root",
                        user::named(uid),
                        lines(&files)
                    )
                });
                return Vec::new();
            }
        };
        self.read_as = Some(user::named(uid));
        let mut opened = Vec::new();
        for (file, tried) in files.iter().zip(tried) {
            match tried {
                Ok(file) => opened.push(file),
                Err(unreadable) => self.problems.push(format!(
                    "{} cannot read {}: {}; give that user the right to read it, or if it is the connection string, have \
                     systemd pass it to the service (LoadCredential=database_url:FILE) and leave database_url_file out",
                    user::named(uid),
                    line(file),
                    unreadable.reason()
                )),
            }
        }
        opened
    }

    /// What is known to be wrong stays wrong, whatever else is not known.
    fn exit(&self) -> Exit {
        match (self.problems.is_empty(), &self.not_known) {
            (false, _) => Exit::Usage,
            (true, Some(_)) => Exit::Unknown,
            (true, None) => Exit::Found,
        }
    }
}

/// Whether the service of the package cannot see a file, wherever links to it are.
fn is_hidden(file: &Path) -> bool {
    let at = std::fs::canonicalize(file).unwrap_or_else(|_| file.into());
    PRIVATE_DIRS.iter().any(|dir| at.starts_with(dir))
}

fn lines(files: &[PathBuf]) -> String {
    let shown: Vec<_> = files.iter().map(|file| line(file)).collect();
    shown.join(", ")
}

fn line(path: &Path) -> String {
    to_line(path.as_os_str().as_encoded_bytes()).into_owned()
}

/// What the configuration sets. No password of a database is in it.
fn summary(file: &Path, config: &Config, checked: &CheckedFiles) -> Vec<String> {
    let set = |value: Option<String>| value.unwrap_or_else(|| "not set".into());
    let warnings = config.warnings.len() + checked.warnings.len();
    let verdict = match (checked.exit(), checked.problems.len(), warnings) {
        (Exit::Unknown, ..) => "not known".to_owned(),
        (_, 0, 0) => "fine".to_owned(),
        (_, 0, 1) => "1 warning".to_owned(),
        (_, 0, count) => format!("{count} warnings"),
        (_, 1, _) => "1 problem".to_owned(),
        (_, count, _) => format!("{count} problems"),
    };
    let database = config.mirror.database.as_ref().map(|_| "a database".to_owned());
    let mut lines = vec![
        format!("{}: {verdict}", line(file)),
        format!("  session rules  {}", config.rules.len()),
        format!("  labels         {}", config.labels.len()),
        format!("  socket         {}", set(config.socket.as_deref().map(line))),
        format!("  state_dir      {}", set(config.state_dir.as_deref().map(line))),
        format!("  ring_bytes     {}", set(config.ring_bytes.map(|bytes| bytes.to_string()))),
        format!("  journal        {}", set(config.journal.path.as_deref().map(line))),
        format!("  mirror         {}", set(database)),
        format!("  metrics        {}", set(config.metrics.as_ref().map(ToString::to_string))),
    ];
    lines.extend(checked.read_as.as_ref().map(|user| format!("  files          read as {user}")));
    lines
}

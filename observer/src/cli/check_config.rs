//! `observer check-config`

use std::path::{Path, PathBuf};

use clap::Args;
use nix::unistd::{User, geteuid};

use super::exit::Exit;
use super::{readable, term, user};
use crate::config::Config;
use crate::mirror::target::DatabaseUrl;
use crate::text::bytes::to_line;

const EXIT_CODES: &str = "\
Exit codes:
  0  the daemon can use it; warnings are on standard error
  2  it cannot be used: the message has the line and the column, or names a file that the daemon's user cannot read
  4  it cannot be known whether the daemon's user can read the files that it names: run it as root";

/// The user that the package's unit runs the daemon as.
const SERVICE_USER: &str = "observer";
/// Below this, systemd has what it provides to services while they run (`LoadCredential=`).
const CREDENTIALS: &str = "/run/credentials";

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
        config.warn();
        let uid = self.user.or_else(service_user).unwrap_or_else(|| geteuid().as_raw());
        self.warn_of_itself(uid);
        let named = NamedFiles::of(&config);
        let checked = named.check(uid);
        for problem in &checked.problems {
            anstream::eprintln!("observer: {problem}");
        }
        term::print_lines(summary(&self.file, &config, &checked))?;
        Ok(checked.exit)
    }

    /// Warns where the daemon could not read the configuration at the place where it is.
    fn warn_of_itself(&self, uid: u32) {
        let Ok(file) = std::path::absolute(&self.file) else { return };
        // Whether it stays there is not known, nor what this process cannot try.
        let Ok(tried) = readable::try_as(uid, &[file]) else { return };
        for unreadable in tried.into_iter().flatten() {
            anstream::eprintln!(
                "observer: warning: {} cannot read the configuration where it is: {}",
                shown(uid),
                unreadable.reason()
            );
        }
    }
}

/// The user of the service, where there is one.
fn service_user() -> Option<u32> {
    User::from_name(SERVICE_USER).ok().flatten().map(|user| user.uid.as_raw())
}

fn shown(uid: u32) -> String {
    let name = user::shown(uid);
    if name == uid.to_string() { format!("user {uid}") } else { format!("user {name} (uid {uid})") }
}

/// The files that a configuration names, and what is wrong with them whoever reads them.
struct NamedFiles {
    files: Vec<PathBuf>,
    problems: Vec<String>,
}

/// What came of reading the files.
struct CheckedFiles {
    problems: Vec<String>,
    /// Who read them, if there are any.
    read_as: Option<String>,
    exit: Exit,
}

impl NamedFiles {
    fn of(config: &Config) -> Self {
        let (mut files, mut problems) = (Vec::new(), Vec::new());
        let Some(database) = &config.mirror.database else { return Self { files, problems } };
        if let DatabaseUrl::File(path) = database {
            files.push(path.clone());
        }
        match database.target() {
            Ok(target) => files.extend(target.files()),
            // What this user cannot read, the daemon's may.
            Err(_) if files.iter().any(|file| std::fs::read(file).is_err()) => {}
            Err(error) => problems.push(format!("{error:#}")),
        }
        files.retain(|file| !file.starts_with(CREDENTIALS));
        Self { files, problems }
    }

    fn check(self, uid: u32) -> CheckedFiles {
        let Self { files, mut problems } = self;
        let exit = |problems: &[String]| if problems.is_empty() { Exit::Found } else { Exit::Usage };
        if files.is_empty() {
            return CheckedFiles { exit: exit(&problems), problems, read_as: None };
        }
        let tried = match readable::try_as(uid, &files) {
            Ok(tried) => tried,
            Err(error) => {
                let own = shown(geteuid().as_raw());
                problems.push(format!(
                    "can't know whether {} can read {}: this runs as {own} ({error}); run it as root",
                    shown(uid),
                    lines(&files)
                ));
                return CheckedFiles { problems, read_as: None, exit: Exit::Unknown };
            }
        };
        for (file, unreadable) in files.iter().zip(tried) {
            let Some(unreadable) = unreadable else { continue };
            problems.push(format!(
                "{} cannot read {}: {}; give that user the right to read it, or if it is the connection string, have systemd \
                 pass it to the service (LoadCredential=database_url:FILE) and leave database_url_file out",
                shown(uid),
                line(file),
                unreadable.reason()
            ));
        }
        CheckedFiles { exit: exit(&problems), problems, read_as: Some(shown(uid)) }
    }
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
    let verdict = match (checked.exit, checked.problems.len(), config.warnings.len()) {
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

//! `observer check-config`

use std::path::{Path, PathBuf};

use clap::Args;

use super::exit::Exit;
use super::term;
use crate::config::Config;
use crate::text::bytes::to_line;

const EXIT_CODES: &str = "\
Exit codes:
  0  the daemon can use it; warnings are on standard error
  2  it cannot be used: the message has the line and the column";

/// Errors have line and column, and warnings say what can never match. `observer rules try FILE` shows which sessions there
/// would be.
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub struct CheckConfigArgs {
    /// The configuration
    file: PathBuf,
}

impl CheckConfigArgs {
    /// 0 fine, 2 a configuration that cannot be used.
    pub fn run(self) -> anyhow::Result<Exit> {
        let config = Config::load(Some(&self.file))?;
        config.warn();
        term::print_lines(summary(&self.file, &config))?;
        Ok(Exit::Found)
    }
}

/// What the configuration sets. No password of a database is in it.
fn summary(file: &Path, config: &Config) -> Vec<String> {
    let path = |path: &Path| to_line(path.as_os_str().as_encoded_bytes()).into_owned();
    let set = |value: Option<String>| value.unwrap_or_else(|| "not set".into());
    let verdict = match config.warnings.len() {
        0 => "fine".to_owned(),
        1 => "1 warning".to_owned(),
        count => format!("{count} warnings"),
    };
    let database = config.mirror.database.as_ref().map(|_| "a database".to_owned());
    vec![
        format!("{}: {verdict}", path(file)),
        format!("  session rules  {}", config.rules.len()),
        format!("  labels         {}", config.labels.len()),
        format!("  socket         {}", set(config.socket.as_deref().map(path))),
        format!("  state_dir      {}", set(config.state_dir.as_deref().map(path))),
        format!("  ring_bytes     {}", set(config.ring_bytes.map(|bytes| bytes.to_string()))),
        format!("  journal        {}", set(config.journal.path.as_deref().map(path))),
        format!("  mirror         {}", set(database)),
    ]
}

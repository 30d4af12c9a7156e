//! `observer run`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::database::DatabaseFlags;
use super::exit::{Exit, Failure};
use super::flags::BtfFlag;
use super::hooks::HooksFlag;
use super::paths::{SOCKET_DEFAULT, journal_path};
use crate::api::audience::Audience;
use crate::config::{Config, check_max_age, check_max_bytes, check_ring_bytes, span};
use crate::daemon::canary;
use crate::daemon::{DaemonOptions, JournalPlace, LogFormat, LogLevel, PathChoice, RuleReader, RuleSet};
use crate::mirror::feed::MirrorOptions;
use crate::mirror::items::MirroredArgv;
use crate::mirror::target::DatabaseUrl;
use crate::{daemon, journal, kernel};

/// [`LogLevel`] as the command line spells it.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogLevelFlag {
    /// A person must act
    Error,
    /// A fact was lost or a limit was reached
    Warn,
    /// A part of the daemon starts or stops
    Info,
    /// Details for whoever looks for a cause
    Debug,
}

impl From<LogLevelFlag> for LogLevel {
    fn from(flag: LogLevelFlag) -> Self {
        match flag {
            LogLevelFlag::Error => Self::Error,
            LogLevelFlag::Warn => Self::Warn,
            LogLevelFlag::Info => Self::Info,
            LogLevelFlag::Debug => Self::Debug,
        }
    }
}

/// [`LogFormat`] as the command line spells it.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormatFlag {
    /// Entries of systemd's journal where it takes standard error, else lines
    Auto,
    /// Lines on standard error
    Lines,
    /// JSON objects on standard error, one on a line
    Json,
}

impl From<LogFormatFlag> for LogFormat {
    fn from(flag: LogFormatFlag) -> Self {
        match flag {
            LogFormatFlag::Auto => Self::Auto,
            LogFormatFlag::Lines => Self::Lines,
            LogFormatFlag::Json => Self::Json,
        }
    }
}

/// Flags win over the configuration file.
#[derive(Args)]
pub struct RunArgs {
    /// Session rules and settings (TOML); without it, what runs on a pty for a second is a session
    // The unit names one, and an operator may name another behind it.
    #[arg(long, value_name = "FILE", overrides_with = "config")]
    config: Option<PathBuf>,
    /// Directory for what outlives the daemon
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The journal's SQLite file; by default journal.sqlite in the state directory
    #[arg(long, value_name = "FILE")]
    journal_path: Option<PathBuf>,
    /// What the journal may take of the disk, bytes
    #[arg(long, value_name = "N", value_parser = parse_max_bytes)]
    journal_max_bytes: Option<u64>,
    /// How old its entries may get, as 90d
    #[arg(long, value_name = "SPAN", value_parser = check_max_age)]
    journal_max_age: Option<Duration>,
    /// Keep all arguments of processes in the journal, which may hold secrets; otherwise only the first
    #[arg(long)]
    journal_argv: bool,
    #[command(flatten)]
    database: DatabaseFlags,
    /// Mirror all arguments of processes that the journal keeps; otherwise only the first
    #[arg(long)]
    mirror_argv: bool,
    /// Size of the ring buffer, bytes: a power of two
    #[arg(long, value_name = "N", value_parser = parse_ring_bytes)]
    ring_bytes: Option<u32>,
    /// Write log events of this level and of more severe ones
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: LogLevelFlag,
    /// What the log looks like; in systemd's journal, only auto has priorities (journalctl -p) and fields
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    log_format: LogFormatFlag,
    /// Write the kernel programs' own diagnostics to the log
    #[arg(long)]
    program_log: bool,
    /// How often a process of observer's own checks that events come through, as 30s; a service manager's watchdog may
    /// want it more often
    #[arg(long, value_name = "SPAN", value_parser = parse_canary_interval, hide_short_help = true)]
    canary_interval: Option<Duration>,
    /// Where to take facts from that more than one kind of hook can tell
    #[arg(long, value_name = "WAY", default_value = "auto")]
    hooks: HooksFlag,
    #[command(flatten)]
    btf: BtfFlag,
}

fn parse_ring_bytes(text: &str) -> Result<u32, String> {
    check_ring_bytes(
        text.parse().map_err(|_| "it is no number of bytes: write for instance 8388608".to_owned())?,
    )
}

fn parse_max_bytes(text: &str) -> Result<u64, String> {
    check_max_bytes(
        text.parse().map_err(|_| "it is no number of bytes: write for instance 268435456".to_owned())?,
    )
}

fn parse_canary_interval(text: &str) -> Result<Duration, String> {
    let allowed = canary::INTERVAL_MIN..=canary::INTERVAL_MAX;
    let interval = span(text).filter(|interval| allowed.contains(interval));
    interval.ok_or_else(|| "it is no span from 100ms to 1h: write for instance 30s".to_owned())
}

impl RunArgs {
    fn journal(&self, config: &Config) -> JournalPlace {
        let dir = self.state_dir.as_ref().or(config.state_dir.as_ref());
        let path = self.journal_path.as_ref().or(config.journal.path.as_ref());
        let is_chosen = dir.is_some() || path.is_some();
        JournalPlace {
            path: journal_path(path.map(PathBuf::as_path), dir.map(PathBuf::as_path)),
            choice: if is_chosen { PathChoice::Explicit } else { PathChoice::Default },
            max_bytes: self
                .journal_max_bytes
                .or(config.journal.max_bytes)
                .unwrap_or(journal::MAX_BYTES_DEFAULT),
            max_age: self.journal_max_age.or(config.journal.max_age).unwrap_or(journal::MAX_AGE_DEFAULT),
            entries_for: if self.keeps_arguments(config) { Audience::Root } else { Audience::Anyone },
        }
    }

    /// Whether the journal has all arguments of processes.
    fn keeps_arguments(&self, config: &Config) -> bool {
        self.journal_argv || config.journal.argv
    }

    /// The database is that of the flags, else of the configuration, else of the service's credentials.
    fn mirror(&self, config: &Config) -> anyhow::Result<Option<MirrorOptions>> {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let database = self.database.url()?.or_else(|| config.mirror.database.clone());
        let database = database.or_else(|| DatabaseUrl::from_credentials(credentials.as_deref()));
        if self.mirror_argv && !self.keeps_arguments(config) {
            let message = "--mirror-argv has no effect: the mirror copies the journal, which keeps the first argument alone; give \
                           --journal-argv as well, or leave it out";
            return Err(Failure { exit: Exit::Usage, message: message.into() }.into());
        }
        let is_whole = self.keeps_arguments(config) && (self.mirror_argv || config.mirror.argv);
        let argv = if is_whole { MirroredArgv::All } else { MirroredArgv::First };
        Ok(database.map(|database| MirrorOptions { database, argv }))
    }

    /// 0 after a signal, 1 if it could not run, 2 for a wrong configuration.
    pub fn run(self, socket: Option<PathBuf>) -> anyhow::Result<Exit> {
        let config = Config::load_for_daemon(self.config.as_deref())?;
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let options = DaemonOptions {
            config: self.config.as_ref().map(absolute),
            log_level: self.log_level.into(),
            log_format: self.log_format.into(),
            journal: self.journal(&config),
            mirror: self.mirror(&config)?,
            metrics: config.metrics.clone(),
            canary_interval: self.canary_interval.unwrap_or(canary::INTERVAL_DEFAULT),
            kernel: kernel::KernelOptions {
                ring_bytes: self
                    .ring_bytes
                    .or(config.ring_bytes)
                    .unwrap_or(observer_common::limits::RING_BYTES_DEFAULT),
                program_log: self.program_log,
                btf: self.btf.btf,
                hooks: self.hooks.into(),
                all_environments: !config.labels.is_empty(),
            },
            socket: socket.or(config.socket).unwrap_or_else(|| SOCKET_DEFAULT.into()),
            rules: RuleSet {
                rules: config.rules,
                ignored: config.ignored,
                labels: config.labels,
                warnings: config.warnings,
            },
            read_rules: reader(self.config),
            env: config.env,
        };
        daemon::run(options).map_err(|error| Failure { exit: Exit::None, message: format!("{error:#}") })?;
        Ok(Exit::Found)
    }
}

/// Reads the rules of a configuration file again.
fn reader(file: Option<PathBuf>) -> RuleReader {
    Arc::new(move || {
        let Some(file) = &file else {
            return Err(
                "there is no configuration file; start the daemon with --config FILE to use one".into()
            );
        };
        let Config { rules, ignored, labels, warnings, .. } =
            Config::load_for_daemon(Some(file)).map_err(|error| error.to_string())?;
        Ok(RuleSet { rules, ignored, labels, warnings })
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: RunArgs,
    }

    #[test]
    fn of_several_configurations_the_last_one_counts() {
        let Line { run } = Line::try_parse_from(["run", "--config", "/a", "--config", "/b"]).unwrap();
        assert_eq!(run.config, Some("/b".into()));
    }
}

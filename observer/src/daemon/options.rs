//! What the daemon is started with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use observer_core::Rule;
use observer_core::label::LabelVariable;
use observer_core::rule::Ignore;
use tracing::warn;

use super::logging::{LogFormat, LogLevel};
use crate::api::audience::Audience;
use crate::config::ConfigError;
use crate::kernel;
use crate::mirror::feed::MirrorOptions;
use crate::socket::metrics_address::MetricsAddress;

/// What decides which processes are sessions, and how they are labelled.
pub struct RuleSet {
    /// Session rules; the first that admits a process decides.
    pub rules: Vec<Rule>,
    /// Processes that no rule admits.
    pub ignored: Vec<Ignore>,
    /// Environment variables that label sessions.
    pub labels: Vec<LabelVariable>,
    /// What of the configuration can be used but is probably wrong.
    pub warnings: Vec<ConfigError>,
}

impl RuleSet {
    /// Writes the warnings to the log.
    pub fn log_warnings(&self) {
        for warning in &self.warnings {
            let (line, column) = warning.place().unzip();
            warn!(part = "rules", line, column, "{warning}");
        }
    }
}

/// Rules that were read, or why they cannot be used and what to do.
pub type RulesRead = Result<RuleSet, String>;

/// Reads the rules from where the present ones are from. It may block on a file system.
pub type RuleReader = Arc<dyn Fn() -> RulesRead + Send + Sync>;

/// What the daemon is started with.
pub struct DaemonOptions {
    /// The configuration file that the other options come from; `None`: there is none.
    pub config: Option<PathBuf>,
    /// What decides which processes are sessions.
    pub rules: RuleSet,
    /// Reads the rules again when SIGHUP comes.
    pub read_rules: RuleReader,
    /// Names of the environment variables that are kept.
    pub env: Vec<String>,
    /// The least severe events that the log has.
    pub log_level: LogLevel,
    /// What the log looks like.
    pub log_format: LogFormat,
    /// Path of the socket.
    pub socket: PathBuf,
    /// Where the journal is, and its bounds.
    pub journal: JournalPlace,
    /// What is mirrored to which database; `None`: there is no mirror.
    pub mirror: Option<MirrorOptions>,
    /// Where metrics are served; `None`: nowhere.
    pub metrics: Option<MetricsAddress>,
    /// How often a canary is started.
    pub canary_interval: Duration,
    /// What the kernel programs are loaded with.
    pub kernel: kernel::KernelOptions,
}

/// Where the journal is, and its bounds.
pub struct JournalPlace {
    /// The file.
    pub path: PathBuf,
    /// Who chose the path.
    pub choice: PathChoice,
    /// Bound of its bytes on the disk.
    pub max_bytes: u64,
    /// Bound of an entry's age.
    pub max_age: Duration,
    /// For whom its entries are made: anyone, or root, so that they have all arguments of processes.
    pub entries_for: Audience,
}

/// Who chose the path of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathChoice {
    /// A person did: the daemon does not start without this journal.
    Explicit,
    /// It is the default: where the path cannot be used, the daemon runs without a journal, because the map does not
    /// depend on it.
    Default,
}

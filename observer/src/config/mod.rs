//! The configuration file: TOML, which is checked as a whole before anything starts. Every error names the file, the line and
//! the column, what was expected, and the next step.

mod builtin;
mod decode;
mod errors;
mod executables;
mod fault;
mod journal;
mod labels;
mod metrics;
mod mirror;
mod never;
mod resolve;
mod service;
mod session;
mod shadowed;
mod terminal;
mod users;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use observer_common::limits::{RING_BYTES_MAX, RING_BYTES_MIN, is_ring_size};
use observer_core::Rule;
use observer_core::label::LabelVariable;
use observer_core::rule::Ignore;
use serde::Deserialize;

use self::fault::{ConfigFault, Findings, absolute, variable};
use crate::socket::metrics_address::MetricsAddress;

/// Environment variables that are kept where the configuration names none: those in which a multiplexer identifies itself.
const ENV_DEFAULT: [&str; 4] = ["TMUX_PANE", "TMUX", "STY", "WINDOW"];
/// Bytes of the largest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The configuration, checked.
#[derive(Debug)]
pub struct Config {
    /// Session rules; the first that admits a process decides.
    pub rules: Vec<Rule>,
    /// Processes that no rule admits.
    pub ignored: Vec<Ignore>,
    /// Names of the environment variables that are kept.
    pub env: Vec<String>,
    /// Environment variables that label sessions.
    pub labels: Vec<LabelVariable>,
    /// Path of the socket.
    pub socket: Option<PathBuf>,
    /// The state directory.
    pub state_dir: Option<PathBuf>,
    /// Size of the ring, bytes.
    pub ring_bytes: Option<u32>,
    /// The journal.
    pub journal: JournalConfig,
    /// The mirror.
    pub mirror: MirrorConfig,
    /// Where metrics are served; `None`: nowhere.
    pub metrics: Option<MetricsAddress>,
    /// What can be used but is probably wrong.
    pub warnings: Vec<ConfigError>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    daemon: DaemonSection,
    #[serde(default)]
    labels: labels::LabelsSection,
    #[serde(default)]
    journal: journal::JournalSection,
    #[serde(default)]
    mirror: mirror::MirrorSection,
    #[serde(default)]
    metrics: metrics::MetricsSection,
    #[serde(default)]
    session: Vec<toml::Spanned<session::SessionSection>>,
    #[serde(default)]
    ignore: Vec<toml::Spanned<session::IgnoreSection>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DaemonSection {
    env: Option<Vec<toml::Spanned<String>>>,
    socket: Option<toml::Spanned<PathBuf>>,
    state_dir: Option<toml::Spanned<PathBuf>>,
    ring_bytes: Option<toml::Spanned<u64>>,
}

impl Config {
    /// The configuration without a file: every process on a pty is a session of its directory once it is a second old.
    pub fn without_file() -> Self {
        Self {
            rules: vec![builtin::default_rule()],
            ignored: Vec::new(),
            env: ENV_DEFAULT.map(String::from).into(),
            labels: Vec::new(),
            socket: None,
            state_dir: None,
            ring_bytes: None,
            journal: JournalConfig::default(),
            mirror: MirrorConfig::default(),
            metrics: None,
            warnings: Vec::new(),
        }
    }

    /// Reads and checks the file at `path`; without a path, [`Config::without_file`]. Either way, observer's own commands are
    /// ignored.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigErrors> {
        let mut config = Self::read(path)?;
        config.ignored.extend(builtin::own_commands());
        Ok(config)
    }

    /// The same for the daemon, which ignores the processes of its own service as well.
    pub fn load_for_daemon(path: Option<&Path>) -> Result<Self, ConfigErrors> {
        let mut config = Self::load(path)?;
        config.ignored.extend(service::own_service());
        Ok(config)
    }

    fn read(path: Option<&Path>) -> Result<Self, ConfigErrors> {
        let Some(path) = path else { return Ok(Self::without_file()) };
        let unreadable = |error: &dyn fmt::Display| {
            let message = format!("cannot be read: {error}; name a TOML file that can be read");
            ConfigErrors::from(ConfigError::of_file(path, message))
        };
        let size = std::fs::metadata(path).map_err(|error| unreadable(&error))?.len();
        if size > FILE_BYTES_MAX {
            return Err(unreadable(&format!("{size} bytes, more than {FILE_BYTES_MAX}")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(&error))?;
        Self::parse(&text, path)
    }

    /// Parses and checks `text`, which was read from `path`.
    fn parse(text: &str, path: &Path) -> Result<Self, ConfigErrors> {
        let mut found = Findings::default();
        let config =
            decode::decode(text, &mut found.faults).map(|file: File| Self::check(file, text, &mut found));
        let Findings { faults, warnings } = found;
        match (ConfigErrors::of_faults(faults, text, path), config) {
            (None, Some(config)) => {
                let warnings = warnings.into_iter().map(|fault| ConfigError::placed(fault, text, path));
                Ok(Self { warnings: warnings.collect(), ..config })
            }
            (Some(errors), _) => Err(errors),
            // A text that cannot be decoded has a fault.
            (None, None) => Ok(Self::without_file()),
        }
    }

    /// The configuration in `file`, decoded from `text`. Faults and warnings are added to `found`.
    fn check(mut file: File, text: &str, found: &mut Findings) -> Self {
        if !found.faults.is_empty() {
            // Its condition may be what does not belong there.
            file.ignore.retain(|section| section.get_ref().has_condition());
        }
        let env: Vec<String> = match file.daemon.env {
            Some(names) => {
                let names = names.into_iter();
                names.filter_map(|name| found.take(variable("env", "TMUX_PANE", name))).collect()
            }
            None => ENV_DEFAULT.map(String::from).into(),
        };
        let users = users::UserDatabase::default();
        found.warnings.extend(shadowed::shadowed(text, &file.session, &file.ignore));
        let sockets = file.session.iter().map(|it| it.get_ref().mux_socket());
        found.warnings.extend(sockets.filter_map(|sockets| never::unknown_panes(&env, sockets)));
        let rules = match file.session.is_empty() {
            true => vec![builtin::default_rule()],
            false => file.session.into_iter().map(|it| it.into_inner().compile(&users, found)).collect(),
        };
        let ignored = file.ignore.into_iter();
        let ignored = ignored.map(|it| session::IgnoreSection::compile(it, &users, found)).collect();
        let rules = with_user_names(rules, &users);
        if users.is_silent() {
            let message = "the user database does not list its users in time: those of a `group` may be missing, and \
                           {user} may be a number. When it answers, have the rules read again (`systemctl reload \
                           observer`)";
            found.warnings.push(ConfigFault { span: None, message: message.into() });
        }
        let journal = file.journal.check(found);
        found.warnings.extend(file.mirror.warning(journal.argv));
        let DaemonSection { socket, state_dir, ring_bytes: bytes, .. } = file.daemon;
        Self {
            rules,
            ignored,
            env,
            labels: labels::check(file.labels, found),
            socket: socket.and_then(|path| found.take(absolute("socket", path))),
            state_dir: state_dir.and_then(|path| found.take(absolute("state_dir", path))),
            ring_bytes: bytes.and_then(|bytes| found.take(ring_bytes(bytes))),
            journal,
            mirror: found.take(file.mirror.check()).unwrap_or_default(),
            metrics: found.take(file.metrics.check()).flatten(),
            warnings: Vec::new(),
        }
    }
}

/// Gives the names of users to the rules that put them into names of sessions.
fn with_user_names(mut rules: Vec<Rule>, users: &users::UserDatabase) -> Vec<Rule> {
    if rules.iter().any(|rule| rule.name.names_user()) {
        let names = users.names();
        for rule in rules.iter_mut().filter(|rule| rule.name.names_user()) {
            rule.name.users = Some(Arc::clone(&names));
        }
    }
    rules
}

fn ring_bytes(bytes: toml::Spanned<u64>) -> Result<u32, ConfigFault> {
    let span = Some(bytes.span());
    check_ring_bytes(bytes.into_inner()).map_err(|message| ConfigFault { span, message })
}

pub use builtin::builtin_rules;
pub use errors::{ConfigError, ConfigErrors};
pub use journal::{JournalConfig, check_max_age, check_max_bytes, span};
pub use mirror::MirrorConfig;

/// Checks that the kernel accepts the size of the ring, and that observer's largest records fit into it. The error ends with the
/// next step.
pub fn check_ring_bytes(bytes: u64) -> Result<u32, String> {
    // The error reports a size beyond 32 bits as the largest 32-bit size, which is as wrong.
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    if is_ring_size(bytes) {
        return Ok(bytes);
    }
    Err(format!(
        "the size of the ring must be a power of two from {RING_BYTES_MIN} to {RING_BYTES_MAX} bytes: write for instance 8388608"
    ))
}

#[cfg(test)]
mod tests;

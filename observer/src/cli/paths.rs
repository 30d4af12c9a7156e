//! Paths that the program uses where neither a flag nor the configuration names others.

use std::path::{Path, PathBuf};

/// The daemon's socket.
pub const SOCKET_DEFAULT: &str = "/run/observer/observer.sock";

/// The directory in which the daemon keeps its state.
pub const STATE_DIR_DEFAULT: &str = "/var/lib/observer";

/// Name of the journal's file in the state directory.
pub const JOURNAL_NAME: &str = "journal.sqlite";

/// The journal's file: `path`, or that in the state directory `dir`, or the default one.
pub fn journal_path(path: Option<&Path>, dir: Option<&Path>) -> PathBuf {
    path.map_or_else(|| dir.unwrap_or(STATE_DIR_DEFAULT.as_ref()).join(JOURNAL_NAME), Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_installed_configuration_names_the_default_paths() {
        let template = include_str!("../../../packaging/observer.toml");
        let journal = journal_path(None, None);
        for (key, path) in [
            ("socket", SOCKET_DEFAULT),
            ("state_dir", STATE_DIR_DEFAULT),
            ("path", journal.to_str().unwrap_or_default()),
        ] {
            let line = format!("#{key} = {path:?}");
            assert!(template.lines().any(|found| found == line), "packaging/observer.toml: {line}");
        }
    }
}

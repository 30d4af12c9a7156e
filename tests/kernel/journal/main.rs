//! The journal of a real daemon: the history of sessions across faults of the daemon, its disk and its file.
#![expect(clippy::indexing_slicing, reason = "a field that a JSON object lacks is null")]

mod alone;
mod changed;
mod corrupt;
mod crash;
mod deleted;
mod disk;
mod entries;
mod kills;
mod memory;
mod restart;
mod slow;

use std::path::{Path, PathBuf};
use std::time::Duration;

use observer_harness::fixture::PuppetOptions;
use observer_harness::{Daemon, Fixture, Options, Pty, Puppet, eventually};
use serde_json::Value;

/// The limit for an entry to reach the disk.
const SOON: Duration = Duration::from_secs(10);

/// A daemon with one rule, which admits processes called `agent` below the fixture's `homes`.
struct Scene {
    fixture: Fixture,
    daemon: Daemon,
}

impl Scene {
    #[track_caller]
    fn new() -> Self {
        Self::with("", None)
    }

    /// Starts a daemon whose rule has `extra` lines, with its state in `state_dir` if one is given.
    #[track_caller]
    fn with(extra: &str, state_dir: Option<PathBuf>) -> Self {
        let fixture = Fixture::new();
        let config = Self::config(&fixture, extra);
        let daemon = Daemon::start(&Options { config: Some(config), state_dir, ..Options::default() });
        Self { fixture, daemon }
    }

    fn config(fixture: &Fixture, extra: &str) -> String {
        let homes = fixture.mkdir("homes");
        format!(
            "[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\ncomm = [\"agent\"]\n{extra}\n",
            homes.display()
        )
    }

    fn home(&self, name: &str) -> PathBuf {
        self.fixture.mkdir(Path::new("homes").join(name))
    }

    fn agent(&self, home: &Path, pty: Option<&Pty>) -> Puppet {
        let program = Some(self.fixture.program("agent"));
        self.fixture.cast(&PuppetOptions {
            program,
            dir: Some(home.to_owned()),
            pty,
            ..PuppetOptions::default()
        })
    }

    /// Returns all entries of `observer history --json`; the daemon need not run.
    #[track_caller]
    fn history(&self, args: &[&str]) -> Vec<Value> {
        let mut command = self.daemon.command(&["history", "--json"]);
        command.args(args).arg("--state-dir").arg(self.daemon.state_dir());
        let result = observer_harness::observe::CommandResult::of(&mut command);
        assert!(matches!(result.code, Some(0 | 1)), "{result:?}");
        result.text().lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
    }

    /// Returns the entries of the sessions of one home.
    #[track_caller]
    fn entries_of(&self, home: &Path) -> Vec<Value> {
        let mut received = self.history(&[]);
        received.retain(|entry| entry["home"].as_str() == home.to_str());
        received
    }

    /// Waits until the home's last entry says that this puppet is alive there.
    #[track_caller]
    fn wait_live(&self, home: &Path, agent: &Puppet) -> Vec<Value> {
        eventually(&format!("{} has a session", home.display()), SOON, || {
            let received = self.entries_of(home);
            // A start may be recorded in parts, with the exec last; the row has all of it at once.
            let (row, last) = (self.row(home), received.last());
            let lives = row.zip(last).is_some_and(|(row, last)| {
                // Entries have the first argument alone.
                let whole = row["comm"] == last["comm"]
                    && (row["argv"].is_null() || row["argv"][0] == last["argv"][0])
                    && row["exec_at"] == last["exec_at"];
                last["pid"] == agent.pid && kind(last) != "session_ended" && whole
            });
            if lives { Ok(received) } else { Err(format!("{received:?}")) }
        })
    }

    /// Returns the current row of a home.
    #[track_caller]
    fn row(&self, home: &Path) -> Option<Value> {
        let mut rows = self.daemon.list();
        rows.retain(|row| row["home"].as_str() == home.to_str());
        assert!(rows.len() <= 1, "one row a home: {rows:#?}");
        rows.pop()
    }

    /// Waits until no entry is queued.
    #[track_caller]
    fn wait_written(&self) {
        eventually("all is written", SOON, || match self.journal()["queued"].as_u64() {
            Some(0) => Ok(()),
            queued => Err(format!("{queued:?}")),
        });
    }

    fn journal(&self) -> Value {
        self.daemon.status()["journal"].clone()
    }
}

fn kind(entry: &Value) -> &str {
    entry["kind"].as_str().expect("entries have a kind")
}

/// Returns how many entries are of this kind.
fn count(received: &[Value], of: &str) -> usize {
    received.iter().filter(|entry| kind(entry) == of).count()
}

//! Sessions on real terminals: tests which process is the primary of a home and how its session changes.

mod arguments;
mod conditions;
mod costs;
mod default_rule;
mod guide;
mod homes;
mod labels;
mod leftovers;
mod lives;
mod logs;
mod metrics;
mod namespaces;
mod panes;
mod program;
mod reload;
mod roots;
mod scrapes;
mod secrets;
mod senders;
mod service;
mod signals;
mod terminal_times;
mod timeline;
mod trying;
mod units;
mod users;
mod waits;

use std::path::{Path, PathBuf};

use observer_harness::fixture::PuppetOptions;
use observer_harness::truth::assert_row;
use observer_harness::{Daemon, Fixture, Options, Pty, Puppet, Watch, text};
use serde_json::Value;

/// A daemon with one rule, whose homes are below the fixture's `homes`.
struct Scene {
    fixture: Fixture,
    daemon: Daemon,
    watch: Watch,
}

impl Scene {
    /// Starts a daemon whose rule has `extra` lines.
    #[track_caller]
    fn new(extra: &str) -> Self {
        let fixture = Fixture::new();
        let homes = fixture.mkdir("homes");
        let min_age = if extra.contains("min_age") { "" } else { "min_age = \"0s\"\n" };
        let config =
            format!("[[session]]\n{min_age}cwd = \"{}/*\"\ntty = \"pts/*\"\n{extra}\n", homes.display());
        let daemon = Daemon::start(&Options { config: Some(config), ..Options::default() });
        let watch = Watch::all(&daemon);
        Self { fixture, daemon, watch }
    }

    fn home(&self, name: &str) -> PathBuf {
        self.fixture.mkdir(Path::new("homes").join(name))
    }

    /// Starts a puppet called `agent` on a terminal in `dir`.
    fn agent(&self, dir: &Path, pty: &Pty) -> Puppet {
        self.named("agent", dir, pty)
    }

    fn named(&self, comm: &str, dir: &Path, pty: &Pty) -> Puppet {
        self.wrapped(&[], comm, dir, pty)
    }

    /// Starts a puppet called `comm` below a wrapper's command line.
    fn wrapped(&self, wrapper: &[&str], comm: &str, dir: &Path, pty: &Pty) -> Puppet {
        self.fixture.cast(&PuppetOptions {
            program: Some(self.fixture.program(comm)),
            wrapper: wrapper.iter().map(Into::into).collect(),
            dir: Some(dir.to_owned()),
            pty: Some(pty),
            ..PuppetOptions::default()
        })
    }

    /// Returns the current row of a home, or `None` if it has none.
    #[track_caller]
    fn session(&self, home: &Path) -> Option<Value> {
        let mut rows = self.daemon.list();
        rows.retain(|row| row.get("home").and_then(Value::as_str) == home.to_str());
        assert!(rows.len() <= 1, "one row a home: {rows:#?}");
        rows.pop()
    }

    /// Asserts that the home's row shows `puppet` in `state` with the process's fields as the kernel returns
    /// them, and that `observer pid` prints the same pid.
    #[track_caller]
    fn assert_session(&self, home: &Path, puppet: &Puppet, state: &str) -> Value {
        let row = self.session(home).unwrap_or_else(|| panic!("{} has a session", home.display()));
        assert_eq!(text::u64_any(&row, "pid"), Some(puppet.pid.into()), "{row:#}");
        assert_eq!(row.get("state").and_then(Value::as_str), Some(state), "{row:#}");
        assert_eq!(row.get("certain"), Some(&true.into()), "{row:#}");
        let process = assert_row(&self.daemon, puppet.pid);
        for field in
            ["start_boottime_ns", "comm", "exe", "argv", "cwd", "cwd_dev", "cwd_ino", "tty", "uid", "boot_id"]
        {
            assert_eq!(row.get(field), process.get(field), "{field} is the process's: {row:#}");
        }
        let result = self.daemon.observer(&[std::ffi::OsStr::new("pid"), home.as_os_str()]);
        assert_eq!(
            (result.code, result.text()),
            (Some(0), format!("{}\n", puppet.pid).as_str()),
            "observer pid: {result:?}"
        );
        row
    }

    /// Asserts that the home has no live session: it has no row, or the row's session ended.
    #[track_caller]
    fn assert_none(&self, home: &Path) {
        if let Some(row) = self.session(home) {
            assert_eq!(row.get("state").and_then(Value::as_str), Some("ended"), "{row:#}");
        }
    }

    /// Returns the kinds of the session frames of this home, in order.
    fn frame_kinds(&self, home: &Path) -> Vec<String> {
        let of_home = |frame: &observer_harness::Frame| {
            frame.kind().starts_with("session")
                && frame.field("home").and_then(Value::as_str) == home.to_str()
        };
        self.watch
            .frames()
            .iter()
            .filter(|frame| of_home(frame))
            .map(|frame| frame.kind().to_owned())
            .collect()
    }

    /// Waits for a session frame of this kind and home.
    #[track_caller]
    fn wait_for_frame(&self, kind: &str, home: &Path) -> observer_harness::Frame {
        self.watch.wait_for(&format!("{kind} of {}", home.display()), |frame| {
            frame.kind() == kind && frame.field("home").and_then(Value::as_str) == home.to_str()
        })
    }
}

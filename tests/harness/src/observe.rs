//! The command line as a user calls it, and its JSON.

use std::ffi::OsStr;
use std::process::{Command, Output};

use serde_json::Value;

use crate::Daemon;

/// How a command ended and what it printed.
#[derive(Debug)]
pub struct CommandResult {
    /// Exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, as text.
    pub stderr: String,
}

impl CommandResult {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } =
            command.output().unwrap_or_else(|error| panic!("run {command:?}: {error}"));
        Self { code: status.code(), stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() }
    }

    /// Standard output as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("observer writes UTF-8")
    }

    /// Standard output as one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }
}

impl Daemon {
    /// Whether `status` reports that the arguments of programs exec'd before the daemon started cannot be read: they are null then.
    pub fn is_blind_to_older_argv(&self) -> bool {
        let status = self.status();
        let spots = status.get("blind_spots").and_then(Value::as_array);
        spots.is_some_and(|spots| spots.iter().any(|spot| spot["fact"] == "older argv"))
    }

    /// Runs a command against this daemon.
    pub fn observer(&self, args: &[impl AsRef<OsStr>]) -> CommandResult {
        CommandResult::of(&mut self.command(args))
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let result = self.observer(args);
        assert!(result.code == Some(0), "observer {args:?}: {result:?}");
        result.json()
    }

    /// Rows of `observer ps --json`.
    #[track_caller]
    pub fn ps(&self) -> Vec<Value> {
        array(self.json(&["ps", "--json"]))
    }

    /// The row of one process.
    #[track_caller]
    pub fn row(&self, pid: u32) -> Option<Value> {
        let mut rows: Vec<Value> = self
            .ps()
            .into_iter()
            .filter(|row| row.get("pid").and_then(Value::as_u64) == Some(pid.into()))
            .collect();
        assert!(rows.len() <= 1, "one row a process: {rows:?}");
        rows.pop()
    }

    /// Rows of `observer list --json`.
    #[track_caller]
    pub fn list(&self) -> Vec<Value> {
        let result = self.observer(&["list", "--json"]);
        let rows = array(result.json());
        let code = if rows.is_empty() { 1 } else { 0 };
        assert!(result.code == Some(code), "0 found, 1 certainly none: {result:?}");
        rows
    }

    /// Entries of `observer history --json`: those that the journal has written so far.
    #[track_caller]
    pub fn history(&self) -> Vec<Value> {
        let result = self.observer(&["history", "--json"]);
        assert!(matches!(result.code, Some(0 | 1)), "0 found, 1 certainly nothing: {result:?}");
        let entry =
            |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON ({error}): {line}"));
        result.text().lines().map(entry).collect()
    }

    /// `observer status --json`.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.json(&["status", "--json"])
    }

    /// `observer audit --json`, and its exit code.
    #[track_caller]
    pub fn audit(&self) -> (Value, Option<i32>) {
        let result = self.observer(&["audit", "--json"]);
        (result.json(), result.code)
    }

    /// Fails if the map differs from the kernel.
    #[track_caller]
    pub fn assert_no_drift(&self) {
        let (audit, code) = self.audit();
        let drift = audit.get("drift").and_then(Value::as_array).expect("an audit has its drift");
        assert!(
            drift.is_empty() && code == Some(0),
            "the map drifted from the kernel (exit {code:?}): {audit:#}"
        );
        let processes = audit.get("processes").and_then(Value::as_u64);
        assert!(processes.is_some_and(|count| count > 0), "an audit compares processes: {audit:#}");
    }

    /// Records lost, all kinds.
    #[track_caller]
    pub fn drops(&self) -> u64 {
        total(&self.status(), "drops_by_kind")
    }

    /// Changes that the journal did not write.
    #[track_caller]
    pub fn dropped(&self) -> u64 {
        let status = self.status();
        let dropped = status.get("journal").and_then(|journal| crate::text::u64_any(journal, "dropped"));
        dropped.unwrap_or_else(|| panic!("the journal counts what it dropped: {status:#}"))
    }

    /// A counter of `status`.
    #[track_caller]
    pub fn counter(&self, name: &str) -> u64 {
        let status = self.status();
        crate::text::u64_any(&status, name).unwrap_or_else(|| panic!("status has no {name}: {status:#}"))
    }
}

/// Sum over an object of counters; fails where it is no such object.
#[track_caller]
pub fn total(status: &Value, field: &str) -> u64 {
    let kinds =
        status.get(field).and_then(Value::as_object).unwrap_or_else(|| panic!("no {field}: {status:#}"));
    assert!(!kinds.is_empty(), "{field} names kinds: {status:#}");
    kinds.keys().map(|kind| crate::text::u64_any(&status[field], kind).expect("counters are numbers")).sum()
}

#[track_caller]
fn array(value: Value) -> Vec<Value> {
    match value {
        Value::Array(rows) => rows,
        other => panic!("expected an array: {other:#}"),
    }
}

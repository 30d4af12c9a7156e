//! Tests the log in systemd's journal.

use std::process::Command;

use observer_harness::observe::CommandResult;
use serde_json::Value;

use crate::system::{UNIT, eventually, installed, property, start, systemctl};

#[test]
fn entries_of_the_log_have_a_priority_and_fields() {
    let _alone = installed();
    start();
    // The journal has entries of earlier starts too.
    let of_this_start = format!("_SYSTEMD_INVOCATION_ID={}", property("InvocationID"));
    systemctl(&["stop", UNIT]);
    eventually("the journal has the entry", || {
        let mut command = Command::new("journalctl");
        command.args(["--no-pager", "--output=json", "--unit", UNIT, "OBSERVER_SIGNAL=SIGTERM"]);
        command.arg(&of_this_start);
        let result = CommandResult::of(&mut command);
        let entries = result.text().lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let is = |entry: &Value, name: &str, value: &str| entry.get(name).is_some_and(|it| it == value);
        entries
            .into_iter()
            .any(|entry| is(&entry, "PRIORITY", "6") && is(&entry, "MESSAGE", "SIGTERM: stopping"))
    });
}

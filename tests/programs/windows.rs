//! Windows of a screen, which can be given other numbers while programs run in them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use observer_harness::eventually;
use serde_json::{Value, json};

use crate::scene::{environment, run};
use crate::stage::{LIMIT, Stage};

const CONFIG: &str = "[[session]]\ncwd = \"{dir}/homes/*\"\ntty = \"any\"\nmin_age = \"0s\"\n";
/// Lives until it is killed.
const PROGRAM: &str = "sleep 1000";
const NAME: &str = "swapped";

/// Waits until the session of a home has this pane, and whether that is stale; in any case screen is named.
#[track_caller]
fn wait_pane(stage: &Stage, home: &Path, pane: &Value) {
    eventually(&format!("{} has the pane {pane}", home.display()), LIMIT, || {
        let rows = stage.daemon.list();
        let row = rows.iter().find(|row| row["home"].as_str() == home.to_str());
        let row = row.ok_or_else(|| format!("{rows:#?}"))?;
        let is_named = row["mux_socket"].as_str().is_some_and(|sty| sty.ends_with(NAME));
        let is_right = row["pane"] == *pane && row["pane_stale"] == pane.is_null();
        if is_right && is_named && row["mux"] == "screen" { Ok(()) } else { Err(format!("{row:#}")) }
    });
}

#[test]
fn windows_that_may_have_swapped_their_numbers_are_not_named() {
    let stage = Stage::new(CONFIG);
    let screens = stage.fixture.mkdir("screen");
    std::fs::set_permissions(screens, std::fs::Permissions::from_mode(0o700)).expect("close it to others");
    let [one, other] = ["one", "other"].map(|name| stage.home(&format!("homes/{name}")));
    let screen = |args: &[&str]| {
        let mut command = Command::new("screen");
        environment(&mut command, &stage.fixture.dir());
        run(command.args(["-S", NAME]).args(args));
    };
    let _client = stage.start(&format!("screen -c /dev/null -S {NAME} {PROGRAM}"), &one);
    wait_pane(&stage, &one, &json!("0"));
    screen(&["-X", "chdir", other.to_str().expect("a path of text")]);
    screen(&["-X", "screen", "sleep", "1000"]);
    // Window 1 is there, and nobody can tell any more which has which number.
    wait_pane(&stage, &other, &Value::Null);
    wait_pane(&stage, &one, &Value::Null);
    screen(&["-p", "0", "-X", "number", "1"]);
    wait_pane(&stage, &other, &Value::Null);
    wait_pane(&stage, &one, &Value::Null);
    // `other` has the number 0 now: who would type to the pane in the environment of `one` would type to it.
    screen(&["-p", "0", "-X", "kill"]);
    stage.wait_pids(&other, &[]);
    assert_eq!(stage.pids(&one).len(), 1);
    screen(&["-X", "quit"]);
}

//! Tests that entries and frames state what changed since the one before, and that a change of which nothing is
//! shown is none.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Instant;

use observer_harness::observe::CommandResult;
use observer_harness::{Verb, Watch, eventually};
use serde_json::{Value, json};

use crate::{SOON, Scene, kind};

/// Fields that are not compared.
const NOT_COMPARED: [&str; 14] = [
    "as_of",
    "at",
    "boottime_ns",
    "certain",
    "changed",
    "death",
    "end_reason",
    "event_seq",
    "found_at",
    "kind",
    "seq",
    "stream_id",
    "tty_input_at",
    "tty_output_at",
];

/// Asserts that `after` states each field in which it differs from `before`, with both values.
#[track_caller]
fn assert_follows(before: &Value, after: &Value) {
    let changed = after["changed"].as_object().unwrap_or_else(|| panic!("it states what changed: {after:#}"));
    assert!(!changed.is_empty(), "something changed: {after:#}");
    let fields = after.as_object().expect("an object").iter();
    let differing: BTreeMap<_, _> = fields
        .filter(|(field, value)| !NOT_COMPARED.contains(&field.as_str()) && before.get(field) != Some(value))
        .map(|(field, value)| match field.as_str() {
            "argv" | "starts" => (field, json!([null, null])),
            _ => (field, json!([before[field], value])),
        })
        .collect();
    assert_eq!(json!(changed), json!(differing), "{before:#} {after:#}");
}

/// Asserts that each change in `received` follows the start or change before it.
#[track_caller]
fn assert_chain(received: &[Value]) {
    for pair in received.windows(2) {
        if kind(&pair[1]) == "session_changed" {
            assert_follows(&pair[0], &pair[1]);
        }
    }
}

impl Scene {
    /// Waits for a last entry of the home of which this holds.
    #[track_caller]
    fn wait_last(&self, home: &Path, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        eventually(what, SOON, || {
            let received = self.entries_of(home);
            let last = received.last().filter(|last| holds(last)).cloned();
            last.ok_or_else(|| format!("{received:#?}"))
        })
    }
}

#[test]
fn entries_and_lines_state_what_changed() {
    let scene = Scene::with("[journal]\nargv = true", None);
    let (home, outside) = (scene.home("told"), scene.fixture.mkdir("outside"));
    let mut agent = scene.agent(&home, None);
    scene.wait_live(&home, &agent);
    let token = scene.fixture.token();
    let program = scene.fixture.program("agent");
    agent.request(Verb::Exec, &[program.as_os_str().as_bytes(), token.as_bytes(), b"again"]);
    let mut agent = scene.fixture.meet(&token);
    let exec = scene.wait_last(&home, "the exec", |last| {
        last["argv"].as_array().is_some_and(|argv| argv.iter().any(|word| word == "again"))
    });
    assert_eq!(exec["changed"]["argv"], json!([null, null]), "{exec:#}");
    assert!(exec["changed"]["exec_at"][1].is_string(), "{exec:#}");
    agent.chdir(&outside);
    let left = scene.wait_last(&home, "it left", |last| last["state"] == "left");
    assert_eq!(left["changed"]["state"], json!(["live", "left"]), "{left:#}");
    assert_eq!(left["changed"]["moved_to"], json!([null, outside.to_str()]), "{left:#}");
    assert_eq!(left["changed"]["cwd"], json!([home.to_str(), outside.to_str()]), "{left:#}");
    agent.chdir(&home);
    let back = scene.wait_last(&home, "it is back", |last| last["state"] == "live");
    assert_eq!(back["changed"]["state"], json!(["left", "live"]), "{back:#}");
    assert_chain(&scene.entries_of(&home));
    let mut command = scene.daemon.command(&["history"]);
    command.arg("--state-dir").arg(scene.daemon.state_dir());
    let lines = CommandResult::of(&mut command).text().to_owned();
    for words in ["exec'd again", "left for /", "is back"] {
        assert!(lines.contains(words), "{words}: {lines}");
    }
}

#[test]
fn frames_without_a_number_state_what_changed_since_the_frame_before() {
    // Entries are compared with what root is shown.
    let scene = Scene::with("[journal]\nargv = true", None);
    let home = scene.home("watched");
    let below = scene.fixture.mkdir("homes/watched/below");
    let mut agent = scene.agent(&home, None);
    scene.wait_live(&home, &agent);
    scene.wait_written();
    let watch = Watch::sessions(&scene.daemon);
    let mut last_entry = scene.entries_of(&home).pop().expect("an entry");
    for _ in 0..10 {
        agent.chdir(&below);
        agent.chdir(&home);
    }
    agent.chdir(&below);
    let is_of_home = |frame: &Value| frame["home"].as_str() == home.to_str();
    watch.wait_for("the last move with a number", |frame| {
        is_of_home(&frame.0) && frame.0["event_seq"].is_u64() && frame.0["cwd"].as_str() == below.to_str()
    });
    let frames: Vec<_> = watch.frames().into_iter().map(|frame| frame.0).filter(is_of_home).collect();
    let mut last_frame = frames.first().expect("the snapshot").clone();
    let mut unnumbered = 0;
    for frame in &frames[1..] {
        if frame["event_seq"].is_u64() {
            assert_follows(&last_entry, frame);
            last_entry = frame.clone();
        } else {
            assert_follows(&last_frame, frame);
            unnumbered += 1;
        }
        last_frame = frame.clone();
    }
    assert!(unnumbered > 10, "most moves wait for the journal: {unnumbered}");
    assert_chain(&scene.entries_of(&home));
}

#[test]
fn a_program_that_renames_all_the_time_writes_few_entries() {
    let scene = Scene::new();
    let home = scene.home("renames");
    let (here, there) = (scene.home("renames/here"), scene.fixture.dir().join("homes/renames/there"));
    let mut agent = scene.agent(&here, None);
    scene.wait_live(&home, &agent);
    scene.wait_written();
    let watch = Watch::sessions(&scene.daemon);
    let before = scene.entries_of(&home).len();
    let began = Instant::now();
    // Its own directory, then one that concerns nobody, as an editor's swap and backup files do.
    let other = scene.home("renames/other");
    let names = [here.as_os_str(), there.as_os_str()].map(|path| path.as_bytes());
    agent.does(Verb::RenamesFor, &[names[0], names[1], b"1500"]);
    let moved = scene.fixture.dir().join("homes/renames/moved");
    let names = [other.as_os_str(), moved.as_os_str()].map(|path| path.as_bytes());
    agent.does(Verb::RenamesFor, &[names[0], names[1], b"500"]);
    let row = eventually("the entries have the last directory", SOON, || {
        let (row, received) = (scene.row(&home).expect("a row"), scene.entries_of(&home));
        let last = received.last().expect("entries");
        if last["cwd"] == row["cwd"] { Ok(row) } else { Err(format!("{last:#} {row:#}")) }
    });
    assert_eq!(row["cwd"].as_str(), here.to_str(), "{row:#}");
    let received = scene.entries_of(&home);
    let most = 2 + began.elapsed().as_secs() as usize;
    assert!(received.len() - before <= most, "{} entries, {most} at most", received.len() - before);
    assert_chain(&received);
    for frame in watch.frames().iter().filter(|frame| frame.kind() == "session_changed") {
        let changed = frame.0["changed"].as_object().expect("it states what changed");
        assert!(!changed.is_empty(), "{frame:?}");
    }
}

#[test]
fn a_change_after_a_restart_is_compared_with_the_journal() {
    let mut scene = Scene::new();
    let home = scene.home("restarted");
    let [one, two] = ["one", "two"].map(|name| scene.fixture.mkdir(Path::new("homes/restarted").join(name)));
    let mut agent = scene.agent(&home, None);
    scene.wait_live(&home, &agent);
    // What changed while no daemon ran.
    scene.daemon.kill();
    agent.chdir(&one);
    scene.daemon.restart();
    let found = scene.wait_last(&home, "it is found", |last| last["cwd"].as_str() == one.to_str());
    assert!(found["found_at"].is_string(), "{found:#}");
    assert_eq!(found["changed"]["cwd"], json!([home.to_str(), one.to_str()]), "{found:#}");
    // What changed after a restart at which nothing had.
    scene.daemon.kill();
    scene.daemon.restart();
    agent.chdir(&two);
    let moved = scene.wait_last(&home, "it moved", |last| last["cwd"].as_str() == two.to_str());
    assert_eq!(moved["changed"]["cwd"], json!([one.to_str(), two.to_str()]), "{moved:#}");
    assert!(moved["changed"].get("state").is_none() && moved["changed"].get("pid").is_none(), "{moved:#}");
}

//! `list` and `explain` without a daemon: one look at the kernel, which continues what the journal knows.

use std::path::PathBuf;

use observer_harness::eventually;
use observer_harness::observe::CommandResult;
use serde_json::{Value, json};

use crate::{SOON, Scene};

impl Scene {
    /// The configuration and the state directory, as arguments.
    fn places(&self) -> [PathBuf; 4] {
        let file = self.daemon.dir().join("observer.toml");
        ["--config".into(), file, "--state-dir".into(), self.daemon.state_dir()]
    }

    fn told(&self, args: &[&str], places: &[PathBuf]) -> CommandResult {
        let mut command = self.daemon.command(args);
        CommandResult::of(command.args(places))
    }

    /// Rows of `list --ended` of the home, in the order of instances.
    fn rows(&self, home: &std::path::Path, args: &[&str], places: &[PathBuf]) -> Vec<Value> {
        let result = self.told(&[&["list", "--json"], args].concat(), places);
        let Value::Array(mut rows) = result.json() else { panic!("expected an array: {result:?}") };
        rows.retain(|row| row["home"].as_str() == home.to_str());
        rows.sort_by_key(|row| row["instance"].as_u64());
        rows
    }
}

#[test]
fn one_look_continues_the_sessions_of_the_journal_and_knows_which_have_ended() {
    let mut scene = Scene::with("instances = \"each\"", None);
    let home = scene.home("alone");
    let first = scene.agent(&home, None);
    scene.wait_live(&home, &first);
    let (second, third) = (scene.agent(&home, None), scene.agent(&home, None));
    let pids = |rows: &[Value]| rows.iter().map(|row| row["pid"].as_u64().unwrap_or(0)).collect::<Vec<_>>();
    let rows = eventually("three sessions", SOON, || {
        let rows = scene.rows(&home, &[], &[]);
        if rows.len() == 3 { Ok(rows) } else { Err(format!("{rows:#?}")) }
    });
    let (first_pid, second_pid) = (u64::from(first.pid), u64::from(second.pid));
    assert_eq!(pids(&rows)[0], first_pid);
    first.killed(libc::SIGKILL);
    eventually("the first has ended", SOON, || {
        let rows = scene.rows(&home, &[], &[]);
        if rows.len() == 2 { Ok(()) } else { Err(format!("{rows:#?}")) }
    });
    scene.wait_written();
    let before = scene.rows(&home, &[], &[]);
    assert_eq!(scene.daemon.stop(), Some(0));
    let places = scene.places();
    let alone = scene.rows(&home, &[], &places);
    for field in ["pid", "instance", "starts", "since", "state", "name"] {
        let of = |rows: &[Value]| rows.iter().map(|row| row[field].clone()).collect::<Vec<_>>();
        assert_eq!(of(&alone), of(&before), "{field}");
    }
    // Without the journal, nothing says that there was a first one.
    let fresh = scene.rows(&home, &[], &places[..2]);
    assert_eq!(fresh[0]["instance"], json!(1), "{fresh:#?}");
    // The death of the second is seen by nobody.
    let is_second = |row: &&Value| row["pid"].as_u64() == Some(second_pid);
    let second_instance = before.iter().find(is_second).expect("its session")["instance"].clone();
    second.killed(libc::SIGKILL);
    let ended = scene.rows(&home, &["--ended"], &places);
    let death = |pid: u64| {
        let row = ended.iter().find(|row| row["pid"].as_u64() == Some(pid));
        let row = row.unwrap_or_else(|| panic!("{pid} has ended: {ended:#?}"));
        (row["state"].clone(), row["instance"].clone(), row["death"]["kind"].clone())
    };
    assert_eq!(ended.len(), 3, "{ended:#?}");
    assert_eq!(death(first_pid), (json!("ended"), json!(1), json!("signaled")));
    assert_eq!(death(second_pid), (json!("ended"), second_instance, json!("unobserved")));
    let table = scene.told(&["list", "--ended"], &places);
    assert!(table.text().contains("ENDED") && table.text().contains("ended: SIGKILL"), "{table:?}");
    for part in [&places[1], &places[3].join("journal.sqlite")] {
        assert!(table.stderr.contains(&part.display().to_string()), "{part:?}: {table:?}");
    }
    let explained = scene.told(&["explain", &third.pid.to_string()], &places);
    let number = alone.iter().find(|row| row["pid"] == third.pid).expect("its row")["instance"].clone();
    assert!(explained.text().contains(&format!("is the session alone#{number}")), "{explained:?}");
    assert!(explained.stderr.contains("journal.sqlite"), "{explained:?}");
}

#[test]
fn a_journal_that_is_named_and_missing_is_an_error() {
    let mut scene = Scene::new();
    assert_eq!(scene.daemon.stop(), Some(0));
    let nowhere = scene.fixture.mkdir("nowhere");
    for args in [&["list"][..], &["explain", "1"]] {
        let result = scene.told(args, &["--state-dir".into(), nowhere.clone()]);
        assert_eq!(result.code, Some(4), "{result:?}");
        assert!(result.stderr.contains("there is no journal"), "{result:?}");
    }
}

#[test]
fn what_a_daemon_does_not_use_is_said() {
    let scene = Scene::new();
    let home = scene.home("asked");
    let agent = scene.agent(&home, None);
    scene.wait_live(&home, &agent);
    for args in [&["list"][..], &["explain", "asked"]] {
        for flag in ["--config", "--state-dir", "--journal-path"] {
            let result = scene.told(args, &[flag.into(), "/nonexistent/x".into()]);
            assert_eq!(result.code, Some(0), "{result:?}");
            let said = format!("{flag} /nonexistent/x is not used: the daemon on ");
            assert!(result.stderr.contains(&said), "{result:?}");
        }
        assert_eq!(scene.told(args, &[]).stderr, "");
    }
}

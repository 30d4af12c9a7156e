//! Somebody deletes the journal, or its directory, while the daemon runs.

use std::fs;

use observer_harness::eventually;
use serde_json::{Value, json};

use crate::{SOON, Scene, count, kind};

/// Waits for a stream that begins with the loss of the one before, and has the session that lives.
#[track_caller]
fn begins_anew(scene: &Scene, former: &Value, times: u64) {
    let home = scene.home("alive");
    let short = scene.home("short");
    let journal = eventually("a new stream", SOON, || {
        scene.fixture.short_lives(&short, &[], 1);
        let journal = scene.journal();
        let is_new = journal["stream_id"] != *former && journal["state"] == "ok";
        if is_new { Ok(journal) } else { Err(format!("{journal}")) }
    });
    assert_eq!(journal["files_gone"], times, "{journal:#}");
    let received = eventually("what lives is reported", SOON, || {
        let received = scene.entries_of(&home);
        if count(&received, "session_started") == 1 { Ok(received) } else { Err(format!("{received:?}")) }
    });
    assert!(received[0]["found_at"].is_string(), "{received:#?}");
    let first = scene.history(&[]).swap_remove(0);
    assert_eq!((kind(&first), &first["reason"]), ("gap", &json!("lost")), "{first:#}");
    assert_eq!(first["previous_stream_id"], *former, "{first:#}");
    let log = fs::read_to_string(scene.daemon.log()).expect("the log");
    let told = log.matches("somebody deleted or replaced the journal").count() as u64;
    assert_eq!(told, times, "{log}");
    let metrics = scene.daemon.observer(&["status", "--metrics"]);
    let counted = format!("observer_journal_files_gone_total {times}");
    assert!(metrics.text().contains(&counted), "{metrics:?}");
}

#[test]
fn a_journal_whose_lock_alone_is_deleted_goes_on() {
    let scene = Scene::new();
    let home = scene.home("alive");
    let agent = scene.agent(&home, None);
    scene.wait_live(&home, &agent);
    scene.wait_written();
    let (stream, before) = (scene.journal()["stream_id"].clone(), scene.history(&[]));
    fs::remove_file(scene.daemon.state_dir().join("lock")).expect("delete the lock");
    let home = scene.home("later");
    let later = scene.agent(&home, None);
    scene.wait_live(&home, &later);
    let after = eventually("its start is written", SOON, || {
        let received = scene.entries_of(&home);
        if count(&received, "session_started") == 1 {
            Ok(scene.history(&[]))
        } else {
            Err(format!("{received:?}"))
        }
    });
    assert_eq!(scene.journal()["stream_id"], stream, "{after:#?}");
    assert_eq!(after.get(..before.len()), Some(&before[..]), "nothing is lost: {after:#?}");
    let numbers: Vec<_> = after.iter().filter_map(|entry| entry["event_seq"].as_u64()).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "no number is given twice: {numbers:?}");
    assert_eq!(count(&after, "gap"), count(&before, "gap"), "nothing is missing: {after:#?}");
    assert!(scene.daemon.state_dir().join("lock").exists());
}

#[test]
fn a_journal_that_is_deleted_under_the_daemon_begins_anew_and_the_daemon_says_so() {
    let scene = Scene::new();
    let home = scene.home("alive");
    let agent = scene.agent(&home, None);
    scene.wait_live(&home, &agent);
    scene.wait_written();
    let path = scene.daemon.state_dir().join("journal.sqlite");
    let former = scene.journal()["stream_id"].clone();
    fs::remove_file(path).expect("delete the journal");
    begins_anew(&scene, &former, 1);
    let former = scene.journal()["stream_id"].clone();
    // At once, although the daemon may be writing there.
    let away = scene.daemon.dir().join("away");
    fs::rename(scene.daemon.state_dir(), &away).expect("move the directory away");
    fs::remove_dir_all(&away).expect("delete it");
    begins_anew(&scene, &former, 2);
}

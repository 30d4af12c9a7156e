//! A corrupt journal file is quarantined and logged, and a new stream begins with the live sessions.

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use observer_harness::eventually;
use serde_json::{Value, json};

use crate::{SOON, Scene, count, kind};

/// Damage to the files of a daemon that was killed.
type Damage = fn(&Path);

fn part(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = fs::File::options().write(true).open(path).expect("open the file");
    file.seek(SeekFrom::Start(at)).expect("seek");
    file.write_all(bytes).expect("write");
}

fn truncate(path: &Path, to: impl Fn(u64) -> u64) {
    let size = fs::metadata(path).expect("the file is there").len();
    fs::File::options().write(true).open(path).and_then(|file| file.set_len(to(size))).expect("truncate");
}

/// Damage to the journal's file. Garbage in the middle of each table's pages is a typical result of a bad
/// disk.
const DAMAGE: [(&str, Damage); 6] = [
    ("garbage throughout", |path| {
        let size = fs::metadata(path).expect("the file is there").len();
        fs::write(path, vec![0xa5; usize::try_from(size).expect("a small file")]).expect("write");
    }),
    ("garbage after the first page", |path| {
        let size = fs::metadata(path).expect("the file is there").len();
        let rest = usize::try_from(size - 4_096).expect("more than a page");
        overwrite(path, 4_096, &vec![0xff; rest]);
    }),
    ("half of it is gone", |path| truncate(path, |size| size / 2)),
    ("a part of a page is left", |path| truncate(path, |_| 1_000)),
    ("nothing is left", |path| truncate(path, |_| 0)),
    ("another program's pages", |path| overwrite(path, 0, &[0; 8_192])),
];

/// Damage to the write-ahead log alone. SQLite recovers the intact part of the log.
const LOG_DAMAGE: [(&str, Damage); 4] = [
    ("half-written", |log| truncate(log, |size| size * 2 / 3 + 17)),
    ("garbage at its end", |log| {
        let size = fs::metadata(log).expect("the log is there").len();
        overwrite(log, size / 2, &vec![0x5a; usize::try_from(size / 2).expect("a small file")]);
    }),
    ("garbage throughout", |log| fs::write(log, [0x33; 70_000]).expect("write")),
    ("gone", |log| fs::remove_file(log).expect("remove")),
];

#[test]
fn a_damaged_file_is_quarantined_and_a_new_stream_begins_with_the_live_sessions() {
    let mut scene = Scene::new();
    let home = scene.home("alive");
    let agent = scene.agent(&home, None);
    scene.wait_live(&home, &agent);
    let short = scene.home("short");
    let path = scene.daemon.state_dir().join("journal.sqlite");
    for (what, damage) in DAMAGE {
        scene.fixture.short_lives(&short, &[], 100);
        let is_short = |entry: &&Value| {
            entry["home"].as_str().is_some_and(|home| home.starts_with(short.to_str().expect("text")))
        };
        eventually("it is written", SOON, || match scene.history(&[]).iter().filter(is_short).count() {
            count if count > 150 => Ok(()),
            count => Err(format!("{count}")),
        });
        let before = scene.journal()["stream_id"].as_str().expect("a stream").to_owned();
        scene.daemon.kill();
        // The log is merged into the file first, so that the damage is the only difference.
        let _ = rusqlite::Connection::open(&path)
            .and_then(|it| it.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(())));
        damage(&path);
        scene.daemon.restart();
        let journal = eventually(&format!("{what}: a new stream"), SOON, || {
            let journal = scene.journal();
            if journal["stream_id"].is_string()
                && journal["stream_id"] != before.as_str()
                && journal["state"] == "ok"
            {
                Ok(journal)
            } else {
                Err(format!("{journal}"))
            }
        });
        let received = eventually(&format!("{what}: what lives is reported"), SOON, || {
            let received = scene.entries_of(&home);
            if count(&received, "session_started") == 1 { Ok(received) } else { Err(format!("{received:?}")) }
        });
        assert_eq!(received[0]["pid"], agent.pid, "{what}: {received:#?}");
        assert_eq!(received[0]["at"], received[0]["started_at"], "{what}: no other start: {received:#?}");
        let first = scene.history(&[]).swap_remove(0);
        assert_eq!((kind(&first), &first["reason"]), ("gap", &json!("corrupt")), "{what}: {first:#}");
        assert_eq!(first["stream_id"], journal["stream_id"]);
        let log = fs::read_to_string(scene.daemon.log()).expect("the log");
        let answer = log.lines().rfind(|line| line.contains("warning")).unwrap_or_default();
        assert!(answer.contains("it is kept as") && answer.contains("aside-"), "{what}: {log}");
    }
    let aside = fs::read_dir(scene.daemon.state_dir()).expect("the state directory");
    let aside = aside.filter_map(|it| it.ok()?.file_name().into_string().ok());
    let aside: Vec<_> = aside
        .filter(|name| name.contains(".aside-") && !name.ends_with("-wal") && !name.ends_with("-shm"))
        .collect();
    assert_eq!(aside.len(), 3, "the newest three: {aside:?}");
}

#[test]
fn a_damaged_write_ahead_log_loses_at_most_its_end_and_the_daemon_continues() {
    let mut scene = Scene::new();
    let home = scene.home("alive");
    let mut agent = scene.agent(&home, None);
    scene.wait_live(&home, &agent);
    let log = part(&scene.daemon.state_dir().join("journal.sqlite"), "-wal");
    for (what, damage) in LOG_DAMAGE {
        let below = scene.fixture.mkdir("homes/alive/below");
        agent.chdir(&home);
        scene.fixture.short_lives(&scene.home("short"), &[], 20);
        eventually(&format!("{what}: it is back"), SOON, || {
            let received = scene.entries_of(&home);
            if received.last().is_some_and(|last| last["cwd"].as_str() == home.to_str()) {
                Ok(())
            } else {
                Err(format!("{received:?}"))
            }
        });
        scene.wait_written();
        let journal = scene.journal();
        let (stream, committed) = (&journal["stream_id"], journal["last_seq"].as_u64().expect("a number"));
        scene.daemon.kill();
        assert!(log.exists(), "{what}: a killed daemon leaves its log");
        damage(&log);
        scene.daemon.restart();
        agent.chdir(&below);
        let received = eventually(&format!("{what}: it goes on"), SOON, || {
            let received = scene.entries_of(&home);
            let moved = received.last().is_some_and(|last| last["cwd"].as_str() == below.to_str());
            if moved { Ok(received) } else { Err(format!("{:?}", received.last())) }
        });
        assert_eq!(count(&received, "session_started"), 1, "{what}: {received:#?}");
        let history = scene.history(&[]);
        let mut next = 1;
        for entry in &history {
            let seq = entry["event_seq"].as_u64().expect("a number");
            let gap = seq != next;
            assert!(!gap || (entry["from_seq"] == next && entry["to_seq"] == seq), "{what}: {entry:#}");
            next = seq + 1;
        }
        let first = &history[0];
        match first["stream_id"] == *stream {
            true => assert!(next > committed, "{what}: no number is given twice: {next}, {committed}"),
            // The number of times that the file was opened was in the log as well, so the file looks like an
            // older copy.
            false => assert!(
                ["restored", "corrupt"].map(Some).contains(&first["reason"].as_str()),
                "{what}: {first:#}"
            ),
        }
        assert_eq!(scene.journal()["state"], "ok", "{what}");
    }
}

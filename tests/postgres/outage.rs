//! Five minutes' worth of changes happen during an outage of the database; a second daemon whose database is
//! available observes the same changes.
#![expect(clippy::indexing_slicing, reason = "a place for each session")]

use std::path::PathBuf;

use observer_harness::scene::Scene;
use observer_harness::{Options, Puppet};
use serde_json::Value;

const SESSIONS: usize = 8;
/// This is a hundred changes a second.
const CHANGES: usize = 30_000;
/// The number of entries that may wait for the disk while changes are made: a daemon under such a load has no
/// more.
const QUEUED_MAX: u64 = 2_000;

/// The rows that must be equal in both databases. Times are left out because each daemon reads the clock
/// itself, and orders because each has its own ring.
const STATE: &str = "SELECT home, name, pid, start_boottime_ns, state, recorded_state, certain, comm, cwd, tty, uid, username, roots,
    cardinality(argv), starts_24h, last_death_kind, last_death_signal FROM observer.sessions ORDER BY home";
const DEATHS: &str = "SELECT home, pid, start_boottime_ns, kind, code, signal, raw_status FROM observer.deaths ORDER BY home, start_boottime_ns";
/// The query returns each move once: a fact that becomes known just after a start may be an entry of its own
/// in one history and part of the start in the other.
const MOVES: &str = "SELECT home, kind, pid, cwd FROM (
        SELECT home, kind, pid, seq, detail ->> 'cwd' AS cwd, lag(detail ->> 'cwd') OVER (PARTITION BY home, pid ORDER BY seq) AS before
        FROM observer.events) AS event
    WHERE kind <> 'session_changed' OR cwd IS DISTINCT FROM before ORDER BY home, seq";
/// The columns in which the database's history must be equal to the journal's.
const HISTORY: &str = "SELECT seq, kind, home, pid, detail ->> 'cwd' FROM observer.events ORDER BY seq";

/// Returns the journal's entries in the form of [`HISTORY`].
fn journal(scene: &Scene) -> Vec<String> {
    let dir = scene.daemon.state_dir();
    let result = scene.daemon.observer(&[
        "history".as_ref(),
        "--json".as_ref(),
        "--state-dir".as_ref(),
        dir.as_os_str(),
    ]);
    assert_eq!(result.code, Some(0), "{}", result.stderr);
    let line = |line: &str| {
        let entry: Value = serde_json::from_str(line).expect("JSON");
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| entry[name].as_u64().map_or_else(String::new, |number| number.to_string());
        [number("event_seq"), text("kind"), text("home"), number("pid"), text("cwd")].join("|")
    };
    result.text().lines().map(line).collect()
}

#[test]
fn an_outage_under_load_ends_with_the_rows_of_a_daemon_without_an_outage() {
    let mut scene = Scene::new(&[]);
    let beside = scene.beside();
    let homes: Vec<PathBuf> = (0..SESSIONS).map(|at| scene.home(&format!("s{at}"))).collect();
    let mut agents: Vec<Puppet> = homes.iter().map(|home| scene.agent(home, None)).collect();
    let short = scene.home("short");
    scene.delivered();
    scene.server.stop();
    // Each short life is a start and an end.
    for n in 0..CHANGES / 2 {
        scene.fixture.short_lives(&short, &[], 1);
        if n % 100 == 0 {
            scene.keeps_up(QUEUED_MAX);
            beside.keeps_up(QUEUED_MAX);
        }
    }
    for agent in agents.drain(SESSIONS / 2..) {
        agent.killed(libc::SIGKILL);
    }
    scene.keeps_up(0);
    let pending = scene.mirror()["pending"].as_u64();
    assert!(pending >= Some(CHANGES as u64 * 9 / 10), "they wait: {pending:?}");
    scene.server.start_again();
    let [after, without] = [&scene, &beside].map(|scene| {
        scene.delivered();
        let history = scene.sql(HISTORY);
        same(history.lines(), journal(scene).iter().map(String::as_str));
        [STATE, DEATHS, MOVES].map(|statement| scene.sql(statement))
    });
    for (after, without) in after.iter().zip(&without) {
        same(after.lines(), without.lines());
    }
}

/// The smallest limit that may be configured; it allows for some thousand entries.
const JOURNAL: &str = "[journal]\nmax_bytes = 4194304";

#[test]
fn entries_beyond_the_journals_limit_during_an_outage_become_a_gap_with_their_count() {
    let mut scene = Scene::with(JOURNAL, Options::default());
    let agent = scene.agent(&scene.home("lives"), None);
    let short = scene.home("short");
    let dies = scene.agent(&scene.home("dies"), None);
    scene.delivered();
    let before: u64 = scene.sql("SELECT count(*) FROM observer.events").parse().expect("a number");
    scene.server.stop();
    dies.killed(libc::SIGKILL);
    for _ in 0..30 {
        scene.fixture.short_lives(&short, &[], 100);
        scene.keeps_up(QUEUED_MAX);
    }
    scene.keeps_up(0);
    let journal = scene.daemon.status()["journal"].clone();
    let [last, expired] = ["last_seq", "expired"].map(|field| journal[field].as_u64().expect("a number"));
    assert!(last > 6_000 && expired > 2_000, "{journal}");
    assert!(journal["bytes"].as_u64() <= Some(4 << 20), "{journal}");
    scene.server.start_again();
    scene.delivered();
    // The database has the entries from before the gap, one gap, and the remaining entries; each number is in
    // exactly one of them.
    let counts = "SELECT count(*) FILTER (WHERE kind = 'gap'), count(*) + sum((detail ->> 'count')::bigint) FILTER (WHERE kind = 'gap') - 1
        FROM observer.events";
    assert_eq!(scene.sql(counts), format!("1|{last}"));
    let gap = "SELECT detail ->> 'reason', detail ->> 'from_seq', detail ->> 'to_seq', seq, detail ->> 'count' FROM observer.events WHERE kind = 'gap'";
    assert_eq!(
        scene.sql(gap),
        format!("retention_size|{}|{expired}|{expired}|{}", before + 1, expired - before)
    );
    // The death is in the gap: the database shows that the session ended, but not how.
    let rows = "SELECT name, state, pid, coalesce(last_death_kind, '-') FROM observer.sessions ORDER BY name";
    let rows = scene.sql(rows);
    assert!(
        rows.starts_with("dies|ended|") && rows.contains(&format!("\nlives|live|{}|-", agent.pid)),
        "{rows}"
    );
}

/// Asserts that both sequences are equal and shows only the first line that differs, because there are very
/// many.
#[track_caller]
fn same<'a>(found: impl Iterator<Item = &'a str>, wanted: impl Iterator<Item = &'a str>) {
    let (found, wanted): (Vec<_>, Vec<_>) = (found.collect(), wanted.collect());
    let differ = found.iter().zip(&wanted).find(|(found, wanted)| found != wanted);
    assert_eq!(differ, None);
    assert_eq!(found.len(), wanted.len());
}

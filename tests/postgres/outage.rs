//! The changes of ten minutes while the database is away, beside a daemon that never lost its own.
#![expect(clippy::indexing_slicing, reason = "a place for each session")]

use std::path::PathBuf;

use observer_harness::scene::Scene;
use observer_harness::{Options, Puppet};
use serde_json::Value;

const SESSIONS: usize = 8;
/// A hundred a second.
const CHANGES: usize = 60_000;
/// Entries that may wait for the disk while changes are made: no more than a daemon under such a load has.
const QUEUED_MAX: u64 = 2_000;

/// What both databases have to say alike: times are each daemon's own reading of the clock, orders each ring's.
const STATE: &str = "SELECT home, name, pid, start_boottime_ns, state, recorded_state, certain, comm, cwd, tty, uid, username, roots,
    cardinality(argv), starts_24h, last_death_kind, last_death_signal FROM observer.sessions ORDER BY home";
const DEATHS: &str =
    "SELECT home, pid, start_boottime_ns, kind, code, signal, raw_status FROM observer.deaths ORDER BY home";
/// Each move once. What becomes known just after a start is an entry of its own in one history, and the start's in the other.
const MOVES: &str = "SELECT home, kind, pid, cwd FROM (
        SELECT home, kind, pid, seq, detail ->> 'cwd' AS cwd, lag(detail ->> 'cwd') OVER (PARTITION BY home, pid ORDER BY seq) AS before
        FROM observer.events) AS event
    WHERE kind <> 'session_changed' OR cwd IS DISTINCT FROM before ORDER BY home, seq";
/// What the database has to say as the journal does.
const HISTORY: &str = "SELECT seq, kind, home, pid, detail ->> 'cwd' FROM observer.events ORDER BY seq";

/// The journal's entries, as [`HISTORY`] gives them.
fn journal(scene: &Scene) -> Vec<String> {
    let dir = scene.daemon.state_dir();
    let said = scene.daemon.observer(&[
        "history".as_ref(),
        "--json".as_ref(),
        "--state-dir".as_ref(),
        dir.as_os_str(),
    ]);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let line = |line: &str| {
        let entry: Value = serde_json::from_str(line).expect("JSON");
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| entry[name].as_u64().map_or_else(String::new, |number| number.to_string());
        [number("event_seq"), text("kind"), text("home"), number("pid"), text("cwd")].join("|")
    };
    said.text().lines().map(line).collect()
}

#[test]
fn an_outage_under_load_ends_with_the_rows_of_a_daemon_that_had_none() {
    let mut scene = Scene::new(&[]);
    let beside = scene.beside();
    let places: Vec<[PathBuf; 2]> = (0..SESSIONS)
        .map(|at| [format!("s{at}"), format!("s{at}/below")].map(|name| scene.home(&name)))
        .collect();
    let mut agents: Vec<Puppet> = places.iter().map(|[home, _]| scene.agent(home, None)).collect();
    let short: Vec<PathBuf> = (0..SESSIONS).map(|at| scene.home(&format!("short{at}"))).collect();
    scene.delivered();
    scene.server.stop();
    // A start and an end each.
    for n in 0..CHANGES / 2 {
        scene.stage.short_lives(&short[n % SESSIONS], &[], 1);
        agents[n % SESSIONS].chdir(&places[n % SESSIONS][(n / SESSIONS + 1) % 2]);
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

/// The smallest that may be configured: some thousand entries.
const JOURNAL: &str = "[journal]\nmax_bytes = 4194304";

#[test]
fn what_the_journals_bound_takes_meanwhile_is_a_gap_that_says_how_many() {
    let mut scene = Scene::with(JOURNAL, Options::default());
    let agent = scene.agent(&scene.home("lives"), None);
    let short = scene.home("short");
    let dies = scene.agent(&scene.home("dies"), None);
    scene.delivered();
    let before: u64 = scene.sql("SELECT count(*) FROM observer.events").parse().expect("a number");
    scene.server.stop();
    dies.killed(libc::SIGKILL);
    for _ in 0..30 {
        scene.stage.short_lives(&short, &[], 100);
        scene.keeps_up(QUEUED_MAX);
    }
    scene.keeps_up(0);
    let journal = scene.daemon.status()["journal"].clone();
    let [last, expired] = ["last_seq", "expired"].map(|field| journal[field].as_u64().expect("a number"));
    assert!(last > 6_000 && expired > 2_000, "{journal}");
    assert!(journal["bytes"].as_u64() <= Some(4 << 20), "{journal}");
    scene.server.start_again();
    scene.delivered();
    // What came before, one gap, what is left: each number in one of them.
    let counts = "SELECT count(*) FILTER (WHERE kind = 'gap'), count(*) + sum((detail ->> 'count')::bigint) FILTER (WHERE kind = 'gap') - 1
        FROM observer.events";
    assert_eq!(scene.sql(counts), format!("1|{last}"));
    let gap = "SELECT detail ->> 'reason', detail ->> 'from_seq', detail ->> 'to_seq', seq, detail ->> 'count' FROM observer.events WHERE kind = 'gap'";
    assert_eq!(
        scene.sql(gap),
        format!("retention_size|{}|{expired}|{expired}|{}", before + 1, expired - before)
    );
    // The death is in the gap: what became of the home is known, and how is not.
    let rows = "SELECT name, state, pid, coalesce(last_death_kind, '-') FROM observer.sessions ORDER BY name";
    let rows = scene.sql(rows);
    assert!(
        rows.starts_with("dies|ended|") && rows.contains(&format!("\nlives|live|{}|-", agent.pid)),
        "{rows}"
    );
}

/// Shows the first line that differs, out of very many.
#[track_caller]
fn same<'a>(found: impl Iterator<Item = &'a str>, wanted: impl Iterator<Item = &'a str>) {
    let (found, wanted): (Vec<_>, Vec<_>) = (found.collect(), wanted.collect());
    let differ = found.iter().zip(&wanted).find(|(found, wanted)| found != wanted);
    assert_eq!(differ, None);
    assert_eq!(found.len(), wanted.len());
}

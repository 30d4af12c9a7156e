//! Upgrades, with programs of former versions, the first one and the last: one database, hosts of both versions, and the schema
//! brought up to date before or after them. `cargo xtask build --former` makes these programs; `cargo xtask test` runs these tests
//! where they are.
#![expect(clippy::indexing_slicing, reason = "a field that a JSON object lacks is null")]

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use observer::mirror::schema::{SchemaVersion, WriteAccess};
use observer_harness::fixture::PuppetOptions;
use observer_harness::former::{FIRST, FormerProgram, LAST};
use observer_harness::observe::CommandResult;
use observer_harness::postgres::Server;
use observer_harness::scene::DATABASE;
use observer_harness::{Daemon, Fixture, Options, Puppet, eventually, skip};

use crate::revisions::make_1_0;
use crate::schema::{apply, observer, why_no_dump};

/// The limit for a change to reach the database on a machine that runs other tests.
const SOON: Duration = Duration::from_secs(30);
/// Another host than this one, to the mirror.
const OTHER_MACHINE: &str = "00112233445566778899aabbccddeeff\n";

/// A former program.
fn path(former: &FormerProgram) -> PathBuf {
    let path = former.path().expect("where it would be");
    assert!(path.exists(), "{} is missing: run `cargo xtask build --former`", path.display());
    path
}

/// A database, and hosts whose sessions have the host's name in front of their own.
struct Upgrade {
    former: &'static FormerProgram,
    fixture: Fixture,
    server: Server,
}

impl Upgrade {
    /// With the schema that the former program makes.
    fn from(former: &'static FormerProgram) -> Self {
        let upgrade = Self { former, fixture: Fixture::new(), server: Server::start(&[]) };
        let script = CommandResult::of(Command::new(path(former)).args(["schema", "print"]));
        assert_eq!(script.code, Some(0), "{script:?}");
        upgrade.server.psql(DATABASE, script.text());
        upgrade
    }

    /// Starts the daemon of a host, which admits what is called `agent` in its own homes.
    fn host(&self, name: &str, options: Options) -> Daemon {
        let config = format!(
            "[mirror]\ndatabase_url = \"{}\"\n[[session]]\nmin_age = \"0s\"\ncwd = \"{}/{name}-*\"\ncomm = [\"agent\"]\ntty = \"any\"\n",
            self.url(),
            self.fixture.mkdir("homes").display()
        );
        Daemon::start(&Options { config: Some(config), ..options })
    }

    fn formers_host(&self, name: &str) -> Daemon {
        self.host(name, Options { program: Some(path(self.former)), ..Options::default() })
    }

    /// Starts a session, and waits until the database has it.
    fn session(&self, name: &str) -> Puppet {
        let home = self.fixture.mkdir(format!("homes/{name}"));
        let program = Some(self.fixture.program("agent"));
        let agent =
            self.fixture.cast(&PuppetOptions { program, dir: Some(home), ..PuppetOptions::default() });
        self.is_live(name, &agent);
        agent
    }

    fn is_live(&self, name: &str, agent: &Puppet) {
        let row = format!("SELECT state, pid FROM observer.live WHERE certain AND name = '{name}'");
        self.gives(&row, &format!("live|{}", agent.pid));
    }

    /// A session that is killed: the database has its start, its death once, and no live row of it.
    fn life(&self, name: &str) {
        self.session(name).killed(libc::SIGKILL);
        self.gives(&format!("SELECT signal FROM observer.deaths WHERE name = '{name}'"), "9");
        let row = format!("SELECT state FROM observer.sessions WHERE name = '{name}'");
        self.gives(&row, "ended");
    }

    fn sql(&self, statement: &str) -> String {
        self.server.psql(DATABASE, statement)
    }

    #[track_caller]
    fn gives(&self, statement: &str, wanted: &str) {
        eventually(statement, SOON, || match self.sql(statement) {
            found if found == wanted => Ok(()),
            found => Err(found),
        });
    }

    fn url(&self) -> String {
        self.server.url(DATABASE)
    }

    /// Brings the schema up to date.
    fn bring_up_to_date(&self) {
        self.was_brought(&apply(&self.url()));
    }

    fn was_brought(&self, result: &CommandResult) {
        let from = format!("from version {} to 1.", self.former.schema);
        assert!(result.code == Some(0) && result.text().contains(&from), "{result:?}");
    }

    /// Whether the former program needs no rights on the tables.
    fn former_calls_functions(&self) -> bool {
        let schema: SchemaVersion = self.former.schema.parse().expect("a version");
        schema.writing().access == WriteAccess::Functions
    }

    /// How often a daemon said that the schema is the former one, and what to do.
    fn warnings(&self, daemon: &Daemon) -> usize {
        let found = format!("schema is at version {}", self.former.schema);
        log(daemon).lines().filter(|line| line.contains(&found) && line.contains("schema apply")).count()
    }

    /// Asserts that each number of each stream is there once, that nothing is missing but the time without a daemon, and that the
    /// start and the end of each of these sessions are there once.
    fn has_lives(&self, names: &[String]) {
        let gapless = "SELECT coalesce(bool_and(count = max AND numbers = count AND gaps = 0), false) FROM (
            SELECT count(*), max(seq), count(DISTINCT seq) AS numbers, count(*) FILTER (WHERE kind = 'gap' AND detail ->> 'reason' <> 'not_running') AS gaps
            FROM observer.events GROUP BY stream_id) AS stream";
        self.gives(gapless, "t");
        let found = self.sql(
            "SELECT name, count(*) FILTER (WHERE kind = 'session_started'), count(*) FILTER (WHERE kind = 'session_ended')
             FROM observer.events WHERE name IS NOT NULL GROUP BY name ORDER BY name COLLATE \"C\"",
        );
        let mut expected: Vec<_> = names.iter().map(|name| format!("{name}|1|1")).collect();
        expected.sort();
        assert_eq!(found.lines().collect::<Vec<_>>(), expected);
    }
}

fn log(daemon: &Daemon) -> String {
    std::fs::read_to_string(daemon.log()).expect("its log")
}

/// The schema is brought up to date under daemons of both versions that write.
fn both_versions_write(former: &'static FormerProgram) {
    let upgrade = Upgrade::from(former);
    let mut of_former = upgrade.formers_host("former");
    let mut present =
        upgrade.host("present", Options { machine_id: Some(OTHER_MACHINE), ..Options::default() });
    upgrade.gives("SELECT count(*) FROM observer.hosts WHERE present", "2");
    assert_eq!(upgrade.warnings(&present), 1, "{}", log(&present));

    let mut names = Vec::new();
    let mut round = |at: &str| {
        for host in ["former", "present"] {
            let name = format!("{host}-{at}");
            upgrade.life(&name);
            names.push(name);
        }
    };
    round("before");
    thread::scope(|scope| {
        let url = upgrade.url();
        let applied = scope.spawn(move || apply(&url));
        for at in 1.. {
            round(&format!("meanwhile-{at}"));
            if applied.is_finished() {
                break;
            }
        }
        upgrade.was_brought(&applied.join().expect("it returns"));
    });
    round("after");
    upgrade.has_lives(&names);

    // What the present daemon wrote before the schema was brought up to date has the new columns too.
    let lacking = "SELECT count(*) FROM observer.deaths WHERE name LIKE 'present-%'
        AND num_nulls(sender_pid, sender_by, cpu_ms, max_rss_bytes, processes) > 0";
    assert_eq!(upgrade.sql(lacking), "0");
    let killed = "SELECT count(*) FROM observer.kills WHERE signal = 9 AND (name LIKE 'former-%' OR sender_pid IS NOT NULL)";
    assert_eq!(upgrade.sql(killed), names.len().to_string());
    for daemon in [&of_former, &present] {
        let log = log(daemon);
        assert!(!log.contains("ERROR"), "{log}");
    }
    eventually("the mirror is ok", SOON, || match &present.status()["mirror"]["state"] {
        state if state == "ok" => Ok(()),
        state => Err(state.to_string()),
    });

    // Rights are taken away when no daemon is connected that needs them.
    for daemon in [&mut present, &mut of_former] {
        let result = restrict(&upgrade.url());
        assert_eq!(result.code, Some(i32::from(!upgrade.former_calls_functions())), "{result:?}");
        let name = format!("former-{}", names.len());
        upgrade.life(&name);
        names.push(name);
        assert_eq!(daemon.stop(), Some(0));
        // The server notices a moment later that the connection is closed: until then the host is present by the former one.
        upgrade.gives("SELECT count(*) FROM observer.hosts WHERE present", "1");
        daemon.use_program(None);
        daemon.restart();
        upgrade.gives("SELECT count(*) FROM observer.hosts WHERE present", "2");
    }
    let result = restrict(&upgrade.url());
    assert_eq!(result.code, Some(0), "{result:?}");
    for host in ["former", "present"] {
        let name = format!("{host}-restricted");
        upgrade.life(&name);
        names.push(name);
    }
    upgrade.has_lives(&names);
}

#[test]
#[ignore = "needs the programs of former versions: cargo xtask build --former"]
fn the_schema_is_brought_up_to_date_under_daemons_of_the_first_and_this_version_that_write() {
    both_versions_write(&FIRST);
}

#[test]
#[ignore = "needs the programs of former versions: cargo xtask build --former"]
fn the_schema_is_brought_up_to_date_under_daemons_of_the_last_and_this_version_that_write() {
    both_versions_write(&LAST);
}

fn restrict(url: &str) -> CommandResult {
    observer(&["schema", "restrict", "--database-url", url])
}

#[test]
#[ignore = "needs the programs of former versions: cargo xtask build --former"]
fn the_first_program_makes_the_schema_that_tests_call_1_0() {
    if let Some(reason) = why_no_dump() {
        skip!("what is in the schemas cannot be compared: {reason}");
    }
    let dump = |server: &Server| {
        let url = server.url(DATABASE);
        let result = CommandResult::of(server.program("pg_dump").args(["--schema=observer", "-d", &url]));
        assert_eq!(result.code, Some(0), "{result:?}");
        // A random word, the time of the application, and comments, which say the same in other words.
        let is_same = |line: &&str| {
            !["\\restrict", "\\unrestrict", "1\t20", "COMMENT ON"].iter().any(|begin| line.starts_with(begin))
        };
        result.text().lines().filter(is_same).map(str::to_owned).collect::<Vec<_>>()
    };
    let made = Server::start(&[]);
    make_1_0(&made, DATABASE);
    assert_eq!(dump(&Upgrade::from(&FIRST).server), dump(&made));
}

/// A host gets the present program: a session lives through it, one ended before, and one ends meanwhile.
fn upgrade_of_a_host(former: &'static FormerProgram, schema_first: bool) {
    let upgrade = Upgrade::from(former);
    let mut daemon = upgrade.formers_host("host");
    upgrade.life("host-before");
    let (stays, ends) = (upgrade.session("host-stays"), upgrade.session("host-ends"));
    if schema_first {
        upgrade.bring_up_to_date();
        upgrade.life("host-schema");
    }
    assert_eq!(daemon.stop(), Some(0));
    ends.killed(libc::SIGKILL);
    daemon.use_program(None);
    daemon.restart();

    upgrade.is_live("host-stays", &stays);
    upgrade.gives("SELECT kind FROM observer.deaths WHERE name = 'host-ends'", "unobserved");
    assert_eq!(upgrade.warnings(&daemon), usize::from(!schema_first), "{}", log(&daemon));
    upgrade.life("host-after");
    if !schema_first {
        upgrade.bring_up_to_date();
        upgrade.life("host-schema");
        // Each user gets a row within an hour, or at the next connection.
        assert_eq!(daemon.stop(), Some(0));
        daemon.restart();
    }
    let keys = "SELECT count(*), count(DISTINCT home), min(octet_length(home_id)) FROM observer.session";
    upgrade.gives(keys, "5|5|36");
    upgrade.is_live("host-stays", &stays);
    let stays_events =
        "SELECT string_agg(kind, ',' ORDER BY seq) FROM observer.events WHERE name = 'host-stays'";
    assert_eq!(upgrade.sql(stays_events), "session_started", "a restart is no event");
    assert_eq!(
        upgrade.sql("SELECT count(DISTINCT stream_id) FROM observer.events"),
        "1",
        "the journal goes on"
    );
    let history = daemon.observer(&["history", "host-before", "--json"]);
    assert!(history.text().contains("\"signal\":9"), "{history:?}");
    daemon.assert_no_drift();

    stays.killed(libc::SIGKILL);
    upgrade.gives("SELECT signal, sender_by FROM observer.deaths WHERE name = 'host-stays'", "9|kill");
    let names = ["before", "stays", "ends", "schema", "after"].map(|name| format!("host-{name}"));
    upgrade.has_lives(&names);
}

#[test]
#[ignore = "needs the programs of former versions: cargo xtask build --former"]
fn a_host_of_the_first_version_is_upgraded_before_the_schema_and_loses_nothing() {
    upgrade_of_a_host(&FIRST, false);
}

#[test]
#[ignore = "needs the programs of former versions: cargo xtask build --former"]
fn a_host_of_the_last_version_is_upgraded_before_the_schema_and_loses_nothing() {
    upgrade_of_a_host(&LAST, false);
}

#[test]
#[ignore = "needs the programs of former versions: cargo xtask build --former"]
fn a_host_of_the_first_version_is_upgraded_after_the_schema_and_loses_nothing() {
    upgrade_of_a_host(&FIRST, true);
}

#[test]
#[ignore = "needs the programs of former versions: cargo xtask build --former"]
fn a_host_of_the_last_version_is_upgraded_after_the_schema_and_loses_nothing() {
    upgrade_of_a_host(&LAST, true);
}

/// A host goes back to the former program, and then on again.
fn return_of_a_host(former: &'static FormerProgram) {
    let upgrade = Upgrade::from(former);
    upgrade.bring_up_to_date();
    let mut daemon = upgrade.host("host", Options::default());
    upgrade.life("host-before");
    let stays = upgrade.session("host-stays");
    assert_eq!(daemon.stop(), Some(0));
    daemon.use_program(Some(path(former)));
    daemon.restart();
    upgrade.is_live("host-stays", &stays);
    upgrade.life("host-back");

    assert_eq!(daemon.stop(), Some(0));
    daemon.use_program(None);
    daemon.restart();
    upgrade.life("host-again");
    upgrade.gives("SELECT state FROM observer.sessions WHERE name = 'host-stays'", "live");
    stays.killed(libc::SIGKILL);
    upgrade.gives("SELECT signal FROM observer.deaths WHERE name = 'host-stays'", "9");
    let deaths = "SELECT string_agg(name, ',' ORDER BY name) FROM observer.deaths";
    assert_eq!(upgrade.sql(deaths), "host-again,host-back,host-before,host-stays");
    // The first version knows an older journal, and puts this one in quarantine.
    let journals = upgrade.sql("SELECT count(DISTINCT stream_id) > 1 FROM observer.events");
    assert_eq!(journals, if former.schema == FIRST.schema { "t" } else { "f" });
}

#[test]
#[ignore = "needs the programs of former versions: cargo xtask build --former"]
fn a_host_that_goes_back_to_the_first_version_has_its_live_sessions_once() {
    return_of_a_host(&FIRST);
}

#[test]
#[ignore = "needs the programs of former versions: cargo xtask build --former"]
fn a_host_that_goes_back_to_the_last_version_has_its_live_sessions_once_and_its_journal() {
    return_of_a_host(&LAST);
}

//! Each program of docs/clients.md reads the views and is notified as it stands there, and the key of a process is in no client
//! another one.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use observer_harness::postgres::SqlSession;
use observer_harness::{eventually, programs};

use crate::documented::filled;
use crate::schema::{applied, server};

const DOCUMENT: &str = include_str!("../../docs/clients.md");
/// A start that floating-point numbers cannot hold, in a hexadecimal key: 2^53 + 1.
const BEYOND: &str = "20000000000001";
/// How long a client may take to start on a busy machine, and to end.
const SOON: Duration = Duration::from_secs(60);

/// A program of the document.
#[derive(Clone, Copy)]
struct Example {
    interpreter: &'static str,
    extension: &'static str,
    text: &'static str,
}

/// The programs of the document, by the first word of each.
fn examples() -> BTreeMap<&'static str, Example> {
    let of_language = |fence: &'static str, mark: &'static str, interpreter, extension| {
        let blocks = DOCUMENT.split(fence).skip(1).filter_map(|rest| rest.split_once("```"));
        blocks.map(move |(text, _)| {
            let title = text.strip_prefix(mark).and_then(|rest| rest.split_once(':'));
            (title.expect("a line that says what").0, Example { interpreter, extension, text })
        })
    };
    of_language("```python\n", "# ", "python3", "py")
        .chain(of_language("```js\n", "// ", "node", "js"))
        .collect()
}

/// A database whose sessions run since long after their boot, and a login that reads it.
struct Readable {
    database: String,
    login: String,
    daemon: SqlSession,
}

impl Readable {
    fn new() -> Self {
        let database = applied();
        let mut daemon = filled(&database);
        daemon.ask(&format!(
            "UPDATE observer.session SET start_boottime_ns = x'{BEYOND}'::bigint, started_at = '2026-11-21T08:00:00Z';
             UPDATE observer.session SET start_boottime_ns = NULL, boot_id = NULL, pid = NULL WHERE state = 'ended'"
        ));
        let login = format!("client_{database}");
        daemon.ask(&format!("CREATE ROLE {login} LOGIN IN ROLE observer_reader"));
        Self { database, login, daemon }
    }

    /// Runs a program while the host notifies, and returns what it prints.
    #[track_caller]
    fn run(&mut self, Example { interpreter, extension, text }: Example) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        let [program, output, errors] =
            [extension, "out", "err"].map(|name| dir.path().join("example").with_extension(name));
        fs::write(&program, text).expect("write the program");
        let file = |path| fs::File::create(path).expect("a file");
        let mut command = programs::interpreter(interpreter);
        command.arg(&program).stdin(Stdio::null()).stdout(file(&output)).stderr(file(&errors));
        command.env("PGHOST", server().socket_dir()).env("PGPORT", server().port().to_string());
        command.env("PGUSER", &self.login).env("PGDATABASE", &self.database).env("PGTZ", "UTC");
        let mut child = command.spawn().expect("start it");
        let read = |path| fs::read_to_string(path).expect("its output");
        eventually("it ends", SOON, || {
            self.daemon.ask("SELECT pg_notify('observer', host_no::text) FROM observer.hosts WHERE present");
            match child.try_wait().expect("wait for it") {
                Some(_) => Ok(()),
                None => Err(read(&output)),
            }
        });
        let status = child.wait().expect("it ended");
        assert!(status.success(), "{text}\n{status}\n{}{}", read(&output), read(&errors));
        read(&output)
    }
}

/// The key of a session of [`filled`].
fn key(pid: u32) -> String {
    format!("bba24f73-{pid}-{BEYOND}")
}

/// Words of each line.
fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn every_program_of_the_document_prints_what_the_database_has() {
    let mut readable = Readable::new();
    let (alpha, twice, away) = (key(4242), key(4243), key(4245));
    let start = u64::from_str_radix(BEYOND, 16).expect("a number").to_string();
    let number = readable.daemon.ask("SELECT host_no FROM observer.hosts WHERE present");
    let since = "2026-11-21T08:00:00+00:00";
    let expected: BTreeMap<_, Vec<Vec<&str>>> = [
        (
            "psycopg",
            vec![vec!["host", &number], vec!["alpha", &alpha, "True"], vec!["twice", &twice, "True"]],
        ),
        (
            "asyncpg",
            vec![vec!["host", &number], vec!["alpha", &alpha, &start], vec!["twice", &twice, &start]],
        ),
        (
            "SQLAlchemy",
            vec![
                vec![
                    "deaths",
                    "events",
                    "hosts",
                    "ignored_sigterm",
                    "kills",
                    "leftovers",
                    "live",
                    "presences",
                    "restart_loops",
                    "sessions",
                ],
                vec!["alpha", &alpha, since],
                vec!["twice", &twice, since],
            ],
        ),
        (
            "pandas",
            vec![
                vec!["alpha", &alpha, &start],
                vec!["away", &away, &start],
                vec!["loop", "<NA>", "<NA>"],
                vec!["twice", &twice, &start],
                vec!["host", "kind"],
                vec!["web1", "signaled", "1"],
            ],
        ),
        (
            "node-postgres",
            vec![
                vec!["host", &number],
                // JSON.parse takes numbers for floating point.
                vec!["alpha", &alpha, "true", &start, "9007199254740992"],
                vec!["twice", &twice, "true", &start, "9007199254740992"],
            ],
        ),
    ]
    .into();
    let examples = examples();
    assert!(examples.keys().eq(expected.keys()), "{:?}", examples.keys());
    for (title, example) in examples {
        let printed = readable.run(example);
        assert_eq!(Some(&words(&printed)), expected.get(title), "{title}:\n{printed}");
    }
}

#[test]
fn pandas_rounds_a_start_where_a_row_has_none_and_never_a_key() {
    let mut readable = Readable::new();
    let text = "import pandas, sqlalchemy
engine = sqlalchemy.create_engine('postgresql+psycopg://')
rows = pandas.read_sql('SELECT key, start_boottime_ns FROM observer.sessions ORDER BY name', engine)
print(rows.key[0], int(rows.start_boottime_ns[0]))";
    let printed = readable.run(Example { interpreter: "python3", extension: "py", text });
    assert_eq!(printed.trim(), format!("{} 9007199254740992", key(4242)));
}

#[test]
fn whatever_names_a_process_has_its_key_as_a_text_that_the_functions_take() {
    let readable = Readable::new();
    let ask = |statement: &str| {
        let result = server().try_psql_as(&readable.database, &readable.login, statement);
        assert_eq!(result.code, Some(0), "{statement}: {result:?}");
        result.text().trim_end().to_owned()
    };
    let lacking = "SELECT s.attrelid::regclass FROM pg_attribute s JOIN pg_class c ON c.oid = s.attrelid AND c.relkind = 'v'
        LEFT JOIN pg_attribute k ON k.attrelid = s.attrelid AND k.attname = 'key' AND k.atttypid = 'text'::regtype
        WHERE s.attname = 'start_boottime_ns' AND c.relnamespace = 'observer'::regnamespace AND k.attname IS NULL";
    assert_eq!(ask(lacking), "");
    let keys = "SELECT name, key, observer.is_same(host, key) FROM observer.sessions WHERE state = 'live'";
    assert_eq!(ask(keys), format!("alpha|{}|t", key(4242)));
    let of_function = "SELECT DISTINCT observer.key_of(boot_id, pid, start_boottime_ns) FROM observer.live_at(now()) WHERE name = 'away'";
    assert_eq!(ask(of_function), key(4245));
    for view in ["deaths", "kills", "leftovers", "events"] {
        let found = ask(&format!("SELECT DISTINCT key FROM observer.{view} WHERE pid = 4242"));
        assert_eq!(found, "bba24f73-4242-bdfd63e00", "{view}");
    }
    // What a row lacks, its key lacks; no other row fails.
    assert_eq!(ask("SELECT count(*), count(key) FROM observer.sessions"), "4|3");
    let payload = "SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 'observer.hosts'::regclass AND attname = 'host_no'";
    assert_eq!(ask(payload), "integer");
}

//! Commands through PgBouncer, which gives the same connection to other clients after each transaction.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command};

use observer_harness::daemon::product;
use observer_harness::observe::CommandResult;
use observer_harness::poll::eventually;
use observer_harness::postgres::Server;
use observer_harness::watch::SOON;

use crate::schema::{applied, present, server};
use crate::watch::{HOST, Watcher, insert_event, insert_session};

/// PgBouncer does not support `options` and reports that, or it is configured to ignore what it does not support.
pub const CONFIGURATIONS: [&str; 2] = ["", "ignore_startup_parameters = options"];

/// A PgBouncer with one connection to the server.
pub struct Pooler {
    child: Child,
    port: u16,
}

impl Pooler {
    /// Starts one with these lines added to its configuration.
    #[track_caller]
    pub fn start(server: &Server, more: &str) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = free.expect("a port").port();
        let dir = server.socket_dir();
        let config = dir.join(format!("pgbouncer-{port}.ini"));
        let text = format!(
            "[databases]\n* = host={} port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             auth_type = any\npool_mode = transaction\ndefault_pool_size = 1\nunix_socket_dir =\n{more}\n",
            dir.display(),
            server.port()
        );
        std::fs::write(&config, text).expect("write its configuration");
        let child = server.beside("pgbouncer").arg("--quiet").arg(&config).spawn();
        let child = child.expect("start pgbouncer: cargo xtask setup installs it");
        eventually("it listens", SOON, || match TcpStream::connect(("127.0.0.1", port)) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        });
        Self { child, port }
    }

    /// The connection string of a database behind it.
    pub fn url(&self, database: &str) -> String {
        format!("host=127.0.0.1 port={} user=postgres dbname={database} sslmode=disable", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the connection in the pool has that a client left there.
fn left_behind(url: &str) -> String {
    let found = CommandResult::of(server().psql_command(url).args([
        "-c",
        "SELECT (SELECT string_agg(name, ' ') FROM pg_cursors WHERE name <> ''),
            (SELECT string_agg(name, ' ') FROM pg_prepared_statements),
            (SELECT string_agg(channel, ' ') FROM pg_listening_channels() AS channel),
            current_setting('search_path'), current_setting('client_min_messages')",
    ]));
    assert_eq!(found.code, Some(0), "{found:?}");
    found.text().trim().to_owned()
}

#[test]
fn commands_that_read_work_through_a_pooler_again_and_again_and_leave_nothing_there() {
    for more in CONFIGURATIONS {
        let database = applied();
        let pooler = Pooler::start(server(), more);
        let url = pooler.url(&database);
        let mut daemon = server().session(&database, "postgres");
        let number = present(&mut daemon, HOST);
        daemon.ask(&insert_session(&number, "alpha", "live"));
        daemon.ask(&insert_event(&number, 1, "session_started", "alpha"));
        let untouched = left_behind(&url);
        let run = |args: &[&str]| {
            CommandResult::of(Command::new(product()).args(args).args(["--database-url", &url]))
        };
        for _ in 0..3 {
            for command in [&["history", "--json"][..], &["timeline"]] {
                let result = run(command);
                assert_eq!(result.code, Some(0), "{more:?}: {result:?}");
                assert!(result.text().contains("alpha"), "{more:?}: {result:?}");
            }
            assert_eq!(left_behind(&url), untouched, "{more:?}");
        }
        let watcher = Watcher::of(&url, &["--json"]);
        watcher.frames("the state", "snapshot_end");
        daemon.ask(&insert_event(&number, 2, "session_ended", "alpha"));
        watcher.frames("an event, without a hint", "session_ended");
        assert_eq!(left_behind(&url), untouched, "{more:?}: beside a watcher");
        drop(watcher);
        assert_eq!(run(&["history"]).code, Some(0), "{more:?}");
    }
}

#[test]
fn commands_that_write_refuse_a_pooler_and_say_what_to_name_instead() {
    for more in CONFIGURATIONS {
        let database = applied();
        let pooler = Pooler::start(server(), more);
        let url = pooler.url(&database);
        let untouched = left_behind(&url);
        for command in [&["schema", "apply"][..], &["forget", "nobody"]] {
            let result =
                CommandResult::of(Command::new(product()).args(command).args(["--database-url", &url]));
            assert_eq!(result.code, Some(4), "{result:?}");
            assert!(
                result.stderr.contains("connection pooler")
                    && result.stderr.contains("name Postgres' own host and port"),
                "{result:?}"
            );
        }
        assert_eq!(left_behind(&url), untouched, "{more:?}");
    }
}

//! One host, whole: its sessions, the daemon, and the server that it is mirrored to.
#![expect(clippy::indexing_slicing, reason = "a field that a JSON object lacks is null")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;

use crate::daemon::product;
use crate::fixture::{LIVES_A_HOME, PuppetOptions};
use crate::observe::CommandResult;
use crate::postgres::Server;
use crate::{Daemon, Fixture, Options, Pty, Puppet, eventually};

/// Where the schema is.
pub const DATABASE: &str = "postgres";
/// For a backlog to arrive.
const LONG: Duration = Duration::from_secs(120);

/// A daemon, mirrored to a server of its own, whose one rule admits what is called `agent` below the fixture's `homes`.
#[derive(Debug)]
pub struct Scene {
    /// Where the sessions are.
    pub fixture: Rc<Fixture>,
    /// Ends after the daemon.
    pub daemon: Daemon,
    /// The database.
    pub server: Server,
}

impl Scene {
    /// With these settings (`name=value`) of the server.
    pub fn new(settings: &[&str]) -> Self {
        Self::of(Rc::new(Fixture::new()), settings, Options::default())
    }

    /// With this besides its own configuration, and these other options of the daemon.
    pub fn with(config: &str, options: Options) -> Self {
        Self::of(Rc::new(Fixture::new()), &[], Options { config: Some(config.into()), ..options })
    }

    /// Another daemon that sees the same sessions, with a server of its own.
    pub fn beside(&self) -> Self {
        Self::of(Rc::clone(&self.fixture), &[], Options::default())
    }

    fn of(fixture: Rc<Fixture>, settings: &[&str], options: Options) -> Self {
        let server = Server::start(settings);
        let url = server.url(DATABASE);
        Self::on(fixture, server, &url, options)
    }

    /// With these options of the daemon, whose flags name this server; its configuration has `url`.
    pub fn by_flags(server: Server, url: &str, options: Options) -> Self {
        Self::on(Rc::new(Fixture::new()), server, url, options)
    }

    fn on(fixture: Rc<Fixture>, server: Server, url: &str, options: Options) -> Self {
        let schema = CommandResult::of(Command::new(product()).args(["schema", "print"]));
        server.psql(DATABASE, schema.text());
        let config = format!(
            "{}\n[mirror]\ndatabase_url = \"{url}\"\n[[session]]\nmin_age = \"0s\"\ncwd = \"{}/*\"\ncomm = [\"agent\"]\ntty = \"any\"\n",
            options.config.as_deref().unwrap_or_default(),
            fixture.mkdir("homes").display()
        );
        let daemon = Daemon::start(&Options { config: Some(config), ..options });
        Self { fixture, daemon, server }
    }

    /// The home of the life with this number, of many: [`LIVES_A_HOME`] in each.
    pub fn home_of_life(&self, name: &str, at: usize) -> PathBuf {
        self.home(&format!("{name}-{}", at / LIVES_A_HOME))
    }

    /// A directory that may become a session's home.
    pub fn home(&self, name: &str) -> PathBuf {
        self.fixture.mkdir(Path::new("homes").join(name))
    }

    /// A process that the rule admits.
    pub fn agent(&self, home: &Path, pty: Option<&Pty>) -> Puppet {
        let program = Some(self.fixture.program("agent"));
        self.fixture.cast(&PuppetOptions {
            program,
            dir: Some(home.to_owned()),
            pty,
            ..PuppetOptions::default()
        })
    }

    /// What a statement gives.
    #[track_caller]
    pub fn sql(&self, statement: &str) -> String {
        self.server.psql(DATABASE, statement)
    }

    /// Waits until the statement gives this.
    #[track_caller]
    pub fn gives(&self, statement: &str, wanted: &str, limit: Duration) {
        eventually(statement, limit, || match self.sql(statement) {
            found if found == wanted => Ok(()),
            found => Err(found),
        });
    }

    /// How the mirror stands.
    pub fn mirror(&self) -> Value {
        self.daemon.status()["mirror"].clone()
    }

    /// Waits until no more than this many changes wait for the disk.
    #[track_caller]
    pub fn keeps_up(&self, queued_max: u64) {
        eventually("the journal keeps up", LONG, || {
            match self.daemon.status()["journal"]["queued"].as_u64() {
                Some(queued) if queued <= queued_max => Ok(()),
                queued => Err(format!("{queued:?}")),
            }
        });
    }

    /// Waits until the journal reports that the database has all of it; it has each number once, or in one gap.
    #[track_caller]
    pub fn delivered(&self) {
        eventually("all is delivered", LONG, || {
            let status = self.daemon.status();
            let (mirror, journal) = (&status["mirror"], &status["journal"]);
            let all = journal["delivered"] == journal["last_seq"] && journal["queued"] == 0;
            if mirror["state"] == "ok" && mirror["pending"] == 0 && all {
                Ok(())
            } else {
                Err(status.to_string())
            }
        });
        let gapless = "SELECT bool_and(count + coalesce(covered, 0) = max AND count = numbers) IS NOT FALSE FROM (
            SELECT count(*), max(seq), count(DISTINCT seq) AS numbers,
                sum((detail ->> 'to_seq')::bigint - (detail ->> 'from_seq')::bigint) FILTER (WHERE kind = 'gap') AS covered
            FROM observer.events GROUP BY stream_id) AS stream";
        assert_eq!(self.sql(gapless), "t");
    }
}
